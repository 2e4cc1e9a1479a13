"""Every public computation on an emulated GPU: CUDA's rules, and MPS's, which knows no float64."""

from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from blip_trace_widget import (
    BlipVqa,
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Sample,
    Scale,
    State,
    Tracer,
    trace_dataset,
)
from blip_trace_widget.model import loading
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.model.weights import weights_hash
from blip_trace_widget.tracing import memory_budget
from blip_trace_widget.tracing.grid import grid_cells
from blip_trace_widget.tracing.patching import image_token_scores, patched_scores
from blip_trace_widget.tracing.runs import Runner
from helpers.devices import COUNTER, DEVICE, emulated, moved
from helpers.random_models import random_hf_model, random_model, words
from helpers.scarce import fail_where

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8))
STATES = [State("question_encoder", 0, 1), State("answer_decoder", 1, 0, "self_attention", 1)]
REGION = [[True, False], [False, True]]
NOISE = GaussianNoise(factor=2.0, samples=3)


def under(corruption):
    return lambda tracer: tracer.with_corruption(corruption).trace().samples


COMPUTATIONS = {
    "clean": lambda tracer: tracer.clean.score,
    "top words": lambda tracer: [value for _, value in tracer.clean.top],
    "corrupted": lambda tracer: tracer.corrupted.scores,
    "patch": lambda tracer: tracer.patch(STATES).scores,
    "trace": lambda tracer: tracer.trace().samples,
    "trace of a head": lambda tracer: tracer.trace(site="cross_attention", head=1, direction="disrupt").samples,
    "all heads": lambda tracer: tracer.trace("answer_decoder", "self_attention", head="all").samples,
    "additive noise in a region": under(GaussianNoise(kind="additive", region=REGION, samples=2)),
    "another picture": under(ImageSwap(PICTURE.rotate(90), region=REGION)),
    "another question": under(QuestionSwap("what is blue circle")),
    "the mean": under(MeanAblation()),
    "a factor": under(Scale(0.5, REGION)),
    "noise on words": under(GaussianNoise(samples=2, at="question_embeddings", positions=[1, 2])),
    "another picture before the ViT": under(ImageSwap(PICTURE.rotate(90), at="patch_embeddings")),
    "states at their mean": lambda tracer: tracer.ablate([State("image_encoder", 0, 1), STATES[0]], "mean").score,
    "states at zero": lambda tracer: tracer.ablate(STATES, "zero").score,
    "states times a factor": lambda tracer: tracer.ablate(STATES, 0.5).score,
    "patch embeddings": under(GaussianNoise(samples=2, at="patch_embeddings")),
    "image encoder": lambda tracer: (
        tracer.with_corruption(GaussianNoise(samples=2, at="patch_embeddings")).trace("image_encoder").samples
    ),
    "image tokens": lambda tracer: tracer.trace_image_tokens().samples,
    "some image tokens": lambda tracer: tracer.patch_image_tokens(REGION, "disrupt").scores,
    "noise curve": lambda tracer: tracer.noise_curve([0, 1, 2], STATES[:1]).patched,
    "recovery curve": lambda tracer: tracer.recovery_curve(factors=[1, 2]).patched,
    "agreement": lambda tracer: tracer.agreement([NOISE, MeanAblation()]).traces[1].samples,
    "knockout": lambda tracer: tracer.knockout("question_encoder", None, 1, REGION).score,
    "knockout by layer": lambda tracer: tracer.trace_knockout("answer_decoder").scores,
    "knockout of a head": lambda tracer: tracer.trace_knockout("question_encoder", 1, 0, "self_attention", 1).scores,
    "attention to the picture": lambda tracer: tracer.attention("question_encoder", 1).corrupted,
    "attention in the picture": lambda tracer: (
        tracer.with_corruption(GaussianNoise(samples=2, at="patch_embeddings")).attention("image_encoder", 0).corrupted
    ),
    "attention among words": lambda tracer: tracer.attention("answer_decoder", 0, 1, "self_attention", "heads").clean,
    "attention to the question": lambda tracer: tracer.attention("answer_decoder", 0, 1).corrupted,
    "logit lens": lambda tracer: tracer.logit_lens().corrupted_answer,
    "strength": lambda tracer: tracer.corruption_strength(),
    "own answer": lambda tracer: tracer.replace(answer=None).clean.score,
    "divergence": lambda tracer: tracer.replace(metric="kl_divergence").trace().samples,
    "foil": lambda tracer: tracer.replace(metric="logit_difference", foil="red green").trace().samples,
    "own metric": lambda tracer: (
        tracer.replace(metric=lambda logits, ids: logits.mean((-1, -2)) + ids.sum()).clean.score
    ),
}


def tracer_of(model):
    return Tracer(model, PICTURE, "what is red circle", answer="red blue", corruption=NOISE)


def elsewhere(*, check=False):
    """The model on the emulated device; only inside `emulated`."""
    hf = random_hf_model(1, words(), vision_layers=2)
    return BlipVqa(moved(hf), random_model(seed=1).processor, check=check)


@pytest.fixture(scope="module", autouse=True)
def _made_here():
    """The processor that all share is made outside the emulation, whichever test comes first."""
    random_model(seed=1)


@cache
def shared(float64):
    """The model of such a device, of which nothing is changed; only inside `emulated`."""
    return elsewhere()


@pytest.fixture(scope="module")
def here():
    return tracer_of(random_model(seed=1, vision_layers=2))


@pytest.mark.parametrize("float64", [True, False], ids=["CUDA", "MPS"])
@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_device_gives_the_same_numbers(here, name, float64):
    with emulated(float64=float64):
        model = shared(float64)
        assert model.device.type == "privateuseone"
        found = COMPUTATIONS[name](tracer_of(model))
    np.testing.assert_allclose(found, COMPUTATIONS[name](here), atol=1e-5)


@pytest.mark.parametrize("float64", [True, False], ids=["CUDA", "MPS"])
def test_a_data_set_and_what_results_come_from(tmp_path, here, float64):
    samples = [Sample(PICTURE, question, "blue") for question in ("is it red", "what is blue circle")]
    with emulated(float64=float64):
        model = elsewhere(check=True)
        assert model.provenance["weights"] == here.model.provenance["weights"]
        options = {"corruption": NOISE, "progress": False, "metric": "log_probability"}
        found = trace_dataset(samples, model, tmp_path / "there", **options)
    expected = trace_dataset(samples, here.model, tmp_path / "here", **options)
    assert found.counts == expected.counts
    for numbers in ("clean", "corrupted"):
        np.testing.assert_allclose(found.samples[numbers], expected.samples[numbers], atol=1e-5)


def test_the_emulation_keeps_a_devices_rules():
    with emulated(float64=False) as counter:
        there = torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="float64"):
            there.double()
        before = counter.copies
        assert float((there + 1).sum().cpu()) == 6
        assert counter.copies == before + 1
        there[torch.tensor([0])]
        assert counter.copies == before + 2


@pytest.mark.parametrize("work", ["grid", "image encoder's grid", "image tokens", "edges"])
def test_nothing_goes_to_or_from_the_device_inside_the_layers(work):
    """`cancel` is asked once a layer: what was copied by then may differ between passes, not within one."""
    with emulated():
        model = elsewhere()
        noise = GaussianNoise(samples=2, at="patch_embeddings" if "encoder" in work else "image_embeddings")
        tracer = tracer_of(model).with_corruption(noise)
        tracer.prepare()
        tracer.trace(block="image_encoder" if "encoder" in work else "question_encoder")
        seen = []

        def cancel():
            seen.append(COUNTER.copies)

        if work == "edges":
            tracer.trace_knockout("question_encoder", 1, 0, "self_attention", window=2, cancel=cancel)
        elif work == "image tokens":
            list(image_token_scores(tracer.case, [[1], [2, 3]], cancel=cancel))
        else:
            block = "image_encoder" if "encoder" in work else "question_encoder"
            list(
                patched_scores(
                    tracer.case, [cell.states for cell in grid_cells(tracer.case, block, "mlp")], cancel=cancel
                )
            )
    layers = 2
    assert len(seen) >= 2 * layers
    passes = [seen[at : at + layers] for at in range(0, len(seen) - layers + 1, layers)]
    assert all(len(set(each)) == 1 for each in passes), passes


@pytest.mark.parametrize("work", ["grid", "heads", "held", "image tokens"])
def test_a_chunk_of_runs_costs_three_copies(work):
    """Its indices go over together; whether the logits are numbers, and the scores, come back."""
    works = {
        "grid": lambda tracer: tracer.trace("question_encoder", "mlp"),
        "heads": lambda tracer: tracer.trace_heads("question_encoder", "self_attention"),
        "held": lambda tracer: tracer.trace(hold=("mlp", STATES[1])),
        "image tokens": lambda tracer: tracer.trace_image_tokens(),
    }
    with emulated():
        tracer = tracer_of(elsewhere())
        tracer.trace()
        _ = tracer.total_effect
        before = COUNTER.copies
        works[work](tracer)
        blocks = 2  # each resumed block has its indices, the picture's groups are a third
        assert COUNTER.copies - before <= 2 + blocks + (work == "image tokens")


def in_chunks(tracer):
    """Two cells a chunk."""
    tracer.model.limits = Limits(rows=2 * 3 * len(tracer.question_tokens), rows_per_sample=1)
    tracer.prepare()
    return tracer


@pytest.mark.parametrize("work", ["grid", "image tokens", "edges"])
def test_a_chunk_is_started_before_the_scores_of_the_one_before_are_waited_for(work):
    steps = []
    works = {
        "grid": lambda tracer, report: tracer.trace(progress=report),
        "image tokens": lambda tracer, report: tracer.trace_image_tokens(progress=report),
        "edges": lambda tracer, report: tracer.trace_knockout("answer_decoder", progress=report),
    }
    with emulated():
        tracer = in_chunks(tracer_of(elsewhere()))
        COUNTER.ahead.clear()
        before = COUNTER.waits
        works[work](tracer, lambda done, _all: steps.append(done))
        assert COUNTER.waits == before
        *chunks, last = COUNTER.ahead
    assert steps == sorted(set(steps))
    assert len(steps) == len(chunks) + 1 > 1
    assert min(chunks) > 20
    assert last == 0


@pytest.mark.parametrize("stop", [Cancelled, KeyboardInterrupt])
def test_what_is_started_before_the_work_ends_early_is_there(here, stop):
    """As many cells as on a CPU, however late their scores are fetched."""

    def traced(tracer):
        layers = iter(range(10**6))

        def cancel():
            if next(layers) == 9:
                raise stop

        with pytest.warns(UserWarning, match="interrupted") if stop is KeyboardInterrupt else nullcontext():
            return tracer.trace(cancel=cancel)

    here = in_chunks(here.replace())
    expected = traced(here)
    here.model.limits = Limits()
    with emulated():
        found = traced(in_chunks(tracer_of(elsewhere())))
    assert 0 < expected.computed.sum() < expected.computed.size
    np.testing.assert_array_equal(found.computed, expected.computed)
    np.testing.assert_allclose(found.samples, expected.samples, atol=1e-5)


@pytest.mark.parametrize("longest", [1, 2, 5])
def test_answers_are_waited_for_once_they_can_end(longest):
    with emulated():
        runner = Runner(elsewhere())
        encoded = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        before = COUNTER.waits
        answers = runner.greedy(encoded, longest)
        assert max(map(len, answers)) == longest
        assert COUNTER.waits - before == max(1, longest - 1)


def test_questions_of_one_length_share_their_base_runs(tmp_path):
    """What a question costs beyond its grid is a share of the runs of all."""
    samples = [Sample(PICTURE.rotate(90 * turn), "is it red", "blue") for turn in range(4)]
    launches = []
    with emulated():
        model = elsewhere()
        for size in (1, 4):
            before = COUNTER.launches
            options = {"corruption": NOISE, "metric": "kl_divergence", "progress": False, "batch_size": size}
            found = trace_dataset(samples, model, tmp_path / str(size), **options)
            assert found.counts["traced"] == 4
            launches.append(COUNTER.launches - before)
    assert launches[1] < 0.4 * launches[0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB, other allocations: 2 GB, max allowed: 3 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
    ids=["CUDA", "MPS", "CPU"],
)
def test_where_there_is_no_room_the_work_is_halved_and_else_said(monkeypatch, here, error):
    expected, most = here.trace().samples, 3
    fail_where(monkeypatch, lambda runs, samples: runs * samples > most, error)
    np.testing.assert_allclose(here.trace().samples, expected, atol=1e-6)
    most = 0
    with pytest.raises(RuntimeError, match=r"memory: not even one run .* on cpu\. Free some.*bfloat16"):
        here.trace()
    monkeypatch.undo()
    np.testing.assert_allclose(here.trace().samples, expected, atol=1e-6)


def test_another_error_is_not_taken_for_a_lack_of_room(monkeypatch, here):
    fail_where(monkeypatch, lambda *_: True, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        here.trace()


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_device_is_chosen(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert loading.device_of(None) == torch.device(chosen)


def test_a_mac_has_a_budget_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 20 * 2**30)
    assert memory_budget.memory_budget(torch.device("mps"), Limits()) == 5 * 2**30
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**30)
    assert memory_budget.memory_budget(torch.device("mps"), Limits()) == memory_budget.CPU_BUDGET


def test_the_fingerprint_of_weights_comes_over_in_one_copy(here):
    with emulated():
        model = elsewhere()
        before = COUNTER.copies
        assert weights_hash(model.hf) == here.model.provenance["weights"]
    buffers = sum("position_ids" in name for name, _ in model.hf.named_buffers())
    assert COUNTER.copies - before <= 1 + buffers
