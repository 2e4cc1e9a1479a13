"""What tracing a data set will take: cells, time on this machine, disk.

For: ``trace_dataset(..., plan=True)``, before a run of hours.
Cost: eleven questions, really traced and thrown away.
Ends: at numbers; nothing is written.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.batch import Batch, Tables

if TYPE_CHECKING:
    from blip_trace_widget.dataset.samples import Sample

#: How many questions are timed.
TIMED = 10


@dataclass(frozen=True, repr=False)
class DatasetPlan:
    """What tracing a data set will take, estimated from some of its questions.

    Attributes:
        samples: how many samples there are; None for a stream of unknown length.
        timed: how many were traced to know, spread evenly over the samples (of a stream, the first ones).
        traced: how many of these were not skipped.
        cells_each: cells a sample, on average over the timed ones.
        seconds_each: seconds a sample, on this machine.
        bytes_each: bytes on disk a sample.
        batch_size: samples a file.
        bytes_per_batch: bytes on disk that the two files of a batch take beside their samples.
    """

    samples: int | None
    timed: int
    traced: int
    cells_each: float
    seconds_each: float
    bytes_each: float
    batch_size: int
    bytes_per_batch: int

    @property
    def cells(self) -> int | None:
        """Cells in all; None for a stream of unknown length."""
        return None if self.samples is None else round(self.samples * self.cells_each)

    @property
    def seconds(self) -> float | None:
        """Seconds in all, of one process on this machine; None for a stream of unknown length."""
        return None if self.samples is None else self.samples * self.seconds_each

    @property
    def bytes(self) -> int | None:
        """Bytes on disk in all; None for a stream of unknown length."""
        if self.samples is None:
            return None
        return round(self.samples * self.bytes_each + math.ceil(self.samples / self.batch_size) * self.bytes_per_batch)

    def __repr__(self) -> str:
        return f"DatasetPlan({self.summary})"

    @property
    def summary(self) -> str:
        """All of it in words."""
        timed = "1 was" if self.timed == 1 else f"{self.timed} were"
        skipped = "" if self.traced == self.timed else f", {self.timed - self.traced} of them skipped"
        each = f"{self.cells_each:,.4g} cells, {_time(self.seconds_each)} on this machine"
        if self.cells is None or self.seconds is None or self.bytes is None:
            size = _size(self.bytes_each + self.bytes_per_batch / self.batch_size)
            return f"an unknown number of samples, each {each}, {size} on disk; the first {timed} timed{skipped}"
        return (
            f"{self.samples:,} samples, about {self.cells:,} cells, {_time(self.seconds)} on this machine, "
            f"{_size(self.bytes)} on disk; a sample {each}; {timed} timed{skipped}"
        )


def estimated(given: Iterator[Sample], total: int | None, size: int, trace: Callable[[Batch], Tables]) -> DatasetPlan:
    """Trace some of the samples, and say what all of them will take.

    Args:
        given: the samples; of a stream whose length is unknown, the first are taken from it.
        total: how many there are, if known.
        size: samples a batch.
        trace: traces a batch.

    Raises:
        ValueError: if there is no sample.
    """
    chosen = list(itertools.islice(given, TIMED)) if total is None else _spread(given, total)
    if not chosen:
        raise ValueError("samples: expected one or more, got none")
    trace(Batch(0, 0, chosen[:1]))  # the first of all is slower
    began = time.perf_counter()
    parts = [trace(Batch(0, first, chosen[first : first + size])) for first in range(0, len(chosen), size)]
    seconds = time.perf_counter() - began
    count = len(chosen)
    overhead = sum(store.bytes_of(table.slice(0, 0)) for table in parts[0])
    content = sum(store.bytes_of(table) for tables in parts for table in tables) - len(parts) * overhead
    return DatasetPlan(
        samples=count if total is None and count < TIMED else total,
        timed=count,
        traced=sum(sum(rows["traced"].to_pylist()) for rows, _ in parts),
        cells_each=sum(len(cells) for _, cells in parts) / count,
        seconds_each=seconds / count,
        bytes_each=content / count,
        batch_size=size,
        bytes_per_batch=overhead,
    )


def _spread(given: Iterator[Sample], total: int) -> list[Sample]:
    """Some of the samples, evenly spread from the first to the last."""
    count = min(TIMED, total)
    wanted = {round(at * (total - 1) / max(count - 1, 1)) for at in range(count)}
    return [sample for at, sample in enumerate(given) if at in wanted]


def _time(seconds: float) -> str:
    """A duration in words: 0.35 s, 4 min, 2 h 10 min, 3 d 4 h."""
    if seconds < 90:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _size(bytes_: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.3g} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.3g} GB"
