"""Devices without room for all runs at once, and work that is stopped at one of its operations."""

import itertools

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blip_trace_widget.model.block import SteppedBlock

#: What is raised where memory runs out, by device and library.
NO_ROOM = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB, other allocations: 2 GB, max allowed: 3 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
)


class Operations(TorchDispatchMode):
    """Counts torch's operations of this thread inside, and calls `act` before the one of a number, from 0."""

    def __init__(self, number=-1, act=None):
        super().__init__()
        self.count = 0
        self._number, self._act = number, act

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        number, self.count = self.count, self.count + 1
        if number == self._number:
            self._act()
        return function(*arguments, **(keywords or {}))


def raising(error):
    """What raises an error when it is called."""

    def act():
        raise error

    return act


def operations_of_look(model, change):
    """How many operations the look at a change has; the change is taken back, and that is looked at too."""
    with change, Operations() as look:
        model.glance()
    model.glance()
    return look.count


def fail_where(monkeypatch, fails, error):
    """Patched runs of a block raise `error` where `fails(runs, samples)`."""
    whole = SteppedBlock.resume

    def resume(self, patches, *rest):
        if fails(len(patches.runs), patches.samples):
            raise error
        return whole(self, patches, *rest)

    monkeypatch.setattr(SteppedBlock, "resume", resume)


def fail_every(monkeypatch, number, error):
    """Every so many calls that record or resume more than one run of a block raise `error`; returns how many did."""
    calls, failed = itertools.count(1), []

    def failing(whole, size):
        def work(self, given, *rest):
            if size(given) > 1 and next(calls) % number == 0:
                failed.append(size(given))
                raise error
            return whole(self, given, *rest)

        return work

    record = failing(SteppedBlock.record, lambda inputs: inputs.shape[0])
    resume = failing(SteppedBlock.resume, lambda patches: len(patches.runs) * patches.samples)
    monkeypatch.setattr(SteppedBlock, "record", record)
    monkeypatch.setattr(SteppedBlock, "resume", resume)
    return failed
