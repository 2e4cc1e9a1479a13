"""The runs of the cells of any grid, of all or of some: whatever is held in them, and wherever their paths lead.

For: `Tracer.trace`, `trace_heads`, `trace_paths`; and for callers that fill a grid cell by cell (`cells_of`, then
`CellRuns.scores`, then `as_trace`) or ask for a few cells together (`patch_cells`). A `GridSpec` says which runs these
are; nothing else has to know of what kind they are.
Cost: a patched run per cell, of paths at most two, see `blip_trace_widget.model.block`; none for a cell that has no
effect by construction.
Ends: at `Trace`, `HeadTrace`, `Effect`, or at scores chunk by chunk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Check, Progress, as_check
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, State, position_of
from blip_trace_widget.tracing.grid import (
    as_head_trace,
    as_trace,
    cells_of,
    filled,
    grid_cells,
    knowing,
    scores_without_effect,
    without_effect,
)
from blip_trace_widget.tracing.holding import Holding, HoldLike, as_hold
from blip_trace_widget.tracing.patching import as_effect, complete_runs, needs_states, patched, unchanged
from blip_trace_widget.tracing.paths import Paths, ReceiversLike
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.reach import reaching
from blip_trace_widget.tracing.runs import Chunks, Edits

#: Runs that are complete, by their numbers; their scores, (samples, runs); the share of all the work that is done.
NumberedScores = Iterator[tuple[NDArray[np.intp], NDArray[np.float64], float]]


class CellRuns:
    """Runs of a grid, each of which patches some states; of one that is held itself the rest is patched.

    Args:
        question: the question.
        spec: the grid: direction, what is held, where paths lead. Of several heads' grids it is any of them.
        states: what each run patches, by number.
        cancel: a callable, or an object with ``is_set``, that says whether to stop: of many paths from single heads
            even the list takes seconds.

    Attributes:
        live: which runs anything can come of, (runs,); the others score as the base run does, by construction.

    Raises:
        TypeError, ValueError: if what is held, or receives, is no state of this question, or the same in both runs.
        Cancelled: if `cancel` says so.
    """

    def __init__(
        self,
        question: Question,
        spec: GridSpec,
        states: Sequence[Sequence[State]],
        cancel: Callable[[], bool] | Any = None,
    ) -> None:
        check = as_check(cancel)
        self._question, self._direction = question, named("direction", spec.direction, DIRECTIONS)
        self._paths: Paths | None = None
        if spec.receivers is not None:
            states = [spec.free(each) for each in states]  # what receives sends nothing
            self._paths = Paths(question, spec.receivers, spec.through, with_states=needs_states(states))
            self._edits = self._paths.edits(states, check)
            self._reached = self._paths.live(self._edits, check)
            self.live = np.asarray(self._reached.any(axis=1))
        elif spec.hold:
            holding = Holding(question, as_hold(spec.hold), [spec.block])
            apart = [holding.apart(each) for each in states]
            self._edits = Edits(apart, [holding.of(each) for each in apart])
            self.live = reaching(question, self._edits, check)
        else:
            self._edits = Edits(states)
            self.live = np.ones(len(states), np.bool_)

    def chunks(self, check: Check) -> Chunks:
        """Yield those that are live, numbered among themselves; see `patching.patched`."""
        if self._paths is None:
            return patched(self._question, self._edits.only(self.live), self._direction, check)
        return self._paths.runs(self._edits, self._reached, self._direction, check)

    def scores(self, cancel: Callable[[], bool] | Any = None) -> NumberedScores:
        """Yield the scores of all runs, chunk by chunk, those that follow by construction with the first.

        Raises:
            TypeError: at once, if `cancel` is neither a callable nor has ``is_set``.
            Cancelled: within a layer of `cancel` saying so.
            ModelChangedError: if somebody changed the model since the first chunk.
        """
        check = as_check(cancel)
        return _numbered(self._question, self._direction, self.live, lambda: self.chunks(check))


def _numbered(
    question: Question, direction: str, which: NDArray[np.bool_], chunks: Callable[[], Chunks]
) -> NumberedScores:
    """Scores of runs of which some are live, whose chunks are given; the others follow by construction."""
    live, dead = np.flatnonzero(which), np.flatnonzero(~which)
    known = scores_without_effect(question, direction, dead.size)
    if live.size:
        for part, (scores,), share in complete_runs([question], chunks(), live.size):
            yield np.concatenate([dead, live[part]]), np.concatenate([known, scores], axis=1), share
            dead, known = dead[:0], known[:, :0]
    elif dead.size:
        yield dead, known, 1.0


def image_path_scores(
    question: Question,
    receivers: ReceiversLike,
    groups: Sequence[Sequence[int]],
    direction: str,
    through: HoldLike = (),
    cancel: Callable[[], bool] | Any = None,
) -> NumberedScores:
    """Scores of the runs of `trace_image_paths`, of some groups of image tokens, chunk by chunk.

    Raises:
        TypeError, ValueError: at once, see `Tracer.trace_image_paths`.
        Cancelled: within a layer of `cancel` saying so.
        ModelChangedError: if somebody changed the model since the first chunk.
    """
    check = as_check(cancel)
    paths = Paths(question, receivers, through)
    with Computing(question.model):
        question.prepare(check, with_states=paths.with_states)
        edits = paths.edits([()] * len(groups), check)
        live = paths.live(edits, check, by_image_tokens=True)
    some = np.asarray(live.any(axis=1))
    chosen = list(itertools.compress(groups, some.tolist()))
    return _numbered(question, direction, some, lambda: paths.runs(edits, live, direction, check, chosen))


def patch_cells(
    question: Question, spec: GridSpec, cells: Iterable[CellIndex], cancel: Callable[[], bool] | Any = None
) -> Effect:
    """Cells of a grid together in one run, such as `trace` has for each: patched while others are held, or sent.

    Raises:
        TypeError, ValueError: see `CellRuns`.
        Cancelled: within a layer of `cancel` saying so.
        ModelChangedError: if somebody changed the model meanwhile.
    """
    check = as_check(cancel)
    with Computing(question.model):
        chosen = question.states(spec, cells)
        question.prepare(check, with_states=needs_states([chosen]))
        runs = CellRuns(question, spec, [chosen], cancel)
        dead = not runs.live.any()
        chunks = unchanged(question, spec.direction, check) if dead else runs.chunks(check)
        asked: dict[str, Any] = {"held": spec.hold, "receivers": spec.receivers or (), "through": spec.through}
        return as_effect(question, chunks, spec.direction, check, states=chosen, **asked, without_effect=dead)


def trace(
    question: Question,
    block: str,
    site: str,
    head: int | None = None,
    window: int = 1,
    direction: str = "restore",
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
    patch: int = 1,
    hold: HoldLike = None,
) -> Trace:
    """See `Tracer.trace`."""
    held = as_hold(hold)
    block, site, direction, check = _prepared(question, block, site, direction, cancel)
    told = Holding(question, held, [block]).told
    return _whole(question, GridSpec(block, site, head, direction, window, patch, told), progress, check)


def trace_paths(
    question: Question,
    receivers: ReceiversLike,
    block: str = "question_encoder",
    site: str = "block_output",
    head: int | None = None,
    direction: str = "restore",
    through: HoldLike = (),
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
    patch: int = 1,
) -> Trace:
    """See `Tracer.trace_paths`."""
    direction = named("direction", direction, DIRECTIONS)
    block, site = named("block", block, BLOCKS), named("site", site, SITES)
    question.check_block(block)
    paths = Paths(question, receivers, through, with_states=block == "image_encoder")
    check = as_check(cancel)
    question.prepare(check, with_states=paths.with_states)
    asked: dict[str, Any] = {"receivers": paths.told, "through": paths.through}
    return _whole(question, GridSpec(block, site, head, direction, 1, patch, **asked), progress, check)


def trace_heads(
    question: Question,
    block: str,
    site: str,
    window: int = 1,
    direction: str = "restore",
    position: int | str | None = None,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
    hold: HoldLike = None,
) -> HeadTrace:
    """See `Tracer.trace_heads`."""
    held = as_hold(hold)
    block, site, direction, check = _prepared(question, block, site, direction, cancel)
    heads, tokens = question.model.blocks[block].heads, question.tokens(block)
    if position is not None:
        position = position_of("position", position, tokens, block)
    spec = GridSpec(block, site, None, direction, window, 1, Holding(question, held, [block]).told)
    cells = [
        cell
        for head in range(heads)
        for cell in grid_cells(question, block, site, head, window)
        if position in (None, cell.position)
    ]
    runs = CellRuns(question, spec, [cell.states for cell in cells], check)
    samples, known = filled(question, direction, runs.live, progress, lambda: runs.chunks(check))
    layers = len(question.model.blocks[block].layers)
    shaped = samples.reshape(samples.shape[0], heads, layers, -1).swapaxes(1, 2)
    return knowing(as_head_trace(question, shaped, spec, position), known.reshape(heads, layers, -1).swapaxes(0, 1))


def _whole(question: Question, spec: GridSpec, progress: bool | Progress | None, check: Check) -> Trace:
    """All cells of a grid, or those that were computed before `check` said to stop."""
    cells = cells_of(question, spec)
    runs = CellRuns(question, spec, [cell.states for cell in cells], check)
    samples, known = filled(question, spec.direction, runs.live, progress, lambda: runs.chunks(check))
    shaped = samples.reshape(len(samples), len(question.model.blocks[spec.block].layers), -1)
    found = as_trace(question, shaped, spec, without_effect(cells, runs.live))
    return knowing(found, known.reshape(shaped.shape[1:]))


def _prepared(
    question: Question, block: str, site: str, direction: str, cancel: Callable[[], bool] | Any
) -> tuple[str, str, str, Check]:
    """The checked arguments of a grid, after computing the base runs it needs."""
    direction = named("direction", direction, DIRECTIONS)
    block, site = named("block", block, BLOCKS), named("site", site, SITES)
    question.check_block(block)
    check = as_check(cancel)
    question.prepare(check, with_states=block == "image_encoder")
    return block, site, direction, check
