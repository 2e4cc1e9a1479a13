"""Positions as callers write them."""

from types import SimpleNamespace

import numpy as np
import pytest

from blip_trace_widget import State, Tracer
from blip_trace_widget.states import position_of
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.tracing.positions import image_tokens, whole_numbers

MODEL = SimpleNamespace(grid=(2, 3), image_token_count=7)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6]),
        (4, [4]),
        (range(2, 4), [2, 3]),
        ({6}, [6]),
        ([[True, False, False], [False, False, True]], [1, 6]),
        (np.array([[False, True, False], [True, False, False]]), [2, 4]),
    ],
)
def test_image_tokens_by_position_or_region(given, tokens):
    assert image_tokens("tokens", given, MODEL) == tokens


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (7, ValueError, "tokens: expected from 0 to 6, got 7"),
        ([], ValueError, "tokens: expected at least one"),
        ("3", TypeError, "tokens"),
        ([[True, False], [False, False]], ValueError, r"tokens: a region must be 2 x 3 patches.*got shape \(2, 2\)"),
        (np.zeros((2, 3), bool), ValueError, "tokens: expected a region of at least one patch"),
        ([[True], [True, False]], ValueError, "tokens: .*unequal length"),
        ([[1, 2], [3, 4]], ValueError, "tokens: .*rows of several"),
    ],
)
def test_what_is_no_position_is_refused_by_name(given, error, said):
    with pytest.raises(error, match=said):
        image_tokens("tokens", given, MODEL)


def test_whole_numbers_of_anything_that_can_be_gone_through():
    assert whole_numbers("layers", (number for number in (1, 2)), 3) == [1, 2]
    assert whole_numbers("layers", None, 3) == [0, 1, 2]


TOKENS = ["[CLS]", "is", "the", "circle", "on", "the", "surf", "##board", "##s", "?", "[SEP]"]


@pytest.mark.parametrize(
    ("given", "position"),
    [("circle", 3), (" Circle ", 3), ("?", 9), ("[cls]", 0), (4, 4), (np.int64(10), 10), ("##board", 7)],
)
def test_a_position_by_number_or_word(given, position):
    assert position_of("position", given, TOKENS) == position
    assert whole_numbers("queries", given, len(TOKENS), TOKENS) == [position]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("the", ValueError, r"^position: 'the' is at positions 2 and 5 of .*give one of these numbers"),
        ("circel", ValueError, r"^position: there is no token 'circel': .*'surf'.*did you mean 'circle'\?"),
        ("", ValueError, "^position: there is no token ''"),
        ("surfboard", ValueError, r"reads 'surfboard' as \['surf', '##board'\], positions 6 to 7"),
        ("Surfboards", ValueError, r"reads 'Surfboards' as \['surf', '##board', '##s'\], positions 6 to 8"),
        (11, ValueError, r"^position: expected from 0 to 10 \(the question encoder sees \['\[CLS\]', "),
        (-1, ValueError, "^position: expected 0 or more, got -1"),
        (1.0, TypeError, "^position: expected an integer, got float"),
        (None, TypeError, "^position"),
        (b"circle", TypeError, "^position"),
    ],
)
def test_what_is_no_position_or_word_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        position_of("position", given, TOKENS, "the question encoder")


def test_many_tokens_are_not_listed():
    with pytest.raises(ValueError, match=r"there is no token 'circle': image_encoder has 577 tokens$"):
        position_of("position", "circle", ["[CLS]", *map(str, range(576))], "image_encoder")


def test_layers_are_no_words():
    with pytest.raises(TypeError, match="layers: expected whole numbers from 0 to 2, got str 'circle'"):
        whole_numbers("layers", "circle", 3)


CIRCLE = State("question_encoder", 5, "circle")


def test_words_in_states_are_found_in_the_question(tracer):
    by_word, by_number = tracer.patch(CIRCLE), tracer.patch(State("question_encoder", 5, 5))
    assert by_word.states == by_number.states == (State("question_encoder", 5, 5),)
    assert by_word.score == by_number.score
    several = tracer.patch([CIRCLE, State("question_encoder", 5, 5), State("question_encoder", 2, "COLOR", "mlp")])
    assert several.states == (State("question_encoder", 2, 2, "mlp"), State("question_encoder", 5, 5))
    curve = tracer.noise_curve([0.0, 5.0], states=CIRCLE)
    assert curve.states == by_number.states
    assert curve.patched[:, 1, 0] == pytest.approx(by_number.scores)
    (found,) = [scores for _, scores, _ in patched_scores(tracer.case, [[CIRCLE]])]
    assert found[:, 0] == pytest.approx(by_number.scores)


def test_words_in_knockouts_maps_of_heads_and_attention(tracer):
    cut, same = (tracer.knockout("question_encoder", None, query, None) for query in ("circle", 5))
    assert cut.settings["queries"] == [5]
    assert cut.score == same.score
    layers = tracer.trace_knockout("question_encoder", ["circle", 2], "color", site="self_attention")
    assert (layers.settings["queries"], layers.settings["keys"]) == ([5, 2], [2])
    assert tracer.knockout("answer_decoder", 0, 0, ["circle"]).settings["keys"] == [5]
    heads = tracer.trace(site="cross_attention", head="all", position="circle")
    assert heads.settings["position"] == 5
    assert heads.tokens == ("circle",)
    looks = tracer.attention("question_encoder", 3)
    np.testing.assert_array_equal(looks.image("circle"), looks.image(5))


@pytest.mark.parametrize(
    "ask",
    [
        lambda t, word: t.patch(State("question_encoder", 5, word)),
        lambda t, word: t.noise_curve([1.0], states=[State("question_encoder", 5, word)]),
        lambda t, word: list(patched_scores(t.case, [[State("question_encoder", 5, word)]])),
        lambda t, word: t.knockout("question_encoder", None, word, None),
        lambda t, word: t.trace_knockout("question_encoder", keys=[word], site="self_attention"),
        lambda t, word: t.trace(site="cross_attention", head="all", position=word),
        lambda t, word: t.attention("question_encoder", 0).image(word),
        lambda t, word: t.attention("question_encoder", 0).plot(position=word),
        lambda t, word: t.trace()[5, word],
    ],
)
def test_words_that_are_not_there_or_twice_are_refused_everywhere(demo, example, ask):
    tracer = Tracer(demo, example.image, "what color is the circle the circle?")
    with pytest.raises(ValueError, match=r"'the' is at positions 4 and 6 of \["):
        ask(tracer, "the")
    with pytest.raises(ValueError, match=r"there is no token 'colour': .*'what'.*did you mean 'color'"):
        ask(tracer, "colour")


def test_a_state_with_a_word_is_a_value_as_any_other():
    assert State("question_encoder", 5, "circle") == CIRCLE
    assert len({CIRCLE, State("question_encoder", 5, "circle"), State("question_encoder", 5, 5)}) == 2


def test_each_position_counts_once():
    assert whole_numbers("queries", [2, 1, 2, np.int64(1)], 5) == [2, 1]
    assert whole_numbers("queries", ["is", 1, "is"], 3, ["what", "is", "it"]) == [1]
