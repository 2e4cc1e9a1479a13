"""Work in steps as slices of a job, with its progress.

For: `blip_trace_widget.widget.find_job`, `flow_job`, between whose steps clicks are answered.
Ends: at messages of progress; what comes of the work is shown by its job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from blip_trace_widget.display import formatting
from blip_trace_widget.widget.job_queue import JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job


class Work(Protocol):
    """Work that is done step by step; attributes: runs at most, and those done."""

    total: int

    @property
    def done(self) -> int:
        """Runs that are done."""

    def steps(self) -> Iterator[None]:
        """Do it, yielding after each step."""


def stepped(
    work: Work, presenter: Presenter, jobs: JobQueue, job: Job, request: int, show: Callable[[], None] | None = None
) -> Generator[None, None, bool]:
    """Do some work as slices of a job; whether it came to its end.

    Args:
        work: the work.
        presenter: tells the progress.
        jobs: the queue, whose pace says how often.
        job: the job, which may be cancelled meanwhile.
        request: id of the request that the progress is of.
        show: called with each report, under the lock.
    """
    began, reported = time.monotonic(), -jobs.pace.report
    for _ in work.steps():
        with jobs.lock:
            if job.cancelled.is_set():
                return False
            if (now := time.monotonic()) - reported >= jobs.pace.report:
                reported, done = now, work.done
                left = formatting.seconds_left((now - began) * (work.total - done) / max(done, 1))
                presenter.say("progress", request, done=done, total=work.total, left=left)
                if show is not None:
                    show()
        yield
    return True
