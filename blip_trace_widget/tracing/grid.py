"""Grids: every state of a block, every head, or every square of image tokens patched, one at a time.

For: traces, and for callers that fill a grid cell by cell (`grid_cells`, then `patching.patched_scores`, then
`as_trace`).
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
from blip_trace_widget.model.progress import Check, Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.effect_grid import EffectGrid
from blip_trace_widget.results.grid_spec import GridSpec, effective
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace, squares
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, State, position_of, windowed
from blip_trace_widget.tracing.holding import Holding, HoldLike, as_hold
from blip_trace_widget.tracing.patching import image_tokens_scored_together, patched, scored_together, swapped
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.reach import reaching
from blip_trace_widget.tracing.runs import Chunks, Edits

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
    holding = Holding(question, held, [block])
    cells = grid_cells(question, block, site, head, window, patch)
    edits = held_runs(holding, cells)
    live = reaching(question, edits) if held else np.ones(len(cells), np.bool_)
    samples, known = filled(
        question, direction, live, progress, lambda: patched(question, edits.only(live), direction, check)
    )
    shaped = samples.reshape(len(samples), len(question.model.blocks[block].layers), -1)
    spec = GridSpec(block, site, head, direction, window, patch)
    trace = as_trace(question, shaped, spec, **holding.settings, **without_effect(cells, live))
    return knowing(trace, known.reshape(shaped.shape[1:]))


def held_runs(holding: Holding, cells: Iterable[Cell]) -> Edits:
    """What the runs of cells patch and hold; of a cell, what is held stays held."""
    patched = [holding.apart(cell.states) for cell in cells]
    return Edits(patched, [holding.of(states) for states in patched])


def without_effect(cells: Sequence[Cell], live: NDArray[np.bool_]) -> dict[str, Any]:
    """The setting that names the cells whose effect is 0 by construction, if there are any."""
    dead = [list(cells[at].index) for at in np.flatnonzero(~live).tolist()]
    return {"without_effect": dead} if dead else {}


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
        grids = [(spec, grid_cells(question, *spec[:3], spec.window, spec.patch)) for spec in together]
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
    holding = Holding(question, held, [block])
    cells = [
        cell
        for head in range(heads)
        for cell in grid_cells(question, block, site, head, window)
        if position in (None, cell.position)
    ]
    edits = held_runs(holding, cells)
    live = reaching(question, edits) if held else np.ones(len(cells), np.bool_)
    samples, known = filled(
        question, direction, live, progress, lambda: patched(question, edits.only(live), direction, check)
    )
    layers = len(question.model.blocks[block].layers)
    shaped = samples.reshape(samples.shape[0], heads, layers, -1).swapaxes(1, 2)
    trace = as_head_trace(question, shaped, block, site, window, direction, position, **holding.settings)
    return knowing(trace, known.reshape(heads, layers, -1).swapaxes(0, 1))


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


def as_trace(question: Question, samples: NDArray[np.float64], spec: GridSpec, **more: Any) -> Trace:
    """The scores of a grid's patched runs, (samples, layers, positions), with all that they mean.

    Args:
        question: the question.
        samples: the scores.
        spec: which grid it is.
        more: further settings.
    """
    asked = spec._asdict() | more
    if spec.patch == 1:
        del asked["patch"]
    return Trace(**_grid_fields(question, samples, **asked), tokens=tuple(question.columns(spec.block, spec.patch)[0]))


def as_head_trace(
    question: Question,
    samples: NDArray[np.float64],
    block: str,
    site: str,
    window: int,
    direction: str,
    position: int | None = None,
    **more: Any,
) -> HeadTrace:
    """A `HeadTrace` from the scores of a block's heads, (samples, layers, heads, positions)."""
    arguments = {"block": block, "site": site, "head": "all", "position": position}
    tokens = question.tokens(block)
    return HeadTrace(
        **_grid_fields(question, samples, **arguments, window=window, direction=direction, **more),
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
    samples = np.repeat(base_scores(question, direction)[:, None], live.size, axis=1)
    known = np.ones(live.size, np.bool_)
    samples[:, live], known[live] = _fill(question, int(live.sum()), chunks(), progress)
    return samples, known


def base_scores(question: Question, direction: str) -> NDArray[np.float64]:
    """Scores of the run that patched runs equal where nothing reaches, (samples,)."""
    if direction == "restore":
        return question.corrupted_scores()
    return np.full(question.corruption.samples, question.clean.score)


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
        for part, which, logits in chunks:
            samples[part, which] = question.score_logits(logits)
            there[part, which] = True
            done += (part.stop - part.start) * (which.stop - which.start)
            report(done // question.corruption.samples, count)
    known = np.asarray(there.all(axis=0))
    samples[:, ~known] = np.nan  # a run that lacks some samples counts as not computed
    return samples, known
