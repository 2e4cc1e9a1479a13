"""Files that version 0.1.0 wrote: a trace, a recording, a data set's folder, with what that version showed of them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from blip_trace_widget import DatasetTrace, GaussianNoise, TraceWidget, demo_samples, load_trace, trace_dataset
from blip_trace_widget.dataset import store
from blip_trace_widget.display import payloads
from blip_trace_widget.results import recording
from blip_trace_widget.states import BLOCKS
from helpers.paths import OLD_FILES as FILES

#: What is said of errors and tests, in either version; the gate is one.
ERRORS = {"error", "total_effect_margin", "margin", "recovery_margin", "negligible", "gate"}
ERRORS |= {"total_effect_stderr", "stderr", "recovery_stderr"}


@pytest.fixture(scope="module")
def values():
    return json.loads((FILES / "values.json").read_text("utf-8"))


def plain(value):
    """As JSON has it."""
    return json.loads(json.dumps(value))


#: What 0.1.0 called otherwise on the wire.
RENAMED = {"culprit": "cause"}


def check(widget, wanted):
    """The widget shows what 0.1.0 showed."""
    for name, value in wanted["inputs"].items():
        assert getattr(widget, name) == value, name
    for name in ("runs", "curve", "detail"):
        # What 0.1.0 said of errors it said by another rule.
        shown, before = (
            {key: told[key] for key in told.keys() - ERRORS} for told in (getattr(widget, name), wanted[name])
        )
        if not widget.runs["gate"]["open"]:  # of so few samples it was open by the older rule
            assert shown.pop("recovery", None) is None
            before.pop("recovery", None)
        same(shown, before, name)
    same(widget.setup["blocks"], [present(block) for block in wanted["blocks"]], "blocks")
    for name in ("answer_tokens", "patches", "model"):
        assert plain(widget.setup[name]) == wanted[name]
    assert len(widget.picture) == wanted["picture_bytes"]
    cells = np.frombuffer(widget.grid["values"], "<f4").reshape(6, -1)[:, [0, 3, -1]]
    scores, effects, _, recoveries, *_ = wanted["grid"]
    np.testing.assert_allclose(cells[:2], [scores, effects], atol=1e-5)
    np.testing.assert_allclose(cells[3], recoveries if widget.runs["gate"]["open"] else np.nan, atol=1e-5)


def present(block):
    """A block with the names that its sites have today, and with today's words for why it is closed."""
    older = BLOCKS[block["name"]].older
    reason = payloads.CLOSED["undamaged"] if block["reason"] else ""
    return {**block, "sites": [older.get(site, site) for site in block["sites"]], "reason": reason}


def same(shown, wanted, name):
    """Equal but for rounding, for how often inputs were changed before, and for what was not said yet."""
    if isinstance(wanted, dict):
        assert set(shown) >= {RENAMED.get(key, key) for key in wanted}, name
        for key in set(wanted) - {"generation"}:
            same(shown[RENAMED.get(key, key)], wanted[key], f"{name} {key}")
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


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ["trace", "recording"])
def test_a_damaged_old_file_is_refused_or_read_and_never_more(tmp_path_factory, name, data):
    whole = (FILES / f"{name}.safetensors").read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path_factory.mktemp("broken") / "trace"
    broken.write_bytes(bytes(damaged))
    try:
        traces = recording.load(broken)
    except ValueError:
        return
    assert all(np.shape(trace.samples)[2] == len(trace.tokens) for trace in traces)


@pytest.mark.parametrize(
    ("place", "to"),
    [
        (("scenes",), []),
        (("scenes", 0), None),
        (("scenes", 0, "setup", "blocks"), "all"),
        (("scenes", 0, "setup", "blocks", 0, "name"), "../../etc"),
        (("scenes", 0, "setup"), {"version": 1}),
        (("scenes", 0, "inputs", "question"), None),
        (("scenes", 0, "inputs", "metric"), "loss"),
        (("scenes", 0, "runs", "clean"), [1]),
        (("scenes", 0, "runs", "bars", "words"), ["one"]),
        (("scenes", 0, "curve"), {"factors": "many"}),
        (("traces", 0, "settings", "corruption"), {"type": "__import__"}),
        (("traces", 0, "scene"), 99),
    ],
)
def test_json_of_an_old_file_that_does_not_fit_is_refused(tmp_path, place, to):
    with safe_open(FILES / "recording.safetensors", framework="numpy") as file:
        told = json.loads(file.metadata()["blip_trace_widget.recording"])
    at = told
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = to
    arrays = load_file(FILES / "recording.safetensors")
    save_file(arrays, tmp_path / "bad", metadata={"blip_trace_widget.recording": json.dumps(told)})
    with pytest.raises(ValueError, match=r"damaged or no saved|it lacks"):
        recording.load(tmp_path / "bad")


def test_an_old_file_saved_again_shows_the_same(values, tmp_path):
    recording.save(recording.load(FILES / "recording.safetensors"), tmp_path / "again")
    widget = TraceWidget.from_trace(tmp_path / "again")
    widget.block = "answer_decoder"
    widget.site = "mlp"
    widget.selection = [(2, 0)]
    check(widget, values["recording"]["shown"][0])
    widget.close()


def test_what_the_first_files_lack_is_not_asked_for(tmp_path):
    """Before there were scenes, a trace was saved without one."""
    with safe_open(FILES / "trace.safetensors", framework="numpy") as file:
        told = json.loads(file.metadata()["blip_trace_widget.trace"])
    del told["scene"]
    arrays = {name: array for name, array in load_file(FILES / "trace.safetensors").items() if "picture" not in name}
    save_file(arrays, tmp_path / "old", metadata={"blip_trace_widget.trace": json.dumps(told)})
    assert load_trace(tmp_path / "old").snapshot is None


def test_an_old_folder_is_gone_on_with(demo, tmp_path):
    def trace(count):
        noise = GaussianNoise(samples=2)
        return trace_dataset(
            demo_samples(count), demo, tmp_path / "out", corruption=noise, progress=False, batch_size=2
        )

    trace(2)
    place, settings_ = store.part(tmp_path / "out", "samples", 0), tmp_path / "out" / "dataset.json"
    table = parquet.read_table(place)
    parquet.write_table(table.drop_columns(["snapshot"]).append_column("scene", pa.nulls(2, pa.string())), place)
    settings_.write_text(json.dumps({**json.loads(settings_.read_text("utf-8")), "version": 1}), "utf-8")
    found = trace(4)
    assert [found.traces(number)[0].snapshot is None for number in range(4)] == [True, True, False, False]
    assert json.loads(settings_.read_text("utf-8"))["version"] == store.VERSION
