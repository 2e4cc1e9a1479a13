"""The lock and the torch settings under which a model computes.

For: everything that runs a model. One thread at a time uses it, independent of global torch settings, and everything
computed in one piece of work uses the same weights. Where memory runs out, and nothing inside could do with less, it is
told here in one sentence.
Cost: a check of the model for each piece of work (`blip_trace_widget.model.weights`).
Ends: at context managers and a decorator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from blip_trace_widget.interrupts import PutOff
from blip_trace_widget.model.out_of_memory import telling
from blip_trace_widget.model.surroundings import neutral

if TYPE_CHECKING:
    from types import TracebackType

    import torch

Function = TypeVar("Function", bound=Callable[..., Any])


class LockedModel(Protocol):
    """What `Computing` needs of a `BlipVqa`."""

    lock: Any

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    @property
    def plain(self) -> bool:
        """Whether all modules are BLIP's own."""

    @property
    def looking(self) -> bool:
        """See `BlipVqa.looking`."""

    def unchanging(self, *, long: bool = False) -> AbstractContextManager[None]:
        """See `BlipVqa.unchanging`."""


class ModelChangedError(RuntimeError):
    """Somebody changed the model during a piece of work, so that its parts would be inconsistent."""

    def __init__(self) -> None:
        super().__init__("model: its weights or modules were changed while this was being computed; ask for it again")


class Computing:
    """Hold a model's lock, and compute independent of global torch settings. May be nested.

    Args:
        model: the model.
        long: see `BlipVqa.unchanging`.

    Raises:
        ValueError: on entering, if the model has changed so that it can no longer be traced.
        ModelChangedError: on leaving, if somebody changed it meanwhile.
        torch.OutOfMemoryError: see `telling`.
    """

    def __init__(self, model: LockedModel, *, long: bool = False) -> None:
        self._model, self._long = model, long
        self._stack = ExitStack()

    def __enter__(self) -> None:
        try:
            with PutOff(lambda: self._model.lock.owned and not self._model.looking):
                self._enter()
        except BaseException:
            self._stack.close()
            raise

    def _enter(self) -> None:
        with ExitStack() as stack:
            if not self._model.lock.owned:  # nested, what is around may do with less memory, and needs to see why
                stack.enter_context(telling(self._model))
            stack.enter_context(self._model.lock)
            stack.enter_context(neutral(self._model.device, inference=self._model.plain))
            stack.enter_context(self._model.unchanging(long=self._long))
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with PutOff(lambda: not self._model.looking):
                self._stack.__exit__(kind, error, trace)
        finally:
            self._stack.close()  # if Ctrl-C came before it could be put off


def at_once(function: Function) -> Function:
    """Decorates a method of an object with a `model`: run it under one lock, all of it with the same weights."""
    long = "progress" in signature(function).parameters

    @wraps(function)
    def call(owner: Any, *arguments: Any, **keywords: Any) -> Any:
        with Computing(owner.model, long=long):
            return function(owner, *arguments, **keywords)

    return cast("Function", call)


_THREAD = threading.local()


@contextmanager
def without_glances() -> Iterator[None]:
    """In this thread, check a model for changes only before computations, not whenever a kept value is read.

    For showing, piece by piece, what was computed a moment ago.
    """
    before, _THREAD.glances = glances(), False
    try:
        yield
    finally:
        _THREAD.glances = before


def glances() -> bool:
    """Whether reading a kept value checks the model for changes first, in this thread."""
    return bool(getattr(_THREAD, "glances", True))
