"""Arithmetic that never warns, standard errors, Student's t, and the false-discovery rate.

For: all statistics of this room and of data sets.
Ends: at functions of arrays. What they are used for is `blip_trace_widget.results.statistics`',
`blip_trace_widget.results.significance`'s and `blip_trace_widget.results.intervals`' to say.

NaN and infinity are numbers here: a notebook's `np.seterr` changes nothing (`quiet`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

Given = ParamSpec("Given")
Value = TypeVar("Value")

#: How often a test may find what is not there, and an interval miss what is.
LEVEL = 0.05
#: Scores are computed in float32: a difference no larger than this is rounding, however alike it is in all samples.
ROUNDING = 1e-6


def quiet(function: Callable[Given, Value]) -> Callable[Given, Value]:
    """A function whose arithmetic on NaN, infinity and the very small never warns, whatever `np.seterr` was set to.

    Not `np.errstate` itself as a decorator: before NumPy 2 its threads would share what it restores.
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


@quiet
def two_sided(t: Array, degrees: int) -> Array:
    """Two-sided p values of Student's t, of 0 or more.

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


@cache
def student_quantile(degrees: int, level: float = LEVEL) -> float:
    """The value that Student's |t| exceeds with this probability, of 1 or more degrees of freedom.

    Beyond 500 degrees Student's distribution hardly changes.
    """
    low, high = 0.0, 2 / level  # at one degree P(|t| > x) is below 2 / (pi x)
    for _ in range(60):
        middle = (low + high) / 2
        exceeds = float(two_sided(np.asarray(middle), min(degrees, 500))) > level
        low, high = (middle, high) if exceeds else (low, middle)
    return high


@quiet
def p_values(gap: Array, squared_error: Array, degrees: Array) -> Array:
    """Two-sided p values of Student's t at degrees of freedom that are rounded down; NaN below one."""
    t = np.where(gap <= ROUNDING, 0.0, gap / np.sqrt(squared_error))
    p = np.full(gap.shape, np.nan)
    whole = whole_degrees(degrees)
    for each in set(whole.ravel().tolist()) - {0}:
        p[whole == each] = two_sided(t[whole == each], each)
    return np.where(np.isnan(t), np.nan, p)


@quiet
def quantiles(degrees: Array, level: float = LEVEL) -> Array:
    """`student_quantile` of each, degrees of freedom rounded down; NaN below one."""
    whole = whole_degrees(degrees)
    found = np.full(whole.shape, np.nan)
    for each in set(whole.ravel().tolist()) - {0}:
        found[whole == each] = student_quantile(each, level)
    return found


def whole_degrees(degrees: Array) -> NDArray[np.int_]:
    """Degrees of freedom rounded down; 0 for NaN, and at most 500."""
    # A hair is added: 9 that came out as 8.9999999 is 9.
    return np.clip(np.floor(np.nan_to_num(degrees, nan=0.0) + 1e-6), 0, 500).astype(int)


@quiet
def false_discovery(p: Array, rate: float) -> NDArray[np.bool_]:
    """Which hypotheses to reject so that of those at most `rate` are expected to be true (Benjamini & Hochberg 1995).

    NaN is never rejected and does not count. The procedure holds for independent and for positively dependent tests.
    """
    known = np.isfinite(p)
    ordered = np.sort(p[known])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, ordered.size + 1) / max(ordered.size, 1))
    if not passed.size:
        return np.zeros(p.shape, dtype=np.bool_)
    return np.asarray(known & (p <= ordered[passed[-1]]))
