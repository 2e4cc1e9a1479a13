"""Checking the numbers on show: asked for by message, told below the grid, kept in settings, and never out of date."""

import dataclasses

import numpy as np
import pytest

from blip_trace_widget import TraceWidget, load_trace
from blip_trace_widget.display.notes import ROUNDING_MATTERS, verified_note

CHECKED = "Checked: 10 runs computed again by plain hooks"


def verify(session, request=7):
    session.verify(request)
    assert session.wait(60)


def test_what_is_on_show_is_checked_and_told_below_the_grid(session, screen):
    with pytest.raises(ValueError, match="trace it first"):
        session.verify(7)
    session.trace_all()
    assert session.wait(30)
    assert screen.state["grid"]["notes"] == []
    verify(session)
    [note] = screen.state["grid"]["notes"]
    assert note.startswith(CHECKED)
    assert "rounding (float32 against float64)" in note
    counts = [(said["done"], said["total"]) for said in screen.said("progress") if said["id"] == 7]
    assert counts == [(done, 20) for done in range(1, 21)]
    assert [said["stopped"] for said in screen.said("done") if said["id"] == 7] == [False]
    kept = session.trace.settings["verified"]
    assert kept["agrees"]
    assert kept["difference"] < 1e-4
    values = np.frombuffer(screen.state["grid"]["values"], "<f4")
    assert np.isfinite(values.reshape(6, -1)[0]).all()

    session.change(site="mlp")  # of another grid nothing was checked
    assert session.wait(30)
    assert screen.state["grid"]["notes"] == []
    session.change(site="block_output")
    assert session.wait(30)
    assert screen.state["grid"]["notes"] == [note]
    session.change(noise=3.0)
    session.trace_all()
    assert session.wait(30)
    assert screen.state["grid"]["notes"] == []
    assert "verified" not in session.trace.settings


def test_other_cells_each_time_and_it_can_be_stopped(session, screen):
    session.trace_all()
    assert session.wait(30)
    verify(session, 1)
    verify(session, 2)
    assert session.trace.settings["verified"]["seed"] == 1
    session.verify(3)
    session.stop()
    assert session.wait(30)
    assert session.trace.settings["verified"]["seed"] == 1
    said = screen.said("done")[-1]
    assert (said["id"], said["stopped"]) in [(3, True), (2, False)]  # dropped before it began, or on its way


def test_a_wrong_number_on_show_is_found(session, screen):
    session.trace_all()
    assert session.wait(30)
    right = session.trace
    wrong = session.tracer.case
    wrong.clean_run.keep(right.snapshot and _raised(session.tracer.clean))
    verify(session)
    [note] = screen.state["grid"]["notes"]
    assert note.startswith("Not confirmed")
    assert session.trace.settings["verified"]["agrees"] is False


def _raised(run):
    return dataclasses.replace(run, score=run.score + 0.01)


def test_it_is_in_files_figures_and_recordings(tracer, tmp_path):
    widget = TraceWidget.from_tracer(tracer.with_corruption(samples=3))
    widget.trace_all()
    widget.wait(30)
    widget.verify()
    widget.wait(60)
    [note] = widget.grid["notes"]
    widget.export(tmp_path / "figure.svg")
    assert CHECKED.split(":", maxsplit=1)[0] in (tmp_path / "figure.svg").read_text()
    widget.trace.save(tmp_path / "trace")
    widget.close()
    shown = TraceWidget.from_trace(load_trace(tmp_path / "trace"))
    assert shown.grid["notes"] == [note]
    with pytest.raises(ValueError, match="recording"):
        shown.verify()
    shown.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, f"{CHECKED} differ by at most 2e-6; rounding (float32 against float64) is 1e-6"),
        ({"coarse": 3}, "is 1e-6, a tenth or more of the score or of its error in 3 of them"),
        ({"exact_dtype": None, "rounding": None}, f"{CHECKED} differ by at most 2e-6"),
        ({"exact_dtype": None}, f"{CHECKED} differ by at most 2e-6; rounding (float32) is 1e-6"),
        ({"agrees": False, "difference": 0.25}, "differ by up to 2e-1 in 10 runs, more than rounding explains"),
        ({"difference": 0.0}, "differ by at most 0;"),
        ({"difference": None}, "differ by at most no number"),
    ],
)
def test_the_words(changes, text):
    found = {"runs": 10, "agrees": True, "dtype": "float32", "difference": 2.1e-6, "exact_dtype": "float64"}
    assert text in verified_note({**found, "rounding": 1.2e-6, "coarse": 0, **changes})


def test_where_rounding_matters_the_sentence_says_so(session, screen):
    session.trace_all()
    session.change(selection=[(5, 3)])
    assert session.wait(30)
    verify(session)
    assert screen.state["detail"]["error"] == ""
    found = session.tracer.case.verification.known
    rough = dataclasses.replace(found, hooked=found.exact * 1.2, scores=found.exact * 1.2)
    assert rough.coarse.all()
    session.tracer.case.verification.keep(rough)
    session.change(selection=[(5, 4)])
    assert session.wait(30)
    assert screen.state["detail"]["error"] == ROUNDING_MATTERS
    session.change(site="mlp", selection=[(5, 4)])  # of which nothing was checked
    assert session.wait(30)
    assert screen.state["detail"]["error"] == ""
