"""A lock that calls a function after its release.

For: doing something that must not happen under the lock, such as calling a user's function, as soon as it is released,
on the same thread.
Ends: at calling `then`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from blip_trace_widget import forks


def _nothing() -> None: ...


class Lock:
    """A reentrant lock.

    Attributes:
        then: called without the lock by the thread that has released it completely.
    """

    def __init__(self) -> None:
        self.then: Callable[[], None] = _nothing
        self._lock = forks.Lock()
        self._depth = 0
        self._owner: int | None = None
        forks.on_fork(self, Lock._renew)

    def _renew(self) -> None:
        if not self._lock.owned:
            self._depth, self._owner = 0, None

    @property
    def held(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        released = self._depth == 0
        if released:
            self._owner = None
        self._lock.release()
        if released:
            self.then()
