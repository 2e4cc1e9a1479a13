"""The widget in a real JupyterLab: what a hand does on the page, held against what the kernel computes.

Most tests share one notebook and begin with a widget of their own in it.
"""

import math
import re

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import (
    CELL,
    FRESH,
    IMPORTS,
    SHOWN,
    figure,
    new_widget,
    says,
    selects,
    shares,
    shows,
    states,
    trace_all,
    values,
)

#: One cell at a time, each of them reported, and in the middle a halt until `go` is set. Here as below it is begun once
#: the noise curve is there, which is made of patched runs too.
SLOW_DOWN = """
widget.wait(60)
import threading, time
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.tracing.runs import Runner
quick, chunks, go = Runner.patched, [], threading.Event()
def slow(*arguments):
    for chunk in quick(*arguments):
        if len(chunks) == 5:
            go.wait()
        time.sleep(0.15)  # longer than between two reports
        chunks.append(1)
        yield chunk
Runner.patched, widget.model.limits = slow, Limits(rows=84, rows_per_sample=1)
"""
SPEED_UP = """
go.set()
Runner.patched, widget.model.limits = quick, Limits()
"""

BREAK = """
widget.wait(60)
from blip_trace_widget.tracing.runs import Runner
patched = Runner.patched
def boom(*arguments, **keywords):
    raise RuntimeError("boom")
Runner.patched = boom
"""
MEND = "Runner.patched = patched"

#: The states that cells pass through, as "layer,position": [...]
WATCH_CELLS = """grid => {
    const seen = window.cellsSeen = {};
    new MutationObserver(changes => {
        for (const {target: {dataset}} of changes) {
            const states = seen[`${dataset.layer},${dataset.position}`] ??= [];
            if (states.at(-1) !== dataset.state) states.push(dataset.state);
        }
    }).observe(grid, {subtree: true, attributeFilter: ['data-state']});
}"""

#: Where the thumb is in every frame that is drawn, and where the hand that drags it.
WATCH_THUMB = """slider => {
    const seen = window.thumbSeen = [];
    let hand = null;
    addEventListener('pointermove', event => { hand = event.clientX; }, {capture: true});
    const look = () => {
        const {left, width} = slider.getBoundingClientRect();
        if (hand !== null) seen.push([Number(slider.value), 10 * (hand - left - 7) / (width - 14)]);
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        yield ready


def test_a_click_fills_a_cell_with_the_kernels_number(notebook):
    tokens = notebook.ask("widget.tracer.question_tokens")
    layer, position = notebook.ask("widget.tracer.model.layers") - 2, len(tokens) - 3
    notebook.cell(layer, position).click()
    expect(notebook.cell(layer, position)).to_have_attribute("data-state", "value")
    expect(notebook.cells("value")).to_have_count(1)
    sentence = notebook.root.get_by_test_id("sentence")
    expect(sentence).to_contain_text("noise took")

    notebook.python(f"{IMPORTS}; effect = widget.tracer.patch(State('question_encoder', {layer}, {position}))")
    recovery = notebook.ask("effect.recovery")
    assert values(notebook)[layer, position] == pytest.approx(recovery, abs=SHOWN)
    says(notebook, recovery)
    expect(sentence).to_contain_text(f"layer {layer} at “{tokens[position]}”")


def test_the_bars_show_three_columns_of_words(notebook):
    bars = notebook.root.get_by_test_id("bars")
    notebook.cell(4, 3).click()
    expect(notebook.cell(4, 3)).to_have_attribute("data-state", "value")
    expect(bars.locator("tbody tr").first.locator("td").last).to_have_text(re.compile(r"\d"))
    assert bars.locator("thead th").all_text_contents() == ["clean", "with noise", "patched"]

    notebook.python(f"{IMPORTS}; effect = widget.tracer.patch(State('question_encoder', 4, 3))")
    runs = [dict(notebook.ask(run)) for run in ("widget.tracer.clean.top", "widget.tracer.corrupted.top", "effect.top")]
    rows = bars.locator("tbody tr").all()
    words = [row.locator("th").text_content() for row in rows]
    assert len(words) >= 4
    assert words[0] == notebook.ask("widget.tracer.clean.top[0][0]")
    for word, row in zip(words, rows, strict=True):
        shown = shares(row.locator(".bt-value").all_text_contents())
        for share, top in zip(shown, runs, strict=True):
            assert share == pytest.approx(top.get(word, share), abs=0.0051)


def test_dragging_the_noise_renews_the_scores_and_the_cells_that_were_shown(notebook):
    chosen = [(5, 1), (5, 4), (4, 2)]
    for cell in chosen:
        notebook.cell(*cell).click()
        expect(notebook.cell(*cell)).to_have_attribute("data-state", "value")
    slider, score = (notebook.root.get_by_test_id(name) for name in ("noise-slider", "corrupted-score"))
    before = score.text_content(), values(notebook)
    notebook.root.get_by_role("grid").evaluate(WATCH_CELLS)
    box = slider.bounding_box()
    place = {noise: box["x"] + 7 + (box["width"] - 14) * noise / 10 for noise in (5, 8, 2)}
    height = box["y"] + box["height"] / 2

    mouse = notebook.page.mouse
    mouse.move(place[5], height)
    mouse.down()
    slider.evaluate(WATCH_THUMB)
    mouse.move(place[8], height, steps=25)
    mouse.move(place[2], height, steps=50)
    mouse.up()
    left_at = float(slider.input_value())
    assert left_at == pytest.approx(2, abs=0.11)

    notebook.until(lambda: notebook.ask("widget.noise") == left_at, "the kernel has the noise of the slider")
    notebook.python("widget.wait()")
    notebook.python(f"{IMPORTS}; fresh = {FRESH}")
    recoveries = notebook.ask(f"[fresh.patch(state).recovery for state in {states(*chosen)}]")
    expected = dict(zip(chosen, recoveries, strict=True))
    close = pytest.approx(expected, abs=SHOWN)
    notebook.until(lambda: {cell: values(notebook).get(cell) for cell in chosen} == close, "the new values are shown")
    for cell in chosen:
        expect(notebook.cell(*cell)).to_have_attribute("data-state", "value")
        assert values(notebook)[cell] != before[1][cell]
        passed = notebook.page.evaluate("name => window.cellsSeen[name] ?? []", f"{cell[0]},{cell[1]}")
        assert passed[-1:] in ([], ["value"])
        assert "empty" not in passed  # nothing flickers
    expect(notebook.cells("value")).to_have_count(len(chosen))

    close = pytest.approx([notebook.ask("widget.tracer.corrupted.score")], abs=0.006)
    notebook.until(lambda: shares([score.text_content()]) == close, "the new score is shown")
    thumb = notebook.page.evaluate("() => window.thumbSeen")
    assert len(thumb) > 20
    for at, hand in thumb:
        assert at == pytest.approx(hand, abs=0.15), "the thumb left the hand"
    assert thumb[-1][0] == left_at
    assert float(notebook.root.get_by_test_id("noise-number").input_value()) == left_at


def test_a_message_of_older_settings_changes_nothing(notebook):
    notebook.python("widget.noise = 3; widget.wait()")
    expect(notebook.root.get_by_test_id("noise-slider")).to_have_value("3")
    assert notebook.ask("widget.generation") > 0
    for cell, generation in (([1, 1], "0"), ([2, 2], "widget.generation")):
        notebook.python(
            f"""
            import numpy
            cells = {{"type": "cells", "id": 1, "generation": {generation}, "cells": [{cell}]}}
            values = numpy.full(6, 0.25, "<f4").tobytes()
            view = {{name: getattr(widget, name) for name in ("block", "site", "head", "direction", "window", "patch")}}
            widget.send({{**cells, **view}}, [values])
            """
        )
    expect(notebook.cell(2, 2)).to_have_attribute("data-value", "0.25")
    expect(notebook.cells("empty")).to_have_count(notebook.ask("widget.trace.recovery.size") - 1)
    expect(notebook.cell(1, 1)).to_have_attribute("data-value", "")


def test_trace_all_fills_every_cell(notebook):
    expect(notebook.cells("empty")).to_have_count(notebook.ask("widget.trace.recovery.size"))
    trace_all(notebook, notebook.ask("widget.trace.recovery.size"))
    for source in ("widget.trace.recovery", "widget.tracer.trace().recovery"):
        shows(notebook, notebook.ask(f"{source}.tolist()"))


def test_stop_in_the_middle_keeps_what_is_there_and_can_go_on(notebook):
    count = notebook.ask("widget.trace.recovery.size")
    notebook.python(SLOW_DOWN)
    notebook.python("heard = []; widget.on_msg(lambda widget, content, buffers: heard.append(content['type']))")
    try:
        notebook.root.get_by_test_id("trace-all").click()
        expect(notebook.cells("waiting").first).to_be_visible()
        expect(notebook.cells("value").nth(2)).to_be_visible()
        notebook.until(lambda: notebook.ask("len(chunks)") == 5, "the kernel answers while it computes")
        notebook.root.get_by_test_id("stop").click()
        notebook.until(lambda: notebook.ask("'stop' in heard"), "the kernel has heard it")
        notebook.python("go.set()")
        expect(notebook.root.get_by_test_id("trace-all")).to_be_visible()
        expect(notebook.cells("waiting")).to_have_count(0)
        notebook.python("widget.wait()")
        done = notebook.ask("int((widget.trace.recovery == widget.trace.recovery).sum())")
        assert 3 <= done < count
        assert notebook.ask("len(chunks)") <= done + 1, "at most the chunk in hand was computed in vain"
        expect(notebook.cells("value")).to_have_count(done)
        expect(notebook.cells("empty")).to_have_count(count - done)
    finally:
        notebook.python(SPEED_UP)
    trace_all(notebook, count)


def test_the_keyboard_alone_patches_and_selects(notebook):
    page = notebook.page
    of_the_page = """() => {
        const {content} = window.jupyterapp.shell.currentWidget;
        return [content.mode, content.activeCellIndex, content.widgets.length, content.activeCell.model.id];
    }"""
    notebook.root.get_by_test_id("block-question_encoder").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.role") == "gridcell":
            break
    expect(notebook.cell(0, 0)).to_be_focused()
    before = page.evaluate(of_the_page)
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(notebook.cell(4, 1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(notebook.cell(4, 1)).to_have_attribute("data-state", "value")
    expect(notebook.cells("value")).to_have_count(1)
    sentence = notebook.root.get_by_test_id("sentence")
    expect(sentence).to_contain_text("layer 4")

    page.keyboard.down("Shift")
    page.keyboard.press("ArrowRight")
    page.keyboard.up("Shift")
    expect(sentence).to_contain_text(re.compile("these 2 states .* noise took"))
    selects(notebook, [(4, 1), (5, 1)])
    notebook.python(IMPORTS)
    says(notebook, notebook.ask(f"widget.tracer.patch({states((4, 1), (5, 1))}).recovery"))

    # JupyterLab's own shortcuts (d twice deletes the cell) must not see these keys.
    for key in ("d", "d", "a"):
        page.keyboard.press(key)
    assert page.evaluate(of_the_page) == before


@pytest.fixture
def twice(shared):
    """The shared notebook with a new widget in it, and a second view of the same one."""
    shared.size(height=1800)
    with new_widget(shared, CELL, "display(widget)") as ready:
        yield ready
    shared.size()


def test_two_views_of_one_widget_show_the_same(twice):
    notebook = twice
    views = [notebook.page.get_by_test_id("blip-trace").nth(index) for index in range(2)]
    notebook.cell(4, 2, views[0]).click()
    for view in views:
        expect(notebook.cell(4, 2, view)).to_have_attribute("data-state", "value")
        expect(notebook.cell(4, 2, view)).to_have_attribute("aria-selected", "true")
        expect(view.get_by_test_id("sentence")).to_contain_text("noise took")
    notebook.until(lambda: figure(notebook, views[0]) == figure(notebook, views[1]), "both views show the click")
    count = notebook.ask("widget.trace.recovery.size")
    views[1].get_by_test_id("trace-all").click()
    for view in views:
        expect(notebook.cells("value", view)).to_have_count(count)
        expect(view.get_by_test_id("trace-all")).to_be_visible()
    notebook.until(lambda: figure(notebook, views[0]) == figure(notebook, views[1]), "both views show the grid")


def test_an_exception_in_the_kernel_is_shown_and_gets_out_of_the_way(notebook):
    error = notebook.root.get_by_test_id("error")
    notebook.python(BREAK)
    try:
        notebook.cell(3, 1).click()
        expect(error).to_contain_text("boom")
    finally:
        notebook.python(MEND)
    expect(notebook.cell(3, 1)).to_have_attribute("data-state", "empty")
    notebook.root.get_by_test_id("dismiss-error").click()
    expect(error).to_have_count(0)
    notebook.until(lambda: notebook.ask("widget.error") == "", "the kernel knows that the error was dismissed")
    notebook.cell(3, 1).click()
    expect(notebook.cell(3, 1)).to_have_attribute("data-state", "value")
    expect(error).to_have_count(0)


def test_a_refused_question_says_why_and_stays_to_be_mended(notebook):
    question, error = (notebook.root.get_by_test_id(name) for name in ("question", "error"))
    good, answer = question.input_value(), notebook.root.get_by_test_id("answer").text_content()
    question.fill("what " * 600)
    question.press("Enter")
    expect(error).to_contain_text(re.compile("question: .*tokens"))
    notebook.until(lambda: notebook.ask("widget.question") == good, "the last good one is back")
    expect(question).to_have_value(re.compile("^what what"))
    notebook.root.get_by_test_id("dismiss-error").click()
    expect(error).to_have_count(0)
    expect(question).to_have_value(re.compile("^what what"))
    question.fill("")
    question.press("Enter")
    expect(error).to_contain_text("question: expected a text with at least one token")
    notebook.until(lambda: notebook.ask("widget.question") == good, "the last good one is back")
    expect(question).to_have_value("")
    assert notebook.ask("widget.tracer.question") == good
    expect(notebook.root.get_by_test_id("answer")).to_have_text(answer)
    question.press("Escape")
    expect(question).to_have_value(good)
    question.fill("what color is the square?")
    question.press("Enter")
    expect(notebook.root.get_by_test_id("answer")).to_have_text("blue")
    expect(question).to_have_value("what color is the square?")
    expect(error).to_have_count(0)


def test_another_block_and_back_keeps_what_was_computed(notebook):
    def show(block):
        notebook.root.get_by_test_id(f"block-{block}").click()
        expect(notebook.root.get_by_test_id(f"block-{block}")).to_have_attribute("aria-checked", "true")
        rows = notebook.root.get_by_role("grid").get_by_role("rowheader")
        expect(rows).to_have_text(notebook.ask(f"widget.tracer.tokens({block!r})"))

    def click(layer, position):
        notebook.cell(layer, position).click()
        expect(notebook.cell(layer, position)).to_have_attribute("data-state", "value")
        return values(notebook)[layer, position]

    first = {(layer, 2): click(layer, 2) for layer in (3, 4)}
    show("answer_decoder")
    expect(notebook.cells("value")).to_have_count(0)
    second = click(2, 0)
    show("question_encoder")
    expect(notebook.cells("value")).to_have_count(2)
    assert {cell: value for cell, value in values(notebook).items() if not math.isnan(value)} == first
    show("answer_decoder")
    expect(notebook.cells("value")).to_have_count(1)
    assert values(notebook)[2, 0] == second
    notebook.python(IMPORTS)
    assert second == pytest.approx(
        notebook.ask("widget.tracer.patch(State('answer_decoder', 2, 0)).recovery"), abs=SHOWN
    )
