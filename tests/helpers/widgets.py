"""Widgets and models that do in a test what they otherwise take their time for."""

import time
from contextlib import contextmanager

from blip_trace_widget import TraceWidget
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS
from blip_trace_widget.tracing.runs import Runner
from blip_trace_widget.widget.job_queue import Pace

#: Every report is said. The noise curve is drawn behind every widget, and longer than what is tested: five factors.
PACE = Pace(report=0.0, curve=DEFAULT_FACTORS[::5])
#: So few rows of the built-in model that much can happen between two chunks.
SMALL_CHUNKS = {"rows": 168, "rows_per_sample": 1}


def quick_widget(*arguments, **keywords):
    """A widget with a short noise curve."""
    return TraceWidget(*arguments, pace=Pace(curve=PACE.curve), **keywords)


@contextmanager
def limited(model, **limits):
    """A model whose runs may take no more at once, inside."""
    before, model.limits = model.limits, Limits(**limits)
    try:
        yield
    finally:
        model.limits = before


def slow_down(monkeypatch, model, seconds=0.02):
    """Patched runs come a few at a time, and each chunk of them takes a while."""
    whole = Runner.patched

    def slowly(self, *arguments):
        for chunk in whole(self, *arguments):
            time.sleep(seconds)
            yield chunk

    monkeypatch.setattr(Runner, "patched", slowly)
    monkeypatch.setattr(model, "limits", Limits(**SMALL_CHUNKS))


def compute_no_more(monkeypatch):
    """From here on a patched run fails."""

    def patched(_runner, _base, _source, runs, _check):
        assert not runs, "computed again"
        return iter(())

    monkeypatch.setattr(Runner, "patched", patched)
