"""A set of states that was searched for, in words and as a small curve.

For: the page's "Find a set…".
Ends: at a payload; `blip_trace_widget.results.found_states` has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from blip_trace_widget.display import protocol
from blip_trace_widget.display.formatting import percent
from blip_trace_widget.display.labels import EXPLAIN
from blip_trace_widget.display.payloads import number
from blip_trace_widget.results.found_states import NOTES, FoundStates

#: What patching the set does, by search.
_DOES = {
    "restore": "restored together bring back",
    "disrupt": "damaged together cost",
    "isolate": "alone, all else damaged, keep",
}
#: What the other way tells of it.
_OTHERWISE = {
    "restore": "damaging them in the clean run costs",
    "disrupt": "restoring them in the damaged run brings back",
    "isolate": "damaging them in the clean run costs",
}


def searching(way: Sequence[tuple[int, float]], target: float, generation: int) -> protocol.Found:
    """A search under way.

    Args:
        way: size of each set so far, and what it recovers on the noise that is searched.
        target: the share that is to be recovered.
        generation: of the inputs.
    """
    members = f"{way[-1][0]} members so far; " if way else ""
    return {
        "generation": generation,
        "target": target,
        "sizes": [size for size, _ in way],
        "curve": [number(recovery) for _, recovery in way],
        "bold": "",
        "text": f"Searching: {members}what it recovers on the noise that is searched is too good to be the result.",
        "members": [],
    }


def found(result: FoundStates, generation: int) -> protocol.Found:
    """What was found."""
    settings, count = result.settings, len(result.members)
    noise = "on fresh noise" if result.fresh else "on the run that was searched, for there is no noise"
    share, whole = percent(result.recovery, result.margin), percent(result.completeness, result.completeness_margin)
    least = f"; the least that one of them adds is {_least(result)}" if count > 1 else ""
    missed = "" if result.reached else f" The target of {percent(settings['target'])} was not reached."
    direction, among = settings["direction"], "heads" if settings["among"] == "heads" else "states"
    below = _below(result) if settings["among"] == "states" else ""
    these = f"{count} of {settings['candidates']} {among} {_DOES[direction]}"
    return {
        "generation": generation,
        "target": settings["target"],
        "sizes": result.sizes.tolist(),
        "curve": [number(float(recovery)) for recovery in result.curve],
        "bold": f"{share} {noise}",
        "text": f"{these} #{least}; {_OTHERWISE[direction]} {whole} (completeness).{missed} A set like this is "
        f"{NOTES[direction]}.{below}",
        "members": [member.name for member in result.members],
    }


def _least(result: FoundStates) -> str:
    """What the member adds that adds least, with its margin, and whether that may be nothing."""
    member = int(result.minimality.argmin())
    adds, margin = float(result.minimality[member]), float(result.minimality_margin[member])
    doubt = f", {EXPLAIN['negligible']}" if abs(adds) <= margin else ""
    return f"{percent(adds, margin)}{doubt}"


def _below(result: FoundStates) -> str:
    """What their numbers are once they are selected, all or one: not those of the search."""
    if result.settings["direction"] == "isolate":
        return " Selected, they are restored in the damaged run, which is another measurement."
    return " Selected, their own numbers are of the noise that was searched, and too good." if result.fresh else ""
