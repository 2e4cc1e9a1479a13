"""Run and Effect: the model's answer and score in one kind of run, over all noise samples.

For: `Tracer.clean`, `Tracer.corrupted`, `Tracer.patch`.
Ends: at numbers and words, independent of any model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results import summaries
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import standard_error
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
            "score": summaries.number(self.score, float(margin(self.scores))),
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
        margin: half the width of the indirect effect's 95 % interval, see `EffectGrid.margin`; NaN for a single sample.
        recovery_margin: half the width of the recovery's.
        significant: whether the indirect effect differs from 0: the rule of `EffectGrid.significant` for this run
            alone, one hypothesis. A cell of a grid has the grid's verdict, which asks more, as it was one of many.
        undefined_because: why there is no recovery, or "".
        error_unknown: why there are no errors, intervals and tests, or "": a single sample, of noise or of what does
            not vary.
        distribution: mean probability of every word at the first answer position, (vocabulary,).
        states: the states that were patched, if any.
        direction: ``"restore"`` or ``"disrupt"``.
        image_tokens: the image tokens that were patched, if any.
        held: the states, and the words for states, that kept the base run's value, see `Tracer.patch`.
        receivers: of a path: the states that it leads to, or ``"answer"``; else none.
        through: of a path: what was not held, see `Tracer.patch_path`.
        without_effect: whether no path leads there, or all that is patched is held, or nothing of it gets past what is
            held: the effect is 0 by construction.
    """

    score: float
    scores: NDArray[np.float64]
    indirect_effect: float
    recovery: float
    stderr: float
    top: Top
    recovery_stderr: float
    margin: float
    recovery_margin: float
    significant: bool
    undefined_because: str
    error_unknown: str
    distribution: NDArray[np.float32] = field(repr=False)
    states: tuple[State, ...]
    direction: str
    image_tokens: tuple[int, ...] = ()
    held: tuple[State | str, ...] = ()
    receivers: tuple[State, ...] | Literal["answer"] = ()
    through: tuple[State | str, ...] = ()
    without_effect: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """The recovery's 95 % interval; NaN for a single sample, and where there is no recovery."""
        return self.recovery - self.recovery_margin, self.recovery + self.recovery_margin

    @property
    def effect_interval(self) -> tuple[float, float]:
        """The indirect effect's 95 % interval; NaN for a single sample."""
        return self.indirect_effect - self.margin, self.indirect_effect + self.margin

    @property
    def negligible(self) -> bool:
        """Whether it was tested, and cannot be told from 0."""
        return not self.significant and not self.error_unknown

    @property
    def _note(self) -> str:
        if not self.without_effect:
            return ""
        return f"{'no path leads there' if self.receivers else 'nothing gets past what is held'}: 0 by construction"

    def _facts(self) -> dict[str, str]:
        return {
            "recovery": self.undefined_because or summaries.number(self.recovery, self.recovery_margin),
            "indirect effect": summaries.number(self.indirect_effect, self.margin),
            "differs from 0": self.error_unknown or ("yes" if self.significant else "not distinguishable"),
            "score": summaries.number(self.score),
            "top": summaries.listed(self.top),
            self.direction: ", ".join(map(summaries.called, self.states)) or f"{len(self.image_tokens)} image tokens",
            "held": summaries.held(self.held),
            **summaries.path(self.receivers, self.through),
            "note": self._note,
        }
