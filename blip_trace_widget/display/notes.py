"""Notes that hold for all cells of a grid, in a line each.

For: the front end, the drawn figure and pages, which show them below the grid.
Ends: at lines of text; notes on single cells are in `blip_trace_widget.display.formatting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blip_trace_widget.display.formatting import capitalised
from blip_trace_widget.display.held import paths_note
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace

#: Of a cell of a grid in which rounding was seen to be a tenth of a score, or of its error bar.
ROUNDING_MATTERS = "rounding reaches a tenth of such a score or of its error: see below the grid"


def grid_notes(trace: Trace) -> list[str]:
    """The lines below a grid."""
    same, verified = trace.same_as, trace.settings.get("verified")
    note = paths_note(GridSpec.of(trace.settings), trace.tokens)
    lines = [note] if note else []
    lines += [] if same is None else [capitalised(str(same))]
    if verified and _is_of(verified, GridSpec.of(trace.settings)):
        lines.append(verified_note(verified))
    return lines


def rounding_note(verified: Mapping[str, Any] | None, spec: GridSpec) -> str:
    """What to add to a sentence about a cell of a grid in which rounding was found to matter, else ""."""
    return ROUNDING_MATTERS if verified and _is_of(verified, spec) and verified["coarse"] else ""


def _is_of(verified: Mapping[str, Any], spec: GridSpec) -> bool:
    """Whether the cells that were checked are of this grid."""
    return verified["grid"] is not None and GridSpec.of(verified["grid"]) == spec


def verified_note(verified: Mapping[str, Any]) -> str:
    """The result of a check by plain hooks, from `blip_trace_widget.Verification.as_settings`."""
    runs, difference = f"{verified['runs']} runs", _size(verified["difference"])
    if not verified["agrees"]:
        return (
            f"Not confirmed: plain hooks on the untouched model differ by up to {difference} in {runs}, "
            "more than rounding explains"
        )
    note = f"Checked: {runs} computed again by plain hooks differ by at most {difference}"
    if verified["rounding"] is not None:
        types = verified["dtype"] + (f" against {verified['exact_dtype']}" if verified["exact_dtype"] else "")
        note += f"; rounding ({types}) is {_size(verified['rounding'])}"
    if verified["coarse"]:
        note += f", a tenth or more of the score or of its error in {verified['coarse']} of them"
    return note


def _size(value: float | None) -> str:
    """The size of a difference, to one digit: "3e-8"."""
    if value is None:
        return "no number"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"
