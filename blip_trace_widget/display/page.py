"""A figure as a web page of one file, which needs no kernel and no network.

For: handing a trace around: by mail, in a course, on any web server. Everything that was computed can be looked at.
Cost: 100 kB for the script, then the picture, and 24 bytes a cell and a third; the built-in example has 0.25 MB.
Ends: at a string. `js/src/page.ts` plays what is written here.
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

#: Why a page can be asked nothing.
CLOSED = "a saved page: what is computed can be looked at"
#: What the page itself may do: run what is in it, and fetch nothing.
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
    """The page.

    Args:
        traits: what a widget shows, by its traits' names.
        traces: all that is computed, each with its snapshot; the grid in view of `traits` is among them.
        picture: the figure as SVG, for readers without JavaScript.
        script: the widget's.
        style: its style sheet.
        compared: what the trait of that name is where grids of one scene can be looked at.
    """
    generation = traits["runs"]["generation"] if traits["runs"] else 0
    snapshots = {id(trace.snapshot): trace.snapshot for trace in traces if trace.snapshot is not None}
    played = [
        _played(snapshot, [trace for trace in traces if trace.snapshot is snapshot], generation, compared)
        for snapshot in sorted(snapshots.values(), key=payloads.noise)
    ]
    here = min(played, key=lambda scene: abs(scene["noise"] - traits["noise"]))
    factors = [str(scene["noise"]) for scene in played]
    setup = {**traits["setup"], "closed": CLOSED, "choices": {**traits["setup"]["choices"], "noise": factors}}
    state = {
        **traits,
        "generation": generation,
        "setup": {**setup, "examples": []},
        "error": "",
        "grids": here["grids"],
        "compared": here["compared"],
    }
    saved = {"script": script, "state": state, "scenes": played}
    return _PAGE.format(
        policy=POLICY,
        title=html.escape(f"Causal trace: {traits['question']}"),
        style=style,
        picture=picture,
        saved=_escaped(json.dumps(saved, default=_as_base64, ensure_ascii=False)),
        script=(_STATIC / "page.js").read_text("utf-8"),
    )


def _played(
    snapshot: Snapshot,
    traces: Sequence[Trace],
    generation: int,
    compared: Callable[[Sequence[Trace], int], dict[str, Any]],
) -> dict[str, Any]:
    """What the traits are at one noise factor."""
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
    """JSON that cannot end the element it is written into."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
