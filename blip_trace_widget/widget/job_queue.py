"""One widget's jobs on its model's worker, and their priorities.

For: everything that computes for a view: the session and its jobs.
Ends: at queueing; the jobs compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.worker import Job, Slices, Worker

#: Priorities, the most urgent first: a new question or noise, clicks, readings of the runs, the rest of the grid,
#: requested maps, the noise curve.
UPDATE, PATCH, GLANCE, FILL, MAP, CURVE = range(6)
#: Seconds between two progress reports.
REPORT_SECONDS = 0.1


class JobQueue:
    """One owner's jobs on a worker.

    Args:
        worker: the model's worker.
        failed: called with an exception, on the worker's thread.
        lock: guards what is shown.
        outdated: called on the worker's thread before every job except updates; if it returns True, the job is dropped.
    """

    def __init__(
        self,
        worker: Worker,
        failed: Callable[[BaseException], None],
        lock: Lock | None = None,
        outdated: Callable[[], bool] = lambda: False,
    ) -> None:
        self.lock = lock or Lock()
        self._worker, self._failed, self._outdated = worker, failed, outdated
        self._owner = object()

    def submit(self, key: Hashable, priority: int, slices: Callable[[Job], Slices]) -> None:
        """Queue a job; see `Worker.submit`."""

        def if_current(job: Job) -> Slices:
            if not self._outdated():
                yield from slices(job)

        self._worker.submit(self._owner, key, slices if priority == UPDATE else if_current, self._failed, priority)

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
