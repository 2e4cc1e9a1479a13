"""What a hand can do on the picture, in a real JupyterLab: marking, damaging a part, overlays, pointing."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from helpers.lab_widget import IMPORTS, new_widget

#: The picture's patches of the built-in model.
SIDE = 8


@pytest.fixture(scope="module", autouse=True)
def room(shared):
    shared.size(height=1200)
    yield
    shared.size()


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget in it, whose two runs are computed."""
    with new_widget(shared) as ready:
        ready.python(f"{IMPORTS}\nimport numpy as np")
        yield ready


def middle(notebook, row, column):
    """Where a patch is in the page."""
    box = notebook.root.get_by_test_id("patches").bounding_box()
    return box["x"] + box["width"] * (column + 0.5) / SIDE, box["y"] + box["height"] * (row + 0.5) / SIDE


def drag(notebook, start, end=None, key=None):
    mouse, keyboard = notebook.page.mouse, notebook.page.keyboard
    if key:
        keyboard.down(key)
    mouse.move(*middle(notebook, *start))
    mouse.down()
    if end:
        mouse.move(*middle(notebook, *end), steps=3)
    mouse.up()
    if key:
        keyboard.up(key)


def marked(notebook, expected):
    """Wait until the kernel has these patches, and computed them."""
    what = sorted(map(list, expected))
    notebook.until(lambda: sorted(notebook.ask("[list(place) for place in widget.patches]")) == what, f"{what}")
    notebook.python("widget.wait()")


def block(rows, columns):
    return [(row, column) for row in rows for column in columns]


def share(text):
    """The first percentage in a text, as a number; NaN where there is none."""
    found = re.search(r"(−?[\d.]+) %", text)
    return float(found.group(1).replace("−", "-")) / 100 if found else np.nan


def is_said(notebook, value):
    """Wait until the sentence says this recovery, in the widget's rounding."""
    sentence = notebook.root.get_by_test_id("sentence")
    expect(sentence).to_contain_text(re.compile(r"of the picture .* \d+ %"))
    notebook.until(lambda: abs(abs(share(sentence.text_content())) - abs(value)) < 0.011, f"{value} is said")


def map_shown(notebook):
    """What the canvas over the picture holds: the strength of each pixel's colour, from 0 to 1."""
    drawn = notebook.root.get_by_test_id("picture-map").evaluate(
        """canvas => [canvas.width, canvas.height,
            [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]]"""
    )
    width, height, data = drawn
    return np.array(data).reshape(height, width, 4)[..., 3] / 255


def is_drawn(notebook, strengths):
    """Whether the canvas holds these strengths, (rows, columns)."""
    shown = map_shown(notebook)
    return shown.shape == strengths.shape and np.allclose(shown, strengths, atol=0.01)


def test_click_drag_and_shift_mark_patches_which_are_patched_together(notebook):
    sentence = notebook.root.get_by_test_id("sentence")
    drag(notebook, (3, 2))
    marked(notebook, [(3, 2)])
    expect(sentence).to_contain_text("patch 3,2 of the picture")
    is_said(notebook, notebook.ask("widget.tracer.patch_image_tokens([1 + 3 * 8 + 2]).recovery"))

    drag(notebook, (1, 1), (3, 4))
    marked(notebook, block((1, 2, 3), (1, 2, 3, 4)))
    expect(sentence).to_contain_text("these 12 patches of the picture")
    tokens = [1 + 8 * row + column for row, column in block((1, 2, 3), (1, 2, 3, 4))]
    is_said(notebook, notebook.ask(f"widget.tracer.patch_image_tokens({tokens}).recovery"))

    drag(notebook, (6, 6), key="Shift")
    marked(notebook, [*block((1, 2, 3), (1, 2, 3, 4)), (6, 6)])
    drag(notebook, (1, 1), key="Shift")
    expected = [place for place in [*block((1, 2, 3), (1, 2, 3, 4)), (6, 6)] if place != (1, 1)]
    marked(notebook, expected)
    notebook.page.keyboard.press("Escape")
    marked(notebook, [])
    notebook.cell(5, 5).click()  # a cell lets patches go, and they let it go
    drag(notebook, (0, 0))
    marked(notebook, [(0, 0)])
    expect(notebook.root.locator("[aria-selected=true]")).to_have_count(0)


def test_patches_can_be_marked_with_the_keyboard(notebook):
    page = notebook.page
    notebook.root.get_by_test_id("choose-picture").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(notebook.root.get_by_test_id("patches")).to_be_focused()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    marked(notebook, [(2, 1)])
    for key in ("Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    marked(notebook, block((2, 3), (1, 2)))
    expect(notebook.root.get_by_test_id("patches")).to_have_attribute("aria-label", "patch 3,2")


def test_the_damage_is_kept_to_what_is_marked_or_away_from_it(notebook):
    root = notebook.root
    drag(notebook, (1, 1), (3, 3))
    marked(notebook, block((1, 2, 3), (1, 2, 3)))
    mask = "np.pad(np.ones((3, 3), bool), ((1, 4), (1, 4)))"
    for name, region in (("marked", mask), ("others", f"~{mask}")):
        root.get_by_test_id(f"damage-{name}").click()
        notebook.until(lambda region=region: notebook.ask(f"np.array_equal(widget.region, {region})"), "a region")
        notebook.python("widget.wait()")
        exact = notebook.ask(
            f"Tracer(widget.tracer.model, widget.tracer.image, widget.question, "
            f"corruption=GaussianNoise(region={region})).corrupted.score"
        )
        text = root.get_by_test_id("corrupted-score")
        notebook.until(lambda text=text, exact=exact: abs(share(text.text_content()) - exact) < 0.006, "score")
        hit = notebook.ask(f"int(({region}).sum())")
        expect(root.locator(".bt-hit")).to_have_count(hit)
        expect(root.get_by_text(f"{hit} of 64 patches")).to_be_visible()
    root.get_by_test_id("damage-all").click()
    expect(root.locator(".bt-hit")).to_have_count(0)
    notebook.until(lambda: notebook.ask("widget.region") is None, "everywhere")
    notebook.python(f"widget.region = {mask}")  # and from Python
    expect(root.locator(".bt-hit")).to_have_count(9)


def test_the_map_of_image_tokens_lies_over_the_picture(notebook):
    root = notebook.root
    notebook.python("widget.noise = 2.0")
    for direction in ("disrupt", "restore"):
        root.get_by_test_id("overlay").select_option(f"map_{direction}")
        expect(root.get_by_test_id("overlay-progress")).to_have_text("64 of 64")
        notebook.until(lambda d=direction: notebook.ask("widget.overlay") == f"map_{d}", "the overlay")
        notebook.python("widget.wait()")
        exact = np.array(notebook.ask(f"widget.tracer.trace_image_tokens(1, '{direction}').recovery.tolist()"))
        limit = notebook.ask("widget.picture_map['limit']")
        strengths = np.minimum(1, np.abs(exact) / limit)
        notebook.until(lambda s=strengths: is_drawn(notebook, s), "the map is drawn")
        notebook.page.mouse.move(*middle(notebook, 2, 5))
        text = root.get_by_test_id("overlay-text")
        expect(text).to_contain_text("Patch 2,5: ")
        close = pytest.approx(exact[2, 5], abs=0.01)
        notebook.until(lambda c=close, t=text: share(t.text_content()) == c, "the patch's value is said")
        notebook.page.mouse.move(*middle(notebook, -2, 5))
    expect(root.get_by_test_id("overlay-text")).to_contain_text("no better than chance")

    side = root.get_by_test_id("square")
    side.fill("4")
    side.press("Enter")
    expect(root.get_by_test_id("overlay-progress")).to_have_text("4 of 4")
    notebook.until(lambda: map_shown(notebook).shape == (2, 2), "squares of four patches each way")
    opacity = root.get_by_test_id("opacity")
    opacity.fill("0.3")
    expect(root.get_by_test_id("picture-map")).to_have_css("opacity", "0.3")
    root.get_by_test_id("overlay").select_option("strength")
    notebook.until(lambda: notebook.ask("widget.overlay") == "strength", "the overlay")
    notebook.python("widget.wait()")
    exact = np.array(notebook.ask("widget.tracer.corruption_strength().tolist()"))
    strengths = exact / notebook.ask("widget.picture_map['limit']")
    notebook.until(lambda: is_drawn(notebook, strengths), "the strength is drawn")
    root.get_by_test_id("overlay").select_option("none")
    expect(root.get_by_test_id("picture-map")).to_have_count(0)


def test_attention_follows_the_selection_and_the_pointer(notebook):
    root = notebook.root

    def is_where_it_looks(layer, position, run="clean"):
        exact = np.array(
            notebook.ask(f"widget.tracer.attention('question_encoder', {layer}).image({position}, '{run}').tolist()")
        )
        limit = np.abs(exact).max()

        def fits():
            shown = map_shown(notebook)
            drawn = shown.shape == exact.shape and shown.max() > 0
            return drawn and np.abs(shown / shown.max() - np.abs(exact) / limit).max() < 0.02

        notebook.until(fits, f"attention of layer {layer}, position {position}")

    root.get_by_test_id("overlay").select_option("attention_clean")
    expect(root.get_by_test_id("overlay-text")).to_contain_text("Select a cell")
    for layer, position in ((3, 5), (5, 2)):
        notebook.cell(layer, position).click()
        notebook.page.mouse.move(5, 5)
        expect(root.get_by_test_id("overlay-text")).to_contain_text(f"in layer {layer} (clean run)")
        is_where_it_looks(layer, position)
    root.get_by_test_id("overlay").select_option("attention_difference")
    expect(root.get_by_test_id("overlay-text")).to_contain_text("noisy minus clean")
    is_where_it_looks(5, 2, "difference")

    root.get_by_test_id("overlay").select_option("none")
    root.get_by_test_id("site").select_option("cross_attention")
    notebook.until(lambda: notebook.ask("widget.site") == "cross_attention", "the site")
    notebook.python("widget.wait()")
    notebook.cell(2, 6).hover()
    expect(root.get_by_test_id("overlay-text")).to_have_text("Where “?” looks in layer 2")
    is_where_it_looks(2, 6)
    notebook.page.mouse.move(*middle(notebook, 2, 2))
    expect(root.get_by_test_id("picture-map")).to_have_count(0)
    headers = root.locator(".bt-token[role=rowheader]")
    exact = np.array(notebook.ask("widget.tracer.attention('question_encoder', 5).clean[:, 1 + 2 * 8 + 2].tolist()"))

    def shown():
        looks = headers.evaluate_all("all => all.map(e => e.style.getPropertyValue('--bt-attention'))")
        return np.array([float(each or 0) for each in looks])

    # The layer is the selected one's.
    notebook.until(lambda: np.abs(shown() - exact / exact.max()).max() < 1e-3, "who looks there")


def test_with_noise_before_the_vit_a_patch_is_its_state_in_the_selected_layer(notebook):
    root = notebook.root
    notebook.python("widget.at = 'patch_embeddings'; widget.samples = 3; widget.wait()")
    root.get_by_test_id("block-image_encoder").click()
    notebook.python("widget.wait()")
    drag(notebook, (2, 2))
    notebook.until(lambda: notebook.ask("[list(c) for c in widget.selection]") == [[5, 1 + 2 * 8 + 2]], "the state")
    notebook.cell(1, 4).click()
    drag(notebook, (2, 2), (2, 3))
    cells = [[1, 1 + 2 * 8 + 2], [1, 1 + 2 * 8 + 3]]
    notebook.until(lambda: notebook.ask("[list(c) for c in widget.selection]") == cells, "the selected layer's")
    notebook.python("widget.wait()")
    exact = notebook.ask(
        "widget.tracer.patch([State('image_encoder', 1, 19), State('image_encoder', 1, 20)]).indirect_effect"
    )
    assert notebook.ask("widget.detail['indirect_effect']") == pytest.approx(exact, abs=1e-5)
    expect(root.get_by_test_id("sentence")).to_contain_text("these 2 states")


def test_a_saved_figure_shows_overlay_and_marks_without_a_kernel(notebook):
    root = notebook.root
    notebook.python("widget.overlay = 'map_disrupt'; widget.region = np.eye(8, dtype=bool); widget.wait()")
    drag(notebook, (1, 1), (2, 2))
    marked(notebook, block((1, 2), (1, 2)))
    notebook.until(lambda: map_shown(notebook).max() > 0, "the map is drawn")
    notebook.python("widget.wait(); saved = widget.get_state()")
    assert notebook.ask("saved['overlay']") == "map_disrupt"
    assert notebook.ask("sum(map(sum, saved['region']))") == 8
    assert notebook.ask("len(saved['patches'])") == 4
    assert notebook.ask("np.frombuffer(saved['picture_map']['values'], '<f4').size") == 3 * 64
    notebook.command("docmanager:save")
    expect(root.locator(".bt-hit")).to_have_count(8)
