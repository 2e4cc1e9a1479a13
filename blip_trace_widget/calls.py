"""What callers hand in to long computations (cancel, progress), and the lock and mode they run under.

For: one meaning of `cancel=` and `progress=` everywhere.
Cost: one call of `cancel` a layer, one of `progress` a chunk.
Ends: at plain callables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import torch

from blip_trace_widget.forward import Cancelled

if TYPE_CHECKING:
    from typing_extensions import Self

    from blip_trace_widget.model import BlipVqa

Value = TypeVar("Value")
Check: TypeAlias = Callable[[], None]
Progress: TypeAlias = Callable[[int, int], object]


def no_check() -> None:
    """Nobody cancels."""


def as_check(cancel: Any) -> Check:
    """A callable that raises `Cancelled` once `cancel`, a callable or an object with ``is_set``, says so.

    Raises:
        TypeError: if `cancel` is anything else but None.
    """
    if cancel is None:
        return no_check
    asked = cancel.is_set if hasattr(cancel, "is_set") else cancel
    if not callable(asked):
        raise TypeError(f"cancel: expected a callable or an object with is_set, got {type(cancel).__name__}")

    def check() -> None:
        if asked():
            raise Cancelled

    return check


def as_progress(progress: Any, total: int, unit: str = "cell") -> tuple[Progress, Callable[[], object]]:
    """A callable on (done, total), and one that ends the display. True stands for a progress bar.

    Raises:
        TypeError: if `progress` is neither None, a bool nor callable.
    """
    if progress is None or progress is False:
        return (lambda _done, _total: None), (lambda: None)
    if progress is True:
        from tqdm.auto import tqdm

        bar = tqdm(total=total, unit=unit)
        return (lambda done, _total: bar.update(done - bar.n)), bar.close
    if not callable(progress):
        raise TypeError(f"progress: expected True or a callable on (done, total), got {type(progress).__name__}")
    return progress, (lambda: None)


class computed(Generic[Value]):  # noqa: N801 - it stands where `property` stands
    """A property of something with a model, computed at its first use under the model's lock, and kept.

    `functools.cached_property` would not do: before Python 3.12 it holds a lock of its own while it computes, shared by
    all instances, and two locks taken in either order end in a deadlock.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        kept = instance.__dict__  # looked at before this descriptor, once the value is there
        with Computing(instance.model):
            if self._name not in kept:
                kept[self._name] = self._compute(instance)
        return kept[self._name]


class Computing:
    """Hold a model's lock, without gradients. May be nested."""

    def __init__(self, model: BlipVqa) -> None:
        self._lock = model.lock
        self._mode = torch.inference_mode()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._mode.__enter__()

    def __exit__(self, *details: object) -> None:
        self._mode.__exit__(*details)
        self._lock.release()
