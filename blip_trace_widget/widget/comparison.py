"""A grid that is kept, and the grid in view beside it: what "Compare with this grid" and "also under …" show.

For: seeing what another noise factor, site, head, direction or question changes, cell by cell, in place of the values;
and where another corruption alone leads to other claims.
Cost: until a grid is kept, nothing; then the statistics of one difference whenever a grid is shown: some milliseconds,
0.3 s for 577 x 12 cells of 200 samples.
Ends: at the trait ``compared``. The numbers are `blip_trace_widget.results.differences`', when they are shown is up to
`blip_trace_widget.widget.presenter`, and drawing them is the front end's.
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
    """What is compared with.

    Attributes:
        code: Python that computes the grid that is kept, or "".
        corruption: what it is under, where that can be had.
    """

    def __init__(self) -> None:
        self._kept: Trace | None = None
        self.code = ""
        self.corruption: Corruption | None = None

    def keep(
        self, trace: Trace, code: str = "", corruption: Corruption | None = None, *, filling: bool = False
    ) -> None:
        """Keep a grid. Its samples are not copied: what is computed of it later belongs to it too.

        Args:
            trace: the grid.
            code: Python that computes it.
            corruption: what it is under.
            filling: whether it is being computed, and may still be empty.

        Raises:
            ValueError: if nothing of it is computed, or it is no grid of one question.
        """
        if type(trace) is not Trace:
            raise ValueError("compare: an average over many questions cannot be compared here, a single sample can")
        if not filling and not np.isfinite(trace.samples).any():
            raise ValueError("compare: no cell of this grid is computed yet; trace it first")
        self._kept, self.code, self.corruption = trace, code, corruption

    def let_go(self) -> None:
        """Keep nothing."""
        self._kept, self.code, self.corruption = None, "", None

    def difference(self, trace: Trace) -> Difference | None:
        """A grid less the one that is kept; None where there is none, or the two cannot be compared."""
        return self._against(trace)[0]

    def agreement(self, trace: Trace) -> Agreement | None:
        """A grid and the one that is kept, where they differ in their corruption and in nothing else."""
        if self._kept is None or type(trace) is not Trace or not_alike(trace, self._kept):
            return None
        if trace.settings["corruption"] == self._kept.settings["corruption"]:
            return None
        return Agreement((trace, replace(self._kept, samples=self._kept.samples.copy())))

    def payload(self, traces: Iterable[Trace], generation: int) -> dict[str, Any]:
        """The trait, with the difference of each of these grids; empty where nothing is kept."""
        if self._kept is None:
            return {}
        compared: protocol.Comparison = {
            "kept": _called(self._kept),
            "differences": [self._difference_payload(trace, generation) for trace in traces],
        }
        return dict(compared)

    def _difference_payload(self, trace: Trace, generation: int) -> protocol.GridDifference:
        found, text = self._against(trace)
        undefined = found.undefined_because if found else ""
        spec, agreement = payloads.spec_of(trace), self.agreement(trace)
        return {
            "generation": generation,
            "block": spec.block,
            "site": spec.site,
            "head": spec.head,
            "direction": spec.direction,
            "window": spec.window,
            "patch": spec.patch,
            "text": text,
            "undefined": undefined and f"no difference of recoveries: {undefined}",
            "values": b"" if found is None else _values(found).tobytes(),
            "agreement": "" if agreement is None else _agreeing(agreement),
            "apart": [] if agreement is None else [(int(a), int(b)) for a, b in np.argwhere(agreement.disagrees[0, 1])],
        }

    def _against(self, trace: Trace) -> tuple[Difference | None, str]:
        """The difference, and what it is of; where there is none, why."""
        if self._kept is None:
            return None, ""
        kept = replace(self._kept, samples=self._kept.samples.copy())
        if reason := _apart(trace, kept):
            return None, f"Not comparable with {_called(kept)}: {reason}"
        found = difference(trace, kept)
        one, other = found.names
        if one != other:
            return found, f"{one} − {other}"
        if np.array_equal(trace.samples, kept.samples, equal_nan=True):
            return None, f"Kept to compare with: {_called(kept)}. Go on to another grid to see what differs."
        return found, "now − kept"


def _apart(trace: Trace, kept: Trace) -> str:
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


def _called(trace: Trace) -> str:
    """A grid's settings, in a line."""
    asked = trace.settings
    window = asked["window"]
    parts = [label(asked["block"]), site_and_head(asked["site"], asked["head"])]
    parts += [f"{window} layers together"] if window > 1 else []
    return " · ".join([*parts, asked["direction"], damage(asked["corruption"])])


def _agreeing(agreement: Agreement) -> str:
    """How far a grid and the one that is kept agree, in a line."""
    one, kept = agreement.traces
    both, apart = int((one.computed & kept.computed).sum()), int(agreement.disagrees[0, 1].sum())
    told = f"Also under {agreement.names[1]}"
    if not both:
        return f"{told}: no cell is computed in both yet"
    rank = agreement.rank_correlation[0, 1]
    alike = f"rank correlation {number(rank)}" if np.isfinite(rank) else "no rank correlation"
    some = "" if both == one.computed.size else f" of {one.computed.size}, so far"
    single = " · one sample: no error known" if 1 in (len(one.samples), len(kept.samples)) else ""
    disagree = ("disagrees" if apart == 1 else "disagree") + (" (outlined)" if apart else "")
    return f"{told}: {alike} · {apart} of {both} cells{some} {disagree}{single}"


def _values(found: Difference) -> NDArray[np.float32]:
    """`blip_trace_widget.display.protocol.DIFFERENCE_FIELDS` of every cell, (fields, layers, positions), little endian.

    Of a single sample nothing is claimed, as in a grid.
    """

    def claimed(significant: NDArray[np.bool_], stderr: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isfinite(stderr), significant, np.nan)

    return np.stack(
        [
            found.scores,
            found.score_stderr,
            claimed(found.score_significant, found.score_stderr),
            found.indirect_effect,
            found.stderr,
            claimed(found.significant, found.stderr),
            found.recovery,
            found.recovery_stderr,
            claimed(found.recovery_significant, found.recovery_stderr),
        ]
    ).astype("<f4")
