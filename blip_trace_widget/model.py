"""BLIP for visual question answering, as the tracer needs it.

For: loading a model (built-in, hub, folder, or given objects), embedding an image, tokenizing a question, spelling an
answer. The one place that knows transformers' loaders and processors.
Cost: loading; one ViT pass for each `embed_image` (BLIP base at 384 px: about 110 GFLOP).
Ends: at tokens and embeddings. Runs and patches are `blip_trace_widget.runs`'.

A model is used by one thread at a time: hold `BlipVqa.lock` around anything that calls it. The tokenizer has a lock of
its own, so that reading a question never waits for a computation.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers import AutoTokenizer, BlipForQuestionAnswering, BlipProcessor
from transformers.configuration_utils import PretrainedConfig
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.utils import logging as transformers_logging

from blip_trace_widget import __version__
from blip_trace_widget.blocks import ImageBlock, TextBlock
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.forward import Block
from blip_trace_widget.unpicklable import Unpicklable

ImageLike: TypeAlias = "Image.Image | np.ndarray[Any, Any] | str | os.PathLike[str] | bytes"

_LOCKS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_DEMOS: WeakValueDictionary[tuple[str, str], BlipVqa] = WeakValueDictionary()


class BlipVqa(Unpicklable):
    """A BLIP question answering model with its processor.

    Args:
        model: transformers' `BlipForQuestionAnswering`; put into evaluation mode, otherwise left as it is.
        processor: its `BlipProcessor`.
        name: what to call it in results and on screen.

    Raises:
        TypeError: if either is something else.
    """

    instead = "load it again where it is needed: BlipVqa.from_pretrained(…), or BlipVqa.demo()"

    def __init__(self, model: BlipForQuestionAnswering, processor: BlipProcessor, *, name: str = "") -> None:
        if not isinstance(model, BlipForQuestionAnswering):
            raise TypeError(f"model: expected transformers' BlipForQuestionAnswering, got {type(model).__name__}")
        if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
            raise TypeError(f"processor: expected transformers' BlipProcessor, got {type(processor).__name__}")
        self.hf = cast("Any", model)
        self.hf.eval()
        self.processor: Any = processor
        self.built_in = False
        #: What `from_pretrained` was given; "" for a model that was handed over.
        self.source = ""
        self.name = name or str(getattr(model.config, "_name_or_path", "")) or "BLIP"
        self._provenance: dict[str, Any] | None = None
        self.lock = _LOCKS.setdefault(model, threading.RLock())
        self._words_lock = _LOCKS.setdefault(processor.tokenizer, threading.RLock())
        vision = self.hf.vision_model
        self.image_encoder = ImageBlock(vision.encoder.layers, vision.post_layernorm)
        self.question_encoder = TextBlock(self.hf.text_encoder.encoder.layer, causal=False)
        self.answer_decoder = TextBlock(self.hf.text_decoder.bert.encoder.layer, causal=True)
        self.blocks: dict[str, Block] = {
            "image_encoder": self.image_encoder,
            "question_encoder": self.question_encoder,
            "answer_decoder": self.answer_decoder,
        }

    @classmethod
    def demo(cls, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> BlipVqa:
        """The built-in tiny model, trained on pictures of coloured shapes; needs no network.

        Calls that overlap in time share one instance.
        """
        key = (str(device), str(dtype))
        model = _DEMOS.get(key)
        if model is None:
            model = cls.from_pretrained(MODEL_FOLDER, device=device, dtype=dtype, local_files_only=True)
            model.name = "built-in"
            model.built_in = True
            _DEMOS[key] = model
        return model

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> BlipVqa:
        """Load a hub id or a folder. Weights must be safetensors; code from the hub is never run.

        Args:
            name: for instance ``"Salesforce/blip-vqa-base"``, or a folder written by ``save_pretrained``.
            device: where to compute; default the GPU if there is one, else the CPU.
            dtype: for instance ``"bfloat16"``; default float32.
            revision: branch, tag or commit on the hub.
            local_files_only: use the cache alone.

        Raises:
            ValueError: if it is no BLIP question answering model.
            OSError: if it cannot be found, reached or read.
        """
        if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
            raise TypeError(f"model: expected a hub id or a folder, got {type(name).__name__} {name!r}")
        source = os.fspath(name)
        weights, place = _as_dtype(dtype), _as_device(device)
        options: dict[str, Any] = {"local_files_only": local_files_only, "revision": revision or "main"}
        try:
            _check_config(source, options)
            with _quiet() if Path(source).is_dir() else nullcontext():
                loader: Any = BlipForQuestionAnswering  # its annotations know nothing of `output_loading_info`
                model, info = loader.from_pretrained(
                    source, dtype=weights, use_safetensors=True, output_loading_info=True, **options
                )
            # The Pil image processor on purpose: the default one wants torchvision.
            images = BlipImageProcessorPil.from_pretrained(source, **options)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
            if len(tokenizer) <= len(tokenizer.all_special_ids):
                raise OSError("its tokenizer has no words")  # what comes of a missing vocabulary
        except _NotBlip as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # whatever a damaged file makes a loader raise
            raise OSError(_why_not_loaded(source, error)) from error
        if info["missing_keys"] or info.get("mismatched_keys"):
            missing = sorted(str(key) for key in [*info["missing_keys"], *info.get("mismatched_keys", ())])
            raise ValueError(
                f"model: {source!r} lacks {len(missing)} weights of a BLIP question answering model, "
                f"such as {missing[0]}"
            )
        try:
            model.to(place)
        except (AssertionError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"device: {str(place)!r} cannot be used here: {error}") from error
        assemble: Any = BlipProcessor
        loaded = cls(model, assemble(images, tokenizer), name=source)
        loaded.source = source
        return loaded

    def __repr__(self) -> str:
        return f"BlipVqa({self.name!r}, {self.layers} layers, {self.grid[0]} x {self.grid[1]} patches)"

    @property
    def provenance(self) -> dict[str, Any]:
        """What results come from, as plain JSON: revision, `weights_hash` (at the first use), dtype and versions."""
        if self._provenance is None:  # once it is known nobody waits for a computation to read it
            with self.lock:
                versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
                self._provenance = {
                    "revision": self.revision,
                    "weights": weights_hash(self.hf),
                    "dtype": str(self.dtype).removeprefix("torch."),
                    "versions": {"blip_trace_widget": __version__, **versions},
                }
        return dict(self._provenance)

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
    def revision(self) -> str | None:
        """The commit on the hub that the weights came from; None for a folder or a model that was handed over."""
        commit = getattr(self.hf.config, "_commit_hash", None)
        return str(commit) if commit and not Path(self.source).is_dir() else None

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

    def embed_image(self, image: ImageLike) -> Tensor:
        """The ViT's final output for a picture: (image tokens, width), token 0 the class token.

        Raises:
            TypeError, ValueError: if it is no picture.
        """
        return self.embed_images([image])[0]

    def embed_images(self, images: Sequence[ImageLike]) -> Tensor:
        """The ViT's final output for several pictures in one pass: (pictures, image tokens, width).

        Raises:
            TypeError, ValueError: if one is no picture.
        """
        pixels = torch.cat([self._pixels(image) for image in images])
        with self.lock, torch.inference_mode(), _exact_convolution():
            tokens: Tensor = self.hf.vision_model(pixel_values=pixels).last_hidden_state
        return tokens

    def embed_patches(self, image: ImageLike) -> Tensor:
        """What enters the ViT's first layer: (image tokens, width), token 0 the class token, positions added.

        Raises:
            TypeError, ValueError: if it is no picture.
        """
        with self.lock, torch.inference_mode(), _exact_convolution():
            embeddings: Tensor = self.hf.vision_model.embeddings(self._pixels(image))[0]
        return embeddings

    def _pixels(self, image: ImageLike) -> Tensor:
        pixels: Tensor = self.processor.image_processor(images=as_image(image), return_tensors="pt")["pixel_values"]
        return pixels.to(self.device, self.dtype)

    def question_ids(self, question: str) -> list[int]:
        """Token ids of a question as the model sees it, special tokens included.

        Raises:
            TypeError, ValueError: if it is no text, empty, or too long for the model.
        """
        return self._ids("question", question, special=True)

    def answer_ids(self, name: str, answer: str) -> list[int]:
        """Token ids of an answer, without special tokens. `name` is the argument to blame.

        Raises:
            TypeError, ValueError: if it is no text, has no tokens, or is too long.
        """
        return self._ids(name, answer, special=False)

    def _ids(self, name: str, text: str, *, special: bool) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected a text, got {type(text).__name__}")
        tokenizer = self.processor.tokenizer
        if not text.strip():
            raise ValueError(f"{name}: expected a text with at least one token, got {text!r}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: expected a text, this cannot be encoded: {error}") from error
        with self._words_lock:
            ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
        if not special and self.end_id in ids:
            raise ValueError(f"{name}: expected an answer without the end token, got {text!r}")
        content = len(ids) - (tokenizer.num_special_tokens_to_add() if special else 0)
        if content < 1:
            raise ValueError(f"{name}: expected a text with at least one token, {text!r} has none")
        longest = int(self.hf.config.text_config.max_position_embeddings)
        if len(ids) > longest:
            raise ValueError(f"{name}: expected at most {longest} tokens, got {len(ids)}")
        return ids

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Word pieces of token ids."""
        with self._words_lock:
            tokens = self.processor.tokenizer.convert_ids_to_tokens(list(ids))
        # BLIP base's tokenizer has no name for the decoder's start token.
        return [
            str(token) if token is not None else "[DEC]" if index == self.start_id else f"[{index}]"
            for index, token in zip(ids, tokens, strict=True)
        ]

    def token_ids(self, tokens: Sequence[str]) -> list[int]:
        """Token ids of word pieces; those the model does not know become its unknown token's."""
        with self._words_lock:
            ids = self.processor.tokenizer.convert_tokens_to_ids(list(tokens))
        return [int(index) for index in ids]

    def text(self, ids: Sequence[int]) -> str:
        """The answer that token ids spell."""
        with self._words_lock:
            return str(self.processor.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    @property
    def start_id(self) -> int:
        """The decoder's start token."""
        return int(self.hf.decoder_start_token_id)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return int(self.hf.config.text_config.sep_token_id)


def as_image(image: ImageLike) -> Image.Image:
    """A picture in RGB, from what users have at hand.

    Raises:
        TypeError: if it is of no accepted type.
        ValueError: if it cannot be read as a picture, or an array has another shape.
        OSError: if a path cannot be opened.
    """
    accepted = "a PIL image, a NumPy array (height, width[, 3 or 4]), a path, or the bytes of a picture file"
    if isinstance(image, np.ndarray):
        return _array_image(image, accepted)
    if isinstance(image, (bytes, bytearray, memoryview)):
        opened: Any = io.BytesIO(image)
    elif isinstance(image, (str, os.PathLike)):
        opened = Path(image)
        if not opened.is_file():
            raise FileNotFoundError(f"image: no such file: {os.fspath(image)!r}")
    elif isinstance(image, Image.Image):
        return _rgb(image, accepted)
    else:
        raise TypeError(f"image: expected {accepted}, got {type(image).__name__}")
    try:
        with Image.open(opened) as file:
            return _rgb(file, accepted)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "it is no picture file" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"image: expected {accepted}; this cannot be read as a picture ({reason})") from error


def weights_hash(model: Any) -> str:
    """A fingerprint of a model's weights, hexadecimal: the same for the same weights, on any device.

    SHA-256 over names, shapes, types, and of each tensor the sums of its bits along rows and along columns: a tenth of
    the time that hashing every byte takes (BLIP base: half a second).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        bits = tensor.detach().contiguous().view(whole)
        table = bits.reshape(bits.shape[0], -1) if bits.dim() > 1 else bits.reshape(1, -1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        for axis in (0, 1):
            digest.update(table.sum(axis, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, hexadecimal."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _rgb(image: Image.Image, accepted: str) -> Image.Image:
    if not image.width or not image.height:
        raise ValueError(f"image: expected {accepted}, got a picture without pixels")
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits and more, which `convert` would cut off rather than scale
            numbers = np.asarray(upright, dtype=np.float64)
            upright = Image.fromarray(np.clip(numbers / 257, 0, 255).astype(np.uint8))
        return upright.convert("RGB")
    except OSError as error:
        raise ValueError(f"image: expected {accepted}; this cannot be read as a picture ({error})") from error


def _array_image(array: np.ndarray[Any, Any], accepted: str) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or not array.size:
        raise ValueError(f"image: expected {accepted}, got an array of shape {array.shape}")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"image: an array must be uint8, or floating point from 0 to 1; got {array.dtype}")
        array = np.round(array * 255).astype(np.uint8)
    return Image.fromarray(array).convert("RGB")


class _NotBlip(Exception):  # noqa: N818
    """The configuration is another model's."""


def _check_config(source: str, options: dict[str, Any]) -> None:
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise OSError("the folder has no config.json")
    config, _ = PretrainedConfig.get_config_dict(source, **options)
    if not config:
        raise OSError("its config.json is empty")
    kinds = config.get("architectures") or ["BlipForQuestionAnswering"]
    if config.get("model_type") != "blip" or "BlipForQuestionAnswering" not in kinds:
        raise _NotBlip(
            f"model: expected a BLIP question answering model (BlipForQuestionAnswering), {source!r} is "
            f"{config.get('model_type')!r} with architectures {config.get('architectures')}"
        )


@contextmanager
def _exact_convolution() -> Iterator[None]:
    """On a GPU, cuDNN would round the patch convolution's inputs to TF32 unless told not to."""
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar: reading a folder takes less time than reading about it."""
    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _why_not_loaded(source: str, error: Exception) -> str:
    if Path(source).is_dir():
        return f"model: the folder {source!r} is no complete BLIP checkpoint: {error}"
    return (
        f"model: {source!r} could not be loaded: it is no folder, and neither the cache of the Hugging Face hub nor "
        "the hub itself (no network?) has it. Offline, use BlipVqa.demo() for the built-in model, or "
        f"BlipVqa.from_pretrained(folder) with a folder written by save_pretrained. ({type(error).__name__}: {error})"
    )


def _as_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected a torch device such as 'cpu' or 'cuda:0', got {device!r}") from error


def _as_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    value = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if value is None and dtype is None:
        return torch.float32
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"dtype: expected a floating point type such as 'float32' or 'bfloat16', got {dtype!r}")
    return value
