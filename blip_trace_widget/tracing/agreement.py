"""The same grid under several corruptions.

For: `Tracer.agreement`.
Cost: a grid a corruption; what two of them have in common (the clean run, projected keys and values) is computed once.
Ends: at an `Agreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from blip_trace_widget.checks import brief, named
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.agreement import Agreement
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES
from blip_trace_widget.tracing.grid import as_trace, grid_cells
from blip_trace_widget.tracing.patching import needs_states, patched_scores
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.snapshot import snapshot_of


def agreement(
    question: Question,
    corruptions: Iterable[Any],
    block: str,
    site: str,
    head: int | None = None,
    window: int = 1,
    direction: str = "restore",
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
    patch: int = 1,
) -> Agreement:
    """See `Tracer.agreement`."""
    block, site = named("block", block, BLOCKS), named("site", site, SITES)
    spec = GridSpec(block, site, head, named("direction", direction, DIRECTIONS), window, patch)
    questions = _under(question, corruptions)
    grids = [
        grid_cells(each, block, site, head, window, patch) for each in questions
    ]  # refused where one does not reach it
    runs = [cell.states for cell in grids[0]]
    check = as_check(cancel)
    for each in questions:
        each.prepare(check, with_states=needs_states(runs))
    layers = len(question.model.blocks[block].layers)
    samples = [np.full((each.corruption.samples, len(runs)), np.nan) for each in questions]
    total = len(questions) * len(runs)
    report, close = as_progress(progress, total)
    with ended_early(lambda: f"{sum(int(np.isfinite(each[0]).sum()) for each in samples)} of {total} cells", close):
        for at, (each, scores) in enumerate(zip(questions, samples, strict=True)):
            for which, found, share in patched_scores(each, runs, spec.direction, cancel):
                scores[:, which] = found
                report(at * len(runs) + int(share * len(runs)), total)
    return Agreement(
        tuple(
            replace(as_trace(each, scores.reshape(len(scores), layers, -1), spec), snapshot=snapshot_of(each))
            for each, scores in zip(questions, samples, strict=True)
        )
    )


def _under(question: Question, corruptions: Any) -> list[Question]:
    """The question under each of several corruptions."""
    if isinstance(corruptions, (str, bytes)) or not isinstance(corruptions, Iterable):
        raise TypeError(f"corruptions: expected a list of them, got {type(corruptions).__name__} {brief(corruptions)}")
    questions = [question.with_corruption(corruption) for corruption in corruptions]
    if len(questions) < 2:
        raise ValueError(f"corruptions: expected at least two, got {len(questions)}")
    return questions
