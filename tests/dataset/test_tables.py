"""Tables of other people: names of columns, encodings, delimiters, ids, and answers of every kind."""

import csv
import decimal
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from blip_trace_widget import (
    DatasetTrace,
    GaussianNoise,
    QuestionSwap,
    Sample,
    Tracer,
    TraceWidget,
    demo_samples,
    read_coco_qa,
    read_questions,
    trace_dataset,
)
from blip_trace_widget.__main__ import main
from blip_trace_widget.dataset import answers
from blip_trace_widget.dataset.batch import UNANSWERED, UNUSABLE, WRONG
from blip_trace_widget.dataset.samples import as_samples

NOISE = GaussianNoise(samples=2)


class HuggingFaceData:
    """What `datasets.Dataset` looks like from outside."""

    def __init__(self, rows, features=None):
        self._rows = rows
        self.features = features or dict.fromkeys(rows[0])
        self.column_names = list(rows[0])

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return iter(self._rows)


class ClassLabel:
    """What `datasets.ClassLabel` looks like: names that are kept as numbers."""

    names = ("red", "blue")

    def int2str(self, value):
        return self.names[value]


@pytest.fixture
def folder(tmp_path):
    """A folder with one picture."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    return tmp_path


def _as_csv(row, folder):
    path = folder / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(row), list(row.values())])
    return list(read_questions(path, folder))


#: One row of a table, in each of the shapes that a table can have.
SHAPES = {
    "csv": _as_csv,
    "DataFrame": lambda row, _: list(as_samples(pd.DataFrame([row]))),
    "mapping": lambda row, _: list(as_samples([row])),
    "Hugging Face": lambda row, _: list(as_samples(HuggingFaceData([row]))),
}
every_shape = pytest.mark.parametrize("read", SHAPES.values(), ids=SHAPES)


# --- names of columns ------------------------------------------------------------------------------------------------


@every_shape
@pytest.mark.parametrize("name", ["Answer", " answer", "ANSWER ", "\ufeffanswer", "an swer", "answers", "Answers"])
def test_a_column_is_known_without_case_and_spaces(folder, read, name):
    (sample,) = read({"Image": "a.png", "QUESTION ": "what?", name: "red", "ID": "x", " Group": "g"}, folder)
    assert (sample.question, sample.answer, sample.id, sample.group) == ("what?", "red", "x", "g")


@every_shape
def test_a_pair_is_read_from_every_table(folder, read):
    pair = {
        "Other_Image": "a.png",
        "other question": " who? ",
        "foil": "blue",
        "REGION": [[True, False], [False, True]],
    }
    (sample,) = read({"image": "a.png", "question": "what?", **pair}, folder)
    assert str(sample.other_image).endswith("a.png")
    assert (sample.other_question, sample.foil) == ("who?", "blue")
    assert sample.region == ((True, False), (False, True))
    with pytest.raises(ValueError, match="'other_images' is nearly 'other_image'"):
        read({"image": "a.png", "question": "what?", "other_images": "a.png"}, folder)


@every_shape
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("anwser", "answer"),
        ("anser", "answer"),
        ("correct_answer", "answer"),
        ("correctAnswer", "answer"),
        ("foils", "foil"),
        ("groups", "group"),
        ("ids", "id"),
    ],
)
def test_what_is_nearly_a_column_is_refused_with_the_name_that_was_meant(folder, read, name, meant):
    with pytest.raises(ValueError, match=f"'{name}' is nearly '{meant}': call it so"):
        read({"image": "a.png", "question": "what?", name: "red"}, folder)


@every_shape
@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"image": "a.png", "questions": "what?"},
            r"lacks the columns \['question'\].*'questions' is nearly 'question'",
        ),
        ({"img": "a.png", "question": "what?"}, r"lacks the columns \['image'\].*'img' is nearly 'image'"),
        ({"image_path": "a.png", "question": "what?"}, "'image_path' is nearly 'image'"),
        ({"image": "a.png", "question": "a", "Question": "b"}, "has 2 columns for 'question'"),
        ({"image": "a.png", "question": "a", "answer": "b", "ANSWER": ""}, "has 2 columns for 'answer'"),
        ({"a": "b"}, r"lacks the columns \['image', 'question'\]"),
    ],
)
def test_columns_that_are_missing_or_doubled_are_refused(folder, read, row, told):
    with pytest.raises(ValueError, match=told):
        read(row, folder)


def test_a_doubled_column_is_refused_in_a_dataframe_and_a_file(folder):
    table = pd.DataFrame([["a.png", "what?", "who?"]], columns=["image", "question", "question"])
    with pytest.raises(ValueError, match="has 2 columns for 'question'"):
        as_samples(table)
    (folder / "table.csv").write_text(table.to_csv(index=False))
    with pytest.raises(ValueError, match="has 2 columns for 'question'"):
        read_questions(folder / "table.csv", folder)


@every_shape
def test_other_columns_are_listed_once(folder, read):
    row = {"image": "a.png", "question": "what?", "answer": "red", "question_id": "7", "mood": "good"}
    with pytest.warns(UserWarning, match=r"not used: \['question_id', 'mood'\]; known are") as told:
        (sample,) = read(row, folder)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert (sample.answer, sample.id) == ("red", "0")


def test_of_many_rows_each_other_key_is_told_once():
    row = {"image": 1, "question": "a"}
    with pytest.warns(UserWarning, match="not used") as told:
        list(as_samples([row | {"mood": 1}, row, row | {"mood": 2}, row | {"mood": 1, "light": 2}]))
    assert [str(each.message).split(";")[0].rpartition("used: ")[2] for each in told] == ["['mood']", "['light']"]


def test_the_column_of_numbers_that_pandas_writes_is_no_other_column(folder):
    path = folder / "table.csv"
    path.write_text(pd.DataFrame({"image": ["a.png"], "question": ["what?"]}).to_csv())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_questions(path, folder)) == 1


def test_names_of_classes_are_no_numbers():
    rows = [{"image": 1, "question": "a", "answer": 1}, {"image": 1, "question": "a", "answer": None}]
    given = HuggingFaceData(rows, {"image": None, "question": None, "answer": ClassLabel()})
    assert [sample.answer for sample in as_samples(given)] == ["blue", None]


def test_published_columns_are_known_without_case_too(folder):
    Image.new("RGB", (4, 4)).save(folder / "000000000007.jpg")
    path = folder / "color.csv"
    path.write_bytes("Train_Image_ID_count;question_count ;ANSWER_count;\n7;what, and why?;größer;\n".encode("cp1252"))
    for reader in (read_questions, read_coco_qa):
        with pytest.warns(UserWarning, match="csv: ") as told:
            (sample,) = reader(path, folder)
        assert ["was read as cp1252" in str(each.message) for each in told] == [True, False]
        assert "not used: ['']" in str(told[1].message)
        assert sample[1:6] == ("what, and why?", "größer", None, "color/0", "color")


# --- files -----------------------------------------------------------------------------------------------------------

TEXT = 'image,question,answer\r\na.png,"wo ist das, Käthe?\nHier?",größer\r\n'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_and_delimiters_are_recognised(folder, delimiter, end, encoding):
    path = folder / "table.csv"
    lines = ["image,question,answer", 'a.png,"Käthe, 1;2\t3"" oder\n4?",größer', ",,", ""]
    text = end.join(line.replace(",", delimiter) if "Käthe" not in line else line for line in lines)
    text = text.replace("a.png,", f"a.png{delimiter}").replace(",größer", f"{delimiter}größer")
    path.write_bytes(text.encode(encoding))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (sample,) = read_questions(path, folder)
    assert (sample.question, sample.answer) == ('Käthe, 1;2\t3" oder\n4?', "größer")
    assert [str(each.message).partition("was read as ")[2][:6] for each in told] == (
        ["cp1252"] * (encoding == "cp1252")
    )


def test_excel_s_line_about_the_delimiter_is_no_header(folder):
    (folder / "table.csv").write_text("sep=;\nimage;question\na.png;what?\n")
    assert len(read_questions(folder / "table.csv", folder)) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n", "is empty"),
        (b",,\n", "is empty"),
        (b"image,question\n", "no question in the file"),
        (b"image|question\na.png|what?\n", r"lacks the columns.*image\|question"),
        (b"image,question\na.png,wh\0at?\n", "NUL characters.*save it as UTF-8"),
        (b"image,question\na.png\n", "row 1 has 1 values, expected 2"),
        (b"image;question\na.png;what?;b\n", "row 1 has 3 values, expected 2; a text with ';'"),
        (b"image,question\na.png,\x81\xe4\n", "neither UTF-8, nor UTF-16, nor cp1252.*save it as UTF-8"),
        ("image,question\na.png,é".encode() + b"\xe4\n", "neither UTF-8, nor UTF-16, nor cp1252"),
        (b"\xff\xfeimage", "begins like utf-16, but cannot be read so"),
        (b"image,question\na.png," + b"x" * (csv.field_size_limit() + 1), "no table.*field larger than"),
        (b'image,question\na.png,"x\n', "no table of comma-separated values"),
        (b"image,question\n\xff", "row 1 has 1 values"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*was read as cp1252")
def test_a_file_that_is_no_such_table_is_refused(folder, content, told):
    (folder / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=told) as refusal:
        read_questions(folder / "table.csv", folder)
    assert str(refusal.value).startswith("csv: ")


@pytest.mark.parametrize(
    ("argument", "given"), [("csv", None), ("csv", 3), ("images", None), ("csv", b"a"), ("images", ["a"])]
)
def test_what_is_no_path_is_refused(folder, argument, given):
    (folder / "table.csv").write_text("image,question\na.png,what?\n")
    with pytest.raises(TypeError, match=f"{argument}: expected the path of a f"):
        read_questions(**{"csv": folder / "table.csv", "images": folder, argument: given})


def test_the_shell_warns_in_a_line(folder, capsys):
    next(iter(demo_samples(1))).image.save(folder / "a.png")
    (folder / "table.csv").write_text("image;question;mood\na.png;what is it?;good\n")
    options = ["--images", str(folder), "--out", str(folder / "out"), "--samples", "2", "--only-correct"]
    assert main(["trace", str(folder / "table.csv"), *options]) == 0
    told = capsys.readouterr()
    assert "warning: questions: " in told.err
    assert "not used: ['mood']" in told.err
    assert ".py" not in told.err.partition("warning: ")[2].splitlines()[0]
    assert f"1 sample: 0 traced, 1 skipped: {UNANSWERED}" in told.out


# --- cells -----------------------------------------------------------------------------------------------------------


def test_one_number_is_one_id_however_it_is_written():
    numbers = [7, 7.0, "7", " 7", "7.0", np.int64(7), np.float32(7), np.array(7), torch.tensor(7), decimal.Decimal(7)]
    assert {sample.id for sample in as_samples([(1, "a", None, None, each) for each in numbers])} == {"7"}
    table = pd.DataFrame({"image": [1] * 3, "question": ["a"] * 3, "id": [7, None, 8], "group": [1, None, 2]})
    assert [(sample.id, sample.group) for sample in as_samples(table)] == [("7", "1"), ("1", ""), ("8", "2")]
    others = ["07", 7.5, "7.5", "1.7.0", "a", -7, "v7.0"]
    kept = [sample.id for sample in as_samples([(1, "a", None, None, each) for each in others])]
    assert kept == ["07", "7.5", "7.5", "1.7.0", "a", "-7", "v7.0"]


NOTHING = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, "", " \n", [], (), [None, ""], np.array([])]
RARELY = [
    "[]",
    decimal.Decimal("nan"),
    decimal.Decimal("snan"),
    np.datetime64("NaT"),
    np.ma.masked,
    torch.tensor(np.nan),
]


@pytest.mark.parametrize("nothing", [*NOTHING, *RARELY])
def test_nothing_is_no_answer(nothing):
    (sample,) = as_samples([(1, "a", nothing)])
    assert sample.answer is None


@pytest.mark.parametrize("word", ["None", "nan", "NA", "null", "NaT", "N/A"])
def test_the_word_for_nothing_is_an_answer(folder, word):
    for read in SHAPES.values():
        (sample,) = read({"image": "a.png", "question": "what?", "answer": word}, folder)
        assert sample.answer == word


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.int64(3), "3"),
        (np.float64(3), "3"),
        (torch.tensor(3), "3"),
        (" red ", "red"),
        (["red"], "red"),
        (["red", None, "blue "], ("red", "blue")),
        (np.array(["red", "blue"]), ("red", "blue")),
        (pd.Series([3, 4]).to_numpy(), ("3", "4")),
        ([{"answer": "red", "answer_id": 1}, {"answer": "blue"}], ("red", "blue")),
        ({"answer": ["red", "blue"], "answer_id": [1, 2]}, ("red", "blue")),
        ('["red", "blue"]', ("red", "blue")),
        ("['red', \"it's\"]", ("red", "it's")),
        ("('red', 'blue')", ("red", "blue")),
        ("[{'answer': 'red'}, {'answer': 'red'}]", ("red", "red")),
        ("[red]", "[red]"),
    ],
)
def test_answers_come_in_many_shapes(given, answer):
    assert answers.read(given) == answer
    assert answers.read(answer) == answer


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (True, "got True: write the word"),
        (np.bool_(False), "got False"),
        (2.5, "got 2.5: write it as a text"),
        (float("inf"), "got inf"),
        pytest.param(10**5000, "write it as a text", id="huge"),
        (1j, "got 1j"),
        (b"red", "got bytes"),
        ({"red"}, "got set"),
        ([["red"]], "got list"),
        ({"words": "red"}, r"a mapping of \['words'\]"),
        ("['red' 'blue']", "without a comma"),
        ("[red, blue]", "looks like a list of answers and is none"),
        ("['red', __import__('os')]", "looks like a list of answers and is none"),
        ("['red', True]", "got True"),
        ("[" * 3000 + "'" + "]" * 3000, "looks like a list of answers and is none"),
    ],
)
def test_what_is_no_answer_is_refused(given, told):
    with pytest.raises((TypeError, ValueError), match=told) as refusal:
        answers.read(given)
    assert str(refusal.value).startswith("answer: ")


# --- right or wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Red.", "red"),
        ("red!", " RED"),
        ("the red one", "red 1"),
        ("two", "2"),
        ("none", "0"),
        ("a cat", "cat"),
        ("dont know", "don't know"),
        ("t-shirt", "t shirt"),
        ("yes / no", "yes no"),
        ("1,000", "1000"),
        ("“red”", "red"),
        ("p.m.", "pm"),
        ("red…", "red"),
        ("The", "the"),
    ],
)
def test_case_punctuation_and_the_like_make_no_answer_wrong(one, other):
    assert answers.normalised(one) == answers.normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("red", "blue"), ("2.5", "25"), (".5", "5"), ("the", "a"), ("!", "?"), ("dark red", "red")]
)
def test_other_answers_stay_others(one, other):
    assert answers.normalised(one) != answers.normalised(other)


OF_TEN = [(0, 10, 0), (1, 9, 0.3), (2, 8, 0.6), (3, 7, 0.9), (4, 6, 1), (10, 0, 1)]  # the published evaluation's
OF_FEW = [(1, 0, 1), (0, 1, 0), (1, 1, 1), (1, 2, 1), (0, 3, 0)]


@pytest.mark.parametrize(("same", "others", "accuracy"), [*OF_TEN, *OF_FEW])
def test_several_answers_are_counted_by_vqa_s_rule(same, others, accuracy):
    given = ("Red.",) * same + tuple(f"blue {number}" for number in range(others))
    assert answers.accuracy("red", given) == pytest.approx(accuracy)


def test_of_several_answers_the_commonest_is_scored():
    assert answers.scored(("blue", "Red.", "red", "red")) == "red"
    assert answers.scored(("blue", "red")) == "blue"
    assert answers.scored("“Red.”") == "Red"
    assert answers.scored("U.S.") == "U.S."
    assert answers.scored("?") == "?"
    assert answers.scored(None) is None


def test_only_correct_knows_answers_that_are_missing_or_many(tmp_path, demo):
    good = next(iter(demo_samples(1)))
    own = Tracer(demo, good.image, good.question).answer
    wrong = "light blue" if own != "light blue" else "red"
    given = [
        own,
        f"{own.upper()}.",
        None,
        float("nan"),
        " ",
        [own] * 2 + [wrong] * 8,
        json.dumps([own] + [wrong] * 9),
        [{"answer": own}] * 3 + [{"answer": wrong}],
        True,
        "None",
    ]
    samples = [{"image": good.image, "question": good.question, "Answer": each, "id": 1.0} for each in given]
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, only_correct=True, progress=False)
    reasons = [None if pd.isna(each) else each for each in found.samples["reason"]]
    assert reasons[:5] == [None, None, *[UNANSWERED] * 3]
    assert reasons[6:9] == [WRONG, None, UNUSABLE]
    assert reasons[9] in (WRONG, UNUSABLE)
    assert found.counts[f"skipped: {UNANSWERED}"] == 3
    expected = [1, 1, None, None, None, 0.6, 0.3]
    assert [None if pd.isna(each) else round(each, 3) for each in found.samples["accuracy"][:7]] == expected
    assert found.samples["correct"][:7].tolist() == [True, True, None, None, None, True, False]
    assert json.loads(found.samples["given_answer"][6]) == [own] + [wrong] * 9
    assert set(found.samples["id"]) == {"1"}
    assert found.samples["answer"][5] == wrong if reasons[5] is None else reasons[5] is not UNANSWERED
    np.testing.assert_array_equal(found.trace(0).samples, found.trace(7).samples)  # one id: one noise
    again = trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, only_correct=True, progress=False)
    assert again.counts == found.counts


def test_a_folder_of_an_earlier_version_is_read(tmp_path, demo):
    out = tmp_path / "out"
    trace_dataset(demo_samples(2), demo, out, corruption=NOISE, progress=False)
    path = out / "samples" / "part-000000.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["accuracy", "unknown_words"]), path)
    found = DatasetTrace.load(out)
    assert found.samples["accuracy"].isna().all()
    assert len(trace_dataset(demo_samples(2), demo, out, corruption=NOISE, progress=False)) == 2
    parquet.write_table(parquet.read_table(path).drop_columns(["clean"]), path)
    with pytest.raises(ValueError, match="damaged"):
        DatasetTrace.load(out)
    assert pa.types.is_floating(parquet.read_table(path)["total_effect"].type)


def test_what_an_earlier_version_let_pass_is_computed_again(tmp_path, demo):
    out, samples = tmp_path / "out", [sample._replace(answer=None) for sample in demo_samples(2)]
    asked = {"corruption": NOISE, "progress": False}
    assert trace_dataset(samples, demo, out, **asked).counts["traced"] == 2
    settings = out / "dataset.json"
    settings.write_text(settings.read_text("utf-8").replace('"only_correct": false', '"only_correct": true'), "utf-8")
    found = trace_dataset(samples, demo, out, **asked, only_correct=True)
    assert found.counts == {"given": 2, "traced": 0, f"skipped: {UNANSWERED}": 2}


# --- what the tokenizer cannot say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("\N{SNOWMAN}", "cannot spell"),
        ("red \N{SNOWMAN}", "cannot spell"),
        ("[UNK]", "cannot spell"),
        ("[SEP]", r"without special tokens, .* has \['\[SEP\]'\]"),
        ("[CLS] red", "without special tokens"),
        ("red[PAD]", "without special tokens"),
        ("[MASK]", "without special tokens"),
        ("[DEC] red", "without special tokens"),
    ],
)
def test_an_answer_that_cannot_be_spelled_is_refused(demo, example, tracer, answer, told):
    for name in ("answer", "foil"):
        with pytest.raises(ValueError, match=f"{name}: .*{told}"):
            Tracer(demo, example.image, example.question, **{name: answer})
        with pytest.raises(ValueError, match=f"{name}: .*{told}"):
            tracer.replace(**{name: answer})
        with pytest.raises(ValueError, match=f"{name}: .*{told}"):
            TraceWidget(example.image, example.question, model=demo, **{name: answer})


@pytest.mark.parametrize("question", ["what [SEP] is it?", "[CLS]", "[MASK] what", "what[PAD]", "[DEC]"])
def test_special_tokens_in_a_question_are_refused(demo, example, question):
    for asked in ({"question": question}, {"question": "what?", "corruption": QuestionSwap(question)}):
        with pytest.raises(ValueError, match="question: expected a text without special tokens"):
            Tracer(demo, example.image, **asked).clean


def test_spaces_around_a_text_are_no_part_of_it(demo, example):
    other = QuestionSwap(f" {example.question} ")
    tracer = Tracer(demo, example.image, f" {example.question}\n", " red", " blue", other, "logit_difference")
    assert (tracer.question, tracer.answer, tracer.foil) == (example.question, "red", "blue")
    settings = tracer.trace("answer_decoder").settings
    told = settings["question"], settings["answer"], settings["foil"], settings["corruption"]["question"]
    assert told == (example.question, "red", "blue", example.question)
    foiled = Tracer(demo, example.image, f"{example.question} ", foil=" blue", corruption=NOISE)
    widget = TraceWidget.from_trace(foiled.trace("answer_decoder"))
    assert (widget.question, widget.foil) == (example.question, "blue")
    widget.close()
    live = TraceWidget.from_tracer(foiled)
    live.question = "  what is it? "
    assert live.question == "what is it?"
    live.wait(60)
    assert live.tracer.question == "what is it?"
    live.close()


@pytest.mark.parametrize(
    ("question", "words", "told"),
    [
        ("\N{SNOWMAN} \N{COMET}?", ["\N{SNOWMAN}", "\N{COMET}"], "the model knows no word of it: “☃”, “☄”"),
        ("what is \N{SNOWMAN}?", ["\N{SNOWMAN}"], "the model does not know “☃”"),
        ("what is it?", [], ""),
    ],
)
def test_words_that_the_model_does_not_know_are_told(tmp_path, demo, example, question, words, told):
    tracer = Tracer(demo, example.image, question, "red", corruption=NOISE)
    assert tracer.unknown_words == words
    assert tracer.trace("answer_decoder").settings["unknown_words"] == words
    widget = TraceWidget.from_tracer(tracer)
    widget.wait(60)
    assert widget.runs["gate"]["text"].endswith(told)
    assert ("does not know" in widget.runs["gate"]["text"]) == told.startswith("the model does")
    widget.close()
    sample = Sample(example.image, question, "red")
    found = trace_dataset([sample], demo, tmp_path / "out", corruption=NOISE, progress=False)
    if found.counts["traced"]:
        assert list(found.samples["unknown_words"][0]) == words
