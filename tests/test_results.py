"""Results as tables, files and plots."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from blip_trace_widget import State, Trace, load_trace


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
    assert curve.to_dataframe().shape == (2, 4)
