"""Recordings: many grids of one question in one file, for those who have no model at hand.

For: `Tracer.record`, and reading what it wrote. Classes without a GPU, pages on the web, and notebooks that are opened
years later show it with `TraceWidget.from_trace`.
Cost: each grid as `Tracer.trace` computes it; the file holds 8 bytes a sample and cell, and one picture a factor.
Ends: at traces; showing them is `blip_trace_widget.playback`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blip_trace_widget import figure, files
from blip_trace_widget.calls import Progress, as_progress
from blip_trace_widget.checks import named
from blip_trace_widget.corruption import GaussianNoise
from blip_trace_widget.results import Trace
from blip_trace_widget.scene import Scene
from blip_trace_widget.states import BLOCKS, SITES

if TYPE_CHECKING:
    from blip_trace_widget.protocol import Curve
    from blip_trace_widget.tracer import Tracer


def record(
    tracer: Tracer,
    path: str | os.PathLike[str],
    blocks: str | Iterable[str] | None,
    sites: str | Iterable[str] | None,
    factors: Iterable[float] | None,
    direction: str,
    progress: bool | Progress | None,
    cancel: Callable[[], bool] | Any,
) -> None:
    """See `Tracer.record`."""
    grids = _grids(tracer, _names("blocks", blocks, BLOCKS), _names("sites", sites, SITES))
    tracers = [tracer] if factors is None else [tracer.with_corruption(factor=factor) for factor in factors]
    if not tracers:
        raise ValueError("factors: expected at least one noise factor, got none")
    if tracer.scene is None:
        raise ValueError("corruption, metric: a recording needs the package's own, for a widget can show no others")
    report, close = as_progress(progress, len(grids) * len(tracers), "grid")
    traces: list[Trace] = []
    try:
        curve = _curve(tracer, cancel)
        for each in tracers:
            scene = replace(_scene(each), curve=curve)
            for block, site in grids:
                traces.append(replace(each.whole_trace(block, site, direction, cancel), scene=scene))
                report(len(traces), len(grids) * len(tracers))
    finally:
        close()
    save(traces, path)


def save(traces: Sequence[Trace], path: str | os.PathLike[str]) -> None:
    """Write traces of one picture, and each of their scenes once.

    Raises:
        OSError: if the file cannot be written.
    """
    scenes = list({id(trace.scene): trace.scene for trace in traces}.values())
    arrays: dict[str, Any] = {}
    told: dict[str, list[Any]] = {"scenes": [], "traces": []}
    for scene in scenes:
        pictures, described = files.scene_parts(scene)
        arrays |= pictures
        told["scenes"].append(described)
    for number, trace in enumerate(traces):
        numbers, described = files.trace_parts(trace, f"trace {number} ")
        arrays |= numbers
        told["traces"].append({**described, "scene": scenes.index(trace.scene)})
    files.write(path, files.RECORDING, arrays, **told)


def load(path: str | os.PathLike[str]) -> tuple[Trace, ...]:
    """The traces of a recording, or the one that `Trace.save` wrote.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    kind, fields = files.read(path, files.RECORDING, files.TRACE)
    return tuple(Trace(**each) for each in (fields["traces"] if kind is files.RECORDING else [fields]))


def _grids(tracer: Tracer, blocks: Sequence[str] | None, sites: Sequence[str] | None) -> list[tuple[str, str]]:
    """Block and site of each grid: of those that were asked for the ones that there are."""
    if blocks is None:
        blocks = [block for block in BLOCKS if not figure.closed_because(tracer.corruption, block)]
    found = [(block, site) for block in blocks for site in BLOCKS[block].sites if sites is None or site in sites]
    if not found:
        raise ValueError(f"blocks, sites: {list(blocks)} have none of {list(sites or [])}")
    return found


def _names(argument: str, given: str | Iterable[str] | None, known: Collection[str]) -> list[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    return [named(argument, name, known) for name in names]


def _scene(tracer: Tracer) -> Scene:
    assert tracer.scene is not None  # one corruption has one as another does, whatever its factor
    return tracer.scene


def _curve(tracer: Tracer, cancel: Callable[[], bool] | Any) -> Curve | None:
    if not isinstance(tracer.corruption, GaussianNoise):
        return None
    curve = tracer.noise_curve(cancel=cancel)
    return figure.curve(curve.factors, curve.scores, curve.clean, 0)
