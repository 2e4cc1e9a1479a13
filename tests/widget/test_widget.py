"""The widget without a browser: what it sends, takes, refuses and leaves behind."""

import gc
import io
import threading
import time
import weakref

import numpy as np
import pytest
from PIL import Image

from blip_trace_widget import (
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Scale,
    State,
    Tracer,
    TraceWidget,
    examples,
)
from blip_trace_widget.display import protocol
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Runner
from helpers.front_end import set_traits, take
from helpers.widgets import compute_no_more, quick_widget, slow_down

pytestmark = pytest.mark.usefixtures("recording")


@pytest.fixture
def widget(demo, example):
    """With as many samples as `tracer`."""
    made = quick_widget(example.image, example.question, model=demo)
    made.wait(30)
    yield made
    made.close()


def values(widget):
    grid = widget.grid
    shape = (len(protocol.CELL_FIELDS), grid["layers"], len(grid["tokens"]))
    return np.frombuffer(grid["values"], "<f4").reshape(shape)


def test_it_shows_both_runs_and_an_empty_grid(widget, example, tracer):
    assert widget.runs["clean"]["answer"] == tracer.answer
    assert widget.runs["clean"]["score"] == pytest.approx(tracer.clean.score, abs=1e-6)
    assert widget.runs["corrupted"]["score"] == pytest.approx(tracer.corrupted.score, abs=1e-6)
    assert widget.runs["total_effect"] == pytest.approx(tracer.total_effect.value, abs=1e-6)
    assert widget.grid["tokens"] == tracer.question_tokens
    assert np.isnan(values(widget)).all()
    assert widget.curve["factors"][-1] == 10
    assert widget.curve["scores"][widget.curve["factors"].index(5.0)] == pytest.approx(tracer.corrupted.score, abs=1e-6)
    assert [block["enabled"] for block in widget.setup["blocks"]] == [False, True, True]
    assert Image.open(io.BytesIO(widget.picture)).size == (384, 384)
    assert repr(widget) == f"TraceWidget({example.question!r})"
    assert widget.error == ""


def test_a_patch_message_fills_the_cell_and_the_detail(widget, tracer):
    take(widget, {"type": "patch", "id": 7, "cells": [[5, 5]]})
    widget.wait(30)
    effect = tracer.patch(State("question_encoder", 5, 5))
    (event, buffers) = widget.comm.events("cells")[-1]
    assert (event["id"], event["cells"], event["generation"]) == (7, [(5, 5)], widget.generation)
    exact = [effect.score, effect.indirect_effect, effect.margin, effect.recovery, effect.recovery_margin, 1.0]
    np.testing.assert_allclose(np.frombuffer(buffers[0], "<f4"), exact, atol=1e-6)
    np.testing.assert_allclose(values(widget)[:, 5, 5], exact, atol=1e-6)
    assert np.isnan(values(widget)).sum() == values(widget).size - len(protocol.CELL_FIELDS)
    assert widget.detail["recovery"] == pytest.approx(effect.recovery, abs=1e-5)
    assert widget.detail["bars"]["words"][0] == tracer.clean.top[0][0]
    words = widget.detail["bars"]["words"]
    assert len(set(words)) == len(widget.runs["bars"]["words"]) == 7
    for word, share in effect.top[:2]:
        assert widget.detail["bars"]["patched"][words.index(word)] == pytest.approx(share, abs=1e-6)
    assert widget.selection == [(5, 5)]


def test_setting_the_selection_in_python_is_the_same_as_the_hand(widget, tracer):
    widget.selection = [(5, 5), (4, 2)]
    widget.wait(30)
    effect = tracer.patch([State("question_encoder", 5, 5), State("question_encoder", 4, 2)])
    assert widget.detail["recovery"] == pytest.approx(effect.recovery, abs=1e-5)
    assert np.isnan(values(widget)).all()
    widget.selection = []
    assert widget.detail == {}


def test_trace_all_fills_the_grid_with_progress(widget, tracer):
    take(widget, {"type": "trace", "id": 3})
    widget.wait(30)
    trace = tracer.trace()
    np.testing.assert_allclose(values(widget)[3], trace.recovery, atol=1e-5)
    np.testing.assert_allclose(widget.trace.samples, trace.samples, atol=1e-6)
    progress = [event for event, _ in widget.comm.events("progress")]
    assert progress[-1]["done"] == progress[-1]["total"] == 48
    assert all(event["id"] == 3 for event in progress)
    assert widget.comm.events("done")[-1][0]["stopped"] is False


def test_moving_the_noise_recomputes_what_was_shown(widget, tracer):
    widget.selection = [(5, 5)]
    widget.trace_all()
    widget.wait(30)
    widget.noise = 2.0
    assert widget.generation == 1
    widget.wait(30)
    moved = tracer.with_corruption(factor=2.0)
    np.testing.assert_allclose(values(widget)[3], moved.trace().recovery, atol=1e-5)
    assert widget.grid["generation"] == widget.runs["generation"] == widget.detail["generation"] == 1
    assert widget.detail["score"] == pytest.approx(moved.patch(State("question_encoder", 5, 5)).score, abs=1e-6)


def test_only_what_was_shown_is_recomputed(widget):
    widget.selection = [(5, 5)]
    widget.wait(30)
    widget.noise = 2.0
    widget.wait(30)
    assert np.isfinite(values(widget)[0]).sum() == 1


def test_the_latest_of_many_moves_wins_and_none_is_late(widget, monkeypatch, tracer):
    slow_down(monkeypatch, widget.model)
    widget.trace_all()
    for step in range(200):
        set_traits(widget, noise=step / 40)
    set_traits(widget, noise=3.0)
    widget.wait(60)
    assert widget.generation == 201
    moved = tracer.with_corruption(factor=3.0)
    np.testing.assert_allclose(values(widget)[3], moved.trace().recovery, atol=1e-5)


def test_handlers_return_at_once_while_the_worker_computes(widget, monkeypatch):
    slow_down(monkeypatch, widget.model, 0.2)
    widget.trace_all()
    time.sleep(0.1)
    started = time.perf_counter()
    for step in range(20):
        set_traits(widget, noise=1 + step / 10)
        take(widget, {"type": "patch", "id": step + 1, "cells": [[step % 6, 0]]})
    # An order of magnitude over what is aimed at: this catches waiting for a computation, not a slow machine.
    assert (time.perf_counter() - started) / 40 < 0.05
    widget.wait(60)


def test_stop_keeps_what_is_computed(widget, monkeypatch):
    slow_down(monkeypatch, widget.model, 0.05)
    take(widget, {"type": "trace", "id": 9})
    deadline = time.monotonic() + 30
    while not widget.comm.events("cells"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    take(widget, {"type": "stop", "id": 10})
    widget.wait(30)
    known = np.isfinite(values(widget)[0])
    assert 0 < known.sum() < known.size
    assert widget.comm.events("done")[-1][0]["stopped"] is True
    widget.noise = 4.0
    widget.wait(30)
    assert np.isfinite(values(widget)[0]).sum() == known.sum()
    widget.trace_all()
    widget.wait(30)
    assert np.isfinite(values(widget)[0]).all()


def test_a_click_goes_before_the_rest_of_the_grid(widget, monkeypatch):
    slow_down(monkeypatch, widget.model, 0.05)
    take(widget, {"type": "trace", "id": 1})
    time.sleep(0.1)
    take(widget, {"type": "patch", "id": 2, "cells": [[5, 7]]})
    widget.wait(30)
    order = [event["id"] for event, _ in widget.comm.events("cells")]
    assert order.index(2) < len(order) - 1


def test_switching_block_and_site_keeps_what_was_computed(widget, tracer, monkeypatch):
    widget.trace_all()
    widget.wait(30)
    before = values(widget)
    widget.block = "answer_decoder"
    assert widget.grid["tokens"] == ["[DEC]"]
    assert widget.grid["constructed"] == [(5, 0)]
    widget.selection = [(5, 0)]
    widget.site = "cross_attention"
    widget.wait(30)
    assert widget.detail["site"] == "cross_attention"
    exact = tracer.patch(State("answer_decoder", 5, 0, "cross_attention")).recovery
    assert widget.detail["recovery"] == pytest.approx(exact, abs=1e-5)
    compute_no_more(monkeypatch)
    widget.block, widget.site = "question_encoder", "block_output"
    widget.wait(30)
    np.testing.assert_array_equal(values(widget), before)


def test_window_and_direction(widget, tracer):
    widget.window, widget.direction = 3, "disrupt"
    widget.trace_all()
    widget.wait(30)
    np.testing.assert_allclose(widget.trace.recovery, tracer.trace(window=3, direction="disrupt").recovery, atol=1e-5)


def test_a_new_question_brings_its_own_answer_and_rows(widget, demo, example):
    widget.trace_all()
    widget.selection = [(0, 7)]
    widget.wait(30)
    widget.question = "how many circles are there?"
    widget.wait(30)
    fresh = Tracer(demo, example.image, "how many circles are there?")
    assert widget.runs["clean"]["answer"] == fresh.answer
    assert widget.grid["tokens"] == fresh.question_tokens
    assert widget.setup["blocks"][1]["tokens"] == fresh.question_tokens
    np.testing.assert_allclose(values(widget)[3], fresh.trace().recovery, atol=1e-5)
    assert widget.selection == []
    assert widget.curve["clean"] == pytest.approx(fresh.clean.score, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "corruption"),
    [
        ({"kind": "additive"}, GaussianNoise(kind="additive")),
        ({"samples": 3}, GaussianNoise(samples=3)),
        ({"seed": 4}, GaussianNoise(seed=4)),
    ],
)
def test_the_noise_can_be_changed_in_every_way(widget, demo, example, changes, corruption):
    widget.trace_all()
    set_traits(widget, **changes)
    widget.wait(30)
    fresh = Tracer(demo, example.image, example.question, corruption=corruption)
    assert widget.runs["corrupted"]["score"] == pytest.approx(fresh.corrupted.score, abs=1e-6)
    np.testing.assert_allclose(values(widget)[1], fresh.trace().indirect_effect, atol=1e-5)
    assert widget.curve["scores"][widget.curve["factors"].index(5.0)] == pytest.approx(fresh.corrupted.score, abs=1e-6)


def test_the_metric_can_be_changed(widget, tracer):
    widget.metric = "log_probability"
    widget.wait(30)
    assert widget.runs["clean"]["score"] == pytest.approx(np.log(tracer.clean.score), abs=1e-5)


def test_an_example_and_a_picture_of_the_front_end(widget, demo, picture):
    set_traits(widget, example=3)
    widget.wait(30)
    assert widget.question == examples()[3].question
    assert widget.runs["clean"]["answer"] == Tracer(demo, examples()[3].image, examples()[3].question).answer
    file = io.BytesIO()
    picture.save(file, "PNG")
    shown = widget.picture
    take(widget, {"type": "image", "id": 2}, [memoryview(file.getvalue())])
    widget.wait(30)
    assert widget.picture != shown
    assert widget.example == -1
    fresh = Tracer(demo, picture, examples()[3].question)
    assert widget.runs["clean"]["score"] == pytest.approx(fresh.clean.score, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("question", "   ", "question: expected a text with at least one token"),
        ("question", "red " * 600, "question: expected at most"),
        ("question", None, "question"),
        ("noise", float("nan"), "noise: expected a finite number"),
        ("noise", -1, "noise: expected a finite number of 0 or more"),
        ("noise", "much", "noise"),
        ("block", "vit", "block: expected one of"),
        ("block", "image_encoder", "block: 'image_encoder' cannot be traced now"),
        ("corruption", "Blur", "corruption: expected one of"),
        ("head", 99, "head: expected from 0 to"),
        ("axes", "heads", "axes: expected one of"),
        ("limit", -1, "limit: expected a finite number"),
        ("foil", "red " * 600, "foil"),
        ("other_question", "red " * 600, "question: expected at most"),
        ("at", "pixels", "at: expected one of"),
        ("scale", -1, "scale: expected a finite number of 0 or more"),
        ("strength", float("inf"), "strength: expected a finite number of 0 or more"),
        ("positions", [], "positions: expected at least one"),
        ("site", "residual", "site: expected one of"),
        ("metric", "logit_difference", "needs a foil"),
        ("samples", 0, "samples: expected from 1 to 200"),
        ("window", 7, "window: expected from 1 to 6"),
        ("example", 99, "example: expected from -1 to"),
        ("selection", [[99, 0]], "selection .layer.: expected from 0 to 5"),
        ("selection", "cell", "selection"),
    ],
)
def test_a_bad_value_of_the_front_end_is_told_and_the_last_good_one_comes_back(widget, name, value, text):
    good, generation = getattr(widget, name), widget.generation
    widget.comm.sent.clear()
    set_traits(widget, **{name: value})
    assert text in widget.error.replace("(", ".").replace(")", ".")
    assert getattr(widget, name) == good
    assert [state[name] for how, state, _ in widget.comm.sent if how == "update" and name in state][-1] == good
    assert widget.generation == generation
    widget.wait(30)
    take(widget, {"type": "patch", "id": 1, "cells": [[0, 0]]})
    widget.wait(30)
    assert widget.detail


@pytest.mark.parametrize(
    ("name", "value"), [("question", ""), ("noise", float("nan")), ("block", "vit"), ("samples", 0)]
)
def test_a_bad_value_of_python_raises_and_changes_nothing(widget, name, value):
    good = getattr(widget, name)
    with pytest.raises(ValueError, match=name):
        setattr(widget, name, value)
    assert getattr(widget, name) == good


@pytest.mark.parametrize(
    ("content", "buffers", "text"),
    [
        ("hello", (), "message: expected an object"),
        ({"type": "eval", "id": 1, "code": "1"}, (), "type must be one of"),
        ({"type": "hello", "id": 1, "version": 99}, (), "restart the kernel and reload the page"),
        ({"type": "patch", "id": 1, "cells": [[0, 99]]}, (), "selection (position): expected from 0 to 7"),
        ({"type": "image", "id": 1}, (), "image: expected one picture file"),
        ({"type": "image", "id": 1}, (b"../../etc/passwd",), "cannot be read as a picture"),
    ],
)
def test_a_bad_message_is_told_and_nothing_changes(widget, content, buffers, text):
    runs = widget.runs
    take(widget, content, [memoryview(part) for part in buffers])
    widget.wait(30)
    assert text in widget.error
    assert widget.runs == runs
    assert widget.steps == {"undo": False, "redo": False}
    widget.noise = 3.0
    widget.wait(30)
    assert (widget.error, widget.selection, widget.detail) == ("", [], {})
    assert widget.runs["generation"] == widget.generation


def test_a_greeting_is_heard_and_nothing_more(widget):
    take(widget, {"type": "hello", "id": 5, "version": protocol.PROTOCOL_VERSION})
    widget.wait(30)
    assert [content["id"] for content, _ in widget.comm.events("taken")] == [5]
    assert widget.error == ""


def test_a_patch_of_nothing_lets_the_selection_go_and_is_answered(widget):
    take(widget, {"type": "patch", "id": 1, "cells": [[5, 5]]})
    widget.wait(30)
    take(widget, {"type": "patch", "id": 2, "cells": []})
    widget.wait(30)
    assert (widget.selection, widget.detail, widget.error) == ([], {}, "")
    assert [content["id"] for content, _ in widget.comm.events("done")] == [1, 2]


def test_an_exception_while_computing_is_shown_and_the_worker_lives(widget, monkeypatch):
    def boom(*_):
        raise RuntimeError("boom")

    with monkeypatch.context() as broken:
        broken.setattr(Runner, "patched", boom)
        take(widget, {"type": "patch", "id": 1, "cells": [[0, 0]]})
        widget.wait(30)
        assert widget.error == "RuntimeError: boom"
        take(widget, {"type": "trace", "id": 2})
        widget.wait(30)
    set_traits(widget, error="")
    take(widget, {"type": "patch", "id": 3, "cells": [[0, 0]]})
    widget.wait(30)
    assert widget.error == ""
    assert np.isfinite(values(widget)[0, 0, 0])


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_whatever_ends_an_update_its_inputs_go_back(widget, monkeypatch, raised):
    noise, runs = widget.noise, dict(widget.runs)

    def leave(*_):
        raise raised

    with monkeypatch.context() as broken:
        broken.setattr(Runner, "encode", leave)
        widget.noise = 1.0
        widget.wait(30)
    memory = "OutOfMemoryError: memory: not even one run"
    assert widget.error.startswith(memory if isinstance(raised, MemoryError) else type(raised).__name__)
    assert (widget.noise, widget.runs["corrupted"]["score"]) == (noise, runs["corrupted"]["score"])
    widget.noise = 1.0
    widget.wait(30)
    assert (widget.error, widget.noise, widget.tracer.corruption.factor) == ("", 1.0, 1.0)


def test_an_update_that_fails_returns_to_the_last_good_state(widget, monkeypatch):
    good = dict(widget.runs)
    whole = Runner.greedy
    monkeypatch.setattr(
        Runner,
        "greedy",
        lambda self, encoded, *rest, **more: [[]] if encoded.shape[0] == 1 else whole(self, encoded, *rest, **more),
    )
    question = widget.question
    widget.question = "what shape is red?"
    widget.wait(30)
    assert "the model's own answer to this question is empty" in widget.error
    assert widget.question == question
    assert widget.runs["clean"] == good["clean"]
    assert widget.runs["generation"] == widget.generation


def test_python_is_heard_while_results_are_shown(widget):
    """What one thread shows must not deafen another."""
    showing, release = threading.Event(), threading.Event()

    def slow(_change):
        showing.set()
        release.wait(20)

    widget.observe(slow, "runs")
    widget.noise = 3.0
    assert showing.wait(20)
    other = threading.Thread(target=lambda: setattr(widget, "noise", 2.5))
    other.start()
    time.sleep(0.2)
    release.set()
    other.join(20)
    widget.wait(30)
    assert widget.runs["damage"] == "ν 2.5"
    assert widget.tracer.corruption.factor == widget.noise == 2.5


def test_a_failing_example_can_be_chosen_again(widget, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Runner, "greedy", lambda *_, **__: [[]])
        widget.example = 3
        widget.wait(30)
        assert "answer" in widget.error
    assert widget.example == -1
    widget.example = 3
    widget.wait(30)
    assert widget.question == examples()[3].question
    assert widget.error == ""


def test_a_foil_goes_with_its_question(demo, example):
    widget = quick_widget(example.image, example.question, model=demo, foil="blue", metric="logit_difference")
    widget.wait(30)
    assert "logit_difference" in widget.setup["choices"]["metric"]
    widget.question = "how many circles are there?"
    widget.wait(30)
    assert widget.error == ""
    assert widget.metric == widget.runs["metric"] == "probability"
    widget.close()


def test_everything_sent_is_plain_json(widget):
    import json

    widget.trace_all()
    widget.selection = [(0, 0)]
    widget.wait(30)
    widget.pin()
    for name in ("look", "setup", "runs", "detail", "pinned", "curve", "steps"):
        json.dumps(getattr(widget, name), allow_nan=False)


def test_from_tracer_shares_what_is_computed(tracer, monkeypatch):
    tracer.trace()
    monkeypatch.setattr(
        "blip_trace_widget.tracing.image.ImageTokens.__init__", lambda *_: pytest.fail("embedded again")
    )
    widget = TraceWidget.from_tracer(tracer)
    widget.wait(30)
    assert widget.tracer is tracer
    assert widget.error == ""
    widget.close()
    with pytest.raises(TypeError, match="tracer: expected Tracer"):
        TraceWidget.from_tracer("red")


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (("red.png",), {}, ValueError, "image, question: give both"),
        ((b"x", "what?"), {}, ValueError, "image"),
        ((np.zeros((4, 4), np.uint8), ""), {}, ValueError, "question"),
        ((), {"colour": 1}, TypeError, "colour"),
        ((), {"metric": "accuracy"}, ValueError, "metric"),
        ((), {"corruption": 5}, TypeError, "corruption"),
        ((), {"pace": 5}, TypeError, "pace: expected a Pace, got int"),
        ((), {"model": 3}, TypeError, "model"),
        ((), {"model": "/nowhere/at/all"}, OSError, "model"),
    ],
)
def test_wrong_arguments_raise_in_python(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        TraceWidget(*arguments, **keywords)


def test_two_hundred_widgets_leave_nothing_behind(demo, example):
    threads = threading.active_count()
    gone = []
    for _ in range(200):
        widget = quick_widget(example.image, example.question, model=demo)
        widget.close()
        gone.append(weakref.ref(widget))
    del widget
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        gc.collect()
        if not any(reference() for reference in gone) and threading.active_count() <= threads:
            break
        time.sleep(0.05)
    assert sum(reference() is not None for reference in gone) == 0
    assert threading.active_count() <= threads


def test_wait_says_when_it_gave_up(widget, monkeypatch):
    slow_down(monkeypatch, widget.model, 0.3)
    widget.trace_all()
    with pytest.raises(TimeoutError, match="still computing"):
        widget.wait(0.01)
    widget.stop()
    widget.wait(30)


def same_grid(widget, tracer, **asked):
    """Whether the grid on show is what a tracer gives."""
    exact = tracer.trace(**asked)
    shown = values(widget)
    for field, name in enumerate(protocol.CELL_FIELDS[:-1]):
        wanted = {"score": "scores"}.get(name, name)
        np.testing.assert_allclose(shown[field], getattr(exact, wanted), atol=1e-5, err_msg=name)
    if tracer.corruption.samples > 1:
        np.testing.assert_array_equal(shown[-1], exact.significant)


def test_every_corruption_can_be_chosen_by_hand(widget, demo, example):
    other = "how many circles are there?"
    widget.trace_all()
    widget.wait(30)
    wanted = {
        "ImageSwap": (ImageSwap(examples()[3].image), ["swap", "other picture"]),
        "QuestionSwap": (QuestionSwap("what color is the square?"), ["swap", "other question"]),
        "MeanAblation": (MeanAblation("zero"), ["ablation", "ablation"]),
        "Scale": (Scale(0.25, at="patch_embeddings"), ["scaling", "tokens × 0.25"]),
        "GaussianNoise": (GaussianNoise(5.0, at="patch_embeddings"), ["noise", "ν 5.0"]),
    }
    file = io.BytesIO()
    examples()[3].image.save(file, "PNG")
    for name, (corruption, said) in wanted.items():
        if name == "ImageSwap":
            take(widget, {"type": "other_image", "id": 1}, [file.getvalue()])
        else:
            set_traits(widget, corruption=name)
        if name == "QuestionSwap":
            assert widget.other_question == example.question  # of as many tokens, until another is given
            widget.wait(30)
            set_traits(widget, other_question=other)
            widget.wait(30)
            assert "question (of QuestionSwap): expected" in widget.error
            assert widget.other_question == example.question
            set_traits(widget, other_question="what color is the square?")
        if name == "MeanAblation":
            set_traits(widget, to="zero")
        if name == "Scale":
            set_traits(widget, scale=0.25)
        if name in ("Scale", "GaussianNoise"):
            set_traits(widget, at="patch_embeddings")
        widget.wait(30)
        assert widget.error == "" or name == "QuestionSwap"
        assert widget.tracer.corruption == corruption
        assert [widget.runs["cause"], widget.runs["damage"]] == said
        same_grid(widget, Tracer(demo, example.image, example.question, corruption=corruption))
    assert widget.curve


def test_noise_goes_to_words_that_are_checked(widget, demo, example):
    widget.patches = [(0, 0)]
    widget.wait(30)
    set_traits(widget, at="question_embeddings")
    assert widget.patches == []  # the picture is the same in both runs
    widget.wait(30)
    assert widget.error == ""
    assert widget.runs["line"].endswith("on every word")
    widget.positions = ["circle"]
    assert widget.positions == [5]
    widget.region = np.eye(8, dtype=bool)  # kept for another place
    widget.trace_all()
    widget.wait(30)
    noise = GaussianNoise(at="question_embeddings", positions=[5])
    assert widget.tracer.corruption == noise
    assert widget.runs["line"].endswith("on “circle”")
    same_grid(widget, Tracer(demo, example.image, example.question, corruption=noise))
    assert widget.curve["scores"][0] == pytest.approx(widget.tracer.clean.score, abs=1e-6)
    assert "positions=[5]" in widget.code
    with pytest.raises(ValueError, match="positions: there is no token 'square'"):
        widget.positions = ["square"]
    set_traits(widget, positions=[99])
    assert "positions: expected from 0 to 7, got 99" in widget.error
    widget.undo()
    widget.undo()
    assert widget.positions is None
    widget.redo()
    assert widget.positions == [5]
    widget.redo()
    widget.question = "what is there?"  # other words
    widget.wait(30)
    assert (widget.positions, widget.error) == (None, "")
    widget.at = "patch_embeddings"
    widget.wait(30)
    assert widget.tracer.corruption.region is not None


def test_a_corruption_that_has_no_words_goes_back_to_the_picture(widget):
    widget.at = "question_embeddings"
    widget.corruption = "MeanAblation"
    assert widget.at == "image_embeddings"
    with pytest.raises(ValueError, match=r"at .of MeanAblation.: expected one of"):
        widget.at = "question_embeddings"
    widget.wait(30)
    assert widget.tracer.corruption == MeanAblation()


def test_words_that_were_given_are_shown_as_their_positions(demo, example):
    noise = GaussianNoise(samples=2, at="question_embeddings", positions="circle")
    widget = TraceWidget(example.image, example.question, model=demo, corruption=noise)
    widget.wait(30)
    assert widget.positions == [5]
    widget.noise = 2.0
    widget.wait(30)
    assert widget.tracer.corruption == GaussianNoise(2.0, samples=2, at="question_embeddings", positions=[5])
    widget.close()


def test_the_image_encoder_opens_with_noise_before_it_and_closes_with_noise_behind_it(widget, demo, example):
    assert not widget.setup["blocks"][0]["enabled"]
    widget.at = "patch_embeddings"
    widget.block = "image_encoder"  # at once, before the new runs are there
    widget.site = "cross_attention"
    assert widget.site == "block_output"  # which the ViT has, as it has no cross-attention
    widget.wait(60)
    assert widget.setup["blocks"][0]["enabled"]
    assert len(widget.grid["tokens"]) == 65
    widget.selection = [(2, 9)]
    widget.wait(60)
    noise = GaussianNoise(at="patch_embeddings")
    exact = Tracer(demo, example.image, example.question, corruption=noise).patch(State("image_encoder", 2, 9))
    assert widget.detail["score"] == pytest.approx(exact.score, abs=1e-5)
    widget.at = "image_embeddings"
    assert widget.block == "question_encoder"
    widget.wait(60)
    assert widget.error == ""
    assert widget.grid["block"] == "question_encoder"


def test_single_heads(widget, tracer):
    widget.site = "cross_attention"
    widget.head = 1
    widget.trace_all()
    widget.wait(30)
    assert (widget.grid["site"], widget.grid["head"]) == ("cross_attention", 1)
    same_grid(widget, tracer, site="cross_attention", head=1)
    widget.site = "mlp"
    assert widget.head is None


def test_a_foil_opens_the_logit_difference(widget, demo, example):
    widget.foil = "blue"
    widget.metric = "logit_difference"
    widget.selection = [(5, 5)]
    widget.wait(30)
    exact = Tracer(demo, example.image, example.question, foil="blue", metric="logit_difference")
    assert widget.detail["score"] == pytest.approx(exact.patch(State("question_encoder", 5, 5)).score, abs=1e-5)
    widget.foil = ""
    assert widget.metric == "probability"
    widget.wait(30)
    assert widget.error == ""


def asked(widget):
    names = ("question", "noise", "metric", "block", "site", "selection", "example", "direction", "corruption")
    return {name: getattr(widget, name) for name in names}


def test_undo_and_redo_of_all_that_was_asked(widget, demo, example):
    steps = [asked(widget)]
    picture = io.BytesIO()
    examples()[3].image.save(picture, "PNG")

    def ask(do):
        do()
        widget.wait(30)
        steps.append(asked(widget))

    ask(lambda: set_traits(widget, noise=3.0))
    ask(lambda: set_traits(widget, site="mlp"))
    ask(lambda: take(widget, {"type": "patch", "id": 1, "cells": [[2, 2]]}))
    ask(lambda: set_traits(widget, question="how many circles are there?"))
    ask(lambda: set_traits(widget, metric="log_probability"))
    ask(lambda: take(widget, {"type": "image", "id": 2}, [picture.getvalue()]))
    ask(lambda: set_traits(widget, block="answer_decoder"))
    ask(lambda: set_traits(widget, corruption="MeanAblation"))
    ask(lambda: set_traits(widget, example=2))
    assert widget.steps == {"undo": True, "redo": False}
    for back, order in ((True, steps[-2::-1]), (False, steps[1:])):
        for wanted in order:
            take(widget, {"type": "undo" if back else "redo", "id": 3})
            widget.wait(30)
            assert asked(widget) == wanted
            assert widget.error == ""
            fresh = Tracer(
                demo, widget.tracer.image, widget.question, corruption=widget.tracer.corruption, metric=widget.metric
            )
            assert widget.runs["corrupted"]["score"] == pytest.approx(fresh.corrupted.score, abs=1e-5)
            assert bool(widget.detail) == bool(widget.selection)
        assert widget.steps == {"undo": not back, "redo": back}
    assert widget.tracer.image.tobytes() == examples()[2].image.tobytes()


def test_undo_brings_back_a_word_that_the_question_meanwhile_had_not(widget):
    widget.selection = [(1, 7)]
    widget.wait(30)
    there = widget.detail["indirect_effect"]
    widget.question = "is it?"
    widget.wait(30)
    widget.undo()
    assert widget.selection == [(1, 7)]
    widget.wait(30)
    assert len(widget.grid["tokens"]) == 8
    assert widget.detail["indirect_effect"] == pytest.approx(there, abs=1e-6)


def test_a_selection_that_was_let_go_is_not_there_after_undo_either(widget):
    """The decoder has other rows for another answer; before it was given the selection was there."""
    widget.block = "answer_decoder"
    widget.selection = [(4, 0)]
    widget.wait(30)
    widget.answer = "dark red"
    widget.wait(30)
    assert widget.selection == []
    widget.seed = 1
    widget.wait(30)
    widget.undo()
    widget.wait(30)
    assert (widget.answer, widget.selection) == ("dark red", [])
    widget.undo()
    widget.wait(30)
    assert (widget.answer, widget.selection) == ("red", [(4, 0)])


def test_a_drag_of_the_slider_is_one_step(widget):
    for noise in (4.0, 3.0, 2.0):
        set_traits(widget, noise=noise)
    set_traits(widget, metric="log_probability")
    widget.undo()
    assert (widget.noise, widget.metric) == (2.0, "probability")
    widget.undo()
    assert widget.noise == 5.0
    widget.undo()  # there is nothing more
    assert widget.noise == 5.0
    widget.redo()
    widget.wait(30)
    assert widget.runs["damage"] == "ν 2.0"


def test_what_could_not_be_computed_is_no_step(widget):
    set_traits(widget, corruption="QuestionSwap")
    widget.wait(30)
    set_traits(widget, other_question="red?")
    widget.wait(30)
    assert "tokens" in widget.error
    widget.undo()
    widget.wait(30)
    assert widget.corruption == "GaussianNoise"
    assert widget.steps["undo"] is False


def test_a_pinned_result_stays_beside_the_next_one(widget, tracer):
    widget.selection = [(5, 5)]
    widget.wait(30)
    take(widget, {"type": "pin", "id": 1, "on": True})
    pinned = tracer.patch(State("question_encoder", 5, 5))
    assert widget.pinned["cells"] == [(5, 5)]
    assert widget.pinned["recovery"] == pytest.approx(pinned.recovery, abs=1e-5)
    widget.selection = [(4, 2)]
    widget.noise = 2.0
    widget.wait(30)
    assert widget.pinned["damage"] == "ν 5.0"
    for bars in (widget.detail["bars"], widget.runs["bars"]):
        ids = tracer.model.token_ids(bars["words"])
        np.testing.assert_allclose(bars["pinned"], pinned.distribution[ids], atol=1e-6)
    widget.question = "how many circles are there?"
    widget.wait(30)
    assert widget.pinned == {}
    assert widget.runs["bars"]["pinned"] == []
    widget.pin()  # nothing is selected: nothing to keep
    assert widget.pinned == {}


def test_the_export_menu(widget, tracer):
    widget.corruption = "ImageSwap"
    widget.corruption = "GaussianNoise"  # the other picture is kept
    widget.trace_all()
    widget.selection = [(5, 5), (4, 2)]
    widget.wait(30)
    for number, name in enumerate(protocol.FORMATS):
        take(widget, {"type": "export", "id": number, "format": name, "theme": "dark"})
        widget.wait(30)
        content, buffers = widget.comm.events("exported")[-1]
        assert (content["id"], content["format"]) == (number, name)
        assert set(content) == set(protocol.ExportedEvent.__annotations__)
        made = bytes(buffers[0])
        if name in ("picture", "other"):
            assert Image.open(io.BytesIO(made)).size == tracer.image.size
        else:
            assert len(made.decode()) > 100
    assert widget.error == ""
    take(widget, {"type": "export", "id": 9, "format": "pdf", "theme": "dark"})
    assert "field 'format' must be" in widget.error


def test_traits_link_to_other_widgets(widget):
    import ipywidgets

    slider, chooser = (
        ipywidgets.FloatSlider(max=10.0),
        ipywidgets.Dropdown(options=["question_encoder", "answer_decoder"]),
    )
    ipywidgets.link((widget, "noise"), (slider, "value"))
    ipywidgets.link((widget, "block"), (chooser, "value"))
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "selection")
    slider.value = 1.5
    chooser.value = "answer_decoder"
    widget.wait(30)
    assert widget.runs["damage"] == "ν 1.5"
    assert widget.grid["block"] == "answer_decoder"
    set_traits(widget, noise=2.5)
    assert slider.value == 2.5
    take(widget, {"type": "patch", "id": 1, "cells": [[1, 0]]})
    assert seen[-1] == [(1, 0)]


def test_a_refused_input_leaves_no_step_and_keeps_the_example(demo):
    widget = quick_widget(model=demo)
    widget.wait(30)
    widget.foil = "red blue green"
    widget.wait(30)
    assert "foil" in widget.error
    assert (widget.foil, widget.example, widget.steps["undo"]) == ("", 0, False)
    widget.close()


def test_a_given_answer_is_said_to_be_given(demo, example):
    for answer in (None, "red"):
        widget = quick_widget(example.image, example.question, model=demo, answer=answer)
        widget.wait(30)
        assert widget.runs["given"] is (answer is not None)
        widget.close()


def test_a_region_is_said(demo, example):
    region = np.zeros((8, 8), bool)
    region[2, 2:5] = True
    noise = GaussianNoise(region=region)
    widget = quick_widget(example.image, example.question, model=demo, corruption=noise)
    widget.wait(30)
    assert widget.runs["line"] == "multiplicative · 10 samples · seed 0 · 3 of 64 patches"
    widget.close()


def test_every_request_is_heard_at_once(widget, monkeypatch):
    slow_down(monkeypatch, widget.model)
    take(widget, {"type": "trace", "id": 12})
    assert widget.comm.events("taken")[-1][0]["id"] == 12
    widget.stop()


# --- the image side --------------------------------------------------------------------------------------------------


def square(*, inside=True):
    mask = np.full((8, 8), not inside)
    mask[1:4, 2:5] = inside
    return mask


def test_a_region_set_from_either_side_confines_the_damage(widget):
    widget.region = square()
    widget.wait(30)
    assert np.array_equal(widget.tracer.corruption.region, square())
    exact = Tracer(widget.tracer.model, widget.tracer.image, widget.question, corruption=GaussianNoise(region=square()))
    assert widget.runs["corrupted"]["score"] == pytest.approx(exact.corrupted.score, abs=1e-6)
    assert "9 of 64 patches" in widget.runs["line"]
    set_traits(widget, region=square(inside=False).tolist())
    widget.wait(30)
    assert np.array_equal(widget.tracer.corruption.region, square(inside=False))
    assert widget.get_state()["region"] == square(inside=False).tolist()
    widget.undo()
    widget.wait(30)
    assert np.array_equal(widget.region, square())
    assert np.array_equal(widget.tracer.corruption.region, square())
    widget.region = None
    widget.wait(30)
    assert widget.tracer.corruption == GaussianNoise()


@pytest.mark.parametrize("corruption", ["ImageSwap", "MeanAblation", "QuestionSwap"])
def test_a_region_holds_for_every_damage_of_the_picture(widget, corruption):
    widget.corruption = corruption
    widget.region = square()
    widget.wait(30)
    assert widget.error == ""
    region = getattr(widget.tracer.corruption, "region", None)
    assert region is None if corruption == "QuestionSwap" else np.array_equal(region, square())


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (np.zeros((8, 8), bool), "at least one patch"),
        (np.ones((4, 8), bool), "expected 8 x 8 patches"),
        ([[1, 0]], "boolean"),
        ("all", "boolean"),
        ([[True], [True, False]], "unequal"),
    ],
)
def test_what_is_no_region_is_refused_and_the_last_stays(widget, region, said):
    widget.region = square()
    with pytest.raises(ValueError, match=f"region: .*{said}"):
        widget.region = region
    assert np.array_equal(widget.region, square())
    set_traits(widget, region=np.zeros((3, 3), bool).tolist())
    assert "region" in widget.error
    assert np.array_equal(widget.region, square())


def test_a_region_of_the_tracer_is_taken_over(demo, example):
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(region=square()))
    widget = TraceWidget.from_tracer(tracer)
    assert np.array_equal(widget.region, square())
    widget.noise = 2.0
    widget.wait(30)
    assert np.array_equal(widget.tracer.corruption.region, square())
    widget.close()


def test_patches_are_patched_together_and_let_the_cells_go(widget):
    widget.selection = [(5, 5)]
    widget.patches = [(2, 2), (2, 3)]
    widget.wait(30)
    assert widget.selection == []
    exact = widget.tracer.patch_image_tokens([1 + 2 * 8 + 2, 1 + 2 * 8 + 3])
    assert widget.detail["patches"] == [(2, 2), (2, 3)]
    assert widget.detail["cells"] == []
    assert widget.detail["indirect_effect"] == pytest.approx(exact.indirect_effect, abs=1e-6)
    widget.direction = "disrupt"
    widget.noise = 2.0
    widget.wait(30)
    exact = widget.tracer.patch_image_tokens([1 + 2 * 8 + 2, 1 + 2 * 8 + 3], "disrupt")
    assert widget.detail["direction"] == "disrupt"
    assert widget.detail["indirect_effect"] == pytest.approx(exact.indirect_effect, abs=1e-6)
    widget.block = "answer_decoder"  # the picture stays
    widget.wait(30)
    assert widget.patches == [(2, 2), (2, 3)]
    take(widget, {"type": "patch", "id": 3, "cells": [[1, 0]]})
    widget.wait(30)
    assert widget.patches == []
    assert widget.detail["cells"] == [(1, 0)]
    widget.undo()
    widget.wait(30)
    assert (widget.selection, widget.patches) == ([], [(2, 2), (2, 3)])
    assert widget.detail["patches"] == [(2, 2), (2, 3)]


def test_patches_go_where_the_picture_is_not_damaged_or_another(widget):
    widget.patches = [(0, 0)]
    widget.wait(30)
    widget.corruption = "QuestionSwap"
    widget.wait(30)
    assert (widget.patches, widget.detail, widget.error) == ([], {}, "")
    with pytest.raises(ValueError, match=r"patches: .*QuestionSwap\(.* leaves the picture alone"):
        widget.patches = [(0, 0)]
    widget.corruption = "GaussianNoise"
    widget.patches, widget.region = [(0, 0)], square()
    widget.example = 1
    widget.wait(30)
    assert (widget.patches, widget.region, widget.error) == ([], None, "")
    with pytest.raises(ValueError, match=r"patches \(column\): expected from 0 to 7, got 8"):
        widget.patches = [(0, 8)]
    with pytest.raises(ValueError, match="patches: expected a list of"):
        widget.patches = [3]


@pytest.mark.parametrize("to", ["marked", "others", "all"])
def test_the_front_end_sets_the_region_to_what_is_marked(widget, to):
    widget.region = np.eye(8, dtype=bool)
    widget.patches = [(row, column) for row in (1, 2, 3) for column in (2, 3, 4)]
    take(widget, {"type": "set_region", "id": 4, "to": to})
    widget.wait(30)
    expected = {"marked": square(), "others": square(inside=False), "all": None}[to]
    assert widget.error == ""
    assert np.array_equal(widget.region, expected) if expected is not None else widget.region is None


def test_of_the_image_encoder_what_is_marked_are_its_cells(widget):
    widget.at = "patch_embeddings"
    widget.wait(30)
    widget.block = "image_encoder"
    widget.selection = [(3, 0), (3, 1 + 8 + 2), (3, 1)]
    take(widget, {"type": "set_region", "id": 4, "to": "marked"})
    widget.wait(30)
    expected = np.zeros((8, 8), bool)
    expected[1, 2] = expected[0, 0] = True
    assert np.array_equal(widget.region, expected)


def test_the_overlay_follows_its_traits_and_messages(widget):
    widget.square = 4
    widget.overlay = "map_disrupt"
    widget.wait(30)
    assert (widget.picture_map["overlay"], widget.picture_map["rows"], widget.picture_map["done"]) == (
        "map_disrupt",
        2,
        4,
    )
    take(widget, {"type": "fill_overlay", "id": 5, "on": False})
    take(widget, {"type": "fill_overlay", "id": 6, "on": True})
    take(widget, {"type": "attention", "id": 7, "layer": 2})
    widget.wait(30)
    ((content, buffers),) = widget.comm.events("attention")
    assert (content["id"], content["layer"]) == (7, 2)
    assert len(buffers[0]) == 4 * 8 * 64
    take(widget, {"type": "attention", "id": 8, "layer": 6})
    assert "layer: expected from 0 to 5, got 6" in widget.error
    widget.overlay = "none"
    widget.wait(30)
    assert widget.picture_map == {}
    for name, value in (("overlay", "heat"), ("square", 0), ("square", 9), ("opacity", 1.5)):
        with pytest.raises(ValueError, match=name):
            setattr(widget, name, value)


def test_grids_of_other_blocks_and_the_map_of_heads_can_be_had(widget):
    assert np.isnan(widget.trace_of("answer_decoder").scores).all()
    widget.block = "answer_decoder"
    widget.trace_all()
    widget.wait(30)
    widget.block = "question_encoder"
    widget.wait(30)
    np.testing.assert_array_equal(
        widget.trace_of("answer_decoder").samples, widget.tracer.trace("answer_decoder").samples
    )
    assert widget.trace_of("image_encoder") is None
    with pytest.raises(ValueError, match="block"):
        widget.trace_of("decoder")
    assert widget.head_map is None
    widget.site = "cross_attention"
    widget.wait(30)
    widget.trace_heads()
    widget.wait(60)
    assert widget.heads == {"done": 192, "total": 192}
    assert widget.head_map.complete
    assert "heads" not in widget.get_state()


def test_the_other_picture_travels_only_when_it_is_asked_for(widget):
    assert widget.other_picture == b""
    widget.corruption = "ImageSwap"
    assert widget.other_picture != b""


def test_a_region_outlives_another_question_that_does_not_fit(widget):
    widget.region = square()
    widget.corruption = "QuestionSwap"
    widget.wait(30)
    widget.other_question = "what?"
    widget.wait(30)
    assert "expected 8 tokens" in widget.error
    assert np.array_equal(widget.region, square())
    widget.corruption = "GaussianNoise"
    widget.wait(30)
    assert np.array_equal(widget.tracer.corruption.region, square())


def test_a_picture_nobody_chose_is_never_swapped_with_itself(widget):
    for example in (0, 1, 0):
        widget.example = example
        widget.corruption = "ImageSwap"
        widget.wait(30)
        assert widget.tracer.corruption.image.tobytes() != widget.tracer.image.tobytes()
        assert widget.error == ""
    file = io.BytesIO()
    examples()[1].image.save(file, "PNG")
    take(widget, {"type": "other_image", "id": 3}, [file.getvalue()])
    widget.wait(30)
    widget.example = 1  # but one that was chosen stays
    widget.wait(30)
    assert widget.tracer.corruption.image.tobytes() == widget.tracer.image.tobytes()


def test_cells_of_the_image_encoder_go_with_the_picture(widget):
    widget.at = "patch_embeddings"
    widget.samples = 2
    widget.wait(30)
    widget.block = "image_encoder"
    widget.selection = [(3, 5)]
    widget.wait(30)
    widget.example = 1
    widget.wait(30)
    assert (widget.selection, widget.detail, widget.error) == ([], {}, "")


def test_a_score_that_is_no_number_is_told_from_a_cell_that_is_not_computed(widget, tmp_path, monkeypatch):
    whole = Question.scoring
    monkeypatch.setattr(Question, "scoring", lambda *given: lambda: np.full_like(whole(*given)(), np.nan))
    take(widget, {"type": "patch", "id": 7, "cells": [[5, 5]]})
    widget.wait(30)
    assert widget.grid["nan"] == [(5, 5)]
    assert widget.trace.computed.sum() == 1
    table = widget.trace.to_dataframe()
    assert [(row.layer, row.position) for row in table[table["computed"]].itertuples()] == [(5, 5)]
    widget.export(tmp_path / "cells.csv")
    header, row = (tmp_path / "cells.csv").read_text().splitlines()
    told = dict(zip(header.split(","), row.split(","), strict=True))
    assert (told["layer"], told["position"], told["score"]) == ("5", "5", "")


def test_it_says_what_is_done_until_the_runs_are_there(example):
    widget = quick_widget(example.image, example.question)
    widget.wait(30)

    def doing():
        return [state["doing"] for how, state, _ in widget.comm.sent if how == "update" and "doing" in state]

    said = doing()
    assert said == ["embedding the picture", "answering", "answering on the damaged input"]
    widget.noise = 3.0
    widget.wait(30)
    assert doing() == said  # nothing is sent for every place of the slider
    widget.question = "what color is it?"
    widget.wait(30)
    assert doing() == [*said, *said[1:]]
    widget.image = examples()[3].image
    widget.wait(30)
    assert doing() == [*said, *said[1:], *said]
    widget.close()
