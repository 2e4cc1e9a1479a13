"""FoundStates: a small set of states that together bring the answer back, and how far that holds on fresh noise.

For: what `Tracer.find_states` gives. The set was chosen because it did best on some noise samples, so that its score on
these is too good; every number here is of other samples.
Cost: statistics of a few numbers a member.
Ends: at numbers, words and a plot.

Source: faithfulness, completeness and minimality as in Wang et al. 2022 (arXiv 2211.00593), section 4, in the unit of
this package: shares of the total effect.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import conforms, one_of, whole_number
from blip_trace_widget.results import files, stored, summaries
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.statistics import Effects, TotalEffect, effects, indirect_effects
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import asked_columns
from blip_trace_widget.states import BLOCKS, State, plain_form

if TYPE_CHECKING:
    import pandas as pd

#: What a search patches: the set in a corrupted run, the set in a clean run, or all else in a clean run.
Search: TypeAlias = Literal["restore", "disrupt", "isolate"]
SEARCHES: tuple[Search, ...] = get_args(Search)
#: What is said of a set, by search.
NOTES = {
    "restore": "sufficient under this damage, not the mechanism",
    "disrupt": "needed under this damage, not the mechanism",
    "isolate": "enough with all else corrupted, others may be too",
}
NO_FRESH_NOISE = "none: the run that was searched is the only one"


def measured_as(search: str) -> str:
    """The direction whose formula a search's recovery has; of ``"isolate"`` it is what is left of the clean run."""
    return "disrupt" if search == "disrupt" else "restore"


def opposite(search: str) -> str:
    """The direction in which a found set is patched for its completeness."""
    return "restore" if search == "disrupt" else "disrupt"


@dataclass(frozen=True)
class Member:
    """What a search adds or drops as one: a state, or a head or an MLP at all positions.

    Attributes:
        name: in words.
        states: its states.
    """

    name: str
    states: tuple[State, ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False)
class FoundStates(Summarised):
    """A small set of states that were found to be sufficient together under this damage; that is not the mechanism.

    Other sets may do as well: of a chain of states each link is sufficient alone, and of two that carry the same, one
    is found. `completeness` shows that there are others. Scores are NaN where a stopped search did not come to them.

    Attributes:
        members: the set, from below upward.
        grown: what the search added, in that order, before it dropped what turned out not to be needed; nothing if it
            began with everything.
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples,), as all that follow on fresh noise.
        scores: of the runs in which the set is patched, or all else is, (samples,).
        without: of such runs of the set without one member, (samples, members).
        opposite: of those in which the set is patched the other way, (samples,).
        sizes: of the sets that it was on the way, smallest first, beginning with none: (steps,).
        path_scores: of their runs, (samples, steps).
        searched: their recovery on the noise that was searched, (steps,): too good to be reported.
        fresh: whether there was fresh noise.
        settings: what was asked, as plain JSON; ``"runs"`` are the patched runs that it took, ``"candidates"`` what one
            grid of them has.
    """

    members: tuple[Member, ...]
    grown: tuple[Member, ...]
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    without: NDArray[np.float64] = field(repr=False)
    opposite: NDArray[np.float64] = field(repr=False)
    sizes: NDArray[np.int64] = field(repr=False)
    path_scores: NDArray[np.float64] = field(repr=False)
    searched: NDArray[np.float64] = field(repr=False)
    fresh: bool
    settings: dict[str, Any] = field(repr=False)

    @property
    def states(self) -> tuple[State, ...]:
        """All states of the set, for `Tracer.patch`."""
        return tuple(state for member in self.members for state in member.states)

    @property
    def reached(self) -> bool:
        """Whether the search came to its target, on the noise that it searched."""
        return bool(self.searched.max(initial=-math.inf) >= self.settings["target"])

    @property
    def complete(self) -> bool:
        """Whether the search was not stopped."""
        return not self.settings["stopped"]

    @property
    def undefined_because(self) -> str:
        """Why there are no recoveries, or "" if there are."""
        if np.isnan(self.corrupted).any():
            return "the search was stopped before its result was measured"
        return self._total.closed_because

    @cached_property
    def _total(self) -> TotalEffect:
        return TotalEffect(self.clean, self.corrupted)

    def _effects(self, scores: NDArray[np.float64], direction: str = "") -> Effects:
        return effects(self._total, scores, direction or measured_as(self.settings["direction"]))

    def _margin(self, scores: NDArray[np.float64], direction: str = "") -> NDArray[np.float64]:
        """Half the width of a recovery's 95 % interval."""
        return self._ratio_margin(self._effects(scores, direction).samples)

    def _ratio_margin(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.undefined_because:
            return np.full(samples.shape[1:], math.nan)
        return margin(samples, self._total.samples)

    @property
    def recovery(self) -> float:
        """Share of the total effect that the set brings back, on fresh noise: its faithfulness.

        ``disrupt``: that it takes away. ``isolate``: that is left with all other candidates corrupted.
        """
        return float(self._effects(self.scores).recovery)

    @property
    def margin(self) -> float:
        """Half the width of its 95 % interval; NaN for a single sample."""
        return float(self._margin(self.scores))

    @property
    def completeness(self) -> float:
        """Share of the total effect that is lost when the set is corrupted in the clean run, on fresh noise.

        1: nothing is left of the answer without it. Little: other states carry the answer too. Of a set that was found
        by disrupting: the share that restoring it in the corrupted run brings back.
        """
        return float(self._effects(self.opposite, opposite(self.settings["direction"])).recovery)

    @property
    def completeness_margin(self) -> float:
        """Half the width of its 95 % interval; NaN for a single sample."""
        return float(self._margin(self.opposite, opposite(self.settings["direction"])))

    @property
    def minimality(self) -> NDArray[np.float64]:
        """What each member adds: recovery of the set less recovery of it without the member, (members,)."""
        return np.asarray(self.recovery - self._effects(self.without).recovery)

    @property
    @quiet
    def minimality_margin(self) -> NDArray[np.float64]:
        """Half the width of its 95 % interval, (members,); samples are paired."""
        direction = measured_as(self.settings["direction"])
        whole, less = (indirect_effects(self._total, scores, direction) for scores in (self.scores, self.without))
        return self._ratio_margin(whole[:, None] - less)

    @property
    def curve(self) -> NDArray[np.float64]:
        """Recovery of the sets on the way, of `sizes` members, on fresh noise, (steps,)."""
        return self._effects(self.path_scores).recovery

    @property
    def curve_margin(self) -> NDArray[np.float64]:
        """Half the width of its 95 % interval, (steps,)."""
        return self._margin(self.path_scores)

    @property
    def grids(self) -> float:
        """What the search cost, in grids: patched runs over candidates."""
        return float(self.settings["runs"] / self.settings["candidates"])

    def plot(self, ax: Any = None) -> Any:
        """Recovery and its standard error on fresh noise over the number of members, of the sets on the way.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        import pandas as pd

        from blip_trace_widget.results import plots

        table = pd.DataFrame(
            {
                "members": self.sizes,
                "recovery": self.curve,
                "stderr": self._effects(self.path_scores).recovery_stderr,
                "noise": "fresh noise" if self.fresh else "no noise",
            }
        )
        level = ("target", float(self.settings["target"]))
        return plots.curves(table, ax, names="noise", values="recovery", level=level, across="members")

    def to_dataframe(self) -> pd.DataFrame:
        """One row a member of the set.

        Columns: member, block, layer, position (missing where it is all of them), site, head, minimality and its
        margin; recovery and completeness of the whole set with theirs; fresh, and the settings, see
        `Trace.to_dataframe`.
        """
        import pandas as pd

        count, first = len(self.members), [member.states[0] for member in self.members]
        single = [len(member.states) == 1 and self.settings["among"] == "states" for member in self.members]
        positions = [state.position if alone else None for state, alone in zip(first, single, strict=True)]
        own = {
            "member": [member.name for member in self.members],
            "block": pd.array([state.block for state in first], dtype="object"),
            "layer": pd.array([state.layer for state in first], dtype="Int64"),
            "position": pd.array(positions, dtype="Int64"),
            "site": pd.array([state.site for state in first], dtype="object"),
            "head": pd.array([state.head for state in first], dtype="Int64"),
            "minimality": self.minimality,
            "minimality_margin": self.minimality_margin,
            "recovery": np.full(count, self.recovery),
            "margin": np.full(count, self.margin),
            "completeness": np.full(count, self.completeness),
            "completeness_margin": np.full(count, self.completeness_margin),
            "fresh": np.full(count, self.fresh),
        }
        return pd.DataFrame(asked_columns(self.settings, count) | own)[
            [*own, *(name for name in asked_columns(self.settings, 0) if name not in own)]
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        told = {name: [_packed(member) for member in getattr(self, name)] for name in ("members", "grown")}
        files.write(path, FOUND_STATES, arrays, **told, fresh=self.fresh, settings=self.settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FoundStates:
        """Read a set that `save` wrote, bit for bit.

        Raises:
            FileNotFoundError, OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return files.read(path, FOUND_STATES)

    def _facts(self) -> dict[str, str]:
        number, settings = summaries.number, self.settings
        undefined, where = self.undefined_because, "on fresh noise" if self.fresh else "on the run that was searched"
        least = min(zip(self.minimality, self.minimality_margin, strict=True), default=(math.nan, math.nan))
        goal = "reached" if self.reached else "not reached"
        return {
            "found": f"{len(self.members)} of {settings['candidates']} {settings['among']}",
            "recovery": undefined or f"{number(self.recovery, self.margin)} {where}",
            "completeness": "" if undefined else number(self.completeness, self.completeness_margin),
            "least that a member adds": "" if undefined or not self.members else number(*least),
            "target": f"{number(settings['target'])}, {goal} in the search",
            "cost": f"{number(self.grids)} grids",
            "stopped": "" if self.complete else "before it was done: more members than are needed, or too few",
            "fresh noise": "" if self.fresh else NO_FRESH_NOISE,
            "note": NOTES[settings["direction"]],
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [member.name, summaries.number(adds, half)]
            for member, adds, half in zip(self.members, self.minimality, self.minimality_margin, strict=True)
        ]
        return ["member", "adds"], rows


# --- files -----------------------------------------------------------------------------------------------------------

#: The fields that are numbers.
_ARRAYS = ("clean", "corrupted", "scores", "without", "opposite", "sizes", "path_scores", "searched")


class _Member(TypedDict):
    name: str
    states: list[Any]


class _Asked(TypedDict):
    """The settings of a search."""

    fresh_corruption: dict[str, Any] | None
    target: float
    among: str
    direction: str
    blocks: list[str]
    most: int
    tries: int | None
    candidates: int
    runs: int
    stopped: bool


def _packed(member: Member) -> _Member:
    return {"name": member.name, "states": plain_form(member.states)}


def _members(name: str, told: Any) -> tuple[Member, ...]:
    found = conforms(name, told, list[_Member])
    members = tuple(Member(one["name"], tuple(map(stored.state, one["states"]))) for one in found)
    if not all(member.states for member in members):
        raise ValueError(f"{name}: one has no states")
    return members


def _settings(told: Any) -> dict[str, Any]:
    settings = stored.settings(told, ("metric", "corruption"))
    for name, kind in get_type_hints(_Asked).items():
        conforms(f"settings.{name}", settings[name], kind)
    one_of("settings.direction", settings["direction"], SEARCHES)
    for block in settings["blocks"]:
        one_of("settings.blocks", block, BLOCKS)
    for name, least in (("candidates", 1), ("runs", 0)):
        whole_number(f"settings.{name}", settings[name], least)
    if not 0 < settings["target"] <= 1:
        raise ValueError(f"settings.target: expected above 0 and up to 1, got {settings['target']}")
    if settings["fresh_corruption"] is not None:
        stored.corruption(settings["fresh_corruption"])
    return settings


def _read(arrays: files.Tensors, told: files.Fields) -> FoundStates:
    members, grown = (_members(name, told[name]) for name in ("members", "grown"))
    numbers: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    samples, steps = numbers["corrupted"].shape, numbers["sizes"].shape
    shapes = {name: array.shape for name, array in numbers.items()}
    expected = {"clean": (1,), "corrupted": samples, "scores": samples, "without": (*samples, len(members))}
    expected |= {"opposite": samples, "sizes": steps, "path_scores": (*samples, *steps), "searched": steps}
    if shapes != expected or len(samples) != 1 or len(steps) != 1 or not samples[0]:
        raise ValueError(f"shapes {shapes} do not fit each other and {len(members)} members")
    for name, array in numbers.items():
        if array.dtype != (np.int64 if name == "sizes" else np.float64):
            raise ValueError(f"{name}: expected numbers of another type than {array.dtype}")
    numbers["clean"] = float(numbers["clean"][0])
    fresh = conforms("fresh", told["fresh"], bool)
    return FoundStates(members=members, grown=grown, fresh=fresh, settings=_settings(told["settings"]), **numbers)


FOUND_STATES = files.Kind("set of states", "blip_trace_widget.found_states", {1: _read})
