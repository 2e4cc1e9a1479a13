"""What a notebook may have set in torch for everything: the same numbers, and the setting as it was afterwards."""

import threading
import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from blip_trace_widget import BlipVqa, GaussianNoise, ImageSwap, MeanAblation, State, Tracer
from blip_trace_widget.model.surroundings import exact_convolution, neutral
from helpers.random_models import random_hf_model, random_model, words

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8))
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@contextmanager
def setting(read, write, value):
    before = read()
    write(value)
    try:
        yield
        assert read() == value  # nobody has changed it
    finally:
        write(before)


def default_dtype(kind):
    return setting(torch.get_default_dtype, torch.set_default_dtype, kind)


def matmul_precision(value):
    return setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, value)


@contextmanager
def fp32_precision(place, value):
    before = place.fp32_precision
    place.fp32_precision = value
    try:
        yield
        assert place.fp32_precision == value
    finally:
        place.fp32_precision = before


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
        assert torch.get_default_device().type == torch.device(device).type
    finally:
        torch.set_default_device(None)


@contextmanager
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "matmul precision medium": lambda: matmul_precision("medium"),
    "matmul precision high": lambda: matmul_precision("high"),
    "all in tf32": lambda: fp32_precision(torch.backends, "tf32"),
    "mkldnn in bfloat16": lambda: fp32_precision(torch.backends.mkldnn.matmul, "bf16"),
    "mkldnn convolutions in bfloat16": lambda: fp32_precision(torch.backends.mkldnn.conv, "bf16"),
    "without mkldnn": lambda: torch.backends.mkldnn.flags(enabled=False),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "deterministic algorithms": deterministic,
    "default device meta": lambda: default_device("meta"),
    "a device around": lambda: torch.device("meta"),
    "one kernel of attention": lambda: sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
    "flash attention": lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION),
    "plain attention": lambda: sdpa_kernel(SDPBackend.MATH),
    "anomaly detection": torch.autograd.detect_anomaly,
    "NumPy's errors": lambda: np.errstate(all="raise"),
    "warnings are errors": warnings_are_errors,
}


def numbers(model):
    """Of every kind that is computed."""
    noise = GaussianNoise(factor=2.0, samples=3)
    tracer = Tracer(model, PICTURE, "what is red circle", answer="red blue", corruption=noise, metric="log_probability")
    early = tracer.with_corruption(GaussianNoise(factor=2.0, samples=2, at="patch_embeddings"))
    return {
        "clean": tracer.clean.score,
        "corrupted": tracer.corrupted.scores,
        "trace": tracer.trace().samples,
        "recovery": tracer.trace("answer_decoder", "mlp").recovery,
        "patch": tracer.patch(State("question_encoder", 0, 1, "self_attention", 1)).scores,
        "image encoder": early.trace("image_encoder").samples,
        "tokens": tracer.trace_image_tokens().samples,
        "curve": tracer.noise_curve([0.0, 3.0]).corrupted,
        "knockout": tracer.knockout("question_encoder", 0, 1, 1).score,
        "attention": tracer.attention("question_encoder", 1).corrupted,
        "lens": tracer.logit_lens().corrupted_answer,
        "strength": tracer.corruption_strength(),
        "swap": tracer.with_corruption(ImageSwap(PICTURE.rotate(90))).corrupted.scores,
        "mean": tracer.with_corruption(MeanAblation()).trace().samples,
        "own answer": tracer.replace(answer=None).clean.score,
    }


@pytest.fixture(scope="module")
def model():
    return random_model(seed=1, vision_layers=2)


@pytest.fixture(scope="module")
def expected(model):
    return numbers(model)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_changes_a_number(model, expected, name):
    state = torch.random.get_rng_state()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Anomaly Detection")
        warnings.filterwarnings("ignore", message="In CPU autocast")
        stack.enter_context(SETTINGS[name]())
        found = numbers(model)
    for kind, values in expected.items():
        np.testing.assert_allclose(found[kind], values, atol=2e-6, rtol=2e-5, err_msg=kind)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_model_is_admitted_under_every_setting(expected, name):
    hf, processor = random_hf_model(1, words(), vision_layers=2), random_model(seed=1).processor
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection")
        with SETTINGS[name]():
            model = BlipVqa(hf, processor)
    assert Tracer(model, PICTURE, "what is red circle", answer="red blue", metric="log_probability").clean.score == (
        pytest.approx(expected["clean"], abs=2e-6)
    )


def test_the_noise_bank_is_the_same_whatever_is_set():
    noise = GaussianNoise(samples=2, seed=7)
    for size in (16, 15):
        bank = noise.bank(5, size)
        with default_dtype(torch.float64), torch.device("meta"):
            again = noise.bank(5, size)
        assert again.dtype == torch.float32
        assert torch.equal(bank, again)


STATES = {
    "as it begins": lambda: None,
    "old, products": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "old, convolutions off": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "old, medium": lambda: torch.set_float32_matmul_precision("medium"),
    "new, all": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "new, all exact": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
    "new, convolutions": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "tf32"),
    "new, cuDNN": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "new, products": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "new, mkldnn": lambda: setattr(torch.backends.mkldnn, "fp32_precision", "bf16"),
}
PLACES = ("matmul", "conv", "rnn")


def settings_now():
    """All that can be read, or what reading raises."""
    found = {}
    for name, read in {
        "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "matmul precision": torch.get_float32_matmul_precision,
        "all": lambda: torch.backends.fp32_precision,
        "cuda matmul": lambda: torch.backends.cuda.matmul.fp32_precision,
        "cudnn": lambda: torch.backends.cudnn.fp32_precision,
        "cudnn conv": lambda: torch.backends.cudnn.conv.fp32_precision,
        "cudnn rnn": lambda: torch.backends.cudnn.rnn.fp32_precision,
        "mkldnn": lambda: torch.backends.mkldnn.fp32_precision,
        "mkldnn matmul": lambda: torch.backends.mkldnn.matmul.fp32_precision,
        "mkldnn conv": lambda: torch.backends.mkldnn.conv.fp32_precision,
        "math": torch.backends.cuda.math_sdp_enabled,
    }.items():
        try:
            found[name] = read()
        except RuntimeError as error:
            found[name] = str(error)[:40]
    return found


@pytest.mark.parametrize("state", STATES)
def test_precision_is_full_inside_and_as_it_was_outside(state):
    """In a process of its own: the two ways of setting it get into each other's way for good."""
    in_a_fork(lambda: _precision(state))


def _precision(state):
    STATES[state]()
    before = settings_now()
    with neutral(CUDA), exact_convolution(CUDA), neutral(CPU), exact_convolution(CPU), neutral(CUDA):
        for place in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul):
            assert place.fp32_precision in ("ieee", "none"), place
    assert settings_now() == before


def in_a_fork(work):
    import os
    import traceback

    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001 - told, and the child ends here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_two_models_on_two_threads_leave_the_settings_as_they_were():
    torch.set_float32_matmul_precision("medium")
    before = settings_now()
    try:
        models = [random_model(seed=seed) for seed in (1, 2)]
        tracers = [Tracer(model, PICTURE, "is it red", answer="blue") for model in models]

        def work(tracer):
            for factor in np.linspace(0, 3, 12):
                _ = tracer.with_corruption(factor=float(factor), samples=2).trace().scores

        threads = [threading.Thread(target=work, args=(tracer,)) for tracer in tracers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert settings_now() == before
    finally:
        torch.set_float32_matmul_precision("highest")
