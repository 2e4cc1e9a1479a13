"""Semantic minimal pairs of the built-in model: one attribute or one word apart, both answers right."""

import itertools
import random
import re

import numpy as np
import pytest

from blip_trace_widget import BlipVqa, demo_samples
from blip_trace_widget.demo.pairs import PATCHES, image_pair, question_pair, tokens
from blip_trace_widget.demo.questions import KINDS, NUMBERS, answers
from blip_trace_widget.demo.scenes import COLORS, SHAPES, coverage, overlap

MANY = [(number, KINDS[number % len(KINDS)]) for number in range(240)]


def asked_of(question, scene):
    """The right answer, found anew from the question's words alone."""
    text = question.replace("light blue", "light-blue")
    words = re.findall(r"[a-z-]+", text)
    color = next((word.replace("-", " ") for word in words if word.replace("-", " ") in COLORS), None)
    shape = next((word.removesuffix("s") for word in words if word.removesuffix("s") in SHAPES), None)
    fitting = [each for each in scene.objects if color in (None, each.color) and shape in (None, each.shape)]
    if "how many" in text or "number" in words:
        return NUMBERS[len(fitting) - 1], fitting
    (named,) = fitting  # one alone is meant
    if "where" in words or "position" in words or "part" in words:
        return named.place, fitting
    return (named.shape if color else named.color), fitting


def touched(items):
    return sum(coverage(item.box, PATCHES, PATCHES) for item in items) > 0


@pytest.mark.parametrize(("number", "kind"), MANY[:8])
def test_a_pair_is_the_same_for_one_seed(number, kind):
    for pair in (image_pair, question_pair):
        assert pair(random.Random(number), kind) == pair(random.Random(number), kind)
        assert pair(random.Random(number), kind) != pair(random.Random(number + 1), kind)


def test_scenes_of_a_pair_differ_in_one_attribute_of_one_object():
    for number, kind in MANY:
        pair = image_pair(random.Random(number), kind)
        changed = [
            (one, other)
            for one, other in zip(pair.scene.objects, pair.other_scene.objects, strict=True)
            if one != other
        ]
        ((one, other),) = changed
        assert pair.scene.background == pair.other_scene.background
        attributes = {name for name in ("shape", "color", "place") if getattr(one, name) != getattr(other, name)}
        assert len(attributes) == 1
        assert attributes == {{"color": "color", "object": "shape", "location": "place"}.get(kind, *attributes)}
        right, named = asked_of(pair.question, pair.scene)
        assert (pair.answer, pair.foil) == (right, asked_of(pair.question, pair.other_scene)[0])
        assert one in named
        np.testing.assert_array_equal(pair.region, touched([one]))
        rest = [each for each in pair.other_scene.objects if each is not other]
        assert not any(overlap(other.box, each.box) or other.place == each.place for each in rest)
        assert 0 <= min(other.box) < max(other.box) <= 1


def test_questions_of_a_pair_differ_in_one_word():
    for number, kind in MANY:
        pair = question_pair(random.Random(number), kind)
        words = [
            (one, other)
            for one, other in zip(pair.question.split(), pair.other_question.split(), strict=True)
            if one != other
        ]
        assert len(words) == 1
        right, named = asked_of(pair.question, pair.scene)
        assert (pair.answer, pair.foil) == (right, asked_of(pair.other_question, pair.scene)[0])
        np.testing.assert_array_equal(pair.region, touched(named))


def test_answers_and_questions_of_a_pair_have_as_many_tokens():
    model = BlipVqa.demo()
    assert model.grid == (PATCHES, PATCHES)
    for word in itertools.chain.from_iterable(map(answers, KINDS)):
        assert len(model.answer_ids("answer", word)) == tokens(word)
    for number, kind in MANY:
        pairs = [make(random.Random(number), kind) for make in (image_pair, question_pair)]
        for pair in pairs:
            assert pair.answer != pair.foil
            assert len(model.answer_ids("answer", pair.answer)) == len(model.answer_ids("foil", pair.foil))
        assert len(model.question_ids(pairs[1].question)) == len(model.question_ids(pairs[1].other_question))


@pytest.mark.parametrize("pairs", ["image", "question"])
def test_samples_have_what_their_pairs_have(pairs):
    few, more = list(demo_samples(4, pairs=pairs)), list(itertools.islice(demo_samples(10**9, 0, pairs), 8))
    assert [sample.group for sample in more] == [*KINDS, *KINDS]
    assert [sample.id for sample in more] == list(map(str, range(8)))
    for one, other in zip(few, more, strict=False):
        assert one.image.tobytes() == other.image.tobytes()
        assert one._replace(image=0, other_image=0) == other._replace(image=0, other_image=0)
        assert (one.other_image is None) == (pairs == "question")
        assert (one.other_question is None) == (pairs == "image")
        assert one.foil != one.answer
    assert {next(iter(demo_samples(1, seed, pairs=pairs))).question for seed in range(9)} != {few[0].question}


def test_other_pairs_are_refused():
    with pytest.raises(ValueError, match=r"pairs: expected one of \['image', 'question'\], got 'sound'"):
        demo_samples(1, pairs="sound")
    with pytest.raises(TypeError, match="pairs: expected one of"):
        demo_samples(1, pairs=True)
