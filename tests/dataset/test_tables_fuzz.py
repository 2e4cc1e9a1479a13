"""Random tables: whatever is in them, they are read, or refused in our words; and no row of them ends a run."""

import csv
import io
import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from blip_trace_widget import GaussianNoise, Sample, read_clevr, read_coco_qa, read_questions, trace_dataset
from blip_trace_widget.dataset.samples import as_samples

#: Examples of each kind: in every run, and in the slow one, 20000 where the environment says so.
FEW, MANY = 200, int(os.environ.get("BLIP_TRACE_MUTATIONS", "800"))
OURS = re.compile(r"(samples|csv|images|image|question|answer|foil|missing|limit)\b")
FIELDS = [*Sample._fields, "train_image_id_count", "question_count", "answer_count", "Image_IDs", "Questions_Answers"]


@some.composite
def names(draw):
    """Names that are ours, nearly ours, or anything."""
    name = draw(some.sampled_from(FIELDS))
    change = draw(some.integers(0, 7))
    at = draw(some.integers(0, len(name)))
    if change == 1:
        return name.upper()
    if change == 2:
        return f"{name[:at]} {name[at:]}"
    if change == 3:
        return name[:at] + name[at + 1 :]
    if change == 4:
        return name[:at] + draw(some.characters(codec="utf-8")) + name[at:]
    if change == 5:
        return draw(some.text(max_size=5))
    return name


WORDS = some.sampled_from(["red", "Blue.", "what is it?", "a.png", "", " ", "7", "7.0", "None", "nan", "yes", "[SEP]"])
ODD = some.sampled_from(
    ["☃", "\ufeff", "\u200b", "['red', 'red']", "['a' 'b']", "[1,", "{'answer': 'red'}", "[]", '"', "\0"]
)
TEXTS = some.one_of(WORDS, ODD, some.text(max_size=8))
NUMBERS = some.one_of(some.integers(), some.floats(), some.booleans(), some.decimals(), some.complex_numbers())
NUMPY = some.one_of(
    some.floats().map(np.float64),
    some.integers(-99, 99).map(np.int8),
    some.just(np.datetime64("NaT")),
    TEXTS.map(np.str_),
)
MISSING = some.sampled_from([None, pd.NA, pd.NaT, float("nan"), np.ma.masked, 10**5000])
PLAIN = some.one_of(TEXTS, TEXTS, NUMBERS, NUMPY, MISSING, some.binary(max_size=4))
CELLS = some.one_of(
    PLAIN,
    some.lists(PLAIN, max_size=3),
    some.lists(PLAIN, max_size=3).map(tuple),
    some.lists(TEXTS, max_size=10).map(np.array),
    some.dictionaries(some.sampled_from(["answer", "Answer", "id", 3]), PLAIN, max_size=2),
    some.frozensets(some.integers(), max_size=2),
)


@some.composite
def tables(draw):
    """Names and rows."""
    heads = draw(some.lists(names(), max_size=6))
    if draw(some.booleans()):
        heads = ["image", "question", *heads]
    return heads, draw(some.lists(some.tuples(*[CELLS] * len(heads)), max_size=4))


@some.composite
def files(draw):
    """Text files in all sorts of encodings, some of them broken."""
    heads, rows = draw(
        some.tuples(some.lists(names(), max_size=5), some.lists(some.lists(TEXTS, max_size=8), max_size=4))
    )
    if draw(some.booleans()):
        heads = ["image", "question", *heads]
        rows = [(["a.png", "what?", *row] + [""] * len(heads))[: len(heads)] for row in rows]
    text = io.StringIO()
    written = csv.writer(
        text,
        delimiter=draw(some.sampled_from(",;\t|")),
        lineterminator=draw(some.sampled_from(["\n", "\r\n", "\r"])),
        quoting=draw(some.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    written.writerows([heads, *rows])
    encoding = draw(some.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-32"]))
    content = text.getvalue().encode(encoding, "replace")
    at = draw(some.integers(0, len(content)))
    broken = draw(some.sampled_from(["", "", "cut", "byte"]))
    if broken:
        content = content[:at] + (draw(some.binary(min_size=1, max_size=2)) + content[at:] if broken == "byte" else b"")
    return content


def _read_or_refused(read):
    """Read: all of it samples with texts for names, or nothing, where it was refused in our words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            found, refusal = list(read()), ""
        except (ValueError, TypeError, OSError) as error:
            found, refusal = [], str(error)
    assert found or not refusal or OURS.match(refusal), refusal
    for sample in found:
        assert isinstance(sample, Sample)
        assert isinstance(sample.id, str)
        assert isinstance(sample.group, str)


def _as_given(table, shape):
    heads, rows = table
    if shape == "DataFrame":
        columns = {number: [row[number] for row in rows] for number in range(len(heads))}
        return pd.DataFrame({number: pd.Series(cells, dtype=object) for number, cells in columns.items()}).set_axis(
            heads, axis=1
        )
    if shape == "tuples":
        return rows
    return [dict(zip(heads, row, strict=True)) for row in rows]


def _read_table(table, shape):
    _read_or_refused(lambda: as_samples(_as_given(table, shape)))


def _read_file(folder, content, reader):
    (folder / "color.csv").write_bytes(content)
    _read_or_refused(lambda: reader(folder / "color.csv", folder, missing="skip"))


SHAPES = some.sampled_from(["DataFrame", "mappings", "tuples"])
READERS = some.sampled_from([read_questions, read_questions, read_coco_qa, read_clevr])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a picture."""
    made = tmp_path_factory.mktemp("fuzz")
    Image.new("RGB", (4, 4)).save(made / "a.png")
    return made


@given(tables(), SHAPES)
@settings(max_examples=FEW, deadline=None)
def test_a_random_table_is_read_or_refused(table, shape):
    _read_table(table, shape)


@given(content=files(), reader=READERS)
@settings(max_examples=FEW, deadline=None)
def test_a_random_file_is_read_or_refused(folder, content, reader):
    _read_file(folder, content, reader)


@pytest.mark.slow
@given(tables(), SHAPES)
@settings(max_examples=MANY, deadline=None)
def test_many_tables(table, shape):
    _read_table(table, shape)


@pytest.mark.slow
@given(content=files(), reader=READERS)
@settings(max_examples=MANY, deadline=None)
def test_many_files(folder, content, reader):
    _read_file(folder, content, reader)


ROWS = some.tuples(some.one_of(WORDS, CELLS), *[some.one_of(WORDS, CELLS)] * 4)


@given(rows=some.lists(ROWS, min_size=20, max_size=20), only_correct=some.booleans())
@settings(max_examples=5, deadline=None)
def test_no_row_ends_a_run(tmp_path_factory, small, picture, rows, only_correct):
    samples = [(picture, *row) for row in rows] + [(picture, "what is it?")]
    found = trace_dataset(
        samples,
        small,
        tmp_path_factory.mktemp("run") / "out",
        "answer_decoder",
        corruption=GaussianNoise(samples=2),
        only_correct=only_correct,
        progress=False,
    )
    assert found.counts["given"] == 21
    skipped = found.samples[~found.samples["traced"]]
    assert skipped["why"].str.len().min() > 0
    again = trace_dataset(
        samples,
        small,
        found.folder,
        "answer_decoder",
        corruption=GaussianNoise(samples=2),
        only_correct=only_correct,
        progress=False,
    )
    assert again.counts == found.counts
