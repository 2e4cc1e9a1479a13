"""What errors, dots and the gate promise, in a short form of ``calibration.py``, with bounds."""

import numpy as np
import pytest

from benchmarks import calibration, precision

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def population():
    return calibration.banks(5.0, questions=2, samples=600)


def test_any_false_cell_is_rare_where_signs_are_random(population):
    for count in (2, 5, 6, 10):
        marked = calibration.false_cells(population, count, 60)["signs"]
        assert marked["flips, maximum"] <= (0.1 if count >= 6 else 0)


def test_it_finds_what_the_t_test_does_not(population):
    at_six, at_ten = (calibration.power(population, count, 20) for count in (6, 10))
    assert at_six["flips, maximum"][0] > at_six["t, FDR (before)"][0]
    assert at_six["flips, FDR"][0] == 0
    assert at_ten["flips, maximum"][0] > 0.6
    assert at_ten["flips, maximum"][1] > at_ten["flips, FDR"][1]


def test_intervals_cover(population):
    covered = calibration.coverage(population, 10, 60)
    for before, student, ours in covered.values():
        assert 0.9 < ours < 0.99
        assert before < student < ours


@pytest.mark.parametrize("count", [2, 5, 10])
def test_the_gate_is_closed_where_nothing_is_lost(population, count):
    opened = calibration.gate(population, count, 200)
    assert opened["normal"][1] <= 0.08
    assert all(now <= before for before, now in opened.values())


def test_averages_over_pictures_cover():
    generator = np.random.default_rng(0)
    skewed = calibration.Questions(generator.gamma(2, 0.2, (300, 6)), generator.uniform(0.5, 1, 300))
    for name in ("20 pictures", "10 pictures of 2", "one has 20 of 29"):
        found = calibration.averages(skewed, calibration.SHAPES[name], 60)
        assert all(found[of] > 0.9 for of in ("effect", "recovery", "total effect")), name
        assert found["false cell"] < 0.12


def test_distances_from_double_precision_are_printed():
    found = precision.verifications(2.0, cells=1, questions=1)
    told = precision.row(2.0, found).split(" | ")
    assert told[:2] == ["| 2", "3"]
    assert told[-1] == "1 of 1 |"
    assert all(float(each) < 1e-3 for each in told[2].split(", "))
