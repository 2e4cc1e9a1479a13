"""Values that are computed at their first use and kept until the model changes.

For: base runs, embeddings and scores, of which every result needs some and none needs all.
Cost: a look at the model whenever a kept value is read (`BlipVqa.glance`).
Ends: at keeping. What is shared among several owners is a part of its own that all of them hold, see
`blip_trace_widget.tracing.base_runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Check, no_check

if TYPE_CHECKING:
    from typing_extensions import Self

Value = TypeVar("Value")


class lazy(Generic[Value]):  # noqa: N801 - it stands where `property` stands
    """A method of something with a model whose value is computed once, under the model's lock, and kept.

    The method takes a check, which may raise `blip_trace_widget.model.block.Cancelled` and has no part in the value;
    then nothing is kept. It is computed anew once somebody has changed the model. `functools.cached_property` would not
    do
    for another reason too: before Python 3.12 it holds a lock of its own while it computes, shared by all instances,
    and two locks taken in either order end in a deadlock.
    """

    def __init__(self, compute: Callable[[Any, Check], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Lazy[Value]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else Lazy(instance, self._name, self._compute)


class Lazy(Generic[Value]):
    """One such value of one owner."""

    __slots__ = ("_compute", "_name", "_owner")

    def __init__(self, owner: Any, name: str, compute: Callable[[Any, Check], Value]) -> None:
        self._owner, self._name, self._compute = owner, name, compute

    def __call__(self, check: Check = no_check) -> Value:
        """The value.

        Args:
            check: called now and then while it is computed; may raise `blip_trace_widget.model.block.Cancelled`.
        """
        model = self._owner.model
        if self._name in self._kept():
            model.glance()
        kept = self._kept()
        if self._name not in kept:
            with Computing(model):
                kept = self._kept()
                if self._name not in kept:
                    kept[self._name] = self._compute(self._owner, check)
        value: Value = kept[self._name]
        return value

    @property
    def known(self) -> Value | None:
        """The value where it is computed already, else None."""
        return self._kept().get(self._name)

    def keep(self, value: Value) -> None:
        """Keep a value that was computed together with others. Under the model's lock."""
        self._kept()[self._name] = value

    def share(self, other: Lazy[Value]) -> None:
        """Take over the value of another owner, who is to have the same, where it is known.

        Without the lock: it is kept as of the model that it was computed with.
        """
        version, kept = other._owner.__dict__.get("_kept", (-1, {}))
        mine: tuple[int, dict[str, Any]] = self._owner.__dict__.setdefault("_kept", (version, {}))
        if other._name in kept and mine[0] == version:
            mine[1][self._name] = kept[other._name]

    def _kept(self) -> dict[str, Any]:
        """What is kept for the owner; nothing once the model is no longer what it was."""
        version: int = self._owner.model.version
        kept: tuple[int, dict[str, Any]] = self._owner.__dict__.get("_kept", (-1, {}))
        if kept[0] != version:
            kept = self._owner.__dict__["_kept"] = (version, {})
        return kept[1]


class Latest(Generic[Value]):
    """The value of the last key that was asked for; the old one is let go of before the new one is made."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, Value] | None = None

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not the last one's."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None
            self._kept = (key, make())
        return self._kept[1]
