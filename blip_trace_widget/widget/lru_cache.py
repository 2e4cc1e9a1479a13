"""What was computed for other inputs, kept as long as there is room.

For: returning at once to a question, a noise factor or a metric that was looked at before.
Cost: at most the given number of bytes, however much is put there; what was not used for longest goes first.
Ends: at keeping. It knows neither what a key nor what a value means.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """Values by key, within a bound.

    Args:
        room: bytes.
        size: how many bytes a value takes now; it may grow while it lies here.
    """

    def __init__(self, room: int, size: Callable[[T], int]) -> None:
        self._room = room
        self._size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if there is none; the one that was asked for last always stays."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > 1 and sum(map(self._size, self._values.values())) > self._room:
            self._values.popitem(last=False)
        return self._values[key]
