"""Which heads matter: the map of layers x heads of what is in view, filled when it is asked for.

For: charts. Each head's grid is kept like any other (`blip_trace_widget.widget.grid_store`), so that choosing a head
shows at once what its place in the map was made from.
Cost: a grid a head.
Ends: at a `HeadTrace` and at reporting to the view how far it is.
"""

from __future__ import annotations

import math
import time

import numpy as np

from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import as_head_trace, grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices


class HeadMapJob:
    """The heads of the block and site in view.

    Args:
        presenter: what is on show.
        jobs: where jobs are handed in.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._of: tuple[object, GridSpec] | None = None  # the runs and the view that it is of
        self._told = 0.0
        self._wanted = False  # it was asked for, and is not whole yet

    @property
    def trace(self) -> HeadTrace | None:
        """As computed so far; None where the site has no single heads, or before the runs are there."""
        specs, presenter = self._views(), self._presenter
        if not specs:
            return None
        nothing = np.full((presenter.tracer.corruption.samples, *presenter.store.shape(presenter.spec)), np.nan)
        known = [presenter.store.known(spec) for spec in specs]
        samples = np.stack([nothing if cells is None else cells.samples for cells in known], axis=2)
        spec = presenter.spec
        return as_head_trace(presenter.tracer.case, samples, spec.block, spec.site, spec.window, spec.direction)

    def fill(self) -> None:
        """Compute what is missing of it, now or once the runs are there."""
        self._wanted = True
        self.follow()

    def stop(self) -> None:
        """Compute no more; what is there stays."""
        self._wanted = False
        self._jobs.cancel("heads")
        self._tell()

    def follow(self) -> None:
        """Other runs, or another grid, are on show."""
        of = (self._presenter.store, self._presenter.spec._replace(head=None))
        if of != self._of:
            self._jobs.cancel("heads")
        self._of = of
        self._tell()
        if self._wanted and self._views():
            self._jobs.submit("heads", MAP, self._slices)

    def _views(self) -> list[GridSpec]:
        """Each head's grid."""
        presenter, spec = self._presenter, self._presenter.spec
        if not presenter.store.has(spec.block) or spec.site not in BLOCKS[spec.block].heads:
            return []
        return [spec._replace(head=head) for head in range(presenter.tracer.model.blocks[spec.block].heads)]

    def _tell(self) -> None:
        self._told = time.monotonic()
        specs, store = self._views(), self._presenter.store
        done = sum(len(cells.computed()) for spec in specs if (cells := store.known(spec)) is not None)
        shown = {"done": done, "total": len(specs) * math.prod(store.shape(self._presenter.spec))} if done else {}
        self._presenter.view.show_traits(heads=shown)

    def _slices(self, job: Job) -> Slices:
        with self._jobs.lock:
            tracer = self._presenter.tracer
            each = [(spec, self._presenter.store.cells(spec)) for spec in self._views()]
        todo = []
        for spec, cells in each:
            there = cells.computed()
            grid = grid_cells(tracer.case, spec.block, spec.site, spec.head, spec.window, spec.patch)
            todo += [(cell, cells) for cell in grid if cell.index not in there]
        if not todo:
            self._wanted = False
            return
        direction = each[0][0].direction
        for part, scores, share in patched_scores(
            tracer.case, [cell.states for cell, _ in todo], direction, job.cancelled
        ):
            with self._jobs.lock:
                if job.cancelled.is_set():
                    return
                for (cell, cells), values in zip(todo[part], scores.T, strict=True):
                    cells.put(cell.index, values)
                self._wanted = share < 1
                if share == 1 or time.monotonic() - self._told >= self._jobs.pace.report:
                    self._tell()
            yield
