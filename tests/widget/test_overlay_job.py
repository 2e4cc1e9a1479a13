"""What lies over the picture: against the tracer, with the worker held where it matters."""

import threading

import numpy as np
import pytest

from blip_trace_widget.corruption_fields import plain_region
from blip_trace_widget.display import overlays
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.tracing.runs import Runner


def shown(screen):
    """The map on screen, (3, rows, columns): value, margin of its 95 % interval, significant."""
    picture = screen.state["picture_map"]
    return np.frombuffer(picture["values"], "<f4").reshape(3, picture["rows"], picture["columns"])


@pytest.mark.parametrize("direction", ["disrupt", "restore"])
def test_a_map_of_image_tokens_is_the_tracers(session, screen, direction):
    session.overlay_job.choose(f"map_{direction}", 2)
    assert session.wait(60)
    exact = session.tracer.trace_image_tokens(2, direction)
    np.testing.assert_allclose(shown(screen)[0], exact.recovery, atol=1e-5)
    np.testing.assert_allclose(shown(screen)[1], exact.recovery_margin, atol=1e-5)
    assert (shown(screen)[2] == exact.significant).all()
    picture = screen.state["picture_map"]
    assert (picture["square"], picture["done"], picture["left"]) == (2, 16, "")
    assert picture["limit"] >= np.abs(exact.recovery).max()
    assert (picture["low"] == "0") == bool((exact.recovery >= 0).all())


def test_of_restoring_it_is_said_that_it_finds_nothing(session, screen):
    session.overlay_job.choose("map_restore", 4)
    assert session.wait(60)
    assert "no better than chance" in screen.state["picture_map"]["text"]


def test_where_recovery_is_not_defined_the_map_shows_the_effect(session, screen):
    session.change(noise=0.0)
    session.overlay_job.choose("map_disrupt", 4)
    assert session.wait(60)
    np.testing.assert_allclose(shown(screen)[0], 0, atol=1e-6)
    assert "lost of the score" in screen.state["picture_map"]["unit"]


def test_a_map_comes_square_by_square_can_be_stopped_and_gone_on_with(demo, session, screen, monkeypatch):
    monkeypatch.setattr(demo, "limits", Limits(rows=12, rows_per_sample=1))
    some, whole, held = threading.Event(), Runner.swapped, threading.Event()

    def slow(runner, *arguments):
        for count, chunk in enumerate(whole(runner, *arguments)):
            if count == 35:
                some.set()
                assert held.wait(20)
            yield chunk

    monkeypatch.setattr(Runner, "swapped", slow)
    session.overlay_job.choose("map_disrupt", 2)
    assert some.wait(20)
    with session.lock:
        session.overlay_job.stop()
    held.set()
    assert session.wait(60)
    first = screen.state["picture_map"]
    assert 0 < first["done"] < 16
    assert first["left"] == ""
    told = [each for each in screen.said("picture_map") if each]
    counts = [each["done"] for each in told]
    assert counts == sorted(counts)
    assert any("s left" in each["left"] for each in told)

    session.change(**GridSpec(site="mlp")._asdict())  # what is stopped stays stopped
    assert session.wait(60)
    assert screen.state["picture_map"]["done"] == first["done"]
    with session.lock:
        session.overlay_job.resume()
    assert session.wait(60)
    assert screen.state["picture_map"]["done"] == 16
    exact = session.tracer.trace_image_tokens(2, "disrupt")
    np.testing.assert_allclose(shown(screen)[0], exact.recovery, atol=1e-5)


def test_a_map_follows_the_noise_and_is_kept_for_the_way_back(session, screen, monkeypatch):
    session.overlay_job.choose("map_disrupt", 4)
    assert session.wait(60)
    before = shown(screen).copy()
    session.change(noise=2.0)
    assert session.wait(60)
    assert screen.state["picture_map"]["generation"] == 1
    np.testing.assert_allclose(shown(screen)[0], session.tracer.trace_image_tokens(4, "disrupt").recovery, atol=1e-5)
    monkeypatch.setattr(Runner, "swapped", None)  # it would fail
    session.change(noise=5.0)
    assert session.wait(60)
    assert screen.state.get("error", "") == ""
    np.testing.assert_array_equal(shown(screen), before)


@pytest.mark.parametrize("run", ["clean", "corrupted", "difference"])
def test_attention_follows_the_selection(session, screen, run):
    session.overlay_job.choose(f"attention_{run}", 1)
    assert session.wait(60)
    assert screen.state["picture_map"]["rows"] == 0
    assert "Select a cell" in screen.state["picture_map"]["text"]
    session.change(selection=[(3, 5)])
    assert session.wait(60)
    exact = session.tracer.attention("question_encoder", 3)
    np.testing.assert_allclose(shown(screen)[0], exact.image(5, run), atol=1e-6)
    assert "“circle” looks in layer 3" in screen.state["picture_map"]["text"]
    session.change(selection=[(3, 5), (2, 1), (2, 5)])
    assert session.wait(60)
    other = session.tracer.attention("question_encoder", 2)
    mean = (exact.image(5, run) + other.image(1, run) + other.image(5, run)) / 3
    np.testing.assert_allclose(shown(screen)[0], mean, atol=1e-6)
    assert "these 3 states look" in screen.state["picture_map"]["text"]
    session.change(**GridSpec(site="cross_attention", head=2)._asdict())
    session.change(selection=[(1, 2)])
    assert session.wait(60)
    exact = session.tracer.attention("question_encoder", 1, 2)
    np.testing.assert_allclose(shown(screen)[0], exact.image(2, run), atol=1e-6)
    session.change(**GridSpec("answer_decoder")._asdict())
    assert session.wait(60)
    assert screen.state["picture_map"]["rows"] == 0


def test_how_strongly_the_picture_is_hit(session, screen):
    session.overlay_job.choose("strength", 1)
    region = np.zeros((8, 8), bool)
    region[1:3, 4] = True
    session.change(noise=3.0, region=plain_region(region))
    assert session.wait(60)
    assert ((shown(screen)[0] > 0) == region).all()
    np.testing.assert_allclose(shown(screen)[0], session.tracer.corruption_strength(), rtol=1e-5)


@pytest.mark.parametrize("name", ["map_disrupt", "strength"])
def test_another_question_leaves_the_picture_as_it_is(session, screen, name):
    session.overlay_job.choose(name, 2)
    session.change(corruption="QuestionSwap", other_question="what color is the square?")
    assert session.wait(60)
    assert screen.state["picture_map"]["rows"] == 0
    assert "not damaged" in screen.state["picture_map"]["text"]
    assert screen.state.get("error", "") == ""


def test_who_points_at_a_layer_is_told_where_its_tokens_look(session, screen):
    session.change(**GridSpec(site="cross_attention", head=1)._asdict())
    session.overlay_job.send_attention(4, 9)
    assert session.wait(60)
    (told,) = screen.said("attention")
    assert (told["id"], told["layer"], told["head"], told["rows"], told["columns"]) == (9, 4, 1, 8, 8)
    exact = session.tracer.attention("question_encoder", 4, 1)
    weights = np.frombuffer(screen.buffers[-1][0], "<f4").reshape(-1, 8, 8)
    np.testing.assert_allclose(weights, [exact.image(at) for at in range(8)], atol=1e-6)


@pytest.mark.parametrize(("grid", "side"), [((8, 8), 1), ((10, 10), 1), ((24, 24), 3), ((12, 9), 2), ((40, 40), 4)])
def test_squares_are_as_large_as_keeps_their_number_bearable(grid, side):
    assert overlays.square_for(grid) == side


def test_a_map_of_another_kind_goes_at_once(session, screen, monkeypatch):
    session.overlay_job.choose("map_disrupt", 4)
    assert session.wait(60)
    held, whole = threading.Event(), Runner.swapped

    def slow(runner, *arguments):
        assert held.wait(20)
        yield from whole(runner, *arguments)

    monkeypatch.setattr(Runner, "swapped", slow)
    for name, square in (("map_restore", 4), ("map_restore", 2)):
        with session.lock:
            session.overlay_job.choose(name, square)
        picture = screen.state["picture_map"]
        assert (picture["overlay"], picture["square"], picture["done"], picture["left"]) == (
            name,
            square,
            0,
            "waiting",
        )
    held.set()
    assert session.wait(60)
    assert screen.state["picture_map"]["left"] == ""


def test_a_map_that_fails_says_why_and_can_be_gone_on_with(session, screen, monkeypatch):
    def failing(_runner, *_arguments):
        raise RuntimeError("out of luck")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "swapped", failing)
        session.overlay_job.choose("map_disrupt", 4)
        assert session.wait(60)
    assert "out of luck" in screen.state["error"]
    assert screen.state["picture_map"]["left"] == ""
    session.overlay_job.resume()
    assert session.wait(60)
    assert screen.state["picture_map"]["done"] == 4


def test_a_stop_during_an_update_holds(session, screen):
    session.overlay_job.choose("map_disrupt", 4)
    session.change(noise=3.0)
    with session.lock:
        session.overlay_job.stop()
    assert session.wait(60)
    assert screen.state["picture_map"]["generation"] == 1
    assert screen.state["picture_map"]["done"] < 4


def test_the_head_of_another_attention_is_not_taken_for_the_pictures(session, screen):
    session.change(**GridSpec(site="self_attention", head=1)._asdict())
    session.overlay_job.choose("attention_clean", 1)
    session.change(selection=[(3, 5)])
    assert session.wait(60)
    np.testing.assert_allclose(shown(screen)[0], session.tracer.attention("question_encoder", 3).image(5), atol=1e-6)


def test_strength_is_kept_for_other_factors(session, screen, monkeypatch):
    session.overlay_job.choose("strength", 1)
    assert session.wait(60)
    before = shown(screen)[0].copy()
    monkeypatch.setattr(type(session.tracer.corruption), "delta", None)  # it would fail
    session.change(noise=2.5)
    assert session.wait(60)
    np.testing.assert_allclose(shown(screen)[0], before / 2, rtol=1e-6)
