"""The charts beside the widget, without a browser: both ways of every link, the numbers, and what is left behind."""

import gc
import importlib
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

from blip_trace_widget import GaussianNoise, State, Tracer, TraceWidget, charts
from blip_trace_widget.results.intervals import margin
from helpers.front_end import take
from helpers.widgets import quick_widget

ENCODER, DECODER = "question_encoder", "answer_decoder"


@pytest.fixture
def widget(demo, example):
    made = quick_widget(example.image, example.question, model=demo)
    made.wait(30)
    yield made
    made.close()
    assert made.error == "", "a chart that fails in the worker shows in the widget's error bar"


@pytest.fixture
def shown(widget):
    """The charts, by name."""
    return SimpleNamespace(**widget.panel().charts)


def move(handle, place):
    """The front end moves the handle."""
    value = {"value": memoryview(np.array([place])), "dtype": "float64", "shape": [1], "type": None}
    handle.set_state({"x": value})


def tell(part, event, **content):
    """A message of the front end to a chart's part."""
    take(part, {"event": event, **content})


def click(chart, layer, head):
    tell(chart.cells, "element_click", data={"row": layer, "column": head, "color": 0.0})


def by_hand(trace, left_out=()):
    """Layers, mean and margin of a profile, one layer after the other."""
    rows = []
    total = trace.clean - trace.corrupted
    for layer in range(trace.samples.shape[1]):
        cells = [
            trace.samples[:, layer, position]
            for position in range(trace.samples.shape[2])
            if (layer, position) not in left_out and not np.isnan(trace.samples[:, layer, position]).any()
        ]
        if not cells:
            continue
        patched = sum(cells) / len(cells)
        effect = trace.clean - patched if trace.settings["direction"] == "disrupt" else patched - trace.corrupted
        scale = 1.0 if trace.undefined_because else total.mean()
        half = margin(effect) if trace.undefined_because else margin(effect, total)
        rows.append((layer, effect.mean() / scale, float(half)))
    return np.array(rows).T


# --- the noise curve -------------------------------------------------------------------------------------------------


def test_a_hand_on_the_handle_sets_the_noise(widget, shown, tracer):
    handle = shown.noise.handle
    sent = []
    handle.send_state = lambda key=None: sent.append(key)
    tell(handle, "drag_start", point={"x": 5.0, "y": 1.0}, index=0)
    for place, noise in ((5.04, 5.0), (3.17, 3.2), (-1.0, 0.0), (99.0, 10.0), (2.26, 2.3)):
        move(handle, place)
        assert widget.noise == noise
        assert shown.noise.guide.x.tolist() == [noise, noise]
        assert handle.x.tolist() == [place], "it stays in the hand"
    assert "x" not in sent, "an echo would pull it back"
    tell(handle, "drag_end", point={"x": 2.04, "y": 1.0}, index=0)
    assert widget.noise == 2.0
    assert handle.x.tolist() == [2.0]
    assert "x" in sent, "let go, it snaps to the step"
    sent.clear()
    move(handle, 2.04)  # the page's last change, held back until after the message
    assert (widget.noise, handle.x.tolist()) == (2.0, [2.0])
    assert "x" in sent
    widget.wait(30)
    assert widget.tracer.corruption.factor == 2.0
    assert widget.runs["corrupted"]["score"] == pytest.approx(tracer.with_corruption(factor=2.0).corrupted.score)


def test_the_noise_moves_the_handle_and_is_not_rounded_by_it(widget, shown):
    for noise, place in ((7.25, 7.25), (40.0, 10.0), (0.0, 0.0)):
        widget.noise = noise
        assert widget.noise == noise
        assert shown.noise.handle.x.tolist() == [place]
    widget.undo()
    assert shown.noise.handle.x.tolist() == [widget.noise] == [5.0]


def test_the_curve_and_where_we_are_on_it(demo, example):
    widget = TraceWidget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=4))
    widget.wait(30)
    shown = SimpleNamespace(**widget.panel().charts)
    curve = widget.curve
    assert len(curve["scores"]) == 21
    np.testing.assert_array_equal(shown.noise.curve.x, curve["factors"])
    np.testing.assert_array_equal(shown.noise.curve.y, curve["scores"])
    assert shown.noise.clean.y.tolist() == [curve["clean"]] * 2
    widget.noise = 1.25
    halfway = (curve["scores"][2] + curve["scores"][3]) / 2
    assert (shown.noise.point.x[0], shown.noise.point.y[0]) == (1.25, pytest.approx(halfway))
    widget.seed = 1
    widget.wait(30)
    assert widget.curve != curve
    np.testing.assert_array_equal(shown.noise.curve.y, widget.curve["scores"])
    assert shown.noise.note.value == ""
    widget.corruption = "MeanAblation"
    widget.wait(30)
    assert "no noise" in shown.noise.note.value
    widget.close()


# --- the profile -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", [{}, {"site": "mlp", "window": 3}, {"direction": "disrupt"}, {"site": "self_attention", "head": 2}]
)
def test_the_profile_is_the_mean_over_positions_with_its_interval(tracer, asked):
    for block in (ENCODER, DECODER):
        trace = tracer.trace(block, **asked)
        constructed = [(5, 0)] if block == DECODER and not {"site", "direction"} & set(asked) else []
        if asked == {"direction": "disrupt"} and block == DECODER:
            constructed = [(5, 0)]
        exact = by_hand(trace, constructed)
        found = charts.profile(trace)
        np.testing.assert_array_equal(found.layers, exact[0])
        np.testing.assert_allclose(found.mean, exact[1], atol=1e-12)
        np.testing.assert_allclose(found.margin, exact[2], atol=1e-12)
        assert len(found.layers) == 6 - len(constructed)


@pytest.mark.parametrize("noise", [GaussianNoise(0.0), GaussianNoise(samples=1)])
def test_the_profile_where_recovery_or_its_error_is_undefined(demo, example, noise):
    trace = Tracer(demo, example.image, example.question, corruption=noise).trace()
    found, exact = charts.profile(trace), by_hand(trace)
    assert bool(trace.undefined_because) is (noise.factor == 0)
    np.testing.assert_allclose(found.mean, exact[1], atol=1e-12)
    np.testing.assert_allclose(found.margin, exact[2], atol=1e-12)
    assert np.isnan(found.margin).all() == (noise.samples == 1)


def test_the_profile_follows_the_grids_of_both_blocks(widget, shown, tracer):
    chart = shown.profile
    assert "Nothing is computed" in chart.note.value
    widget.selection = [(5, 5)]
    widget.wait(30)
    assert chart.note.value == ""
    one = tracer.patch(State(ENCODER, 5, 5))
    assert chart.lines[ENCODER].x.tolist() == [5]
    assert chart.lines[ENCODER].y == pytest.approx([one.recovery])
    low, high = one.interval
    np.testing.assert_allclose(chart.bands[ENCODER].y, [[low, low], [high, high]], atol=1e-9)
    assert not chart.lines[DECODER].visible
    widget.trace_all()
    widget.wait(30)
    widget.block = DECODER
    widget.trace_all()
    widget.noise = 2.0
    widget.wait(30)
    widget.block = ENCODER
    widget.wait(30)
    moved = tracer.with_corruption(factor=2.0)
    for block in (ENCODER, DECODER):
        exact = charts.profile(moved.trace(block))
        assert chart.lines[block].visible
        np.testing.assert_array_equal(chart.lines[block].x, exact.layers)
        np.testing.assert_allclose(chart.lines[block].y, exact.mean, atol=1e-6)
        low, high = chart.bands[block].y
        np.testing.assert_allclose((high - low)[::2] / 2, exact.margin, atol=1e-6)


# --- the answers -----------------------------------------------------------------------------------------------------


def test_the_bars_are_those_of_the_three_runs(widget, shown, tracer):
    bars = shown.answers.bars
    assert bars.x.tolist() == widget.runs["bars"]["words"]
    np.testing.assert_array_equal(bars.y[0], widget.runs["bars"]["clean"])
    np.testing.assert_array_equal(bars.y[1], widget.runs["bars"]["corrupted"])
    assert not bars.y[2].any()
    widget.selection = [(5, 5)]
    widget.wait(30)
    effect = tracer.patch(State(ENCODER, 5, 5))
    words = tracer.model.token_ids(list(bars.x))
    for row, run in zip(bars.y, (tracer.clean, tracer.corrupted, effect), strict=True):
        np.testing.assert_allclose(row, run.distribution[words], atol=1e-6)
    widget.selection = []
    assert not bars.y[2].any()


# --- the map of heads ------------------------------------------------------------------------------------------------


def test_the_map_of_heads_is_computed_when_it_is_asked_for(widget, shown, tracer):
    chart = shown.heads
    assert "no single heads" in chart.note.value
    assert chart.stop.disabled
    tell(chart.compute, "click")
    assert widget.site == "cross_attention"  # which has heads, as the layer's output has not
    widget.wait(30)
    exact = tracer.trace(site="cross_attention", head="all")
    np.testing.assert_allclose(chart.cells.color, exact.recovery, atol=1e-5)
    assert chart.note.value == ""
    assert chart.progress.value == "192 of 192 cells"
    assert chart.compute.disabled
    assert chart.stop.disabled
    widget.site = "self_attention"
    assert "Not computed" in chart.note.value
    widget.noise = 0.0
    widget.trace_heads()
    widget.wait(30)
    tell(chart.compute, "click")
    widget.wait(30)
    assert widget.site == "self_attention"
    exact = tracer.with_corruption(factor=0.0).trace(site="self_attention", head="all")
    np.testing.assert_allclose(chart.cells.color, exact.indirect_effect, atol=1e-5)
    assert "indirect effect" in chart.title.value


def test_stop_stops_the_map(widget, shown, monkeypatch):
    stopped = []
    monkeypatch.setattr(TraceWidget, "stop", lambda self: stopped.append(self))
    widget.site = "cross_attention"
    assert not shown.heads.stop.disabled
    tell(shown.heads.stop, "click")
    assert stopped == [widget]


def test_a_click_shows_a_heads_grid_and_the_next_one_all_heads(widget, shown, tracer):
    chart = shown.heads
    widget.site = "self_attention"
    click(chart, 3, 2)
    assert (widget.site, widget.head) == ("self_attention", 2)
    assert chart.cells.selected.tolist() == [[layer, 2] for layer in range(6)]
    widget.wait(30)
    assert (widget.grid["site"], widget.grid["head"]) == ("self_attention", 2)
    np.testing.assert_allclose(widget.trace.samples, tracer.trace(site="self_attention", head=2).samples, atol=1e-6)
    click(chart, 0, 1)
    assert widget.head == 1
    click(chart, 5, 1)
    assert widget.head is None
    assert chart.cells.selected is None
    widget.head = 3
    assert chart.cells.selected.tolist() == [[layer, 3] for layer in range(6)]
    widget.site = "mlp"
    click(chart, 0, 0)  # a click that was under way
    assert (widget.site, widget.head) == ("cross_attention", 0)


def test_charts_follow_every_block_corruption_and_metric(widget, shown):
    widget.samples = 2  # the image encoder has a thousand cells
    widget.corruption = "MeanAblation"
    widget.metric = "kl_divergence"
    widget.site = "self_attention"
    widget.trace_all()
    widget.trace_heads()
    widget.wait(30)
    widget.corruption = "GaussianNoise"
    widget.at = "patch_embeddings"
    widget.block = "image_encoder"
    widget.site = "self_attention"
    widget.trace_heads()
    widget.wait(60)
    heads = widget.head_map
    assert heads.samples.shape[1:3] == shown.heads.cells.color.shape
    # Of two samples the gate is open only where they are nearly alike.
    np.testing.assert_array_equal(
        shown.heads.cells.color, heads.indirect_effect if heads.undefined_because else heads.recovery
    )
    assert "image encoder" in shown.heads.figure.axes[1].label
    widget.site = "mlp"
    tell(shown.heads.compute, "click")
    assert widget.site == "self_attention_out"  # the image encoder has no cross-attention
    assert shown.noise.figure.axes[1].label == "KL divergence"


# --- where it works, and what it leaves ------------------------------------------------------------------------------


def test_marimo_is_refused_with_a_way_out(widget, monkeypatch):
    monkeypatch.setitem(sys.modules, "marimo", SimpleNamespace(running_in_notebook=lambda: True))
    with pytest.raises(RuntimeError, match=r"marimo cannot show bqplot.*mo\.ui\.anywidget"):
        widget.panel()
    monkeypatch.setitem(sys.modules, "marimo", SimpleNamespace(running_in_notebook=lambda: False))
    assert widget.panel().charts


def test_without_bqplot_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bqplot", None)
    monkeypatch.delitem(sys.modules, "blip_trace_widget.charts")
    with pytest.raises(ImportError, match="pip install bqplot"):
        importlib.import_module("blip_trace_widget.charts")


def test_asked_again_it_is_the_same_panel(widget):
    panel = widget.panel()
    assert widget.panel() is panel
    assert repr(panel) == f"Panel({widget!r})"
    panel.close()
    panel.close()
    assert widget.panel() is not panel


def test_closing_the_panel_leaves_the_widget(widget):
    before = set(_instances)
    panel = widget.panel()
    handle = panel.charts["noise"].handle
    panel.close()
    assert set(_instances) == before
    widget.noise = 2.0
    assert handle.x.tolist() == [5.0]
    widget.trace_all()
    widget.wait(30)
    assert widget.comm is not None


def test_closing_the_widget_leaves_nothing_behind(demo, example):
    before = set(_instances)
    widget = quick_widget(example.image, example.question, model=demo)
    widget.wait(30)
    panel, layout = widget.panel(), widget.layout
    click(panel.charts["heads"], 0, 0)
    widget.wait(30)
    widget.close()
    layout.close()  # ipywidgets keeps every layout
    assert set(_instances) == before
    assert panel.comm is None
    gone = weakref.ref(widget)
    del widget
    gc.collect()
    assert gone() is None, "though the panel is still held"
    assert repr(panel) == "Panel(None)"
