"""Controlling long computations: `cancel`, `progress` and Ctrl-C.

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
from typing import Any, TypeAlias

from blip_trace_widget.model.block import Cancelled

Check: TypeAlias = Callable[[], None]
Progress: TypeAlias = Callable[[int, int], object]


#: Work shorter than this shows no progress bar by default, in seconds.
PATIENCE = 2.0
#: Packages whose lines warnings never point at.
_OURS = {__name__.partition(".")[0], "contextlib"}


def no_check() -> None:
    """A check that never cancels."""


def as_check(cancel: Any) -> Check:
    """A callable that raises `Cancelled` once `cancel`, a callable or an object with ``is_set``, says so.

    Raises:
        TypeError: if `cancel` is neither, nor None.
    """
    if cancel is None:
        return no_check
    cancelled = cancel.is_set if hasattr(cancel, "is_set") else cancel
    if not callable(cancelled):
        raise TypeError(f"cancel: expected a callable or an object with is_set, got {type(cancel).__name__}")

    def check() -> None:
        if cancelled():
            raise Cancelled

    return check


def as_progress(
    progress: Any, total: int, unit: str = "cell", patience: float = PATIENCE
) -> tuple[Progress, Callable[[], object]]:
    """A callable on (done, total), and one that closes the display.

    True shows a progress bar; None shows one after `patience` seconds in a notebook or a terminal, and removes it when
    the work is done; False shows none.

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
    """A progress bar that appears after `patience` seconds; a delayed one disappears when the work is done.

    Not tqdm's own `delay`: in a notebook its widgets, which are saved with it, would be created anyway.
    """

    def __init__(self, total: int, unit: str, patience: float) -> None:
        self._options = {"total": total, "unit": unit, "leave": not patience}
        self._due = time.monotonic() + patience
        self._bar: Any = None
        self.report(0, total)

    def report(self, done: int, _total: int) -> None:
        """Show how much is done."""
        if self._bar is None and time.monotonic() >= self._due:
            from tqdm.auto import tqdm

            self._bar = tqdm(**self._options, initial=0 if self._options["leave"] else done)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def announced(what: str, patience: float = PATIENCE) -> Iterator[None]:
    """Print what is being done, and for how many seconds, in a notebook or a terminal as in `as_progress`.

    For work whose progress is not known.
    """
    if not _watched():
        yield
        return
    over, stream, started = threading.Event(), sys.stderr, time.monotonic()

    def report() -> None:
        wait, end = patience, ""
        while not over.wait(wait):
            wait, end = 1.0, "\n"
            print(f"\r{what} … {time.monotonic() - started:.0f} s", end="", file=stream, flush=True)
        print(end=end, file=stream, flush=True)

    # In this thread's context, so that a notebook prints into the waiting cell.
    reporter = threading.Thread(target=copy_context().run, args=(report,), daemon=True)
    reporter.start()
    try:
        yield
    finally:
        over.set()
        reporter.join()


def _watched() -> bool:
    """Whether somebody is waiting in front of a notebook or a terminal.

    Not in other threads: a widget's work has its own display.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None or bool(sys.stderr is not None and sys.stderr.isatty())


@contextmanager
def ended_early(
    done: Callable[[], str], close: Callable[[], object], how: str = "are computed, the others are NaN"
) -> Iterator[None]:
    """Let `cancel` or Ctrl-C end the work inside early, so that the caller can return what is done.

    Args:
        done: says how much is done, for the warning after Ctrl-C.
        close: closes the display of progress.
        how: says in that warning what is true of these, and of the rest.
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
        warnings.warn(f"interrupted: {done()} {how}", stacklevel=_caller())


def _caller() -> int:
    """The stack level of the first caller outside this package and contextlib."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    return level
