"""Static plots of results: matplotlib if it is installed, else bqplot.

For: figures in a notebook or a paper, in the colours of the widget: purple restores, orange hurts, 0 is white.
Cost: an import of the plotting library.
Ends: at figures; no numbers are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blip_trace_widget.results import EffectGrid, NoiseCurve, Trace

    Labels = tuple[str, Sequence[object]]

#: Diverging colour map in both libraries (ColorBrewer's PuOr, fit for the common colour-vision deficiencies).
COLORS = "PuOr"


def trace(trace: Trace, ax: Any = None) -> Any:
    """Draw a trace in the paper's layout, tokens down and layers across."""
    layers = trace.samples.shape[1]
    title = f"{trace.settings['block']}: {trace.settings['site']}".replace("_", " ")
    return effect_map(trace, title, ("", trace.tokens), ("layer", range(layers)), ax, transposed=True)


def effect_map(
    grid: EffectGrid, title: str, rows: Labels, columns: Labels, ax: Any = None, *, transposed: bool = False
) -> Any:
    """Draw a grid of effects: recovery, or where that is undefined the indirect effect.

    Args:
        grid: what to draw.
        title: above it.
        rows: the vertical axis' name and a label for each row; a range names rows by number.
        columns: the same of the horizontal axis.
        ax: matplotlib axes to draw on.
        transposed: whether the grid's columns run down.
    """
    closed = grid.undefined_because
    values = grid.indirect_effect if closed else grid.recovery
    values = values.T if transposed else values
    return _map(values, "indirect effect" if closed else "recovery", title, rows, columns, None, ax)


def role_map(
    values: NDArray[np.float64],
    label: str,
    title: str,
    roles: Sequence[str],
    faint: NDArray[np.bool_],
    ax: Any = None,
    limit: float | None = None,
) -> Any:
    """Draw (layers, roles) in the paper's layout, roles down and layers across.

    Args:
        values: what the colour shows; NaN stays white.
        label: its name.
        title: above it.
        roles: what the columns stand for.
        faint: cells that get a dot, for they may be 0.
        ax: matplotlib axes to draw on.
        limit: where the colours end, to both sides of 0; default the largest value.
    """
    return _map(
        values.T, label, title, ("", roles), ("layer", range(len(values))), faint.T & np.isfinite(values.T), ax, limit
    )


def _map(
    values: Any,
    label: str,
    title: str,
    rows: Labels,
    columns: Labels,
    faint: NDArray[np.bool_] | None,
    ax: Any,
    limit: float | None = None,
) -> Any:
    known = np.abs(values[np.isfinite(values)])
    limit = limit or (float(known.max()) if known.size and known.max() > 0 else 1.0)
    pyplot = _pyplot()
    if pyplot is None:
        return _bqplot_map(values, limit, f"{title}, {label}", rows, columns)
    if ax is None:
        size = (2.5 + 0.45 * min(values.shape[1], 24), 1.2 + 0.32 * min(values.shape[0], 24))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    picture = ax.imshow(values, cmap=COLORS, vmin=-limit, vmax=limit, aspect="auto")
    for axis, (name, labels) in ((ax.yaxis, rows), (ax.xaxis, columns)):
        axis.set_label_text(name)
        if not isinstance(labels, range) or len(labels) <= 12:
            axis.set_ticks(range(len(labels)), [str(item) for item in labels])
    if faint is not None and faint.any():
        down, across = np.nonzero(faint)
        ax.scatter(across, down, s=4, color="0.55", linewidths=0)
    ax.set_title(title)
    ax.figure.colorbar(picture, ax=ax, label=label)
    return ax


def curve(noise_curve: NoiseCurve, ax: Any = None) -> Any:
    """Draw mean scores and their standard errors over the noise factor."""
    pyplot = _pyplot()
    if pyplot is None:
        return _bqplot_curve(noise_curve)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(5, 3), layout="constrained")
    ax.axhline(noise_curve.clean, color="grey", linewidth=1, label="clean")
    for name, table in noise_curve.to_dataframe().groupby("run", sort=False):
        line = ax.plot(table["factor"], table["score"], label=name)[0]
        band = table["stderr"].fillna(0.0)
        ax.fill_between(
            table["factor"],
            table["score"] - band,
            table["score"] + band,
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    ax.set_xlabel("noise factor ν")
    ax.set_ylabel("score")
    ax.legend(frameon=False)
    return ax


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    return plt


def _bqplot_map(values: Any, limit: float, title: str, rows: Labels, columns: Labels) -> Any:
    import bqplot

    colors = bqplot.ColorScale(scheme=COLORS, min=-limit, max=limit, mid=0.0)
    across, down = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
    # Ordinal scales merge equal names: a token's position keeps repeated words apart.
    row, column = (
        list(labels) if isinstance(labels, range) else [f"{at} {item}" for at, item in enumerate(labels)]
        for _, labels in (rows, columns)
    )
    marks = bqplot.GridHeatMap(
        color=values,
        null_color="#e5e5e5",
        row=row,
        column=column,
        scales={"color": colors, "row": down, "column": across},
    )
    axes = [
        bqplot.Axis(scale=across, label=columns[0]),
        bqplot.Axis(scale=down, orientation="vertical", grid_lines="none", label=rows[0]),
        bqplot.ColorAxis(scale=colors),
    ]
    return bqplot.Figure(marks=[marks], axes=axes, title=title, padding_y=0)


def _bqplot_curve(noise_curve: NoiseCurve) -> Any:
    import bqplot

    across, up = bqplot.LinearScale(), bqplot.LinearScale()
    table = noise_curve.to_dataframe()
    names = list(dict.fromkeys(table["run"]))
    lines = bqplot.Lines(
        x=noise_curve.factors,
        y=np.stack([table.loc[table["run"] == name, "score"] for name in names]),
        scales={"x": across, "y": up},
        labels=names,
        display_legend=True,
    )
    axes = [
        bqplot.Axis(scale=across, label="noise factor ν"),
        bqplot.Axis(scale=up, orientation="vertical", label="score"),
    ]
    return bqplot.Figure(marks=[lines], axes=axes)
