"""The resumable forward pass: step the model's own layers from any layer, many patched runs at once.

For: computing patched runs without repeating what they share. A patched run equals its base run (corrupted, or clean
for ``disrupt``) below its lowest patched layer, and inside that layer in every row but the patched ones. So a batch of
runs travels upward together: at each layer the runs already diverged are computed whole, the runs that begin there
contribute their patched rows alone, and everything else is taken from the recorded base run.

Cost: for each run, the layers above its lowest patched one. What cross-attention costs is
`blip_trace_widget.model.cross_attention`'s to tell.

Ends: at tensors. It knows nothing of scores, images or words, nor how a layer is built
(`blip_trace_widget.model.layers`).

Shapes: S samples, R rows (run-major: run 0's positions, run 1's, ...), C runs, n positions, D width, H heads. A leading
sample axis of 1 stands for "the same in every sample".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from blip_trace_widget.model.cross_attention import CrossAttentionKV, part_of
from blip_trace_widget.model.patch_plan import LayerPlan, plan_of
from blip_trace_widget.states import State

#: What is done to the rows at a stage of one layer, and of any: the rows to go on with.
Edit: TypeAlias = Callable[[str, Tensor], Tensor]
LayerEdit: TypeAlias = Callable[[int, str, Tensor], Tensor]


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Raised inside a forward pass whose `check` says that nobody wants the result any more."""


def as_it_is(_layer: int, _stage: str, rows: Tensor) -> Tensor:
    """Nothing is edited."""
    return rows


def words_of(embeddings: Any) -> Callable[[Tensor], Tensor]:
    """Embeddings of token ids, called as the model calls them: hooks may ask for the argument by its name."""

    def embed(ids: Tensor) -> Tensor:
        rows: Tensor = embeddings(input_ids=ids)
        return rows

    return embed


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


@dataclass(frozen=True)
class Patches:
    """Runs of a block that equal a base run but for the states that they take from a source.

    Attributes:
        base: the run they equal where nothing is patched.
        source: the run from which the patched states are taken.
        runs: for each run the states of this block that are patched; may be empty.
        samples: S.
        diverged: every run differs from the base already below layer 0 (its memory does).
    """

    base: Activations
    source: Activations
    runs: Sequence[Sequence[State]]
    samples: int
    diverged: bool = False


class Block(Protocol):
    """A stack of layers, however it is computed.

    Attributes:
        layers: transformers' layer modules.
        heads: attention heads of a layer.
        stages: what a row passes through in a layer; a context is an attention's heads before its projection.
        one_by_one: whether its modules are called for one run at a time, because somebody's hooks may be in them.
    """

    layers: list[Any]
    heads: int
    stages: tuple[str, ...]
    one_by_one: bool

    def tokens(self, output: Tensor) -> Tensor:
        """What follows the image encoder's last layer: the image tokens, (..., n, D) -> (..., n, D)."""

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """A module beside the layers, on the first axis' runs together, or on each alone where that must be."""

    def run(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None], edit: LayerEdit) -> Tensor:
        """Run whole, (S, n, D) -> (S, n, D).

        Args:
            inputs: what enters layer 0.
            kv: what the cross-attention looks at, if the block has one.
            check: called once a layer; may raise `Cancelled`.
            edit: called with every layer, stage and its rows, (S, n, D) or of one sample after another; gives the rows
                to go on with. What enters a layer is the stage ``"block_input"``.
        """

    def record(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Activations:
        """Run whole and keep every stage; arguments as in `run`."""

    def cut(self, base: Activations, kv: CrossAttentionKV, cut: Cut, check: Callable[[], None]) -> Tensor:
        """The output of one run in which attention edges are removed, (S, n, D)."""

    def weights(self, site: str, layer: int, base: Activations, kv: CrossAttentionKV | None) -> Tensor:
        """An attention's weights in a base run, (S, H, n, keys).

        Args:
            site: ``"self_attention"`` or ``"cross_attention"``.
            layer: 0-based.
            base: the run.
            kv: what its cross-attention looks at, if the block has one.
        """

    def resume(self, patches: Patches, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Tensor:
        """The outputs of patched runs, (S, C, n, D); `kv` and `check` as in `run`."""


class SteppedBlock:
    """A block that is stepped layer by layer; how a layer is stepped is given by the kind of block.

    Args:
        layers: transformers' layer modules.
    """

    stages: tuple[str, ...]
    heads: int
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
        kv: CrossAttentionKV | None,
        edit: Edit,
        cut: Tensor | None = None,
    ) -> Tensor:
        """What follows self-attention's mixing of positions, row by row, (S, R, D) -> (S, R, D).

        Args:
            layer: 0-based.
            context: self-attention's context vectors.
            residual: what entered the layer.
            kv: what the cross-attention looks at, if the block has one.
            edit: called with every stage and its rows; gives the rows to go on with, and may write into them.
            cut: edges of the cross-attention to remove.
        """
        raise NotImplementedError

    def tokens(self, output: Tensor) -> Tensor:
        """See `Block.tokens`."""
        raise NotImplementedError

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """See `Block.apply`."""
        output: Tensor = module(batch)
        return output

    def self_weights(self, layer: int, states: Tensor) -> Tensor:
        """Self-attention's weights of whole runs, (S, n, D) -> (S, H, n, n)."""
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
        """See `Block.cut`; below the first layer that is cut the run equals the base."""
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
        plan = plan_of(runs, len(self.layers), positions, base.inputs.device, diverged=patches.diverged)
        whole = base.inputs[:, None].expand(samples, plan.diverged, positions, width)
        for layer, here in enumerate(plan.layers):
            check()
            count = whole.shape[1]
            if not (count or here.born):
                continue
            rows = self._plan_rows(layer, whole, patches, kv, here)
            whole = rows[:, : count * positions].view(samples, count, positions, width)
            if here.born:
                whole = torch.cat([whole, self._born(layer, patches, here, rows[:, count * positions :])], dim=1)

        missing = len(runs) - whole.shape[1]
        if missing:  # runs that patch nothing here
            whole = torch.cat([whole, base.output[:, None].expand(samples, missing, -1, -1)], dim=1)
        return whole if plan.back is None else whole[:, plan.back]

    def _born(self, layer: int, patches: Patches, plan: LayerPlan, rows: Tensor) -> Tensor:
        """The outputs of the runs that begin in a layer, (S, born, n, D), given their patched rows."""
        outputs = patches.base.values["block_output"][layer]
        new = outputs[:, None].expand(patches.samples, plan.born, -1, -1).clone()
        if len(plan.rows):
            new[:, plan.rows.slots, plan.rows.positions] = rows
        if len(plan.late):
            late = patches.source.values["block_output"][layer][:, plan.late.positions]
            new[:, plan.late.slots, plan.late.positions] = late
        return new

    def _plan_rows(
        self,
        layer: int,
        whole: Tensor,
        patches: Patches,
        kv: CrossAttentionKV | None,
        plan: LayerPlan,
    ) -> Tensor:
        """Step a layer: all rows of the diverged runs, then the patched rows of those that begin here, (S, R, D)."""
        base, source, samples, width = patches.base, patches.source, patches.samples, whole.shape[-1]
        contexts, residuals = [], []
        if whole.shape[1]:
            contexts.append(self.self_context(layer, whole))
            residuals.append(whole.reshape(samples, -1, width))
        if len(plan.rows):
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
        return self.step(layer, torch.cat(contexts, 1), torch.cat(residuals, 1), kv, replace)
