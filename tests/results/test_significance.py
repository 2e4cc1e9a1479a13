"""The test by sign flips, against an obvious one, and what it promises."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blip_trace_widget.results import significance
from blip_trace_widget.results.numerics import (
    false_discovery,
    p_values,
    quantiles,
    student_quantile,
    two_sided,
)
from blip_trace_widget.results.significance import ROUNDING, differs, flip_test


def t_of(values):
    """Student's |t|, in plain Python; infinite where all values are alike, 0 where they are 0."""
    count = len(values)
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    if spread <= 1e-9 * max(map(abs, values)):
        return math.inf if abs(mean) > 0 else 0.0
    return abs(mean) / (spread / math.sqrt(count))


def obvious(differences):
    """Westfall & Young's step-down maximum over all 2^n ways to flip signs, a step at a time."""
    cells = [[0.0 if abs(value) <= ROUNDING else float(value) for value in column] for column in differences.T]
    seen = [t_of(cell) for cell in cells]
    left, p, least = set(range(len(cells))), [math.nan] * len(cells), 0.0

    def reaches(t, of):
        return t == of or t >= of * (1 - 1e-7)

    while left:
        top = max(left, key=lambda cell: seen[cell])
        ways = list(itertools.product([1, -1], repeat=len(differences)))
        reached = 0
        for signs in ways:
            largest = max(t_of([sign * value for sign, value in zip(signs, cells[cell], strict=True)]) for cell in left)
            reached += reaches(largest, seen[top])
        least = max(least, reached / len(ways))
        p[top] = least
        left.remove(top)
    return p


#: A few sizes, so that there are ties, constants and what is all 0.
DIFFERENCES = st.sampled_from([0.0, 1e-9, 0.1, -0.1, 0.25, -0.3, 0.5, 0.9, -0.7, 1.0])


@settings(deadline=None)
@given(st.integers(2, 6).flatmap(lambda count: arrays(np.float64, (count, 3), elements=DIFFERENCES)))
def test_it_equals_every_flip_written_out(differences):
    assert flip_test(differences) == pytest.approx(obvious(differences), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 8), st.integers(1, 5))
def test_it_equals_every_flip_of_numbers_of_any_kind(seed, count, cells):
    generator = np.random.default_rng(seed)
    differences = generator.standard_t(2, (count, cells)) + generator.normal(0, 0.5, cells)
    found = flip_test(differences)
    if count < 6:
        assert found == pytest.approx(obvious(differences), abs=1e-12)
    shuffled = generator.permutation(cells)
    np.testing.assert_allclose(flip_test(differences[:, shuffled]), found[shuffled])
    np.testing.assert_allclose(flip_test(-3 * differences), found)
    np.testing.assert_allclose(flip_test(differences[generator.permutation(count)]), found)


@pytest.mark.parametrize("count", [9, 15])
def test_cells_that_are_too_many_to_be_held_at_once_change_nothing(count):
    differences = np.random.default_rng(0).normal(0.3, 1, (count, 7))
    np.testing.assert_allclose(flip_test(np.tile(differences, 300 if count > 12 else 2000))[:7], flip_test(differences))


def test_random_flips_come_near_all_of_them():
    """A thirteenth sample in which nothing happens changes no statistic."""
    differences = np.random.default_rng(3).normal(0.4, 1, (12, 5))
    more = np.vstack([differences, np.zeros((1, 5))])
    np.testing.assert_allclose(flip_test(more), flip_test(differences), atol=0.03)


@pytest.mark.parametrize("count", [2, 5, 6, 10, 13])
def test_how_many_samples_it_takes(count):
    """Effects that are the same in all samples: as sure as it gets."""
    alike = np.ones((count, 40)) * np.linspace(0.1, 1, 40)
    assert differs(alike).all() == (count >= significance.LEAST)
    smallest = 2 / 2**count
    assert flip_test(alike) == pytest.approx(smallest, rel=1e-9) if count <= 12 else (flip_test(alike) < 0.002).all()


def test_nothing_is_said_of_one_sample_nor_of_what_is_no_number():
    assert np.isnan(flip_test(np.ones((1, 3)))).all()
    found = np.ones((8, 3))
    found[2, 1], found[3, 2] = np.nan, np.inf
    assert differs(found).tolist() == [True, False, False]
    assert np.isnan(flip_test(found)).tolist() == [False, True, True]
    assert flip_test(np.empty((8, 0))).shape == (0,)
    assert differs(np.full((8, 1), 1e200)).all()


def test_samples_that_are_flipped_at_random_are_rarely_marked():
    """The null of the test, with effects that are skewed, correlated and of heavy tails: at most 5 % of grids."""
    generator = np.random.default_rng(0)
    marked = []
    for _ in range(400):
        shared = generator.exponential(1, (8, 1)) ** 2
        effects = shared * generator.uniform(0.2, 1, (8, 20)) + 0.3 * generator.exponential(1, (8, 20))
        marked.append(differs(effects * generator.choice([-1.0, 1.0], (8, 1))).any())
    assert np.mean(marked) < 0.075


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 10])
def test_student_s_t_is_the_integral_of_its_density(degrees):
    scale = math.gamma((degrees + 1) / 2) / math.sqrt(degrees * math.pi) / math.gamma(degrees / 2)
    for t in (0.0, 0.5, 2.0, 7.0):
        x = np.linspace(0, t, 200_001)
        inside = np.trapezoid(scale * (1 + x**2 / degrees) ** (-(degrees + 1) / 2), x)
        assert float(two_sided(np.asarray(t), degrees)) == pytest.approx(1 - 2 * inside, abs=1e-8)
    assert float(two_sided(np.asarray(student_quantile(degrees)), degrees)) == pytest.approx(0.05, abs=1e-12)


def test_quantiles_are_those_of_the_tables():
    found = quantiles(np.array([1, 2, 9.999_999_9, 10.7, 1e6, 0.5, np.nan]))
    assert found == pytest.approx([12.706, 4.303, 2.228, 2.228, 1.965, np.nan, np.nan], abs=1e-3, nan_ok=True)
    assert p_values(np.array([2.228]), np.array([1.0]), np.array([10.0])) == pytest.approx(0.05, abs=1e-4)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_false_discovery_equals_the_definition(p):
    ordered = sorted(p)
    ranks = [rank for rank, value in enumerate(ordered, start=1) if value <= 0.05 * rank / len(p)]
    limit = ordered[max(ranks) - 1] if ranks else -1
    np.testing.assert_array_equal(false_discovery(p, 0.05), p <= limit)
    assert not false_discovery(np.array([np.nan, 0.9]), 0.05).any()


def test_of_many_samples_a_flip_is_as_likely_as_none():
    differences = np.random.default_rng(0).normal(0, 1, 1500)
    differences -= differences.mean()
    for t in (1.0, 2.0, 3.0):
        shifted = differences + t * differences.std(ddof=1) / math.sqrt(1500)
        assert flip_test(shifted[:, None])[0] == pytest.approx(math.erfc(t / math.sqrt(2)), abs=0.03)
