"""Corruptions of a data set that come from each sample: its partner, a function of it, or a class of one's own."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from blip_trace_widget import (
    Corruption,
    DatasetTrace,
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Tracer,
    TraceWidget,
    demo_samples,
    trace_dataset,
)
from blip_trace_widget.dataset import batch, corruptions, store
from blip_trace_widget.dataset.batch import Plan
from blip_trace_widget.dataset.corruptions import as_source

FEW = {"blocks": ("question_encoder", "answer_decoder"), "progress": False}
ONE = {"blocks": "answer_decoder", "progress": False}


@dataclass(frozen=True, repr=False)
class Dimmed(Corruption):
    """A user's own: the image tokens, made smaller."""

    share: float = 0.5

    def delta(self, embeddings, _model, part=slice(None)):
        return -self.share * embeddings.float()[None]


def masked(sample):
    return ImageSwap(sample.other_image, region=sample.region)


def tracer_of(model, sample, corruption, **options):
    return Tracer(model, *sample[:3], corruption=corruption, **options)


def same(found, number, tracer):
    """Every number of a sample is that of a tracer, bit for bit."""
    row = found.samples.iloc[number]
    assert row["clean"] == tracer.clean.score
    assert row["total_effect"] == tracer.total_effect.value
    for block, site in found.grids:
        got, expected = found.trace(number, block, site), tracer.trace(block, site)
        np.testing.assert_array_equal(got.samples, expected.samples)
        assert (got.settings, got.tokens) == (expected.settings, expected.tokens)


@pytest.mark.parametrize(
    ("pairs", "given", "made"),
    [
        ("image", ImageSwap, lambda sample: ImageSwap(sample.other_image)),
        ("question", QuestionSwap, lambda sample: QuestionSwap(sample.other_question)),
        ("image", masked, masked),
        ("image", Dimmed(0.9), lambda _sample: Dimmed(0.9)),
    ],
    ids=["picture", "question", "function", "class of one's own"],
)
def test_every_cell_is_a_tracer_s_bit_for_bit(tmp_path, demo, pairs, given, made):
    samples = list(demo_samples(3, pairs=pairs))
    # Batches of one: several clean runs in one pass differ in the last bits.
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=given, batch_size=1, **FEW)
    assert found.counts["traced"] >= 2, found.summary
    for number in found.traced["sample"]:
        same(found, number, tracer_of(demo, samples[number], made(samples[number])))
    together = trace_dataset(iter(samples), demo, tmp_path / "together", corruption=given, **FEW)
    for number in found.traced["sample"]:
        np.testing.assert_allclose(together.trace(number).samples, found.trace(number).samples, atol=1e-5)


def test_a_pair_travels_into_the_tables(tmp_path, demo):
    samples = list(demo_samples(4, pairs="image"))
    found = trace_dataset(
        samples, demo, tmp_path / "out", corruption=ImageSwap, metric="logit_difference", only_correct=True, **ONE
    )
    rows = store.read(store.part(found.folder, "samples", 0)).to_pylist()
    for sample, row in zip(samples, rows, strict=True):
        assert row["foil"] == sample.foil
        assert row["other_image"] == ImageSwap(sample.other_image).sha256
        assert row["region"] == [list(cells) for cells in sample.region]
    number = int(found.traced["sample"].iloc[0])
    assert found.trace(number).settings["foil"] == samples[number].foil
    assert found.trace(number).snapshot.other_picture
    assert found.settings["corruption"]["partner"] == "other_image"


def test_the_built_in_model_tells_most_pairs_apart(tmp_path, demo):
    for pairs, given in (("image", ImageSwap), ("question", QuestionSwap)):
        found = trace_dataset(demo_samples(12, pairs=pairs), demo, tmp_path / pairs, corruption=given, **ONE)
        assert found.counts["traced"] >= 9, found.summary
        TraceWidget.from_dataset(found).close()
        assert (found.traced["corrupted_answer"] == found.traced["foil"]).mean() >= 0.75


# --- what is skipped, and what is refused -----------------------------------------------------------------------------


def test_partners_that_are_none_are_skipped_with_the_reason(tmp_path, demo):
    (one,) = demo_samples(1, pairs="image")
    one.image.save(tmp_path / "same.png")
    near = one.image.copy()
    near.putpixel((0, 0), (0, 0, 0))
    given = {
        corruptions.NO_PARTNER: None,
        corruptions.UNREADABLE_PARTNER: tmp_path / "nowhere.png",
        corruptions.SAME_PARTNER: tmp_path / "same.png",
        corruptions.SAME_ANSWER: near,
        batch.UNFIT: one.other_image,
        None: one.other_image,
    }
    samples = [one._replace(other_image=other, id="") for other in given.values()]
    samples[4] = samples[4]._replace(region=[[True]])
    options = {"corruption": ImageSwap, **ONE}
    found = trace_dataset(samples, demo, tmp_path / "out", **options)
    assert [reason if isinstance(reason, str) else None for reason in found.samples["reason"]] == list(given)
    assert found.counts == {"given": 6, "traced": 1} | {
        f"skipped: {reason}": 1 for reason in sorted(filter(None, given))
    }
    assert "nowhere.png" in found.samples["why"][1]
    # A partner's picture that is there at last is tried again.
    one.other_image.resize((50, 40)).save(tmp_path / "nowhere.png")
    again = trace_dataset(samples, demo, tmp_path / "out", **options)
    assert again.counts["traced"] == 2
    other = [samples[0]._replace(other_image=tmp_path / "same.png"), *samples[1:]]
    with pytest.raises(ValueError, match=r"number 0 has other_image None there, '.*same\.png' now"):
        trace_dataset(other, demo, tmp_path / "out", **options)
    samples[5] = samples[5]._replace(region=None)
    with pytest.raises(ValueError, match="number 5 has region"):
        trace_dataset(samples, demo, tmp_path / "out", **options)


@pytest.mark.parametrize("given", [QuestionSwap, lambda sample: QuestionSwap(sample.other_question)])
def test_questions_of_another_length_are_never_padded(tmp_path, demo, given):
    (one,) = demo_samples(1, pairs="question")
    questions = {
        one.question.upper(): corruptions.SAME_PARTNER,
        f"{one.other_question} and why": corruptions.OTHER_LENGTH,
        "what": corruptions.OTHER_LENGTH,
        "[SEP]": batch.UNUSABLE,
        one.other_question: None,
    }
    samples = [one._replace(other_question=other, id="") for other in questions]
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=given, **ONE)
    assert [reason if isinstance(reason, str) else None for reason in found.samples["reason"]] == list(
        questions.values()
    )
    assert f"expected {len(demo.question_ids(one.question))} tokens" in found.samples["why"][1]


def test_what_a_function_cannot_make_is_skipped_and_what_is_no_corruption_ends_the_run(tmp_path, demo):
    samples = list(demo_samples(3, pairs="image"))
    samples[1] = samples[1]._replace(other_image=None)
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=masked, **ONE)
    assert found.counts[f"skipped: {corruptions.UNMADE}"] == 1
    with pytest.raises(TypeError, match="corruption: expected a function that gives a Corruption, got int"):
        trace_dataset(samples, demo, tmp_path / "wrong", corruption=lambda _sample: 3, **ONE)
    with pytest.raises(ZeroDivisionError):  # a function's own errors are its own
        trace_dataset(samples, demo, tmp_path / "wrong", corruption=lambda _sample: 1 / 0, **ONE)
    assert DatasetTrace.load(tmp_path / "wrong").counts["given"] == 0
    seeded = trace_dataset(
        samples, demo, tmp_path / "noise", corruption=lambda _sample: GaussianNoise(samples=2, seed=7), **ONE
    )
    assert {seeded.trace(number).settings["corruption"]["seed"] for number in seeded.traced["sample"]} == {7}


@pytest.mark.parametrize("given", [ImageSwap, QuestionSwap, Dimmed(), masked, MeanAblation()])
def test_a_grid_that_a_corruption_does_not_reach_is_refused_first(tmp_path, demo, given):
    asked = []
    samples = (asked.append(each) or each for each in demo_samples(4, pairs="image"))
    with pytest.raises(
        ValueError, match="blocks: 'image_encoder' can be traced under a corruption at='patch_embeddings' alone"
    ):
        trace_dataset(samples, demo, tmp_path / "out", "image_encoder", corruption=given, progress=False)
    assert bool(asked) == (given is masked)  # what a function gives is known from the first sample on
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("given", [GaussianNoise, MeanAblation, int, 3, "ImageSwap"])
def test_what_is_no_corruption_is_refused(given):
    with pytest.raises(TypeError, match="corruption: expected one such as GaussianNoise"):
        as_source(given)


# --- gone on with -----------------------------------------------------------------------------------------------------


class Other(ImageSwap):
    """A user's own way to swap."""


@pytest.mark.parametrize(
    ("given", "other", "told"),
    [
        (Dimmed(0.9), Dimmed(0.8), r"corruption\.fingerprint was"),
        (masked, lambda sample: ImageSwap(sample.other_image), r"corruption\.fingerprint was"),
        (ImageSwap, Other, r"corruption\.type was 'ImageSwap' and is 'class' now"),
        (ImageSwap, GaussianNoise(samples=2), r"corruption\.type was 'ImageSwap'"),
    ],
)
def test_a_run_goes_on_with_the_same_corruption_alone(tmp_path, demo, given, other, told):
    samples = list(demo_samples(2, pairs="image"))
    first = trace_dataset(samples, demo, tmp_path / "out", corruption=given, **ONE)
    again = trace_dataset(samples, demo, tmp_path / "out", corruption=given, **ONE)
    assert again.counts == first.counts
    assert len(again.mean("exact").roles) == 1
    with pytest.raises(ValueError, match=told):
        trace_dataset(samples, demo, tmp_path / "out", corruption=other, **ONE)


@pytest.mark.parametrize("given", [ImageSwap, QuestionSwap, Other, Dimmed(0.9), masked, None])
def test_what_is_to_be_done_travels(small, given):
    plan = Plan.of("answer_decoder", "mlp", given, "probability", only_correct=False)
    other = pickle.loads(pickle.dumps(plan))
    assert other.settings(small) == plan.settings(small)
