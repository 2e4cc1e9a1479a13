"""Exporting what is shown: numbers (CSV, JSON), the selected cells' values, the picture, SVG converted to PNG and PDF.

For: the widget's Export menu, and export from Python.
Ends: at text and bytes; `blip_trace_widget.display.svg` draws the figure, `blip_trace_widget.widget.code` writes
Python.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blip_trace_widget import landing
from blip_trace_widget.checks import one_of
from blip_trace_widget.results.differences import Difference
from blip_trace_widget.results.trace import Trace

#: File names of the pictures that exported code refers to.
PICTURE, OTHER = "picture.png", "other.png"
#: Format -> (name of the file, media type).
FILES = {
    "svg": ("blip-trace.svg", "image/svg+xml"),
    "csv": ("blip-trace.csv", "text/csv"),
    "json": ("blip-trace.json", "application/json"),
    "picture": (PICTURE, "image/png"),
    "other": (OTHER, "image/png"),
    "python": ("blip_trace.py", "text/x-python"),
    "cells": ("blip-trace.tsv", "text/tab-separated-values"),
}

#: File extensions that can be written from Python.
WRITTEN = ("svg", "png", "pdf", "html", "csv", "json")


#: What a spreadsheet takes for the beginning of a formula.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def format_of(path: str | os.PathLike[str]) -> str:
    """The format given by a path's extension.

    Raises:
        TypeError, ValueError: if it is none of `WRITTEN`.
    """
    suffix = Path(path).suffix.removeprefix(".").lower()
    return one_of("path (ending)", suffix, WRITTEN)


def write(path: str | os.PathLike[str], make: Callable[[], str | bytes]) -> None:
    """Write a file, after making its content.

    Raises:
        OSError: if the file cannot be written; then it is as it was.
    """
    content = make()
    landing.write(path, content if isinstance(content, bytes) else content.encode())


def png(svg: str) -> bytes:
    """An SVG as PNG, at twice its size in pixels.

    Raises:
        ImportError: if the extra ``export`` is not installed.
    """
    return bytes(_converter().svg_to_png(svg, scale=2))


def pdf(svg: str) -> bytes:
    """An SVG as PDF, with selectable text.

    Raises:
        ImportError: if the extra ``export`` is not installed.
    """
    return bytes(_converter().svg_to_pdf(svg))


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise ImportError(
            "PNG and PDF are made by vl-convert-python: pip install 'blip_trace_widget[export]'. SVG needs nothing."
        ) from error
    return vl_convert


def csv(shown: Trace | Difference) -> str:
    """The computed cells as CSV, one row per cell, as in `to_dataframe`; no text in it is a spreadsheet's formula."""
    return str(_without_formulas(_computed(shown)).to_csv(index=False, lineterminator="\n"))


def json_text(shown: Trace | Difference) -> str:
    """The computed cells and the settings as JSON."""
    rows = _computed(shown).to_dict("records")
    cells = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    settings = {"settings": (shown if isinstance(shown, Trace) else shown.first).settings}
    if isinstance(shown, Difference):
        settings["other_settings"] = shown.second.settings
    return json.dumps({**settings, "cells": cells}, indent=1, ensure_ascii=False) + "\n"


def cells_text(shown: Trace | Difference, cells: Sequence[tuple[int, int]]) -> str:
    """The values of some cells as tab-separated text with a header, for pasting into a spreadsheet."""
    table = shown.to_dataframe()
    chosen = [layer * shown.shape[1] + position for layer, position in cells]
    return str(_without_formulas(table.iloc[chosen]).to_csv(index=False, sep="\t", lineterminator="\n"))


def picture(image: Image.Image) -> bytes:
    """A picture as PNG, which is lossless."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _without_formulas(table: Any) -> Any:
    """A table whose texts a spreadsheet takes for texts: those that begin a formula get an apostrophe before them.

    Source: OWASP, CSV injection. Numbers stay as they are, negative ones too.
    """
    texts = [name for name in table.columns if table[name].map(lambda value: isinstance(value, str)).any()]
    return table.assign(**{name: table[name].map(_as_text) for name in texts})


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _computed(shown: Trace | Difference) -> Any:
    table = shown.to_dataframe()
    return table[table["computed"] if "computed" in table else np.isfinite(table["score"])]
