"""What is computed when: from requests to jobs on the worker, and from results to the screen.

For: keeping what is shown in step with what is asked. Whatever changes what the model sees begins a new generation:
jobs of the older one are dropped, an update derives a tracer and shows its two runs, and then queues what was in view
before: the selected cells, the cells of the grid, the noise curve. While only the damage moves, an update that has
begun is let finish: otherwise a slider in motion would never show a corrupted answer. Where the grid in view takes no
longer than `LIVE_SECONDS`, it is part of the update, and moves with the slider.
Cost: requests validate nothing and return at once; grids are kept for the inputs looked at before, within `KEPT_BYTES`.
Ends: at a `Screen`. It knows the tracer and the worker, but no traits and no messages of a front end.

Everything here happens under `lock`, but for the computing itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import figure
from blip_trace_widget.corruption import GaussianNoise
from blip_trace_widget.forward import Cancelled
from blip_trace_widget.grids import CellIndex, Cells, Sheet, View
from blip_trace_widget.results import Trace
from blip_trace_widget.shelf import Shelf
from blip_trace_widget.sites import BLOCKS
from blip_trace_widget.stage import Patched, Screen, Stage, trace_of
from blip_trace_widget.tracer import Cell, Tracer
from blip_trace_widget.worker import Job, Slices, worker_of

#: What goes first on the worker: a new question or noise, then clicks, then the rest of the grid, then the curve.
UPDATE, PATCH, FILL, CURVE = range(4)
#: Seconds between two reports about a running grid.
REPORT_SECONDS = 0.1
#: A grid that takes no longer is computed before the corrupted run is shown, and shown with it.
LIVE_SECONDS = 0.3
#: Room for the grids of other inputs.
KEPT_BYTES = 64 * 2**20
CURVE_FACTORS = tuple(float(factor) for factor in np.linspace(0, 10, 21))


class Conductor:
    """Computes for one screen.

    Args:
        tracer: what to begin with.
        screen: where to show it.
        view: the grid to begin with.
    """

    def __init__(self, tracer: Tracer, screen: Screen, view: View | None = None) -> None:
        self.lock = threading.RLock()
        self.generation = 0
        self.selection: tuple[CellIndex, ...] = ()
        self._chosen_for = 0  # the generation for which that was selected
        self._screen = screen
        self._stage = Stage(tracer, screen, view or View())
        self._owner, self._errands = object(), object()
        self._worker = worker_of(tracer.model.hf)
        self._changes: dict[str, Any] = {}
        self._sheets: Shelf[Sheet] = Shelf(KEPT_BYTES, lambda sheet: sheet.nbytes)
        self._curves: Shelf[dict[float, float]] = Shelf(KEPT_BYTES, lambda curve: 100 * len(curve))
        self._curve: dict[float, float] = {}
        self._curve_shown: dict[float, float] | None = None
        self._pace: dict[str, float] = {}  # seconds a cell and sample of a block's grid took at last
        self._rows: tuple[str, list[str]] | None = None  # the block and the words of the grid on screen
        self._patch_requests: dict[tuple[CellIndex, ...], int] = {}
        self._fill_request = 0
        self._fill_at_once = False  # Trace all was asked for before there was a grid
        self._in_sight: range | None = None

    @property
    def tracer(self) -> Tracer:
        """The tracer that is on show."""
        return self._stage.tracer

    @property
    def view(self) -> View:
        """The grid in view."""
        return self._stage.view

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compute and show the tracer's two runs, and what is in view."""
        self._submit("update", UPDATE, self._update)

    def change(self, **changes: Any) -> None:
        """Change arguments of the tracer (as in `Tracer.replace`)."""
        with self.lock:
            self._changes.update(changes)
            self._worker.cancel(self._owner, keep=("update",) if set(changes) == {"corruption"} else ())
            self._patch_requests.clear()  # they were for what there was before
            self.generation += 1
            self._screen.show_traits(generation=self.generation, error="")
            self.begin()

    def look_at(self, view: View) -> None:
        """Show another grid of the same runs."""
        with self.lock:
            self._worker.cancel(self._owner, keep=("update", "curve"))
            if view.block != self.view.block:
                self._unselect()
                self._in_sight = None
            self._stage.view = view
            if self._stage.sheet.has(view.block):  # else it will be, after the update
                self._rows = _rows(self.tracer, view)
                self._stage.show_grid()
                self._ask_again()

    def select(self, cells: Sequence[CellIndex], request: int = 0) -> None:
        """Patch these cells of the grid in view, all in one run."""
        with self.lock:
            again = tuple(cells) == self.selection and self._worker.pending(self._owner, _patch_key(self.selection))
            self.selection = tuple(cells)
            self._chosen_for = self.generation
            if request:  # a trait that changes and a message may ask for the same cells: one job answers both
                self._patch_requests[self.selection] = request
            if again:
                return
            self._worker.cancel(self._owner, "patch a set")
            self._screen.show_traits(error="")
            if not cells:
                self._stage.show_patched(None)
            elif self._stage.computed == self.generation and self._stage.sheet.has(self.view.block):
                self._patch(self.selection)

    def pin(self, on: bool) -> None:
        """Keep the patched run of the selected cells beside the next ones, or let it go."""
        with self.lock:
            self._stage.pin(on)

    def look(self, first: int, last: int) -> None:
        """Which positions of the grid are in sight: they are computed first."""
        with self.lock:
            self._in_sight = range(first, last + 1)
            waiting = self._worker.pending(self._owner, "fill")
            if waiting and any(position in self._in_sight for _, position in self._stage.cells.missing()):
                self._fill()

    def trace_all(self, request: int = 0) -> None:
        """Fill the grid in view."""
        with self.lock:
            self._fill_request = request
            if not self._stage.sheet.has(self.view.block):
                self._fill_at_once = True
                return
            self._stage.cells.want_all()
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        with self.lock:
            self._fill_at_once = False
            if not self._stage.sheet.has(self.view.block):
                return
            cells = self._stage.cells
            # Where the values belong to an older generation none of them stays.
            cells.wanted &= cells.computed() if self._stage.computed == self.generation else set()
            self._worker.cancel(self._owner, "fill")
            self._stage.say("done", self._fill_request, stopped=True)

    def wait(self, timeout: float | None) -> bool:
        """Block until nothing is left to do; False if the time ran out."""
        started = time.monotonic()
        while self._worker.wait(self._errands, _left(timeout, started)):  # an errand may ask for more
            if not self._worker.wait(self._owner, _left(timeout, started)):
                return False
            if not self._worker.busy(self._errands):
                return True
        return False

    def close(self) -> None:
        """Drop all work."""
        self._worker.cancel(self._owner)
        self._worker.cancel(self._errands)

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far."""
        tracer = self.tracer
        tracer.prepare()  # not under our lock, for which a handler may wait
        sheet = self._sheet_of(tracer)
        with self.lock:
            view = self.view if sheet.has(self.view.block) else self.view._replace(block=View().block)
            return trace_of(tracer, sheet.cells(view), view)

    def positions(self, block: str) -> int | None:
        """How many positions a block has; None while that is not known without computing."""
        known = self._stage.computed == self.generation and self._stage.sheet.has(block)
        return self._stage.sheet.shape(block)[1] if known else None

    def later(self, work: Callable[[], None], key: Hashable = None) -> None:
        """Do something on the worker's thread that might hold up a handler; no change of inputs drops it.

        Args:
            work: what to do.
            key: of those with the same key only the latest is done.
        """

        def slices(_job: Job) -> Slices:
            work()
            yield

        if key is not None:
            self._worker.cancel(self._errands, key)
        self._worker.submit(self._errands, key or object(), slices, self._failed, UPDATE)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _submit(self, key: Hashable, priority: int, slices: Callable[[Job], Slices]) -> None:
        self._worker.submit(self._owner, key, slices, self._failed, priority)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, Cancelled):
            self._screen.show_traits(error=figure.complaint(error))

    def _update(self, job: Job) -> Slices:
        with self.lock:
            generation, changes = self.generation, dict(self._changes)
        try:
            tracer = self.tracer.replace(**changes) if changes else self.tracer
            tracer.prepare(job.cancelled)
            sheet = self._sheet_of(tracer)
            patched = self._keep_up(tracer, sheet, job)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - shown; the last good state comes back
            self._undo(job, error, changes)
            return
        with self.lock:
            if not job.cancelled.is_set():
                with self._screen.together():
                    self._adopt(tracer, sheet, generation, changes, patched)
        yield

    def _sheet_of(self, tracer: Tracer) -> Sheet:
        """The grids of a tracer's inputs, as they were left."""
        shapes = {
            block: (len(tracer.model.blocks[block].layers), len(tracer.tokens(block)))
            for block in BLOCKS
            if not figure.closed_because(tracer.corruption, block)
        }
        with self.lock:
            sheet = self._sheets.get(_inputs(tracer), lambda: Sheet(tracer.corruption.samples, shapes))
            sheet.want_as(self._stage.sheet, same_words=tracer.question_tokens == self.tracer.question_tokens)
        return sheet

    def _keep_up(self, tracer: Tracer, sheet: Sheet, job: Job) -> Patched | None:
        """Compute what is in view right away, if it is known to be quick; the patched run of the selected cells."""
        with self.lock:
            self._carry_wishes(tracer, sheet)
            view, chosen = self.view, self.selection
        if not sheet.has(view.block) or view.block not in self._pace:
            return None
        cells = sheet.cells(view)
        missing = cells.missing()
        samples = tracer.corruption.samples
        if len(missing) * samples * self._pace[view.block] > LIVE_SECONDS:
            return None
        started = time.monotonic()
        grid = tracer.cells(view.block, view.site, view.head, view.window)
        todo = [cell for cell in grid if _index(cell) in missing]
        if todo:
            for part, scores, _ in tracer.patched_scores([cell.states for cell in todo], view.direction, job.cancelled):
                _write(cells, todo[part], scores)
            self._pace[view.block] = (time.monotonic() - started) / (len(todo) * samples)
        states = [state for cell in grid if _index(cell) in set(chosen) for state in cell.states]
        return Patched(tracer.patch(states, view.direction, job.cancelled), chosen, view) if states else None

    def _adopt(
        self,
        tracer: Tracer,
        sheet: Sheet,
        generation: int,
        changes: dict[str, Any],
        patched: Patched | None,
    ) -> None:
        """Show a tracer whose two runs are computed."""
        stage = self._stage
        self._carry_wishes(tracer, sheet)
        stage.tracer, stage.sheet, stage.computed = tracer, sheet, generation
        self._settle(changes)
        # What was clicked meanwhile is to be computed with the new tracer.
        self._worker.cancel(self._owner, keep=("update",))
        if {"image", "question"} & set(changes):
            stage.unpin()
        if "image" in changes:
            self._screen.show_traits(picture=figure.picture(tracer.image))
        self._screen.show_traits(setup=figure.setup(tracer))
        stage.show_runs()
        if not sheet.has(self.view.block) and generation != self.generation:
            return  # the next update is waiting already, and may open this block
        if not sheet.has(self.view.block):  # its states are the same in both runs now
            stage.view = self.view._replace(block=View().block)
            self._screen.show_traits(block=self.view.block)
        other_rows = self._rows != (rows := _rows(tracer, self.view))
        if other_rows and self._rows is not None and self._chosen_for < generation:
            self._unselect()
        self._rows = rows
        if self._fill_at_once:
            self._fill_at_once = False
            stage.cells.want_all()
        if other_rows or not stage.cells.missing():  # else what there was stays until there is something new
            stage.show_grid()
        if patched is not None and (patched.view, patched.cells) == (self.view, self.selection):
            stage.show_patched(patched)
        if generation == self.generation:  # else the next update is waiting already
            self._ask_again()
            self._follow_curve()

    def _carry_wishes(self, tracer: Tracer, sheet: Sheet) -> None:
        """What was wished for, or not any more, while an update was being computed."""
        stage = self._stage
        if not (stage.sheet.has(self.view.block) and sheet.has(self.view.block)):
            return
        if stage.tracer.question_tokens == tracer.question_tokens:
            cells = sheet.cells(self.view)
            cells.wanted = set(stage.cells.wanted) | cells.computed()
        else:
            sheet.want_as(stage.sheet, same_words=False)

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
        """Compute what is in view: the cells asked for one by one, then the grid."""
        layers, positions = self._stage.sheet.shape(self.view.block)

        def is_there(cells: tuple[CellIndex, ...]) -> bool:
            return all(layer < layers and position < positions for layer, position in cells)

        if not is_there(self.selection):
            self._unselect()  # selected before the grid was known
        wanted = dict.fromkeys(self._patch_requests)
        if self.selection and not self._stage.is_current(self.selection):
            wanted[self.selection] = None
        for chosen in wanted:
            if is_there(chosen):
                self._patch(chosen)
            else:
                self._stage.say("done", self._patch_requests.pop(chosen), stopped=True)
        if self._stage.cells.missing() - {chosen[0] for chosen in wanted if len(chosen) == 1}:
            self._fill()

    def _patch(self, chosen: tuple[CellIndex, ...]) -> None:
        tracer, generation, view = self.tracer, self._stage.computed, self.view
        cells = self._stage.cells
        by_index = {_index(cell): cell for cell in tracer.cells(view.block, view.site, view.head, view.window)}
        if len(chosen) == 1:
            cells.wanted.update(chosen)

        def slices(job: Job) -> Slices:
            states = [state for index in chosen for state in by_index[index].states]
            try:
                effect = tracer.patch(states, view.direction, job.cancelled)
                with self.lock:
                    if not job.cancelled.is_set():
                        if len(chosen) == 1:
                            _write(cells, [by_index[chosen[0]]], effect.scores[:, None])
                        self._show_effect(Patched(effect, chosen, view))
            finally:
                with self.lock:
                    if generation == self._stage.computed and not job.cancelled.is_set():
                        self._stage.say("done", self._patch_requests.pop(chosen, 0), stopped=False)
            yield

        self._submit(_patch_key(chosen), PATCH, slices)

    def _show_effect(self, patched: Patched) -> None:
        chosen, view = patched.cells, patched.view
        if len(chosen) == 1:
            self._stage.report(self._patch_requests.get(chosen, 0), chosen, view)
            if not self._worker.pending(self._owner, "fill"):  # else the grid is shown at its end
                self._stage.show_grid()
        if chosen == self.selection:
            self._stage.show_patched(patched)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet, those in sight first."""
        self._worker.cancel(self._owner, "fill")
        tracer, view, request, in_sight = self.tracer, self.view, self._fill_request, self._in_sight
        cells = self._stage.cells

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            grid = tracer.cells(view.block, view.site, view.head, view.window)
            todo = [cell for cell in grid if _index(cell) in missing]
            if in_sight is not None:
                todo.sort(key=lambda cell: cell.position not in in_sight)
            yield from self._fill_slices(job, tracer, todo, cells, view, request)

        self._submit("fill", FILL, slices)

    def _fill_slices(
        self,
        job: Job,
        tracer: Tracer,
        todo: Sequence[Cell],
        cells: Cells,
        view: View,
        request: int,
    ) -> Slices:
        generation = self._stage.computed
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            runs = [cell.states for cell in todo]
            for part, scores, share in tracer.patched_scores(runs, view.direction, job.cancelled):
                with self.lock:
                    if job.cancelled.is_set():
                        return
                    _write(cells, todo[part], scores)
                    fresh += map(_index, todo[part])
                    done, now = part.stop, time.monotonic()
                    taken = (now - started) / share
                    self._pace[view.block] = taken / (len(todo) * tracer.corruption.samples)
                    if share == 1 or now - reported >= REPORT_SECONDS:
                        reported = now
                        if fresh:
                            self._stage.report(request, fresh, view)
                            fresh = []
                        # Of work, not of cells: all samples of a cell need not be done together.
                        counted: dict[str, Any] = {"done": int(share * len(todo)), "total": len(todo)}
                        self._stage.say("progress", request, **counted, seconds_left=taken * (1 - share))
                yield
        finally:
            with self.lock:
                if generation == self._stage.computed == self.generation and view == self.view:
                    self._stage.show_grid()
                    if not job.cancelled.is_set():  # who cancels says so
                        self._stage.say("done", request, stopped=done < len(todo))

    def _follow_curve(self) -> None:
        """Show the noise curve, which does not depend on the present factor, or compute it first."""
        unit = self.tracer.corruption.unit()
        self._curve = self._curves.get((*_inputs(self.tracer)[:-1], unit), dict)
        if not isinstance(unit, GaussianNoise):
            self._curve_shown = None
            self._screen.show_traits(curve={})
        elif self._curve is not self._curve_shown:
            self._submit("curve", CURVE, self._draw_curve)

    def _draw_curve(self, job: Job) -> Slices:
        """A factor at a time."""
        tracer, generation, known = self.tracer, self._stage.computed, self._curve
        for factor in CURVE_FACTORS:
            if factor not in known:
                known[factor] = float(tracer.noise_curve([factor], cancel=job.cancelled).scores[0])
                yield
        with self.lock:
            if known is self._curve:
                self._curve_shown = known
                scores = [figure.number(known[factor]) for factor in CURVE_FACTORS]
                clean = figure.number(tracer.clean.score)
                shown = {"generation": generation, "factors": list(CURVE_FACTORS), "scores": scores, "clean": clean}
                self._screen.show_traits(curve=shown)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _unselect(self) -> None:
        self.selection = ()
        self._screen.show_traits(selection=[])
        self._stage.show_patched(None)


def _left(timeout: float | None, started: float) -> float | None:
    """Seconds that are left of a timeout."""
    return None if timeout is None else max(0.0, timeout - (time.monotonic() - started))


def _patch_key(cells: tuple[CellIndex, ...]) -> Hashable:
    """Every single cell clicked is computed, be the next click ever so quick; of sets only the latest."""
    return ("patch", cells) if len(cells) == 1 else "patch a set"


def _index(cell: Cell) -> CellIndex:
    return cell.layer, cell.position


def _write(cells: Cells, computed: Sequence[Cell], scores: NDArray[np.float64]) -> None:
    """Put scores, (samples, cells), where they belong."""
    for cell, values in zip(computed, scores.T, strict=True):
        cells.samples[:, cell.layer, cell.position] = values


def _rows(tracer: Tracer, view: View) -> tuple[str, list[str]]:
    return view.block, tracer.tokens(view.block)


def _inputs(tracer: Tracer) -> tuple[Hashable, ...]:
    """All that the numbers depend on, the corruption last."""
    given = tuple(tracer.given.values())
    return tracer.bases.image.sha256, tracer.question, given, tracer.metric.name, tracer.corruption
