"""Positions as callers write them: a number, a word, several, all, or a region of the picture.

For: one way to choose tokens in every argument that takes them.
Ends: at lists of positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blip_trace_widget.checks import brief, whole_number
from blip_trace_widget.states import position_of

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa

#: One, several, or (None) all, word pieces also as words; image tokens as a boolean (rows, columns) region of patches.
Positions: TypeAlias = "int | str | Iterable[int | str] | Iterable[Iterable[bool]] | None"


def image_tokens(name: str, given: Positions, model: BlipVqa) -> list[int]:
    """Image tokens (0 is the class token), from their positions or from a boolean (rows, columns) region of patches.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    given = _listed(given)
    if not isinstance(given, (list, np.ndarray)):
        return whole_numbers(name, given, model.image_token_count)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name}: expected a boolean (rows, columns) region, got rows of unequal length") from error
    if array.dtype != np.bool_:
        return whole_numbers(name, given, model.image_token_count)
    if array.shape != model.grid:
        rows, columns = model.grid
        raise ValueError(
            f"{name}: a region must be {rows} x {columns} patches (rows x columns), got shape {array.shape}"
        )
    if not array.any():
        raise ValueError(f"{name}: expected a region of at least one patch, got an empty one")
    return [int(at) + 1 for at in np.flatnonzero(array)]


def whole_numbers(name: str, given: Any, count: int, tokens: Sequence[str] = ()) -> list[int]:
    """Layers or positions: one, several, or (None) all of `count`; each once.

    Args:
        name: the argument's name, for messages.
        given: what the caller passed.
        count: how many there are.
        tokens: the tokens at the positions, if they can also be given as words.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if given is None:
        return list(range(count))
    given = [given] if tokens and isinstance(given, str) else _listed(given)
    accepted = f"whole numbers from 0 to {count - 1}" + (" or words" if tokens else "")
    if not isinstance(given, (list, np.ndarray)) or (isinstance(given, np.ndarray) and given.ndim == 0):
        if not hasattr(given, "__index__"):
            raise TypeError(f"{name}: expected {accepted}, got {type(given).__name__} {brief(given)}")
        given = [given]
    if any(isinstance(item, (list, np.ndarray)) and np.ndim(item) for item in given):
        raise ValueError(f"{name}: expected {accepted}, got rows of several")
    if len(given) == 0:
        raise ValueError(f"{name}: expected at least one of the {accepted}, got none")
    found = [
        position_of(name, item, tokens) if tokens and isinstance(item, str) else whole_number(name, item, 0, count - 1)
        for item in given
    ]
    return list(dict.fromkeys(found))


def _listed(given: Any) -> Any:
    """Sets, ranges and iterators as lists, which can be iterated twice."""
    if isinstance(given, (str, bytes, np.ndarray)) or not isinstance(given, Iterable):
        return given
    return [list(item) if isinstance(item, Iterable) and not isinstance(item, (str, bytes)) else item for item in given]
