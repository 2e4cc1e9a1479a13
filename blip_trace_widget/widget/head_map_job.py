"""Which heads matter: the map of layers x heads of what is in view, filled when it is asked for.

For: charts. Each head's grid is kept like any other (`blip_trace_widget.widget.grid_store`), so that choosing a head shows
at once what its place in the map was made from.
Cost: a grid a head.
Ends: at a `HeadTrace` and at telling the screen how far it is.
"""

from __future__ import annotations

import math
import time

import numpy as np

from blip_trace_widget.results.grid_spec import View
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import as_head_trace, grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.widget.job_queue import MAP, REPORT_SECONDS, Desk
from blip_trace_widget.widget.presenter import Stage
from blip_trace_widget.widget.worker import Job, Slices


class HeadMap:
    """The heads of the block and site in view.

    Args:
        stage: what is on show.
        desk: where jobs are handed in.
    """

    def __init__(self, stage: Stage, desk: Desk) -> None:
        self._stage, self._desk = stage, desk
        self._of: tuple[object, View] | None = None  # the runs and the view that it is of
        self._told = 0.0
        self._wanted = False  # it was asked for, and is not whole yet

    @property
    def trace(self) -> HeadTrace | None:
        """As computed so far; None where the site has no single heads, or before the runs are there."""
        views, stage = self._views(), self._stage
        if not views:
            return None
        nothing = np.full((stage.tracer.corruption.samples, *stage.sheet.shape(stage.view.block)), np.nan)
        known = [stage.sheet.known(view) for view in views]
        samples = np.stack([nothing if cells is None else cells.samples for cells in known], axis=2)
        view = stage.view
        return as_head_trace(stage.tracer.case, samples, view.block, view.site, view.window, view.direction)

    def fill(self) -> None:
        """Compute what is missing of it, now or once the runs are there."""
        self._wanted = True
        self.follow()

    def stop(self) -> None:
        """Compute no more; what is there stays."""
        self._wanted = False
        self._desk.cancel("heads")
        self._tell()

    def follow(self) -> None:
        """Other runs, or another grid, are on show."""
        of = (self._stage.sheet, self._stage.view._replace(head=None))
        if of != self._of:
            self._desk.cancel("heads")
        self._of = of
        self._tell()
        if self._wanted and self._views():
            self._desk.submit("heads", MAP, self._slices)

    def _views(self) -> list[View]:
        """Each head's grid."""
        stage, view = self._stage, self._stage.view
        if not stage.sheet.has(view.block) or view.site not in BLOCKS[view.block].heads:
            return []
        return [view._replace(head=head) for head in range(stage.tracer.model.blocks[view.block].heads)]

    def _tell(self) -> None:
        self._told = time.monotonic()
        views, sheet = self._views(), self._stage.sheet
        done = sum(len(cells.computed()) for view in views if (cells := sheet.known(view)) is not None)
        shown = {"done": done, "total": len(views) * math.prod(sheet.shape(self._stage.view.block))} if done else {}
        self._stage.screen.show_traits(heads=shown)

    def _slices(self, job: Job) -> Slices:
        with self._desk.lock:
            tracer = self._stage.tracer
            each = [(view, self._stage.sheet.cells(view)) for view in self._views()]
        todo = []
        for view, cells in each:
            there = cells.computed()
            grid = grid_cells(tracer.case, view.block, view.site, view.head, view.window)
            todo += [(cell, cells) for cell in grid if cell.index not in there]
        if not todo:
            self._wanted = False
            return
        direction = each[0][0].direction
        for part, scores, share in patched_scores(
            tracer.case, [cell.states for cell, _ in todo], direction, job.cancelled
        ):
            with self._desk.lock:
                if job.cancelled.is_set():
                    return
                for (cell, cells), values in zip(todo[part], scores.T, strict=True):
                    cells.put(cell.index, values)
                self._wanted = share < 1
                if share == 1 or time.monotonic() - self._told >= REPORT_SECONDS:
                    self._tell()
            yield
