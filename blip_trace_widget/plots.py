"""Static plots of results: matplotlib if it is installed, else bqplot.

For: figures in a notebook or a paper, in the colours of the widget: purple restores, orange hurts, 0 is white.
Cost: an import of the plotting library.
Ends: at figures; no numbers are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from blip_trace_widget.results import NoiseCurve, Trace

#: Diverging colour map in both libraries (ColorBrewer's PuOr, fit for the common colour-vision deficiencies).
COLORS = "PuOr"


def grid(trace: Trace, ax: Any = None) -> Any:
    """Draw a trace in the paper's layout, tokens down and layers across: recovery, or else the indirect effect."""
    closed = trace.undefined_because
    values = (trace.indirect_effect if closed else trace.recovery).T
    label = "indirect effect" if closed else "recovery"
    known = np.abs(values[np.isfinite(values)])
    limit = float(known.max()) if known.size and known.max() > 0 else 1.0
    title = f"{trace.settings['block'].replace('_', ' ')}: {trace.settings['site'].replace('_', ' ')}"
    pyplot = _pyplot()
    if pyplot is None:
        return _bqplot_grid(trace, values, limit, f"{title}, {label}")
    if ax is None:
        layers, positions = values.shape[1], values.shape[0]
        _, ax = pyplot.subplots(figsize=(2.5 + 0.45 * layers, 1.2 + 0.32 * positions), layout="constrained")
    picture = ax.imshow(values, cmap=COLORS, vmin=-limit, vmax=limit, aspect="auto")
    ax.set_xticks(range(values.shape[1]))
    ax.set_yticks(range(values.shape[0]), trace.tokens)
    ax.set_xlabel("layer")
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


def _bqplot_grid(trace: Trace, values: Any, limit: float, title: str) -> Any:
    import bqplot

    colors = bqplot.ColorScale(scheme=COLORS, min=-limit, max=limit, mid=0.0)
    columns, rows = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
    # Ordinal scales merge equal names: a token's position keeps repeated words apart.
    labels = [f"{position} {token}" for position, token in enumerate(trace.tokens)]
    marks = bqplot.GridHeatMap(
        color=values,
        null_color="#e5e5e5",
        row=labels,
        column=list(range(values.shape[1])),
        scales={"color": colors, "row": rows, "column": columns},
    )
    axes = [
        bqplot.Axis(scale=columns, label="layer"),
        bqplot.Axis(scale=rows, orientation="vertical", grid_lines="none"),
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
