"""States and heads of the clean run ablated or rescaled, against plain hooks on random models."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.states import BLOCKS
from helpers.changed_models import ask, plain_hf, slow, wrap
from helpers.problems import EXAMPLES, assert_close, hooked, problems


@st.composite
def any_states(draw, tracer):
    """Some states or heads, of any blocks together."""
    chosen = set()
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(list(BLOCKS)))
        block = tracer.model.blocks[name]
        site = draw(st.sampled_from(list(BLOCKS[name].sites)))
        head = draw(st.none() | st.integers(0, block.heads - 1)) if site in BLOCKS[name].heads else None
        site = site.removesuffix("_out") if head is not None and name != "image_encoder" else site  # one and the same
        layer, position = (draw(st.integers(0, n - 1)) for n in (len(block.layers), len(tracer.tokens(name))))
        chosen.add(State(name, layer, position, site, head))
    return sorted(chosen, key=str)


def mean_of(hooked, tracer, state):
    """The mean over the positions of a block in the clean run."""
    every = [
        State(state.block, state.layer, at, state.site, state.head) for at in range(len(tracer.tokens(state.block)))
    ]
    seen = hooked.run(record=every)[1]
    return torch.stack([seen[each] for each in every]).mean(0)


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_ablated_states_equal_hooks(tracer, data):
    states = data.draw(any_states(tracer))
    to = data.draw(st.sampled_from(["zero", "mean", 0, 0.5, 1, 2.0]))
    plain, *_ = hooked(tracer)
    alone = [state.block for state in states if len(tracer.tokens(state.block)) == 1]
    if to == "mean" and alone:
        with pytest.raises(ValueError, match=f"to: the mean over the positions of '{alone[0]}' is the state itself"):
            tracer.ablate(states, to)
        return
    found = tracer.ablate(states, to)
    new = {
        "zero": lambda _state: 0.0,
        "mean": lambda state: mean_of(plain, tracer, state),
    }.get(to, lambda _state: lambda now: now * to)
    logits = plain.run(patches={state: new(state) for state in states})[0]
    assert_close(found.score, plain.probability(logits))
    np.testing.assert_allclose(found.distribution, logits[0].softmax(-1).numpy(), atol=1e-5)
    assert found.clean == tracer.clean.score
    assert found.loss == pytest.approx(found.clean - found.score)
    if to == 1:
        assert_close(found.score, found.clean)


@pytest.mark.parametrize("to", ["zero", "mean", 1.7])
def test_a_changed_model_is_ablated_as_hooks_do(to):
    """By the model's own forward, a user's hook included."""
    hf = plain_hf()
    hf.text_encoder.encoder.layer[1].output.register_forward_hook(lambda _module, _inputs, output: 1.5 * output)
    hf.vision_model.encoder.layers[0].mlp.register_forward_hook(lambda _module, _inputs, output: 0.5 * output)
    tracer = ask(wrap(hf), metric="probability")
    plain = slow(tracer)[0]
    states = [
        State("image_encoder", 0, 1, "mlp"),
        State("question_encoder", 0, 2, "self_attention", 1),
        State("question_encoder", 1, 2),
        State("answer_decoder", 1, 1, "cross_attention"),
    ]
    new = {"zero": lambda _s: 0.0, "mean": lambda s: mean_of(plain, tracer, s)}.get(to, lambda _s: lambda now: now * to)
    exact = plain.probability(plain.run(patches={state: new(state) for state in states})[0])
    assert tracer.ablate(states, to).score == pytest.approx(exact, rel=1e-4)


def test_the_answer_is_what_the_model_then_says(tracer):
    heads = [State("question_encoder", layer, at, "cross_attention") for layer in range(6) for at in range(8)]
    blind = tracer.ablate(heads, 0)
    assert blind.answer != tracer.clean.answer
    assert blind.answer == blind.top[0][0]
    assert blind.states == tuple(heads)
    same = tracer.ablate(State("answer_decoder", 2, 0), to=1)
    assert same.answer == tracer.clean.answer
    assert same.score == pytest.approx(tracer.clean.score, abs=1e-6)
    assert "× 1" in repr(same)


def test_an_answer_of_several_words_is_spelled_with_its_states_ablated(demo, example):
    """Greedy decoding under hooks, word by word."""
    tracer = Tracer(demo, example.image, example.question, answer="red red")
    states = [State("answer_decoder", 3, 0, "mlp"), State("answer_decoder", 4, 1, "self_attention")]
    found = tracer.ablate(states, 1.5)
    ids = [demo.start_id]
    plain, *_ = hooked(tracer)
    while demo.end_id not in ids and len(ids) < 6:
        plain.decoder_input = torch.tensor([ids])
        there = {state: lambda now: now * 1.5 for state in states if state.position < len(ids)}
        ids.append(int(plain.run(patches=there)[0][-1].argmax()))
    assert found.answer == demo.text(ids)


def test_words_name_states_and_any_block_may_be_ablated(tracer):
    by_word = tracer.ablate(State("question_encoder", 3, "circle"))
    by_number = tracer.ablate(State("question_encoder", 3, tracer.question_tokens.index("circle")))
    assert by_word.score == by_number.score
    assert by_word.settings["states"][0]["position"] == by_number.states[0].position
    assert len(by_word.to_dataframe()) == 1
    assert tracer.ablate(State("image_encoder", 1, 5), 3.0).score != tracer.clean.score  # whatever the corruption


@pytest.mark.parametrize(
    ("to", "error", "told"),
    [
        ("median", ValueError, r"to: expected one of \['zero', 'mean'\] or a number of 0 or more, got 'median'"),
        (-1, ValueError, "to: expected .*number.* got -1"),
        (float("nan"), ValueError, "to: expected .*got nan"),
        (None, TypeError, "to: expected .* got NoneType"),
    ],
)
def test_wrong_goals_are_named(tracer, to, error, told):
    with pytest.raises(error, match=told):
        tracer.ablate(State("question_encoder", 1, 1), to)


def test_ablating_can_be_given_up(tracer):
    with pytest.raises(Cancelled):
        tracer.ablate(State("question_encoder", 1, 1), cancel=lambda: True)


def test_a_factor_beyond_the_types_range_is_said(example):
    half = Tracer(BlipVqa.demo(dtype="float16"), example.image, example.question, corruption=GaussianNoise(samples=1))
    with pytest.raises(ValueError, match=r"to: with these states times 1e.06 a run goes beyond float16"):
        half.ablate(State("question_encoder", 1, 1), 1e6)
