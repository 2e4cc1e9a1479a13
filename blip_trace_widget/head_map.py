"""Which heads matter: the map of layers x heads of what is in view, filled when it is asked for.

For: charts. Each head's grid is kept like any other (`blip_trace_widget.grids`), so that choosing a head shows at once
what its place in the map was made from.
Cost: a grid a head.
Ends: at a `HeadTrace` and at telling the screen how far it is.
"""

from __future__ import annotations

import time

import numpy as np

from blip_trace_widget.desk import MAP, REPORT_SECONDS, Desk
from blip_trace_widget.grids import Cells, View
from blip_trace_widget.maps import HeadTrace
from blip_trace_widget.sites import BLOCKS
from blip_trace_widget.stage import Stage
from blip_trace_widget.worker import Job, Slices


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

    @property
    def trace(self) -> HeadTrace | None:
        """As computed so far; None where the site has no single heads, or before the runs are there."""
        each = self._each()
        if not each:
            return None
        samples = np.stack([cells.samples for _, cells in each], axis=2)
        view = self._stage.view
        return self._stage.tracer.as_head_trace(samples, view.block, view.site, view.window, view.direction)

    def fill(self) -> None:
        """Compute what is missing of it."""
        self._desk.cancel("heads")
        if self._each():
            self._desk.submit("heads", MAP, self._slices)

    def stop(self) -> None:
        """Compute no more; what is there stays."""
        self._desk.cancel("heads")
        self._tell()

    def follow(self) -> None:
        """Other runs, or another grid, are on show."""
        of = (self._stage.sheet, self._stage.view._replace(head=None))
        if of != self._of:
            self._desk.cancel("heads")
        self._of = of
        self._tell()

    def _each(self) -> list[tuple[View, Cells]]:
        """The grid of each head."""
        stage, view = self._stage, self._stage.view
        if not stage.sheet.has(view.block) or view.site not in BLOCKS[view.block].heads:
            return []
        views = [view._replace(head=head) for head in range(stage.tracer.model.blocks[view.block].heads)]
        return [(each, stage.sheet.cells(each)) for each in views]

    def _tell(self) -> None:
        self._told = time.monotonic()
        each = self._each()
        done = sum(len(cells.computed()) for _, cells in each)
        shown = {"done": done, "total": sum(cells.samples[0].size for _, cells in each)} if done else {}
        self._stage.screen.show_traits(heads=shown)

    def _slices(self, job: Job) -> Slices:
        with self._desk.lock:
            tracer, each = self._stage.tracer, self._each()
        todo = []
        for view, cells in each:
            there = cells.computed()
            grid = tracer.cells(view.block, view.site, view.head, view.window)
            todo += [(cell, cells) for cell in grid if cell.index not in there]
        if not todo:
            return
        direction = each[0][0].direction
        for part, scores, share in tracer.patched_scores([cell.states for cell, _ in todo], direction, job.cancelled):
            with self._desk.lock:
                if job.cancelled.is_set():
                    return
                for (cell, cells), values in zip(todo[part], scores.T, strict=True):
                    cells.put(cell.index, values)
                if share == 1 or time.monotonic() - self._told >= REPORT_SECONDS:
                    self._tell()
            yield
