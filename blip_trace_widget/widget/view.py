"""View: the protocol for showing results, whether computed or played back.

For: `blip_trace_widget.widget.presenter`, which shows computed results, and `blip_trace_widget.widget.replay`, which
shows recorded ones.
Ends: at a protocol; the widget implements it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from blip_trace_widget.widget.inputs import Inputs


class View(Protocol):
    """Shows results; called under the session's lock, from any thread."""

    def show_traits(self, **state: Any) -> None:
        """Show durable state: setup, picture, picture_map, runs, grid, detail, pinned, curve, generation, ..."""

    def choose(self, **changes: Any) -> None:
        """Change what is asked, for whoever looks at it: one step that can be undone; fields of `Inputs`."""

    def together(self) -> AbstractContextManager[Any]:
        """Show everything set inside at once."""

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a transient message: cells, progress, the end of a request."""

    def show_inputs(self, inputs: Inputs, *, mended: bool = False, gone: bool = False) -> None:
        """Show what is asked.

        Args:
            inputs: what is asked.
            mended: whether some of the inputs were refused and reverted.
            gone: whether what was selected, or held, was let go because it no longer exists.
        """
