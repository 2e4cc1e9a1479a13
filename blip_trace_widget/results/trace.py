"""Trace: a grid of patched runs, one a state. Frozen, and independent of any model.

For: keeping, tabulating, plotting and saving the main result. Plain NumPy; pandas and plotting are imported where used.
Ends: at numbers and what its files hold; plots are `blip_trace_widget.results.plots`', figures
`blip_trace_widget.display.still`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.choices import metric_properties
from blip_trace_widget.results import files, version_1
from blip_trace_widget.results.effect_grid import CellEffect, EffectGrid
from blip_trace_widget.results.noise_curve import NoiseCurve, SuggestedFactor
from blip_trace_widget.results.run import Effect, Run, Top
from blip_trace_widget.results.snapshot import Snapshot, pack, picture_in, unpack
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, position_of, window_layers

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels, Map

__all__ = ["CellEffect", "Effect", "EffectGrid", "NoiseCurve", "Run", "SuggestedFactor", "Top", "Trace", "load_trace"]


@dataclass(frozen=True, eq=False, repr=False)
class Trace(EffectGrid):
    """A grid of patched runs, one a state: layers down, positions across.

    Attributes:
        samples: scores, (samples, layers, positions); NaN where not computed.
        tokens: word pieces at the block's positions; of the image encoder, "[CLS]" and each patch's "row,column".
        snapshot: what a widget shows beside it; None where the corruption or the metric is one's own.
    """

    tokens: tuple[str, ...]
    snapshot: Snapshot | None = field(default=None, repr=False)

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
        scored = 1 if metric_properties(asked["metric"]).first_position else positions
        # What the last cross-attention puts out, its residual added, is all that the rest of that layer reads.
        whole = asked["site"] in ("block_output", "cross_attention") and asked.get("head") is None
        if asked["block"] != "answer_decoder" or not whole or scored != 1:
            return []
        return [(layer, 0) for layer in range(layers) if layers - 1 in window_layers(layer, asked["window"], layers)]

    def to_dataframe(self) -> pd.DataFrame:
        """One row a cell: block, site, layer, position, token, the numbers, and what was asked.

        Numbers: clean, corrupted, score, indirect_effect, stderr, recovery, recovery_stderr, the ends of the 95 %
        intervals (low and high of the indirect effect, recovery_low, recovery_high), significant, computed (a score
        that is NaN is none, or is not a number). Asked: head, window, direction, metric, question, answer,
        corruption, factor (ν), seed. So that tables of several traces can be put below each other by `pandas.concat`.
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
            ValueError: if the trace has no snapshot.
            OSError: if the file cannot be written.
        """
        from blip_trace_widget.display import still

        still.write(self, path, "html", "light")

    def export(self, path: str | os.PathLike[str], theme: str = "light") -> None:
        """Write the widget's figure or the numbers, in the format that the path ends with.

        Args:
            path: ends with ``.svg``, ``.png``, ``.pdf``, ``.html``, ``.csv`` or ``.json``.
            theme: of the figure, ``"light"`` or ``"dark"``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the trace has no
                snapshot, which all but CSV and JSON need.
            ImportError: for PNG and PDF, if the extra ``export`` is not installed.
            OSError: if the file cannot be written.
        """
        from blip_trace_widget.display import export, still

        still.write(self, path, export.format_of(path), theme)

    def packed(self, before: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """The arrays, with that before their names, and the rest as plain JSON, but for the snapshot."""
        arrays = {"samples": self.samples, "corrupted": self.corrupted, "clean": self.clean}
        if self.known is not None:
            arrays["known"] = self.known
        told = {"tokens": self.tokens, "settings": self.settings}
        return {before + name: array for name, array in arrays.items()}, told

    @classmethod
    def unpacked(cls, arrays: files.Tensors, told: Mapping[str, Any], before: str = "") -> Trace:
        """The way back, from a file; without a snapshot.

        Raises:
            KeyError, TypeError, ValueError: if something has not the shape that it should have.
        """
        samples, clean, corrupted = (arrays[before + name] for name in ("samples", "clean", "corrupted"))
        tokens, settings = tuple(str(token) for token in told["tokens"]), dict(told["settings"])
        if samples.ndim != 3 or samples.shape[:1] != corrupted.shape or samples.shape[2] != len(tokens):
            raise ValueError(f"shapes {samples.shape} and {corrupted.shape} do not fit {len(tokens)} tokens")
        if {array.dtype for array in (samples, clean, corrupted)} != {np.dtype(np.float64)}:
            raise ValueError("scores must be float64")
        known = arrays.get(before + "known")  # the first files have none
        if known is not None and (known.dtype != np.bool_ or known.shape != samples.shape[1:]):
            raise ValueError(
                f"known: expected truth values of shape {samples.shape[1:]}, got {known.dtype} {known.shape}"
            )
        one_of("block", settings["block"], BLOCKS)
        one_of("site", settings["site"], SITES)
        one_of("direction", settings["direction"], DIRECTIONS)
        whole_number("window", settings["window"], 1)
        _ = settings["metric"], settings["corruption"]
        return cls(samples, float(clean[0]), corrupted, settings, tokens, known=known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata: numbers, settings, and the snapshot for `TraceWidget.from_trace`.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays, told = self.packed()
        pictures, snapshots = pack([] if self.snapshot is None else [self.snapshot])
        files.write(path, TRACE, arrays | pictures, **told, snapshots=snapshots)


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace that `Trace.save` wrote, bit for bit.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    return files.read(path, TRACE)


def _read(arrays: files.Tensors, told: files.Fields) -> Trace:
    snapshots = unpack(arrays, told["snapshots"])
    return replace(Trace.unpacked(arrays, told), snapshot=snapshots[0] if snapshots else None)


def _read_1(arrays: files.Tensors, told: files.Fields) -> Trace:
    trace, scene = Trace.unpacked(arrays, told), told.get("scene")  # the first files have none
    return trace if scene is None else replace(trace, snapshot=snapshot_of_scene(arrays, scene, trace))


def snapshot_of_scene(arrays: files.Tensors, scene: Any, trace: Trace) -> Snapshot:
    """What a file of version 1 has beside a trace."""
    picture, other = (picture_in(name, arrays[name]) for name in ("picture", "other_picture"))
    return version_1.snapshot(scene, picture, other, trace.settings, trace.clean, trace.corrupted)


TRACE = files.Kind("trace", "blip_trace_widget.trace", {1: _read_1, 2: _read})
