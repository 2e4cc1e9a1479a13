"""Keys and values of cross-attention, from image tokens or question tokens, projecting as little as possible.

For: the context vectors (and weights) of a block's cross-attention, for many rows of queries at once.
Cost: *projected* (`ImageKV`): keys and values of every token, 4 T D^2 operations per set of tokens and layer, once,
and kept: 2 x layers x T x D numbers per set (BLIP base: 42 MB); then 4 T D per row. Both are linear in the tokens: keys
of clean + strength * delta are those of clean plus strength times those of delta, so changing the noise projects
nothing. *Absorbed* (`AbsorbedKV`), for tokens that differ in every run: q · (K x + b) = (Kᵀ q) · x + const, and the
constant leaves a softmax unchanged; sum p (V x + b) = V (sum p x) + b; so two products on the query replace the
projections, at 4 T D H per row, which is less below D / (H - 1) rows (BLIP base: 70; a question has about ten). The two
round differently, under strong noise by more than 1e-6 of the answer's probability: each kind of run keeps to one.
All this reads the weights of plain `Linear` layers. If ``key`` or ``value`` is anything else (an adapter, a
parametrized layer) it is called: again for the tokens of every noise factor, and on the tokens of every run.
Ends: at context vectors, before the attention's output projection.

Shapes: S samples, C runs, R rows (run-major), n rows of a run, T tokens, D width, H heads, d head width. A leading
sample axis of 1 stands for "the same in every sample". Cuts are boolean (H or 1, n, T): True removes that edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from blip_trace_widget.model.modules import is_linear
from blip_trace_widget.model.transfer import to_device


class CrossAttentionKV(Protocol):
    """The keys and values of a block's cross-attention."""

    def context(self, layer: int, rows: Tensor, cut: Tensor | None = None) -> Tensor:
        """The cross-attention's context vectors for rows of queries, (S, R, D) -> (S, R, D).

        Args:
            layer: 0-based.
            rows: the cross-attention's input.
            cut: edges to remove, (H or 1, n, T); only for a single run.
        """

    def weights(self, layer: int, rows: Tensor) -> Tensor:
        """The attention weights, (S, R, D) -> (S, H, R, T)."""

    def states(self) -> Tensor:
        """The tokens themselves, (S or 1, C or 1, T, D)."""


class Projections:
    """Keys and values of tokens, for every layer of a block; projected at the first use and kept.

    Args:
        layers: the block's layers.
        tokens: (S, T, width).
        bias: whether to add the projections' bias. Not for a difference of tokens, which is projected only if the
            projections are linear (`are_linear`).
    """

    def __init__(self, layers: Sequence[Any], tokens: Tensor, *, bias: bool) -> None:
        self._attentions = [layer.crossattention.self for layer in layers]
        self.tokens = tokens
        self._bias = bias
        self._done: set[int] = set()
        self._kept: Tensor | None = None  # (layers, 2, S, T, D): a single allocation, freed as a whole

    def __call__(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each (S, H, T, d)."""
        if self._kept is None:
            width = self._attentions[layer].all_head_size
            self._kept = self.tokens.new_empty((len(self._attentions), 2, *self.tokens.shape[:2], width))
        if layer not in self._done:
            self._project(layer, self._kept[layer])
            self._done.add(layer)
        heads = self._attentions[layer].num_attention_heads
        return split_heads(self._kept[layer, 0], heads), split_heads(self._kept[layer, 1], heads)

    def forget(self) -> None:
        """Free the projections; they are recomputed on demand."""
        self._kept = None
        self._done.clear()

    def part(self, samples: slice) -> Projections:
        """The projections of some of the samples; shares memory."""
        return _PartOf(self, samples)

    def _project(self, layer: int, place: Tensor) -> None:
        """Write keys and values of a layer to `place`, (2, S, T, D)."""
        attention, tokens = self._attentions[layer], self.tokens.flatten(0, 1)
        for module, out in zip((attention.key, attention.value), place.flatten(1, 2), strict=True):
            if not is_linear(module):
                out.copy_(module(self.tokens).flatten(0, 1))
            elif self._bias:
                torch.addmm(module.bias, tokens, module.weight.t(), out=out)
            else:
                torch.mm(tokens, module.weight.t(), out=out)


class _PartOf(Projections):
    """Some of the samples of other projections."""

    def __init__(self, whole: Projections, samples: slice) -> None:
        self.tokens = part_of(whole.tokens, samples)
        self._whole, self._samples = whole, samples

    def __call__(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self._whole(layer)
        return part_of(keys, self._samples), part_of(values, self._samples)


class _Joined(Projections):
    """Those of several sets of image tokens, one after the other; each of them keeps its own."""

    def __init__(self, parts: Sequence[tuple[ImageKV, int]]) -> None:
        self.tokens = torch.cat([kv.states()[:, 0].expand(samples, -1, -1) for kv, samples in parts])
        self._parts = parts

    def __call__(self, layer: int) -> tuple[Tensor, Tensor]:
        each = [(kv.keys_values(layer), samples) for kv, samples in self._parts]
        keys, values = (torch.cat([both[at].expand(samples, -1, -1, -1) for both, samples in each]) for at in range(2))
        return keys, values


def joined(layers: Sequence[Any], parts: Sequence[tuple[ImageKV, int]]) -> ImageKV:
    """Several pictures, each as so many samples see it, as one, which keeps nothing itself."""
    return ImageKV(layers, _Joined(parts))


class ImageKV:
    """Image tokens as the question encoder sees them: clean + strength * delta, one set per sample.

    Args:
        layers: the question encoder's layers.
        clean: projections of the clean tokens.
        delta: projections of what a corruption adds to them, or None.
        strength: the corruption's strength.
    """

    def __init__(
        self, layers: Sequence[Any], clean: Projections, delta: Projections | None = None, strength: float = 0.0
    ) -> None:
        self._layers, self._clean, self._delta, self._strength = layers, clean, delta, strength
        self._sum: Projections | None = None  # of the corrupted tokens themselves, for non-linear layers

    @property
    def device(self) -> torch.device:
        """The device of the tokens."""
        return self._clean.tokens.device

    def plus(self, delta: Projections, strength: float) -> ImageKV:
        """These tokens plus strength * delta; shares their projections."""
        return ImageKV(self._layers, self._clean, delta, strength)

    def forget(self) -> None:
        """Free the projections of these samples."""
        (self._clean if self._delta is None else self._delta).forget()
        if self._sum is not None:
            self._sum.forget()

    def part(self, samples: slice) -> ImageKV:
        """The tokens of some of the samples; shares their projections."""
        delta = self._delta and self._delta.part(samples)
        part = ImageKV(self._layers, self._clean.part(samples), delta, self._strength)
        if delta is not None and not all(map(are_linear, self._layers)):
            part._sum = self._damaged().part(samples)
        return part

    def states(self) -> Tensor:
        """See `CrossAttentionKV.states`."""
        tokens = self._clean.tokens
        if self._delta is not None:
            tokens = torch.add(tokens, self._delta.tokens, alpha=self._strength)
        return tokens[:, None]

    def _damaged(self) -> Projections:
        if self._sum is None:
            self._sum = Projections(self._layers, self.states()[:, 0], bias=True)
        return self._sum

    def keys_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each (S, H, T, d)."""
        if self._delta is not None and not are_linear(self._layers[layer]):
            return self._damaged()(layer)
        keys, values = self._clean(layer)
        if self._delta is not None:
            delta_keys, delta_values = self._delta(layer)
            keys = torch.add(keys, delta_keys, alpha=self._strength)
            values = torch.add(values, delta_values, alpha=self._strength)
        return keys, values

    def context(self, layer: int, rows: Tensor, cut: Tensor | None = None) -> Tensor:
        """See `CrossAttentionKV.context`."""
        attention = self._layers[layer].crossattention.self
        keys, values = self.keys_values(layer)
        queries = attention.query(rows)
        samples, count, width = queries.shape
        # If all samples share one set of keys, their queries are batched into one row.
        queries = split_heads(queries.reshape(keys.shape[0], -1, width), attention.num_attention_heads)
        if cut is None:
            context = scaled_dot_product_attention(queries, keys, values)
        else:
            context = cut_softmax(attention_scores(queries, keys), cut) @ values
        return join_heads(context).reshape(samples, count, width)

    def weights(self, layer: int, rows: Tensor) -> Tensor:
        """The attention weights, (S, R, D) -> (S, H, R, T)."""
        attention = self._layers[layer].crossattention.self
        keys, _ = self.keys_values(layer)
        return attention_scores(split_heads(attention.query(rows), attention.num_attention_heads), keys).softmax(-1)


class AbsorbedKV:
    """Tokens of which every run has its own set, or all runs of a sample share one.

    Args:
        layers: the block's layers.
        tokens: (S or 1, C or 1, T, D).
    """

    def __init__(self, layers: Sequence[Any], tokens: Tensor) -> None:
        self._layers, self._tokens = layers, tokens

    def states(self) -> Tensor:
        """See `CrossAttentionKV.states`."""
        return self._tokens

    def context(self, layer: int, rows: Tensor, cut: Tensor | None = None) -> Tensor:
        """See `CrossAttentionKV.context`; each of the C runs has the same number of rows."""
        if not are_linear(self._layers[layer]):
            return self._projected(layer, rows, cut)[0]
        attention = self._layers[layer].crossattention.self
        heads, size = attention.num_attention_heads, attention.attention_head_size
        samples, count, width = rows.shape
        weights = self._absorbed(layer, rows, cut)  # (sets, C, R', T), R' rows x heads
        tokens = self._sets(samples)
        wide = tokens.shape[-1]
        mixed = (weights @ tokens).view(samples * count, heads, wide).transpose(0, 1)
        context = torch.bmm(mixed, attention.value.weight.view(heads, size, wide).transpose(1, 2)).transpose(0, 1)
        bias: Tensor = attention.value.bias
        if cut is not None:  # a row without any edge gets nothing, not even the bias
            flows = weights.sum(-1).view(samples * count, heads, 1)
            bias = (flows * bias.view(heads, size)).reshape(samples, count, width)
        return context.reshape(samples, count, width) + bias

    def weights(self, layer: int, rows: Tensor) -> Tensor:
        """The attention weights, (S, R, D) -> (S, H, R, T)."""
        if not are_linear(self._layers[layer]):
            return self._projected(layer, rows, None)[1]
        heads = self._layers[layer].crossattention.self.num_attention_heads
        weights = self._absorbed(layer, rows, None)
        return weights.reshape(rows.shape[0], rows.shape[1], heads, -1).transpose(1, 2)

    def _absorbed(self, layer: int, rows: Tensor, cut: Tensor | None) -> Tensor:
        """Weights by absorbed projections, (sets, C, rows of a run x heads, T)."""
        attention = self._layers[layer].crossattention.self
        heads, size = attention.num_attention_heads, attention.attention_head_size
        samples, count, _ = rows.shape
        tokens = self._sets(samples)
        queries = attention.query(rows).view(samples * count, heads, size).transpose(0, 1)
        absorbed = torch.bmm(queries, attention.key.weight.view(heads, size, -1)).transpose(0, 1)
        absorbed = absorbed.reshape(*tokens.shape[:2], -1, tokens.shape[-1])
        scores = absorbed @ tokens.transpose(-1, -2) / math.sqrt(size)
        if cut is None:
            return scores.softmax(-1)
        seen = tokens.shape[2]
        edges = cut.to(scores.device).expand(heads, -1, seen).transpose(0, 1).reshape(-1, seen)
        return cut_softmax(scores, edges)

    def _projected(self, layer: int, rows: Tensor, cut: Tensor | None) -> tuple[Tensor, Tensor]:
        """Context vectors (S, R, D) and weights (S, H, R, T), by calling the projections."""
        attention = self._layers[layer].crossattention.self
        heads, (samples, count, width) = attention.num_attention_heads, rows.shape
        sets, runs = self._tokens.shape[:2]
        tokens = self._tokens.flatten(0, 1)
        keys, values = (split_heads(module(tokens), heads) for module in (attention.key, attention.value))
        keys, values = (projected.view(sets, runs, *projected.shape[1:]) for projected in (keys, values))
        queries = split_heads(attention.query(rows).reshape(samples * runs, -1, width), heads)
        scores = attention_scores(queries.view(samples, runs, *queries.shape[1:]), keys)
        weights = scores.softmax(-1) if cut is None else cut_softmax(scores, cut)  # (S, C, H, rows of a run, T)
        context = join_heads((weights @ values).flatten(0, 1)).reshape(samples, count, width)
        return context, weights.transpose(1, 2).reshape(samples, heads, count, -1)

    def _sets(self, samples: int) -> Tensor:
        """The tokens, (sets, C or 1, T, D): if all samples share one set, their queries are batched into its rows."""
        shared = self._tokens.shape[0] == 1 and self._tokens.shape[1] > 1
        return self._tokens.expand(samples, -1, -1, -1) if shared else self._tokens


class SwappedKV:
    """Image tokens of which every run takes a few from another run, without any new projection.

    A run's attention scores differ from those of the base tokens only in its own few columns, so all runs of a sample
    share one large product, and each gets its columns by a small one.

    Args:
        layers: the question encoder's layers.
        base: the tokens that all runs see.
        source: the tokens that runs take theirs from.
        groups: the tokens that each run takes, at least one.
    """

    def __init__(self, layers: Sequence[Any], base: ImageKV, source: ImageKV, groups: Sequence[Sequence[int]]) -> None:
        self._layers, self._base, self._source = layers, base, source
        widest, device = max(map(len, groups)), base.device
        # Shorter groups are padded with their first token: harmless where scores are written, masked where summed.
        padded = [[len(group), *group, *[group[0]] * (widest - len(group))] for group in groups]
        sizes_and_groups = to_device(torch.tensor(padded), device)  # one copy
        self._groups = sizes_and_groups[:, 1:]
        self._once = torch.arange(widest, device=device) < sizes_and_groups[:, :1]

    def weights(self, layer: int, rows: Tensor) -> Tensor:
        """Not needed, see `CrossAttentionKV.weights`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def states(self) -> Tensor:
        """See `CrossAttentionKV.states`."""
        base, source, runs = self._base.states(), self._source.states(), self._groups.shape[0]
        samples = max(base.shape[0], source.shape[0])
        index = self._groups[:, :, None].expand(samples, runs, -1, base.shape[-1])
        taken = source.expand(samples, runs, -1, -1).gather(2, index)
        return base.expand(samples, runs, -1, -1).scatter(2, index, taken)

    def context(self, layer: int, rows: Tensor, cut: Tensor | None = None) -> Tensor:
        """See `CrossAttentionKV.context`; edges cannot be cut here."""
        assert cut is None
        attention = self._layers[layer].crossattention.self
        heads, size = attention.num_attention_heads, attention.attention_head_size
        samples, count, _ = rows.shape
        runs, taken = self._groups.shape
        (base_keys, base_values), (keys, values) = self._base.keys_values(layer), self._source.keys_values(layer)
        own = self._groups.flatten()
        old = base_values[:, :, own].view(-1, heads, runs, taken, size)
        own_keys = keys[:, :, own].view(-1, heads, runs, taken, size)
        own_values = values[:, :, own].view(-1, heads, runs, taken, size)

        queries = split_heads(attention.query(rows), heads) / math.sqrt(size)
        scores = (queries @ base_keys.transpose(-1, -2)).view(samples, heads, runs, count // runs, -1)
        columns = self._groups[:, None, :].expand(samples, heads, runs, count // runs, taken)
        scores.scatter_(-1, columns, queries.view(samples, heads, runs, -1, size) @ own_keys.transpose(-1, -2))
        weights = scores.softmax(-1)
        of_own = weights.gather(-1, columns) * self._once[:, None, :]
        context = weights.view(samples, heads, count, -1) @ base_values
        context = context + (of_own @ (own_values - old)).view(samples, heads, count, size)
        return join_heads(context)


def are_linear(layer: Any) -> bool:
    """Whether a layer's cross-attention projects keys and values by plain `Linear` modules."""
    attention = layer.crossattention.self
    return is_linear(attention.key) and is_linear(attention.value)


def part_of(tensor: Tensor, samples: slice) -> Tensor:
    """Some of the samples of (S, ...); what is the same for every sample, (1, ...), is returned unchanged."""
    return tensor if tensor.shape[0] == 1 else tensor[samples]


def attention_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Scaled products, (B, H, R, d) and (B, H, T, d) -> (B, H, R, T)."""
    return queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])


def cut_softmax(scores: Tensor, cut: Tensor) -> Tensor:
    """Softmax over the last axis with some edges removed; a row without any edge left gets weights of 0."""
    return scores.masked_fill(cut, -math.inf).softmax(-1).nan_to_num(0.0)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """Split the width into heads, (B, R, D) -> (B, H, R, d)."""
    return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)


def join_heads(context: Tensor) -> Tensor:
    """Join heads into the width, (B, H, R, d) -> (B, R, D)."""
    return context.transpose(1, 2).flatten(2)
