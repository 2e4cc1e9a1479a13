"""A data set's widget in a real JupyterLab: the average, the list beside it, a sample's own grid."""

import numpy as np
import pytest
from playwright.sync_api import expect

from blip_trace_widget import TraceWidget
from helpers.waiting import until


def values(root):
    """What the cells on screen show, (layer, position) -> value; another grid's until the new one has come."""
    cells = root.locator("[role=gridcell]").evaluate_all(
        "cells => cells.map(({dataset}) => [+dataset.layer, +dataset.position, +dataset.value])"
    )
    return {(layer, position): value for layer, position, value in cells}


def equal(root, grid):
    shown = values(root)
    indices = list(np.ndindex(grid.shape))
    return sorted(shown) == indices and np.allclose(
        [shown[at] for at in indices], grid.ravel(), atol=1e-3, equal_nan=True
    )


def shows(page, root, grid, what):
    """Wait until a grid, (layers, positions), is on screen whole."""
    until(page, lambda: equal(root, grid), what)


@pytest.mark.browser
def test_a_data_set_is_looked_through_by_hand(shared, dataset):
    shared.size(1400)
    shared.write(
        f"from blip_trace_widget import TraceWidget\nwidget = TraceWidget.from_dataset({str(dataset.folder)!r})\nwidget"
    )
    shared.run_all()
    listed = shared.page.get_by_test_id("samples").first
    rows = listed.get_by_role("listbox", name="samples").get_by_role("option")
    figure = shared.page.locator(".blip-trace-dataset [data-testid=blip-trace]").first
    mean = dataset.mean()
    expect(listed.get_by_test_id("summary")).to_have_text(dataset.summary)
    expect(rows).to_have_count(8)
    shows(shared.page, figure, mean.recovery, "the average is shown")

    def fits():
        """They lie side by side, and there is no empty room below one of them, nor within the figure."""
        place, beside, last = (each.bounding_box() for each in (figure, listed, figure.locator(".bt-detail")))
        return (
            beside["x"] >= place["x"] + place["width"]
            and [beside["y"], beside["height"]] == pytest.approx([place["y"], place["height"]], abs=2)
            and place["y"] + place["height"] - (last["y"] + last["height"]) < 40
        )

    shared.until(fits, "the list beside the figure")

    shared.cell(5, 6, figure).click()
    expect(listed.get_by_test_id("interval")).to_contain_text("95 % interval")

    listed.get_by_test_id("find").fill("what color")
    columns = ["id", "group", "question", "given_answer", "own_answer", "corrupted_answer"]
    texts = [" ".join(map(str, row)) for row in dataset.samples[columns].to_numpy()]
    found = sum("what" in text and "color" in text for text in texts)
    expect(listed.get_by_test_id("range")).to_have_text(f"1–8 of {found}")
    rows.nth(1).click()
    number = shared.ask("widget.listing['rows'][1]['number']")
    shared.until(lambda: shared.ask("widget.chosen") == number, "the sample is chosen")
    trace = dataset.trace(number)
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    shows(shared.page, figure, trace.recovery, "its own grid is shown")
    listed.get_by_test_id("average").click()
    shows(shared.page, figure, mean.recovery, "the average is back")


@pytest.mark.browser
def test_a_page_of_a_data_set_keeps_what_is_in_sight(chromium, dataset, tmp_path):
    widget = TraceWidget.from_dataset(dataset)
    widget.save_html(tmp_path / "page.html")
    mean = widget.mean.recovery
    widget.close()
    page, complaints = chromium.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "blob:")) or complaints.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    listed = page.get_by_test_id("samples")
    expect(listed.get_by_test_id("summary")).to_have_text(dataset.summary)
    expect(listed.locator("img")).to_have_count(8)
    expect(listed.get_by_test_id("find")).to_be_disabled()
    shows(page, page.get_by_test_id("blip-trace"), mean, "the average is shown")
    assert complaints == []
    page.close()
