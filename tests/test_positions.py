"""Positions as callers write them."""

from types import SimpleNamespace

import numpy as np
import pytest

from blip_trace_widget.positions import image_tokens, whole_numbers

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
