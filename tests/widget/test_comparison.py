"""A grid that is kept, and the difference from it: what the widget shows is what ``trace - other`` says."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from blip_trace_widget import GaussianNoise, Tracer, TraceWidget
from blip_trace_widget.display import protocol
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.tracing.grid import as_trace
from blip_trace_widget.widget.comparison import Comparison
from helpers.front_end import take
from helpers.problems import ROUNDED
from helpers.widgets import quick_widget


@pytest.fixture
def widget(demo, example):
    """All of its grid is computed, and kept; the one in view is another."""
    made = quick_widget(example.image, example.question, model=demo)
    fill(made)
    made.compare()
    yield made
    made.close()


def fill(widget):
    widget.wait(60)
    widget.trace_all()
    widget.wait(60)


def at_noise(widget, factor):
    widget.noise = factor
    widget.wait(60)


def told(widget):
    (only,) = widget.compared["differences"]
    return only


def values(widget):
    """What is shown of the difference, by name."""
    shape = (len(protocol.DIFFERENCE_FIELDS), widget.grid["layers"], len(widget.grid["tokens"]))
    return dict(
        zip(protocol.DIFFERENCE_FIELDS, np.frombuffer(told(widget)["values"], "<f4").reshape(shape), strict=True)
    )


def shows(widget, difference, apart=1e-6):
    """Whether all that is shown is Python's difference; `apart`: what rounding may make of it."""
    for name, shown in values(widget).items():
        exact = np.asarray(getattr(difference, "scores" if name == "score" else name), dtype=float)
        if name.endswith("significant"):  # where there is nothing to test, nothing is said
            exact[np.isnan(getattr(difference, f"{name.removesuffix('significant')}margin"))] = np.nan
        np.testing.assert_allclose(shown, exact, rtol=1e-5, atol=apart)
    return True


@pytest.fixture
def exact(demo, example):
    """The trace at a factor, computed afresh."""

    def at(factor, **view):
        corruption = GaussianNoise(factor)
        return Tracer(demo, example.image, example.question, corruption=corruption).trace(**view)

    return at


def test_what_is_shown_is_the_difference_of_the_two_traces(widget, exact):
    heard = []
    widget.observe(lambda change: heard.append(change["new"]), "compared")
    at_noise(widget, 1.0)
    difference = exact(1.0) - exact(5.0)
    assert shows(widget, difference)
    assert told(widget)["text"] == "ν 1 − ν 5"
    at_noise(widget, 5.0)
    widget.site = "mlp"
    fill(widget)
    difference = exact(5.0, site="mlp") - exact(5.0)
    assert 0 < difference.recovery_significant.sum() < difference.recovery.size
    assert shows(widget, difference)
    assert told(widget)["generation"] == widget.grid["generation"]
    assert heard
    assert widget.difference


@pytest.mark.parametrize(
    ("trait", "value", "said"),
    [
        ("site", "mlp", "MLP − layer output"),
        ("direction", "disrupt", "direction disrupt − direction restore"),
        ("window", 3, "window 3 − window 1"),
        ("seed", 1, "seed 1 − seed 0"),
        ("answer", "blue", "answer blue − answer red"),
    ],
)
def test_whatever_makes_sense_is_compared(widget, trait, value, said):
    kept = widget.trace
    setattr(widget, trait, value)
    fill(widget)
    assert told(widget)["text"] == said
    assert shows(widget, widget.trace - kept)


@pytest.mark.parametrize(
    ("trait", "value", "why"),
    [
        ("block", "answer_decoder", "that is another block"),
        ("question", "what color is that circle?", "that has other tokens, [CLS] what color is the circle ? [SEP]"),
        ("metric", "log_probability", "that is scored by probability"),
    ],
)
def test_what_cannot_be_compared_is_said_and_the_values_stay(widget, trait, value, why, tmp_path):
    setattr(widget, trait, value)
    fill(widget)
    assert told(widget)["text"] == f"Not comparable with {widget.compared['kept']}: {why}"
    assert told(widget)["values"] == b""
    widget.export(tmp_path / "figure.csv")
    assert not [name for name in pd.read_csv(tmp_path / "figure.csv") if name.startswith("other_")]
    widget.export(tmp_path / "figure.svg")
    assert "ifference of" not in (tmp_path / "figure.svg").read_text("utf-8")
    widget.undo()
    at_noise(widget, 3.0)
    assert told(widget)["text"] == "ν 3 − ν 5"


def test_the_grid_itself_is_said_to_be_the_one_that_is_kept(widget):
    assert told(widget)["text"].startswith("Kept to compare with: Question encoder · layer output · restore · ν 5.0")
    assert told(widget)["values"] == b""


def test_undo_and_redo_show_the_difference_of_what_is_there_then(widget, exact):
    at_noise(widget, 1.0)
    widget.site = "mlp"
    fill(widget)
    for go, site in ((widget.undo, "block_output"), (widget.redo, "mlp")):
        go()
        widget.wait(60)
        assert shows(widget, exact(1.0, site=site) - exact(5.0))
    widget.undo()
    widget.undo()
    widget.wait(60)
    assert told(widget)["values"] == b""


def test_what_either_grid_lacks_is_nan_and_comes_when_it_is_computed(demo, example):
    widget = quick_widget(example.image, example.question, model=demo)
    widget.wait(60)
    with pytest.raises(ValueError, match="compare: no cell of this grid is computed yet; trace it first"):
        widget.compare()
    widget.selection = [(5, 5)]
    widget.wait(60)
    widget.compare()
    at_noise(widget, 2.0)
    fill(widget)
    assert np.argwhere(np.isfinite(values(widget)["score"])).tolist() == [[5, 5]]
    at_noise(widget, 5.0)
    fill(widget)  # the rest of the grid that is kept
    at_noise(widget, 2.0)
    assert np.isfinite(values(widget)["score"]).all()
    widget.close()


def test_of_a_single_sample_nothing_is_claimed(widget):
    widget.samples = 1
    fill(widget)
    shown = values(widget)
    assert np.isfinite(shown["score"]).all()
    assert np.isnan(shown["significant"]).all()


def test_where_a_recovery_is_undefined_it_is_said_why(widget):
    at_noise(widget, 0.0)
    assert "no difference of recoveries: of the first " in told(widget)["undefined"]
    assert np.isnan(values(widget)["recovery"]).all()
    assert np.isfinite(values(widget)["score"]).all()


def test_letting_go_shows_values_again(widget):
    at_noise(widget, 1.0)
    widget.compare(False)
    assert widget.compared == {}
    assert widget.difference is False
    with pytest.raises(ValueError, match="difference: no grid is kept to compare with"):
        widget.difference = True
    at_noise(widget, 2.0)
    assert widget.compared == {}


def test_the_page_may_ask_for_it_too(widget):
    for on in (False, True):
        take(widget, {"type": "compare", "id": 1, "on": on})
        assert bool(widget.compared) is on
    widget.site = "mlp"
    widget.wait(60)
    take(widget, {"type": "compare", "id": 2, "on": True})
    assert "no cell of this grid is computed yet" in widget.error
    assert told(widget)["text"].startswith("MLP − layer output")


def test_files_hold_the_difference_and_name_both(widget, exact, tmp_path):
    at_noise(widget, 2.0)
    difference = exact(2.0) - exact(5.0)
    for ending in ("svg", "csv", "json", "html"):
        widget.export(tmp_path / f"figure.{ending}")
    table = pd.read_csv(tmp_path / "figure.csv")
    np.testing.assert_allclose(table["recovery"], difference.recovery.ravel(), rtol=1e-5, atol=1e-6)
    assert set(table["factor"]) == {2.0}
    assert set(table["other_factor"]) == {5.0}
    held = json.loads((tmp_path / "figure.json").read_text("utf-8"))
    assert held["settings"]["corruption"]["factor"] == 2.0
    assert held["other_settings"]["corruption"]["factor"] == 5.0
    assert len(held["cells"]) == difference.recovery.size

    root = ET.parse(tmp_path / "figure.svg").getroot()
    text = "".join(root.itertext())
    assert "Difference of recovery: ν 2 − ν 5" in text
    dots = [each for each in root.iter() if each.tag.endswith("circle") and each.get("r") == "1.8"]
    assert len(dots) == (~difference.recovery_significant).sum()
    boxes = [each for each in root.iter() if each.get("class") == "bt-cell"]
    first = "".join(boxes[0].itertext())
    assert "ν 2 − ν 5" in first
    assert "points" in first
    widget.difference = False
    widget.export(tmp_path / "values.svg")
    assert "Difference of" not in (tmp_path / "values.svg").read_text("utf-8")


def test_a_page_has_the_difference_of_every_grid_in_it(widget, tmp_path):
    widget.site = "mlp"
    fill(widget)
    widget.save_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    held = json.loads(text.partition('id="saved">')[2].partition("</script>")[0])
    (scene,) = held["scenes"]
    for compared in (scene["compared"], held["state"]["compared"]):
        assert {each["site"] for each in compared["differences"]} == {"mlp", "block_output"}
    assert held["state"]["difference"] is True


def test_copied_python_makes_the_difference_again(widget, tmp_path, monkeypatch):
    at_noise(widget, 1.0)
    widget.selection = [(5, 5)]
    widget.wait(60)
    made = {}
    exec(widget.code, made)
    assert shows(widget, made["difference"], ROUNDED)
    assert widget.code.count("model = ") == 1
    assert made["effect"].score == pytest.approx(widget.detail["score"], abs=ROUNDED)
    widget.difference = False
    assert "difference" not in widget.code


def test_copied_python_tells_two_pictures_apart(demo, example, picture):
    widget = quick_widget(picture, example.question, model=demo, corruption=GaussianNoise(samples=2))
    fill(widget)
    widget.compare()
    widget.image = picture.rotate(180)
    fill(widget)
    assert widget.code.count('"kept_picture.png"') == 1
    assert widget.code.count('"picture.png"') == 1
    widget.close()


def test_files_and_questions_that_are_called_like_the_menus_stay_as_they_are(demo, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture.save("picture.png")
    picture.rotate(180).save("other.png")
    widget = quick_widget(
        "picture.png", "what # picture.png is it?", model=demo, corruption=GaussianNoise(samples=2), answer="red"
    )
    fill(widget)
    widget.compare()
    widget.image = "other.png"
    fill(widget)
    assert "Export" not in widget.code
    made = {}
    exec(widget.code, made)
    assert shows(widget, made["difference"], ROUNDED)
    widget.close()


def test_a_recording_compares_what_was_recorded(tracer, tmp_path):
    tracer.record(tmp_path / "trace", blocks="answer_decoder", sites=["mlp", "block_output"], factors=[5.0, 1.0])
    shown = TraceWidget.from_trace(tmp_path / "trace")
    kept = shown.trace
    shown.compare()
    shown.noise = 5.0 if shown.noise == 1.0 else 1.0
    assert shows(shown, shown.trace - kept)
    shown.compare(False)
    assert shown.compared == {}
    shown.close()


def test_another_model_is_compared_too(widget, demo):
    twin = type(demo)(demo.hf, demo.processor, name="twin")
    kept = widget.trace
    widget.model = twin
    fill(widget)
    assert told(widget)["text"] == "model twin − model built-in"
    assert shows(widget, widget.trace - kept)


def test_an_average_is_refused_in_words(dataset):
    shown = TraceWidget.from_dataset(dataset.folder)
    with pytest.raises(ValueError, match="an average over many questions cannot be compared"):
        shown.compare()
    shown.chosen = int(shown.listing["rows"][0]["number"])
    shown.compare()
    shown.chosen = -1
    assert "this is an average over many questions" in told(shown)["text"]
    shown.close()


def test_what_is_kept_goes_on_being_filled_without_being_told(tracer):
    samples = tracer.trace().samples.copy()
    rest = samples[:, 3:].copy()
    samples[:, 3:] = np.nan
    comparison = Comparison()
    comparison.keep(as_trace(tracer.case, samples, GridSpec()))
    other = tracer.with_corruption(factor=1.0).trace()
    assert np.isnan(comparison.difference(other).scores[3:]).all()
    samples[:, 3:] = rest
    assert np.isfinite(comparison.difference(other).scores).all()
    comparison.clear()
    assert comparison.payload([other], 1) == {}
