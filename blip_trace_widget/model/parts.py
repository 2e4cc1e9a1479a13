"""What a BLIP question answering model is made of: its three blocks, its sizes, and how each block is computed.

For: whoever needs the model's modules, by the one table of them (`BLOCKS`).
Cost: a look at every module (`set_blocks`).
Ends: at modules. Whether they fit, and can be traced, is `blip_trace_widget.model.admission`'s; loading, watching and
calling them `blip_trace_widget.model.blip`'s.
"""

from __future__ import annotations

from typing import Any

import torch

from blip_trace_widget.model.block import Block
from blip_trace_widget.model.hooked import HookedBlock, Stack
from blip_trace_widget.model.layers import ImageBlock, TextBlock
from blip_trace_widget.model.modules import changed_modules
from blip_trace_widget.states import BLOCKS


class BlipParts:
    """A BLIP model with its processor, taken apart.

    Args:
        hf: transformers' `BlipForQuestionAnswering`.
        processor: its `BlipProcessor`.

    Attributes:
        hf: the model.
        processor: its processor.
        blocks: each block, as it is computed.
        untouched: each block by the model's own forward.
        changed: of each block the modules because of which it is computed by its own forward, and what they are.
    """

    blocks: dict[str, Block]
    untouched: dict[str, HookedBlock]
    changed: dict[str, dict[str, str]]

    def __init__(self, hf: Any, processor: Any) -> None:
        self.hf: Any = hf
        self.processor: Any = processor

    def set_blocks(self) -> None:
        """Choose how each block is computed: by shortcuts where its modules are all BLIP's own, else by hooks."""
        self.untouched = {name: self._hooked(name) for name in BLOCKS}
        self.changed = {
            name: dict(changed_modules(self.hf.get_submodule(sites.part), sites.part)) for name, sites in BLOCKS.items()
        }
        self.blocks = {name: self.untouched[name] if self.changed[name] else self._stepped(name) for name in BLOCKS}

    def _hooked(self, name: str) -> HookedBlock:
        """A block by the model's own forward."""
        config, image = self.hf.config, name == "image_encoder"
        heads = int((config.vision_config if image else config.text_config).num_attention_heads)
        last = self.hf.vision_model.post_layernorm if image else None
        return HookedBlock(self._layers(name), self._stack(name), heads, BLOCKS[name], last)

    def _stepped(self, name: str) -> Block:
        """A block by shortcuts."""
        if name == "image_encoder":
            return ImageBlock(self._layers(name), self.hf.vision_model.post_layernorm)
        return TextBlock(self._layers(name), causal=name == "answer_decoder")

    def _layers(self, name: str) -> Any:
        return self.hf.get_submodule(BLOCKS[name].layers)

    def _stack(self, name: str) -> Stack:
        """A call of the module that runs all layers of a block."""
        module = self.hf.get_submodule(BLOCKS[name].stack)
        if name == "image_encoder":
            return lambda rows, _seen: module(inputs_embeds=rows).last_hidden_state
        decoding = {"is_decoder": True, "use_cache": False} if name == "answer_decoder" else {}
        return lambda rows, seen: module(encoder_embeds=rows, encoder_hidden_states=seen, **decoding).last_hidden_state

    def embeddings(self, block: str) -> Any:
        """The module that makes the input of a block's first layer."""
        return self.hf.get_submodule(BLOCKS[block].embeddings)

    @property
    def image_encoder(self) -> Block:
        """The ViT's layers."""
        return self.blocks["image_encoder"]

    @property
    def question_encoder(self) -> Block:
        """The layers that read the question, and look at the image tokens."""
        return self.blocks["question_encoder"]

    @property
    def answer_decoder(self) -> Block:
        """The layers that write the answer, and look at the question."""
        return self.blocks["answer_decoder"]

    @property
    def plain(self) -> bool:
        """Whether all modules are BLIP's own."""
        return not any(self.changed.values())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.hf.device)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating point type."""
        kind: torch.dtype = self.hf.dtype
        return kind

    @property
    def layers(self) -> int:
        """Layers of the question encoder, and of the answer decoder."""
        return len(self.question_encoder.layers)

    @property
    def heads(self) -> int:
        """Attention heads of each of those layers."""
        return self.question_encoder.heads

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image patches."""
        vision = self.hf.config.vision_config
        side = int(vision.image_size) // int(vision.patch_size)
        return side, side

    @property
    def image_token_count(self) -> int:
        """Image tokens: the class token and the patches."""
        rows, columns = self.grid
        return 1 + rows * columns

    @property
    def image_width(self) -> int:
        """Numbers of an image token."""
        return int(self.hf.config.vision_config.hidden_size)

    @property
    def start_id(self) -> int:
        """The decoder's start token."""
        return int(self.hf.decoder_start_token_id)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return int(self.hf.config.text_config.sep_token_id)
