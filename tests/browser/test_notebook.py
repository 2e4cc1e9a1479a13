"""The widget in a whole notebook: run, saved, loaded again, used for long, in both themes and windows of each width."""

import shutil

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import (
    CUT,
    CUT_CHOICES,
    SCREENSHOTS,
    SHOWN,
    figure,
    has_nothing,
    is_ready,
    new_widget,
    shares,
    trace_all,
    values,
)
from helpers.paths import ROOT

QUICKSTART = ROOT / "notebooks" / "quickstart.ipynb"

#: Where everything that must not move is, as seen from the widget: the notebook around it may scroll.
PLACES = """root => {
    const {x: left, y: top} = root.getBoundingClientRect()
    return [...root.querySelectorAll(
            '[role=grid], [role=gridcell], [role=rowheader], .bt-asked, .bt-detail, table')]
        .concat(root)
        .map(element => [element.className, element.getBoundingClientRect()])
        .map(([name, {x, y, width, height}]) => [name, ...[x - left, y - top, width, height].map(Math.round)])
}"""


def places(root):
    """What is where."""
    return {(at, *place) for at, place in enumerate(root.evaluate(PLACES))}


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        yield ready


def test_the_quickstart_notebook_runs_and_shows_the_widget(open_notebook, lab):
    shutil.copy(QUICKSTART, lab[1] / "quickstart.ipynb")
    notebook = open_notebook(name="quickstart.ipynb")
    is_ready(notebook)
    outputs = notebook.page.evaluate(
        """() => [...window.jupyterapp.shell.currentWidget.model.cells]
            .filter(cell => cell.type === 'code')
            .map(cell => [cell.executionCount, cell.outputs.toJSON().map(output => output.output_type)])"""
    )
    assert len(outputs) >= 2
    for count, kinds in outputs:
        assert count is not None
        assert "error" not in kinds
    assert notebook.root.get_by_test_id("answer").text_content() == notebook.ask("widget.tracer.answer")
    for run in ("clean", "corrupted"):
        (shown,) = shares([notebook.root.get_by_test_id(f"{run}-score").text_content()])
        assert shown == pytest.approx(notebook.ask(f"widget.tracer.{run}.score"), abs=0.006)


def test_a_reloaded_page_rebuilds_the_figure_with_and_without_the_kernel(notebook):
    def shows_again(before):
        notebook.until(lambda: figure(notebook) == before, "the figure is as before")

    notebook.cell(5, 4).click()
    expect(notebook.cell(5, 4)).to_have_attribute("data-state", "value")
    expect(notebook.root.get_by_test_id("sentence")).to_contain_text("noise took")
    notebook.python("widget.wait()")
    before = figure(notebook)
    notebook.command("docmanager:save")

    notebook.reload()
    is_ready(notebook)
    shows_again(before)
    notebook.cell(4, 4).click()
    expect(notebook.cells("value")).to_have_count(2)
    notebook.python("widget.block = 'answer_decoder'; widget.trace_all(); widget.wait()")
    other = notebook.ask("widget.trace.recovery[4, 0]")
    notebook.python("widget.block = 'question_encoder'; widget.selection = [(4, 4)]; widget.wait()")
    expect(notebook.root.get_by_test_id("sentence")).to_contain_text("noise took")
    expect(notebook.cells("value")).to_have_count(2)
    before = figure(notebook)
    notebook.command("docmanager:save")

    notebook.shut_down()
    notebook.reload()
    is_ready(notebook)
    shows_again(before)
    assert "NameError" in notebook.python("widget")
    notebook.cell(3, 3).click()
    expect(notebook.root.get_by_text("no answer from the kernel").first).to_be_visible()
    expect(notebook.cells("value")).to_have_count(2)
    for control in ("question", "noise-slider", "choose-picture", "export", "undo"):
        expect(notebook.root.get_by_test_id(control)).to_be_disabled()
    notebook.root.get_by_test_id("block-answer_decoder").click()
    expect(notebook.cells("value")).to_have_count(6)
    notebook.until(lambda: values(notebook).get((4, 0)) == pytest.approx(other, abs=SHOWN), "the other grid is there")


def test_a_session_of_everything_leaves_no_error_in_the_console(notebook):
    root = notebook.root
    count = root.get_by_role("gridcell").count()
    trace_all(notebook, count)
    root.get_by_test_id("more").click()
    for name, choice in (
        ("direction", "disrupt"),
        ("window", "3"),
        ("kind", "additive"),
        ("seed", "1"),
        ("samples", "4"),
    ):
        field = root.get_by_test_id(name)
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(choice)
        else:
            field.fill(choice)
            field.press("Enter")
        notebook.until(
            lambda name=name, choice=choice: str(notebook.ask(f"widget.{name}")) == choice, f"{name} is {choice}"
        )
    for name, choice in (("site", "mlp"), ("show", "score")):
        root.get_by_test_id(name).select_option(choice)
        notebook.until(lambda name=name, choice=choice: notebook.ask(f"widget.{name}") == choice, f"{name} is {choice}")
    root.get_by_test_id("example").select_option("3")
    notebook.until(
        lambda: notebook.ask("widget.question") == notebook.ask("widget.setup['examples'][3]['question']"), "asked"
    )
    notebook.python("widget.wait()")
    expect(root.get_by_test_id("answer")).to_have_text(notebook.ask("widget.tracer.answer"))
    trace_all(notebook, notebook.ask("widget.trace.recovery.size"))
    assert notebook.ask("widget.error") == ""
    assert notebook.errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_cut_or_overflows_or_moves(shared, request, width, dark):
    shared.size(width, 1500)
    shared.dark(dark)
    try:
        notebook = request.getfixturevalue("notebook")
        root = notebook.root
        theme = "dark" if dark else "light"
        expect(root).to_have_attribute("data-theme", theme)
        before = places(root)
        trace_all(notebook, root.get_by_role("gridcell").count())
        notebook.cell(5, 5).click()
        expect(root.get_by_test_id("sentence")).to_contain_text("noise took")
        notebook.page.mouse.move(0, 0)
        SCREENSHOTS.mkdir(exist_ok=True)
        root.screenshot(path=SCREENSHOTS / f"{width}-{theme}.png")
        notebook.until(lambda: places(root) == before, lambda: f"these were elsewhere: {before ^ places(root)}")
        parent = root.evaluate("({parentElement: {scrollWidth, clientWidth}}) => [scrollWidth, clientWidth]")
        assert parent[0] <= parent[1]
        has_nothing(root, CUT, CUT_CHOICES)
    finally:
        shared.size()
        shared.dark(False)
