"""Admission: whether a model can be traced exactly, by checks of its parts and by comparing a small run.

For: refusing early, with a reason and a remedy, what would fail later or, worse, give wrong numbers.
Cost: `check_parts` runs a small picture through the processor; `prove` makes a few passes of some rows through the
model, half a second for BLIP base (mostly reading weights from memory).
Ends: at an error or nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BlipForQuestionAnswering

from blip_trace_widget.model.block import Activations, words_of
from blip_trace_widget.model.cross_attention import AbsorbedKV, ImageKV, Projections
from blip_trace_widget.model.hooked import ThreadHook
from blip_trace_widget.model.modules import adapter_parameters, compiled_modules, hooked, knows_training
from blip_trace_widget.model.out_of_memory import is_out_of_memory
from blip_trace_widget.model.parts import BlipParts
from blip_trace_widget.model.surroundings import exact_convolution
from blip_trace_widget.states import BLOCKS, BlockSites

#: Tolerated relative difference, ‖ours - theirs‖ / ‖theirs‖, of two ways to compute the same: about a hundred rounding
#: errors in single and double precision; half precision rounds coarsely, and a wrong weight differs by more.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.15}
#: Question tokens, generated answer tokens, and image patches per side of the small run.
QUESTION, ANSWER, PATCHES = 6, 2, 2
#: Stage of a text layer that is an attention's context -> the module whose output it is.
_CONTEXTS = {"self_context": "attention.self", "cross_context": "crossattention.self"}


def check_parts(model: BlipParts) -> None:
    """Check that the parts of a model fit each other, and can be stepped through.

    Raises:
        ValueError: naming what does not fit, with a remedy.
        RuntimeError, MemoryError: if memory runs out.
    """
    check_weights(model.hf)
    _check_calls(model.hf)
    _check_processor(model)


def check_mode(hf: Any) -> None:
    """Check that every module for which it matters is in evaluation mode.

    Raises:
        ValueError: naming one that is not.
    """
    training = next((name for name, module in hf.named_modules() if module.training and knows_training(module)), None)
    if training is not None:
        raise ValueError(
            f"model: it is in training mode ({training}), in which dropout makes every run another one. Call "
            "model.hf.eval() before tracing"
        )


def check_weights(hf: Any) -> None:
    """Check that all weights are in memory, on one device and of one type, and that the question sees the image.

    Raises:
        ValueError: naming what is not so.
    """
    tensors = [*hf.named_parameters(), *hf.named_buffers()]
    offloaded = next((name for name, tensor in tensors if tensor.is_meta), None)
    devices = sorted({str(tensor.device) for _, tensor in tensors})
    if offloaded is not None or len(devices) > 1:
        what = f"{offloaded} is not in memory (offloaded)" if offloaded is not None else f"its weights are on {devices}"
        raise ValueError(
            f"model: expected all weights on one device, {what}. Load it without device_map, or let "
            "BlipVqa.from_pretrained(name, device=...) load it"
        )
    kinds: dict[torch.dtype, str] = {}
    adapters = adapter_parameters(hf)
    for name, parameter in hf.named_parameters():
        if parameter.dtype.is_floating_point and id(parameter) not in adapters:
            kinds.setdefault(parameter.dtype, name)
    if len(kinds) > 1:
        mixed = ", ".join(f"{name} is {str(kind).removeprefix('torch.')}" for kind, name in kinds.items())
        raise ValueError(f"model: expected weights of one floating point type, {mixed}. Convert it: model.to(dtype)")
    layers = hf.get_submodule(BLOCKS["question_encoder"].layers)
    if not len(layers) or not all(hasattr(layer, "crossattention") for layer in layers):
        raise ValueError(
            "model: its question encoder has no cross-attention to the image (text_config.is_decoder is False), so "
            "that the picture could not change an answer"
        )


def _check_calls(hf: Any) -> None:
    """Check that all hooks and forwards that users put into the model are called when the tracer runs it."""
    compiled = compiled_modules(hf)
    if compiled:
        raise ValueError(
            f"model: {compiled[0]} is compiled, so that hooks in it are not sure to be called. Hand over the model as "
            "it was before torch.compile"
        )
    for name, module in hf.named_modules():
        if getattr(module, "chunk_size_feed_forward", 0):
            raise ValueError(
                f"model: {name} calls its MLP piece by piece (chunk_size_feed_forward is "
                f"{module.chunk_size_feed_forward}), so that its states could not be told apart. Set "
                "chunk_size_feed_forward = 0 on every layer: the numbers are the same"
            )
    places: dict[nn.Module, str] = {}
    for name in (name for names in BLOCKS.values() for name in _watched(hf, names)):
        module = hf.get_submodule(name)
        if places.setdefault(module, name) != name:
            raise ValueError(
                f"model: {places[module]} and {name} are one and the same module, so that a state of one could not be "
                "told from the other's. Give each layer its own: copy.deepcopy the module"
            )
    for name, module in (("the model itself", hf), ("text_decoder", hf.text_decoder)):
        placed = "_hf_hook" in module.__dict__  # accelerate moves inputs to the one device there is
        if hooked(module) and not placed:
            raise ValueError(
                f"model: {name} has a hook or a forward of its own. The tracer runs the blocks one after another and "
                "never calls it, so that would not act. Put it on text_decoder.bert, text_decoder.cls, text_encoder or "
                "a module in them, or remove it"
            )


def _watched(hf: Any, names: BlockSites) -> Iterator[str]:
    """The names of a block's modules that get hooks."""
    for layer in range(len(hf.get_submodule(names.layers))):
        yield from (
            ".".join(filter(None, (names.layers, str(layer), site)))
            for site in sorted(set(names.sites.values()), key=len)
        )


def _check_processor(model: BlipParts) -> None:
    hf, processor = model.hf, model.processor
    side = int(hf.config.vision_config.image_size)
    try:
        pixels = processor.image_processor(images=Image.new("RGB", (7, 5)), return_tensors="pt")["pixel_values"]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"processor: its image processor fails on a small picture: {error}") from error
    if tuple(pixels.shape) != (1, 3, side, side):
        raise ValueError(
            f"processor: the model sees pictures of {side} x {side} pixels, its image processor gives "
            f"{' x '.join(map(str, pixels.shape[2:]))}. Take the model's own processor, or set "
            f"processor.image_processor.size = {{'height': {side}, 'width': {side}}}"
        )
    positions, tokens = hf.vision_model.embeddings.position_embedding.shape[1], model.image_token_count
    if positions != tokens:
        raise ValueError(
            f"model: its image encoder has {positions} positions, and its config (image_size, patch_size) says {tokens}"
        )
    words = _words(hf)
    last = max(processor.tokenizer.get_vocab().values(), default=0)
    if last >= words:
        raise ValueError(
            f"processor: its tokenizer has ids up to {last}, the model words up to {words - 1}. Take the model's own "
            "processor, or resize the model's embeddings"
        )
    end = getattr(processor.tokenizer, "sep_token_id", None)
    if end is not None and end != model.end_id:
        raise ValueError(
            f"processor: its tokenizer ends texts with id {end}, the model with {model.end_id} "
            "(config.text_config.sep_token_id). Take the model's own processor"
        )


def _words(hf: Any) -> int:
    """Size of the vocabulary that both the question encoder and the answer decoder have."""
    tables = (part.embeddings.word_embeddings for part in (hf.text_encoder, hf.text_decoder.bert))
    # PEFT's wrapper of an embedding exposes only its weight.
    return min(int(getattr(table, "num_embeddings", 0) or table.weight.shape[0]) for table in tables)


def check_still(*, structure: bool, weights: bool) -> None:
    """Refuse a model that changes while it runs.

    Raises:
        ValueError: if its structure has changed, or its weights have.
    """
    if structure:
        raise ValueError(
            "model: it adds, removes or replaces hooks or modules of its own while it runs, so that the same question "
            "would be answered in two ways. Remove the hook that does that"
        )
    if weights:
        raise ValueError(
            "model: a module or a hook changes weights or buffers while it runs, as some quantised layers do, so that "
            "the same question would be answered in two ways. Load it in floating point, or count in something that is "
            "no buffer"
        )


def prove(model: BlipParts) -> None:
    """Compare a small random run of ours with the model's own forward, stage by stage.

    It is batched with another run, and its image tokens are given as clean tokens plus a corruption, so that modules
    that are right only for single or undivided inputs are found.

    Raises:
        ValueError: naming the first module whose output differs, or saying why a run fails.
        RuntimeError, MemoryError: if memory runs out, which says nothing about the model.
    """
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
    given = _Given(model)
    try:
        ours, logits, generated = _our_run(model, given)
        theirs, expected = _their_run(model, given)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"model: it fails on a small random input: {type(error).__name__}: {error}. BlipVqa(..., check=False) "
            "leaves this check out"
        ) from error
    for block in BLOCKS:
        for layer in range(len(model.blocks[block].layers)):
            for stage in theirs[block]:  # in the order in which a layer computes them
                gap = _relative_difference(ours[block].at(layer, stage), theirs[block][stage][layer])
                if not gap <= tolerance:
                    raise _refusal(_module_name(block, layer, stage), gap)
    gap = _relative_difference(logits, expected)
    if not gap <= tolerance:
        raise _refusal("text_decoder.cls", gap)
    _check_answer(expected[0], generated, tolerance)


def _refusal(name: str, gap: float) -> ValueError:
    return ValueError(
        f"model: {name} gives another output here than in the model's own forward (the relative difference of a small "
        f"random run is {gap:.1g}), so the numbers would be wrong. Where a class or a function of transformers was "
        "replaced, or a module does something at random, undo that. BlipVqa(..., check=False) leaves this check out"
    )


class _Given:
    """A small random question, answer and picture; of full size if users' hooks may depend on positions."""

    def __init__(self, model: BlipParts) -> None:
        config = model.hf.config
        self._generator = torch.Generator("cpu").manual_seed(0)
        self._model = model
        longest = int(config.text_config.max_position_embeddings)
        self.question = self._ids(min(QUESTION, longest))
        #: The decoder's input; its first tokens become the model's own answer.
        self.answer = self._ids(min(1 + ANSWER, longest))
        self.answer[0, 0] = model.start_id
        full_size = any(block.one_by_one for block in model.blocks.values())
        side = int(config.vision_config.image_size)
        if not full_size:
            side = min(side, PATCHES * int(config.vision_config.patch_size))
        self.pixels = self.random(1, 3, side, side)

    def random(self, *shape: int) -> Tensor:
        """Standard normal numbers in the model's dtype, of the given shape."""
        numbers = torch.randn(shape, generator=self._generator, dtype=torch.float32, device="cpu")
        return numbers.to(self._model.device, self._model.dtype)

    def _ids(self, count: int) -> Tensor:
        ids = torch.randint(
            _words(self._model.hf), (1, count), generator=self._generator, dtype=torch.long, device="cpu"
        )
        return ids.to(self._model.device)


def _their_run(model: BlipParts, given: _Given) -> tuple[dict[str, dict[str, list[Tensor]]], Tensor]:
    """The stages of each block, [block][stage][layer], and the logits, in the model's own forward."""
    stages: dict[str, dict[str, list[Tensor]]] = {name: defaultdict(list) for name in BLOCKS}
    logits: list[Tensor] = []
    with ExitStack() as stack:
        for name in BLOCKS:

            def keep(_layer: int, stage: str, rows: Tensor, name: str = name) -> Tensor:
                stages[name][stage].append(rows.clone())
                return rows

            stack.enter_context(model.untouched[name].edited(lambda: None, keep))
        watched = ThreadHook(model.hf.text_decoder, lambda *called: logits.append(called[2].logits))
        stack.callback(watched.remove)
        stack.enter_context(exact_convolution(model.device))
        model.hf.forward(
            input_ids=given.question,
            pixel_values=given.pixels,
            attention_mask=torch.ones_like(given.question),
            decoder_input_ids=given.answer,
        )
    return stages, logits[0]


def _our_run(model: BlipParts, given: _Given) -> tuple[dict[str, Activations], Tensor, Tensor]:
    """The same by the tracer's blocks, batched with another run; and the answer that the model generates."""
    hf, vision, encoder, decoder = model.hf, model.image_encoder, model.question_encoder, model.answer_decoder
    with exact_convolution(model.device):
        embedded = vision.apply(model.embeddings("image_encoder"), given.pixels)
    seen = vision.record(embedded, None, lambda: None)
    tokens = vision.tokens(seen.output)
    # Image tokens as in tracing: a clean run's, and what a corruption adds. Also where the two are just summed, since
    # layers that quantise their inputs amplify the rounding.
    clean, strength = given.random(*tokens.shape), 0.5
    delta = torch.cat([(tokens - clean) / strength, given.random(*tokens.shape)])
    known = ImageKV(encoder.layers, Projections(encoder.layers, clean, bias=True))
    kv = known.plus(Projections(encoder.layers, delta, bias=False), strength)
    question = encoder.apply(words_of(model.embeddings("question_encoder")), given.question)
    encoded = encoder.record(question.expand(2, -1, -1), kv, lambda: None)
    generated = _generate(model, encoded.output[:1].clone())  # hooks may write into their inputs
    length = given.answer.shape[1]
    given.answer[:, : generated.shape[1]] = generated[:, :length]
    embedded = decoder.apply(words_of(model.embeddings("answer_decoder")), given.answer)
    kv_of_question = AbsorbedKV(decoder.layers, encoded.output[:, None])
    decoded = decoder.record(embedded.expand(2, -1, -1), kv_of_question, lambda: None)
    logits = decoder.apply(hf.text_decoder.cls, decoded.output)
    first = slice(0, 1)
    runs = {"image_encoder": seen, "question_encoder": encoded.part(first), "answer_decoder": decoded.part(first)}
    return runs, logits[first], generated[0, 1:length]


def _generate(model: BlipParts, encoded: Tensor) -> Tensor:
    """Token ids that the model generates greedily by its own settings: the start token and a few more, (1, tokens)."""
    hf, config = model.hf, model.hf.config.text_config
    start = torch.full((1, 1), model.start_id, device=model.device)
    try:
        generated: Tensor = hf.text_decoder.generate(
            input_ids=start,
            eos_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id,
            encoder_hidden_states=encoded,
            encoder_attention_mask=torch.ones(encoded.shape[:-1], dtype=torch.long, device=model.device),
            num_beams=1,
            do_sample=False,
            use_cache=False,
            max_new_tokens=ANSWER,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return start  # a hook may need more positions; given answers can still be traced
    return generated


def _check_answer(logits: Tensor, generated: Tensor, tolerance: float) -> None:
    """Check that the generated tokens are the likeliest by the logits, (positions, vocabulary), up to rounding."""
    scores = logits[: len(generated)].float()
    shortfall = scores.amax(-1) - scores.gather(-1, generated[:, None])[:, 0]
    if not bool((shortfall <= tolerance * scores.norm(dim=-1)).all()):
        raise ValueError(
            "model: text_decoder.generate does not answer with the likeliest words: its generation settings "
            "(text_decoder.generation_config) hold some back, a penalty, a shortest length or forbidden words, so that "
            "the tracer would trace another answer. Reset them, or leave this check out: BlipVqa(..., check=False)"
        )


def _relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative difference of two tensors: ‖ours - theirs‖ / ‖theirs‖."""
    ours, theirs = ours.float(), theirs.float()
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def _module_name(block: str, layer: int, stage: str) -> str:
    """The name of the module that a stage comes from, for messages."""
    names = BLOCKS[block]
    if stage == "block_input":
        return f"{names.layers}.{layer - 1}" if layer else names.embeddings
    if stage in _CONTEXTS:
        stage = _CONTEXTS[stage] if "cross_attention" in names.sites else "self_attention_out"
    return ".".join(filter(None, (names.layers, str(layer), names.sites.get(stage, stage))))


def unwrapped(model: Any) -> BlipForQuestionAnswering:
    """The given BLIP model without the wrappers of PEFT or `torch.compile`.

    Raises:
        TypeError: if there is no such model in it.
        ValueError: if it is prompt-tuned.
    """
    hf = getattr(model, "_orig_mod", model)
    configs = getattr(hf, "peft_config", None)
    if configs and hasattr(hf, "get_base_model"):
        if any(getattr(config, "is_prompt_learning", False) for config in configs.values()):
            raise ValueError(
                "model: prompt learning (PEFT) puts tokens of its own before the question, which the tracer would not "
                "see. Expected an adapter in the model's layers, such as LoRA"
            )
        hf = hf.get_base_model()
    if not isinstance(hf, BlipForQuestionAnswering):
        inner = getattr(hf, "module", None)
        remedy = "; hand over what it wraps, model.module" if isinstance(inner, BlipForQuestionAnswering) else ""
        raise TypeError(f"model: expected transformers' BlipForQuestionAnswering, got {type(hf).__name__}{remedy}")
    return hf
