"""What inputs no longer hold or lead to, because it is gone: other words, another picture, a shorter answer.

For: saying so, since nobody asked for it.
Ends: at names and sentences.
"""

from __future__ import annotations

from collections.abc import Collection

from blip_trace_widget.display.held import subject
from blip_trace_widget.states import EVERYWHERE, State
from blip_trace_widget.widget.inputs import Inputs


def lost(before: Inputs, after: Inputs) -> dict[str, str]:
    """The traits that held, led to or led through what they no longer do, and what is to be said of each."""
    found = {}
    if gone := _gone(before.hold, after.hold):
        found["hold"] = f"{subject(gone)} no longer held"
    if after.walked != before.walked:
        found["receivers"] = "paths into a state are no longer shown"
    if gone := _gone(before.through, after.through):
        found["through"] = f"{subject(gone)} held on all paths now"
    return found


def told_lost(before: Inputs, after: Inputs, reason: str = "", asked: Collection[str] = ()) -> str:
    """That something is no longer held, or paths no longer shown, and why; "" if only what was `asked` has changed."""
    told = "; ".join(f"{name}: {what}" for name, what in lost(before, after).items() if name not in asked)
    return told and f"{told}, for {reason or _reason(before, after)}. Undo brings that back."


def _reason(before: Inputs, after: Inputs) -> str:
    changed = after.differing(before)
    if "question" in changed:
        return "the words are others now"
    if "image" in changed:
        return "the picture is another now"
    if not changed and after.block != before.block:
        return "this block has none"
    return "this damage does not reach there"


def _gone(before: Collection[str | State], after: Collection[str | State]) -> list[str | State]:
    return [item for item in before if item not in after and item != EVERYWHERE]
