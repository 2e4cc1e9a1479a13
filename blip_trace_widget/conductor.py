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
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import figure
from blip_trace_widget.forward import Cancelled
from blip_trace_widget.results import Effect, Trace
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
        self._computed: int | None = None  # the generation of `tracer`, once its runs are there
        self._screen = screen
        self._owner = object()
        self._worker = worker_of(tracer.model.hf)
        self._changes: dict[str, Any] = {}
        self._grids: dict[View, _Cells] = {}
        self._shown: list[str] | None = None  # the rows of the grid on screen
        self._patch_requests: dict[tuple[CellIndex, ...], int] = {}
        self._fill_request = 0
        self._fill_at_once = False  # Trace all was asked for before there was a grid
        self._curve: dict[float, float] = {}
        self._curve_shown: dict[float, float] | None = None

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compute and show the tracer's two runs, and what is in view."""
        self._submit("update", UPDATE, self._update)

    def change(self, **changes: Any) -> None:
        """Change arguments of the tracer (as in `Tracer.replace`)."""
        with self.lock:
            self._changes.update(changes)
            self._worker.cancel(self._owner, keep=("update",) if set(changes) == {"corruption"} else ())
            self.generation += 1
            self._screen.show_traits(generation=self.generation, error="")
            self.begin()

    def look_at(self, view: View) -> None:
        """Show another grid of the same runs."""
        with self.lock:
            self._worker.cancel(self._owner, keep=("update", "curve"))
            if view.block != self.view.block:
                self._unselect()
            self.view = view
            if self._computed is not None:
                self._show_grid()
                self._ask_again()

    def select(self, cells: Sequence[CellIndex], request: int = 0) -> None:
        """Patch these cells of the grid in view, all in one run."""
        with self.lock:
            self.selection = tuple(cells)
            if request:  # a trait that changes and a message may ask for the same cells: one job answers both
                self._patch_requests[self.selection] = request
            self._worker.cancel(self._owner, "patch a set")
            self._screen.show_traits(error="")
            if not cells:
                self._screen.show_traits(detail={})
            elif self._computed is not None:
                self._patch()

    def trace_all(self, request: int = 0) -> None:
        """Fill the grid in view."""
        with self.lock:
            self._fill_request = request
            if self._computed is None:
                self._fill_at_once = True
                return
            cells = self._cells()
            cells.wanted.update(np.ndindex(cells.samples.shape[1:]))
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        with self.lock:
            self._fill_at_once = False
            if self._computed is None:
                return
            cells = self._cells()
            # Where the values belong to an older generation none of them stays.
            cells.wanted &= cells.computed() if self._computed == self.generation else set()
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
        self.tracer.prepare()  # not under our lock, for which a handler may wait
        with self.lock:
            return self._trace_of(self.view)

    def positions(self, block: str) -> int | None:
        """How many positions a block has; None while that is not known without computing."""
        return len(self.tracer.tokens(block)) if block == "question_encoder" or self._computed is not None else None

    def later(self, key: str, work: Callable[[], None]) -> None:
        """Do something on the worker's thread that might hold up a handler."""

        def slices(_job: Job) -> Slices:
            work()
            yield

        self._submit(key, UPDATE, slices)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _submit(self, key: Hashable, priority: int, slices: Callable[[Job], Slices]) -> None:
        def failed(error: BaseException) -> None:
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
        old, self.tracer, self._computed = self.tracer, tracer, generation
        self._settle(changes)
        other_text = self._shown != tracer.tokens(self.view.block) or old.question_tokens != tracer.question_tokens
        for view, cells in self._grids.items():
            shape = self._shape(view)
            full = len(cells.wanted) == cells.samples[0].size
            if other_text or cells.samples.shape[1:] != shape:
                cells.wanted = set(np.ndindex(shape)) if full else set()
            cells.samples = np.full((tracer.corrupted.scores.size, *shape), np.nan)
        self._screen.show_traits(setup=figure.setup(tracer), runs=figure.runs(tracer, generation))
        if "image" in changes:
            self._screen.show_traits(picture=figure.picture(tracer.image))
        if other_text:
            if self._shown is not None:
                self._unselect()
            self._show_grid()
        if not changes or set(changes) - {"corruption"} or old.corruption.unit() != tracer.corruption.unit():
            self._curve = {}
        if self._fill_at_once:
            self._fill_at_once = False
            self._cells().wanted.update(np.ndindex(self._shape(self.view)))
        if generation == self.generation:  # else the next update is waiting already
            self._ask_again()
            if self._curve_shown is not self._curve:
                self._submit("curve", CURVE, self._draw_curve)

    def _settle(self, changes: dict[str, Any]) -> None:
        """These changes are done with; newer ones stay."""
        self._changes = {name: value for name, value in self._changes.items() if changes.get(name) is not value}

    def _undo(self, job: Job, error: Exception, changes: dict[str, Any]) -> None:
        """An update failed: say why, and return to the last good state."""
        with self.lock:
            if job.cancelled.is_set():
                return
            self._settle(changes)
            self._screen.show_traits(error=figure.complaint(error))
            if changes and not self._changes:  # nothing newer has been asked
                self._screen.go_back(self.tracer)
                self.begin()

    def _ask_again(self) -> None:
        """Compute what is in view: the selected cells, then the cells of the grid."""
        layers, positions = self._shape(self.view)
        if any(layer >= layers or position >= positions for layer, position in self.selection):
            self._unselect()  # selected before the grid was known
        if self.selection:
            self._patch()
        if self._cells().missing():
            self._fill()

    def _patch(self) -> None:
        tracer, generation, view, chosen = self.tracer, self._computed, self.view, self.selection
        at = {_index(cell): cell for cell in tracer.cells(view.block, view.site, None, view.window)}

        def slices(job: Job) -> Slices:
            states = [state for index in chosen for state in at[index].states]
            try:
                effect = tracer.patch(states, view.direction, job.cancelled)
                with self.lock:
                    if not job.cancelled.is_set():
                        self._show_effect(tracer, effect, chosen, view)
            finally:
                with self.lock:
                    if generation == self._computed and not job.cancelled.is_set():
                        self._say("done", self._patch_requests.pop(chosen, 0), stopped=False)
            yield

        # Every single cell clicked is computed, be the next click ever so quick; of sets only the latest.
        self._submit(("patch", chosen) if len(chosen) == 1 else "patch a set", PATCH, slices)

    def _show_effect(self, tracer: Tracer, effect: Effect, chosen: tuple[CellIndex, ...], view: View) -> None:
        assert self._computed is not None
        if len(chosen) == 1:
            cells = self._cells(view)
            cells.samples[:, chosen[0][0], chosen[0][1]] = effect.scores
            cells.wanted.add(chosen[0])
            self._report(self._patch_requests.get(chosen, 0), chosen, view)
            if not self._worker.pending(self._owner, "fill"):  # else the grid is shown at its end
                self._show_grid()
        if chosen == self.selection:
            self._screen.show_traits(detail=figure.detail(tracer, effect, chosen, view.window, self._computed))

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
        generation = self._computed
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
                    if done == len(todo) or (done and now - reported >= REPORT_SECONDS):
                        reported = now
                        self._report(request, fresh, view)
                        fresh = []
                        left = (now - started) / done * (len(todo) - done)
                        self._say("progress", request, done=done, total=len(todo), seconds_left=left)
                yield
        finally:
            with self.lock:
                if generation == self._computed == self.generation and view == self.view:
                    self._show_grid()
                    if not job.cancelled.is_set():  # who cancels says so
                        self._say("done", request, stopped=done < len(todo))

    def _draw_curve(self, job: Job) -> Slices:
        """Compute the noise curve, a factor at a time; it does not depend on the present factor."""
        tracer, generation, known = self.tracer, self._computed, self._curve
        for factor in CURVE_FACTORS:
            if factor not in known:
                known[factor] = float(tracer.noise_curve([factor], cancel=job.cancelled).scores[0])
                yield
        with self.lock:
            if known is self._curve:
                self._curve_shown = known
                scores = [figure.number(known[factor]) for factor in CURVE_FACTORS]
                self._screen.show_traits(
                    curve={
                        "generation": generation,
                        "factors": list(CURVE_FACTORS),
                        "scores": scores,
                        "clean": figure.number(tracer.clean.score),
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
        self._screen.show_traits(selection=[], detail={})

    def _show_grid(self) -> None:
        assert self._computed is not None
        trace = self._trace_of(self.view)
        self._shown = list(trace.tokens)
        self._screen.show_traits(grid=figure.grid(trace, self._computed))

    def _report(self, request: int, cells: Sequence[CellIndex], view: View) -> None:
        values = figure.cell_values(self._trace_of(view))
        layers, positions = (list(axis) for axis in zip(*cells, strict=True))
        picked = np.ascontiguousarray(values[:, layers, positions]).tobytes()
        self._say("cells", request, [picked], block=view.block, site=view.site, cells=list(cells))

    def _say(self, kind: str, request: int, buffers: list[bytes] | None = None, **content: Any) -> None:
        self._screen.say({"type": kind, "id": request, "generation": self._computed, **content}, buffers)


def _index(cell: Cell) -> CellIndex:
    return cell.layer, cell.position
