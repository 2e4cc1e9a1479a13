"""Locks and workers in a forked child, which has one thread: the one that forked.

For: `os.fork` and pools of `multiprocessing` in the middle of a computation. What another thread held or had half done
at that moment would stay so for ever: the child gets free locks, no jobs of a worker that is not there, and nothing
that was set for the time of a computation. What the forking thread holds itself stays its own.
Ends: at telling owners. In the child the values that were known are known; a widget there shows nothing to anybody.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from _thread import RLock as _RLock
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")

_OWNERS: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def on_fork(owner: Owner, renew: Callable[[Owner], None]) -> None:
    """Have `renew(owner)` called in every forked child."""
    _OWNERS[owner] = renew


class Lock(_RLock):  # type: ignore[misc]
    """A reentrant lock, which is free in a forked child unless the forking thread holds it.

    It is taken and left in one step, which Ctrl-C cannot divide.
    """

    def __init__(self) -> None:
        super().__init__()
        on_fork(self, Lock._renew)

    def _renew(self) -> None:
        if not self.owned:
            self._at_fork_reinit()  # type: ignore[attr-defined]

    @property
    def owned(self) -> bool:
        """Whether this thread holds it."""
        return bool(self._is_owned())  # type: ignore[attr-defined]


def _renew_all() -> None:
    """In the child: renew every owner, and the locks that properties have before Python 3.12."""
    for owner, renew in list(_OWNERS.items()):
        renew(owner)
    if sys.version_info < (3, 12):
        own = [module for name, module in list(sys.modules.items()) if name.startswith(f"{__package__}.")]
        for each in [each for module in own for each in list(vars(module).values()) if isinstance(each, type)]:
            kept: list[Any] = [v for v in list(vars(each).values()) if isinstance(v, functools.cached_property)]
            for value in kept:
                if not value.lock._is_owned():
                    value.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
