"""Complete grids in which something is held, or of paths into receivers, scored by several metrics at once.

For: data sets. The runs are those of `Tracer.trace`, `trace_heads` and `trace_paths`, in the same chunks.
Cost: theirs, once for all metrics under which the same runs can have an effect.
Ends: at `Trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.progress import Check, as_check
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.grid import (
    as_trace,
    cells_of,
    computed_together,
    scores_without_effect,
    without_effect,
)
from blip_trace_widget.tracing.patching import scored_by_each
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.traces import CellRuns


def whole_held_traces(
    questions: Sequence[Question], specs: Iterable[GridSpec], cancel: Callable[[], bool] | Any = None
) -> Iterator[list[Trace]]:
    """Grids of any kind; unlike in `Tracer.trace`, cancelling raises.

    Args:
        questions: one question, with each metric that is to score the runs.
        specs: the grids; heads of a site that follow one another are computed together where something is held, if they
            are all there.
        cancel: a callable, or an object with ``is_set``, that says whether to stop.

    Yields:
        a grid for each of the questions.

    Raises:
        TypeError, ValueError, Cancelled, ModelChangedError: as `blip_trace_widget.tracing.grid.whole_traces`.
    """
    check = as_check(cancel)
    for together in computed_together(questions[0], specs):
        # There is no map of heads of paths, whose runs these could be.
        for grids in [together] if together[0].receivers is None else [[spec] for spec in together]:
            yield from _whole(questions, grids, check)


def _whole(questions: Sequence[Question], specs: Sequence[GridSpec], check: Check) -> Iterator[list[Trace]]:
    """Grids of one site, their runs in the same chunks."""
    question, first = questions[0], specs[0]
    grids = [cells_of(question, spec) for spec in specs]
    states = [cell.states for cells in grids for cell in cells]
    question.prepare(check, with_states=first.block == "image_encoder")
    runs = [CellRuns(each, first, states, check) for each in questions]
    scores = _scored(questions, first.direction, runs, check)
    count, layers = len(grids[0]), len(question.model.blocks[first.block].layers)
    for at, (spec, cells) in enumerate(zip(specs, grids, strict=True)):
        own = slice(at * count, (at + 1) * count)
        yield [
            as_trace(each, found[:, own].reshape(len(found), layers, -1), spec, without_effect(cells, these.live[own]))
            for each, found, these in zip(questions, scores, runs, strict=True)
        ]


def _scored(
    questions: Sequence[Question], direction: str, runs: Sequence[CellRuns], check: Check
) -> list[NDArray[np.float64]]:
    """Scores of each question's runs, (samples, runs); where the same are live they are computed once."""
    scores = [
        scores_without_effect(each, direction, these.live.size) for each, these in zip(questions, runs, strict=True)
    ]
    alike: dict[bytes, list[int]] = {}
    for at, these in enumerate(runs):
        alike.setdefault(these.live.tobytes(), []).append(at)
    for those in alike.values():
        live = runs[those[0]].live
        chunks = runs[those[0]].chunks(check)
        found = scored_by_each([questions[at] for at in those], chunks, int(live.sum()))
        for at, own in zip(those, found, strict=True):
            scores[at][:, live] = own
    return scores
