"""The noise bank and what it does to image tokens."""

import json
import random
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import (
    Corruption,
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Scale,
    State,
    Tracer,
    examples,
)
from blip_trace_widget.choices import CORRUPTIONS, CorruptionName
from blip_trace_widget.results.snapshot import checked_corruption
from blip_trace_widget.tracing.corruption import from_settings
from helpers.mutations import mutated
from helpers.problems import hooked
from helpers.reference import Hooked, noise


@given(
    st.sampled_from(["multiplicative", "additive"]),
    st.integers(1, 4),
    st.integers(0, 2**63 - 1),
    st.floats(0, 100),
    st.booleans(),
)
def test_delta_equals_the_definition(kind, samples, seed, factor, with_region):
    tokens = torch.randn((7, 5), generator=torch.Generator().manual_seed(3))
    region = np.array([[True, False, False], [False, True, True]]) if with_region else None
    corruption = GaussianNoise(factor, kind, samples, seed, region)
    ours = tokens + corruption.strength * corruption.delta(tokens, SimpleNamespace(grid=(2, 3)))
    exact = torch.stack(noise(tokens, factor, kind, samples, seed, region))
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-5 * (1 + factor))


def test_the_bank_is_one_draw_of_the_seed():
    bank = GaussianNoise(samples=3, seed=11).bank(4, 2)
    assert torch.equal(bank, torch.randn((3, 4, 2), generator=torch.Generator("cpu").manual_seed(11)))
    assert bank.dtype == torch.float32


def test_a_region_spares_the_class_token_and_what_lies_outside():
    tokens = torch.ones((5, 3))
    delta = GaussianNoise(samples=2, region=[[True, False], [False, False]]).delta(tokens, SimpleNamespace(grid=(2, 2)))
    assert (delta[:, 1] != 0).all()
    assert (delta[:, [0, 2, 3, 4]] == 0).all()
    assert (GaussianNoise(samples=2).delta(tokens, SimpleNamespace(grid=(2, 2)))[:, 0] != 0).all()


def test_equal_noise_is_equal_and_shares_its_unit():
    one = GaussianNoise(3.0, region=np.eye(2, dtype=bool))
    assert one == GaussianNoise(3.0, region=[[True, False], [False, True]])
    assert hash(one) == hash(GaussianNoise(3.0, region=np.eye(2, dtype=bool)))
    assert one.unit() == GaussianNoise(7.5, region=np.eye(2, dtype=bool)).unit()
    assert one.unit() != GaussianNoise(3.0, seed=1, region=np.eye(2, dtype=bool)).unit()


def test_settings_make_it_again():
    corruption = GaussianNoise(2.5, "additive", 4, 9, [[True, False]])
    settings = corruption.settings()
    assert settings.pop("type") == "GaussianNoise"
    assert GaussianNoise(**settings) == corruption


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"factor": float("nan")}, ValueError, "factor.*nan"),
        ({"factor": -1}, ValueError, "factor.*-1"),
        ({"factor": float("inf")}, ValueError, "factor"),
        ({"factor": "5"}, TypeError, "factor.*str"),
        ({"factor": 10**400}, ValueError, "factor.*int"),
        ({"factor": np.ones(3)}, ValueError, "factor.*ndarray"),
        ({"factor": 1e38}, ValueError, "factor.*1e.06"),
        ({"region": [[True], [True, False]]}, ValueError, "region.*unequal"),
        ({"kind": "uniform"}, ValueError, "kind.*multiplicative.*'uniform'"),
        ({"samples": 0}, ValueError, "samples.*0"),
        ({"samples": 2.5}, TypeError, "samples"),
        ({"seed": -1}, ValueError, "seed"),
        ({"region": [[1, 0]]}, ValueError, "region.*boolean"),
        ({"region": [True, False]}, ValueError, "region.*shape"),
        ({"region": [[False, False]]}, ValueError, "region.*empty"),
        ({"region": [[True]], "at": "question_embeddings"}, ValueError, "region: only with at='patch_embeddings' or"),
        ({"positions": [1]}, ValueError, "positions: only with at='question_embeddings', got .*'image_embeddings'"),
        ({"positions": [], "at": "question_embeddings"}, ValueError, "positions.*at least one"),
        ({"positions": [1.5], "at": "question_embeddings"}, TypeError, "positions.*float 1.5"),
    ],
)
def test_wrong_arguments_are_named(wrong, error, message):
    with pytest.raises(error, match=message):
        GaussianNoise(**wrong)


@pytest.mark.parametrize("corruption", [GaussianNoise, Scale, MeanAblation], ids=lambda kind: kind.__name__)
def test_a_region_of_another_grid_is_refused(corruption):
    with pytest.raises(ValueError, match=r"region: expected 2 x 2 patches.*got 1 x 2"):
        corruption(region=[[True, False]]).check(SimpleNamespace(grid=(2, 2)), [])


@pytest.mark.parametrize("corruption", [Scale, MeanAblation], ids=lambda kind: kind.__name__)
def test_what_is_done_to_the_picture_cannot_be_done_to_words(corruption):
    with pytest.raises(ValueError, match=r"at: expected one of .*, got 'question_embeddings'"):
        corruption(at="question_embeddings")


# --- noise on words ---------------------------------------------------------------------------------------------------


def on_words(tracer, *positions, **options):
    return tracer.with_corruption(GaussianNoise(at="question_embeddings", positions=positions or None, **options))


def test_words_are_found_in_each_question(tracer):
    circle = tracer.question_tokens.index("circle")
    by_word, by_number = on_words(tracer, "Circle"), on_words(tracer, circle)
    np.testing.assert_array_equal(by_word.corrupted.scores, by_number.corrupted.scores)
    assert by_word.corruption.settings()["positions"] == ["Circle"]
    assert by_word.total_effect.value > 0.1
    longer = by_word.replace(question="what is the color of the circle?")
    again = longer.with_corruption(positions=longer.question_tokens.index("circle"))
    np.testing.assert_array_equal(longer.corrupted.scores, again.corrupted.scores)
    everything = on_words(tracer, *range(len(tracer.question_tokens)))
    np.testing.assert_array_equal(everything.corrupted.scores, on_words(tracer).corrupted.scores)


def test_words_that_the_question_has_not_are_refused(tracer):
    with pytest.raises(ValueError, match="positions: there is no token 'triangle'"):
        on_words(tracer, "triangle")
    with pytest.raises(ValueError, match="positions: expected from 0 to 7, got 9"):
        on_words(tracer, 9)
    with pytest.raises(ValueError, match="positions: there is no token 'circle'"):
        on_words(tracer, "circle").replace(question="what is there?")


def test_the_picture_is_the_same_in_both_runs_under_noise_on_words(tracer):
    words = on_words(tracer)
    for asking in (
        lambda: words.trace("image_encoder"),
        lambda: words.trace_image_tokens(),
        lambda: words.patch_image_tokens([1]),
        lambda: words.corruption_strength(),
    ):
        with pytest.raises(
            ValueError, match=r"block: the states of 'image_encoder' are the same|corruption: image tok"
        ):
            asking()


def test_everything_follows_noise_on_words(tracer):
    """Curves, grids, maps and readings are of the corrupted runs that hooks give; see also `test_forward`."""
    words = on_words(tracer, 5, samples=3)
    curve = words.noise_curve([0.0, 1.0, 5.0])
    assert curve.scores[0] == pytest.approx(words.clean.score, abs=1e-6)
    np.testing.assert_allclose(curve.corrupted[:, 2], words.corrupted.scores, atol=1e-6)
    slow, clean, noisy = hooked(words)
    trace = words.trace("answer_decoder", "cross_attention")
    states = [[State("answer_decoder", layer, 0, "cross_attention")] for layer in range(6)]
    np.testing.assert_allclose(trace.samples[:, :, 0], slow.patched_scores(states, clean, noisy, "restore"), atol=1e-5)
    module = slow.hf.text_encoder.encoder.layer[2].crossattention
    weights = [slow.run(e, weights=module)[1]["weights"].mean(0) for e in noisy]
    np.testing.assert_allclose(words.attention("question_encoder", 2).corrupted, torch.stack(weights), atol=1e-5)


def test_scaling_by_one_changes_nothing_and_shares_what_is_projected(tracer):
    scaled = tracer.with_corruption(Scale(1.0))
    np.testing.assert_allclose(scaled.corrupted.scores, [tracer.clean.score], atol=1e-6)
    other = scaled.with_corruption(factor=0.2)
    assert scaled.corruption.unit() == other.corruption.unit()
    np.testing.assert_allclose(other.corruption_strength(), 0.8, rtol=1e-5)  # a length, whichever way
    zero = tracer.with_corruption(MeanAblation("zero")).corrupted.scores
    np.testing.assert_allclose(scaled.with_corruption(factor=0).corrupted.scores, zero, atol=1e-6)


def slow_tracer(tracer):
    pixels = tracer.model.processor.image_processor(images=tracer.image, return_tensors="pt")["pixel_values"]
    return Hooked(tracer.model.hf, pixels, tracer.case.bases.question_ids, tracer.case.answer_ids())


@pytest.mark.parametrize("direction", ["restore", "disrupt"])
@pytest.mark.parametrize("with_region", [False, True])
@pytest.mark.parametrize("kind", ["swap", "mean", "zero"])
def test_image_corruptions_equal_hooks(demo, example, kind, with_region, direction):
    region = example.region(8, 8, shape="circle") if with_region else None
    other = examples()[0].image
    corruption = ImageSwap(other, region) if kind == "swap" else MeanAblation(kind, region)
    tracer = Tracer(demo, example.image, example.question, answer=example.answer, corruption=corruption)
    slow = slow_tracer(tracer)
    clean = slow.embeddings()
    goals = {"swap": demo.embed_image(other), "mean": clean.mean(0).expand_as(clean), "zero": torch.zeros_like(clean)}
    hit = torch.ones(65, dtype=torch.bool)
    if with_region:
        hit = torch.cat([torch.tensor([False]), torch.as_tensor(region).flatten()])
    damaged = torch.where(hit[:, None], goals[kind], clean)
    assert tracer.corrupted.scores == pytest.approx([slow.probability(slow.run(damaged)[0])], abs=1e-5)
    state = State("question_encoder", 3, 5, "cross_attention")
    ((exact,),) = slow.patched_scores([[state]], clean, [damaged], direction)
    effect = tracer.patch(state, direction)
    assert effect.score == pytest.approx(exact, abs=1e-5)
    assert np.isnan(effect.stderr)
    assert not tracer.trace().significant.any()


def test_a_swapped_question_equals_hooks(demo, example):
    corruption = QuestionSwap("what color is the square?")
    tracer = Tracer(demo, example.image, example.question, answer=example.answer, corruption=corruption)
    slow = slow_tracer(tracer)
    other = slow_tracer(Tracer(demo, example.image, corruption.question, answer=example.answer))
    assert tracer.corrupted.score == pytest.approx(slow.probability(other.run()[0]), abs=1e-5)
    assert tracer.corrupted.answer == Tracer(demo, example.image, corruption.question).answer
    for state in (
        State("question_encoder", 2, 5),
        State("answer_decoder", 3, 0, "mlp"),
        State("question_encoder", 0, 5, "block_input"),  # other words are embedded there
    ):
        _, clean = slow.run(record=[state])
        exact = slow.probability(other.run(patches=clean)[0])
        assert tracer.patch(state).score == pytest.approx(exact, abs=1e-5)
        _, damaged = other.run(record=[state])
        exact = slow.probability(slow.run(patches=damaged)[0])
        assert tracer.patch(state, "disrupt").score == pytest.approx(exact, abs=1e-5)


def test_a_question_of_another_length_is_refused(demo, example):
    with pytest.raises(ValueError, match=r"question \(of QuestionSwap\): expected 8 tokens .* got 9"):
        Tracer(demo, example.image, example.question, corruption=QuestionSwap("what color is the big square?"))


def test_deterministic_corruptions_are_comparable(example):
    assert ImageSwap(example.image) == ImageSwap(np.asarray(example.image))
    assert ImageSwap(example.image) != ImageSwap(examples()[0].image)
    assert hash(ImageSwap(example.image)) == hash(ImageSwap(example.image))
    assert MeanAblation() == MeanAblation("mean") != MeanAblation("zero")
    assert ImageSwap(example.image).settings()["sha256"] == ImageSwap(example.image).sha256
    with pytest.raises(ValueError, match="to: expected one of"):
        MeanAblation("median")
    with pytest.raises(TypeError, match="image: expected a PIL image"):
        ImageSwap(3)


def test_a_noise_curve_needs_a_factor(demo, example):
    with pytest.raises(ValueError, match="corruption: a noise curve needs GaussianNoise"):
        Tracer(demo, example.image, example.question, corruption=MeanAblation()).noise_curve()


OWN_ONES = [
    GaussianNoise(3.0, "additive", 2, 1, [[True, False]], "patch_embeddings"),
    GaussianNoise(3.0, at="question_embeddings", positions=["circle", 3]),
    Scale(0.5, [[True, False]], "patch_embeddings"),
    ImageSwap(np.zeros((4, 4, 3), np.uint8), [[True, False]], "patch_embeddings"),
    QuestionSwap("what shape is it?"),
    MeanAblation("zero", at="patch_embeddings"),
]


@pytest.mark.parametrize("corruption", OWN_ONES, ids=lambda each: type(each).__name__)
def test_settings_of_earlier_versions_are_read(corruption):
    settings = corruption.settings()
    added = CORRUPTIONS[settings["type"]].added
    old = {name: value for name, value in settings.items() if name not in added}
    assert checked_corruption(old) == settings | added


@given(st.integers(0, 2**32))
def test_settings_from_a_file_are_refused_or_make_a_corruption(seed):
    """Each field on its own, and what one must be where another is so."""
    chance = random.Random(seed)
    swap = ImageSwap(np.zeros((8, 8, 3), np.uint8), region=[[True, False]])
    whole = chance.choice(
        [
            GaussianNoise(2.0, "additive", samples=3, region=[[True, False], [False, True]]),
            GaussianNoise(at="question_embeddings", positions=["circle", 2]),
            Scale(2.0, region=[[True]], at="patch_embeddings"),
            MeanAblation("zero", region=[[False, True]]),
            swap,
            QuestionSwap("is it red?"),
        ]
    ).settings()
    try:
        told = checked_corruption(mutated(json.loads(json.dumps(whole)), chance))
    except (TypeError, ValueError):
        return
    made = from_settings(told, lambda: swap).settings()
    assert checked_corruption(json.loads(json.dumps(made))) == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"positions": ["circle"]},
        {"at": "question_embeddings", "positions": []},
        {"at": "question_embeddings", "positions": [-1]},
        {"at": "question_embeddings", "region": [[True]]},
        {"region": []},
        {"region": [[]]},
        {"region": [[True], [True, False]]},
        {"region": [[False, False]]},
        {"seed": 2**63},
    ],
)
def test_settings_from_a_file_that_make_no_corruption_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"^(corruption\.)?{[*wrong][-1]}: "):
        checked_corruption(GaussianNoise().settings() | wrong)


@pytest.mark.parametrize("corruption", OWN_ONES, ids=lambda each: type(each).__name__)
def test_every_corruption_of_ours_stands_in_the_one_table(corruption):
    settings = corruption.settings()
    assert checked_corruption(settings) == settings
    assert from_settings(settings, lambda: corruption) == corruption
    own = CORRUPTIONS[settings["type"]]
    assert set(own.fields.values()) == set(settings) - {"type", "region", "sha256"}
    assert own.has_region == ("region" in settings)


def test_every_name_of_a_corruption_is_one_of_ours():
    assert set(CORRUPTIONS) == set(get_args(CorruptionName)) == {type(each).__name__ for each in OWN_ONES}


def own(given, samples=6):
    """A corruption of one's own that gives something as its delta."""

    class Own(Corruption):
        def delta(self, embeddings, model, part=slice(None)):
            return given(embeddings, len(range(*part.indices(samples))))

    made = Own()
    made.samples = samples
    return made


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (lambda e, _n: (e.flip(1) - e)[None], ValueError, r"shape \(6, .*got \(1, "),
        (lambda e, n: (e.flip(1) - e).expand(n + 1, -1, -1), ValueError, r"got \(7, "),
        (lambda e, n: e[:1].expand(n, 1, -1), ValueError, "samples of the part, tokens, width"),
        (lambda e, _n: e, ValueError, "shape"),
        (lambda e, n: e.expand(n, -1, -1).numpy(), TypeError, "got ndarray"),
        (lambda e, n: e.expand(n, -1, -1).long(), TypeError, "torch.int64"),
        (lambda _e, _n: None, TypeError, "got NoneType"),
    ],
)
def test_a_delta_of_ones_own_that_is_none_is_refused(small, picture, given, error, text):
    tracer = Tracer(small, picture, "what is red?", "blue", corruption=own(given))
    assert "Own" in repr(tracer)
    for use in (lambda: tracer.corrupted, tracer.trace, tracer.corruption_strength):
        with pytest.raises(error, match=text):
            use()


def test_a_right_delta_of_ones_own_is_taken(small, picture):
    tracer = Tracer(small, picture, "what is red?", "blue", corruption=own(lambda e, n: -e.expand(n, -1, -1)))
    assert tracer.corrupted.scores.size == 6
    assert tracer.corrupted.score == pytest.approx(tracer.with_corruption(MeanAblation(to="zero")).corrupted.score)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_a_region_may_be_lists_of_single_truths_of_any_library(kind):
    mask = kind([[True, False], [False, True]])
    assert GaussianNoise(region=[list(row) for row in mask]).region == ((True, False), (False, True))
