"""One background thread per model, for work that must not block a notebook.

For: running jobs of several owners (widgets) one slice at a time. A job is a generator; between two of its slices a
more urgent job may run, so a click does not wait for a complete grid. Owners cancel jobs that they no longer want,
queued or running.
Ends: at calling functions; independent of torch and widgets.
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

from blip_trace_widget.forks import Lock, on_fork

Slices: TypeAlias = Generator[None, None, None]

_WORKERS: WeakKeyDictionary[Any, Worker] = WeakKeyDictionary()
_WORKERS_LOCK = Lock()
_LOG = logging.getLogger(__name__)
_HERE = threading.local()


@dataclass(order=True)
class Job:
    """Work in slices.

    Attributes:
        priority: lower runs first; among equals, the earlier submitted.
        number: order of submission.
        owner: whose job it is; an owner's jobs are cancelled and waited for together.
        key: jobs of one owner with equal keys are the same work: the second is not queued while the first is.
        slices: makes the generator; each of its steps is one slice, run on the worker's thread.
        failed: called with an exception, on the worker's thread.
        ended: called once, on the worker's thread, when nothing more comes of the job: whether it was done, failed, was
            cancelled or never began.
        cancelled: set when the result is no longer wanted; slices should check it often.
        complete: set by its slices once the result is shown.
        running: the generator, once the job has begun.
    """

    priority: int
    number: int
    owner: Hashable = field(compare=False)
    key: Hashable = field(compare=False)
    slices: Callable[[Job], Slices] = field(compare=False)
    failed: Callable[[BaseException], None] = field(compare=False)
    ended: Callable[[Job], None] = field(compare=False)
    cancelled: threading.Event = field(compare=False, default_factory=threading.Event)
    complete: bool = field(compare=False, default=False)
    running: Slices | None = field(compare=False, default=None)


class Worker:
    """Runs jobs on one thread, the most urgent first.

    Args:
        name: the thread's name.
        around: makes a context manager in which every slice runs.
        idle: seconds without work after which the thread ends; the next job starts a new one.
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
        on_fork(self, Worker._renew)

    def _renew(self) -> None:
        """In a forked child there is no thread, and nobody waits for what it was to do."""
        if self._thread is not threading.current_thread():
            self._changed, self._jobs, self._thread = threading.Condition(), [], None

    def submit(
        self,
        owner: Hashable,
        key: Hashable,
        slices: Callable[[Job], Slices],
        failed: Callable[[BaseException], None],
        priority: int = 0,
        ended: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        """Queue a job, and return at once; a queued job with the same key becomes at least as urgent instead.

        Who wants to hear that just this job has ended cancels those with its key first.

        Args:
            owner: see `Job`.
            key: see `Job`.
            slices: see `Job`.
            failed: see `Job`.
            priority: see `Job`.
            ended: see `Job`.
        """
        with self._changed:
            for job in self._jobs:
                same = job.owner == owner and job.key == key
                if same and job.running is None and not job.cancelled.is_set():
                    job.priority = min(job.priority, priority)
                    heapq.heapify(self._jobs)
                    return
            heapq.heappush(self._jobs, Job(priority, next(self._numbers), owner, key, slices, failed, ended))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self, owner: Hashable, key: Hashable | None = None, keep: Collection[Hashable] = ()) -> None:
        """Cancel an owner's jobs: all, those with a key, or all but `keep`; a running one is stopped by its event."""
        with self._changed:
            for job in self._jobs:
                if job.owner == owner and (key is None or job.key == key) and job.key not in keep:
                    job.cancelled.set()
            self._changed.notify_all()

    def pending(self, owner: Hashable, key: Hashable) -> bool:
        """Whether such a job is queued or running, and not cancelled."""
        with self._changed:
            return any(job.owner == owner and job.key == key and not job.cancelled.is_set() for job in self._jobs)

    def busy(self, owner: Hashable) -> bool:
        """Whether an owner has queued or running jobs."""
        with self._changed:
            return any(job.owner == owner for job in self._jobs)

    def wait(self, owner: Hashable, timeout: float | None = None) -> bool:
        """Block until an owner has no jobs left; False after `timeout` seconds.

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
            self._call(job, job.ended, job)
            with self._changed:
                self._jobs.remove(job)
                heapq.heapify(self._jobs)
                self._changed.notify_all()
            del job  # an idle thread must not keep the last owner alive

    def _step(self, job: Job) -> bool:
        """Run one slice; False if the job has ended."""
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
        except BaseException as error:  # noqa: BLE001 - any exception must be shown and must not end the thread
            self._call(job, job.failed, error)
            return False
        return True

    @staticmethod
    def _call(job: Job, told: Callable[[Any], None], what: object) -> None:
        """Tell a job's owner, whose errors must not end the thread."""
        try:
            told(what)
        except BaseException:  # noqa: BLE001
            _LOG.exception("could not tell of %r: %r", job.key, what)

    def end(self, timeout: float) -> None:
        """Cancel everything and wait at most `timeout` seconds for the thread."""
        with self._changed:
            for job in self._jobs:
                job.cancelled.set()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)


def on_worker() -> bool:
    """Whether the current thread is a worker's."""
    return getattr(_HERE, "working", False)


@atexit.register
def _end_all() -> None:
    """End all workers: an interpreter that exits while a thread is inside a matrix product may abort."""
    for worker in list(_WORKERS.values()):
        worker.end(5.0)


def worker_of(
    model: object, name: str = "blip-trace", around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Worker:
    """The worker of a model, created at the first call and dropped with the model."""
    with _WORKERS_LOCK:
        worker = _WORKERS.get(model)
        if worker is None:
            worker = _WORKERS[model] = Worker(name, around)
        return worker
