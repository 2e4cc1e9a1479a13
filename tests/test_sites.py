"""Names of states, and windows of layers."""

import pytest

from blip_trace_widget import State
from blip_trace_widget.sites import as_states, window_layers, windowed


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
