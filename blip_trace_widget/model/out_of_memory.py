"""Out of memory: how it is recognised, and the one sentence in which it is told.

For: what halves its work where memory runs out, and `blip_trace_widget.model.computing`, at which every computation
begins and ends, for what cannot be halved.
Ends: at errors; `blip_trace_widget.tracing.memory_budget` halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

#: What is raised where memory runs out: only CUDA has a class for it.
FAILURES = (RuntimeError, MemoryError)
#: What such a RuntimeError says: of CUDA and MPS, of torch's allocator on the CPU, of CUDA's libraries, of C++.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED", "bad_alloc")


class OnDevice(Protocol):
    """What `telling` needs of a model."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _SAID)


@contextmanager
def telling(model: OnDevice) -> Iterator[None]:
    """Say what helps where memory runs out for the least that a model can be asked to do.

    Raises:
        torch.OutOfMemoryError: in place of whatever said that memory ran out.
    """
    try:
        yield
    except FAILURES as error:
        if not is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(
            f"memory: not even one run of one noise sample fits into what is free on {model.device}. Free some (other "
            "models, del, torch.cuda.empty_cache()), or load the model with dtype='bfloat16', or with device='cpu'"
        ) from error
