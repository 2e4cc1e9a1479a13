"""Recording: tracing many grids of one question into a file.

For: `Tracer.record`.
Cost: one grid per block, site and factor, and a noise curve.
Ends: at results; `blip_trace_widget.results.recording` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from blip_trace_widget.checks import named
from blip_trace_widget.model.progress import Progress, as_progress
from blip_trace_widget.results import recording
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.snapshot import CurveSummary
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES
from blip_trace_widget.tracing.corruption import GaussianNoise
from blip_trace_widget.tracing.grid import whole_traces
from blip_trace_widget.tracing.noise_curve import noise_curve
from blip_trace_widget.tracing.question_view import QuestionView


def record(
    tracer: QuestionView,
    path: str | os.PathLike[str],
    blocks: str | Iterable[str] | None,
    sites: str | Iterable[str] | None,
    factors: Iterable[float] | None,
    direction: str,
    progress: bool | Progress | None,
    cancel: Callable[[], bool] | Any,
) -> None:
    """See `Tracer.record`.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
        OSError: if the file cannot be written.
        Cancelled: within a layer of `cancel` saying so.
    """
    direction = named("direction", direction, DIRECTIONS)
    pairs = _grids(tracer, _names("blocks", blocks, BLOCKS), _names("sites", sites, SITES))
    grids = [GridSpec(block, site, direction=direction) for block, site in pairs]
    variants = [tracer] if factors is None else [tracer.with_corruption(factor=factor) for factor in factors]
    if not variants:
        raise ValueError("factors: expected at least one noise factor, got none")
    if tracer.snapshot is None:
        raise ValueError("corruption, metric: a recording needs the package's own, for a widget can show no others")
    report, close = as_progress(progress, len(grids) * len(variants), "grid")
    traces: list[Trace] = []
    try:
        curve = _curve(tracer, cancel)
        for variant in variants:
            assert variant.snapshot is not None  # the factor does not decide whether there is one
            snapshot = replace(variant.snapshot, curve=curve)
            for (trace,) in whole_traces([variant.case], grids, cancel):
                traces.append(replace(trace, snapshot=snapshot))
                report(len(traces), len(grids) * len(variants))
    finally:
        close()
    recording.save(traces, path)


def _grids(tracer: QuestionView, blocks: Sequence[str] | None, sites: Sequence[str] | None) -> list[tuple[str, str]]:
    """Block and site of each grid: those asked for that exist."""
    if blocks is None:
        blocks = [block for block in BLOCKS if tracer.corruption.reaches(block)]
    grids = [(block, site) for block in blocks for site in _sites(block, sites)]
    if not grids:
        raise ValueError(f"blocks, sites: {list(blocks)} have none of {list(sites or [])}")
    return grids


def _sites(block: str, sites: Sequence[str] | None) -> list[str]:
    known = BLOCKS[block]
    return list(known.sites) if sites is None else [site for site in known.accepted if site in sites]


def _names(argument: str, given: str | Iterable[str] | None, known: Collection[str]) -> list[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    return [named(argument, name, known) for name in names]


def _curve(tracer: QuestionView, cancel: Callable[[], bool] | Any) -> CurveSummary | None:
    if not isinstance(tracer.corruption, GaussianNoise):
        return None
    return noise_curve(tracer.case, cancel=cancel).summary
