"""The noise curve, with the current noise factor as a handle to drag.

For: seeing where the answer breaks, and setting the noise there.
Ends: at the trait `noise`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import bqplot
import numpy as np

from blip_trace_widget.charts.chart import Chart, axis, colors, fit, scale, set_together, swatch
from blip_trace_widget.display import labels

if TYPE_CHECKING:
    from blip_trace_widget.widget.widget import TraceWidget

#: The end of the widget's slider, and the decimals of its steps.
NOISE_MAX, NOISE_DECIMALS = 10.0, 1


class NoiseChart(Chart):
    """Γ(ν), with the current ν as a handle to drag and a line down to the curve."""

    name = "noise"
    watched = ("noise", "curve", "corruption", "metric")

    def __init__(self, widget: TraceWidget) -> None:
        self._busy = self._held = False
        noise, self._score, height = scale(0, NOISE_MAX), scale(0, 1), scale(0, 1)
        on_curve, above = {"x": noise, "y": self._score}, {"x": noise, "y": height}
        self.clean = bqplot.Lines(
            x=[0, NOISE_MAX], y=[0, 0], scales=on_curve, colors=colors("grey"), line_style="dashed"
        )
        self.curve = bqplot.Lines(x=[0, NOISE_MAX], y=[0, 0], scales=on_curve, colors=colors("orange"))
        self.guide = bqplot.Lines(x=[0, 0], y=[0, 1], scales=above, colors=colors("text"), stroke_width=1)
        self.point = bqplot.Scatter(x=[0], y=[0], scales=on_curve, colors=colors("orange"), default_size=50)
        self.handle = bqplot.Scatter(
            x=[0],
            y=[1.05],
            scales=above,
            colors=colors("text"),
            marker="triangle-down",
            default_size=150,
            enable_move=True,
            restrict_x=True,
            update_on_move=True,
            apply_clip=False,
        )
        self._scores = axis(self._score, "", "left")
        marks = (self.clean, self.curve, self.guide, self.point, self.handle)
        super().__init__(widget, marks, (axis(noise, "noise factor ν"), self._scores))
        self.handle.observe(self._on_moved, "x")
        self.handle.on_drag_start(self._on_held)
        self.handle.on_drag_end(self._on_released)

    def show(self) -> None:
        """Draw the curve, and the handle at the current noise factor."""
        widget, curve = self.widget, self.widget.curve
        note = "" if widget.corruption == "GaussianNoise" else "This corruption has no noise to turn up."
        legend = swatch("orange", "mean score of the corrupted run") + swatch("grey", "clean")
        self.say("Noise curve Γ(ν): drag ▼ to set ν", legend, note)
        noise = min(widget.noise, NOISE_MAX)
        self.guide.x = [noise, noise]
        self._place(noise)
        pairs = zip(curve.get("factors", ()), curve.get("scores", ()), strict=True)
        known = np.array([pair for pair in pairs if None not in pair])
        for mark in (self.clean, self.curve, self.point):
            mark.visible = known.size > 0
        if known.size:
            (factors, scores), clean = known.T, curve["clean"] or 0.0
            fit(self._scores, [*scores, clean])
            self._scores.label = labels.label(widget.metric)
            self.clean.y = [clean, clean]
            set_together(self.curve, x=factors, y=scores)
            set_together(self.point, x=[noise], y=[np.interp(noise, factors, scores)])

    @contextmanager
    def _linking(self) -> Iterator[bool]:
        """Guard against loops between handle and trait: yields False if this side caused the change itself."""
        if self._busy:
            yield False
            return
        self._busy = True
        try:
            yield True
        finally:
            self._busy = False

    def _place(self, noise: float) -> None:
        with self._linking() as ours:
            if ours:
                self.handle.x = [noise]

    def _on_moved(self, change: Mapping[str, Any]) -> None:
        self._set_noise(change["new"][0])

    def _set_noise(self, place: float) -> None:
        """Set the noise to the handle's position; the handle snaps to the slider's steps only once it is released."""
        noise = round(min(max(float(place), 0.0), NOISE_MAX), NOISE_DECIMALS)
        with self.widget._session.lock:
            with self._linking() as ours:
                if ours:
                    self.widget.noise = noise
            if ours and not self._held:
                self._place(noise)

    def _on_held(self, _mark: Any, _content: Any) -> None:
        self._held = True

    def _on_released(self, _mark: Any, content: Mapping[str, Any]) -> None:
        # The page may send the last change of x only after this message, which has the position too.
        self._held = False
        self._set_noise(content["point"]["x"])
