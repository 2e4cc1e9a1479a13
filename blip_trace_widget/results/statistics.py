"""Statistics of scores: total and indirect effects, recovery, standard errors, the gate.

For: turning the scores of many runs into effects with standard errors.
Cost: a few passes over small arrays.
Ends: at numbers, independent of models, layers and widgets. `blip_trace_widget.tracing.metrics` scores the runs,
`blip_trace_widget.results.significance` tests effects, `blip_trace_widget.results.intervals` says how far off they may
be.

Source: total and indirect effect as in Meng et al. 2022 (arXiv 2202.05262), section 2.1. Samples are paired (every run
of sample s sees the same noise), so standard errors are those of the paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.results.numerics import Array, quiet, standard_error, student_quantile

#: A smaller total effect counts as none.
SMALLEST_TOTAL_EFFECT = 1e-3
#: What is said where a single run stands behind a number.
ONE_PICTURE = "one picture: no error known"
ONE_SAMPLE, NO_NOISE = "one noise sample: no error known", "no noise: nothing varies, there is no error"


def unknown_error(corruption: Mapping[str, Any] | None, samples: int) -> str:
    """Why so many samples of a corruption, given by its settings, have no error, or "" if they have one."""
    if samples > 1:
        return ""
    name = (corruption or {}).get("type")
    fixed = name in CORRUPTIONS and "samples" not in CORRUPTIONS[name].fields.values()
    return NO_NOISE if fixed else ONE_SAMPLE


@dataclass(frozen=True)
class TotalEffect:
    """How much score the corruption costs, and whether that suffices to ask what restores it.

    Attributes:
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples,).
    """

    clean: float
    corrupted: Array

    @property
    @quiet
    def samples(self) -> Array:
        """score(clean) - score(corrupted), (samples,)."""
        return self.clean - self.corrupted

    @property
    @quiet
    def value(self) -> float:
        """Mean of `samples`."""
        return float(self.samples.mean())

    @property
    @quiet
    def stderr(self) -> float:
        """Standard error of `value`; NaN for a single sample."""
        return float(standard_error(self.samples))

    @property
    @quiet
    def margin(self) -> float:
        """Half the width of Student's 95 % interval of `value`; NaN for a single sample."""
        return student_quantile(self.samples.size - 1) * self.stderr if self.samples.size > 1 else math.nan

    @property
    @quiet
    def closed_because(self) -> str:
        """Why recovery is undefined, or "" if it is defined: the gate.

        It is closed if 0 lies in Student's 95 % interval of the total effect, and if that is smaller than
        `SMALLEST_TOTAL_EFFECT`: of a single sample only the latter is known.
        """
        if not math.isfinite(self.value):
            return "the total effect is not a finite number"
        if abs(self.value) < SMALLEST_TOTAL_EFFECT:
            return f"the total effect is smaller than {SMALLEST_TOTAL_EFFECT:g}"
        if abs(self.value) <= self.margin:
            return f"the total effect {self.value:.2g} ± {self.margin:.2g} (95 %) is not distinguishable from 0"
        return ""


@dataclass(frozen=True)
class Effects:
    """Statistics of patched runs; (...) is the shape of the grid, or () for a single run.

    Attributes:
        samples: indirect effect of each sample, (samples, ...).
        score: mean score, (...).
        indirect_effect: mean of `samples`, (...).
        stderr: standard error of the indirect effect, (...).
        recovery: indirect effect / total effect, (...).
        recovery_stderr: standard error of the recovery, (...).
    """

    samples: Array
    score: Array
    indirect_effect: Array
    stderr: Array
    recovery: Array
    recovery_stderr: Array


@quiet
def effects(total: TotalEffect, patched: Array, direction: str) -> Effects:
    """Indirect effect, recovery and their standard errors.

    Args:
        total: the clean and the corrupted runs.
        patched: scores of the patched runs, (samples, ...); NaN where not computed.
        direction: ``"restore"`` or ``"disrupt"``.

    Returns:
        `Effects` of shape (...). The indirect effect is the mean of patched - corrupted (``disrupt``: clean - patched),
        recovery the ratio of the means (NaN if the gate is closed); its standard error comes from the paired residuals
        (delta method), so it is small if patched and corrupted runs are correlated.
    """
    return statistics(total, indirect_effects(total, patched, direction), patched.mean(axis=0))


@quiet
def indirect_effects(total: TotalEffect, patched: Array, direction: str) -> Array:
    """Indirect effect of every sample, (samples, ...), from scores of patched runs, (samples, ...)."""
    if direction == "disrupt":
        return np.asarray(total.clean - patched)
    return np.asarray(patched - total.corrupted.reshape((-1,) + (1,) * (patched.ndim - 1)))


@quiet
def statistics(total: TotalEffect, indirect: Array, score: Array) -> Effects:
    """`Effects` from indirect effects, (samples, ...), and mean scores, (...); see `effects`."""
    shape = (-1,) + (1,) * (indirect.ndim - 1)
    mean = indirect.mean(axis=0)
    if total.closed_because:
        recovery = recovery_stderr = np.full(mean.shape, math.nan)
    else:
        recovery = mean / total.value
        residuals = indirect - recovery * total.samples.reshape(shape)
        recovery_stderr = standard_error(residuals) / abs(total.value)
    return Effects(
        indirect,
        np.asarray(score),
        np.asarray(mean),
        standard_error(indirect),
        np.asarray(recovery),
        np.asarray(recovery_stderr),
    )


@quiet
def recovery_samples(total: TotalEffect, indirect: Array) -> Array:
    """Pseudo-values whose mean is the recovery and whose standard error is the recovery's, (samples, ...).

    The recovery plus each sample's first-order contribution to it (delta method); NaN if the gate is closed.
    """
    if total.closed_because:
        return np.full(indirect.shape, math.nan)
    recovery = indirect.mean(axis=0) / total.value
    shape = (-1,) + (1,) * (indirect.ndim - 1)
    return np.asarray(recovery + (indirect - recovery * total.samples.reshape(shape)) / total.value)
