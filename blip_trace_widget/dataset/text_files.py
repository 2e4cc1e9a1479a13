"""Tables in text files, as spreadsheets and all kinds of programs write them.

For: values separated by comma, semicolon or tab; UTF-8, UTF-16 or cp1252, with or without a byte order mark. Ambiguous
files are refused with a remedy, because a wrong guess would go unnoticed.
Cost: the file in memory.
Ends: at column names and rows of texts.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blip_trace_widget.dataset.columns import key, tell

if TYPE_CHECKING:
    from blip_trace_widget.dataset.samples import PathLike

DELIMITERS = (",", ";", "\t")
#: Byte order marks, longer ones first: UTF-32's begins like UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: No file is read that is larger, in bytes; those of VQA v2 and GQA are smaller.
LARGEST = 2 << 30
REMEDY = "save it as UTF-8 (in a spreadsheet: “CSV UTF-8”)"


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        called: the file's name, for errors.
        columns: the columns' names.
        rows: the rows, each with one text per column.
    """

    called: str
    columns: list[str]
    rows: list[list[str]]


def read(argument: str, file: PathLike, known: Sequence[str]) -> Table:
    """Read a table.

    Args:
        argument: the argument's name, for errors.
        file: the file's path.
        known: column names, some of which should be present: they decide which delimiter it is.

    Raises:
        TypeError: if it is not a path.
        FileNotFoundError, OSError: if the file cannot be read.
        ValueError: if it is not such a table.
    """
    called, text = content(argument, file)
    if not text.strip():
        raise ValueError(f"{called} is empty; expected a line of column names, and a row for each question")
    declared = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)  # written by Excel
    if declared:
        text = text[declared.end() :]
    delimiter = declared.group(1) if declared else _delimiter(text, {key(name) for name in known})
    try:
        numbered = [(number, row) for number, row in enumerate(_reader(text, delimiter)) if not _is_blank(row)]
    except (csv.Error, TypeError, ValueError) as error:  # badly quoted, or a delimiter that `csv` does not accept
        raise ValueError(f"{called} is no table of comma-separated values: {error}") from error
    if not numbered:
        raise ValueError(f"{called} is empty; expected a line of column names, and a row for each question")
    (first, columns), *rows = numbered
    for number, row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"{called}: row {number - first} has {len(row)} values, expected {len(columns)}; a text with "
                f"{delimiter!r} in it needs quotes: {row}"
            )
    return Table(called, columns, [row for _, row in rows])


def content(argument: str, file: PathLike) -> tuple[str, str]:
    """What a file is called in errors, and its text.

    Raises:
        TypeError: if it is no path.
        FileNotFoundError, OSError: if the file cannot be read.
        ValueError: if it is too large, or no text.
    """
    path = as_path(argument, file, "file")
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: no such file: {os.fspath(file)!r}")
    called, size = f"{argument}: {os.fspath(file)!r}", path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{called} has {size >> 20} MB, expected at most {LARGEST >> 20}: split it")
    return called, _decoded(path.read_bytes(), called)


def as_path(argument: str, given: Any, what: str) -> Path:
    """Return a path as a `Path`.

    Raises:
        TypeError: if it is not a path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{argument}: expected the path of a {what}, got {type(given).__name__}")
    return Path(os.fsdecode(given))


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)


def _is_blank(row: Sequence[str]) -> bool:
    """Whether a line is blank; spreadsheets write such lines below a table."""
    return not any(cell.strip() for cell in row)


def _delimiter(text: str, known: set[str]) -> str:
    """The delimiter that gives the first line the most known columns, or if there are none, the most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            header: list[str] = next(filter(None, _reader(text, delimiter)), [])
        except csv.Error:
            return 0, 0
        return sum(key(name) in known for name in header), len(header)

    return max(DELIMITERS, key=fit)


def _decoded(content: bytes, called: str) -> str:
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None) or _unmarked(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(f"{called} begins like {encoding}, but cannot be read so ({error}); {REMEDY}") from error
        text = _western(content, error, called)
    if "\0" in text:
        raise ValueError(f"{called} is no text: there are NUL characters in it; {REMEDY}")
    return text


def _unmarked(content: bytes) -> str:
    """The encoding without a mark: UTF-16 has a zero byte beside each letter of the column names, else UTF-8."""
    first, second = content[0:8:2], content[1:8:2]
    if len(content) >= 4 and any(first) != any(second):
        return "utf-16-le" if any(first) else "utf-16-be"
    return "utf-8"


def _western(content: bytes, error: UnicodeDecodeError, called: str) -> str:
    """Text that is not UTF-8, decoded as cp1252, which Windows spreadsheets write, if nothing contradicts it."""
    rest = content.decode("utf-8", "ignore")
    if rest.isascii():  # else parts are UTF-8, and would be garbled
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            pass
        else:
            example = re.search(r"\S*[^\x00-\x7f]\S*", text)
            tell(
                f"{called} is not UTF-8 and was read as cp1252 (so it has {example.group()[:40] if example else ''!r} "
                f"in it); if that is wrong, {REMEDY}"
            )
            return text
    raise ValueError(f"{called} is neither UTF-8, nor UTF-16, nor cp1252 throughout ({error}); {REMEDY}") from error
