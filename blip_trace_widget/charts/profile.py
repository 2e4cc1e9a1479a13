"""The profile over layers of the question encoder's and the answer decoder's grids as computed so far.

For: which layer matters, in the mean over words, with a band of one standard error.
Cost: NumPy on two grids.
Ends: at two lines; cells that are not computed are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import bqplot
import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.charts.chart import Chart, axis, colors, fit, scale, set_together, swatch
from blip_trace_widget.display import labels
from blip_trace_widget.display.colors import LEAST_RECOVERY
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.statistics import TotalEffect, indirect_effects, statistics

if TYPE_CHECKING:
    from blip_trace_widget.results.trace import Trace
    from blip_trace_widget.widget.widget import TraceWidget

#: Block -> its colour.
PROFILED = {"question_encoder": "purple", "answer_decoder": "teal"}


class Profile(NamedTuple):
    """The mean effect of each layer over positions.

    Attributes:
        layers: those with at least one computed cell, (layers,).
        mean: recovery, or the indirect effect where that is undefined, (layers,).
        margin: half the width of its 95 % interval over the noise samples, (layers,); NaN for a single sample.
    """

    layers: NDArray[np.intp]
    mean: NDArray[np.float64]
    margin: NDArray[np.float64]


def profile(trace: Trace) -> Profile:
    """The mean over the computed positions of each layer, without cells that are 1 by construction."""
    total = TotalEffect(trace.clean, trace.corrupted)
    effects = indirect_effects(total, trace.samples, trace.settings["direction"])
    known = np.asarray(np.isfinite(effects).all(axis=0))
    for cell in trace.constructed:
        known[cell] = False
    layers = np.flatnonzero(known.any(axis=1))
    means = np.mean(effects[:, layers], axis=2, where=known[layers])
    statistic = statistics(total, means, means.mean(axis=0))
    if total.closed_because:
        return Profile(layers, statistic.indirect_effect, margin(means))
    return Profile(layers, statistic.recovery, margin(means, total.samples))


class ProfileChart(Chart):
    """Mean recovery a layer, in the band of its 95 % interval, of the question encoder and the answer decoder."""

    name = "profile"
    watched = ("grid",)  # not the runs: the old grid stays until there is a new one

    def __init__(self, widget: TraceWidget) -> None:
        self._layer, self._value = scale(-0.5, 0.5), scale(0, 1)
        scales, nothing = {"x": self._layer, "y": self._value}, np.zeros((2, 2))
        self.lines = {
            block: bqplot.Lines(x=[0], y=[0], scales=scales, colors=colors(color), marker="circle", marker_size=24)
            for block, color in PROFILED.items()
        }
        band: dict[str, Any] = {"fill": "between", "fill_opacities": [0.2, 0.2], "opacities": [0, 0]}
        self.bands = {
            block: bqplot.Lines(x=[0, 0], y=nothing, scales=scales, fill_colors=colors(color, color), **band)
            for block, color in PROFILED.items()
        }
        self._layers, self._values = axis(self._layer, ""), axis(self._value, "", "left", grid_lines="solid")
        self._layers.label = "layer (cells that are 1 by construction are left out)"
        super().__init__(widget, (*self.bands.values(), *self.lines.values()), (self._layers, self._values))

    def show(self) -> None:
        """Draw the profiles of both grids as computed so far."""
        traces = {block: trace for block in PROFILED if (trace := self.widget.trace_of(block)) is not None}
        profiles = {block: result for block, trace in traces.items() if (result := profile(trace)).layers.size}
        what = "indirect effect" if any(trace.undefined_because for trace in traces.values()) else "recovery"
        legend = "".join(swatch(color, labels.label(block)) for block, color in PROFILED.items())
        note = "" if profiles else "Nothing is computed yet: click cells, or Trace all,<br>in one block or in both."
        self.say(f"Layer profile: mean {what}, band: 95 % interval", legend, note)
        ends = []
        for block in PROFILED:
            self.lines[block].visible = self.bands[block].visible = block in profiles
            if block in profiles:
                layers, mean, half = profiles[block]
                band = mean + np.outer([-1, 1], np.nan_to_num(half))
                ends += band.ravel().tolist()
                set_together(self.lines[block], x=layers, y=mean)
                # Repeat each value: for a single layer bqplot would drop an axis.
                set_together(self.bands[block], x=np.repeat(layers, 2), y=np.repeat(band, 2, axis=1))
        if profiles:
            fit(self._values, [*ends, LEAST_RECOVERY])
            self._values.label = f"mean {what}"
            layers = np.arange(max(trace.samples.shape[1] for trace in traces.values()))
            self._layer.max, self._layers.tick_values = layers[-1] + 0.5, layers
