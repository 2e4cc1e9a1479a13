"""The session against a screen that only writes down, with the worker held at chosen points."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from blip_trace_widget import State, Tracer
from blip_trace_widget.display import protocol
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Runner
from blip_trace_widget.widget.grid_store import inputs_of
from helpers.screen import session_of
from helpers.widgets import PACE


class Gate:
    """Holds the worker at the end of patched runs, behind the last look at `cancelled`, until it is opened."""

    def __init__(self, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        whole = Runner.patched

        def held(runner, *arguments):
            for chunk in whole(runner, *arguments):
                self.reached.set()
                assert self.opened.wait(20)
                yield chunk

        monkeypatch.setattr(Runner, "patched", held)

    def wait(self):
        assert self.reached.wait(20)


#: However busy this machine is, a grid whose time is known is computed along with the noise.
QUICK = pytest.mark.parametrize("pace", [replace(PACE, live=60.0)])


def grid_of(screen):
    grid = screen.state["grid"]
    return np.frombuffer(grid["values"], "<f4").reshape(len(protocol.CELL_FIELDS), grid["layers"], -1)


@pytest.mark.usefixtures("small_chunks")
def test_a_fill_of_an_older_generation_writes_and_says_nothing(session, screen, monkeypatch):
    gate = Gate(monkeypatch)
    session.trace_all(5)
    gate.wait()
    session.change(noise=1.0)
    since = len(screen.lines)
    gate.opened.set()
    assert session.wait(60)
    for name, content in screen.lines[since:]:
        if name in ("cells", "progress", "done"):
            assert content["generation"] == 1
        if name == "grid":
            assert (content["generation"], content["damage"]) == (1, "ν 1.0")
    exact = session.tracer.with_corruption(factor=1.0).trace()
    np.testing.assert_allclose(grid_of(screen)[1], exact.indirect_effect, atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_a_patch_of_an_older_generation_shows_nothing(session, screen, monkeypatch):
    gate = Gate(monkeypatch)
    session.change(3, selection=[(5, 5)])
    gate.wait()
    session.change(noise=1.0)
    since = len(screen.lines)
    gate.opened.set()
    assert session.wait(60)
    details = [content for name, content in screen.lines[since:] if name == "detail" and content]
    assert [detail["generation"] for detail in details] == [1]
    exact = session.tracer.patch(State("question_encoder", 5, 5)).score
    assert details[0]["score"] == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("pace", [replace(PACE, live=0.0)])  # as for a large model
def test_a_newer_move_of_the_noise_keeps_the_stale_grid_from_being_filled(session, screen, monkeypatch):
    session.change(selection=[(5, 5)])
    session.trace_all()
    assert session.wait(30)
    filled = []
    whole = Runner.patched
    monkeypatch.setattr(Runner, "patched", lambda self, base, *rest: filled.append(1) or whole(self, base, *rest))
    prepared = threading.Event()
    release = threading.Event()
    prepare = Tracer.prepare

    def held(tracer, *arguments):
        prepare(tracer, *arguments)
        prepared.set()
        assert release.wait(20)

    monkeypatch.setattr(Tracer, "prepare", held)
    session.change(noise=1.0)
    assert prepared.wait(20)
    session.change(noise=2.0)
    release.set()
    assert session.wait(60)
    assert [runs["damage"] for runs in screen.said("runs")] == ["ν 5.0", "ν 1.0", "ν 2.0"]
    assert len(filled) == 2  # the selected cell and the grid, once each
    assert screen.state["grid"]["damage"] == "ν 2.0"
    assert screen.state["detail"]["generation"] == 2
    exact = session.tracer.patch(State("question_encoder", 5, 5)).score
    assert screen.state["detail"]["score"] == pytest.approx(exact, abs=1e-6)


def test_old_values_keep_their_generation_when_the_view_changes(session, screen, monkeypatch):
    session.trace_all()
    assert session.wait(30)
    release = threading.Event()
    prepare = Tracer.prepare
    monkeypatch.setattr(Tracer, "prepare", lambda *arguments: (release.wait(20), prepare(*arguments))[1])
    session.change(noise=1.0)
    session.change(**GridSpec(site="mlp")._asdict())
    session.change(**GridSpec()._asdict())
    assert (screen.state["grid"]["generation"], screen.state["grid"]["damage"]) == (0, "ν 5.0")
    release.set()
    assert session.wait(60)
    assert (screen.state["grid"]["generation"], screen.state["grid"]["damage"]) == (1, "ν 1.0")


@pytest.mark.usefixtures("small_chunks")
def test_quick_clicks_are_all_computed_and_answered(session, screen, monkeypatch):
    gate = Gate(monkeypatch)
    for request, cell in enumerate([(0, 0), (1, 1), (2, 2), (1, 1)], start=1):
        session.change(selection=[cell])  # the trait
        session.change(request, selection=[cell])  # and the message
    gate.opened.set()
    assert session.wait(60)
    assert sorted(content["id"] for content in screen.said("done")) == [1, 2, 3, 4]
    computed = np.argwhere(np.isfinite(grid_of(screen)[0])).tolist()
    assert computed == [[0, 0], [1, 1], [2, 2]]
    assert screen.state["detail"]["cells"] == [(1, 1)]


def test_a_click_that_comes_while_the_last_one_is_being_answered_is_answered_too(session, screen):
    say = screen.say

    def said(content, buffers=None):
        say(content, buffers)
        if (content["type"], content["id"]) == ("done", 1):
            session.change(2, selection=[(1, 1)])

    screen.say = said
    session.change(1, selection=[(1, 1)])
    assert session.wait(60)
    assert [content["id"] for content in screen.said("done")] == [1, 2]


@QUICK
def test_a_cell_chosen_while_the_noise_moves_is_in_the_grid(session, screen):
    session.change(site="mlp")
    session.trace_all()  # how long the block's grids take is known then
    assert session.wait(30)
    session.change(site="block_output")
    with session.lock:
        session.change(noise=1.0)
        session.change(1, selection=[(2, 2)])
        session.change(noise=2.0)
    assert session.wait(30)
    assert screen.state["detail"]["cells"] == [(2, 2)]
    assert np.isfinite(grid_of(screen)[0][2, 2])


@pytest.mark.usefixtures("small_chunks")
def test_of_sets_only_the_latest_is_computed(session, screen, monkeypatch):
    gate = Gate(monkeypatch)
    session.change(selection=[(0, 0)])
    gate.wait()
    for last in (2, 3, 4):
        session.change(last, selection=[(0, 0), (last, 1)])
    gate.opened.set()
    assert session.wait(60)
    assert [detail["cells"] for detail in screen.said("detail") if detail] == [[(0, 0), (4, 1)]]


def test_what_is_asked_before_the_first_runs_waits_for_nothing_and_is_done(demo, example, screen, monkeypatch):
    release = threading.Event()
    embed = type(demo).embed_image
    monkeypatch.setattr(type(demo), "embed_image", lambda self, image: (release.wait(20), embed(self, image))[1])
    session = session_of(Tracer(demo, example.image, example.question), screen)
    session.begin()
    started = time.perf_counter()
    session.change(**GridSpec("answer_decoder")._asdict())
    session.change(1, selection=[(5, 0)])
    session.trace_all(2)
    assert session.columns("answer_decoder", 1) is None
    assert time.perf_counter() - started < 5  # it would be 20 if it waited
    release.set()
    assert session.wait(60)
    assert np.isfinite(grid_of(screen)[0]).all()
    assert screen.state["detail"]["cells"] == [(5, 0)]
    session.close()


def test_stop_during_an_update_is_heeded(session, screen, monkeypatch):
    session.trace_all()
    assert session.wait(30)
    session.change(noise=2.0)
    session.stop()
    assert session.wait(30)
    session.change(**GridSpec()._asdict())
    assert np.isnan(grid_of(screen)[0]).all()


def test_an_older_update_that_fails_does_not_drop_a_newer_request(session, screen, monkeypatch):
    began, release = threading.Event(), threading.Event()
    prepare = Tracer.prepare

    def failing(tracer, *arguments):
        if tracer.corruption.factor == 6.0:
            began.set()
            assert release.wait(20)
            raise MemoryError("too much")
        prepare(tracer, *arguments)

    monkeypatch.setattr(Tracer, "prepare", failing)
    session.change(noise=6.0)
    assert began.wait(20)
    session.change(noise=1.5)
    release.set()
    assert session.wait(30)
    assert not screen.mended
    assert screen.state["error"] == "MemoryError: too much"
    assert screen.state["runs"]["damage"] == "ν 1.5"
    assert session.tracer.corruption.factor == 1.5


def test_the_curve_is_shown_even_if_it_was_cancelled_after_its_last_factor(session, screen, monkeypatch):
    whole = Tracer.noise_curve

    def cancelled(tracer, factors, **keywords):
        made = whole(tracer, factors, **keywords)
        if factors == [PACE.curve[-1]]:
            session.change(noise=4.0)  # what waits is dropped, and so is what has computed and not shown
        return made

    monkeypatch.setattr(Tracer, "noise_curve", cancelled)
    screen.state.pop("curve")
    session.change(seed=1)
    assert session.wait(30)
    assert session.tracer.corruption.factor == 4.0
    exact = [session.tracer.with_corruption(factor=factor).corrupted.score for factor in PACE.curve]
    np.testing.assert_allclose(screen.state["curve"]["scores"], exact, atol=1e-6)


def test_an_error_of_a_later_request_is_not_wiped_by_an_earlier_one_that_succeeds(session, screen):
    session.change(noise=4.0)
    with session.lock:
        screen.show_traits(error="question: expected a text")
    assert session.wait(30)
    assert screen.state["error"] == "question: expected a text"
    session.change(noise=3.0)
    assert screen.state["error"] == ""


def test_a_finished_grid_says_done_once(session, screen):
    session.trace_all(9)
    assert session.wait(30)
    session.stop()
    assert [(content["id"], content["stopped"]) for content in screen.said("done")] == [(9, False)]


@QUICK
def test_a_quick_grid_moves_with_the_noise(session, screen):
    session.trace_all()
    session.change(selection=[(5, 5)])
    assert session.wait(30)
    since = len(screen.lines)
    session.change(noise=2.0)
    assert session.wait(30)
    assert [name for name, _ in screen.lines[since:] if name in ("cells", "progress", "done")] == []
    shown = [name for name, _ in screen.lines[since:] if name in ("runs", "grid", "detail")]
    assert shown == ["runs", "grid", "detail"]  # each once, all of one generation
    assert {screen.state[name]["generation"] for name in shown} == {1}
    exact = session.tracer.with_corruption(factor=2.0).trace()
    np.testing.assert_allclose(grid_of(screen)[1], exact.indirect_effect, atol=1e-5)
    effect = session.tracer.patch(State("question_encoder", 5, 5))
    assert screen.state["detail"]["score"] == pytest.approx(effect.score, abs=1e-6)


@QUICK
def test_while_the_noise_moves_every_frame_that_is_shown_is_whole(session, screen):
    session.trace_all()
    assert session.wait(30)
    since = len(screen.lines)
    for tenth in range(1, 30):
        session.change(noise=tenth / 10)
        time.sleep(0.02)
    assert session.wait(30)
    runs = [content["damage"] for name, content in screen.lines[since:] if name == "runs"]
    grids = [content["damage"] for name, content in screen.lines[since:] if name == "grid"]
    assert runs == grids
    assert len(runs) > 1  # not the last alone
    assert runs[-1] == "ν 2.9"


def test_inputs_that_were_looked_at_before_are_there_at_once(session, screen, monkeypatch):
    first = session.tracer.question
    session.trace_all()
    assert session.wait(30)
    before = grid_of(screen).copy()
    session.change(question="how many circles are there?")
    assert session.wait(30)
    assert screen.state["grid"]["tokens"][1] == "how"
    monkeypatch.setattr(Runner, "patched", lambda *_: pytest.fail("computed again"))
    since = len(screen.lines)
    session.change(question=first)
    assert session.wait(30)
    np.testing.assert_array_equal(grid_of(screen), before)
    assert [name for name, _ in screen.lines[since:] if name == "grid"] == ["grid"]
    assert screen.state["error"] == ""


def test_a_click_during_an_update_is_computed_with_the_new_inputs(session, screen, monkeypatch):
    began, release = threading.Event(), threading.Event()
    prepare = Tracer.prepare

    def held(tracer, *arguments):
        began.set()
        assert release.wait(20)
        prepare(tracer, *arguments)

    monkeypatch.setattr(Tracer, "prepare", held)
    session.change(noise=1.0)
    assert began.wait(20)
    session.change(8, selection=[(5, 5)])
    release.set()
    assert session.wait(30)
    details = [content for content in screen.said("detail") if content]
    assert [content["damage"] for content in details] == ["ν 1.0"]
    assert [content["id"] for content in screen.said("done")] == [8]


@pytest.mark.usefixtures("small_chunks")
def test_cells_in_sight_are_computed_first(session, screen):
    session.set_visible_range(4, 5)
    session.trace_all()
    assert session.wait(60)
    order = [cell for content in screen.said("cells") for cell in content["cells"]]
    assert len(order) == 48
    assert {position for _, position in order[:12]} == {4, 5}


def test_a_patch_asked_between_a_change_and_its_update_is_of_the_new_noise(session, screen):
    since = len(screen.lines)
    with session.lock:  # the update cannot begin yet
        session.change(noise=1.0)
        session.change(3, selection=[(5, 4)])
        session.change(4, selection=[(5, 5)])
    assert session.wait(60)
    said = [(name, content) for name, content in screen.lines[since:] if name in ("cells", "done")]
    assert {content["generation"] for _, content in said} == {1}
    assert {content["id"] for name, content in said if name == "done"} == {3, 4}
    exact = session.tracer.with_corruption(factor=1.0)
    for position in (4, 5):
        effect = exact.patch(State("question_encoder", 5, position))
        assert grid_of(screen)[0, 5, position] == pytest.approx(effect.score, abs=1e-6)
    assert screen.state["detail"]["score"] == pytest.approx(effect.score, abs=1e-6)


def test_a_patch_asked_before_a_shorter_question_is_answered_without_values(session, screen):
    with session.lock:
        session.change(question="what is this?")
        session.change(3, selection=[(5, 7)])
    assert session.wait(60)
    assert [content["id"] for content in screen.said("done")] == [3]
    assert screen.said("cells") == []
    assert screen.state["error"] == ""


def held(monkeypatch, name, cls):
    """Hold the worker in a method; (it has come there, let it go)."""
    reached, release = threading.Event(), threading.Event()
    whole = getattr(cls, name)

    def waiting(*arguments, **keywords):
        reached.set()
        assert release.wait(20)
        return whole(*arguments, **keywords)

    monkeypatch.setattr(cls, name, waiting)
    return reached, release


def test_a_pin_keeps_the_noise_that_its_numbers_are_of(session, screen, monkeypatch):
    session.change(selection=[(1, 3)])
    assert session.wait(30)
    old = screen.state["detail"]
    reached, release = held(monkeypatch, "patched", Runner)
    session.change(noise=1.0)
    assert reached.wait(20)
    session.pin(True)
    for shown in (screen.state["pinned"], screen.state["detail"]):
        assert (shown["damage"], shown["score"], shown["generation"]) == ("ν 5.0", old["score"], 0)
    session.change(**GridSpec(site="mlp")._asdict())
    session.change(**GridSpec()._asdict())
    release.set()
    assert session.wait(30)
    exact = session.tracer.patch(State("question_encoder", 1, 3)).score
    assert (screen.state["detail"]["damage"], screen.state["detail"]["score"]) == (
        "ν 1.0",
        pytest.approx(exact, abs=1e-6),
    )
    assert screen.state["detail"]["bars"]["pinned"]
    session.pin(False)
    assert screen.state["detail"]["bars"]["pinned"] == []


@pytest.mark.parametrize("stop", [False, True])
def test_trace_all_and_stop_during_an_update_are_heeded(session, screen, monkeypatch, stop):
    if stop:
        session.trace_all()
        assert session.wait(30)
    reached, release = held(monkeypatch, "prepare", Tracer)
    session.change(noise=1.0)
    assert reached.wait(20)
    if stop:
        session.stop()
    else:
        session.trace_all()
    release.set()
    assert session.wait(30)
    computed = np.isfinite(grid_of(screen)[0]).sum()
    assert computed == (0 if stop else 48)


@pytest.mark.parametrize("pace", [replace(PACE, live=1.2)])
def test_a_grid_of_many_samples_is_not_taken_for_a_quick_one(session, screen, monkeypatch):
    with monkeypatch.context() as slow:
        # Ten samples take 0.4 seconds or more, and forty would take at least 1.6.
        slow.setattr(Runner, "patched", lambda *arguments, whole=Runner.patched: time.sleep(0.4) or whole(*arguments))
        session.trace_all()
        assert session.wait(30)
    since = len(screen.lines)
    session.change(noise=5.0, samples=40)
    assert session.wait(60)
    assert "progress" in [name for name, _ in screen.lines[since:]]


def test_an_older_update_leaves_a_newer_choice_of_block_alone(session, screen, monkeypatch):
    reached, release = held(monkeypatch, "prepare", Tracer)
    session.change(noise=3.0)
    assert reached.wait(20)
    session.change(noise=3.0, at="patch_embeddings", samples=2)
    session.change(**GridSpec("image_encoder")._asdict())
    release.set()
    assert session.wait(60)
    assert session.inputs.block == "image_encoder"
    assert screen.state["grid"]["block"] == "image_encoder"


def test_the_same_cells_asked_twice_are_computed_once(session, screen, monkeypatch):
    calls = []
    whole = Runner.patched
    monkeypatch.setattr(Runner, "patched", lambda *given: calls.append(1) or time.sleep(0.1) or whole(*given))
    for cells in ([(5, 5)], [(5, 5), (4, 2)]):
        session.change(selection=cells)
        time.sleep(0.05)
        session.change(7, selection=cells)
        assert session.wait(30)
        assert screen.said("done")[-1]["id"] == 7
    assert len(calls) == 2


def test_an_errand_is_not_dropped_by_what_is_asked_beside_it(session):
    done = []
    session.change(noise=3.0)
    session.later(lambda: done.append("file"))
    session.later(lambda: done.append("file"))
    for number in range(3):
        session.later(lambda number=number: done.append(number), "picture")
    session.change(**GridSpec(site="mlp")._asdict())
    session.change(noise=2.0)
    assert session.wait(30)
    assert done[-1] == 2  # the latest picture
    assert done.count("file") == 2


@pytest.mark.usefixtures("small_chunks")
def test_of_sets_asked_for_during_an_update_the_last_is_computed(session, screen, monkeypatch):
    gate = Gate(monkeypatch)
    session.trace_all()
    gate.wait()  # the worker is busy
    session.change(noise=2.0)
    session.change(7, selection=[(1, 1), (1, 2)])
    session.change(8, selection=[(2, 1), (2, 2)])
    session.change(patches=[(3, 3)])
    gate.opened.set()
    assert session.wait(60)
    assert screen.state["detail"]["patches"] == [(3, 3)]
    exact = session.tracer.patch_image_tokens([1 + 3 * 8 + 3]).score
    assert screen.state["detail"]["score"] == pytest.approx(exact, abs=1e-6)
    ended = {each["id"]: each["stopped"] for each in screen.said("done")}
    assert ended[7] is ended[8] is True
    session.change(**GridSpec(site="mlp")._asdict())
    assert session.wait(60)
    assert screen.state["detail"]["site"] == "mlp"


def test_another_grid_is_shown_while_the_model_is_held(session, screen):
    done = threading.Event()

    def look():
        session.change(**GridSpec(site="mlp")._asdict())
        done.set()

    with session.tracer.model.lock:
        threading.Thread(target=look, daemon=True).start()
        assert done.wait(5)
    assert screen.state["grid"]["site"] == "mlp"


@pytest.mark.parametrize("pace", [replace(PACE, live=0.0)])
def test_a_patched_run_that_fails_leaves_nothing_of_older_inputs(session, screen, monkeypatch):
    session.change(selection=[(5, 5)])
    assert session.wait(30)
    assert screen.state["detail"]

    def fail(*_):
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "patched", fail)
        session.change(noise=3.0)
        assert session.wait(30)
    assert "out of luck" in screen.state["error"]
    assert screen.state["runs"]["generation"] == screen.state["grid"]["generation"] == session.generation
    assert np.isnan(grid_of(screen)).all()
    assert screen.state["detail"] == {}


def test_what_names_a_grid_waits_for_no_model(demo, picture):
    """It is looked up under the widget's lock: who holds the model may be waiting for that one."""
    tracer, named = Tracer(demo, picture, "what color is the circle?"), []
    with demo.lock:
        thread = threading.Thread(target=lambda: named.append(inputs_of(tracer)))
        thread.start()
        thread.join(20)
        assert named
    thread.join()


def test_stop_answers_only_for_what_it_stops(demo, example, screen):
    made = session_of(Tracer(demo, example.image, example.question), screen)
    made.stop()
    assert screen.said("done") == []
    made.trace_all(5)  # there is no grid yet
    made.stop()
    assert [(content["id"], content["stopped"], content["generation"]) for content in screen.said("done")] == [
        (5, True, 0)
    ]
    made.stop()
    assert len(screen.said("done")) == 1
    made.begin()
    assert made.wait(30)
    assert not made.computed
    made.stop()
    assert len(screen.said("done")) == 1
    made.close()


def test_every_answer_says_of_which_inputs(demo, example, screen):
    made = session_of(Tracer(demo, example.image, example.question), screen)
    made.change(noise=1.0)
    made.change(3, selection=[(0, 0), (1, 1)])
    made.change(4, selection=[(0, 0), (2, 2)])
    assert [(content["id"], content["generation"]) for content in screen.said("done")] == [(3, 1)]
    made.trace_all(5)
    made.stop()
    assert screen.said("done")[-1]["generation"] == 1
    made.close()
    assert made.wait(30)


@pytest.mark.parametrize("ask", ["grid", "map"])
def test_a_score_that_is_no_number_is_computed_once(session, ask, monkeypatch):
    counted = []
    whole = Question.scoring

    def without_numbers(question, logits, cause=None):
        if logits.ndim < 4:  # of the clean and the corrupted runs
            return whole(question, logits, cause)
        counted.append(logits.shape[1])
        return lambda: np.full(logits.shape[:2], np.nan)

    monkeypatch.setattr(Question, "scoring", without_numbers)
    for _ in range(3):
        if ask == "grid":
            session.trace_all()
        else:
            session.overlay_job.choose("map_disrupt", 4)
        assert session.wait(30)
    assert sum(counted) == (48 if ask == "grid" else 4)
