"""Modules and hooks that somebody has put in before: traced as the model's own forward has them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from helpers.changed_models import (
    Scaled,
    ask,
    assert_as_hooks,
    assert_vision_as_hooks,
    layer,
    noisy,
    own_forward,
    plain_hf,
    score,
    slow,
    subclassed,
    wrap,
    zero_second,
)
from helpers.random_models import random_model


class Lower(nn.Module):
    def forward(self, weight):
        return weight.tril()


def decoder_subclassed(hf):
    hf.text_decoder.bert.encoder.layer[0].crossattention.self.key.__class__ = Scaled


def parametrized(hf):
    parametrize.register_parametrization(layer(hf).crossattention.self.key, "weight", Lower())
    parametrize.register_parametrization(
        hf.text_decoder.bert.encoder.layer[1].crossattention.self.value, "weight", Lower()
    )


def weight_normed(hf):
    parametrizations.weight_norm(layer(hf).crossattention.self.value)


def without_bias(hf):
    module = nn.Linear(16, 16, bias=False)
    module.weight = layer(hf).crossattention.self.key.weight
    layer(hf).crossattention.self.key = module


def sequential(hf):
    layer(hf).crossattention.self.value = nn.Sequential(layer(hf).crossattention.self.value, nn.Softmax(dim=1))


def pruned(hf):
    from torch.nn.utils import prune

    prune.l1_unstructured(layer(hf).crossattention.self.key, "weight", amount=0.5)


def quantized(hf):
    changed = torch.ao.quantization.quantize_dynamic(layer(hf), {nn.Linear}, dtype=torch.qint8)
    hf.text_encoder.encoder.layer[1] = changed


def minus_mean_of_the_batch(_module, _inputs, output):
    return output - output.mean((0, 1), keepdim=True)


HOOKS = {
    "key": lambda hf: layer(hf).crossattention.self.key,
    "value": lambda hf: layer(hf).crossattention.self.value,
    "query": lambda hf: layer(hf).attention.self.query,
    "dropout": lambda hf: layer(hf).crossattention.self.dropout,
    "attention": lambda hf: layer(hf).attention,
    "crossattention": lambda hf: layer(hf).crossattention,
    "mlp": lambda hf: layer(hf).output.dense,
    "layer norm": lambda hf: layer(hf).output.LayerNorm,
    "layer": lambda hf: layer(hf, 0),
    "embeddings": lambda hf: hf.text_encoder.embeddings,
    "decoder's key": lambda hf: hf.text_decoder.bert.encoder.layer[0].crossattention.self.key,
    "decoder's layer": lambda hf: hf.text_decoder.bert.encoder.layer[0],
    "head": lambda hf: hf.text_decoder.cls.predictions.decoder,
    "image layer": lambda hf: hf.vision_model.encoder.layers[0],
    "image norm": lambda hf: hf.vision_model.post_layernorm,
}


CHANGES = [
    *(subclassed, decoder_subclassed, parametrized, weight_normed, without_bias, sequential, pruned, own_forward),
    quantized,
]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_modules_do_what_they_do_in_the_model(change):
    hf = plain_hf()
    change(hf)
    assert_as_hooks(wrap(hf))


@pytest.mark.parametrize("place", HOOKS)
def test_hooks_act_as_in_the_models_own_forward(place):
    hf = plain_hf()
    model = wrap(hf)  # the hook comes after
    HOOKS[place](hf).register_forward_hook(zero_second)
    assert_as_hooks(model)
    if place.startswith("image"):
        assert_vision_as_hooks(model)


def test_other_kinds_of_hooks_act_too():
    hf = plain_hf()
    layer(hf).crossattention.self.key.register_forward_hook(minus_mean_of_the_batch)
    layer(hf, 0).register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 0.7, *inputs[1:]))
    layer(hf, 0).attention.register_forward_hook(
        lambda _module, _inputs, keywords, output: (output[0] * 1.2, *output[1:]), with_kwargs=True
    )
    assert_as_hooks(wrap(hf))
    assert_vision_as_hooks(wrap(hf))


def test_a_hook_on_all_modules_acts():
    model = wrap(plain_hf())
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _inputs, output: output * 1.1 if isinstance(module, nn.Linear) else None
    )
    try:
        assert_as_hooks(model)
    finally:
        handle.remove()
    assert_as_hooks(model)


def test_a_hook_that_goes_leaves_nothing_behind():
    hf = plain_hf()
    model = wrap(hf)
    before = ask(model).clean.score
    handle = layer(hf).register_forward_hook(zero_second)
    assert abs(ask(model).clean.score - before) > 1e-6
    assert model.provenance["changed"] == ["text_encoder.encoder.layer.1"]
    handle.remove()
    assert ask(model).clean.score == before
    assert "changed" not in model.provenance


def test_hooks_that_transformers_left_behind_change_nothing():
    """It puts some on every layer when somebody asks for attentions, for good."""
    model = random_model()
    pixels = torch.zeros(1, 3, 16, 16)
    ids = torch.tensor([[1, 2]])
    assert_as_hooks(model)
    model.hf(
        input_ids=ids, pixel_values=pixels, decoder_input_ids=ids, output_attentions=True, output_hidden_states=True
    )
    assert layer(model.hf)._forward_hooks
    assert "changed" not in model.provenance
    assert_as_hooks(model)


def test_the_users_own_forward_meets_no_hook_of_ours(demo, example):
    """While a trace of a changed model runs on another thread."""
    import threading

    hf = plain_hf()
    layer(hf).register_forward_hook(zero_second)
    model = wrap(hf)
    ids = torch.tensor([[2, 5, 7]])

    def own():
        with torch.no_grad():
            return hf.text_encoder(input_ids=ids, encoder_hidden_states=torch.ones(1, 5, 16)).last_hidden_state

    expected, ended = own(), threading.Event()

    def trace():
        ask(model, corruption=noisy()).trace()
        ended.set()

    worker = threading.Thread(target=trace)
    worker.start()
    while not ended.is_set():
        torch.testing.assert_close(own(), expected, atol=0, rtol=0)
    worker.join()


def test_a_hook_on_all_modules_that_looks_at_places_acts():
    """The blocks were stepped by shortcuts, in which other rows are at those places: IndexError."""
    model = wrap(plain_hf())
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: zero_second(module, inputs, output) if isinstance(module, nn.Linear) else None
    )
    try:
        assert_as_hooks(model)
    finally:
        handle.remove()


@pytest.mark.parametrize("part", ["text", "image"])
def test_hooks_that_write_into_their_inputs_act_once(part):
    """Blocks run by hooks handed out views of kept inputs: every run damaged them once more."""
    hf = plain_hf()

    def write(_module, inputs):
        inputs[0].mul_(0.7)

    if part == "text":
        layer(hf, 0).register_forward_pre_hook(write)
        assert_as_hooks(wrap(hf))
        return
    hf.vision_model.encoder.layers[0].register_forward_pre_hook(write)
    tracer = ask(wrap(hf), corruption=noisy(at="patch_embeddings"))
    hooked, _, corrupted = slow(tracer)
    found = [score(hooked, each.clone()) for each in corrupted]
    np.testing.assert_allclose(tracer.corrupted.scores, found, atol=1e-4)
    assert tracer.clean.score == pytest.approx(score(hooked), abs=1e-4)


def test_hooks_that_write_into_what_is_looked_at_act_once():
    """The proof's own generation wrote into the run that it was held against: refused without need."""
    hf = plain_hf()

    def write(_module, inputs):
        inputs[0].mul_(0.7)

    for block in (hf.text_encoder.encoder.layer, hf.text_decoder.bert.encoder.layer):
        block[0].crossattention.self.key.register_forward_pre_hook(write)
    tracer = ask(wrap(hf), corruption=noisy())
    hooked, _, corrupted = slow(tracer)
    assert tracer.clean.score == pytest.approx(score(hooked), abs=1e-4)
    found = [score(hooked, each.clone()) for each in corrupted]
    np.testing.assert_allclose(tracer.corrupted.scores, found, atol=1e-4)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("place", ["text_encoder", "text_encoder.encoder", "text_decoder.bert", "vision_model.encoder"])
def test_hooks_on_whole_blocks_act(place, checked):
    """Recorded runs ended at the last layer: refused with a wrong module's name; with check=False a wrong number."""
    hf = plain_hf()

    def mirrored(_module, _inputs, output):
        return output.__class__(last_hidden_state=output.last_hidden_state * torch.linspace(0.5, 1.5, 16))

    hf.get_submodule(place).register_forward_hook(mirrored)
    model = wrap(hf, check=checked)
    assert_as_hooks(model)
    if place.startswith("vision"):
        assert_vision_as_hooks(model)


def test_a_config_that_asks_for_attentions_is_no_change():
    """Transformers then puts its inert hooks on while the proof runs: "changes its own weights"."""
    hf = plain_hf()
    for config in (hf.config, hf.config.text_config, hf.config.vision_config):
        config.output_attentions = config.output_hidden_states = True
    model = wrap(hf)
    assert_as_hooks(model)
    assert "changed" not in model.provenance
    layer(hf, 0).register_forward_hook(zero_second)
    assert_as_hooks(wrap(hf))


def test_hooks_find_the_ids_under_their_name():
    """Embeddings were called with a positional argument; the model names it: KeyError 'input_ids', refused."""
    hf = plain_hf()

    def other_word(_module, arguments, keywords):
        ids = keywords["input_ids"].clone()
        ids[:, 1] = 5
        return arguments, {**keywords, "input_ids": ids}

    hf.text_encoder.embeddings.register_forward_pre_hook(other_word, with_kwargs=True)
    assert_as_hooks(wrap(hf))


def test_another_module_in_place_of_dropout_acts():
    hf = plain_hf()
    layer(hf).output.dropout = nn.GELU()
    assert_as_hooks(wrap(hf))
