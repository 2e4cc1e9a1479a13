"""Whether a corruption did enough for recovery to mean something, in words; and why a number has no error.

For: the line under the answer. It says what `blip_trace_widget.results.statistics.TotalEffect.closed_because` decides.
Ends: at `blip_trace_widget.display.protocol.Gate`.
"""

from __future__ import annotations

import math

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.display import formatting, protocol
from blip_trace_widget.display.damage import CAUSES
from blip_trace_widget.results.snapshot import Average, Snapshot
from blip_trace_widget.results.statistics import (
    ONE_PICTURE,
    ONE_SAMPLE,
    SMALLEST_TOTAL_EFFECT,
    TotalEffect,
    unknown_error,
)

#: Below this share of the clean score the noise has taken little.
LITTLE = 0.1


def error_unknown(snapshot: Snapshot) -> str:
    """Why there are no errors, intervals and tests, or ""."""
    if snapshot.average:
        return "" if math.isfinite(snapshot.average.low) else ONE_PICTURE
    return unknown_error(snapshot.corruption, snapshot.total_effect.corrupted.size)


def of(snapshot: Snapshot) -> protocol.Gate:
    """The gate of a snapshot's runs, with what else makes them doubtful."""
    if snapshot.average:
        return _average_gate(snapshot, snapshot.average)
    found = gate(snapshot.total_effect, snapshot.metric, snapshot.corruption["type"])
    if error_unknown(snapshot) == ONE_SAMPLE:
        found = {**found, "text": f"{found['text']} · {ONE_SAMPLE}"}
    if not snapshot.unknown_words:
        return found
    unknown = ", ".join(f"“{word}”" for word in snapshot.unknown_words)
    told = (
        f"the model does not know {unknown}" if snapshot.knows_a_word else f"the model knows no word of it: {unknown}"
    )
    return {**found, "text": f"{found['text']} · {told}"}


def _average_gate(snapshot: Snapshot, average: Average) -> protocol.Gate:
    metric, known = snapshot.metric, average.samples > 1 and math.isfinite(average.low)
    took = formatting.points(metric, snapshot.total_effect.value)
    low, high = (formatting.points(metric, end) if known else "" for end in (average.low, average.high))
    sure = f" (95 % interval {low} to {high})" if known else ""
    return {"open": True, "text": f"the {CAUSES[snapshot.corruption['type']][0]} took {took}{sure}"}


def gate(total: TotalEffect, metric: str, corruption: str) -> protocol.Gate:
    """Whether a corruption of that name did enough to ask what undoes it, in words."""
    value, margin, clean = total.value, total.margin, total.clean
    kind = metric_properties(metric)
    percent = kind.percent
    name, _, remedy = CAUSES[corruption]

    def amount(number: float) -> str:
        return f"{abs(number) * 100:.0f}" if percent else f"{abs(number):.2g}"

    unit = " points" if percent else f" of {metric.replace('_', ' ')}"
    before, after = clean, float(total.corrupted.mean())
    change = f"{before * 100:.0f} % → {after * 100:.0f} %" if percent else f"{before:.3g} → {after:.3g}"
    harm = -value if kind.rises else value
    if not math.isfinite(value):
        return {"open": False, "text": f"the score is not a finite number ({change})"}
    if not total.closed_because and harm > 0:
        took = f"the {name} {'made' if kind.rises else 'took'} {amount(value)}{unit}"
        weak = percent and value < LITTLE * clean
        return {"open": True, "text": f"{took}: {f'little to bring back, {remedy}' if weak else 'enough to trace'}"}
    if not total.closed_because:
        return {"open": True, "text": f"the {name} raised the score ({change}): recovery means undoing that"}
    if SMALLEST_TOTAL_EFFECT <= abs(value) <= margin:
        return {
            "open": False,
            "text": f"the {name} changed {amount(value)} ± {amount(margin)}{unit}, which is not distinguishable from "
            f"0: {remedy}, or use more samples",
        }
    return {"open": False, "text": f"the {name} did not break the answer ({change}): {remedy}"}
