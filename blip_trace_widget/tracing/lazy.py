"""Values that are computed at their first use and kept until the model changes.

For: base runs, embeddings and scores, of which every result needs some and none needs all.
Cost: a quick check of the model whenever a kept value is read (`BlipVqa.glance`).
Ends: at caching for one owner. Values shared by several owners belong to an object that all of them refer to, see
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


class lazy(Generic[Value]):  # noqa: N801 - a decorator, used like `property`
    """Decorates a method of an owner with a `model`: its value is computed once, under the model's lock, and kept.

    The method takes a check, which does not affect the value; if it raises `blip_trace_widget.model.block.Cancelled`,
    nothing is kept. The value is recomputed once somebody has changed the model. Nor would `functools.cached_property`
    do for another reason: before Python 3.12 it holds a lock shared by all instances while it computes, and two locks
    taken in either order deadlock.
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
    """One lazy value of one owner."""

    __slots__ = ("_compute", "_name", "_owner")

    def __init__(self, owner: Any, name: str, compute: Callable[[Any, Check], Value]) -> None:
        self._owner, self._name, self._compute = owner, name, compute

    def __call__(self, check: Check = no_check) -> Value:
        """The value.

        Args:
            check: called now and then while it is computed.

        Raises:
            Cancelled: if `check` raises it.
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
        """The value if it is already computed, else None."""
        return self._kept().get(self._name)

    def keep(self, value: Value) -> None:
        """Keep a value that was computed elsewhere, together with others. Call it under the model's lock."""
        self._kept()[self._name] = value

    def forget(self) -> None:
        """Forget it, if it is known."""
        self._kept().pop(self._name, None)

    def share(self, other: Lazy[Value]) -> None:
        """Copy the value of another owner that must be equal, if it is known.

        Needs no lock: the value stays tied to the version of the model that computed it.
        """
        version, kept = other._owner.__dict__.get("_kept", (-1, {}))
        mine: tuple[int, dict[str, Any]] = self._owner.__dict__.setdefault("_kept", (version, {}))
        if other._name in kept and mine[0] == version:
            mine[1][self._name] = kept[other._name]

    def _kept(self) -> dict[str, Any]:
        """The owner's kept values; empty once the model has changed."""
        version: int = self._owner.model.version
        kept: tuple[int, dict[str, Any]] = self._owner.__dict__.get("_kept", (-1, {}))
        if kept[0] != version:
            kept = self._owner.__dict__["_kept"] = (version, {})
        return kept[1]


class Latest(Generic[Value]):
    """The value of the last key that was asked for; the old value is freed before the new one is made."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, Value] | None = None

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made unless the key is the last one."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None
            self._kept = (key, make())
        return self._kept[1]
