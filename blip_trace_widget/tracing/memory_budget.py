"""How much memory may be used beyond the weights, and the sizes of groups and chunks that follow from it.

For: splitting samples and questions into groups, and patched runs into chunks, so that peak memory grows with neither.
Ends: at numbers; `blip_trace_widget.tracing.base_runs` and `blip_trace_widget.tracing.runs` do the splitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch

from blip_trace_widget.model.limits import Limits
from blip_trace_widget.model.out_of_memory import FAILURES, is_out_of_memory

Value = TypeVar("Value")

#: Bytes beyond the weights on a CPU.
CPU_BUDGET = 2**30
#: On a GPU it is this share of all its memory (on Apple's, which is the CPU's too, at least as much as on a CPU). Were
#: it of what is free, the sizes of groups, and with them the last bits, would depend on what else is there at the
#: moment. Where that much is not free, groups are halved (`if_there_is_room`).
GPU_SHARE = 0.25
#: The share of it for a group of samples: recorded runs, noise and its projections. The rest is for chunks.
GROUP_SHARE = 0.5
#: The share of it for clean runs that are computed together.
CLEAN_SHARE = 0.25
#: Rows (samples x runs x positions) of `WIDTH` numbers through a layer at once: enough for full speed, few enough to
#: report progress often. A narrower model takes more rows.
CHUNK_ROWS = {"cpu": 1024, "cuda": 16384, "mps": 4096}
WIDTH = 768


def memory_budget(device: torch.device, limits: Limits) -> int:
    """Bytes that may be used beyond the weights."""
    if limits.memory is not None:
        return limits.memory
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * GPU_SHARE)
    if device.type == "mps":
        return max(CPU_BUDGET, int(torch.mps.recommended_max_memory() * GPU_SHARE))
    return CPU_BUDGET


def questions_together(device: torch.device, limits: Limits) -> bool:
    """Whether several questions share passes; see `Limits.together`."""
    return device.type != "cpu" if limits.together is None else limits.together


def if_there_is_room(work: Callable[[], Value], size: int, device: torch.device) -> Value | None:
    """What some work gives; None where memory runs out, which is then returned to the system.

    Args:
        work: the work; it must leave nothing half done if it raises.
        size: how many samples it is for.
        device: where it is done.

    Raises:
        MemoryError, RuntimeError: if memory runs out for a single sample; `Computing` puts that into words.
    """
    try:
        return work()
    except FAILURES as error:
        if size == 1 or not is_out_of_memory(error):
            raise
    # Outside the `except` block, whose traceback keeps the tensors alive.
    release(device)
    return None


def halves(part: slice) -> list[slice]:
    """Samples in two groups of about equal size."""
    middle = (part.start + part.stop) // 2
    return [slice(part.start, middle), slice(middle, part.stop)]


def in_halves(work: Callable[[slice], Value], samples: int, device: torch.device) -> Iterator[Value]:
    """What some work gives for samples: for all at once, or in parts where memory runs out for more.

    Args:
        work: the work for some of the samples, see `if_there_is_room`.
        samples: their number.
        device: where it is done.

    Yields:
        what it gives for the first of them, the next, ...
    """
    pending = [slice(0, samples)]
    while pending:
        part = pending.pop(0)
        found = if_there_is_room(partial(work, part), part.stop - part.start, device)
        if found is None:
            pending[:0] = halves(part)
        else:
            yield found


def release(device: torch.device) -> None:
    """Return memory that torch has reserved on a device but does not use to the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def group_bytes(device: torch.device, limits: Limits, share: float = GROUP_SHARE) -> int:
    """Bytes that a group may take."""
    return int(memory_budget(device, limits) * share)


def sample_groups(
    samples: int, bytes_per_sample: int, device: torch.device, limits: Limits, share: float = GROUP_SHARE
) -> list[slice]:
    """Samples split into as few groups of about equal size as a share of the budget allows."""
    largest = max(1, group_bytes(device, limits, share) // max(1, bytes_per_sample))
    groups = -(-samples // largest)
    edges = [samples * number // groups for number in range(groups + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def chunk_shape(samples: int, runs: int, positions: int, rows: int, rows_per_sample: int) -> tuple[int, int]:
    """The samples and runs in a chunk of at most `rows` rows, if each run has `positions` positions."""
    rows_per_sample = min(max(rows_per_sample, positions), runs * positions)
    together = min(samples, max(1, rows // rows_per_sample))
    return together, min(runs, max(1, rows // (together * positions)))


def chunk_rows(device: torch.device, width: int, limits: Limits) -> int:
    """Rows of `width` numbers through a layer at once."""
    return limits.rows or CHUNK_ROWS.get(device.type, CHUNK_ROWS["cpu"]) * max(1, WIDTH // width)
