"""A widget whose model's weights somebody edits."""

import threading

import numpy as np
import pytest
import torch

from blip_trace_widget import GaussianNoise
from blip_trace_widget.model.weights import Watch
from blip_trace_widget.results import intervals
from helpers.changed_models import (
    ANSWER,
    PICTURE,
    QUESTION,
    ask,
    layer,
    plain_hf,
    wrap,
)
from helpers.front_end import set_traits, take
from helpers.widgets import quick_widget


@pytest.mark.parametrize("edit", ["counted", "behind the counter"])
def test_a_widget_computes_a_filled_grid_anew_after_an_edit(edit):
    model = wrap(plain_hf())
    shown = quick_widget(PICTURE, QUESTION, model=model, answer=ANSWER, metric="log_probability")
    try:
        shown.trace_all()
        shown.wait(60)
        before = shown.trace.samples
        weight = layer(model.hf, 0).intermediate.dense.weight
        with torch.no_grad():
            (weight if edit == "counted" else weight.data).mul_(3)
        shown.trace_all()
        shown.wait(60)
        fresh = ask(wrap(model.hf)).trace().samples
        assert not np.allclose(fresh, before)
        np.testing.assert_allclose(shown.trace.samples, fresh, atol=1e-5)
    finally:
        shown.close()


def test_a_grid_that_was_filled_before_an_edit_is_not_shown_as_it_was():
    model = wrap(plain_hf())
    shown = quick_widget(PICTURE, QUESTION, model=model, answer=ANSWER, metric="log_probability")
    try:
        for site in ("mlp", "block_output"):
            shown.site = site
            shown.trace_all()
            shown.wait(60)
        with torch.no_grad():
            layer(model.hf, 0).intermediate.dense.weight.mul_(3)
        shown.site = "mlp"
        shown.wait(60)
        fresh = ask(wrap(model.hf)).trace(site="mlp")
        values = np.frombuffer(shown.grid["values"], "<f4").reshape(-1, *fresh.scores.shape)
        np.testing.assert_allclose(values[0], fresh.scores, atol=1e-5)
    finally:
        shown.close()


GESTURES = {
    "site": lambda shown: set_traits(shown, site="mlp"),
    "head": lambda shown: set_traits(shown, site="self_attention", head=0),
    "block": lambda shown: set_traits(shown, block="answer_decoder"),
    "direction": lambda shown: set_traits(shown, direction="disrupt"),
    "window": lambda shown: set_traits(shown, window=2),
    "hold": lambda shown: set_traits(shown, hold=["mlp"]),
    "receivers": lambda shown: set_traits(shown, receivers="answer"),
    "selection": lambda shown: set_traits(shown, selection=[[0, 1]]),
    "pin": lambda shown: take(shown, {"type": "pin", "id": 1, "on": True}),
    "compare": lambda shown: take(shown, {"type": "compare", "id": 1, "on": True}),
}


@pytest.mark.parametrize("gesture", GESTURES)
def test_no_handler_looks_at_all_weights_or_computes_intervals(recording, demo, example, monkeypatch, gesture):
    shown = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    shown.selection = [(1, 1)]
    shown.trace_all()
    shown.wait(60)
    threads, look, studentized = [], Watch.look, intervals.studentized

    def noted_look(watch):
        threads.append(threading.get_ident())
        return look(watch)

    def noted_interval(residuals, *arguments, **keywords):
        threads.extend([threading.get_ident()] * residuals.shape[1])
        return studentized(residuals, *arguments, **keywords)

    monkeypatch.setattr(Watch, "look", noted_look)
    monkeypatch.setattr(intervals, "studentized", noted_interval)
    GESTURES[gesture](shown)
    assert not shown.error
    assert threading.get_ident() not in threads
    shown.wait(60)
    shown.close()
