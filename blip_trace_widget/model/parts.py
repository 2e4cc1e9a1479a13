"""The parts of a BLIP question answering model: its three blocks, its sizes, and how each block is computed.

For: everything that needs the model's modules, by the one table of them (`BLOCKS`).
Cost: inspecting every module (`set_blocks`).
Ends: at modules. `blip_trace_widget.model.admission` checks them; `blip_trace_widget.model.blip` loads, watches and
calls them.
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
    """The parts of a BLIP model and its processor.

    Args:
        hf: transformers' `BlipForQuestionAnswering`.
        processor: its `BlipProcessor`.

    Attributes:
        hf: the model.
        processor: its processor.
        blocks: block -> how it is computed: `untouched` if any of its modules is not BLIP's own, else by shortcuts.
        untouched: block -> the block run by the model's own forward.
        changed: block -> the names of its modules that are not BLIP's own, each with the reason.
    """

    blocks: dict[str, Block]
    untouched: dict[str, HookedBlock]
    changed: dict[str, dict[str, str]]

    def __init__(self, hf: Any, processor: Any) -> None:
        self.hf: Any = hf
        self.processor: Any = processor

    def set_blocks(self) -> None:
        """Choose how each block is computed: by shortcuts if its modules are all BLIP's own, else under hooks."""
        self.untouched = {name: self._hooked(name) for name in BLOCKS}
        self.changed = {
            name: dict(changed_modules(self.hf.get_submodule(sites.part), sites.part)) for name, sites in BLOCKS.items()
        }
        self.blocks = {name: self.untouched[name] if self.changed[name] else self._stepped(name) for name in BLOCKS}

    def _hooked(self, name: str) -> HookedBlock:
        """A block run by the model's own forward."""
        config, image = self.hf.config, name == "image_encoder"
        heads = int((config.vision_config if image else config.text_config).num_attention_heads)
        last = self.hf.vision_model.post_layernorm if image else None
        return HookedBlock(self._layers(name), self._stack(name), heads, BLOCKS[name], last)

    def _stepped(self, name: str) -> Block:
        """A block computed by shortcuts."""
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
        """The module whose output is the input of a block's first layer."""
        return self.hf.get_submodule(BLOCKS[block].embeddings)

    @property
    def image_encoder(self) -> Block:
        """The ViT's layers."""
        return self.blocks["image_encoder"]

    @property
    def question_encoder(self) -> Block:
        """The layers that read the question, and attend to the image tokens."""
        return self.blocks["question_encoder"]

    @property
    def answer_decoder(self) -> Block:
        """The layers that write the answer, and attend to the question."""
        return self.blocks["answer_decoder"]

    @property
    def plain(self) -> bool:
        """Whether all modules are BLIP's own."""
        return not any(self.changed.values())

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return torch.device(self.hf.device)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating point type."""
        kind: torch.dtype = self.hf.dtype
        return kind

    @property
    def layers(self) -> int:
        """Number of layers of the question encoder, and of the answer decoder."""
        return len(self.question_encoder.layers)

    @property
    def heads(self) -> int:
        """Number of attention heads in each of those layers."""
        return self.question_encoder.heads

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image patches."""
        vision = self.hf.config.vision_config
        side = int(vision.image_size) // int(vision.patch_size)
        return side, side

    @property
    def image_token_count(self) -> int:
        """Number of image tokens: the class token and the patches."""
        rows, columns = self.grid
        return 1 + rows * columns

    @property
    def image_width(self) -> int:
        """Width of an image token."""
        return int(self.hf.config.vision_config.hidden_size)

    @property
    def start_id(self) -> int:
        """Id of the decoder's start token."""
        return int(self.hf.decoder_start_token_id)

    @property
    def end_id(self) -> int:
        """Id of the token that ends an answer."""
        return int(self.hf.config.text_config.sep_token_id)
