"""The cells of the grid in view: filling them, and the patched run of what is selected.

For: clicks, which go first; "Trace all", which fills what is wanted, what is in sight first; and the slider, whose
grid is computed along with an update where that is known to be quick.
Cost: a patched run a cell and sample, see `blip_trace_widget.model.block`.
Ends: at a `Presenter`. Which inputs are on show is `blip_trace_widget.widget.update_job`'s.

Everything here happens under the lock, but for the computing itself.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import formatting
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, Selection
from blip_trace_widget.results.run import Effect
from blip_trace_widget.tracing.grid import Cell, grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.tracing.tracer import Tracer
from blip_trace_widget.widget.grid_store import GridScores, GridStore
from blip_trace_widget.widget.job_queue import FILL, PATCH, JobQueue
from blip_trace_widget.widget.presenter import Patched, Presenter
from blip_trace_widget.widget.worker import Job, Slices


class CellsJob:
    """Computes cells of the grid in view.

    Args:
        presenter: what is on show.
        jobs: where jobs are handed in.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._seconds: dict[str, float] = {}  # seconds a cell and sample of a block's grid took at last
        self._patch_requests: dict[Selection, list[int]] = {}  # that wait for an answer
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
        selected = self._presenter.inputs.selected
        again = again and self._jobs.pending(_patch_key(selected))
        if request:  # several may ask for the same cells: one job answers them all
            self._patch_requests.setdefault(selected, []).append(request)
        if again:
            return
        self._jobs.cancel("patch a set")
        for older in [each for each in self._patch_requests if not each.one and each != selected]:
            self._answer(older, stopped=True)
        if not selected:
            self._presenter.show_patched(None)
            self._answer(selected, stopped=False)
        elif self._presenter.is_settled:
            self._patch(selected)

    def trace_all(self, request: int) -> None:
        """Fill the grid in view, now or once there is one."""
        self._fill_request, self._wanted_whole = request, True
        if self._presenter.has_grid:
            self.want_whole()
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        filling, self._wanted_whole = self._wanted_whole, False
        if self._presenter.has_grid:
            cells = self._presenter.cells
            filling = filling or bool(cells.missing()) or self._jobs.pending("fill")
            # Where the values belong to an older generation none of them stays.
            cells.wanted &= cells.computed() if self._presenter.is_settled else set()
            self._jobs.cancel("fill")
        if filling:
            self._done(self._fill_request, stopped=True)

    def see(self, positions: range | None) -> None:
        """These positions of the grid are in sight: they are computed first."""
        self._in_sight = positions
        missing = {position for _, position in self._presenter.cells.missing()} if self._jobs.pending("fill") else set()
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
            self._presenter.cells.want_all()

    def keep_up(
        self, tracer: Tracer, store: GridStore, spec: GridSpec, selected: Selection, job: Job
    ) -> Patched | None:
        """Compute what is in view right away, if it is known to be quick; the patched run of the selected cells."""
        if not store.has(spec.block) or spec.block not in self._seconds:
            return None
        cells = store.cells(spec)
        there = bool(selected) and can_patch(selected, tracer, store, spec)
        if selected.one and there:  # clicked since the last update
            cells.wanted.update(selected.cells)
        missing = cells.missing()
        samples = tracer.corruption.samples
        if len(missing) * samples * self._seconds[spec.block] > self._jobs.pace.live:
            return None
        started = time.monotonic()
        grid = grid_cells(tracer.case, spec.block, spec.site, spec.head, spec.window, spec.patch)
        todo = [cell for cell in grid if cell.index in missing]
        if todo:
            for part, scores, _ in patched_scores(
                tracer.case, [cell.states for cell in todo], spec.direction, job.cancelled
            ):
                _write(cells, todo[part], scores)
            self._seconds[spec.block] = (time.monotonic() - started) / (len(todo) * samples)
        return Patched(_patched(tracer, selected, spec, job), selected, spec) if there else None

    def go_on(self) -> None:
        """Compute what is in view: the cells asked for one by one, then the grid."""
        presenter = self._presenter
        selected = presenter.inputs.selected
        wanted = dict.fromkeys(self._patch_requests)
        if selected and not presenter.is_current(selected):
            wanted[selected] = None
        for each in wanted:
            if can_patch(each, presenter.tracer, presenter.store, presenter.spec):
                self._patch(each)
            else:
                self._answer(each, stopped=True)
        if presenter.cells.missing() - {each.cells[0] for each in wanted if each.one}:
            self._fill()

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _patch(self, selected: Selection) -> None:
        tracer, generation, spec = self._presenter.tracer, self._presenter.computed, self._presenter.spec
        cells = self._presenter.cells
        if selected.one:
            cells.wanted.update(selected.cells)

        def slices(job: Job) -> Slices:
            effect = None
            try:
                effect = _patched(tracer, selected, spec, job)
                with self._jobs.lock:
                    if not job.cancelled.is_set():
                        if selected.one:
                            cells.put(selected.cells[0], effect.scores)
                        self._show_effect(Patched(effect, selected, spec))
            finally:
                with self._jobs.lock:
                    if generation == self._presenter.computed and not job.cancelled.is_set():
                        job.cancelled.set()  # a click that comes now is for a job of its own
                        if effect is None:  # it failed: what is on screen may be of older inputs
                            self._presenter.show_grid()
                            if selected == self._presenter.inputs.selected:
                                self._presenter.show_patched(None)
                        self._answer(selected, stopped=False)
            yield

        self._jobs.submit(_patch_key(selected), PATCH, slices)

    def _show_effect(self, patched: Patched) -> None:
        selected, spec = patched.selected, patched.spec
        if selected.one:
            self._presenter.report(self._patch_requests.get(selected, [0])[-1], selected.cells, spec)
            if not self._jobs.pending("fill"):  # else the grid is shown at its end
                self._presenter.show_grid()
        if selected == self._presenter.inputs.selected:
            self._presenter.show_patched(patched)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet, those in sight first."""
        self._jobs.cancel("fill")
        tracer, spec, request, in_sight = (
            self._presenter.tracer,
            self._presenter.spec,
            self._fill_request,
            self._in_sight,
        )
        cells = self._presenter.cells

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            grid = grid_cells(tracer.case, spec.block, spec.site, spec.head, spec.window, spec.patch)
            todo = [cell for cell in grid if cell.index in missing]
            if in_sight is not None:
                todo.sort(key=lambda cell: cell.position not in in_sight)
            yield from self._fill_slices(job, tracer, todo, cells, spec, request)

        self._jobs.submit("fill", FILL, slices)

    def _fill_slices(
        self, job: Job, tracer: Tracer, todo: Sequence[Cell], cells: GridScores, spec: GridSpec, request: int
    ) -> Slices:
        generation = self._presenter.computed
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            runs = [cell.states for cell in todo]
            for part, scores, share in patched_scores(tracer.case, runs, spec.direction, job.cancelled):
                with self._jobs.lock:
                    if job.cancelled.is_set():
                        return
                    _write(cells, todo[part], scores)
                    fresh += (cell.index for cell in todo[part])
                    done, now = part.stop, time.monotonic()
                    taken = (now - started) / share
                    self._seconds[spec.block] = taken / (len(todo) * tracer.corruption.samples)
                    if share == 1 or now - reported >= self._jobs.pace.report:
                        reported = now
                        if fresh:
                            self._presenter.report(request, fresh, spec)
                            fresh = []
                        # Of work, not of cells: all samples of a cell need not be done together.
                        counted: dict[str, Any] = {"done": int(share * len(todo)), "total": len(todo)}
                        self._presenter.say(
                            "progress", request, **counted, left=formatting.seconds_left(taken * (1 - share))
                        )
                yield
        finally:
            with self._jobs.lock:
                if (
                    generation == self._presenter.computed
                    and self._presenter.is_settled
                    and spec == self._presenter.spec
                ):
                    self._presenter.show_grid()
                    if not job.cancelled.is_set():  # who cancels says so
                        self._done(request, stopped=done < len(todo))

    def _answer(self, selected: Selection, *, stopped: bool) -> None:
        """Say to all who asked for this that it is done."""
        for request in self._patch_requests.pop(selected, []):
            self._done(request, stopped=stopped)

    def _done(self, request: int, *, stopped: bool) -> None:
        """Say that a request is done with: of the newest inputs, for it will not be answered of any others."""
        self._presenter.say("done", request, generation=self._presenter.generation, stopped=stopped)


def can_patch(selected: Selection, tracer: Tracer, store: GridStore, spec: GridSpec) -> bool:
    """Whether what is chosen can be patched: the grid in view has these cells, the damage is done to the picture."""
    layers, positions = store.shape(spec)
    fits = all(layer < layers and position < positions for layer, position in selected.cells)
    return fits and (not selected.patches or tracer.corruption.damages_image)


def _patch_key(selected: Selection) -> Hashable:
    """Every single cell clicked is computed, be the next click ever so quick; of sets only the latest."""
    return ("patch", selected) if selected.one else "patch a set"


def _patched(tracer: Tracer, selected: Selection, spec: GridSpec, job: Job) -> Effect:
    """The patched run of what is chosen."""
    if selected.patches:
        columns = tracer.model.grid[1]
        tokens = [1 + row * columns + column for row, column in selected.patches]
        return tracer.patch_image_tokens(tokens, spec.direction, job.cancelled)  # type: ignore[arg-type]
    states = tracer.case.states(spec, selected.cells)
    return tracer.patch(states, spec.direction, job.cancelled)  # type: ignore[arg-type]


def _write(cells: GridScores, computed: Sequence[Cell], scores: NDArray[np.float64]) -> None:
    """Put scores, (samples, cells), where they belong."""
    for cell, values in zip(computed, scores.T, strict=True):
        cells.put(cell.index, values)
