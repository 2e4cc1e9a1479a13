"""Models that somebody has changed: traced as their own forward has it, or refused with a reason and a way out."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import random_config, random_hf_model, random_model, words
from reference import Hooked, noise
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from transformers import BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip import modeling_blip_text
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer
from blip_trace_widget.tracing.grid import grid_cells

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8))
QUESTION, ANSWER = "what is red circle", "red square"


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
    return hooked, clean, noise(clean, c.factor, c.kind, c.samples, c.seed, c.region)


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
    ]
    exact = np.log(hooked.patched_scores(sets, clean, corrupted, "restore"))
    np.testing.assert_allclose(np.transpose([tracer.patch(each).scores for each in sets]), exact, atol=atol)


def layer(hf, at=1):
    return hf.text_encoder.encoder.layer[at]


class Scaled(nn.Linear):
    """A layer of the user's own."""

    def forward(self, rows):
        return 0.5 * super().forward(rows)


class Lower(nn.Module):
    def forward(self, weight):
        return weight.tril()


def subclassed(hf):
    for name in ("key", "value"):
        getattr(layer(hf).crossattention.self, name).__class__ = Scaled


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


def own_forward(hf):
    module = hf.text_decoder.bert.encoder.layer[0].intermediate
    plain = module.forward
    module.forward = lambda rows: plain(rows) * 0.3


def quantized(hf):
    changed = torch.ao.quantization.quantize_dynamic(layer(hf), {nn.Linear}, dtype=torch.qint8)
    hf.text_encoder.encoder.layer[1] = changed


def zero_second(_module, _inputs, output):
    """Leave out what a run has at its second place, wherever that is."""
    first = output[0] if isinstance(output, tuple) else output
    first = first.clone()
    first[:, 1] = 0
    return (first, *output[1:]) if isinstance(output, tuple) else first


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


def with_lora(hf, **options):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **options})
    torch.manual_seed(5)
    adapted = peft.get_peft_model(hf, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape))
    return adapted


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dora": True}, {"target_modules": ["key", "value", "qkv", "decoder"]}, {"modules_to_save": ["cls"]}],
)
def test_adapters_act(options):
    hf = plain_hf()
    plain = ask(wrap(copy.deepcopy(hf))).clean.score
    adapted = with_lora(hf, **options)
    model = BlipVqa(adapted, processor(hf))
    assert model.provenance["adapters"] == ["default"]
    assert abs(ask(model).clean.score - plain) > 1e-6
    assert_as_hooks(model)
    assert_vision_as_hooks(model)


def test_an_adapter_that_is_switched_off_or_merged_is_noticed():
    hf = plain_hf()
    plain = ask(wrap(copy.deepcopy(hf)))
    adapted = with_lora(hf)
    model = BlipVqa(adapted, processor(hf))
    tracer = ask(model)
    acting = tracer.clean.score
    with adapted.disable_adapter():
        assert tracer.clean.score == pytest.approx(plain.clean.score, abs=1e-6)
        assert tracer.trace().settings.get("adapters") is None
        assert_as_hooks(model)
    assert tracer.clean.score == pytest.approx(acting, abs=1e-6)
    merged = BlipVqa(adapted.merge_and_unload(), processor(hf))
    assert ask(merged).clean.score == pytest.approx(acting, abs=1e-5)
    assert "adapters" not in merged.provenance


def test_folders_with_an_adapter(tmp_path):
    hf = plain_hf()
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    hf.save_pretrained(base)
    processor(hf).save_pretrained(base)
    adapted = with_lora(BlipForQuestionAnswering.from_pretrained(base))
    adapted.save_pretrained(adapter)
    for beside in (base, adapter):
        if beside == base:
            adapted.save_pretrained(base)
        model = BlipVqa.from_pretrained(beside)
        assert model.provenance["adapters"] == ["default"]
        assert_as_hooks(model)
        ours = ask(model).clean.score
        theirs = ask(BlipVqa(adapted, processor(hf))).clean.score
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_an_adapter_without_what_reads_it_is_refused(tmp_path, monkeypatch):
    hf = plain_hf()
    hf.save_pretrained(tmp_path)
    processor(hf).save_pretrained(tmp_path)
    with_lora(hf).save_pretrained(tmp_path)
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "peft" else find(name, *more))
    with pytest.raises(ImportError, match=r"holds a PEFT adapter.*pip install peft"):
        BlipVqa.from_pretrained(tmp_path)


def refused(hf, match, given=None, **options):
    with pytest.raises(ValueError, match=match):
        BlipVqa(hf, given or processor(hf), **options)


def test_what_nobody_would_call_is_refused():
    for place in (lambda hf: hf, lambda hf: hf.text_decoder):
        hf = plain_hf()
        handle = place(hf).register_forward_hook(lambda *_: None)
        refused(hf, r"has a hook .* never calls it.*remove it")
        handle.remove()
        model = wrap(hf)
        place(hf).register_forward_pre_hook(lambda *_: None)
        with pytest.raises(ValueError, match="has a hook"):
            _ = Tracer(model, PICTURE, QUESTION).clean


def test_a_hook_on_the_image_encoder_acts_or_is_refused():
    hf = plain_hf()
    hf.vision_model.register_forward_hook(
        lambda _module, _inputs, output: output.__class__(output.last_hidden_state * 0.5)
    )
    model = wrap(hf, check=False)
    assert ask(model).clean.score == pytest.approx(score(slow(ask(model))[0]), abs=1e-5)
    tracer = ask(model, corruption=noisy(at="patch_embeddings"))
    with pytest.raises(ValueError, match="vision_model has a hook"):
        _ = tracer.corrupted


def test_a_forward_that_was_replaced_is_named(monkeypatch):
    hf = plain_hf()
    wrap(hf)
    plain = modeling_blip_text.BlipTextSelfAttention.forward

    def other(self, *arguments, **keywords):
        context, weights = plain(self, *arguments, **keywords)
        return context * 0.9, weights

    monkeypatch.setattr(modeling_blip_text.BlipTextSelfAttention, "forward", other)
    refused(plain_hf(), r"model: text_encoder\.encoder\.layer\.0\.attention\.self gives another output here")
    BlipVqa(plain_hf(), processor(hf), check=False)


def test_a_model_with_a_forward_of_its_own_class_is_named():
    class Brighter(BlipForQuestionAnswering):
        def forward(self, pixel_values, **keywords):
            return super().forward(pixel_values=pixel_values * 1.5, **keywords)

    hf = plain_hf()
    hf.__class__ = Brighter
    refused(hf, r"model: vision_model\.encoder\.layers\.0\.\S+ gives another output")


def test_what_is_done_at_random_is_refused():
    hf = plain_hf()
    layer(hf).register_forward_hook(lambda _module, _inputs, output: output + torch.randn_like(output))
    refused(hf, r"text_encoder\.encoder\.layer\.1 gives another output here")


def test_generation_settings_that_change_the_answer_are_refused():
    hf = plain_hf()
    logits = Tracer(wrap(hf), PICTURE, QUESTION)
    hf.text_decoder.generation_config.suppress_tokens = list(range(0, len(words()), 1))[:-1]
    assert logits.answer
    refused(plain_with(hf), r"generation settings")


def plain_with(hf):
    other = plain_hf()
    other.text_decoder.generation_config = hf.text_decoder.generation_config
    return other


def test_models_that_are_not_all_here_are_refused():
    hf = plain_hf()
    layer(hf).to("meta")
    refused(
        hf, r"expected all weights on one device, text_encoder\.encoder\.layer\.1\.\S+ is not in memory .*device_map"
    )


def test_models_of_several_types_are_refused():
    hf = plain_hf()
    hf.vision_model.to(torch.bfloat16)
    refused(
        hf, r"expected weights of one floating point type, vision_model\.\S+ is bfloat16, text_encoder\.\S+ is float32"
    )


def test_training_mode_is_left_at_the_door_and_refused_later():
    hf = plain_hf(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5).train()
    model = wrap(hf)
    assert_as_hooks(model)
    tracer = ask(model)
    kept = tracer.clean.score
    layer(hf).train()
    with pytest.raises(
        ValueError, match=r"training mode \(text_encoder\.encoder\.layer\.1\.\S*dropout\).*model\.hf\.eval\(\)"
    ):
        tracer.patch(State("question_encoder", 0, 1))
    with pytest.raises(ValueError, match="training mode"):  # as long as it lasts
        tracer.patch(State("question_encoder", 0, 1))
    hf.eval()
    assert tracer.clean.score == kept
    assert tracer.patch(State("question_encoder", 0, 1)).score < 0


def test_compiled_models():
    hf = plain_hf()
    assert_as_hooks(BlipVqa(torch.compile(hf), processor(hf)))
    hf.text_encoder.encoder.layer[1] = torch.compile(layer(hf))
    refused(hf, r"text_encoder\.encoder\.layer\.1\S* is compiled.*before torch\.compile")
    other = plain_hf()
    layer(other).compile()
    refused(other, r"text_encoder\.encoder\.layer\.1 is compiled")


def test_wrappers_are_named_with_what_they_wrap():
    hf = plain_hf()
    with pytest.raises(TypeError, match=r"got DataParallel; hand over what it wraps, model\.module"):
        BlipVqa(nn.DataParallel(hf), processor(hf))


def test_prompt_learning_is_refused():
    peft = pytest.importorskip("peft")
    hf = plain_hf()

    class Wrapped(nn.Module):
        peft_config = {"default": peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2)}  # noqa: RUF012

        def get_base_model(self):
            return hf

    refused(Wrapped(), "prompt learning", processor(hf))


def test_a_question_encoder_that_does_not_see_is_refused():
    torch.manual_seed(0)
    hf = BlipForQuestionAnswering(random_config(is_decoder=False, vocabulary=len(words()))).eval()
    refused(hf, "no cross-attention to the image")


def test_a_processor_of_another_model_is_refused():
    hf = plain_hf()
    images = BlipImageProcessorPil(size={"height": 24, "width": 24})
    refused(
        hf, r"sees pictures of 16 x 16 pixels, its image processor gives 24 x 24.*size", BlipProcessor(images, words())
    )
    images = BlipImageProcessorPil(do_resize=False)
    refused(hf, r"gives 5 x 7", BlipProcessor(images, words()))
    refused(plain_hf(vocabulary=20), r"tokenizer has ids up to \d+, the model words up to 19", processor(hf))
    other = plain_hf()
    other.config.text_config.sep_token_id = 7
    refused(other, r"ends texts with id \d+, the model with 7", processor(hf))


def test_positions_and_config_that_differ_are_refused():
    hf = plain_hf()
    hf.config.vision_config.image_size = 24
    refused(hf, r"has 5 positions, and its config .* says 10", processor(hf))


def test_check_is_a_bool():
    hf = plain_hf()
    with pytest.raises(TypeError, match="check: expected True or False"):
        wrap(hf, check="no")


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
