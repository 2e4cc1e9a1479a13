"""What comes out: Run, Effect, Trace, NoiseCurve. Frozen, and independent of any model.

For: keeping, tabulating, plotting and saving results. Plain NumPy; pandas and plotting are imported where used.
Cost: statistics are computed when asked for, on small arrays.
Ends: at numbers; files are `blip_trace_widget.files`', drawing `blip_trace_widget.plots`'.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import files, summaries
from blip_trace_widget.effect_grid import CellEffect, EffectGrid
from blip_trace_widget.metrics import standard_error
from blip_trace_widget.noise_curve import NoiseCurve, SuggestedFactor
from blip_trace_widget.positions import position_of
from blip_trace_widget.scene import Scene
from blip_trace_widget.sites import State, window_layers
from blip_trace_widget.summaries import Summarised

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.plots import Labels, Map

__all__ = ["CellEffect", "Effect", "EffectGrid", "NoiseCurve", "Run", "SuggestedFactor", "Top", "Trace", "load_trace"]

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
            self.direction: ", ".join(map(summaries.called, self.states)) or f"{len(self.image_tokens)} image tokens",
        }


@dataclass(frozen=True, eq=False, repr=False)
class Trace(EffectGrid):
    """A grid of patched runs, one a state: layers down, positions across.

    Attributes:
        samples: scores, (samples, layers, positions); NaN where not computed.
        tokens: word pieces at the block's positions; of the image encoder, "[CLS]" and each patch's "row,column".
        scene: what a widget shows beside it; None where the corruption or the metric is one's own.
        known: which cells are computed, (layers, positions), where whoever computed them said so: a score that is not a
            number is one all the same.
    """

    tokens: tuple[str, ...]
    scene: Scene | None = field(default=None, repr=False)
    known: NDArray[np.bool_] | None = field(default=None, repr=False)

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
    def computed(self) -> NDArray[np.bool_]:
        """Which cells are computed, (layers, positions): without `known` those whose score is a number."""
        return super().computed if self.known is None else self.known

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

        Numbers: clean, corrupted, score, indirect_effect, stderr, recovery, recovery_stderr, significant, computed (of
        a computed cell a score of NaN is one that is not a number). Asked: head, window, direction, metric, question,
        answer, corruption, factor (ν), seed. So that tables of several traces can be put below each other by
        `pandas.concat`.
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
