"""The resumable forward pass: step the model's own layers from any layer, many patched runs at once.

For: computing patched runs without repeating what they share. A patched run equals its base run (corrupted, or clean
for ``disrupt``) below its lowest patched layer, and inside that layer in every row but the patched ones. So a batch of
runs moves up the layers together: at each layer, all rows of the runs that have already diverged are computed; the runs
that begin there contribute only their patched rows; everything else is taken from the recorded base run.
Cost: for each run, the layers above its lowest patched one. `blip_trace_widget.model.cross_attention` says what
cross-attention costs.
Ends: at tensors, independent of scores, images and words, and of how a layer is built
(`blip_trace_widget.model.layers`).

Shapes: S samples, R rows (run-major: run 0's positions, run 1's, ...), C runs, n positions, D width, H heads. A leading
sample axis of 1 stands for "the same in every sample".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from blip_trace_widget.model.cross_attention import CrossAttentionKV, part_of
from blip_trace_widget.model.patch_plan import LayerPlan, Places, plan_of
from blip_trace_widget.model.recorder import Recorder, Source
from blip_trace_widget.states import State

#: What is done to the rows at a stage of one layer, and of any: the rows to go on with.
Edit: TypeAlias = Callable[[str, Tensor], Tensor]
LayerEdit: TypeAlias = Callable[[int, str, Tensor], Tensor]


class Cancelled(Exception):  # noqa: N818 - not an error
    """Raised inside a forward pass when its `check` says that the result is no longer wanted."""


def as_it_is(_layer: int, _stage: str, rows: Tensor) -> Tensor:
    """A `LayerEdit` that changes nothing."""
    return rows


def words_of(embeddings: Any) -> Callable[[Tensor], Tensor]:
    """A call of an embedding module on token ids, as the model calls it: hooks may read the argument by name."""

    def embed(ids: Tensor) -> Tensor:
        rows: Tensor = embeddings(input_ids=ids)
        return rows

    return embed


@dataclass(frozen=True)
class Activations:
    """The recorded states of a base run.

    Attributes:
        inputs: the input of layer 0, (S, n, D).
        values: stage -> one (S, n, D) tensor per layer.
        result: the block's output, (S, n, D), if it may differ from the last layer's output.
    """

    inputs: Tensor
    values: dict[str, list[Tensor]]
    result: Tensor | None = None

    def at(self, layer: int, stage: str) -> Tensor:
        """A stage of a layer, (S, n, D); where ``"block_input"`` is not recorded, what the layer below puts out."""
        return self.values[stage][layer] if stage in self.values else self.into(layer)

    def taken(self, layer: int, stage: str, _runs: Tensor, positions: Tensor) -> Tensor:
        """See `Source.taken`: every run has the same values."""
        return (self.inputs if layer < 0 else self.at(layer, stage))[:, positions]

    def into(self, layer: int) -> Tensor:
        """The input of a layer, (S, n, D)."""
        return self.values["block_output"][layer - 1] if layer else self.inputs

    @property
    def output(self) -> Tensor:
        """The block's output, (S, n, D)."""
        return self.values["block_output"][-1] if self.result is None else self.result

    def part(self, samples: slice) -> Activations:
        """Some of the samples; what is the same for every sample is kept."""
        values = {stage: [part_of(tensor, samples) for tensor in layers] for stage, layers in self.values.items()}
        result = None if self.result is None else part_of(self.result, samples)
        return Activations(part_of(self.inputs, samples), values, result)


@dataclass(frozen=True)
class Cut:
    """Attention edges removed from one run.

    Attributes:
        layers: the layers in which they are removed, at least one.
        site: ``"self_attention"`` or ``"cross_attention"``.
        edges: (H or 1, n, keys) bool, True where an edge is removed.
    """

    layers: frozenset[int]
    site: str
    edges: Tensor

    def of(self, layer: int, site: str) -> Tensor | None:
        """The edges removed in an attention of a layer, if any."""
        return self.edges if site == self.site and layer in self.layers else None


@dataclass(frozen=True)
class Patches:
    """Runs of a block that equal a base run except for the states that they take from elsewhere, and what follows.

    A state that is both held and patched is patched.

    Attributes:
        base: the run that they equal where nothing is patched.
        source: what the patched states come from.
        runs: for each run the states of this block that are patched; may be empty.
        samples: S.
        diverged: whether every run differs from the base below layer 0 already (its keys and values do).
        held: for each run the states of this block that keep their value of the base run, in parts that runs may
            share; empty: none in any.
        recorder: keeps states of all runs; None: none.
        short: whether nothing is wanted but what the recorder keeps, so that the layers above need not be computed.
    """

    base: Activations
    source: Source
    runs: Sequence[Sequence[State]]
    samples: int
    diverged: bool = False
    held: Sequence[Sequence[Sequence[State]]] = ()
    recorder: Recorder | None = None
    short: bool = False

    @property
    def last(self) -> float:
        """The last layer that is wanted."""
        return self.recorder.last if self.short and self.recorder is not None else math.inf


class Block(Protocol):
    """A stack of layers, however it is computed.

    Attributes:
        layers: transformers' layer modules.
        heads: attention heads of a layer.
        stages: the stages of a row in a layer; a context is an attention's heads before its output projection.
        one_by_one: whether its modules are called for one run at a time, because they may contain users' hooks.
    """

    layers: list[Any]
    heads: int
    stages: tuple[str, ...]
    one_by_one: bool

    def tokens(self, output: Tensor) -> Tensor:
        """The image tokens from the output of the image encoder's last layer, (..., n, D) -> (..., n, D)."""

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """Apply a module outside the layers to a batch of runs (axis 0); one at a time if `one_by_one`."""

    def run(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None], edit: LayerEdit) -> Tensor:
        """Run all layers, (S, n, D) -> (S, n, D).

        Args:
            inputs: the input of layer 0.
            kv: the cross-attention's keys and values, if the block has one.
            check: called once per layer; may raise `Cancelled`.
            edit: called with every layer, stage and its rows, (S, n, D) or one sample after another; returns the rows
                to continue with. A layer's input is the stage ``"block_input"``.
        """

    def record(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Activations:
        """Run all layers and record every stage; arguments as in `run`."""

    def cut(self, base: Activations, kv: CrossAttentionKV, cut: Cut, check: Callable[[], None]) -> Tensor:
        """The output of a base run in which attention edges are removed, (S, n, D)."""

    def weights(self, site: str, layer: int, base: Activations, kv: CrossAttentionKV | None) -> Tensor:
        """An attention's weights in a base run, (S, H, n, keys).

        Args:
            site: ``"self_attention"`` or ``"cross_attention"``.
            layer: 0-based.
            base: the run.
            kv: what its cross-attention looks at, if the block has one.
        """

    def resume(self, patches: Patches, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Tensor:
        """The outputs of patched runs, (S, C, n, D), of no meaning if `Patches.short`; `kv` and `check` as in `run`."""


class SteppedBlock:
    """A block that is computed layer by layer; subclasses compute a layer in `self_context` and `step`.

    Args:
        layers: transformers' layer modules.
    """

    stages: tuple[str, ...]
    heads: int
    one_by_one = False

    def __init__(self, layers: Iterable[Any]) -> None:
        self.layers = list(layers)

    def self_context(self, layer: int, states: Tensor, cut: Tensor | None = None) -> Tensor:
        """Self-attention's context vectors of complete runs, (S, C, n, D) -> (S, C * n, D).

        Args:
            layer: 0-based.
            states: the layer's input.
            cut: edges to remove, (H or 1, n, n).

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    def step(
        self,
        layer: int,
        context: Tensor,
        residual: Tensor,
        kv: CrossAttentionKV | None,
        edit: Edit,
        cut: Tensor | None = None,
    ) -> Tensor:
        """The rest of a layer after self-attention has mixed positions, row by row, (S, R, D) -> (S, R, D).

        Args:
            layer: 0-based.
            context: self-attention's context vectors.
            residual: the layer's input.
            kv: the cross-attention's keys and values, if the block has one.
            edit: called with every stage and its rows; returns the rows to continue with, and may write into them.
            cut: edges of the cross-attention to remove.

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    def tokens(self, output: Tensor) -> Tensor:
        """See `Block.tokens`.

        Raises:
            NotImplementedError: if the block is not the image encoder.
        """
        raise NotImplementedError

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """See `Block.apply`."""
        output: Tensor = module(batch)
        return output

    def self_weights(self, layer: int, states: Tensor) -> Tensor:
        """Self-attention's weights of whole runs, (S, n, D) -> (S, H, n, n).

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    def weights(self, site: str, layer: int, base: Activations, kv: CrossAttentionKV | None) -> Tensor:
        """See `Block.weights`."""
        if site == "self_attention":
            return self.self_weights(layer, base.into(layer))
        assert kv is not None
        return kv.weights(layer, base.values["self_attention"][layer])

    def run(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None], edit: LayerEdit) -> Tensor:
        """See `Block.run`."""
        rows = inputs
        for layer in range(len(self.layers)):
            check()
            rows = edit(layer, "block_input", rows)
            rows = self.step(layer, self.self_context(layer, rows[:, None]), rows, kv, partial(edit, layer))
        return rows

    def record(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Activations:
        """See `Block.record`."""
        values: dict[str, list[Tensor]] = {stage: [] for stage in self.stages}

        def keep(_layer: int, stage: str, rows: Tensor) -> Tensor:
            if stage in values:
                values[stage].append(rows)
            return rows

        self.run(inputs, kv, check, keep)
        return Activations(inputs, values)

    def cut(self, base: Activations, kv: CrossAttentionKV, cut: Cut, check: Callable[[], None]) -> Tensor:
        """See `Block.cut`; below the first cut layer the run equals the base."""
        first = min(cut.layers)
        rows = base.into(first)
        for layer in range(first, len(self.layers)):
            check()
            context = self.self_context(layer, rows[:, None], cut.of(layer, "self_attention"))
            rows = self.step(layer, context, rows, kv, partial(as_it_is, layer), cut.of(layer, "cross_attention"))
        return rows

    def resume(self, patches: Patches, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Tensor:
        """See `Block.resume`."""
        base, samples, runs = patches.base, patches.samples, patches.runs
        positions, width = base.inputs.shape[1:]
        device = base.inputs.device
        plan = plan_of(runs, len(self.layers), positions, device, diverged=patches.diverged, held=patches.held)
        diverged = base.inputs[:, None].expand(samples, plan.diverged, positions, width)
        if len(plan.inputs):
            at = plan.inputs
            diverged = diverged.clone()
            diverged[:, at.slots, at.positions] = patches.source.taken(-1, "block_output", at.runs, at.positions)
        for layer, layer_plan in enumerate(plan.layers):
            if layer > patches.last:
                break
            check()
            count = diverged.shape[1]
            if not (count or layer_plan.born):
                continue
            rows = self._plan_rows(layer, diverged, patches, kv, layer_plan, plan.order)
            diverged = rows[:, : count * positions].view(samples, count, positions, width)
            if layer_plan.born:
                diverged = torch.cat(
                    [diverged, self._born(layer, patches, layer_plan, rows[:, count * positions :])], dim=1
                )

        missing = len(runs) - diverged.shape[1]
        if missing:  # runs that patch nothing here
            diverged = torch.cat([diverged, base.output[:, None].expand(samples, missing, -1, -1)], dim=1)
        return diverged if plan.back is None else diverged[:, plan.back]

    def _born(self, layer: int, patches: Patches, plan: LayerPlan, rows: Tensor) -> Tensor:
        """The layer's outputs for the runs that begin in it, (S, born, n, D), given their patched rows."""
        outputs = patches.base.values["block_output"][layer]
        new = outputs[:, None].expand(patches.samples, plan.born, -1, -1).clone()
        if len(plan.rows):
            new[:, plan.rows.slots, plan.rows.positions] = rows
        if len(plan.late):
            at = plan.late
            new[:, at.slots, at.positions] = patches.source.taken(layer, "block_output", at.runs, at.positions)
        return new

    def _plan_rows(
        self,
        layer: int,
        diverged: Tensor,
        patches: Patches,
        kv: CrossAttentionKV | None,
        plan: LayerPlan,
        order: Tensor,
    ) -> Tensor:
        """Compute a layer: all rows of the diverged runs, then the patched rows of those that begin here, (S, R, D)."""
        base, samples, (count, positions, width) = patches.base, patches.samples, diverged.shape[1:]
        contexts, residuals = [], []
        if count:
            contexts.append(self.self_context(layer, diverged))
            residuals.append(diverged.reshape(samples, -1, width))
        if len(plan.rows):
            at = plan.rows.positions
            contexts.append(base.values["self_context"][layer][:, at].expand(samples, -1, -1))
            residuals.append(base.into(layer)[:, at].expand(samples, -1, -1))
        if not contexts:
            return diverged.reshape(samples, 0, width)
        if patches.recorder is not None:  # whose rows they are
            of_run = torch.cat([order[:count].repeat_interleave(positions), plan.rows.runs])
            every = torch.arange(positions, device=order.device)
            at_position = torch.cat([every.repeat(count), plan.rows.positions])

        def replace(stage: str, rows: Tensor) -> Tensor:
            if patches.recorder is not None:
                patches.recorder.keep(layer, stage, rows, of_run, at_position)
            for edits, source in ((plan.held.get(stage), base), (plan.edits.get(stage), patches.source)):
                if edits is not None:
                    self._put(rows, edits, source.taken(layer, stage, edits.runs, edits.positions))
            return rows

        # `cat` also makes the copies that the edits write into.
        return self.step(layer, torch.cat(contexts, 1), torch.cat(residuals, 1), kv, replace)

    def _put(self, rows: Tensor, places: Places, taken: Tensor) -> None:
        """Write rows, (S, places, D), or their heads' parts, to their places among rows, (S, R, D)."""
        if not len(places.heads):
            rows[:, places.slots] = taken
            return
        index = torch.arange(len(places.slots), device=rows.device)
        by_head = rows.view(*rows.shape[:2], self.heads, -1)
        by_head[:, places.slots, places.heads] = taken.view(*taken.shape[:2], self.heads, -1)[:, index, places.heads]
