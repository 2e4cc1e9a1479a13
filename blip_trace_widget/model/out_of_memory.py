"""What is raised where memory runs out.

For: telling that from what is wrong with a model or with what was asked: it may be gone at the next try.
Ends: at yes or no. `blip_trace_widget.tracing.memory_budget` tries again with less.
"""

from __future__ import annotations

import torch

#: What is raised where memory runs out: only CUDA has a class for it.
FAILURES = (RuntimeError, MemoryError)
#: What such a RuntimeError says: of CUDA and MPS, of torch's allocator on the CPU, of CUDA's libraries, of C++.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _SAID)
