"""The cells of the grid in view: filling them, and the patched run of the selection.

For: clicks, which have priority; "Trace all", which fills the wanted cells, visible ones first; and the slider, whose
grid is computed as part of an update if that is known to be quick.
Cost: a patched run per cell and sample, see `blip_trace_widget.model.block`.
Ends: at a `Presenter`; `blip_trace_widget.widget.update_job` decides which inputs are shown.

Everything here except the computations happens under the lock.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import formatting
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, Selection
from blip_trace_widget.states import State
from blip_trace_widget.tracing.grid import Cell, cells_of
from blip_trace_widget.tracing.tracer import Tracer
from blip_trace_widget.tracing.traces import CellRuns, patch_cells
from blip_trace_widget.widget.grid_store import GridScores, GridStore
from blip_trace_widget.widget.job_queue import FILL, PATCH, JobQueue
from blip_trace_widget.widget.presenter import Patched, Presenter
from blip_trace_widget.widget.worker import Job, Slices


class CellsJob:
    """Computes cells of the grid in view.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._seconds: dict[Hashable, float] = {}  # kind of grid -> seconds that a cell and sample last took
        self._patch_requests: dict[Selection, list[int]] = {}  # unanswered request ids
        self._fill_request = 0
        self._wanted_whole = False  # Trace all was requested before there was a grid
        self._visible: range | None = None

    # --- requests ----------------------------------------------------------------------------------------------------

    def select(self, request: int, *, again: bool) -> None:
        """Patch the selection, all in one run.

        Args:
            request: id of the request to answer when done; 0 for none.
            again: whether the selection is unchanged.
        """
        selected = self._presenter.inputs.selected
        again = again and self._jobs.pending(_patch_key(selected))
        if request:  # one job answers all requests for the same cells
            self._patch_requests.setdefault(selected, []).append(request)
        if again:
            return
        self._jobs.cancel("patch a set")
        for older in [pending for pending in self._patch_requests if not pending.one and pending != selected]:
            self._answer(older, stopped=True)
        if not selected:
            self._presenter.show_patched(None)
            self._answer(selected, stopped=False)
        elif self._presenter.is_settled:
            self._patch(selected)

    def trace_all(self, request: int) -> None:
        """Fill the grid in view, now or as soon as there is one."""
        self._fill_request, self._wanted_whole = request, True
        if self._presenter.has_grid:
            self.want_whole()
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; computed cells stay."""
        filling, self._wanted_whole = self._wanted_whole, False
        if self._presenter.has_grid:
            cells = self._presenter.cells
            filling = filling or bool(cells.missing()) or self._jobs.pending("fill")
            # If the values belong to an older generation, none of them stays.
            cells.wanted &= cells.computed() if self._presenter.is_settled else set()
            self._jobs.cancel("fill")
        if filling:
            self._presenter.answer(self._fill_request, stopped=True)

    def set_visible(self, positions: range | None) -> None:
        """Set the visible positions of the grid, which are computed first."""
        self._visible = positions
        missing = {position for _, position in self._presenter.cells.missing()} if self._jobs.pending("fill") else set()
        if any(position in (positions or ()) for position in missing):  # a range may be long
            self._fill()

    def forget(self) -> None:
        """Drop requests for patches, which were made for earlier inputs."""
        self._patch_requests.clear()

    # --- as part of an update ----------------------------------------------------------------------------------------

    def want_whole(self) -> None:
        """Want every cell of the grid in view, if that was requested before there was one."""
        if self._wanted_whole:
            self._wanted_whole = False
            self._presenter.cells.want_all()

    def keep_up(
        self, tracer: Tracer, store: GridStore, spec: GridSpec, selected: Selection, job: Job
    ) -> Patched | None:
        """Compute the grid in view at once if that is known to be quick; returns the patched run of the selection."""
        if not store.has(spec.block) or _kind(spec) not in self._seconds or not can_hold(tracer, spec):
            return None
        cells = store.cells(spec)
        can_be_patched = bool(selected) and can_patch(selected, tracer, store, spec)
        if selected.one and can_be_patched:  # clicked after the last update
            cells.wanted.update(selected.cells)
        missing = cells.missing()
        samples = tracer.corruption.samples
        if len(missing) * samples * self._seconds[_kind(spec)] > self._jobs.pace.live:
            return None
        started = time.monotonic()
        todo = [cell for cell in cells_of(tracer.case, spec) if cell.index in missing]
        if todo:
            runs = CellRuns(tracer.case, spec, [cell.states for cell in todo], job.cancelled)
            for which, scores, _ in runs.scores(job.cancelled):
                _write(cells, todo, which, scores, runs)
            self._seconds[_kind(spec)] = (time.monotonic() - started) / (len(todo) * samples)
        return _patched(tracer, selected, spec, job) if can_be_patched else None

    def fill_view(self) -> None:
        """Queue jobs for what is in view: single requested cells, then the grid."""
        presenter = self._presenter
        selected = presenter.inputs.selected
        wanted = dict.fromkeys(self._patch_requests)
        if selected and not presenter.is_current(selected):
            wanted[selected] = None
        for selection in wanted:
            if can_patch(selection, presenter.tracer, presenter.store, presenter.spec):
                self._patch(selection)
            else:
                self._answer(selection, stopped=True)
        if presenter.cells.missing() - {selection.cells[0] for selection in wanted if selection.one}:
            self._fill()

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _patch(self, selected: Selection) -> None:
        tracer, generation, spec = self._presenter.tracer, self._presenter.computed, self._presenter.spec
        cells = self._presenter.cells
        if selected.one:
            cells.wanted.update(selected.cells)

        def slices(job: Job) -> Slices:
            patched = None
            try:
                patched = _patched(tracer, selected, spec, job)
                effect = patched.effect
                with self._jobs.lock:
                    if not job.cancelled.is_set():
                        if selected.one:
                            cells.put(selected.cells[0], effect.scores, live=not effect.without_effect)
                        self._show_effect(patched)
            finally:
                with self._jobs.lock:
                    if generation == self._presenter.computed and not job.cancelled.is_set():
                        job.cancelled.set()  # a click from now on gets its own job
                        if patched is None:  # it failed: the screen may show older inputs
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
            if not self._jobs.pending("fill"):  # else the fill job shows the grid when it ends
                self._presenter.show_grid()
        if selected == self._presenter.inputs.selected:
            self._presenter.show_patched(patched)

    def _fill(self) -> None:
        """Queue a job for the wanted cells of the grid in view that are missing, visible ones first."""
        self._jobs.cancel("fill")
        tracer, spec, request, visible = (
            self._presenter.tracer,
            self._presenter.spec,
            self._fill_request,
            self._visible,
        )
        cells = self._presenter.cells

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            todo = [cell for cell in cells_of(tracer.case, spec) if cell.index in missing]
            if visible is not None:
                todo.sort(key=lambda cell: cell.position not in visible)
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
            runs = CellRuns(tracer.case, spec, [cell.states for cell in todo], job.cancelled)
            for which, scores, share in runs.scores(job.cancelled):
                with self._jobs.lock:
                    if job.cancelled.is_set():
                        return
                    fresh += _write(cells, todo, which, scores, runs)
                    done, now = done + which.size, time.monotonic()
                    taken = (now - started) / share
                    self._seconds[_kind(spec)] = taken / (len(todo) * tracer.corruption.samples)
                    if share == 1 or now - reported >= self._jobs.pace.report:
                        reported = now
                        if fresh:
                            self._presenter.report(request, fresh, spec)
                            fresh = []
                        # Progress of the work, not of cells, whose samples need not be done together.
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
                    if not job.cancelled.is_set():  # else whoever cancelled it answers
                        self._presenter.answer(request, stopped=done < len(todo))

    def _answer(self, selected: Selection, *, stopped: bool) -> None:
        """Answer all requests for a selection."""
        for request in self._patch_requests.pop(selected, []):
            self._presenter.answer(request, stopped=stopped)


def can_patch(selected: Selection, tracer: Tracer, store: GridStore, spec: GridSpec) -> bool:
    """Whether a selection can be patched: the grid has these cells, or the corruption damages the picture."""
    layers, positions = store.shape(spec)
    fits = all(layer < layers and position < positions for layer, position in selected.cells)
    return fits and (not selected.patches or tracer.corruption.damages_image)


def _patch_key(selected: Selection) -> Hashable:
    """The key of a patch job: every single clicked cell is computed, but of sets of cells only the latest."""
    return ("patch", selected) if selected.one else "patch a set"


def can_hold(tracer: Tracer, spec: GridSpec) -> bool:
    """Whether a tracer has all states that are held in a grid, or receive: those of other inputs may be gone."""
    receivers = () if isinstance(spec.receivers, str) else spec.receivers or ()
    states = [state for state in (*spec.hold, *receivers, *spec.through) if isinstance(state, State)]
    lengths = {block: len(tracer.tokens(block)) for block in {state.block for state in states}}
    return all(state.position < lengths[state.block] for state in states)


def _patched(tracer: Tracer, selected: Selection, spec: GridSpec, job: Job) -> Patched:
    """The patched run of a selection, and where something is held also the one without that."""
    if selected.patches:
        columns = tracer.model.grid[1]
        tokens = [1 + row * columns + column for row, column in selected.patches]
        effect = tracer.patch_image_tokens(tokens, spec.direction, job.cancelled)  # type: ignore[arg-type]
        return Patched(effect, selected, spec)
    effect = patch_cells(tracer.case, spec, selected.cells, job.cancelled)
    free = patch_cells(tracer.case, spec._replace(hold=()), selected.cells, job.cancelled) if spec.hold else None
    return Patched(effect, selected, spec, free)


def _kind(spec: GridSpec) -> Hashable:
    """Grids whose cells take about as long."""
    return spec.block, bool(spec.hold), spec.receivers is None


def _write(
    cells: GridScores, todo: Sequence[Cell], which: NDArray[np.intp], scores: NDArray[np.float64], runs: CellRuns
) -> list[CellIndex]:
    """Store the scores, (samples, cells), of some of the cells in their grid; returns which these are."""
    done = [todo[at].index for at in which.tolist()]
    for index, values, live in zip(done, scores.T, runs.live[which].tolist(), strict=True):
        cells.put(index, values, live=live)
    return done
