"""Arrows between named things in columns, as wide as a value: matplotlib if it is installed, else bars of bqplot.

For: the plot of a `Flow`.
Ends: at figures; all numbers are computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results import plots

#: Points of the widest arrow; arrows of less than this share of it are thin and grey, without a number.
WIDEST, FAINT = 8.0, 0.05
#: The ends of the colour map for positive and negative values, see `blip_trace_widget.results.plots`.
_RISES, _FALLS = "#542788", "#b35806"


def draw(
    columns: Mapping[str, Sequence[str]],
    ends: Sequence[tuple[str, str]],
    values: NDArray[np.float64],
    notes: Sequence[str],
    title: str,
    ax: Any = None,
) -> Any:
    """Draw an arrow for each pair of names.

    Args:
        columns: title of each column, from left to right, -> the names in it, from top to bottom.
        ends: from and to, for each arrow; names are unique across columns.
        values: width of each arrow, (arrows,); NaN draws none.
        notes: a text for each.
        title: above all.
        ax: matplotlib axes to draw on.

    Returns:
        matplotlib axes; where matplotlib is not installed, a bqplot figure.
    """
    if not plots.has_matplotlib():
        return plots.bars(values, [f"{source} → {target}" for source, target in ends], "", title)
    import matplotlib.pyplot as plt

    if ax is None:
        rows = max(map(len, columns.values()))
        _, ax = plt.subplots(figsize=(2.6 * len(columns) + 0.8, 1.4 + 0.9 * rows), layout="constrained")
    places = _places(columns)
    for name, (x, y) in places.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "0.6"}
        ax.text(x, y, name, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
    for at, name in enumerate(columns):
        ax.text(at, 0.62, name, ha="center", va="bottom", fontsize=9, color="0.4")
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    for (source, target), value, note in zip(ends, values.tolist(), notes, strict=True):
        if np.isfinite(value):
            _arrow(ax, places[source], places[target], value / largest, note)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(-0.62, 0.75)
    ax.set_axis_off()
    ax.set_title(title, fontsize="medium")
    return ax


def _places(columns: Mapping[str, Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Where each name is, columns at whole numbers, rows between 0.5 and -0.5."""
    found = {}
    for x, names in enumerate(columns.values()):
        heights = np.linspace(0.5, -0.5, len(names)) if len(names) > 1 else [0.0]
        found.update({name: (float(x), float(y)) for name, y in zip(names, heights, strict=True)})
    return found


def _arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], share: float, note: str) -> None:
    """Draw one arrow; within a column it is bent, to the left on its way down and to the right on its way up."""
    faint, same = abs(share) < FAINT, start[0] == end[0]
    color = "0.85" if faint else _RISES if share > 0 else _FALLS
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "linewidth": max(0.6, WIDEST * abs(share)),
        "connectionstyle": f"arc3,rad={0.35 if same else 0.0}",
        "shrinkA": 26,
        "shrinkB": 26,
        "mutation_scale": 10 + 6 * abs(share),
        "alpha": 0.75,
    }
    ax.annotate("", end, start, arrowprops=style, zorder=1 if faint else 2)
    if not faint:
        # An arc bends to one side of its chord by half of its radius times the chord's length.
        bend = 0.175 * (start[1] - end[1]) * (-1.0 if same else 0.0)
        x, y = (start[0] + end[0]) / 2 + bend, (start[1] + end[1]) / 2
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        ax.text(x, y, note, ha="center", va="center", fontsize=7, color="0.2", bbox=box, zorder=4)
