"""A trace's figure as a file: what a widget would show of it, drawn only from the trace and its snapshot.

For: `Trace.export` and `Trace.save_html`.
Ends: at a file; `payloads`, `svg`, `page` and `export` in `blip_trace_widget.display` make its parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from blip_trace_widget.checks import one_of
from blip_trace_widget.display import export, payloads, svg
from blip_trace_widget.display.overlays import square_for
from blip_trace_widget.display.page import page
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace

#: A widget's traits before anything is clicked.
UNTOUCHED: dict[str, Any] = {
    "selection": [],
    "patches": [],
    "overlay": "none",
    "opacity": 0.8,
    "show": "recovery",
    "axes": "tokens",
    "limit": 0.0,
    "example": -1,
    "error": "",
    "doing": "",
    "difference": False,
    "truth": False,
    "strength": 1.0,
    "ablation": {},
    "path": [],
    "arrow": False,
    "found": {},
    "flow": {},
    "detail": {},
    "pinned": {},
    "picture_map": {},
    "steps": {"undo": False, "redo": False},
}

_STATIC = files("blip_trace_widget") / "static"


def write(trace: Trace, path: str | os.PathLike[str], name: str, theme: str) -> None:
    """Write a trace's figure or its numbers, in one of the formats that `blip_trace_widget.display.export` knows.

    Raises:
        TypeError, ValueError: if there is no such theme, or the trace has no snapshot, which all formats but CSV and
            JSON need.
        ImportError: for PNG and PDF, if the extra ``export`` is not installed.
        OSError: if the file cannot be written.
    """
    one_of("theme", theme, svg.THEMES)
    makers: dict[str, Callable[[], str | bytes]] = {
        "csv": lambda: export.csv(trace),
        "json": lambda: export.json_text(trace),
        "svg": lambda: drawn(trace, theme),
        "png": lambda: export.png(drawn(trace, theme)),
        "pdf": lambda: export.pdf(drawn(trace, theme)),
        "html": lambda: html(trace),
    }
    export.write(path, makers[name])


def drawn(trace: Trace, theme: str = "light", *, thumbnail: bool = False) -> str:
    """The figure as SVG.

    Raises:
        ValueError: if the trace has no snapshot.
    """
    snapshot = snapshot_of(trace)
    runs, curve = payloads.runs(snapshot, 0), payloads.traits(snapshot, 0)["curve"]
    return svg.svg(
        runs=runs,
        grid=payloads.grid(trace, 0),
        detail={},
        question=snapshot.question,
        picture=payloads.thumbnail(snapshot.picture) if thumbnail else snapshot.picture,
        direction=trace.settings["direction"],
        window=trace.settings["window"],
        settings_line=payloads.noted(runs["line"], curve, payloads.noise(snapshot)),
        marks=svg.Marks({}, UNTOUCHED["opacity"], snapshot.patches, [], snapshot.corruption.get("region")),
        theme=theme,
    )


def html(trace: Trace) -> str:
    """The figure as a single-file web page.

    Raises:
        ValueError: if the trace has no snapshot.
    """
    snapshot = snapshot_of(trace)
    state = {
        **payloads.BEGINNING,
        **payloads.asked_of(snapshot),
        **payloads.spec_of(trace).as_json,
        **UNTOUCHED,
        **payloads.traits(snapshot, 0),
        "look": payloads.look(),
        "setup": payloads.setup(snapshot),
        "picture": snapshot.picture,
        "other_picture": snapshot.other_picture,
        "grid": payloads.grid(trace, 0),
        "square": square_for(snapshot.patches),
    }
    script, style = ((_STATIC / name).read_text("utf-8") for name in ("widget.js", "widget.css"))
    return page(state, [trace], drawn(trace, thumbnail=True), script, style)


def snapshot_of(trace: Trace) -> Snapshot:
    """A trace's snapshot.

    Raises:
        ValueError: if it has none.
    """
    if trace.snapshot is None:
        raise ValueError(
            "trace: it has no snapshot to show, for it comes from an older file, or its corruption or metric is one's "
            "own; trace it again, or use trace.plot()"
        )
    return trace.snapshot
