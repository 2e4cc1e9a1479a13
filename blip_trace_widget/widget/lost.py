"""What inputs no longer hold or lead to, because it is gone: other words, another picture, a shorter answer.

For: saying so, since nobody asked for it.
Ends: at names and sentences.
"""

from __future__ import annotations

from collections.abc import Collection

from blip_trace_widget.display.held import several
from blip_trace_widget.states import EVERYWHERE, State
from blip_trace_widget.widget.inputs import Inputs


def lost(before: Inputs, after: Inputs) -> list[str]:
    """The traits that held, led to or led through what they no longer do."""
    gone = {
        "hold": _gone(before.hold, after.hold),
        "receivers": after.walked != before.walked,
        "through": _gone(before.through, after.through),
    }
    return [name for name, any_gone in gone.items() if any_gone]


def told_lost(before: Inputs, after: Inputs, reason: str = "", asked: Collection[str] = ()) -> str:
    """That something is no longer held, or paths no longer shown, and why; "" if only what was `asked` has changed."""
    said = {
        "hold": f"{several(_gone(before.hold, after.hold))} no longer held",
        "receivers": "paths into a state are no longer shown",
        "through": f"{several(_gone(before.through, after.through))} held on all paths now",
    }
    told = "; ".join(f"{name}: {said[name]}" for name in lost(before, after) if name not in asked)
    subject = after.differing(before)
    if not reason and "question" in subject:
        reason = "the words are others now"
    elif not reason and "image" in subject:
        reason = "the picture is another now"
    elif not reason and not subject and after.block != before.block:
        reason = "this block has none"
    elif not reason:
        reason = "this damage does not reach there"
    return told and f"{told}, for {reason}. Undo brings that back."


def _gone(before: Collection[str | State], after: Collection[str | State]) -> list[str | State]:
    return [item for item in before if item not in after and item != EVERYWHERE]
