"""The base of all charts: a title and a legend over a figure of a fixed size, in the widget's colours.

For: charts that look alike on light and dark pages, and do not jump.
Ends: at marks, axes and texts; subclasses draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import bqplot
import ipywidgets
import numpy as np

from blip_trace_widget.display.colors import round_up

if TYPE_CHECKING:
    from blip_trace_widget.widget.widget import TraceWidget

#: The widget's colours by theme, and texts in the page's colour: bqplot's are orange in a dark theme.
CSS = """
.blip-charts {
    --blip-purple: #592b9f; --blip-orange: #b96a13; --blip-teal: #005e66;
    --blip-text: var(--jp-ui-font-color1, #1f1f24);
    --blip-grey: color-mix(in srgb, var(--blip-text) 60%, transparent);
    --blip-line: color-mix(in srgb, var(--blip-text) 15%, transparent);
    --bq-content-font-color: var(--blip-text);
    gap: 8px 16px; padding: 0 0 0 12px; color: var(--blip-text);
}
[data-jp-theme-light=false] .blip-charts {
    --blip-purple: #c3abf5; --blip-orange: #d0842c; --blip-teal: #65d0dc;
    --blip-text: var(--jp-ui-font-color1, #e9e9ee);
}
.blip-charts .bqplot {
    --bq-plotarea-background-fill: transparent;
    --bq-axis-tick-text-fill: var(--blip-text);
    --bq-grid-color: var(--blip-line);
}
.blip-charts .bqplot > svg .axis text { font: 11px sans-serif; }
.blip-chart { position: relative; width: 400px; overflow: hidden; }
.blip-chart .widget-html-content { font-size: 12px; line-height: 18px; }
.blip-chart-title { height: 38px; white-space: nowrap; }
.blip-chart-empty .bqplot > * { visibility: hidden; }
.blip-chart-note { position: absolute; inset: 100px 0 auto; pointer-events: none; text-align: center; }
.blip-charts .toolbar_div { display: none !important; }
.blip-chart-noise .dot { cursor: ew-resize; }
.blip-chart-heads .heatmapcell { cursor: pointer; }
"""


class Chart:
    """A title and a legend over a figure, or over a note if there is nothing to draw.

    Args:
        widget: the widget.
        marks: bqplot marks.
        axes: bqplot axes.
        left: left margin, in pixels.

    Attributes:
        name: its name in `Panel.charts`.
        watched: the widget's traits that it follows.
        box: the chart as an ipywidgets box of a fixed size.
    """

    name: ClassVar[str]
    watched: ClassVar[tuple[str, ...]]

    def __init__(self, widget: TraceWidget, marks: Iterable[Any], axes: Iterable[Any], left: int = 56) -> None:
        self.widget = widget
        self.figure = bqplot.Figure(
            marks=list(marks),
            axes=list(axes),
            fig_margin={"top": 20, "bottom": 40, "left": left, "right": 20},
            padding_y=0.0,
            layout=ipywidgets.Layout(width="400px", height="218px"),
        )
        self.title, self.note = (ipywidgets.HTML().add_class(f"blip-chart-{part}") for part in ("title", "note"))
        self.box = ipywidgets.VBox([self.title, self.figure, self.note])
        self.box.add_class("blip-chart").add_class(f"blip-chart-{self.name}")

    def show(self) -> None:
        """Draw the widget's traits.

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    def follow(self, _change: Any) -> None:
        """Redraw after a change of a trait."""
        self.show()

    def say(self, title: str, legend: str, note: str = "") -> None:
        """Set title and legend, and the note if there is nothing to draw."""
        self.title.value = f"<b>{title}</b><br>{legend}"
        self.note.value = note
        (self.box.add_class if note else self.box.remove_class)("blip-chart-empty")


def scale(low: float, high: float) -> Any:
    """A linear scale without padding."""
    return bqplot.LinearScale(min=low, max=high, allow_padding=False)


def axis(along: Any, label: str, side: str = "bottom", **look: Any) -> Any:
    """An axis along a scale, with room for its label."""
    offset = "28px" if side == "bottom" else "42px"
    return bqplot.Axis(scale=along, label=label, side=side, label_offset=offset, **{"grid_lines": "none", **look})


def fit(along: Any, values: Iterable[float]) -> None:
    """Fit an axis to 0 and the values, ending at round numbers."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = round_up((high - low) / 5) or 0.2
    ticks = step * np.arange(np.floor(low / step), np.ceil(max(high, low + step) / step) + 1)
    set_together(along.scale, min=ticks[0], max=ticks[-1])
    set_together(along, tick_values=ticks, tick_format=".3~g")


def set_together(part: Any, **values: Any) -> None:
    """Set traits that are only consistent together, in one message."""
    with part.hold_sync():
        for name, value in values.items():
            setattr(part, name, value)


def colors(*names: str) -> list[str]:
    """The colours of `CSS` by name."""
    return [f"var(--blip-{name})" for name in names]


def swatch(color: str, text: str) -> str:
    """An entry of a legend."""
    return f'<span style="color: {colors(color)[0]}">■</span> {text} &ensp;'
