"""View: where results are shown, whoever computes or plays them.

For: `blip_trace_widget.widget.presenter`, which shows what is computed, and `blip_trace_widget.widget.replay`, which
shows what was.
Ends: at a protocol; the widget is one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from blip_trace_widget.widget.inputs import Inputs


class View(Protocol):
    """Where results are shown; called under the session's lock, from any thread."""

    def show_traits(self, **state: Any) -> None:
        """Show durable state: setup, picture, picture_map, runs, grid, detail, pinned, curve, generation, ..."""

    def together(self) -> AbstractContextManager[Any]:
        """What is shown inside appears at once."""

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Pass on what goes by: cells, progress, the end of a request."""

    def show_inputs(self, inputs: Inputs, *, mended: bool = False, unselected: bool = False) -> None:
        """Show what is asked.

        Args:
            inputs: what is asked.
            mended: some of what was asked was refused.
            unselected: what was selected is not there under what was asked last.
        """
