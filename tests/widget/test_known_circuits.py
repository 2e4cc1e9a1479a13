"""Models whose circuit is known, in the widget: the list of models, their examples, what is outlined, code, files."""

import re

import pytest

from blip_trace_widget import BlipVqa, QuestionSwap, Tracer, TraceWidget, examples, load_trace
from blip_trace_widget.demo import BUILT_IN
from helpers.front_end import take
from helpers.widgets import quick_widget


@pytest.fixture(scope="module")
def chain():
    return BlipVqa.known_circuit("chain", device="cpu")


@pytest.fixture
def widget(chain):
    made = quick_widget(model=chain)
    made.wait(60)
    yield made
    made.close()


def true_cells(widget):
    """The true cells of the grid in view, by layer and word."""
    return {(layer, widget.grid["tokens"][column]) for layer, column in widget.grid["truth"]}


def test_it_opens_with_an_example_of_its_own(widget, chain):
    shown = examples(chain)[0]
    assert (widget.question, widget.example) == (shown.question, 0)
    assert widget.tracer.image.tobytes() == shown.image.tobytes()
    assert [each["question"] for each in widget.setup["examples"]] == [each.question for each in examples(chain)]
    widget.example = 7
    widget.wait(60)
    assert widget.runs["clean"]["answer"] == examples(chain)[7].answer
    widget.corruption = "ImageSwap"
    widget.wait(60)
    assert widget.runs["corrupted"]["answer"] == examples(chain)[7].other_answer


def test_the_list_of_models_has_the_built_in_ones_and_choosing_one_shows_its_example(demo):
    widget = quick_widget(model=demo)
    try:
        widget.wait(60)
        assert widget.setup["models"] == [*BUILT_IN]
        assert (widget.setup["model"], widget.setup["circuit"]) == ("built-in", "")
        for name in (*BUILT_IN[1:], "built-in"):
            message = {"type": "model", "id": 5, "name": name}
            take(widget, message)
            widget.wait(60)
            assert (widget.setup["model"], widget.error) == (name, "")
            assert f"known circuit: {widget.setup['circuit']}" == name or name == "built-in"
            shown = examples(widget.model)[0]
            assert (widget.question, widget.example) == (shown.question, 0)
            assert widget.runs["clean"]["answer"] == shown.answer
    finally:
        widget.close()


def test_a_model_that_is_not_in_the_list_is_refused(widget, chain):
    take(widget, {"type": "model", "id": 5, "name": "/etc"})
    assert widget.error.startswith("model: expected one of ['built-in', 'known circuit: chain'")
    assert widget.model is chain


def test_true_states_are_named_for_the_grid_in_view(widget):
    assert widget.setup["circuit"] == "chain"
    assert true_cells(widget) == {(1, "left"), (2, "[CLS]"), (3, "[CLS]")}
    for site, cells in (
        ("cross_attention_out", {(1, "left")}),
        ("self_attention_out", {(2, "[CLS]")}),
        ("mlp", set()),
    ):
        widget.site = site
        assert true_cells(widget) == cells
    widget.site, widget.head = "cross_attention", 2
    assert true_cells(widget) == {(1, "left")}
    widget.head = 1
    assert true_cells(widget) == set()
    widget.block = "answer_decoder"
    widget.head, widget.site = None, "block_output"
    assert true_cells(widget) == {(layer, "[DEC]") for layer in (1, 2, 3)}
    widget.at, widget.block = "patch_embeddings", "image_encoder"
    widget.wait(60)
    widget.patch = 1
    assert widget.grid["truth"] == [(0, 4), (1, 4)]
    widget.patch = 2
    assert widget.grid["truth"] == [(0, 1), (1, 1)]


def test_nothing_is_said_to_be_true_of_what_the_circuit_is_not_about(widget, demo):
    widget.question = "what color is it ?"
    widget.wait(60)
    assert widget.grid["truth"] == []
    widget.question = "what color is at the top ?"
    widget.wait(60)
    assert true_cells(widget) == {(1, "top"), (2, "[CLS]"), (3, "[CLS]")}
    widget.other_question, widget.corruption = "what color is at the left ?", "QuestionSwap"
    widget.wait(60)
    assert widget.grid["truth"] == []


def test_the_switch_is_kept_and_is_a_switch(widget):
    assert widget.truth is False
    widget.truth = True
    assert widget.get_state()["truth"] is True
    widget.set_state({"truth": "yes"})
    assert widget.truth is True
    assert "truth" in widget.error


def test_the_code_makes_the_same_model_and_picture(widget, chain):
    widget.corruption = "ImageSwap"
    widget.wait(60)
    code = widget.code
    assert 'model = BlipVqa.known_circuit("chain")' in code
    assert "examples(model)[0].image" in code
    names = {}
    exec(code, names)
    assert names["tracer"].model.name == chain.name
    assert names["tracer"].image.tobytes() == widget.tracer.image.tobytes()
    assert names["tracer"].corruption == widget.tracer.corruption


def test_a_recording_knows_it_too(widget, tmp_path):
    widget.trace_all()
    widget.wait(60)
    trace = widget.trace
    assert trace.settings["model"] == "known circuit: chain"
    assert re.fullmatch("[0-9a-f]{64}", trace.settings["weights"])
    trace.save(tmp_path / "trace.safetensors")
    assert load_trace(tmp_path / "trace.safetensors").settings["model"] == "known circuit: chain"
    played = TraceWidget.from_trace(tmp_path / "trace.safetensors")
    assert played.setup["circuit"] == "chain"
    assert played.setup["models"] == []
    assert played.grid["truth"] == widget.grid["truth"]
    take(played, {"type": "model", "id": 5, "name": "built-in"})
    assert "recording" in played.error
    played.close()


def test_own_pictures_stay_when_the_built_in_model_comes_back(chain, example):
    own = quick_widget(example.image, example.question, model=chain)
    own.model = "built-in"
    own.wait(60)
    assert own.question == example.question
    own.close()
    assert Tracer("built-in", example.image, example.question, corruption=QuestionSwap(example.question)).answer
