"""The map of heads, and choosing one of them.

For: finding the heads that matter; a click shows a head's grid.
Ends: at the traits `site` and `head`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bqplot
import ipywidgets
import numpy as np

from blip_trace_widget.charts.chart import Chart, axis, colors, set_together
from blip_trace_widget.display import labels
from blip_trace_widget.display.colors import diverging, fit_scale
from blip_trace_widget.states import BLOCKS, attention_label

if TYPE_CHECKING:
    from blip_trace_widget.widget.widget import TraceWidget


class HeadsChart(Chart):
    """Which heads matter: layers down, heads across; a click shows a head's grid in the widget, or all heads'."""

    name = "heads"
    watched = ("runs", "grid", "heads", "block", "site", "head")

    def __init__(self, widget: TraceWidget) -> None:
        self._color = bqplot.ColorScale(min=-1, max=1, colors=_arms())
        head, layer = bqplot.OrdinalScale(), bqplot.OrdinalScale(reverse=True)
        self.cells = bqplot.GridHeatMap(
            color=np.zeros((2, 2)),
            row=[0, 1],
            column=[0, 1],
            scales={"row": layer, "column": head, "color": self._color},
            null_color="rgba(128, 128, 128, 0.25)",
            stroke=colors("line")[0],
            selected_style={"stroke": colors("text")[0], "stroke-width": "2px"},
            tooltip=bqplot.Tooltip(
                fields=["row", "column", "color"], labels=["layer", "head", "value"], formats=["", "", ".3f"]
            ),
            tooltip_style={"opacity": 1, "color": "var(--jp-ui-font-color1)"},  # it hangs outside the panel
        )
        self._across, self._down = axis(head, ""), axis(layer, "", "left")
        super().__init__(widget, [self.cells], (self._across, self._down))
        narrow = ipywidgets.Layout(width="auto")
        self.compute = ipywidgets.Button(description="Compute head map", layout=narrow)
        self.stop = ipywidgets.Button(description="Stop", layout=narrow)
        self.progress = ipywidgets.HTML()
        self.box.children += (
            ipywidgets.HBox([self.compute, self.stop, self.progress], layout=ipywidgets.Layout(align_items="center")),
        )
        self.cells.on_element_click(self._on_click)
        self.compute.on_click(self._on_compute)
        self.stop.on_click(self._on_stop)

    def show(self) -> None:
        """Draw the map as computed so far, or say what is missing."""
        widget, trace = self.widget, self.widget.head_map
        done, total = (widget.heads.get(name, 0) for name in ("done", "total"))
        site, other = labels.label(widget.site), self._site()
        name = attention_label(other)
        limit, what = 0.0, "recovery"
        if other != widget.site:
            note = f"The {site} has no single heads.<br>Compute head map turns to the {name}."
        elif trace is None:
            note = "Computing the two runs …"
        elif min(trace.samples.shape[1:3]) < 2:
            note = "There is nothing to compare: one layer, or one head."
        else:
            note = "" if done else "Not computed for these settings: it takes a grid for each head."
            what = "indirect effect" if trace.undefined_because else what
            limit = self._draw(trace, what)
        self._across.label, self._down.label = f"head of {name}", f"layer of the {labels.label(widget.block).lower()}"
        shades = ", ".join(self._color.colors)
        ramp = f'<span style="background: linear-gradient(to right, {shades})">{"&nbsp;" * 16}</span>'
        ends = f": −{limit:g} {ramp} {limit:g}" if limit else ""
        self.say("Head map: click a head to see its grid", f"{what}, summed over positions{ends}", note)
        self.compute.disabled = bool(done) and done == total
        self.stop.disabled = trace is None or self.compute.disabled
        self.progress.value = f"{done} of {total} cells" if done else ""

    def _draw(self, trace: Any, what: str) -> float:
        """Draw the map; returns the end of its colour scale."""
        values = trace.indirect_effect if trace.undefined_because else trace.recovery
        limit = fit_scale(values, what.replace(" ", "_")).right
        falling = bool(trace.undefined_because) and trace.total_effect < 0  # a negative effect on such a score restores
        set_together(self._color, min=-limit, max=limit, colors=_arms()[:: -1 if falling else 1])
        layers, heads = map(np.arange, values.shape)
        selected = None if self.widget.head is None else [[layer, self.widget.head] for layer in layers]
        set_together(self.cells, color=values, row=layers, column=heads, selected=selected)
        return limit

    def _site(self) -> str:
        """The site in view if it has heads, else the one to switch to."""
        sites = BLOCKS[self.widget.block].heads
        return next(site for site in (self.widget.site, "cross_attention", "self_attention") if site in sites)

    def _on_click(self, _mark: Any, content: Mapping[str, Any]) -> None:
        widget, head = self.widget, int(content["data"]["column"])
        with widget._session.lock:
            if widget.head == head:
                widget.head = None
                return
            widget.site = self._site()
            widget.head = head
            widget.trace_all()

    def _on_compute(self, _button: Any) -> None:
        with self.widget._session.lock:
            self.widget.site = self._site()
            self.widget.trace_heads()

    def _on_stop(self, _button: Any) -> None:
        self.widget.stop()


def _arms() -> list[str]:
    """Colours from negative to positive, transparent at 0, for both light and dark pages."""
    ends = [bytes.fromhex(diverging("light", end)[1:]) for end in (-0.65, 0.65)]
    return [f"rgba({', '.join(map(str, ends[int(t > 0)]))}, {abs(t):.2f})" for t in np.linspace(-1, 1, 21)]
