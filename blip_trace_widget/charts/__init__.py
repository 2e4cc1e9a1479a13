"""Companion charts in bqplot: the noise curve, the profile over layers, the answers of the runs, the map of heads.

For: an overview beside the widget, which shows one grid at a time, and controlling it from there. Every chart follows
the widget's traits; the handle on the noise curve and the cells of the map of heads set them.
Cost: a redraw is NumPy on two grids and a few messages; the model runs only when a button or a head is clicked.
Ends: at `TraceWidget`'s traits and methods. Only `TraceWidget.panel` imports it: the widget itself needs no bqplot.

Charts are drawn under the widget's lock, on the thread that set the trait.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets

try:
    import bqplot  # noqa: F401 - the one place that says how to install it
except ImportError as error:
    raise ImportError("the charts of TraceWidget.panel need bqplot: pip install bqplot") from error

from blip_trace_widget.charts.answers import AnswersChart
from blip_trace_widget.charts.chart import CSS, Chart
from blip_trace_widget.charts.heads import HeadsChart
from blip_trace_widget.charts.noise import NoiseChart
from blip_trace_widget.charts.profile import ProfileChart, profile

if TYPE_CHECKING:
    from blip_trace_widget.widget.widget import TraceWidget

__all__ = ["Panel", "panel", "profile"]


def panel(widget: TraceWidget) -> Panel:
    """The widget with charts beside it; further calls return the same panel.

    Raises:
        RuntimeError: in marimo, which cannot show bqplot.
    """
    marimo = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        raise RuntimeError(
            "TraceWidget.panel: marimo cannot show bqplot's charts; show the widget alone, mo.ui.anywidget(widget), "
            "and draw its results with matplotlib, widget.trace.plot()"
        )
    known = _panels.get(widget)
    current = None if known is None else known()
    if current is None or current.comm is None:
        current = Panel(widget)
        _panels[widget] = weakref.ref(current)
    return current


class Panel(ipywidgets.Box):  # type: ignore[misc]
    """A widget with charts beside it, or below it if there is no room.

    Closing the panel closes the charts but not the widget; closing the widget closes both.

    Args:
        widget: the widget.

    Attributes:
        charts: the charts by name: ``"noise"``, ``"profile"``, ``"answers"`` and ``"heads"``.
    """

    def __init__(self, widget: TraceWidget) -> None:
        self._of: TraceWidget | None = widget
        made = (NoiseChart(widget), ProfileChart(widget), AnswersChart(widget), HeadsChart(widget))
        self.charts: dict[str, Chart] = {chart.name: chart for chart in made}
        with widget._session.lock:
            for chart in made:
                chart.show()
                widget._follow(chart.follow, chart.watched)
            widget._follow(self._on_comm, ["comm"])
        # The widget takes the space beside a column of charts; if they wrap below it, charts take the full width.
        room = {"flex": "999 1 640px", "min_width": "min(640px, 100%)", "max_width": "1024px"}
        place = ipywidgets.VBox([widget], layout=ipywidgets.Layout(**room))
        style = ipywidgets.HTML(f"<style>{CSS}</style>", layout=ipywidgets.Layout(display="none"))
        charts = ipywidgets.Box(
            [style, *(chart.box for chart in made)],
            layout=ipywidgets.Layout(flex="1 1 420px", flex_flow="row wrap", align_content="flex-start"),
        )
        charts.add_class("blip-charts")
        super().__init__([place, charts], layout=ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start"))

    def __repr__(self) -> str:
        return f"Panel({self._of!r})"

    def close(self) -> None:
        """Remove the charts from the page, and release the widget."""
        widget, self._of = self.__dict__.get("_of"), None
        if widget is None or "charts" not in self.__dict__:  # already closed, or not completely constructed
            super().close()
            return
        with widget._session.lock:
            for chart in self.charts.values():
                widget._unfollow(chart.follow, chart.watched)
            widget._unfollow(self._on_comm, ["comm"])
            parts = set(_parts(self, widget))
            super().close()
            for part in parts:
                part.close()
            self.charts, self.children = {}, ()

    def _on_comm(self, change: Mapping[str, Any]) -> None:
        if change["new"] is None:
            self.close()


_panels: weakref.WeakKeyDictionary[TraceWidget, weakref.ref[Panel]] = weakref.WeakKeyDictionary()


def _parts(widget: Any, without: Any) -> Iterator[Any]:
    """The widgets inside a widget, except `without`."""
    for value in (getattr(widget, name) for name in widget.keys):
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        for part in values:
            if isinstance(part, ipywidgets.Widget) and part is not without:
                yield part
                yield from _parts(part, without)
