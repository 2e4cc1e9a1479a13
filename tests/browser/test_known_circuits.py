"""A model whose circuit is known, chosen from the list; its true states outlined by mouse and by keys."""

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import CELL, CUT, SCREENSHOTS, has_nothing, new_widget, trace_all


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, which a known circuit has been chosen for by keys."""
    with new_widget(shared, CELL) as ready:
        root, keys = ready.root, ready.page.keyboard
        root.get_by_test_id("more").focus()
        keys.press("Enter")
        root.get_by_test_id("model").select_option("known circuit: chain")
        expect(root.get_by_test_id("question")).to_have_value("what color is at the left?")
        expect(root.get_by_test_id("model")).to_have_value("known circuit: chain")
        root.get_by_test_id("more").click()
        yield ready
        ready.size()
        ready.dark(False)


def outlined(notebook):
    """The outlined cells, by layer and position."""
    cells = notebook.root.locator("[data-truth]")
    return cells.evaluate_all("all => all.map(({dataset: d}) => [Number(d.layer), Number(d.position)])")


def test_true_states_are_outlined_by_mouse_and_by_keys(notebook, tmp_path):
    root, keys = notebook.root, notebook.page.keyboard
    chip = root.get_by_test_id("truth")
    expect(chip).to_have_attribute("aria-pressed", "false")
    assert outlined(notebook) == []
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    true = sorted([[1, 6], [2, 0], [3, 0]])
    notebook.until(lambda: sorted(outlined(notebook)) == true, "the true states are outlined")
    cell = notebook.cell(1, 6)
    name = "layer 1, left; not computed: click to patch it; a true state of the known circuit"
    expect(cell).to_have_attribute("aria-label", name)
    chip.focus()
    keys.press("Space")
    expect(chip).to_have_attribute("aria-pressed", "false")
    notebook.until(lambda: outlined(notebook) == [], "no more")
    keys.press("Enter")
    notebook.until(lambda: sorted(outlined(notebook)) == true, "again")
    notebook.until(lambda: notebook.ask("widget.truth") is True, "the kernel has what keys did")

    trace_all(notebook, 36)
    cell.click()
    expect(root.get_by_test_id("sentence")).to_contain_text("100 %")
    root.get_by_test_id("site").select_option("cross_attention_out")
    notebook.until(lambda: outlined(notebook) == [[1, 6]], "those of the grid in view")
    root.get_by_test_id("site").select_option("block_output")
    notebook.until(lambda: sorted(outlined(notebook)) == true, "those of the grid in view")
    has_nothing(root, CUT)
    SCREENSHOTS.mkdir(exist_ok=True)
    for dark in (False, True):
        notebook.dark(dark)
        root.screenshot(path=SCREENSHOTS / f"known-circuit-{'dark' if dark else 'light'}.png")

    notebook.python(f"widget.save_html({str(tmp_path / 'page.html')!r})")
    page = notebook.page.context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator("[data-truth]")).to_have_count(3)
    page.get_by_test_id("truth").click()
    expect(page.locator("[data-truth]")).to_have_count(0)
    page.close()

    root.get_by_test_id("more").click()
    root.get_by_test_id("model").select_option("built-in")
    expect(root.get_by_test_id("question")).not_to_have_value("what color is at the left?")
    expect(chip).to_have_count(0)
    root.get_by_test_id("more").click()
