"""The selected states at another strength: a clean run beside the patched one.

For: the slider that takes a head or a state out of the clean run, or makes it stronger.
Cost: a text pass a step of the slider, in the image encoder a pass of the ViT; of several steps the latest is computed.
Ends: at the trait `ablation`.
"""

from __future__ import annotations

from blip_trace_widget.display.ablation import ablation
from blip_trace_widget.widget.cells_job import can_patch
from blip_trace_widget.widget.job_queue import GLANCE, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices


class AblationJob:
    """Shows what the model answers with the selected states at the strength that is asked.

    Args:
        presenter: what is on show.
        jobs: where jobs are handed in.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._shown = False

    def follow(self) -> None:
        """Another strength is asked, other states are selected, or other runs are on show."""
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
        found = tracer.ablate(states, inputs.strength, job.cancelled)
        with self._jobs.lock:
            if not job.cancelled.is_set():
                self._show(dict(ablation(found, spec, inputs.selection, generation or 0)))
        yield

    def _show(self, shown: dict[str, object]) -> None:
        if shown or self._shown:
            self._presenter.view.show_traits(ablation=shown)
        self._shown = bool(shown)
