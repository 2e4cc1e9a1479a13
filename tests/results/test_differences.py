"""Differences of grids, against an independent computation."""

import dataclasses
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget import Difference, ImageSwap, Trace, Tracer
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.results.significance import contrast

NOISE = {"type": "GaussianNoise", "factor": 5.0, "kind": "multiplicative", "samples": 4, "seed": 0, "region": None}
SETTINGS = {"block": "question_encoder", "site": "mlp", "head": None, "window": 1, "metric": "probability"}


def made(scores, corrupted, clean=0.9, direction="restore", **noise):
    """A trace of two layers and two positions from plain numbers."""
    damage = {**NOISE, "samples": len(corrupted), **noise}
    return Trace(
        samples=np.asarray(scores, float).reshape(len(corrupted), 2, 2),
        clean=clean,
        corrupted=np.asarray(corrupted, float),
        settings={**SETTINGS, "direction": direction, "corruption": damage},
        tokens=("a", "b"),
    )


def effects_of(trace, cell):
    """Indirect effect and total effect of each sample, in plain Python."""
    samples = range(len(trace.corrupted))
    scores = [float(trace.samples[at, cell[0], cell[1]]) for at in samples]
    total = [trace.clean - float(trace.corrupted[at]) for at in samples]
    if trace.settings["direction"] == "disrupt":
        return [trace.clean - score for score in scores], total
    return [score - float(base) for score, base in zip(scores, trace.corrupted, strict=True)], total


def error_of(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def influence(indirect, total):
    """What each sample adds to a ratio of means, to first order."""
    ratio, mean = statistics.fmean(indirect) / statistics.fmean(total), statistics.fmean(total)
    return ratio, [(effect - ratio * whole) / mean for effect, whole in zip(indirect, total, strict=True)]


unit = st.floats(0, 1, width=32)


@st.composite
def pairs(draw):
    counts = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)) | st.integers(1, 6).map(lambda count: (count, count)))
    sides = [
        made(
            draw(st.lists(unit, min_size=4 * count, max_size=4 * count)),
            draw(st.lists(st.floats(0, 0.75, width=32), min_size=count, max_size=count)),
            clean=draw(st.floats(0.5, 1)),
            direction=draw(st.sampled_from(["restore", "disrupt"])),
            seed=draw(st.integers(0, 1)),
            factor=draw(st.floats(0, 9)),
        )
        for count in counts
    ]
    return tuple(sides)


@settings(deadline=None)
@given(pairs())
def test_a_difference_equals_a_computation_by_hand(sides):
    one, other = sides
    found = one - other
    noise = [side.settings["corruption"] for side in sides]
    paired = all(noise[0][name] == noise[1][name] for name in ("seed", "samples"))
    assert found.paired == paired
    assert found.shape == (2, 2)
    for cell in np.ndindex(2, 2):
        (x, t), (y, u) = (effects_of(side, cell) for side in sides)
        assert found.indirect_effect[cell] == pytest.approx(statistics.fmean(x) - statistics.fmean(y), abs=1e-12)
        assert found.scores[cell] == pytest.approx(one.scores[cell] - other.scores[cell], abs=1e-12)
        apart = [a - b for a, b in zip(x, y, strict=False)]
        expected = error_of(apart) if paired else math.hypot(error_of(x), error_of(y))
        assert found.stderr[cell] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        if one.undefined_because or other.undefined_because:
            assert math.isnan(found.recovery[cell])
            assert found.undefined_because
            continue
        (r, p), (s, q) = influence(x, t), influence(y, u)
        assert found.recovery[cell] == pytest.approx(r - s, abs=1e-9)
        apart = [a - b for a, b in zip(p, q, strict=False)]
        expected = error_of(apart) if paired else math.hypot(error_of(p), error_of(q))
        assert found.recovery_stderr[cell] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    if len(one.corrupted) == 1 or len(other.corrupted) == 1:
        for which in (found.significant, found.recovery_significant, found.score_significant):
            assert not which.any()


@settings(deadline=None)
@given(pairs())
def test_the_other_way_round_is_the_negative(sides):
    there, back = sides[0] - sides[1], sides[1] - sides[0]
    np.testing.assert_allclose(there.indirect_effect, -back.indirect_effect)
    np.testing.assert_allclose(there.recovery, -back.recovery)
    np.testing.assert_allclose(there.stderr, back.stderr, atol=1e-12)
    assert (there.significant == back.significant).all()
    assert there.total_effect == -back.total_effect


@settings(deadline=None)
@given(pairs())
def test_a_trace_does_not_differ_from_itself(sides):
    found = sides[0] - sides[0]
    assert found.paired
    assert (found.indirect_effect == 0).all()
    assert not found.significant.any()
    assert not found.recovery_significant.any()


def test_pairing_sees_what_is_there_in_every_sample():
    """A small gain in each of ten noisy samples: told from 0 where the noise is shared, lost in it where it is not."""
    generator = np.random.default_rng(0)
    base = generator.uniform(0.1, 0.6, (10, 4))
    corrupted = generator.uniform(0, 0.1, 10)
    gain = 0.02 + generator.normal(0, 0.001, (10, 4))
    one, other = made(base + gain, corrupted), made(base, corrupted)
    assert (one - other).significant.all()
    elsewhere = made(base, corrupted, seed=1)
    assert not (one - elsewhere).significant.any()


def test_welch_p_values_are_students():
    """Two samples each of spread s and gap g: t = g / s, about two degrees of freedom, p = 1 - t / sqrt(2 + t²)."""
    one, other = np.array([[1.0], [3.0]]), np.array([[10.0], [12.0]])
    found = contrast(one, other, paired=False)
    t = 9 / math.sqrt(2)
    assert found.significant[0] == (1 - t / math.sqrt(2 + t**2) <= 0.05)
    assert found.stderr[0] == pytest.approx(math.sqrt(2))
    t = found.margin[0] / math.sqrt(2)
    assert 1 - t / math.sqrt(2 + t**2) == pytest.approx(0.05)


def test_recoveries_can_differ_where_effects_do_not():
    corrupted, twice = np.full(6, 0.5), np.full(6, 0.1)
    wave = np.array([0, 1e-3, -1e-3, 2e-3, -2e-3, 0])
    one = made(np.repeat(corrupted + 0.2 + wave, 4), corrupted)
    other = made(np.repeat(twice + 0.2 + wave, 4), twice)
    found = one - other
    assert not found.significant.any()
    assert found.recovery_significant.all()
    np.testing.assert_allclose(found.recovery, 0.2 / 0.4 - 0.2 / 0.8)


def test_traces_of_a_model(tracer):
    whole, mlp = tracer.trace(), tracer.trace(site="mlp")
    found = whole - mlp
    assert isinstance(found, Difference)
    assert found.paired
    stronger = tracer.with_corruption(factor=8.0).trace()
    assert (stronger - whole).paired
    assert (stronger - whole).names == ("ν 8", "ν 5")
    assert not (tracer.with_corruption(seed=3).trace() - whole).paired
    table = found.to_dataframe()
    row = table[(table.layer == 5) & (table.token == "circle")].iloc[0]
    assert row.recovery == pytest.approx(whole.recovery[5, 5] - mlp.recovery[5, 5])
    assert (row.site, row.other_site) == ("block_output", "mlp")
    assert "other_factor" not in table
    assert "paired" in repr(found)
    heads = tracer.trace(site="cross_attention", head="all") - tracer.trace(site="self_attention", head="all")
    assert heads.shape == (6, 4)
    assert len(heads.to_dataframe()) == 24
    squares = tracer.trace_image_tokens(4) - tracer.trace_image_tokens(4, direction="disrupt")
    assert squares.indirect_effect.shape == (2, 2)


def test_what_cannot_be_compared_is_refused(tracer, example):
    trace = tracer.trace()
    for other in (3, trace.recovery, None, "trace"):
        with pytest.raises(TypeError, match="Trace - other: expected another Trace, got"):
            _ = trace - other
    heads = tracer.trace(site="cross_attention", head="all")
    assert isinstance(heads, HeadTrace)
    with pytest.raises(TypeError, match="expected another Trace, got HeadTrace"):
        _ = trace - heads
    with pytest.raises(ValueError, match=r"same shape \(6, 8\), got \(6, 1\)"):
        _ = trace - tracer.trace("answer_decoder")
    words = Tracer(tracer.model, example.image, "what color is the square?").trace()
    with pytest.raises(ValueError, match=r"same tokens .*circle.*square"):
        _ = trace - words
    with pytest.raises(ValueError, match="same metric 'probability', got 'log_probability'"):
        _ = trace - tracer.replace(metric="log_probability").trace()
    with pytest.raises(ValueError, match="same"):
        _ = tracer.trace_image_tokens(4) - tracer.trace_image_tokens(7)


def test_corruptions_without_noise_and_traces_that_are_not_whole(tracer, example):
    swapped = tracer.with_corruption(ImageSwap(np.zeros((64, 64, 3), np.uint8))).trace()
    trace = tracer.trace()
    found = trace - swapped
    assert not found.paired
    assert np.isnan(found.stderr).all()
    assert not found.significant.any()
    assert "GaussianNoise" in found.names[0]
    assert "ImageSwap" in found.names[1]
    samples = trace.samples.copy()
    samples[:, 0, 1] = np.nan
    part = dataclasses.replace(trace, samples=samples)
    assert np.isnan((part - trace).indirect_effect[0, 1])
    assert np.isfinite((part - trace).indirect_effect).sum() == 47
    assert "47 of 48" in repr(part)
