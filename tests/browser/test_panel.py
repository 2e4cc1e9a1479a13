"""The charts beside the widget in a real JupyterLab: what a hand does in them, and how they lie and look."""

import re

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import FRESH, IMPORTS, SCREENSHOTS, new_widget, shares, shows, trace_all

CELL = "from blip_trace_widget import TraceWidget\nwidget = TraceWidget()\nwidget.panel()"
ROOM, HEIGHT = 1600, 2000
HANDLE = ".blip-chart-noise .dot"

#: Where the handle is in every frame that is drawn, and where the hand that drags it.
WATCH_HANDLE = """handle => {
    const seen = window.handleSeen = [];
    let hand = null;
    addEventListener('pointermove', event => { hand = event.clientX; }, {capture: true});
    const look = () => {
        const {left, width} = handle.getBoundingClientRect();
        if (hand !== null) seen.push([left + width / 2, hand]);
        if (window.handleSeen === seen) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""

#: All four figures know their size and have drawn themselves: a layer of marks and one of what lies above each.
DRAWN = """charts => {
    const drawn = [...charts.querySelectorAll('.bqplot > svg')].map(layer => layer.getBoundingClientRect().width);
    return drawn.length === 8 && Math.min(...drawn) > 0;
}"""

#: Where in the panel charts, their titles and their figures are.
PLACES = """panel => {
    const {left, top} = panel.getBoundingClientRect();
    return [...panel.querySelectorAll('.blip-chart, .blip-chart-title, .bqplot > svg')]
        .map(element => element.getBoundingClientRect())
        .map(({x, y, width, height}) => [x - left, y - top, width, height].map(Math.round));
}"""

#: Texts of the figures in another colour than the page's.
FOREIGN = """panel => [...panel.querySelectorAll('.bqplot .axis text')]
    .filter(text => text.textContent && getComputedStyle(text).fill !== getComputedStyle(panel).color)
    .map(({textContent}) => textContent)"""

#: Texts of the charts, each with its contrast to the page.
CONTRASTS = """panel => {
    const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = color => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = color => {
        const [r, g, b] = rgba(color).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = light(getComputedStyle(panel.closest('.jp-Notebook')).backgroundColor);
    return [...panel.querySelectorAll('.blip-chart svg text, .blip-chart-title *, .blip-chart-note *')]
        .filter(({textContent}) => textContent.trim())
        .map(element => {
            const {fill, color} = getComputedStyle(element);
            const text = light(element.closest('svg') ? fill : color);
            return [element.textContent, (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)];
        });
}"""


@pytest.fixture(scope="module", autouse=True)
def room(shared):
    shared.size(ROOM, HEIGHT)
    yield
    shared.size()


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new panel in it, its noise curve drawn; its page must log no error."""
    with new_widget(shared, CELL) as ready:
        ready.python(f"{IMPORTS}; widget.wait()")
        expect(ready.page.locator(HANDLE)).to_have_count(2)  # the point on the curve, and the handle
        yield ready


def center(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_dragging_the_marker_moves_the_slider_and_the_grid_and_back(notebook):
    page, root = notebook.page, notebook.root
    trace_all(notebook, 48)
    number, score = (root.get_by_test_id(name) for name in ("noise-number", "corrupted-score"))
    handle = page.locator(HANDLE).last
    place = {}
    for noise in (0, 10, 5):
        left = center(handle)
        notebook.python(f"widget.noise = {noise}; widget.wait()")
        expect(number).to_have_value(f"{noise}.0")
        notebook.until(lambda left=left: center(handle) != left, "the marker is set there")
        place[noise] = center(handle)[0]
    assert place[5] == pytest.approx((place[0] + place[10]) / 2, abs=1)

    def noise_at(x):
        return 10 * (x - place[0]) / (place[10] - place[0])

    x, y = center(handle)
    page.mouse.move(x, y)
    page.mouse.down()
    handle.evaluate(WATCH_HANDLE)
    page.mouse.move(place[10] - 30, y, steps=20)
    page.mouse.move(place[0] + 0.213 * (place[10] - place[0]), y + 20, steps=40)
    seen = page.evaluate("() => { const {handleSeen} = window; window.handleSeen = []; return handleSeen; }")
    page.mouse.up()
    assert len({hand for _, hand in seen}) > 20
    assert max(abs(at - hand) for at, hand in seen) < 4, "the marker left the hand"

    notebook.until(lambda: notebook.ask("widget.noise") == 2.1, "the kernel has the noise of the marker")
    notebook.python(f"widget.wait(); fresh = {FRESH}")
    expect(number).to_have_value("2.1")
    expect(root.get_by_test_id("noise-slider")).to_have_value("2.1")
    close = pytest.approx([notebook.ask("fresh.corrupted.score")], abs=0.006)
    notebook.until(lambda: shares([score.text_content()]) == close, "the new score is shown")
    shows(notebook, notebook.ask("fresh.trace().recovery.tolist()"))
    notebook.until(lambda: noise_at(center(handle)[0]) == pytest.approx(2.1, abs=0.03), "it snaps to the step")

    number.fill("7.3")
    number.press("Enter")
    notebook.until(lambda: noise_at(center(handle)[0]) == pytest.approx(7.3, abs=0.03), "the marker follows the slider")
    notebook.until(lambda: notebook.ask("widget.noise") == 7.3, "the kernel has the noise of the slider")


def test_a_click_on_a_head_shows_its_map(notebook):
    page, root = notebook.page, notebook.root
    chart = page.locator(".blip-chart-heads")
    cells = chart.locator(".heatmapcell")
    expect(chart).to_contain_text("has no single heads")
    expect(cells.first).not_to_be_visible()
    chart.get_by_text("Compute head map", exact=True).click()
    expect(chart).to_contain_text("192 of 192 cells")
    expect(cells.first).to_be_visible()
    expect(cells).to_have_count(24)
    expect(root.get_by_test_id("site")).to_have_value("cross_attention")
    recovery = notebook.ask("widget.tracer.trace(site='cross_attention', head='all').recovery.ravel().tolist()")
    strongest = max(range(24), key=recovery.__getitem__)

    def is_purple():
        fill = cells.nth(strongest).evaluate("cell => getComputedStyle(cell).fill")
        red, _green, blue, *_ = map(float, re.findall(r"[\d.]+", fill))
        return blue > red

    notebook.until(is_purple, "what restores is purple")

    cells.nth(strongest).hover()
    tooltip = page.locator(".bqplot_mark_tooltip:visible")
    expect(tooltip).to_contain_text(f"{recovery[strongest]:.3f}")

    head = strongest % 4
    cells.nth(strongest).click()
    notebook.until(lambda: notebook.ask("widget.head") == head, "the kernel has that head")
    root.get_by_test_id("more").click()
    expect(root.get_by_test_id("head")).to_have_value(str(head))
    expect(notebook.cells("value")).to_have_count(48)
    shows(notebook, notebook.ask(f"widget.tracer.trace(site='cross_attention', head={head}).recovery.tolist()"))
    marked = "all => all.map(cell => getComputedStyle(cell).strokeWidth === '2px')"
    column = [index % 4 == head for index in range(24)]
    notebook.until(lambda: cells.evaluate_all(marked) == column, "that head is marked")

    cells.nth((strongest + 4) % 24).click()  # the same head in another layer
    notebook.until(lambda: notebook.ask("widget.head") is None, "all heads again")
    expect(notebook.cells("value")).to_have_count(0)
    notebook.until(lambda: not any(cells.evaluate_all(marked)), "no head is marked")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [ROOM, 800])
def test_charts_lie_beside_the_widget_or_below_it_and_can_be_read(shared, request, width, dark):
    theme = "dark" if dark else "light"
    shared.size(width, HEIGHT)
    shared.dark(dark)
    try:
        notebook = request.getfixturevalue("notebook")
        root, charts = notebook.root, notebook.page.locator(".blip-charts")
        expect(root).to_have_attribute("data-theme", theme)
        notebook.until(lambda: charts.evaluate(DRAWN), "the figures are drawn")
        empty = charts.evaluate(PLACES)
        notebook.python("widget.block, widget.site = 'answer_decoder', 'cross_attention'; widget.trace_all()")
        notebook.python("widget.wait(); widget.block = 'question_encoder'; widget.trace_all(); widget.trace_heads()")
        notebook.python("widget.wait(); widget.selection = [(5, 5)]; widget.wait()")
        expect(charts.locator(".blip-chart-heads")).to_contain_text("192 of 192 cells")
        expect(charts.locator(".blip-chart-profile .bqplot")).to_be_visible()
        notebook.page.mouse.move(0, 0)
        SCREENSHOTS.mkdir(exist_ok=True)
        notebook.page.screenshot(path=SCREENSHOTS / f"charts-{width}-{theme}.png")
        assert len(empty) >= 12
        notebook.until(lambda: charts.evaluate(PLACES) == empty, "nothing has moved")

        widget, first = root.bounding_box(), charts.locator(".blip-chart").first.bounding_box()
        if width == ROOM:
            assert first["x"] >= widget["x"] + widget["width"]
            assert first["y"] <= widget["y"] + 20
            assert widget["width"] >= 640
        else:
            assert first["y"] >= widget["y"] + widget["height"]
        panel = charts.locator("xpath=..")
        wide = panel.evaluate("({scrollWidth, clientWidth}) => [scrollWidth, clientWidth]")
        assert wide[0] <= wide[1]

        assert charts.evaluate(FOREIGN) == []
        texts = charts.evaluate(CONTRASTS)
        assert len(texts) > 40
        assert [text for text in texts if text[1] < 4.5 and text[0] != "■"] == []
        assert [text for text in texts if text[1] < 2.8] == []
    finally:
        shared.size(ROOM, HEIGHT)
        shared.dark(False)
