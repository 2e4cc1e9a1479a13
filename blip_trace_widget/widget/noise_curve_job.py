"""The noise curve behind the slider: the one for the inputs shown, computed in the background.

For: seeing where the answer breaks before dragging there. The curve does not depend on the current noise factor, so it
is computed once per kind of noise, and kept.
Cost: as much as a slider step per factor, one at a time, after everything else.
Ends: at the trait `curve`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import payloads
from blip_trace_widget.results.noise_curve import NoiseCurve
from blip_trace_widget.results.snapshot import CurveSummary
from blip_trace_widget.tracing.corruption import GaussianNoise
from blip_trace_widget.tracing.overflow import BeyondRangeError
from blip_trace_widget.widget.grid_store import inputs_of
from blip_trace_widget.widget.job_queue import CURVE, JobQueue
from blip_trace_widget.widget.lru_cache import LruCache
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices

#: Scores of the corrupted runs, (samples,), at each factor.
Scores: TypeAlias = dict[float, NDArray[np.float64]]
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
        self._kept: LruCache[Scores] = LruCache(KEPT_BYTES, _size)
        self._scores: Scores = {}
        self._shown: Scores | None = None
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
        factors = self._jobs.pace.curve
        for factor in factors:
            if factor not in known:
                try:
                    known[factor] = tracer.noise_curve([factor], cancel=job.cancelled).corrupted[:, 0]
                except BeyondRangeError:  # said where somebody asks for that factor
                    known[factor] = np.full(tracer.corruption.samples, np.nan)
                yield
        corrupted = np.stack([known[factor] for factor in factors], axis=1)
        curve = NoiseCurve(np.array(factors), tracer.clean.score, corrupted, np.empty((*corrupted.shape, 0)))
        summary = curve.summary
        with self._jobs.lock:
            if known is self._scores:
                self._shown = known
                self.shown = summary
                self._presenter.view.show_traits(curve=payloads.curve(self.shown, generation or 0))


def _size(scores: Scores) -> int:
    """Bytes that a curve takes, about."""
    return sum(100 + each.nbytes for each in scores.values())
