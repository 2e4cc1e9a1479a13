"""Paths walked back on a known circuit in a real JupyterLab, by mouse and by keys, and seen again in a saved page."""

import numpy as np
import pytest
from playwright.sync_api import expect

from helpers.lab_widget import BEYOND, CUT, IMPORTS, SCREENSHOTS, has_nothing, new_widget, shows

CELL = "from blip_trace_widget import TraceWidget\nwidget = TraceWidget(model='known circuit: chain')\nwidget"
HEAD = "State('answer_decoder', 1, 0, 'cross_attention_out', 0)"
CLS = "State('question_encoder', 2, 0, 'self_attention_out', 1)"
WORD = "State('question_encoder', 1, 6)"


@pytest.fixture
def notebook(shared):
    """The shared notebook with a new widget of a known circuit in it."""
    with new_widget(shared, CELL) as ready:
        ready.python(IMPORTS)
        yield ready
        ready.size()
        ready.dark(False)


def shows_paths(notebook, *asked):
    """Wait until the grid has the numbers of `Tracer.trace_paths`."""
    shows(notebook, notebook.ask(f"widget.tracer.trace_paths({', '.join(asked)}).recovery.tolist()"))


def crumbs(notebook, *names):
    expect(notebook.root.get_by_test_id("receiver")).to_have_text(list(names))


def one_head(notebook, site, head):
    """Look at a single head of an attention."""
    notebook.root.get_by_test_id("site").select_option(site)
    notebook.root.get_by_test_id("head").select_option(str(head))


def pictured(notebook, root):
    """Of the map over the picture: where it is strongest."""
    expect(root.get_by_test_id("overlay-progress")).to_contain_text("9 of 9")
    values = notebook.ask("__import__('numpy').frombuffer(widget.picture_map['values'], '<f4').tolist()")
    return np.array(values).reshape(3, 9)[0]


def test_from_the_answer_to_the_picture_by_mouse(notebook, tmp_path):
    root = notebook.root
    root.get_by_test_id("more").click()
    root.get_by_test_id("paths-answer").click()
    expect(root.get_by_test_id("block-answer_decoder")).to_have_attribute("aria-checked", "true")
    shows_paths(notebook, "'answer'", "'answer_decoder'")
    one_head(notebook, "cross_attention_out", 0)
    shows_paths(notebook, "'answer'", "'answer_decoder'", "'cross_attention_out'", "head=0")
    notebook.cell(1, 0).click()
    sentence = root.get_by_test_id("sentence")
    expect(sentence).to_contain_text("sends 100 % of what the noise took directly to the answer")
    root.get_by_test_id("paths").click()
    crumbs(notebook, "answer", "answer decoder layer 1 (cross-attention head 0) at “[DEC]”")
    shows_paths(notebook, HEAD)

    notebook.cell(3, 0).click()
    expect(sentence).to_contain_text("sends 100 % of what the noise took directly to answer decoder layer 1")
    notebook.cell(3, 0).click()
    expect(root.get_by_test_id("share")).to_contain_text(": 100 %")
    expect(root.get_by_test_id("arrow")).to_have_attribute("data-lines", "0")  # it leads out of this grid
    one_head(notebook, "self_attention_out", 1)
    shows_paths(notebook, HEAD, "site='self_attention_out'", "head=1")
    notebook.cell(2, 0).click()
    root.get_by_test_id("paths").click()
    shows_paths(notebook, CLS)
    notebook.cell(1, 6).click()
    expect(sentence).to_contain_text("layer 1 at “left” sends 100 %")
    notebook.cell(1, 6).click()
    expect(root.get_by_test_id("arrow")).to_have_attribute("data-lines", "1")
    has_nothing(root, CUT, BEYOND)
    SCREENSHOTS.mkdir(exist_ok=True)
    root.get_by_test_id("more").click()
    for dark in (False, True):
        notebook.dark(dark)
        root.screenshot(path=SCREENSHOTS / f"paths-{'dark' if dark else 'light'}.png")
    notebook.dark(False)
    notebook.size(480)
    has_nothing(root, BEYOND)
    root.screenshot(path=SCREENSHOTS / "paths-narrow.png")
    notebook.size()

    root.get_by_test_id("paths").click()
    shows_paths(notebook, WORD)
    root.get_by_test_id("from-picture").click()
    found = pictured(notebook, root)
    exact = notebook.ask(
        f"widget.tracer.trace_image_paths({WORD}, through='cross_attention_out').recovery.ravel().tolist()"
    )
    np.testing.assert_allclose(found, exact, atol=1e-6)
    assert found.argmax() == 3
    root.screenshot(path=SCREENSHOTS / "paths-picture.png")

    notebook.python(f"widget.save_html({str(tmp_path / 'page.html')!r})")
    page = notebook.page.context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.get_by_test_id("receiver")).to_have_count(4)
    page.get_by_test_id("receiver").nth(2).click()  # that grid is in the page too
    expect(page.get_by_test_id("receiver")).to_have_count(3)
    expect(page.locator("[data-layer='1'][data-position='6']")).to_have_attribute("data-value", "1")
    page.close()
    root.get_by_test_id("receiver").first.click()
    crumbs(notebook, "answer")
    shows_paths(notebook, "'answer'", "'answer_decoder'", "'cross_attention_out'", "head=0")
    root.get_by_test_id("leave-paths").click()
    crumbs(notebook)
    notebook.until(lambda: notebook.ask("widget.receivers") is None, "no paths any more")


def test_from_the_answer_to_the_picture_by_keys(notebook):
    root, keys = notebook.root, notebook.page.keyboard
    notebook.cell(0, 0).focus()
    keys.press("p")
    shows_paths(notebook, "'answer'", "'answer_decoder'")
    expect(notebook.cell(0, 0)).to_be_focused()
    root.get_by_test_id("more").focus()
    keys.press("Enter")
    one_head(notebook, "cross_attention_out", 0)
    shows_paths(notebook, "'answer'", "'answer_decoder'", "'cross_attention_out'", "head=0")
    notebook.cell(0, 0).focus()
    keys.press("ArrowRight")
    expect(notebook.cell(1, 0)).to_be_focused()
    keys.press("Enter")
    expect(root.get_by_test_id("sentence")).to_contain_text("sends 100 %")
    keys.press("p")
    shows_paths(notebook, HEAD)
    notebook.until(lambda: root.evaluate("r => r.contains(document.activeElement)"), "the keys stay in the grid")
    notebook.cell(1, 6).focus()
    keys.press("Enter")
    keys.press("p")
    shows_paths(notebook, WORD)
    crumbs(notebook, "answer", "answer decoder layer 1 (cross-attention head 0) at “[DEC]”", "layer 1 at “left”")
    notebook.cell(0, 6).focus()
    keys.press("Enter")
    expect(root.get_by_test_id("sentence")).to_contain_text("directly to layer 1 at “left”")
    keys.press("Enter")
    expect(root.get_by_test_id("arrow")).to_have_attribute("data-lines", "1")
    root.get_by_test_id("from-picture").focus()
    keys.press("Space")
    assert pictured(notebook, root).argmax() == 3
    notebook.cell(0, 6).focus()
    for left in (2, 1):
        keys.press("Escape")
        expect(root.get_by_test_id("receiver")).to_have_count(left)
    expect(notebook.cell(1, 0)).to_have_attribute("aria-selected", "true")
    keys.press("Escape")
    expect(root.get_by_test_id("receiver")).to_have_count(0)
    root.get_by_test_id("more").click()
