"""What a widget takes by name: inputs that are no traits, names that do not exist, and what it is when it is closed."""

import copy
import pickle

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from blip_trace_widget import BlipVqa, GaussianNoise, NoiseCurve, State, Tracer, TraceWidget, examples, load_trace
from blip_trace_widget.pictures import jpeg
from helpers.dataset_runs import trace
from helpers.front_end import take
from helpers.random_models import random_model
from helpers.widgets import quick_widget

# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"), [("nois", "noise"), ("forl", "foil"), ("Image", "image"), ("qestion", "question")]
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest(widget, name, meant):
    with pytest.raises(AttributeError, match=f"{name}: TraceWidget has nothing of that name; did you mean '{meant}'"):
        setattr(widget, name, 1.0)
    assert not hasattr(widget, name)


def test_a_name_like_no_other_is_refused_with_all_that_there_are(widget):
    with pytest.raises(AttributeError, match=r"accepted are answer, arrow, at, axes, block, .*, model, noise"):
        widget.xyzzy = 1


@pytest.mark.parametrize("name", ["runs", "grid", "detail", "picture", "generation", "grids"])
def test_results_are_not_set(widget, name):
    before = getattr(widget, name)
    with pytest.raises(AttributeError, match=f"{name}: only the widget sets it"):
        setattr(widget, name, type(before)())
    assert getattr(widget, name) is before


@pytest.mark.parametrize("name", ["trace_all", "undo", "stop"])
def test_methods_are_not_set(widget, name):
    with pytest.raises(AttributeError, match=f"{name}: is a method"):
        setattr(widget, name, True)


def test_private_names_those_of_a_subclass_and_the_hosts_pass(widget, demo):
    class Mine(TraceWidget):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.remembered = []

    mine = Mine(model=demo)
    mine.remembered.append(1)
    mine.close()
    widget._mine = 1
    widget.layout = {"width": "50%"}
    widget.layout.height = "300px"
    with widget.hold_trait_notifications():
        widget.noise = 3.0
    widget.wait(30)
    assert widget.tracer.corruption.factor == 3.0


def test_an_unknown_argument_is_told_what_there_is():
    with pytest.raises(TypeError, match=r"'noise', accepted are image, question, model, answer, .*widget\.noise = "):
        TraceWidget(noise=3)
    with pytest.raises(TypeError, match="'nonsense', accepted are image, question, model, answer"):
        TraceWidget(nonsense=3)


def test_tab_shows_what_is_for_users(widget):
    shown = dir(widget)
    assert {"noise", "runs", "model", "image", "answer", "trace", "wait", "observe", "close", "layout"} <= set(shown)
    assert not [
        name for name in shown if name.startswith("_") or name in ("show_traits", "say", "go_back", "set_trait")
    ]
    assert len(shown) < 95


def test_help_says_what_every_trait_accepts():
    ours = [each for each in TraceWidget.class_traits().values() if each.this_class.__module__.startswith("blip_trace")]
    assert len(ours) > 30
    assert [trait.name for trait in ours if not trait.help] == []
    assert "from 1 to 200" in TraceWidget.samples.help
    assert '"restore" or "disrupt"' in TraceWidget.direction.help


# --- image, answer, foil, model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["picture", "array", "bytes", "path"])
def test_an_image_is_set_as_by_hand(widget, demo, tmp_path, kind):
    other = examples()[3].image
    path = tmp_path / "other.png"
    other.save(path)
    given = {"picture": other, "array": np.asarray(other.convert("RGB")), "bytes": path.read_bytes(), "path": path}[
        kind
    ]
    widget.selection, before = [(5, 5)], widget.image
    widget.image = given
    widget.wait(30)
    alone = Tracer(demo, given, widget.question, corruption=GaussianNoise(samples=2))
    assert widget.runs["clean"]["score"] == pytest.approx(alone.clean.score, abs=1e-6)
    assert np.array_equal(np.asarray(widget.image), np.asarray(alone.image))
    assert (str(path) in widget.code) == (kind == "path")
    effect = alone.patch(State("question_encoder", 5, 5))
    assert widget.detail["indirect_effect"] == pytest.approx(effect.indirect_effect, abs=1e-6)
    widget.undo()
    widget.wait(30)
    assert np.array_equal(np.asarray(widget.tracer.image), np.asarray(before))


def test_a_bad_image_is_refused_and_nothing_changes(widget):
    before = widget.image
    with pytest.raises((ValueError, TypeError), match="image"):
        widget.image = b"no picture"
    assert widget.image is before
    assert widget.error == ""


def test_an_answer_is_given_taken_back_and_refused(widget):
    own = widget.answer
    widget.answer = "blue"
    widget.wait(30)
    assert (widget.answer, widget.tracer.answer, widget.runs["given"]) == ("blue", "blue", True)
    widget.undo()
    widget.wait(30)
    assert widget.answer == widget.tracer.answer == own
    widget.redo()
    widget.answer = None
    widget.wait(30)
    assert widget.answer == own
    with pytest.raises(ValueError, match="answer: expected a text"):
        widget.answer = ""
    with pytest.raises(TypeError, match="answer: expected a text"):
        widget.answer = 3
    widget.foil = "blue"
    widget.wait(30)
    widget.answer = "red blue"  # the foil has one token
    widget.wait(30)
    assert "foil" in widget.error
    assert widget.answer == widget.tracer.answer == own


def test_a_foil_may_be_none(widget):
    widget.foil = "blue"
    widget.foil = None
    widget.wait(30)
    assert (widget.foil, widget.tracer.foil) == ("", None)


def test_another_model_keeps_what_fits(widget, demo):
    other = BlipVqa(copy.deepcopy(demo.hf), demo.processor)
    assert other is not widget.model
    widget.noise, widget.selection, widget.block, widget.foil = 3.0, [], "answer_decoder", "blue"
    widget.selection = [(5, 0)]
    widget.wait(30)
    generation, factors = widget.generation, widget.curve["factors"]
    widget.model = other
    assert widget.model is other
    widget.wait(30)
    assert (widget.noise, widget.block, widget.selection, widget.foil) == (3.0, "answer_decoder", [(5, 0)], "blue")
    assert widget.tracer.model is other
    assert widget.generation > generation
    assert widget.curve["factors"] == factors
    alone = Tracer(other, widget.image, widget.question, foil="blue", corruption=GaussianNoise(3.0, samples=2))
    assert widget.runs["corrupted"]["score"] == pytest.approx(alone.corrupted.score, abs=1e-6)
    effect = alone.patch(State("answer_decoder", 5, 0))
    assert widget.detail["indirect_effect"] == pytest.approx(effect.indirect_effect, abs=1e-6)
    assert widget.error == ""
    widget.noise = 4.0
    widget.wait(30)
    assert widget.tracer.corruption.factor == 4.0


def test_another_model_says_what_it_cannot_take(widget):
    mask = np.zeros(widget.model.grid, dtype=bool)
    mask[1, 1] = True
    widget.region = mask
    widget.patches = [(7, 7)]
    widget.wait(30)
    small = random_model(seed=0)
    assert small.grid != widget.model.grid
    question = widget.question
    widget.model = small
    widget.wait(30)
    assert widget.error.startswith("model: region, patches did not fit")
    assert (widget.region, widget.patches, widget.question) == (None, [], question)
    assert widget.tracer.model is small
    widget.trace_all()
    widget.wait(60)
    assert np.isfinite(widget.trace.scores).all()


def test_a_picture_that_another_model_overtakes_is_shown(widget, picture):
    widget.image = picture
    widget.model = random_model(seed=0)
    widget.wait(30)
    assert widget.picture == jpeg(picture)


def test_what_is_no_model_is_refused(widget):
    before = widget.model
    with pytest.raises(TypeError, match="model: expected BlipVqa, a hub id or a folder, got int"):
        widget.model = 3
    with pytest.raises(OSError, match="no/such"):
        widget.model = "./no/such/folder"
    assert widget.model is before


def test_a_tracer_takes_a_folder_as_the_widget_does(demo, example, tmp_path):
    demo.hf.save_pretrained(tmp_path)
    demo.processor.save_pretrained(tmp_path)
    for named in (tmp_path, str(tmp_path)):
        tracer = Tracer(named, example.image, example.question)
        assert tracer.clean.score == pytest.approx(Tracer(demo, example.image, example.question).clean.score, abs=1e-6)


def test_a_recording_takes_no_image_answer_or_model(tracer):
    widget = TraceWidget.from_trace(tracer.trace("answer_decoder"))
    for name, value in (("image", examples()[0].image), ("answer", "blue"), ("model", "x")):
        with pytest.raises(ValueError, match=f"{name}: This is a recording"):
            setattr(widget, name, value)
    with pytest.raises(ValueError, match=r"overlay: 'strength' was not recorded"):
        widget.overlay = "strength"
    assert (widget.overlay, widget.picture_map) == ("none", {})
    widget.close()


# --- copies, files, the end ------------------------------------------------------------------------------------------


def test_what_holds_a_model_is_not_pickled_and_says_what_to_do(widget, tracer, demo):
    for what, instead in ((widget, "TraceWidget.from_tracer"), (tracer, "Tracer"), (demo, "BlipVqa.from_pretrained")):
        for attempt in (pickle.dumps, copy.deepcopy, copy.copy):
            with pytest.raises(TypeError, match=f"cannot be pickled or copied.*{instead}"):
                attempt(what)


def test_results_are_pickled_and_copied(tracer):
    trace = tracer.trace("answer_decoder")
    effect = tracer.patch(State("question_encoder", 5, 5))
    curve = tracer.noise_curve([0.0, 5.0])
    for again in (copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(again(trace).samples, trace.samples)
        assert again(trace).total_effect == trace.total_effect
        np.testing.assert_array_equal(again(effect).scores, effect.scores)
        np.testing.assert_array_equal(again(curve).scores, curve.scores)
        assert again(tracer.clean).answer == tracer.clean.answer
        assert again(tracer.corruption) == tracer.corruption


def test_a_figure_of_nothing_is_traced_first(demo, example, tmp_path):
    for name in ("a.html", "a.svg", "a.csv"):
        widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
        (widget.save_html if name.endswith("html") else widget.export)(tmp_path / name)
        assert np.isfinite(widget.trace.scores).all()
        assert (tmp_path / name).stat().st_size > 1000
        widget.close()


def test_what_is_computed_is_left_as_it_is(widget, tmp_path):
    widget.selection = [(5, 5)]
    widget.wait(30)
    widget.export(tmp_path / "a.csv")
    assert np.isfinite(widget.trace.scores).sum() == 1


def test_a_closed_widget_says_so(demo, example, tmp_path):
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    widget.wait(30)
    widget.close()
    widget.close()
    for call in (
        widget.trace_all,
        widget.trace_heads,
        widget.undo,
        widget.redo,
        widget.pin,
        widget.compare,
        widget.stop,
        widget.wait,
        lambda: widget.save_html(tmp_path / "a.html"),
        lambda: widget.export(tmp_path / "a.svg"),
        widget.panel,
        lambda: setattr(widget, "noise", 3.0),
        lambda: setattr(widget, "answer", "blue"),
        lambda: setattr(widget, "image", Image.new("RGB", (8, 8))),
    ):
        with pytest.raises(RuntimeError, match=r"this TraceWidget was closed; .*TraceWidget\.from_tracer"):
            call()
    assert widget.noise == widget.tracer.corruption.factor
    assert TraceWidget.from_tracer(widget.tracer).noise == 5.0
    assert isinstance(repr(widget), str)


@pytest.mark.parametrize("kind", ["live", "another layout", "recorded", "panel"])
def test_a_closed_widget_leaves_no_widget_behind(demo, example, kind):
    """What is not closed ipywidgets keeps for ever: the layout that each widget makes for itself too."""
    before = set(ipywidgets.widgets.widget._instances)
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    if kind == "recorded":
        live, widget = widget, TraceWidget.from_trace(widget.tracer.trace())
        live.close()
    elif kind == "another layout":
        widget.layout = ipywidgets.Layout(width="50%")
    elif kind == "panel":
        widget.panel()
    layout = widget.layout
    widget.close()
    left = set(ipywidgets.widgets.widget._instances) - before
    assert left == ({layout.model_id} if kind == "another layout" else set())  # a user's may be another's too
    layout.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise", 10**400),
        ("region", [["x" * 10**6, "y"]] * 2),
        ("region", [[[True] * 10**5]]),
        ("path", [[{"block": "question_encoder", "layer": 1, "position": 1}] * 1000] * 5),
    ],
)
def test_a_large_value_is_refused_in_few_words(widget, name, value):
    """Before NumPy makes it larger still, and whatever traitlets would say."""
    if name == "path":
        widget.receivers = "answer"
    before = getattr(widget, name)
    with pytest.raises(ValueError, match=rf"^{name}: expected") as caught:
        setattr(widget, name, value)
    assert len(str(caught.value)) < 500
    assert getattr(widget, name) == before


def test_a_block_that_was_not_traced_is_refused(tmp_path):
    """It raised an AssertionError in an observer."""
    shown = TraceWidget.from_dataset(trace(tmp_path / "out", 2, blocks="question_encoder").folder)
    shown.wait(30)
    with pytest.raises(ValueError, match="block: 'answer_decoder' was not recorded"):
        shown.block = "answer_decoder"
    assert shown.block == "question_encoder"
    assert shown.trace.settings["block"] == "question_encoder"
    shown.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda tracer, long: tracer.trace(position=long),
        lambda tracer, long: tracer.flow({"picture": long}),
        lambda tracer, long: tracer.ablate(State("question_encoder", 0, 0), to=long),
        lambda tracer, long: Tracer(tracer.model, dict.fromkeys((long, *map(str, range(1000)))), "what"),
        lambda tracer, long: tracer.trace("answer_decoder").plot(limit=long),
        lambda tracer, long: tracer.noise_curve([1.0, 5.0]).suggest_factor(long),
    ],
)
def test_what_is_refused_is_told_in_few_words(tracer, ask):
    with pytest.raises((TypeError, ValueError)) as caught:
        ask(tracer, "x" * 10**5)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda _: State("question_encoder", np.array([0, 1]), 0), "layer"),
        (lambda _: State("question_encoder", torch.ones(1, device="meta", dtype=int), 0), "layer"),
        (lambda _: GaussianNoise(samples=np.array([1, 2])), "samples"),
        (lambda _: GaussianNoise(region=torch.ones(2, 2, requires_grad=True)), "region"),
        (lambda _: GaussianNoise(region=torch.ones(2, 2, device="meta")), "region"),
        (lambda _: load_trace(5), "path"),
        (lambda _: NoiseCurve.load(b"curve"), "path"),
        (lambda curve: curve.save("a\0b"), "path"),
        (lambda curve: curve.save("a\ud800b"), "path"),
    ],
)
def test_what_no_argument_can_be_is_refused_by_its_name(ask, name):
    curve = NoiseCurve(np.array([0.0, 1.0]), 0.9, np.array([[0.9, 0.1]]), np.zeros((1, 2, 0)), ())
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        ask(curve)


def test_a_position_may_be_a_single_number_of_numpy():
    assert GaussianNoise(at="question_embeddings", positions=np.array(1)).positions == (1,)


def test_a_visible_range_may_be_of_any_length(widget):
    """Each number of it was asked for, under the lock: the kernel hung."""
    widget.trace_all()
    take(widget, {"type": "visible_range", "id": 1, "first": 0, "last": 2**62})
    widget.wait(30)
    assert widget.error == ""
    assert np.isfinite(widget.trace.scores).all()
