"""Agreement: the same grid under several corruptions, and where they say different things.

For: whether a finding is the model's or the corruption's (Zhang & Nanda 2023, arXiv 2309.16042, find that methods of
corruption disagree).
Cost: ranks of each pair of grids.
Ends: at numbers; each grid is a `blip_trace_widget.results.trace.Trace`, and what it claims is for that to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results import summaries
from blip_trace_widget.results.differences import corruption_names
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.significance import rounding
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Summarised):
    """The same grid under several corruptions.

    Two grids disagree on a cell where one claims an effect (`Trace.significant`, with its sign) and the other says
    otherwise: claims none, or the opposite. A grid of a single sample claims nothing by itself: it disagrees only where
    its effect has not the sign that the other claims. That one grid claims what the other does not shows no difference
    between the two (for that ``first - second`` has a test); it shows which claims hang on the corruption.

    Attributes:
        traces: the grids, one a corruption.

    Raises:
        TypeError, ValueError: if they are no two grids or more that differ in their corruption alone.
    """

    traces: tuple[Trace, ...]

    def __post_init__(self) -> None:
        if len(self.traces) < 2:
            raise ValueError(f"traces: expected at least two grids, got {len(self.traces)}")
        for trace in self.traces:
            if type(trace) is not Trace:
                raise TypeError(f"traces: expected Trace, got {type(trace).__name__}")
            if differing := not_alike(self.traces[0], trace):
                raise ValueError(f"traces: expected grids that differ in their corruption alone, got other {differing}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each corruption is called: its kind where these differ, and what sets it apart from others of it.

        Equal ones are numbered.
        """
        told = [trace.settings["corruption"] for trace in self.traces]
        names = [name or each["type"] for name, each in zip(corruption_names(told), told, strict=True)]
        return tuple(
            f"{name} ({names[: at + 1].count(name)})" if names.count(name) > 1 else name
            for at, name in enumerate(names)
        )

    @cached_property
    def rank_correlation(self) -> NDArray[np.float64]:
        """Spearman's correlation of the recoveries for each pair, (corruptions, corruptions); equal ones share ranks.

        Over the cells that both have computed, but for those that are 1 by construction. NaN where a recovery is not
        defined (`Trace.undefined_because`), or one of the two is the same in all cells, or there is but one cell.
        """
        found = np.ones((len(self.traces), len(self.traces)))
        free = np.ones(self.traces[0].shape, dtype=bool)
        for cell in self.traces[0].constructed:
            free[cell] = False
        recoveries = [trace.recovery[free] for trace in self.traces]
        for one, other in combinations(range(len(self.traces)), 2):
            found[one, other] = found[other, one] = rank_correlation(recoveries[one], recoveries[other])
        for at, recovery in enumerate(recoveries):
            found[at, at] = rank_correlation(recovery, recovery)
        return found

    @cached_property
    def disagrees(self) -> NDArray[np.bool_]:
        """Cells on which each pair disagrees, (corruptions, corruptions, layers, positions); none that either lacks."""
        claims = [_claims(trace) for trace in self.traces]
        says = [_says(trace, claimed) for trace, claimed in zip(self.traces, claims, strict=True)]
        found = np.zeros((len(claims), len(claims), *self.traces[0].shape), dtype=bool)
        for one, other in combinations(range(len(claims)), 2):
            both = self.traces[one].computed & self.traces[other].computed
            apart = [(claims[a] != 0) & (says[b] != claims[a]) for a, b in ((one, other), (other, one))]
            found[one, other] = found[other, one] = both & (apart[0] | apart[1])
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """One row a corruption and cell: ``under`` (its name), all of `Trace.to_dataframe`, and ``disagrees``.

        The last says whether any other of the corruptions disagrees with this one there.
        """
        import pandas as pd

        tables = [
            trace.to_dataframe().assign(disagrees=self.disagrees[at].any(axis=0).ravel())
            for at, trace in enumerate(self.traces)
        ]
        for name, table in zip(self.names, tables, strict=True):
            table.insert(0, "under", name)
        return pd.concat(tables, ignore_index=True)

    def plot(self, axes: Sequence[Any] | None = None, limit: float | None = None) -> list[Any]:
        """Draw the grids beside each other, on one scale; cells on which one disagrees with the first are outlined.

        Args:
            axes: matplotlib axes to draw on, one a corruption.
            limit: where the colours end, to both sides of 0; default the largest value of all.

        Returns:
            matplotlib axes, one a corruption; where matplotlib is not installed, bqplot figures.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        if axes is not None and len(axes) != len(self.traces):
            raise ValueError(f"axes: expected {len(self.traces)}, one a corruption, got {len(axes)}")
        apart = self.disagrees[0].copy()
        apart[0] = apart.any(axis=0)
        limit = plots.checked_limit(limit)
        maps = [
            trace._laid_out(replace(trace._map("recovery"), title=name, outlined=_places(cells)))
            for trace, name, cells in zip(self.traces, self.names, apart, strict=True)
        ]
        limit = max(drawn.ends(limit)[1] for drawn in maps)
        chosen = plots.beside([drawn.values.shape for drawn in maps]) if axes is None else axes
        return [plots.draw(drawn, ax, limit) for drawn, ax in zip(maps, chosen, strict=True)]

    def _facts(self) -> dict[str, str]:
        pairs = list(combinations(range(len(self.traces)), 2))
        single = [name for name, trace in zip(self.names, self.traces, strict=True) if len(trace.samples) == 1]
        closed = {
            f"no recovery under {name}": trace.undefined_because
            for name, trace in zip(self.names, self.traces, strict=True)
        }
        return {
            "grid": self.traces[0]._title(),
            "under": "; ".join(self.names),
            "rank correlation": ", ".join(_written(self.rank_correlation[pair]) for pair in pairs),
            "disagree": ", ".join(str(int(self.disagrees[pair].sum())) for pair in pairs)
            + f" of {self.traces[0].samples[0].size} cells",
            **closed,
            "one sample, no error known": "; ".join(single),
        }

    def _asked(self) -> dict[str, str]:
        return {name: told for name, told in self.traces[0]._asked().items() if name != "corruption"}

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        return ["pair", "rank correlation", "cells that disagree"], [
            [
                f"{self.names[one]}; {self.names[other]}",
                _written(self.rank_correlation[one, other]),
                str(int(self.disagrees[one, other].sum())),
            ]
            for one, other in combinations(range(len(self.traces)), 2)
        ]


def not_alike(one: Trace, other: Trace) -> str:
    """The first setting beside the corruption in which two grids differ, or ""."""
    names = dict.fromkeys([*one.settings, *other.settings])
    names.pop("corruption", None)
    names.pop("verified", None)  # whether numbers were checked, and how that went, is no setting of the grid
    return next((name for name in names if one.settings.get(name) != other.settings.get(name)), "")


@quiet
def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two equally long lists; equal values share the mean of their ranks.

    Over the places where both are finite; NaN where these are fewer than two, or all equal in one of the lists.
    """
    both = np.isfinite(one) & np.isfinite(other)
    first, second = (_ranks(values[both]) for values in (one, other))
    if first.size < 2:
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which])


@quiet
def _claims(trace: Trace) -> NDArray[np.float64]:
    """The sign of the effect that a grid claims in each cell; 0 for none."""
    return np.where(trace.significant, np.sign(trace.indirect_effect), 0.0)


@quiet
def _says(trace: Trace, claimed: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a grid has to say to another's claim: its own; of a single sample the sign of its effect."""
    if len(trace.samples) > 1:
        return claimed
    effect = trace.indirect_effect
    return np.where(np.abs(effect) > rounding(trace.clean), np.sign(effect), 0.0)


def _places(cells: NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(cells)]


def _written(value: float) -> str:
    return "not defined" if np.isnan(value) else summaries.number(value)
