"""Models that somebody has changed, and the same problems by plain hooks on them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer
from blip_trace_widget.tracing.grid import grid_cells
from helpers.random_models import random_hf_model, words
from helpers.reference import Hooked, damaged

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8))
QUESTION, ANSWER = "what is red circle", "red square"


#: What is patched, and what is held meanwhile.
HELD = [
    ([State("question_encoder", 0, 2)], ["mlp"]),
    ([State("question_encoder", 0, 2), State("answer_decoder", 0, 1, "mlp")], ["self_attention_out", "everywhere"]),
    (
        [State("image_encoder", 0, 1)],
        [State("image_encoder", 1, 1, "mlp"), State("question_encoder", 1, 2, "cross_attention", 1)],
    ),
    (
        [State("question_encoder", 0, 1, "cross_attention", 0)],
        [State("question_encoder", 0, 1, "mlp"), State("answer_decoder", 1, 1, "block_input")],
    ),
]


def plain_hf(seed=0, **sizes):
    return random_hf_model(seed, words(), **{"vision_layers": 2, **sizes})


def processor(hf):
    side = hf.config.vision_config.image_size
    return BlipProcessor(BlipImageProcessorPil(size={"height": side, "width": side}), words())


def wrap(hf, **options):
    return BlipVqa(hf, processor(hf), **options)


def noisy(**changes):
    return GaussianNoise(**{"factor": 2.0, "samples": 2, "seed": 4, **changes})


def slow(tracer):
    """The same problem by plain hooks on the model, its clean and its corrupted embeddings."""
    pixels = tracer.model.processor.image_processor(images=tracer.image, return_tensors="pt")["pixel_values"]
    c = tracer.corruption
    hooked = Hooked(
        tracer.model.hf,
        pixels.to(tracer.model.dtype),
        tracer.case.bases.question_ids,
        tracer.case.answer_ids(),
        c.at,
    )
    clean = hooked.embeddings()
    return hooked, clean, damaged(clean, c, None)


def exact(tracer):
    return score(slow(tracer)[0])


def score(hooked, embeddings=None, **options):
    return np.log(hooked.probability(hooked.run(embeddings, **options)[0]))


def ask(model, **options):
    return Tracer(model, PICTURE, QUESTION, **{"answer": ANSWER, "metric": "log_probability", **options})


def assert_as_hooks(model, atol=1e-4):
    """Base runs, single states of every block and site, heads, sets, swaps, cut edges and weights equal plain hooks."""
    tracer = ask(model, corruption=noisy())
    hooked, clean, corrupted = slow(tracer)
    np.testing.assert_allclose(tracer.clean.score, score(hooked), atol=atol)
    base = [score(hooked, each) for each in corrupted]
    np.testing.assert_allclose(tracer.corrupted.scores, base, atol=atol)
    assert np.ptp(base) > 10 * atol  # there is something to tell apart
    sets = [
        [State("question_encoder", 0, 2)],
        [State("question_encoder", 1, 3, "cross_attention", 1)],
        [State("question_encoder", 0, 1, "mlp"), State("answer_decoder", 1, 1, "self_attention")],
        [State("answer_decoder", 0, 0, "cross_attention", 0), State("answer_decoder", 0, 1, "self_attention", 1)],
        [State("question_encoder", 1, 2, "block_input"), State("answer_decoder", 1, 0, "cross_attention_out")],
        [State("question_encoder", 1, 1, "self_attention_out"), State("question_encoder", 0, 3, "cross_attention_out")],
        [State("answer_decoder", 1, 0, "block_input")],
    ]
    for direction in ("restore", "disrupt"):
        exact = np.log(hooked.patched_scores(sets, clean, corrupted, direction))
        found = [tracer.patch(states, direction).scores for states in sets]
        np.testing.assert_allclose(np.transpose(found), exact, atol=atol)
    trace = tracer.trace("question_encoder", "self_attention", window=2)
    cells = [cell.states for cell in grid_cells(tracer.case, "question_encoder", "self_attention", window=2)]
    exact = np.log(hooked.patched_scores(cells, clean, corrupted, "restore")).reshape(trace.samples.shape)
    np.testing.assert_allclose(trace.samples, exact, atol=atol)

    def swapped(one, other, tokens=(0, 2)):
        mixed = one.clone()
        mixed[list(tokens)] = other[list(tokens)]
        return score(hooked, mixed)

    swap = [swapped(each, clean) for each in corrupted]
    np.testing.assert_allclose(tracer.patch_image_tokens([0, 2]).scores, swap, atol=atol)

    weights = tracer.attention("question_encoder", 1)
    seen = hooked.run(clean, weights=model.hf.text_encoder.encoder.layer[1].crossattention)[1]["weights"]
    np.testing.assert_allclose(weights.clean, seen.mean(0), atol=1e-5)
    own = tracer.attention("question_encoder", 1, 0, "self_attention")
    seen = hooked.run(clean, weights=model.hf.text_encoder.encoder.layer[1].attention)[1]["weights"]
    np.testing.assert_allclose(own.clean, seen[0], atol=1e-5)
    on_words = tracer.with_corruption(noisy(at="question_embeddings", positions=[2]))
    worded, _, noisy_words = slow(on_words)
    np.testing.assert_allclose(on_words.corrupted.scores, [score(worded, each) for each in noisy_words], atol=atol)
    edges = torch.zeros(model.heads, len(tracer.question_tokens), model.image_token_count, dtype=torch.bool)
    edges[:, 3, 1:3] = True
    attention = model.hf.text_encoder.encoder.layer[1].crossattention
    cut = score(hooked, clean, cuts=[(attention, edges)])
    np.testing.assert_allclose(tracer.knockout("question_encoder", 1, 3, [1, 2]).score, cut, atol=atol)


def assert_vision_as_hooks(model, atol=1e-4):
    """States of the image encoder equal plain hooks."""
    tracer = ask(model, corruption=noisy(at="patch_embeddings"))
    hooked, clean, corrupted = slow(tracer)
    np.testing.assert_allclose(tracer.corrupted.scores, [score(hooked, each) for each in corrupted], atol=atol)
    sets = [
        [State("image_encoder", 0, 1)],
        [State("image_encoder", 1, 2, "self_attention", 1), State("image_encoder", 0, 0, "mlp")],
        [State("image_encoder", 0, 2, "block_input"), State("image_encoder", 1, 1, "self_attention_out")],
        [State("image_encoder", 1, 0, "block_input"), State("image_encoder", 0, 1, "self_attention")],
    ]
    exact = np.log(hooked.patched_scores(sets, clean, corrupted, "restore"))
    np.testing.assert_allclose(np.transpose([tracer.patch(each).scores for each in sets]), exact, atol=atol)
    weights = tracer.attention("image_encoder", 1, 1)
    seen = hooked.run(corrupted[1], weights=model.hf.vision_model.encoder.layers[1].self_attn)[1]["weights"]
    np.testing.assert_allclose(weights.corrupted[1], seen[1], atol=1e-5)


def layer(hf, at=1):
    return hf.text_encoder.encoder.layer[at]


class Scaled(nn.Linear):
    """A layer of the user's own."""

    def forward(self, rows):
        return 0.5 * super().forward(rows)


def subclassed(hf):
    for name in ("key", "value"):
        getattr(layer(hf).crossattention.self, name).__class__ = Scaled


def own_forward(hf):
    module = hf.text_decoder.bert.encoder.layer[0].intermediate
    plain = module.forward
    module.forward = lambda rows: plain(rows) * 0.3


def zero_second(_module, _inputs, output):
    """Leave out what a run has at its second place, wherever that is."""
    first = output[0] if isinstance(output, tuple) else output
    first = first.clone()
    first[:, 1:2] = 0  # an answer of one token has none
    return (first, *output[1:]) if isinstance(output, tuple) else first


def refused(hf, match, given=None, **options):
    with pytest.raises(ValueError, match=match):
        BlipVqa(hf, given or processor(hf), **options)


def at_random(_module, _inputs, output):
    return output + torch.randn_like(output)


@contextmanager
def hook(hf, acting=zero_second):
    """A hook in a layer, inside."""
    handle = layer(hf).register_forward_hook(acting)
    try:
        yield
    finally:
        handle.remove()


#: Changes to a model of any size, of which each block has at least one.
CHANGES = {
    "nothing": lambda hf: None,
    "a hook in the encoder": lambda hf: layer(hf, -1).attention.register_forward_hook(zero_second),
    "a hook in the decoder": lambda hf: hf.text_decoder.bert.encoder.layer[0].register_forward_hook(zero_second),
    "an image layer": lambda hf: hf.vision_model.encoder.layers[0].register_forward_hook(zero_second),
    "another forward": own_forward,
}
