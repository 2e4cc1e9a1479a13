"""Models changed after they were handed over: noticed, and refused where they must be."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.blip import modeling_blip_text

from blip_trace_widget import Tracer
from blip_trace_widget.model.computing import ModelChangedError
from blip_trace_widget.model.limits import Limits
from helpers.changed_models import (
    PICTURE,
    QUESTION,
    ask,
    exact,
    layer,
    noisy,
    own_forward,
    plain_hf,
    refused,
    subclassed,
    wrap,
    zero_second,
)
from helpers.random_models import words


def smaller_eps(hf):
    layer(hf).output.LayerNorm.eps = 1.0


def more_heads(hf):
    for each in hf.text_encoder.encoder.layer:
        for attention in (each.attention.self, each.crossattention.self):
            attention.num_attention_heads, attention.attention_head_size = 4, 4


@pytest.mark.parametrize("change", [subclassed, smaller_eps, more_heads, own_forward])
def test_what_changes_without_a_weight_or_a_module_is_noticed(change):
    """The old score was given on after `module.__class__ = Other`, another eps or number of heads, a second forward."""
    hf = plain_hf()
    own_forward(hf)
    model = wrap(hf)
    tracer = ask(model)
    before = tracer.clean.score
    change(hf)
    assert abs(tracer.clean.score - before) > 1e-4
    assert tracer.clean.score == pytest.approx(exact(tracer), abs=1e-5)


@pytest.mark.parametrize("edit", ["data", "numpy", "storage"])
def test_a_kept_run_is_not_read_again_after_an_edit_behind_the_counter(edit):
    hf = plain_hf()
    tracer = ask(wrap(hf))
    before, weight = tracer.clean.score, layer(hf).intermediate.dense.weight
    if edit == "data":
        weight.data *= 1.5
    elif edit == "numpy":
        weight.detach().numpy()[:] *= 1.5
    else:
        weight.untyped_storage().copy_((weight.detach() * 1.5).untyped_storage())
    assert tracer.clean.score == pytest.approx(exact(tracer), abs=1e-5) != before


def test_a_hook_on_all_modules_is_noticed():
    """The kept clean run was given on."""
    tracer = ask(wrap(plain_hf()))
    before = tracer.clean.score
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _inputs, output: output * 1.1 if isinstance(module, nn.Linear) else None
    )
    try:
        assert tracer.clean.score == pytest.approx(exact(tracer), abs=1e-5)
    finally:
        handle.remove()
    assert tracer.clean.score == before


def weaker(monkeypatch):
    plain = modeling_blip_text.BlipTextSelfAttention.forward

    def other(self, *arguments, **keywords):
        context, weights = plain(self, *arguments, **keywords)
        return context * 0.9, weights

    monkeypatch.setattr(modeling_blip_text.BlipTextSelfAttention, "forward", other)


def test_a_class_that_is_patched_after_loading_is_refused(monkeypatch):
    """The look did not see it, and the kept proof let the same model in once more."""
    hf = plain_hf()
    tracer = ask(wrap(hf))
    assert tracer.clean
    weaker(monkeypatch)
    with pytest.raises(ValueError, match="gives another output here"):
        _ = tracer.clean
    refused(hf, "gives another output here")


def test_another_scale_of_the_image_encoders_attention_is_refused():
    """Set after loading it was ignored; before loading it was refused."""
    hf = plain_hf()
    tracer = ask(wrap(hf))
    assert tracer.clean
    for each in hf.vision_model.encoder.layers:
        each.self_attn.scale *= 0.1
    with pytest.raises(ValueError, match=r"vision_model\.encoder\.layers\.0\.self_attn gives another output"):
        _ = tracer.clean


def test_generation_settings_changed_on_a_proven_model_are_refused():
    """The second BlipVqa of one model was not proven again."""
    hf = plain_hf()
    first = Tracer(wrap(hf), PICTURE, QUESTION)
    assert first.answer
    hf.text_decoder.generation_config.suppress_tokens = list(range(len(words())))[:-1]
    refused(hf, "generation settings")


@pytest.mark.parametrize("behind", [True, False])
def test_an_edit_during_a_trace_ends_it_aloud(behind):
    """Edited from a progress callback or another thread, the trace mixed old and new weights without a word."""
    hf = plain_hf()
    tracer = ask(wrap(hf), corruption=noisy())
    tracer.model.limits = Limits(rows=7)
    weight, seen = layer(hf).intermediate.dense.weight, []

    def progress(done, _total):
        seen.append(done)
        if len(seen) == 2:
            with torch.no_grad():
                (weight.data if behind else weight).mul_(1.5)

    with pytest.raises(ModelChangedError):
        tracer.trace("question_encoder", progress=progress)
    after = tracer.trace("question_encoder").samples
    np.testing.assert_allclose(after, ask(wrap(hf), corruption=noisy()).trace("question_encoder").samples, atol=1e-5)


@pytest.mark.parametrize("part", ["vision_model", "text_decoder"])
def test_a_part_of_another_type_after_loading_is_refused(part):
    """`mat1 and mat2 must have the same dtype`: only changes of modules were checked again, not of weights."""
    hf = plain_hf()
    tracer = ask(wrap(hf))
    before = tracer.clean.score
    getattr(hf, part).to(torch.bfloat16)
    for _ in range(2):
        with pytest.raises(ValueError, match="expected weights of one floating point type"):
            _ = tracer.clean
    hf.bfloat16()
    assert tracer.clean.score == pytest.approx(before, abs=0.5)


def test_a_part_that_leaves_memory_after_loading_is_refused():
    """`Tensor on device meta is not on the expected device cpu!`."""
    hf = plain_hf()
    tracer = ask(wrap(hf))
    assert tracer.clean
    layer(hf).to("meta")
    with pytest.raises(ValueError, match="is not in memory"):
        _ = tracer.clean


@pytest.mark.parametrize("form", ["compile", "forward"])
def test_layers_compiled_after_loading_are_refused(form):
    """Hooks inside are not called then: `torch.cat(): expected a non-empty list of Tensors`."""
    hf = plain_hf()
    layer(hf, 0).register_forward_hook(zero_second)
    tracer = ask(wrap(hf))
    assert tracer.clean
    if form == "compile":
        layer(hf).compile(backend="eager")
    else:
        layer(hf).forward = torch.compile(layer(hf).forward, backend="eager")
    with pytest.raises(ValueError, match=r"text_encoder\.encoder\.layer\.1 is compiled"):
        _ = tracer.clean


def test_positions_edited_are_other_weights():
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before, told = tracer.clean.score, model.provenance["weights"]
    hf.text_encoder.embeddings.position_ids = hf.text_encoder.embeddings.position_ids.flip(1).clone()
    assert tracer.clean.score != pytest.approx(before)
    assert model.provenance["weights"] != told
