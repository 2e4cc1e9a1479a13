"""Drawing a figure's picture with its overlays: a map, the corrupted region, the marked patches.

For: the drawn figure's left column; the twin of js/src/components/Patches.tsx.
Ends: at elements of a `Canvas`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from blip_trace_widget.display.colors import diverging
from blip_trace_widget.display.svg.canvas import Canvas

#: (row, column) of a patch.
Place = tuple[int, int]


class Marks(NamedTuple):
    """Overlays on a picture.

    Attributes:
        picture_map: `blip_trace_widget.display.protocol.PictureMap`; may be empty.
        opacity: opacity of the map.
        shape: rows and columns of patches.
        patches: the marked patches.
        region: the corrupted region, a boolean (rows, columns) mask; None for everything.
    """

    picture_map: Mapping[str, Any]
    opacity: float
    shape: Place
    patches: Sequence[Place]
    region: Sequence[Sequence[bool]] | None


def draw(canvas: Canvas, picture: bytes, x: float, y: float, side: float, marks: Marks | None) -> None:
    """Draw a picture into a square box, with its overlays.

    Args:
        canvas: the canvas to draw on.
        picture: JPEG.
        x: left edge of the box.
        y: top edge of the box.
        side: side of the box.
        marks: the overlays.
    """
    defs = canvas.add("defs")
    corners = canvas.add("clipPath", defs, id="bt-corners")
    canvas.rect(x, y, side, side, "text", corners, rx=5)
    canvas.rect(x, y, side, side, "faint", rx=5)
    data = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
    covered = marks is not None and bool(marks.picture_map.get("rows"))
    if covered and marks is not None:
        grey = canvas.add("filter", defs, id="bt-grey")
        canvas.add("feColorMatrix", grey, type="saturate", values=str(round(1 - marks.opacity, 3)))
    place = {"x": x, "y": y, "width": side, "height": side, "href": data}
    canvas.add("image", clip_path="url(#bt-corners)", filter="url(#bt-grey)" if covered else None, **place)
    if marks is None:
        return
    width, height = Image.open(io.BytesIO(picture)).size
    longest = max(width, height)
    wide, high = side * width / longest, side * height / longest
    left, top = x + (side - wide) / 2, y + (side - high) / 2
    rows, columns = marks.shape
    unit = wide / columns, high / rows
    if covered:
        _map(canvas, marks, (left, top), unit)
    hit = [] if marks.region is None else [(int(row), int(column)) for row, column in np.argwhere(marks.region)]
    for row, column in hit:
        canvas.rect(left + column * unit[0], top + row * unit[1], *unit, "corrupted", fill_opacity=0.25)
    for places, stroke, thick, dashes in (
        (hit, "corrupted", 2, "4 3"),
        (marks.patches, "#ffffff", 5, None),
        (marks.patches, "#1f1f24", 2.5, None),
    ):
        if places:
            path = outline(places, (left, top), unit)
            canvas.add("path", d=path, fill="none", stroke=stroke, stroke_width=thick, stroke_dasharray=dashes)


def outline(places: Iterable[Place], origin: tuple[float, float], unit: tuple[float, float]) -> str:
    """The edges around a set of patches as an SVG path."""
    inside = set(places)
    (left, top), (wide, high) = origin, unit
    parts = []
    for row, column in sorted(inside):
        x, y = left + column * wide, top + row * high
        for neighbour, edge in (
            ((row - 1, column), f"M{x:.2f} {y:.2f}h{wide:.2f}"),
            ((row + 1, column), f"M{x:.2f} {y + high:.2f}h{wide:.2f}"),
            ((row, column - 1), f"M{x:.2f} {y:.2f}v{high:.2f}"),
            ((row, column + 1), f"M{x + wide:.2f} {y:.2f}v{high:.2f}"),
        ):
            if neighbour not in inside:
                parts.append(edge)
    return "".join(parts)


def _map(canvas: Canvas, marks: Marks, origin: tuple[float, float], unit: tuple[float, float]) -> None:
    """Draw a map's squares, more opaque the larger their value; a dot marks those not distinguishable from 0."""
    shown, (rows, columns) = marks.picture_map, marks.shape
    values = np.frombuffer(shown["values"], "<f4").reshape(3, shown["rows"], shown["columns"])
    square = shown["square"]
    for (row, column), value in np.ndenumerate(values[0]):
        # Squares at the right and lower edges may be smaller.
        wide = (min((column + 1) * square, columns) - column * square) * unit[0]
        high = (min((row + 1) * square, rows) - row * square) * unit[1]
        x, y = origin[0] + column * square * unit[0], origin[1] + row * square * unit[1]
        if not np.isfinite(value):
            continue
        strength = min(1.0, abs(float(value)) / (shown["limit"] or 1.0)) * marks.opacity
        color = diverging(canvas.theme, -1 if value < 0 else 1)
        canvas.rect(x, y, wide, high, color, fill_opacity=round(strength, 3))
        if values[2, row, column] == 0:
            dot = {"cx": x + wide / 2, "cy": y + high / 2, "r": 0.06 * min(wide, high)}
            canvas.add("circle", fill="#ffffff", stroke="#1f1f24", stroke_width=0.5, **dot)
