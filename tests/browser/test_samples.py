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
    expect(listed.get_by_test_id("order")).to_have_value("largest here first")
    expect(rows.first).to_contain_text("this cell")
    effects = mean.aligned.effects[:, 5, 6]
    extreme = dataset.traced["sample"].iloc[int(effects.argmax())]
    expect(rows.first).to_have_attribute("data-number", str(extreme))

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
    expect(shared.cell(5, 6, figure)).to_have_attribute("aria-selected", "true")


@pytest.mark.browser
def test_heads_and_groups_are_looked_through_by_hand(shared, pairs):
    shared.size(1400)
    shared.write(
        f"from blip_trace_widget import TraceWidget\nwidget = TraceWidget.from_dataset({str(pairs.folder)!r})\nwidget"
    )
    shared.run_all()
    card, listed = shared.page.get_by_test_id("maps-card").first, shared.page.get_by_test_id("samples").first
    figure = shared.page.locator(".blip-trace-dataset [data-testid=blip-trace]").first
    rows = listed.get_by_role("listbox", name="samples").get_by_role("option")
    shows(shared.page, figure, pairs.mean().recovery, "the average is shown")
    expect(card.get_by_test_id("panel")).to_have_count(0)

    card.get_by_test_id("maps").select_option("heads")
    expect(card.get_by_role("gridcell")).to_have_count(pairs.heads().recovery.size)
    head = card.locator("[data-head='5,1']")
    head.click()
    expect(head).to_have_attribute("aria-selected", "true")
    head.press("ArrowRight")
    card.locator("[data-head='5,2']").press("Enter")
    expect(card.get_by_test_id("told")).to_contain_text("Layer 5, head 2: recovery")
    found = pairs.mean(site="cross_attention_out", head=2)
    shows(shared.page, figure, found.recovery, "the head's grid is shown")
    heads = pairs.heads()
    extreme = heads.numbers[int(heads.aligned.effects[:, 5, 2].argmax())]
    expect(rows.first).to_have_attribute("data-number", str(extreme))
    expect(rows.first).to_contain_text("this head")

    card.get_by_test_id("maps").select_option("groups side by side")
    panels = card.get_by_test_id("panel")
    expect(panels).to_have_count(len(pairs.groups))
    expect(panels.nth(1)).to_have_attribute("aria-label", f"{pairs.groups[1]}: 6 samples")
    panels.nth(1).press("Enter")
    expect(panels.nth(1)).to_have_attribute("aria-pressed", "true")
    found = pairs.mean(site="cross_attention_out", head=2, group=pairs.groups[1])
    shows(shared.page, figure, found.recovery, "the group's average is shown")
    card.get_by_test_id("minus").select_option(pairs.groups[0])
    expect(panels).to_have_count(len(pairs.groups) - 1)
    expect(panels.first).to_contain_text("6 − 6 samples")


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
