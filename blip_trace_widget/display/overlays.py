"""What can lie over the picture, as the front end draws it: `blip_trace_widget.display.protocol.PictureMap`.

For: the image side: which parts of the picture carry the answer, where a token looks, and how strongly each patch is
hit. Pure functions of results.
Ends: at JSON-ready dictionaries. Which map is computed when is `blip_trace_widget.widget.overlay_job`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.choices import RunName
from blip_trace_widget.display import formatting, labels, protocol
from blip_trace_widget.display.colors import round_up
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import ImageTokenTrace

#: Overlays that show single squares of image tokens patched, by the direction in which they are.
EFFECTS = {"map_disrupt": "disrupt", "map_restore": "restore"}
#: Overlays that show where a token looks, by the run in which it does (see `Attention.image`).
ATTENTIONS: dict[str, RunName] = {
    "attention_clean": "clean",
    "attention_corrupted": "corrupted",
    "attention_difference": "difference",
    "attention_minus_heads": "clean",
}
#: Those of a single head's weights minus the mean over the heads.
MINUS_HEADS = ("attention_minus_heads",)
OVERLAYS = ("none", *EFFECTS, *ATTENTIONS, "strength")
#: A map of image tokens is made of at most so many squares unless asked otherwise: each costs a text pass a sample.
SQUARES = 100


def square_for(grid: tuple[int, int]) -> int:
    """Side of the squares, in patches, of a map that does not take too long."""
    side = 1
    while -(-grid[0] // side) * -(-grid[1] // side) > SQUARES:
        side += 1
    return side


def nothing(overlay: str, generation: int, text: str) -> protocol.PictureMap:
    """No map, and why."""
    return _map(overlay, generation, np.empty((0, 0)), text=text)


def effects(trace: ImageTokenTrace, overlay: str, generation: int, left: str = "") -> protocol.PictureMap:
    """Squares patched one at a time: recovery, or the indirect effect where that is not defined.

    Args:
        trace: the map as computed so far.
        overlay: its name.
        generation: of the inputs.
        left: about how long it takes yet, while it is being filled.
    """
    closed = bool(trace.undefined_because)
    value, margin = (trace.indirect_effect, trace.margin) if closed else (trace.recovery, trace.recovery_margin)
    significant = np.full(trace.shape, np.nan) if trace.error_unknown else trace.significant
    return _map(
        overlay,
        generation,
        np.stack([value, margin, significant]),
        square=trace.patch,
        text=labels.OVERLAYS[overlay],
        unit=labels.UNITS[f"closed {overlay}" if closed else overlay],
        percent=not closed,
        done=int(trace.computed.sum()),
        left=left,
    )


def attention(
    weights: NDArray[np.floating], overlay: str, who: str, head: int | None, generation: int
) -> protocol.PictureMap:
    """Where tokens look.

    Args:
        weights: (rows, columns).
        overlay: its name.
        who: looks where, in words.
        head: of the attention; None for the mean over heads.
        generation: of the inputs.
    """
    which = "" if head is None else f", head {head}"
    text = f"Where {who}{which}{labels.OVERLAYS[overlay]}"
    return _map(overlay, generation, _plain(weights), text=text, unit=labels.UNITS["attention"], percent=True)


def head_of(spec: GridSpec) -> int | None:
    """The head of the attention to the picture that a grid is of; None for all together."""
    to_picture = spec.block == "image_encoder" or spec.site.startswith("cross_attention")
    return spec.head if to_picture else None


def strength(found: NDArray[np.floating], generation: int) -> protocol.PictureMap:
    """How strongly each patch is hit, (rows, columns)."""
    return _map("strength", generation, _plain(found), text=labels.OVERLAYS["strength"], unit=labels.UNITS["strength"])


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
