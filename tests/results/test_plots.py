"""Figures of results: what is drawn, its marks, its scale, and that nothing lies over its neighbour."""

import dataclasses
import sys

import numpy as np
import pytest

from blip_trace_widget import Trace

mpl = pytest.importorskip("matplotlib")
mpl.use("agg")
pytest.importorskip("matplotlib.pyplot")
Bbox = mpl.transforms.Bbox


@pytest.fixture(autouse=True)
def closed():
    yield
    mpl.pyplot.close("all")


@pytest.fixture(scope="module")
def trace(tracer):
    return tracer.trace()


@pytest.fixture(scope="module")
def results(tracer, trace):
    """One of each kind that can be drawn as a map, and its (rows, columns) as drawn."""
    rows, columns = trace.shape
    return [
        (trace, (columns, rows)),
        (tracer.trace("answer_decoder"), (1, 6)),
        (tracer.trace(site="cross_attention", head="all"), (6, 4)),
        (tracer.trace_image_tokens(2), (4, 4)),
        (trace - tracer.trace(site="mlp"), (columns, rows)),
        (tracer.attention("question_encoder", 2), (8, 65)),
        (tracer.attention("answer_decoder", 2), (1, 8)),
        (tracer.logit_lens(), (1, 6)),
    ]


def dots(axes):
    return {tuple(point) for group in axes.collections for point in group.get_offsets().tolist()}


def box(*axes):
    """What axes, their labels and ticks take, in pixels."""
    return Bbox.union([one.get_tightbbox(one.figure.canvas.get_renderer()) for one in axes])


def test_every_map_is_drawn_on_the_axes_given(results):
    for result, shape in results:
        axes = mpl.pyplot.figure().add_subplot()
        assert result.plot(axes) is axes
        assert axes.images[0].get_array().shape == shape
        assert result.plot(limit=0.5).images[0].get_clim()[1] == 0.5


def test_dots_are_where_nothing_is_claimed(trace):
    axes = trace.plot()
    assert dots(axes) == {tuple(cell) for cell in np.argwhere(~trace.significant).tolist()}
    assert "not distinguishable from 0" in " ".join(text.get_text() for text in axes.texts)
    assert not dots(trace.plot(marks=False))
    assert not trace.plot(marks=False).texts


def test_dots_of_a_difference_are_those_of_what_is_shown(trace):
    lower = dataclasses.replace(trace, samples=trace.samples - 0.3, corrupted=trace.corrupted - 0.3)
    apart = trace - lower  # the same effects, parts of another whole
    assert (apart.significant != apart.recovery_significant).any()
    for value, which in (("recovery", apart.recovery_significant), ("indirect_effect", apart.significant)):
        assert dots(apart.plot(value=value)) == {tuple(cell) for cell in np.argwhere(~which).tolist()}


def test_what_is_1_by_construction_is_marked_and_does_not_stretch_the_scale(tracer):
    trace = tracer.trace("answer_decoder")
    axes = trace.plot()
    marks = [(text.get_text(), text.get_position()) for text in axes.texts if text.get_text() == "="]
    assert marks == [("=", (5, 0))]
    assert (5.0, 0.0) not in dots(axes)
    assert axes.images[0].get_clim()[1] == pytest.approx(np.abs(trace.recovery[:5]).max())


def test_the_value_asked_for_is_shown(trace):
    for value, numbers in (
        ("recovery", trace.recovery),
        ("indirect_effect", trace.indirect_effect),
        ("score", trace.scores),
    ):
        axes = trace.plot(value=value)
        np.testing.assert_array_equal(axes.images[0].get_array(), numbers.T)
        assert any(other.get_ylabel() == value.replace("_", " ") for other in axes.figure.axes)
    for value, error in (("answer", ValueError), (3, TypeError)):
        with pytest.raises(error, match="value: expected one of"):
            trace.plot(value=value)


@pytest.mark.parametrize(
    ("limit", "error"),
    [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_wrong_limit_is_named(results, limit, error):
    for result, _ in results:
        with pytest.raises(error, match="limit: expected a number above 0"):
            result.plot(limit=limit)


def test_where_recovery_is_undefined_the_effect_is_drawn_and_said(tracer):
    calm = tracer.with_corruption(factor=0.0).trace()
    assert calm.undefined_because
    axes = calm.plot()
    assert any(other.get_ylabel() == "indirect effect" for other in axes.figure.axes)
    assert np.isfinite(np.asarray(axes.images[0].get_array())).all()


def test_colours_are_ones_own(trace):
    assert trace.plot(cmap="viridis").images[0].get_cmap().name == "viridis"
    assert trace.plot(cmap=mpl.colormaps["magma"]).images[0].get_cmap().name == "magma"


@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
def test_nothing_lies_over_the_neighbour(results, trace, layout):
    for result, _ in results:
        figure, (one, other) = mpl.pyplot.subplots(1, 2, layout=layout)
        result.plot(one)
        trace.plot(other)
        figure.canvas.draw()
        left, right = (box(axes, bar) for axes, bar in zip((one, other), figure.axes[2:], strict=True))
        assert 0 <= left.x0 + 1 < left.x1 <= right.x0 + 1, (type(result).__name__, layout)
        assert right.x1 <= figure.bbox.width + 1
        for axes, bar in zip((one, other), figure.axes[2:], strict=True):
            assert axes.get_window_extent().x1 < bar.get_window_extent().x0
            assert axes.get_window_extent().width > 30


def test_tight_layout_after_drawing_is_no_error(trace):
    figure, axes = mpl.pyplot.subplots(1, 2)
    for one in axes:
        trace.plot(one)
    figure.tight_layout()
    figure.canvas.draw()


def test_cells_that_are_not_computed_are_left_grey(trace):
    samples = trace.samples.copy()
    samples[:, 1, 2] = np.nan
    axes = dataclasses.replace(trace, samples=samples).plot()
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)[2, 1])
    assert (1.0, 2.0) not in dots(axes)


def test_readings_and_knockouts(tracer):
    looks = tracer.attention("question_encoder", 3)
    axes = looks.plot(position="circle")
    np.testing.assert_array_equal(axes.images[0].get_array(), looks.image(5))
    low, high = looks.plot(value="difference").images[0].get_clim()
    assert low == -high
    with pytest.raises(ValueError, match="value: expected one of"):
        looks.plot(value="noise")
    lens = tracer.logit_lens()
    assert [text.get_text() for text in lens.plot().texts] == [layer[0][0][0] for layer in lens.top]
    np.testing.assert_allclose(
        lens.plot(value="corrupted_answer").images[0].get_array(), lens.corrupted_answer.mean(axis=0).T
    )
    cut = tracer.trace_knockout("question_encoder", queries="circle")
    for value in ("relative_loss", "loss"):
        assert [bar.get_height() for bar in cut.plot(value=value).patches] == pytest.approx(getattr(cut, value))
    assert [bar.get_height() for bar in cut.plot(value="score").patches] == pytest.approx(cut.scores)
    one = tracer.knockout("question_encoder", None, "circle", None)
    assert [bar.get_height() for bar in one.plot().patches] == pytest.approx([one.clean, one.score])
    assert one.plot(limit=2.0).get_ylim() == (0.0, 2.0)


def test_bqplot_draws_the_same_without_matplotlib(results, tracer, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for result, shape in results:
        figure = result.plot(limit=0.25)
        assert figure.marks[0].color.shape == tuple(max(2, size) for size in shape)  # it cannot draw a single row
        assert figure.marks[0].scales["color"].max == 0.25
        if isinstance(result, Trace):
            marked = sum(len(mark.text) for mark in figure.marks[1:])
            assert marked == (~result.significant).sum() + sum(
                bool(result.significant[at]) for at in result.constructed
            )
        assert len(result.plot(marks=False).marks) == 1
    assert type(tracer.knockout("question_encoder", None, "circle", None).plot()).__name__ == "Figure"
