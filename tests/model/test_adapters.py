"""Models with PEFT's adapters, from folders too."""

import copy

import pytest
import torch
from transformers import BlipForQuestionAnswering

from blip_trace_widget import BlipVqa
from helpers.changed_models import (
    ask,
    assert_as_hooks,
    assert_vision_as_hooks,
    exact,
    plain_hf,
    processor,
    wrap,
)


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
