"""The conductor against a screen that only writes down, with the worker held at chosen points."""

import threading
import time

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, State, Tracer, protocol
from blip_trace_widget.conductor import Conductor, View
from blip_trace_widget.runs import Runner


class Screen:
    def __init__(self):
        self.lines, self.state, self.went_back = [], {}, []

    def show_traits(self, **state):
        self.lines += list(state.items())
        self.state.update(state)

    def say(self, content, buffers=None):
        self.lines.append((content["type"], content))

    def go_back(self, tracer):
        self.went_back.append(tracer)

    def said(self, kind):
        return [content for name, content in self.lines if name == kind]


class Gate:
    """Holds the worker at the end of a patched run, behind the last look at `cancelled`, until it is opened."""

    def __init__(self, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        whole = Runner._patch

        def held(runner, *arguments):
            logits = whole(runner, *arguments)
            self.reached.set()
            assert self.opened.wait(20)
            return logits

        monkeypatch.setattr(Runner, "_patch", held)
        monkeypatch.setattr("blip_trace_widget.budget.CHUNK_ROWS", {"cpu": 160})
        monkeypatch.setattr("blip_trace_widget.budget.ROWS_A_SAMPLE", 1)
        monkeypatch.setattr("blip_trace_widget.conductor.REPORT_SECONDS", 0.0)

    def wait(self):
        assert self.reached.wait(20)


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def conductor(demo, example, screen):
    made = Conductor(Tracer(demo, example.image, example.question), screen)
    made.begin()
    assert made.wait(30)
    yield made
    made.close()
    assert made.wait(30)


def grid_of(screen):
    grid = screen.state["grid"]
    return np.frombuffer(grid["values"], "<f4").reshape(len(protocol.CELL_FIELDS), grid["layers"], -1)


def test_a_fill_of_an_older_generation_writes_and_says_nothing(conductor, screen, monkeypatch):
    gate = Gate(monkeypatch)
    conductor.trace_all(5)
    gate.wait()
    conductor.change(corruption=GaussianNoise(1.0))
    since = len(screen.lines)
    gate.opened.set()
    assert conductor.wait(60)
    for name, content in screen.lines[since:]:
        if name in ("cells", "progress", "done"):
            assert content["generation"] == 1
        if name == "grid":
            assert (content["generation"], content["noise"]) == (1, 1.0)
    exact = conductor.tracer.with_corruption(factor=1.0).trace()
    np.testing.assert_allclose(grid_of(screen)[1], exact.indirect_effect, atol=1e-5)


def test_a_patch_of_an_older_generation_shows_nothing(conductor, screen, monkeypatch):
    gate = Gate(monkeypatch)
    conductor.select([(5, 5)], 3)
    gate.wait()
    conductor.change(corruption=GaussianNoise(1.0))
    since = len(screen.lines)
    gate.opened.set()
    assert conductor.wait(60)
    details = [content for name, content in screen.lines[since:] if name == "detail" and content]
    assert [detail["generation"] for detail in details] == [1]
    exact = conductor.tracer.patch(State("question_encoder", 5, 5)).score
    assert details[0]["score"] == pytest.approx(exact, abs=1e-6)


def test_a_newer_move_of_the_noise_keeps_the_stale_grid_from_being_filled(conductor, screen, monkeypatch):
    conductor.select([(5, 5)])
    conductor.trace_all()
    assert conductor.wait(30)
    filled = []
    whole = Runner.patched
    monkeypatch.setattr(Runner, "patched", lambda self, base, *rest: filled.append(1) or whole(self, base, *rest))
    prepared = threading.Event()
    release = threading.Event()
    prepare = Tracer.prepare

    def held(tracer, cancel=None):
        prepare(tracer, cancel)
        prepared.set()
        assert release.wait(20)

    monkeypatch.setattr(Tracer, "prepare", held)
    conductor.change(corruption=GaussianNoise(1.0))
    assert prepared.wait(20)
    conductor.change(corruption=GaussianNoise(2.0))
    release.set()
    assert conductor.wait(60)
    assert [runs["noise"] for runs in screen.said("runs")] == [5.0, 1.0, 2.0]
    assert len(filled) == 2  # the selected cell and the grid, once each
    assert screen.state["grid"]["noise"] == 2.0
    assert screen.state["detail"]["generation"] == 2
    exact = conductor.tracer.patch(State("question_encoder", 5, 5)).score
    assert screen.state["detail"]["score"] == pytest.approx(exact, abs=1e-6)


def test_old_values_keep_their_generation_when_the_view_changes(conductor, screen, monkeypatch):
    conductor.trace_all()
    assert conductor.wait(30)
    release = threading.Event()
    prepare = Tracer.prepare
    monkeypatch.setattr(Tracer, "prepare", lambda tracer, cancel=None: (release.wait(20), prepare(tracer, cancel))[1])
    conductor.change(corruption=GaussianNoise(1.0))
    conductor.look_at(View(site="mlp"))
    conductor.look_at(View())
    assert (screen.state["grid"]["generation"], screen.state["grid"]["noise"]) == (0, 5.0)
    release.set()
    assert conductor.wait(60)
    assert (screen.state["grid"]["generation"], screen.state["grid"]["noise"]) == (1, 1.0)


def test_quick_clicks_are_all_computed_and_answered(conductor, screen, monkeypatch):
    gate = Gate(monkeypatch)
    for request, cell in enumerate([(0, 0), (1, 1), (2, 2), (1, 1)], start=1):
        conductor.select([cell])  # the trait
        conductor.select([cell], request)  # and the message
    gate.opened.set()
    assert conductor.wait(60)
    assert {content["id"] for content in screen.said("done")} >= {1, 3, 4}
    computed = np.argwhere(np.isfinite(grid_of(screen)[0])).tolist()
    assert computed == [[0, 0], [1, 1], [2, 2]]
    assert screen.state["detail"]["cells"] == [(1, 1)]


def test_of_sets_only_the_latest_is_computed(conductor, screen, monkeypatch):
    gate = Gate(monkeypatch)
    conductor.select([(0, 0)])
    gate.wait()
    for last in (2, 3, 4):
        conductor.select([(0, 0), (last, 1)], last)
    gate.opened.set()
    assert conductor.wait(60)
    assert [detail["cells"] for detail in screen.said("detail") if detail] == [[(0, 0), (4, 1)]]


def test_what_is_asked_before_the_first_runs_waits_for_nothing_and_is_done(demo, example, screen, monkeypatch):
    release = threading.Event()
    embed = type(demo).embed_image
    monkeypatch.setattr(type(demo), "embed_image", lambda self, image: (release.wait(20), embed(self, image))[1])
    conductor = Conductor(Tracer(demo, example.image, example.question), screen)
    conductor.begin()
    started = time.perf_counter()
    conductor.look_at(View("answer_decoder"))
    conductor.select([(5, 0)], 1)
    conductor.trace_all(2)
    assert conductor.positions("answer_decoder") is None
    assert time.perf_counter() - started < 5  # it would be 20 if it waited
    release.set()
    assert conductor.wait(60)
    assert np.isfinite(grid_of(screen)[0]).all()
    assert screen.state["detail"]["cells"] == [(5, 0)]
    conductor.close()


def test_stop_during_an_update_is_heeded(conductor, screen, monkeypatch):
    conductor.trace_all()
    assert conductor.wait(30)
    conductor.change(corruption=GaussianNoise(2.0))
    conductor.stop()
    assert conductor.wait(30)
    conductor.look_at(View())
    assert np.isnan(grid_of(screen)[0]).all()


def test_an_older_update_that_fails_does_not_drop_a_newer_request(conductor, screen, monkeypatch):
    began, release = threading.Event(), threading.Event()
    prepare = Tracer.prepare

    def failing(tracer, cancel=None):
        if tracer.corruption.factor == 6.0:
            began.set()
            assert release.wait(20)
            raise MemoryError("too much")
        prepare(tracer, cancel)

    monkeypatch.setattr(Tracer, "prepare", failing)
    conductor.change(corruption=GaussianNoise(6.0))
    assert began.wait(20)
    conductor.change(corruption=GaussianNoise(1.5))
    release.set()
    assert conductor.wait(30)
    assert screen.went_back == []
    assert screen.state["error"] == "MemoryError: too much"
    assert screen.state["runs"]["noise"] == conductor.tracer.corruption.factor == 1.5


def test_the_curve_is_shown_even_if_it_was_cancelled_after_its_last_factor(conductor, screen, monkeypatch):
    conductor._curve_shown = None  # as if the job had been dropped between computing and showing
    screen.state.pop("curve")
    conductor.change(corruption=GaussianNoise(4.0))
    assert conductor.wait(30)
    assert screen.state["curve"]["scores"][-1] is not None


def test_an_error_of_a_later_request_is_not_wiped_by_an_earlier_one_that_succeeds(conductor, screen):
    conductor.change(corruption=GaussianNoise(4.0))
    with conductor.lock:
        screen.show_traits(error="question: expected a text")
    assert conductor.wait(30)
    assert screen.state["error"] == "question: expected a text"
    conductor.change(corruption=GaussianNoise(3.0))
    assert screen.state["error"] == ""


def test_a_finished_grid_says_done_once(conductor, screen):
    conductor.trace_all(9)
    assert conductor.wait(30)
    conductor.stop()
    assert [(content["id"], content["stopped"]) for content in screen.said("done")] == [(9, False), (9, True)]
