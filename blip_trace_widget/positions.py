"""Positions as callers write them: a number, a word, several, all, or a region of the picture.

For: one meaning of "which tokens" wherever they can be named.
Cost: a list of whole numbers.
Ends: at lists of positions. What is done with them is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blip_trace_widget.sites import whole_number

if TYPE_CHECKING:
    from blip_trace_widget.model import BlipVqa

#: One, several, or (None) all, word pieces also as words; image tokens as a boolean (rows, columns) region of patches.
Positions: TypeAlias = "int | str | Iterable[int | str] | Iterable[Iterable[bool]] | None"

#: So many tokens can be listed in a message.
LISTED = 100


def position_of(name: str, given: Any, tokens: Sequence[str], block: str = "") -> int:
    """The position of a token, which is given by its number or as a word.

    Args:
        name: the argument's, for messages.
        given: a whole number, or one of the tokens; capitals do not matter.
        tokens: the block's.
        block: its name, for messages.

    Raises:
        TypeError: if it is neither.
        ValueError: if there is no such token, or if the word stands there several times; naming the tokens, the
            nearest, or the positions.
    """
    if not isinstance(given, str):
        last, number = len(tokens) - 1, whole_number(name, given, 0)
        if number > last:
            raise ValueError(f"{name}: expected from 0 to {last} ({_sees(tokens, block)}), got {number}")
        return number
    word = given.strip().casefold()
    found = [at for at, token in enumerate(tokens) if token.casefold() == word]
    if len(found) == 1:
        return found[0]
    if found:
        places = f"{', '.join(map(str, found[:-1]))} and {found[-1]}"
        raise ValueError(f"{name}: {given!r} is at positions {places} of {list(tokens)}: give one of these numbers")
    pieces = _pieces(word, tokens)
    if pieces:
        inside = f"{pieces.start} to {pieces.stop - 1}"
        raise ValueError(
            f"{name}: the model reads {given!r} as {list(tokens[pieces.start : pieces.stop])}, positions {inside}: "
            "give one of these"
        )
    near = get_close_matches(word, [token.casefold() for token in tokens], 1, 0.6)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: there is no token {given!r}: {_sees(tokens, block)}{meant}")


def _sees(tokens: Sequence[str], block: str) -> str:
    who = block or "the block"
    return f"{who} sees {list(tokens)}" if len(tokens) < LISTED else f"{who} has {len(tokens)} tokens"


def _pieces(word: str, tokens: Sequence[str]) -> range | None:
    """Where a word stands that was split into word pieces ("surf", "##board")."""
    for start in range(len(tokens)):
        whole = tokens[start]
        for stop in range(start + 1, len(tokens)):
            if not tokens[stop].startswith("##"):
                break
            whole += tokens[stop][2:]
            if whole.casefold() == word:
                return range(start, stop + 1)
    return None


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
    """Layers or positions: one, several, or (None) all of `count`; where there are tokens, also as words.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if given is None:
        return list(range(count))
    given = [given] if tokens and isinstance(given, str) else _listed(given)
    accepted = f"whole numbers from 0 to {count - 1}" + (" or words" if tokens else "")
    if not isinstance(given, (list, np.ndarray)) or (isinstance(given, np.ndarray) and given.ndim == 0):
        if not hasattr(given, "__index__"):
            raise TypeError(f"{name}: expected {accepted}, got {type(given).__name__} {given!r}")
        given = [given]
    if any(isinstance(item, (list, np.ndarray)) and np.ndim(item) for item in given):
        raise ValueError(f"{name}: expected {accepted}, got rows of several")
    if len(given) == 0:
        raise ValueError(f"{name}: expected at least one of the {accepted}, got none")
    return [
        position_of(name, item, tokens) if tokens and isinstance(item, str) else whole_number(name, item, 0, count - 1)
        for item in given
    ]


def _listed(given: Any) -> Any:
    """Sets, ranges and iterators as lists, which can be gone through twice."""
    if isinstance(given, (str, bytes, np.ndarray)) or not isinstance(given, Iterable):
        return given
    return [list(item) if isinstance(item, Iterable) and not isinstance(item, (str, bytes)) else item for item in given]
