"""At home in a notebook: what the widget leaves to its host (scrolling, shortcuts, menu), and the room it is given."""

import re
from contextlib import contextmanager

import nbformat
import pytest
from playwright.sync_api import expect

from helpers.lab_widget import BEYOND, CUT, has_nothing, leaves_shortcuts, new_widget
from helpers.waiting import DRAWN, until

#: Everything that a hand may lie on.
REGIONS = {
    "head": ".bt-title",
    "cell": ".bt-cell",
    "token": ".bt-token",
    "means": ".bt-profile",
    "picture": ".bt-patches",
    "chooser": "[data-testid=overlay]",
    "question": "[data-testid=question]",
    "answer": ".bt-answer",
    "slider": "[data-testid=noise-slider]",
    "number": "[data-testid=noise-number]",
    "legend": ".bt-legend",
    "sentence": ".bt-sentence",
    "bars": ".bt-bars",
}
#: What scrolls a notebook in JupyterLab; elsewhere the page does.
SCROLLER = "() => document.querySelector('.jp-WindowedPanel-outer') ?? document.scrollingElement"
PLACE = f"() => ({SCROLLER})().scrollTop"
#: Brings an element to the middle of the window.
CENTER = "element => element.scrollIntoView({block: 'center', behavior: 'instant'})"
#: Waits until nothing scrolls any more.
STILL = f"""async () => {{
    const frame = () => new Promise(requestAnimationFrame);
    for (let still = 0, last = NaN; still < 8; await frame()) {{
        const now = ({PLACE})();
        still = now === last ? still + 1 : 0;
        last = now;
    }}
}}"""
#: Whether it has scrolled beyond a place before many frames are drawn.
SCROLLED = f"""async least => {{
    for (let frame = 0; frame < 90; frame += 1) {{
        if (({PLACE})() > least) return true;
        await new Promise(requestAnimationFrame);
    }}
    return false;
}}"""
#: How far a hand moves.
FAR = 90


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        yield ready


@pytest.fixture(autouse=True)
def left_as_found(shared):
    """Other files' tests begin at the notebook's head."""
    yield
    shared.page.evaluate(f"() => {{ ({SCROLLER})().scrollTop = 0; }}")


@contextmanager
def wheel(page):
    """How to turn the wheel at a place, and nothing to let go of."""

    def turn(x, y):
        page.mouse.move(x, y)
        page.mouse.wheel(0, FAR)

    yield turn, lambda: None


@contextmanager
def finger(page):
    """How to move a finger up from a place, and to lift it."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    def swipe(x, y):
        touch("touchStart", (x, y))
        for step in range(1, 4):
            page.evaluate(DRAWN)  # else the moves come as one
            touch("touchMove", (x, y - step * FAR / 3))

    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    yield swipe, lambda: touch("touchEnd")
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    session.detach()


def scrolls(page, region, act, let_go):
    """Whether the page scrolls when a hand acts over a region."""
    region.evaluate(CENTER)
    page.evaluate(STILL)
    box = region.bounding_box()
    before = page.evaluate(PLACE)
    act(box["x"] + box["width"] / 2, box["y"] + min(box["height"] / 2, 60))
    scrolled = page.evaluate(SCROLLED, before + 20)
    let_go()
    return scrolled


def scroll_everywhere(root):
    """Wait until a hand over each region scrolls the page: the last scrolling may swallow the next."""
    page = root.page
    for hand in (wheel, finger):
        with hand(page) as acts:
            root.get_by_test_id("noise-number").focus()
            for name, selector in REGIONS.items():
                region = root.locator(selector).first
                until(
                    page, lambda region=region, acts=acts: scrolls(page, region, *acts), f"{hand.__name__} over {name}"
                )


def test_wheel_and_finger_scroll_the_notebook(notebook):
    notebook.size(1100, 420)
    try:
        scroll_everywhere(notebook.root)
        assert notebook.ask("[widget.noise, widget.selection, widget.patches]") == [5.0, [], []]
        expect(notebook.root.get_by_test_id("noise-slider")).to_have_value("5")
    finally:
        notebook.size()


@pytest.mark.browser
def test_wheel_and_finger_scroll_a_saved_page(chromium, filled_widget, tmp_path):
    filled_widget.save_html(tmp_path / "page.html")
    page = chromium.new_page()
    page.set_viewport_size({"width": 1100, "height": 420})
    page.goto((tmp_path / "page.html").as_uri())
    page.add_style_tag(content="body { padding-block: 400px; }")
    root = page.get_by_test_id("blip-trace")
    expect(root.get_by_test_id("clean-score")).to_have_text(re.compile(r"\d"))
    scroll_everywhere(root)
    page.close()


def test_shortcuts_and_menu_are_the_notebooks(notebook):
    page, root = notebook.page, notebook.root
    leaves_shortcuts(page)
    page.keyboard.press("ArrowDown")
    expect(notebook.cell(0, 1)).to_be_focused()
    question = root.get_by_test_id("question")
    question.fill("")
    question.press_sequentially("add xbm")
    expect(question).to_have_value("add xbm")
    question.press("Control+z")
    question.press("Escape")
    for focused in (notebook.cell(4, 2), question):
        focused.focus()
        page.keyboard.press("Control+Shift+C")
        palette = page.locator(".lm-CommandPalette-input").first
        expect(palette).to_be_focused()
        page.keyboard.press("Escape")
        expect(palette).not_to_be_visible()
        focused.click(button="right")
        menu = page.locator(".lm-Menu").first
        expect(menu).to_contain_text("Copy Cell")
        expect(menu).to_be_focused()
        page.keyboard.press("Escape")
        expect(menu).to_have_count(0)


SAVE_STATE = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"
SETTING = "Settings, Save Widget State Automatically"


def test_a_notebook_saved_with_the_default_settings_shows_the_still_picture(shared, open_notebook, lab):
    """Where it is not trusted, as a fresh clone is; where it is, JupyterLab shows nothing but that it has no widget."""
    forget = "() => window.jupyterapp.shell.currentWidget.model.deleteMetadata('widgets')"
    saves_state = "name => window.jupyterapp.commands.isToggled(name)"
    with new_widget(shared) as notebook:
        notebook.page.evaluate(forget)  # what was saved earlier
        for on in (False, True):  # the fixture turns it on
            notebook.command(SAVE_STATE)
            notebook.until(lambda on=on: notebook.page.evaluate(saves_state, SAVE_STATE) == on, "it is switched")
            if not on:
                notebook.command("docmanager:save")
    folder = lab[1]
    saved = nbformat.read(folder / "shared.ipynb", 4)
    assert "widgets" not in saved.metadata
    data = saved.cells[0].outputs[0]["data"]
    assert SETTING in data["text/plain"]
    assert SETTING in "".join(re.findall(r"<tspan[^>]*>([^<]*)", "".join(data["image/svg+xml"])))
    saved.cells[0].source += "  # on another machine"
    nbformat.write(saved, folder / "cloned.ipynb")
    cloned = open_notebook(name="cloned.ipynb", run=False)
    picture = cloned.page.locator(".jp-OutputArea-output img").first
    expect(picture).to_be_visible()
    size = "({naturalWidth, naturalHeight}) => Math.min(naturalWidth, naturalHeight)"
    cloned.until(lambda: picture.evaluate(size) > 400, "the picture is there")


ROW = """
import ipywidgets
from blip_trace_widget import TraceWidget
widget = TraceWidget()
other = TraceWidget.from_tracer(widget.tracer)
row = ipywidgets.HBox([widget, other])
row
"""


#: Pixels that an element has more than what is in it.
SPARE = "({scrollWidth, clientWidth}) => clientWidth - scrollWidth"


def test_two_in_a_row_share_the_room(shared):
    with new_widget(shared, ROW) as notebook:
        views = notebook.page.get_by_test_id("blip-trace")
        expect(views).to_have_count(2)
        for width in (1280, 700):
            notebook.size(width)
            row = notebook.page.locator(".widget-hbox")
            notebook.until(lambda row=row: row.evaluate(SPARE) >= 0, "the row has room")

            def alike():
                first, second = (view.bounding_box()["width"] for view in views.all())
                return abs(first - second) < 2

            notebook.until(alike, "they are of one width")
            for view in views.all():
                has_nothing(view, BEYOND)
        notebook.size()
        notebook.python("row.close(); other.close()")  # a row without its children would keep a reloaded page waiting


def test_little_room_is_enough(notebook):
    root = notebook.root
    root.get_by_test_id("more").click()
    notebook.cell(4, 2).click()
    expect(root.get_by_test_id("sentence")).to_contain_text("noise took")
    for width in (320, 240, 200):
        notebook.python(f"widget.layout.width = '{width}px'")
        notebook.until(lambda width=width: abs(root.bounding_box()["width"] - width) < 2, "it is as wide as it is told")
        has_nothing(root, BEYOND)
        has_nothing(root.locator(".bt-blocks"), CUT)
    notebook.python("widget.layout.height = '300px'")
    frame = root.locator("..")
    notebook.until(lambda: frame.bounding_box()["height"] == 300, "it is as high as it is told")
    last = root.locator(".bt-bars")
    assert last.bounding_box()["y"] > frame.bounding_box()["y"] + 300
    frame.hover()
    notebook.page.mouse.wheel(0, 10_000)
    notebook.until(lambda: last.bounding_box()["y"] < frame.bounding_box()["y"] + 300, "it scrolls to its end")


@pytest.mark.parametrize("scaled", ["transform: scale(0.6); transform-origin: 0 0", "zoom: 1.4"])
def test_a_hand_meets_what_it_points_at_on_a_scaled_page(notebook, scaled):
    root = notebook.root
    root.evaluate(f"root => {{ root.parentElement.style.cssText = '{scaled}'; }}")
    cell = notebook.cell(3, 3)
    cell.hover()
    scale = root.evaluate("root => root.getBoundingClientRect().width / root.offsetWidth")

    def tip_is_beside_the_cell():
        tip, box = root.locator(".bt-tooltip").bounding_box(), cell.bounding_box()
        middles = [side["x"] + side["width"] / 2 for side in (tip, box)]
        gap = max(tip["y"] - (box["y"] + box["height"]), box["y"] - (tip["y"] + tip["height"]))
        return [middles[0], gap] == pytest.approx([middles[1], 8 * scale], abs=3)

    notebook.until(tip_is_beside_the_cell, "the tip is beside its cell")

    patches = root.get_by_test_id("patches")
    patches.evaluate(CENTER)
    box = patches.bounding_box()
    (x, width), (y, height) = ((box[start], box[size] / 8) for start, size in (("x", "width"), ("y", "height")))
    notebook.page.mouse.move(x + 3.5 * width, y + 2.5 * height)
    notebook.page.mouse.down()
    notebook.page.mouse.move(x + 4.5 * width, y + 4.5 * height, steps=4)
    notebook.page.mouse.up()
    marked = sorted([row, column] for row in (2, 3, 4) for column in (3, 4))
    notebook.until(lambda: sorted(notebook.ask("widget.patches")) == marked, "what was drawn is marked")

    slider = root.get_by_test_id("noise-slider")
    slider.evaluate(CENTER)
    box = slider.bounding_box()
    notebook.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    notebook.page.mouse.down()
    notebook.page.mouse.move(box["x"] + 7 * scale + 0.8 * (box["width"] - 14 * scale), box["y"] + 5, steps=4)
    notebook.page.mouse.up()
    notebook.until(lambda: notebook.ask("widget.noise") == pytest.approx(8, abs=0.15), "the noise is where the hand is")


def test_an_error_covers_nothing(notebook):
    root = notebook.root
    notebook.python("widget.wait(); widget.error = 'boom'")
    error = root.get_by_test_id("error")
    expect(error).to_be_visible()
    covered = """error => {
        const {left, right, top, bottom} = error.getBoundingClientRect();
        return [...error.closest('.bt-traced').querySelectorAll('*')]
            .filter(element => !error.contains(element) && !element.contains(error))
            .map(element => [element.className, element.getBoundingClientRect()])
            .filter(([, box]) => box.width && box.height)
            .filter(([, box]) => box.left < right && box.right > left && box.top < bottom && box.bottom > top)
            .map(([name]) => name);
    }"""
    has_nothing(error, covered)


DROP = """(box, given) => {
    const data = new DataTransfer();
    for (const [type, text] of Object.entries(given)) data.setData(type, text);
    const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
    box.dispatchEvent(drop);
    return drop.defaultPrevented;
}"""


@pytest.mark.parametrize(
    "given", [{"text/uri-list": "https://example.org/a.png"}, {"text/plain": "a red circle"}], ids=["link", "text"]
)
def test_what_is_no_file_is_answered_in_words(notebook, given):
    assert notebook.root.locator(".bt-picture").evaluate(DROP, given)
    expect(notebook.root.get_by_test_id("error")).to_contain_text("save the picture, then choose the file")


IMAGE_SIDE = """
from blip_trace_widget import GaussianNoise, TraceWidget
widget = TraceWidget(corruption=GaussianNoise(at="patch_embeddings", samples=2))
widget.block = "image_encoder"
widget
"""


def test_a_grid_that_scrolls_says_how_much_of_it_is_in_view_and_shows_what_is_selected(shared):
    with new_widget(shared, IMAGE_SIDE) as notebook:
        root = notebook.root
        expect(root.get_by_test_id("visible-range")).to_have_text(
            re.compile(r"20 of 65 rows in view, named by row,column")
        )
        inside = """cell => {
            const box = cell.closest('.bt-scroll');
            const {top, bottom} = cell.getBoundingClientRect();
            const [heads, means] = ['.bt-heads', '.bt-profile'].map(
                part => box.querySelector(part).getBoundingClientRect());
            return top >= heads.bottom && bottom <= means.top;
        }"""
        before = notebook.page.evaluate(PLACE)
        for position in (60, 1):
            cell = notebook.cell(2, position)
            assert not cell.evaluate(inside)
            notebook.python(f"widget.selection = [(2, {position})]")
            notebook.until(lambda cell=cell: cell.evaluate(inside), "the cell is in sight")
            assert notebook.page.evaluate(PLACE) == before, "the page stays where it is"


@pytest.mark.browser
def test_what_is_disabled_looks_so_in_a_saved_page(chromium, filled_widget, tmp_path):
    filled_widget.save_html(tmp_path / "page.html")
    page = chromium.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    root = page.get_by_test_id("blip-trace")
    look = "element => Number(getComputedStyle(element).opacity)"
    names = ("question", "noise-slider", "noise-number", "choose-picture", "overlay", "export", "trace-all")
    for name in names:
        until(page, lambda name=name: root.get_by_test_id(name).evaluate(look) <= 0.7, f"{name} looks disabled")
    assert [name for name in ("site", "show", "more") if root.get_by_test_id(name).evaluate(look) < 1] == []
    page.close()
