"""Which rows of a batch of patched runs are computed, and which are replaced, layer by layer.

For: `blip_trace_widget.model.block.SteppedBlock.resume`. A run equals its base below its lowest patched layer, and
inside that layer in every row but the patched ones; so the runs are ordered by the layer in which they diverge, and
each layer has a list of rows.
Cost: plain Python per run and layer, and a few index tensors, made and moved to the device before the first layer is
computed.
Ends: at indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blip_trace_widget.states import BLOCKS, State

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
        positions: the position in the source.
        heads: the head; empty if entire rows are replaced.
    """

    slots: Tensor
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
        edits: stage -> the rows that are replaced at it.
        rows: the rows that are computed of the runs that begin here.
        late: the block outputs of these runs that are replaced.
    """

    born: int
    edits: dict[str, Places]
    rows: Places
    late: Places


@dataclass(frozen=True)
class Plan:
    """What is computed and replaced in every layer.

    Attributes:
        diverged: number of runs that differ from the base below layer 0 already.
        inputs: the rows of these runs, of what enters layer 0, that are replaced.
        layers: the plan of each layer.
        back: each run's index in the order in which runs diverge; None if they are in that order.
    """

    diverged: int
    inputs: Places
    layers: list[LayerPlan]
    back: Tensor | None


def plan_of(
    runs: Sequence[Sequence[State]], depth: int, positions: int, device: torch.device, *, diverged: bool
) -> Plan:
    """The plan for patched runs.

    Args:
        runs: the states that each run patches.
        depth: number of layers.
        positions: number of positions of a run, n.
        device: device of the index tensors.
        diverged: whether every run differs from the base below layer 0 already.
    """
    placed = [[(*place_of(state), state) for state in states] for states in runs]
    starts = [-1 if diverged else min((layer for layer, *_ in states), default=depth) for states in placed]
    order = sorted(range(len(runs)), key=starts.__getitem__)
    ordered, starts = [placed[run] for run in order], sorted(starts)
    inputs, layers = _List(), []
    for slot, states in enumerate(ordered):
        for state in (state for layer, _, state in states if layer < 0):
            inputs.add(slot, state.position)
    for layer in range(depth):
        draft = _Draft(sum(start < layer for start in starts), positions)
        for slot, (start, states) in enumerate(zip(starts, ordered, strict=True)):
            if start <= layer:
                draft.add(slot, [(stage, state) for at, stage, state in states if at == layer])
        layers.append(draft.placed(starts.count(layer), device))
    back = None if order == sorted(order) else sorted(range(len(order)), key=order.__getitem__)
    return Plan(
        starts.count(-1), inputs.placed(device), layers, None if back is None else torch.tensor(back, device=device)
    )


@dataclass
class _List:
    """`Places` under construction, as lists."""

    slots: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)

    def add(self, slot: int, position: int, head: int | None = None) -> None:
        """Append one place."""
        self.slots.append(slot)
        self.positions.append(position)
        if head is not None:
            self.heads.append(head)

    def placed(self, device: torch.device) -> Places:
        """The places as index tensors on a device."""
        lists = (self.slots, self.positions, self.heads)
        return Places(*(torch.tensor(indices, dtype=torch.long, device=device) for indices in lists))


class _Draft:
    """A `LayerPlan` under construction; `count` runs have diverged below it, with `positions` rows each."""

    def __init__(self, count: int, positions: int) -> None:
        self._count, self._positions = count, positions
        self._edits: dict[str, _List] = {}
        self._rows, self._late = _List(), _List()

    def add(self, slot: int, states: Sequence[tuple[str, State]]) -> None:
        """Plan the states that a run patches in this layer, each with its stage."""
        born = slot - self._count
        if born < 0:
            for stage, state in states:
                self._edit(stage, state, slot * self._positions + state.position)
            return
        late = {state.position for stage, state in states if stage == "block_output"}
        for position in sorted(late):
            self._late.add(born, position)
        row_of: dict[int, int] = {}
        for stage, state in states:
            if state.position in late:
                continue
            if state.position not in row_of:
                row_of[state.position] = self._count * self._positions + len(self._rows.slots)
                self._rows.add(born, state.position)
            self._edit(stage, state, row_of[state.position])

    def placed(self, born: int, device: torch.device) -> LayerPlan:
        """The finished plan, with its indices on a device."""
        edits = {stage: places.placed(device) for stage, places in self._edits.items()}
        return LayerPlan(born, edits, self._rows.placed(device), self._late.placed(device))

    def _edit(self, stage: str, state: State, row: int) -> None:
        self._edits.setdefault(stage, _List()).add(row, state.position, state.head)
