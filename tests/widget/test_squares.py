"""Squares of image tokens in the widget: chosen by themselves where there are very many tokens, and by hand."""

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, Tracer, TraceWidget, load_trace
from blip_trace_widget.results.maps import default_patch
from helpers.random_models import random_model

BEFORE = GaussianNoise(2.0, samples=2, at="patch_embeddings")


@pytest.mark.parametrize(("patches", "side"), [(1, 1), (8, 1), (9, 1), (10, 2), (14, 2), (24, 4), (48, 8)])
def test_the_side_of_squares_with_which_a_grid_has_few_enough_columns(patches, side):
    assert default_patch(patches, patches) == side


@pytest.fixture
def widget(picture):
    shown = TraceWidget(picture, "what is it?", model=random_model(patches=11, vision_layers=2), corruption=BEFORE)
    yield shown
    shown.close()


def test_of_very_many_tokens_squares_are_patched(widget):
    assert widget.patch == 1
    widget.block = "image_encoder"
    widget.wait()
    assert widget.patch == 2
    assert widget.grid["tokens"][:3] == ["[CLS]", "0-1,0-1", "0-1,2-3"]
    assert len(widget.grid["tokens"]) == 1 + 6 * 6
    widget.selection = [(1, 36)]  # the corner, where squares are smaller
    widget.wait()
    assert widget.detail["tokens"] == widget.grid["tokens"]
    assert "patch=2" in widget.code
    assert widget.code.count("State(") == 1
    exact = widget.tracer.trace("image_encoder", patch=2)
    np.testing.assert_allclose(widget.trace.samples[:, 1, 36], exact.samples[:, 1, 36], atol=1e-6)
    widget.trace_all()
    widget.wait()
    np.testing.assert_allclose(widget.trace.samples, exact.samples, atol=1e-6)
    assert widget.trace.settings["patch"] == 2
    assert widget.trace_of("question_encoder").shape == (2, len(widget.tracer.question_tokens))


def test_single_tokens_and_other_squares_can_be_chosen(widget):
    widget.block = "image_encoder"
    widget.selection = [(0, 3)]
    widget.wait()
    widget.patch = 11
    widget.wait()
    assert widget.selection == []  # its cells are others
    assert widget.grid["tokens"] == ["[CLS]", "0-10,0-10"]
    widget.patch = 1
    widget.wait()
    assert len(widget.grid["tokens"]) == 122
    widget.undo()
    assert widget.patch == 11
    widget.block = "answer_decoder"
    assert widget.patch == 1
    widget.block = "image_encoder"
    assert widget.patch == 2
    for wrong in (0, 12):
        with pytest.raises(ValueError, match="patch: expected from 1 to 11"):
            widget.patch = wrong
    widget.block = "question_encoder"
    with pytest.raises(ValueError, match="patch: expected from 1 to 1"):
        widget.patch = 2


def test_a_saved_grid_of_squares_is_shown_without_a_model(demo, example, tmp_path):
    tracer = Tracer(demo, example.image, example.question, corruption=BEFORE)
    trace = tracer.trace("image_encoder", "block_input", patch=4)
    trace.save(tmp_path / "trace")
    shown = TraceWidget.from_trace(load_trace(tmp_path / "trace"))
    try:
        assert (shown.block, shown.site, shown.patch) == ("image_encoder", "block_input", 4)
        np.testing.assert_array_equal(shown.trace.samples, trace.samples)
        shown.selection = [(2, 3)]
        assert shown.detail["score"] == pytest.approx(trace.scores[2, 3])
        shown.patch = 2
        assert shown.trace.shape == (6, 17)
        assert not shown.trace.computed.any()
    finally:
        shown.close()
    trace.export(tmp_path / "trace.svg")
    drawn = (tmp_path / "trace.svg").read_text("utf-8")
    assert "squares of 4 × 4 tokens" in drawn
    assert "By construction the same as “layer output”, a layer lower" in drawn
    assert "By construction" in trace._repr_html_() or "by construction" in trace._repr_html_()


def test_the_older_name_of_what_the_image_encoders_attention_puts_out_still_means_it(demo, example):
    tracer = Tracer(demo, example.image, example.question, corruption=BEFORE)
    older, present = (tracer.trace("image_encoder", site, patch=4) for site in ("self_attention", "self_attention_out"))
    np.testing.assert_array_equal(older.samples, present.samples)
    assert older.same_as == ("self_attention_out", 0)
    shown = TraceWidget.from_trace(older)
    try:
        assert shown.site == "self_attention_out"
        np.testing.assert_array_equal(shown.trace.samples, older.samples)
        assert shown.grid["site"] == "self_attention_out"
    finally:
        shown.close()
    live = TraceWidget.from_tracer(tracer)
    try:
        live.site = "self_attention"
        live.block = "image_encoder"
        assert live.site == "self_attention_out"
        live.site = "self_attention"
        assert live.site == "self_attention_out"
    finally:
        live.close()
