"""Devices without room for all runs at once."""

import itertools

from blip_trace_widget.model.block import SteppedBlock


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
