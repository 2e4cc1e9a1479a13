"""Comparing the grid in view with a kept one: "Compare with this grid" and "also under …".

For: showing what another noise factor, site, head, direction or question changes, cell by cell, instead of the values;
and on which cells another corruption alone leads to other claims.
Cost: nothing until a grid is kept; then the statistics of one difference whenever a grid is shown: a few milliseconds,
0.3 s for 577 x 12 cells of 200 samples.
Ends: at the trait ``compared``. `blip_trace_widget.results.differences` computes the numbers,
`blip_trace_widget.widget.presenter` decides when they are shown, and the front end draws them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import payloads, protocol
from blip_trace_widget.display.damage import damage
from blip_trace_widget.display.labels import label, site_and_head
from blip_trace_widget.results.agreement import Agreement, not_alike
from blip_trace_widget.results.differences import Difference, difference
from blip_trace_widget.results.summaries import number
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.corruption import Corruption


class Comparison:
    """The kept grid, and differences from it.

    Attributes:
        code: Python code that computes the kept grid, or "".
        corruption: the kept grid's corruption, if it is known.
    """

    def __init__(self) -> None:
        self._kept: Trace | None = None
        self.code = ""
        self.corruption: Corruption | None = None

    def keep(
        self, trace: Trace, code: str = "", corruption: Corruption | None = None, *, filling: bool = False
    ) -> None:
        """Keep a grid. Its samples are not copied, so cells that are computed later are included.

        Args:
            trace: the grid.
            code: Python code that computes it.
            corruption: its corruption, if known.
            filling: whether it is being computed, and may still be empty.

        Raises:
            ValueError: if none of its cells is computed, or it is not a grid of one question.
        """
        if type(trace) is not Trace:
            raise ValueError("compare: an average over many questions cannot be compared here, a single sample can")
        if not filling and not np.isfinite(trace.samples).any():
            raise ValueError("compare: no cell of this grid is computed yet; trace it first")
        self._kept, self.code, self.corruption = trace, code, corruption

    def clear(self) -> None:
        """Keep no grid any more."""
        self._kept, self.code, self.corruption = None, "", None

    def difference(self, trace: Trace) -> Difference | None:
        """A grid minus the kept one; None if there is none, or the two cannot be compared."""
        return self._against(trace)[0]

    def agreement(self, trace: Trace) -> Agreement | None:
        """A grid and the kept one, if they differ only in their corruption; else None."""
        if self._kept is None or type(trace) is not Trace or not_alike(trace, self._kept):
            return None
        if trace.settings["corruption"] == self._kept.settings["corruption"]:
            return None
        return Agreement((trace, replace(self._kept, samples=self._kept.samples.copy())))

    def payload(self, traces: Iterable[Trace], generation: int) -> dict[str, Any]:
        """The trait's value, with the difference of each grid; empty if no grid is kept."""
        if self._kept is None:
            return {}
        compared: protocol.Comparison = {
            "kept": _description(self._kept),
            "differences": [self._difference_payload(trace, generation) for trace in traces],
        }
        return dict(compared)

    def _difference_payload(self, trace: Trace, generation: int) -> protocol.GridDifference:
        compared, text = self._against(trace)
        undefined = compared.undefined_because if compared else ""
        spec, agreement = payloads.spec_of(trace), self.agreement(trace)
        return {
            "generation": generation,
            **spec.as_json,  # type: ignore[typeddict-item]
            "text": text,
            "undefined": undefined and f"no difference of recoveries: {undefined}",
            "values": b"" if compared is None else _values(compared).tobytes(),
            "agreement": "" if agreement is None else _agreement_text(agreement),
            "apart": [] if agreement is None else [(int(a), int(b)) for a, b in np.argwhere(agreement.disagrees[0, 1])],
        }

    def _against(self, trace: Trace) -> tuple[Difference | None, str]:
        """The difference and its description; or None and the reason."""
        if self._kept is None:
            return None, ""
        kept = replace(self._kept, samples=self._kept.samples.copy())
        if reason := _incomparable_because(trace, kept):
            return None, f"Not comparable with {_description(kept)}: {reason}"
        compared = difference(trace, kept)
        one, other = compared.names
        if one != other:
            return compared, f"{one} − {other}"
        if np.array_equal(trace.samples, kept.samples, equal_nan=True):
            return None, f"Kept to compare with: {_description(kept)}. Go on to another grid to see what differs."
        return compared, "now − kept"


def _incomparable_because(trace: Trace, kept: Trace) -> str:
    """Why two grids cannot be compared, or ""."""
    one, other = trace.settings, kept.settings
    if type(trace) is not Trace:
        return "this is an average over many questions"
    if one["block"] != other["block"]:
        return "that is another block"
    if trace.tokens != kept.tokens:
        return f"that has other tokens, {' '.join(kept.tokens)}"
    if trace.shape != kept.shape:
        return f"that has {kept.shape[0]} layers"
    if one["metric"] != other["metric"]:
        return f"that is scored by {label(other['metric'])}"
    return ""


def _description(trace: Trace) -> str:
    """A grid's settings, in one line."""
    settings = trace.settings
    window = settings["window"]
    parts = [label(settings["block"]), site_and_head(settings["site"], settings["head"])]
    parts += [f"{window} layers together"] if window > 1 else []
    return " · ".join([*parts, settings["direction"], damage(settings["corruption"])])


def _agreement_text(agreement: Agreement) -> str:
    """How far a grid and the kept one agree, in one line."""
    one, kept = agreement.traces
    both, apart = int((one.computed & kept.computed).sum()), int(agreement.disagrees[0, 1].sum())
    name = f"Also under {agreement.names[1]}"
    if not both:
        return f"{name}: no cell is computed in both yet"
    rank = agreement.rank_correlation[0, 1]
    alike = f"rank correlation {number(rank)}" if np.isfinite(rank) else "no rank correlation"
    some = "" if both == one.computed.size else f" of {one.computed.size}, so far"
    single = " · one sample: no error known" if 1 in (len(one.samples), len(kept.samples)) else ""
    disagree = ("disagrees" if apart == 1 else "disagree") + (" (outlined)" if apart else "")
    return f"{name}: {alike} · {apart} of {both} cells{some} {disagree}{single}"


def _values(compared: Difference) -> NDArray[np.float32]:
    """`blip_trace_widget.display.protocol.DIFFERENCE_FIELDS` of every cell, (fields, layers, positions), little endian.

    For a single sample significance is unknown, as in a grid.
    """

    def claimed(significant: NDArray[np.bool_], margin: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isfinite(margin), significant, np.nan)

    return np.stack(
        [
            compared.scores,
            compared.score_margin,
            claimed(compared.score_significant, compared.score_margin),
            compared.indirect_effect,
            compared.margin,
            claimed(compared.significant, compared.margin),
            compared.recovery,
            compared.recovery_margin,
            claimed(compared.recovery_significant, compared.recovery_margin),
        ]
    ).astype("<f4")
