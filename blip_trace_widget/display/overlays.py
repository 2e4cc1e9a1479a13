"""Overlays on the picture, as payloads for the front end: `blip_trace_widget.display.protocol.PictureMap`.

For: which parts of the picture carry the answer, what a token attends to, and how strongly each patch is corrupted.
Pure functions of results.
Ends: at JSON-ready dictionaries; `blip_trace_widget.widget.overlay_job` decides which map is computed when.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.choices import RunName
from blip_trace_widget.display import formatting, labels, protocol
from blip_trace_widget.display.colors import round_up
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import ImageTokenTrace

#: The overlay of what single squares send directly to the receivers of the grid in view.
PATHS = "map_paths"
#: Overlays of single squares of image tokens patched -> the direction; None: that of the grid in view.
EFFECTS: dict[str, str | None] = {"map_disrupt": "disrupt", "map_restore": "restore", PATHS: None}
#: Overlays of a token's attention -> the run (see `Attention.image`).
ATTENTIONS: dict[str, RunName] = {
    "attention_clean": "clean",
    "attention_corrupted": "corrupted",
    "attention_difference": "difference",
    "attention_minus_heads": "clean",
}
#: Those of a single head's weights minus the mean over the heads.
MINUS_HEADS = ("attention_minus_heads",)
OVERLAYS = ("none", *EFFECTS, *ATTENTIONS, "strength")
#: Most squares of a map of image tokens by default: each costs a text pass per sample.
SQUARES = 100


def square_for(grid: tuple[int, int]) -> int:
    """The default side of a map's squares, in patches, for a grid of (rows, columns) patches."""
    side = 1
    while -(-grid[0] // side) * -(-grid[1] // side) > SQUARES:
        side += 1
    return side


def nothing(overlay: str, generation: int, text: str) -> protocol.PictureMap:
    """An empty map with the reason."""
    return _map(overlay, generation, np.empty((0, 0)), text=text)


def effects(
    trace: ImageTokenTrace, overlay: str, generation: int, left: str = "", text: str = ""
) -> protocol.PictureMap:
    """The map of squares patched one at a time: recovery, or the indirect effect if that is undefined.

    Args:
        trace: the map as computed so far.
        overlay: the overlay's name.
        generation: generation of the inputs.
        left: about how much time is left, while it is being filled.
        text: what it shows, if not what the overlay always does.
    """
    closed = bool(trace.undefined_because)
    value, margin = (trace.indirect_effect, trace.margin) if closed else (trace.recovery, trace.recovery_margin)
    significant = np.full(trace.shape, np.nan) if trace.error_unknown else trace.significant
    return _map(
        overlay,
        generation,
        np.stack([value, margin, significant]),
        square=trace.patch,
        text=text or labels.OVERLAYS[overlay],
        unit=labels.UNITS[f"closed {overlay}" if closed else overlay],
        percent=not closed,
        done=int(trace.computed.sum()),
        left=left,
    )


def attention(
    weights: NDArray[np.floating], overlay: str, who: str, head: int | None, generation: int
) -> protocol.PictureMap:
    """The map of attention to the picture's patches.

    Args:
        weights: attention weights, (rows, columns).
        overlay: the overlay's name.
        who: the attending tokens, in words.
        head: one attention head; None for the mean over heads.
        generation: generation of the inputs.
    """
    which = "" if head is None else f", head {head}"
    text = f"Where {who}{which}{labels.OVERLAYS[overlay]}"
    return _map(overlay, generation, _plain(weights), text=text, unit=labels.UNITS["attention"], percent=True)


def head_of(spec: GridSpec) -> int | None:
    """The head of a grid of attention to the picture; None for all together, or for other grids."""
    to_picture = spec.block == "image_encoder" or spec.site.startswith("cross_attention")
    return spec.head if to_picture else None


def strength(strengths: NDArray[np.floating], generation: int) -> protocol.PictureMap:
    """The map of how strongly each patch is corrupted, (rows, columns)."""
    return _map(
        "strength", generation, _plain(strengths), text=labels.OVERLAYS["strength"], unit=labels.UNITS["strength"]
    )


def _plain(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values of which no margin is known."""
    return np.stack([values, *np.full((2, *values.shape), np.nan)])


def _map(
    overlay: str,
    generation: int,
    values: NDArray[np.floating],
    *,
    text: str,
    square: int = 1,
    unit: str = "",
    percent: bool = False,
    done: int | None = None,
    left: str = "",
) -> protocol.PictureMap:
    known = values[0][np.isfinite(values[0])] if values.size else np.empty(0)
    limit = round_up(float(np.abs(known).max(initial=0.0)))
    written = (formatting.percent if percent else formatting.limit)(limit)
    return {
        "generation": generation,
        "overlay": overlay,
        "square": square,
        "rows": values.shape[-2],
        "columns": values.shape[-1],
        "limit": limit,
        "low": f"−{written}" if (known < 0).any() else "0",
        "high": written if limit else "",
        "text": text,
        "unit": unit,
        "percent": percent,
        "done": done,
        "left": left,
        "values": values.astype("<f4").tobytes(),
    }
