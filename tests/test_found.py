"""What an adversarial tester found: each was wrong, an internal error, or refused without need."""

import copy

import numpy as np
import pytest
import torch
from random_models import words
from test_admission import (
    ANSWER,
    PICTURE,
    QUESTION,
    ask,
    assert_as_hooks,
    assert_vision_as_hooks,
    layer,
    noisy,
    own_forward,
    plain_hf,
    processor,
    refused,
    score,
    slow,
    subclassed,
    wrap,
    zero_second,
)
from torch import nn
from transformers import BlipProcessor
from transformers.models.blip import modeling_blip_text
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, Tracer, TraceWidget
from blip_trace_widget.model.computing import ModelChangedError


def exact(tracer):
    return score(slow(tracer)[0])


# --- a wrong number without a word: what is kept is not dropped -------------------------------------------------------


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


@pytest.mark.parametrize("behind", [True, False])
def test_an_edit_during_a_trace_ends_it_aloud(behind):
    """Edited from a progress callback or another thread, the trace mixed old and new weights without a word."""
    hf = plain_hf()
    tracer = ask(wrap(hf), corruption=noisy())
    tracer.case.runner = type(tracer.case.runner)(tracer.model, chunk_rows=7)
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


def test_a_module_shared_by_two_layers_is_refused():
    """With a hook anywhere in the block, patching one layer's state patched both; without, a misleading refusal."""
    for hooked in (True, False):
        hf = plain_hf()
        layer(hf, 1).attention = layer(hf, 0).attention
        if hooked:
            layer(hf, 0).register_forward_hook(zero_second)
        refused(
            hf, r"layer\.0\.attention and text_encoder\.encoder\.layer\.1\.attention are one and the same.*deepcopy"
        )


# --- an internal error in place of a refusal --------------------------------------------------------------------------


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


def test_more_words_for_the_encoder_alone_are_refused():
    """`resize_token_embeddings` of a whole BLIP resizes the encoder's table alone: `index 400 is out of bounds`."""
    hf, tokenizer = plain_hf(), copy.deepcopy(words())
    tokenizer.add_tokens(["zorp"])
    hf.resize_token_embeddings(len(tokenizer))
    images = BlipImageProcessorPil(size={"height": 16, "width": 16})
    refused(hf, r"tokenizer has ids up to \d+, the model words up to \d+", BlipProcessor(images, tokenizer))
    hf.text_decoder.resize_token_embeddings(len(tokenizer))
    model = BlipVqa(hf, BlipProcessor(images, tokenizer))
    assert np.isfinite(Tracer(model, PICTURE, "what is zorp", answer="zorp", metric="log_probability").clean.score)


def test_scripts_are_refused():
    """KeyError: '_modules'."""
    hf = plain_hf()
    attention = layer(hf).crossattention.self
    attention.key = torch.jit.trace(attention.key, torch.randn(1, 5, 16))
    refused(hf, r"crossattention\.self\.key is compiled")


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


# --- refused without need, or with a wrong reason ---------------------------------------------------------------------


def adapted(hf, config):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(hf, config(peft))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return model


TABLES = {
    "lora": lambda peft: peft.LoraConfig(r=4, target_modules=["word_embeddings"]),
    "lora and tokens": lambda peft: peft.LoraConfig(r=4, target_modules=["query"], trainable_token_indices=[3, 4, 5]),
    "tokens": lambda peft: peft.TrainableTokensConfig(token_indices=[3, 4, 5], target_modules=["word_embeddings"]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_adapters_of_the_words_act(kind):
    """AttributeError: no attribute 'num_embeddings'."""
    hf = plain_hf()
    assert_as_hooks(BlipVqa(adapted(hf, TABLES[kind]), processor(hf)))


@pytest.mark.parametrize("kind", ["LoHaConfig", "IA3Config", "VeraConfig", "LoraConfig"])
def test_adapters_in_full_precision_of_half_models_act(kind):
    """PEFT keeps adapters of half models in float32; all but LoRA's were refused as "weights of two types"."""
    hf = plain_hf().bfloat16()
    more = {"feedforward_modules": []} if kind == "IA3Config" else {"r": 4}
    config = lambda peft: getattr(peft, kind)(target_modules=["query", "value"], **more)  # noqa: E731
    tracer = ask(BlipVqa(adapted(hf, config), processor(hf)))
    assert tracer.clean.score == pytest.approx(exact(tracer), abs=0.1)


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


def test_a_hook_that_removes_itself_is_refused_for_that():
    """It was called a weight that changes, to be loaded "in floating point"."""
    hf, handles = plain_hf(), []
    handles.append(layer(hf).register_forward_hook(lambda *_: handles[0].remove()))
    refused(hf, r"adds, removes or replaces hooks")


def test_feed_forward_in_pieces_is_refused_for_that():
    """It was said to give another output; the remedy keeps the numbers."""
    hf = plain_hf(chunk_size_feed_forward=1)
    refused(hf, r"chunk_size_feed_forward is 1.*chunk_size_feed_forward = 0")
    for each in (*hf.text_encoder.encoder.layer, *hf.text_decoder.bert.encoder.layer):
        each.chunk_size_feed_forward = 0
    assert_as_hooks(wrap(hf))


def test_positions_edited_are_other_weights():
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before, told = tracer.clean.score, model.provenance["weights"]
    hf.text_encoder.embeddings.position_ids = hf.text_encoder.embeddings.position_ids.flip(1).clone()
    assert tracer.clean.score != pytest.approx(before)
    assert model.provenance["weights"] != told


def test_another_module_in_place_of_dropout_acts():
    hf = plain_hf()
    layer(hf).output.dropout = nn.GELU()
    assert_as_hooks(wrap(hf))


@pytest.mark.parametrize("edit", ["counted", "behind the counter"])
def test_a_widget_computes_a_filled_grid_anew_after_an_edit(edit, short_curve):
    model = wrap(plain_hf())
    shown = TraceWidget(PICTURE, QUESTION, model=model, answer=ANSWER, metric="log_probability")
    try:
        shown.trace_all()
        shown.wait(60)
        before = shown.trace.samples
        weight = layer(model.hf, 0).intermediate.dense.weight
        with torch.no_grad():
            (weight if edit == "counted" else weight.data).mul_(3)
        shown.trace_all()
        shown.wait(60)
        fresh = ask(wrap(model.hf)).trace().samples
        assert not np.allclose(fresh, before)
        np.testing.assert_allclose(shown.trace.samples, fresh, atol=1e-5)
    finally:
        shown.close()
