"""How much memory may be used above the weights, and what follows for the size of pieces of work.

For: cutting samples and questions into groups, and patched runs into chunks, so that peak memory grows with neither.
Ends: at numbers; the pieces are made in `blip_trace_widget.tracing.base_runs` and `blip_trace_widget.tracing.runs`.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from blip_trace_widget.model.limits import Limits

#: Bytes above the weights on a CPU. On a GPU: half of what is free when the work begins (on Apple's no less than this,
#: since the memory is the CPU's too).
CPU_BUDGET = 2**30
#: What a group of samples may hold of it: recorded runs, noise and its projections. The rest is for chunks.
GROUP_SHARE = 0.5
#: What the clean runs of questions that are asked together may hold of it.
CLEAN_SHARE = 0.25
#: Rows (samples x runs x positions) of `WIDTH` numbers through a layer at once: enough for full speed, little enough to
#: report often. A narrower model takes more rows.
CHUNK_ROWS = {"cpu": 1024, "cuda": 16384, "mps": 4096}
WIDTH = 768


def memory_budget(device: torch.device, limits: Limits) -> int:
    """Bytes that may be used above the weights."""
    if limits.memory is not None:
        return limits.memory
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds without using it counts as free: it is given again before more is taken.
        return (free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)) // 2
    if device.type == "mps":
        return max(CPU_BUDGET, (torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()) // 2)
    return CPU_BUDGET


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there was no room; only CUDA has a class of its own for that."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in told or "can't allocate memory" in told


def no_room(device: torch.device) -> RuntimeError:
    """What is raised where not even one run has room."""
    return torch.OutOfMemoryError(
        f"memory: not even one run of one noise sample fits into what is free on {device}. Free some (other models, "
        "del, torch.cuda.empty_cache()), or load the model with dtype='bfloat16', or with device='cpu'"
    )


def release(device: torch.device) -> None:
    """Give back to the system what torch holds on a device without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def sample_groups(
    samples: int, bytes_a_sample: int, device: torch.device, limits: Limits, share: float = GROUP_SHARE
) -> list[slice]:
    """Samples in as few groups of like size as a share of the budget allows."""
    most = max(1, int(memory_budget(device, limits) * share) // max(1, bytes_a_sample))
    groups = -(-samples // most)
    edges = [samples * number // groups for number in range(groups + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def chunk_shape(samples: int, runs: int, positions: int, rows: int, rows_a_sample: int) -> tuple[int, int]:
    """How many samples, and how many runs of so many positions each, make a chunk of at most so many rows."""
    rows_a_sample = min(max(rows_a_sample, positions), runs * positions)
    together = min(samples, max(1, rows // rows_a_sample))
    return together, min(runs, max(1, rows // (together * positions)))


def chunk_rows(device: torch.device, width: int, limits: Limits) -> int:
    """Rows of so many numbers through a layer at once."""
    return limits.rows or CHUNK_ROWS.get(device.type, CHUNK_ROWS["cpu"]) * max(1, WIDTH // width)
