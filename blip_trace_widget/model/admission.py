"""Whether a model can be traced exactly: what fits together, and a proof by a small run.

For: refusing at the door, with a reason and a remedy, what would fail later or, worse, give wrong numbers.
Cost: `check_parts` a small picture through the processor; `prove` a few passes of some rows through the model, which
takes BLIP base half a second (most of it is reading weights from memory).
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

from blip_trace_widget.model.block import Activations, words_of
from blip_trace_widget.model.cross_attention import AbsorbedKV, ImageKV, Projections
from blip_trace_widget.model.modules import adapter_parameters, compiled_modules, hooked, knows_training
from blip_trace_widget.model.parts import BlipParts
from blip_trace_widget.model.surroundings import exact_convolution
from blip_trace_widget.states import BLOCKS, BlockSites

#: How far two ways of computing the same may be apart: the length of their difference over the length of either. Some
#: hundred roundings in single and double precision; half precision rounds coarsely, and a wrong weight is farther off.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.15}
#: Question tokens, generated answer tokens, and image patches along a side of the run that proves a model.
QUESTION, ANSWER, PATCHES = 6, 2, 2
#: Of a text layer's stage that is an attention's context, the module that gives it.
_CONTEXTS = {"self_context": "attention.self", "cross_context": "crossattention.self"}


def check_parts(model: BlipParts) -> None:
    """Whether the parts of a model fit each other, and can be stepped through.

    Raises:
        ValueError: naming what does not fit, with a way out.
    """
    check_weights(model.hf)
    _check_calls(model.hf)
    _check_processor(model)


def check_mode(hf: Any) -> None:
    """Whether every module for which that makes a difference is in evaluation mode.

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
    """Whether all weights are here, on one device and of one type.

    Raises:
        ValueError: naming one that is not.
    """
    tensors = [*hf.named_parameters(), *hf.named_buffers()]
    away = next((name for name, tensor in tensors if tensor.is_meta), None)
    devices = sorted({str(tensor.device) for _, tensor in tensors})
    if away is not None or len(devices) > 1:
        what = f"{away} is not in memory (offloaded)" if away is not None else f"its weights are on {devices}"
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
        told = ", ".join(f"{name} is {str(kind).removeprefix('torch.')}" for kind, name in kinds.items())
        raise ValueError(f"model: expected weights of one floating point type, {told}. Convert it: model.to(dtype)")
    layers = hf.get_submodule(BLOCKS["question_encoder"].layers)
    if not len(layers) or not all(hasattr(layer, "crossattention") for layer in layers):
        raise ValueError(
            "model: its question encoder has no cross-attention to the image (text_config.is_decoder is False), so "
            "that the picture could not change an answer"
        )


def _check_calls(hf: Any) -> None:
    """Whether all that somebody has put into the model is called where we call it."""
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
    """The modules of a block that hooks are put on."""
    for layer in range(len(hf.get_submodule(names.layers))):
        yield from (".".join(filter(None, (names.layers, str(layer), site))) for site in names.sites.values())


def _check_processor(model: BlipParts) -> None:
    hf, processor = model.hf, model.processor
    side = int(hf.config.vision_config.image_size)
    try:
        pixels = processor.image_processor(images=Image.new("RGB", (7, 5)), return_tensors="pt")["pixel_values"]
    except Exception as error:
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
    """How many words both the question encoder and the answer decoder know."""
    tables = (part.embeddings.word_embeddings for part in (hf.text_encoder, hf.text_decoder.bert))
    # What PEFT puts around a table shows its weight alone.
    return min(int(getattr(table, "num_embeddings", 0) or table.weight.shape[0]) for table in tables)


def prove(model: BlipParts) -> None:
    """Hold a small random run of ours against the model's own forward, stage by stage.

    The run goes beside another one, with image tokens of a clean run and a corruption, so that what is only true of a
    run alone, or of one that is not taken apart, shows.

    Raises:
        ValueError: naming the first module whose output differs.
    """
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
    given = _Given(model)
    try:
        ours, logits, said = _our_run(model, given)
        theirs, expected = _their_run(model, given)
    except Exception as error:
        raise ValueError(
            f"model: it fails on a small random input: {type(error).__name__}: {error}. BlipVqa(..., check=False) "
            "leaves this check out"
        ) from error
    for block in BLOCKS:
        for layer in range(len(model.blocks[block].layers)):
            for stage in theirs[block]:  # in the order in which a layer computes them
                apart = _apart(ours[block].at(layer, stage), theirs[block][stage][layer])
                if not apart <= tolerance:
                    raise _refusal(_module_name(block, layer, stage), apart)
    apart = _apart(logits, expected)
    if not apart <= tolerance:
        raise _refusal("text_decoder.cls", apart)
    _check_answer(expected[0], said, tolerance)


def _refusal(name: str, apart: float) -> ValueError:
    return ValueError(
        f"model: {name} gives another output here than in the model's own forward (the relative difference of a small "
        f"random run is {apart:.1g}), so the numbers would be wrong. Where a class or a function of transformers was "
        "replaced, or a module does something at random, undo that. BlipVqa(..., check=False) leaves this check out"
    )


class _Given:
    """A small random question, answer and picture. Where hooks may look at places, a picture of the full size."""

    def __init__(self, model: BlipParts) -> None:
        config = model.hf.config
        self._generator = torch.Generator("cpu").manual_seed(0)
        self._model = model
        longest = int(config.text_config.max_position_embeddings)
        self.question = self._ids(min(QUESTION, longest))
        #: What the decoder is given; the first of it becomes the model's own answer.
        self.answer = self._ids(min(1 + ANSWER, longest))
        self.answer[0, 0] = model.start_id
        whole = any(block.one_by_one for block in model.blocks.values())
        side = int(config.vision_config.image_size)
        if not whole:
            side = min(side, PATCHES * int(config.vision_config.patch_size))
        self.pixels = self.random(1, 3, side, side)

    def random(self, *shape: int) -> Tensor:
        """Normal numbers in the model's type."""
        numbers = torch.randn(shape, generator=self._generator, dtype=torch.float32, device="cpu")
        return numbers.to(self._model.device, self._model.dtype)

    def _ids(self, count: int) -> Tensor:
        ids = torch.randint(
            _words(self._model.hf), (1, count), generator=self._generator, dtype=torch.long, device="cpu"
        )
        return ids.to(self._model.device)


def _their_run(model: BlipParts, given: _Given) -> tuple[dict[str, dict[str, list[Tensor]]], Tensor]:
    """The stages of each block, [stage][layer], and the logits, in the model's own forward."""
    found: dict[str, dict[str, list[Tensor]]] = {name: defaultdict(list) for name in BLOCKS}
    logits: list[Tensor] = []
    with ExitStack() as stack:
        for name in BLOCKS:

            def keep(_layer: int, stage: str, rows: Tensor, name: str = name) -> Tensor:
                found[name][stage].append(rows.clone())
                return rows

            stack.enter_context(model.untouched[name].edited(lambda: None, keep))
        watched = model.hf.text_decoder.register_forward_hook(lambda *called: logits.append(called[2].logits))
        stack.callback(watched.remove)
        stack.enter_context(exact_convolution(model.device))
        model.hf.forward(
            input_ids=given.question,
            pixel_values=given.pixels,
            attention_mask=torch.ones_like(given.question),
            decoder_input_ids=given.answer,
        )
    return found, logits[0]


def _our_run(model: BlipParts, given: _Given) -> tuple[dict[str, Activations], Tensor, Tensor]:
    """The same by the blocks that trace, in the company of another run; last the answer that the model generates."""
    hf, vision, encoder, decoder = model.hf, model.image_encoder, model.question_encoder, model.answer_decoder
    with exact_convolution(model.device):
        begun = vision.apply(model.embeddings("image_encoder"), given.pixels)
    seen = vision.record(begun, None, lambda: None)
    tokens = vision.tokens(seen.output)
    # As image tokens come: a clean run's, and what a corruption adds. Also where these are only added up, because
    # layers that quantise what goes through them make much of the rounding.
    clean, strength = given.random(*tokens.shape), 0.5
    delta = torch.cat([(tokens - clean) / strength, given.random(*tokens.shape)])
    known = ImageKV(encoder.layers, Projections(encoder.layers, clean, bias=True))
    kv = known.plus(Projections(encoder.layers, delta, bias=False), strength)
    asked = encoder.apply(words_of(model.embeddings("question_encoder")), given.question)
    encoded = encoder.record(asked.expand(2, -1, -1), kv, lambda: None)
    said = _generate(model, encoded.output[:1].clone())  # hooks may write into what they get
    room = given.answer.shape[1]
    given.answer[:, : said.shape[1]] = said[:, :room]
    begun = decoder.apply(words_of(model.embeddings("answer_decoder")), given.answer)
    looked_at = AbsorbedKV(decoder.layers, encoded.output[:, None])
    decoded = decoder.record(begun.expand(2, -1, -1), looked_at, lambda: None)
    logits = decoder.apply(hf.text_decoder.cls, decoded.output)
    first = slice(0, 1)
    runs = {"image_encoder": seen, "question_encoder": encoded.part(first), "answer_decoder": decoded.part(first)}
    return runs, logits[first], said[0, 1:room]


def _generate(model: BlipParts, encoded: Tensor) -> Tensor:
    """What the model generates by its own settings, greedily: the start token and a few more, (1, tokens)."""
    hf, config = model.hf, model.hf.config.text_config
    start = torch.full((1, 1), model.start_id, device=model.device)
    try:
        said: Tensor = hf.text_decoder.generate(
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
    except Exception:  # noqa: BLE001 - a hook that wants more positions; given answers can be traced all the same
        return start
    return said


def _check_answer(logits: Tensor, said: Tensor, tolerance: float) -> None:
    """Whether what is generated is likeliest by the logits, (positions, vocabulary), but for rounding."""
    scores = logits[: len(said)].float()
    short = scores.amax(-1) - scores.gather(-1, said[:, None])[:, 0]
    if not bool((short <= tolerance * scores.norm(dim=-1)).all()):
        raise ValueError(
            "model: text_decoder.generate does not answer with the likeliest words: its generation settings "
            "(text_decoder.generation_config) hold some back, a penalty, a shortest length or forbidden words, so that "
            "the tracer would trace another answer. Reset them, or leave this check out: BlipVqa(..., check=False)"
        )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """The length of the difference of two tensors over the length of the second."""
    ours, theirs = ours.float(), theirs.float()
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def _module_name(block: str, layer: int, stage: str) -> str:
    """Where a stage comes from, below the model."""
    names = BLOCKS[block]
    if stage == "block_input":
        return f"{names.layers}.{layer - 1}" if layer else names.embeddings
    if stage in _CONTEXTS:
        stage = _CONTEXTS[stage] if "cross_attention" in names.sites else "self_attention_out"
    return ".".join(filter(None, (names.layers, str(layer), names.sites.get(stage, stage))))
