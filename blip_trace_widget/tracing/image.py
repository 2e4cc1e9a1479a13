"""One image as runs see it: clean, and corrupted before or after the ViT.

For: sharing the one ViT pass and the projections among all questions, noise factors and cells.
Cost: a ViT pass for the clean image. A corruption after the ViT costs no further pass; one of the patch embeddings
costs a pass per sample (BLIP base at 384 px: about 110 GFLOP), a few samples at a time.
Ends: at the image that a run sees (`ImageView`); `blip_trace_widget.tracing.runs` runs the text blocks on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.block import Activations, as_it_is
from blip_trace_widget.model.cross_attention import ImageKV, Projections
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.model.transfer import on_cpu
from blip_trace_widget.pictures import jpeg, picture_hash
from blip_trace_widget.tracing.corruption import ALL, Corruption
from blip_trace_widget.tracing.delta import checked_delta
from blip_trace_widget.tracing.lazy import Latest, lazy
from blip_trace_widget.tracing.memory_budget import chunk_rows
from blip_trace_widget.tracing.overflow import check_embeddings, check_keys_values, check_strength

#: Samples whose noise `ImageTokens.damage` measures at a time.
TOGETHER = 32


@dataclass(frozen=True)
class ImageView:
    """The image as a run sees it.

    Attributes:
        kv: the image tokens as keys and values of the question encoder's cross-attention.
        activations: the ViT's states that led to them, (S, image tokens, width) per stage and layer; if asked for.
    """

    kv: ImageKV
    activations: Activations | None = None

    def part(self, samples: slice) -> ImageView:
        """The image as some of the samples see it."""
        return ImageView(self.kv.part(samples), self.activations and self.activations.part(samples))


class ImageTokens:
    """One image as the question encoder sees it, clean and corrupted.

    Args:
        model: the model.
        image: the picture, RGB; embedded once, at the first use.
    """

    def __init__(self, model: BlipVqa, image: Image.Image) -> None:
        self.model = model
        self.image = image
        self._sha256: str | None = None
        # For one corruption at any strength; their keys are the model's version and the corruption at strength 1.
        self._noise: Latest[Projections] = Latest()
        self._damage: Latest[NDArray[np.float64]] = Latest()

    @property
    def _layers(self) -> list[Any]:
        return self.model.question_encoder.layers

    def sha256(self) -> str:
        """Hash of the picture's size and pixels; computed once, without the model's lock, as it needs no model."""
        if self._sha256 is None:
            self._sha256 = picture_hash(self.image)
        return self._sha256

    @lazy
    def jpeg(self, _check: Check) -> bytes:
        """The picture as JPEG bytes, shrunk for display."""
        return jpeg(self.image)

    @lazy
    def clean_tokens(self, _check: Check) -> Tensor:
        """The ViT's output for the clean image, (image tokens, width)."""
        return self.model.embed_image(self.image)

    @classmethod
    def embed_together(cls, images: Sequence[ImageTokens]) -> None:
        """Run the ViT over several images of one model, as many at once as a chunk of rows takes."""
        new = [image for image in dict.fromkeys(images) if image.clean_tokens.known is None]
        if not new:
            return
        model = new[0].model
        together = max(1, chunk_rows(model.device, model.image_width, model.limits) // model.image_token_count)
        for start in range(0, len(new), together):
            few = new[start : start + together]
            for image, tokens in zip(few, model.embed_images([each.image for each in few]), strict=True):
                image.clean_tokens.keep(tokens)

    @classmethod
    def see_together(cls, images: Sequence[ImageTokens]) -> ImageKV:
        """The clean images, one per sample; each `ImageTokens` keeps its share of the projections."""
        if len(set(images)) == 1:  # several questions about one picture: their queries are batched into one row
            return images[0].clean().kv
        layers = images[0]._layers
        tokens = torch.stack([image.clean_tokens() for image in images])
        kv = ImageKV(layers, Projections(layers, tokens, bias=True))
        for at, image in enumerate(images):
            if image.clean.known is None:
                image.clean.keep(ImageView(kv.part(slice(at, at + 1))))
        return kv

    @lazy
    def patch_embeddings(self, _check: Check) -> Tensor:
        """The input of the ViT's first layer, (image tokens, width)."""
        return self.model.embed_patches(self.image)

    @lazy
    def clean(self, _check: Check) -> ImageView:
        """The image as the clean run sees it."""
        return ImageView(ImageKV(self._layers, Projections(self._layers, self.clean_tokens()[None], bias=True)))

    @lazy
    def clean_with_states(self, check: Check) -> ImageView:
        """The clean image with the ViT's states."""
        states = self.model.image_encoder.record(self.patch_embeddings()[None], None, check)
        return ImageView(self.clean().kv, states)

    def corrupted(
        self,
        corruption: Corruption,
        part: slice = ALL,
        check: Check = no_check,
        *,
        with_states: bool = False,
        keep: bool = True,
    ) -> ImageView:
        """The image as the corrupted runs see it.

        Args:
            corruption: how the image is corrupted.
            part: which of its samples.
            check: called once per layer of the ViT; may raise `blip_trace_widget.model.block.Cancelled`.
            with_states: whether to record the ViT's states, for corruptions of the patch embeddings.
            keep: whether to keep the projected noise, which holds for every strength, for the next call.
        """
        if not corruption.damages_image:
            return self.clean()
        check_strength(self.model, corruption)
        if corruption.at == "patch_embeddings":
            return self._through_the_vit(corruption, part, check, with_states=with_states)
        if keep:
            key = self.model.version, corruption.unit()
            noise = self._noise.get(key, lambda: self._project(corruption, part))
        else:
            noise = self._project(corruption, part)
        kv = self.clean().kv.plus(noise, corruption.strength)
        check_embeddings(kv.states(), self.model, corruption)
        check_keys_values(kv, self.model, corruption)
        return ImageView(kv)

    def damage(self, corruption: Corruption) -> NDArray[np.float64]:
        """Norm of what a corruption adds to each embedding, divided by the norm of the clean one, (image tokens,).

        A root mean square over samples. Kept for other strengths of the same corruption.
        """
        key = self.model.version, corruption.unit()
        return np.asarray(abs(corruption.strength) * self._damage.get(key, lambda: self._unit_damage(corruption)))

    def _unit_damage(self, corruption: Corruption) -> NDArray[np.float64]:
        clean = (self.patch_embeddings if corruption.at == "patch_embeddings" else self.clean_tokens)()
        clean = clean.float()
        squares = np.zeros(clean.shape[0])
        for start in range(0, corruption.samples, TOGETHER):
            delta = checked_delta(corruption, clean, self.model, slice(start, start + TOGETHER))
            squares += on_cpu(delta.square().sum(-1)).sum(0)
        length = on_cpu(clean.square().sum(-1))
        return np.asarray(np.sqrt(squares / corruption.samples / np.maximum(length, 1e-60)))

    def _project(self, corruption: Corruption, part: slice) -> Projections:
        clean = self.clean_tokens()
        delta = checked_delta(corruption, clean, self.model, part)
        return Projections(self._layers, delta.to(clean.dtype), bias=False)

    def _through_the_vit(self, corruption: Corruption, part: slice, check: Check, *, with_states: bool) -> ImageView:
        clean = self.patch_embeddings()
        delta = checked_delta(corruption, clean, self.model, part).to(clean.dtype)
        damaged = torch.add(clean, delta, alpha=corruption.strength)
        check_embeddings(damaged, self.model, corruption)
        block = self.model.image_encoder
        states = None
        if with_states:
            states = block.record(damaged, None, check)
            tokens = block.tokens(states.output)
        else:
            together = max(1, chunk_rows(clean.device, clean.shape[1], self.model.limits) // clean.shape[0])
            tokens = torch.cat(
                [block.tokens(block.run(few, None, check, as_it_is)) for few in torch.split(damaged, together)]
            )
        return ImageView(ImageKV(self._layers, Projections(self._layers, tokens, bias=True)), states)
