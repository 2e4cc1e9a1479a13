"""Files that somebody changed: each loads to something that can be shown, or is refused by name."""

import json
import os
import random

import numpy as np
import pytest

from blip_trace_widget import (
    Flow,
    FoundStates,
    GaussianNoise,
    NoiseCurve,
    RecoveryCurve,
    Tracer,
    TraceWidget,
    load_trace,
)
from blip_trace_widget.results import recording
from helpers.mutations import File
from helpers.paths import OLD_FILES

#: Mutations of each kind: in every run, and in the slow one, 20000 where the environment says so.
FEW, MANY = 20, int(os.environ.get("BLIP_TRACE_MUTATIONS", "80"))


@pytest.fixture(scope="module")
def saved(demo, example, tmp_path_factory):
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=2))
    curve = tracer.noise_curve([0.0, 2.0, 5.0])
    curve.save(folder / "noise curve")
    tracer.recovery_curve(factors=[2.0, 5.0]).save(folder / "recovery curve")
    tracer.trace("answer_decoder").save(folder / "trace")
    tracer.find_states(0.5, "heads", most=2, tries=3).save(folder / "set of states")
    tracer.flow({"question": {"first": [0]}, "answer": {}}).save(folder / "flow")
    recording.save([tracer.trace(block) for block in ("question_encoder", "answer_decoder")], folder / "recording")
    kinds = {path.name: File(path) for path in folder.iterdir()}
    return kinds | {f"old {name}": File(OLD_FILES / f"{name}.safetensors") for name in ("trace", "recording")}


def show_trace(path):
    trace = load_trace(path)
    repr(trace), trace.to_dataframe(), trace.constructed, trace.same_as, trace.recovery
    if trace.snapshot is not None:
        show_recording(path)
        for kind in ("svg", "html", "csv", "json"):
            trace.export(path.with_suffix(f".{kind}"))


def show_recording(path):
    recording.load(path)
    widget = TraceWidget.from_trace(path)
    try:
        for block in [block["name"] for block in widget.setup["blocks"] if block["enabled"]]:
            widget.block = block
            if np.isfinite(widget.trace.scores).any():
                layer, position = np.argwhere(np.isfinite(widget.trace.scores))[0]
                widget.selection = [(int(layer), int(position))]
            json.dumps([widget.runs, widget.setup, widget.detail, widget.curve], allow_nan=False)
            assert repr(widget)
            assert widget.code
        for kind in ("svg", "html", "csv", "json"):
            widget.export(path.with_suffix(f".{kind}"))
    finally:
        widget.close()


def show_noise_curve(path):
    curve = NoiseCurve.load(path)
    repr(curve), curve.to_dataframe(), curve.lost_at, curve.summary


def show_recovery_curve(path):
    curve = RecoveryCurve.load(path)
    repr(curve), curve.to_dataframe()


def show_found_states(path):
    found = FoundStates.load(path)
    repr(found), found._repr_html_(), found.to_dataframe(), found.curve, found.grids, found.states


def show_flow(path):
    flow = Flow.load(path)
    repr(flow), flow._repr_html_(), flow.to_dataframe(), flow.names


SHOWN = {
    "trace": show_trace,
    "old trace": show_trace,
    "recording": show_recording,
    "old recording": show_recording,
    "noise curve": show_noise_curve,
    "recovery curve": show_recovery_curve,
    "set of states": show_found_states,
    "flow": show_flow,
}


def check(saved, kind, folder, seeds):
    loaded = 0
    for seed in seeds:
        path = saved[kind].write(folder / "mutated", random.Random(f"{kind} {seed}"))
        try:
            SHOWN[kind](path)
            loaded += 1
            continue
        except (ValueError, OSError) as error:
            told = str(error)
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error
        assert "mutated" in told, f"seed {seed}: {told}"
        assert len(told) < 3000
    assert loaded


@pytest.mark.parametrize("kind", SHOWN)
def test_a_changed_file_is_shown_or_refused_by_name(saved, kind, tmp_path):
    check(saved, kind, tmp_path, range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHOWN)
def test_many_changed_files_are_shown_or_refused_by_name(saved, kind, tmp_path):
    check(saved, kind, tmp_path, range(FEW, FEW + MANY))


@pytest.mark.parametrize("kind", SHOWN)
def test_what_nobody_changed_is_shown(saved, kind, tmp_path):
    SHOWN[kind](saved[kind].write(tmp_path / "whole"))
