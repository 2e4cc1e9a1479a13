"""Drawing the grid of effects: cells with their marks, labels, means along both sides, and a legend.

For: the main part of `blip_trace_widget.display.svg`, from the `Grid` that the widget sends to its front end.
Cost: 0.1 ms and 300 bytes per cell: a rectangle with its values in words.
Ends: at elements on a `Canvas`. The only numbers computed here are means over rows and columns.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import formatting, labels, protocol
from blip_trace_widget.display.colors import Scale, fit_scale, mark_on
from blip_trace_widget.display.svg.canvas import Canvas, breadth

Array = NDArray[np.float64]
Cell = tuple[int, int]

#: Height of a row, smaller if the grid would exceed the second value; and room for a label; in pixels.
ROW, GRID_HEIGHT, LABEL = 29.0, 3400.0, 104.0
#: Room for bars of means, in pixels, and the least share of the colour scale that this room represents.
PROFILE, LEAST_MEANS = 36.0, 0.1
_STRIDES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SHOWN = {"recovery": "recovery", "indirect_effect": "indirect effect", "score": "patched score"}
_NOTES = {"•": labels.EXPLAIN["negligible"], "=": "1 by construction", "–": "not defined", "×": labels.EXPLAIN["nan"]}


@dataclass(frozen=True)
class Cells:
    """A grid payload with its values by name; arrays are (layers, positions)."""

    grid: Mapping[str, Any]
    values: dict[str, Array]
    negligible: NDArray[np.bool_]
    constructed: NDArray[np.bool_]
    nan: NDArray[np.bool_]
    #: For a difference: how the two grids differ.
    text: str = ""
    #: Those on which the grid that is kept, under another corruption, says otherwise.
    apart: frozenset[Cell] = frozenset()

    def known(self, cell: Cell) -> bool:
        """Whether a cell is computed."""
        return bool(self.nan[cell]) or not math.isnan(self.values["score"][cell])

    def of(self, detail: Mapping[str, Any]) -> list[Cell]:
        """The detail's cells, if they belong to this grid."""
        if any(detail.get(name) != self.grid.get(name) for name in ("block", "site", "head", "direction", "window")):
            return []
        layers, positions = self.constructed.shape
        return [(layer, at) for layer, at in detail["cells"] if 0 <= layer < layers and 0 <= at < positions]

    def scale(self, show: str, *, falling: bool, limit: float) -> Scale:
        """The colour scale; cells that are 1 by construction do not stretch it, as they say nothing about the others.

        A difference has its own scale, with larger values on the right, whatever is shown.
        """
        if self.text:
            return fit_scale(self.values[show], "indirect_effect" if show == "score" else show)
        return fit_scale(np.where(self.constructed, np.nan, self.values[show]), show, falling=falling, limit=limit)

    def ends(self, show: str, direction: str) -> list[str]:
        """The names of the ends of the scale."""
        shown = "difference" if self.text else f"{show} {direction}"
        return [labels.CAPTIONS[f"{end} {shown}"] for end in ("low", "high")]

    def shown(self, show: str) -> str:
        """The name of the shown quantity."""
        return f"difference of {_SHOWN[show]}" if self.text else _SHOWN[show]

    def mark(self, cell: Cell, show: str) -> str:
        """A cell's mark: 1 by construction, not different from 0, not a number, or undefined; "" for none."""
        if not self.known(cell):
            return ""
        if self.nan[cell]:
            return "×"
        if self.constructed[cell]:
            return "="
        if math.isnan(self.values[show][cell]):
            return "–"
        return "•" if self.negligible[cell] else ""

    def description(self, cell: Cell, metric: str) -> str:
        """All values of a cell in words, one per line."""
        layer, position = cell
        lines = [f"layer {layer} · {formatting.token_name(self.grid['tokens'], position)}"]
        if not self.known(cell):
            return "\n".join([*lines, "not computed"])
        if self.nan[cell]:
            return "\n".join([*lines, labels.EXPLAIN["nan"]])
        value = {name: float(array[cell]) for name, array in self.values.items()}
        lines.append(f"score {formatting.score(metric, value['score'])}")
        lines.append(f"indirect effect {formatting.plain(value['indirect_effect'], value['margin'])}")
        lines.append(f"recovery {formatting.percent(value['recovery'], value['recovery_margin'])}")
        if self.constructed[cell]:
            lines.append(labels.EXPLAIN["constructed"])
        elif self.negligible[cell]:
            lines.append(labels.EXPLAIN["negligible"])
        return "\n".join(lines)


@dataclass(frozen=True)
class Differences(Cells):
    """The cells of a difference of two grids."""

    def description(self, cell: Cell, metric: str) -> str:
        """All values of a cell in words, one per line."""
        layer, position = cell
        lines = [f"layer {layer} · {formatting.token_name(self.grid['tokens'], position)}", self.text]
        if not self.known(cell):
            return "\n".join([*lines, labels.EXPLAIN["lacking"]])
        value = {name: float(array[cell]) for name, array in self.values.items()}
        lines.append(f"score {formatting.points(metric, value['score'], value['score_margin'])}")
        lines.append(f"indirect effect {formatting.plain(value['indirect_effect'], value['margin'])}")
        lines.append(f"recovery {formatting.points('probability', value['recovery'], value['recovery_margin'])}")
        if self.negligible[cell]:
            lines.append(labels.EXPLAIN["negligible"])
        return "\n".join(lines)


def read_difference(grid: Mapping[str, Any], difference: Mapping[str, Any], show: str) -> Differences:
    """The cells of a grid's `blip_trace_widget.display.protocol.GridDifference`, marked by the shown quantity's test.

    Raises:
        ValueError: if its values do not have the grid's shape.
    """
    shape = (len(protocol.DIFFERENCE_FIELDS), int(grid["layers"]), len(grid["tokens"]))
    floats = np.frombuffer(difference["values"], "<f4").astype(np.float64)
    if floats.size != math.prod(shape):
        raise ValueError(f"difference: values must be float32 {shape}, got {floats.size} numbers")
    values: dict[str, Array] = dict(zip(protocol.DIFFERENCE_FIELDS, floats.reshape(shape), strict=True))
    significant = values["significant" if show == "indirect_effect" else f"{show}_significant"]
    cells = read(grid)
    none = np.zeros(shape[1:], dtype=np.bool_)
    here = {**grid, "generation": difference["generation"]}
    return Differences(here, values, significant == 0, none, cells.nan, difference["text"])


def read(grid: Mapping[str, Any]) -> Cells:
    """The cells of a `blip_trace_widget.display.protocol.Grid`.

    Raises:
        ValueError: if its values do not have its shape.
    """
    shape = (int(grid["layers"]), len(grid["tokens"]))
    floats = np.frombuffer(grid["values"], "<f4").astype(np.float64)
    if not floats.size or floats.size % math.prod(shape):
        raise ValueError(f"grid: values must be float32 (fields, {shape[0]}, {shape[1]}), got {floats.size} numbers")
    values: dict[str, Array] = dict(zip(protocol.CELL_FIELDS, floats.reshape(-1, *shape), strict=False))
    negligible = (values["significant"] == 0) & ~np.isnan(values["score"])
    constructed, nan = (np.zeros(shape, dtype=np.bool_) for _ in range(2))
    for marked, name in ((constructed, "constructed"), (nan, "nan")):
        for layer, position in grid[name]:
            marked[layer, position] = True
    return Cells(grid, values, negligible, constructed, nan)


class Heatmap:
    """Cells, labels, means and legend of one grid.

    Args:
        canvas: the canvas to draw on.
        cells: the cells to draw.
        scale: from values to colours.
        show: the quantity that the colour shows.
        metric: how runs are scored.
        axes: the rows, ``"tokens"`` or ``"layers"``.
        place: x, y and width, in pixels.
    """

    def __init__(
        self,
        canvas: Canvas,
        cells: Cells,
        scale: Scale,
        show: str,
        metric: str,
        axes: str,
        place: tuple[float, float, float],
    ) -> None:
        self.canvas, self.cells, self.scale, self.show, self.metric = canvas, cells, scale, show, metric
        self.upright = axes == "tokens"
        self.shown = cells.values[show]
        self.x, self.y, self.width = place
        tokens, layers = list(cells.grid["tokens"]), [str(layer) for layer in range(cells.grid["layers"])]
        self.rows: list[str]
        self.columns: list[str]
        self.rows, self.columns = (tokens, layers) if self.upright else (layers, tokens)
        room = min(LABEL, max(breadth(label, 12, mono=True) for label in [*self.rows, "layer"]))
        self.left, self.right = self.x + room + 8, self.x + self.width - PROFILE - 8
        self.across = (self.right - self.left) / len(self.columns)
        self.down = min(ROW, GRID_HEIGHT / len(self.rows))
        gap = min(2.0, 0.15 * min(self.across, self.down))
        self.wide, self.high = self.across - gap, self.down - gap
        self.column_step = _stride(self.across, 17)
        widest = max(breadth(label, 12, mono=True) for label in self.columns)
        self.sloped = widest > self.column_step * self.across - 4
        self.top = self.y + (16 + 0.75 * min(LABEL, widest) if self.sloped else 22)
        self.bottom = self.top + len(self.rows) * self.down

    def draw(self, outlined: Sequence[Cell], *, pale: bool) -> float:
        """Draw everything but the legend; returns its bottom."""
        self._labels()
        self._cells(pale=pale)
        self._outlines(outlined)
        self._profiles()
        return self.bottom + 4 + PROFILE

    def _corner(self, cell: Cell) -> tuple[float, float]:
        column, row = cell if self.upright else cell[::-1]
        return self.left + column * self.across, self.top + row * self.down

    def _labels(self) -> None:
        canvas = self.canvas
        token: dict[str, Any] = {"room": LABEL, "mono": True}
        layer: dict[str, Any] = {"fill": "muted"}
        down, along = (token, layer) if self.upright else (layer, token)
        canvas.text(self.left - 8, self.top - 8, "layer", 12, "muted", "end")
        for at in range(0, len(self.rows), _stride(self.down, 13)):
            y = self.top + at * self.down + self.high / 2 + 4
            canvas.text(self.left - 8, y, self.rows[at], 12, anchor="end", **down)
        for at in range(0, len(self.columns), self.column_step):
            x, y = self.left + at * self.across + self.wide / 2, self.top - 8
            turn: dict[str, Any] = {"anchor": "middle"}
            if self.sloped:
                x, y = x + 3, y + 2
                turn = {"transform": f"rotate(-45 {x:.2f} {y:.2f})"}
            canvas.text(x, y, self.columns[at], 12, **along, **turn)

    def _cells(self, *, pale: bool) -> None:
        canvas, hatch = self.canvas, _hatch(self.canvas)
        boxes = canvas.add("g", opacity=0.35 if pale else None)
        marks = canvas.add("g", pointer_events="none")
        for cell in np.ndindex(self.shown.shape):
            x, y = self._corner(cell)
            fill = self.scale.color(canvas.theme, float(self.shown[cell])) if self.cells.known(cell) else hatch
            names: dict[str, Any] = {"class": "bt-cell", "data-layer": cell[0], "data-position": cell[1]}
            if self.cells.nan[cell]:
                fill = "ground"
                names |= {"stroke": "muted", "stroke_dasharray": "3 2"}
            box = canvas.rect(
                x, y, self.wide, self.high, fill, boxes, rx=min(3.0, self.wide / 4, self.high / 4), **names
            )
            canvas.add("title", box, self.cells.description(cell, self.metric))
            mark, apart = self.cells.mark(cell, self.show), cell in self.cells.apart
            if not (mark or apart):
                continue
            ink = "muted" if pale or self.cells.nan[cell] else mark_on(fill)
            if mark:
                _mark(canvas, marks, mark, x + self.wide / 2, y + self.high / 2, min(self.wide, self.high), ink)
            if apart and min(self.wide, self.high) > 6:
                dashed: dict[str, Any] = {"class": "bt-apart", "stroke_width": 2, "stroke_dasharray": "4 3"}
                canvas.rect(x + 2, y + 2, self.wide - 4, self.high - 4, "none", marks, stroke=ink, rx=2, **dashed)

    def _outlines(self, outlined: Sequence[Cell]) -> None:
        line = min(2.0, self.high / 5, self.wide / 5)
        for cell in outlined:
            x, y = self._corner(cell)
            for out, color in ((line / 2, "ground"), (line * 3 / 2, "text")):
                names: dict[str, Any] = {"class": "bt-outline"} if color == "text" else {}
                size = self.wide + 2 * out, self.high + 2 * out
                box = self.canvas.rect(x - out, y - out, *size, "none", stroke=color, stroke_width=line, rx=4, **names)
                box.set("pointer-events", "none")

    def _profiles(self) -> None:
        """Draw means of the columns below and of the rows at the right, all on one scale."""
        shown = self.shown.T if self.upright else self.shown
        below, beside = _means(shown, 0), _means(shown, 1)
        sign = -1 if self.scale.right < self.scale.left else 1
        lengths = sign * np.nan_to_num(np.concatenate([below, beside]))
        over, under = max(0.0, float(lengths.max())), max(0.0, float(-lengths.min()))
        unit = sign * PROFILE / (max(over + under, LEAST_MEANS * abs(self.scale.right - self.scale.left)) or 1)
        y = self.bottom + 4 + (PROFILE * over / (over + under) if under else PROFILE)
        x = self.right + 8 + (PROFILE * under / (over + under) if under else 0)
        middle = self.bottom + 4 + PROFILE / 2 + 4
        self.canvas.text(self.left - 8, middle, "mean", 12, "muted", "end")
        self.canvas.text(self.right + 8 + PROFILE / 2, middle, "mean", 12, "muted", "middle")
        for at, mean in enumerate(below):
            start, size = self.left + at * self.across, float(unit * mean)
            self.canvas.rect(start, y, self.wide, 1, "hatch")
            self._bar(start + 0.2 * self.wide, y - max(size, 0), 0.6 * self.wide, abs(size), mean, self.columns[at])
        for at, mean in enumerate(beside):
            start, size = self.top + at * self.down, float(unit * mean)
            self.canvas.rect(x, start, 1, self.high, "hatch")
            self._bar(x + min(size, 0), start + 0.2 * self.high, abs(size), 0.6 * self.high, mean, self.rows[at])

    def _bar(self, x: float, y: float, width: float, height: float, mean: float, label: str) -> None:
        """Draw a mean as a bar; its colour, of medium depth, shows only the sign."""
        if math.isnan(mean):
            return
        scale = self.scale
        place = 0.5 + 0.3 * np.sign(mean) * np.sign(scale.right) if scale.diverging else 0.6
        bar = self.canvas.rect(x, y, width, height, scale.at(self.canvas.theme, float(place)), rx=min(2.0, height / 2))
        self.canvas.add("title", bar, f"mean of {label}: {formatting.plain(mean)}")

    def legend(self, y: float, direction: str, error: str) -> float:
        """What the colours mean, between which limits, what the marks mean, and what ± is or why there is none.

        Returns where it ends.
        """
        canvas, scale, name = self.canvas, self.scale, f"bt-scale-{self.canvas.theme}-{self.scale.diverging}"
        gradient = canvas.add("linearGradient", canvas.add("defs"), id=name)
        for stop in range(17):
            canvas.add("stop", gradient, offset=stop / 16, stop_color=scale.at(canvas.theme, stop / 16))
        ends = self.cells.ends(self.show, direction)
        x = self.x + 6 + breadth(ends[0], 12)
        canvas.text(self.x, y + 9, ends[0], 12, "muted")
        canvas.rect(x, y, 168, 10, f"url(#{name})", rx=2)
        limits = f"{formatting.limit(scale.left)} … {formatting.limit(scale.right)}"
        metric = labels.label(self.metric)
        text = f"{ends[1]}    {limits}    {self.cells.shown(self.show)} ({metric})"
        canvas.text(x + 176, y + 9, text.replace(" " * 4, "\u2003"), 12, "muted")
        known = [cell for cell in np.ndindex(self.shown.shape) if self.cells.known(cell)]
        marks = {self.cells.mark(cell, self.show) for cell in known}
        notes = [(mark, note) for mark, note in _NOTES.items() if mark in marks]
        if len(known) < self.shown.size:
            notes.append(("", "not computed"))
        x = self.x
        for mark, note in notes:
            if note == "not computed":
                canvas.rect(x, y + 20, 16, 10, _hatch(canvas), rx=2)
            canvas.text(x + 20, y + 29, note, 12, "muted")
            canvas.text(x + 8, y + 29, mark, 12, "muted", "middle")
            x += 40 + breadth(note, 12)
        canvas.text(x, y + 29, error or labels.EXPLAIN["margin"], 12, "muted")
        return y + 42


def _means(shown: Array, axis: int) -> Array:
    """Means over the computed cells; NaN where there are none."""
    known = np.isfinite(shown)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, shown, 0).sum(axis) / known.sum(axis))


def _stride(pitch: float, room: float) -> int:
    """The smallest stride at which labels fit."""
    return next((stride for stride in _STRIDES if stride * pitch >= room), 1000)


def _hatch(canvas: Canvas) -> str:
    """The fill of cells that are not computed."""
    name = f"bt-hatch-{canvas.theme}"
    if canvas.root.find(f".//pattern[@id='{name}']") is None:
        turned = {"patternTransform": "rotate(-45)", "patternUnits": "userSpaceOnUse"}
        pattern = canvas.add("pattern", canvas.add("defs"), id=name, width=5, height=5, **turned)
        canvas.rect(0, 0, 5, 5, "faint", pattern)
        canvas.rect(0, 0, 1, 5, "hatch", pattern)
    return f"url(#{name})"


def _mark(canvas: Canvas, inside: ET.Element, mark: str, x: float, y: float, room: float, color: str) -> None:
    if mark == "•":
        canvas.add("circle", inside, cx=x, cy=y, r=min(1.8, room / 5), fill=color)
        return
    more: dict[str, Any] = {"font_size": min(13.0, room), "text_anchor": "middle"}
    canvas.add("text", inside, mark, x=x, y=y + 0.33 * min(13.0, room), fill=color, **more)
