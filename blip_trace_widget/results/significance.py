"""Which effects differ from 0: the one rule behind every dot and every "not distinguishable from 0".

For: grids of states, heads and patches, single patched runs, differences of grids, averages over questions.
Cost: one product of (flips, samples) with (samples, cells), `HELD` numbers of it at a time: under a millisecond for
12 x 9 cells of 10 samples, some 50 ms for 12 x 577.
Ends: at p values. How large an effect may be is `blip_trace_widget.results.intervals`'s to say.

**The null.** The state does nothing but what is as likely to help as to hurt: the difference of a sample (patched less
base run) is as likely x as -x. Then the samples' signs may be flipped, all cells of a sample together, and every way
of flipping is as likely as what was seen. How extreme that is among all of them is the p value: exact at any number
of samples, whatever the distribution, its tails, and how cells depend on each other.

**Over a grid** the largest |t| of each way of flipping is what a cell is held against, so that under the null the
probability of *any* false cell is at most 5 %. Going down from the largest, cells that were found leave the family
(step-down). Cells that move together cost little, unlike with a bound that multiplies p by their number.

**What is not promised.** A state that mostly does a little harm and rarely much good has mean 0 and yet a skewed
difference: that is not the null, and it may be marked. A cell that is not marked may still matter. With n samples the
smallest p is 2 / 2^n: of fewer than `LEAST` nothing can be told from 0.

Sources: sign flips, Fisher 1935, The Design of Experiments, section 21; step-down maximum, Westfall & Young 1993,
Resampling-Based Multiple Testing, algorithm 4.1; for images of the brain, Nichols & Holmes 2002 (Human Brain Mapping
15). Chosen by measured power against the false-discovery rate: ``tests/benchmarks/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.numerics import (
    LEVEL,
    ROUNDING,
    Array,
    false_discovery,
    p_values,
    quantiles,
    quiet,
    standard_error,
)

#: Up to so many samples all flips are tried, beyond so many random ones.
MOST_EXACT, DRAWS = 12, 4096
#: The fewest samples of which anything can be told from 0.
LEAST = 6
#: Numbers that are held at once.
HELD = 2**21
#: Beyond so many samples a random sign is a bit, and not a number: they are drawn three times as fast.
MANY = 1000
#: What counts as a tie of two statistics, which lie between 0 and the root of the number of samples.
TIE = 1e-9


@quiet
def flip_test(differences: Array, least: float = ROUNDING) -> Array:
    """P values that a cell's differences are centred on 0, adjusted for all cells that are given.

    Args:
        differences: of each sample, (samples, ...); a cell with NaN is not tested and does not count.
        least: differences no larger than this are 0.

    Returns:
        (...); NaN where not tested, and for a single sample.
    """
    count, shape = len(differences), differences.shape[1:]
    cells = differences.reshape(count, -1)
    p = np.full(cells.shape[1], np.nan)
    tested = np.flatnonzero(np.isfinite(cells).all(axis=0)) if count > 1 else np.empty(0, np.intp)
    scaled = _scaled(cells[:, tested], least)
    seen = np.abs(scaled.sum(axis=0))
    order = np.argsort(seen, kind="stable")  # the family of a cell: itself and all that are smaller
    scaled, seen = scaled[:, order], seen[order]
    reached = np.zeros(len(order))
    for signs in _signs(count, max(1, HELD // max(count, len(order), 1))):
        largest = np.maximum.accumulate(np.abs(signs @ scaled), axis=1)
        reached += (largest >= seen - TIE).sum(axis=0)
    # No cell's p is below that of a larger one.
    p[tested[order]] = np.maximum.accumulate((reached / _flips(count))[::-1])[::-1]
    return p.reshape(shape)


def differs(differences: Array, least: float = ROUNDING) -> NDArray[np.bool_]:
    """Which cells differ from 0, (...): those that `flip_test` finds at 5 %; none of a single sample."""
    return np.asarray(flip_test(differences, least) <= LEVEL)


def rounding(clean: float) -> float:
    """Differences of scores no larger than this are float32's rounding, of runs whose clean one has this score."""
    return ROUNDING * max(1.0, abs(clean))


def _scaled(cells: Array, least: float) -> Array:
    """Differences over the root of the sum of their squares, which no flip changes; 0 where all are rounding.

    Their sum r stands for |t|, which is r sqrt((n - 1) / (n - r^2)): one is the larger where the other is, and r is
    finite where all differences are alike and t is not.
    """
    cells = np.where(np.abs(cells) <= least, 0.0, cells)
    largest = np.abs(cells).max(axis=0, initial=0.0)
    cells = cells / np.where(largest > 0, largest, 1.0)  # squares of the very large are no numbers
    length = np.sqrt((cells**2).sum(axis=0))
    return np.asarray(cells / np.where(length > 0, length, 1.0))


def _flips(count: int) -> int:
    """How many ways of flipping so many samples are tried."""
    return int(2 ** (count - 1)) if count <= MOST_EXACT else DRAWS


def _signs(count: int, some: int) -> Iterator[Array]:
    """Ways of flipping so many samples, (some, samples) of 1 and -1 at a time; the first flips none.

    To flip all samples changes no |t|: of each pair of opposite ways one is tried.
    """
    generator = np.random.default_rng(0)
    for start in range(0, _flips(count), some):
        numbers = np.arange(start, min(start + some, _flips(count)))
        if count <= MOST_EXACT:
            flipped = (numbers[:, None] >> np.arange(count)) & 1 == 1
        else:
            flipped = _coins(generator, len(numbers), count)
            flipped[numbers == 0] = False
        yield 1.0 - 2.0 * flipped


def _coins(generator: np.random.Generator, rows: int, count: int) -> NDArray[np.bool_]:
    if count <= MANY:
        return generator.random((rows, count)) < 0.5
    bits = np.frombuffer(generator.bytes(-(-rows * count // 8)), np.uint8)
    return np.unpackbits(bits, count=rows * count).reshape(rows, count).view(bool)


@dataclass(frozen=True)
class Contrast:
    """The difference of two means, (...).

    Attributes:
        value: the difference.
        stderr: its standard error.
        degrees: Student's degrees of freedom of it.
        significant: where the two means differ.
    """

    value: Array
    stderr: Array
    degrees: Array
    significant: NDArray[np.bool_]

    @property
    def margin(self) -> Array:
        """Half the width of its 95 % interval, by Student's t."""
        return np.asarray(quantiles(self.degrees) * self.stderr)


@quiet
def contrast(first: Array, second: Array, *, paired: bool, least: float = ROUNDING) -> Contrast:
    """The mean of the first less the mean of the second, each over axis 0.

    Paired: sign flips of the differences of samples with the same number; else Welch's t test, the false-discovery
    rate over all cells held at 5 %. Nothing differs, and the standard error is NaN, where there is a single sample.
    """
    if paired:
        apart = first - second
        degrees = np.full(apart.shape[1:], len(apart) - 1.0)
        return Contrast(np.asarray(apart.mean(axis=0)), standard_error(apart), degrees, differs(apart, least))
    value = np.asarray(first.mean(axis=0) - second.mean(axis=0))
    squares = [standard_error(side) ** 2 for side in (first, second)]
    fewest = min(len(first), len(second)) - 1
    degrees = sum(squares) ** 2 / (squares[0] ** 2 / (len(first) - 1) + squares[1] ** 2 / (len(second) - 1))
    degrees = np.where(np.isnan(degrees), fewest, degrees)  # no spread at all
    p = p_values(np.abs(value), np.asarray(sum(squares)), degrees)
    found = false_discovery(p, LEVEL) & (np.abs(value) > least)
    return Contrast(value, np.sqrt(sum(squares)), degrees, found)
