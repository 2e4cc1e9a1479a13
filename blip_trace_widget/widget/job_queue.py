"""One widget's jobs on its model's worker, and their priorities.

For: everything that computes for a view: the session and its jobs.
Ends: at queueing; the jobs compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.worker import Job, Slices, Worker

#: Priorities, the most urgent first: a new question or noise, clicks, readings of the runs, the rest of the grid,
#: requested maps, the noise curve.
UPDATE, PATCH, GLANCE, FILL, MAP, CURVE = range(6)


@dataclass(frozen=True)
class Pace:
    """How long a session takes for what it does in the background.

    Attributes:
        report: seconds between two progress reports.
        live: a grid that takes at most this many seconds is computed before the corrupted run is shown, and shown with
            it.
        curve: the factors of the noise curve behind the slider.
    """

    report: float = 0.1
    live: float = 0.3
    curve: tuple[float, ...] = DEFAULT_FACTORS


class JobQueue:
    """One owner's jobs on a worker.

    Args:
        worker: the model's worker.
        failed: called with an exception, on the worker's thread.
        lock: guards what is shown.
        outdated: called on the worker's thread before every job except updates; if it returns True, the job is dropped.
        pace: how long jobs may take for what.
    """

    def __init__(
        self,
        worker: Worker,
        failed: Callable[[BaseException], None],
        lock: Lock | None = None,
        outdated: Callable[[], bool] = lambda: False,
        pace: Pace | None = None,
    ) -> None:
        self.lock, self.pace = lock or Lock(), pace or Pace()
        self._worker, self._failed, self._outdated = worker, failed, outdated
        self._owner = object()

    def submit(
        self,
        key: Hashable,
        priority: int,
        slices: Callable[[Job], Slices],
        ended: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        """Queue a job; see `Worker.submit`."""

        def if_current(job: Job) -> Slices:
            if not self._outdated():
                yield from slices(job)

        first = slices if priority == UPDATE else if_current
        self._worker.submit(self._owner, key, first, self._failed, priority, ended)

    def answer(
        self, key: Hashable, priority: int, slices: Callable[[Job], Slices], answered: Callable[[Job], None]
    ) -> None:
        """Queue a job in place of those with its key, each of which is answered once, under the lock."""

        def ended(job: Job) -> None:
            with self.lock:
                answered(job)

        self.cancel(key)
        self.submit(key, priority, slices, ended)

    def cancel(self, key: Hashable | None = None, keep: Collection[Hashable] = ()) -> None:
        """Drop all jobs, those with a key, or all but those in `keep`."""
        self._worker.cancel(self._owner, key, keep)

    def pending(self, key: Hashable) -> bool:
        """Whether a job with this key is queued or running, and not cancelled."""
        return self._worker.pending(self._owner, key)

    @property
    def busy(self) -> bool:
        """Whether any job is queued or running."""
        return self._worker.busy(self._owner)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until no job is left; False after `timeout` seconds."""
        return self._worker.wait(self._owner, timeout)
