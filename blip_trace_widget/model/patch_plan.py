"""Which rows of a batch of patched runs are computed, and which are replaced, layer by layer.

For: `blip_trace_widget.model.block.SteppedBlock.resume`. A run equals its base below its lowest patched layer, and
inside that layer in every row but the patched ones; so the runs are ordered by the layer in which they diverge, and
each layer has a list of rows.
Cost: a few steps of plain Python for every state of a run, arrays for every layer. All indices go to the device in one
copy, before the first layer is computed.
Ends: at indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_trace_widget.model.transfer import to_device
from blip_trace_widget.states import BLOCKS, State

Indices: TypeAlias = NDArray[np.int_]
#: Slots, positions, and heads where single heads are meant.
Rows: TypeAlias = "tuple[Indices, Indices, Indices]"
#: What becomes of `Places`, in the order of its attributes.
Arrays: TypeAlias = "tuple[Indices, Indices, Indices, Indices]"
NONE = np.empty(0, np.int_)
#: Stage -> positions, and heads where single heads are meant; layer -> stages.
Stages: TypeAlias = "dict[str, tuple[Indices, Indices]]"
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
    held: Sequence[Sequence[Sequence[State]]] = (),
) -> Plan:
    """The plan for patched runs.

    Args:
        runs: the states that each run patches.
        depth: number of layers.
        positions: number of positions of a run, n.
        device: device of the index tensors.
        diverged: whether every run differs from the base below layer 0 already.
        held: the states that each run keeps as they are in the base run, in parts that runs may share; empty: none.
    """
    of_run = _placed(runs)
    starts = np.full(len(runs), -1 if diverged else depth)
    np.minimum.at(starts, of_run.slots, of_run.layers)
    order = np.argsort(starts, kind="stable")
    slot_of = np.argsort(order)
    placed = of_run.ordered(slot_of)
    kept = held_in(held, order.tolist() if held else ())
    draft = _Draft(starts[order], order, positions)
    patched = placed.only(placed.layers < 0)
    inputs = draft.indices(patched.slots, patched.slots, patched.positions)
    layers = [draft.layer(layer, placed.only(placed.layers == layer), kept) for layer in range(depth)]
    lists = [order, slot_of, *inputs, *(array for layer in layers for array in layer.arrays)]
    moved = iter(_moved(lists, device))
    order_there, slot_there = next(moved), next(moved)
    return Plan(
        draft.begun(0),
        _next(moved),
        [layer.plan(moved) for layer in layers],
        order_there,
        None if (np.diff(order) > 0).all() else slot_there,
    )


def _moved(arrays: Sequence[Indices], device: torch.device) -> tuple[Tensor, ...]:
    """Arrays of indices as tensors on a device: views of one, which goes there in one copy."""
    joined = to_device(torch.from_numpy(np.concatenate(arrays).astype(np.int64, copy=False)), device)
    return torch.split(joined, [len(array) for array in arrays])


def _next(moved: Iterator[Tensor]) -> Places:
    """The next places, taken from the tensors that have been moved."""
    return Places(*islice(moved, 4))


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


def held_in(held: Sequence[Sequence[Sequence[State]]], order: Iterable[int]) -> list[tuple[ByLayer, Indices]]:
    """Each part of what is held, once, with the places in an order of those runs that hold it.

    Args:
        held: the parts of each run.
        order: runs' numbers.
    """
    parts: dict[int, Sequence[State]] = {}
    sharing: dict[int, list[int]] = {}
    for at, run in enumerate(order):
        for part in held[run]:
            parts[id(part)] = part
            sharing.setdefault(id(part), []).append(at)
    return [(by_layer(parts[key]), np.array(places)) for key, places in sharing.items()]


@dataclass(frozen=True)
class _Placed:
    """What runs patch, one after the other; arrays of equal length, the head -1 where entire rows are meant."""

    slots: Indices
    layers: Indices
    stages: NDArray[np.str_]
    positions: Indices
    heads: Indices

    def only(self, which: NDArray[np.bool_] | Indices) -> _Placed:
        """Some of the states."""
        return _Placed(*(array[which] for array in vars(self).values()))

    def ordered(self, slot_of: Indices) -> _Placed:
        """With slots in place of the runs' numbers, in their order."""
        slots = slot_of[self.slots]
        return replace(self, slots=slots).only(np.argsort(slots, kind="stable"))


def _placed(runs: Sequence[Sequence[State]]) -> _Placed:
    """What runs patch, with their numbers as slots. Many runs patch the same states: each is looked at once."""
    states = {id(state): state for states in runs for state in states}
    numbers = {identity: number for number, identity in enumerate(states)}
    which = np.array([numbers[id(state)] for states in runs for state in states], np.int_)
    slots = np.repeat(np.arange(len(runs)), [len(states) for states in runs])
    places = [place_of(state) for state in states.values()]
    each = _Placed(
        np.zeros(len(places), np.int_),
        np.array([layer for layer, _ in places], np.int_),
        np.array([stage for _, stage in places], np.str_),
        np.array([state.position for state in states.values()], np.int_),
        np.array([-1 if state.head is None else state.head for state in states.values()], np.int_),
    )
    return replace(each.only(which), slots=slots)


class _Layer(NamedTuple):
    """A `LayerPlan` whose indices have not been moved; the arrays of a place are in the order of `Places`."""

    born: int
    edits: dict[str, Arrays]
    held: dict[str, Arrays]
    rows: Arrays
    late: Arrays

    @property
    def arrays(self) -> list[Indices]:
        """All arrays, in the order in which `plan` takes them."""
        every = [*self.edits.values(), *self.held.values(), self.rows, self.late]
        return [array for each in every for array in each]

    def plan(self, moved: Iterator[Tensor]) -> LayerPlan:
        """The plan, given the arrays as tensors, which are taken from the iterator."""
        edits, held = ({stage: _next(moved) for stage in stages} for stages in (self.edits, self.held))
        return LayerPlan(self.born, edits, held, _next(moved), _next(moved))


@dataclass(frozen=True)
class _Draft:
    """Makes the layers of a plan.

    Attributes:
        starts: the layer in which the run of each slot diverges.
        order: the number of that run.
        positions: number of positions of a run.
    """

    starts: Indices
    order: Indices
    positions: int

    def begun(self, layer: int) -> int:
        """Number of runs that diverge below a layer."""
        return int(np.searchsorted(self.starts, layer))

    def indices(self, rows: Indices, slots: Indices, positions: Indices, heads: Indices = NONE) -> Arrays:
        """The arrays of `Places`, given the rows and the slots of their runs."""
        return rows, self.order[slots], positions, heads

    def layer(self, layer: int, patched: _Placed, kept: Sequence[tuple[ByLayer, Indices]]) -> _Layer:
        """The plan of a layer.

        Args:
            layer: 0-based.
            patched: what is patched in it.
            kept: what is held, each with the slots of the runs that do so.
        """
        old, count = self.begun(layer), self.begun(layer + 1)
        born = patched.only(patched.slots >= old)
        late, computed = np.zeros((2, count - old, self.positions), np.bool_)
        ends = born.only(born.stages == "block_output")
        late[ends.slots - old, ends.positions] = True
        computed[born.slots - old, born.positions] = True
        computed &= ~late
        # The row of each run's position; -1 where none is computed: there is the base run's.
        row_of = np.full((count, self.positions), -1)
        row_of[:old] = np.arange(old * self.positions).reshape(old, -1 if old else self.positions)
        row_of[old:][computed] = old * self.positions + np.arange(computed.sum())
        edits, held = dict[str, list[Rows]](), dict[str, list[Rows]]()
        for stage in sorted(set(patched.stages.tolist())):
            here = patched.only(patched.stages == stage)
            edits[stage] = [(here.slots, here.positions, here.heads if (here.heads >= 0).all() else NONE)]
        for stages, slots in kept:
            some = slots[slots < count]
            for stage, (at, heads) in stages.get(layer, {}).items():
                rows = np.repeat(some, len(at)), np.tile(at, len(some)), np.tile(heads, len(some))
                held.setdefault(stage, []).append(rows)
        return _Layer(
            count - old,
            self._at(row_of, edits),
            self._at(row_of, held),
            *(self.indices(slots, slots + old, at) for slots, at in map(np.nonzero, (computed, late))),
        )

    def _at(self, row_of: Indices, stages: Mapping[str, Sequence[Rows]]) -> dict[str, Arrays]:
        """Stage -> places, of those whose rows are computed."""
        found = {}
        for stage, parts in stages.items():
            slots, positions, heads = map(np.concatenate, zip(*parts, strict=True))
            rows = row_of[slots, positions]
            some = rows >= 0
            if some.any():
                found[stage] = self.indices(
                    rows[some], slots[some], positions[some], heads[some] if len(heads) else NONE
                )
        return found
