"""A data set's averages in its widget: on a worker, never in a handler, and the later choice holds."""

import shutil
import threading

import numpy as np
import pytest

from blip_trace_widget import DatasetTrace, TraceWidget, word_roles
from blip_trace_widget.display.protocol import CELL_FIELDS
from blip_trace_widget.widget.dataset import AVERAGE


class Roles:
    """`word_roles`, noting on which thread, and held up while the gate is closed."""

    def __init__(self):
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def __call__(self, tokens):
        assert self.gate.wait(30)
        self.threads.add(threading.get_ident())
        if self.broken:
            raise ValueError("roles: there are none today")
        return word_roles(tokens)


@pytest.fixture
def roles():
    return Roles()


@pytest.fixture
def widget(dataset, roles):
    shown = TraceWidget.from_dataset(dataset, align=roles)
    roles.threads.clear()
    yield shown
    roles.gate.set()
    shown.close()


def recovery(widget):
    grid = widget.grid
    values = np.frombuffer(grid["values"], "<f4").reshape(len(CELL_FIELDS), grid["layers"], len(grid["tokens"]))
    return values[CELL_FIELDS.index("recovery")]


def test_no_handler_averages_and_the_result_is_that_of_mean(widget, dataset, roles):
    roles.gate.clear()
    before = recovery(widget)
    widget.set_state({"group": "number"})  # as the front end does
    assert widget.listing["found"] == 50  # the list needs no average
    assert widget.interval == "averaging number …"
    np.testing.assert_array_equal(recovery(widget), before)
    roles.gate.set()
    widget.wait(30)
    assert threading.get_ident() not in roles.threads
    assert roles.threads
    assert widget.interval == ""
    np.testing.assert_allclose(recovery(widget), dataset.mean(word_roles, group="number").recovery, atol=1e-6)
    roles.threads.clear()
    widget.group = ""
    np.testing.assert_array_equal(recovery(widget), before)  # known: at once
    assert not roles.threads


@pytest.mark.parametrize("later", ["location", "", "a sample"])
def test_the_later_choice_holds(widget, dataset, roles, later):
    roles.gate.clear()
    widget.group = "number"
    if later == "a sample":
        number = int(dataset.traced["sample"].iloc[3])
        widget.chosen = number
        assert widget.question == dataset.samples["question"].iloc[number]  # at once
    else:
        widget.group = later
    roles.gate.set()
    widget.wait(30)
    assert widget.error == ""
    if later == "a sample":
        assert widget.chosen == number
        assert widget.question == dataset.samples["question"].iloc[number]
        assert widget.group == "number"
        widget.chosen = AVERAGE
        widget.wait(30)
        assert widget.mean.settings["group"] == "number"
    else:
        assert widget.group == later
        assert widget.mean.settings["group"] == (later or None)


def test_what_cannot_be_averaged_is_told_and_taken_back(widget, roles):
    before = recovery(widget)
    roles.broken = True
    widget.group = "color"
    widget.wait(30)
    assert "none today" in widget.error
    assert (widget.group, widget.chosen, widget.interval) == ("", AVERAGE, "")
    assert widget.listing["found"] == 200
    np.testing.assert_array_equal(recovery(widget), before)


def test_a_cell_chosen_meanwhile_hides_not_what_is_done(widget, roles):
    roles.gate.clear()
    widget.group = "color"
    widget.selection = [(2, 1)]
    assert widget.interval == "averaging color …"
    with pytest.raises(TimeoutError, match=r"still computing after 0\.01 s"):
        widget.wait(0.01)
    roles.gate.set()
    widget.wait(30)
    assert widget.group == "color"


def test_a_closed_widget_shows_nothing_more(dataset, roles):
    shown = TraceWidget.from_dataset(dataset, align=roles)
    roles.gate.clear()
    shown.group = "color"
    shown.close()
    roles.gate.set()
    with pytest.raises(RuntimeError, match="was closed"):
        shown.wait(1)


def test_a_group_needs_no_file_and_a_page_of_the_list_only_its_own(dataset, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(dataset.folder, folder)
    found = DatasetTrace.load(folder)
    widget = TraceWidget.from_dataset(found, align="ends")
    wanted = {int(row["number"]) // found.settings["batch_size"] for row in widget.listing["rows"]}
    one = int(found.traced.query("group == 'color'")["sample"].iloc[0]) // found.settings["batch_size"]
    for path in (folder / "samples").glob("*.parquet"):
        if int(path.stem[-6:]) not in wanted | {one}:
            path.unlink()
    for path in (folder / "cells").glob("*.parquet"):
        if int(path.stem[-6:]) != one:
            path.unlink()
    widget.find = "no such text"
    widget.find = ""
    expected = dataset.mean("ends", group="color")
    again = found.mean("ends", group="color")
    np.testing.assert_array_equal(again.recovery, expected.recovery)
    widget.close()
