"""Grids in which something is held, or that show where paths lead, in a session: the numbers that a `Tracer` gives."""

import json

import numpy as np
import pytest

from blip_trace_widget import State, TraceWidget, load_trace
from blip_trace_widget.display import payloads
from blip_trace_widget.results.grid_spec import GridSpec
from helpers.screen import traced

AT = State("question_encoder", 2, 3)
HEAD = State("answer_decoder", 3, 0, "cross_attention_out", 1)
KINDS = [
    GridSpec(hold=("mlp", "everywhere", AT), window=2),
    GridSpec(site="self_attention_out", direction="disrupt", hold=("cross_attention_out", AT, HEAD)),
    GridSpec("answer_decoder", hold=(State("answer_decoder", 5, 0),)),
    GridSpec(site="mlp", receivers="answer", through=("self_attention_out",)),
    GridSpec(direction="disrupt", receivers=(AT, HEAD), through=("mlp",)),
    GridSpec("answer_decoder", "cross_attention_out", 1, receivers=(State("answer_decoder", 4, 0),)),
]


@pytest.fixture
def tracer(tracer):
    """One that no other test has verified, which its settings would say."""
    return tracer.replace()


@pytest.mark.parametrize("spec", KINDS)
def test_it_is_filled_clicked_saved_and_shown_again(session, screen, tracer, tmp_path, spec):
    exact = traced(tracer, spec)
    session.change(**spec._asdict())
    session.trace_all()
    assert session.wait(60)
    found = session.trace
    np.testing.assert_allclose(found.samples, exact.samples, rtol=0, atol=1e-6)
    assert (found.settings, found.constructed) == (exact.settings, exact.constructed)
    assert bool(screen.state["grid"]["held"]) == bool(spec.hold)
    assert spec.hold or screen.state["grid"]["notes"][0].startswith("What reaches")
    json.dumps({name: value for name, value in screen.state["grid"].items() if name != "values"})
    for layer in range(exact.shape[0]):
        session.change(selection=[(layer, 0)])
        assert session.wait(60)
        detail = screen.state["detail"]
        assert detail["score"] == pytest.approx(exact.scores[layer, 0], abs=1e-6)
        assert GridSpec.of(detail) == spec
    exact.save(tmp_path / "trace")
    again = load_trace(tmp_path / "trace")
    assert payloads.spec_of(again) == spec
    widget = TraceWidget.from_trace(tmp_path / "trace")
    assert GridSpec.of(widget.grid) == spec
    np.testing.assert_array_equal(widget.trace.samples, exact.samples)
    widget.close()
    again.save_html(tmp_path / "page.html")
    again.export(tmp_path / "figure.svg")


def test_a_grid_comes_back_as_it_was_when_another_is_held(session, tracer):
    spec = KINDS[0]
    for each in (GridSpec(), spec, GridSpec(), spec):
        session.change(**each._asdict())
        session.trace_all()
        assert session.wait(60)
        np.testing.assert_allclose(session.trace.samples, traced(tracer, each).samples, rtol=0, atol=1e-6)
    assert {payloads.spec_of(trace) for trace in session.traces} == {GridSpec(), spec}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold": [{"block": "question_encoder", "layer": 6, "position": 0, "site": "mlp", "head": None}]}, "layer"),
        ({"hold": [{"block": "answer_decoder", "layer": 0, "position": 1, "site": "mlp", "head": None}]}, "position"),
        ({"hold": [{"block": "image_encoder", "layer": 0, "position": 1, "site": "mlp", "head": None}]}, "closed"),
        ({"hold": ["mlp"], "receivers": "answer"}, "nothing held"),
        ({"receivers": []}, "expected states"),
        ({"receivers": "mlp"}, "answer"),
        ({"through": ["mlp"]}, "receivers are missing"),
        ({"hold": ["everywhere"]}, "where a site is held"),
        ({"receivers": "answer", "through": ["mlp", "everywhere"]}, "through: a word means all layers"),
    ],
)
def test_a_file_that_holds_what_its_model_lacks_is_refused(tracer, tmp_path, settings, message):
    trace = tracer.trace()
    trace.settings.update(settings)
    trace.save(tmp_path / "trace")
    with pytest.raises(ValueError, match=message):
        load_trace(tmp_path / "trace")


def test_a_checked_grid_keeps_what_it_holds(tracer, tmp_path):
    trace = traced(tracer, KINDS[0])
    tracer.verify(cells=2, dtype=None, trace=trace)
    trace.save(tmp_path / "trace")
    again = load_trace(tmp_path / "trace")
    assert GridSpec.of(again.settings["verified"]["grid"]) == KINDS[0]
    assert any(note.startswith("Checked") for note in payloads.grid(again, 0)["notes"])
