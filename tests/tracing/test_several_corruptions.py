"""Recovery curves and agreement, against loops over what a tracer does for one corruption."""

import json
import sys
import threading
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

from blip_trace_widget import GaussianNoise, MeanAblation, QuestionSwap, RecoveryCurve, State, Tracer
from blip_trace_widget.model.block import Cancelled
from helpers.random_models import random_model

BLOCKS = ("question_encoder", "answer_decoder")
FACTORS = [0.0, 2.0, 6.0]


def asked(seed, picture, **sizes):
    """A tracer of a random model, of an answer of two tokens, whose noise does enough for a recovery."""
    noise = GaussianNoise(2.0, samples=4, seed=seed)
    return Tracer(
        random_model(seed, **sizes),
        picture,
        "what is red circle",
        answer="red blue",
        corruption=noise,
        metric="log_probability",
    )


@pytest.fixture(scope="module")
def curve(tracer):
    return tracer.recovery_curve(factors=FACTORS)


# --- recovery curves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_point_is_made_of_single_patches(seed, picture):
    tracer = asked(seed, picture, layers=2 + seed % 2, heads=2)
    found = tracer.recovery_curve(factors=[1.0, 4.0])
    assert found.blocks == BLOCKS
    for at, factor in enumerate([1.0, 4.0]):
        under = tracer.with_corruption(factor=factor)
        np.testing.assert_allclose(found.corrupted[:, at], under.corrupted.scores, atol=1e-5)
        for row, block in enumerate(BLOCKS):
            layers, positions = len(tracer.model.blocks[block].layers), len(tracer.tokens(block))
            cells = [State(block, layer, position) for layer in range(layers) for position in range(positions)]
            scores = [under.patch(cell).scores for cell in cells]
            np.testing.assert_allclose(found.patched[:, row, at], np.mean(scores, axis=0), atol=1e-5)


def test_its_error_is_the_ratio_s_by_the_delta_method(curve):
    for row in range(len(BLOCKS)):
        for at in (1, 2):
            indirect = curve.patched[:, row, at] - curve.corrupted[:, at]
            total = curve.clean - curve.corrupted[:, at]
            ratio = indirect.mean() / total.mean()
            rest = indirect - ratio * total
            assert curve.recovery[row, at] == pytest.approx(ratio)
            assert curve.stderr[row, at] == pytest.approx(rest.std(ddof=1) / np.sqrt(10) / total.mean())


def test_it_is_the_mean_of_the_grid_at_each_factor(tracer, curve):
    for at, factor in enumerate(FACTORS):
        under = tracer.with_corruption(factor=factor)
        np.testing.assert_allclose(curve.corrupted[:, at], under.corrupted.scores, atol=1e-6)
        for row, block in enumerate(BLOCKS):
            grid = under.trace(block)
            mean = grid.recovery.mean()
            assert curve.recovery[row, at] == pytest.approx(mean, abs=1e-5, nan_ok=True)
    assert (curve.clean, curve.factors.tolist()) == (tracer.clean.score, FACTORS)


def test_where_nothing_is_lost_there_is_no_recovery_and_it_is_said(curve):
    assert np.isnan(curve.recovery[:, 0]).all()
    assert np.isfinite(curve.recovery[:, 1:]).all()
    assert curve.undefined_because == ("the total effect is smaller than 0.001", "", "")
    assert "no recovery: at ν 0" in repr(curve)
    table = curve.to_dataframe()
    assert list(table["block"].unique()) == list(BLOCKS)
    np.testing.assert_array_equal(table["recovery"], curve.recovery.ravel())
    assert table["undefined_because"].tolist() == list(curve.undefined_because) * 2


def test_one_block_and_the_factors_by_default(tracer):
    found = tracer.with_corruption(samples=1).recovery_curve("answer_decoder")
    assert found.blocks == ("answer_decoder",)
    assert found.factors.tolist() == [x / 2 for x in range(21)]
    assert np.isnan(found.stderr).all()


def test_progress_counts_cells(tracer):
    seen = []
    tracer.recovery_curve(factors=[1.0, 2.0], progress=lambda *told: seen.append(told))
    assert seen[-1] == (108, 108)  # two factors of 6 layers x (8 positions and 1)
    assert seen == sorted(seen)


def test_ctrl_c_and_cancel_keep_the_factors_that_are_complete(tracer, curve, small_chunks):
    def struck(done, _total):
        if done > 60:  # in the second factor
            raise KeyboardInterrupt

    stop = threading.Event()
    with pytest.warns(UserWarning, match="interrupted: 1 of 3 factors are computed, the others are NaN"):
        parts = [tracer.recovery_curve(factors=[2.0, 6.0, 7.0], progress=struck)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        halt = lambda done, _total: stop.set() if done > 60 else None  # noqa: E731
        parts.append(tracer.recovery_curve(factors=[2.0, 6.0, 7.0], progress=halt, cancel=stop))
    for part in parts:
        assert part.computed.tolist() == [True, False, False]
        np.testing.assert_allclose(part.recovery[:, 0], curve.recovery[:, 1], atol=1e-6)
        assert np.isnan(part.recovery[:, 1:]).all()
        assert part.undefined_because == ("", "not computed", "not computed")


def test_a_saved_curve_is_the_same_bit_for_bit(curve, tmp_path):
    path = tmp_path / "curve"
    curve.save(path)
    again = RecoveryCurve.load(path)
    assert (again.blocks, again.clean, again.settings) == (curve.blocks, curve.clean, curve.settings)
    for name in ("factors", "corrupted", "patched", "computed"):
        there, here = getattr(again, name), getattr(curve, name)
        assert (there.dtype, there.tobytes()) == (here.dtype, here.tobytes())
    described = {"version": 1, "blocks": ["question_encoder"], "settings": {}}
    arrays = {
        name: np.atleast_1d(getattr(curve, name)) for name in ("factors", "clean", "corrupted", "patched", "computed")
    }
    for wrong, said in (({}, "do not fit each other and 1 blocks"), ({"blocks": ["brain"]}, "block: expected one of")):
        told = {"blip_trace_widget.recovery_curve": json.dumps({**described, **wrong})}
        save_file(arrays, path, metadata=told)
        with pytest.raises(ValueError, match=said):
            RecoveryCurve.load(path)


def test_it_is_drawn_with_a_line_for_each_block(curve, monkeypatch):
    mpl = pytest.importorskip("matplotlib")
    mpl.use("agg")
    axes = curve.plot()
    assert [line.get_label() for line in axes.get_lines()] == list(BLOCKS)
    assert axes.get_ylabel() == "recovery"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert curve.plot().marks[0].labels == list(BLOCKS)


# --- agreement --------------------------------------------------------------------------------------------------------


def test_each_grid_is_what_a_trace_under_that_corruption_is(tracer):
    corruptions = [
        tracer.corruption,
        GaussianNoise(2.0, seed=3),
        MeanAblation(),
        QuestionSwap("what shape is the circle?"),
    ]
    asked = {"block": "answer_decoder", "site": "mlp", "window": 2, "direction": "disrupt"}
    agreement = tracer.agreement(iter(corruptions), **asked)
    for corruption, grid in zip(corruptions, agreement.traces, strict=True):
        alone = tracer.with_corruption(corruption).trace(**asked)
        np.testing.assert_allclose(grid.samples, alone.samples, atol=1e-6)
        assert grid.settings == alone.settings
        assert grid.snapshot.corruption == corruption.settings()
    assert agreement.rank_correlation.shape == (4, 4)


def test_progress_is_over_all_grids_and_ctrl_c_ends_them_all(tracer, small_chunks):
    seen = []
    pair = [GaussianNoise(2.0), GaussianNoise(2.0, seed=1)]
    whole = tracer.agreement(pair, progress=lambda *told: seen.append(told))
    assert seen[-1] == (96, 96)
    assert seen == sorted(seen)

    def struck(done, _total):
        if done > 50:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"interrupted: \d+ of 96 cells are computed"):
        part = tracer.agreement(pair, progress=struck)
    np.testing.assert_array_equal(part.traces[0].samples, whole.traces[0].samples)
    assert not part.traces[1].complete
    assert not part.disagrees[0, 1][~part.traces[1].computed].any()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: t.agreement([GaussianNoise()]), ValueError, "corruptions: expected at least two, got 1"),
        (lambda t: t.agreement(GaussianNoise()), TypeError, "corruptions: expected a list of them"),
        (
            lambda t: t.agreement(["noise", "mean"]),
            TypeError,
            "corruption: expected one such as GaussianNoise, got str",
        ),
        (lambda t: t.agreement([GaussianNoise()] * 2, block="image_encoder"), ValueError, "image_encoder"),
        (lambda t: t.agreement([GaussianNoise()] * 2, site="self_attention", head="all"), TypeError, "head"),
        (lambda t: t.recovery_curve("brain"), ValueError, "blocks: expected one of"),
        (lambda t: t.recovery_curve(3), TypeError, "blocks: expected names"),
        (lambda t: t.recovery_curve([]), ValueError, "blocks: expected at least one"),
        (lambda t: t.recovery_curve("image_encoder"), ValueError, "image_encoder"),
        (lambda t: t.recovery_curve(factors=[]), ValueError, "factors: expected at least one"),
        (lambda t: t.with_corruption(MeanAblation()).recovery_curve(), ValueError, "needs GaussianNoise"),
    ],
)
def test_wrong_requests_are_named(tracer, call, error, said):
    with pytest.raises(error, match=said):
        call(tracer)


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t.recovery_curve(cancel=lambda: True),
        lambda t: t.agreement([GaussianNoise(), GaussianNoise(1.0)], cancel=lambda: True),
    ],
)
def test_what_nobody_wants_is_not_begun(demo, example, work):
    with pytest.raises(Cancelled):
        work(Tracer(demo, example.image, example.question))
