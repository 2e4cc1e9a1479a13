"""One background thread for each model, for work that must not hold up a notebook.

For: running jobs of several owners (widgets) one slice at a time. A job is a generator; between two of its slices a
more urgent job may go first, so a click does not wait for a whole grid. An owner drops jobs it no longer wants, pending
or running: the latest wins.
Ends: at calling functions. It knows neither torch nor widgets.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Collection, Generator, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

Slices: TypeAlias = Generator[None, None, None]

_WORKERS: WeakKeyDictionary[Any, Worker] = WeakKeyDictionary()
_WORKERS_LOCK = threading.Lock()
_LOG = logging.getLogger(__name__)
_HERE = threading.local()


@dataclass(order=True)
class Job:
    """Work in slices.

    Attributes:
        priority: lower goes first; among equals, the earlier submitted.
        number: order of submission.
        owner: whose job it is; its jobs are cancelled and waited for together.
        key: two jobs of one owner with equal keys are the same work: the second is not queued while the first waits.
        slices: makes the generator; each step of it is one slice, run on the worker's thread.
        failed: told of an exception, on the worker's thread.
        cancelled: set when nobody wants the result any more; slices should look at it often.
    """

    priority: int
    number: int
    owner: Hashable = field(compare=False)
    key: Hashable = field(compare=False)
    slices: Callable[[Job], Slices] = field(compare=False)
    failed: Callable[[BaseException], None] = field(compare=False)
    cancelled: threading.Event = field(compare=False, default_factory=threading.Event)
    running: Slices | None = field(compare=False, default=None)


class Worker:
    """Runs jobs on one thread, the most urgent first.

    Args:
        name: of the thread.
        around: every slice is run inside of one.
        idle: seconds without work after which the thread ends; the next job starts another.
    """

    def __init__(
        self,
        name: str = "worker",
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        idle: float = 2.0,
    ) -> None:
        self._name, self._around, self._idle = name, around, idle
        self._changed = threading.Condition()
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def submit(
        self,
        owner: Hashable,
        key: Hashable,
        slices: Callable[[Job], Slices],
        failed: Callable[[BaseException], None],
        priority: int = 0,
    ) -> None:
        """Queue a job; returns at once. A job that waits under that key already becomes as urgent as this one."""
        with self._changed:
            for job in self._jobs:
                same = job.owner == owner and job.key == key
                if same and job.running is None and not job.cancelled.is_set():
                    job.priority = min(job.priority, priority)
                    heapq.heapify(self._jobs)
                    return
            heapq.heappush(self._jobs, Job(priority, next(self._numbers), owner, key, slices, failed))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self, owner: Hashable, key: Hashable | None = None, keep: Collection[Hashable] = ()) -> None:
        """Drop an owner's jobs (or those with that key, or all but `keep`); its event stops a running one."""
        with self._changed:
            for job in self._jobs:
                if job.owner == owner and (key is None or job.key == key) and job.key not in keep:
                    job.cancelled.set()
            self._changed.notify_all()

    def pending(self, owner: Hashable, key: Hashable) -> bool:
        """Whether such a job waits or runs, and is still wanted."""
        with self._changed:
            return any(job.owner == owner and job.key == key and not job.cancelled.is_set() for job in self._jobs)

    def busy(self, owner: Hashable) -> bool:
        """Whether an owner has jobs that wait or run."""
        with self._changed:
            return any(job.owner == owner for job in self._jobs)

    def wait(self, owner: Hashable, timeout: float | None = None) -> bool:
        """Block until an owner has no jobs left; False if the time ran out.

        Raises:
            RuntimeError: on the worker's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("wait() was called on the worker's own thread")
        with self._changed:
            return self._changed.wait_for(lambda: all(job.owner != owner for job in self._jobs), timeout)

    def _run(self) -> None:
        _HERE.working = True
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._jobs), self._idle):
                    self._thread = None
                    return
                job = self._jobs[0]  # it stays in the heap while it runs, so that `wait` and `submit` see it
            if self._step(job):
                continue
            with self._changed:
                self._jobs.remove(job)
                heapq.heapify(self._jobs)
                self._changed.notify_all()
            del job  # an idle thread must not keep the last owner alive

    def _step(self, job: Job) -> bool:
        """Run one slice; False when the job is over."""
        try:
            if job.running is None:
                if job.cancelled.is_set():
                    return False
                job.running = job.slices(job)
            if job.cancelled.is_set():
                job.running.close()
                return False
            with self._around():
                next(job.running)
        except StopIteration:
            return False
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must be shown and must not end the thread
            try:
                job.failed(error)
            except BaseException:  # noqa: BLE001
                _LOG.exception("could not show that %r failed with %r", job.key, error)
            return False
        return True

    def end(self, timeout: float) -> None:
        """Drop everything and wait a little for the thread."""
        with self._changed:
            for job in self._jobs:
                job.cancelled.set()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)


def on_worker() -> bool:
    """Whether this thread is a worker's."""
    return getattr(_HERE, "working", False)


@atexit.register
def _end_all() -> None:
    """An interpreter that ends while a thread is deep in a matrix product may abort."""
    for worker in list(_WORKERS.values()):
        worker.end(5.0)


def worker_of(
    model: object, name: str = "blip-trace", around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Worker:
    """The worker of a model, made at the first call and gone with the model."""
    with _WORKERS_LOCK:
        worker = _WORKERS.get(model)
        if worker is None:
            worker = _WORKERS[model] = Worker(name, around)
        return worker
