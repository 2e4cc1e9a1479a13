"""What is kept of a tracer: its snapshot, and recordings of many grids.

For: `Tracer.snapshot` and `Tracer.record`.
Cost: a JPEG of at most 384 px, once a picture; each grid as `Tracer.trace` computes it.
Ends: at results; files are `blip_trace_widget.recording`'s, what is shown of them `blip_trace_widget.figure`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from blip_trace_widget import recording
from blip_trace_widget.calls import Progress, as_progress
from blip_trace_widget.checks import named
from blip_trace_widget.choices import CORRUPTIONS, MetricName
from blip_trace_widget.corruption import GaussianNoise, ImageSwap
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.results import Trace
from blip_trace_widget.run import Run
from blip_trace_widget.snapshot import Block, CurveSummary, RunSummary, Snapshot
from blip_trace_widget.states import BLOCKS, SITES, BlockName, SiteName

if TYPE_CHECKING:
    from blip_trace_widget.tracer import Tracer


def snapshot_of(tracer: Tracer) -> Snapshot | None:
    """What stands beside the grids of a tracer; None where the corruption or the metric is one's own."""
    corruption = tracer.corruption
    if type(corruption).__name__ not in CORRUPTIONS or METRICS.get(tracer.metric.name) is not tracer.metric.score:
        return None
    clean, corrupted = tracer.clean, tracer.corrupted
    words = list(dict.fromkeys(word for run in (clean, corrupted) for word, _ in run.top))
    ids = tracer.model.token_ids(words)
    unknown = tuple(tracer.unknown_words)
    return Snapshot(
        picture=tracer.bases.image.jpeg,
        other_picture=corruption.jpeg if isinstance(corruption, ImageSwap) else b"",
        question=tracer.question,
        given_answer=tracer.given["answer"],
        foil=tracer.given["foil"],
        metric=cast("MetricName", tracer.metric.name),
        corruption=corruption.settings(),
        model=tracer.model.name,
        patches=tracer.model.grid,
        blocks=tuple(_block(tracer, cast("BlockName", name)) for name in BLOCKS),
        clean=_summary(clean, words, ids),
        corrupted=_summary(corrupted, words, ids),
        total_effect=tracer.total_effect,
        answer_tokens=tuple(tracer.answer_tokens),
        unknown_words=unknown,
        knows_a_word=not unknown or _knows_a_word(tracer),
    )


def _block(tracer: Tracer, name: BlockName) -> Block:
    block, reached = tracer.model.blocks[name], tracer.corruption.reaches(name)
    sites = cast("tuple[SiteName, ...]", tuple(BLOCKS[name].sites))
    tokens = tuple(tracer.tokens(name)) if reached else ()
    return Block(name, len(block.layers), block.heads, tokens, sites, "" if reached else "undamaged")


def _summary(run: Run, words: Sequence[str], ids: Sequence[int]) -> RunSummary:
    shares = {word: float(run.distribution[index]) for word, index in zip(words, ids, strict=True)}
    return RunSummary(run.answer, run.score, run.stderr, shares)


def _knows_a_word(tracer: Tracer) -> bool:
    pieces = {token for token in tracer.question_tokens[1:-1] if any(letter.isalnum() for letter in token)}
    return bool(pieces - {tracer.model.processor.tokenizer.unk_token})


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
    if tracer.snapshot is None:
        raise ValueError("corruption, metric: a recording needs the package's own, for a widget can show no others")
    report, close = as_progress(progress, len(grids) * len(tracers), "grid")
    traces: list[Trace] = []
    try:
        curve = _curve(tracer, cancel)
        for each in tracers:
            assert each.snapshot is not None  # one corruption has one as another does, whatever its factor
            snapshot = replace(each.snapshot, curve=curve)
            for block, site in grids:
                traces.append(replace(each.whole_trace(block, site, direction, cancel), snapshot=snapshot))
                report(len(traces), len(grids) * len(tracers))
    finally:
        close()
    recording.save(traces, path)


def _grids(tracer: Tracer, blocks: Sequence[str] | None, sites: Sequence[str] | None) -> list[tuple[str, str]]:
    """Block and site of each grid: of those that were asked for the ones that there are."""
    if blocks is None:
        blocks = [block for block in BLOCKS if tracer.corruption.reaches(block)]
    found = [(block, site) for block in blocks for site in BLOCKS[block].sites if sites is None or site in sites]
    if not found:
        raise ValueError(f"blocks, sites: {list(blocks)} have none of {list(sites or [])}")
    return found


def _names(argument: str, given: str | Iterable[str] | None, known: Collection[str]) -> list[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    return [named(argument, name, known) for name in names]


def _curve(tracer: Tracer, cancel: Callable[[], bool] | Any) -> CurveSummary | None:
    if not isinstance(tracer.corruption, GaussianNoise):
        return None
    curve = tracer.noise_curve(cancel=cancel)
    return CurveSummary(tuple(curve.factors.tolist()), tuple(curve.scores.tolist()), curve.clean)
