"""Numbers beyond the model's floating point type: an error that says so, and nothing lost."""

import numpy as np
import pytest
import torch

from blip_trace_widget import BlipVqa, GaussianNoise, MeanAblation, Scale, State, Tracer, TraceWidget
from helpers.changed_models import ask, noisy, plain_hf, wrap


@pytest.fixture(scope="module")
def half():
    return BlipVqa.demo(dtype="float16")


BEYOND = [
    GaussianNoise(1e4, samples=2),
    GaussianNoise(1e5, "additive", samples=2),
    GaussianNoise(1e6, samples=2, at="patch_embeddings"),
    GaussianNoise(1e6, samples=2, at="question_embeddings"),
    Scale(1e4),
    Scale(1e6, at="patch_embeddings"),
]


@pytest.mark.parametrize("corruption", BEYOND, ids=repr)
def test_a_factor_beyond_the_types_range_is_named(half, example, corruption):
    tracer = Tracer(half, example.image, example.question, corruption=corruption)
    told = (
        rf"corruption: {type(corruption).__name__} with factor {corruption.factor:g} takes a run beyond float16.*dtype"
    )
    told = told.replace("+", r"\+")
    for asking in (
        lambda: tracer.corrupted,
        lambda: tracer.patch(State("question_encoder", 1, 2), "disrupt"),
        lambda: tracer.trace(),
        lambda: tracer.attention("question_encoder", 0),
        lambda: tracer.logit_lens(),
    ):
        with pytest.raises(ValueError, match=told):
            asking()
    gentle = tracer.with_corruption(factor=1.5)
    assert np.isfinite(gentle.trace().scores).all()


def test_a_patched_run_beyond_range_is_no_score():
    """The base runs are within range; a layer of the user's own is not where one clean state meets noisy ones."""
    hf = plain_hf()
    met = {"on": False}

    def overflow(_module, _inputs, output):
        return output * torch.inf if met["on"] else output

    hf.text_decoder.cls.register_forward_hook(overflow)
    tracer = ask(wrap(hf), corruption=noisy())
    assert np.isfinite(tracer.corrupted.scores).all()
    met["on"] = True
    with pytest.raises(ValueError, match="corruption: GaussianNoise with factor 2 takes a run beyond float32"):
        tracer.patch(State("question_encoder", 0, 1))


def test_a_clean_run_beyond_range_blames_the_model(example):
    hf = plain_hf()
    model = wrap(hf)
    with torch.no_grad():
        hf.text_encoder.encoder.layer[0].output.LayerNorm.weight.fill_(3e38)
    with pytest.raises(ValueError, match="model: the clean run goes beyond float32"):
        _ = Tracer(model, example.image, "what is red circle").clean


def test_words_that_a_model_rules_out_are_no_overflow():
    hf = plain_hf()

    def rule_out(_module, _inputs, output):
        output = output.clone()
        output[..., 5] = -torch.inf
        return output

    hf.text_decoder.cls.register_forward_hook(rule_out)
    tracer = ask(wrap(hf, check=False), corruption=noisy())
    assert np.isfinite(tracer.trace().scores).all()


def test_a_metric_of_ones_own_may_give_no_number(demo, example):
    tracer = Tracer(
        demo, example.image, example.question, metric=lambda logits, _ids: logits.new_full(logits.shape[:-2], np.nan)
    )
    assert np.isnan(tracer.corrupted.scores).all()
    assert np.isnan(tracer.trace("answer_decoder").scores).all()


def test_the_widget_says_it_and_stays_where_it_was(half, example):
    widget = TraceWidget.from_tracer(Tracer(half, example.image, example.question, corruption=GaussianNoise(samples=2)))
    widget.trace_all()
    widget.wait()
    before = widget.trace
    widget.noise = 1e5
    widget.wait()
    assert "takes a run beyond float16" in widget.error
    assert widget.noise == 5.0
    np.testing.assert_array_equal(widget.trace.samples, before.samples)
    widget.corruption = "MeanAblation"
    widget.wait()
    assert not widget.error
    assert widget.tracer.corruption == MeanAblation()
    widget.close()
