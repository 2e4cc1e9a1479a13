"""One widget's jobs on its model's worker, and the order in which they go.

For: whoever computes for a view: the session, and what it has beside the grid.
Ends: at jobs. What they compute is their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.worker import Job, Slices, Worker

#: What goes first: a new question or noise, then clicks, then what is read off the runs, then the rest of the grid,
#: then maps that were asked for, then the noise curve.
UPDATE, PATCH, GLANCE, FILL, MAP, CURVE = range(6)


@dataclass(frozen=True)
class Pace:
    """What a session takes its time for.

    Attributes:
        report: seconds between two reports about something that is being filled.
        live: a grid that takes no more seconds is computed before the corrupted run is shown, and shown with it.
        curve: the factors of the noise curve behind the slider.
    """

    report: float = 0.1
    live: float = 0.3
    curve: tuple[float, ...] = DEFAULT_FACTORS


class JobQueue:
    """One owner's jobs on a worker.

    Args:
        worker: the model's worker.
        failed: told of an exception, on the worker's thread.
        lock: held by whoever changes what is shown.
        outdated: asked on the worker's thread before a job that is no update; where it says yes the job is dropped.
        pace: what the jobs take their time for.
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

    def submit(self, key: Hashable, priority: int, slices: Callable[[Job], Slices]) -> None:
        """Queue a job; see `Worker.submit`."""

        def if_current(job: Job) -> Slices:
            if not self._outdated():
                yield from slices(job)

        self._worker.submit(self._owner, key, slices if priority == UPDATE else if_current, self._failed, priority)

    def cancel(self, key: Hashable | None = None, keep: Collection[Hashable] = ()) -> None:
        """Drop the jobs, or those with that key, or all but `keep`."""
        self._worker.cancel(self._owner, key, keep)

    def pending(self, key: Hashable) -> bool:
        """Whether such a job waits or runs, and is still wanted."""
        return self._worker.pending(self._owner, key)

    @property
    def busy(self) -> bool:
        """Whether any job waits or runs."""
        return self._worker.busy(self._owner)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until no job is left; False if the time ran out."""
        return self._worker.wait(self._owner, timeout)
