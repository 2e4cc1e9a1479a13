"""Statistics of scores: total and indirect effects, recovery, standard errors, tests, the gate.

For: turning the scores of many runs into effects with standard errors and tests.
Cost: a few passes over small arrays.
Ends: at numbers, independent of models, layers and widgets. `blip_trace_widget.tracing.metrics` scores the runs.

Source: total and indirect effect as in Meng et al. 2022 (arXiv 2202.05262), section 2.1. Samples are paired (every run
of sample s sees the same noise), so standard errors are those of the paired differences. NaN and infinity are ordinary
values here: a notebook's `np.seterr` changes nothing (`quiet`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

Given = ParamSpec("Given")
Value = TypeVar("Value")

#: Scores are computed in float32: a difference no larger than this is rounding, even if it is the same in all samples.
ROUNDING = 1e-6
#: A smaller total effect counts as none.
SMALLEST_TOTAL_EFFECT = 1e-3


def quiet(function: Callable[Given, Value]) -> Callable[Given, Value]:
    """A decorator: arithmetic on NaN, infinity and tiny numbers never warns, whatever `np.seterr` was set to.

    Not `np.errstate` itself as a decorator: before NumPy 2, threads would share the state that it restores.
    """

    @wraps(function)
    def call(*arguments: Given.args, **keywords: Given.kwargs) -> Value:
        with np.errstate(all="ignore"):
            return function(*arguments, **keywords)

    return call


@quiet
def standard_error(samples: Array) -> Array:
    """Standard error of the mean over axis 0; NaN for a single sample."""
    count = samples.shape[0]
    if count < 2:
        return np.full(samples.shape[1:], math.nan)
    return np.asarray(samples.std(axis=0, ddof=1) / math.sqrt(count))


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
    def closed_because(self) -> str:
        """Why recovery is undefined, or "" if it is defined: the gate."""
        if not math.isfinite(self.value):
            return "the total effect is not a finite number"
        if abs(self.value) < SMALLEST_TOTAL_EFFECT:
            return f"the total effect is smaller than {SMALLEST_TOTAL_EFFECT:g}"
        if abs(self.value) <= 2 * self.stderr:
            return f"the total effect {self.value:.2g} is within 2 standard errors ({self.stderr:.2g}) of 0"
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
def t_test(samples: Array) -> Array:
    """Two-sided p values of the one-sample t test that the mean over axis 0 is 0; NaN for a single sample.

    If all samples are equal, p is 0, or 1 if they are 0.
    """
    degrees = samples.shape[0] - 1
    if degrees < 1:
        return np.full(samples.shape[1:], math.nan)
    mean, error = samples.mean(axis=0), standard_error(samples)
    t = np.where(mean == 0, 0.0, np.abs(mean) / error)
    return np.asarray(np.where(np.isnan(mean), np.nan, two_sided(t, degrees)))


@quiet
def two_sided(t: Array, degrees: int) -> Array:
    """Two-sided p values of Student's t, given as absolute values.

    Student's distribution at integer degrees of freedom in closed form (Abramowitz & Stegun 26.7.3 and 26.7.4).
    """
    theta = np.arctan(t / math.sqrt(degrees))
    cosine = np.cos(theta)
    even = degrees % 2 == 0
    term = np.ones_like(theta) if even else cosine
    total = np.zeros_like(theta)
    for power in range(0 if even else 1, degrees - 1, 2):
        total = total + term
        term = term * cosine**2 * (power + 1) / (power + 2)
    within = np.sin(theta) * total if even else 2 / math.pi * (theta + np.sin(theta) * total)
    return np.asarray(np.clip(1 - within, 0.0, 1.0))


@quiet
def p_values(gap: Array, squared_error: Array, degrees: Array) -> Array:
    """Two-sided p values of Student's t, with degrees of freedom rounded down; NaN below one degree.

    Args:
        gap: absolute differences.
        squared_error: their squared standard errors.
        degrees: degrees of freedom.
    """
    t = np.where(gap <= ROUNDING, 0.0, gap / np.sqrt(squared_error))
    p = np.full(gap.shape, np.nan)
    # Beyond a few hundred degrees Student's distribution hardly changes.
    whole_degrees = np.clip(np.floor(np.nan_to_num(degrees, nan=0.0)), 0, 500).astype(int)
    for count in set(whole_degrees.ravel().tolist()) - {0}:
        p[whole_degrees == count] = two_sided(t[whole_degrees == count], count)
    return np.where(np.isnan(t), np.nan, p)


@quiet
def false_discovery(p: Array, rate: float) -> NDArray[np.bool_]:
    """Which hypotheses to reject so that at most a share `rate` of them is expected true (Benjamini & Hochberg 1995).

    NaN is never rejected and does not count. The procedure holds for independent and for positively dependent tests;
    cells of one grid share their noise and so depend positively.
    """
    known = np.isfinite(p)
    ordered = np.sort(p[known])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, ordered.size + 1) / max(ordered.size, 1))
    if not passed.size:
        return np.zeros(p.shape, dtype=np.bool_)
    return np.asarray(known & (p <= ordered[passed[-1]]))


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


@dataclass(frozen=True)
class Contrast:
    """The difference of two means, its standard error and p values, each (...)."""

    value: Array
    stderr: Array
    p: Array


@quiet
def contrast(first: Array, second: Array, *, paired: bool) -> Contrast:
    """The mean of the first minus the mean of the second, both over axis 0, with its standard error and p values.

    Paired: a t test on the differences of samples with the same number; else Welch's t test (Welch 1947). The standard
    error and p are NaN for a single sample.
    """
    if paired:
        differences = first - second
        return Contrast(np.asarray(differences.mean(axis=0)), standard_error(differences), t_test(differences))
    value = np.asarray(first.mean(axis=0) - second.mean(axis=0))
    squares = [standard_error(side) ** 2 for side in (first, second)]
    fewest = min(len(first), len(second)) - 1
    degrees = sum(squares) ** 2 / (squares[0] ** 2 / (len(first) - 1) + squares[1] ** 2 / (len(second) - 1))
    degrees = np.where(np.isnan(degrees), fewest, degrees)  # no spread at all
    return Contrast(value, np.sqrt(sum(squares)), p_values(np.abs(value), np.asarray(sum(squares)), degrees))
