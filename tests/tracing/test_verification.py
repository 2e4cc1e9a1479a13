"""Numbers that are computed again: by whom, what is compared, and that a wrong number is found."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget import (
    BlipVqa,
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Scale,
    State,
    Tracer,
    load_trace,
)
from blip_trace_widget.choices import PLACES
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.results.verification import CLOSE, Verification
from blip_trace_widget.tracing.random_rounding import randomly_rounded
from helpers.changed_models import ask, plain_hf, wrap
from helpers.problems import EXAMPLES, assert_close, hooked, problems
from helpers.random_models import random_model


@settings(EXAMPLES, max_examples=6)
@given(problems(vision_layers=2), st.sampled_from(PLACES), st.integers(0, 99))
def test_what_is_computed_again_equals_hooks_of_another_hand(tracer, place, seed):
    on_words = {"region": None, "positions": [1]} if place == "question_embeddings" else {}
    tracer = tracer.with_corruption(at=place, **on_words)
    found = tracer.verify(cells=6, seed=seed)
    assert found.agrees
    slow, clean, corrupted = hooked(tracer)
    sample = int(found.names[1].rpartition(" ")[2]) if tracer.corruption.samples > 1 else 0
    exact = [slow.probability(slow.run(each)[0]) for each in (clean, corrupted[sample])]
    assert_close(found.hooked[:2], exact)
    assert_close(found.scores[:2], exact)
    assert np.isfinite(found.exact).all()
    assert len(found.names) == 8


@pytest.mark.parametrize(
    "metric", ["log_probability", "logit_difference", "kl_divergence", lambda logits, _: logits[..., 0, 7]]
)
@pytest.mark.parametrize(
    "corruption",
    [
        lambda _picture: GaussianNoise(factor=2, samples=3, kind="additive"),
        lambda picture: ImageSwap(picture.rotate(90)),
        lambda picture: ImageSwap(picture.rotate(90), at="patch_embeddings"),
        lambda _picture: Scale(0.5),
        lambda _picture: QuestionSwap("what color is the square?"),
        lambda _picture: MeanAblation(to="zero"),
    ],
)
def test_any_corruption_and_metric(small, picture, corruption, metric):
    foil = "red" if metric == "logit_difference" else None
    tracer = Tracer(small, picture, "what color is the circle?", "blue", foil, corruption(picture), metric)
    assert tracer.verify(cells=12).agrees


@pytest.mark.parametrize("spec", [{"window": 2}, {"site": "self_attention", "head": 1}, {"direction": "disrupt"}])
def test_cells_of_a_trace_and_one_that_is_wrong(tracer, spec):
    trace = tracer.trace(**spec)
    assert tracer.verify(cells=5, trace=trace).agrees
    wrong = replace(trace, samples=trace.samples + 1e-3, settings=dict(trace.settings))
    found = tracer.verify(cells=5, trace=wrong, dtype=None)
    assert not found.agrees
    assert found.difference == pytest.approx(1e-3, abs=5e-5)
    assert wrong.settings["verified"]["agrees"] is False
    assert np.isnan(found.exact).all()
    assert found.rounding < 1e-4


@pytest.mark.parametrize(
    ("into", "grid", "through"),
    [
        ("answer", {"block": "answer_decoder", "site": "mlp"}, ()),
        (State("question_encoder", 1, 2, "self_attention", 1), {"site": "cross_attention_out", "head": 0}, ()),
        ([State("answer_decoder", 1, 0, "cross_attention_out", 1), State("question_encoder", 1, 0, "mlp")], {}, "mlp"),
        (State("question_encoder", 1, 2, "block_input"), {"site": "mlp", "direction": "disrupt"}, ()),
        (State("question_encoder", 1, 2, "mlp"), {"site": "mlp"}, ()),
        ([State("question_encoder", 0, 1), State("question_encoder", 1, 1)], {}, ()),
        (State("question_encoder", 0, 1, "cross_attention", 0), {"block": "image_encoder", "patch": 2}, ()),
    ],
)
def test_cells_of_a_trace_of_paths(small, picture, into, grid, through):
    """All of them; among them what receives itself."""
    noise = GaussianNoise(2.0, samples=2, at="patch_embeddings")
    tracer = Tracer(small, picture, "what is this?", "red", corruption=noise, metric="log_probability")
    trace = tracer.trace_paths(into, through=through, **grid)
    assert np.ptp(trace.samples) > 1e-4
    found = tracer.verify(cells=30, trace=trace, dtype=None)
    assert found.agrees
    assert found.difference < 1e-5
    wrong = replace(trace, samples=trace.samples + 1e-3, settings=dict(trace.settings))
    assert not tracer.verify(cells=3, trace=wrong, dtype=None).agrees


def test_the_cells_are_those_of_the_grid(tracer):
    trace = tracer.trace("answer_decoder")
    found = tracer.verify(cells=1000, trace=trace, dtype=None)
    cells = trace.shape[0] * trace.shape[1]
    assert len(set(found.names)) == 2 + cells
    assert {name.partition(" “")[0] for name in found.names[2:]} == {
        f"layer {layer}" for layer in range(trace.shape[0])
    }


def test_it_is_kept_in_settings_and_files(demo, example, tmp_path):
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(factor=3, samples=4))
    before = tracer.trace()
    assert "verified" not in before.settings
    found = tracer.verify(cells=4, seed=5, trace=before)
    kept = found.as_settings()
    assert json.loads(json.dumps(kept)) == kept
    assert before.settings["verified"] == tracer.trace("answer_decoder").settings["verified"] == kept
    assert "verified" not in tracer.with_corruption(factor=2).trace("answer_decoder").settings
    before.save(tmp_path / "trace")
    assert load_trace(tmp_path / "trace").settings["verified"] == kept
    assert kept["runs"] == 6
    assert kept["seed"] == 5


@pytest.mark.parametrize(
    "site", ["text_encoder.encoder.layer.1.crossattention.self.key", "vision_model.encoder.layers.0"]
)
def test_a_model_with_a_hook_of_its_user(site):
    hf = plain_hf()
    hf.get_submodule(site).register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    tracer = ask(wrap(hf)).with_corruption(at="patch_embeddings")
    found = tracer.verify()
    assert found.agrees
    assert found.rounding < 1e-5


def test_a_run_that_differs_is_asked_what_rounding_makes_of_it(tracer, monkeypatch):
    """Plain hooks may round by luck; what is wrong is found on the first run that is more than rounding."""
    monkeypatch.setitem(CLOSE, "float32", 0.0)
    trace = tracer.trace()
    found = tracer.verify(cells=5, trace=trace, dtype=None)
    differs = found.scores != found.hooked
    assert differs.any()
    assert found.agrees
    np.testing.assert_array_equal(np.isfinite(found.jitter), differs)
    assert found.rounding == np.nanmax(found.jitter) < 1e-3
    wrong = replace(trace, samples=trace.samples + 1e-2, settings=dict(trace.settings))
    again = tracer.verify(cells=5, trace=wrong, dtype=None)
    assert not again.agrees
    assert again.apart.sum() == 5
    assert np.isfinite(again.jitter[2:]).sum() == 1


def test_lucky_hooks_are_no_measure_of_rounding():
    numbers = {"names": ("a", "b"), "dtype": "float32", "exact_dtype": "float64", "seed": 0, "stderr": np.zeros(2)}
    exact = np.array([0.5, 0.2])
    of_hooks = {"scores": np.array([0.5, 0.20005]), "hooked": exact + 1e-6, "exact": exact}
    alone = Verification(**of_hooks, jitter=np.full(2, np.nan), **numbers)
    assert alone.apart.tolist() == [False, True]
    assert not alone.agrees
    told = replace(alone, jitter=np.array([np.nan, 3e-5]))
    assert told.agrees
    assert told.rounding == 3e-5
    assert not replace(alone, jitter=np.array([3e-5, np.nan])).agrees  # another run's
    assert not replace(alone, jitter=np.array([np.nan, np.inf])).agrees  # what overflows excuses nothing


def test_random_rounding_is_as_large_as_the_types(tracer):
    module = tracer.model.hf.text_encoder.encoder.layer[0].intermediate.dense
    given = torch.randn(50, module.in_features, generator=torch.Generator().manual_seed(0))
    plain = module(given)
    with randomly_rounded(tracer.model.hf, seed=1):
        one = module(given)
        with ThreadPoolExecutor(1) as pool:
            torch.testing.assert_close(pool.submit(module, given).result(), plain, rtol=0, atol=0)
    with randomly_rounded(tracer.model.hf, seed=1):
        again = module(given)
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    share = ((one - plain) / plain / torch.finfo(torch.float32).eps).abs()
    assert 0.5 < share.median() < 1
    assert share.max() < 8
    torch.testing.assert_close(module(given), plain, rtol=0, atol=0)


def test_a_model_in_half_precision_rounds_and_it_is_told(picture):
    tracer = Tracer(random_model(seed=3), picture, "what is this?", "red")
    half = Tracer(
        BlipVqa(random_model(seed=3).hf.to(torch.bfloat16), random_model(seed=3).processor),
        picture,
        "what is this?",
        "red",
    )
    single, rough = tracer.verify(), half.verify()
    assert single.agrees
    assert rough.agrees
    assert rough.dtype == "bfloat16"
    assert rough.rounding > 100 * single.rounding
    assert not single.coarse.any()


def test_rounding_matters_beside_a_small_score_or_error_bar():
    numbers = {"names": ("a", "b", "c", "d"), "dtype": "float32", "exact_dtype": "float64", "seed": 0}
    exact = np.array([1e-4, 0.5, 0.5, 0.0])
    found = Verification(
        scores=exact,
        hooked=exact + np.array([2e-5, 2e-5, 1e-5, 0]),
        exact=exact,
        stderr=np.array([np.nan, 1e-4, 1e-3, 0]),
        jitter=np.full(4, np.nan),
        **numbers,
    )
    assert found.coarse.tolist() == [True, True, False, False]
    assert found.as_settings()["coarse"] == 2
    assert "in 2 of 4 runs" in repr(found)


def test_the_models_are_left_as_they_were(tracer):
    weights, version = tracer.model.provenance["weights"], tracer.model.version
    tracer.verify(cells=2)
    assert tracer.model.provenance["weights"] == weights
    assert tracer.model.version == version
    assert tracer.model.dtype == torch.float32
    assert not any(module._forward_hooks for module in tracer.model.hf.modules())


def test_what_cannot_be_compared_is_refused(tracer, example):
    other = Tracer(tracer.model, example.image, "how many circles are there?").trace("answer_decoder")
    for arguments, error, text in [
        ({"trace": other}, ValueError, "another question"),
        ({"trace": tracer.with_corruption(factor=1).trace("answer_decoder")}, ValueError, "another corruption"),
        ({"trace": tracer}, TypeError, "expected a Trace"),
        ({"cells": 0}, ValueError, "cells"),
        ({"cells": "all"}, TypeError, "cells"),
        ({"dtype": "int8"}, ValueError, "dtype"),
        ({"seed": -1}, ValueError, "seed"),
    ]:
        with pytest.raises(error, match=text):
            tracer.verify(**arguments)


def test_progress_and_cancel(tracer):
    steps = []
    tracer.verify(cells=3, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 10) for done in range(1, 11)]
    with pytest.raises(Cancelled):
        tracer.verify(cells=3, cancel=lambda: True)


def test_what_does_not_run_in_another_type_says_how_to_do_without(picture):
    hf = plain_hf()
    outside = torch.nn.Linear(16, 16)
    hf.get_submodule("text_encoder.encoder.layer.0").register_forward_hook(
        lambda _module, _inputs, output: (
            (output[0] + 0.1 * outside(output[0]), *output[1:])
            if isinstance(output, tuple)
            else output + 0.1 * outside(output)
        )
    )
    tracer = ask(wrap(hf))
    with pytest.raises(ValueError, match=r"does not run in float64 .*dtype=None"):
        tracer.verify(cells=2)
    assert tracer.verify(cells=2, dtype=None).agrees
