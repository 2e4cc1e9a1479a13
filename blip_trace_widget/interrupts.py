"""Ctrl-C at moments when it would leave something half done: put off until that is whole.

For: taking and leaving locks and torch's settings. A `KeyboardInterrupt` between taking a lock and remembering that it
is taken leaves it taken for ever, and with it every thread that asks for it.
Cost: two microseconds, in the main thread; nothing elsewhere, where Python raises none.
Ends: at the signal's handler; what computes stays as interruptible as it is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


def _always() -> bool:
    return True


class PutOff:
    """Put off Ctrl-C. May be nested.

    Args:
        when: whether to put it off by now; where it says no, Ctrl-C acts at once: while one waits for a lock.
    """

    def __init__(self, when: Callable[[], bool] = _always) -> None:
        self._when, self._came = when, False
        self._before: Any = None

    def begin(self) -> None:
        """Put it off from now on."""
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._came_now)

    def end(self) -> None:
        """Put it off no longer.

        Raises:
            KeyboardInterrupt: if it came meanwhile; or whatever the handler does.
        """
        before, self._before = self._before, None
        if before is not None:
            signal.signal(signal.SIGINT, before)
            if self._came:
                self._came = False
                before(signal.SIGINT, None)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_details: object) -> None:
        self.end()

    def _came_now(self, number: int, frame: FrameType | None) -> None:
        if self._before is None or self._when():  # it is just ending, or still wanted
            self._came = True
            return
        before, self._before = self._before, None  # what follows may not be caught: this is over
        signal.signal(signal.SIGINT, before)
        before(number, frame)
