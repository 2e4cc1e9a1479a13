"""Averages over samples, with intervals, and differences between groups of them.

For: `DatasetTrace.mean` and `compare`: which states carry the answer on average, how certain that is, and where kinds
of questions differ.
Cost: a bootstrap is one product of (resamples, samples) with (samples, cells).
Ends: at arrays and frozen results; nothing here reads a file or runs a model.

Questions about one picture are not independent samples: the bootstrap draws pictures, and the standard errors of the
tests are robust to clusters of questions. If every picture has one question, these are the usual procedures.

Source: percentile bootstrap, Efron & Tibshirani 1993, chapter 13, of clusters: Davison & Hinkley 1997, section 3.8;
Welch's t test with cluster-robust errors: Cameron & Miller 2015 (Journal of Human Resources 50); false-discovery rate,
Benjamini & Hochberg 1995. Averages of indirect effects as in Meng et al. 2022 (arXiv 2202.05262), section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.dataset.alignment import Aligned, Array
from blip_trace_widget.results import summaries
from blip_trace_widget.results.statistics import ROUNDING, false_discovery, p_values, quiet
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import grid_title

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Map

#: Most numbers in a matrix of resamples at once.
HELD = 2**24


@dataclass(frozen=True, eq=False, repr=False)
class MeanTrace(Summarised):
    """A grid averaged over samples, with bootstrap intervals: layers down, roles of tokens across.

    Intervals are per cell: at 95 %, about five of 100 cells lie outside theirs.

    Attributes:
        roles: names of the columns.
        samples: number of samples that have a token of each role, (roles,).
        indirect_effect: mean over samples, in units of the score, (layers, roles).
        low: lower end of its interval, (layers, roles); NaN if only one sample has the role.
        high: upper end of its interval, (layers, roles).
        recovery: mean indirect effect / mean total effect of the samples that have the role, (layers, roles).
        recovery_low: lower end of its interval, (layers, roles).
        recovery_high: upper end of its interval, (layers, roles).
        significant: cells whose mean differs from 0 (t tests over pictures, false-discovery rate over the grid 5 %),
            (layers, roles).
        total_effect: mean over samples, in units of the score.
        total_effect_low: lower end of its interval.
        total_effect_high: upper end of its interval.
        settings: what was averaged and how, as plain JSON.
        aligned: the samples' effects that it is computed from.
    """

    roles: tuple[str, ...]
    samples: NDArray[np.int64]
    indirect_effect: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    recovery: Array = field(repr=False)
    recovery_low: Array = field(repr=False)
    recovery_high: Array = field(repr=False)
    significant: NDArray[np.bool_] = field(repr=False)
    total_effect: float
    total_effect_low: float
    total_effect_high: float
    settings: dict[str, Any] = field(repr=False)
    aligned: Aligned = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell: block, site, layer, role, samples, effect and recovery with intervals, significant."""
        names = ("indirect_effect", "low", "high", "recovery", "recovery_low", "recovery_high", "significant")
        return _frame(self, names, samples=np.tile(self.samples, len(self.indirect_effect)))

    def plot(
        self,
        ax: Any = None,
        limit: float | None = None,
        value: Literal["recovery", "indirect_effect"] = "recovery",
        cmap: Any = None,
        marks: bool = True,
    ) -> Any:
        """Draw the mean in the paper's layout, tokens down and layers across.

        Args:
            ax: matplotlib axes to draw on.
            limit: end of the colour scale on both sides of 0; default the largest value. Give several figures the same
                to compare them.
            value: ``"recovery"`` or ``"indirect_effect"``.
            cmap: a matplotlib colour map or its name.
            marks: whether to put a dot where the effect is not distinguishable from 0.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        name = one_of("value", value, ("recovery", "indirect_effect"))
        title = f"{_title(self.settings)}, mean of {len(self.aligned.total)}"
        drawn = _map(getattr(self, name), name.replace("_", " "), title, self.roles, ~self.significant)
        return plots.draw(drawn, ax, limit, cmap, marks=marks)

    def _facts(self) -> dict[str, str]:
        layers, count = len(self.indirect_effect), len(self.aligned.total)
        best = summaries.best(self.recovery, 1)
        return {
            "grid": _title(self.settings),
            "shape": f"{layers} layers × {len(self.roles)} roles",
            "mean of": f"{count} samples"
            + ("" if self.settings.get("group") is None else f", {self.settings['group']}"),
            "total effect": _with_interval(self.total_effect, self.total_effect_low, self.total_effect_high),
            "best": "".join(
                f"recovery {_with_interval(self.recovery[at], self.recovery_low[at], self.recovery_high[at])} "
                f"at layer {at[0]} “{self.roles[at[1]]}”"
                for at in best
            ),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Summarised):
    """The difference of two groups' average indirect effects.

    Attributes:
        roles: names of the columns.
        groups: names of the groups.
        samples: number of samples of each group that have a token of each role, (2, roles).
        difference: mean of the first group minus mean of the second, (layers, roles); NaN if one lacks the role.
        low: lower end of its bootstrap interval, (layers, roles).
        high: upper end of its bootstrap interval, (layers, roles).
        p: p value of each cell (Welch's t test), (layers, roles); NaN if a group has fewer than two pictures with it.
        significant: cells that differ, with the false-discovery rate over the grid controlled at `rate`.
        rate: the false-discovery rate.
        settings: what was compared and how, as plain JSON.
    """

    roles: tuple[str, ...]
    groups: tuple[str, str]
    samples: NDArray[np.int64]
    difference: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    p: Array = field(repr=False)
    significant: NDArray[np.bool_] = field(repr=False)
    rate: float
    settings: dict[str, Any] = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell: block, site, layer, role, samples of each group, difference with interval, p, ..."""
        counts = {f"samples_{name}": np.tile(self.samples[at], len(self.p)) for at, name in enumerate("ab")}
        return _frame(self, ("difference", "low", "high", "p", "significant"), **counts)

    def plot(
        self,
        ax: Any = None,
        limit: float | None = None,
        value: Literal["difference"] = "difference",
        cmap: Any = None,
        marks: bool = True,
    ) -> Any:
        """Draw the difference, tokens down and layers across.

        Args:
            ax: matplotlib axes to draw on.
            limit: end of the colour scale on both sides of 0; default the largest value. Give several figures the same
                to compare them.
            value: ``"difference"``, of the indirect effects.
            cmap: a matplotlib colour map or its name.
            marks: whether to put a dot where the groups do not differ significantly.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        one_of("value", value, ("difference",))
        label, title = "difference of indirect effects", f"{_title(self.settings)}, {' − '.join(self.groups)}"
        drawn = _map(self.difference, label, title, self.roles, ~self.significant)
        return plots.draw(drawn, ax, limit, cmap, marks=marks)

    def _facts(self) -> dict[str, str]:
        best = summaries.best(np.abs(self.difference), 1)
        return {
            "grid": _title(self.settings),
            "of": " − ".join(self.groups),
            "shape": f"{len(self.difference)} layers × {len(self.roles)} roles",
            "differ": f"{int(self.significant.sum())} of {self.difference.size} cells",
            "false-discovery rate": f"{self.rate:g}",
            "largest": "".join(
                f"{_with_interval(self.difference[at], self.low[at], self.high[at])} "
                f"at layer {at[0]} “{self.roles[at[1]]}”"
                for at in best
            ),
        }


def _map(values: Array, label: str, title: str, roles: Sequence[str], dots: NDArray[np.bool_]) -> Map:
    """Values, (layers, roles), as a map in the paper's layout, roles down and layers across."""
    from blip_trace_widget.results.plots import Map

    return Map(values, label, title, ("layer", range(len(values))), ("", roles), dots).transposed


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{summaries.number(value)} ({summaries.number(low)} to {summaries.number(high)})"


def _title(settings: dict[str, Any]) -> str:
    return grid_title(settings["block"], settings["site"])


def _frame(result: Any, names: Sequence[str], **more: Any) -> pd.DataFrame:
    import pandas as pd

    first = getattr(result, names[0])
    layer, role = (axis.ravel() for axis in np.indices(first.shape))
    return pd.DataFrame(
        {
            "block": result.settings["block"],
            "site": result.settings["site"],
            "layer": layer,
            "role": [result.roles[index] for index in role],
            **more,
            **{name: getattr(result, name).ravel() for name in names},
        }
    )


# --- averages --------------------------------------------------------------------------------------------------------


@quiet
def mean(data: Aligned, confidence: float, resamples: int, seed: int, settings: dict[str, Any]) -> MeanTrace:
    """Means over samples with percentile bootstrap intervals.

    Args:
        data: the samples' effects.
        confidence: coverage of the intervals, between 0 and 1.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
        settings: what is averaged.
    """
    effect, recovery, total = _means(np.ones((1, len(data.total))), data)
    drawn = [_means(weights, data) for weights in _resamples(data, resamples, seed)]
    intervals = [_interval(np.concatenate(values), confidence) for values in zip(*drawn, strict=True)]
    shape = data.effects.shape[1:]
    # All resamples of a single sample are equal: that is no interval.
    known = _present(data) > 1
    (low, high), (recovery_low, recovery_high) = (
        [np.where(known, end.reshape(shape), np.nan) for end in values] for values in intervals[:2]
    )
    return MeanTrace(
        roles=data.roles,
        samples=_present(data),
        indirect_effect=effect.reshape(shape),
        low=low,
        high=high,
        recovery=recovery.reshape(shape),
        recovery_low=recovery_low,
        recovery_high=recovery_high,
        significant=_differs_from_0(data),
        total_effect=float(total[0]),
        total_effect_low=float(intervals[2][0]),
        total_effect_high=float(intervals[2][1]),
        settings=settings | {"confidence": confidence, "resamples": resamples, "seed": seed},
        aligned=data,
    )


@quiet
def _means(weights: Array, data: Aligned) -> tuple[Array, Array, Array]:
    """Weighted means of effect and recovery, (resamples, cells), and of the total effect, (resamples,)."""
    known = np.isfinite(data.flat)
    count = weights @ known
    # The count is 0 for a role that no drawn sample has.
    effect = weights @ np.where(known, data.flat, 0.0) / count
    total = weights @ np.where(known, data.total[:, None], 0.0) / count
    return effect, effect / total, weights @ data.total / weights.sum(1)


@quiet
def _interval(drawn: Array, confidence: float) -> Array:
    """Both ends of a percentile interval, (2, ...), from resampled values, (resamples, ...)."""
    ends = np.full((2, *drawn.shape[1:]), np.nan)
    known = np.isfinite(drawn).any(axis=0)
    ends[:, known] = np.nanpercentile(drawn[:, known], [50 - 50 * confidence, 50 + 50 * confidence], axis=0)
    return ends


def _resamples(data: Aligned, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each sample is drawn along with its picture, (resamples, samples), some resamples at a time."""
    generator = np.random.default_rng(seed)
    count = int(data.pictures.max()) + 1
    at_once = max(1, HELD // max(len(data.total), data.flat.shape[1]))
    for start in range(0, resamples, at_once):
        drawn = [generator.integers(0, count, count) for _ in range(min(at_once, resamples - start))]
        yield np.stack([np.bincount(draw, minlength=count)[data.pictures] for draw in drawn]).astype(np.float64)


def _present(data: Aligned) -> NDArray[np.int64]:
    """Number of samples that have each role, (roles,)."""
    return np.asarray(np.isfinite(data.effects[:, 0]).sum(axis=0), dtype=np.int64)


@quiet
def _differs_from_0(data: Aligned) -> NDArray[np.bool_]:
    mean = np.nansum(data.flat, axis=0) / np.isfinite(data.flat).sum(axis=0)  # NaN if there are none, without a warning
    parts, pictures = _parts(data.flat, data.pictures)
    p = p_values(np.abs(mean), (parts**2).sum(axis=0), pictures - 1)
    return np.asarray(false_discovery(p, 0.05) & (np.abs(mean) > ROUNDING)).reshape(data.effects.shape[1:])


@quiet
def standard_error(data: Aligned, values: Array) -> Array:
    """Standard error of means over samples, (layers, roles), robust to several questions about one picture.

    Args:
        data: the samples.
        values: their values, (samples, layers, roles); NaN where a sample has none.

    Returns:
        (layers, roles); NaN for a single picture.
    """
    parts, _ = _parts(values.reshape(len(values), -1), data.pictures)
    return np.asarray(np.sqrt((parts**2).sum(axis=0)).reshape(values.shape[1:]))


@quiet
def _parts(values: Array, pictures: NDArray[np.int64]) -> tuple[Array, Array]:
    """Each picture's part of the mean's deviation, (pictures, columns), and the pictures per column, (columns,).

    `values`: (samples, columns), NaN where a sample has none. The squares sum to the mean's squared standard error.
    """
    known = np.isfinite(values)
    number = known.sum(axis=0)
    deviations = np.where(known, values - np.nansum(values, axis=0) / number, 0.0) / number
    parts, has = (np.zeros((int(pictures.max()) + 1, values.shape[1])) for _ in range(2))
    np.add.at(parts, pictures, deviations)
    np.add.at(has, pictures, known)
    count = (has > 0).sum(axis=0)
    return parts * np.sqrt(count / (count - 1)), count.astype(np.float64)


# --- differences -----------------------------------------------------------------------------------------------------


@quiet
def compare(
    data: Aligned,
    of: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    groups: tuple[str, str],
    rate: float,
    confidence: float,
    resamples: int,
    seed: int,
    settings: dict[str, Any],
) -> Comparison:
    """Differences between two groups, with tests and bootstrap intervals.

    Args:
        data: the samples of both groups.
        of: for each group, which samples belong to it, (samples,) bool.
        groups: the groups' names.
        rate: the false-discovery rate.
        confidence: coverage of the intervals, between 0 and 1.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
        settings: what is compared.
    """
    shape, parts = data.effects.shape[1:], [np.where(which[:, None, None], data.effects, np.nan) for which in of]
    sides = [Aligned(data.roles, part, data.total, data.pictures) for part in parts]
    one, other = (_means(np.ones((1, len(data.total))), side)[0] for side in sides)
    drawn = [
        _means(weights, sides[0])[0] - _means(weights, sides[1])[0] for weights in _resamples(data, resamples, seed)
    ]
    low, high = _interval(np.concatenate(drawn), confidence)
    p = welch_test(sides[0].flat, sides[1].flat, data.pictures).reshape(shape)
    difference = (one - other).reshape(shape)
    return Comparison(
        roles=data.roles,
        groups=groups,
        samples=np.stack([_present(side) for side in sides]),
        difference=difference,
        low=np.where(np.isnan(p), np.nan, low.reshape(shape)),
        high=np.where(np.isnan(p), np.nan, high.reshape(shape)),
        p=p,
        significant=false_discovery(p, rate),
        rate=rate,
        settings=settings | {"confidence": confidence, "resamples": resamples, "seed": seed},
    )


@quiet
def welch_test(first: Array, second: Array, pictures: NDArray[np.int64]) -> Array:
    """Two-sided p values of the hypothesis that two groups have the same mean, one per column.

    Args:
        first: values of one group, (samples, columns), NaN where unknown or of the other group.
        second: values of the other group, (samples, columns).
        pictures: number of each sample's picture, (samples,); a picture may be in both groups.

    Returns:
        (columns,); NaN where a group has fewer than two pictures.
    """
    (ours, count), (theirs, other) = (_parts(values, pictures) for values in (first, second))
    errors = [(parts**2).sum(axis=0) for parts in (ours, theirs)]
    means = [np.nansum(values, axis=0) / np.isfinite(values).sum(axis=0) for values in (first, second)]
    degrees = sum(errors) ** 2 / (errors[0] ** 2 / (count - 1) + errors[1] ** 2 / (other - 1))
    fewest = np.minimum(count, other) - 1
    degrees = np.where(np.isnan(degrees), fewest, degrees)  # no spread at all
    return p_values(np.abs(means[0] - means[1]), ((ours - theirs) ** 2).sum(axis=0), np.where(fewest < 1, 0, degrees))
