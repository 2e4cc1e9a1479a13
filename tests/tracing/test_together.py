"""Corrupted runs of several questions computed together are those of each alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from blip_trace_widget import GaussianNoise, ImageSwap, MeanAblation, QuestionSwap, Tracer
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.tracing.runs import Runner
from blip_trace_widget.tracing.together import clean_together, corrupted_together
from helpers.random_models import random_model

PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)) for seed in range(3)
]
#: Picture, question, answer, corruption.
ASKED = [
    (0, "is it red", "blue", GaussianNoise(samples=3)),
    (1, "is it blue", None, GaussianNoise(samples=2, seed=1, kind="additive")),
    (1, "is that it", "red blue", ImageSwap(PICTURES[2])),
    (0, "is it red", "blue", QuestionSwap("is it blue")),
    (2, "is it red", "blue", GaussianNoise(samples=2, at="question_embeddings", positions=[1, 2])),
    (2, "is it red", "blue", GaussianNoise(samples=2, at="patch_embeddings")),
    (0, "is it red", "red", MeanAblation()),
    (1, "what is it red", "blue", GaussianNoise(samples=2)),
    (2, "what is that it", "blue", GaussianNoise(samples=4)),
]


@pytest.fixture
def asked():
    """A model, and questions of it; all are computed at once."""
    model = random_model(seed=1)
    tracers = [Tracer(model, PICTURES[at], *words, corruption=corruption) for at, *words, corruption in ASKED]
    model.limits = Limits(together=True)
    return model, tracers


def passes(monkeypatch, work):
    """Samples of each pass of the question encoder."""
    counted = []
    whole = Runner.encode

    def encode(self, question, image_view, samples, *rest):
        counted.append(samples)
        return whole(self, question, image_view, samples, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "encode", encode)
        work()
    return counted


def test_they_are_those_of_each_alone(asked, monkeypatch):
    model, tracers = asked
    bases = [tracer.case.bases for tracer in tracers]
    list(clean_together(bases))
    groups = []
    counted = passes(monkeypatch, lambda: groups.extend(corrupted_together(enumerate(bases))))
    assert groups == [[0, 1, 2, 3, 4], [5], [6], [7, 8]]
    assert counted == [3 + 2 + 1 + 1 + 2, 2 + 4]
    model.limits = Limits()
    for tracer, (at, *words, corruption) in zip(tracers, ASKED, strict=True):
        alone = Tracer(model, PICTURES[at], *words, corruption=corruption)
        assert tracer.corrupted.answers == alone.corrupted.answers
        np.testing.assert_allclose(tracer.corrupted.scores, alone.corrupted.scores, atol=1e-5)
        np.testing.assert_allclose(tracer.trace().samples, alone.trace().samples, atol=1e-5)


def test_as_many_as_there_is_room_for(asked, monkeypatch):
    model, tracers = asked
    bases = [tracer.case.bases for tracer in tracers]
    list(clean_together(bases))
    each = [runs.corruption.samples * runs.bytes_per_sample() for runs in bases]
    model.limits = Limits(memory=2 * (each[0] + each[1]), together=True)  # half of it is for a group
    assert next(iter(corrupted_together(enumerate(bases)))) == [0, 1]
    model.limits = Limits(together=False)
    fresh = [tracer.with_corruption(MeanAblation("zero")).case.bases for tracer in tracers]
    counted = passes(monkeypatch, lambda: list(corrupted_together(enumerate(fresh))))
    assert counted == []


def test_what_has_no_clean_run_yet_is_left(asked):
    _, tracers = asked
    assert list(corrupted_together(enumerate(tracer.case.bases for tracer in tracers))) == [
        [at] for at in range(len(ASKED))
    ]


def test_where_memory_runs_out_each_is_computed_alone(asked, monkeypatch):
    _, tracers = asked
    bases = [tracer.case.bases for tracer in tracers]
    list(clean_together(bases))
    whole = Runner.encode

    def encode(self, question, image_view, samples, *rest):
        if samples > 4:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, question, image_view, samples, *rest)

    monkeypatch.setattr(Runner, "encode", encode)
    assert [at for group in corrupted_together(enumerate(bases)) for at in group] == list(range(len(ASKED)))
    assert np.isfinite([tracer.corrupted.score for tracer in tracers]).all()
