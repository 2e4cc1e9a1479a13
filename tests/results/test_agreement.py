"""Agreement of grids under several corruptions, against slow and obvious counting."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import Agreement, MeanAblation, Scale, Trace
from blip_trace_widget.results.agreement import rank_correlation

NOISE = {"type": "GaussianNoise", "factor": 5.0, "kind": "multiplicative", "samples": 6, "seed": 0, "region": None}
ABLATION = {"type": "MeanAblation", "to": "mean", "region": None}
SETTINGS = {"head": None, "window": 1, "metric": "probability", "direction": "restore", "question": "what?"}


def made(effects, *, samples=6, block="question_encoder", spread=1e-3, site="mlp", **damage):
    """A trace of two layers and two positions with these indirect effects, each well known."""
    wobble = np.linspace(-spread, spread, samples) if samples > 1 else np.zeros(1)
    scores = 0.1 + np.asarray(effects, float).reshape(1, 2, -1) + wobble[:, None, None]
    return Trace(
        samples=scores,
        clean=0.9,
        corrupted=np.full(samples, 0.1),
        settings={**SETTINGS, "block": block, "site": site, "corruption": {**NOISE, **damage}},
        tokens=tuple("ab"[: scores.shape[2]]),
    )


def slow_rank(values, at):
    """The mean of the places that a value's equals take, counted one by one."""
    below = sum(1 for value in values if value < values[at])
    equal = sum(1 for value in values if value == values[at])
    return below + (equal + 1) / 2


def slow_spearman(one, other):
    """Pearson's correlation of slow ranks, in plain Python."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(pairs) < 2:
        return math.nan
    ranks = [[slow_rank(side, at) for at in range(len(side))] for side in zip(*pairs, strict=True)]
    means = [sum(side) / len(side) for side in ranks]
    apart = [[rank - mean for rank in side] for side, mean in zip(ranks, means, strict=True)]
    squares = [sum(value * value for value in side) for side in apart]
    if 0 in squares:
        return math.nan
    return sum(a * b for a, b in zip(*apart, strict=True)) / math.sqrt(squares[0] * squares[1])


FEW = st.sampled_from([-1.0, 0.0, 0.0, 0.25, 0.5, math.nan])
VALUES = st.one_of(FEW, st.floats(-1, 1))


@given(st.lists(st.tuples(VALUES, VALUES), max_size=30))
def test_ranks_of_ties_are_shared(pairs):
    one, other = (np.array(side, float) for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    found, slow = rank_correlation(one, other), slow_spearman(one.tolist(), other.tolist())
    assert found == pytest.approx(slow, abs=1e-9, nan_ok=True)
    assert math.isnan(slow) or -1 - 1e-9 <= found <= 1 + 1e-9


def test_whatever_rises_alike_is_ranked_alike():
    agreement = Agreement((made([0.1, 0.2, 0.3, 0.4]), made([0.01, 0.02, 0.5, 0.7], seed=1)))
    assert agreement.rank_correlation == pytest.approx(np.ones((2, 2)))
    assert not agreement.disagrees.any()
    assert agreement.names == ("seed 0", "seed 1")


def test_a_constant_grid_and_one_without_recovery_have_no_rank_correlation():
    flat, calm = made([0.1] * 4, seed=1), made([0, 0, 0, 0.4], factor=0.0)
    calm = dataclasses.replace(calm, corrupted=np.full(6, 0.9))
    found = Agreement((made([0.1, 0.2, 0.3, 0.4]), flat, calm)).rank_correlation
    assert np.isnan(found[0, 1:]).all()
    assert np.isnan(np.diag(found)[1:]).all()
    assert "rank correlation: not defined" in repr(Agreement((flat, calm)))


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ([0.3, 0, 0, 0], [0.2, 0, 0, 0], []),  # both claim it, whatever its size
        ([0.3, 0, 0, 0], [0, 0, 0, 0], [(0, 0)]),  # one alone claims it
        ([0.3, 0, -0.2, 0], [-0.3, 0, -0.2, 0], [(0, 0)]),  # the opposite
        ([0.3, math.nan, 0, 0], [0.3, 0.5, 0, 0], []),  # one has not computed it
    ],
)
def test_cells_disagree_where_one_claims_what_the_other_does_not(one, other, apart):
    agreement = Agreement((made(one), made(other, seed=1)))
    for a, b in ((0, 1), (1, 0)):
        assert [tuple(cell) for cell in np.argwhere(agreement.disagrees[a, b]).tolist()] == apart
    assert not np.diagonal(agreement.disagrees).any()
    assert f"disagree: {len(apart)} of 4 cells" in repr(agreement)


def test_a_grid_of_one_sample_claims_nothing_but_may_contradict():
    noisy = made([0.3, 0.3, -0.3, 0])
    still = made([0.01, -0.01, 0.2, 0.5], samples=1)
    still = dataclasses.replace(still, settings={**still.settings, "corruption": ABLATION})
    agreement = Agreement((noisy, still))
    assert agreement.disagrees[0, 1].tolist() == [[False, True], [True, False]]
    assert not Agreement((still, still)).disagrees.any()
    assert agreement.names == ("GaussianNoise", "MeanAblation")
    assert "one sample, no error known: MeanAblation" in repr(agreement)


def test_cells_that_are_1_by_construction_are_not_ranked():
    def decoder(effects, **damage):
        return made(effects, block="answer_decoder", site="block_output", **damage)

    pair = Agreement((decoder([0.2, 0.8]), decoder([0.1, 0.8], seed=1)))
    assert pair.traces[0].constructed == [(1, 0)]
    assert math.isnan(pair.rank_correlation[0, 1])  # one cell is left


def test_its_table_has_every_grid_and_says_where_any_other_disagrees():
    agreement = Agreement((made([0.3, 0, 0, 0]), made([0, 0, 0, 0.3], seed=1), made([0.3, 0, 0, 0], seed=2)))
    table = agreement.to_dataframe()
    assert list(table["under"].unique()) == ["seed 0", "seed 1", "seed 2"]
    for at, (_, rows) in enumerate(table.groupby("under", sort=False)):
        assert rows["disagrees"].tolist() == agreement.disagrees[at].any(axis=0).ravel().tolist()
        np.testing.assert_allclose(rows["recovery"], agreement.traces[at].recovery.ravel())
    pairs = list(itertools.combinations(agreement.names, 2))
    for one, other in pairs:
        assert f"{one}; {other}" in agreement._repr_html_()


@pytest.mark.parametrize(
    ("traces", "error", "said"),
    [
        ([made([0] * 4)], ValueError, "traces: expected at least two grids, got 1"),
        ([made([0] * 4), made([0] * 4, site="block_output")], ValueError, "got other site"),
        ([made([0] * 4), made([0] * 2, block="answer_decoder")], ValueError, "got other block"),
        ([made([0] * 4), "trace"], TypeError, "traces: expected Trace, got str"),
    ],
)
def test_what_is_not_the_same_grid_is_refused(traces, error, said):
    with pytest.raises(error, match=said):
        Agreement(tuple(traces))


def test_grids_are_drawn_beside_each_other_on_one_scale_with_what_disagrees_outlined():
    mpl = pytest.importorskip("matplotlib")
    mpl.use("agg")
    agreement = Agreement((made([0.3, 0, 0, 0]), made([0, 0, 0, 0], seed=1), made([0.4, 0, 0, 0], seed=2)))
    axes = agreement.plot()
    assert [len(ax.patches) for ax in axes] == [1, 1, 0]
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    assert [ax.get_title() for ax in axes] == list(agreement.names)
    with pytest.raises(ValueError, match="axes: expected 3, one a corruption, got 2"):
        agreement.plot(axes[:2])
    mpl.pyplot.close("all")


def test_bqplot_stands_in(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    figures = Agreement((made([0.3, 0, 0, 0]), made([0, 0, 0, 0], seed=1))).plot()
    assert [type(figure).__module__.partition(".")[0] for figure in figures] == ["bqplot"] * 2
    assert any(list(mark.text) == ["□"] for mark in figures[0].marks[1:])


def test_that_numbers_were_checked_is_no_difference(tracer):
    quick = tracer.with_corruption(samples=3)
    one, other = (quick.with_corruption(seed=seed).trace("answer_decoder") for seed in (1, 2))
    quick.with_corruption(seed=1).verify(cells=2, dtype=None, trace=one)
    assert "verified" in one.settings
    assert Agreement((one, other)).names == ("seed 1", "seed 2")


def test_equal_corruptions_are_numbered_and_factors_of_scaling_are_no_noise(tracer):
    found = tracer.agreement([Scale(0.3), Scale(0.6), MeanAblation(), MeanAblation()], "answer_decoder")
    assert found.names == ("Scale, × 0.3", "Scale, × 0.6", "MeanAblation (1)", "MeanAblation (2)")
    assert found.to_dataframe()["under"].nunique() == 4
