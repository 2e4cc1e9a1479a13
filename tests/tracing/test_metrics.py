"""Scores and what follows from them, against the definitions written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blip_trace_widget import Trace, Tracer, examples
from blip_trace_widget.choices import METRIC_NAMES, METRIC_PROPERTIES
from blip_trace_widget.results.numerics import standard_error
from blip_trace_widget.results.statistics import TotalEffect, effects
from blip_trace_widget.tracing.metrics import METRICS, Target, as_metric

SCORES = st.floats(-5, 5, allow_subnormal=False)


def logits(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def test_every_metric_that_can_be_named_is_there():
    assert tuple(METRICS) == tuple(METRIC_PROPERTIES) == METRIC_NAMES


@pytest.mark.parametrize("length", [1, 2, 3])
def test_metrics_equal_their_definition(length):
    runs, clean = logits(4, 2, length, 9), logits(length, 9, seed=1)
    answer, foil = torch.arange(length), torch.arange(length) + 4
    target = Target(answer, foil, clean)
    for sample in range(4):
        for run in range(2):
            rows = runs[sample, run].double().numpy()
            shares = np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)
            product = math.prod(shares[at, answer[at]] for at in range(length))
            first = torch.softmax(clean[0].double(), -1).numpy()
            expected = {
                "probability": product,
                "log_probability": math.log(product),
                "logit_difference": sum(rows[at, answer[at]] - rows[at, foil[at]] for at in range(length)),
                "kl_divergence": (first * (np.log(first) - np.log(shares[0]))).sum(),
            }
            for name, value in expected.items():
                ours = METRICS[name](runs, target)[sample, run].item()
                assert ours == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_a_callable_is_a_metric(demo, example):
    def first_word(logits, answer):
        return logits[..., 0, :].softmax(-1)[..., answer[0]]

    own = Tracer(demo, example.image, example.question, metric=first_word)
    assert own.metric.name == "first_word"
    first_word.__name__ = "kl_divergence"  # has none of the properties of the one that bears the name
    assert Tracer(demo, example.image, example.question, metric=first_word).metric.name == "own kl_divergence"
    assert own.clean.score == pytest.approx(Tracer(demo, example.image, example.question).clean.score, abs=1e-6)


def test_a_metric_of_the_wrong_shape_is_named(demo, example):
    tracer = Tracer(demo, example.image, example.question, metric=lambda logits, answer: logits)
    with pytest.raises(ValueError, match="metric: expected a tensor of shape"):
        _ = tracer.clean


@pytest.mark.parametrize(("metric", "error"), [("accuracy", ValueError), (3, TypeError), (None, TypeError)])
def test_an_unknown_metric_is_refused(metric, error):
    with pytest.raises(error, match="metric"):
        as_metric(metric)


#: Student's two-sided 5 % quantile, by degrees of freedom, from a printed table.
STUDENT = {1: 12.7062047, 2: 4.3026527, 3: 3.1824463, 4: 2.7764451, 5: 2.5705818}


@settings(deadline=None)
@given(SCORES, arrays(np.float64, st.integers(2, 6), elements=SCORES), st.data())
def test_effects_are_ratios_of_means_over_paired_samples(clean, corrupted, data):
    patched = data.draw(arrays(np.float64, (corrupted.size, 2, 3), elements=SCORES))
    total = TotalEffect(clean, corrupted)
    for direction in ("restore", "disrupt"):
        ours = effects(total, patched, direction)
        for cell in np.ndindex(2, 3):
            scores = [float(sample[cell]) for sample in patched]
            if direction == "restore":
                indirect = [p - c for p, c in zip(scores, corrupted, strict=True)]
            else:
                indirect = [clean - p for p in scores]
            mean = sum(indirect) / len(indirect)
            spread = math.sqrt(sum((i - mean) ** 2 for i in indirect) / (len(indirect) - 1) / len(indirect))
            assert ours.indirect_effect[cell] == pytest.approx(mean, abs=1e-9)
            assert ours.stderr[cell] == pytest.approx(spread, abs=1e-9)
            lost = [clean - c for c in corrupted]
            average = sum(lost) / len(lost)
            reach = STUDENT[len(lost) - 1] * math.sqrt(
                sum((each - average) ** 2 for each in lost) / (len(lost) - 1) / len(lost)
            )
            assume(abs(abs(average) - reach) > 1e-6)  # on the very edge, rounding decides
            assume(abs(abs(average) - 1e-3) > 1e-9)
            if abs(average) < 1e-3 or abs(average) <= reach:
                assert math.isnan(ours.recovery[cell])
                assert total.closed_because
            else:
                assert ours.recovery[cell] == pytest.approx(mean / average, abs=1e-9)


def test_recovery_error_follows_the_spread_of_the_ratio():
    """Against many repetitions of the experiment."""
    generator = np.random.default_rng(0)
    repeated = []
    for _ in range(1000):
        corrupted = generator.normal(0.2, 0.1, 12)
        patched = corrupted + 0.5 * (0.9 - corrupted) + generator.normal(0, 0.05, 12)
        ours = effects(TotalEffect(0.9, corrupted), patched[:, None], "restore")
        repeated.append((ours.recovery[0], ours.recovery_stderr[0]))
    recovery, stderr = np.array(repeated).T
    assert stderr.mean() == pytest.approx(recovery.std(), rel=0.1)


def test_a_single_sample_has_no_standard_error():
    assert math.isnan(standard_error(np.array([0.3])))
    total = TotalEffect(0.9, np.array([0.1]))
    assert not total.closed_because
    ours = effects(total, np.array([[0.5]]), "restore")
    assert ours.recovery[0] == pytest.approx(0.5)
    assert math.isnan(ours.stderr[0])


@pytest.mark.parametrize(
    ("corrupted", "reason"),
    [([0.9, 0.9], "smaller than"), ([0.2, 1.3], "is not distinguishable from 0"), ([math.nan, 0.1], "not a finite")],
)
def test_the_gate_says_why_it_is_closed(corrupted, reason):
    assert reason in TotalEffect(0.9, np.array(corrupted)).closed_because


def test_restoring_what_kl_divergence_lost_is_a_positive_recovery():
    total = TotalEffect(0.0, np.array([2.0, 2.2]))
    assert effects(total, np.array([[0.0], [0.0]]), "restore").recovery[0] == pytest.approx(1)


def test_what_is_not_computed_is_not_significant(demo):
    opening = examples()[0]
    trace = Tracer(demo, opening.image, opening.question).trace()
    assert trace.significant.shape == trace.scores.shape
    assert trace.significant[-1].all()
    assert not trace.significant[0].any()
    part = replace(trace, samples=np.where(np.arange(6)[:, None] < 5, np.nan, trace.samples), known=None)
    assert part.significant[-1].all()
    assert not part.significant[:-1].any()


def test_what_is_rounding_does_not_differ_from_0_however_alike_it_is():
    settings = {"direction": "restore", "metric": "probability"}
    corrupted = np.linspace(0.1, 0.2, 8)
    samples = corrupted[:, None, None] + np.array([[2e-8, 0.0, 1e-4]])
    trace = Trace(samples, 0.9, corrupted, settings, ("a", "b", "c"))
    assert trace.significant.tolist() == [[False, False, True]]
