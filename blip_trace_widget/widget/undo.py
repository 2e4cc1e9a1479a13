"""What was asked, step by step, so that it can be taken back and asked again.

For: undo and redo of a frozen dataclass. Steps of the same gesture (a slider on the move) that follow each other
closely are one.
Ends: at remembering. Who changes something because of a step taken back is `blip_trace_widget.widget.widget`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

#: Steps that are remembered.
LONGEST = 100
#: Seconds within which steps of one gesture are one.
GESTURE_SECONDS = 1.0

#: All that was asked: a frozen dataclass.
Step = TypeVar("Step")


class UndoStack(Generic[Step]):
    """Steps, and where we are among them.

    Args:
        first: what there is to begin with.
        clock: seconds, from any beginning.
    """

    def __init__(self, first: Step, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps = [first]
        self._at = 0
        self._clock = clock
        self._gesture: Hashable = None
        self._moved = -GESTURE_SECONDS

    @property
    def present(self) -> Step:
        """The step at which we are."""
        return self._steps[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier step."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back."""
        return self._at < len(self._steps) - 1

    def add(self, step: Step, gesture: Hashable = None) -> None:
        """Go on to a step; what was taken back is forgotten. A step like the present one is none.

        Args:
            step: all that was asked.
            gesture: what moved; None for a step of its own.
        """
        if step == self.present:
            return
        now = self._clock()
        going_on = gesture is not None and gesture == self._gesture and now - self._moved < GESTURE_SECONDS
        del self._steps[self._at + 1 :]
        if going_on and self.can_undo:
            self._steps[-1] = step
        else:
            self._steps.append(step)
            del self._steps[:-LONGEST]
        self._at = len(self._steps) - 1
        self._gesture, self._moved = gesture, now

    def undo(self) -> Step | None:
        """The step before this one; None where there is none."""
        return self._go(-1)

    def redo(self) -> Step | None:
        """The step that was taken back; None where there is none."""
        return self._go(1)

    def amend(self, now: Step) -> None:
        """The present step turned out as this; if that is nothing new it is gone. Earlier ones were as they asked."""
        self._steps[self._at] = now
        if self.can_undo and self._steps[self._at - 1] == now:
            del self._steps[self._at]
            self._at -= 1
        self._gesture = None

    def mend(self, now: Step) -> None:
        """What the present step asked could not be computed: this is there instead.

        The steps just before it that asked the same are mended too; those that then say nothing new are gone.
        """
        asked = {each.name: getattr(self.present, each.name) for each in fields(now)}  # type: ignore[arg-type]
        wrong = {name: value for name, value in asked.items() if value != getattr(now, name)}
        mended: dict[str, Any] = {name: getattr(now, name) for name in wrong}
        at = self._at
        while wrong and at >= 0 and all(getattr(self._steps[at], name) == value for name, value in wrong.items()):
            self._steps[at] = replace(self._steps[at], **mended)  # type: ignore[type-var]
            at -= 1
        before = self._steps[: max(at, 0)]
        for step in self._steps[max(at, 0) : self._at + 1]:
            if not before or step != before[-1]:
                before.append(step)
        self._steps[: self._at + 1] = before
        self._at = len(before) - 1
        self._gesture = None

    def _go(self, by: int) -> Step | None:
        if not 0 <= self._at + by < len(self._steps):
            return None
        self._at += by
        self._gesture = None
        return self.present
