"""Shown numbers computed again by plain hooks, on request.

For: "Check these numbers". Random cells of the grid in view and the two base runs, as `Tracer.verify` does, one run at
a time, so that clicks are answered in between.
Cost: two full forward passes of the model per run; see `blip_trace_widget.tracing.verification`.
Ends: at the grid's notes, and at progress reports.
"""

from __future__ import annotations

import time

from blip_trace_widget.display import formatting
from blip_trace_widget.tracing.verification import verification
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter, trace_of
from blip_trace_widget.widget.worker import Job, Slices


class VerifyJob:
    """The check of the grid in view.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._checks = 0

    def start(self, request: int = 0) -> None:
        """Check the grid in view; `request` is answered once that is done.

        Raises:
            ValueError: if none of its cells is computed.
        """
        if not self._presenter.is_settled or not self._presenter.cells.computed():
            raise ValueError("verify: nothing of the grid in view is computed yet; trace it first")
        self._checks += 1  # other cells each time
        seed = self._checks - 1
        self._jobs.answer(
            "verify",
            MAP,
            lambda job: self._slices(job, request, seed),
            lambda job: self._presenter.answer(request, stopped=not job.complete),
        )

    def stop(self) -> None:
        """Stop checking."""
        self._jobs.cancel("verify")

    def _slices(self, job: Job, request: int, seed: int) -> Slices:
        presenter, began = self._presenter, time.monotonic()
        with self._jobs.lock:
            tracer, spec, generation = presenter.tracer, presenter.spec, presenter.computed
            trace = trace_of(tracer, presenter.cells, spec)
        for done, total in verification(tracer.case, seed=seed, trace=trace, cancel=job.cancelled):
            with self._jobs.lock:
                if generation == presenter.computed and not job.cancelled.is_set():
                    left = formatting.seconds_left((time.monotonic() - began) * (total - done) / done)
                    presenter.say("progress", request, done=done, total=total, left=left)
            yield
        with self._jobs.lock:
            if generation == presenter.computed and presenter.has_grid:
                presenter.show_verified()
            job.complete = not job.cancelled.is_set()
