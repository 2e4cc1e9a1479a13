"""EffectGrid: the results of patched runs, one per cell, whatever the rows and columns are.

For: the statistics, the cells, the table and the figure that traces of states, heads and image tokens have in common.
Cost: statistics on small arrays, computed on demand.
Ends: at numbers and their description; subclasses say what rows and columns are (`blip_trace_widget.results.trace`,
`blip_trace_widget.results.maps`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief, named, whole_number
from blip_trace_widget.results import summaries
from blip_trace_widget.results.differences import Difference, difference
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.significance import differs, rounding
from blip_trace_widget.results.statistics import Effects, TotalEffect, effects, unknown_error
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import VALUES, GridValue, asked_columns
from blip_trace_widget.states import grid_title

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels, Map


@dataclass(frozen=True, eq=False, repr=False)
class CellEffect(Summarised):
    """One cell of a grid: the same numbers as in `Effect`.

    Attributes:
        score: mean score over samples; NaN if the cell is not computed, or its score is not a number.
        indirect_effect: see `Effect`.
        stderr: standard error of the indirect effect.
        recovery: see `Effect`.
        recovery_stderr: standard error of the recovery.
        margin: half the width of the indirect effect's 95 % interval, see `EffectGrid.margin`.
        recovery_margin: half the width of the recovery's 95 % interval.
        significant: whether the indirect effect differs from 0, see `EffectGrid.significant`.
        index: the cell, (row, column).
        name: the cell in words.
        error_unknown: why there is no error, or "", see `EffectGrid.error_unknown`.
    """

    score: float
    indirect_effect: float
    stderr: float
    recovery: float
    recovery_stderr: float
    margin: float
    recovery_margin: float
    significant: bool
    index: tuple[int, int]
    name: str
    error_unknown: str = ""

    def _facts(self) -> dict[str, str]:
        return {
            "cell": self.name,
            "recovery": summaries.number(self.recovery, self.recovery_margin),
            "indirect effect": summaries.number(self.indirect_effect, self.margin),
            "score": summaries.number(self.score),
            "differs from 0": self.error_unknown or ("yes" if self.significant else "not distinguishable"),
        }


@dataclass(frozen=True, eq=False, repr=False)
class EffectGrid(Summarised):
    """The results of patched runs, one per cell of a grid; subclasses say what rows and columns are.

    Attributes:
        samples: scores in the units of the metric, (samples, rows, columns); NaN where not computed.
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples,).
        settings: what was asked, as plain JSON: model, question, answer, metric, corruption, block, site, ...
        known: which runs are computed, shaped as one sample, where whoever computed them said so: a score that is not a
            number is one all the same.
    """

    samples: NDArray[np.float64] = field(repr=False)
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    settings: dict[str, Any]
    known: NDArray[np.bool_] | None = field(default=None, repr=False, kw_only=True)

    #: What rows and columns are.
    _axes: ClassVar[tuple[str, str]] = "row", "column"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.samples.shape[1:3]
        return rows, columns

    def __getitem__(self, key: tuple[int, int | str]) -> CellEffect:
        """One cell, ``grid[row, column]``; of a trace ``trace[5, 3]`` or ``trace[5, "circle"]``.

        Negative numbers count from the end; words are found as in `State`.

        Raises:
            TypeError, ValueError: naming what was given and what is accepted.
        """
        row, column = index = self._index(key)
        return CellEffect(
            **{name: float(getattr(self, f"{name}s" if name == "score" else name)[index]) for name in _CELL},
            significant=bool(self.significant[index]),
            index=index,
            name=self._name(row, column),
            error_unknown=self.error_unknown,
        )

    def __sub__(self, other: object) -> Difference:
        """The difference of two grids, see `Difference`.

        Raises:
            TypeError, ValueError: if the two cannot be compared, naming what differs.
        """
        return difference(self, other)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Mean score of the patched runs, (rows, columns)."""
        return self._effects.score

    @property
    def indirect_effect(self) -> NDArray[np.float64]:
        """Mean indirect effect over samples, in units of the score, (rows, columns)."""
        return self._effects.indirect_effect

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Standard error of the indirect effect over paired samples, (rows, columns); NaN for a single sample."""
        return self._effects.stderr

    @property
    def recovery(self) -> NDArray[np.float64]:
        """Indirect effect / total effect, (rows, columns); all NaN if `undefined_because` gives a reason."""
        return self._effects.recovery

    @property
    def recovery_stderr(self) -> NDArray[np.float64]:
        """Standard error of the recovery (delta method), (rows, columns)."""
        return self._effects.recovery_stderr

    @cached_property
    def margin(self) -> NDArray[np.float64]:
        """Half the width of the indirect effect's 95 % interval over noise samples, (rows, columns).

        Symmetric bootstrap-t of paired samples (`blip_trace_widget.results.intervals`), each cell's own: of 100 cells
        some five lie outside theirs. NaN for a single sample.
        """
        return margin(self._effects.samples)

    @cached_property
    def recovery_margin(self) -> NDArray[np.float64]:
        """The same of the recovery, a ratio of means, (rows, columns)."""
        if self.undefined_because:
            return np.full(self.shape, np.nan)
        return margin(self._effects.samples, self._total.samples)

    @property
    def interval(self) -> NDArray[np.float64]:
        """Lower and upper end of the recovery's 95 % interval, (2, rows, columns); see `margin`."""
        return np.stack([self.recovery - self.recovery_margin, self.recovery + self.recovery_margin])

    @property
    def effect_interval(self) -> NDArray[np.float64]:
        """The same of the indirect effect."""
        return np.stack([self.indirect_effect - self.margin, self.indirect_effect + self.margin])

    @property
    def error_unknown(self) -> str:
        """Why there are no errors, intervals and tests, or "": a single sample, of noise or of what does not vary."""
        return unknown_error(self.settings.get("corruption"), self.corrupted.size)

    @property
    def total_effect(self) -> float:
        """score(clean) - score(corrupted), mean over samples."""
        return self._total.value

    @property
    def total_effect_stderr(self) -> float:
        """Standard error of the total effect; NaN for a single sample."""
        return self._total.stderr

    @property
    def undefined_because(self) -> str:
        """Why there is no recovery, or ""."""
        return self._total.closed_because

    @cached_property
    def significant(self) -> NDArray[np.bool_]:
        """Cells whose indirect effect differs from 0, (rows, columns).

        The null: the state does nothing, so that a sample's difference (patched minus base run, which share their
        noise) is as likely up as down. The signs of whole samples are flipped, in all ways up to 12 samples, else in
        4,096 random ones, and a cell is compared with the largest |t| over the computed cells, step-down (Westfall &
        Young 1993): the probability that any cell is wrongly found is at most 5 %. Not promised: that a mean is not 0
        if differences are skewed, nor that what is not found does nothing. Effects within float32 rounding do not
        differ from 0. Of fewer than 6 samples nothing can be found; all False.
        """
        return differs(self._effects.samples, rounding(self.clean))

    @property
    def complete(self) -> bool:
        """Whether every cell is computed."""
        return bool(self.computed.all())

    @property
    def computed(self) -> NDArray[np.bool_]:
        """Which cells are computed, (rows, columns); unless `known`, those whose score is a number."""
        known = ~np.isnan(self.samples).all(axis=0) if self.known is None else self.known
        return np.asarray(known.reshape(*self.shape, -1).all(axis=-1))

    @cached_property
    def _total(self) -> TotalEffect:
        return TotalEffect(self.clean, self.corrupted)

    @cached_property
    def _effects(self) -> Effects:
        return effects(self._total, self.samples, self.settings["direction"])

    @quiet
    def _columns(self, **axes: Any) -> pd.DataFrame:
        """One row per cell: the given columns, clean, corrupted, score, effects, standard errors and the settings."""
        import pandas as pd

        numbers = {
            **axes,
            "clean": self.clean,
            "corrupted": float(self.corrupted.mean()),
            "score": self.scores.ravel(),
            "indirect_effect": self.indirect_effect.ravel(),
            "stderr": self.stderr.ravel(),
            "recovery": self.recovery.ravel(),
            "recovery_stderr": self.recovery_stderr.ravel(),
            **_ends(self.effect_interval),
            **_ends(self.interval, "recovery_"),
            "significant": self.significant.ravel(),
            "computed": self.computed.ravel(),
        }
        rows = self.shape[0] * self.shape[1]
        columns = {name: column for name, column in asked_columns(self.settings, rows).items() if name not in numbers}
        return pd.DataFrame({**numbers, **columns})

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell.

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    # --- drawing -----------------------------------------------------------------------------------------------------

    def _map(self, value: GridValue) -> Map:
        """The grid as a map for drawing, rows down.

        Raises:
            TypeError, ValueError: if there is no such value.
        """
        from blip_trace_widget.results.plots import Map

        value = named("value", value, VALUES)
        shown = "indirect_effect" if value == "recovery" and self.undefined_because else value
        rows, columns = self._labels()
        return Map(
            values=self.scores if shown == "score" else getattr(self, shown),
            label=shown.replace("_", " "),
            title=self._title(),
            rows=rows,
            columns=columns,
            dots=np.zeros(self.shape, np.bool_) if self.error_unknown else ~self.significant,
            ones=self.constructed,
            sequential=shown == "score",
        )

    def plot(
        self,
        ax: Any = None,
        value: GridValue = "recovery",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
    ) -> Any:
        """Draw the grid.

        Args:
            ax: matplotlib axes to draw on, such as those of ``plt.subplots(1, 2)``; the colour bar fits inside them.
            value: ``"recovery"`` (if that is undefined, the indirect effect is drawn instead), ``"indirect_effect"`` or
                ``"score"``.
            limit: end of the colour scale on both sides of 0; default the largest value. Give several figures the same
                to compare them.
            cmap: a matplotlib colour map or its name; default purple for positive effects, orange for negative ones.
            marks: whether to mark cells: a dot if the effect is not distinguishable from 0, "=" if it is 1 by
                construction.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        return plots.draw(self._laid_out(self._map(value)), ax, limit, cmap, marks=marks)

    @property
    def constructed(self) -> list[tuple[int, int]]:
        """Cells whose recovery is 1 by construction."""
        return []

    def _laid_out(self, drawn: Map) -> Map:
        return drawn

    def _title(self) -> str:
        return grid_title(self.settings["block"], self.settings["site"])

    def _labels(self) -> tuple[Labels, Labels]:
        rows, columns = self.shape
        return (self._axes[0], range(rows)), (self._axes[1], range(columns))

    def _index(self, key: Any) -> tuple[int, int]:
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f"cell: expected [{self._axes[0]}, {self._axes[1]}], got {brief(key)}")
        row, column = (
            whole_number(name, at, -count, count - 1) % count
            for name, at, count in zip(self._axes, self._numbered(*key), self.shape, strict=True)
        )
        return row, column

    def _numbered(self, row: Any, column: Any) -> tuple[Any, Any]:
        return row, column

    def _name(self, row: int, column: int) -> str:
        return f"{self._axes[0]} {row}, {self._axes[1]} {column}"

    def _facts(self) -> dict[str, str]:
        rows, columns = self.shape
        done = int(self.computed.sum())
        closed = self.undefined_because
        values = self.indirect_effect if closed else self.recovery
        top = summaries.best(values, 1)
        return {
            "grid": self._title(),
            "shape": f"{rows} {self._axes[0]}s × {columns} {self._axes[1]}s",
            "computed": "" if done == rows * columns else f"{done} of {rows * columns} cells",
            **summaries.beside(self.settings),
            "total effect": summaries.number(self.total_effect, self._total.margin),
            "error": self.error_unknown,
            "no recovery": closed,
            "best": "".join(
                f"{'indirect effect' if closed else 'recovery'} {summaries.number(values[at])} at {self._name(*at)}"
                for at in top
            ),
        }

    def _asked(self) -> dict[str, str]:
        facts = summaries.asked(self.settings)
        for name in ("direction", "head", "window"):
            facts[name] = "" if self.settings.get(name) is None else str(self.settings[name])
        return facts

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        number, cells = summaries.number, summaries.best(self.indirect_effect, summaries.BEST)
        return ["largest", "recovery", "indirect effect", "score"], [
            [
                self._name(*at),
                number(self.recovery[at], self.recovery_margin[at]),
                number(self.indirect_effect[at], self.margin[at])
                + ("" if self.significant[at] or self.error_unknown else " •"),
                number(self.scores[at]),
            ]
            for at in cells
        ]


#: The numeric fields of a cell.
_CELL = ("score", "indirect_effect", "stderr", "recovery", "recovery_stderr", "margin", "recovery_margin")


def _ends(interval: NDArray[np.float64], before: str = "") -> dict[str, NDArray[np.float64]]:
    return {f"{before}{end}": values.ravel() for end, values in zip(("low", "high"), interval, strict=True)}
