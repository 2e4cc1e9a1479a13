"""The widget under a storm of events, without its kernel, by keyboard alone, and for those who see it otherwise.

Most tests share one notebook, and begin with a widget of their own in it.
"""

import itertools
import os
import re
import signal
import statistics

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import (
    BEYOND,
    CUT,
    CUT_CHOICES,
    FRESH,
    IMPORTS,
    SHOWN,
    figure,
    has_nothing,
    is_ready,
    new_widget,
    shares,
    trace_all,
    values,
)
from helpers.paths import STATIC

#: Slider and click events in one storm.
EVENTS = 2000
#: Milliseconds between two requests of one kind: js/src/session.ts.
INTERVAL = 40
#: What a storm may leave: bytes of the kernel, then what the page counts.
LEFT = {"rss": 12e6, "JSHeapUsedSize": 2e6, "Nodes": 200, "JSEventListeners": 100}
#: Where storms leave the noise, of which one must leave no more than that: a leak grows with each, an allocator's
#: pools do not.
LAST = (6.2, 4.7, 7.1, 3.4)
#: Bytes of the texts that a widget begins with.
STATE = sum((STATIC / name).stat().st_size for name in ("widget.js", "widget.css"))
#: Widgets opened at once, and how often.
MANY, ROUNDS = 10, 4
NO_ANSWER = "no answer from the kernel: after a restart, run the cell again"

#: Sends messages to a second widget of the kernel, each when the one before is answered, until told to stop. Of each:
#: ms until the kernel answered, by the same machine's clock, and until the page, which is busy too, had the answer. The
#: comm is one of ipywidgets', for some kernels handle those of one target in turn.
ECHO = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const comm = kernel.createComm('jupyter.widget');
    const [module, version] = ['@jupyter-widgets/base', '2.0.0'];
    const names = {_model_module: module, _model_module_version: version, _model_name: 'LayoutModel',
        _view_module: module, _view_module_version: version, _view_name: 'LayoutView'};
    const now = () => performance.timeOrigin + performance.now();
    let sent, heard;
    comm.onMsg = ({header, content: {data}}) => {
        if (data.method === 'echo_update') heard([Date.parse(header.date) - sent, now() - sent]);
    };
    await comm.open({state: names}, {version: '2.1.0'}).done;
    const times = window.echoes = [];
    let on = true;
    const all = (async () => {
        for (let number = 1; on; number += 1) {
            const answer = new Promise(resolve => { heard = resolve; });
            sent = now();
            comm.send({method: 'update', state: {width: `${number}px`}, buffer_paths: []});
            times.push(await answer);
            await new Promise(resolve => setTimeout(resolve, 10));
        }
        await comm.close().done;
        return times;
    })();
    window.stopEchoes = () => { on = false; return all; };
}"""

#: Slider and click events in turn, as fast as the page takes them; the slider ends at `last`. Hands back the last cell
#: clicked, the milliseconds it took, and how many messages the widget sent.
STORM = """async (root, [events, last, comm]) => {
    const {kernel} = window.jupyterapp.shell.currentWidget.sessionContext.session;
    let sent = 0;
    const count = (_, {msg, direction}) => { sent += direction === 'send' && msg.content.comm_id === comm; };
    kernel.anyMessage.connect(count);
    const began = performance.now();
    const slider = root.querySelector('[data-testid=noise-slider]');
    const cells = [...root.querySelectorAll('[role=gridcell]')];
    let chosen;
    for (let event = 0; event < events; event += 2) {
        slider.value = event + 2 < events ? (event * 7 % 101) / 10 : last;
        slider.dispatchEvent(new Event('input', {bubbles: true}));
        chosen = cells[event * 13 % cells.length];
        chosen.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, detail: 1}));
        if (event % 8 === 0) await new Promise(resolve => setTimeout(resolve));
    }
    slider.dispatchEvent(new Event('change', {bubbles: true}));
    const took = performance.now() - began;
    kernel.anyMessage.disconnect(count);
    return [[Number(chosen.dataset.layer), Number(chosen.dataset.position)], took, sent];
}"""


#: A second cell in which tests put what they show, and run it.
SHOW = """async code => {
    const {commands, shell} = window.jupyterapp;
    const {content} = shell.currentWidget;
    content.activeCellIndex = 1;
    content.activeCell.model.sharedModel.setSource(code);
    await commands.execute('notebook:run-cell');
}"""

#: Work on cells does not end before `free` is set; that on the noise curve has.
HOLD = """
widget.wait(60)
import threading
from blip_trace_widget.tracing.runs import Runner
free, held, late, quick = threading.Event(), [], [], Runner.patched
def hold(*arguments):
    held.append(1)
    late.extend([] if free.wait(600) else [1])
    held.pop()
    yield from quick(*arguments)
Runner.patched = hold
"""

RESTART = """async () => {
    await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart();
}"""
IS_IDLE = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"

#: What axe-core finds in the widget: the rule, and where.
AXE = """async root => {
    const {violations} = await window.axe.run(root);
    return violations.map(({id, nodes}) => [id, nodes.map(({html, failureSummary}) => [html, failureSummary])]);
}"""

#: What can be clicked or typed into; of a group whose members the arrow keys reach, the one that Tab reaches.
CONTROLS = """root => {
    const all = [...root.querySelectorAll('button, select, input:not([hidden]), [tabindex]')];
    const roving = ['radio', 'gridcell', 'rowheader', 'columnheader'];  // one of each group can be tabbed to
    window.controls = all.filter(({role, tabIndex}) => tabIndex >= 0 || !roving.includes(role));
    return window.controls.map(({dataset, role}) => dataset.testid ?? role);
}"""
#: The control that has the focus, as its place among them (-1: outside the widget), and its outline.
FOCUSED = """() => {
    const style = getComputedStyle(document.activeElement);
    return [window.controls.indexOf(document.activeElement), style.outlineStyle, parseFloat(style.outlineWidth)];
}"""

#: How each of some elements is outlined.
OUTLINES = """elements => elements.map(getComputedStyle).map(style =>
    [style.outlineStyle, style.outlineWidth, style.outlineColor, style.outlineOffset].join(' '))"""

#: Everything that moves for longer than a millisecond.
MOVING = """root => [root, ...root.querySelectorAll('*')].flatMap(element => [null, '::before', '::after'].flatMap(
part => {
    const style = getComputedStyle(element, part);
    const times = [style.transitionDuration, style.animationDuration].join().split(',').map(parseFloat);
    return Math.max(...times) > 0.001 ? [`${element.className} ${part}`] : [];
}))"""


@pytest.fixture(scope="module")
def shared(open_for_file):
    """One of its own: how much it holds is measured, and its kernel ends."""
    return open_for_file("", "", name="robust.ipynb", run=False)


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        yield ready


def storm(notebook, last, events=EVENTS):
    """A storm of events that leaves the noise at `last`.

    Returns:
        The last cell clicked.
    """
    notebook.page.evaluate(ECHO)
    cell, took, sent = notebook.root.evaluate(STORM, [events, last, notebook.ask("widget.model_id")])
    notebook.until(lambda: notebook.ask("widget.noise") == last, "the kernel has the last noise")
    notebook.until(lambda: notebook.ask("widget.selection") == [cell], "the kernel has the last click")
    notebook.python("widget.wait()")
    times = notebook.page.evaluate("() => window.stopEchoes()")
    for name, part in zip(("kernel", "page"), zip(*times, strict=True), strict=True):
        figures = statistics.median(part), statistics.quantiles(part, n=20)[-1], max(part)
        print(f"{len(part)} echoes, until the {name} had answered: median, 95 %, max {figures} ms")
    # Noise and selection, each at its pace, and each once more at its end: no queue grows in the kernel.
    print(f"{sent} messages in {took} ms")
    assert 2 < sent <= 2 * (took / INTERVAL + 2)
    return cell


def held(notebook):
    """What the kernel and the page hold."""
    kernel = notebook.ask("[__import__('gc').collect(), __import__('psutil').Process().memory_info().rss][1]")
    return {"rss": kernel, **notebook.counters()}


@pytest.mark.slow
def test_widgets_opened_and_closed_leave_nothing_in_page_and_kernel(notebook):
    # The first of the tests: what others leave to the garbage collector would blur the counts.
    views = notebook.page.get_by_test_id("blip-trace")
    notebook.python(f"import gc, threading, weakref; {IMPORTS}; gone = []")
    counts = []
    for _ in range(ROUNDS):
        notebook.page.evaluate(
            SHOW,
            f"""
            several = [TraceWidget(corruption=GaussianNoise(samples=2)) for _ in range({MANY})]
            gone += map(weakref.ref, several)
            display(*several)
            """,
        )
        expect(views).to_have_count(1 + MANY)
        expect(views.last.get_by_test_id("corrupted-score")).to_have_text(re.compile(r"\d"))
        notebook.python("for each in several: each.close()\ndel several, each")
        expect(views).to_have_count(1)
        notebook.page.evaluate(SHOW, "")
        counts.append(notebook.counters())
    rounds = list(itertools.pairwise(counts))
    grown = {name: statistics.median(b[name] - a[name] for a, b in rounds) / MANY for name in counts[0]}
    print(f"a widget leaves {grown}")
    assert grown["Nodes"] < 10, "a view has hundreds"
    assert grown["JSEventListeners"] < 3, "a view has hundreds; JupyterLab's own come and go by a score"
    # JupyterLab keeps 20 KB of any widget, anywidget the state that each begins with, its script among it.
    assert grown["JSHeapUsedSize"] < 2.5 * STATE, "a script that is evaluated once a widget takes six times as much"
    notebook.until(lambda: notebook.ask("[gc.collect(), sum(ref() is not None for ref in gone)][1]") == 0, "gone")
    assert notebook.ask("len(gone)") == MANY * ROUNDS
    notebook.until(
        lambda: "blip-trace" not in notebook.ask("[thread.name for thread in threading.enumerate()]"), "no thread"
    )


@pytest.mark.slow
def test_a_storm_of_events_ends_in_the_last_and_leaves_nothing(notebook):
    storm(notebook, 4.3, EVENTS // 4)  # what the first one leaves is there to stay
    for number, last in enumerate(LAST, 1):
        before = held(notebook)
        cell = storm(notebook, last, EVENTS + 2 * number)  # another last cell each time
        expect(notebook.cells("waiting")).to_have_count(0)
        grown = {name: now - before[name] for name, now in held(notebook).items()}
        print(f"storm {number} leaves {grown}")
        over = {name: grown[name] for name, most in LEFT.items() if grown[name] > most}
        if not over:
            break
    assert not over, "each storm leaves as much"

    expect(notebook.cell(*cell)).to_have_attribute("data-state", "value")
    expect(notebook.cell(*cell)).to_have_attribute("aria-selected", "true")
    expect(notebook.cells("waiting")).to_have_count(0)
    for part in ("noise-slider", "noise-number"):
        field = notebook.root.get_by_test_id(part)
        notebook.until(lambda field=field: float(field.input_value()) == last, f"{part} is at the last")
    notebook.python(f"{IMPORTS}; fresh = {FRESH}")
    assert notebook.ask("fresh.corruption.factor") == last
    score = notebook.root.get_by_test_id("corrupted-score")
    close = pytest.approx([notebook.ask("fresh.corrupted.score")], abs=0.006)
    notebook.until(lambda: shares([score.text_content()]) == close, "the last score is shown")
    recovery = notebook.ask("fresh.trace().recovery.tolist()")

    def is_last():
        shown = {at: value for at, value in values(notebook).items() if value == value}
        return tuple(cell) in shown and all(
            value == pytest.approx(recovery[layer][position], abs=SHOWN) for (layer, position), value in shown.items()
        )

    notebook.until(is_last, "the last values are shown")


def test_the_kernel_answers_while_it_computes(notebook):
    def is_answered():
        count = notebook.page.evaluate("() => window.echoes.length")
        notebook.page.wait_for_function("count => window.echoes.length > count + 1", arg=count)

    notebook.python(HOLD)
    try:
        notebook.cell(4, 2).click()
        notebook.until(lambda: notebook.ask("len(held)") == 1, "the kernel computes")
        notebook.page.evaluate(ECHO)
        is_answered()
        notebook.root.get_by_test_id("noise-slider").press("ArrowRight")
        notebook.cell(5, 3).click()
        is_answered()
        notebook.root.get_by_test_id("trace-all").click()
        is_answered()
        assert notebook.ask("[len(held), len(late)]") == [1, 0], "all this while it computed"
    finally:
        notebook.python("Runner.patched = quick; free.set()")
        notebook.page.evaluate("() => window.stopEchoes()")
    expect(notebook.cell(5, 3)).to_have_attribute("data-state", "value")
    notebook.until(lambda: notebook.ask("widget.noise") == 5.1, "the kernel has the noise of the key")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["restart", "kill"])
def test_without_its_kernel_the_figure_stays_and_says_so(notebook, end):
    notebook.cell(4, 2).click()
    expect(notebook.root.get_by_test_id("sentence")).to_contain_text("noise took")
    notebook.python("widget.wait()")
    before = figure(notebook)
    if end == "restart":
        notebook.page.evaluate(RESTART)
    else:
        os.kill(notebook.ask("__import__('os').getpid()"), signal.SIGKILL)
        notebook.page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()
    expect(notebook.root.get_by_text(NO_ANSWER).first).to_be_visible()
    notebook.until(lambda: figure(notebook) == before, "the figure is as before")
    notebook.page.wait_for_function(IS_IDLE)

    notebook.cell(3, 3).click()
    expect(notebook.root.get_by_test_id("noise-slider")).to_be_disabled()
    notebook.root.get_by_test_id("trace-all").click(force=True)
    expect(notebook.root.get_by_text(NO_ANSWER).first).to_be_visible()
    expect(notebook.cells("waiting")).to_have_count(0)
    expect(notebook.root.get_by_test_id("trace-all")).to_be_visible()
    for part in ("answer", "clean-score", "corrupted-score"):
        assert notebook.root.get_by_test_id(part).text_content() == before[part]

    notebook.run_all()
    is_ready(notebook)
    expect(notebook.root.get_by_text(NO_ANSWER)).to_have_count(0)
    notebook.cell(4, 2).click()
    expect(notebook.cell(4, 2)).to_have_attribute("data-state", "value")


def test_a_closed_widget_leaves_the_page(notebook):
    notebook.page.evaluate(SHOW, "display(widget)")
    views = notebook.page.get_by_test_id("blip-trace")
    expect(views).to_have_count(2)
    notebook.python("widget.trace_all(); widget.close()")
    expect(views).to_have_count(0)
    assert notebook.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(js, notebook, dark):
    notebook.dark(dark)
    try:
        root = notebook.root
        expect(root).to_have_attribute("data-theme", "dark" if dark else "light")
        notebook.page.evaluate((js / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8"))
        has_nothing(root, AXE)
        notebook.cell(4, 2).click()
        expect(root.get_by_test_id("sentence")).to_contain_text("noise took")
        root.get_by_test_id("more").click()
        has_nothing(root, AXE)
        trace_all(notebook, root.get_by_role("gridcell").count())
        notebook.cell(4, 3).focus()
        has_nothing(root, AXE)
        notebook.python("widget.wait(); widget.error = 'boom'")
        expect(root.get_by_test_id("error")).to_be_visible()
        root.get_by_test_id("block-answer_decoder").click()
        expect(root.get_by_role("grid").get_by_role("rowheader")).to_have_count(1)
        has_nothing(root, AXE)
    finally:
        notebook.dark(False)


def test_tab_reaches_every_control_shows_where_it_is_and_leaves(notebook):
    root, keyboard = notebook.root, notebook.page.keyboard
    root.get_by_test_id("more").click()
    notebook.cell(4, 2).click()  # of nothing that is selected there is no strength
    expect(root.get_by_test_id("strength-slider")).to_be_enabled()
    expect(notebook.cell(4, 2)).to_have_attribute("data-state", "value")  # a click takes away an error
    notebook.python("widget.wait(); widget.error = 'boom'")
    expect(root.get_by_test_id("error")).to_be_visible()
    controls = root.evaluate(CONTROLS)
    root.get_by_test_id(controls[0]).focus()
    keyboard.press("Tab")  # an outline shows once the keyboard is in use
    keyboard.press("Shift+Tab")
    for key, order in (("Tab", range(len(controls))), ("Shift+Tab", reversed(range(len(controls))))):
        for place in order:
            at, style, width = notebook.page.evaluate(FOCUSED)
            assert at == place, f"{key} leads to {controls[at]}, not {controls[place]}"
            assert style == "solid", controls[place]
            assert width >= 2, controls[place]
            keyboard.press(key)
        assert notebook.page.evaluate(FOCUSED)[0] == -1, f"{key} leaves the widget"
        keyboard.press("Shift+Tab" if key == "Tab" else "Tab")
    assert len(set(controls)) == len(controls)
    assert {"more", "seed", "choose-picture", "question", "noise-slider", "gridcell", "trace-all"} <= set(controls)


def test_forced_colours_tell_selection_and_focus_apart(notebook):
    notebook.page.emulate_media(forced_colors="active")
    try:
        notebook.cell(4, 2).click()
        expect(notebook.cell(4, 2)).to_have_attribute("data-state", "value")
        notebook.page.keyboard.press("ArrowRight")
        expect(notebook.cell(5, 2)).to_be_focused()
        cells = notebook.root.get_by_role("gridcell")
        outlines = set(cells.evaluate_all(OUTLINES))
        assert len(outlines) == 3, "plain, selected, focused"
        notebook.page.keyboard.press("ArrowLeft")
        expect(notebook.cell(4, 2)).to_be_focused()
        outlines |= set(cells.evaluate_all(OUTLINES))
        assert len(outlines) == 4, "and both"
        grounds = notebook.root.get_by_role("radio").evaluate_all(
            "all => all.map(radio => [radio.ariaChecked, getComputedStyle(radio).backgroundColor])"
        )
        (chosen,) = (ground for checked, ground in grounds if checked == "true")
        assert chosen not in [ground for checked, ground in grounds if checked != "true"]
    finally:
        notebook.page.emulate_media(forced_colors="none")


def test_reduced_motion_moves_nothing(notebook):
    notebook.page.emulate_media(reduced_motion="reduce")
    old = "element => element.classList.add('bt-old')"  # it fades where motion is welcome
    try:
        notebook.root.get_by_test_id("more").click()
        notebook.root.get_by_test_id("gate").evaluate(old)
        notebook.cell(4, 2).click()
        expect(notebook.cell(4, 2)).to_have_attribute("data-state", "value")
        assert notebook.root.evaluate(MOVING) == []
    finally:
        notebook.page.emulate_media(reduced_motion="no-preference")
    assert notebook.root.evaluate(MOVING) != []


@pytest.mark.parametrize("width", [640, 480])
def test_zoomed_or_narrow_nothing_is_cut_or_lies_beyond(notebook, width):
    """At 200 % a page of 1280 px has room for 640."""
    root, page = notebook.root, notebook.page
    page.set_viewport_size({"width": width, "height": 900})
    try:
        root.get_by_test_id("more").click()
        notebook.cell(4, 2).click()
        expect(root.get_by_test_id("sentence")).to_contain_text("noise took")
        page.mouse.move(0, 0)
        has_nothing(root, BEYOND, CUT, CUT_CHOICES)
        token = root.get_by_role("rowheader").nth(2)
        before = token.bounding_box()
        root.locator(".bt-scroll").evaluate("box => { box.scrollLeft = 10000; }")
        assert token.bounding_box()["x"] == pytest.approx(before["x"], abs=1), "the labels stay in sight"
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})
