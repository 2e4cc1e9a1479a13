"""The grid in view under another corruption, in the background: what "also under …" computes and keeps.

For: seeing which claims of a grid depend on its corruption, without leaving it.
Cost: a grid, and the corrupted runs of the other corruption.
Ends: at the grid that `blip_trace_widget.widget.comparison` keeps; it is not dropped when the inputs change.
"""

from __future__ import annotations

import time

import numpy as np

from blip_trace_widget.model.progress import as_check
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.grid import as_trace, cells_of, without_effect
from blip_trace_widget.tracing.traces import CellRuns
from blip_trace_widget.widget import code
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices


class AlsoUnderJob:
    """Computes a grid under another corruption.

    Args:
        presenter: shows the results.
        jobs: the queue for jobs that a change of inputs does not drop.
        comparison: keeps the grid.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue, comparison: Comparison) -> None:
        self._presenter, self._jobs, self._comparison = presenter, jobs, comparison

    def begin(self, other: Corruption) -> None:
        """Compute the grid in view under another corruption, and keep it."""
        self.stop()
        self._jobs.submit("also under", MAP, lambda job: self._slices(job, other))

    def stop(self) -> None:
        """Stop computing; computed cells stay."""
        self._jobs.cancel("also under")

    def _slices(self, job: Job, other: Corruption) -> Slices:
        with self._jobs.lock:
            tracer, spec, picture = self._presenter.tracer, self._presenter.spec, self._presenter.inputs.picture
        under = tracer.with_corruption(other)
        grid = cells_of(under.case, spec)
        under.case.prepare(as_check(job.cancelled), with_states=spec.block == "image_encoder")
        runs = CellRuns(under.case, spec, [cell.states for cell in grid], job.cancelled)
        layers = len(under.model.blocks[spec.block].layers)
        samples = np.full((under.corruption.samples, layers, len(grid) // layers), np.nan)
        trace = as_trace(under.case, samples, spec, without_effect(grid, runs.live))
        source = code.python(under, spec, image=code.literal_or_none(picture.path))
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            self._comparison.keep(trace, source, under.corruption, filling=True)
            self._show()
        cells, reported = samples.reshape(len(samples), -1), time.monotonic()
        for which, scores, share in runs.scores(job.cancelled):
            with self._jobs.lock:
                if job.cancelled.is_set():
                    return
                cells[:, which] = scores
                if share == 1 or time.monotonic() - reported >= self._jobs.pace.report:
                    reported = time.monotonic()
                    self._show()
            yield

    def _show(self) -> None:
        if self._presenter.has_grid and self._presenter.computed is not None:
            self._presenter.show_grid()
