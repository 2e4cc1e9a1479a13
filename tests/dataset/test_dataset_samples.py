"""The readers: published files as they are, tables of one's own, scenes without end."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from blip_trace_widget import Sample, demo_samples, read_clevr, read_coco_qa, read_questions
from blip_trace_widget.dataset.samples import as_samples

COCO = """,train_image_id_count,question_count,answer_count
0,23004,what is the color of the horses,brown
1,220218,"what is the color of the character, and why",purple
7,23004,where is the saddle,null
"""
CLEVR = """,Image_IDs,Questions_Answers
0,CLEVR_val_000145,"[{'question': 'Is the large red cylinder right of the small green sphere?', 'answer': 1}, \
{'question': 'Is the small cube behind the sphere?', 'answer': 0}]"
1,CLEVR_val_000187,"[{'question': 'Is the cube in front of the sphere?', 'answer': 1}]"
"""


@pytest.fixture
def files(tmp_path):
    """A folder of pictures, and a way to write a file of questions."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = ("000000023004.jpg", "000000220218.jpg", "CLEVR_val_000145.png", "CLEVR_val_000187.png")
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)

    def write(name, text):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return folder, write


def test_coco_qa_is_read_as_it_is_published(files):
    folder, write = files
    read = read_coco_qa(write("color_coco_qa.csv", COCO), images=folder)
    assert [sample.question for sample in read][1] == "what is the color of the character, and why"
    assert read[0] == Sample(
        folder / "000000023004.jpg", "what is the color of the horses", "brown", None, "color/0", "color"
    )
    assert read[2].id == "color/7"
    assert read[2].answer == "null"  # a word, no missing value
    assert {sample.group for sample in read_coco_qa(write("mine.csv", COCO), folder)} == {""}
    assert read_coco_qa(write("mine.csv", COCO), folder, group="mine")[0].group == "mine"
    assert [sample.group for sample in read_coco_qa(write("location_coco_qa.csv", COCO), folder)] == ["location"] * 3


def test_clevr_is_read_as_it_is_published(files):
    folder, write = files
    read = read_clevr(write("clevr.csv", CLEVR), folder)
    assert [(Path(sample.image).name, sample.answer, sample.group, sample.id) for sample in read] == [
        ("CLEVR_val_000145.png", "yes", "right of", "CLEVR_val_000145/0"),
        ("CLEVR_val_000145.png", "no", "behind", "CLEVR_val_000145/1"),
        ("CLEVR_val_000187.png", "yes", "in front of", "CLEVR_val_000187/0"),
    ]


def test_a_format_is_told_by_its_columns(files):
    folder, write = files
    assert read_questions(write("color.csv", COCO), folder) == read_coco_qa(write("color.csv", COCO), folder)
    assert read_questions(write("clevr.csv", CLEVR), folder) == read_clevr(write("clevr.csv", CLEVR), folder)
    own = "image,question,answer,id\n000000023004.jpg,what?,,a\n000000220218.jpg,who?,a cat,\n"
    first, second = read_questions(write("own.csv", own), folder)
    assert (first.answer, first.id) == (None, "a")
    assert (second.answer, second.id) == ("a cat", "1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "lacks the columns"),
        (COCO.replace("23004", "../23004"), "COCO image id"),
        (COCO.replace("23004", "²3"), "COCO image id"),
        ("a\xff", "lacks the columns"),
        (COCO.replace('"what is the color of the character, and why"', "what, and why"), "row 2 has 5 values.*quotes"),
        (COCO.replace('and why"', "and why"), "no table of comma-separated values"),
    ],
)
def test_a_file_of_another_format_is_refused(files, text, told):
    folder, write = files
    with pytest.raises(ValueError, match=told) as refusal:
        read_coco_qa(write("color.csv", text), folder)
    assert "csv" in str(refusal.value)


@pytest.mark.parametrize(
    "listed",
    ["[{'question': 'a'}]", "__import__('os').system('touch /tmp/x')", "[{'question': 'a', 'answer': 2}]", "(" * 500],
)
def test_nothing_in_a_clevr_file_is_executed(files, listed):
    folder, write = files
    table = pd.DataFrame({"Image_IDs": ["CLEVR_val_000145"], "Questions_Answers": [listed]})
    path = write("clevr.csv", table.to_csv())
    with pytest.raises(ValueError, match="should be a list of"):
        read_clevr(path, folder)


def test_names_of_files_do_not_leave_the_folder(files):
    folder, write = files
    (folder.parent / "secret.png").write_bytes(b"")
    with pytest.raises(ValueError, match="names of files in the folder"):
        read_questions(write("own.csv", "image,question\n../secret.png,what?\n"), folder)


def test_missing_pictures_are_told_before_anything_is_computed(files):
    folder, write = files
    path = write("color.csv", COCO.replace("220218", "5"))
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures.*000000000005\.jpg.*missing='skip'"):
        read_coco_qa(path, folder)
    assert len(read_coco_qa(path, folder, missing="skip")) == 3
    with pytest.raises(ValueError, match="missing"):
        read_coco_qa(path, folder, missing="ignore")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_coco_qa(path, folder / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_coco_qa(folder / "nothing.csv", folder)


def test_only_the_pictures_of_those_that_are_asked_must_be_there(files):
    folder, write = files
    path = write("color.csv", COCO.replace("220218", "5"))
    assert [sample.id for sample in read_questions(path, folder, limit=1)] == ["color/0"]
    assert len(read_clevr(write("clevr.csv", CLEVR), folder, limit=1)) == 1
    with pytest.raises(ValueError, match="limit: expected 1 or more"):
        read_coco_qa(path, folder, limit=0)


def test_samples_come_in_many_shapes():
    picture = Image.new("RGB", (4, 4))
    table = pd.DataFrame({"image": [picture] * 2, "question": ["a", "b"], "answer": [np.nan, "x"], "group": [1, 2]})
    first, second = as_samples(table)
    assert (first.answer, first.id, first.group) == (None, "0", "1")
    assert (second.answer, second.id, second.group) == ("x", "1", "2")
    given = [(picture, "a"), {"image": picture, "question": "b", "id": 12}, Sample(picture, "c", 3, id="z")]
    assert [(sample.question, sample.answer, sample.id) for sample in as_samples(iter(given))] == [
        ("a", None, "0"),
        ("b", None, "12"),
        ("c", "3", "z"),
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("questions.csv", "an iterable of"),
        (3, "an iterable of"),
        ([("a",)], "number 0 should be"),
        ([("a", "b"), 3], "number 1 should be"),
        ([{"image": 1}], "image and question must be there"),
        ([{"image": 1, "question": "a", "anwser": "b"}], "anwser"),
        (pd.DataFrame({"image": [1]}), r"lacks the columns \['question'\]"),
    ],
)
def test_samples_of_no_such_shape_are_refused(given, told):
    with pytest.raises((TypeError, ValueError), match=told):
        list(as_samples(given))


def test_scenes_are_drawn_without_end_and_always_the_same():
    few, more = list(demo_samples(6)), list(itertools.islice(demo_samples(10**9), 12))
    assert len(demo_samples(10**9)) == 10**9
    for one, other in zip(few, more, strict=False):
        assert one[1:] == other[1:]
        assert one.image.tobytes() == other.image.tobytes()
    assert [sample.group for sample in more] == ["color", "object", "number", "location"] * 3
    assert [sample.question for sample in demo_samples(6, seed=1)] != [sample.question for sample in few]
    with pytest.raises(ValueError, match="n: expected 1 or more"):
        demo_samples(0)
