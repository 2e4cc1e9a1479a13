"""What callers hand in to long computations: cancel, progress, Ctrl-C.

For: one meaning of `cancel=` and `progress=` everywhere.
Ends: at plain callables.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.block import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

Check: TypeAlias = Callable[[], None]
Progress: TypeAlias = Callable[[int, int], object]


#: Work that is done within so many seconds shows no progress bar of itself.
PATIENCE = 2.0
#: Modules whose lines no warning points at.
_OURS = {__name__.partition(".")[0], "contextlib"}


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


def as_progress(
    progress: Any, total: int, unit: str = "cell", patience: float = PATIENCE
) -> tuple[Progress, Callable[[], object]]:
    """A callable on (done, total), and one that ends the display.

    True stands for a progress bar, None for one that comes after `patience` seconds where somebody sits before it (a
    notebook, a terminal) and goes when the work is done, False for none.

    Raises:
        TypeError: if `progress` is neither None, a bool nor callable.
    """
    if progress is True or (progress is None and _watched()):
        bar = _Bar(total, unit, patience=0.0 if progress else patience)
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
def announced(what: str, patience: float = PATIENCE) -> Iterator[None]:
    """Say what is being done, and for how many seconds, where somebody waits for it as in `as_progress`.

    For work that cannot say how much of it is done.
    """
    if not _watched():
        yield
        return
    over, stream, started = threading.Event(), sys.stderr, time.monotonic()

    def tell() -> None:
        wait, end = patience, ""
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
        warnings.warn(f"interrupted: {done()} are computed, the others are NaN", stacklevel=_caller())


def _caller() -> int:
    """How far up the stack the first line stands that is neither ours nor the standard library's plumbing."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    return level


def on_cpu(tensor: Tensor) -> NDArray[np.float64]:
    """Numbers in float64. They become that on the CPU: not every device has it."""
    return np.asarray(tensor.cpu().double().numpy())
