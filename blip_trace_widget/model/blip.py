"""BLIP for visual question answering, as the tracer needs it.

For: loading a model (built-in, hub, folder, or given objects), embedding an image, tokenizing a question, decoding an
answer. The one place that knows transformers' processors.
Cost: loading; one ViT pass per `embed_image` (BLIP base at 384 px: about 110 GFLOP).
Ends: at tokens and embeddings. `blip_trace_widget.tracing.runs` makes runs and patches.

A model is used by one thread at a time: hold `BlipVqa.lock` around anything that calls it. The tokenizer has its own
lock, so that tokenizing a question never waits for a computation.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from PIL import Image
from torch import Tensor
from transformers import BlipForQuestionAnswering, BlipProcessor

from blip_trace_widget._version import __version__
from blip_trace_widget.checks import brief, check_length, one_of
from blip_trace_widget.demo import BUILT_IN, MODEL_FOLDER
from blip_trace_widget.demo.circuits import CIRCUITS, CircuitName, Truth, circuit_of, name_of, truth_of
from blip_trace_widget.forks import Lock, on_fork
from blip_trace_widget.interrupts import PutOff
from blip_trace_widget.model.admission import check_mode, check_parts, check_still, check_weights, prove, unwrapped
from blip_trace_widget.model.computing import Computing, ModelChangedError, glances
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.model.loading import as_dtype, device_of, load, placed
from blip_trace_widget.model.modules import active_adapters
from blip_trace_widget.model.out_of_memory import telling
from blip_trace_widget.model.parts import BlipParts
from blip_trace_widget.model.progress import announced
from blip_trace_widget.model.surroundings import exact_convolution
from blip_trace_widget.model.transfer import to_device
from blip_trace_widget.model.weights import Watch, weights_hash
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.unpicklable import Unpicklable

#: Characters stripped from both ends of words.
PUNCTUATION = ".,;:?!\"'()"

_LOCKS: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()
_SHARED: WeakValueDictionary[tuple[str, str, str], BlipVqa] = WeakValueDictionary()


class BlipVqa(BlipParts, Unpicklable):
    """A BLIP question answering model with its processor.

    Every number equals what plain hooks on this model give. Blocks that consist of BLIP's own modules are computed by
    shortcuts that are exact for them. Blocks with users' hooks, other kinds of layers or a replaced forward are run by
    the model's own forward, one run at a time: exact, but slower. What cannot be traced exactly is refused.

    Args:
        model: transformers' `BlipForQuestionAnswering`, or a PEFT model around one; put into evaluation mode, otherwise
            left unchanged.
        processor: its `BlipProcessor`.
        name: its name in results and on screen.
        check: whether to compare a small random run with the model's own forward, now and whenever its modules change.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if model and processor do not fit each other, or the model cannot be traced exactly; with a remedy.
        torch.OutOfMemoryError: if memory runs out in the check, which says nothing about the model.
    """

    instead = "load it again where it is needed: BlipVqa.from_pretrained(…), or BlipVqa.demo()"

    def __init__(
        self, model: BlipForQuestionAnswering, processor: BlipProcessor, *, name: str = "", check: bool = True
    ) -> None:
        hf = unwrapped(model)
        if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
            raise TypeError(f"processor: expected transformers' BlipProcessor, got {type(processor).__name__}")
        if not isinstance(check, bool):
            raise TypeError(f"check: expected True or False, got {type(check).__name__}")
        super().__init__(hf.eval(), processor)
        self.built_in = False
        #: What runs may take at once.
        self.limits = Limits()
        #: What is true of it, if its circuit is known, as it was built.
        self.truth: Truth | None = None
        #: The name given to `from_pretrained`; "" for a model given as an object.
        self.source = ""
        self.name = name or str(getattr(hf.config, "_name_or_path", "")) or "BLIP"
        #: Counts observed changes of the model; values computed with an older version are no longer used.
        self.version = 0
        self.lock = _LOCKS.setdefault(hf, Lock())
        self._words_lock = _LOCKS.setdefault(processor.tokenizer, Lock())
        self._check = check
        self._provenance: dict[str, Any] | None = None
        self._refusal: ValueError | None = None
        #: The state that `version`, the blocks and the refusal are of; None from a change until all of them are known.
        self._watch: Watch | None = None
        self._inside = 0
        on_fork(self, BlipVqa._renew)
        with telling(self), self.lock:
            self._examine(watch := Watch(self.hf))
            self._watch = watch

    def _renew(self) -> None:
        """In a forked child no other thread is inside, nor are there OpenMP's threads, which it would wait for."""
        torch.set_num_threads(1)
        if not self.lock.owned:
            self._inside = 0

    @property
    def looking(self) -> bool:
        """Whether a change is being examined, which may take a while, or was not to its end."""
        return self._watch is None

    def _examine(self, watch: Watch) -> None:
        """Set the blocks, and check the model; `watch` has its state, in which running must change nothing."""
        self._inside += 1  # no nested looks
        try:
            check_parts(self)  # before anything else needs the weights' device
            self.set_blocks()
            if not self._check:
                return
            with Computing(self):
                prove(self)
                structure, weights = watch.look()
        finally:
            self._inside -= 1
        check_still(structure=structure, weights=weights)

    @contextmanager
    def unchanging(self, *, long: bool = False) -> Iterator[None]:
        """Check whether the model has changed; inside, it is assumed unchanged. Call it under the lock.

        Args:
            long: whether the computation may take so long that somebody changes the model meanwhile: check again at its
                end.

        Raises:
            ValueError: if it can no longer be traced.
            ModelChangedError: at the end, if somebody changed it meanwhile.
        """
        if not self._inside:
            self._look()
            if self._refusal is not None:
                raise ValueError(str(self._refusal))
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
        if long and not self._inside:
            before = self.version
            self._look()
            if self.version != before:
                raise ModelChangedError

    def glance(self) -> None:
        """Check whether the model has changed, unless it is computing right now: then that was checked before."""
        with PutOff(lambda: self.lock.owned and not self.looking):
            if glances() and self.lock.acquire(blocking=False):
                try:
                    if not self._inside:
                        with telling(self):
                            self._look()
                finally:
                    self.lock.release()

    def _look(self) -> None:
        structure, weights = (True, True) if self._watch is None else self._watch.look()
        if not (structure or weights):
            return
        self._watch = self._provenance = None  # whatever ends this early, a fork too, the next look begins anew
        self.version += 1
        watch = Watch(self.hf)
        try:
            if structure or self._refusal is not None:
                check_mode(self.hf)
                self._examine(watch)
            else:
                check_weights(self.hf)
        except ValueError as error:
            self._refusal, watch = error, Watch(self.hf)  # running may have changed it: that is refused, too
        else:
            self._refusal = None
        self._watch = watch

    @classmethod
    def demo(cls, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> BlipVqa:
        """The built-in tiny model, trained on pictures of coloured shapes; needs no network.

        Calls share one instance as long as somebody keeps it.

        Args:
            device: see `from_pretrained`.
            dtype: see `from_pretrained`.

        Raises:
            ValueError: if the device or dtype cannot be used.
        """
        return cls._shared(BUILT_IN[0], device, dtype)

    @classmethod
    def known_circuit(
        cls,
        name: CircuitName = "chain",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> BlipVqa:
        """A model whose circuit is known, because it is written and not learned; `truth` says what it is.

        It is asked what color is at a place of a picture, as in `blip_trace_widget.examples` of it. Calls share one
        instance as long as somebody keeps it.

        Args:
            name: ``"chain"``: the answer goes from the patch to the word that names the place, to [CLS], and to the
                decoder. ``"redundant"``: two carriers, of which either is enough: damaging one state costs nothing.
                ``"both"``: two carriers, both of which are needed: restoring one state brings nothing back.
                ``"mlp"``: an MLP on the way makes what was fetched into what is read on.
            device: see `from_pretrained`.
            dtype: see `from_pretrained`.

        Raises:
            TypeError, ValueError: if there is no such circuit, or the device or dtype cannot be used.
        """
        return cls._shared(name_of(cast("CircuitName", one_of("name", name, CIRCUITS))), device, dtype)

    @classmethod
    def _shared(cls, name: str, device: str | torch.device | None, dtype: str | torch.dtype | None) -> BlipVqa:
        """A built-in model by its name."""
        key = (name, str(device), str(dtype))
        model = _SHARED.get(key)
        if model is None:
            circuit = circuit_of(name)
            if circuit is None:
                model = cls.from_pretrained(MODEL_FOLDER, device=device, dtype=dtype, local_files_only=True)
            else:
                from blip_trace_widget.demo.circuits.compiler import compiled

                hf, processor = compiled(circuit, MODEL_FOLDER)
                model = cls(placed(hf.to(as_dtype(dtype)), device_of(device)), processor)
                model.truth = truth_of(circuit)
            model.name = model.source = name
            model.built_in = True
            _SHARED[key] = model
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
        check: bool = True,
    ) -> BlipVqa:
        """Load a hub id or a folder. Weights must be safetensors; code from the hub is never run.

        A PEFT adapter found there is loaded too (if ``peft`` is installed), and acts as in the model's own forward.

        Args:
            name: for instance ``"Salesforce/blip-vqa-base"``, or a folder written by ``save_pretrained``; or the name
                of a built-in model.
            device: where to compute; default the GPU if there is one (CUDA, else MPS), else the CPU.
            dtype: for instance ``"bfloat16"``; default float32.
            revision: branch, tag or commit on the hub.
            local_files_only: use only the local cache.
            check: see `BlipVqa`.

        Raises:
            TypeError: if `name` is neither a string nor a path.
            ValueError: if it is not a BLIP question answering model, or cannot be traced exactly, or if the device or
                dtype cannot be used.
            OSError: if it cannot be found, reached or read.
            ImportError: if it has an adapter and ``peft`` is not installed.
        """
        if name in BUILT_IN:
            return cls._shared(os.fspath(name), device, dtype)
        with announced(f"loading the model {name}"):
            model, processor = load(name, device, dtype, revision, local_files_only)
            source = os.fspath(name)
            loaded = cls(model, processor, name=source, check=check)
            loaded.source = source
            return loaded

    def __repr__(self) -> str:
        return f"BlipVqa({self.name!r}, {self.layers} layers, {self.grid[0]} x {self.grid[1]} patches)"

    @property
    def provenance(self) -> dict[str, Any]:
        """Where results come from, as plain JSON: revision, `weights_hash` (at the first use), dtype and versions.

        If there are any: the active ``adapters``, and as ``changed`` the modules that are not BLIP's own.

        Raises:
            ValueError: if the model can no longer be traced.
        """
        self.glance()
        provenance = self._provenance
        if provenance is None:  # once known, reading it never waits for a computation
            with Computing(self):
                versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
                provenance = {
                    "revision": self.revision,
                    "weights": weights_hash(self.hf),
                    "dtype": str(self.dtype).removeprefix("torch."),
                    "versions": {"blip_trace_widget": __version__, **versions},
                }
                adapters, changed = active_adapters(self.hf), [name for part in self.changed.values() for name in part]
                provenance |= ({"adapters": adapters} if adapters else {}) | ({"changed": changed} if changed else {})
                self._provenance = provenance
        return dict(provenance)

    @property
    def revision(self) -> str | None:
        """The hub commit that the weights came from; None for a folder or a model given as an object."""
        commit = getattr(self.hf.config, "_commit_hash", None)
        return str(commit) if commit and not Path(self.source).is_dir() else None

    def embed_image(self, image: ImageLike) -> Tensor:
        """The ViT's final output for a picture: (image tokens, width), token 0 the class token.

        Raises:
            TypeError, ValueError, OSError: if it cannot be read as a picture.
        """
        return self.embed_images([image])[0]

    def embed_images(self, images: Sequence[ImageLike]) -> Tensor:
        """The ViT's final output for several pictures in one pass: (pictures, image tokens, width).

        Raises:
            TypeError, ValueError, OSError: if one cannot be read as a picture.
        """
        pictures = [as_image(image) for image in images]
        with Computing(self), exact_convolution(self.device):
            pixels = torch.cat([self._pixels(picture) for picture in pictures])
            return self.image_encoder.apply(
                lambda each: self.hf.vision_model(pixel_values=each).last_hidden_state, pixels
            )

    def embed_patches(self, image: ImageLike) -> Tensor:
        """The input of the ViT's first layer: (image tokens, width), token 0 the class token, positions added.

        Raises:
            TypeError, ValueError, OSError: if it cannot be read as a picture.
            ValueError: if the image encoder itself has a hook, which would not be called.
        """
        picture = as_image(image)
        with Computing(self), exact_convolution(self.device):
            if "vision_model" in self.changed["image_encoder"]:
                what = self.changed["image_encoder"]["vision_model"]
                raise ValueError(
                    f"model: vision_model {what}, which would not act where its layers are run from their first on. "
                    "Put it on a module in it, or remove it"
                )
            return self.image_encoder.apply(self.embeddings("image_encoder"), self._pixels(picture))[0]

    def _pixels(self, picture: Image.Image) -> Tensor:
        pixels: Tensor = self.processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
        return to_device(pixels.to(self.dtype), self.device)

    def question_ids(self, question: str) -> list[int]:
        """Token ids of a question as the model sees it, special tokens included.

        Raises:
            TypeError: if it is not a text.
            ValueError: if it is empty, has special tokens, or is too long for the model.
        """
        return self._ids("question", question, special=True)

    def answer_ids(self, name: str, answer: str) -> list[int]:
        """Token ids of an answer, without special tokens.

        Args:
            name: the argument's name, for messages.
            answer: the answer.

        Raises:
            TypeError: if it is not a text.
            ValueError: if it has no tokens or special tokens, is too long, or the tokenizer does not know its words.
        """
        ids = self._ids(name, answer, special=False)
        if self.processor.tokenizer.unk_token_id in ids:
            raise ValueError(f"{name}: the tokenizer cannot spell {brief(answer)}: {brief(self.tokens(ids))}")
        return ids

    def unknown_words(self, question: str, ids: Sequence[int]) -> list[str]:
        """The words of a question, of these token ids, that the model does not know; it sees one token for them all."""
        unknown = self.processor.tokenizer.unk_token_id
        if unknown not in ids:
            return []
        with self._words_lock:
            words = self.processor.tokenizer(question.split(), add_special_tokens=False)["input_ids"]
        return [
            word.strip(PUNCTUATION) or word for word, ids in zip(question.split(), words, strict=True) if unknown in ids
        ]

    def _ids(self, name: str, text: str, *, special: bool) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected a text, got {type(text).__name__}")
        check_length(name, text)
        tokenizer = self.processor.tokenizer
        if not text.strip():
            raise ValueError(f"{name}: expected a text with at least one token, got {brief(text)}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: expected a text, this cannot be encoded: {error}") from error
        with self._words_lock:
            content = list(tokenizer(text, add_special_tokens=False)["input_ids"])
            ids = list(tokenizer(text)["input_ids"]) if special else content
        if not content:
            raise ValueError(f"{name}: expected a text with at least one token, {brief(text)} has none")
        # Written out in a text, special tokens would mean something else to the model than to the reader.
        reserved = {*tokenizer.all_special_ids, self.start_id, self.end_id} - {tokenizer.unk_token_id}
        written = [token for index, token in zip(content, self.tokens(content), strict=True) if index in reserved]
        if written:
            raise ValueError(f"{name}: expected a text without special tokens, {brief(text)} has {brief(written)}")
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
        """Token ids of word pieces; those that the model does not know become its unknown token."""
        with self._words_lock:
            ids = self.processor.tokenizer.convert_tokens_to_ids(list(tokens))
        return [int(index) for index in ids]

    def text(self, ids: Sequence[int]) -> str:
        """The answer decoded from token ids."""
        with self._words_lock:
            return str(self.processor.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
