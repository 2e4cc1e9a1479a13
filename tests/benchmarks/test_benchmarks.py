"""The same pieces of work at a small size, for `pytest --benchmark-compare`: no figure is asserted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, State, Tracer
from helpers.random_models import random_model


@pytest.fixture(scope="module")
def medium(picture):
    """A tracer of a model of 4 layers, width 64 and 65 image tokens, with both runs computed."""
    model = random_model(layers=4, heads=4, width=64, patches=8, vision_layers=2)
    tracer = Tracer(model, picture, "what color is the circle?", answer="red", corruption=GaussianNoise(2.0, samples=1))
    tracer.prepare()
    tracer.trace()
    return tracer


def run(benchmark, work):
    return benchmark.pedantic(work, rounds=5, warmup_rounds=1)


def test_grid(benchmark, medium):
    assert run(benchmark, medium.trace).complete


def test_grid_of_ten_samples(benchmark, medium):
    ten = medium.with_corruption(samples=10)
    assert run(benchmark, ten.trace).samples.shape[0] == 10


def test_decoder_grid(benchmark, medium):
    assert run(benchmark, lambda: medium.trace("answer_decoder")).complete


@pytest.mark.parametrize("layer", [0, 3])
def test_cell(benchmark, medium, layer):
    assert np.isfinite(run(benchmark, lambda: medium.patch(State("question_encoder", layer, 4))).score)


def test_image_encoder_cell(benchmark, medium):
    before = medium.with_corruption(at="patch_embeddings")
    assert np.isfinite(run(benchmark, lambda: before.patch(State("image_encoder", 1, 5))).score)


def test_image_token_map(benchmark, medium):
    assert run(benchmark, medium.trace_image_tokens).complete


def test_slider_step(benchmark, medium):
    factors = iter(np.linspace(0.5, 5, 20))
    step = run(benchmark, lambda: medium.with_corruption(factor=next(factors)).corrupted)
    assert step.answer


def test_noise_curve(benchmark, medium):
    assert run(benchmark, medium.noise_curve).factors.size == 21


def test_cold_start(benchmark, medium, picture):
    cold = run(benchmark, lambda: Tracer(medium.model, picture, medium.question, answer="red").clean)
    assert cold.answer == "red"


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_wherever_there_is_none():
    script = Path(__file__).with_name("gpu.py")
    ran = subprocess.run(
        [sys.executable, script, "--device", "cpu", "--quick", "--small"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for row in ("noise 5", "float32 (as it computes)", "bfloat16", "runs together", "image-encoder grid", "in all"):
        assert row in ran.stdout
    assert "not run" not in ran.stdout
