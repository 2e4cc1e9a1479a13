"""Names of states, and windows of layers."""

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, State
from blip_trace_widget.checks import named
from blip_trace_widget.choices import NOISE_KINDS
from blip_trace_widget.display.labels import LABELS
from blip_trace_widget.states import BLOCKS, SITES, as_states, window_layers, windowed
from blip_trace_widget.tracing.metrics import METRICS


@pytest.mark.parametrize(
    ("arguments", "named", "given"),
    [
        (("encoder", 0, 0), "block", "'encoder'"),
        (("question_encoder", 0, 0, "output"), "site", "'output'"),
        (("question_encoder", -1, 0), "layer", "-1"),
        (("question_encoder", 0, -2), "position", "-2"),
        (("question_encoder", 0, 0, "mlp", 1), "site", "'mlp'"),
        (("question_encoder", 0, 0, "self_attention", -1), "head", "-1"),
    ],
)
def test_a_state_no_model_has_is_refused_by_name(arguments, named, given):
    with pytest.raises(ValueError, match=rf"^{named}.*{given}"):
        State(*arguments)


@pytest.mark.parametrize("arguments", [(3, 0, 0), ("question_encoder", 1.5, 0), ("question_encoder", True, 0)])
def test_a_wrong_type_is_refused(arguments):
    with pytest.raises(TypeError):
        State(*arguments)


@pytest.mark.parametrize(
    ("layer", "window", "covered"),
    [(5, 1, [5]), (5, 2, [4, 5]), (5, 3, [4, 5, 6]), (0, 3, [0, 1]), (11, 4, [9, 10, 11]), (5, 12, list(range(11)))],
)
def test_windows_are_centred_and_clipped(layer, window, covered):
    assert list(window_layers(layer, window, 12)) == covered
    states = windowed(State("answer_decoder", layer, 2, "mlp"), window, 12)
    assert [(s.layer, s.position, s.site) for s in states] == [(at, 2, "mlp") for at in covered]


def test_a_grid_of_states_is_every_layer_position_and_head():
    grid = State.grid("question_encoder", range(2), ("circle", 3), "self_attention", heads=(0, 2))
    assert grid == [
        State("question_encoder", layer, at, "self_attention", head)
        for layer in (0, 1)
        for at in ("circle", 3)
        for head in (0, 2)
    ]
    assert State.grid("answer_decoder", 3, 0) == [State("answer_decoder", 3, 0)]
    assert State.grid("question_encoder", np.arange(2), "circle", "mlp") == [
        State("question_encoder", layer, "circle", "mlp") for layer in range(2)
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("question_encoder", [], 0), "layers: expected at least one, got none"),
        (("question_encoder", 0, ()), "positions: expected at least one, got none"),
        (("question_encoder", 0, 0, "mlp", []), "heads: expected at least one, got none"),
        (("question_encoder", 1.5, 0), "layers: expected one or several, got float"),
        (("question_encoder", [1.5], 0), "layer: expected an integer, got float 1.5"),
        (("question_encoder", 0, [-1]), "position: expected 0 or more, got -1"),
        (("question_encoder", 0, 0, "mlp", 1), "site .of a single head."),
        (("encoder", 0, 0), "block: expected one of"),
    ],
)
def test_a_grid_no_model_has_is_refused_by_name(arguments, told):
    with pytest.raises((TypeError, ValueError), match=f"^{told}"):
        State.grid(*arguments)


def test_states_are_collected_once_and_in_order():
    low, high = State("question_encoder", 1, 3), State("question_encoder", 4, 0)
    decoder = State("answer_decoder", 0, 0)
    assert as_states([decoder, high, low, high]) == (low, high, decoder)
    assert as_states(low) == (low,)


@pytest.mark.parametrize("states", [["layer 3"], [None], 5, None])
def test_what_is_no_state_is_refused(states):
    with pytest.raises(TypeError, match="states"):
        as_states(states)


def test_no_state_at_all_is_refused():
    with pytest.raises(ValueError, match="states: expected at least one"):
        as_states([])


@pytest.mark.parametrize(
    ("spoken", "name"),
    [
        (("Question encoder", 5, 3, "layer output"), ("question_encoder", 5, 3, "block_output")),
        (("answer decoder", 0, 0, "Self-attention", 1), ("answer_decoder", 0, 0, "self_attention", 1)),
        (("QUESTION_ENCODER", 1, 1, " MLP "), ("question_encoder", 1, 1, "mlp")),
    ],
)
def test_a_state_in_the_widgets_words_is_the_same_state(spoken, name):
    assert State(*spoken) == State(*name)
    assert hash(State(*spoken)) == hash(State(*name))


def test_all_words_of_the_widget_for_what_is_traced_are_understood():
    every = (*BLOCKS, *SITES, *METRICS, *NOISE_KINDS)
    for name in every:
        assert named("name", LABELS.get(name, name.replace("_", " ")), every) == name


def test_everything_is_asked_in_either_words(tracer):
    spoken = tracer.replace(metric="Log probability", corruption=GaussianNoise(kind="Multiplicative"))
    same = tracer.replace(metric="log_probability")
    assert spoken.corruption == same.corruption
    for ask, also in (
        (lambda t: t.trace("Question encoder", "layer output", direction="Restore"), lambda t: t.trace()),
        (
            lambda t: t.trace("answer decoder", "cross-attention", head="all", direction="Disrupt"),
            lambda t: t.trace("answer_decoder", "cross_attention", head="all", direction="disrupt"),
        ),
        (
            lambda t: t.trace_knockout("Question encoder", site="Cross-attention"),
            lambda t: t.trace_knockout("question_encoder", site="cross_attention"),
        ),
        (lambda t: t.trace_image_tokens(4, "Disrupt"), lambda t: t.trace_image_tokens(4, "disrupt")),
    ):
        one, other = ask(spoken), also(same)
        assert one.settings == other.settings
        assert (one.scores == other.scores).all()
    assert GaussianNoise(at="before the ViT") == GaussianNoise(at="patch_embeddings")
    assert GaussianNoise(at="behind the ViT") == GaussianNoise(at="image_embeddings")
    looks = tracer.attention("Question encoder", 0)
    assert (looks.image(1, "noisy") == looks.image(1, "corrupted")).all()
    assert looks.settings["block"] == "question_encoder"
    assert tracer.tokens("answer decoder") == ["[DEC]"]


@pytest.mark.parametrize("wrong", ["layer", "output", "block output!", "mlps", "", "question encoder"])
def test_other_words_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^site: expected one of \['block_output', "):
        named("site", wrong, SITES)
