"""The two kinds of blocks that BLIP consists of, computed layer by layer with the model's own modules.

For: `blip_trace_widget.model.block`, which does not know how a layer is built. `TextBlock` is the question encoder and
the answer decoder (BERT's layers: post-norm, with cross-attention), `ImageBlock` the ViT (pre-norm).
Cost: the layer's own arithmetic; nothing is computed for keys that no query needs.
Ends: at one layer's rows. It relies on the module names that the checkpoint fixes (``query``, ``key``, ``value``,
``output.dense``, ``LayerNorm``, ``intermediate``; ``qkv``, ``projection``, ``mlp``, ``layer_norm1``), not on call
signatures, which change between versions of transformers.

Shapes as in `blip_trace_widget.model.block`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from blip_trace_widget.model.block import Edit, SteppedBlock
from blip_trace_widget.model.cross_attention import (
    CrossAttentionKV,
    attention_scores,
    cut_softmax,
    join_heads,
    split_heads,
)


class TextBlock(SteppedBlock):
    """The question encoder's or the answer decoder's layers.

    Args:
        layers: transformers' ``BlipTextLayer`` modules.
        causal: whether a position sees only itself and earlier ones (the decoder).
    """

    stages: tuple[str, ...] = (
        "self_context",
        "self_attention_out",
        "self_attention",
        "cross_context",
        "cross_attention_out",
        "cross_attention",
        "mlp",
        "block_output",
    )

    def __init__(self, layers: Iterable[Any], *, causal: bool) -> None:
        super().__init__(layers)
        self.heads = int(self.layers[0].attention.self.num_attention_heads)
        self._causal = causal

    def self_context(self, layer: int, states: Tensor, cut: Tensor | None = None) -> Tensor:
        """See `SteppedBlock.self_context`."""
        attention = self.layers[layer].attention.self
        samples, runs, positions, width = states.shape
        flat = states.reshape(samples * runs, positions, width)
        if positions == 1 and cut is None:  # a softmax over a single key is 1
            alone: Tensor = attention.value(flat)
            return alone.reshape(samples, runs, width)
        queries, keys, values = (
            split_heads(module(flat), self.heads) for module in (attention.query, attention.key, attention.value)
        )
        if cut is None:
            context = scaled_dot_product_attention(queries, keys, values, is_causal=self._causal)
        else:
            unseen = cut | self._later(positions, cut.device) if self._causal else cut
            context = cut_softmax(attention_scores(queries, keys), unseen) @ values
        return join_heads(context).reshape(samples, runs * positions, width)

    def self_weights(self, layer: int, states: Tensor) -> Tensor:
        """See `SteppedBlock.self_weights`."""
        attention = self.layers[layer].attention.self
        queries, keys = (split_heads(module(states), self.heads) for module in (attention.query, attention.key))
        scores = attention_scores(queries, keys)
        if self._causal:
            scores = scores.masked_fill(self._later(states.shape[1], scores.device), -math.inf)
        return scores.softmax(-1)

    @staticmethod
    def _later(positions: int, device: torch.device) -> Tensor:
        """The edges from a position to later ones, (n, n) bool."""
        return torch.ones((positions, positions), dtype=torch.bool, device=device).triu(1)

    def step(
        self,
        layer: int,
        context: Tensor,
        residual: Tensor,
        kv: CrossAttentionKV | None,
        edit: Edit,
        cut: Tensor | None = None,
    ) -> Tensor:
        """See `SteppedBlock.step`."""
        assert kv is not None
        module = self.layers[layer]
        context = edit("self_context", context)
        added = edit("self_attention_out", module.attention.output.dense(context))
        attended = edit("self_attention", module.attention.output.LayerNorm(added + residual))
        context = edit("cross_context", kv.context(layer, attended, cut))
        added = edit("cross_attention_out", module.crossattention.output.dense(context))
        crossed = edit("cross_attention", module.crossattention.output.LayerNorm(added + attended))
        mlp = edit("mlp", module.output.dense(module.intermediate(crossed)))
        return edit("block_output", module.output.LayerNorm(mlp + crossed))


class ImageBlock(SteppedBlock):
    """The ViT's layers.

    Args:
        layers: transformers' ``BlipEncoderLayer`` modules.
        last: the module after them, ``post_layernorm``.
    """

    stages: tuple[str, ...] = ("self_context", "self_attention_out", "mlp", "block_output")

    def __init__(self, layers: Iterable[Any], last: Any) -> None:
        super().__init__(layers)
        self.heads = int(self.layers[0].self_attn.num_heads)
        self._last = last

    def tokens(self, output: Tensor) -> Tensor:
        """The image tokens from the last layer's output, (..., D) -> (..., D)."""
        tokens: Tensor = self._last(output)
        return tokens

    def self_context(self, layer: int, states: Tensor, cut: Tensor | None = None) -> Tensor:
        """See `SteppedBlock.self_context`; no edges are cut in the ViT."""
        assert cut is None
        samples, runs, positions, width = states.shape
        queries, keys, values = self._projected(layer, states.reshape(samples * runs, positions, width))
        context = join_heads(scaled_dot_product_attention(queries, keys, values))
        return context.reshape(samples, runs * positions, width)

    def self_weights(self, layer: int, states: Tensor) -> Tensor:
        """See `SteppedBlock.self_weights`."""
        queries, keys, _ = self._projected(layer, states)
        return attention_scores(queries, keys).softmax(-1)

    def _projected(self, layer: int, states: Tensor) -> Tensor:
        """Queries, keys and values, (S, n, D) -> (3, S, H, n, d)."""
        module = self.layers[layer]
        mixed: Tensor = module.self_attn.qkv(module.layer_norm1(states))
        return mixed.view(*mixed.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def step(
        self,
        layer: int,
        context: Tensor,
        residual: Tensor,
        kv: CrossAttentionKV | None,  # noqa: ARG002 - the ViT has no cross-attention
        edit: Edit,
        cut: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """See `SteppedBlock.step`."""
        module = self.layers[layer]
        context = edit("self_context", context)
        attended = edit("self_attention_out", module.self_attn.projection(context)) + residual
        mlp = edit("mlp", module.mlp(module.layer_norm2(attended)))
        return edit("block_output", mlp + attended)
