"""A lock that reports when it has been released.

For: doing something that must not happen under the lock, such as calling a user's function, as soon as whoever held it
is through, and on that thread.
Ends: at calling `then`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


def _nothing() -> None: ...


class Lock:
    """A reentrant lock.

    Attributes:
        then: called without the lock by the thread that has let it go altogether.
    """

    def __init__(self) -> None:
        self.then: Callable[[], None] = _nothing
        self._lock = threading.RLock()
        self._depth = 0
        self._owner: int | None = None

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
        let_go = self._depth == 0
        if let_go:
            self._owner = None
        self._lock.release()
        if let_go:
            self.then()
