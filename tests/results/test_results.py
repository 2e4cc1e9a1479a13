"""Results as tables, files and plots."""

import dataclasses
import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import State, Trace, load_trace
from blip_trace_widget.results.noise_curve import NoiseCurve


@pytest.fixture(scope="module")
def trace(tracer):
    return tracer.trace(window=2, direction="disrupt")


def test_results_are_frozen(tracer, trace):
    for result in (trace, tracer.clean, tracer.patch(State("question_encoder", 0, 0))):
        with pytest.raises(AttributeError):
            result.scores = 1


def test_a_table_has_one_row_a_cell(trace):
    table = trace.to_dataframe()
    assert len(table) == trace.samples[0].size
    row = table[(table.layer == 3) & (table.position == 5)].iloc[0]
    assert row.token == trace.tokens[5] == "circle"
    assert row.score == pytest.approx(trace.scores[3, 5])
    assert row.recovery == pytest.approx(trace.recovery[3, 5])
    assert row.stderr == pytest.approx(trace.stderr[3, 5])
    assert (table.block == "question_encoder").all()


def test_saved_and_loaded_is_the_same_bit_for_bit(trace, tmp_path):
    samples = trace.samples.copy()
    samples[:, 0, 0] = np.nan
    trace = dataclasses.replace(trace, samples=samples)
    trace.save(tmp_path / "trace.safetensors")
    again = load_trace(tmp_path / "trace.safetensors")
    assert isinstance(again, Trace)
    assert again.samples.tobytes() == trace.samples.tobytes()
    assert again.corrupted.tobytes() == trace.corrupted.tobytes()
    assert (again.clean, again.tokens, again.settings) == (trace.clean, trace.tokens, trace.settings)
    np.testing.assert_array_equal(again.recovery, trace.recovery)
    assert again.settings["corruption"]["seed"] == 0


def test_a_file_that_is_no_trace_is_refused(trace, tmp_path):
    path = tmp_path / "trace.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_trace(path)
    trace.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-8], b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or no saved trace"):
            load_trace(path)
    from safetensors.numpy import save_file

    save_file({"samples": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="no saved trace"):
        load_trace(path)


def test_a_newer_format_is_refused(trace, tmp_path):
    from safetensors.numpy import save_file

    tensors = {"samples": trace.samples, "corrupted": trace.corrupted, "clean": np.array([0.0])}
    save_file(
        tensors, tmp_path / "new", metadata={"blip_trace_widget.trace": json.dumps({"version": 99, "tokens": []})}
    )
    with pytest.raises(ValueError, match="format version 99"):
        load_trace(tmp_path / "new")


@pytest.fixture(scope="module")
def curve(tracer):
    states = [State("question_encoder", 5, 5), State("answer_decoder", 2, 0, "cross_attention", head=1)]
    return tracer.noise_curve([5.0, 0.0, 2.5], states=states)


def test_a_saved_curve_is_the_same_bit_for_bit(curve, tmp_path):
    patched = curve.patched.copy()
    patched[0, 0, 0] = np.nan
    kept = dataclasses.replace(curve, patched=patched)
    for number, one in enumerate((kept, dataclasses.replace(kept, patched=patched[:, :, :0], states=()))):
        one.save(tmp_path / f"curve{number}")
        again = NoiseCurve.load(str(tmp_path / f"curve{number}"))
        assert isinstance(again, NoiseCurve)
        for name in ("factors", "corrupted", "patched"):
            there, here = getattr(again, name), getattr(one, name)
            assert (there.shape, there.dtype, there.tobytes()) == (here.shape, here.dtype, here.tobytes())
        assert (again.clean, again.states) == (one.clean, one.states)
        assert again.to_dataframe().equals(one.to_dataframe())
        assert again.suggest_factor() == one.suggest_factor()


def test_a_file_that_is_no_curve_is_refused(curve, trace, tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "curve.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        NoiseCurve.load(path)
    with pytest.raises(OSError, match="cannot be written"):
        curve.save(tmp_path / "nowhere" / "curve")
    curve.save(path)
    with pytest.raises(ValueError, match=r"no saved trace: it lacks 'blip_trace_widget.trace'"):
        load_trace(path)
    whole, tensors = path.read_bytes(), load_file(path)
    for damaged in (b"", whole[:20], whole[:-8], b"\xff" * 64, pickle.dumps(curve.factors)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or no saved noise curve"):
            NoiseCurve.load(path)
    trace.save(path)
    with pytest.raises(ValueError, match="no saved noise curve: it lacks"):
        NoiseCurve.load(path)

    def stored(message, metadata, **changed):
        described = {"version": 1, "states": [dataclasses.asdict(state) for state in curve.states], **metadata}
        kept = {name: value for name, value in {**tensors, **changed}.items() if value is not None}
        save_file(kept, path, metadata={"blip_trace_widget.noise_curve": json.dumps(described)})
        with pytest.raises(ValueError, match=message):
            NoiseCurve.load(path)

    stored("format version 99", {"version": 99})
    stored("format version 99", {"version": 99}, patched=None)
    stored("it lacks 'patched'", {}, patched=None)
    stored("do not fit each other and 0 states", {"states": []})
    stored("do not fit each other", {}, factors=np.zeros(2))
    stored("do not fit each other", {}, corrupted=tensors["corrupted"][:1])
    stored("it lacks", {}, clean=np.zeros(0))
    for wrong in ("layer", {"block": "question_encoder"}, {"block": "x", "layer": 0, "position": 0, "code": "1"}, 3):
        stored("no state: ", {"states": [wrong, wrong]})
    stored("block: expected one of", {"states": [{"block": "x", "layer": 0, "position": 0}] * 2})
    for axis in ("layer", "position", "head"):  # no table of them holds it
        far = {"block": "question_encoder", "layer": 0, "position": 0, "site": "self_attention", axis: 10**30}
        stored(f"{axis}: expected", {"states": [far] * 2})


def test_states_on_a_curve_leave_its_suggestion_alone(tracer):
    state = State("question_encoder", 5, 5)
    bare, with_state = tracer.noise_curve(), tracer.noise_curve(states=state)
    assert (with_state.patched.mean(axis=0)[:, 0] > bare.scores + 0.05).any()
    assert with_state.suggest_factor() == bare.suggest_factor()
    assert with_state.suggest_factor().reason == bare.suggest_factor().reason


def test_matplotlib_plot_shows_every_layer_and_token(trace, tracer):
    import matplotlib as mpl

    mpl.use("agg")
    axes = trace.plot()
    assert [int(float(label.get_text())) for label in axes.get_xticklabels()] == list(range(6))
    assert [label.get_text() for label in axes.get_yticklabels()] == list(trace.tokens)
    picture = axes.get_images()[0]
    low, high = picture.get_clim()
    assert low == -high
    state = State("question_encoder", 5, 5)
    lines = tracer.noise_curve([0.0, 5.0], states=[state]).plot().get_lines()
    assert len(lines) == 3


def test_bqplot_stands_in_for_matplotlib(trace, tracer, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    figure = trace.plot()
    assert type(figure).__module__.startswith("bqplot")
    assert figure.marks[0].color.shape == (len(trace.tokens), 6)
    curve = tracer.noise_curve([0.0, 5.0])
    assert type(curve.plot()).__module__.startswith("bqplot")
    assert curve.to_dataframe().shape == (2, 5)
    assert (curve.to_dataframe()["clean"] == curve.clean).all()


def curve_of(factors, scores, clean=0.8):
    factors, scores = np.asarray(factors, float), np.asarray(scores, float)
    return NoiseCurve(factors, clean, np.stack([scores, scores]), np.empty((2, factors.size, 0)))


@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1)), min_size=1, max_size=20, unique_by=lambda pair: pair[0]),
    st.floats(0.05, 1),
)
def test_the_suggested_factor_is_the_smallest_that_removes_enough(points, share):
    factors, kept = zip(*points, strict=True)
    curve = curve_of(factors, [0.8 * part for part in kept])
    enough = [factor for factor, score in zip(factors, curve.scores, strict=True) if 1 - score / 0.8 >= share]
    if not enough:
        with pytest.raises(ValueError, match="no factor of this curve removes"):
            curve.suggest_factor(share)
        return
    suggested = curve.suggest_factor(share)
    assert suggested == min(enough)
    assert f"ν = {min(enough):g} is the smallest" in suggested.reason


def test_a_suggestion_for_the_built_in_example(tracer):
    curve = tracer.noise_curve()
    factor = curve.suggest_factor()
    assert tracer.with_corruption(factor=factor).corrupted.score <= 0.1 * tracer.clean.score
    before = tracer.with_corruption(factor=factor - 0.5).corrupted.score
    assert before > 0.1 * tracer.clean.score


@pytest.mark.parametrize(
    ("share", "error"), [(0, ValueError), (1.5, ValueError), ("much", TypeError), (True, TypeError)]
)
def test_a_wrong_share_is_named(share, error):
    with pytest.raises(error, match="share: expected a number"):
        curve_of([0, 1], [0.8, 0.0]).suggest_factor(share)


def test_there_is_no_share_of_a_logarithm():
    with pytest.raises(ValueError, match="metric='probability'"):
        curve_of([0, 1], [-0.1, -3], clean=-0.1).suggest_factor()
