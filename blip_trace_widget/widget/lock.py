"""A lock with something around it, that calls a function after its release.

For: doing something that must not happen under the lock, such as calling a user's function, as soon as it is released,
on the same thread; and what holds for a thread as long as it has the lock.
Ends: at entering `around` and calling `then`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from blip_trace_widget import forks
from blip_trace_widget.interrupts import PutOff


def _nothing() -> None: ...


class Lock:
    """A reentrant lock. While the main thread has it, Ctrl-C is put off: nothing under it is half done.

    Args:
        around: makes a context manager that the thread is in while it holds the lock.

    Attributes:
        then: called without the lock by the thread that has released it completely.
    """

    def __init__(self, around: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self.then: Callable[[], None] = _nothing
        self._around, self._inside = around, around()
        self._lock = forks.Lock()
        self._put_off: list[PutOff] = []
        self._owner: int | None = None
        forks.on_fork(self, Lock._renew)

    def _renew(self) -> None:
        if not self._lock.owned:
            self._put_off, self._owner = [], None

    @property
    def held(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        put_off = PutOff(lambda: self._lock.owned)
        try:
            put_off.begin()
            self._lock.acquire()
        except BaseException:
            put_off.end()
            raise
        self._owner = threading.get_ident()
        self._put_off.append(put_off)
        if len(self._put_off) == 1:
            self._inside = self._around()
            self._inside.__enter__()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        put_off = self._put_off.pop()
        released = not self._put_off
        if released:
            self._inside.__exit__(None, None, None)
            self._owner = None
        try:
            self._lock.release()
            put_off.end()
        finally:
            if released:
                self.then()
