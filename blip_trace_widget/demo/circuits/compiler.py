"""From the description of a circuit to a BLIP model with its weights.

For: `compiled`. Every weight that no feature needs is 0, so that a layer without a step leaves its rows as they are.
Cost: a tenth of a second.
Ends: at a transformers model and its processor.

How it is written. A feature is a pair of opposite numbers (+a, -a): each row's mean is 0, and a LayerNorm only scales
it. So steps compare what they read with another feature of the same row, its mark, which is scaled alike and goes the
same way. Attention is so sharp that all but one token get less than 1e-30 of it; rows that a head is not for attend to
tokens that have nothing for it: the picture's empty ones, of which noise leaves some, or [SEP].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BlipConfig, BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget.demo.circuits.descriptions import (
    ASKED,
    BLOCK_OF,
    CIRCUITS,
    CLS,
    COLORS,
    HEADS,
    LAYERS,
    NOTHING,
    PATCH,
    PIXELS,
    PLACE,
    PLACES,
    SHOWN,
    SIDE,
    START,
    TOLD,
    Circuit,
    CircuitName,
    Detect,
    Move,
)

_WIDTH, _UNITS, _LONGEST = 48, 16, 40
#: How sharp attention and the last softmax are, and how steep the edge is at which an MLP sees a colour.
_SHARP, _SURE, _STEEP = 30.0, 1000.0, 100.0
#: The share of a row's mark from which on a colour is there.
_THERE = 0.35
#: How much louder what an MLP says is than its row's mark: enough to be heard also where noise makes its row's small.
_LOUD = 8.0
#: Of the picture's tokens: how strong what they show and where they are is.
_STRONG = 3.0
#: Of a row that is told which place is asked for: so little that both carriers of a circuit are scaled alike.
_FAINT = 0.01


class _Space:
    """The features of one block's rows: names, each for a pair of dimensions, in the order in which they are met."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}

    def at(self, name: str) -> int:
        """The first of a feature's two dimensions."""
        number = 2 * self._names.setdefault(name, len(self._names))
        if number >= _WIDTH:
            raise ValueError(f"circuit: more than {_WIDTH // 2} features")
        return number

    def put(self, row: Tensor, name: str, amount: float) -> None:
        """Give a row a feature."""
        at = self.at(name)
        row[at] += amount
        row[at + 1] -= amount

    def read(self, weight: Tensor, names: Iterable[str], gain: float = 1.0) -> None:
        """Let a row of a weight matrix read a sum of features."""
        for name in names:
            self.put(weight, name, gain / 2)

    def write(self, weight: Tensor, column: int, name: str, gain: float = 1.0) -> None:
        """Let a column of a weight matrix write a feature."""
        self.put(weight[:, column], name, gain)


def _of(variable: str, values: Iterable[str] = COLORS) -> list[str]:
    """The features of a variable."""
    return [f"{variable} {value}" for value in values]


#: How a row is known: the word of a place by any of the features that say which one it is.
_MARKS = {PLACE: _of(ASKED, PLACES), CLS: [CLS], START: [START], PATCH: _of("lies", PLACES)}
_SEP, _WORD, _END = "[SEP]", "other word", "end"
#: The picture's tokens at which nothing is asked for.
_ELSEWHERE = "lies elsewhere"
_IN_QUESTION = [*_MARKS[PLACE], CLS, _SEP, _WORD]


@torch.no_grad()
def compiled(name: CircuitName, folder: Path) -> tuple[BlipForQuestionAnswering, BlipProcessor]:
    """The model of a circuit, and its processor.

    Args:
        name: one of `CIRCUITS`.
        folder: where the tokenizer is.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    start = tokenizer.bos_token_id
    loader: Any = BlipForQuestionAnswering
    model = loader(_config(tokenizer)).eval()
    for path, weight in model.named_parameters():
        weight.fill_(1.0 if path.endswith("weight") and "norm" in path.lower() else 0.0)
    spaces = {block: _Space() for block in LAYERS}
    _pictures(model, spaces["image_encoder"])
    _words(model, spaces["question_encoder"], tokenizer)
    layers = {
        "question_encoder": model.text_encoder.encoder.layer,
        "answer_decoder": model.text_decoder.bert.encoder.layer,
    }
    circuit = CIRCUITS[name]
    #: What each variable is compared with.
    marks = {step.writes: _MARKS[step.role] for step in circuit.steps} | {ASKED: _MARKS[PLACE]}
    for step in circuit.steps:
        layer = layers[step.block][step.layer]
        if isinstance(step, Move):
            _move(layer, step, spaces[BLOCK_OF[step.source]], spaces[step.block], marks)
        else:
            _detect(layer, step, spaces[step.block], marks)
    _answers(model, circuit, spaces["answer_decoder"], tokenizer, start)
    size = {"height": SIDE * PIXELS, "width": SIDE * PIXELS}
    images = BlipImageProcessorPil(size=size, image_mean=[0.0] * 3, image_std=[1.0] * 3, resample=0)
    assemble: Any = BlipProcessor
    return model, assemble(images, tokenizer)


def _config(tokenizer: Any) -> Any:
    text = {
        "hidden_size": _WIDTH,
        "encoder_hidden_size": _WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS["question_encoder"],
        "intermediate_size": _UNITS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": _LONGEST,
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    vision = {
        "hidden_size": _WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS["image_encoder"],
        "intermediate_size": _UNITS,
        "image_size": SIDE * PIXELS,
        "patch_size": PIXELS,
    }
    config: Any = BlipConfig
    return config(text_config=text, vision_config=vision, projection_dim=_WIDTH)


def _pictures(model: Any, space: _Space) -> None:
    """Each patch shows how much there is of each colour, and where it lies."""
    see = model.vision_model.embeddings
    for channel, feature in enumerate(_of(SHOWN)):
        for pixel in see.patch_embedding.weight[:, channel].flatten(1).T:
            space.put(pixel, feature, _STRONG / PIXELS**2)
    for patch in range(SIDE**2):
        where = next((f"lies {place}" for place, number in PLACES.items() if number == patch), _ELSEWHERE)
        space.put(see.position_embedding[0, 1 + patch], where, _STRONG)
    space.put(see.class_embedding[0, 0], _ELSEWHERE, _STRONG)


def _words(model: Any, space: _Space, tokenizer: Any) -> None:
    """Each word of the question says what it is."""
    names = dict(zip(PLACES, _MARKS[PLACE], strict=True)) | {tokenizer.cls_token: CLS, tokenizer.sep_token: _SEP}
    known = {tokenizer.convert_tokens_to_ids(word): name for word, name in names.items()}
    for word, row in enumerate(model.text_encoder.embeddings.word_embeddings.weight):
        space.put(row, known.get(word, _WORD), 1.0)


def _move(layer: Any, step: Move, source: _Space, reader: _Space, marks: dict[str, list[str]]) -> None:
    """Write a head: the reader attends to the source and copies a variable and its mark.

    What is read from the picture has the reader's own.
    """
    attention = layer.attention if step.kind == "self_attention" else layer.crossattention
    slots = iter(range(step.head * (_WIDTH // HEADS), (step.head + 1) * (_WIDTH // HEADS)))
    query, key, value = attention.self.query.weight, attention.self.key.weight, attention.self.value.weight

    def match(readers: Sequence[str], sources: Sequence[str], strength: float = 1.0) -> None:
        slot = next(slots)
        reader.read(query[slot], readers, _SHARP / strength)
        source.read(key[slot], sources, _SHARP)

    if step.source == PATCH:  # the one that lies where the reader is asked for, or was told
        asked, strength = (ASKED, 1.0) if step.reader == PLACE else (TOLD, _FAINT)
        for name, lies in zip(_of(asked, PLACES), _MARKS[PATCH], strict=True):
            match([name], [lies], strength)
    else:
        match(_MARKS[step.reader], _MARKS[step.source])
    if step.block == "question_encoder":
        others = [name for name in _IN_QUESTION if name not in _MARKS[step.reader]]
        match(others, [_ELSEWHERE if step.source == PATCH else _SEP])
    values = PLACES if step.reads == ASKED else COLORS
    copied = [([name], to) for name, to in zip(_of(step.reads, values), _of(step.writes, values), strict=True)]
    if step.source != PATCH:
        copied.append((marks[step.reads], f"mark of {step.writes}"))
        marks[step.writes] = [f"mark of {step.writes}"]
    for names, to in copied:
        slot = next(slots)
        source.read(value[slot], names)
        reader.write(attention.output.dense.weight, slot, to, _FAINT if step.writes == TOLD else 1.0)


def _detect(layer: Any, step: Detect, space: _Space, marks: dict[str, list[str]]) -> None:
    """Write an MLP: two units a colour, whose difference goes from 0 to the row's mark on a short way, and stays."""
    read, write = layer.intermediate.dense.weight, layer.output.dense.weight
    units = iter(range(_UNITS))
    for variable in step.reads:
        for name, vote in zip(_of(variable), _of(step.writes), strict=True):
            for sign in (1, -1):
                unit = next(units)
                space.read(read[unit], [name], _STEEP)
                space.read(read[unit], marks[variable], -_STEEP * _THERE)
                space.write(write, unit, vote, sign * _LOUD)
            space.read(read[unit], _MARKS[step.role], -1.0)


def _answers(model: Any, circuit: Circuit, space: _Space, tokenizer: Any, start: int) -> None:
    """The start token's variable is read out as a word; where no color is strong enough, as "none"."""
    embeddings, output = model.text_decoder.bert.embeddings, model.text_decoder.cls.predictions
    output.transform.dense.weight.copy_(_STEEP * torch.eye(_WIDTH))  # so large that its GELU only cuts off at 0
    words = embeddings.word_embeddings.weight

    def says(word: str, names: Iterable[str], gain: float = 1.0) -> None:
        space.read(words[tokenizer.convert_tokens_to_ids(word)], names, gain * _SURE)

    for color, name in zip(COLORS, _of(circuit.says), strict=True):
        says(color, [name])
    if circuit.votes:
        says(NOTHING, [START], _LOUD * (circuit.votes - 0.5))
    else:
        says(NOTHING, [f"mark of {circuit.says}"], _THERE)
        says(NOTHING, [START], _FAINT)  # also where the start token hears nothing at all
    says(tokenizer.sep_token, [_END])
    space.put(words[start], START, 1.0)
    for position in embeddings.position_embeddings.weight[1:]:  # behind an answer, which is no start, comes the end
        space.put(position, _END, 10 * _SURE)
        space.put(position, START, -10 * _SURE)
