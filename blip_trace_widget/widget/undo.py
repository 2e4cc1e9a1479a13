"""Undo and redo of a frozen dataclass.

For: stepping back and forth through what was asked. Steps of the same gesture (a moving slider) in quick succession are
merged into one.
Ends: at the stack; `blip_trace_widget.widget.trait_view` acts on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

#: Most steps on the stack.
LONGEST = 100
#: Seconds within which steps of one gesture are merged.
GESTURE_SECONDS = 1.0

#: Everything that was asked: a frozen dataclass.
Step = TypeVar("Step")


class UndoStack(Generic[Step]):
    """Steps, and the current position among them.

    Args:
        first: the first step.
        clock: a clock in seconds.
    """

    def __init__(self, first: Step, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps = [first]
        self._at = 0
        self._clock = clock
        self._gesture: Hashable = None
        self._moved = -GESTURE_SECONDS

    @property
    def present(self) -> Step:
        """The current step."""
        return self._steps[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier step."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was undone."""
        return self._at < len(self._steps) - 1

    def add(self, step: Step, gesture: Hashable = None) -> None:
        """Add a step and drop undone ones; a step equal to the current one is ignored.

        Args:
            step: everything that is asked now.
            gesture: identifies the gesture; None for a step that is never merged.
        """
        if step == self.present:
            return
        now = self._clock()
        merges = gesture is not None and gesture == self._gesture and now - self._moved < GESTURE_SECONDS
        del self._steps[self._at + 1 :]
        if merges and self.can_undo:
            self._steps[-1] = step
        else:
            self._steps.append(step)
            del self._steps[:-LONGEST]
        self._at = len(self._steps) - 1
        self._gesture, self._moved = gesture, now

    def undo(self) -> Step | None:
        """Go back to the previous step and return it; None if there is none."""
        return self._go(-1)

    def redo(self) -> Step | None:
        """Go forward to the undone step and return it; None if there is none."""
        return self._go(1)

    def amend(self, now: Step) -> None:
        """Replace the current step by what it turned out to be; drop it if it equals the previous one."""
        self._steps[self._at] = now
        if self.can_undo and self._steps[self._at - 1] == now:
            del self._steps[self._at]
            self._at -= 1
        self._gesture = None

    def mend(self, now: Step) -> None:
        """Replace the current step, which could not be computed, by the state that is shown instead.

        Preceding steps that asked for the same are mended too; those that then equal their predecessor are dropped.
        """
        requested = {entry.name: getattr(self.present, entry.name) for entry in fields(now)}  # type: ignore[arg-type]
        wrong = {name: value for name, value in requested.items() if value != getattr(now, name)}
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
