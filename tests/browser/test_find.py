"""A set of states is searched for by hand: the form, progress, the set selected, what is said of it, and undo."""

import re

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import CELL, CUT, SCREENSHOTS, has_nothing, new_widget


@pytest.fixture
def notebook(shared):
    with new_widget(shared, CELL) as ready:
        yield ready
        ready.size()
        ready.dark(False)


def test_a_set_is_found_and_selected_by_mouse_and_keys(notebook):
    root, keys = notebook.root, notebook.page.keyboard
    root.get_by_test_id("find-form").click()
    expect(root.get_by_test_id("find-form")).to_have_attribute("aria-expanded", "true")
    root.get_by_test_id("percent").fill("60")
    keys.press("Enter")
    root.get_by_test_id("find").focus()
    keys.press("Enter")
    told = root.get_by_test_id("found")
    expect(told.locator("b")).to_contain_text("on fresh noise", timeout=60_000)
    expect(told).to_contain_text("sufficient under this damage, not the mechanism")
    chosen = notebook.ask("sorted(map(list, widget.selection))")
    assert chosen == notebook.ask(
        "sorted([state.layer, state.position] for state in "
        "widget.tracer.find_states(0.6, blocks='question_encoder').states)"
    )
    expect(root.locator('[role="gridcell"][aria-selected="true"]')).to_have_count(len(chosen))
    chips = root.locator(".bt-members .bt-chip")
    expect(chips).to_have_count(len(chosen))
    chips.first.click()
    notebook.until(lambda: len(notebook.ask("list(widget.selection)")) == 1, "the first member is selected")
    assert re.search(r"on fresh noise", told.inner_text())
    has_nothing(root, CUT)
    SCREENSHOTS.mkdir(exist_ok=True)
    for dark in (False, True):
        notebook.dark(dark)
        root.screenshot(path=SCREENSHOTS / f"find-{'dark' if dark else 'light'}.png")
    assert notebook.errors == []
