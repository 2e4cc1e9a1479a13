"""A figure as a single-file web page that needs no kernel and no network.

For: sharing a trace: by mail, in a course, on any web server. Everything that was computed can be viewed.
Cost: 100 kB for the script, the picture, and 32 bytes per cell (24, as base64); 0.25 MB for the built-in example.
Ends: at a string; `js/src/page.ts` reads it.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from blip_trace_widget.display import payloads
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace

#: Why a page cannot compute anything.
CLOSED = "a saved page: what is computed can be looked at"
#: The page's content security policy: run its own scripts, and fetch nothing.
POLICY = "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:"

_STATIC = files("blip_trace_widget") / "static"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>:root {{ color-scheme: light dark }} body {{ margin: 16px }}</style>
<style>{style}</style>
</head>
<body>
<div id="figure"></div>
<noscript>{picture}</noscript>
<script type="application/json" id="saved">{saved}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def page(
    traits: Mapping[str, Any],
    traces: Sequence[Trace],
    picture: str,
    script: str,
    style: str,
    compared: Callable[[Sequence[Trace], int], dict[str, Any]] = lambda _traces, _generation: {},
) -> str:
    """The page's HTML.

    Args:
        traits: a widget's traits by name.
        traces: all computed grids, each with its snapshot, among them the grid in view of `traits`.
        picture: the figure as SVG, for readers without JavaScript.
        script: the widget's script.
        style: the widget's style sheet.
        compared: returns the trait ``compared`` for the grids of one snapshot and a generation.
    """
    generation = traits["runs"]["generation"] if traits["runs"] else 0
    snapshots = {id(trace.snapshot): trace.snapshot for trace in traces if trace.snapshot is not None}
    scenes = [
        _scene(snapshot, [trace for trace in traces if trace.snapshot is snapshot], generation, compared)
        for snapshot in sorted(snapshots.values(), key=payloads.noise)
    ]
    current = min(scenes, key=lambda scene: abs(scene["noise"] - traits["noise"]))
    factors = [str(scene["noise"]) for scene in scenes]
    choices = {**traits["setup"]["choices"], "also": [], "noise": factors}
    setup = {**traits["setup"], "closed": CLOSED, "choices": choices, "models": [], "examples": []}
    state = {
        **traits,
        "generation": generation,
        "setup": setup,
        "error": "",
        "grids": current["grids"],
        "compared": current["compared"],
    }
    saved = {"script": script, "state": state, "scenes": scenes}
    return _PAGE.format(
        policy=POLICY,
        title=html.escape(f"Causal trace: {traits['question']}"),
        style=style,
        picture=picture,
        saved=_escaped(json.dumps(saved, default=_as_base64, ensure_ascii=False)),
        script=(_STATIC / "page.js").read_text("utf-8"),
    )


def _scene(
    snapshot: Snapshot,
    traces: Sequence[Trace],
    generation: int,
    compared: Callable[[Sequence[Trace], int], dict[str, Any]],
) -> dict[str, Any]:
    """The traits at one noise factor."""
    grids = [payloads.grid(trace, generation) for trace in traces]
    return payloads.traits(snapshot, generation) | {
        "grid": {},
        "grids": grids,
        "compared": compared(traces, generation),
    }


def _as_base64(value: Any) -> dict[str, str]:
    if not isinstance(value, (bytes, memoryview)):
        raise TypeError(f"{type(value).__name__} cannot be written into a page")
    return {"base64": base64.b64encode(value).decode("ascii")}


def _escaped(text: str) -> str:
    """JSON escaped so that it cannot end the element that contains it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
