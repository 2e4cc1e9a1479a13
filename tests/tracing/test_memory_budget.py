"""Samples in groups that fit, whatever their number."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, State, Tracer, demo_samples
from blip_trace_widget.dataset.batch import Batch, Plan, trace_batch
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.tracing import memory_budget
from blip_trace_widget.tracing.runs import Runner
from helpers.problems import ROUNDED
from helpers.scarce import NO_ROOM, Operations, fail_every, raising

CPU = torch.device("cpu")


@given(st.integers(1, 10_000), st.integers(0, 2**31))
def test_groups_hold_every_sample_once_and_fit(samples, bytes_a_sample):
    groups = memory_budget.sample_groups(samples, bytes_a_sample, CPU, Limits())
    assert [at for part in groups for at in range(part.start, part.stop)] == list(range(samples))
    sizes = [part.stop - part.start for part in groups]
    assert max(sizes) - min(sizes) <= 1
    room = memory_budget.CPU_BUDGET * memory_budget.GROUP_SHARE
    assert max(sizes) == 1 or max(sizes) * bytes_a_sample <= room
    if samples * bytes_a_sample <= room:
        assert len(groups) == 1


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 600), st.integers(1, 20_000))
def test_chunks_prefer_many_runs_of_few_samples(samples, count, positions, rows):
    together, runs = memory_budget.chunk_shape(samples, count, positions, rows, 512)
    assert 1 <= together <= samples
    assert 1 <= runs <= count
    assert together * runs * positions <= max(rows, positions)
    if together > 1 and runs < count:
        assert runs * positions >= 512 - positions


def test_a_single_run_goes_with_all_its_samples_at_once():
    assert memory_budget.chunk_shape(10, 1, 9, 1024, 512) == (10, 1)


def test_a_gpu_may_fill_a_share_of_its_memory_whatever_else_is_there(monkeypatch):
    has = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: has)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: pytest.fail("it depends on the moment"))
    assert memory_budget.memory_budget(torch.device("cuda"), Limits()) == 20 * 2**30
    assert (
        memory_budget.chunk_rows(torch.device("cuda"), 768, Limits())
        > memory_budget.chunk_rows(CPU, 768, Limits())
        == 1024
    )
    assert memory_budget.chunk_rows(CPU, 64, Limits()) == 12 * 1024


def test_what_a_model_is_told_goes_before_what_its_device_has():
    assert memory_budget.memory_budget(CPU, Limits(memory=7)) == 7
    assert memory_budget.chunk_rows(CPU, 64, Limits(rows=7)) == 7


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"memory": 0}, ValueError, "memory: expected 1 or more, got 0"),
        ({"rows": -7}, ValueError, "rows: expected 1 or more, got -7"),
        ({"rows_per_sample": None}, TypeError, "rows_per_sample: expected an integer, got NoneType None"),
        ({"memory": 2.5}, TypeError, "memory: expected an integer, got float 2.5"),
        ({"together": 1}, TypeError, "together: expected True, False or None, got 1"),
    ],
)
def test_limits_that_are_none_are_refused(given, error, told):
    with pytest.raises(error, match=told):
        Limits(**given)


@pytest.mark.parametrize(
    ("error", "number"), [*((error, 2) for error in NO_ROOM), *((NO_ROOM[2], number) for number in (1, 3, 5))]
)
def test_wherever_memory_runs_out_the_numbers_are_the_same(monkeypatch, demo, example, error, number):
    def computed():
        tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=5))
        before_the_vit = tracer.with_corruption(GaussianNoise(samples=3, at="patch_embeddings"))
        trace = tracer.trace("answer_decoder")
        return [
            *(trace.samples, tracer.corrupted.scores, tracer.noise_curve([1.0, 5.0]).corrupted),
            before_the_vit.patch(State("image_encoder", 1, 2)).scores,
        ]

    expected = computed()
    failed = fail_every(monkeypatch, number, error)
    for found, wanted in zip(computed(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=ROUNDED)
    assert failed


@pytest.mark.parametrize("number", [1, 3])
def test_a_batch_of_questions_for_which_there_is_no_room_is_halved(monkeypatch, demo, number):
    plan = Plan.of("answer_decoder", "block_output", GaussianNoise(samples=2), "probability", only_correct=False)
    monkeypatch.setattr(demo, "limits", Limits(together=True))

    def traced():
        tables = trace_batch(demo, plan, Batch(0, 0, list(demo_samples(4))))
        return [table.to_pandas() for table in tables]

    rows, cells = traced()
    failed = fail_every(monkeypatch, number, MemoryError())
    few, few_cells = traced()
    assert max(failed) > 2
    assert list(few["own_answer"]) == list(rows["own_answer"])
    np.testing.assert_allclose(few["clean"], rows["clean"], atol=ROUNDED)
    np.testing.assert_allclose(few_cells["score"], cells["score"], atol=ROUNDED)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("error", NO_ROOM)
def test_answers_are_decoded_in_parts_where_there_is_no_room_for_all(monkeypatch, demo, example, error, most):
    whole, sizes = Runner.greedy, []

    def few(self, encoded, *rest, **named):
        sizes.append(len(encoded))
        if len(encoded) > most:
            raise error
        return whole(self, encoded, *rest, **named)

    def answers():
        return Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=5)).corrupted.answers

    expected = answers()
    monkeypatch.setattr(Runner, "greedy", few)
    assert answers() == expected
    assert max(sizes) == 5


@pytest.mark.parametrize("error", NO_ROOM)
def test_scores_are_computed_in_parts_where_there_is_no_room_for_all(demo, example, error):
    refused = []

    def narrow(logits, answer):
        if (runs := logits.shape[:-2].numel()) > 1:
            refused.append(runs)
            raise error
        return wide(logits, answer)

    def wide(logits, answer):
        return logits.softmax(-1)[..., 0, answer[0]]

    def computed(metric):
        noise = GaussianNoise(samples=3)
        tracer = Tracer(demo, example.image, example.question, corruption=noise, metric=metric)
        trace = tracer.trace("answer_decoder", progress=False)
        return [tracer.corrupted.scores, trace.samples, tracer.patch(State("question_encoder", 2, 3)).scores]

    expected = computed(wide)
    for found, wanted in zip(computed(narrow), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=ROUNDED)
    assert max(refused) > 3


def numbers(table):
    return table.to_dataframe().select_dtypes("number").to_numpy(float)


#: All that a tracer computes, as numbers.
KINDS = {
    "runs": lambda tracer: [*tracer.clean.scores, *tracer.corrupted.scores],
    "prepare": lambda tracer: [tracer.prepare(), tracer.total_effect.value][1:],
    "patch": lambda tracer: tracer.patch(State("question_encoder", 2, 3)).scores,
    "image tokens": lambda tracer: tracer.patch_image_tokens([3, 4]).scores,
    "trace": lambda tracer: tracer.trace("answer_decoder", hold="mlp", progress=False).samples,
    "heads": lambda tracer: tracer.trace_heads("answer_decoder", "cross_attention", progress=False).samples,
    "map": lambda tracer: tracer.trace_image_tokens(patch=4, progress=False).samples,
    "path": lambda tracer: tracer.patch_path(State("question_encoder", 1, 2), "answer").scores,
    "paths": lambda tracer: tracer.trace_paths("answer", "answer_decoder", progress=False).samples,
    "image paths": lambda tracer: (
        tracer.trace_image_paths(State("question_encoder", 3, 2), patch=8, progress=False).samples
    ),
    "curve": lambda tracer: tracer.noise_curve([1.0, 5.0], progress=False).corrupted,
    "recovery": lambda tracer: tracer.recovery_curve("answer_decoder", [2.0], progress=False).recovery,
    "knockout": lambda tracer: [tracer.knockout("question_encoder", layers=2, queries=2, keys=[1, 2]).loss],
    "knockouts": lambda tracer: tracer.trace_knockout("question_encoder", progress=False).scores,
    "ablate": lambda tracer: [tracer.ablate(State("question_encoder", 2, 2), to="mean").score],
    "attention": lambda tracer: tracer.attention("question_encoder", 2, 0).corrupted,
    "lens": lambda tracer: tracer.logit_lens().corrupted_answer,
    "flow": lambda tracer: numbers(
        tracer.flow({"picture": {"square": [3, 4]}, "question": {"word": [2]}, "answer": {}}, progress=False)
    ),
    "found": lambda tracer: [tracer.find_states(target=0.5, most=2, tries=1, progress=False).recovery],
    "verify": lambda tracer: tracer.verify(cells=1, dtype=None, progress=False).hooked,
    "agreement": lambda tracer: numbers(
        tracer.agreement([GaussianNoise(2.0, samples=2), GaussianNoise(samples=2)], "answer_decoder", progress=False)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_computed_is_right_or_told_and_right_afterwards(demo, example, kind):
    def tracer():
        return Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=2))

    def same(found):
        np.testing.assert_allclose(np.array(found, float), expected, atol=ROUNDED)

    compute = KINDS[kind]
    with Operations() as counted:
        expected = np.array(compute(tracer()), float)
    for error, share in zip(NO_ROOM, np.linspace(0, 1, len(NO_ROOM)), strict=True):
        asked = tracer()
        try:
            with Operations(int(share * (counted.count - 1)), raising(error)):
                found = compute(asked)
        except torch.OutOfMemoryError as told:
            assert str(told).startswith("memory: not even one run of one noise sample fits into what is free on cpu")  # noqa: PT017
        else:
            same(found)
        same(compute(asked))


def test_another_error_passes_as_it_is(demo, example):
    other = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else") as raised, Operations(29, raising(other)):
        Tracer(demo, example.image, example.question).knockout("question_encoder", layers=2, queries=2, keys=[1, 2])
    assert raised.value is other


def test_a_single_question_fills_a_cpu_alone():
    cuda = torch.device("cuda")
    assert [memory_budget.questions_together(device, Limits()) for device in (CPU, cuda)] == [False, True]
    for asked in (True, False):
        assert all(memory_budget.questions_together(device, Limits(together=asked)) == asked for device in (CPU, cuda))
