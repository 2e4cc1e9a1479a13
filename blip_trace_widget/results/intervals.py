"""How far a mean or a ratio of means may be off: the ± beside every number, half of a 95 % interval.

For: indirect effects and recoveries of noise samples, and their averages over pictures of a data set.
Cost: five products of (resamples, samples) with (samples, cells), `HELD` numbers at a time: 3 ms for 12 x 9 cells of
10 samples.
Ends: at half widths. Whether an effect differs from 0 is `blip_trace_widget.results.significance`'s to say, of a whole
grid: an interval is a cell's own, and of 100 cells some five lie outside theirs.

**Symmetric bootstrap-t.** How many standard errors a resampled ratio lies from the one at hand, in 95 % of resamples,
is how many the true one may lie from it. Where differences are near normal that is Student's quantile. Where they are
skewed, as scores near 0 or 1 are, it is more, and Student's interval is too narrow. A mean, which is skewed most, takes
the longer of its two tails of 2.5 % to both sides; in a ratio what skews both of its parts cancels. The factor is held
between Student's quantiles of n - 1 degrees and of one: of few samples resamples say little. Measured on the built-in
model this covers what it says (``tests/benchmarks/README.md``), where 1.96 standard errors cover .7 to .9.

Sources: Hall 1988 (Journal of the Royal Statistical Society B 50), symmetric bootstrap confidence intervals; Efron &
Tibshirani 1993, section 12.5; standard error of a ratio by the delta method. Clusters of unequal size: an unbiased
squared error and Satterthwaite's degrees of freedom under equally spread means of clusters, as Bell & McCaffrey 2002
(Survey Methodology 28) and Imbens & Kolesár 2016 (Review of Economics and Statistics 98) have them for regressions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.numerics import LEVEL, Array, quantiles, quiet

#: Resamples of the bootstrap.
RESAMPLES = 999
#: Numbers that are held at once.
HELD = 2**21
#: Beyond so many samples they are drawn one by one, which is faster there than how often each is drawn.
MANY = 1000


@quiet
def margin(values: Array, weights: Array | None = None, level: float = LEVEL) -> Array:
    """Half the width of the interval of a mean over samples, or of a ratio of means.

    Args:
        values: of each sample, (samples, ...).
        weights: what their sum is divided by, (samples,): default 1 each, a mean.
        level: how often the interval misses.

    Returns:
        (...); NaN for a single sample, and where there is NaN.
    """
    count, shape = len(values), values.shape[1:]
    flat = values.reshape(count, -1)
    below = np.ones((count, 1)) if weights is None else weights.reshape(count, 1)
    found = np.full(flat.shape[1], math.nan)
    known = np.isfinite(flat).all(axis=0) & (count > 1)
    residuals = flat[:, known] - flat[:, known].sum(axis=0) / below.sum(axis=0) * below
    error = np.sqrt((residuals**2).sum(axis=0) * count / (count - 1)) / np.abs(below.sum(axis=0))
    degrees = np.full(residuals.shape[1], count - 1.0)
    found[known] = error * studentized(residuals, below, degrees, level, longer=weights is None)
    return found.reshape(shape)


@quiet
def cluster_margin(
    values: Array, weights: Array, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Array:
    """The same of sums over clusters of unequal size: half the width of the interval of their ratio.

    Args:
        values: of each cluster, (clusters, columns); 0 where a cluster has none.
        weights: what they count, such as how many questions a picture has, (clusters, columns).
        level: how often the interval misses.
        resamples: of the bootstrap.
        seed: of its random numbers.

    Returns:
        (columns,); NaN where fewer than two clusters have any.
    """
    error, degrees = cluster_error(values, weights)
    residuals = values - values.sum(axis=0) / weights.sum(axis=0) * weights
    return np.asarray(error * studentized(residuals, weights, degrees, level, resamples, seed, longer=True))


def cluster_error(values: Array, weights: Array) -> tuple[Array, Array]:
    """Standard error of a ratio of sums over clusters, and its degrees of freedom, (columns,) each."""
    return cluster_parts(values, weights)[1:]


@quiet
def cluster_parts(values: Array, weights: Array) -> tuple[Array, Array, Array]:
    """What each cluster adds to a ratio's deviation, (clusters, columns), its standard error and degrees of freedom.

    The squares of the parts add up to the squared error. It is unbiased where clusters' means are spread alike; where
    all clusters are of one size, it is the usual one, and the degrees are the clusters less one; 0 of a single one.
    """
    total = weights.sum(axis=0)
    share = weights / total
    squares = (share**2).sum(axis=0)
    left = 1 - 2 * share + squares  # of a cluster's squared deviation, its own mean being in the mean
    inside = np.where(weights != 0, 1 / left, 0.0)
    residuals = values - values.sum(axis=0) / total * weights
    parts = residuals * np.sqrt(inside) / total
    several = (weights != 0).sum(axis=0) > 1
    weight = share**2 * inside
    zero, one, two = ((weight * share**power).sum(axis=0) for power in range(3))
    across = squares**2 * zero**2 + 2 * zero * two - 4 * squares * zero * one + 2 * one**2
    own = (weight**2 * (1 + 2 * (squares - 2 * share))).sum(axis=0)
    degrees = (weight * left).sum(axis=0) ** 2 / (across + own)
    error = np.sqrt((parts**2).sum(axis=0))
    return parts, np.where(several, error, np.nan), np.where(several, degrees, 0.0)


@quiet
def studentized(
    residuals: Array,
    weights: Array,
    degrees: Array,
    level: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    longer: bool,
) -> Array:
    """How many standard errors the interval reaches to either side, (columns,); see the head of this module.

    Args:
        residuals: what each sample adds to the ratio's deviation, (samples, columns).
        weights: (samples, columns) or (samples, 1).
        degrees: Student's degrees of freedom, (columns,).
        level: how often the interval misses.
        resamples: of the bootstrap.
        seed: of its random numbers.
        longer: whether to take the longer tail to both sides, else both together.
    """
    count, columns = residuals.shape
    least, most = quantiles(degrees, level), quantiles(np.minimum(degrees, 1.0), level)
    if not columns:
        return least
    found, some = np.empty(columns), max(1, HELD // resamples)
    for start in range(0, columns, some):
        part = slice(start, start + some)
        below = weights[:, part] if weights.shape[1] > 1 else weights
        t = np.hstack([_resampled(times, residuals[:, part], below) for times in _drawn(count, resamples, seed)])
        if longer:
            found[part] = np.maximum(_upper(t, level / 2), _upper(-t, level / 2))
        else:
            found[part] = _upper(np.abs(t), level)
    return np.asarray(np.clip(found, least, most))


@lru_cache(maxsize=1)
def _drawn(count: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """The same draws for all intervals of a table: a mean, a recovery and a total effect have them in common."""
    return tuple(_times(count, resamples, seed))


def _times(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each of so many samples is drawn, (some resamples, samples) at a time."""
    generator, some = np.random.default_rng(seed), max(1, HELD // count)
    for start in range(0, resamples, some):
        rows = min(some, resamples - start)
        if count <= MANY:
            drawn = generator.multinomial(count, np.full(count, 1 / count), rows)
        else:
            places = generator.integers(0, count, (rows, count))
            places += np.arange(0, rows * count, count)[:, None]
            drawn = np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count)
        yield drawn.astype(np.uint16)


def _resampled(drawn: NDArray[np.uint16], residuals: Array, weights: Array) -> Array:
    """How many of its own standard errors each resampled ratio lies from the one at hand, (columns, resamples)."""
    count = len(residuals)
    times: Any = drawn.T.astype(np.float64 if count <= MANY else np.float32)
    if count > MANY:  # single precision moves a quantile by a ten-thousandth of what drawing again does
        residuals, weights = _single(residuals), _single(weights)
    few, which = _different(weights)
    below = (few.T @ times)[which]
    moved = (residuals.T @ times) / below
    crossed = (residuals * weights).T @ times
    squares = (residuals**2).T @ times - 2 * moved * crossed + moved**2 * ((few**2).T @ times)[which]
    t = moved * np.abs(below) / np.sqrt(np.maximum(squares, 0.0)) * math.sqrt((count - 1) / count)
    return np.asarray(np.where(moved == 0, 0.0, t))


def _single(columns: Array) -> Array:
    """Columns in single precision, each over its largest number, on which no t depends."""
    largest = np.abs(columns).max(axis=0)
    return np.asarray(columns / np.where(largest > 0, largest, 1.0), dtype=np.float32)


def _different(columns: Array) -> tuple[Array, list[int]]:
    """Columns without repetition, and which of them each one is: the layers of a grid have the same weights."""
    index: dict[bytes, int] = {}
    which = [index.setdefault(column.tobytes(), len(index)) for column in columns.T]
    return columns[:, [which.index(at) for at in range(len(index))]], which


def _upper(t: Array, level: float) -> Array:
    """The value above which this share of each row lies, (rows,); NaN, of a resample of nothing, does not count."""
    missing = np.isnan(t).sum(axis=1)
    at = np.maximum(np.ceil((1 - level) * (t.shape[1] - missing)).astype(int) - 1, 0)
    if not missing.any():
        return np.asarray(np.partition(t, at[0], axis=1)[:, at[0]])
    return np.asarray(np.take_along_axis(np.sort(t, axis=1), at[:, None], axis=1)[:, 0])  # NaN last
