"""The resumable forward pass: step the model's own layers from any layer, many patched runs at once.

For: computing patched runs without repeating what they share. A patched run equals its base run (corrupted, or clean
for ``disrupt``) below its lowest patched layer, and inside that layer in every row but the patched ones. So a batch of
runs travels upward together: at each layer the runs already diverged are computed whole, the runs that begin there
contribute their patched rows alone, and everything else is taken from the recorded base run.

Cost: for each run, the layers above its lowest patched one. What cross-attention costs is
`blip_trace_widget.memory`'s to tell.

Ends: at tensors. It knows nothing of scores, images or words, nor how a layer is built (`blip_trace_widget.blocks`).

Shapes: S samples, R rows (run-major: run 0's positions, run 1's, ...), C runs, n positions, D width, H heads. A leading
sample axis of 1 stands for "the same in every sample".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from blip_trace_widget.memory import Memory, part_of
from blip_trace_widget.states import State

Edit: TypeAlias = Callable[[str, Tensor], Tensor]


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Raised inside a forward pass whose `check` says that nobody wants the result any more."""


def as_it_is(_stage: str, rows: Tensor) -> Tensor:
    """Nothing is edited."""
    return rows


def words_of(embeddings: Any) -> Callable[[Tensor], Tensor]:
    """Embeddings of token ids, called as the model calls them: hooks may ask for the argument by its name."""

    def embed(ids: Tensor) -> Tensor:
        rows: Tensor = embeddings(input_ids=ids)
        return rows

    return embed


#: The stage of an attention's heads, before its output projection.
CONTEXTS = {"self_attention": "self_context", "cross_attention": "cross_context"}


def stage_of(state: State) -> str:
    """The stage at which a state is replaced."""
    return state.site if state.head is None else CONTEXTS[state.site]


@dataclass(frozen=True)
class Activations:
    """A base run, recorded.

    Attributes:
        inputs: what enters layer 0, (S, n, D).
        values: stage -> one (S, n, D) tensor a layer.
        result: what leaves the block, (S, n, D), where that may be something else than the last layer's output.
    """

    inputs: Tensor
    values: dict[str, list[Tensor]]
    result: Tensor | None = None

    def into(self, layer: int) -> Tensor:
        """What enters a layer, (S, n, D)."""
        return self.values["block_output"][layer - 1] if layer else self.inputs

    @property
    def output(self) -> Tensor:
        """What leaves the block, (S, n, D)."""
        return self.values["block_output"][-1] if self.result is None else self.result

    def part(self, samples: slice) -> Activations:
        """Some of the samples; what is the same in every sample stays whole."""
        values = {stage: [part_of(tensor, samples) for tensor in layers] for stage, layers in self.values.items()}
        result = None if self.result is None else part_of(self.result, samples)
        return Activations(part_of(self.inputs, samples), values, result)


@dataclass(frozen=True)
class Cut:
    """Attention edges removed from one run.

    Attributes:
        layers: in which layers, at least one.
        site: ``"self_attention"`` or ``"cross_attention"``.
        edges: (H or 1, n, keys) bool, True where an edge is removed.
    """

    layers: frozenset[int]
    site: str
    edges: Tensor

    def of(self, layer: int, site: str) -> Tensor | None:
        """The edges removed in an attention of a layer, if any."""
        return self.edges if site == self.site and layer in self.layers else None


class Block:
    """A stack of layers; how one is stepped is given by the kind of block.

    Args:
        layers: transformers' layer modules.
    """

    #: What a row passes through in a layer, in this order; a context is an attention's heads before its projection.
    stages: tuple[str, ...]
    #: Attention heads of a layer.
    heads: int
    #: Whether its modules are called for one run at a time, because somebody's hooks may be in them.
    one_by_one = False

    def __init__(self, layers: Iterable[Any]) -> None:
        self.layers = list(layers)

    def self_context(self, layer: int, states: Tensor, cut: Tensor | None = None) -> Tensor:
        """Self-attention's context vectors of whole runs, (S, C, n, D) -> (S, C * n, D).

        `cut`: edges to remove, (H or 1, n, n).
        """
        raise NotImplementedError

    def step(
        self,
        layer: int,
        context: Tensor,
        residual: Tensor,
        memory: Memory | None,
        edit: Edit,
        cut: Tensor | None = None,
    ) -> Tensor:
        """What follows self-attention's mixing of positions, row by row, (S, R, D) -> (S, R, D).

        Args:
            layer: 0-based.
            context: self-attention's context vectors.
            residual: what entered the layer.
            memory: what the cross-attention looks at, if the block has one.
            edit: called with every stage and its rows; gives the rows to go on with, and may write into them.
            cut: edges of the cross-attention to remove.
        """
        raise NotImplementedError

    def tokens(self, output: Tensor) -> Tensor:
        """What follows the image encoder's last layer: the image tokens, (..., n, D) -> (..., n, D)."""
        raise NotImplementedError

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """A module beside the layers, on the first axis' runs together, or on each alone where that must be."""
        if self.one_by_one:
            return torch.cat([module(batch[at : at + 1]) for at in range(batch.shape[0])])
        output: Tensor = module(batch)
        return output

    def cross_weights(self, layer: int, base: Activations, memory: Memory) -> Tensor:
        """The cross-attention's weights in a base run, (S, H, n, T)."""
        return memory.weights(layer, base.values["self_attention"][layer])

    def run(self, inputs: Tensor, memory: Memory | None, check: Callable[[], None], edit: Edit) -> Tensor:
        """Run whole, (S, n, D) -> (S, n, D)."""
        rows = inputs
        for layer in range(len(self.layers)):
            check()
            rows = self.step(layer, self.self_context(layer, rows[:, None]), rows, memory, edit)
        return rows

    def record(self, inputs: Tensor, memory: Memory | None, check: Callable[[], None]) -> Activations:
        """Run whole and keep every stage.

        Args:
            inputs: what enters layer 0, (S, n, D).
            memory: what the cross-attention looks at, if the block has one.
            check: called once a layer; may raise `Cancelled`.
        """
        values: dict[str, list[Tensor]] = {stage: [] for stage in self.stages}

        def keep(stage: str, rows: Tensor) -> Tensor:
            values[stage].append(rows)
            return rows

        self.run(inputs, memory, check, keep)
        return Activations(inputs, values)

    def cut(self, base: Activations, memory: Memory, cut: Cut, check: Callable[[], None]) -> Tensor:
        """The output of one run in which attention edges are removed, (S, n, D); below the first it equals the base."""
        first = min(cut.layers)
        rows = base.into(first)
        for layer in range(first, len(self.layers)):
            check()
            context = self.self_context(layer, rows[:, None], cut.of(layer, "self_attention"))
            rows = self.step(layer, context, rows, memory, as_it_is, cut.of(layer, "cross_attention"))
        return rows

    def resume(
        self,
        base: Activations,
        source: Activations,
        runs: Sequence[Sequence[State]],
        memory: Memory | None,
        check: Callable[[], None],
        *,
        samples: int,
        diverged: bool = False,
    ) -> Tensor:
        """The outputs of patched runs.

        Args:
            base: the run they equal where nothing is patched.
            source: the run from which the patched states are taken.
            runs: for each run the states of this block that are patched; may be empty.
            memory: what the cross-attention looks at.
            check: called once a layer; may raise `Cancelled`.
            samples: S.
            diverged: every run differs from the base already below layer 0 (its memory does).

        Returns:
            (S, C, n, D).
        """
        depth = len(self.layers)
        starts = [-1 if diverged else min((state.layer for state in states), default=depth) for states in runs]
        order = sorted(range(len(runs)), key=starts.__getitem__)
        positions, width = base.inputs.shape[1:]
        whole = base.inputs[:, None].expand(samples, starts.count(-1), positions, width)
        plans = _plans([runs[run] for run in order], sorted(starts), depth, positions, base.inputs.device)

        for layer, plan in enumerate(plans):
            check()
            count = whole.shape[1]
            if not (count or plan.born):
                continue
            rows = self._plan_rows(layer, whole, base, source, memory, plan, samples)
            whole = rows[:, : count * positions].view(samples, count, positions, width)
            if plan.born:
                new = base.values["block_output"][layer][:, None].expand(samples, plan.born, -1, -1).clone()
                if len(plan.rows.slots):
                    new[:, plan.rows.slots, plan.rows.positions] = rows[:, count * positions :]
                if len(plan.late.slots):
                    late = source.values["block_output"][layer][:, plan.late.positions]
                    new[:, plan.late.slots, plan.late.positions] = late
                whole = torch.cat([whole, new], dim=1)

        missing = len(runs) - whole.shape[1]
        if missing:  # runs that patch nothing here
            whole = torch.cat([whole, base.output[:, None].expand(samples, missing, -1, -1)], dim=1)
        if order == sorted(order):
            return whole
        back = torch.tensor(sorted(range(len(order)), key=order.__getitem__), device=whole.device)
        return whole[:, back]

    def _plan_rows(
        self,
        layer: int,
        whole: Tensor,
        base: Activations,
        source: Activations,
        memory: Memory | None,
        plan: _LayerPlan,
        samples: int,
    ) -> Tensor:
        """Step a layer: all rows of the diverged runs, then the patched rows of those that begin here, (S, R, D)."""
        width = whole.shape[-1]
        contexts, residuals = [], []
        if whole.shape[1]:
            contexts.append(self.self_context(layer, whole))
            residuals.append(whole.reshape(samples, -1, width))
        if len(plan.rows.slots):
            at = plan.rows.positions
            contexts.append(base.values["self_context"][layer][:, at].expand(samples, -1, -1))
            residuals.append(base.into(layer)[:, at].expand(samples, -1, -1))
        if not contexts:
            return whole.reshape(samples, 0, width)

        def replace(stage: str, rows: Tensor) -> Tensor:
            edits = plan.edits.get(stage)
            if edits is None:
                return rows
            taken = source.values[stage][layer][:, edits.positions]
            if not len(edits.heads):
                rows[:, edits.slots] = taken
                return rows
            index = torch.arange(len(edits.slots), device=rows.device)
            by_head = rows.view(samples, -1, self.heads, width // self.heads)
            by_head[:, edits.slots, edits.heads] = taken.view(*taken.shape[:2], self.heads, -1)[:, index, edits.heads]
            return rows

        # `cat` also makes the copy that the edits write into.
        return self.step(layer, torch.cat(contexts, 1), torch.cat(residuals, 1), memory, replace)


def _plans(
    runs: Sequence[Sequence[State]], starts: Sequence[int], depth: int, positions: int, device: torch.device
) -> list[_LayerPlan]:
    """What is to be done in each layer, made and moved to the device before the first one is computed.

    Args:
        runs: the states that each run patches, in the order in which the runs diverge.
        starts: the layer in which each diverges; -1 before the first, `depth` never.
        depth: number of layers.
        positions: n.
        device: where the indices are needed.
    """
    plans = []
    for layer in range(depth):
        count = sum(start < layer for start in starts)
        plan = _LayerPlan(count, positions, born=starts.count(layer))
        for slot, (start, states) in enumerate(zip(starts, runs, strict=True)):
            if start <= layer:
                plan.add(slot, [state for state in states if state.layer == layer])
        plan.place(device)
        plans.append(plan)
    return plans


class _Places:
    """Where rows go and where they come from: slot (a run's or a row's index), position in the source, head if any."""

    slots: Any
    positions: Any
    heads: Any

    def __init__(self) -> None:
        self.slots, self.positions, self.heads = [], [], []

    def add(self, slot: int, position: int, head: int | None = None) -> None:
        self.slots.append(slot)
        self.positions.append(position)
        if head is not None:
            self.heads.append(head)

    def place(self, device: torch.device) -> None:
        """Turn the lists into index tensors."""
        for name in ("slots", "positions", "heads"):
            setattr(self, name, torch.tensor(getattr(self, name), dtype=torch.long, device=device))


class _LayerPlan:
    """Which rows are computed and which are replaced in one layer.

    Slots number the runs in the order in which they diverge; the first `count` have, and hold n rows each. Of a run
    that begins here only the patched positions are `rows`; where the whole block output is replaced (`late`), not even
    those.
    """

    def __init__(self, count: int, positions: int, born: int) -> None:
        self._count, self._positions = count, positions
        self.born = born
        self.edits: dict[str, _Places] = {}
        self.rows, self.late = _Places(), _Places()

    def add(self, slot: int, states: Sequence[State]) -> None:
        """Plan the states that a run patches in this layer."""
        born = slot - self._count
        if born < 0:
            for state in states:
                self._edit(state, slot * self._positions + state.position)
            return
        late = {state.position for state in states if stage_of(state) == "block_output"}
        for position in sorted(late):
            self.late.add(born, position)
        row_of: dict[int, int] = {}
        for state in states:
            if state.position in late:
                continue
            if state.position not in row_of:
                row_of[state.position] = self._count * self._positions + len(self.rows.slots)
                self.rows.add(born, state.position)
            self._edit(state, row_of[state.position])

    def place(self, device: torch.device) -> None:
        """Move all indices to the device."""
        for places in (self.rows, self.late, *self.edits.values()):
            places.place(device)

    def _edit(self, state: State, row: int) -> None:
        self.edits.setdefault(stage_of(state), _Places()).add(row, state.position, state.head)
