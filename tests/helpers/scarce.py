"""Devices without room for all runs at once."""

from blip_trace_widget.model.block import SteppedBlock


def fail_where(monkeypatch, fails, error):
    """Patched runs of a block raise `error` where `fails(runs, samples)`."""
    whole = SteppedBlock.resume

    def resume(self, patches, *rest):
        if fails(len(patches.runs), patches.samples):
            raise error
        return whole(self, patches, *rest)

    monkeypatch.setattr(SteppedBlock, "resume", resume)
