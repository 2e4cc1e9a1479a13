"""The noise curve behind the slider: the one for the inputs shown, computed in the background.

For: seeing where the answer breaks before dragging there. The curve does not depend on the current noise factor, so it
is computed once per kind of noise, and kept.
Cost: as much as a slider step per factor, one at a time, after everything else.
Ends: at the trait `curve`.
"""

from __future__ import annotations

from blip_trace_widget.display import payloads
from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS as FACTORS
from blip_trace_widget.results.snapshot import CurveSummary
from blip_trace_widget.tracing.corruption import GaussianNoise
from blip_trace_widget.widget.grid_store import inputs_of
from blip_trace_widget.widget.job_queue import CURVE, JobQueue
from blip_trace_widget.widget.lru_cache import LruCache
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices

#: Bytes for the curves of other inputs.
KEPT_BYTES = 2**20


class NoiseCurveJob:
    """Computes the noise curve for the inputs shown.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._kept: LruCache[dict[float, float]] = LruCache(KEPT_BYTES, lambda curve: 100 * len(curve))
        self._scores: dict[float, float] = {}
        self._shown: dict[float, float] | None = None
        #: The curve on screen.
        self.shown: CurveSummary | None = None

    def follow(self) -> None:
        """Show the curve of the runs shown, computing it first if necessary."""
        unit = self._presenter.tracer.corruption.unit()
        self._scores = self._kept.get((*inputs_of(self._presenter.tracer)[:-1], unit), dict)
        if not isinstance(unit, GaussianNoise):
            self._shown = self.shown = None
            self._presenter.view.show_traits(curve={})
        elif self._scores is not self._shown:
            self._jobs.submit("curve", CURVE, self._slices)

    def _slices(self, job: Job) -> Slices:
        tracer, generation, known = self._presenter.tracer, self._presenter.computed, self._scores
        for factor in FACTORS:
            if factor not in known:
                known[factor] = float(tracer.noise_curve([factor], cancel=job.cancelled).scores[0])
                yield
        with self._jobs.lock:
            if known is self._scores:
                self._shown = known
                self.shown = CurveSummary(FACTORS, tuple(known[factor] for factor in FACTORS), tracer.clean.score)
                self._presenter.view.show_traits(curve=payloads.curve(self.shown, generation or 0))
