"""What comes out: Run, Effect, Trace, NoiseCurve. Frozen, and independent of any model.

For: keeping, tabulating, plotting and saving results. Plain NumPy; pandas and plotting are imported where used.
Cost: statistics are computed when asked for, on small arrays.
Ends: at numbers; files are `blip_trace_widget.files`', drawing `blip_trace_widget.plots`'.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import files, summaries
from blip_trace_widget.metrics import (
    ROUNDING,
    Effects,
    TotalEffect,
    effects,
    false_discovery,
    quiet,
    standard_error,
    t_test,
)
from blip_trace_widget.positions import position_of
from blip_trace_widget.scene import Scene
from blip_trace_widget.sites import State, one_of, whole_number, window_layers
from blip_trace_widget.summaries import Summarised

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.differences import Difference
    from blip_trace_widget.plots import Labels, Map

#: What a grid can be drawn by.
GridValue: TypeAlias = Literal["recovery", "indirect_effect", "score"]
VALUES = ("recovery", "indirect_effect", "score")

Top = list[tuple[str, float]]


@dataclass(frozen=True, eq=False, repr=False)
class Run(Summarised):
    """A clean or corrupted run.

    Attributes:
        score: mean score over samples.
        scores: score of each sample, (samples,).
        answer: the answer; of several samples the one that most of them give.
        top: the likeliest words at the first answer position with their mean probability, best first.
        answers: the answer of each sample.
        distribution: mean probability of every word at the first answer position, (vocabulary,).
    """

    score: float
    scores: NDArray[np.float64]
    answer: str
    top: Top
    answers: tuple[str, ...] = field(repr=False)
    distribution: NDArray[np.float32] = field(repr=False)

    @property
    def stderr(self) -> float:
        """Standard error of `score`; NaN for a single sample."""
        return float(standard_error(self.scores))

    def _facts(self) -> dict[str, str]:
        return {
            "answer": repr(self.answer),
            "score": summaries.number(self.score, self.stderr),
            "samples": str(self.scores.size),
            "top": summaries.listed(self.top),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Effect(Summarised):
    """A patched run.

    Attributes:
        score: mean score over samples.
        scores: score of each sample, (samples,).
        indirect_effect: mean of score(patched) - score(corrupted); for ``disrupt`` of score(clean) - score(patched).
        recovery: indirect effect / total effect; NaN where `undefined_because` says why.
        stderr: standard error of the indirect effect over paired samples; NaN for a single sample.
        top: the likeliest words at the first answer position with their mean probability, best first.
        recovery_stderr: standard error of the recovery (delta method).
        undefined_because: why there is no recovery, or "".
        distribution: mean probability of every word at the first answer position, (vocabulary,).
        states: what was patched.
        direction: ``"restore"`` or ``"disrupt"``.
        image_tokens: or which image tokens were.
    """

    score: float
    scores: NDArray[np.float64]
    indirect_effect: float
    recovery: float
    stderr: float
    top: Top
    recovery_stderr: float
    undefined_because: str
    distribution: NDArray[np.float32] = field(repr=False)
    states: tuple[State, ...]
    direction: str
    image_tokens: tuple[int, ...] = ()

    def _facts(self) -> dict[str, str]:
        return {
            "recovery": self.undefined_because or summaries.number(self.recovery, self.recovery_stderr),
            "indirect effect": summaries.number(self.indirect_effect, self.stderr),
            "score": summaries.number(self.score),
            "top": summaries.listed(self.top),
            self.direction: ", ".join(map(_called, self.states)) or f"{len(self.image_tokens)} image tokens",
        }


def _called(state: State) -> str:
    head = "" if state.head is None else f" head {state.head}"
    return f"{state.block} layer {state.layer} position {state.position} {state.site}{head}"


@dataclass(frozen=True, eq=False, repr=False)
class CellEffect(Summarised):
    """One cell of a grid; the same numbers as `Effect` where the grid has them.

    Attributes:
        score: mean score over samples; NaN where the cell is not computed.
        indirect_effect: see `Effect`.
        stderr: its standard error.
        recovery: see `Effect`.
        recovery_stderr: its standard error.
        significant: whether the indirect effect differs from 0, see `EffectGrid.significant`.
        index: the cell, (row, column).
        name: the same in words.
    """

    score: float
    indirect_effect: float
    stderr: float
    recovery: float
    recovery_stderr: float
    significant: bool
    index: tuple[int, int]
    name: str

    def _facts(self) -> dict[str, str]:
        return {
            "cell": self.name,
            "recovery": summaries.number(self.recovery, self.recovery_stderr),
            "indirect effect": summaries.number(self.indirect_effect, self.stderr),
            "score": summaries.number(self.score),
            "differs from 0": "yes" if self.significant else "cannot be told",
        }


@dataclass(frozen=True, eq=False, repr=False)
class EffectGrid(Summarised):
    """What patched runs say, one a cell of a grid; what rows and columns are is told by the kind of grid.

    Attributes:
        samples: scores, (samples, rows, columns); NaN where not computed.
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples,).
        settings: what was asked, as plain JSON: model, question, answer, metric, corruption, block, site, ...
    """

    samples: NDArray[np.float64] = field(repr=False)
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    settings: dict[str, Any]

    #: What rows and columns are.
    _axes: ClassVar[tuple[str, str]] = "row", "column"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.samples.shape[1:3]
        return rows, columns

    def __getitem__(self, key: tuple[int, int | str]) -> CellEffect:
        """One cell, ``grid[row, column]``; of a trace ``trace[5, 3]`` or ``trace[5, "circle"]``.

        Negative numbers count from the end. Words as in `State`.

        Raises:
            TypeError, ValueError: naming what was given and what is accepted.
        """
        row, column = index = self._index(key)
        return CellEffect(
            **{name: float(getattr(self, f"{name}s" if name == "score" else name)[index]) for name in _CELL},
            significant=bool(self.significant[index]),
            index=index,
            name=self._name(row, column),
        )

    def __sub__(self, other: object) -> Difference:
        """See `Difference`.

        Raises:
            TypeError, ValueError: if the two cannot be compared, naming what differs.
        """
        from blip_trace_widget.differences import difference

        return difference(self, other)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Mean score of the patched runs, (rows, columns)."""
        return self._effects.score

    @property
    def indirect_effect(self) -> NDArray[np.float64]:
        """(rows, columns)."""
        return self._effects.indirect_effect

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Standard error of the indirect effect over paired samples, (rows, columns); NaN for a single sample."""
        return self._effects.stderr

    @property
    def recovery(self) -> NDArray[np.float64]:
        """Indirect effect / total effect, (rows, columns); all NaN where `undefined_because` says why."""
        return self._effects.recovery

    @property
    def recovery_stderr(self) -> NDArray[np.float64]:
        """Standard error of the recovery (delta method), (rows, columns)."""
        return self._effects.recovery_stderr

    @property
    def total_effect(self) -> float:
        """score(clean) - score(corrupted), mean over samples."""
        return self._total.value

    @property
    def total_effect_stderr(self) -> float:
        """Its standard error; NaN for a single sample."""
        return self._total.stderr

    @property
    def undefined_because(self) -> str:
        """Why there is no recovery, or ""."""
        return self._total.closed_because

    @property
    @quiet
    def significant(self) -> NDArray[np.bool_]:
        """Cells whose indirect effect differs from 0, (rows, columns).

        Two-sided t tests on the paired differences of each cell (patched and base run of a sample share their noise,
        so that most of the spread between samples cancels; means of some ten such differences are near normal), with
        the false-discovery rate over the grid held at 5 % (Benjamini & Hochberg 1995). Effects within float32's
        rounding do not differ from 0. All False for a single sample.
        """
        beyond = np.abs(self.indirect_effect) > ROUNDING * max(1.0, abs(self.clean))
        return np.asarray(false_discovery(t_test(self._effects.samples), 0.05) & beyond)

    @property
    def complete(self) -> bool:
        """Whether every cell is computed."""
        return not bool(np.isnan(self.samples).any())

    @cached_property
    def _total(self) -> TotalEffect:
        return TotalEffect(self.clean, self.corrupted)

    @cached_property
    def _effects(self) -> Effects:
        return effects(self._total, self.samples, self.settings["direction"])

    @quiet
    def _columns(self, **axes: Any) -> pd.DataFrame:
        """One row a cell: the given columns, clean, corrupted, score, effects, standard errors, and what was asked."""
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
            "significant": self.significant.ravel(),
        }
        rows = self.shape[0] * self.shape[1]
        told = {name: column for name, column in asked_columns(self.settings, rows).items() if name not in numbers}
        return pd.DataFrame({**numbers, **told})

    def to_dataframe(self) -> pd.DataFrame:
        """One row a cell."""
        raise NotImplementedError

    # --- what it looks like ------------------------------------------------------------------------------------------

    def _map(self, value: GridValue) -> Map:
        """The grid as it is drawn, its rows down.

        Raises:
            TypeError, ValueError: if there is no such value.
        """
        from blip_trace_widget.plots import Map

        one_of("value", value, VALUES)
        shown = "indirect_effect" if value == "recovery" and self.undefined_because else value
        rows, columns = self._labels()
        return Map(
            values=self.scores if shown == "score" else getattr(self, shown),
            label=shown.replace("_", " "),
            title=self._title(),
            rows=rows,
            columns=columns,
            dots=~self.significant,
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
            ax: matplotlib axes to draw on, such as those of ``plt.subplots(1, 2)``; the colour bar finds room there.
            value: ``"recovery"`` (where that is undefined the indirect effect is drawn instead), ``"indirect_effect"``
                or ``"score"``.
            limit: where the colours end, to both sides of 0; default the largest value. Give several figures the same
                to compare them.
            cmap: a matplotlib colour map or its name; default purple for what restores, orange for what hurts.
            marks: a dot where the effect cannot be told from 0, and "=" where it is 1 by construction.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget import plots

        return plots.draw(self._laid_out(self._map(value)), ax, limit, cmap, marks=marks)

    @property
    def constructed(self) -> list[tuple[int, int]]:
        """Cells whose recovery is 1 by construction."""
        return []

    def _laid_out(self, drawn: Map) -> Map:
        return drawn

    def _title(self) -> str:
        return f"{self.settings['block']}: {self.settings['site']}".replace("_", " ")

    def _labels(self) -> tuple[Labels, Labels]:
        rows, columns = self.shape
        return (self._axes[0], range(rows)), (self._axes[1], range(columns))

    def _index(self, key: Any) -> tuple[int, int]:
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f"cell: expected [{self._axes[0]}, {self._axes[1]}], got {key!r}")
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
        done = int(np.isfinite(self.scores).sum())
        closed = self.undefined_because
        values = self.indirect_effect if closed else self.recovery
        top = summaries.best(values, 1)
        return {
            "grid": self._title(),
            "shape": f"{rows} {self._axes[0]}s × {columns} {self._axes[1]}s",
            "computed": "" if done == rows * columns else f"{done} of {rows * columns} cells",
            "total effect": summaries.number(self.total_effect, self.total_effect_stderr),
            "no recovery": closed,
            "best": "".join(
                f"{'indirect effect' if closed else 'recovery'} {summaries.number(values[at])} at {self._name(*at)}"
                for at in top
            ),
        }

    def _asked(self) -> dict[str, str]:
        told = summaries.asked(self.settings)
        for name in ("direction", "head", "window"):
            told[name] = "" if self.settings.get(name) is None else str(self.settings[name])
        return told

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        number, cells = summaries.number, summaries.best(self.indirect_effect, summaries.BEST)
        return ["largest", "recovery", "indirect effect", "score"], [
            [
                self._name(*at),
                number(self.recovery[at], self.recovery_stderr[at]),
                number(self.indirect_effect[at], self.stderr[at]) + ("" if self.significant[at] else " •"),
                number(self.scores[at]),
            ]
            for at in cells
        ]


#: The numbers of a cell.
_CELL = ("score", "indirect_effect", "stderr", "recovery", "recovery_stderr")


def asked_columns(settings: dict[str, Any], rows: int) -> dict[str, Any]:
    """What a result's settings say, each as a column of so many rows and always of one type.

    So that tables of several results can be put below each other; what a result does not have is missing there.
    """
    import pandas as pd

    damage = settings.get("corruption") or {}
    head = settings.get("head")
    factor = damage.get("factor")
    told: dict[str, tuple[Any, str]] = {
        "block": (settings.get("block"), "object"),
        "site": (settings.get("site"), "object"),
        "head": (None if head == "all" else head, "Int64"),
        "window": (settings.get("window"), "Int64"),
        "direction": (settings.get("direction"), "object"),
        "metric": (settings.get("metric"), "object"),
        "question": (settings.get("question"), "object"),
        "answer": (settings.get("answer"), "object"),
        "corruption": (damage.get("type"), "object"),
        "factor": (np.nan if factor is None else float(factor), "float64"),
        "seed": (damage.get("seed"), "Int64"),
    }
    return {name: pd.array([value] * rows, dtype=kind) for name, (value, kind) in told.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Trace(EffectGrid):
    """A grid of patched runs, one a state: layers down, positions across.

    Attributes:
        samples: scores, (samples, layers, positions); NaN where not computed.
        tokens: word pieces at the block's positions; of the image encoder, "[CLS]" and each patch's "row,column".
        scene: what a widget shows beside it; None where the corruption or the metric is one's own.
    """

    tokens: tuple[str, ...]
    scene: Scene | None = field(default=None, repr=False)

    _axes = "layer", "position"

    def _laid_out(self, drawn: Map) -> Map:
        return drawn.transposed  # as in the paper: tokens down, layers across

    def _labels(self) -> tuple[Labels, Labels]:
        return ("layer", range(self.shape[0])), ("", self.tokens)

    def _numbered(self, row: Any, column: Any) -> tuple[Any, Any]:
        if isinstance(column, str):
            column = position_of("position", column, self.tokens, self.settings["block"])
        return row, column

    def _name(self, row: int, column: int) -> str:
        return f"layer {row} “{self.tokens[column]}” ({column})"

    @property
    def constructed(self) -> list[tuple[int, int]]:
        """Cells (layer, position) whose recovery is 1 by construction: all that the answer is read from is patched."""
        asked = self.settings
        layers, positions = self.samples.shape[1:]
        scored = 1 if asked["metric"] == "kl_divergence" else positions
        # What the last cross-attention puts out, its residual added, is all that the rest of that layer reads.
        whole = asked["site"] in ("block_output", "cross_attention") and asked.get("head") is None
        if asked["block"] != "answer_decoder" or not whole or scored != 1:
            return []
        return [(layer, 0) for layer in range(layers) if layers - 1 in window_layers(layer, asked["window"], layers)]

    def to_dataframe(self) -> pd.DataFrame:
        """One row a cell: block, site, layer, position, token, the numbers, and what was asked.

        Numbers: clean, corrupted, score, indirect_effect, stderr, recovery, recovery_stderr, significant. Asked: head,
        window, direction, metric, question, answer, corruption, factor (ν), seed. So that tables of several traces can
        be put below each other by `pandas.concat`.
        """
        layer, position = (axis.ravel() for axis in np.indices(self.samples.shape[1:]))
        return self._columns(
            block=self.settings["block"],
            site=self.settings["site"],
            layer=layer,
            position=position,
            token=[self.tokens[index] for index in position],
        )

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the widget's figure as a web page of one file, which needs no kernel and no network.

        Raises:
            ValueError: if the trace has no scene.
            OSError: if the file cannot be written.
        """
        self._export(path, "html", "light")

    def export(self, path: str | os.PathLike[str], theme: str = "light") -> None:
        """Write the widget's figure or the numbers, in the format that the path ends with.

        Args:
            path: ends with ``.svg``, ``.png``, ``.pdf``, ``.html``, ``.csv`` or ``.json``.
            theme: of the figure, ``"light"`` or ``"dark"``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the trace has no
                scene, which all but CSV and JSON need.
            ImportError: for PNG and PDF, if the extra ``export`` is not installed.
            OSError: if the file cannot be written.
        """
        from blip_trace_widget import export

        self._export(path, export.format_of(path), theme)

    def _export(self, path: str | os.PathLike[str], name: str, theme: str) -> None:
        from blip_trace_widget import export
        from blip_trace_widget.widget import TraceWidget  # whose figure it is

        if name in ("csv", "json"):
            export.write(path, lambda: export.csv(self) if name == "csv" else export.json_text(self))
            return
        widget = TraceWidget.from_trace(self)
        try:
            if name == "html":
                widget.save_html(path)
            else:
                widget.export(path, theme)
        finally:
            widget.close()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata: numbers, settings, and the scene for `TraceWidget.from_trace`.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays, told = files.trace_parts(self)
        pictures, scene = files.scene_parts(self.scene)
        files.write(path, files.TRACE, arrays | pictures, **told, scene=scene)


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace that `Trace.save` wrote, bit for bit.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    return Trace(**files.read(path, files.TRACE)[1])


class SuggestedFactor(float):
    """A noise factor, and why this one.

    Attributes:
        reason: a sentence.
    """

    reason: str

    def __new__(cls, factor: float, reason: str) -> SuggestedFactor:  # noqa: PYI034 - Self needs Python 3.11
        """Make it from a number and a sentence."""
        made = super().__new__(cls, factor)
        made.reason = reason
        return made

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        return float(self), self.reason

    def __repr__(self) -> str:
        return f"{float(self)!r} ({self.reason})"

    __str__ = float.__repr__


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCurve(Summarised):
    """Scores over the noise factor.

    Attributes:
        factors: noise factors, (factors,).
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples, factors).
        patched: scores with one state restored, (samples, factors, states).
        states: those states.
    """

    factors: NDArray[np.float64]
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    patched: NDArray[np.float64] = field(repr=False)
    states: tuple[State, ...] = ()

    def _facts(self) -> dict[str, str]:
        number = summaries.number
        return {
            "factors": f"{self.factors.size} from {self.factors.min():g} to {self.factors.max():g}",
            "samples": str(len(self.corrupted)),
            "clean": number(self.clean),
            "corrupted": f"{number(self.scores.max())} to {number(self.scores.min())}",
            "states": ", ".join(map(_called, self.states)),
        }

    @property
    @quiet
    def scores(self) -> NDArray[np.float64]:
        """Mean score of the corrupted run, (factors,)."""
        return np.asarray(self.corrupted.mean(axis=0))

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Its standard error, (factors,); NaN for a single sample."""
        return standard_error(self.corrupted)

    @quiet
    def suggest_factor(self, share: float = 0.9) -> SuggestedFactor:
        """The smallest factor of this curve at which the noise removes so much of the clean score.

        Args:
            share: of the clean score, above 0 and at most 1.

        Raises:
            ValueError: if the clean score is not above 0 (a logarithm, a divergence), so that there is no share of it;
                or if no factor of this curve removes so much.
            TypeError, ValueError: if `share` is no such number.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(f"share: expected a number above 0 and at most 1, got {type(share).__name__} {share!r}")
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a number above 0 and at most 1, got {share!r}")
        if not self.clean > 0:
            raise ValueError(
                f"a share of the clean score needs one above 0, this is {self.clean:.3g}: take the curve with "
                "metric='probability'"
            )
        removed = 1 - self.scores / self.clean
        order = np.argsort(self.factors)
        enough = [index for index in order if removed[index] >= share]
        if not enough:
            most = int(np.nanargmax(removed))
            raise ValueError(
                f"no factor of this curve removes {share:.0%} of the clean score ({self.clean:.3g}); the most is "
                f"{removed[most]:.0%} at {self.factors[most]:g}: take a curve with larger factors"
            )
        first = int(enough[0])
        return SuggestedFactor(
            float(self.factors[first]),
            f"ν = {self.factors[first]:g} is the smallest of {self.factors.size} factors at which the noise removes "
            f"{share:.0%} of the clean score: {self.clean:.3g} → {self.scores[first]:.3g}",
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each factor and run: factor, run ("corrupted" or the state), score, stderr, clean score."""
        import pandas as pd

        tables = [
            pd.DataFrame({"factor": self.factors, "run": "corrupted", "score": self.scores, "stderr": self.stderr})
        ]
        for index, state in enumerate(self.states):
            scores = self.patched[:, :, index]
            tables.append(
                pd.DataFrame(
                    {
                        "factor": self.factors,
                        "run": _called(state),
                        "score": scores.mean(axis=0),
                        "stderr": standard_error(scores),
                    }
                )
            )
        return pd.concat(tables, ignore_index=True).assign(clean=self.clean)

    def plot(self, ax: Any = None) -> Any:
        """Mean score and standard error over the factor.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        from blip_trace_widget import plots

        return plots.curve(self, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays = {
            "factors": self.factors,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "patched": self.patched,
        }
        files.write(path, files.NOISE_CURVE, arrays, states=[asdict(state) for state in self.states])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NoiseCurve:
        """Read a curve that `save` wrote, bit for bit.

        Raises:
            OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return cls(**files.read(path, files.NOISE_CURVE)[1])
