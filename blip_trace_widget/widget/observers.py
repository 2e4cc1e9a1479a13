"""Calling users' functions that observe a widget: when, on which thread, and where their output goes.

For: observers that may do anything: set traits, print, draw, raise.
- When: never in the middle of a change by the widget. Notifications due while its lock is held wait for its release.
- Where: as in traitlets, on the thread that set the trait; except for results, which the model's worker sets. Output
  from that thread is lost, because a host shows only what arrives while it waits for an answer. So in a kernel the page
  is asked to call back, and observers are called while that message is handled, as those of ipywidgets are: ``with
  out:`` works, and printed output goes to the cell that registered them. If no page answers, the kernel's event loop
  calls them, and what they print is seen where the page ran the cell itself (not in voila). `TraceWidget.wait`, which
  blocks that loop, calls them itself. The page gets results at once in any case.
- How often: until a function is called, later changes of the same trait are merged into the first, as under
  `hold_trait_notifications`.
- Exceptions end here: the traceback is shown as for ipywidgets' callbacks, and the widget is not affected.

Ends: at calling functions, whatever they observe.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from IPython import get_ipython
from traitlets import Bunch, EventHandler

from blip_trace_widget import forks
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.worker import on_worker

#: Seconds between two looks whether a page has called back.
LOOK = 0.5
#: How many looks a page has that was never heard of or did not answer last time, and one that is there but may be busy.
UNHEARD, HEARD = 1, 20


@dataclass
class Observer:
    """A function as registered with traitlets; equal to any other for the same function.

    Attributes:
        handler: the function.
        observers: calls it.
        widget: the widget whose traits it observes.
        cell: the request of the cell that registered it; None outside a cell.
    """

    handler: Any
    observers: Observers = field(compare=False, repr=False)
    widget: Any = field(compare=False, repr=False)
    cell: dict[str, Any] | None = field(compare=False, repr=False)

    def __call__(self, change: Bunch) -> None:
        """Notify the function of a change; called by traitlets."""
        self.observers.notify(self, change)

    def call(self, change: Bunch) -> None:
        """Call the function."""
        handler = self.handler
        if isinstance(handler, EventHandler) and handler.name is not None:  # a method marked by `traitlets.observe`
            handler = getattr(self.widget, handler.name)
        handler(change)


class Observers:
    """All observers of one widget.

    Args:
        call: asks the page to call back, which calls `deliver`.
        failed: called with a function, a change and the exception that it raised.
        lock: see below.

    Attributes:
        lock: guards the widget's changes; None until it has one.
    """

    def __init__(
        self, call: Callable[[], None], failed: Callable[[Any, Bunch, Exception], None], lock: Lock | None = None
    ) -> None:
        self.lock = lock
        self._call, self._failed = call, failed
        self._mutex = forks.Lock()
        self._waiting: list[tuple[Observer, Bunch]] = []
        self._called = False
        self._calls = 0
        self._looks = UNHEARD

    def of(self, handler: Any, widget: Any) -> Observer:
        """The object to register with traitlets instead of a function."""
        return Observer(handler, self, widget, _cell())

    @property
    def waiting(self) -> bool:
        """Whether a notification is pending."""
        return bool(self._waiting)

    def notify(self, observer: Observer, change: Bunch) -> None:
        """Notify a function of a change, now or as soon as it may be called."""
        ours = self.lock is not None and self.lock.held
        if not ours and not on_worker():  # as in traitlets: exceptions go to whoever set the trait
            observer.call(change)
            return
        with self._mutex:
            for at, (other, earlier) in enumerate(self._waiting):
                if other is observer and (earlier.name, earlier.type) == (change.name, change.type):
                    self._waiting[at] = observer, Bunch(change, old=earlier.get("old"))
                    break
            else:
                self._waiting.append((observer, change))
        if not ours:
            self.settle()

    def settle(self) -> None:
        """Arrange for the delivery of pending notifications; called after the lock is released."""
        if not self._waiting:
            return
        kernel = getattr(get_ipython(), "kernel", None) if on_worker() else None
        if kernel is None:
            self.deliver()
            return
        with self._mutex:
            called, self._called = self._called, True
        if not called:
            self._calls += 1
            self._call()
            self._look_later(kernel.io_loop, self._calls, self._looks)

    def heard(self) -> None:
        """A page has sent a message, so it is there."""
        self._looks = HEARD

    def deliver(self, *, alone: bool = False) -> None:
        """Deliver the pending notifications on this thread.

        Args:
            alone: whether neither a message of the page nor a cell is being handled.
        """
        while True:
            with self._mutex:
                self._called = False
                if not self._waiting:
                    return
                observer, change = self._waiting.pop(0)
            with _output_in(observer.cell, alone=alone):
                try:
                    observer.call(change)
                except Exception as error:  # noqa: BLE001 - a user's exception must not affect the widget
                    _show(error)
                    self._failed(observer.handler, change, error)

    def forget(self, handler: Any = None) -> None:
        """Drop the pending notifications of a function, or all."""
        with self._mutex:
            kept = [entry for entry in self._waiting if handler is not None and entry[0].handler != handler]
            self._waiting[:] = kept

    def _look_later(self, loop: Any, call: int, looks: int) -> None:
        """Deliver what is still pending after some looks, unless that call was answered.

        Not after one long wait: where a cell keeps the loop for longer, the page's answer is next in turn when it ends.
        """
        loop.add_callback(loop.call_later, LOOK, self._look, loop, call, looks)

    def _look(self, loop: Any, call: int, looks: int) -> None:
        if not self._called or call != self._calls:  # it was answered, though the next may not be yet
            return
        if looks > 1:
            self._look_later(loop, call, looks - 1)
            return
        self._looks = UNHEARD
        self.deliver(alone=True)


def _cell() -> dict[str, Any] | None:
    """The request of the running cell, if any."""
    request: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    return request if request and request["header"]["msg_type"] == "execute_request" else None


@contextmanager
def _output_in(cell: dict[str, Any] | None, *, alone: bool) -> Iterator[None]:
    """Send output to a cell, unless another one is running.

    While a message is handled, the shell's parent stays that message: ``with out:`` looks for it there.
    """
    shell = get_ipython()
    if cell is None or not hasattr(shell, "set_parent") or (_cell() is not None and not alone):
        yield
        return
    if alone:
        before = shell.get_parent()
        shell.set_parent(cell)
        try:
            yield
        finally:
            shell.set_parent(before)
        return
    places: tuple[Any, ...] = (sys.stdout, sys.stderr, shell.display_pub, shell.displayhook)
    changed = [(place, place.parent_header) for place in places if hasattr(place, "set_parent")]
    try:
        for place, _ in changed:
            place.set_parent(cell)
        yield
    finally:
        for place, header in changed:
            place.set_parent(header)


def _show(error: Exception) -> None:
    """Show a traceback where the function's output would go."""
    shell = get_ipython()
    if shell is None:
        traceback.print_exception(error)
    else:
        shell.showtraceback((type(error), error, error.__traceback__), tb_offset=2)
