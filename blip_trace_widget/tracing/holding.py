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

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from blip_trace_widget.model.patch_plan import place_of
from blip_trace_widget.results.hold import Hold, HoldLike, as_hold
from blip_trace_widget.results.summaries import called
from blip_trace_widget.states import BLOCKS, HELD_SITES, State, as_states
from blip_trace_widget.tracing.question import Question

__all__ = ["Hold", "HoldLike", "Holding", "as_hold", "held_at", "key_of"]

Key: TypeAlias = "tuple[str, int, str, int, int | None]"


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
        self.states = as_states(question.located(hold.states)) if hold.states else ()
        self._keys = {key_of(state) for state in self.states}
        self._columns: dict[tuple[str, int | None, int], tuple[State, ...]] = {}

    @property
    def told(self) -> tuple[str | State, ...]:
        """What is held, as an argument that asks for the same, its states by number, in one order."""
        return Hold(self._hold.sites, self._hold.everywhere, self.states).told

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

    def of(self, patched: Iterable[State]) -> list[tuple[State, ...]]:
        """The states that a run holds, in parts, each of which is one tuple whatever runs hold it.

        A word means that site in every layer above the lowest one patched at a position (anywhere in the block, if
        ``"everywhere"``), each block by itself. What enters a layer counts as what the one below puts out.
        """
        lowest: dict[tuple[str, int | None], int] = {}
        for state in patched if self._hold.sites else ():
            column = state.block, None if self._hold.everywhere else state.position
            layer = state.place[0]
            lowest[column] = min(layer, lowest.get(column, layer))
        return [self.states, *(self._above(*column, layer) for column, layer in lowest.items())]

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


def _sites(blocks: Collection[str]) -> list[str]:
    return [site for site in HELD_SITES if any(site in BLOCKS[block].sites for block in blocks)]
