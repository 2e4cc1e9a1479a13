"""Grids: every state of a block patched, one at a time, and the same by head and by square of image tokens.

For: traces, and for callers that fill a grid cell by cell (`grid_cells`, then `patching.patched_scores`, then
`as_trace`).
Cost: a patched run a cell, see `blip_trace_widget.model.block`.
Ends: at `Trace`, `HeadTrace` and `ImageTokenTrace`.

Source: Palit et al. 2023 (arXiv 2308.14179), after Meng et al. 2022 (arXiv 2202.05262), which also restore windows of
layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Check, Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.effect_grid import EffectGrid
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace, squares
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, State, position_of, windowed
from blip_trace_widget.tracing.patching import patched, patched_scores, swapped
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Chunks


Grid = TypeVar("Grid", bound=EffectGrid)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a grid and the states that it patches."""

    layer: int
    position: int
    states: tuple[State, ...]

    @property
    def index(self) -> tuple[int, int]:
        """(layer, position)."""
        return self.layer, self.position


def grid_cells(
    question: Question, block: str, site: str = "block_output", head: int | None = None, window: int = 1
) -> list[Cell]:
    """The cells of a grid, layer by layer, each with the states that it patches.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    one_of("block", block, BLOCKS)
    question.check_block(block)
    one_of(f"site (of {block})", one_of("site", site, SITES), BLOCKS[block].sites)
    layers, positions = len(question.model.blocks[block].layers), len(question.tokens(block))
    window = whole_number("window", window, 1, layers)
    if head is not None:
        one_of("site (of a single head)", site, BLOCKS[block].heads)
        head = whole_number("head", head, 0, question.model.blocks[block].heads - 1)
    return [
        Cell(layer, position, windowed(State(block, layer, position, site, head), window, layers))  # type: ignore[arg-type]
        for layer in range(layers)
        for position in range(positions)
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
) -> Trace:
    """See `Tracer.trace`."""
    block, site, direction, check = _begun(question, block, site, direction, cancel)
    runs = [cell.states for cell in grid_cells(question, block, site, head, window)]
    samples, known = _fill(question, len(runs), patched(question, runs, direction, check), progress)
    shape = len(question.model.blocks[block].layers), len(question.tokens(block))
    trace = as_trace(question, samples.reshape(-1, *shape), block, site, head, window, direction)
    return _knowing(trace, known.reshape(shape))


def whole_trace(
    question: Question, block: str, site: str, direction: str = "restore", cancel: Callable[[], bool] | Any = None
) -> Trace:
    """A grid as `trace` gives it: all of it, or what stops it is raised.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
        Cancelled: within a layer of `cancel` saying so.
    """
    direction = named("direction", direction, DIRECTIONS)
    runs = [cell.states for cell in grid_cells(question, block, site)]
    scores = np.concatenate([found for _, found, _ in patched_scores(question, runs, direction, cancel)], axis=1)
    shape = len(question.model.blocks[block].layers), len(question.tokens(block))
    return as_trace(question, scores.reshape(-1, *shape), block, site, None, 1, direction)


def trace_heads(
    question: Question,
    block: str,
    site: str,
    window: int = 1,
    direction: str = "restore",
    position: int | str | None = None,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> HeadTrace:
    """See `Tracer.trace_heads`."""
    block, site, direction, check = _begun(question, block, site, direction, cancel)
    heads, tokens = question.model.blocks[block].heads, question.tokens(block)
    if position is not None:
        position = position_of("position", position, tokens, block)
    runs = [
        cell.states
        for head in range(heads)
        for cell in grid_cells(question, block, site, head, window)
        if position in (None, cell.position)
    ]
    samples, known = _fill(question, len(runs), patched(question, runs, direction, check), progress)
    layers = len(question.model.blocks[block].layers)
    shaped = samples.reshape(samples.shape[0], heads, layers, -1).swapaxes(1, 2)
    trace = as_head_trace(question, shaped, block, site, window, direction, position)
    return _knowing(trace, known.reshape(heads, layers, -1).swapaxes(0, 1))


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
    return _knowing(trace, known.reshape(shape))


def as_trace(
    question: Question,
    samples: NDArray[np.float64],
    block: str,
    site: str,
    head: int | None,
    window: int,
    direction: str,
) -> Trace:
    """The scores of a grid's patched runs, (samples, layers, positions), with all that they mean."""
    asked = {"block": block, "site": site, "head": head, "window": window, "direction": direction}
    return Trace(**_with_meaning(question, samples, **asked), tokens=tuple(question.tokens(block)))


def as_head_trace(
    question: Question,
    samples: NDArray[np.float64],
    block: str,
    site: str,
    window: int,
    direction: str,
    position: int | None = None,
) -> HeadTrace:
    """The scores of a block's heads, (samples, layers, heads, positions), with all that they mean."""
    asked = {"block": block, "site": site, "head": "all", "position": position}
    tokens = question.tokens(block)
    return HeadTrace(
        **_with_meaning(question, samples, **asked, window=window, direction=direction),
        tokens=tuple(tokens if position is None else [tokens[position]]),
    )


def as_image_token_trace(
    question: Question, samples: NDArray[np.float64], patch: int, direction: str
) -> ImageTokenTrace:
    """The scores of squares of image tokens, (samples, rows, columns), with all that they mean."""
    return ImageTokenTrace(**_with_meaning(question, samples, direction=direction, patch=patch), patch=patch)


def _with_meaning(question: Question, samples: NDArray[np.float64], **asked: Any) -> dict[str, Any]:
    """The fields of an `EffectGrid`."""
    return {
        "samples": samples,
        "clean": question.clean.score,
        "corrupted": question.corrupted_scores(),
        "settings": question.settings() | {"corruption": question.corruption.settings(), **asked},
    }


def _knowing(grid: Grid, known: NDArray[np.bool_]) -> Grid:
    """The grid, told which of its runs are computed, where its scores do not show that."""
    return grid if (known == ~np.isnan(grid.samples).all(axis=0)).all() else replace(grid, known=known)


def _begun(
    question: Question, block: str, site: str, direction: str, cancel: Callable[[], bool] | Any
) -> tuple[str, str, str, Check]:
    """What a grid is asked by, checked, once the runs are there that it is held against."""
    direction = named("direction", direction, DIRECTIONS)
    block, site = named("block", block, BLOCKS), named("site", site, SITES)
    question.check_block(block)
    check = as_check(cancel)
    question.prepare(check, with_states=block == "image_encoder")
    return block, site, direction, check


def _fill(
    question: Question, count: int, chunks: Chunks, progress: bool | Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of so many runs, (samples, runs), and which are computed; NaN where `Cancelled` or Ctrl-C came before."""
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
    known = there.all(axis=0)
    samples[:, ~known] = np.nan  # a run of which samples are missing is not computed
    return samples, known
