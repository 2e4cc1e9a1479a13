"""Trace: a grid of patched runs, one per state.

For: storing, tabulating, plotting and saving the main result. Plain NumPy; pandas and plotting are imported where used.
Ends: at numbers and files, independent of any model; `blip_trace_widget.results.plots` makes plots,
`blip_trace_widget.display.still` figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blip_trace_widget.checks import conforms
from blip_trace_widget.choices import metric_properties
from blip_trace_widget.results import files, stored, version_1
from blip_trace_widget.results.effect_grid import CellEffect, EffectGrid
from blip_trace_widget.results.grid_spec import GridSpec, SameGrid, is_single
from blip_trace_widget.results.noise_curve import NoiseCurve, SuggestedFactor
from blip_trace_widget.results.run import Effect, Run, Top
from blip_trace_widget.results.snapshot import Snapshot, pack, picture_in, unpack
from blip_trace_widget.states import BLOCKS, position_of

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels, Map

__all__ = ["CellEffect", "Effect", "EffectGrid", "NoiseCurve", "Run", "SuggestedFactor", "Top", "Trace", "load_trace"]


@dataclass(frozen=True, eq=False, repr=False)
class Trace(EffectGrid):
    """A grid of patched runs, one per state: layers down, positions across.

    Attributes:
        samples: scores, (samples, layers, positions); NaN where not computed.
        tokens: word pieces at the block's positions; of the image encoder, "[CLS]" and each patch's "row,column",
            or each square's "rows,columns": "0-3,4-7".
        snapshot: what a widget shows beside it; None if the corruption or the metric is a user's own.
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
        """Cells (layer, position) whose recovery is 1 by construction: they patch all that the answer depends on."""
        layers, positions = self.samples.shape[1:]
        first = metric_properties(self.settings["metric"]).first_position
        if not is_single(self.settings["block"], positions, first_position=first):
            return []
        if self.settings.get("receivers", "answer") != "answer":
            return []
        spec, nothing = self._spec, set(self.without_effect)
        known = np.ones(self.shape, np.bool_) if spec.is_plain else self.computed  # else not known of the others
        whole = [(layer, 0) for layer, is_whole in enumerate(spec.whole(layers)) if is_whole]
        return [cell for cell in whole if known[cell] and cell not in nothing]

    @property
    def without_effect(self) -> list[tuple[int, int]]:
        """Cells (layer, position) whose effect is 0 by construction: nothing of them gets past what is held.

        Of `Tracer.trace_paths`: those from which no path leads to the receivers.
        """
        return [(layer, position) for layer, position in self.settings.get("without_effect", ())]

    @property
    def same_as(self) -> SameGrid | None:
        """The grid that this one equals by construction, or None: its ``site``, and a ``shift`` of layers.

        Layer l of this grid has the scores of layer l + shift of that one, of the same block, head, window and
        direction. This holds of ``"cross_attention"`` and ``"block_output"``, of ``"block_input"`` and that of the
        layer below, and, where a single position is scored, of ``"self_attention"`` too. As text it is a sentence.
        None also where modules of the block are not BLIP's own: what equals what is then unknown. And where something
        is held.
        """
        settings = self.settings
        if not self._spec.is_plain or any(
            name.startswith(BLOCKS[settings["block"]].part) for name in settings.get("changed", ())
        ):
            return None
        first = metric_properties(settings["metric"]).first_position
        single = is_single(settings["block"], len(settings.get("answer_tokens") or ()), first_position=first)
        return self._spec.same_as(self.samples.shape[1], single=single)

    def _facts(self) -> dict[str, str]:
        return {**super()._facts(), "note": str(self.same_as or "")}

    @property
    def _spec(self) -> GridSpec:
        return GridSpec.of(self.settings)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell: block, site, layer, position, token, numbers and settings.

        Numbers: clean, corrupted, score, indirect_effect, stderr, recovery, recovery_stderr, the ends of the 95 %
        intervals (low and high of the indirect effect, recovery_low, recovery_high), significant, computed (a NaN score
        is either not computed or not a number). Settings: head, window, direction, metric, question, answer,
        corruption, factor (ν), seed. Tables of several traces can be concatenated by `pandas.concat`.
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
        """Write the widget's figure as a single-file web page that needs no kernel and no network.

        Raises:
            ValueError: if the trace has no snapshot.
            OSError: if the file cannot be written.
        """
        from blip_trace_widget.display import still

        still.write(self, path, "html", "light")

    def export(self, path: str | os.PathLike[str], theme: str = "light") -> None:
        """Write the widget's figure or the numbers, in the format given by the path's extension.

        Args:
            path: ends with ``.svg``, ``.png``, ``.pdf``, ``.html``, ``.csv`` or ``.json``.
            theme: the figure's theme, ``"light"`` or ``"dark"``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the trace has no
                snapshot, which all formats but CSV and JSON need.
            ImportError: for PNG and PDF, if the extra ``export`` is not installed.
            OSError: if the file cannot be written.
        """
        from blip_trace_widget.display import export, still

        still.write(self, path, export.format_of(path), theme)

    def packed(self, before: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """The arrays, their names prefixed with `before`, and the rest as plain JSON, without the snapshot."""
        arrays = {"samples": self.samples, "corrupted": self.corrupted, "clean": self.clean}
        if self.known is not None:
            arrays["known"] = self.known
        described = {"tokens": self.tokens, "settings": self.settings}
        return {before + name: array for name, array in arrays.items()}, described

    @classmethod
    def unpacked(cls, arrays: files.Tensors, described: Mapping[str, Any], before: str = "") -> Trace:
        """The trace that `packed` wrote, read from a file, without a snapshot.

        Raises:
            KeyError, TypeError, ValueError: if the data do not have the expected shape.
        """
        samples, clean, corrupted = (arrays[before + name] for name in ("samples", "clean", "corrupted"))
        tokens = tuple(conforms("tokens", described["tokens"], list[str]))
        settings = stored.settings(described["settings"])
        if samples.ndim != 3 or samples.shape[:1] != corrupted.shape or samples.shape[2] != len(tokens):
            raise ValueError(f"shapes {samples.shape} and {corrupted.shape} do not fit {len(tokens)} tokens")
        if {array.dtype for array in (samples, clean, corrupted)} != {np.dtype(np.float64)}:
            raise ValueError("scores must be float64")
        if not samples.size or clean.shape != (1,):
            raise ValueError(f"samples, clean: expected scores, got shapes {samples.shape} and {clean.shape}")
        known = arrays.get(before + "known")  # the first files have none
        if known is not None and (known.dtype != np.bool_ or known.shape != samples.shape[1:]):
            raise ValueError(
                f"known: expected truth values of shape {samples.shape[1:]}, got {known.dtype} {known.shape}"
            )
        stored.check_without_effect(settings, samples.shape[1:])
        return cls(samples, float(clean[0]), corrupted, settings, tokens, known=known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata: numbers, settings, and the snapshot for `TraceWidget.from_trace`.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays, described = self.packed()
        pictures, snapshots = pack([] if self.snapshot is None else [self.snapshot])
        files.write(path, TRACE, arrays | pictures, **described, snapshots=snapshots)


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace that `Trace.save` wrote, bit for bit.

    Raises:
        FileNotFoundError, OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    return files.read(path, TRACE)


def shown_with(trace: Trace, snapshot: Snapshot) -> Trace:
    """A trace from a file with its snapshot.

    Raises:
        ValueError, TypeError: naming the field in which the two do not agree.
    """
    stored.check_together(trace.settings, trace.samples.shape[1], trace.tokens, snapshot)
    return replace(trace, snapshot=snapshot)


def _read(arrays: files.Tensors, metadata: files.Fields) -> Trace:
    snapshots = unpack(arrays, metadata["snapshots"])
    trace = Trace.unpacked(arrays, metadata)
    return shown_with(trace, snapshots[0]) if snapshots else trace


def _read_1(arrays: files.Tensors, metadata: files.Fields) -> Trace:
    trace, scene = Trace.unpacked(arrays, metadata), metadata.get("scene")  # the first files have none
    return trace if scene is None else shown_with(trace, snapshot_of_scene(arrays, scene, trace))


def snapshot_of_scene(arrays: files.Tensors, scene: Any, trace: Trace) -> Snapshot:
    """The snapshot of a trace in a file of version 1."""
    picture, other = (picture_in(name, arrays[name]) for name in ("picture", "other_picture"))
    return version_1.snapshot(scene, picture, other, trace.settings, trace.clean, trace.corrupted)


TRACE = files.Kind("trace", "blip_trace_widget.trace", {1: _read_1, 2: _read})
