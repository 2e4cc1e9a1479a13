"""What follows from scores: total and indirect effects, recovery, their standard errors, the gate.

For: turning the numbers of many runs into honest statistics.
Ends: at numbers; nothing here knows a model, a layer or a widget. How a run is scored is
`blip_trace_widget.tracing.metrics`', which cells differ from 0 `blip_trace_widget.results.significance`'s, how far off
a number may be `blip_trace_widget.results.intervals`'.

Sources: total and indirect effect as in Meng et al. 2022 (arXiv 2202.05262), section 2.1. Samples are paired (every run
of sample s sees the same noise), so standard errors are taken over the paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import Array, quiet, standard_error

#: A total effect smaller than this is no effect.
SMALLEST_TOTAL_EFFECT = 1e-3
#: What is said where a single run stands behind a number.
ONE_PICTURE = "one picture: no error known"
ONE_SAMPLE, NO_NOISE = "one noise sample: no error known", "no noise: nothing varies, there is no error"


def unknown_error(corruption: Mapping[str, Any] | None, samples: int) -> str:
    """Why so many samples of a corruption, given by its settings, have no error, or "" where they have one."""
    if samples > 1:
        return ""
    name = (corruption or {}).get("type")
    fixed = name in CORRUPTIONS and "samples" not in CORRUPTIONS[name].fields.values()
    return NO_NOISE if fixed else ONE_SAMPLE


@dataclass(frozen=True)
class TotalEffect:
    """What the corruption cost, and whether that is enough to ask what brings it back.

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
        """Mean over samples."""
        return float(self.samples.mean())

    @property
    @quiet
    def stderr(self) -> float:
        """Standard error of `value`; NaN for a single sample."""
        return float(standard_error(self.samples))

    @cached_property
    def margin(self) -> float:
        """Half the width of the 95 % interval of `value`, never less than Student's; NaN for a single sample."""
        return float(margin(self.samples))

    @property
    @quiet
    def closed_because(self) -> str:
        """Why recovery is not defined, or "" where it is: the gate.

        It is closed where 0 lies in the 95 % interval of the total effect, and where that is smaller than
        `SMALLEST_TOTAL_EFFECT`: of a single sample the latter alone is known.
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
    """Statistics of patched runs; arrays have the shape of one run's cells, () or (layers, positions).

    Attributes:
        samples: indirect effect of each sample, (samples, ...).
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
        recovery the ratio of the means (NaN where the gate is closed); its standard error comes from the paired
        residuals (delta method), so it is small where patched and corrupted runs move together.
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
    """What follows from indirect effects, (samples, ...); see `effects`."""
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
    """Numbers whose mean is the recovery and whose standard error is the recovery's, (samples, ...).

    The recovery and what each sample adds to it to first order (the delta method); NaN where the gate is closed.
    """
    if total.closed_because:
        return np.full(indirect.shape, math.nan)
    recovery = indirect.mean(axis=0) / total.value
    shape = (-1,) + (1,) * (indirect.ndim - 1)
    return np.asarray(recovery + (indirect - recovery * total.samples.reshape(shape)) / total.value)
