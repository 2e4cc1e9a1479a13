"""The difference of two grids: ``trace - other``.

For: asking whether and where a site, a head, a noise factor or another answer makes a difference, with standard errors.
Cost: statistics on small arrays.
Ends: at `Difference`; `blip_trace_widget.results.statistics` has the tests.

Samples are paired if both grids' samples saw the same noise: it is drawn from the seed alone and shared by every
factor, kind, region, state and question, so that sample s of one and sample s of the other are correlated. Otherwise
the two are independent, and the test is Welch's (Welch 1947).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named
from blip_trace_widget.results import summaries
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.significance import Contrast, contrast, rounding
from blip_trace_widget.results.statistics import Effects, TotalEffect, recovery_samples
from blip_trace_widget.results.summaries import Summarised, region_size
from blip_trace_widget.results.tables import VALUES, GridValue, asked_columns
from blip_trace_widget.states import site_label

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels, Map

    Array = NDArray[np.float64]

#: Settings that name the two sides of a difference if they differ.
_NAMES = (
    "model",
    "image",
    "question",
    "answer",
    "foil",
    "block",
    "site",
    "head",
    "position",
    "window",
    "direction",
    "hold",
    "receivers",
    "through",
)


class Comparable(Protocol):
    """A grid that another of its kind can be subtracted from: `blip_trace_widget.results.effect_grid.EffectGrid`."""

    _axes: ClassVar[tuple[str, str]]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it was computed with."""

    @property
    def clean(self) -> float:
        """Score of the clean run."""

    @property
    def corrupted(self) -> Array:
        """Scores of the corrupted runs."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def scores(self) -> Array:
        """Mean score of the patched runs."""

    @property
    def indirect_effect(self) -> Array:
        """See `EffectGrid`."""

    @property
    def recovery(self) -> Array:
        """See `EffectGrid`."""

    @property
    def total_effect(self) -> float:
        """See `EffectGrid`."""

    @property
    def undefined_because(self) -> str:
        """Why there is no recovery, or ""."""

    @property
    def _total(self) -> TotalEffect: ...
    @property
    def _effects(self) -> Effects: ...
    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell."""

    def _labels(self) -> tuple[Labels, Labels]: ...
    def _title(self) -> str: ...
    def _name(self, row: int, column: int) -> str: ...
    def _laid_out(self, drawn: Map) -> Map: ...


@dataclass(frozen=True, eq=False, repr=False)
class Difference(Summarised):
    """One grid minus another, cell by cell.

    Attributes named as those of a trace are their differences: ``indirect_effect``, ``recovery``, ``scores``, each with
    a standard error, a margin (half the width of a 95 % interval by Student's t) and the cells in which it differs from
    0, differences within float32 rounding excluded. If the samples share their noise, see `paired`, that is the rule of
    `EffectGrid.significant` on their differences: under the null that the two grids are alike, a sample's difference is
    as likely up as down. Else it is Welch's t test, the false-discovery rate over the grid controlled at 5 %. Nothing
    is significant from a single sample.

    Attributes:
        first: the grid.
        second: the grid that is subtracted.
    """

    first: Comparable
    second: Comparable

    @cached_property
    def paired(self) -> bool:
        """Whether samples with the same number shared their noise: same seed, number of samples and model.

        Grids with different numbers of samples count as independent even with the same seed: since they do share some
        noise, standard errors are then too large rather than too small if the effects are positively correlated.
        """
        one, other = (grid.settings["corruption"] for grid in (self.first, self.second))
        if self.first.corrupted.size != self.second.corrupted.size or one["type"] != other["type"]:
            return False
        if one["type"] != "GaussianNoise":
            return bool(one == other)
        same = all(one.get(name) == other.get(name) for name in ("seed", "samples"))
        return same and self._same("model")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.first.shape

    @property
    def scores(self) -> Array:
        """Difference of the mean scores, (rows, columns)."""
        return self._score.value

    @property
    def score_stderr(self) -> Array:
        """Standard error of `scores`, (rows, columns); NaN for a single sample."""
        return self._score.stderr

    @property
    def score_margin(self) -> Array:
        """Half the width of its 95 % interval."""
        return self._score.margin

    @property
    def score_significant(self) -> NDArray[np.bool_]:
        """Cells whose scores differ, (rows, columns)."""
        return self._score.significant

    @property
    def indirect_effect(self) -> Array:
        """Difference of the indirect effects, (rows, columns)."""
        return self._indirect_effect.value

    @property
    def stderr(self) -> Array:
        """Standard error of `indirect_effect`, (rows, columns); NaN for a single sample."""
        return self._indirect_effect.stderr

    @property
    def margin(self) -> Array:
        """Half the width of its 95 % interval."""
        return self._indirect_effect.margin

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Cells whose indirect effects differ, (rows, columns)."""
        return self._indirect_effect.significant

    @property
    def recovery(self) -> Array:
        """Difference of the recoveries, (rows, columns); all NaN if `undefined_because` gives a reason."""
        return self._recovery.value

    @property
    def recovery_stderr(self) -> Array:
        """Standard error of `recovery` (delta method), (rows, columns)."""
        return self._recovery.stderr

    @property
    def recovery_margin(self) -> Array:
        """Half the width of its 95 % interval."""
        return self._recovery.margin

    @property
    def recovery_significant(self) -> NDArray[np.bool_]:
        """Cells whose recoveries differ, (rows, columns); unlike `significant` if the total effects differ too."""
        return self._recovery.significant

    @property
    def total_effect(self) -> float:
        """Difference of the total effects."""
        return self.first.total_effect - self.second.total_effect

    @property
    def total_effect_stderr(self) -> float:
        """Standard error of `total_effect`; NaN for a single sample."""
        return float(self._total_effect.stderr)

    @property
    def undefined_because(self) -> str:
        """Why there is no difference of recoveries, or ""."""
        reasons = {"first": self.first.undefined_because, "second": self.second.undefined_because}
        return "; ".join(f"of the {name} {reason}" for name, reason in reasons.items() if reason)

    @cached_property
    def names(self) -> tuple[str, str]:
        """The settings in which the two sides differ, in words, one text per side."""
        sides: tuple[list[str], list[str]] = [], []
        settings = self.first.settings, self.second.settings
        for key in _NAMES:
            one, other = (each.get(key) for each in settings)
            if one != other:
                for side, value in zip(sides, (one, other), strict=True):
                    side.append(_in_words(key, value))
        for side, name in zip(sides, corruption_names([each["corruption"] for each in settings]), strict=True):
            side.extend([name] if name else [])
        one, other = (", ".join(side) for side in sides)
        return one or "the same", other or "the same"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell: axes, differences, standard errors, the settings, and ``other_…`` for those that differ."""
        table = self.first.to_dataframe()
        numbers = {
            "score": self.scores,
            "score_stderr": self.score_stderr,
            "indirect_effect": self.indirect_effect,
            "stderr": self.stderr,
            "recovery": self.recovery,
            "recovery_stderr": self.recovery_stderr,
            "low": self.indirect_effect - self.margin,
            "high": self.indirect_effect + self.margin,
            "recovery_low": self.recovery - self.recovery_margin,
            "recovery_high": self.recovery + self.recovery_margin,
            "significant": self.significant,
            "recovery_significant": self.recovery_significant,
        }
        table = table.drop(columns=["clean", "corrupted"]).assign(
            **{name: value.ravel() for name, value in numbers.items()}, paired=self.paired
        )
        mine, theirs = (asked_columns(grid.settings, len(table)) for grid in (self.first, self.second))
        differ = [name for name in mine if not mine[name][:1].equals(theirs[name][:1])]
        return table.assign(**{f"other_{name}": theirs[name] for name in differ})

    def plot(
        self,
        ax: Any = None,
        value: GridValue = "recovery",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
    ) -> Any:
        """Draw the difference, as `Trace.plot`: purple where the first is larger, orange where the second is.

        Args:
            ax: see `Trace.plot`.
            value: the difference of ``"recovery"`` (if that is undefined, of the indirect effect), of
                ``"indirect_effect"`` or of ``"score"``.
            limit: see `Trace.plot`.
            cmap: see `Trace.plot`.
            marks: whether to put a dot where the two are not significantly different.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        value = named("value", value, VALUES)
        shown = "indirect_effect" if value == "recovery" and self.undefined_because else value
        compared: Contrast = getattr(self, f"_{shown}")
        rows, columns = self.first._labels()
        drawn = plots.Map(
            values=compared.value,
            label=f"difference of {shown.replace('_', ' ')}",
            title=f"{self.first._title()}\n{' − '.join(self.names)}",
            rows=rows,
            columns=columns,
            dots=~compared.significant & np.isfinite(compared.stderr),
        )
        return plots.draw(self.first._laid_out(drawn), ax, limit, cmap, marks=marks)

    # --- helpers -----------------------------------------------------------------------------------------------------

    @cached_property
    def _total_effect(self) -> Contrast:
        one, other = (grid._total.samples for grid in (self.first, self.second))
        return contrast(one, other, paired=self.paired)

    @cached_property
    def _indirect_effect(self) -> Contrast:
        one, other = (grid._effects.samples for grid in (self.first, self.second))
        return self._compared(one, other, self.first.indirect_effect - self.second.indirect_effect, 1.0)

    @cached_property
    def _recovery(self) -> Contrast:
        one, other = (recovery_samples(grid._total, grid._effects.samples) for grid in (self.first, self.second))
        least = min(abs(grid.total_effect) for grid in (self.first, self.second)) or np.inf
        return self._compared(one, other, self.first.recovery - self.second.recovery, least)

    @cached_property
    def _score(self) -> Contrast:
        one, other = (_scores(grid) for grid in (self.first, self.second))
        return self._compared(one, other, self.first.scores - self.second.scores, 1.0)

    @quiet
    def _compared(self, one: Array, other: Array, value: Array, unit: float) -> Contrast:
        """The difference of two values, given their samples; `unit` is how much score one unit of the value is."""
        least = rounding(max(abs(self.first.clean), abs(self.second.clean))) / unit
        return replace(contrast(one, other, paired=self.paired, least=least), value=value)

    def _same(self, name: str) -> bool:
        return bool(self.first.settings.get(name) == self.second.settings.get(name))

    def _facts(self) -> dict[str, str]:
        rows, columns = self.shape
        values = self.indirect_effect if self.undefined_because else self.recovery
        margin = self.margin if self.undefined_because else self.recovery_margin
        which = self.significant if self.undefined_because else self.recovery_significant
        top = summaries.best(np.abs(values), 1)
        called = "indirect effect" if self.undefined_because else "recovery"
        return {
            "grid": self.first._title(),
            "of": " − ".join(self.names),
            "shape": f"{rows} {self.first._axes[0]}s × {columns} {self.first._axes[1]}s",
            "samples": "paired" if self.paired else "independent",
            "total effect": summaries.number(self.total_effect, float(self._total_effect.margin)),
            "no recovery": self.undefined_because,
            "differ": f"{int(which.sum())} of {rows * columns} cells",
            "largest": "".join(
                f"{called} {summaries.number(values[at], margin[at])} at {self.first._name(*at)}" for at in top
            ),
        }


def difference(first: Comparable, second: Any) -> Difference:
    """One grid minus another.

    Raises:
        TypeError: if the other is not a grid of the same kind.
        ValueError: if shape, tokens or metric differ.
    """
    kind = type(first).__name__
    if type(second) is not type(first):
        raise TypeError(f"{kind} - other: expected another {kind}, got {type(second).__name__}")
    if first.shape != second.shape:
        raise ValueError(f"{kind} - other: expected the same shape {first.shape}, got {second.shape}")
    for name in ("tokens", "patch"):
        one, other = getattr(first, name, None), getattr(second, name, None)
        if one != other:
            raise ValueError(f"{kind} - other: expected the same {name} {one}, got {other}")
    one, other = first.settings["metric"], second.settings["metric"]
    if one != other:
        raise ValueError(f"{kind} - other: expected the same metric {one!r}, got {other!r}")
    return Difference(first, second)


@quiet
def _scores(grid: Comparable) -> Array:
    """Score of each sample, (samples, rows, columns), from its indirect effect."""
    indirect = grid._effects.samples
    if grid.settings["direction"] == "disrupt":
        return grid.clean - indirect
    return np.asarray(grid.corrupted[:, None, None] + indirect)


def corruption_names(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets corruptions apart: the kind, where there are several, and the settings that differ within one kind."""
    kinds, names = {each["type"] for each in told}, []
    for each in told:
        like = [other for other in told if other["type"] == each["type"]]
        own = {"factor": "scale"} if each["type"] == "Scale" else {}
        apart = [
            _in_words(own.get(key, key), value)
            for key, value in each.items()
            if any(other.get(key) != value for other in like)
        ]
        names.append(", ".join(([each["type"]] if len(kinds) > 1 else []) + apart))
    return names


def _in_words(key: str, value: Any) -> str:
    """A setting and its value, as figures write them."""
    if key == "region":
        return "whole picture" if value is None else f"region {region_size(value)}"
    if key == "factor":
        return "no ν" if value is None else f"ν {value:g}"
    if key == "scale":
        return f"× {value:g}"
    if key in ("image", "sha256"):
        return "no picture" if value is None else f"picture {str(value)[:6]}"
    if key == "head":
        return "all heads together" if value is None else f"head {value}"
    if key == "site":
        return site_label(value)
    if key == "hold":
        return "nothing held" if value is None else f"held {summaries.held(value)}"
    if key == "receivers":
        return "not along a path" if value is None else f"into {summaries.path(value, ())['into']}"
    if key == "through":
        return f"through {summaries.path((), value or ())['through'] or 'nothing'}"
    return f"no {key}" if value is None else f"{key} {str(value).replace('_', ' ')}"
