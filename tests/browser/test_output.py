"""What users' functions print and raise when a hand on the page has changed something, in a real JupyterLab."""

import pytest
from playwright.sync_api import expect

from helpers.lab_widget import new_widget

CELLS = (
    """
import ipywidgets
from IPython.display import display
from blip_trace_widget import TraceWidget
widget = TraceWidget()
out = ipywidgets.Output()
out.add_class("taken")
display(widget, out)""",
    """
def within(change):
    with out:
        print("within", change["new"]["damage"])
def careless(change):
    raise ZeroDivisionError("mine")
widget.observe(within, "runs")
widget.observe(lambda change: print("printed", change["new"]["damage"]), "runs")
widget.observe(careless, "detail")""",
    "'a later cell'",
)


@pytest.fixture
def notebook(shared):
    with new_widget(shared, *CELLS) as ready:
        yield ready
        ready.python("out.close()")


def test_output_of_observers_is_seen_where_they_were_registered(notebook):
    page, root = notebook.page, notebook.root
    number = root.get_by_test_id("noise-number")
    expect(number).to_have_value("5.0")
    number.fill("3")
    number.press("Enter")
    second = page.locator(".jp-Notebook-cell").nth(1)
    expect(page.locator(".taken")).to_contain_text("within ν 3.0")
    expect(second).to_contain_text("printed ν 3.0")
    notebook.cell(5, 5).click()
    expect(second).to_contain_text("ZeroDivisionError: mine")
    expect(root.get_by_role("alert")).to_contain_text("careless, a function of your own")
    expect(page.locator(".jp-Notebook-cell").nth(2)).not_to_contain_text("printed")
    notebook.until(lambda: notebook.ask("len(widget.detail)") > 0, "it goes on")
    number.fill("2")
    number.press("Enter")
    expect(page.locator(".taken")).to_contain_text("within ν 2.0")
