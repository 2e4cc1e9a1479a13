"""Averages over samples, with intervals, and differences between groups of them.

For: `DatasetTrace.mean` and `compare`: which states carry the answer on average, how sure that is, and where kinds of
questions differ.
Cost: a bootstrap is one product of (resamples, samples) with (samples, cells); a permutation test three.
Ends: at arrays and frozen results; nothing here reads a file or runs a model.

Sources: percentile bootstrap, Efron & Tibshirani 1993, chapter 13; permutation of Welch's studentized difference, which
holds where the groups' spreads differ, Chung & Romano 2013 (Annals of Statistics 41); false-discovery rate, Benjamini &
Hochberg 1995. Averages of indirect effects as in Meng et al. 2022 (arXiv 2202.05262), section 2.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.metrics import ROUNDING, false_discovery, t_test

if TYPE_CHECKING:
    import pandas as pd

Array: TypeAlias = NDArray[np.float64]
#: From the tokens of a sample to a role for each; None leaves it out.
Roles: TypeAlias = Callable[[tuple[str, ...]], Sequence[str | None]]

ALIGNMENTS = ("exact", "ends")
#: Positions that keep their place at either end where the samples are long enough.
ENDS = 3
#: The role of all between the ends.
MIDDLE = "…"
#: Numbers of a matrix of resamples that is held at once.
HELD = 2**24


@dataclass(frozen=True, eq=False)
class Aligned:
    """Effects of many samples on common axes.

    Attributes:
        roles: what the columns stand for.
        effects: indirect effect of each sample, mean over its positions of a role, (samples, layers, roles); NaN where
            a sample has none.
        total: total effect of each sample, (samples,).
    """

    roles: tuple[str, ...]
    effects: Array = field(repr=False)
    total: Array = field(repr=False)

    @property
    def flat(self) -> Array:
        """(samples, layers x roles)."""
        return self.effects.reshape(len(self.effects), -1)


@dataclass(frozen=True, eq=False)
class MeanTrace:
    """A grid averaged over samples, with bootstrap intervals: layers down, roles of tokens across.

    Each interval is a cell's own: of 100 cells, some five lie outside theirs at 95 %.

    Attributes:
        roles: what the columns stand for.
        samples: how many samples have a token of each role, (roles,).
        indirect_effect: mean over samples, (layers, roles).
        low: lower end of its interval, (layers, roles); NaN where a single sample has the role.
        high: upper end.
        recovery: mean indirect effect / mean total effect of the samples that have the role, (layers, roles).
        recovery_low: lower end of its interval.
        recovery_high: upper end.
        significant: cells whose mean differs from 0 (t tests over samples, false-discovery rate over the grid 5 %).
        total_effect: mean over samples.
        total_effect_low: lower end of its interval.
        total_effect_high: upper end.
        settings: what was averaged and how, as plain JSON.
        aligned: the samples' effects that it is made of.
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
        """One row a cell: block, site, layer, role, samples, effect and recovery with their intervals, significant."""
        names = ("indirect_effect", "low", "high", "recovery", "recovery_low", "recovery_high", "significant")
        return _frame(self, names, samples=np.tile(self.samples, len(self.indirect_effect)))

    def plot(self, ax: Any = None) -> Any:
        """Recovery in the paper's layout, tokens down and layers across; a dot where the effect may be 0.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        from blip_trace_widget import plots

        count = len(self.aligned.total)
        title = f"{_title(self.settings)}, mean of {count}"
        return plots.role_map(self.recovery, "recovery", title, self.roles, ~self.significant, ax)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The difference of two groups' average indirect effects.

    Attributes:
        roles: what the columns stand for.
        groups: their names.
        samples: how many samples of each group have a token of each role, (2, roles).
        difference: mean of the first group minus mean of the second, (layers, roles); NaN where one has no such role.
        low: lower end of its bootstrap interval, (layers, roles).
        high: upper end.
        p: p value of each cell (permutation test of Welch's statistic), (layers, roles).
        significant: cells that differ, the false-discovery rate over the grid held at `rate`.
        rate: that rate.
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
        """One row a cell: block, site, layer, role, difference with its interval, p, significant."""
        return _frame(self, ("difference", "low", "high", "p", "significant"))

    def plot(self, ax: Any = None) -> Any:
        """The difference, tokens down and layers across; a dot where the groups may be alike.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        from blip_trace_widget import plots

        label, title = "difference of indirect effects", f"{_title(self.settings)}, {' − '.join(self.groups)}"
        return plots.role_map(self.difference, label, title, self.roles, ~self.significant, ax)


def _title(settings: dict[str, Any]) -> str:
    return f"{settings['block']}: {settings['site']}".replace("_", " ")


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


# --- common axes -----------------------------------------------------------------------------------------------------


def align_tokens(tokens: Sequence[tuple[str, ...]], align: str | Roles) -> tuple[tuple[str, ...], list[list[int]]]:
    """Roles for the tokens of many samples.

    Args:
        tokens: of each sample.
        align: ``"exact"``: samples of one length, a role a position; ``"ends"``: up to three positions from either end
            keep their place, as many as the shortest sample has, and all between are one role; or a callable from a
            sample's tokens to a role for each, None to leave it out.

    Returns:
        the roles' names, and for each sample the role of each position, -1 for none.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if callable(align):
        return _own_roles(tokens, align)
    if align not in ALIGNMENTS:
        given = repr(align) if isinstance(align, str) else type(align).__name__
        raise (ValueError if isinstance(align, str) else TypeError)(
            f"align: expected one of {list(ALIGNMENTS)} or a callable, got {given}"
        )
    lengths = Counter(len(each) for each in tokens)
    shortest = min(lengths)
    if align == "exact":
        if len(lengths) > 1:
            raise ValueError(
                "align: 'exact' needs samples of one length, these have (length: samples) "
                f"{dict(sorted(lengths.items()))}: take those of one by select(tokens=...), or align='ends'"
            )
        start, end = shortest, 0
    else:
        start, end = min(ENDS, (shortest + 1) // 2), min(ENDS, shortest // 2)
    middle = [] if max(lengths) == start + end else [MIDDLE]
    names = [_name(at, tokens) for at in range(start)] + middle + [_name(at, tokens) for at in range(-end, 0)]
    numbers = [
        [*range(start), *[start] * (len(each) - start - end), *range(len(names) - end, len(names))] for each in tokens
    ]
    return _told_apart(names), numbers


def _name(at: int, tokens: Sequence[tuple[str, ...]]) -> str:
    """The token that all samples have there, or the position, counted from the end where negative."""
    there = {each[at] for each in tokens}
    return there.pop() if len(there) == 1 else str(at).replace("-", "−")


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} ({at})" for at, name in enumerate(names))


def _own_roles(tokens: Sequence[tuple[str, ...]], align: Roles) -> tuple[tuple[str, ...], list[list[int]]]:
    index: dict[str, int] = {}
    numbers = []
    for each in tokens:
        roles = align(each)
        if isinstance(roles, str) or not isinstance(roles, Sequence) or len(roles) != len(each):
            raise ValueError(f"align: expected a role (or None) for each of the tokens {list(each)}, got {roles!r}")
        if not all(role is None or isinstance(role, str) for role in roles):
            raise TypeError(f"align: a role is a text or None, got {list(roles)!r}")
        numbers.append([-1 if role is None else index.setdefault(role, len(index)) for role in roles])
    if not index:
        raise ValueError("align: no token of any sample has a role")
    return tuple(index), numbers


def aligned(tokens: Sequence[tuple[str, ...]], effects: Sequence[Array], total: Array, align: str | Roles) -> Aligned:
    """Effects of samples, (layers, positions) each, on common axes; see `align_tokens`."""
    roles, numbers = align_tokens(tokens, align)
    made = np.full((len(effects), effects[0].shape[0], len(roles)), np.nan)
    for sample, (effect, places) in enumerate(zip(effects, numbers, strict=True)):
        of = np.asarray(places)
        for role in set(places) - {-1}:
            made[sample, :, role] = effect[:, of == role].mean(axis=1)
    return Aligned(roles, made, np.asarray(total, dtype=np.float64))


# --- averages --------------------------------------------------------------------------------------------------------


def mean(data: Aligned, confidence: float, resamples: int, seed: int, settings: dict[str, Any]) -> MeanTrace:
    """Means over samples with percentile bootstrap intervals."""
    effect, recovery, total = _means(np.ones((1, len(data.total))), data)
    drawn = [_means(weights, data) for weights in _resamples(len(data.total), resamples, seed)]
    intervals = [_interval(np.concatenate(each), confidence) for each in zip(*drawn, strict=True)]
    shape = data.effects.shape[1:]
    # Of one sample a resample is always the same: that is no interval.
    known = _present(data) > 1
    (low, high), (recovery_low, recovery_high) = (
        [np.where(known, end.reshape(shape), np.nan) for end in each] for each in intervals[:2]
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


def _means(weights: Array, data: Aligned) -> tuple[Array, Array, Array]:
    """Weighted means of effect and recovery, (resamples, cells), and of the total effect, (resamples,)."""
    there = np.isfinite(data.flat)
    count = weights @ there
    with np.errstate(divide="ignore", invalid="ignore"):  # a role that no drawn sample has
        effect = weights @ np.where(there, data.flat, 0.0) / count
        total = weights @ np.where(there, data.total[:, None], 0.0) / count
        return effect, effect / total, weights @ data.total / weights.sum(1)


def _interval(drawn: Array, confidence: float) -> Array:
    """Both ends of a percentile interval, (2, ...), from resampled values, (resamples, ...)."""
    ends = np.full((2, *drawn.shape[1:]), np.nan)
    known = np.isfinite(drawn).any(axis=0)
    ends[:, known] = np.nanpercentile(drawn[:, known], [50 - 50 * confidence, 50 + 50 * confidence], axis=0)
    return ends


def _resamples(samples: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each sample is drawn, (resamples, samples), some resamples at a time."""
    generator = np.random.default_rng(seed)
    some = max(1, HELD // samples)
    for start in range(0, resamples, some):
        count = min(some, resamples - start)
        yield np.stack(
            [np.bincount(generator.integers(0, samples, samples), minlength=samples) for _ in range(count)]
        ).astype(np.float64)


def _present(data: Aligned) -> NDArray[np.int64]:
    """How many samples have each role, (roles,)."""
    return np.asarray(np.isfinite(data.effects[:, 0]).sum(axis=0), dtype=np.int64)


def _differs_from_0(data: Aligned) -> NDArray[np.bool_]:
    p = np.full(data.effects.shape[1:], np.nan)
    for role in range(len(data.roles)):
        of = data.effects[:, :, role]
        p[:, role] = t_test(of[np.isfinite(of[:, 0])])
    beyond = np.abs(np.nanmean(data.effects, axis=0)) > ROUNDING
    return np.asarray(false_discovery(p, 0.05) & beyond)


# --- differences -----------------------------------------------------------------------------------------------------


def compare(
    first: Aligned,
    second: Aligned,
    groups: tuple[str, str],
    rate: float,
    confidence: float,
    resamples: int,
    seed: int,
    settings: dict[str, Any],
) -> Comparison:
    """Differences between two groups on the same axes, with permutation tests and bootstrap intervals."""
    shape = first.effects.shape[1:]
    (one, *_), (other, *_) = (_means(np.ones((1, len(data.total))), data) for data in (first, second))
    drawn = [
        _means(weights, first)[0] - _means(others, second)[0]
        for weights, others in zip(
            _resamples(len(first.total), resamples, seed),
            _resamples(len(second.total), resamples, seed + 1),
            strict=True,
        )
    ]
    low, high = _interval(np.concatenate(drawn), confidence)
    p = permutation_test(first.flat, second.flat, resamples, seed).reshape(shape)
    difference = (one - other).reshape(shape)
    return Comparison(
        roles=first.roles,
        groups=groups,
        samples=np.stack([_present(first), _present(second)]),
        difference=difference,
        low=low.reshape(shape),
        high=high.reshape(shape),
        p=p,
        significant=np.asarray(false_discovery(p, rate) & (np.abs(difference) > ROUNDING)),
        rate=rate,
        settings=settings | {"confidence": confidence, "resamples": resamples, "seed": seed},
    )


def permutation_test(first: Array, second: Array, permutations: int, seed: int) -> Array:
    """Two-sided p values of the hypothesis that two groups have the same mean, a column each.

    Args:
        first: (samples, columns), NaN where unknown.
        second: the other group, (other samples, columns).
        permutations: how many ways to deal the samples anew.
        seed: of the random numbers.

    Returns:
        (columns,); NaN where a group has fewer than two samples.
    """
    both = np.concatenate([first, second])
    there = np.isfinite(both)
    both = np.where(there, both - np.nanmean(both, axis=0), 0.0)
    moments = np.stack([there.astype(np.float64), both, both**2])
    total = moments.sum(axis=1)

    def welch(labels: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            ours = np.einsum("ps,msc->mpc", labels, moments, optimize=True)
            means, errors = [], []
            for count, added, squared in (ours, total[:, None] - ours):
                average = added / count
                means.append(average)
                errors.append((squared / count - average**2).clip(0) / np.where(count > 1, count - 1, np.nan))
            gap = np.abs(means[0] - means[1])
            return np.asarray(np.where(gap <= ROUNDING**2, 0.0, gap / np.sqrt(sum(errors))))

    labels = np.arange(len(both)) < len(first)
    observed = welch(labels[None].astype(np.float64))[0]
    generator = np.random.default_rng(seed)
    reached = np.zeros(observed.shape)
    some = max(1, HELD // len(both))
    for start in range(0, permutations, some):
        dealt = np.stack([generator.permutation(labels) for _ in range(min(some, permutations - start))])
        # A statistic that equals the observed one but for rounding has reached it.
        reached += (welch(dealt.astype(np.float64)) >= observed * (1 - 1e-9)).sum(axis=0)
    return np.where(np.isfinite(observed), (1 + reached) / (1 + permutations), np.nan)
