"""What is held in a grid, and where its paths lead, in words.

For: the sentence about a state, the notes below a grid, and the list of what is held.
Ends: at phrases; `blip_trace_widget.display.formatting` puts them into a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blip_trace_widget.display.labels import label, site_and_head
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import EVERYWHERE, State

#: Words for sites above what is patched -> what they hold.
LATER = {"mlp": "MLPs", "self_attention_out": "self-attentions", "cross_attention_out": "cross-attentions"}
#: States that are named one by one; more are counted.
NAMED = 3


def kept(direction: str, corruption: Mapping[str, Any]) -> str:
    """What held states are: those of the run that is patched."""
    if direction == "disrupt":
        return "clean"
    return "noisy" if corruption["type"] == "GaussianNoise" else "damaged"


def held(hold: Iterable[str | State], block: str, tokens: Sequence[str]) -> str:
    """What is held: "the later MLPs there and layer 2 at “color”"; "" for nothing.

    Args:
        hold: see `GridSpec`.
        block: the block in view.
        tokens: its tokens.
    """
    items = list(hold)
    words = [LATER[item] for item in items if isinstance(item, str) and item in LATER]
    where = "" if EVERYWHERE in items else " there"
    later = [f"the later {_listed(words)}{where}"] if words else []
    return _listed(later + _several([item for item in items if isinstance(item, State)], block, tokens))


def held_note(phrase: str, kept: str) -> str:
    """A line about what is held; "" for nothing."""
    return phrase and f"Held {kept}: {phrase}"


def paths_note(spec: GridSpec, tokens: Sequence[str]) -> str:
    """A line about where the paths of a grid lead; "" where it is of none."""
    goal = into(spec, tokens)
    return goal and f"What reaches {goal} directly: all that attentions and MLPs add is held between"


def into(spec: GridSpec, tokens: Sequence[str]) -> str:
    """Where a grid's paths lead, and through what: "layer 3 at “[CLS]”, or through MLPs"; "" for a grid of states.

    Args:
        spec: the grid.
        tokens: of its block.
    """
    if spec.receivers is None:
        return ""
    answer = isinstance(spec.receivers, str)
    goal = "the answer" if answer else _listed(_several(spec.receivers, spec.block, tokens))  # type: ignore[arg-type]
    words = [LATER[item] for item in spec.through if isinstance(item, str)]
    states = [item for item in spec.through if isinstance(item, State)]
    through = _listed(words + _several(states, spec.block, tokens))
    return goal + (f", or through {through}" if through else "")


def image_paths(spec: GridSpec, tokens: Sequence[str]) -> str:
    """What a map of paths from the picture shows."""
    what = "restoring" if spec.direction == "restore" else "damaging"
    return f"What {what} just this part sends directly to {into(spec, tokens)}."


def state_name(state: State, block: str, tokens: Sequence[str]) -> str:
    """A state: "layer 2 at “color”", with what is not plain in the block in view."""
    part = "" if state.site == "block_output" else f" ({site_and_head(state.site, state.head)})"
    name = f"layer {state.layer}{part}"
    if state.block != block:
        return f"{label(state.block).lower()} {name} at token {state.position}"
    token = tokens[state.position] if state.position < len(tokens) else str(state.position)
    twice = tokens.count(token) > 1
    return f"{name} at “{token}”" + (f" (token {state.position})" if twice else "")


def subject(items: Iterable[str | State]) -> str:
    """Held things as the subject of a sentence and its verb: "2 states are", "the later MLPs are"."""
    items = list(items)
    states = sum(isinstance(item, State) for item in items)
    words = [f"the later {LATER[item]}" for item in items if isinstance(item, str)]
    counted = [] if not states else ["a state"] if states == 1 else [f"{states} states"]
    return _listed(words + counted) + (" is" if counted == ["a state"] and not words else " are")


def _several(states: Sequence[State], block: str, tokens: Sequence[str]) -> list[str]:
    if len(states) > NAMED:
        return [f"{len(states)} states"]
    return [state_name(state, block, tokens) for state in states]


def _listed(names: Sequence[str]) -> str:
    """Names joined by commas and "and"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
