"""Which heads matter: the map of layers x heads of the block and site in view, filled on request.

For: charts. Each head's grid is stored like any other (`blip_trace_widget.widget.grid_store`), so that choosing a head
shows its grid at once.
Cost: a grid per head.
Ends: at a `HeadTrace`, and at reporting progress to the view.
"""

from __future__ import annotations

import math
import time

import numpy as np

from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import as_head_trace, cells_of
from blip_trace_widget.tracing.traces import CellRuns
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices


class HeadMapJob:
    """The heads of the block and site in view.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._of: tuple[object, GridSpec] | None = None  # the runs and the grid that it belongs to
        self._reported = 0.0
        self._wanted = False  # requested, and not complete yet

    @property
    def trace(self) -> HeadTrace | None:
        """The map as computed so far; None if the site has no single heads, or before the runs are computed."""
        specs, presenter = self._specs(), self._presenter
        if not specs:
            return None
        nothing = np.full((presenter.tracer.corruption.samples, *presenter.store.shape(presenter.spec)), np.nan)
        known = [presenter.store.known(spec) for spec in specs]
        samples = np.stack([nothing if cells is None else cells.samples for cells in known], axis=2)
        return as_head_trace(presenter.tracer.case, samples, presenter.spec)

    def fill(self) -> None:
        """Compute the missing cells, now or as soon as the runs are computed."""
        self._wanted = True
        self.follow()

    def stop(self) -> None:
        """Stop computing; computed cells stay."""
        self._wanted = False
        self._jobs.cancel("heads")
        self._report()

    def follow(self) -> None:
        """Follow a change of the runs or of the grid in view."""
        of = (self._presenter.store, self._presenter.spec._replace(head=None))
        if of != self._of:
            self._jobs.cancel("heads")
        self._of = of
        self._report()
        if self._wanted and self._specs():
            self._jobs.submit("heads", MAP, self._slices)

    def _specs(self) -> list[GridSpec]:
        """The grid of each head."""
        presenter, spec = self._presenter, self._presenter.spec
        if not presenter.store.has(spec.block) or spec.site not in BLOCKS[spec.block].heads:
            return []
        return [spec._replace(head=head) for head in range(presenter.tracer.model.blocks[spec.block].heads)]

    def _report(self) -> None:
        self._reported = time.monotonic()
        specs, store = self._specs(), self._presenter.store
        done = sum(len(cells.computed()) for spec in specs if (cells := store.known(spec)) is not None)
        shown = {"done": done, "total": len(specs) * math.prod(store.shape(self._presenter.spec))} if done else {}
        self._presenter.view.show_traits(heads=shown)

    def _slices(self, job: Job) -> Slices:
        with self._jobs.lock:
            tracer = self._presenter.tracer
            grids = [(spec, self._presenter.store.cells(spec)) for spec in self._specs()]
        todo = []
        for spec, cells in grids:
            computed = cells.computed()
            todo += [(cell, cells) for cell in cells_of(tracer.case, spec) if cell.index not in computed]
        if not todo:
            self._wanted = False
            return
        runs = CellRuns(tracer.case, grids[0][0], [cell.states for cell, _ in todo], job.cancelled)
        for which, scores, share in runs.scores(job.cancelled):
            with self._jobs.lock:
                if job.cancelled.is_set():
                    return
                for at, values in zip(which.tolist(), scores.T, strict=True):
                    cell, cells = todo[at]
                    cells.put(cell.index, values, live=bool(runs.live[at]))
                self._wanted = share < 1
                if share == 1 or time.monotonic() - self._reported >= self._jobs.pace.report:
                    self._report()
            yield
