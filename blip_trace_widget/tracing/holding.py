"""What is held while something is patched: states that keep the base run's value whatever changes below them.

For: asking whether an effect is direct, or through what it goes. ROME severs the MLPs above the patched state, here
``"mlp"``; path patching (`blip_trace_widget.tracing.paths`) holds nearly everything.
Cost: a copy of rows for each held stage; lists of states.
Ends: at the states that each run holds.

What is patched and what is held may contradict each other: such a run is one that the model would never come to by
itself.

Sources: Meng et al. 2022 (arXiv 2202.05262), section 2.2 and figure 3; Wang et al. 2022 (arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from blip_trace_widget.checks import named
from blip_trace_widget.model.patch_plan import place_of
from blip_trace_widget.results.summaries import called
from blip_trace_widget.states import BLOCKS, EVERYWHERE, HELD_SITES, HeldSiteName, State
from blip_trace_widget.tracing.question import Question

#: States, words, or both.
HoldLike: TypeAlias = "State | HeldSiteName | Iterable[State | str] | None"
Key: TypeAlias = "tuple[str, int, str, int, int | None]"


@dataclass(frozen=True)
class Hold:
    """What is held, as it was asked; false if nothing is.

    Attributes:
        sites: of ``HELD_SITES``: in every later layer of a patched state's block.
        everywhere: whether that is at all positions; else at the patched state's.
        states: states by themselves.
    """

    sites: tuple[str, ...] = ()
    everywhere: bool = False
    states: tuple[State, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sites or self.states)

    @property
    def told(self) -> tuple[str | State, ...]:
        """The same as an argument."""
        return (*self.sites, *([EVERYWHERE] if self.everywhere else []), *self.states)


def as_hold(given: Any, name: str = "hold") -> Hold:
    """What is held, from an argument.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if given is None:
        return Hold()
    if not isinstance(given, (str, State, Iterable)):
        raise TypeError(
            f"{name}: expected State, one of {list(HELD_SITES)}, several of these, or None, got {type(given).__name__}"
        )
    items = [given] if isinstance(given, (str, State)) else list(given)
    states = tuple(dict.fromkeys(item for item in items if isinstance(item, State)))
    words = [named(name, item, (*HELD_SITES, EVERYWHERE)) for item in items if not isinstance(item, State)]
    sites = tuple(site for site in HELD_SITES if site in words)
    if EVERYWHERE in words and not sites:
        raise ValueError(f"{name}: {EVERYWHERE!r} says where a site is held: expected one of {list(HELD_SITES)} too")
    return Hold(sites, EVERYWHERE in words, states)


class Holding:
    """What runs of a question hold, given what they patch.

    Args:
        question: the question.
        hold: what was asked.
        blocks: the blocks that are patched.

    Raises:
        TypeError, ValueError: if there is no such state, if it is the same in the clean and the corrupted run, or if no
            patched block has a site; naming the argument, what was given and what is accepted.
    """

    def __init__(self, question: Question, hold: Hold, blocks: Collection[str]) -> None:
        for site in hold.sites:
            if not any(site in BLOCKS[block].sites for block in blocks):
                raise ValueError(f"hold: {sorted(blocks)} has no {site!r}, its sites are {_sites(blocks)}")
        self._question, self._hold = question, hold
        self.states = tuple(question.located(hold.states))
        self._keys = {key_of(state) for state in self.states}
        self._columns: dict[tuple[str, int | None, int], tuple[State, ...]] = {}
        self._together: dict[frozenset[tuple[str, int | None, int]], tuple[State, ...]] = {}

    @property
    def told(self) -> tuple[str | State, ...]:
        """What is held, as an argument that asks for the same, its states by number."""
        return replace(self._hold, states=self.states).told

    @property
    def settings(self) -> dict[str, Any]:
        """The same as plain JSON, by the argument's name; nothing if nothing is held."""
        return {"hold": plain(self.told)} if self._hold else {}

    def check_apart(self, patched: Iterable[State]) -> None:
        """Check that no state is both patched and held by itself.

        Raises:
            ValueError: if any is, naming it.
        """
        both = [called(state) for state in patched if key_of(state) in self._keys]
        if both:
            raise ValueError(f"hold: a state is either patched or held, got both of {'; '.join(both)}")

    def apart(self, patched: Iterable[State]) -> tuple[State, ...]:
        """What is left to be patched of a cell: what is held stays held."""
        return tuple(state for state in patched if key_of(state) not in self._keys)

    def of(self, patched: Iterable[State]) -> tuple[State, ...]:
        """The states that a run holds; runs that hold the same share one tuple.

        A word means that site in every layer above the lowest one patched at a position (anywhere in the block, if
        ``"everywhere"``), each block by itself. What enters a layer counts as what the one below puts out.
        """
        lowest: dict[tuple[str, int | None], int] = {}
        for state in patched if self._hold.sites else ():
            column = state.block, None if self._hold.everywhere else state.position
            layer = state.place[0]
            lowest[column] = min(layer, lowest.get(column, layer))
        columns = frozenset((block, position, layer) for (block, position), layer in lowest.items())
        if columns not in self._together:
            parts = [self._above(*column) for column in sorted(columns, key=str)]
            self._together[columns] = (*self.states, *(state for part in parts for state in part))
        return self._together[columns]

    def _above(self, block: str, position: int | None, lowest: int) -> tuple[State, ...]:
        """The words' sites in all layers above one, at a position or all."""
        column = block, position, lowest
        if column not in self._columns:
            layers = range(lowest + 1, len(self._question.model.blocks[block].layers))
            positions = range(len(self._question.tokens(block))) if position is None else [position]
            self._columns[column] = held_at(block, self._hold.sites, layers, positions)
        return self._columns[column]


def held_at(block: str, sites: Iterable[str], layers: Iterable[int], positions: Sequence[int]) -> tuple[State, ...]:
    """Those of some sites that a block has, in layers, at positions."""
    own = [site for site in sites if site in BLOCKS[block].sites]
    return tuple(
        State(block, layer, position, site)  # type: ignore[arg-type]
        for layer in layers
        for site in own
        for position in positions
    )


def key_of(state: State) -> Key:
    """What makes two names mean one state: what enters a layer is what the one below puts out."""
    return (state.block, *place_of(state), state.position, state.head)


def hold_in(settings: Mapping[str, Any]) -> Hold:
    """What is held, from a result's settings."""
    told = settings.get("hold")
    return as_hold(told and [item if isinstance(item, str) else State(**item) for item in told])


def plain(told: Iterable[str | State]) -> list[Any]:
    """Words and states as plain JSON."""
    return [item if isinstance(item, str) else dict(vars(item)) for item in told]


def _sites(blocks: Collection[str]) -> list[str]:
    return [site for site in HELD_SITES if any(site in BLOCKS[block].sites for block in blocks)]
