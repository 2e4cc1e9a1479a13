"""A cache bounded in bytes, for values computed for other inputs.

For: returning at once to a question, a noise factor or a metric that was viewed before.
Cost: at most the given number of bytes; the least recently used values are dropped first.
Ends: at caching, for any keys and values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """A least-recently-used cache.

    Args:
        room: maximal size, in bytes.
        size: the current size of a value in bytes; values may grow while cached.
    """

    def __init__(self, room: int, size: Callable[[T], int]) -> None:
        self._room = room
        self._size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if there is none; the last requested one always stays."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > 1 and sum(map(self._size, self._values.values())) > self._room:
            self._values.popitem(last=False)
        return self._values[key]
