"""A BLIP VQA whose circuit is known because it is written by hand, a chain.

patch of the place that is asked for -> the word that names it (question encoder, layer 1, cross-attention head 2) ->
[CLS] (layer 2, self-attention head 1) -> the decoder's start token (layer 1, cross-attention head 0) -> the answer.

A feature is a pair of opposite numbers, so that each row's mean is 0 and a LayerNorm only scales it; every weight that
is not named is 0.
"""

from functools import cache

import numpy as np
import torch
from PIL import Image
from transformers import BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, State
from helpers.random_models import random_hf_model, words

PLACES = {"left": 3, "right": 5, "top": 1, "bottom": 7}  # of 3 x 3 patches
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
QUESTION = "what color is at the left?"
#: The heads of the chain.
CHAIN_HEADS = {
    ("question_encoder", 1, "cross_attention", 2),
    ("question_encoder", 2, "self_attention", 1),
    ("answer_decoder", 1, "cross_attention", 0),
}
WIDTH, HEADS = 32, 4
HEAD = WIDTH // HEADS
# Features of a patch: 0-2 its color, 3-11 its place. Of a word: 0-3 it names a place, 4 it is [CLS], 5 another word.
# Of both: 12 the class token, or [SEP]. 6-8 color fetched by a word, 9-11 by [CLS], 13-15 by the decoder.
CLS_AT, OTHER, SINK = 4, 5, 12


def put(row, feature, amount=1.0):
    row[2 * feature] += amount
    row[2 * feature + 1] -= amount


def copy(attention, slots, source, target, gain):
    """Let a head's slots carry three features to three others."""
    for color, slot in enumerate(slots):
        put(attention.self.value.weight[slot], source + color, 0.5)
        put(attention.output.dense.weight[:, slot], target + color, gain)


@cache
@torch.no_grad()
def chain():
    """The model; it is right about every picture of `picture`."""
    tokenizer = words()
    sizes = {"layers": 4, "heads": HEADS, "width": WIDTH, "vision_layers": 2, "patches": 3, "intermediate_size": 8}
    hf = random_hf_model(0, tokenizer, **sizes)
    for name, parameter in hf.named_parameters():
        parameter.fill_(1.0 if name.endswith("weight") and "norm" in name.lower() else 0.0)
    _see(hf.vision_model.embeddings)
    _know_words(hf.text_encoder.embeddings.word_embeddings.weight, tokenizer)
    fetch = hf.text_encoder.encoder.layer[1].crossattention
    for feature, patch in enumerate(PLACES.values()):
        put(fetch.self.query.weight[2 * HEAD + feature], feature, 5.0)
        put(fetch.self.key.weight[2 * HEAD + feature], 3 + patch, 0.5)
    for feature in (CLS_AT, OTHER, SINK):
        put(fetch.self.query.weight[2 * HEAD + 4], feature, 5.0)
    put(fetch.self.key.weight[2 * HEAD + 4], SINK, 0.5)
    copy(fetch, range(2 * HEAD, 2 * HEAD + 3), 0, 6, 2.0)
    gather = hf.text_encoder.encoder.layer[2].attention
    put(gather.self.query.weight[HEAD], CLS_AT, 5.0)
    put(gather.self.key.weight[HEAD + 1], SINK, 5.0)
    for feature in range(4):
        put(gather.self.key.weight[HEAD], feature, 5.0)
    for feature in (0, 1, 2, 3, OTHER, SINK):
        put(gather.self.query.weight[HEAD + 1], feature, 5.0)
    copy(gather, range(HEAD + 2, HEAD + 5), 6, 9, 3.0)
    say = hf.text_decoder.bert.encoder.layer[1].crossattention
    say.self.query.bias[0] = 30.0
    put(say.self.key.weight[0], CLS_AT, 5.0)
    copy(say, range(1, 4), 9, 13, 3.0)
    _answer(hf.text_decoder, tokenizer)
    pixels = BlipImageProcessorPil(
        size={"height": 24, "width": 24}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=0
    )
    return BlipVqa(hf, BlipProcessor(pixels, tokenizer), name="chain")


def _see(embeddings):
    for color in range(3):
        put(embeddings.patch_embedding.weight[:, color], color, 1 / 64)
    for patch in range(9):
        put(embeddings.position_embedding[0, 1 + patch], 3 + patch, 3.0)
    put(embeddings.class_embedding[0, 0], SINK, 3.46)


def _know_words(rows, tokenizer):
    for row in rows:
        put(row, OTHER)
    for feature, word in enumerate([*PLACES, tokenizer.cls_token, tokenizer.sep_token]):
        row = rows[tokenizer.convert_tokens_to_ids(word)]
        row.zero_()
        put(row, SINK if word == tokenizer.sep_token else feature)


def _answer(decoder, tokenizer):
    embeddings = decoder.bert.embeddings
    rows = embeddings.word_embeddings.weight
    put(rows[tokenizer.convert_tokens_to_ids("[DEC]")], OTHER)
    for color, word in enumerate(COLORS):
        rows[tokenizer.convert_tokens_to_ids(word), 2 * (13 + color)] = 6.0
    for position in embeddings.position_embeddings.weight[1:]:  # behind the answer comes [SEP]
        put(position, SINK, 30.0)
    rows[tokenizer.sep_token_id, 2 * SINK] = 20.0
    decoder.cls.predictions.transform.dense.weight.copy_(torch.eye(WIDTH))


def picture(*colors):
    """A picture with these colors at the left, right, top and bottom."""
    array = np.zeros((24, 24, 3), np.uint8)
    for patch, color in zip(PLACES.values(), colors, strict=True):
        row, column = divmod(patch, 3)
        array[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = COLORS[color]
    return Image.fromarray(array)


def chain_states(tracer):
    """The states of the chain: the word from layer 1, [CLS] from layer 2, the start token from layer 1 on."""
    encoder = [(1, tracer.question_tokens.index("left")), (2, 0), (3, 0)]
    decoder = [(layer, 0) for layer in (1, 2)]  # its last layer is the answer
    return {State("question_encoder", *at) for at in encoder} | {State("answer_decoder", *at) for at in decoder}
