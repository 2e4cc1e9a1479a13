"""The lock and the torch settings under which a model computes.

For: whoever runs a model. One thread at a time uses it, as if nothing were set in torch, and what is computed together
is computed with one and the same set of weights.
Cost: a look at the model for each piece of work (`blip_trace_widget.model.weights`).
Ends: at context managers; what is computed inside is the caller's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from blip_trace_widget.model.surroundings import neutral

if TYPE_CHECKING:
    from types import TracebackType

    import torch

Function = TypeVar("Function", bound=Callable[..., Any])


class LockedModel(Protocol):
    """What is needed of a `BlipVqa` here."""

    lock: Any

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def plain(self) -> bool:
        """Whether all modules are BLIP's own."""

    def unchanging(self, *, long: bool = False) -> AbstractContextManager[None]:
        """See `BlipVqa.unchanging`."""


class ModelChangedError(RuntimeError):
    """Somebody changed the model while a piece of work was under way whose parts would not fit each other now."""

    def __init__(self) -> None:
        super().__init__("model: its weights or modules were changed while this was being computed; ask for it again")


class Computing:
    """Hold a model's lock, and compute as if nothing were set in torch. May be nested.

    Args:
        model: the model.
        long: see `BlipVqa.unchanging`.

    Raises:
        ValueError: on entering, if the model has been changed into something that cannot be traced.
        ModelChangedError: on leaving, if somebody changed it meanwhile.
    """

    def __init__(self, model: LockedModel, *, long: bool = False) -> None:
        self._model, self._long = model, long
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._model.lock)
            stack.enter_context(neutral(self._model.device, inference=self._model.plain))
            stack.enter_context(self._model.unchanging(long=self._long))
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def at_once(function: Function) -> Function:
    """A function of something with a model, or a method of it, done under one lock: all of it by the same weights."""
    long = "progress" in signature(function).parameters

    @wraps(function)
    def call(owner: Any, *arguments: Any, **keywords: Any) -> Any:
        with Computing(owner.model, long=long):
            return function(owner, *arguments, **keywords)

    return cast("Function", call)


_THREAD = threading.local()


@contextmanager
def without_glances() -> Iterator[None]:
    """In this thread a model is looked at before a computation only, not whenever what is kept is read.

    For whoever shows what was computed a moment ago, piece by piece.
    """
    before, _THREAD.glances = glances(), False
    try:
        yield
    finally:
        _THREAD.glances = before


def glances() -> bool:
    """Whether reading what is kept looks at the model first, in this thread."""
    return bool(getattr(_THREAD, "glances", True))
