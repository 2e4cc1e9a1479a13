"""The strength slider: a clean run beside the patched one."""

import numpy as np
import pytest

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer, TraceWidget


@pytest.fixture
def widget(demo, example):
    made = TraceWidget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    made.wait(30)
    yield made
    made.close()


def test_selected_states_are_shown_at_their_strength(widget):
    widget.strength = 0.5
    widget.wait(30)
    assert widget.ablation == {}  # nothing is selected
    widget.selection = [(3, 5), (4, 5)]
    widget.wait(30)
    exact = widget.tracer.ablate([State("question_encoder", layer, 5) for layer in (3, 4)], 0.5)
    assert widget.ablation["score"] == pytest.approx(exact.score, abs=1e-6)
    assert widget.ablation["answer"] == exact.answer
    assert widget.ablation["text"] == f"“{exact.answer}”, {exact.score:.0%} (untouched {exact.clean:.0%})".replace(
        "%", " %"
    )
    assert "tracer.ablate(" in widget.code
    assert "to=0.5" in widget.code
    widget.strength = 1
    widget.wait(30)
    assert widget.ablation == {}
    assert "ablate" not in widget.code


def test_a_head_alone_in_its_window_of_layers(widget):
    widget.block, widget.site, widget.head, widget.window = "answer_decoder", "cross_attention", 1, 2
    widget.selection = [(3, 0)]
    widget.strength = 2
    widget.wait(30)
    states = [State("answer_decoder", layer, 0, "cross_attention", 1) for layer in (2, 3)]
    assert widget.ablation["score"] == pytest.approx(widget.tracer.ablate(states, 2).score, abs=1e-6)
    assert (widget.ablation["head"], widget.ablation["window"]) == (1, 2)
    widget.selection = []
    assert widget.ablation == {}


def test_the_latest_strength_wins_and_steps_of_a_drag_are_one(widget):
    widget.selection = [(2, 5)]
    widget.wait(30)
    for strength in np.linspace(0.05, 1.95, 20):
        widget.strength = float(strength)
    widget.wait(30)
    assert widget.ablation["strength"] == 1.95
    widget.undo()
    assert widget.strength == 1
    assert widget.selection == [(2, 5)]
    widget.redo()
    widget.wait(30)
    assert widget.ablation["strength"] == 1.95


def test_another_question_has_another_clean_run(widget, demo, example):
    widget.selection = [(2, 4)]
    widget.strength = 0
    widget.wait(30)
    widget.question = "what shape is the circle?"
    widget.wait(30)
    widget.selection = [(2, 4)]
    widget.wait(30)
    other = Tracer(demo, example.image, "what shape is the circle?")
    assert widget.ablation["score"] == pytest.approx(other.ablate(State("question_encoder", 2, 4), 0).score, abs=1e-6)
    widget.noise = 2.0  # which the clean run does not know
    widget.wait(30)
    assert widget.ablation["generation"] == widget.generation


def test_a_recording_has_no_clean_run_to_change(widget):
    widget.trace_all()
    widget.wait(30)
    shown = TraceWidget.from_trace(widget.trace)
    shown.selection = [(2, 4)]
    shown.strength = 0.5
    assert "strength: This is a recording" in shown.error
    assert (shown.strength, shown.ablation) == (1, {})
    shown.close()


def test_what_goes_beyond_the_models_numbers_is_said_and_nothing_is_lost(example):
    half = BlipVqa.demo(dtype="float16")
    widget = TraceWidget(example.image, example.question, model=half, corruption=GaussianNoise(samples=1))
    widget.selection = [(2, 4)]
    widget.wait(60)
    detail = widget.detail
    widget.strength = 1e6
    widget.wait(60)
    assert "a run goes beyond float16" in widget.error
    assert widget.detail == detail
    widget.strength = 0.5
    widget.wait(60)
    assert widget.error == ""
    assert widget.ablation["strength"] == 0.5
    widget.close()
