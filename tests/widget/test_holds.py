"""Locks in the widget: what is held from Python and from the page, what it means for the numbers, and when it goes."""

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, State, Tracer, TraceWidget, examples
from blip_trace_widget.display import formatting
from blip_trace_widget.results import recording
from blip_trace_widget.results.grid_spec import GridSpec
from helpers.front_end import set_traits
from helpers.random_models import random_model
from helpers.screen import traced
from helpers.widgets import quick_widget

AT = State("question_encoder", 2, 3)
DECODER = State("answer_decoder", 3, 0, "mlp")


def plain(state):
    return dict(vars(state))


def said(widget):
    return "".join(text for text, _ in formatting.sentence(widget.detail, widget.runs, negligible=False))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("mlp", ["mlp"]),
        (["everywhere", "cross_attention_out", "mlp"], ["mlp", "cross_attention_out", "everywhere"]),
        (State("question_encoder", 2, "circle"), [plain(State("question_encoder", 2, 5))]),
        ([DECODER, "mlp", AT, AT], ["mlp", plain(AT), plain(DECODER)]),
        ([plain(AT), {"block": "question_encoder", "layer": 0, "position": "circle"}], None),
        (None, []),
        ([], []),
    ],
)
def test_it_takes_what_a_tracer_takes(widget, given, kept):
    widget.hold = given
    wanted = [plain(State("question_encoder", 0, 5)), plain(AT)]
    assert widget.hold == (wanted if kept is None else kept)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("MPL", "hold: .*mlp"),
        ("everywhere", "where a site is held"),
        (3, "hold: expected State"),
        ([3], "hold"),
        (State("question_encoder", 6, 0), "hold: layer: .*from 0 to 5"),
        (State("question_encoder", 0, "square"), "there is no token 'square'"),
        (State("answer_decoder", 0, 1), "hold: position"),
        (State("question_encoder", 0, 0, "mlp"), None),
        (State("question_encoder", 0, 0, "self_attention", 99), "hold: head"),
        (State("image_encoder", 0, 0), "same in both runs"),
        ([{"block": "question_encoder"}], "hold|State"),
        ([{"block": "question_encoder", "layer": 0, "position": 0, "extra": 1}], "hold"),
        ([AT] * 5000, "at most"),
    ],
)
def test_what_it_cannot_hold_is_refused_by_name(widget, given, message):
    widget.wait(30)
    widget.hold = "mlp"
    if message is None:
        widget.hold = given
        return
    with pytest.raises((ValueError, TypeError), match=message):
        widget.hold = given
    assert widget.hold == ["mlp"]
    set_traits(widget, hold=[{"block": [], "layer": {}, "position": None}])
    assert widget.hold == ["mlp"]
    assert "hold" in widget.error or "block" in widget.error


def test_the_sentence_has_both_numbers_and_the_code_gives_them_again(widget, tracer, tmp_path, monkeypatch):
    widget.noise, widget.hold, widget.selection = 4.0, ["mlp", AT], [(1, 3)]
    widget.trace_all()
    widget.wait(60)
    tracer = tracer.with_corruption(factor=4.0, samples=2)
    held, free = (tracer.patch(State("question_encoder", 1, 3), hold=hold) for hold in (["mlp", AT], None))
    assert widget.detail["recovery"] == pytest.approx(held.recovery, abs=1e-6)
    assert widget.detail["free"]["recovery"] == pytest.approx(free.recovery, abs=1e-6)
    for number in (held, free):
        assert formatting.percent(number.recovery, number.recovery_margin) in said(widget)
    assert "; with the later MLPs there and layer 2 at “" in said(widget)
    assert "held noisy, " in said(widget)
    exact = tracer.trace(hold=["mlp", AT])
    np.testing.assert_allclose(widget.trace.samples, exact.samples, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(widget.code, made)
    np.testing.assert_array_equal(made["trace"].samples, exact.samples)
    np.testing.assert_allclose(made["effect"].scores, held.scores, atol=1e-6)
    widget.export(tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text("utf-8")
    assert "Held noisy: the later MLPs there and layer 2" in text
    widget.save_html(tmp_path / "page.html")


def test_what_is_held_itself_is_not_patched(widget):
    widget.hold, widget.selection = [AT], [(2, 3)]
    widget.wait(30)
    assert widget.error == ""
    name = formatting.token_name(widget.detail["tokens"], 3)
    assert said(widget) == f"Layer 2 at {name} is held noisy itself: it is not patched."
    assert widget.grid["dead"] == [(2, 3)]
    widget.direction = "disrupt"
    widget.selection = [(2, 3), (4, 4)]
    widget.wait(30)
    assert "these 2 states" in said(widget)
    assert "held clean, " in said(widget)


def test_locks_are_steps_and_the_same_cells_are_computed_with_them(widget):
    widget.wait(30)
    widget.trace_all()
    widget.wait(30)
    free = widget.trace.samples.copy()
    set_traits(widget, hold=[plain(AT)])
    widget.wait(30)
    assert widget.trace.complete
    assert not np.array_equal(widget.trace.samples, free)
    widget.hold = [AT, "mlp"]
    widget.undo()
    assert widget.hold == [plain(AT)]
    widget.undo()
    assert widget.hold == []
    widget.wait(30)
    np.testing.assert_array_equal(widget.trace.samples, free)
    widget.redo()
    assert widget.hold == [plain(AT)]
    widget.noise = 3.0
    widget.wait(30)
    assert widget.hold == [plain(AT)]
    np.testing.assert_allclose(widget.trace.samples, widget.tracer.trace(hold=AT).samples, atol=1e-6)
    widget.block = "answer_decoder"  # a state stays what it is
    widget.wait(30)
    assert widget.hold == [plain(AT)]


def test_states_of_other_words_and_of_undamaged_blocks_are_let_go_aloud(widget):
    widget.corruption, widget.at = "GaussianNoise", "patch_embeddings"
    widget.wait(60)
    seen = State("image_encoder", 1, 4)
    widget.hold = [seen, AT, "mlp"]
    widget.image = examples()[1].image
    assert widget.hold == ["mlp", plain(AT)]
    assert "the picture is another" in widget.error
    widget.undo()
    assert widget.hold == ["mlp", plain(seen), plain(AT)]
    widget.wait(60)
    widget.at = "image_embeddings"
    assert widget.hold == ["mlp", plain(AT)]
    assert "this damage does not reach" in widget.error
    widget.wait(60)
    widget.question = "what shape is red?"
    assert widget.hold == ["mlp"]
    assert "the words are others" in widget.error
    widget.wait(60)
    assert "the words are others" in widget.error
    widget.undo()
    assert widget.hold == ["mlp", plain(AT)]


def test_positions_beyond_a_shorter_answer_are_let_go_once_that_is_known(demo, example):
    widget = quick_widget(example.image, example.question, model=demo, answer="red circle")
    widget.wait(30)
    late = State("answer_decoder", 2, 1)
    widget.hold, widget.block = [late, AT], "answer_decoder"
    widget.trace_all()
    widget.wait(30)
    widget.answer = None
    widget.wait(30)
    assert widget.hold == [plain(AT)]
    assert "fewer tokens" in widget.error
    np.testing.assert_allclose(
        widget.trace.samples, widget.tracer.trace("answer_decoder", hold=[AT]).samples, atol=1e-6
    )
    widget.undo()
    widget.wait(30)
    assert widget.hold == [plain(AT), plain(late)]
    widget.close()


def test_a_word_that_a_block_does_not_have_goes_with_it(widget):
    widget.at = "patch_embeddings"
    widget.wait(60)
    widget.hold = ["mlp", "cross_attention_out"]
    widget.block = "image_encoder"
    assert widget.hold == ["mlp"]
    assert (
        widget.error
        == "hold: the later cross-attentions are no longer held, for this block has none. Undo brings that back."
    )
    widget.selection = [(1, 0)]
    widget.wait(60)
    assert widget.error == ""
    widget.block = "question_encoder"
    widget.hold = ["cross_attention_out", "everywhere"]
    widget.block = "image_encoder"
    assert widget.hold == []


def test_a_recording_shows_locks_and_changes_to_what_was_recorded(tracer, tmp_path):
    specs = [GridSpec(hold=(AT,)), GridSpec(), GridSpec(hold=("mlp",))]
    traces = [traced(tracer, spec) for spec in specs]
    recording.save(traces, tmp_path / "r")
    widget = TraceWidget.from_trace(tmp_path / "r")
    assert widget.hold == [plain(AT)]
    widget.selection = [(1, 3)]
    assert widget.detail["recovery"] == pytest.approx(traces[0].recovery[1, 3])
    assert widget.detail["free"]["recovery"] == pytest.approx(traces[1].recovery[1, 3])
    widget.selection = [(2, 3)]
    assert widget.detail["held"]["itself"]
    widget.hold = "mlp"
    np.testing.assert_array_equal(widget.trace.samples, traces[2].samples)
    widget.hold = "self_attention_out"
    assert widget.hold == ["mlp"]
    assert "recording" in widget.error
    widget.hold = []
    np.testing.assert_array_equal(widget.trace.samples, traces[1].samples)
    widget.close()


def test_another_model_drops_what_it_lacks(widget):
    widget.wait(30)
    widget.hold = [State("question_encoder", 5, 0), "mlp"]
    widget.model = "known circuit: chain"
    widget.wait(60)
    assert widget.hold == ["mlp"]
    assert widget.error == "model: hold did not fit known circuit: chain and was let go"


def test_another_model_names_all_that_it_lacks(widget):
    late, early = State("question_encoder", 4, 0), State("question_encoder", 1, 0)
    widget.hold = [early, late]
    widget.through = ["mlp", late, early]
    widget.receivers = [late]
    widget.wait(60)
    widget.model = random_model(seed=0, layers=2)
    widget.wait(60)
    assert (widget.hold, widget.through, widget.receivers) == ([plain(early)], ["mlp", plain(early)], None)
    assert widget.error.startswith("model: hold, receivers, through did not fit")


def test_what_paths_lead_through_is_let_go_aloud(widget):
    widget.receivers = "answer"
    widget.through = ["mlp", AT, State("question_encoder", 3, 1)]
    widget.wait(60)
    widget.question = "what shape is red?"
    assert widget.through == ["mlp"]
    assert (
        widget.error
        == "through: 2 states are held on all paths now, for the words are others now. Undo brings that back."
    )
    widget.undo()
    assert len(widget.through) == 3


def test_noise_and_locks_together_come_out_as_a_tracer_has_them(demo, example):
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=4))
    widget.wait(30)
    widget.trace_all()
    for factor, hold in ((2.0, [AT]), (6.0, ["mlp", AT]), (3.0, [])):
        widget.noise = factor
        widget.hold = hold
    widget.hold = [AT]
    widget.wait(60)
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(3.0, samples=4))
    np.testing.assert_allclose(widget.trace.samples, tracer.trace(hold=AT).samples, atol=1e-6)
    widget.close()
