"""What inputs no longer hold or lead to, because it is gone: other words, another picture, a shorter answer.

For: saying so, since nobody asked for it.
Ends: at a sentence.
"""

from __future__ import annotations

from blip_trace_widget.widget.inputs import Inputs


def told_lost(before: Inputs, after: Inputs, reason: str = "") -> str:
    """That states are no longer held, or paths no longer shown, and why; "" if none was lost."""
    lost = set(before.held_states) - set(after.held_states)
    if not lost and after.walked == before.walked:
        return ""
    subject = after.differing(before)
    if not reason and "question" in subject:
        reason = "the words are others now"
    elif not reason and "image" in subject:
        reason = "the picture is another now"
    reason = reason or "this damage does not reach there"
    if not lost:
        return f"receivers: paths into a state are no longer shown, for {reason}. Undo brings them back."
    count = "A state is" if len(lost) == 1 else f"{len(lost)} states are"
    return f"hold: {count} no longer held, for {reason}. Undo brings it back."
