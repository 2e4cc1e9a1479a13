"""The first word of the answer in the clean, the corrupted and the patched run.

For: what the model would answer in each run.
Ends: at drawing the widget's bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bqplot
import numpy as np

from blip_trace_widget.charts.chart import Chart, axis, colors, scale, set_together, swatch

if TYPE_CHECKING:
    from blip_trace_widget.widget.widget import TraceWidget

#: Run -> its colour.
RUNS = {"clean": "grey", "corrupted": "orange", "patched": "purple"}


class AnswersChart(Chart):
    """The likeliest first words of the answer in the clean, the corrupted and the patched run."""

    name = "answers"
    watched = ("runs", "detail")

    def __init__(self, widget: TraceWidget) -> None:
        word, share = bqplot.OrdinalScale(reverse=True), scale(0, 1)
        look: dict[str, Any] = {"color_mode": "element", "padding": 0.25, "stroke_width": 0, "type": "grouped"}
        self.bars = bqplot.Bars(
            x=["", " "],
            y=np.zeros((3, 2)),
            scales={"x": word, "y": share},
            orientation="horizontal",
            colors=colors(*RUNS.values()),
            **look,
        )
        axes = (
            axis(share, "probability", tick_format=".0%", tick_values=[0, 0.25, 0.5, 0.75, 1], grid_lines="solid"),
            axis(word, "", "left"),
        )
        super().__init__(widget, [self.bars], axes, left=88)

    def show(self) -> None:
        """Draw the bars with the selected cells' patched run, or only those of the two runs."""
        shown = (self.widget.detail or self.widget.runs).get("bars")
        legend = "".join(swatch(color, run) for run, color in RUNS.items())
        self.say("First word of the answer", legend, "" if shown else "Computing the two runs …")
        if shown:
            words = shown["words"]
            shares = [[share or 0.0 for share in shown[run] or [0.0] * len(words)] for run in RUNS]
            set_together(self.bars, x=words, y=shares)
