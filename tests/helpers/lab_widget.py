"""A widget in a notebook of JupyterLab: how it comes there, what it says, and what is measured of it."""

import re
from contextlib import contextmanager

from playwright.sync_api import expect

from helpers.paths import ROOT

CELL = "from blip_trace_widget import TraceWidget\nwidget = TraceWidget()\nwidget"
IMPORTS = "from blip_trace_widget import GaussianNoise, State, Tracer"
FRESH = (
    "Tracer(widget.tracer.model, widget.tracer.image, widget.tracer.question, corruption=GaussianNoise(widget.noise))"
)
SCREENSHOTS = ROOT / "tests" / "browser" / "screenshots"
#: What is on screen has four decimals, and was float32 on its way.
SHOWN = 1e-4

#: Every element that has text of its own and more of it than room.
CUT = """root => [...root.querySelectorAll('*')]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .filter(element => !element.closest('.bt-hidden, select'))
    .filter(element => element.clientWidth > 0)
    .filter(({scrollWidth, clientWidth}) => scrollWidth > clientWidth + 1)
    .map(({className, textContent}) => `${className}: ${textContent}`)"""

#: The shown choice of a chooser is not measured by its scrollWidth.
CUT_CHOICES = """root => {
    const pen = document.createElement('canvas').getContext('2d');
    return [...root.querySelectorAll('select')].filter(select => {
        const style = getComputedStyle(select);
        pen.font = style.font;
        const room = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        return pen.measureText(select.selectedOptions[0]?.text ?? '').width > room + 1;
    }).map(select => select.selectedOptions[0].text);
}"""

#: Everything that reaches beyond the widget, but for the grid, which may scroll.
BEYOND = """root => {
    const {left, right} = root.getBoundingClientRect();
    return [...root.querySelectorAll('*')].filter(element => !element.closest('.bt-scroll *, .bt-hidden'))
        .filter(element => element.getClientRects().length > 0)
        .map(element => [element.className, element.getBoundingClientRect()])
        .filter(([, box]) => box.left < left - 1 || box.right > right + 1)
        .map(([name, box]) => [String(name), box.left - left, right - box.right]);
}"""


@contextmanager
def new_widget(shared, *cells):
    """A notebook of two cells with a new widget in it, whose two runs are computed; its page must log no error."""
    shared.command("notebook:clear-all-cell-outputs")
    expect(shared.page.get_by_test_id("blip-trace")).to_have_count(0)
    del shared.errors[:]
    shared.write(*(cells or [CELL]))
    shared.run_all()
    is_ready(shared)
    yield shared
    shared.python("widget.close()")
    assert shared.errors == []


def is_ready(notebook):
    expect(notebook.root.get_by_test_id("corrupted-score")).to_have_text(re.compile(r"\d"))
    expect(notebook.root.get_by_role("gridcell").first).to_be_visible()


def values(notebook, root=None):
    """(layer, position): the shown value; NaN where there is none."""
    cells = (root or notebook.root).get_by_role("gridcell")
    read = cells.evaluate_all("all => all.map(({dataset: d}) => [Number(d.layer), Number(d.position), d.value])")
    return {(layer, position): float(value or "nan") for layer, position, value in read}


def figure(notebook, root=None):
    """All that a view says."""
    root = root or notebook.root
    parts = ("question", "noise-slider", "noise-number")
    texts = ("answer", "gate", "clean-score", "corrupted-score", "sentence", "bars")
    return {
        "cells": root.get_by_role("gridcell").evaluate_all("all => all.map(cell => ({...cell.dataset}))"),
        "selected": root.locator("[aria-selected=true]").evaluate_all("all => all.map(cell => ({...cell.dataset}))"),
        **{part: root.get_by_test_id(part).input_value() for part in parts},
        **{text: root.get_by_test_id(text).text_content() for text in texts},
    }


def in_words(sentence):
    """The share in a sentence and half a unit of its last digit: "brings back 2.6 % ± 0.1 %" is (0.026, 0.0005)."""
    found = re.search(r"(brings back|takes away a further) (−?)(\d+(?:\.(\d+))?) %", sentence)
    assert found, sentence
    verb, minus, number, decimals = found.groups()
    sign = -1 if minus or verb.startswith("takes") else 1
    return sign * float(number) / 100, 0.5 * 10.0 ** -(2 + len(decimals or ""))


def is_said(sentence, recovery):
    value, rounding = in_words(sentence)
    return abs(value - recovery) <= rounding * 1.001


def shares(texts):
    """Percentages, such as "26 %", as numbers."""
    return [float(text.strip(" %")) / 100 for text in texts]


def trace_all(notebook, count):
    notebook.root.get_by_test_id("trace-all").click()
    expect(notebook.cells("value")).to_have_count(count)
    expect(notebook.root.get_by_test_id("trace-all")).to_be_visible()


def states(*cells, block="question_encoder"):
    """The same states in the kernel's words."""
    listed = ", ".join(f"State({block!r}, {layer}, {position})" for layer, position in cells)
    return f"[{listed}]"
