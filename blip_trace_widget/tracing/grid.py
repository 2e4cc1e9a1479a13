"""Grids: every state of a block, every head, or every square of image tokens patched, one at a time.

For: `blip_trace_widget.tracing.traces`, and for data sets.
Cost: one patched run per cell, see `blip_trace_widget.model.block`.
Ends: at `Trace`, `HeadTrace` and `ImageTokenTrace`.

Source: Palit et al. 2023 (arXiv 2308.14179), after Meng et al. 2022 (arXiv 2202.05262), which also restore windows of
layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.effect_grid import EffectGrid
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, effective
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace, squares
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, State, windowed
from blip_trace_widget.tracing.patching import image_tokens_scored_together, scored_together, settled, swapped
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Chunks

Grid = TypeVar("Grid", bound=EffectGrid)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a grid and the states that its run patches; its position is a token, or a square of image tokens."""

    layer: int
    position: int
    states: tuple[State, ...]

    @property
    def index(self) -> tuple[int, int]:
        """(layer, position)."""
        return self.layer, self.position


def grid_cells(
    question: Question,
    block: str,
    site: str = "block_output",
    head: int | None = None,
    window: int = 1,
    patch: int = 1,
) -> list[Cell]:
    """The cells of a grid, layer by layer, each with the states that it patches.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    one_of("block", block, BLOCKS)
    question.check_block(block)
    one_of(f"site (of {block})", one_of("site", site, SITES), BLOCKS[block].accepted)
    layers, columns = len(question.model.blocks[block].layers), question.columns(block, patch)[1]
    window = whole_number("window", window, 1, layers)
    if head is not None:
        one_of("site (of a single head)", site, BLOCKS[block].heads)
        head = whole_number("head", head, 0, question.model.blocks[block].heads - 1)
    return [
        Cell(
            layer,
            column,
            tuple(
                state
                for position in positions
                for state in windowed(State(block, layer, position, site, head), window, layers)  # type: ignore[arg-type]
            ),
        )
        for layer in range(layers)
        for column, positions in enumerate(columns)
    ]


def cells_of(question: Question, spec: GridSpec) -> list[Cell]:
    """See `grid_cells`."""
    return grid_cells(question, spec.block, spec.site, spec.head, spec.window, spec.patch)


def without_effect(cells: Sequence[Cell], live: NDArray[np.bool_]) -> list[CellIndex]:
    """The cells of which nothing can come, given which of their runs are live."""
    return [cells[at].index for at in np.flatnonzero(~live).tolist()]


def whole_traces(
    questions: Sequence[Question],
    specs: Iterable[GridSpec],
    cancel: Callable[[], bool] | Any = None,
    *,
    shared: bool = True,
) -> Iterator[list[Trace]]:
    """Complete grids; unlike in `trace`, cancelling raises.

    Args:
        questions: one question, with each metric that is to score the runs (`Question.replace`).
        specs: the grids.
        cancel: a callable, or an object with ``is_set``, that says whether to stop.
        shared: whether cells that are equal by construction are computed once, and heads of a site that follow one
            another together. Otherwise the runs are those of a `trace` a grid, or of `trace_heads` where all heads of a
            site follow one another, in the same chunks: the numbers are equal to the last bit.

    Yields:
        a grid for each of the questions.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
        Cancelled: within a layer of `cancel` saying so.
        ModelChangedError: if somebody changed the model since the first chunk.
    """
    question = questions[0]
    known: dict[Hashable, NDArray[np.float64]] = {}
    for together in computed_together(question, specs, shared=shared):
        grids = [(spec, cells_of(question, spec)) for spec in together]
        causes = {
            spec: [_cause(questions, spec, cell) if shared else (spec, cell) for cell in cells] for spec, cells in grids
        }
        todo = {
            cause: cell.states
            for spec, cells in grids
            for cause, cell in zip(causes[spec], cells, strict=True)
            if cause not in known
        }
        scores = scored_together(questions, list(todo.values()), grids[0][0].direction, cancel)
        known |= zip(todo, np.moveaxis(scores, -1, 0), strict=True)
        layers = len(question.model.blocks[grids[0][0].block].layers)
        for spec, _ in grids:
            samples = np.stack([known[cause] for cause in causes[spec]], axis=-1)
            shaped = samples.reshape(*samples.shape[:2], layers, -1)
            yield [as_trace(each, shaped[at], spec) for at, each in enumerate(questions)]


def computed_together(
    question: Question, specs: Iterable[GridSpec], *, shared: bool = False
) -> Iterator[list[GridSpec]]:
    """Yield grids whose runs go through the layers together; see `whole_traces`."""
    for first, heads in itertools.groupby(specs, lambda spec: spec._replace(head=spec.head and 0)):
        grids = list(heads)
        if shared or [spec.head for spec in grids] == list(range(question.model.blocks[first.block].heads)):
            yield grids
        else:
            yield from ([spec] for spec in grids)


def _cause(questions: Sequence[Question], spec: GridSpec, cell: Cell) -> Hashable:
    """What decides the scores of a cell; of modules that are not BLIP's own no more is known than what is patched."""
    block = spec.block
    if questions[0].model.changed[block]:
        return spec.direction, cell.states
    single = all(question.is_single(block) for question in questions)
    return spec.direction, block, spec.patch, cell.position, effective(cell.states, single=single)


def whole_image_maps(
    questions: Sequence[Question], patch: int, direction: str, cancel: Callable[[], bool] | Any = None
) -> list[ImageTokenTrace]:
    """A complete map of image tokens for each of the questions; arguments and errors as in `whole_traces`."""
    rows, columns = questions[0].model.grid
    shape, groups = squares(rows, columns, whole_number("patch", patch, 1, max(rows, columns)))
    scores = image_tokens_scored_together(questions, groups, direction, cancel)
    shaped = scores.reshape(*scores.shape[:2], *shape)
    return [as_image_token_trace(each, shaped[at], patch, direction) for at, each in enumerate(questions)]


def trace_image_tokens(
    question: Question,
    patch: int = 1,
    direction: str = "restore",
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> ImageTokenTrace:
    """See `Tracer.trace_image_tokens`."""
    rows, columns = question.model.grid
    patch = whole_number("patch", patch, 1, max(rows, columns))
    direction = named("direction", direction, DIRECTIONS)
    question.check_damages_image()
    shape, groups = squares(rows, columns, patch)
    check = as_check(cancel)
    question.prepare(check)
    samples, known = _fill(question, len(groups), swapped(question, groups, direction, check), progress)
    trace = as_image_token_trace(question, samples.reshape(-1, *shape), patch, direction)
    return knowing(trace, known.reshape(shape))


def as_trace(question: Question, samples: NDArray[np.float64], spec: GridSpec, dead: Iterable[CellIndex] = ()) -> Trace:
    """The scores of a grid's patched runs, (samples, layers, positions), with all that they mean.

    Args:
        question: the question.
        samples: the scores.
        spec: which grid it is.
        dead: the cells whose effect is 0 by construction.
    """
    asked = spec.settings
    if spec.patch == 1:
        del asked["patch"]
    if nothing := [list(cell) for cell in dead]:
        asked["without_effect"] = nothing
    return Trace(**_grid_fields(question, samples, **asked), tokens=tuple(question.columns(spec.block, spec.patch)[0]))


def as_head_trace(
    question: Question, samples: NDArray[np.float64], spec: GridSpec, position: int | None = None
) -> HeadTrace:
    """A `HeadTrace` from the scores of a block's heads, (samples, layers, heads, positions); `spec` is of any head."""
    asked = {name: value for name, value in spec.settings.items() if name != "patch"}
    asked |= {"head": "all", "position": position}
    tokens = question.tokens(spec.block)
    return HeadTrace(
        **_grid_fields(question, samples, **asked),
        tokens=tuple(tokens if position is None else [tokens[position]]),
    )


def as_image_token_trace(
    question: Question, samples: NDArray[np.float64], patch: int, direction: str, **more: Any
) -> ImageTokenTrace:
    """An `ImageTokenTrace` from the scores of squares of image tokens, (samples, rows, columns)."""
    return ImageTokenTrace(**_grid_fields(question, samples, direction=direction, patch=patch, **more), patch=patch)


def _grid_fields(question: Question, samples: NDArray[np.float64], **arguments: Any) -> dict[str, Any]:
    """The fields that all kinds of `EffectGrid` share."""
    return {
        "samples": samples,
        "clean": question.clean.score,
        "corrupted": question.corrupted_scores(),
        "settings": question.settings() | {"corruption": question.corruption.settings(), **arguments},
    }


def knowing(grid: Grid, known: NDArray[np.bool_]) -> Grid:
    """The grid, told which of its runs are computed if its scores do not show that."""
    return grid if (known == ~np.isnan(grid.samples).all(axis=0)).all() else replace(grid, known=known)


def filled(
    question: Question,
    direction: str,
    live: NDArray[np.bool_],
    progress: bool | Progress | None,
    chunks: Callable[[], Chunks],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of runs, (samples, runs), and which are computed; those that nothing reaches score as the base run does.

    Args:
        question: the question.
        direction: which of the clean and the corrupted run is the base.
        live: which runs something reaches.
        progress: see `Tracer.trace`.
        chunks: computes these.
    """
    samples, known = scores_without_effect(question, direction, live.size), np.ones(live.size, np.bool_)
    samples[:, live], known[live] = _fill(question, int(live.sum()), chunks(), progress)
    return samples, known


def scores_without_effect(question: Question, direction: str, runs: int) -> NDArray[np.float64]:
    """The base run's scores, (samples, runs): those of runs that nothing reaches."""
    if direction == "restore":
        return np.repeat(question.corrupted_scores()[:, None], runs, axis=1)
    return np.full((question.corruption.samples, runs), question.clean.score)


def _fill(
    question: Question, count: int, chunks: Chunks, progress: bool | Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of `count` runs, (samples, runs), and which are computed; NaN where `Cancelled` or Ctrl-C came first."""
    report, close = as_progress(progress, count)
    samples = np.full((question.corruption.samples, count), np.nan)
    there = np.zeros(samples.shape, np.bool_)  # a score that is not a number is computed all the same
    done = 0

    def how_far() -> str:
        return f"{there.all(axis=0).sum()} of {count} cells"

    with ended_early(how_far, close), Computing(question.model):
        for part, which, (scores,) in settled([question], chunks):
            samples[part, which] = scores
            there[part, which] = True
            done += (part.stop - part.start) * (which.stop - which.start)
            report(done // question.corruption.samples, count)
    known = np.asarray(there.all(axis=0))
    samples[:, ~known] = np.nan  # a run that lacks some samples counts as not computed
    return samples, known
