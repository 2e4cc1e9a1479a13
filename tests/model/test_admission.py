"""Models that cannot be traced: refused with a reason and a way out."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip import modeling_blip_text
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, State, Tracer
from helpers.changed_models import (
    PICTURE,
    QUESTION,
    ask,
    assert_as_hooks,
    layer,
    noisy,
    plain_hf,
    processor,
    refused,
    score,
    slow,
    wrap,
    zero_second,
)
from helpers.random_models import random_config, words


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
    refused(hf, r"model: vision_model\.embeddings gives another output")


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
