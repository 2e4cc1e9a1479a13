"""What a hand can do with the grid, the slider and the menus, in a real JupyterLab."""

import csv
import io
import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from helpers.lab_widget import FRESH, IMPORTS, SHOWN, new_widget, says, selects, shows, states, trace_all, values

#: The whole grid at every change of it, and when: one entry for each frame in which any value changed.
WATCH_GRID = """grid => {
    const seen = window.gridsSeen = [];
    const cells = [...grid.querySelectorAll('[role=gridcell]')];
    const number = grid.closest('.blip-trace').querySelector('[data-testid=noise-number]');
    let pending = false;
    const look = () => {
        pending = false;
        seen.push([performance.now(), cells.map(cell => cell.dataset.value), cells.map(cell => cell.dataset.state)]);
    };
    new MutationObserver(() => {
        if (!pending) requestAnimationFrame(look);
        pending = true;
    }).observe(grid, {subtree: true, attributeFilter: ['data-value']});
}"""


#: What stands in the export's chooser, at every change of it.
WATCH_EXPORT = """chooser => {
    const seen = window.saidByExport = [];
    new MutationObserver(() => seen.push(chooser.options[0].text))
        .observe(chooser, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(scope="module", autouse=True)
def room(shared):
    shared.size(height=1200)
    yield
    shared.size()


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        ready.python(IMPORTS)
        yield ready


def says_patched(notebook, cells, tracer="widget.tracer"):
    """Wait until the sentence says what the kernel computes for these cells."""
    says(notebook, notebook.ask(f"{tracer}.patch({states(*cells)}).recovery"))


def test_a_drag_selects_a_rectangle_and_headers_a_row_or_a_column(notebook):
    mouse = notebook.page.mouse
    notebook.cell(3, 2).hover()
    mouse.down()
    notebook.cell(4, 2).hover()
    notebook.cell(4, 4).hover()
    mouse.up()
    block = {(layer, position) for layer in (3, 4) for position in (2, 3, 4)}
    expect(notebook.root.get_by_test_id("sentence")).to_contain_text("these 6 states")
    selects(notebook, block)
    says_patched(notebook, block)

    grid = notebook.root.get_by_role("grid")
    grid.get_by_role("columnheader", name="5", exact=True).click()
    column = {(5, position) for position in range(8)}
    selects(notebook, column)
    says_patched(notebook, column)

    grid.get_by_role("rowheader", name="circle", exact=True).click()
    selects(notebook, {(layer, 5) for layer in range(6)})

    notebook.cell(0, 5).click(modifiers=["Control"])
    notebook.cell(0, 0).click(modifiers=["Control"])
    chosen = {(0, 0), *((layer, 5) for layer in range(1, 6))}
    selects(notebook, chosen)
    notebook.until(lambda: set(map(tuple, notebook.ask("widget.selection"))) == chosen, "the kernel has the set")
    says_patched(notebook, chosen)


def test_the_whole_grid_follows_the_slider(notebook, capsys):
    trace_all(notebook, 48)
    notebook.root.get_by_test_id("show").select_option("score")  # which is defined at every noise
    grid, slider = notebook.root.get_by_role("grid"), notebook.root.get_by_test_id("noise-slider")
    box = slider.bounding_box()
    height = box["y"] + box["height"] / 2
    mouse = notebook.page.mouse
    place = {noise: box["x"] + 7 + (box["width"] - 14) * noise / 10 for noise in (5, 1)}
    mouse.move(place[5], height)
    mouse.down()
    grid.evaluate(WATCH_GRID)
    steps = itertools.cycle([*range(60), *reversed(range(60))])

    def follows():
        """It follows the hand, and does not wait for it to rest."""
        mouse.move(place[5] + (place[1] - place[5]) * next(steps) / 59, height)
        return notebook.page.evaluate("() => window.gridsSeen.length") > 8

    notebook.until(follows, "the grid follows")
    frames = notebook.page.evaluate("() => window.gridsSeen")
    mouse.up()
    left_at = float(slider.input_value())
    notebook.until(lambda: notebook.ask("widget.noise") == left_at, "the kernel has the noise of the slider")
    notebook.python("widget.wait()")
    seconds = (frames[-1][0] - frames[0][0]) / 1000
    with capsys.disabled():
        print(f"\n{(len(frames) - 1) / seconds:.1f} updates of the whole grid a second")
    for _, _, kept in frames:
        assert "empty" not in kept  # nothing flickers
    exact = notebook.ask(f"({FRESH}).trace().scores.tolist()")
    shows(notebook, exact)


def test_a_result_can_be_pinned_and_what_was_asked_taken_back(notebook):
    root = notebook.root
    notebook.cell(5, 5).click()
    expect(root.get_by_test_id("pin")).to_be_visible()
    first = root.get_by_test_id("sentence").text_content()
    root.get_by_test_id("pin").click()
    expect(root.get_by_test_id("pinned")).to_contain_text(first)
    notebook.cell(4, 2).click()
    expect(root.get_by_test_id("bars").get_by_role("columnheader")).to_have_text(
        ["clean", "with noise", "pinned", "patched"]
    )
    expect(root.get_by_test_id("pinned")).to_contain_text(first)
    root.get_by_test_id("noise-number").fill("2")
    root.get_by_test_id("noise-number").press("Enter")
    expect(root.get_by_test_id("noise-slider")).to_have_value("2")

    for noise, cell in (("5", (4, 2)), ("5", (5, 5))):
        root.get_by_test_id("undo").click()
        expect(root.get_by_test_id("noise-slider")).to_have_value(noise)
        expect(notebook.cell(*cell)).to_have_attribute("aria-selected", "true")
    root.get_by_test_id("undo").click()
    expect(root.locator("[aria-selected=true]")).to_have_count(0)
    expect(root.get_by_test_id("undo")).to_have_attribute("aria-disabled", "true")
    for _ in range(3):
        root.get_by_test_id("redo").click()
    expect(root.get_by_test_id("noise-slider")).to_have_value("2")
    expect(root.get_by_test_id("sentence")).to_contain_text("“color”")
    notebook.python("widget.wait()")
    says_patched(notebook, [(4, 2)], FRESH)
    root.get_by_test_id("unpin").click()
    expect(root.get_by_test_id("pinned")).to_have_count(0)


def export(notebook, name):
    notebook.root.get_by_test_id("export").select_option(name)


def saved(notebook, name):
    with notebook.page.expect_download() as waiting:
        export(notebook, name)
    download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def test_everything_can_be_taken_away(notebook):
    notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    trace_all(notebook, 48)
    notebook.cell(5, 5).click()
    notebook.cell(4, 2).click(modifiers=["Control"])
    expect(notebook.root.get_by_test_id("sentence")).to_contain_text("these 2 states")
    notebook.until(lambda: len(notebook.ask("widget.selection")) == 2, "the kernel has the clicks")
    notebook.python("widget.wait()")
    exact = notebook.ask("widget.trace.recovery.tolist()")

    name, content = saved(notebook, "csv")
    assert name == "blip-trace.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert len(rows) == 48
    for row in rows:
        assert float(row["recovery"]) == exact[int(row["layer"])][int(row["position"])]
    name, content = saved(notebook, "json")
    assert json.loads(content)["settings"] == notebook.ask("widget.trace.settings")
    name, content = saved(notebook, "svg")
    drawn = ET.fromstring(content)
    assert name == "blip-trace.svg"
    name, content = saved(notebook, "png")
    assert name == "blip-trace.png"
    size = [2 * round(float(drawn.get(side))) for side in ("width", "height")]
    assert list(Image.open(io.BytesIO(content)).size) == size
    name, content = saved(notebook, "picture")
    assert (name, Image.open(io.BytesIO(content)).format) == ("picture.png", "PNG")

    read = "() => navigator.clipboard.readText()"
    copied = "() => window.saidByExport.splice(0).includes('Copied')"  # for a while alone
    notebook.root.get_by_test_id("export").evaluate(WATCH_EXPORT)
    export(notebook, "python")
    notebook.page.wait_for_function(copied)
    code = notebook.page.evaluate(read)
    notebook.python(f"made = {{}}; exec({code!r}, made); shown = widget.trace")
    assert notebook.ask("abs(made['trace'].samples - shown.samples).max()") < 1e-6  # the cell clicked came alone
    assert notebook.ask("made['effect'].recovery") == pytest.approx(notebook.ask("widget.detail['recovery']"), abs=1e-6)
    expect(notebook.root.get_by_test_id("export").locator("option").first).to_have_text("Export")
    notebook.cell(5, 5).focus()
    notebook.page.keyboard.press("Control+c")
    notebook.page.wait_for_function(copied)
    table = list(csv.DictReader(io.StringIO(notebook.page.evaluate(read)), delimiter="\t"))
    assert {(int(row["layer"]), int(row["position"])) for row in table} == {(5, 5), (4, 2)}


def test_rows_and_columns_change_places_and_the_scale_can_be_kept(notebook):
    root = notebook.root
    trace_all(notebook, 48)
    before = values(notebook)
    root.get_by_test_id("more").click()
    root.get_by_test_id("axes").select_option("layers")
    expect(root.get_by_role("grid").get_by_role("rowheader")).to_have_text(["0", "1", "2", "3", "4", "5"])
    notebook.until(lambda: values(notebook) == before, "the same values")
    notebook.cell(2, 5).click()
    expect(root.get_by_test_id("sentence")).to_contain_text("layer 2 at “circle”")
    notebook.page.keyboard.press("ArrowRight")
    expect(notebook.cell(2, 6)).to_be_focused()
    limits = root.get_by_test_id("limits")
    shown = limits.text_content()
    root.get_by_test_id("fix-scale").click()
    kept = root.get_by_test_id("limit").input_value()
    assert float(kept) == float(shown.split("…")[1])
    notebook.python("widget.noise = 1.0; widget.wait()")
    expect(root.get_by_test_id("noise-slider")).to_have_value("1")
    expect(root.get_by_test_id("limit")).to_have_value(kept)
    root.get_by_test_id("fix-scale").click()
    expect(root.get_by_test_id("limit")).to_have_count(0)


def test_other_ways_to_damage_the_input(notebook, tmp_path):
    root = notebook.root
    root.get_by_test_id("more").click()
    root.get_by_test_id("corruption").select_option("QuestionSwap")
    expect(root.get_by_test_id("gate")).to_contain_text("the swap did not break the answer")
    root.get_by_test_id("other-question").fill("what color is the square?")
    root.get_by_test_id("other-question").press("Enter")
    expect(root.get_by_test_id("gate")).to_contain_text("enough to trace")
    expect(root.get_by_test_id("noisy-answer")).to_contain_text("blue")
    notebook.cell(5, 5).click()
    expect(root.get_by_test_id("sentence")).to_contain_text("of what the swap took")
    says_patched(notebook, [(5, 5)])

    root.get_by_test_id("corruption").select_option("ImageSwap")
    with notebook.page.expect_file_chooser() as waiting:
        root.get_by_test_id("choose-other-picture").click(force=True)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    notebook.python("from blip_trace_widget.pictures import as_image")
    waiting.value.set_files(tmp_path / "white.png")
    notebook.until(
        lambda: notebook.ask("as_image(widget.other_picture).getpixel((0, 0))") == [255, 255, 255],
        "the kernel has the picture",
    )
    notebook.python("widget.wait()")
    assert notebook.ask("widget.error") == ""

    root.get_by_test_id("corruption").select_option("GaussianNoise")
    root.get_by_test_id("at").select_option("patch_embeddings")
    tab = root.get_by_test_id("block-image_encoder")
    expect(tab).to_have_attribute("aria-disabled", "false")
    tab.click()
    rows = root.get_by_role("grid").get_by_role("rowheader")
    expect(rows).to_have_count(65)
    notebook.cell(1, 3).click()
    expect(notebook.cell(1, 3)).to_have_attribute("data-state", "value")
    exact = notebook.ask("widget.tracer.patch(State('image_encoder', 1, 3)).recovery")
    assert values(notebook)[1, 3] == pytest.approx(exact, abs=SHOWN)
    root.get_by_test_id("at").select_option("image_embeddings")
    expect(root.get_by_test_id("block-question_encoder")).to_have_attribute("aria-checked", "true")
    expect(rows).to_have_count(8)
