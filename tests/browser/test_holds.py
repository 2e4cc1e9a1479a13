"""Locks by mouse and by keys in a real JupyterLab, and in a saved page without a kernel."""

import pytest
from playwright.sync_api import expect

from blip_trace_widget.display.formatting import percent
from helpers.lab_widget import BEYOND, CUT, IMPORTS, SCREENSHOTS, has_nothing, new_widget, shows, trace_all


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        ready.python(IMPORTS)
        yield ready
        ready.size()
        ready.dark(False)


def locked(root):
    """Where locks are drawn, by row and column."""
    return root.locator("[data-lock]").evaluate_all("all => all.map(({dataset: d}) => [+d.row, +d.column])")


def says_both(notebook, layer, position, hold):
    """Wait until the sentence has the numbers that the kernel computes without and with what is held."""
    patch = f"widget.tracer.patch(State('question_encoder', {layer}, {position}), hold="
    free, held = (
        notebook.ask(f"(lambda e: (e.recovery, e.recovery_margin))({patch}{each}))") for each in ("None", hold)
    )
    sentence = notebook.root.get_by_test_id("sentence")
    expect(sentence).to_contain_text(f" {percent(*free)} of what the noise took")
    expect(sentence).to_contain_text(f" held noisy, {percent(*held)}")


def test_cells_rows_and_words_are_held_by_mouse_and_by_keys(notebook, tmp_path):
    root, keys = notebook.root, notebook.page.keyboard
    trace_all(notebook, 48)
    notebook.cell(3, 5).click()
    notebook.cell(4, 5).click(modifiers=["Alt"])
    notebook.until(lambda: locked(root) == [[5, 4]], "a lock is drawn")
    says_both(notebook, 3, 5, "State('question_encoder', 4, 5)")
    expect(root.get_by_test_id("held")).to_contain_text("layer 4 at “circle”")
    expect(notebook.cells("value")).to_have_count(48)
    shows(notebook, notebook.ask("widget.tracer.trace(hold=State('question_encoder', 4, 5)).recovery.tolist()"))

    notebook.cell(2, 2).focus()
    keys.press("l")
    notebook.until(lambda: sorted(locked(root)) == [[2, 2], [5, 4]], "by a key too")
    keys.press("L")
    notebook.until(lambda: locked(root) == [[5, 4]], "and let go")
    notebook.cell(4, 5).click()
    expect(root.get_by_test_id("sentence")).to_have_text("Layer 4 at “circle” is held noisy itself: it is not patched.")
    root.get_by_test_id("undo").click()
    notebook.cell(3, 5).click()

    root.get_by_role("rowheader", name="color", exact=True).click(modifiers=["Alt"])
    notebook.until(lambda: sorted(locked(root)) == [[2, -1], [5, 4]], "a row's lock is in its header")
    expect(root.get_by_test_id("held")).to_contain_text("“color”, all layers")
    notebook.until(lambda: len(notebook.ask("widget.hold")) == 7, "the kernel holds them")
    root.get_by_test_id("unlock-all").click()
    notebook.until(lambda: locked(root) == [] and notebook.ask("widget.hold") == [], "all are let go")

    root.get_by_test_id("more").click()
    root.get_by_test_id("hold").get_by_role("button", name="later MLPs").click()
    says_both(notebook, 3, 5, "'mlp'")
    root.get_by_test_id("hold").get_by_role("button", name="everywhere").click()
    says_both(notebook, 3, 5, "('mlp', 'everywhere')")
    root.get_by_test_id("undo").click()
    notebook.until(lambda: notebook.ask("widget.hold") == ["mlp"], "a step back")
    root.get_by_test_id("more").click()

    notebook.cell(5, 1).click(modifiers=["Alt"])
    root.get_by_role("columnheader", name="0", exact=True).click(modifiers=["Alt"])
    notebook.until(lambda: sorted(locked(root)) == [[-1, 0], [1, 5]], "locks of all kinds")
    expect(notebook.cells("value")).to_have_count(48)
    has_nothing(root, CUT, BEYOND)
    SCREENSHOTS.mkdir(exist_ok=True)
    for dark in (False, True):
        notebook.dark(dark)
        root.screenshot(path=SCREENSHOTS / f"locks-{'dark' if dark else 'light'}.png")
    notebook.size(480)
    has_nothing(root, BEYOND)
    root.screenshot(path=SCREENSHOTS / "locks-narrow.png")

    notebook.python(f"widget.save_html({str(tmp_path / 'page.html')!r})")
    page = notebook.page.context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    notebook.until(lambda: sorted(locked(page)) == [[-1, 0], [1, 5]], "a saved page shows them")
    page.locator("[data-layer='3'][data-position='5']").click(modifiers=["Alt"])
    expect(page.get_by_role("alert")).to_contain_text("hold: a saved page")
    page.get_by_test_id("unlock-all").click()  # that grid is in the page too
    notebook.until(lambda: locked(page) == [], "and changes to what it has")
    expect(page.locator("[data-state='value']")).to_have_count(48)
    page.close()
