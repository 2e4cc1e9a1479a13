"""What single cells of a table say, whichever library they come from.

For: one answer to "is there anything" and "what is it called" for texts, numbers and missing values of the standard
library, NumPy, pandas and torch.
Ends: at texts. What no text can be made of is left as it is, for the tracer to refuse.
"""

from __future__ import annotations

import json
import numbers
import re
from contextlib import suppress
from typing import Any


def plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's own; anything else as it is."""
    is_scalar = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_scalar else value


def is_absent(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NA, NaT, or a text without a letter. The text "None" is a text."""
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
    """A text without the spaces around it, or the digits of a whole number (7.0 too); None where the cell is empty."""
    if is_absent(value):
        return None
    value = plain(value)
    if isinstance(value, str):
        return str(value).strip()
    return value if isinstance(value, bool) else _digits(value)


def name(value: Any, otherwise: str) -> str:
    """What a cell that names something calls it: 7, 7.0, "7" and "7.0" are one name; `otherwise` where it is empty."""
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
    """Anything in words, for a table."""
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - whatever an object of the user's does: the table gets its row
        return f"<{type(value).__name__}>"


def _digits(value: Any) -> Any:
    if not isinstance(value, numbers.Number):
        return value
    try:
        whole = int(value)  # type: ignore[call-overload]
        return str(whole) if whole == value else value
    except (TypeError, ValueError, ArithmeticError):  # complex, infinite, or of thousands of digits
        return value
