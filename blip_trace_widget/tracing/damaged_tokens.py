"""Which tokens a corruption damages, and how much: what its fields accept.

For: the corruptions, and whoever takes their fields one by one.
Ends: at checked values and masks; what is done to the tokens is `blip_trace_widget.tracing.corruption`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import brief, whole_number
from blip_trace_widget.choices import MAX_FACTOR

if TYPE_CHECKING:
    import torch


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


def token_mask(
    count: int, region: Sequence[Sequence[bool]] | None = None, positions: Sequence[int | str] | None = None
) -> torch.Tensor | None:
    """The damaged tokens, (count,) bool; None for all of them.

    Args:
        count: number of tokens.
        region: the damaged patches of a picture; its first token, the class token, is spared.
        positions: or the damaged tokens themselves.

    Raises:
        ValueError: if `positions` holds words, not numbers.
    """
    import torch

    if region is not None:
        return torch.tensor([False, *(cell for row in region for cell in row)], dtype=torch.bool)
    if positions is not None:
        if any(isinstance(each, str) for each in positions):
            raise ValueError("positions: words become numbers in a question: corruption.located(question_tokens)")
        damaged = set(positions)
        return torch.tensor([at in damaged for at in range(count)], dtype=torch.bool)
    return None


def checked_positions(value: Any) -> tuple[int | str, ...] | None:
    """Tokens of a question, by number or as words, as a tuple, so that corruptions stay hashable.

    Raises:
        TypeError, ValueError: if they are none. Whether a question has them is not known here.
    """
    if value is None:
        return None
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
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
    try:
        mask = np.asarray(value)
    except ValueError as error:
        raise ValueError("region: expected a boolean (rows, columns) mask, got rows of unequal length") from error
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


def _is_larger(value: Any, grid: tuple[int, int]) -> bool:
    """Whether nested lists have more rows than a grid, or a row of them more columns."""
    rows, columns = grid
    if not isinstance(value, (list, tuple)):
        return False
    return len(value) > rows or any(isinstance(row, (list, tuple)) and len(row) > columns for row in value)
