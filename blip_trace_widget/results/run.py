"""Run and Effect: the model's answer and score in one kind of run, over all noise samples.

For: `Tracer.clean`, `Tracer.corrupted`, `Tracer.patch`.
Ends: at numbers and words, independent of any model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results import summaries
from blip_trace_widget.results.statistics import standard_error
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import State

Top = list[tuple[str, float]]


@dataclass(frozen=True, eq=False, repr=False)
class Run(Summarised):
    """A clean or corrupted run.

    Attributes:
        score: mean score over samples, in the units of the metric.
        scores: score of each sample, (samples,).
        answer: the answer; of several samples, the most frequent one.
        top: the likeliest words at the first answer position with their mean probability, best first.
        answers: the answer of each sample.
        distribution: mean probability of every word at the first answer position, (vocabulary,).
    """

    score: float
    scores: NDArray[np.float64]
    answer: str
    top: Top
    answers: tuple[str, ...] = field(repr=False)
    distribution: NDArray[np.float32] = field(repr=False)

    @property
    def stderr(self) -> float:
        """Standard error of `score`; NaN for a single sample."""
        return float(standard_error(self.scores))

    def _facts(self) -> dict[str, str]:
        return {
            "answer": repr(self.answer),
            "score": summaries.number(self.score, self.stderr),
            "samples": str(self.scores.size),
            "top": summaries.listed(self.top),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Effect(Summarised):
    """A patched run.

    Attributes:
        score: mean score over samples, in the units of the metric.
        scores: score of each sample, (samples,).
        indirect_effect: mean of score(patched) - score(corrupted); for ``disrupt`` of score(clean) - score(patched).
        recovery: indirect effect / total effect; NaN if `undefined_because` gives a reason.
        stderr: standard error of the indirect effect over paired samples; NaN for a single sample.
        top: the likeliest words at the first answer position with their mean probability, best first.
        recovery_stderr: standard error of the recovery (delta method).
        undefined_because: why there is no recovery, or "".
        distribution: mean probability of every word at the first answer position, (vocabulary,).
        states: the states that were patched, if any.
        direction: ``"restore"`` or ``"disrupt"``.
        image_tokens: the image tokens that were patched, if any.
    """

    score: float
    scores: NDArray[np.float64]
    indirect_effect: float
    recovery: float
    stderr: float
    top: Top
    recovery_stderr: float
    undefined_because: str
    distribution: NDArray[np.float32] = field(repr=False)
    states: tuple[State, ...]
    direction: str
    image_tokens: tuple[int, ...] = ()

    def _facts(self) -> dict[str, str]:
        return {
            "recovery": self.undefined_because or summaries.number(self.recovery, self.recovery_stderr),
            "indirect effect": summaries.number(self.indirect_effect, self.stderr),
            "score": summaries.number(self.score),
            "top": summaries.listed(self.top),
            self.direction: ", ".join(map(summaries.called, self.states)) or f"{len(self.image_tokens)} image tokens",
        }
