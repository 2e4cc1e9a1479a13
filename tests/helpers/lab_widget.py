"""A widget in a notebook of JupyterLab: how it comes there, what it says, and what is measured of it."""

import re
from contextlib import contextmanager
from math import nan

import pytest
from playwright.sync_api import expect

from helpers.paths import ROOT
from helpers.waiting import until

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


#: Counts the notebook's saves from now on.
COUNT_SAVES = """() => {
    const {saveState} = window.jupyterapp.shell.currentWidget.context;
    window.saves = 0;
    saveState.connect((_, state) => { window.saves += state === 'started'; });
}"""


@contextmanager
def new_widget(shared, *cells):
    """The shared notebook with a new widget in it, whose two runs are computed; its page must log no error."""
    shared.command("notebook:clear-all-cell-outputs")
    expect(shared.page.get_by_test_id("blip-trace")).to_have_count(0)
    del shared.errors[:]
    shared.write(*(cells or [CELL]))
    shared.run_all()
    is_ready(shared)
    yield shared
    shared.python("widget.close()")
    assert shared.errors == [], shared.errors


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
    if not found:
        return nan, 0.0
    verb, minus, number, decimals = found.groups()
    sign = -1 if minus or verb.startswith("takes") else 1
    return sign * float(number) / 100, 0.5 * 10.0 ** -(2 + len(decimals or ""))


def says(notebook, recovery):
    """Wait until the sentence says this recovery, in its own rounding."""

    def is_said():
        value, rounding = in_words(notebook.root.get_by_test_id("sentence").text_content())
        return abs(value - recovery) <= rounding * 1.001

    notebook.until(is_said, f"the sentence says {recovery}")


def shows(notebook, grid, root=None):
    """Wait until the cells show a grid, a list of layers, whole."""
    expected = {(layer, position): value for layer, row in enumerate(grid) for position, value in enumerate(row)}
    close = pytest.approx(expected, abs=SHOWN, nan_ok=True)
    notebook.until(lambda: values(notebook, root) == close, "the kernel's values are shown")


def selects(notebook, cells):
    """Wait until these cells, (layer, position), are selected in the page."""

    def selected():
        marked = notebook.root.locator("[aria-selected=true]")
        return marked.evaluate_all("all => all.map(({dataset: d}) => [Number(d.layer), Number(d.position)])")

    expected = sorted(map(list, cells))
    notebook.until(lambda: sorted(selected()) == expected, f"selected: {expected}")


def has_nothing(root, *scripts):
    """Wait until each of the scripts that look for faults finds none: after a change of size some need a moment."""

    def faults():
        return [fault for script in scripts for fault in root.evaluate(script)]

    until(root.page, lambda: not faults(), faults)


def leaves_shortcuts(page):
    """Ctrl+S saves from all of the widget; letters typed over its cells are no commands to the notebook's."""
    page.evaluate(COUNT_SAVES)
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    root, cells = page.get_by_test_id("blip-trace").first, page.evaluate(count)
    cell = root.get_by_role("gridcell").first
    for focused in (cell, *map(root.get_by_test_id, ("question", "noise-number", "noise-slider"))):
        before = page.evaluate("() => window.saves")

        def saves(focused=focused, before=before):
            focused.press("Control+s")  # again while the last save is under way: JupyterLab leaves it out
            return page.evaluate("() => window.saves") > before

        until(page, saves, f"it is saved from {focused}")
    cell.focus()
    for key in "ddabxm":
        page.keyboard.press(key)
    expect(cell).to_be_focused()
    assert page.evaluate(count) == cells


def shares(texts):
    """Percentages, such as "26 %", as numbers."""
    return [float(text.strip(" %")) / 100 for text in texts]


def trace_all(notebook, count):
    """Have the grid in view filled; in the kernel it is filled too."""
    notebook.root.get_by_test_id("trace-all").click()
    expect(notebook.root.get_by_test_id("trace-all")).to_be_visible()  # Stop is there meanwhile
    expect(notebook.cells("value")).to_have_count(count)


def states(*cells, block="question_encoder"):
    """The same states in the kernel's words."""
    listed = ", ".join(f"State({block!r}, {layer}, {position})" for layer, position in cells)
    return f"[{listed}]"
