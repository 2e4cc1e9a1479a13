"""A clean run with the selected states scaled, beside the patched run.

For: the slider that removes a head or a state from the clean run, or amplifies it.
Cost: a text pass per step of the slider, in the image encoder a pass of the ViT; of pending steps only the latest.
Ends: at the trait `ablation`.
"""

from __future__ import annotations

from blip_trace_widget.display.ablation import ablation
from blip_trace_widget.widget.cells_job import can_patch
from blip_trace_widget.widget.job_queue import GLANCE, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices


class AblationJob:
    """Shows what the model answers with the selected states at the requested strength.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._shown = False

    def follow(self) -> None:
        """Follow another strength, another selection, or other runs."""
        self._jobs.cancel("ablation")
        presenter = self._presenter
        inputs = presenter.inputs
        selected = inputs.selected
        if inputs.strength == 1 or not selected.cells:
            self._show({})
        elif presenter.is_settled and can_patch(selected, presenter.tracer, presenter.store, inputs.spec):
            self._jobs.submit("ablation", GLANCE, self._slices)

    def _slices(self, job: Job) -> Slices:
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            presenter = self._presenter
            tracer, inputs, generation = presenter.tracer, presenter.inputs, presenter.computed
        spec = inputs.spec
        states = tracer.case.states(spec, inputs.selection)
        run = tracer.ablate(states, inputs.strength, job.cancelled)
        with self._jobs.lock:
            if not job.cancelled.is_set():
                self._show(dict(ablation(run, spec, inputs.selection, generation or 0)))
        yield

    def _show(self, payload: dict[str, object]) -> None:
        if payload or self._shown:
            self._presenter.view.show_traits(ablation=payload)
        self._shown = bool(payload)
