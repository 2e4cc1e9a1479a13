"""A grid that is kept, and the difference from it, by keys and by hand: in a real JupyterLab, and in a saved page."""

import re

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import CELL, CUT, IMPORTS, SCREENSHOTS, has_nothing, new_widget, shows, trace_all


@pytest.fixture
def notebook(shared):
    """The shared notebook with two views of a new widget in it; all of its grid is computed."""
    with new_widget(shared, CELL, "widget") as ready:
        ready.python(IMPORTS)
        trace_all(ready, 48)
        yield ready
        ready.size()
        ready.dark(False)


def keep(notebook):
    """Keep the grid in view, by keys, and in the kernel too."""
    root, keys = notebook.root, notebook.page.keyboard
    root.get_by_test_id("more").focus()
    keys.press("Enter")
    root.get_by_test_id("compare").focus()
    keys.press("Enter")
    expect(root.get_by_test_id("compared")).to_contain_text("Kept to compare with: Question encoder · layer output")
    root.get_by_test_id("more").click()
    notebook.python("kept = widget.trace")


def shows_difference(notebook, root):
    """Wait until the numbers and dots of a view are those of ``trace - kept``."""
    shows(notebook, notebook.ask("(widget.trace - kept).recovery.tolist()"), root)
    differ = notebook.ask("(widget.trace - kept).recovery_significant.tolist()")
    assert any(map(any, differ)), "else the dots say nothing"
    cells = root.get_by_role("gridcell")
    read = "all => all.map(({dataset: d, textContent}) => [Number(d.layer), Number(d.position), textContent !== '•'])"
    notebook.until(
        lambda: all(told == differ[layer][position] for layer, position, told in cells.evaluate_all(read)),
        "a dot where the two do not differ",
    )


def test_a_grid_is_kept_and_another_is_shown_as_the_difference(notebook, tmp_path):
    root, page, keys = notebook.root, notebook.page, notebook.page.keyboard
    keep(notebook)
    root.get_by_test_id("site").select_option("mlp")
    trace_all(notebook, 48)
    apart = "MLP − layer output"
    views = page.get_by_test_id("blip-trace")
    for view in views.all():
        expect(view.get_by_test_id("compared")).to_contain_text(apart)
        expect(view.locator(".bt-top > p")).to_contain_text("Difference of recovery")
        shows_difference(notebook, view)
    cell = notebook.cell(5, 2)
    cell.hover()
    expect(root.locator(".bt-tooltip")).to_contain_text(apart)
    expect(cell).to_have_attribute("aria-label", re.compile(re.escape(apart)))

    chip = root.get_by_test_id("difference")
    chip.focus()
    keys.press("Space")
    expect(chip).to_have_attribute("aria-pressed", "false")
    exact = notebook.ask("widget.trace.recovery.tolist()")
    expect(root.locator(".bt-top > p")).not_to_contain_text("Difference")
    shows(notebook, exact)
    keys.press("Enter")
    expect(chip).to_have_attribute("aria-pressed", "true")

    notebook.python("widget.metric = 'log_probability'; widget.wait()")
    expect(root.get_by_test_id("compared")).to_contain_text("Not comparable with Question encoder")
    root.get_by_test_id("undo").click()
    expect(root.get_by_test_id("compared")).to_contain_text(apart)

    notebook.python(f"widget.save_html({str(tmp_path / 'page.html')!r})")
    saved = page.context.new_page()
    saved.goto((tmp_path / "page.html").as_uri())
    expect(saved.get_by_test_id("compared")).to_contain_text(apart)
    expect(saved.get_by_test_id("let-go")).to_be_disabled()
    shows_difference(notebook, saved.get_by_test_id("blip-trace"))
    saved.get_by_test_id("difference").click()
    expect(saved.get_by_test_id("difference")).to_have_attribute("aria-pressed", "false")
    shows(notebook, exact, saved)
    saved.get_by_test_id("site").select_option("block_output")
    expect(saved.get_by_test_id("compared")).to_contain_text("Kept to compare with")
    saved.close()

    root.get_by_test_id("let-go").click()
    expect(page.get_by_test_id("compared")).to_have_count(0)
    notebook.until(lambda: notebook.ask("widget.compared") == {}, "the kernel has let it go")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 480])
def test_nothing_is_cut(notebook, width, dark):
    keep(notebook)
    notebook.size(width, 2000)
    notebook.dark(dark)
    expect(notebook.root).to_have_attribute("data-theme", "dark" if dark else "light")
    notebook.python("widget.site = 'mlp'; widget.noise = 4; widget.trace_all(); widget.wait()")
    expect(notebook.root.get_by_test_id("compared")).to_contain_text("ν 4")
    notebook.page.mouse.move(0, 0)
    SCREENSHOTS.mkdir(exist_ok=True)
    notebook.root.screenshot(path=SCREENSHOTS / f"compare-{width}-{'dark' if dark else 'light'}.png")
    has_nothing(notebook.root, CUT)
