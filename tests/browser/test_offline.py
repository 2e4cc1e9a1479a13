"""Pages without a kernel, opened as files with the network cut."""

import pytest
from playwright.sync_api import expect

from blip_trace_widget import TraceWidget
from helpers.waiting import until


@pytest.fixture
def open_page(chromium):
    """Open a file as a reader would; whatever it asks of the network, and its errors, fail the test."""
    pages, complaints = [], []

    def opened(path):
        page = chromium.new_page()
        pages.append(page)
        # Of this page alone: others go on to talk to their servers.
        network = page.context.new_cdp_session(page)
        cut = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", cut)
        page.on("request", lambda request: request.url.startswith(("file:", "blob:")) or complaints.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(path.as_uri())
        assert page.evaluate("() => navigator.onLine") is False
        return page.get_by_test_id("blip-trace")

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def cell(root, layer, position):
    return root.locator(f'[data-layer="{layer}"][data-position="{position}"]').first


def percent(value):
    return f"{100 * value:.0f} %"


def shows(root, layer, position, value):
    """Wait until a cell shows a value."""
    close, one = pytest.approx(value, abs=1e-3, nan_ok=True), cell(root, layer, position)
    until(root.page, lambda: float(one.get_attribute("data-value") or "nan") == close, f"{value} is shown")


@pytest.mark.browser
def test_a_page_shows_all_that_was_computed(open_page, filled_widget, tracer, tmp_path):
    filled_widget.save_html(tmp_path / "page.html")
    root = open_page(tmp_path / "page.html")
    expect(root.get_by_test_id("clean-score")).to_have_text(percent(tracer.clean.score))
    expect(root.get_by_test_id("corrupted-score")).to_have_text(percent(tracer.corrupted.score))
    expect(root.get_by_test_id("answer")).to_have_text(tracer.answer)
    expect(root.get_by_role("img", name="What is asked about")).to_be_visible()
    recovery = tracer.trace().recovery
    for layer, position in ((0, 0), (5, 3), (5, 5)):
        shows(root, layer, position, recovery[layer, position])
    cell(root, 5, 5).click()
    expect(cell(root, 5, 5)).to_have_attribute("aria-selected", "true")
    expect(root.get_by_test_id("sentence")).to_contain_text("brings back")
    expect(root.locator(".bt-tooltip")).to_contain_text("layer 5")

    root.get_by_test_id("block-answer_decoder").click()
    shows(root, 4, 0, tracer.trace("answer_decoder").recovery[4, 0])
    root.get_by_test_id("site").select_option("mlp")
    expect(cell(root, 4, 0)).to_have_attribute("data-state", "empty")


@pytest.mark.browser
def test_what_needs_a_kernel_is_disabled_and_says_so(open_page, filled_widget, tmp_path):
    filled_widget.save_html(tmp_path / "page.html")
    root = open_page(tmp_path / "page.html")
    for control in ("question", "noise-slider", "noise-number", "choose-picture", "overlay", "export", "undo"):
        expect(root.get_by_test_id(control)).to_be_disabled()
    expect(root.get_by_test_id("trace-all")).to_have_attribute("aria-disabled", "true")
    expect(root.get_by_text("a saved page: what is computed can be looked at")).to_be_visible()
    root.get_by_test_id("trace-all").click(force=True)
    expect(root.locator('[data-state="waiting"]')).to_have_count(0)
    for control in ("site", "show", "more"):
        expect(root.get_by_test_id(control)).to_be_enabled()


@pytest.mark.browser
def test_a_recording_plays_its_factors(open_page, tracer, tmp_path):
    tracer.record(tmp_path / "trace", sites="block_output", factors=[1.0, 3.0])
    shown = TraceWidget.from_trace(tmp_path / "trace")
    shown.save_html(tmp_path / "page.html")
    shown.close()
    root = open_page(tmp_path / "page.html")
    for asked, factor in ((1.4, 1.0), (7.0, 3.0)):
        root.get_by_test_id("noise-slider").fill(str(asked))
        exact = tracer.with_corruption(factor=factor)
        expect(root.get_by_test_id("corrupted-score")).to_have_text(percent(exact.corrupted.score))
        expect(root.get_by_test_id("noise-slider")).to_have_value(f"{factor:g}")
        shows(root, 5, 5, exact.trace().recovery[5, 5])
