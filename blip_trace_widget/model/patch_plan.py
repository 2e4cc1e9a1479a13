"""Which rows of a batch of patched runs are computed, and which are replaced, layer by layer.

For: `blip_trace_widget.model.block.SteppedBlock.resume`. A run equals its base below its lowest patched layer, and
inside that layer in every row but the patched ones; so the runs are ordered by the layer in which they diverge, and
each layer has a list of rows.
Cost: plain Python per run and layer. All indices go to the device in one copy, before the first layer is computed.
Ends: at indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_trace_widget.states import BLOCKS, State

#: Stage -> positions, and heads where single heads are meant; layer -> stages.
Stages: TypeAlias = "dict[str, tuple[NDArray[np.int_], NDArray[np.int_]]]"
ByLayer: TypeAlias = "dict[int, Stages]"

#: The stage of an attention's heads, before its output projection.
CONTEXTS = {
    "self_attention": "self_context",
    "cross_attention": "cross_context",
    "self_attention_out": "self_context",
    "cross_attention_out": "cross_context",
}


def stage_of(state: State) -> str:
    """The stage at which a state is replaced in its own layer."""
    older = BLOCKS[state.block].older
    return older.get(state.site, state.site) if state.head is None else CONTEXTS[state.site]


def place_of(state: State) -> tuple[int, str]:
    """The layer and the stage at which a state is replaced; layer -1 puts out what enters layer 0."""
    return state.place if state.head is None else (state.layer, CONTEXTS[state.site])


@dataclass(frozen=True)
class Places:
    """Where rows go and where they come from; index tensors of equal length.

    Attributes:
        slots: the index of a run or row.
        runs: the run's number.
        positions: the position in the run that the row is taken from.
        heads: the head; empty if entire rows are replaced.
    """

    slots: Tensor
    runs: Tensor
    positions: Tensor
    heads: Tensor

    def __len__(self) -> int:
        return len(self.slots)


@dataclass(frozen=True)
class LayerPlan:
    """What is computed and replaced in one layer.

    Slots number the runs in the order in which they diverge. Of a run that begins here only the patched positions are
    computed; positions whose block output is replaced are not computed at all.

    Attributes:
        born: number of runs that begin here.
        edits: stage -> the rows that are replaced by those of the source.
        held: stage -> the rows that are put back to what they are in the base run, before any is replaced.
        rows: the rows that are computed of the runs that begin here.
        late: the block outputs of these runs that are replaced.
    """

    born: int
    edits: dict[str, Places]
    held: dict[str, Places]
    rows: Places
    late: Places


@dataclass(frozen=True)
class Plan:
    """What is computed and replaced in every layer.

    Attributes:
        diverged: number of runs that differ from the base below layer 0 already.
        inputs: the rows of these runs, of what enters layer 0, that are replaced.
        layers: the plan of each layer.
        order: the runs' numbers in the order in which they diverge.
        back: each run's index in that order; None if they are in it.
    """

    diverged: int
    inputs: Places
    layers: list[LayerPlan]
    order: Tensor
    back: Tensor | None


def plan_of(
    runs: Sequence[Sequence[State]],
    depth: int,
    positions: int,
    device: torch.device,
    *,
    diverged: bool,
    held: Sequence[Sequence[State]] = (),
) -> Plan:
    """The plan for patched runs.

    Args:
        runs: the states that each run patches.
        depth: number of layers.
        positions: number of positions of a run, n.
        device: device of the index tensors.
        diverged: whether every run differs from the base below layer 0 already.
        held: the states that each run keeps as they are in the base run; empty: none. Runs may share one sequence.
    """
    placed = [[(*place_of(state), state) for state in states] for states in runs]
    starts = [-1 if diverged else min((layer for layer, *_ in states), default=depth) for states in placed]
    order = sorted(range(len(runs)), key=starts.__getitem__)
    ordered, starts = [placed[run] for run in order], sorted(starts)
    kept_by = {id(states): by_layer(states) for states in held}
    kept = [kept_by[id(held[run])] if held else {} for run in order]
    inputs, drafts = _List(), []
    for slot, states in enumerate(ordered):
        for state in (state for layer, _, state in states if layer < 0):
            inputs.add(slot, order[slot], state.position)
    for layer in range(depth):
        draft = _Draft(sum(start < layer for start in starts), positions)
        for slot, (start, states) in enumerate(zip(starts, ordered, strict=True)):
            if start <= layer:
                draft.add(slot, order[slot], [(stage, state) for at, stage, state in states if at == layer])
                draft.hold(slot, order[slot], kept[slot].get(layer, {}))
        drafts.append(draft)
    back = [] if order == sorted(order) else sorted(range(len(order)), key=order.__getitem__)
    lists = [order, back, *inputs.lists, *(part for draft in drafts for part in draft.lists)]
    moved = iter(_moved(lists, device))
    order_there, back_there = next(moved), next(moved)
    return Plan(
        starts.count(-1),
        inputs.placed(moved),
        [draft.placed(starts.count(layer), moved) for layer, draft in enumerate(drafts)],
        order_there,
        back_there if back else None,
    )


def _moved(lists: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Lists of indices as tensors on a device: views of one, which goes there in one copy."""
    joined = torch.tensor(list(chain.from_iterable(lists)), dtype=torch.long, device=device)
    return torch.split(joined, [len(indices) for indices in lists])


def by_layer(states: Sequence[State]) -> ByLayer:
    """States by the layer and the stage at which they are held; what enters layer 0 never changes there."""
    lists: dict[int, dict[str, list[tuple[int, int | None]]]] = {}
    for state in states:
        layer, stage = place_of(state)
        if layer >= 0:
            lists.setdefault(layer, {}).setdefault(stage, []).append((state.position, state.head))
    return {
        layer: {
            stage: (
                np.array([position for position, _ in places]),
                np.array([head for _, head in places if head is not None], dtype=np.int_),
            )
            for stage, places in stages.items()
        }
        for layer, stages in lists.items()
    }


@dataclass
class _List:
    """`Places` under construction, as lists."""

    slots: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)

    def add(self, slot: int, run: int, position: int, head: int | None = None) -> None:
        """Append one place."""
        self.slots.append(slot)
        self.runs.append(run)
        self.positions.append(position)
        if head is not None:
            self.heads.append(head)

    def extend(self, slots: NDArray[np.int_], run: int, positions: NDArray[np.int_], heads: NDArray[np.int_]) -> None:
        """Append places of one run."""
        self.slots.extend(slots.tolist())
        self.runs.extend([run] * len(slots))
        self.positions.extend(positions.tolist())
        self.heads.extend(heads.tolist())

    @property
    def lists(self) -> list[list[int]]:
        """The lists, in the order of `Places`."""
        return [self.slots, self.runs, self.positions, self.heads]

    def placed(self, moved: Iterator[Tensor]) -> Places:
        """The places, given their `lists` as tensors, which are taken from the iterator."""
        return Places(*islice(moved, 4))


class _Draft:
    """A `LayerPlan` under construction; `count` runs have diverged below it, with `positions` rows each."""

    def __init__(self, count: int, positions: int) -> None:
        self._count, self._positions = count, positions
        self._edits: dict[str, _List] = {}
        self._held: dict[str, _List] = {}
        self._rows, self._late = _List(), _List()
        self._row_of: dict[int, dict[int, int]] = {}  # of the runs that begin here: position -> computed row

    def add(self, slot: int, run: int, states: Sequence[tuple[str, State]]) -> None:
        """Plan the states that a run patches in this layer, each with its stage."""
        born = slot - self._count
        if born < 0:
            for stage, state in states:
                self._edit(stage, state, run, slot * self._positions + state.position)
            return
        late = {state.position for stage, state in states if stage == "block_output"}
        for position in sorted(late):
            self._late.add(born, run, position)
        row_of = self._row_of.setdefault(slot, {})
        for stage, state in states:
            if state.position in late:
                continue
            if state.position not in row_of:
                row_of[state.position] = self._count * self._positions + len(self._rows.slots)
                self._rows.add(born, run, state.position)
            self._edit(stage, state, run, row_of[state.position])

    def hold(self, slot: int, run: int, stages: Stages) -> None:
        """Plan what a run keeps in this layer, after `add`; rows that are not computed are the base run's anyway."""
        for stage, (positions, heads) in stages.items():
            rows, kept = slot * self._positions + positions, np.ones(len(positions), np.bool_)
            if slot >= self._count:
                row_of = self._row_of[slot]
                rows = np.array([row_of.get(position, -1) for position in positions.tolist()], np.int_)
                kept = rows >= 0
            if kept.any():
                places = self._held.setdefault(stage, _List())
                places.extend(rows[kept], run, positions[kept], heads[kept] if len(heads) else heads)

    @property
    def lists(self) -> list[list[int]]:
        """All lists of indices, in the order in which `placed` takes them."""
        every = [*self._edits.values(), *self._held.values(), self._rows, self._late]
        return [part for each in every for part in each.lists]

    def placed(self, born: int, moved: Iterator[Tensor]) -> LayerPlan:
        """The finished plan, given its `lists` as tensors, which are taken from the iterator."""
        edits, held = (
            {stage: places.placed(moved) for stage, places in lists.items()} for lists in (self._edits, self._held)
        )
        return LayerPlan(born, edits, held, self._rows.placed(moved), self._late.placed(moved))

    def _edit(self, stage: str, state: State, run: int, row: int) -> None:
        self._edits.setdefault(stage, _List()).add(row, run, state.position, state.head)
