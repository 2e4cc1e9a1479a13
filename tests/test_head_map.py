"""The map of heads: filled when asked, equal to the tracer's, and of what is in view."""

import numpy as np
import pytest
from screen import conductor_of

from blip_trace_widget import Tracer
from blip_trace_widget.results.grid_spec import View
from blip_trace_widget.tracing.runs import Runner


def fill(conductor):
    with conductor.lock:
        conductor.heads.fill()
    assert conductor.wait(60)


def test_it_is_the_tracers_and_leaves_each_heads_grid(conductor, screen, monkeypatch):
    conductor.change(**View(site="cross_attention")._asdict())
    assert conductor.wait(30)
    assert screen.state["heads"] == {}
    assert np.isnan(conductor.heads.trace.recovery).all()
    fill(conductor)
    assert screen.state["heads"] == {"done": 192, "total": 192}
    exact = conductor.tracer.trace("question_encoder", "cross_attention", head="all")
    np.testing.assert_allclose(conductor.heads.trace.recovery, exact.recovery, atol=1e-5)
    assert conductor.heads.trace.settings == exact.settings

    monkeypatch.setattr(Runner, "_patch", None)  # it would fail
    conductor.change(**View(site="cross_attention", head=2)._asdict())
    conductor.trace_all()
    assert conductor.wait(30)
    assert screen.state.get("error", "") == ""
    grid = screen.state["grid"]
    assert grid["head"] == 2
    assert not np.isnan(np.frombuffer(grid["values"], "<f4").reshape(6, -1)[0]).any()


def test_where_there_are_no_heads_there_is_no_map(conductor, screen):
    assert conductor.heads.trace is None
    fill(conductor)
    assert screen.state["heads"] == {}


def test_other_inputs_begin_with_an_empty_map(conductor, screen):
    conductor.change(**View(site="self_attention")._asdict())
    fill(conductor)
    assert screen.state["heads"]["done"] == 192
    conductor.change(noise=1.0)
    assert conductor.wait(30)
    assert screen.state["heads"] == {}
    conductor.change(noise=5.0)
    assert conductor.wait(30)
    assert screen.state["heads"]["done"] == 192


@pytest.mark.usefixtures("small_chunks")
def test_it_can_be_stopped(conductor, screen, monkeypatch):
    conductor.change(**View(site="cross_attention")._asdict())
    assert conductor.wait(30)
    whole = Runner._patch

    def stopping(runner, *arguments):
        if screen.state["heads"].get("done", 0) > 20:
            conductor.heads.stop()
        return whole(runner, *arguments)

    monkeypatch.setattr(Runner, "_patch", stopping)
    fill(conductor)
    assert 20 < screen.state["heads"]["done"] < 192


@pytest.mark.usefixtures("small_chunks")
def test_choosing_a_head_meanwhile_lets_it_go_on(conductor, screen, monkeypatch):
    conductor.change(**View(site="cross_attention")._asdict())
    assert conductor.wait(30)
    whole = Runner._patch

    def choosing(runner, *arguments):
        if screen.state["heads"].get("done", 0) > 20 and conductor.inputs.head is None:
            conductor.change(**View(site="cross_attention", head=1)._asdict())
        return whole(runner, *arguments)

    monkeypatch.setattr(Runner, "_patch", choosing)
    fill(conductor)
    assert conductor.inputs.head == 1
    assert screen.state["heads"] == {"done": 192, "total": 192}
    conductor.change(**View(site="self_attention")._asdict())
    assert conductor.wait(30)
    assert screen.state["heads"] == {}


def test_asked_for_before_the_runs_or_during_an_update_it_comes_then(demo, example, screen):
    conductor = conductor_of(Tracer(demo, example.image, example.question), screen, View(site="cross_attention"))
    fill(conductor)  # before anything was computed
    conductor.begin()
    assert conductor.wait(60)
    assert screen.state["heads"]["done"] == 192
    conductor.change(noise=3.0)
    fill(conductor)
    assert screen.state["heads"]["done"] == 192
    assert conductor.tracer.corruption.factor == 3.0
    conductor.change(noise=4.0)  # what is whole is not made again unasked
    assert conductor.wait(60)
    assert screen.state["heads"] == {}
    conductor.close()


def test_to_look_at_a_site_with_heads_makes_no_grids(conductor, screen):
    sheet = conductor._stage.sheet
    before = sheet.nbytes
    conductor.change(**View(site="self_attention")._asdict())
    assert conductor.wait(30)
    assert conductor.heads.trace is not None
    assert sheet.nbytes <= 2 * before
