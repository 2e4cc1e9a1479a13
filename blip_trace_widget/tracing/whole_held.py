"""Complete grids in which something is held, or of paths into receivers, scored by several metrics at once.

For: data sets. The runs are those of `Tracer.trace` and `trace_heads` with ``hold``, and of `Tracer.trace_paths`, in
the same chunks.
Cost: theirs, once for all metrics under which the same runs can have an effect.
Ends: at `Trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.progress import as_check
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.grid import (
    as_trace,
    base_scores,
    computed_together,
    grid_cells,
    held_runs,
    without_effect,
)
from blip_trace_widget.tracing.holding import Hold, Holding
from blip_trace_widget.tracing.patching import patched, scored_by_each
from blip_trace_widget.tracing.paths import Paths, Receivers
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.reach import reaching
from blip_trace_widget.tracing.runs import Chunks

Truths = NDArray[np.bool_]


def whole_held_traces(
    questions: Sequence[Question], specs: Iterable[GridSpec], hold: Hold, cancel: Callable[[], bool] | Any = None
) -> Iterator[list[Trace]]:
    """Grids in which something is held; unlike in `Tracer.trace`, cancelling raises.

    Args:
        questions: one question, with each metric that is to score the runs.
        specs: the grids; heads of a site that follow one another are computed together if they are all.
        hold: what is held.
        cancel: a callable, or an object with ``is_set``, that says whether to stop.

    Yields:
        a grid for each of the questions.

    Raises:
        TypeError, ValueError, Cancelled, ModelChangedError: as `blip_trace_widget.tracing.grid.whole_traces`.
    """
    question, check = questions[0], as_check(cancel)
    for together in computed_together(question, specs):
        block, direction = together[0].block, together[0].direction
        question.prepare(check, with_states=block == "image_encoder")
        holding = Holding(question, hold, [block])
        cells = [cell for spec in together for cell in grid_cells(question, *spec[:3], spec.window, spec.patch)]
        edits = held_runs(holding, cells)
        lives = [reaching(each, edits) for each in questions]

        def runs(live: Truths) -> Chunks:
            return patched(question, edits.only(live), direction, check)  # noqa: B023 - called before the next round

        scores = _scored(questions, direction, lives, runs)
        count = len(cells) // len(together)
        for at, spec in enumerate(together):
            own = slice(at * count, (at + 1) * count)
            told = [holding.settings | without_effect(cells[own], live[own]) for live in lives]
            yield _traces(questions, spec, scores[..., own], told)


def whole_path_traces(
    questions: Sequence[Question],
    specs: Iterable[GridSpec],
    receivers: Receivers,
    cancel: Callable[[], bool] | Any = None,
) -> Iterator[list[Trace]]:
    """Grids of what goes from each sender to some receivers directly; as `whole_held_traces`."""
    question, check = questions[0], as_check(cancel)
    every = [Paths(each, receivers, ()) for each in questions]
    for spec in specs:
        for paths in every:
            paths.prepare(check, spec.block == "image_encoder")
        cells = grid_cells(question, *spec[:3], patch=spec.patch)
        edits = every[0].edits([cell.states for cell in cells])
        lives = [paths.live(edits) for paths in every]

        def runs(live: Truths) -> Chunks:
            return every[0].runs(edits, live, spec.direction, check)  # noqa: B023 - called before the next round

        scores = _scored(questions, spec.direction, lives, runs)
        told = [every[0].settings | without_effect(cells, np.asarray(live.any(axis=1))) for live in lives]
        yield _traces(questions, spec, scores, told)


def _scored(
    questions: Sequence[Question], direction: str, lives: Sequence[Truths], runs: Callable[[Truths], Chunks]
) -> NDArray[np.float64]:
    """Scores of runs, (questions, samples, runs); those that nothing reaches score as the base run does.

    Args:
        questions: one question with several metrics.
        direction: which of the clean and the corrupted run is the base.
        lives: for each question which runs can differ from it, (runs,), or at which receivers, (runs, receivers).
        runs: computes those that can.
    """
    count = len(lives[0])
    found = np.stack([np.repeat(base_scores(each, direction)[:, None], count, axis=1) for each in questions])
    alike: dict[bytes, list[int]] = {}
    for at, live in enumerate(lives):
        alike.setdefault(live.tobytes(), []).append(at)
    for those in alike.values():
        live = lives[those[0]]
        some = live.reshape(count, -1).any(axis=1)
        scores = scored_by_each([questions[at] for at in those], runs(live), int(some.sum()))
        for at, own in zip(those, scores, strict=True):
            found[at][:, some] = own
    return found


def _traces(
    questions: Sequence[Question], spec: GridSpec, scores: NDArray[np.float64], told: Sequence[dict[str, Any]]
) -> list[Trace]:
    """A grid for each of the questions, from scores (questions, samples, cells) and further settings of each."""
    layers = len(questions[0].model.blocks[spec.block].layers)
    shaped = scores.reshape(*scores.shape[:2], layers, -1)
    return [as_trace(each, shaped[at], spec, **told[at]) for at, each in enumerate(questions)]
