"""The flow between groups of tokens, cut pair by pair on request.

For: "Flow". A run at a time, so that clicks are answered in between.
Cost: see `blip_trace_widget.tracing.flow`.
Ends: at the trait `flow`, and at progress reports.
"""

from __future__ import annotations

from typing import Any

from blip_trace_widget.display.flow import flow
from blip_trace_widget.results.flow import Flow
from blip_trace_widget.tracing.flow import Flowing
from blip_trace_widget.widget.grid_store import inputs_of
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.stepped import stepped
from blip_trace_widget.widget.worker import Job, Slices


class FlowJob:
    """The flow of the clean run shown.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._of: object = None  # what it was computed for
        self._flow: Flow | None = None
        self._shown = False

    def start(self, request: int) -> None:
        """Compute it; `request` is answered once that is done.

        Raises:
            ValueError: if nothing can be computed now.
        """
        if self._presenter.computed != self._presenter.generation:
            raise ValueError("flow: the two runs are not computed yet; wait for them first")
        self._jobs.answer(
            "flow",
            MAP,
            lambda job: self._slices(job, request),
            lambda job: self._presenter.answer(request, stopped=not job.complete),
        )

    def stop(self) -> None:
        """Stop computing; what was shown before stays."""
        self._jobs.cancel("flow")

    def follow(self) -> None:
        """Follow a change of the runs: show the flow that was computed for them, if it was."""
        known = self._flow if self._of == inputs_of(self._presenter.tracer) else None
        self._show({} if known is None else dict(flow(known, self._presenter.computed or 0)))

    def _slices(self, job: Job, request: int) -> Slices:
        presenter = self._presenter
        with self._jobs.lock:
            tracer, generation, of = presenter.tracer, presenter.computed or 0, inputs_of(presenter.tracer)
        flowing = Flowing(tracer.case, cancel=job.cancelled)
        if not (yield from stepped(flowing, presenter, self._jobs, job, request)):
            return
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            self._flow, self._of = flowing.flow(), of
            self._show(dict(flow(self._flow, generation)))
            job.complete = True

    def _show(self, payload: dict[str, Any]) -> None:
        if payload or self._shown:
            self._presenter.view.show_traits(flow=payload)
        self._shown = bool(payload)
