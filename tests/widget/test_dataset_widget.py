"""TraceWidget.from_dataset: the average and every sample's grids, without a model."""

import json

import numpy as np
import pytest
from traitlets import TraitError

from blip_trace_widget import BlipVqa, DatasetTrace, GaussianNoise, State, TraceWidget, demo_samples, trace_dataset
from blip_trace_widget.checks import conforms
from blip_trace_widget.display.protocol import CELL_FIELDS, Listing, Runs, Setup
from blip_trace_widget.widget.dataset import AVERAGE
from blip_trace_widget.widget.dataset_list import ORDERS, PAGE
from blip_trace_widget.widget.figure_widget import FigureWidget


@pytest.fixture
def widget(dataset, monkeypatch):
    """A widget that could load no model if it wanted to."""

    def refused(*_arguments, **_options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(BlipVqa, "from_pretrained", refused)
    monkeypatch.setattr(BlipVqa, "__init__", refused)
    shown = TraceWidget.from_dataset(dataset.folder)
    yield shown
    shown.close()


def cells(widget):
    grid = widget.grid
    return np.frombuffer(grid["values"], "<f4").reshape(len(CELL_FIELDS), grid["layers"], len(grid["tokens"]))


def test_an_average_is_not_subtracted_as_if_its_questions_were_noise(widget):
    with pytest.raises(TypeError, match=r"compared by DatasetTrace\.compare"):
        widget.trace - widget.trace


def test_the_average_is_shown_first(widget, dataset):
    assert isinstance(widget, FigureWidget)
    mean = dataset.mean()
    assert widget.chosen == AVERAGE
    assert widget.grid["tokens"] == list(mean.roles)
    values = dict(zip(CELL_FIELDS, cells(widget), strict=True))
    np.testing.assert_allclose(values["recovery"], mean.recovery, atol=1e-6)
    np.testing.assert_allclose(values["indirect_effect"], mean.indirect_effect, atol=1e-6)
    np.testing.assert_array_equal(values["significant"], mean.significant)
    np.testing.assert_allclose(values["margin"], mean.high - mean.indirect_effect, rtol=1e-5)
    np.testing.assert_allclose(values["recovery_margin"], mean.recovery - mean.recovery_low, rtol=1e-5)
    assert widget.question == f"average of {dataset.counts['traced']} questions"
    assert widget.runs["clean"]["score"] == pytest.approx(dataset.traced["clean"].mean())
    assert widget.runs["corrupted"]["score"] == pytest.approx(dataset.traced["corrupted"].mean())
    assert "95 % interval" in widget.runs["gate"]["text"]
    for name, shape in (("listing", Listing), ("runs", Runs), ("setup", Setup)):
        conforms(name, getattr(widget, name), shape)
    assert widget.mean.total_effect == mean.total_effect


def test_roles_that_some_samples_lack_are_averaged_over_the_others(tmp_path, demo):
    # One-token and two-token answers: the second position of the decoder is there in some alone.
    colors = [sample for sample in demo_samples(120) if sample.group == "color"]
    samples = [sample for sample in colors if sample.answer == "light blue"][:2] + colors[:2]
    noise = GaussianNoise(samples=4)
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=noise, progress=False)
    widget = TraceWidget.from_dataset(found)
    widget.block = "answer_decoder"
    mean = found.mean(block="answer_decoder")
    assert len(set(mean.samples.tolist())) == 2
    assert np.isfinite(mean.recovery).all()
    values = dict(zip(CELL_FIELDS, cells(widget), strict=True))
    np.testing.assert_allclose(values["recovery"], mean.recovery, atol=1e-5)
    # By hand, the second position: of the two samples that have it.
    table = found.to_dataframe().query("block == 'answer_decoder' and layer == 3 and position == 1")
    clean = found.traced["clean"].mean()
    total = found.traced.set_index("sample")["total_effect"].loc[table["sample"]].to_numpy()
    effect = table["indirect_effect"].to_numpy()
    recovery = effect.mean() / total.mean()
    assert values["score"][3, 1] == pytest.approx((clean - total + effect).mean(), abs=1e-6)
    assert values["recovery"][3, 1] == pytest.approx(recovery, abs=1e-6)
    assert values["recovery_margin"][3, 1] == pytest.approx(mean.recovery_high[3, 1] - mean.recovery[3, 1], rel=1e-3)
    widget.close()


def test_a_cell_of_the_average_is_told_with_its_interval(widget, dataset):
    widget.selection = [(5, 6)]
    mean = dataset.mean()
    shown = [f"{each[5, 6] * 100:.0f} %" for each in (mean.recovery, mean.recovery_low, mean.recovery_high)]
    assert "recovery {}, 95 % interval {} to {}".format(*shown) in widget.interval
    assert f"over {mean.samples[6]} samples" in widget.interval
    assert widget.detail["recovery"] == pytest.approx(mean.recovery[5, 6])
    widget.selection = []
    assert widget.interval == ""
    widget.selection = [(5, 6)]
    widget.chosen = int(dataset.traced["sample"].iloc[1])
    assert widget.interval == ""
    assert widget.selection == []


def test_a_sample_is_shown_with_its_own_grid_and_words(widget, dataset):
    number = int(dataset.traced["sample"].iloc[2])
    generation = widget.generation
    widget.block = "answer_decoder"
    widget.chosen = number
    row = dataset.samples.iloc[number]
    assert widget.question == row["question"]
    assert widget.generation > generation
    assert widget.block == "answer_decoder"  # the view stays
    np.testing.assert_array_equal(widget.trace.samples, dataset.trace(number, "answer_decoder").samples)
    assert widget.runs["clean"]["answer"] == row["own_answer"]
    assert widget.runs["corrupted"]["answer"] == row["corrupted_answer"]
    assert widget.picture == dataset.picture(number)
    assert widget.mean is None
    widget.selection = [(5, 0)]
    assert widget.detail["recovery"] == pytest.approx(1, abs=1e-3)
    widget.chosen = AVERAGE
    assert widget.question.startswith("average of")
    assert widget.error == ""


def test_a_choice_reads_its_sample_once(widget, dataset, monkeypatch):
    """It is checked, shown, and checked again where it is set."""
    read, whole = [], DatasetTrace.traces
    monkeypatch.setattr(DatasetTrace, "traces", lambda self, number: read.append(number) or whole(self, number))
    for number in (3, 5, AVERAGE, 5, 3):
        widget.chosen = number
        if number != AVERAGE:
            np.testing.assert_array_equal(widget.trace.samples, whole(dataset, number)[0].samples)
    assert read == [3, 5, 3]


def test_a_group_is_averaged_and_listed(widget, dataset):
    widget.chosen = 2
    widget.group = "number"
    assert widget.chosen == AVERAGE
    assert widget.listing["found"] == 50
    widget.wait(30)
    np.testing.assert_allclose(
        cells(widget)[CELL_FIELDS.index("recovery")], dataset.mean(group="number").recovery, atol=1e-6
    )
    assert widget.listing["found"] == 50
    assert {row["group"] for row in widget.listing["rows"]} == {"number"}
    assert widget.listing["groups"] == ["color", "object", "number", "location"]


def test_the_list_is_searched_sorted_and_paged(widget, dataset):
    assert [row["number"] for row in widget.listing["rows"]] == list(range(PAGE))
    assert widget.listing["title"] == dataset.summary
    widget.first = PAGE
    assert [row["number"] for row in widget.listing["rows"]] == list(range(PAGE, 2 * PAGE))
    widget.find = "Circle  color"
    assert widget.first == 0
    columns = ["id", "group", "question", "given_answer", "own_answer", "corrupted_answer"]
    texts = [" ".join(map(str, row)) for row in dataset.samples[columns].to_numpy()]
    assert widget.listing["found"] == sum("circle" in text and "color" in text for text in texts) > 0
    widget.find = "(no such [text"
    assert widget.listing["rows"] == []
    widget.find = ""
    for order, (column, down) in ORDERS.items():
        widget.order = order
        values = dataset.samples[column].iloc[[row["number"] for row in widget.listing["rows"]]].tolist()
        assert values == sorted(dataset.samples[column].dropna(), reverse=down)[:PAGE], order
    widget.first = 10**6
    assert widget.listing["first"] == len(dataset) - PAGE
    row = widget.listing["rows"][0]
    assert row["picture"][:2] == b"\xff\xd8"
    assert dict(row["answers"])["right"]


@pytest.mark.parametrize(
    ("trait", "value"), [("chosen", 10**6), ("chosen", -2), ("group", "sound"), ("order", "random")]
)
def test_what_is_not_there_is_refused_and_the_last_good_value_stays(widget, trait, value):
    before = getattr(widget, trait)
    with pytest.raises(TraitError, match=f"{'sample' if trait == 'chosen' else trait}: "):
        setattr(widget, trait, value)
    assert getattr(widget, trait) == before
    widget.set_state({trait: value})  # as the front end would
    assert getattr(widget, trait) == before
    assert widget.error


def test_nothing_is_computed_and_said_so(widget):
    widget.noise = 2.0
    assert widget.noise == 5.0
    widget.seed = 3
    assert "recording" in widget.error
    assert widget.seed == 0
    assert widget.setup["closed"]
    widget.window = 3
    assert np.isnan(cells(widget)).all()  # no average of that was made
    widget.window = 1
    assert np.isfinite(cells(widget)).all()


def test_skipped_samples_are_listed_with_their_reason(tmp_path, demo):
    sample = next(iter(demo_samples(1)))
    samples = [(sample.image, sample.question), (tmp_path / "nowhere.png", "what is it?")]
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=GaussianNoise(samples=2), progress=False)
    widget = TraceWidget.from_dataset(tmp_path / "out")
    assert widget.listing["rows"][1]["note"] == "skipped: the picture cannot be read"
    assert widget.listing["rows"][1]["picture"] == b""
    with pytest.raises(TraitError, match="number 1 was skipped"):
        widget.chosen = 1
    assert "1 skipped" in repr(found)
    widget.close()


def test_it_is_kept_as_page_picture_numbers_and_code(widget, tmp_path, dataset):
    for name in ("a.html", "a.svg", "a.csv", "a.json"):
        widget.export(tmp_path / name)
    page = (tmp_path / "a.html").read_text("utf-8")
    saved = json.loads(page.split('id="saved">')[1].split("</script>")[0])
    assert saved["state"]["listing"]["title"] == dataset.summary
    assert "blip-trace-dataset" in saved["script"]
    assert f"average of {len(dataset.traced)} questions" in (tmp_path / "a.svg").read_text("utf-8")
    assert "DatasetWidget" in widget._repr_mimebundle_()[0]["text/plain"]
    widget.group = "color"
    widget.chosen = int(dataset.traced["sample"].iloc[0])
    made = {}
    exec(widget.code, made)
    assert made["widget"].question == widget.question
    assert made["widget"].group == "color"


def test_an_average_that_is_saved_is_shown_as_it_was(widget, tmp_path):
    widget.trace.save(tmp_path / "average")
    again = TraceWidget.from_trace(tmp_path / "average")
    assert {**again.runs, "generation": 0} == {**widget.runs, "generation": 0}
    assert again.setup["blocks"] == widget.setup["blocks"]
    assert (again.question, again.picture) == (widget.question, widget.picture)
    again.close()


def test_other_folders_are_refused(tmp_path):
    for given, told in ((tmp_path, "no folder that trace_dataset wrote"), (3, "expected a path or a DatasetTrace")):
        with pytest.raises((TypeError, ValueError), match=told):
            TraceWidget.from_dataset(given)


@pytest.mark.parametrize(
    ("held", "told", "noted"),
    [
        (
            {"hold": ["mlp", State("question_encoder", 2, "[SEP]")]},
            ", held: mlp there above; question_encoder layer 2 position [SEP] block_output",
            {"held": "the later MLPs there and layer 2 at “[SEP]”", "into": ""},
        ),
        ({"receivers": "answer"}, ", paths into answer", {"held": "", "into": "the answer"}),
    ],
)
def test_what_was_held_is_said_and_the_grid_in_view_stays(tmp_path, demo, held, told, noted):
    noise = GaussianNoise(samples=2)
    trace_dataset(demo_samples(3), demo, tmp_path, corruption=noise, progress=False, **held)
    widget = TraceWidget.from_dataset(tmp_path)
    assert widget.question == f"average of 3 questions{told}"
    assert (widget.grid["notes"], widget.grid["dead"]) == ([], [])  # positions of a sample mean nothing here
    widget.block = "answer_decoder"
    widget.chosen = 2
    assert (widget.grid["block"], widget.error) == ("answer_decoder", "")
    widget.block = "question_encoder"
    assert {name: widget.grid[name] for name in noted} == noted
    assert bool(widget.hold) == ("hold" in held)
    assert widget.trace.without_effect == [tuple(cell) for cell in widget.grid["dead"]] != []
    widget.block = "answer_decoder"
    widget.chosen = AVERAGE
    assert (widget.grid["block"], widget.error) == ("answer_decoder", "")
    widget.close()
