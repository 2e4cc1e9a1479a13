"""What cannot be computed is taken back, all of it and nothing else: screen and tracer agree once `wait` returns."""

import contextlib
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, Tracer, examples
from blip_trace_widget.display.payloads import asked_of
from helpers.widgets import quick_widget

REGION = np.zeros((8, 8), dtype=bool)
REGION[2, 3] = True
WRITES = st.one_of(
    st.tuples(st.just("foil"), st.sampled_from(["", "blue", "red blue", "red red blue"])),
    st.tuples(
        st.just("question"),
        st.sampled_from(["what color is the circle?", "what shape is red?", "how many circles are there?"]),
    ),
    st.tuples(st.just("noise"), st.sampled_from([2.0, 3.0, 6.0])),
    st.tuples(st.just("seed"), st.integers(0, 2)),
    st.tuples(st.just("region"), st.sampled_from([None, REGION])),
    st.tuples(st.just("metric"), st.sampled_from(["probability", "log_probability", "logit_difference"])),
    st.tuples(st.just("example"), st.integers(0, 4)),
    st.tuples(st.just("corruption"), st.sampled_from(["GaussianNoise", "QuestionSwap", "ImageSwap"])),
    st.tuples(st.just("other_question"), st.sampled_from(["what color is the star?", "how many stars?"])),
    st.tuples(st.just("undo"), st.none()),
    st.tuples(st.just("redo"), st.none()),
)
#: What is made to fail, beside what does by itself (a foil of two tokens, another question of too many).
FAULTS = {
    "question": lambda tracer: tracer.question == "what shape is red?",
    "noise": lambda tracer: getattr(tracer.corruption, "factor", 0) == 6.0,
    "region": lambda tracer: getattr(tracer.corruption, "region", None) is not None,
    "metric": lambda tracer: tracer.metric.name == "log_probability",
    "corruption": lambda tracer: type(tracer.corruption).__name__ == "ImageSwap",
    "picture": lambda tracer: tracer.image.tobytes() == examples()[3].image.tobytes(),
}


@pytest.fixture
def faults(monkeypatch):
    """The faults that are in force; each takes a moment, so that what comes next is asked meanwhile."""
    prepare, there = Tracer.prepare, set()

    def faulty(tracer, *arguments):
        for name in there:
            if FAULTS[name](tracer):
                time.sleep(0.01)
                raise ValueError(f"{name}: refused by the test")
        prepare(tracer, *arguments)

    monkeypatch.setattr(Tracer, "prepare", faulty)
    return there


def says_what_is_computed(widget):
    said = asked_of(widget.tracer.snapshot)
    if widget.corruption != "QuestionSwap":  # what was asked for another corruption stays
        del said["other_question"]
    assert {name: getattr(widget, name) for name in said} == said
    assert widget.runs["generation"] == widget.generation
    assert widget.runs["clean"]["score"] == pytest.approx(widget.tracer.clean.score, abs=1e-6)
    if widget.example >= 0:
        shown = examples()[widget.example]
        assert widget.question == shown.question
        assert widget.tracer.image.tobytes() == shown.image.tobytes()


def test_a_refused_foil_does_not_stay_because_the_noise_was_moved_meanwhile(widget):
    widget.foil = "red blue"
    time.sleep(0.1)
    widget.noise = 3.0
    widget.wait(30)
    assert (widget.foil, widget.noise) == ("", 3.0)
    says_what_is_computed(widget)


@pytest.mark.parametrize("pause", [0, 0.005, 0.1])
@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [
        ("", "foil", "red blue"),
        ("question", "question", "what shape is red?"),
        ("metric", "metric", "log_probability"),
        ("picture", "example", 3),
    ],
)
def test_of_two_wishes_the_good_one_is_kept(widget, faults, fault, name, value, pause):
    faults |= {fault} - {""}
    before = getattr(widget, name)
    setattr(widget, name, value)
    time.sleep(pause)
    widget.noise = 3.0
    widget.wait(30)
    assert widget.noise == 3.0
    assert getattr(widget, name) == before
    says_what_is_computed(widget)


def test_the_refused_value_is_named(widget):
    widget.foil = "red blue"
    widget.wait(30)
    assert "foil" in widget.error
    assert "'red blue'" in widget.error
    assert widget.foil == ""


def test_what_was_refused_is_no_step_to_go_back_to(widget):
    widget.foil = "red blue"
    widget.noise = 3.0
    widget.wait(30)
    widget.undo()
    widget.wait(30)
    assert (widget.foil, widget.noise, widget.steps["undo"]) == ("", 5.0, False)
    says_what_is_computed(widget)


@given(
    broken=st.sets(st.sampled_from(sorted(FAULTS)), max_size=3),
    writes=st.lists(st.tuples(WRITES, st.sampled_from([0, 0.002, 0.02])), min_size=2, max_size=7),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_fails_and_when_screen_and_tracer_agree(demo, example, faults, broken, writes):
    faults.clear()
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    widget.wait(30)
    faults |= broken
    for (name, value), pause in writes:
        with contextlib.suppress(ValueError):
            if name in ("undo", "redo"):
                getattr(widget, name)()
            else:
                setattr(widget, name, value)
        time.sleep(pause)
    widget.wait(60)
    says_what_is_computed(widget)
    faults.clear()
    while widget.steps["undo"]:
        widget.undo()
    widget.wait(60)
    says_what_is_computed(widget)
    widget.close()


def test_what_is_being_set_is_not_overwritten_by_what_is_shown_meanwhile(widget):
    """Between a trait's new value and the notice of it another thread may show inputs that do not know it yet."""
    with widget.together():
        setting = threading.Thread(target=setattr, args=(widget, "noise", 3.0))
        setting.start()
        while widget.noise != 3.0:
            time.sleep(0.001)
        widget.window = 2
    setting.join(10)
    widget.wait(30)
    assert (widget.noise, widget.window, widget.tracer.corruption.factor) == (3.0, 2, 3.0)
