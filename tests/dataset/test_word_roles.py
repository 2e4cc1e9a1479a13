"""Averages by the role of words: which role a word has, and that averages take it."""

import numpy as np
import pytest

from blip_trace_widget import TraceWidget, demo_samples, word_roles
from blip_trace_widget.dataset.alignment import align_tokens
from blip_trace_widget.dataset.word_roles import OTHER, ROLES, is_listed

SHORT = {"q": "question word", "a": "attribute", "n": "noun", "v": "verb", "o": "other"}
#: Questions as the published data sets have them, and the role of each word.
PUBLISHED = {
    "what is the color of the dog ?": "q v o n o o n o",  # COCO-QA
    "how many people are walking with two red umbrellas ?": "q q n v v o a a n o",
    "what is the man riding on the beach ?": "q v o n v o o n o",
    "where is the cat sitting ?": "q v o n v o",
    "is the number of large metal things equal to the number of tiny green balls ?": (  # CLEVR
        "v o n o a a n o o o n o a a n o"
    ),
    "are there fewer brown rubber cylinders than shiny spheres ?": "v o o a a n o a n o",
    "there is a small cube left of the yellow block ; what size is it ?": "o v o a n o o o a n o q n v o o",
    "is the traffic light green ?": "v o n n a o",  # VQA
    "what color is the light blue circle ?": "q n v o a a n o",  # the built-in model
    "is this person feeling happy or sad ?": "v o n v a o a o",  # expressions of faces
    "is the child jumping ?": "v o n v o",  # SVO-Probes
    "is this a rusty fence ?": "v o o a n o",  # MIT-States
}


@pytest.mark.parametrize(("question", "roles"), PUBLISHED.items())
def test_words_of_published_questions_have_their_role(question, roles):
    assert word_roles(question.split()) == tuple(SHORT[role] for role in roles.split())


def test_pieces_have_the_role_of_their_word_and_special_tokens_their_own():
    tokens = ("[CLS]", "how", "many", "skate", "##board", "##s", "are", "stand", "##ing", "?", "[SEP]")
    assert word_roles(tokens) == (
        *("special token", "question word", "question word", "noun", "noun", "noun"),
        *("verb", "verb", "verb", "other", "special token"),
    )
    assert word_roles(("[DEC]", "light", "blue")) == ("start token", "answer", "answer")
    assert word_roles(("[CLS]", "0,0", "0,1")) == ("special token", "image patch", "image patch")
    assert word_roles(()) == ()


def test_an_unlisted_word_is_a_noun_or_by_its_ending_a_verb():
    assert word_roles(("gruffalo", "galumphing", "12", "...")) == ("noun", "verb", "attribute", "other")
    assert not is_listed("gruffalo")
    assert is_listed("Walking")


def test_of_the_built_in_model_s_questions_only_nouns_are_guessed_and_a_third_is_other():
    words = [word for sample in demo_samples(400) for word in sample.question.replace("?", " ?").split()]
    roles = word_roles(words)
    shares = {role: roles.count(role) / len(roles) for role in set(roles)}
    guessed = {word.removesuffix("s") for word in words if not is_listed(word)}
    assert guessed == {"circle", "heart", "image", "object", "part", "square", "star", "triangle"}
    assert shares["other"] == pytest.approx(0.36, abs=0.03)  # "the", "?", "in", "of"
    assert {"question word", "attribute", "noun", "verb"} < shares.keys()


def test_roles_come_in_one_order_and_only_those_that_occur():
    nouns_first = [("circle", "is", "what"), ("[CLS]", "red", "?")]
    assert align_tokens(nouns_first, "words")[0] == (
        *("question word", "attribute", "noun", "verb", "other", "special token"),
    )
    assert align_tokens(nouns_first[:1], "words")[0] == ("question word", "noun", "verb")
    assert set(ROLES) >= {OTHER}


def test_averages_groups_and_widgets_take_words(dataset):
    mean = dataset.mean("words")
    own = dataset.mean(word_roles)
    for role in mean.roles:
        at, other = mean.roles.index(role), own.roles.index(role)
        np.testing.assert_array_equal(mean.indirect_effect[:, at], own.indirect_effect[:, other])
        assert mean.samples[at] == own.samples[other]
    # By hand: every verb of a question first, then every question.
    cells = dataset.to_dataframe().query("block == 'question_encoder' and layer == 4")
    verbs = cells[cells["token"].map(lambda token: word_roles([token])[0] == "verb")]
    expected = verbs.groupby("sample")["indirect_effect"].mean().mean()
    assert mean.indirect_effect[4, mean.roles.index("verb")] == pytest.approx(expected)
    assert dataset.mean("words", "answer_decoder").roles == ("start token", "answer")
    for group in dataset.groups:
        roles = dataset.mean("words", group=group).roles
        assert list(roles) == [role for role in ROLES if role in roles]
    compared = dataset.compare("color", "number", align="words")
    assert "question word" in compared.roles
    assert len(dataset.plot("words")) == len(dataset.grids)
    widget = TraceWidget.from_dataset(dataset, align="words")
    assert tuple(widget.grid["tokens"]) == mean.roles
    widget.close()
