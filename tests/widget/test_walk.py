"""Paths in the widget: receivers that are walked back from, by messages and from Python, and what goes with them."""

import re

import numpy as np
import pytest

from blip_trace_widget import BlipVqa, State, TraceWidget
from blip_trace_widget.display import formatting
from blip_trace_widget.results import recording
from helpers.front_end import take
from helpers.widgets import quick_widget

HEAD = State("answer_decoder", 1, 0, "cross_attention_out", 0)
CLS = State("question_encoder", 2, 0, "self_attention_out", 1)
WORD = State("question_encoder", 1, 6)


@pytest.fixture(scope="module")
def chain():
    return BlipVqa.known_circuit("chain", device="cpu")


@pytest.fixture
def widget(chain):
    made = quick_widget(model=chain)
    made.wait(60)
    yield made
    made.close()


def plain(*states):
    return [dict(vars(state)) for state in states]


def walk(widget, receivers, path=(), block="question_encoder", cells=(), site="block_output", head=None):
    asked = {"block": block, "site": site, "head": head, "receivers": receivers, "path": list(path)}
    take(widget, {"type": "walk", "id": 7, "cells": list(cells), **asked})
    widget.wait(60)
    assert widget.error == ""


def said(widget):
    return "".join(text for text, _ in formatting.sentence(widget.detail, widget.runs, negligible=False))


def test_a_walk_from_the_answer_to_the_picture_fills_every_grid(widget):
    tracer = widget.tracer
    walk(widget, "answer", block="answer_decoder")
    np.testing.assert_allclose(widget.trace.samples, tracer.trace_paths("answer", "answer_decoder").samples, atol=1e-6)
    walk(widget, plain(HEAD), ["answer"])
    np.testing.assert_allclose(widget.trace.samples, tracer.trace_paths(HEAD).samples, atol=1e-6)
    walk(widget, plain(CLS), ["answer", plain(HEAD)], cells=[(1, 6)])
    np.testing.assert_allclose(widget.trace.samples, tracer.trace_paths(CLS).samples, atol=1e-6)
    assert said(widget) == (
        "Restoring layer 1 at “left” sends 100 % of what the noise took directly to "
        "layer 2 (self-attention head 1) at “[CLS]”."
    )
    assert widget.grid["into"] == widget.detail["into"] == "layer 2 (self-attention head 1) at “[CLS]”"
    widget.selection = [(3, 6)]
    widget.wait(60)
    assert "sends nothing directly to layer 2" in said(widget)
    widget.overlay = "map_paths"
    walk(widget, plain(WORD), ["answer", plain(HEAD), plain(CLS)])
    found = tracer.trace_image_paths(WORD, through="cross_attention_out")
    shown = np.frombuffer(widget.picture_map["values"], "<f4").reshape(3, 3, 3)
    np.testing.assert_allclose(shown[0], found.recovery, atol=1e-6)
    assert shown[0].ravel()[3] == pytest.approx(1, abs=1e-6)
    assert widget.picture_map["text"].endswith("directly to layer 1 at “left”, or through cross-attentions.")
    walk(widget, plain(WORD.__class__("question_encoder", 1, 6, "cross_attention_out", 2)))
    assert "or through" not in widget.picture_map["text"]
    walk(widget, "answer", block="answer_decoder")
    assert "Choose “paths into this”" in widget.picture_map["text"]


def test_undo_and_redo_walk_too(widget):
    walk(widget, "answer", block="answer_decoder")
    walk(widget, plain(HEAD), ["answer"])
    widget.selection, widget.arrow = [(2, 0)], True
    assert (widget.receivers, widget.path) == (plain(HEAD), ["answer"])
    widget.undo()
    assert not widget.arrow
    widget.undo()
    widget.undo()
    assert (widget.receivers, widget.path, widget.block) == ("answer", [], "answer_decoder")
    widget.undo()
    assert (widget.receivers, widget.block) == (None, "question_encoder")
    for _ in range(4):
        widget.redo()
    assert (widget.receivers, widget.path, widget.arrow) == (plain(HEAD), ["answer"], True)
    widget.selection = [(1, 0)]
    assert not widget.arrow
    widget.receivers = plain(CLS)
    assert widget.path == []
    widget.receivers = None
    assert widget.selection == [(1, 0)]


def test_other_words_lead_back_to_the_answer_and_it_is_told(widget):
    walk(widget, "answer", block="answer_decoder")
    walk(widget, plain(HEAD), ["answer"])
    widget.question = "what color is at the right?"
    assert (widget.receivers, widget.path) == ("answer", [])
    assert "paths into a state are no longer shown, for the words are others now" in widget.error
    widget.undo()
    assert (widget.receivers, widget.path) == (plain(HEAD), ["answer"])
    widget.receivers = CLS
    widget.corruption = "ImageSwap"
    widget.wait(60)
    assert widget.receivers == plain(CLS)


def test_its_code_computes_the_same(widget, monkeypatch, tmp_path):
    walk(widget, plain(CLS), ["answer", plain(HEAD)], cells=[(1, 6)])
    widget.overlay = "map_paths"
    widget.wait(60)
    made = {}
    exec(widget.code, made)
    np.testing.assert_allclose(made["trace"].samples, widget.trace.samples, atol=1e-6)
    assert made["effect"].recovery == pytest.approx(widget.detail["recovery"], abs=1e-6)
    assert made["picture_map"].settings["through"] == ["cross_attention_out"]
    shown = np.frombuffer(widget.picture_map["values"], "<f4").reshape(3, 3, 3)
    np.testing.assert_allclose(shown[0], made["picture_map"].recovery, atol=1e-6)


def test_a_recording_walks_where_it_was_recorded(widget, tmp_path):
    walk(widget, "answer", block="answer_decoder")
    to_the_answer = widget.trace
    walk(widget, plain(HEAD), ["answer"])
    recording.save([widget.trace, to_the_answer], tmp_path / "walk")
    again = TraceWidget.from_trace(tmp_path / "walk")
    try:
        take(again, {"type": "walk", "id": 1, **walked_to("answer", "answer_decoder")})
        assert (again.receivers, again.block, again.error) == ("answer", "answer_decoder", "")
        take(again, {"type": "walk", "id": 2, **walked_to(plain(CLS), "question_encoder", ["answer"])})
        assert again.receivers == "answer"
        assert re.match("receivers: .*", again.error)
    finally:
        again.close()


def walked_to(receivers, block, path=()):
    return {
        "block": block,
        "site": "block_output",
        "head": None,
        "receivers": receivers,
        "path": list(path),
        "cells": [],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"receivers": "mlp"}, "receivers: expected one of"),
        ({"receivers": []}, "receivers: expected at least one State"),
        ({"receivers": plain(State("question_encoder", 9, 0))}, "layer: expected from 0 to 3, got 9"),
        ({"path": ["answers"]}, "receivers: expected one of"),
        ({"block": "decoder"}, "block: expected one of"),
        ({"site": "mlps"}, "site: expected one of"),
        ({"head": -1}, "head: expected from 0 to 3, got -1"),
        ({"cells": [[-1, 0]]}, "selection (layer): expected from 0 to 3, got -1"),
        ({"cells": [[0, 1]]}, "selection (position): expected from 0 to 0, got 1"),
    ],
)
def test_a_walk_to_nowhere_is_refused(widget, changes, message):
    take(widget, {"type": "walk", "id": 3, **walked_to("answer", "answer_decoder"), **changes})
    assert message in widget.error
    assert (widget.receivers, widget.block) == (None, "question_encoder")


def test_what_belongs_to_paths_needs_some(widget):
    for name, value in (("path", ["answer"]), ("arrow", True)):
        with pytest.raises(ValueError, match=f"{name}: expected .* where no paths are shown"):
            setattr(widget, name, value)
    walk(widget, "answer", block="answer_decoder")
    for path, message in (([None], "got .*None"), (["answer"] * 101, "at most 100")):
        with pytest.raises(ValueError, match=f"path: expected .*{message}"):
            widget.path = path
    take(widget, {"type": "walk", "id": 3, **walked_to("answer", "answer_decoder"), "path": ["answer"] * 101})
    assert "path: expected at most 100" in widget.error
