"""The factor that a noise curve suggests: its interval over noise samples, and where all is lost."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise
from blip_trace_widget.results.noise_curve import NoiseCurve

FACTORS = np.arange(0, 10.5, 0.5)


def curve_of(corrupted, clean=0.9, factors=FACTORS):
    corrupted = np.asarray(corrupted, float)
    return NoiseCurve(np.asarray(factors, float), clean, corrupted, np.empty((*corrupted.shape, 0)))


def drawn(rng, samples):
    """Scores of noise samples as the built-in model has them: each falls at a factor of its own to a floor of its own.

    Beyond that point most are near 0 and a few near 1, so that means are skewed.
    """
    falls = rng.lognormal(math.log(2), 0.35, (samples, 1))
    steep = rng.uniform(2, 6, (samples, 1))
    floor = rng.beta(0.15, 3, (samples, len(FACTORS)))
    kept = 1 / (1 + np.exp(np.clip(steep * (FACTORS - falls), -50, 50)))
    return 0.9 * (kept + (1 - kept) * floor)


def exact(share):
    """The factor that endless samples give."""
    scores = drawn(np.random.default_rng(99), 50_000).mean(axis=0)
    return next(factor for factor, score in zip(FACTORS, scores, strict=True) if 1 - score / 0.9 >= share)


@pytest.mark.parametrize(("share", "least"), [(0.5, 0.95), (0.9, 0.92)])
def test_the_interval_holds_the_factor_that_endless_samples_give(share, least):
    rng, true, held = np.random.default_rng(0), exact(share), []
    for _ in range(250):
        suggested = curve_of(drawn(rng, 10)).suggest_factor(share)
        held.append(suggested.low <= true <= suggested.high)
        assert suggested.low <= suggested <= suggested.high
    assert np.mean(held) >= least


def test_more_samples_narrow_it():
    rng = np.random.default_rng(1)
    wide, narrow = (
        np.mean([(each.high - each.low) for each in (curve_of(drawn(rng, n)).suggest_factor(0.5) for _ in range(30))])
        for n in (8, 80)
    )
    assert narrow < wide / 2


def test_what_the_samples_leave_open_is_infinite_and_said():
    falls = np.where(FACTORS < 3, 0.9, 0.0)
    stays = np.where(FACTORS < 3, 0.9, 0.5)
    suggested = curve_of([falls] * 9 + [stays]).suggest_factor(0.9)
    assert (suggested, suggested.low, suggested.high) == (3, 3, math.inf)
    assert "95 % interval over 10 noise samples: from 3 on, with no upper end on this curve" in suggested.reason


def test_samples_that_are_alike_leave_no_doubt():
    suggested = curve_of([np.where(FACTORS < 5, 0.9, 0.1)] * 4).suggest_factor(0.5)
    assert (suggested, suggested.low, suggested.high) == (5, 5, 5)


def test_of_one_sample_no_error_is_known():
    suggested = curve_of([np.where(FACTORS < 5, 0.9, 0.1)]).suggest_factor(0.5)
    assert suggested == 5
    assert math.isnan(suggested.low)
    assert math.isnan(suggested.high)
    assert "one noise sample: no error known" in suggested.reason


def test_it_is_a_number_all_the_same(tracer):
    suggested = tracer.noise_curve().suggest_factor()
    assert GaussianNoise(suggested) == GaussianNoise(float(suggested))
    for again in (copy.deepcopy(suggested), pickle.loads(pickle.dumps(suggested))):
        fields = ("reason", "low", "high", "lost_at")
        assert [getattr(again, name) for name in fields] == [getattr(suggested, name) for name in fields]


# --- all is lost ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 11), st.floats(0, 0.3), st.randoms())
def test_all_is_lost_where_the_score_reaches_its_floor(falls_at, floor, random):
    scores = np.where(np.arange(21) < falls_at, 0.9, floor)
    order = list(range(21))
    random.shuffle(order)
    curve = curve_of([scores[order], scores[order]], factors=FACTORS[order])
    assert curve.lost_at == FACTORS[falls_at]
    assert f"all is lost: from ν {FACTORS[falls_at]:g} on" in repr(curve)
    suggested = curve.suggest_factor(0.5)
    assert suggested.lost_at == curve.lost_at
    assert "a smaller factor tells more" in suggested.reason


@pytest.mark.parametrize(
    "scores",
    [np.linspace(0.9, 0, 21), np.full(21, 0.9), np.where(np.arange(21) < 17, 0.9, 0.0), np.full(21, np.nan)],
    ids=["still falling", "nothing lost", "too late to be sure", "no number"],
)
def test_a_curve_without_a_floor_says_nothing(scores):
    curve = curve_of([scores, scores])
    assert curve.lost_at is None
    assert "all is lost" not in repr(curve)


def test_a_score_that_rises_with_the_damage_has_a_ceiling():
    assert curve_of([np.minimum(FACTORS, 3.0)] * 2, clean=0.0).lost_at == 3


def test_a_curve_of_few_factors_has_no_floor():
    assert curve_of([[0.9, 0.0, 0.0, 0.0, 0.0]], factors=range(5)).lost_at is None


def test_at_the_floor_of_the_built_in_example_single_states_bring_back_little_but_in_the_last_layer(tracer):
    lost_at = tracer.noise_curve().lost_at
    assert 2 < lost_at < 5
    before, after = (tracer.with_corruption(factor=factor).trace().recovery[:-1].max() for factor in (2.0, 7.0))
    assert before > 0.3 > 0.15 > after


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_a_curve_of_factors_that_are_none_is_not_loaded(tmp_path, wrong):
    """It was, and `suggest_factor` failed on it without words."""
    samples = np.array([[0.9, 0.5, 0.1]])
    curve = NoiseCurve(np.array([0.0, 2.0, wrong]), 0.9, samples, np.zeros((1, 3, 0)), ())
    curve.save(tmp_path / "curve")
    with pytest.raises(ValueError, match=r"curve: .*factors: expected finite numbers of 0 or more"):
        NoiseCurve.load(tmp_path / "curve")
