"""The map of heads: filled when asked, equal to the tracer's, and of what is in view."""

import numpy as np
import pytest

from blip_trace_widget import Tracer
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.tracing.runs import Runner
from blip_trace_widget.widget.grid_store import GridStore
from helpers.screen import session_of
from helpers.widgets import compute_no_more


def fill(session):
    with session.lock:
        session.heads.fill()
    assert session.wait(60)


def test_it_is_the_tracers_and_leaves_each_heads_grid(session, screen, monkeypatch):
    session.change(**GridSpec(site="cross_attention")._asdict())
    assert session.wait(30)
    assert screen.state["heads"] == {}
    assert np.isnan(session.heads.trace.recovery).all()
    fill(session)
    assert screen.state["heads"] == {"done": 192, "total": 192}
    exact = session.tracer.trace("question_encoder", "cross_attention", head="all")
    np.testing.assert_allclose(session.heads.trace.recovery, exact.recovery, atol=1e-5)
    assert session.heads.trace.settings == exact.settings

    compute_no_more(monkeypatch)
    session.change(**GridSpec(site="cross_attention", head=2)._asdict())
    session.trace_all()
    assert session.wait(30)
    assert screen.state.get("error", "") == ""
    grid = screen.state["grid"]
    assert grid["head"] == 2
    assert not np.isnan(np.frombuffer(grid["values"], "<f4").reshape(6, -1)[0]).any()


def test_the_heads_of_an_attention_are_the_same_at_either_of_its_sites(session, screen):
    session.change(**GridSpec(site="self_attention")._asdict())
    fill(session)
    found = session.heads.trace
    session.change(**GridSpec(site="self_attention_out")._asdict())
    assert session.wait(30)
    assert screen.state["heads"] == {"done": 192, "total": 192}
    np.testing.assert_array_equal(session.heads.trace.samples, found.samples)
    assert session.heads.trace.settings["site"] == "self_attention_out"


def test_where_there_are_no_heads_there_is_no_map(session, screen):
    assert session.heads.trace is None
    fill(session)
    assert screen.state["heads"] == {}


def test_other_inputs_begin_with_an_empty_map(session, screen):
    session.change(**GridSpec(site="self_attention")._asdict())
    fill(session)
    assert screen.state["heads"]["done"] == 192
    session.change(noise=1.0)
    assert session.wait(30)
    assert screen.state["heads"] == {}
    session.change(noise=5.0)
    assert session.wait(30)
    assert screen.state["heads"]["done"] == 192


@pytest.mark.usefixtures("small_chunks")
def test_it_can_be_stopped(session, screen, monkeypatch):
    session.change(**GridSpec(site="cross_attention")._asdict())
    assert session.wait(30)
    whole = Runner.patched

    def stopping(runner, *arguments):
        for chunk in whole(runner, *arguments):
            if screen.state["heads"].get("done", 0) > 20:
                session.heads.stop()
            yield chunk

    monkeypatch.setattr(Runner, "patched", stopping)
    fill(session)
    assert 20 < screen.state["heads"]["done"] < 192


@pytest.mark.usefixtures("small_chunks")
def test_choosing_a_head_meanwhile_lets_it_go_on(session, screen, monkeypatch):
    session.change(**GridSpec(site="cross_attention")._asdict())
    assert session.wait(30)
    whole = Runner.patched

    def choosing(runner, *arguments):
        for chunk in whole(runner, *arguments):
            if screen.state["heads"].get("done", 0) > 20 and session.inputs.head is None:
                session.change(**GridSpec(site="cross_attention", head=1)._asdict())
            yield chunk

    monkeypatch.setattr(Runner, "patched", choosing)
    fill(session)
    assert session.inputs.head == 1
    assert screen.state["heads"] == {"done": 192, "total": 192}
    session.change(**GridSpec(site="self_attention")._asdict())
    assert session.wait(30)
    assert screen.state["heads"] == {}


def test_asked_for_before_the_runs_or_during_an_update_it_comes_then(demo, example, screen):
    session = session_of(Tracer(demo, example.image, example.question), screen, GridSpec(site="cross_attention"))
    fill(session)  # before anything was computed
    session.begin()
    assert session.wait(60)
    assert screen.state["heads"]["done"] == 192
    session.change(noise=3.0)
    fill(session)
    assert screen.state["heads"]["done"] == 192
    assert session.tracer.corruption.factor == 3.0
    session.change(noise=4.0)  # what is whole is not made again unasked
    assert session.wait(60)
    assert screen.state["heads"] == {}
    session.close()


def test_to_look_at_a_site_with_heads_makes_no_grids(session, monkeypatch):
    made, whole = [], GridStore.cells
    monkeypatch.setattr(GridStore, "cells", lambda store, spec: made.append(spec.head) or whole(store, spec))
    session.change(**GridSpec(site="self_attention")._asdict())
    assert session.wait(30)
    assert session.heads.trace is not None
    assert set(made) == {None}
