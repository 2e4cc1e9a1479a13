"""What callers hand in to long computations (cancel, progress, Ctrl-C), and the lock and mode they run under.

For: one meaning of `cancel=` and `progress=` everywhere.
Cost: one call of `cancel` a layer, one of `progress` a chunk.
Ends: at plain callables.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.forward import Cancelled
from blip_trace_widget.surroundings import neutral

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor
    from typing_extensions import Self

    from blip_trace_widget.model import BlipVqa

Value = TypeVar("Value")
Method = TypeVar("Method", bound=Callable[..., Any])
Check: TypeAlias = Callable[[], None]
Progress: TypeAlias = Callable[[int, int], object]


#: Work that is done within so many seconds shows no progress bar of itself.
PATIENCE = 2.0


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
    """A callable on (done, total), and one that ends the display.

    True stands for a progress bar, None for one that comes after two seconds where somebody sits before it (a notebook,
    a terminal) and goes when the work is done, False for none.

    Raises:
        TypeError: if `progress` is neither None, a bool nor callable.
    """
    if progress is True or (progress is None and _watched()):
        bar = _Bar(total, unit, patience=0.0 if progress else PATIENCE)
        return bar.report, bar.close
    if progress is None or progress is False:
        return (lambda _done, _total: None), (lambda: None)
    if not callable(progress):
        raise TypeError(f"progress: expected True or a callable on (done, total), got {type(progress).__name__}")
    return progress, (lambda: None)


class _Bar:
    """A progress bar that is made once so many seconds have passed; one that had to wait goes when the work is done.

    Not tqdm's own `delay`: in a notebook its widgets, which are saved with it, would be made all the same.
    """

    def __init__(self, total: int, unit: str, patience: float) -> None:
        self._options = {"total": total, "unit": unit, "leave": not patience}
        self._due = time.monotonic() + patience
        self._bar: Any = None
        self.report(0, total)

    def report(self, done: int, _total: int) -> None:
        """So much is done."""
        if self._bar is None and time.monotonic() >= self._due:
            from tqdm.auto import tqdm

            self._bar = tqdm(**self._options, initial=0 if self._options["leave"] else done)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """No more will be."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say what is being done, and for how many seconds, where somebody waits for it as in `as_progress`.

    For work that cannot say how much of it is done.
    """
    if not _watched():
        yield
        return
    over, stream, started = threading.Event(), sys.stderr, time.monotonic()

    def tell() -> None:
        wait, end = PATIENCE, ""
        while not over.wait(wait):
            wait, end = 1.0, "\n"
            print(f"\r{what} … {time.monotonic() - started:.0f} s", end="", file=stream, flush=True)
        print(end=end, file=stream, flush=True)

    # In this thread's context: a notebook shows what is printed in the cell that waits.
    teller = threading.Thread(target=copy_context().run, args=(tell,), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _watched() -> bool:
    """Whether what is shown now is seen by somebody who waits for it: in a notebook, or in a terminal.

    Threads are not: a widget's work has a display of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None or bool(sys.stderr is not None and sys.stderr.isatty())


@contextmanager
def ended_early(done: Callable[[], str], close: Callable[[], object]) -> Iterator[None]:
    """Work that `cancel` or Ctrl-C ends before it is whole, and whose part is returned all the same.

    Args:
        done: says how much there is, for the warning that follows Ctrl-C.
        close: ends the display of progress.
    """
    interrupted = False
    try:
        yield
    except Cancelled:
        pass
    except KeyboardInterrupt:
        interrupted = True
    finally:
        close()
    if interrupted:
        warnings.warn(f"interrupted: {done()} are computed, the others are NaN", stacklevel=6)


def on_cpu(tensor: Tensor) -> NDArray[np.float64]:
    """Numbers in float64. They become that on the CPU: not every device has it."""
    return np.asarray(tensor.cpu().double().numpy())


def kept_of(instance: Any) -> dict[str, Any]:
    """What is computed of something with a model, by name; nothing once the model is no longer what it was.

    For handing it on to another instance, and for what is kept under a condition. `computed` reads and writes it.
    """
    version: int = instance.model.version
    kept: tuple[int, dict[str, Any]] = instance.__dict__.get("_kept", (-1, {}))
    if kept[0] != version:
        kept = instance.__dict__["_kept"] = (version, {})
    return kept[1]


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


class computed(Generic[Value]):  # noqa: N801 - it stands where `property` stands
    """A property of something with a model, computed at its first use under the model's lock, and kept.

    It is computed anew once somebody has changed the model. `functools.cached_property` would not do for another
    reason too: before Python 3.12 it holds a lock of its own while it computes, shared by all instances, and two locks
    taken in either order end in a deadlock.
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
        if self._name in kept_of(instance):
            instance.model.glance()
        kept = kept_of(instance)
        if self._name not in kept:
            with Computing(instance.model):
                kept = kept_of(instance)
                if self._name not in kept:
                    kept[self._name] = self._compute(instance)
        return kept[self._name]


class Computing:
    """Hold a model's lock, and compute as if nothing were set in torch. May be nested.

    Args:
        model: the model.
        long: see `BlipVqa.unchanging`.

    Raises:
        ValueError: on entering, if the model has been changed into something that cannot be traced.
        ModelChangedError: on leaving, if somebody changed it meanwhile.
    """

    def __init__(self, model: BlipVqa, *, long: bool = False) -> None:
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


class ModelChangedError(RuntimeError):
    """Somebody changed the model while a piece of work was under way whose parts would not fit each other now."""

    def __init__(self) -> None:
        super().__init__("model: its weights or modules were changed while this was being computed; ask for it again")


def at_once(method: Method) -> Method:
    """A method of something with a model, done under one lock: all of it by the same weights."""
    long = "progress" in signature(method).parameters

    @wraps(method)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        with Computing(self.model, long=long):
            return method(self, *arguments, **keywords)

    return cast("Method", call)
