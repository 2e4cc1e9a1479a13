"""Files that version 0.1.0 wrote: a trace, a recording, a data set's folder, with what that version showed of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from blip_trace_widget import DatasetTrace, TraceWidget, load_trace, recording

FILES = Path(__file__).parent / "data" / "0.1.0"


@pytest.fixture(scope="module")
def values():
    return json.loads((FILES / "values.json").read_text("utf-8"))


def plain(value):
    """As JSON has it."""
    return json.loads(json.dumps(value))


def check(widget, wanted):
    """The widget shows what 0.1.0 showed."""
    for name, value in wanted["inputs"].items():
        assert getattr(widget, name) == value, name
    for name in ("runs", "curve", "detail"):
        same(getattr(widget, name), wanted[name], name)
    same(widget.setup["blocks"], wanted["blocks"], "blocks")
    for name in ("answer_tokens", "patches", "model"):
        assert plain(widget.setup[name]) == wanted[name]
    assert len(widget.picture) == wanted["picture_bytes"]
    cells = np.frombuffer(widget.grid["values"], "<f4").reshape(6, -1)[:, [0, 3, -1]]
    np.testing.assert_allclose(cells, wanted["grid"], atol=1e-5)


def same(shown, wanted, name):
    """Equal but for rounding, and for how often inputs were changed before."""
    if isinstance(wanted, dict):
        assert set(shown) == set(wanted), name
        for key in set(wanted) - {"generation"}:
            same(shown[key], wanted[key], f"{name} {key}")
    elif isinstance(wanted, list):
        assert len(shown) == len(wanted), name
        for one, other in zip(shown, wanted, strict=True):
            same(one, other, name)
    else:
        assert shown == (pytest.approx(wanted, rel=1e-6) if isinstance(wanted, float) else wanted), name


def test_a_trace_loads_and_shows(values):
    wanted = values["trace"]
    trace = load_trace(FILES / "trace.safetensors")
    np.testing.assert_allclose(trace.scores, wanted["scores"], rtol=1e-12)
    np.testing.assert_allclose(trace.recovery, wanted["recovery"], rtol=1e-12)
    assert trace.total_effect == pytest.approx(wanted["total_effect"], rel=1e-12)
    widget = TraceWidget.from_trace(FILES / "trace.safetensors")
    widget.selection = [(3, 2)]
    check(widget, wanted["shown"])
    widget.close()


def test_a_recording_loads_and_shows_at_all_its_factors(values):
    wanted = values["recording"]
    traces = recording.load(FILES / "recording.safetensors")
    for trace, scores in zip(traces, wanted["scores"], strict=True):
        np.testing.assert_allclose(trace.scores.ravel()[:6], scores, rtol=1e-12)
    widget = TraceWidget.from_trace(FILES / "recording.safetensors")
    for noise, shown in zip((2.0, 5.0), wanted["shown"], strict=True):
        widget.noise = noise
        widget.block = "answer_decoder"
        widget.site = "mlp"
        widget.selection = [(2, 0)]
        check(widget, shown)
    widget.close()


def test_a_data_set_loads_and_shows_its_average_and_every_sample(values):
    wanted = values["dataset"]
    found = DatasetTrace.load(FILES / "dataset")
    assert found.summary == wanted["summary"]
    np.testing.assert_allclose(found.mean().recovery, wanted["recovery"], rtol=1e-12)
    for number, scores in enumerate(wanted["scores"]):
        np.testing.assert_allclose(found.trace(number).scores, scores, rtol=1e-12)
    widget = TraceWidget.from_dataset(FILES / "dataset")
    check(widget, wanted["shown"][0])
    for number, shown in enumerate(wanted["shown"][1:]):
        widget.chosen = number
        widget.selection = [(5, 2)]
        check(widget, shown)
    widget.close()
