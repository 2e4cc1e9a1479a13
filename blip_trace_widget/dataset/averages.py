"""Averages over samples, with intervals, and differences between groups of them.

For: `DatasetTrace.mean` and `compare`: which states carry the answer on average, how sure that is, and where kinds of
questions differ.
Cost: a bootstrap is some products of (resamples, pictures) with (pictures, cells).
Ends: at arrays and frozen results; nothing here reads a file or runs a model. Intervals are
`blip_trace_widget.results.intervals`', tests `blip_trace_widget.results.significance`'s.

Questions about one picture are no independent samples: pictures are. A mean over questions is a ratio of sums over
pictures (of effects, and of questions), the recovery one of effects and total effects. So the bootstrap draws pictures,
errors are unbiased where pictures have unequal numbers of questions, and signs are flipped of all of a picture's
questions together. Where every picture has one question, that is the usual thing. Few pictures, or one that has most
questions, say little: the intervals are as wide as that makes them, nothing may be marked, and `MeanTrace.warning`
says so.

Sources: bootstrap of clusters, Davison & Hinkley 1997, section 3.8; Welch's t test with cluster-robust errors: Cameron
& Miller 2015 (Journal of Human Resources 50); false-discovery rate, Benjamini & Hochberg 1995. Averages of indirect
effects as in Meng et al. 2022 (arXiv 2202.05262), section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.dataset.alignment import Aligned, Array
from blip_trace_widget.results import summaries
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.intervals import cluster_error, cluster_margin, cluster_parts, studentized
from blip_trace_widget.results.numerics import false_discovery, p_values, quiet
from blip_trace_widget.results.significance import LEAST, differs
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import held_columns
from blip_trace_widget.states import grid_title

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Map


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
        recovery_low: lower end of its interval.
        recovery_high: upper end.
        significant: cells whose mean differs from 0, by the rule of `EffectGrid.significant`: signs of whole pictures
            are flipped, under the null that a picture's effect is as likely up as down.
        total_effect: mean over samples.
        total_effect_low: lower end of its interval.
        total_effect_high: upper end of its interval.
        settings: what was averaged and how, as plain JSON.
        aligned: the samples' effects that it is made of.
        warning: what there is to say where pictures are too few, or too unequal, for much to be known, else "".
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
    warning: str = ""

    _columns: ClassVar[str] = "roles"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell: the grid, layer, role, samples, effect and recovery with intervals, significant."""
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
        return plots.draw(self._drawn(name), ax, limit, cmap, marks=marks)

    def _title(self) -> str:
        return _title(self.settings)

    def _drawn(self, value: str) -> Map:
        title = f"{self._title()}, mean of {len(self.aligned.total)}"
        return _map(getattr(self, value), value.replace("_", " "), title, self.roles, ~self.significant)

    def column_name(self, at: int) -> str:
        """A column, in a sentence."""
        return f"“{self.roles[at]}”"

    def _facts(self) -> dict[str, str]:
        layers, count = len(self.indirect_effect), len(self.aligned.total)
        best = summaries.best(self.recovery, 1)
        return {
            "grid": self._title(),
            "shape": f"{layers} layers × {len(self.roles)} {self._columns}",
            "mean of": f"{count} samples"
            + ("" if self.settings.get("group") is None else f", {self.settings['group']}"),
            "total effect": _with_interval(self.total_effect, self.total_effect_low, self.total_effect_high),
            "warning": self.warning,
            "best": "".join(
                f"recovery {_with_interval(self.recovery[at], self.recovery_low[at], self.recovery_high[at])} "
                f"at layer {at[0]} {self.column_name(at[1])}"
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
        high: upper end.
        p: p value of each cell, (layers, roles): Welch's t test over pictures, paired where both groups have questions
            about the same ones; NaN where a group has fewer than two pictures of it.
        significant: cells that differ, the false-discovery rate over the grid held at `rate`.
        rate: that rate.
        settings: what was compared and how, as plain JSON.
        warning: see `MeanTrace`; of the group of which less is known.
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
    warning: str = ""

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
            "warning": self.warning,
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
    spec = GridSpec.of(settings)
    return (
        grid_title(spec.block, spec.site)
        + ("" if spec.head is None else f", head {spec.head}")
        + ("" if spec.window == 1 else f", window {spec.window}")
        + ("" if spec.direction == "restore" else f", {spec.direction}")
        + summaries.titled(settings)
    )


def _frame(result: Any, names: Sequence[str], **more: Any) -> pd.DataFrame:
    import pandas as pd

    first, spec = getattr(result, names[0]), GridSpec.of(result.settings)
    layer, role = (axis.ravel() for axis in np.indices(first.shape))
    return pd.DataFrame(
        {
            **{name: getattr(spec, name) for name in ("block", "site", "head", "window", "direction")},
            "metric": result.settings.get("metric"),
            **held_columns(result.settings),
            "layer": layer,
            "role": [result.roles[index] for index in role],
            **more,
            **{name: getattr(result, name).ravel() for name in names},
        }
    )


# --- averages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Sums over each picture's questions, (pictures, columns); 0 where it has none.

    Attributes:
        effect: of their indirect effects.
        total: of their total effects.
        number: how many there are.
    """

    effect: Array
    total: Array
    number: Array


def sums(data: Aligned, which: NDArray[np.bool_] | None = None) -> Sums:
    """The sums of the samples that have a role; of these samples alone."""
    there = np.isfinite(data.flat) if which is None else np.isfinite(data.flat) & which[:, None]

    def summed(values: Array) -> Array:
        found = np.zeros((int(data.pictures.max()) + 1, there.shape[1]))
        np.add.at(found, data.pictures, np.where(there, values, 0.0))
        return found

    return Sums(summed(data.flat), summed(data.total[:, None]), summed(np.ones((1, 1))))


@quiet
def mean(data: Aligned, confidence: float, resamples: int, seed: int, settings: dict[str, Any]) -> MeanTrace:
    """Means over samples with intervals: symmetric bootstrap-t over pictures."""
    shape, of, level = data.effects.shape[1:], sums(data), 1 - confidence

    def interval(values: Array, weights: Array) -> tuple[Array, Array, Array]:
        middle = values.sum(axis=0) / weights.sum(axis=0)
        half = cluster_margin(values, weights, level, resamples, seed)
        return middle, middle - half, middle + half

    effect, low, high = (each.reshape(shape) for each in interval(of.effect, of.number))
    recovery, recovery_low, recovery_high = (each.reshape(shape) for each in interval(of.effect, of.total))
    size = np.bincount(data.pictures).astype(np.float64)[:, None]
    total = interval(np.bincount(data.pictures, data.total)[:, None].astype(np.float64), size)
    return MeanTrace(
        roles=data.roles,
        samples=_present(data),
        indirect_effect=effect,
        low=low,
        high=high,
        recovery=recovery,
        recovery_low=recovery_low,
        recovery_high=recovery_high,
        significant=differs(of.effect).reshape(shape),
        total_effect=float(total[0][0]),
        total_effect_low=float(total[1][0]),
        total_effect_high=float(total[2][0]),
        settings=settings | {"confidence": confidence, "resamples": resamples, "seed": seed},
        aligned=data,
        warning=warning(size),
    )


@quiet
def warning(questions: Array) -> str:
    """What there is to say of so many questions about each picture, (pictures, 1), or ""."""
    asked = questions[questions > 0]
    _, degrees = cluster_error(np.zeros((len(asked), 1)), asked[:, None])
    alike = float(degrees[0]) + 1
    if len(asked) < LEAST:
        return f"few pictures: {len(asked)}, with fewer than {LEAST} no cell can be told from 0"
    if alike < LEAST:
        return (
            f"unequal pictures: one has {asked.max():.0f} of {asked.sum():.0f} questions, so that {len(asked)} "
            f"pictures say as little as {alike:.0f} of equal weight"
        )
    return ""


def _present(data: Aligned) -> NDArray[np.int64]:
    """Number of samples that have each role, (roles,)."""
    return np.asarray(np.isfinite(data.effects[:, 0]).sum(axis=0), dtype=np.int64)


def standard_error(data: Aligned) -> tuple[Array, Array]:
    """Standard errors of mean effect and recovery, (layers, roles), over pictures; NaN for one picture."""
    of, shape = sums(data), data.effects.shape[1:]
    return tuple(cluster_error(of.effect, each)[0].reshape(shape) for each in (of.number, of.total))  # type: ignore[return-value]


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
    """Differences between two groups, with tests and intervals over pictures.

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
    shape, sides = data.effects.shape[1:], [sums(data, which) for which in of]
    one, other = (side.effect.sum(axis=0) / side.number.sum(axis=0) for side in sides)
    parts, degrees = apart(sides[0], sides[1])
    squared = (parts**2).sum(axis=0)
    p = p_values(np.abs(one - other), squared, degrees).reshape(shape)
    half = np.sqrt(squared) * studentized(
        parts, np.ones((len(parts), 1)), degrees, 1 - confidence, resamples, seed, longer=True
    )
    difference, half = (one - other).reshape(shape), np.where(np.isnan(p), np.nan, half.reshape(shape))
    sizes = [np.bincount(data.pictures, which).astype(np.float64)[:, None] for which in of]
    return Comparison(
        roles=data.roles,
        groups=groups,
        samples=np.stack([np.isfinite(data.effects[which][:, 0]).sum(axis=0) for which in of]),
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=p,
        significant=false_discovery(p, rate),
        rate=rate,
        settings=settings | {"confidence": confidence, "resamples": resamples, "seed": seed},
        warning=next(filter(None, map(warning, sizes)), ""),
    )


@quiet
def apart(first: Sums, second: Sums) -> tuple[Array, Array]:
    """What each picture adds to the deviation of a difference of means, (pictures, columns), and degrees of freedom.

    The squares add up to the squared standard error. A picture that both groups ask about adds the difference of what
    it adds to each: the two are paired there. Degrees of freedom are Welch's, where any picture is shared those of the
    group that has fewer; 0 where a group has fewer than two pictures.
    """
    (ours, error, count), (theirs, wrong, other) = (cluster_parts(side.effect, side.number) for side in (first, second))
    welch = (error**2 + wrong**2) ** 2 / (error**4 / count + wrong**4 / other)
    fewest = np.minimum(count, other)
    shared = ((first.number > 0) & (second.number > 0)).any(axis=0)
    degrees = np.where(shared | np.isnan(welch), fewest, welch)  # no spread at all
    return ours - theirs, np.where(fewest > 0, degrees, 0.0)
