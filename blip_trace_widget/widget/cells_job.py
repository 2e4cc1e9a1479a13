"""The cells of the grid in view: filling them, and the patched run of what is selected.

For: clicks, which go first; "Trace all", which fills what is wanted, what is in sight first; and the slider, whose
grid is computed along with an update where that is known to be quick.
Cost: a patched run a cell and sample, see `blip_trace_widget.model.block`.
Ends: at a `Stage`. Which inputs are on show is `blip_trace_widget.widget.update_job`'s.

Everything here happens under the lock, but for the computing itself.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display.drawing import words
from blip_trace_widget.results.grid_spec import CellIndex, Chosen, View
from blip_trace_widget.results.run import Effect
from blip_trace_widget.tracing.grid import Cell, grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.tracing.tracer import Tracer
from blip_trace_widget.widget.desk import FILL, PATCH, REPORT_SECONDS, Desk
from blip_trace_widget.widget.grids import Cells, Sheet
from blip_trace_widget.widget.stage import Patched, Stage
from blip_trace_widget.widget.worker import Job, Slices

#: A grid that takes no longer is computed before the corrupted run is shown, and shown with it.
LIVE_SECONDS = 0.3


class CellsJob:
    """Computes cells of the grid in view.

    Args:
        stage: what is on show.
        desk: where jobs are handed in.
    """

    def __init__(self, stage: Stage, desk: Desk) -> None:
        self._stage, self._desk = stage, desk
        self._pace: dict[str, float] = {}  # seconds a cell and sample of a block's grid took at last
        self._patch_requests: dict[Chosen, list[int]] = {}  # that wait for an answer
        self._fill_request = 0
        self._wanted_whole = False  # Trace all was asked for before there was a grid
        self._in_sight: range | None = None

    # --- requests ----------------------------------------------------------------------------------------------------

    def select(self, request: int, *, again: bool) -> None:
        """Patch what is chosen, all in one run.

        Args:
            request: answered once that is done; 0 for none.
            again: whether the same was chosen already.
        """
        chosen = self._stage.inputs.chosen
        again = again and self._desk.pending(_patch_key(chosen))
        if request:  # several may ask for the same cells: one job answers them all
            self._patch_requests.setdefault(chosen, []).append(request)
        if again:
            return
        self._desk.cancel("patch a set")
        for older in [each for each in self._patch_requests if not each.one and each != chosen]:
            self._answer(older, stopped=True)
        if not chosen:
            self._stage.show_patched(None)
            self._answer(chosen, stopped=False)
        elif self._stage.is_settled:
            self._patch(chosen)

    def trace_all(self, request: int) -> None:
        """Fill the grid in view, now or once there is one."""
        self._fill_request, self._wanted_whole = request, True
        if self._stage.has_grid:
            self.want_whole()
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        filling, self._wanted_whole = self._wanted_whole, False
        if self._stage.has_grid:
            cells = self._stage.cells
            filling = filling or bool(cells.missing()) or self._desk.pending("fill")
            # Where the values belong to an older generation none of them stays.
            cells.wanted &= cells.computed() if self._stage.is_settled else set()
            self._desk.cancel("fill")
        if filling:
            self._done(self._fill_request, stopped=True)

    def see(self, positions: range | None) -> None:
        """These positions of the grid are in sight: they are computed first."""
        self._in_sight = positions
        missing = {position for _, position in self._stage.cells.missing()} if self._desk.pending("fill") else set()
        if not missing.isdisjoint(positions or ()):
            self._fill()

    def forget(self) -> None:
        """Other inputs are asked for: what was to be patched was for what there was before."""
        self._patch_requests.clear()

    # --- along with an update ----------------------------------------------------------------------------------------

    def want_whole(self) -> None:
        """Want every cell of the grid in view, if that was asked for before there was one."""
        if self._wanted_whole:
            self._wanted_whole = False
            self._stage.cells.want_all()

    def keep_up(self, tracer: Tracer, sheet: Sheet, view: View, chosen: Chosen, job: Job) -> Patched | None:
        """Compute what is in view right away, if it is known to be quick; the patched run of the selected cells."""
        if not sheet.has(view.block) or view.block not in self._pace:
            return None
        cells = sheet.cells(view)
        there = bool(chosen) and can_patch(chosen, tracer, sheet, view)
        if chosen.one and there:  # clicked since the last update
            cells.wanted.update(chosen.cells)
        missing = cells.missing()
        samples = tracer.corruption.samples
        if len(missing) * samples * self._pace[view.block] > LIVE_SECONDS:
            return None
        started = time.monotonic()
        grid = grid_cells(tracer.case, view.block, view.site, view.head, view.window)
        todo = [cell for cell in grid if cell.index in missing]
        if todo:
            for part, scores, _ in patched_scores(
                tracer.case, [cell.states for cell in todo], view.direction, job.cancelled
            ):
                _write(cells, todo[part], scores)
            self._pace[view.block] = (time.monotonic() - started) / (len(todo) * samples)
        return Patched(_patched(tracer, chosen, view, job), chosen, view) if there else None

    def go_on(self) -> None:
        """Compute what is in view: the cells asked for one by one, then the grid."""
        stage = self._stage
        chosen = stage.inputs.chosen
        wanted = dict.fromkeys(self._patch_requests)
        if chosen and not stage.is_current(chosen):
            wanted[chosen] = None
        for each in wanted:
            if can_patch(each, stage.tracer, stage.sheet, stage.view):
                self._patch(each)
            else:
                self._answer(each, stopped=True)
        if stage.cells.missing() - {each.cells[0] for each in wanted if each.one}:
            self._fill()

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _patch(self, chosen: Chosen) -> None:
        tracer, generation, view = self._stage.tracer, self._stage.computed, self._stage.view
        cells = self._stage.cells
        if chosen.one:
            cells.wanted.update(chosen.cells)

        def slices(job: Job) -> Slices:
            try:
                effect = _patched(tracer, chosen, view, job)
                with self._desk.lock:
                    if not job.cancelled.is_set():
                        if chosen.one:
                            cells.put(chosen.cells[0], effect.scores)
                        self._show_effect(Patched(effect, chosen, view))
            finally:
                with self._desk.lock:
                    if generation == self._stage.computed and not job.cancelled.is_set():
                        job.cancelled.set()  # a click that comes now is for a job of its own
                        self._answer(chosen, stopped=False)
            yield

        self._desk.submit(_patch_key(chosen), PATCH, slices)

    def _show_effect(self, patched: Patched) -> None:
        chosen, view = patched.chosen, patched.view
        if chosen.one:
            self._stage.report(self._patch_requests.get(chosen, [0])[-1], chosen.cells, view)
            if not self._desk.pending("fill"):  # else the grid is shown at its end
                self._stage.show_grid()
        if chosen == self._stage.inputs.chosen:
            self._stage.show_patched(patched)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet, those in sight first."""
        self._desk.cancel("fill")
        tracer, view, request, in_sight = self._stage.tracer, self._stage.view, self._fill_request, self._in_sight
        cells = self._stage.cells

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            grid = grid_cells(tracer.case, view.block, view.site, view.head, view.window)
            todo = [cell for cell in grid if cell.index in missing]
            if in_sight is not None:
                todo.sort(key=lambda cell: cell.position not in in_sight)
            yield from self._fill_slices(job, tracer, todo, cells, view, request)

        self._desk.submit("fill", FILL, slices)

    def _fill_slices(
        self, job: Job, tracer: Tracer, todo: Sequence[Cell], cells: Cells, view: View, request: int
    ) -> Slices:
        generation = self._stage.computed
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            runs = [cell.states for cell in todo]
            for part, scores, share in patched_scores(tracer.case, runs, view.direction, job.cancelled):
                with self._desk.lock:
                    if job.cancelled.is_set():
                        return
                    _write(cells, todo[part], scores)
                    fresh += (cell.index for cell in todo[part])
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
                        self._stage.say("progress", request, **counted, left=words.seconds_left(taken * (1 - share)))
                yield
        finally:
            with self._desk.lock:
                if generation == self._stage.computed and self._stage.is_settled and view == self._stage.view:
                    self._stage.show_grid()
                    if not job.cancelled.is_set():  # who cancels says so
                        self._done(request, stopped=done < len(todo))

    def _answer(self, chosen: Chosen, *, stopped: bool) -> None:
        """Say to all who asked for this that it is done."""
        for request in self._patch_requests.pop(chosen, []):
            self._done(request, stopped=stopped)

    def _done(self, request: int, *, stopped: bool) -> None:
        """Say that a request is done with: of the newest inputs, for it will not be answered of any others."""
        self._stage.say("done", request, generation=self._stage.generation, stopped=stopped)


def can_patch(chosen: Chosen, tracer: Tracer, sheet: Sheet, view: View) -> bool:
    """Whether what is chosen can be patched: the grid in view has these cells, the damage is done to the picture."""
    layers, positions = sheet.shape(view.block)
    fits = all(layer < layers and position < positions for layer, position in chosen.cells)
    return fits and (not chosen.patches or tracer.corruption.damages_image)


def _patch_key(chosen: Chosen) -> Hashable:
    """Every single cell clicked is computed, be the next click ever so quick; of sets only the latest."""
    return ("patch", chosen) if chosen.one else "patch a set"


def _patched(tracer: Tracer, chosen: Chosen, view: View, job: Job) -> Effect:
    """The patched run of what is chosen."""
    if chosen.patches:
        columns = tracer.model.grid[1]
        tokens = [1 + row * columns + column for row, column in chosen.patches]
        return tracer.patch_image_tokens(tokens, view.direction, job.cancelled)  # type: ignore[arg-type]
    grid = grid_cells(tracer.case, view.block, view.site, view.head, view.window)
    states = [state for cell in grid if cell.index in set(chosen.cells) for state in cell.states]
    return tracer.patch(states, view.direction, job.cancelled)  # type: ignore[arg-type]


def _write(cells: Cells, computed: Sequence[Cell], scores: NDArray[np.float64]) -> None:
    """Put scores, (samples, cells), where they belong."""
    for cell, values in zip(computed, scores.T, strict=True):
        cells.put(cell.index, values)
