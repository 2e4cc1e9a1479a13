"""What the fields of a corruption accept, wherever they come from: arguments, traits, files.

For: the corruptions, whoever takes their fields one by one, and the reading of files.
Ends: at checked values; `blip_trace_widget.tracing.corruption` damages tokens with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from blip_trace_widget.checks import brief, whole_number
from blip_trace_widget.choices import IMAGE_PLACES, MAX_FACTOR, Place

#: Fields of a corruption that mean something at some places alone.
FIELDS_AT: dict[str, tuple[Place, ...]] = {"region": IMAGE_PLACES, "positions": ("question_embeddings",)}
#: What an array of would be larger than its number of entries.
_LARGE = (str, bytes, list, tuple, dict)


def plain_region(region: Sequence[Sequence[bool]] | None) -> list[list[bool]] | None:
    """A region as plain JSON."""
    return None if region is None else [list(row) for row in region]


def checked_factor(name: str, value: object) -> float:
    """Return a noise factor as float.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is NaN, infinite or negative.
    """
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number of 0 or more, got {type(value).__name__} {brief(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name}: expected a number of 0 or more, got {type(value).__name__}: {error}") from error
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}: expected a finite number of 0 or more, got {number}")
    if number > MAX_FACTOR:
        raise ValueError(f"{name}: expected a number from 0 to {MAX_FACTOR:g}, got {number}")
    return number


def checked_positions(value: Any) -> tuple[int | str, ...] | None:
    """Tokens of a question, by number or as words, as a tuple, so that corruptions stay hashable.

    Raises:
        TypeError, ValueError: if they are none. Whether a question has them is not known here.
    """
    if value is None:
        return None
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0
    given = list(value) if several else [value]
    if not given:
        raise ValueError("positions: expected at least one token, by number or as a word, got none")
    return tuple(dict.fromkeys(each if isinstance(each, str) else whole_number("positions", each, 0) for each in given))


def checked_region(value: Any, grid: tuple[int, int] | None = None) -> tuple[tuple[bool, ...], ...] | None:
    """A region as nested tuples, so that corruptions stay hashable.

    Args:
        value: a boolean (rows, columns) mask, or None.
        grid: rows and columns that it must have, where they are known.

    Raises:
        ValueError: if it is none, is empty, or has another shape.
    """
    if value is None:
        return None
    import numpy as np

    if grid is not None and _is_larger(value, grid):  # not even looked at
        raise ValueError(f"region: expected {grid[0]} x {grid[1]} patches (rows x columns), got more")
    odd = _large_entries(value)
    if odd:  # an array of long texts, or of lists, would be large
        raise ValueError(f"region: expected a boolean (rows, columns) mask, got {brief(odd[0])} in it")
    try:
        mask = np.asarray(value)
    except ValueError as error:
        raise ValueError("region: expected a boolean (rows, columns) mask, got rows of unequal length") from error
    except (TypeError, RuntimeError) as error:  # tensors without numbers, or with a gradient
        raise ValueError(
            f"region: expected a boolean (rows, columns) mask, got one that cannot be read: {error}"
        ) from error
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(
            f"region: expected a boolean (rows, columns) mask, got an array of shape {mask.shape} and type {mask.dtype}"
        )
    if not mask.any():
        raise ValueError("region: expected at least one patch, got an empty mask")
    if grid is not None and mask.shape != grid:
        raise ValueError(
            f"region: expected {grid[0]} x {grid[1]} patches (rows x columns), got {mask.shape[0]} x {mask.shape[1]}"
        )
    return tuple(tuple(bool(cell) for cell in row) for row in mask)


def _large_entries(value: Any) -> list[Any]:
    """The first entry of nested lists that is no single value, or a text, if there is one."""
    rows = [row for row in value if isinstance(row, (list, tuple))] if isinstance(value, (list, tuple)) else []
    large = (each for row in rows for each in row if isinstance(each, _LARGE) or getattr(each, "ndim", 0) > 0)
    return [*islice(large, 1)]


def _is_larger(value: Any, grid: tuple[int, int]) -> bool:
    """Whether nested lists have more rows than a grid, or a row of them more columns."""
    rows, columns = grid
    if not isinstance(value, (list, tuple)):
        return False
    return len(value) > rows or any(isinstance(row, (list, tuple)) and len(row) > columns for row in value)


def means_something(name: str, at: str | None) -> bool:
    """Whether a field of a corruption means something at a place."""
    return name not in FIELDS_AT or at in FIELDS_AT[name]


def check_places(fields: Mapping[str, Any]) -> None:
    """Refuse fields of a corruption that mean nothing at its place.

    Raises:
        ValueError: naming the field, and the places at which it means something.
    """
    for name, places in FIELDS_AT.items():
        if fields.get(name) is not None and not means_something(name, fields.get("at")):
            raise ValueError(
                f"{name}: only with at={' or '.join(map(repr, places))}, got {name} with at={fields.get('at')!r}"
            )
