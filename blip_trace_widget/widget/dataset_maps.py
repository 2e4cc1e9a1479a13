"""Small maps beside each other: the heads of a data set, or the same grid of each of its groups, on one scale.

For: `blip_trace_widget.widget.dataset`.
Ends: at the trait `mapped`; `blip_trace_widget.widget.dataset_means` averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blip_trace_widget.dataset.averages import Comparison
from blip_trace_widget.dataset.head_means import MeanHeads
from blip_trace_widget.display import formatting
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import attention_label, grid_title
from blip_trace_widget.widget.dataset_average import interval
from blip_trace_widget.widget.dataset_means import Asked, Found, Means

if TYPE_CHECKING:
    from blip_trace_widget.dataset.averages import MeanTrace
    from blip_trace_widget.display import protocol

#: What can be shown: nothing, the heads of the group in view, its grid of each group, the heads of each group.
NOTHING, HEADS, GROUPS, GROUP_HEADS = MAPS = (
    "",
    "heads",
    "groups side by side",
    "heads of groups side by side",
)
#: Most groups beside each other.
MOST = 8
#: Most rows of a small map.
MOST_ROWS = 40


@dataclass(frozen=True)
class Choice:
    """What is to be shown.

    Attributes:
        maps: one of `MAPS`.
        minus: the group that is subtracted from each; "" for none.
        picked: (layer, head) of the chosen head, or ().
        group: the group in view; "" for all.
        spec: the grid in view.
    """

    maps: str
    minus: str
    picked: tuple[int, ...]
    group: str
    spec: GridSpec


def choices(means: Means) -> list[str]:
    """Those of `MAPS` that this data set has; none if there is nothing to show."""
    heads, several = bool(means.head_specs), len(groups(means)) > 1
    there = {HEADS: heads, GROUPS: several, GROUP_HEADS: heads and several}
    return [NOTHING, *(name for name, has in there.items() if has)] if any(there.values()) else []


def groups(means: Means) -> list[str]:
    """The groups that have traced samples."""
    return [name for name in dict.fromkeys(means.data.scored()["group"]) if name]


def heads_of(means: Means, spec: GridSpec) -> GridSpec | None:
    """The grid whose heads are mapped: the one in view, or the nearest of which all heads were traced."""

    def apart(one: GridSpec) -> tuple[bool, ...]:
        return tuple(getattr(one, name) != getattr(spec, name) for name in ("block", "site", "direction", "window"))

    return min(means.head_specs, key=apart, default=None)


def needed(means: Means, choice: Choice) -> list[Asked]:
    """What must be known to show it, in the order in which it is computed."""
    heads = heads_of(means, choice.spec)
    found = [Asked("heads", heads, choice.group)] if heads and (choice.picked or choice.maps == HEADS) else []
    return list(dict.fromkeys([*found, *_panels(means, choice)]))


def payload(means: Means, choice: Choice) -> protocol.Maps:
    """What is shown, as far as it is known."""
    panels = _panels(means, choice)
    done = sum(means.known(asked) is not None for asked in panels)
    several = choice.maps in (GROUPS, GROUP_HEADS)
    left = groups(means)[MOST:] if several else []
    notes = [
        "" if done == len(panels) else f"averaging: {done} of {len(panels)} are there",
        f"not shown, since there is room for {MOST}: {', '.join(left)}" if left else "",
    ]
    return {
        "choices": choices(means),
        "groups": groups(means),
        "title": _title(panels, choice) if panels else "",
        "across": ("layer", "head") if choice.maps in (HEADS, GROUP_HEADS) else ("token", "layer"),
        "difference": several and choice.minus != "",
        "panels": [_panel(asked, means.known(asked)) for asked in panels],
        "told": told(means, choice),
        "note": "; ".join(filter(None, notes)),
    }


def told(means: Means, choice: Choice) -> str:
    """The chosen head in words: its recovery with its interval, and where it looks."""
    if choice.maps != HEADS and not choice.picked:
        return ""
    heads = heads_of(means, choice.spec)
    found = None if heads is None else means.known(Asked("heads", heads, choice.group))
    if not isinstance(found, MeanHeads):
        return ""
    if not choice.picked:
        return "Choose a head: its average grid is shown, and the samples are sorted by its effect."
    at = (choice.picked[0], choice.picked[1])
    return " ".join(filter(None, (interval(found, at), _looks(found, at))))


def _looks(found: MeanHeads, at: tuple[int, int]) -> str:
    looks = found.attention
    if looks is None:
        return ""
    on, off, single = (float(each[at]) for each in (looks.object, looks.background, looks.largest_background))
    return (
        f"It spends {formatting.percent(on)} of its attention on the object ({formatting.percent(looks.area)} of the "
        f"patches) and {formatting.percent(off)} on the background, {formatting.percent(single)} on a single patch of "
        f"that; over {looks.samples} samples with a region."
    )


def _panels(means: Means, choice: Choice) -> list[Asked]:
    kind = "heads" if choice.maps in (HEADS, GROUP_HEADS) else "grid"
    spec = heads_of(means, choice.spec) if kind == "heads" else choice.spec
    if choice.maps == NOTHING or spec is None or (kind == "grid" and spec not in means.specs):
        return []
    if choice.maps == HEADS:
        return [Asked(kind, spec, choice.group)]
    return [Asked(kind, spec, group, choice.minus) for group in groups(means)[:MOST] if group != choice.minus]


def _title(panels: list[Asked], choice: Choice) -> str:
    spec = panels[0].spec
    head = "" if spec.head is None else f", head {spec.head}"
    block = spec.block.replace("_", " ")
    grid = grid_title(spec.block, spec.site) + head
    what = f"{block}: heads of {attention_label(spec.site)}" if panels[0].kind == "heads" else grid
    of = "" if choice.maps == HEADS or not choice.minus else f", each group − {choice.minus}"
    return formatting.capitalised(what) + of


def _panel(asked: Asked, found: Found | None) -> protocol.Panel:
    empty: protocol.Panel = {"group": asked.group, "text": "", "rows": [], "columns": [], "values": b""}
    if found is None:
        return empty
    if isinstance(found, Exception):
        return empty | {"text": str(found)}
    values = found.difference if isinstance(found, Comparison) else found.recovery
    layers = [str(layer) for layer in range(len(values))]
    both, rows, columns = np.stack([values, found.significant]), layers, list(found.roles)
    if asked.kind == "grid":  # in the paper's layout, tokens down
        both, rows, columns = both.swapaxes(1, 2), columns, layers
    if len(rows) > MOST_ROWS:
        return empty | {"text": f"{len(rows)} rows are too many for a small map: at most {MOST_ROWS} are drawn"}
    return {
        "group": asked.group,
        "text": _counted(found),
        "rows": rows,
        "columns": columns,
        "values": both.astype("<f4").tobytes(),
    }


def _counted(found: MeanTrace | Comparison) -> str:
    """Of how many samples it is."""
    if isinstance(found, Comparison):
        one, other = found.samples.max(axis=1).tolist()
        return f"{one} − {other} samples"
    return f"{len(found.aligned.total)} samples"
