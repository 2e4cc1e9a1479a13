"""Recovery curves computed: mean recovery of whole blocks over the noise factor.

For: `Tracer.recovery_curve`.
Cost: a grid for each factor and block, and a text pass over all samples for each factor; nothing is projected twice.
Ends: at a `RecoveryCurve`.

Source: Γ(ν) of Palit et al. 2023 (arXiv 2308.14179).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief, named
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.recovery_curve import RecoveryCurve
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import grid_cells
from blip_trace_widget.tracing.noise_curve import checked_factors
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.tracing.question import Question


def recovery_curve(
    question: Question,
    blocks: str | Iterable[str],
    factors: Iterable[float] | None = None,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> RecoveryCurve:
    """See `Tracer.recovery_curve`."""
    values = checked_factors(question, factors)
    names = _checked_blocks(question, blocks)
    clean = question.clean_run(as_check(cancel)).score  # computed here, the questions below share it
    samples = question.corruption.samples
    corrupted = np.full((samples, values.size), np.nan)
    patched = np.full((samples, len(names), values.size), np.nan)
    computed = np.zeros(values.size, dtype=bool)
    grids = [[cell.states for cell in grid_cells(question, name)] for name in names]
    total = values.size * sum(map(len, grids))
    report, close = as_progress(progress, total)
    done = 0

    def mean_of(noisier: Question, runs: list[Any]) -> NDArray[np.float64]:
        scores = np.empty((samples, len(runs)))
        for which, found, share in patched_scores(noisier, runs, "restore", cancel):
            scores[:, which] = found
            report(done + int(share * len(runs)), total)
        return np.asarray(scores.mean(axis=1))

    with ended_early(lambda: f"{computed.sum()} of {values.size} factors", close):
        for at, factor in enumerate(values):
            noisier = question.with_corruption(factor=float(factor))
            base, means = noisier.corrupted_scores(as_check(cancel)), []
            for runs in grids:
                means.append(mean_of(noisier, runs))
                done += len(runs)
            corrupted[:, at], patched[:, :, at], computed[at] = base, np.stack(means, axis=1), True
    settings = question.settings() | {"corruption": {**question.corruption.settings(), "factor": None}}
    return RecoveryCurve(values, names, clean, corrupted, patched, computed, settings)


def _checked_blocks(question: Question, blocks: Any) -> tuple[Any, ...]:
    if not isinstance(blocks, (str, Iterable)):
        raise TypeError(f"blocks: expected names out of {list(BLOCKS)}, got {type(blocks).__name__} {brief(blocks)}")
    given = [blocks] if isinstance(blocks, str) else list(blocks)
    names = tuple(dict.fromkeys(named("blocks", block, BLOCKS) for block in given))
    if not names:
        raise ValueError(f"blocks: expected at least one of {list(BLOCKS)}, got none")
    for name in names:
        question.check_block(name)
    return names
