"""Firefox: a saved page and a notebook in JupyterLab, by mouse, keys and wheel. All else is tested in Chromium alone.

Playwright drives a Firefox of its own making alone; puppeteer drives any over WebDriver BiDi, and js/ has Node.
"""

import json

import nbformat
import pytest

from helpers.node import node

#: The same example as in the page.
CELL = """
from blip_trace_widget import TraceWidget, examples
example = next(each for each in examples() if each.name == "red-circle")
widget = TraceWidget(example.image, example.question)
widget
"""


@pytest.fixture(scope="module")
def seen(js, firefox, lab, filled_widget, tmp_path_factory):
    """What was seen in the page and in the notebook, in one session."""
    page = tmp_path_factory.mktemp("firefox") / "page.html"
    filled_widget.save_html(page)
    address, folder = lab
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    # Something to scroll to.
    cells = [nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("print('\\n' * 50)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "firefox.ipynb")
    notebook = f"{address}/lab/tree/firefox.ipynb?reset&token=browser-tests"
    said = node(js, "test/firefox.mjs", firefox, page.as_uri(), notebook)
    return dict(zip(("page", "notebook"), json.loads(said), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("host", ["page", "notebook"])
def test_a_cell_is_chosen_by_mouse_and_by_keys(seen, host, tracer):
    recovery = tracer.trace().recovery
    assert seen[host]["values"] == pytest.approx([recovery[5, 5], recovery[4, 5]], abs=1e-3)
    assert seen[host]["tip"].startswith("layer 5 · “circle”")
    assert seen[host]["errors"] == []


@pytest.mark.slow
@pytest.mark.parametrize("host", ["page", "notebook"])
def test_the_wheel_scrolls_the_page(seen, host):
    assert seen[host]["dead"] == []


@pytest.mark.slow
def test_the_kernel_has_what_the_hand_did(seen):
    noise, selection = seen["notebook"]["kernel"]
    assert noise == seen["notebook"]["noise"]
    assert noise > 5.1
    assert selection == [[4, 5]]
