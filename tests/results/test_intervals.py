"""Intervals, against obvious ones, and that they cover."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget.results.intervals import RESAMPLES, cluster_error, cluster_margin, margin, studentized
from blip_trace_widget.results.numerics import student_quantile


def ratio_and_error(values, weights):
    """A ratio of sums and its standard error by the delta method, in plain Python."""
    ratio = sum(values) / sum(weights)
    count = len(values)
    squares = sum((value - ratio * weight) ** 2 for value, weight in zip(values, weights, strict=True))
    return ratio, math.sqrt(squares * count / (count - 1)) / abs(sum(weights))


def obvious(values, weights, *, longer):
    """Half the width of the symmetric bootstrap-t interval, a resample at a time."""
    count = len(values)
    ratio, error = ratio_and_error(values, weights)
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    t = []
    for each in times:
        chosen = np.repeat(np.arange(count), each)
        again, spread = ratio_and_error(values[chosen].tolist(), weights[chosen].tolist())
        t.append((again - ratio) / spread if spread > 1e-12 else math.copysign(math.inf, again - ratio))
    tails = [sorted(t), sorted(-each for each in t)] if longer else [sorted(map(abs, t))]
    share = 0.975 if longer else 0.95
    factor = max(tail[math.ceil(share * RESAMPLES) - 1] for tail in tails)
    return error * min(max(factor, student_quantile(count - 1)), student_quantile(1))


@given(st.integers(0, 2**16), st.integers(3, 12))
@settings(max_examples=15, deadline=None)
def test_a_margin_is_that_of_the_bootstrap_written_out(seed, count):
    generator = np.random.default_rng(seed)
    values, weights = generator.exponential(1, (count, 2)), generator.uniform(0.5, 1.5, count)
    for column in range(2):
        one = np.ones(count)
        assert margin(values)[column] == pytest.approx(obvious(values[:, column], one, longer=True), rel=1e-6)
        found = margin(values, weights)[column]
        assert found == pytest.approx(obvious(values[:, column], weights, longer=False), rel=1e-6)


def test_margins_of_what_has_none():
    assert np.isnan(margin(np.array([[0.3]]))).all()
    found = margin(np.array([[0.3, 0.1, np.nan], [0.3, 0.2, 0.5], [0.3, 0.3, 0.5]]))
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[1] > 0
    assert np.isnan(found[2])
    assert margin(np.arange(4.0)).shape == ()
    assert margin(np.empty((4, 0))).shape == (0,)
    # Restored by construction: the same as what was lost, in every sample.
    lost = np.array([0.3, 0.5, 0.2, 0.9])
    assert margin(lost[:, None], lost) == pytest.approx(0, abs=1e-9)


def test_of_two_samples_it_is_student_s():
    values = np.array([1.0, 3.0])
    assert margin(values) == pytest.approx(student_quantile(1))  # their standard error is 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12))
def test_the_error_of_clusters_is_unbiased_and_its_degrees_are_satterthwaite_s(sizes):
    """Against the matrices: means of clusters that are independent and spread alike."""
    weights = np.array(sizes, float)
    share = weights / weights.sum()
    count = len(sizes)
    left = np.eye(count) - np.outer(np.ones(count), share)  # cluster means -> their deviations
    spread = np.diag(left @ left.T)
    squares = left.T @ np.diag(share**2 / spread) @ left  # the squared error, as a form of the cluster means
    assert np.trace(squares) == pytest.approx((share**2).sum())
    means = np.random.default_rng(sum(sizes)).normal(0, 1, count)
    error, degrees = cluster_error((means * weights)[:, None], weights[:, None])
    assert error[0] ** 2 == pytest.approx(means @ squares @ means)
    assert degrees[0] == pytest.approx(np.trace(squares) ** 2 / np.trace(squares @ squares))


def test_clusters_of_one_size_have_the_usual_error():
    values = np.random.default_rng(0).normal(0, 1, (9, 3))
    error, degrees = cluster_error(values, np.ones((9, 3)))
    np.testing.assert_allclose(error, values.std(axis=0, ddof=1) / 3)
    np.testing.assert_allclose(degrees, 8)
    one, none = cluster_error(values[:1], np.ones((1, 3)))
    assert np.isnan(one).all()
    assert (none == 0).all()
    assert np.isnan(cluster_margin(values[:1], np.ones((1, 3)))).all()


def test_a_cluster_without_a_role_says_nothing_of_it():
    values = np.random.default_rng(0).normal(1, 1, (8, 1))
    there = np.ones((8, 1))
    there[:3] = 0
    found = cluster_error(values * there, there)
    np.testing.assert_allclose(found, cluster_error(values[3:], there[3:]))
    assert np.isfinite(cluster_margin(values * there, there)).all()


def test_a_factor_lies_between_student_s_of_all_degrees_and_of_one():
    skewed = np.random.default_rng(0).exponential(1, (6, 50)) ** 4
    found = studentized(skewed - skewed.mean(0), np.ones((6, 1)), np.full(50, 5.0), 0.05, longer=True)
    assert (found >= student_quantile(5)).all()
    assert (found <= student_quantile(1)).all()
    assert (found > 3).mean() > 0.5


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
def test_of_many_samples_single_precision_changes_nothing_that_counts(scale):
    """The same t as in double precision, of samples drawn one by one."""
    generator = np.random.default_rng(0)
    count = 1500
    values, weights = generator.exponential(1, (count, 3)), generator.integers(1, 4, (count, 3)).astype(float)
    weights[:, 1] = weights[:, 0]
    residuals = values - values.sum(axis=0) / weights.sum(axis=0) * weights
    drawn = np.random.default_rng(7).integers(0, count, (200, count))
    expected = []
    for column in range(3):
        t = []
        for places in drawn:
            r, w = residuals[places, column], weights[places, column]
            moved = r.sum() / w.sum()
            t.append(moved * w.sum() / math.sqrt(((r - moved * w) ** 2).sum() * count / (count - 1)))
        expected.append(max(sorted(tail)[math.ceil(0.95 * 200) - 1] for tail in (t, [-each for each in t])))
    # Between Student's quantiles, which hold it: of one degree and of very many.
    found = studentized(residuals * scale, weights, np.full(3, 1e9), 0.1, 200, 7, longer=True)
    least = student_quantile(1e9, 0.1)
    assert found == pytest.approx([max(each, least) for each in expected], rel=1e-5)
    assert max(expected) > least
