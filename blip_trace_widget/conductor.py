"""What is computed when: from requests to jobs on the worker, and from results to the screen.

For: keeping what is shown in step with what is asked. Whatever changes what the model sees begins a new generation:
jobs of the older one are dropped, an update derives a tracer and shows its two runs, and then queues what was in view
before: the selected cells, the cells of the grid, the noise curve. While only the noise moves, an update that has begun
is let finish: otherwise a slider in motion would never show a corrupted answer.
Cost: requests validate nothing and return at once; results are kept for every grid of the present generation.
Ends: at a `Screen`. It knows the tracer and the worker, but no traits and no messages of a front end.

Everything here happens under `lock`, but for the computing itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import figure
from blip_trace_widget.forward import Cancelled
from blip_trace_widget.results import Trace
from blip_trace_widget.tracer import Cell, Tracer
from blip_trace_widget.worker import Job, Slices, worker_of

#: What goes first on the worker: a new question or noise, then clicks, then the rest of the grid, then the curve.
UPDATE, PATCH, FILL, CURVE = range(4)
#: Seconds between two reports about a running grid.
REPORT_SECONDS = 0.1
CURVE_FACTORS = tuple(float(factor) for factor in np.linspace(0, 10, 21))

CellIndex = tuple[int, int]


class View(NamedTuple):
    """Which grid is in view."""

    block: str = "question_encoder"
    site: str = "block_output"
    direction: str = "restore"
    window: int = 1


class Screen(Protocol):
    """Where results are shown; called under the conductor's lock, from any thread."""

    def show_traits(self, **state: Any) -> None:
        """Show durable state: setup, picture, runs, grid, detail, curve, generation, selection, error."""

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Pass on what goes by: cells, progress, the end of a request."""

    def go_back(self, tracer: Tracer) -> None:
        """Show the inputs that this tracer stands for."""


@dataclass
class _Cells:
    """The cells of one grid.

    Attributes:
        samples: scores, (samples, layers, positions), NaN where not computed.
        wanted: cells to compute again when the inputs change.
    """

    samples: NDArray[np.float64]
    wanted: set[CellIndex] = field(default_factory=set)

    def missing(self) -> set[CellIndex]:
        """Wanted cells that are not there."""
        return self.wanted - self.computed()

    def computed(self) -> set[CellIndex]:
        """Cells that are there."""
        return {(int(layer), int(position)) for layer, position in np.argwhere(~np.isnan(self.samples[0]))}


class Conductor:
    """Computes for one screen.

    Args:
        tracer: what to begin with.
        screen: where to show it.
    """

    def __init__(self, tracer: Tracer, screen: Screen) -> None:
        self.lock = threading.RLock()
        self.tracer = tracer
        self.generation = 0
        self.view = View()
        self.selection: tuple[CellIndex, ...] = ()
        self._screen = screen
        self._owner = object()
        self._worker = worker_of(tracer.model.hf)
        self._changes: dict[str, Any] = {}
        self._grids: dict[View, _Cells] = {}
        self._shown: list[str] | None = None  # the rows of the grid on screen
        self._fill_request = 0
        self._curve: dict[float, float] = {}

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compute and show the tracer's two runs, and what is in view."""
        self._submit("update", UPDATE, self._update)

    def change(self, **changes: Any) -> None:
        """Change arguments of the tracer (as in `Tracer.replace`)."""
        with self.lock:
            self._changes.update(changes)
            for key in ("patch", "fill", "curve") if set(changes) == {"corruption"} else (None,):
                self._worker.cancel(self._owner, key)
            self.generation += 1
            self._screen.show_traits(generation=self.generation)
            self.begin()

    def look_at(self, view: View) -> None:
        """Show another grid of the same runs."""
        with self.lock:
            self._worker.cancel(self._owner, "fill")
            if view.block != self.view.block:
                self._unselect()
            self.view = view
            self._show_grid()
            self._ask_again()

    def select(self, cells: Sequence[CellIndex], request: int = 0) -> None:
        """Patch these cells of the grid in view, all in one run."""
        with self.lock:
            self.selection = tuple(cells)
            self._worker.cancel(self._owner, "patch")
            if cells:
                self._patch(request)
            else:
                self._screen.show_traits(detail={})

    def trace_all(self, request: int = 0) -> None:
        """Fill the grid in view."""
        with self.lock:
            self._fill_request = request
            cells = self._cells()
            cells.wanted.update(np.ndindex(cells.samples.shape[1:]))
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        with self.lock:
            cells = self._cells()
            cells.wanted &= cells.computed()
            self._worker.cancel(self._owner, "fill")
            self._say("done", self._fill_request, stopped=True)

    def wait(self, timeout: float | None) -> bool:
        """Block until nothing is left to do; False if the time ran out."""
        return self._worker.wait(self._owner, timeout)

    def close(self) -> None:
        """Drop all work."""
        self._worker.cancel(self._owner)

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far."""
        with self.lock:
            return self._trace_of(self.view)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _submit(self, key: str, priority: int, slices: Callable[[Job], Slices]) -> None:
        def failed(error: Exception) -> None:
            if not isinstance(error, Cancelled):
                self._screen.show_traits(error=figure.complaint(error))

        self._worker.submit(self._owner, key, slices, failed, priority)

    def _update(self, job: Job) -> Slices:
        with self.lock:
            generation, changes = self.generation, dict(self._changes)
        try:
            tracer = self.tracer.replace(**changes) if changes else self.tracer
            tracer.prepare(job.cancelled)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - shown; the last good state comes back
            self._undo(job, error, changes)
            return
        with self.lock:
            if not job.cancelled.is_set():
                self._adopt(tracer, generation, changes)
        yield

    def _adopt(self, tracer: Tracer, generation: int, changes: dict[str, Any]) -> None:
        """Show a tracer whose two runs are computed."""
        old, self.tracer = self.tracer, tracer
        self._changes = {name: value for name, value in self._changes.items() if changes.get(name) is not value}
        other_text = self._shown != tracer.tokens(self.view.block) or old.question_tokens != tracer.question_tokens
        for view, cells in self._grids.items():
            shape = self._shape(view)
            full = len(cells.wanted) == cells.samples[0].size
            if other_text or cells.samples.shape[1:] != shape:
                cells.wanted = set(np.ndindex(shape)) if full else set()
            cells.samples = np.full((tracer.corrupted.scores.size, *shape), np.nan)
        self._screen.show_traits(setup=figure.setup(tracer), runs=figure.runs(tracer, generation))
        if changes:
            self._screen.show_traits(error="")
        if "image" in changes or self._shown is None:
            self._screen.show_traits(picture=figure.picture(tracer.image))
        if other_text:
            self._unselect()
            self._show_grid()
        if not changes or set(changes) - {"corruption"} or old.corruption.unit() != tracer.corruption.unit():
            self._curve = {}
        if generation == self.generation:  # else the next update is waiting already
            self._ask_again()
            if len(self._curve) < len(CURVE_FACTORS):
                self._submit("curve", CURVE, self._draw_curve)

    def _undo(self, job: Job, error: Exception, changes: dict[str, Any]) -> None:
        """An update failed: say why, and return to the last good state."""
        with self.lock:
            if job.cancelled.is_set():
                return
            self._changes = {}
            self._screen.show_traits(error=figure.complaint(error))
            if changes:
                self._screen.go_back(self.tracer)
                self._worker.cancel(self._owner, "update")
                self.begin()

    def _ask_again(self) -> None:
        """Compute what is in view: the selected cells, then the cells of the grid."""
        if self.selection:
            self.select(self.selection)
        if self._cells().missing():
            self._fill()

    def _patch(self, request: int) -> None:
        tracer, generation, view, chosen = self.tracer, self.generation, self.view, self.selection
        at = {_index(cell): cell for cell in tracer.cells(view.block, view.site, None, view.window)}

        def slices(job: Job) -> Slices:
            states = [state for index in chosen for state in at[index].states]
            effect = tracer.patch(states, view.direction, job.cancelled)
            with self.lock:
                if job.cancelled.is_set():
                    return
                if len(chosen) == 1:
                    cells = self._cells(view)
                    cells.samples[:, chosen[0][0], chosen[0][1]] = effect.scores
                    cells.wanted.add(chosen[0])
                    self._report(request, chosen, view)
                    if not self._worker.pending(self._owner, "fill"):  # else the grid is shown at its end
                        self._show_grid()
                if request:
                    self._screen.show_traits(error="")
                self._screen.show_traits(detail=figure.detail(tracer, effect, chosen, view.window, generation))
                self._say("done", request, stopped=False)
            yield

        self._submit("patch", PATCH, slices)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet."""
        self._worker.cancel(self._owner, "fill")
        tracer, view, request = self.tracer, self.view, self._fill_request
        cells = self._cells()

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            grid = tracer.cells(view.block, view.site, None, view.window)
            todo = [cell for cell in grid if _index(cell) in missing]
            yield from self._fill_slices(job, tracer, todo, cells.samples, view, request)

        self._submit("fill", FILL, slices)

    def _fill_slices(
        self,
        job: Job,
        tracer: Tracer,
        todo: Sequence[Cell],
        samples: NDArray[np.float64],
        view: View,
        request: int,
    ) -> Slices:
        generation = self.generation
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            for part, scores in tracer.patched_scores([cell.states for cell in todo], view.direction, job.cancelled):
                with self.lock:
                    if job.cancelled.is_set():
                        return
                    for cell, values in zip(todo[part], scores.T, strict=True):
                        samples[:, cell.layer, cell.position] = values
                        fresh.append(_index(cell))
                    done, now = part.stop, time.monotonic()
                    if done == len(todo) or now - reported >= REPORT_SECONDS:
                        reported = now
                        self._report(request, fresh, view)
                        fresh = []
                        left = (now - started) / done * (len(todo) - done)
                        self._say("progress", request, done=done, total=len(todo), seconds_left=left)
                yield
        finally:
            with self.lock:
                if generation == self.generation and view == self.view:
                    self._show_grid()
                    self._say("done", request, stopped=done < len(todo))

    def _draw_curve(self, job: Job) -> Slices:
        """Compute the noise curve, a factor at a time; it does not depend on the present factor."""
        tracer, generation, known = self.tracer, self.generation, self._curve
        for factor in CURVE_FACTORS:
            if factor not in known:
                known[factor] = float(tracer.noise_curve([factor]).scores[0])
                yield
        with self.lock:
            if not job.cancelled.is_set():
                scores = [figure.number(known[factor]) for factor in CURVE_FACTORS]
                self._screen.show_traits(
                    curve={
                        "generation": generation,
                        "factors": list(CURVE_FACTORS),
                        "scores": scores,
                        "clean": tracer.clean.score,
                    }
                )

    # --- showing -----------------------------------------------------------------------------------------------------

    def _shape(self, view: View) -> tuple[int, int]:
        return self.tracer.model.layers, len(self.tracer.tokens(view.block))

    def _cells(self, view: View | None = None) -> _Cells:
        """The cells of a grid, made at the first call."""
        view = view or self.view
        if view not in self._grids:
            count = self.tracer.corruption.samples
            self._grids[view] = _Cells(np.full((count, *self._shape(view)), np.nan))
        return self._grids[view]

    def _trace_of(self, view: View) -> Trace:
        samples = self._cells(view).samples.copy()
        return self.tracer.as_trace(samples, view.block, view.site, None, view.window, view.direction)

    def _unselect(self) -> None:
        self.selection = ()
        self._worker.cancel(self._owner, "patch")
        self._screen.show_traits(selection=[], detail={})

    def _show_grid(self) -> None:
        trace = self.trace
        self._shown = list(trace.tokens)
        self._screen.show_traits(grid=figure.grid(trace, self.generation))

    def _report(self, request: int, cells: Sequence[CellIndex], view: View) -> None:
        values = figure.cell_values(self._trace_of(view))
        layers, positions = (list(axis) for axis in zip(*cells, strict=True))
        picked = np.ascontiguousarray(values[:, layers, positions]).tobytes()
        self._say("cells", request, [picked], block=view.block, site=view.site, cells=list(cells))

    def _say(self, kind: str, request: int, buffers: list[bytes] | None = None, **content: Any) -> None:
        self._screen.say({"type": kind, "id": request, "generation": self.generation, **content}, buffers)


def _index(cell: Cell) -> CellIndex:
    return cell.layer, cell.position
