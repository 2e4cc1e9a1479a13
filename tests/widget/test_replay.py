"""Recordings: what is kept of traces, and a widget that shows it without a model."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from blip_trace_widget import (
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Scale,
    State,
    Tracer,
    TraceWidget,
    load_trace,
)
from blip_trace_widget.display import payloads
from blip_trace_widget.display.damage import damage_line
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.pictures import jpeg
from blip_trace_widget.results import recording
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.snapshot import RunSummary
from blip_trace_widget.tracing.runs import Runner
from helpers.front_end import take

FACTORS = (1.0, 2.5, 5.0)


@pytest.fixture(scope="module")
def path(tracer, tmp_path_factory):
    made = tmp_path_factory.mktemp("recorded") / "trace.safetensors"
    tracer.record(made, sites=("block_output", "mlp"), factors=FACTORS)
    return made


@pytest.fixture(scope="module")
def exact(tracer):
    """What the model gives, by factor, block and site."""
    sites = [(block, site) for block in ("question_encoder", "answer_decoder") for site in ("block_output", "mlp")]
    tracers = [tracer.with_corruption(factor=factor) for factor in FACTORS]
    return {(each.corruption.factor, *site): each.trace(*site) for each in tracers for site in sites}


@pytest.fixture
def widget(path, monkeypatch):
    """The recording as a widget; nothing may be computed behind its back."""

    def refuse(*_):
        raise AssertionError("a recording computed something")

    for name in ("patched", "swapped", "greedy"):
        monkeypatch.setattr(Runner, name, refuse)
    shown = TraceWidget.from_trace(path)
    yield shown
    shown.close()


def floats(grid):
    return np.frombuffer(grid["values"], "<f4").reshape(-1, grid["layers"], len(grid["tokens"]))


def test_a_recording_holds_each_grid_as_it_is_traced(tracer, path):
    traces = recording.load(path)
    assert len(traces) == len(FACTORS) * 4
    for trace in traces:
        factor = trace.settings["corruption"]["factor"]
        exact = tracer.with_corruption(factor=factor).trace(trace.settings["block"], trace.settings["site"])
        assert trace.samples.tobytes() == exact.samples.tobytes()
        assert (trace.clean, trace.tokens, trace.settings) == (exact.clean, exact.tokens, exact.settings)
    assert len({id(trace.snapshot) for trace in traces}) == len(FACTORS)
    curve = traces[0].snapshot.curve
    np.testing.assert_allclose(curve.scores, tracer.noise_curve().scores, atol=1e-6)


def test_the_widget_shows_what_was_recorded(tracer, exact, widget):
    assert (widget.question, widget.noise) == (tracer.question, 1.0)
    assert widget.setup["closed"]
    assert widget.picture == jpeg(tracer.image)
    for factor in reversed(FACTORS):
        widget.noise = factor
        score = exact[factor, "answer_decoder", "mlp"].corrupted.mean()
        assert widget.runs["corrupted"]["score"] == pytest.approx(score)
        assert widget.runs["generation"] == widget.generation == widget.grid["generation"]
        for block in ("question_encoder", "answer_decoder"):
            widget.block = block
            for site in ("block_output", "mlp"):
                widget.site = site
                trace = exact[factor, block, site]
                np.testing.assert_allclose(floats(widget.grid), payloads.cell_values(trace), rtol=1e-6)
                assert widget.trace.samples.tobytes() == trace.samples.tobytes()
                assert len(widget.grids) == 3


def test_the_nearest_recorded_factor_is_taken(widget):
    for asked, taken in ((0.0, 1.0), (1.7, 1.0), (2.0, 2.5), (9.0, 5.0)):
        widget.noise = asked
        assert (widget.noise, widget.runs["damage"]) == (taken, f"ν {taken}")
        assert (
            widget.error
            == f"noise: {asked:g} was not recorded, {taken:g} is shown, which is nearest; there are 1, 2.5, 5"
        )
    widget.noise = 2.5
    assert widget.error == ""


@pytest.fixture(scope="module")
def effect(tracer):
    return tracer.patch(State("question_encoder", 5, 5))


def test_a_cell_says_what_a_patch_of_it_would(effect, widget):
    widget.block = "question_encoder"
    widget.noise = 5.0
    widget.selection = [(5, 5)]
    detail = widget.detail
    for name in ("score", "margin", "indirect_effect", "recovery", "recovery_margin"):
        assert detail[name] == pytest.approx(getattr(effect, name), abs=1e-6), name
    assert detail["cells"] == [(5, 5)]
    widget.selection = [(5, 5), (5, 4)]
    assert widget.detail == {}
    assert "Several states together" in widget.error


def test_a_grid_that_was_not_recorded_is_empty_and_keeps_its_tokens(tracer, widget):
    widget.block = "question_encoder"
    widget.site = "cross_attention"
    assert np.isnan(floats(widget.grid)).all()
    assert widget.grid["tokens"] == tracer.question_tokens
    assert not widget.trace.complete
    widget.trace_all()
    widget.wait()
    assert np.isnan(floats(widget.grid)).all()


@pytest.mark.parametrize(
    ("trait", "value"),
    [("seed", 3), ("samples", 4), ("kind", "additive"), ("metric", "log_probability"), ("corruption", "MeanAblation")],
)
def test_what_would_need_the_model_is_refused_and_comes_back(widget, trait, value):
    before = getattr(widget, trait)
    setattr(widget, trait, value)
    assert "recording" in widget.error
    assert getattr(widget, trait) == before
    widget.noise = 2.5
    assert widget.error == ""


def test_another_question_or_foil_is_refused_by_name(widget):
    for trait in ("question", "foil"):
        with pytest.raises(ValueError, match=f"{trait}: This is a recording"):
            setattr(widget, trait, "what shape is there?")
    with pytest.raises(AttributeError, match="patch: This is a recording"):
        _ = widget.tracer.patch
    assert "TraceWidget.from_trace(" in widget.code


@pytest.mark.usefixtures("recording")
def test_messages_of_the_front_end_are_answered(widget):
    widget.block = "question_encoder"
    take(widget, {"type": "patch", "id": 7, "cells": [[5, 5]]})
    take(widget, {"type": "trace", "id": 8})
    take(widget, {"type": "image", "id": 9}, [b"junk"])
    assert [content["id"] for content, _ in widget.comm.events("done")] == [7, 8]
    assert widget.selection == [(5, 5)]
    for message in ({"type": "pin", "on": True}, {"type": "undo"}, {"type": "fill_overlay", "on": True}):
        take(widget, {**message, "id": 10})
    take(widget, {"type": "export", "id": 11, "format": "csv", "theme": "light"})
    assert widget.comm.events("exported")


def test_where_words_look_was_not_recorded(widget):
    take(widget, {"type": "attention", "id": 7, "layer": 1})
    assert widget.error == ""
    take(widget, {"type": "attention", "id": 8, "layer": 99})
    assert widget.error.startswith("layer: expected from 0 to 5")


@pytest.mark.parametrize("answer", [None, "green"])
def test_the_answer_that_was_scored_is_known(demo, example, answer):
    tracer = Tracer(demo, example.image, example.question, answer=answer, corruption=GaussianNoise(samples=2))
    shown = TraceWidget.from_trace(tracer.trace(window=6))
    assert shown.answer == tracer.answer
    shown.close()


@pytest.mark.parametrize(
    "corruption",
    [
        GaussianNoise(2.0, "additive", samples=3, seed=2, region=np.eye(8, dtype=bool)),
        GaussianNoise(1.0, samples=2, at="patch_embeddings"),
        GaussianNoise(1.0, samples=2, at="question_embeddings", positions=[5]),
        Scale(0.7691, at="patch_embeddings"),
        MeanAblation("zero", at="patch_embeddings"),
        QuestionSwap("what color is the square?"),
        "swap",
    ],
    ids=["region", "before the ViT", "words", "scaling", "ablation", "question", "picture"],
)
def test_every_corruption_can_be_saved_and_shown(demo, example, corruption, tmp_path):
    if corruption == "swap":
        from blip_trace_widget import examples

        corruption = ImageSwap(examples()[3].image)
    if isinstance(corruption, GaussianNoise) and corruption.region is not None:
        mask = np.zeros(demo.grid, dtype=bool)
        mask[1:3] = True
        corruption = dataclasses.replace(corruption, region=mask)
    tracer = Tracer(demo, example.image, example.question, corruption=corruption)
    tracer.trace().save(tmp_path / "trace")
    widget = TraceWidget.from_trace(tmp_path / "trace")
    asked = payloads.asked_of(tracer.snapshot)
    assert {name: getattr(widget, name) for name in asked} == asked
    assert widget.runs["line"] == damage_line(tracer.corruption.settings(), words=tracer.question_tokens)
    widget.close()


def test_a_metric_or_a_corruption_of_ones_own_has_no_snapshot(demo, example, tmp_path):
    def mine(logits, answer):
        return logits[..., 0, 0]

    trace = Tracer(demo, example.image, example.question, metric=mine).trace()
    assert trace.snapshot is None
    trace.save(tmp_path / "mine")
    assert load_trace(tmp_path / "mine").samples.tobytes() == trace.samples.tobytes()
    with pytest.raises(ValueError, match="trace: it has no snapshot"):
        TraceWidget.from_trace(tmp_path / "mine")
    with pytest.raises(ValueError, match="corruption, metric"):
        Tracer(demo, example.image, example.question, metric=mine).record(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_snapshot_is_the_same_after_saving(tracer, tmp_path):
    given = tracer.replace(answer="red", foil="blue", question="what color is the ☃?")
    for number, each in enumerate((tracer, given)):
        trace = each.trace("answer_decoder")
        trace.save(tmp_path / str(number))
        again, before = load_trace(tmp_path / str(number)).snapshot, trace.snapshot
        assert (again.picture, again.other_picture) == (before.picture, before.other_picture)
        assert json.dumps(again.packed()) == json.dumps(before.packed())
        assert payloads.runs(again, 1) == payloads.runs(before, 1)
        assert payloads.setup(again) == payloads.setup(before)
    assert (again.given_answer, again.foil) == ("red", "blue")
    assert "☃" in payloads.runs(again, 1)["gate"]["text"]


def test_a_snapshot_of_scores_that_are_no_numbers_is_the_same_after_saving(tracer, tmp_path):
    trace = tracer.trace("answer_decoder")
    odd = RunSummary("", math.nan, math.inf, {"a": math.nan})
    snapshot = dataclasses.replace(trace.snapshot, corrupted=odd)
    dataclasses.replace(trace, snapshot=snapshot).save(tmp_path / "trace")
    shown = payloads.runs(load_trace(tmp_path / "trace").snapshot, 1)
    assert shown == payloads.runs(snapshot, 1)
    assert (shown["corrupted"]["score"], shown["corrupted"]["stderr"]) == (None, None)


def test_traces_of_several_questions_keep_their_own_pictures(tracer, picture, tmp_path):
    other = tracer.replace(image=picture)
    recording.save([tracer.trace("answer_decoder"), other.trace("answer_decoder")], tmp_path / "both")
    one, two = recording.load(tmp_path / "both")
    assert (one.snapshot.picture, two.snapshot.picture) == (jpeg(tracer.image), jpeg(picture))


def test_a_picture_is_written_once(path):
    pictures = {name: array.size for name, array in load_file(path).items() if name.startswith("picture")}
    assert sum(size > 0 for size in pictures.values()) == 1


def test_wrong_arguments_are_named(tracer, tmp_path):
    for wrong in ({"blocks": "encoder"}, {"sites": ["mpl"]}, {"direction": "repair"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            tracer.record(tmp_path / "none", **wrong)
    with pytest.raises(ValueError, match="factors: expected at least one"):
        tracer.record(tmp_path / "none", factors=[])
    with pytest.raises(ValueError, match="image_encoder"):
        tracer.record(tmp_path / "none", blocks="image_encoder")
    with pytest.raises(Cancelled):
        tracer.record(tmp_path / "none", cancel=lambda: True)
    with pytest.raises(OSError, match="cannot be written"):
        tracer.record(tmp_path / "no" / "where", blocks="answer_decoder", sites="mlp")
    assert list(tmp_path.iterdir()) == []
    for wrong in (3, [tracer], []):
        with pytest.raises((TypeError, ValueError), match=r"trace|iterable"):
            TraceWidget.from_trace(wrong)
    other = tracer.replace(question="what color is the square?", answer=None)
    with pytest.raises(ValueError, match="one picture, question"):
        TraceWidget.from_trace([tracer.trace(), other.trace()])


def test_progress_counts_grids(tracer, tmp_path):
    told = []
    tracer.record(tmp_path / "some", blocks="answer_decoder", progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 7) for done in range(1, 8)]


# --- files that are not what they should be ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(path):
    """The arrays of the recording, and its JSON."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        told = file.metadata()
    return load_file(path), json.loads(told["blip_trace_widget.recording"])


def written(path, arrays, told):
    save_file(arrays, path, metadata={"blip_trace_widget.recording": json.dumps(told)})
    return path


def changed(told, *place, to):
    """The same JSON with another value at one place."""
    copy = json.loads(json.dumps(told))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = to
    return copy


@pytest.mark.parametrize(
    ("place", "to"),
    [
        (("snapshots",), []),
        (("snapshots",), "all"),
        (("snapshots", 0), None),
        (("traces",), []),
        (("traces", 0, "snapshot"), 99),
        (("traces", 0, "snapshot"), -1),
        (("traces", 0, "tokens"), ["a"]),
        (("traces", 0, "settings", "block"), "../../etc"),
        (("traces", 0, "settings", "window"), 0),
        (("snapshots", 0, "blocks"), "all"),
        (("snapshots", 0, "blocks", 0, "closed"), "because"),
        (("snapshots", 0, "corruption", "factor"), "5"),
        (("snapshots", 0, "corruption", "type"), "__import__"),
        (("snapshots", 0, "question"), None),
        (("snapshots", 0, "metric"), "loss"),
        (("snapshots", 0, "clean"), [1]),
        (("snapshots", 0, "clean", "words"), [["a"]]),
        (("snapshots", 0, "total_effect", "corrupted"), 0.5),
        (("snapshots", 0, "curve"), {"factors": "many"}),
        (("snapshots", 0, "pictures"), [0]),
        (("snapshots", 0, "pictures"), [-1, 1]),
        (("snapshots", 0, "more"), 1),
    ],
)
def test_json_that_does_not_fit_is_refused(stored, tmp_path, place, to):
    arrays, told = stored
    with pytest.raises(ValueError, match=r"damaged or no saved|it lacks"):
        recording.load(written(tmp_path / "bad", arrays, changed(told, *place, to=to)))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("picture 0", np.zeros(5 * 2**20, np.uint8)),
        ("picture 0", np.zeros((2, 2), np.uint8)),
        ("picture 0", np.zeros(4, np.float64)),
        ("picture 0", None),
        ("trace 0 samples", np.zeros((2, 3))),
        ("trace 0 samples", None),
        ("trace 0 corrupted", np.zeros(99)),
        ("trace 0 clean", np.zeros(1, np.int64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(stored, tmp_path, name, array):
    arrays, told = stored
    kept = {key: value for key, value in {**arrays, name: array}.items() if value is not None}
    with pytest.raises(ValueError, match=r"damaged or no saved|it lacks"):
        recording.load(written(tmp_path / "bad", kept, told))


def test_a_picture_that_is_none_is_refused(stored, tmp_path):
    arrays, told = stored
    junk = {**arrays, "picture 0": np.frombuffer(b"no picture", np.uint8)}
    with pytest.raises(ValueError, match="picture: "):
        TraceWidget.from_trace(written(tmp_path / "bad", junk, told))


def test_a_newer_format_and_other_files_are_refused(stored, path, tmp_path):
    arrays, told = stored
    with pytest.raises(ValueError, match="format version 99"):
        recording.load(written(tmp_path / "new", arrays, {**told, "version": 99}))
    with pytest.raises(ValueError, match="no saved trace"):
        load_trace(path)
    with pytest.raises(FileNotFoundError):
        TraceWidget.from_trace(tmp_path / "nothing")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_never_more(path, tmp_path_factory, data):
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        # The header is where a flipped byte can mean something.
        damaged[data.draw(st.integers(0, 20_000) | st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path_factory.mktemp("broken") / "trace"
    broken.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))]))
    try:
        traces = recording.load(broken)
    except ValueError:
        return
    assert all(np.shape(trace.samples)[2] == len(trace.tokens) for trace in traces)


def test_a_view_of_the_widget_is_the_one_of_the_trace(tracer):
    trace = tracer.trace("answer_decoder", "cross_attention", head=1, window=2, direction="disrupt")
    widget = TraceWidget.from_trace(trace)
    assert GridSpec.of({name: getattr(widget, name) for name in GridSpec._fields}) == payloads.spec_of(trace)
    widget.close()
