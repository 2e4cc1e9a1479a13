"""The resumable forward pass: step the model's own layers from any layer, many patched runs at once.

For: computing patched runs without repeating what they share. A patched run equals its base run (corrupted, or clean
for ``disrupt``) below its lowest patched layer, and inside that layer in every row but the patched ones. So a batch of
runs travels upward together: at each layer the runs already diverged are computed whole, the runs that begin there
contribute their patched rows alone, and everything else is taken from the recorded base run.

Cost: for each run, the layers above its lowest patched one. Keys and values over image tokens are projected once a
sample, kept, and serve every run and every noise factor, since they are linear in the tokens; all runs of a sample are
folded into the query axis of one attention. The decoder's keys and values over question tokens would have to be
projected for every run, so the projections are absorbed into its few queries instead.

Ends: at tensors. It knows nothing of scores, images or words. It leans on the module names that the checkpoint fixes
(``query``, ``key``, ``value``, ``output.dense``, ``LayerNorm``, ``intermediate``), not on call signatures.

Shapes: S samples, R rows (run-major: run 0's positions, run 1's, ...), C runs, n positions, T image tokens, D width,
H heads, d head width. A leading sample axis of 1 stands for "the same in every sample".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from blip_trace_widget.sites import State

#: What a row passes through in a layer, in this order. The contexts are the attentions' heads before ``output.dense``.
STAGES = ("self_context", "self_attention", "cross_context", "cross_attention", "mlp", "block_output")

Edit: TypeAlias = Callable[[str, Tensor], Tensor]


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Raised inside a forward pass whose `check` says that nobody wants the result any more."""


def stage_of(state: State) -> str:
    """The stage at which a state is replaced."""
    if state.head is None:
        return state.site
    return {"self_attention": "self_context", "cross_attention": "cross_context"}[state.site]


@dataclass(frozen=True)
class Activations:
    """A base run, recorded.

    Attributes:
        inputs: what enters layer 0, (S, n, D).
        values: stage -> one (S, n, D) tensor a layer.
    """

    inputs: Tensor
    values: dict[str, list[Tensor]]

    def into(self, layer: int) -> Tensor:
        """What enters a layer, (S, n, D)."""
        return self.values["block_output"][layer - 1] if layer else self.inputs

    @property
    def output(self) -> Tensor:
        """What leaves the last layer, (S, n, D)."""
        return self.values["block_output"][-1]


class Memory(Protocol):
    """What a block's cross-attention looks at."""

    def context(self, layer: int, rows: Tensor) -> Tensor:
        """The cross-attention's context vectors for rows of queries, (S, R, D) -> (S, R, D)."""


class Projections:
    """Keys and values of tokens, for every layer of a block; projected at the first use and kept.

    Args:
        layers: the block's layers.
        tokens: (S, T, width).
        bias: whether the projections' bias belongs in (not for a difference of tokens).
        keep: False projects anew at every use, where keeping 2 x layers x S x T x D numbers would take too much memory.
    """

    def __init__(self, layers: Sequence[Any], tokens: Tensor, *, bias: bool, keep: bool = True) -> None:
        self._attentions = [layer.crossattention.self for layer in layers]
        self.tokens = tokens
        self._bias = bias
        self._kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None

    def __call__(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each (S, H, T, d)."""
        if self._kept is None:
            return self._project(layer)
        if layer not in self._kept:
            self._kept[layer] = self._project(layer)
        return self._kept[layer]

    def _project(self, layer: int) -> tuple[Tensor, Tensor]:
        attention = self._attentions[layer]
        heads = attention.num_attention_heads
        keys, values = (
            split_heads(linear(self.tokens, module.weight, module.bias if self._bias else None), heads)
            for module in (attention.key, attention.value)
        )
        return keys, values


@dataclass(frozen=True)
class ImageMemory:
    """Image tokens as the question encoder sees them: clean + strength * delta, one set a sample.

    Attributes:
        layers: the question encoder's layers.
        clean: projections of the clean tokens, one sample.
        delta: projections of what the corruption adds, or None for the clean run.
        strength: its strength.
    """

    layers: Sequence[Any]
    clean: Projections
    delta: Projections | None = None
    strength: float = 0.0

    def context(self, layer: int, rows: Tensor) -> Tensor:
        """See `Memory.context`."""
        attention = self.layers[layer].crossattention.self
        keys, values = self.clean(layer)
        if self.delta is not None:
            delta_keys, delta_values = self.delta(layer)
            keys = torch.add(keys, delta_keys, alpha=self.strength)
            values = torch.add(values, delta_values, alpha=self.strength)
        queries = attention.query(rows)
        samples, count, width = queries.shape
        # With one set of keys for all samples, their queries fold into one long row.
        queries = split_heads(queries.reshape(keys.shape[0], -1, width), attention.num_attention_heads)
        return join_heads(scaled_dot_product_attention(queries, keys, values)).reshape(samples, count, width)


@dataclass(frozen=True)
class QuestionMemory:
    """The question encoder's output as the decoder sees it: one set a run, or one for all runs of a sample.

    q · (K x + b) = (Kᵀ q) · x + const, and the constant leaves a softmax unchanged; sum p (V x + b) = V (sum p x) + b.
    So two products on the query replace projecting every token of every run.

    Attributes:
        layers: the decoder's layers.
        states: (S, C or 1, n, D).
    """

    layers: Sequence[Any]
    states: Tensor

    def context(self, layer: int, rows: Tensor) -> Tensor:
        """See `Memory.context`; rows are run-major, equally many for each of the C runs."""
        attention = self.layers[layer].crossattention.self
        heads, size = attention.num_attention_heads, attention.attention_head_size
        samples, count, width = rows.shape
        states = self.states.expand(samples, -1, -1, -1)
        runs, wide = states.shape[1], states.shape[-1]

        queries = attention.query(rows).view(samples * count, heads, size).transpose(0, 1)
        absorbed = torch.bmm(queries, attention.key.weight.view(heads, size, wide)).transpose(0, 1)
        absorbed = absorbed.reshape(samples, runs, -1, wide)
        weights = (absorbed @ states.transpose(-1, -2) / math.sqrt(size)).softmax(-1)
        mixed = (weights @ states).view(samples * count, heads, wide).transpose(0, 1)
        context = torch.bmm(mixed, attention.value.weight.view(heads, size, wide).transpose(1, 2)).transpose(0, 1)
        bias: Tensor = attention.value.bias
        return context.reshape(samples, count, width) + bias


class TextBlock:
    """The question encoder's or the answer decoder's layers.

    Args:
        layers: transformers' ``BlipTextLayer`` modules.
        causal: whether a position sees only itself and earlier ones (the decoder).
    """

    def __init__(self, layers: Iterable[Any], *, causal: bool) -> None:
        self.layers = list(layers)
        self._causal = causal

    def record(self, inputs: Tensor, memory: Memory, check: Callable[[], None]) -> Activations:
        """Run whole and keep every stage.

        Args:
            inputs: what enters layer 0, (S, n, D).
            memory: what the cross-attention looks at.
            check: called once a layer; may raise `Cancelled`.
        """
        values: dict[str, list[Tensor]] = {stage: [] for stage in STAGES}

        def keep(stage: str, rows: Tensor) -> Tensor:
            values[stage].append(rows)
            return rows

        rows = inputs
        for layer in range(len(self.layers)):
            check()
            rows = self._rows(layer, self._self_context(layer, rows[:, None]), rows, memory, keep)
        return Activations(inputs, values)

    def resume(
        self,
        base: Activations,
        source: Activations,
        runs: Sequence[Sequence[State]],
        memory: Memory,
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

        for layer in range(depth):
            check()
            count = whole.shape[1]
            plan = _LayerPlan(count, positions)
            for slot, run in enumerate(order):
                if starts[run] <= layer:
                    plan.add(slot, [state for state in runs[run] if state.layer == layer])
            born = sum(start == layer for start in starts)
            if not (count or born):
                continue
            rows = self._plan_rows(layer, whole, base, source, memory, plan, samples)
            whole = rows[:, : count * positions].view(samples, count, positions, width)
            if born:
                new = base.values["block_output"][layer][:, None].expand(samples, born, -1, -1).clone()
                if plan.born_rows:
                    new[:, plan.born_slots, plan.born_positions] = rows[:, count * positions :]
                if plan.late_slots:
                    late = source.values["block_output"][layer][:, plan.late_positions]
                    new[:, plan.late_slots, plan.late_positions] = late
                whole = torch.cat([whole, new], dim=1)

        missing = len(runs) - whole.shape[1]
        if missing:  # runs that patch nothing here
            whole = torch.cat([whole, base.output[:, None].expand(samples, missing, -1, -1)], dim=1)
        if order == sorted(order):
            return whole
        back = torch.empty(len(order), dtype=torch.long)
        back[order] = torch.arange(len(order))
        return whole[:, back]

    def _plan_rows(
        self,
        layer: int,
        whole: Tensor,
        base: Activations,
        source: Activations,
        memory: Memory,
        plan: _LayerPlan,
        samples: int,
    ) -> Tensor:
        """Step a layer: all rows of the diverged runs, then the patched rows of those that begin here, (S, R, D)."""
        width = whole.shape[-1]
        contexts, residuals = [], []
        if whole.shape[1]:
            contexts.append(self._self_context(layer, whole))
            residuals.append(whole.reshape(samples, -1, width))
        if plan.born_rows:
            at = plan.born_positions
            contexts.append(base.values["self_context"][layer][:, at].expand(samples, -1, -1))
            residuals.append(base.into(layer)[:, at].expand(samples, -1, -1))
        if not contexts:
            return whole.reshape(samples, 0, width)

        def replace(stage: str, rows: Tensor) -> Tensor:
            edits = plan.edits.get(stage)
            if edits is None:
                return rows
            taken = source.values[stage][layer][:, edits.positions]
            if not edits.heads:
                rows[:, edits.rows] = taken
                return rows
            heads = self.layers[layer].attention.self.num_attention_heads
            index = torch.arange(len(edits.rows))
            by_head = rows.view(samples, -1, heads, width // heads)
            by_head[:, edits.rows, edits.heads] = taken.view(*taken.shape[:2], heads, -1)[:, index, edits.heads]
            return rows

        # `cat` also makes the copy that the edits write into.
        return self._rows(layer, torch.cat(contexts, 1), torch.cat(residuals, 1), memory, replace)

    def _self_context(self, layer: int, states: Tensor) -> Tensor:
        """Self-attention's context vectors of whole runs, (S, C, n, D) -> (S, C * n, D)."""
        attention = self.layers[layer].attention.self
        samples, runs, positions, width = states.shape
        flat = states.reshape(samples * runs, positions, width)
        if positions == 1:  # a softmax over one key is 1, whatever query and key are
            alone: Tensor = attention.value(flat)
            return alone.reshape(samples, runs, width)
        queries, keys, values = (
            split_heads(module(flat), attention.num_attention_heads)
            for module in (attention.query, attention.key, attention.value)
        )
        context = scaled_dot_product_attention(queries, keys, values, is_causal=self._causal)
        return join_heads(context).reshape(samples, runs * positions, width)

    def _rows(self, layer: int, context: Tensor, residual: Tensor, memory: Memory, edit: Edit) -> Tensor:
        """What follows self-attention's mixing of positions, row by row, (S, R, D) -> (S, R, D)."""
        module = self.layers[layer]
        context = edit("self_context", context)
        attended = edit("self_attention", _attention_output(module.attention.output, context, residual))
        context = edit("cross_context", memory.context(layer, attended))
        crossed = edit("cross_attention", _attention_output(module.crossattention.output, context, attended))
        mlp = edit("mlp", module.output.dense(module.intermediate(crossed)))
        return edit("block_output", module.output.LayerNorm(mlp + crossed))


class _Edits:
    """Rows to replace at one stage: row index, position in the source, head (or none at all)."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.positions: list[int] = []
        self.heads: list[int] = []


class _LayerPlan:
    """Which rows are computed and which are replaced in one layer.

    Slots number the runs in the order in which they diverge; the first `count` have, and hold n rows each. Of a run
    that begins here only the patched positions are rows; where the whole block output is replaced, not even those.
    """

    def __init__(self, count: int, positions: int) -> None:
        self._count, self._positions = count, positions
        self.edits: dict[str, _Edits] = {}
        self.born_slots: list[int] = []
        self.born_positions: list[int] = []
        self.late_slots: list[int] = []
        self.late_positions: list[int] = []

    @property
    def born_rows(self) -> int:
        return len(self.born_slots)

    def add(self, slot: int, states: Sequence[State]) -> None:
        """Plan the states that a run patches in this layer."""
        born = slot - self._count
        if born < 0:
            for state in states:
                self._edit(state, slot * self._positions + state.position)
            return
        late = {state.position for state in states if stage_of(state) == "block_output"}
        self.late_slots += [born] * len(late)
        self.late_positions += sorted(late)
        row_of: dict[int, int] = {}
        for state in states:
            if state.position in late:
                continue
            if state.position not in row_of:
                row_of[state.position] = self._count * self._positions + self.born_rows
                self.born_slots.append(born)
                self.born_positions.append(state.position)
            self._edit(state, row_of[state.position])

    def _edit(self, state: State, row: int) -> None:
        edits = self.edits.setdefault(stage_of(state), _Edits())
        edits.rows.append(row)
        edits.positions.append(state.position)
        if state.head is not None:
            edits.heads.append(state.head)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """(B, R, D) -> (B, H, R, d)."""
    return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)


def join_heads(context: Tensor) -> Tensor:
    """(B, H, R, d) -> (B, R, D)."""
    return context.transpose(1, 2).flatten(2)


def _attention_output(output: Any, context: Tensor, residual: Tensor) -> Tensor:
    rows: Tensor = output.LayerNorm(output.dense(context) + residual)
    return rows
