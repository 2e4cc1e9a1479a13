"""What a widget shows as documents: files, a page, a still picture, text.

For: `TraceWidget.export` and `save_html`, the page's Export menu, and hosts that cannot draw a widget.
Ends: at text or bytes; `svg`, `export` and `page` in `blip_trace_widget.display` make them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ipywidgets import DOMWidget
from PIL import Image

from blip_trace_widget.display import export, formatting, payloads, svg
from blip_trace_widget.display.page import page
from blip_trace_widget.display.svg import raster
from blip_trace_widget.results.differences import Difference
from blip_trace_widget.results.grid_spec import CellIndex
from blip_trace_widget.widget.inputs import Picture

if TYPE_CHECKING:
    from blip_trace_widget.widget.trait_view import TraitView

#: The host's traits.
HOSTS = {*DOMWidget.class_trait_names(sync=True), "_esm", "_css", "_anywidget_id"}
#: How long a still picture waits for running computations, and its maximal size.
STILL_SECONDS, STILL_BYTES = 0.5, 150_000
#: What to do if the widget itself is missing.
KEEP = (
    "To keep the widget in a saved notebook, turn on Settings, Save Widget State Automatically in JupyterLab; "
    "to bring it back, run the cell again."
)
_DRAWN = ("runs", "grid", "detail", "question", "show", "limit", "axes", "direction", "window")


def content(widget: TraitView, name: str, theme: str) -> str | bytes:
    """What is shown, in one of the formats of `TraceWidget.export` and of the front end.

    Raises:
        ValueError: if it is the other picture, and none was chosen.
        ImportError: for PNG and PDF, if the extra ``export`` is not installed.
    """
    inputs, difference = widget._inputs, shown_difference(widget)
    makers: dict[str, Callable[[], str | bytes]] = {
        "svg": lambda: drawn(widget, theme),
        "png": lambda: export.png(drawn(widget, theme)),
        "pdf": lambda: export.pdf(drawn(widget, theme)),
        "html": lambda: _page(widget),
        "csv": lambda: export.csv(difference or widget.trace),
        "json": lambda: export.json_text(difference or widget.trace),
        "picture": lambda: export.picture(inputs.picture.image),
        "other": lambda: export.picture(_image_of(inputs.other)),
        "python": lambda: widget.code,
        "cells": lambda: export.cells_text(difference or widget.trace, list(inputs.selection)),
    }
    return makers[name]()


def drawn(widget: TraitView, theme: str, *, thumbnail: bool = False, note: str = "") -> str:
    """The figure as SVG."""
    with widget._session.lock:
        differences = widget.compared.get("differences")
        beside = differences[0] if differences else None
        return svg.svg(
            **{name: getattr(widget, name) for name in _DRAWN},
            difference=beside if beside and beside["values"] and widget.difference else None,
            agreement=beside,
            picture=payloads.thumbnail(widget.picture) if thumbnail else widget.picture,
            settings_line=payloads.noted(widget.runs.get("line", ""), widget.curve, widget.noise),
            marks=svg.Marks(
                widget.picture_map, widget.opacity, widget.tracer.model.grid, marked(widget), widget.region
            ),
            theme=theme,
            note=note,
        )


def shown_difference(widget: TraitView) -> Difference | None:
    """The difference that is shown instead of the grid in view, if any."""
    return widget._session.comparison.difference(widget.trace) if widget.difference else None


def marked(widget: TraitView) -> list[CellIndex]:
    """The selected patches, (row, column): of the picture, or in the image encoder's grid."""
    inputs = widget._inputs
    if inputs.block != "image_encoder" or inputs.patches:
        return list(inputs.patches)
    # Position 0 is the class token, which is not part of the picture.
    columns = widget.tracer.model.grid[1]
    return [divmod(position - 1, columns) for _, position in inputs.selection if position]


def still(widget: TraitView, most: int = STILL_BYTES) -> dict[str, str]:
    """A still picture of at most `most` bytes, and a text, by media type.

    For hosts that cannot draw a widget: previews of notebooks, terminals.
    """
    widget._session.wait(STILL_SECONDS)
    made, picture = {"text/plain": f"{_text_of(widget)}\n{KEEP}"}, drawn(widget, "light", thumbnail=True, note=KEEP)
    if len(picture) <= most:
        made["image/svg+xml"] = picture
        png = raster.png(picture)
        for kind, file in (("image/png", png), ("application/pdf", raster.pdf(png))):
            made[kind] = base64.b64encode(file).decode("ascii")
    return made


def _page(widget: TraitView) -> str:
    picture, traces = drawn(widget, "light", thumbnail=True), widget._session.traces
    with widget._session.lock:
        traits = {name: getattr(widget, name) for name in widget.keys if name not in HOSTS}
        compared = widget._session.comparison.payload
    return page(traits, traces, picture, widget._esm, widget._css, compared)


def _text_of(widget: TraitView) -> str:
    """The figure in a few lines of text."""
    with widget._session.lock:
        runs: Any = widget.runs
        lines = [repr(widget)]
    if runs:
        clean, corrupted = (formatting.score(runs["metric"], runs[name]["score"]) for name in ("clean", "corrupted"))
        lines += [
            f"{runs['clean']['answer']}: clean {clean}, with {runs['damage']} {corrupted}; {runs['gate']['text']}"
        ]
    return "\n".join(lines)


def _image_of(other: Picture | None) -> Image.Image:
    if other is None:
        raise ValueError("other picture: none was chosen")
    return other.image
