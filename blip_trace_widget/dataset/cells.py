"""Reading single cells of a table, whichever library they come from.

For: one way to decide whether a cell is empty and what it names, for texts, numbers and missing values of the standard
library, NumPy, pandas and torch.
Ends: at texts. Values that cannot be read as text are returned unchanged, for the tracer to refuse.
"""

from __future__ import annotations

import json
import numbers
import re
from contextlib import suppress
from typing import Any


def plain(value: Any) -> Any:
    """A NumPy or torch scalar as a Python number; anything else unchanged."""
    is_scalar = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_scalar else value


def is_absent(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NA, NaT, or blank text. The text "None" is not empty."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    if isinstance(value, str):
        return not value.strip()
    value = plain(value)
    try:
        return value is None or (isinstance(value, numbers.Number) and bool(value != value))  # NaN
    except ArithmeticError:  # a signalling NaN of `decimal`
        return True


def text(value: Any) -> Any:
    """A stripped text, or the digits of a whole number (7.0 too); None if the cell is empty."""
    if is_absent(value):
        return None
    value = plain(value)
    if isinstance(value, str):
        return str(value).strip()
    return value if isinstance(value, bool) else _digits(value)


def name(value: Any, otherwise: str) -> str:
    """The name in a cell: 7, 7.0, "7" and "7.0" are the same name; `otherwise` if the cell is empty."""
    value = text(value)
    if value is None:
        return otherwise
    if isinstance(value, str):
        return re.sub(r"(?<=\d)\.0+\Z", "", value) if re.fullmatch(r"-?\d+\.0+", value, re.ASCII) else value
    return shown(value)


def mask(value: Any) -> Any:
    """A region as nested tuples, from an array, lists, or lists as JSON, of true and false or 1 and 0; None if empty.

    What is none stays as it is, for the row to say so.
    """
    given = value
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value.lower())  # Python writes True
    if is_absent(value):
        return None
    if getattr(value, "shape", None) and callable(getattr(value, "tolist", None)):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return given
    rows = [row.tolist() if callable(getattr(row, "tolist", None)) else row for row in value]
    if not rows or not all(isinstance(row, (list, tuple)) and all(map(_is_bit, row)) for row in rows):
        return given
    return tuple(tuple(bool(cell) for cell in row) for row in rows)


def _is_bit(value: Any) -> bool:
    return isinstance(value, (bool, int)) and value in (0, 1)


def shown(value: Any) -> str:
    """Any value as text, for a table."""
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - a user's object may raise anything, and the table still needs its row
        return f"<{type(value).__name__}>"


def _digits(value: Any) -> Any:
    if not isinstance(value, numbers.Number):
        return value
    try:
        whole = int(value)  # type: ignore[call-overload]
        return str(whole) if whole == value else value
    except (TypeError, ValueError, ArithmeticError):  # complex, infinite, or of thousands of digits
        return value
