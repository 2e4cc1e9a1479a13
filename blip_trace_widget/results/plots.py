"""Static plots of results: matplotlib if it is installed, else bqplot.

For: figures in a notebook or a paper, in the colours of the widget: purple for positive effects, orange for negative
ones, white for 0; with its marks, a dot where a value is not distinguishable from 0 and "=" where it is 1 by
construction. Grey means not computed or undefined.
Ends: at figures; all numbers are computed elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief

if TYPE_CHECKING:
    import pandas as pd

    Labels = tuple[str, Sequence[object]]

#: A diverging colour map that both libraries have (ColorBrewer's PuOr, safe for the common colour-vision deficiencies).
COLORS = "PuOr"
#: For values without a sign.
SEQUENTIAL = "Purples"
#: For values that are not known.
GREY = "#e5e5e5"
#: What the marks mean, in the widget's words.
NOTES = {"•": "not distinguishable from 0", "=": "1 by construction"}
#: What the horizontal axis of curves says, by column.
_ALONG = {"factor": "noise factor ν"}
#: Inches for a word across, for a title on one line, and for a letter of one.
WORD, TITLE, LETTER = 0.7, 3.0, 0.07
#: Up to this many layers, heads or patches, each gets a tick.
TICKS = 12


@dataclass(frozen=True, eq=False)
class Map:
    """A grid of values to be drawn.

    Attributes:
        values: (rows, columns); NaN is drawn grey.
        label: what the values are, beside the colour bar.
        title: above the map.
        rows: the vertical axis's name and a label for each row; a range numbers the rows.
        columns: the same for the horizontal axis.
        dots: (rows, columns): cells not distinguishable from 0, which get a dot.
        ones: cells (row, column) that are 1 by construction.
        words: a text for each cell, or none.
        outlined: cells with a line around them.
        sequential: whether the values have no sign.
    """

    values: NDArray[np.floating[Any]]
    label: str
    title: str
    rows: Labels
    columns: Labels
    dots: NDArray[np.bool_] | None = None
    ones: Sequence[tuple[int, int]] = ()
    words: Sequence[Sequence[str]] = ()
    sequential: bool = False
    outlined: Sequence[tuple[int, int]] = ()

    @property
    def transposed(self) -> Map:
        """The map with rows and columns swapped."""
        return Map(
            self.values.T,
            self.label,
            self.title,
            self.columns,
            self.rows,
            None if self.dots is None else self.dots.T,
            [(column, row) for row, column in self.ones],
            list(zip(*self.words, strict=True)),
            sequential=self.sequential,
            outlined=[(column, row) for row, column in self.outlined],
        )

    def marks(self) -> dict[str, list[tuple[int, int]]]:
        """Mark -> the cells that have it, (row, column)."""
        ones = [(int(row), int(column)) for row, column in self.ones if np.isfinite(self.values[row, column])]
        known = np.isfinite(self.values)
        dots = [] if self.dots is None else np.argwhere(self.dots & known).tolist()
        return {"•": [(row, column) for row, column in dots if (row, column) not in ones], "=": ones}

    def ends(self, limit: float | None) -> tuple[float, float]:
        """The ends of the colour scale; cells that are 1 by construction do not stretch it, as in the widget."""
        free = np.isfinite(self.values)
        for cell in self.ones if (free.sum() > len(self.ones)) else ():
            free[cell] = False
        known = self.values[free]
        largest = limit or float(np.abs(known).max(initial=0.0)) or 1.0
        return (0.0 if self.sequential and not (known < 0).any() else -largest), largest


def checked_limit(limit: Any) -> float | None:
    """Return the end of a colour scale or axis as a float, or None.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if limit is None:
        return None
    if isinstance(limit, (bool, str, bytes)) or not hasattr(limit, "__float__"):
        raise TypeError(f"limit: expected a number above 0 or None, got {type(limit).__name__} {brief(limit)}")
    try:
        number = float(limit)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"limit: expected a number above 0 or None, got {brief(limit)}")
    return number


def draw(picture: Map, ax: Any = None, limit: float | None = None, cmap: Any = None, *, marks: bool = True) -> Any:
    """Draw a map.

    Args:
        picture: what to draw.
        ax: matplotlib axes to draw on; the map, its labels and its colour bar stay within their area.
        limit: end of the colour scale on both sides of 0; default the largest value.
        cmap: a matplotlib colour map or its name; for bqplot the name of a colour scheme.
        marks: whether to mark cells.

    Returns:
        matplotlib axes; without matplotlib, a bqplot figure.

    Raises:
        TypeError, ValueError: if `limit` is not a number above 0, or matplotlib does not know `cmap`.
    """
    limit = checked_limit(limit)
    cmap = (SEQUENTIAL if picture.sequential else COLORS) if cmap is None else cmap
    placed = {mark: cells for mark, cells in (picture.marks() if marks else {}).items() if cells}
    pyplot = _pyplot()
    if pyplot is None:
        placed = {**placed, "□": list(picture.outlined)} if picture.outlined else placed
        return _bqplot_map(picture, picture.ends(limit), cmap, placed)
    if ax is None:
        _, ax = pyplot.subplots(figsize=_size(picture.values.shape, 0.75 if picture.words else 0.45))
    low, high = picture.ends(limit)
    image = ax.imshow(picture.values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    ax.set_facecolor(GREY)
    for axis, (name, labels) in ((ax.yaxis, picture.rows), (ax.xaxis, picture.columns)):
        axis.set_label_text(name)
        if not isinstance(labels, range) or len(labels) <= TICKS:
            axis.set_ticks(range(len(labels)), [str(item) for item in labels])
    if not isinstance(picture.columns[1], range):
        ax.tick_params("x", labelrotation=90)
    width = ax.get_window_extent().width / ax.figure.dpi
    for mark, cells in placed.items():
        _matplotlib_marks(ax, image, mark, cells)
    for row, column in picture.outlined:
        box = pyplot.Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor="black", linewidth=1.5)
        ax.add_patch(box)
    if marks and len(picture.words):
        for row, texts in enumerate(picture.words):
            for column, text in enumerate(texts):
                upright = width / len(texts) < WORD
                style = {"fontsize": 8, "rotation": 90 if upright else 0, "color": _ink(image, row, column)}
                ax.text(column, row, text, ha="center", va="center", **style)
    if placed:
        note = ("\n" if width < TITLE else "   ").join(f"{mark} {NOTES[mark]}" for mark in placed)
        ax.annotate(note, (0.5, 0), (0, -34), "axes fraction", "offset points", ha="center", va="top", fontsize=8)
    _title(ax, picture.title)
    _color_bar(ax, image, picture.label)
    return ax


def beside(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Axes for maps of these (rows, columns), beside each other; None for each where matplotlib is not installed."""
    pyplot = _pyplot()
    if pyplot is None:
        return [None] * len(shapes)
    widths, heights = zip(*(_size(shape) for shape in shapes), strict=True)
    _, axes = pyplot.subplots(1, len(shapes), figsize=(sum(widths), max(heights)), width_ratios=widths, squeeze=False)
    return list(axes[0])


def _size(shape: tuple[int, ...], cell: float = 0.45) -> tuple[float, float]:
    """Inches of a map of (rows, columns)."""
    return 3.0 + cell * min(shape[1], 24), 1.6 + 0.32 * min(shape[0], 24)


def _color_bar(ax: Any, image: Any, label: str) -> None:
    """Add a colour bar inside the area of the axes, shrinking them so that no label extends beyond it."""
    from mpl_toolkits.axes_grid1 import axes_size, make_axes_locatable

    divider = make_axes_locatable(ax)
    bar = divider.append_axes("right", size=0.12, pad=0.08)
    ax.figure.colorbar(image, cax=bar, label=label)
    if ax.get_subplotspec() is None:
        return
    outer, whole, dpi = bar.get_tightbbox(), ax.get_tightbbox(), ax.figure.dpi
    names, inner, last = ax.yaxis.get_tightbbox(), ax.get_window_extent(), bar.get_window_extent()
    taken = {
        "left": inner.x0 - (inner.x0 if names is None else names.x0),
        "right": outer.x1 - last.x1,
        "top": whole.y1 - inner.y1,
        "bottom": inner.y0 - whole.y0,
    }
    for side, pixels in taken.items():
        divider.append_size(side, axes_size.Fixed(max(0.0, pixels) / dpi + 0.04))


def _matplotlib_marks(ax: Any, image: Any, mark: str, cells: Sequence[tuple[int, int]]) -> None:
    inks = [_ink(image, row, column) for row, column in cells]
    down, across = zip(*cells, strict=True)
    if mark == "•":
        ax.scatter(across, down, s=5, color=inks, linewidths=0, label=NOTES[mark])
        return
    for row, column, ink in zip(down, across, inks, strict=True):
        ax.text(column, row, mark, color=ink, ha="center", va="center", fontsize=9)


def _ink(image: Any, row: int, column: int) -> str:
    """A text colour that is legible on a cell."""
    value = image.get_array()[row, column]
    red, green, blue, _ = image.cmap(image.norm(value))
    return "0.35" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def bars(
    values: NDArray[np.float64],
    names: Sequence[str] | range,
    label: str,
    title: str,
    ax: Any = None,
    limit: float | None = None,
    cmap: Any = None,
) -> Any:
    """Draw a bar for each value; a range numbers layers.

    Args:
        values: one per bar, (bars,); NaN draws none.
        names: names of the bars.
        label: what the values are.
        title: above the bars.
        ax: matplotlib axes to draw on.
        limit: end of the axis; default the largest value.
        cmap: a matplotlib colour map or its name.

    Returns:
        matplotlib axes; without matplotlib, a bqplot figure.

    Raises:
        TypeError, ValueError: if `limit` is not a number above 0, or matplotlib does not know `cmap`.
    """
    limit, pyplot, layers = checked_limit(limit), _pyplot(), isinstance(names, range)
    if pyplot is None:
        return _bqplot_bars(list(names), values, "layer" if layers else "", label, title)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(5 if layers else 3.5, 3), layout="constrained")
    at = list(range(len(names)))
    ax.bar(at, np.nan_to_num(values, nan=0.0), color=pyplot.get_cmap(SEQUENTIAL if cmap is None else cmap)(0.7))
    ax.axhline(0, color="0.4", linewidth=0.8)
    if not layers or len(names) <= TICKS:
        ax.set_xticks(at, [str(name) for name in names])
    if limit is not None:
        ax.set_ylim(-limit if (values < 0).any() else 0.0, limit)
    ax.set_xlabel("layer" if layers else "")
    ax.set_ylabel(label)
    _title(ax, title)
    return ax


def _title(ax: Any, title: str) -> None:
    """Set the title, on two lines if the axes are narrow for it."""
    width = ax.get_window_extent().width / ax.figure.dpi
    narrow = width < max(TITLE, LETTER * len(title))
    ax.set_title(title.replace(": ", ":\n", 1) if narrow else title, fontsize="medium")


def curves(
    table: pd.DataFrame,
    ax: Any = None,
    *,
    names: str,
    values: str,
    level: tuple[str, float] | None = None,
    across: str = "factor",
) -> Any:
    """Draw values and their standard errors over the noise factor, or another column, a line for each name.

    Args:
        table: with the column ``stderr``, and those that follow.
        ax: matplotlib axes to draw on.
        names: the column that says of which line a row is.
        values: the column of values.
        level: a line across, by name and value.
        across: the column along the horizontal axis.

    Returns:
        matplotlib axes; where matplotlib is not installed, a bqplot figure.
    """
    pyplot = _pyplot()
    if pyplot is None:
        return _bqplot_curves(table, names, values, across)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(5, 3), layout="constrained")
    if level is not None:
        ax.axhline(level[1], color="grey", linewidth=1, label=level[0])
    for name, rows in table.groupby(names, sort=False):
        line = ax.plot(rows[across], rows[values], label=name)[0]
        band = rows["stderr"].fillna(0.0)
        low, high = rows[values] - band, rows[values] + band
        ax.fill_between(rows[across], low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel(_ALONG.get(across, across))
    ax.set_ylabel(values)
    ax.legend(frameon=False)
    return ax


def has_matplotlib() -> bool:
    """Whether matplotlib is installed."""
    return _pyplot() is not None


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    return plt


def _bqplot_map(picture: Map, ends: tuple[float, float], scheme: str, placed: dict[str, list[tuple[int, int]]]) -> Any:
    import bqplot

    low, high = ends
    colors = bqplot.ColorScale(scheme=scheme, min=low, max=high, **({} if picture.sequential else {"mid": 0.0}))
    across, down = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
    # Ordinal scales merge equal names: prefixing the position keeps repeated words apart.
    row, column = (
        list[object](labels) if isinstance(labels, range) else [f"{at} {item}" for at, item in enumerate(labels)]
        for _, labels in (picture.rows, picture.columns)
    )
    places = {"row": down, "column": across}
    values = picture.values
    for axis, names in enumerate((row, column)):
        if len(names) == 1:  # bqplot mistakes a single row for a list: draw it twice
            values, names[:] = np.repeat(values, 2, axis), [*names, " "]
    cells = bqplot.GridHeatMap(
        color=values, null_color=GREY, row=row, column=column, scales={"color": colors, **places}
    )
    notes = [
        bqplot.Label(
            x=[column[at] for _, at in where],
            y=[row[at] for at, _ in where],
            text=[mark] * len(where),
            align="middle",
            default_size=11,
            colors=["#595959"],
            scales={"x": across, "y": down},
        )
        for mark, where in placed.items()
    ]
    axes = [
        bqplot.Axis(scale=across, label=picture.columns[0]),
        bqplot.Axis(scale=down, orientation="vertical", grid_lines="none", label=picture.rows[0]),
        bqplot.ColorAxis(scale=colors),
    ]
    return bqplot.Figure(marks=[cells, *notes], axes=axes, title=f"{picture.title}, {picture.label}", padding_y=0)


def _bqplot_bars(x: Any, values: Any, name: str, label: str, title: str) -> Any:
    import bqplot

    across, up = bqplot.OrdinalScale(), bqplot.LinearScale()
    marks = [bqplot.Bars(x=x, y=values, scales={"x": across, "y": up})]
    axes = [bqplot.Axis(scale=across, label=name), bqplot.Axis(scale=up, orientation="vertical", label=label)]
    return bqplot.Figure(marks=marks, axes=axes, title=title)


def _bqplot_curves(table: pd.DataFrame, names: str, values: str, across: str) -> Any:
    import bqplot

    along, up = bqplot.LinearScale(), bqplot.LinearScale()
    lines = {str(name): rows for name, rows in table.groupby(names, sort=False)}
    drawn = bqplot.Lines(
        x=next(iter(lines.values()))[across].to_numpy(),
        y=np.stack([rows[values].to_numpy() for rows in lines.values()]),
        scales={"x": along, "y": up},
        labels=list(lines),
        display_legend=True,
    )
    axes = [
        bqplot.Axis(scale=along, label=_ALONG.get(across, across)),
        bqplot.Axis(scale=up, orientation="vertical", label=values),
    ]
    return bqplot.Figure(marks=[drawn], axes=axes)
