"""One noise sample, and damage without noise: no error is known, and every place says so; NaN is a score as well."""

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, MeanAblation, State, Trace, Tracer, TraceWidget, load_trace
from blip_trace_widget.display import payloads
from blip_trace_widget.results.statistics import NO_NOISE, ONE_SAMPLE

STATE = State("question_encoder", 5, 5)


@pytest.mark.parametrize(("corruption", "told"), [(GaussianNoise(samples=1), ONE_SAMPLE), (MeanAblation(), NO_NOISE)])
def test_every_place_says_that_no_error_is_known(demo, example, tmp_path, corruption, told):
    tracer = Tracer(demo, example.image, example.question, corruption=corruption)
    trace, effect = tracer.trace(), tracer.patch(STATE)
    assert not trace.undefined_because
    for found in (trace, trace[5, 5], effect):
        assert found.error_unknown == told
        assert told in found._repr_html_()
        assert "±" not in found._repr_html_()
        assert "•" not in found._repr_html_()
    assert np.isnan(trace.interval).all()
    assert np.isnan([*effect.interval, *effect.effect_interval]).all()
    assert not trace.significant.any()
    assert not effect.negligible
    assert trace.to_dataframe()[["low", "high", "recovery_low", "recovery_high"]].isna().all(axis=None)
    assert np.isnan(payloads.cell_values(trace)[[2, 4, 5]]).all()
    trace.export(tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert told in drawn
    assert "±" not in drawn
    assert "<circle" not in drawn
    widget = TraceWidget.from_trace(trace)
    widget.selection = [(5, 5)]
    assert widget.runs["error"] == widget.detail["error"] == told
    assert (told in widget.runs["gate"]["text"]) == (told == ONE_SAMPLE)
    assert not widget.detail["negligible"]
    widget.close()


def test_of_several_samples_each_place_has_the_one_verdict(demo, example):
    tracer = Tracer(demo, example.image, example.question)
    trace = tracer.trace()
    assert trace.error_unknown == ""
    values = payloads.cell_values(trace)
    np.testing.assert_array_equal(values[5], trace.significant)
    np.testing.assert_array_equal(payloads.cell_values(trace, [(5, 1), (0, 2)])[:, 0], values[:, [5, 0], [1, 2]])
    for cell in [(5, 5), (0, 0), (3, 4)]:
        assert trace[cell].significant == trace.significant[cell]
        ends = [trace[cell].recovery + side * trace[cell].recovery_margin for side in (-1, 1)]
        np.testing.assert_allclose(trace.interval[(slice(None), *cell)], ends)
    widget = TraceWidget.from_trace(trace)
    for cell in np.ndindex(trace.shape):
        widget.selection = [cell]
        assert widget.detail["negligible"] == (not trace.significant[cell])
    widget.close()
    # Alone it is one hypothesis: what differs within the grid differs by itself.
    alone = tracer.patch(STATE)
    assert trace.significant[5, 5]
    assert alone.significant
    assert alone.interval == pytest.approx(trace.interval[:, 5, 5], abs=1e-5)


def test_a_score_that_is_no_number_is_told_from_what_is_not_computed_in_files_too(demo, example, tmp_path):
    tracer = Tracer(demo, example.image, example.question, metric=nowhere, corruption=GaussianNoise(samples=2))
    trace = tracer.trace()
    assert np.isnan(trace.scores).all()
    assert trace.complete
    trace.save(tmp_path / "nan.safetensors")
    again = load_trace(tmp_path / "nan.safetensors")
    assert again.complete
    assert again.to_dataframe()["computed"].all()
    known = np.zeros(trace.shape, bool)
    known[2, 3] = True
    part = Trace(trace.samples, trace.clean, trace.corrupted, trace.settings, trace.tokens, known=known)
    part.save(tmp_path / "part.safetensors")
    np.testing.assert_array_equal(load_trace(tmp_path / "part.safetensors").computed, known)
    assert not part.significant.any()


def nowhere(logits, answer):
    return logits[..., 0, 0] * float("nan")
