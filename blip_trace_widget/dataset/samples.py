"""What is asked of a data set: pictures with questions, from wherever they come.

For: one shape (`Sample`) for rows of published question files, of tables, and of one's own programs.
Cost: a list of names a file; pictures are opened when their batch is traced, scenes drawn when they are reached.
Ends: at samples. Whether a picture can be read or an answer spelled is `blip_trace_widget.dataset.batch`'s to find out.

Sources: COCO-QA (Ren et al. 2015, arXiv 1505.02074) and CLEVR (Johnson et al. 2017, arXiv 1612.06890), in the files
that Palit et al. 2023 (arXiv 2308.14179) publish with their tool.
"""

from __future__ import annotations

import ast
import csv as csv_files
import math
import numbers
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from blip_trace_widget.sites import one_of, whole_number

if TYPE_CHECKING:
    import pandas as pd

PathLike: TypeAlias = "str | os.PathLike[str]"

#: The columns of COCO-QA's files, and of CLEVR's.
COCO_QA = ("train_image_id_count", "question_count", "answer_count")
CLEVR = ("Image_IDs", "Questions_Answers")
#: What to do about questions whose picture is not there.
MISSING = ("error", "skip")
#: Kinds of COCO-QA's questions, by how the file is called.
COCO_QA_KINDS = ("color", "count", "location", "object", "number")
#: Side of a drawn picture, in pixels.
DRAWN = 128


class Sample(NamedTuple):
    """A picture and a question about it.

    Attributes:
        image: a PIL image, a NumPy array, a path, or the bytes of a picture file.
        question: the question.
        answer: the answer to score; None: the model's own.
        foil: another answer of as many tokens, for ``metric="logit_difference"``.
        id: its name; "" for its number.
        group: what it is to be averaged with, for instance the kind of question.
    """

    image: Any
    question: str
    answer: str | None = None
    foil: str | None = None
    id: str = ""
    group: str = ""


def as_samples(samples: Any) -> Iterator[Sample]:
    """Samples from an iterable of samples, tuples or mappings, or from a pandas DataFrame, one after another.

    Raises:
        TypeError, ValueError: naming what was given and what is accepted; of a single sample when it is reached.
    """
    if hasattr(samples, "columns") and hasattr(samples, "to_dict"):
        samples = _rows(samples)
    if isinstance(samples, (str, bytes, Mapping, Sample)) or not isinstance(samples, Iterable):
        raise TypeError(
            f"samples: expected an iterable of (image, question[, answer, foil, id, group]), a pandas DataFrame, or "
            f"what a reader such as read_coco_qa gives; got {type(samples).__name__}"
        )
    return _cleaned(samples)


def _cleaned(samples: Iterable[Any]) -> Iterator[Sample]:
    for number, given in enumerate(samples):
        sample = _as_sample(number, given)
        name = _text(sample.id)
        yield sample._replace(
            **{name: _text(getattr(sample, name)) for name in ("question", "answer", "foil")},
            id=str(number if name is None else name),
            group=str(_text(sample.group) or ""),
        )


def _as_sample(number: int, given: Any) -> Sample:
    if isinstance(given, Sample):
        return given
    if isinstance(given, Mapping):
        unknown, lacking = set(given) - set(Sample._fields), {"image", "question"} - set(given)
        if unknown or lacking:
            raise ValueError(
                f"samples: number {number} has {sorted(map(str, given))}; accepted are {list(Sample._fields)}, of "
                "which image and question must be there"
            )
        return Sample(**given)
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= len(Sample._fields):
        raise TypeError(
            f"samples: number {number} should be (image, question[, answer, foil, id, group]), "
            f"got {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, (tuple, list)) else "")
        )
    return Sample(*given)


def _rows(table: pd.DataFrame) -> Iterator[Sample]:
    names = [name for name in Sample._fields if name in table.columns]
    lacking = [name for name in ("image", "question") if name not in names]
    if lacking:
        raise ValueError(
            f"samples: the table lacks the columns {lacking}; it has {list(table.columns)}. Accepted are "
            f"{list(Sample._fields)}; for published files see read_coco_qa and read_clevr"
        )
    columns = [table[name] for name in names]
    return (Sample(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))


def _text(value: Any) -> Any:
    """A cell of a table as text; None where it is empty. What is no text stays, for the tracer to refuse."""
    nothing = value is None or type(value).__name__ in ("NAType", "NaTType")
    if nothing or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value):
        return None
    # Whole numbers, NumPy's too.
    if isinstance(value, bool):
        return value
    return str(value) if isinstance(value, numbers.Integral) else value


def read_coco_qa(
    csv: PathLike, images: PathLike, group: str | None = None, missing: str = "error", limit: int | None = None
) -> list[Sample]:
    """Questions in the format of COCO-QA's published files.

    Args:
        csv: columns ``train_image_id_count`` (the COCO train2017 image id), ``question_count``, ``answer_count``.
        images: the folder of the pictures, named by 12 digits: ``000000023004.jpg``.
        group: name of the group; default the kind that the file's name begins with (``color``, ``count``,
            ``location``), else none.
        missing: ``"error"``, or ``"skip"``: questions whose picture is not there end in the table as skipped.
        limit: only the first so many.

    Returns:
        one sample a row; its id is the row's number in the file, behind the group's name: ``color/12``.

    Raises:
        OSError: if the file or the folder cannot be read, or pictures are missing.
        ValueError: naming the argument, what was given and what is accepted; also if columns are missing.
    """
    rows = _rows_of(csv, COCO_QA)
    if group is None:
        group = next((kind for kind in COCO_QA_KINDS if Path(csv).name.lower().startswith(kind)), "")
    before = f"{group}/" if group else ""
    found = [
        Sample(
            _coco_name(row[COCO_QA[0]]), row[COCO_QA[1]], row[COCO_QA[2]], None, before + row.get("", str(at)), group
        )
        for at, row in enumerate(rows)
    ]
    return _with_pictures(found, images, missing, limit)


def read_clevr(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in the format of the CLEVR file that Palit et al. publish.

    Args:
        csv: columns ``Image_IDs`` (``CLEVR_val_000145``) and ``Questions_Answers``, a list of
            ``{'question': ..., 'answer': 1 or 0}``; 1 is read as "yes", 0 as "no".
        images: the folder of the pictures: ``CLEVR_val_000145.png``.
        missing: see `read_coco_qa`.
        limit: only the first so many questions.

    Returns:
        one sample a question, ids ``CLEVR_val_000145/0``, grouped by the relation that is asked for (``"left of"``,
        ``"right of"``, ``"behind"``, ``"in front of"``), else "".

    Raises:
        OSError, ValueError: see `read_coco_qa`.
    """
    found = []
    for row in _rows_of(csv, CLEVR):
        name = row[CLEVR[0]]
        for number, (question, answer) in enumerate(_clevr_questions(name, row[CLEVR[1]])):
            relation = re.search(r"left of|right of|behind|in front of", question)
            group = relation.group() if relation else ""
            found.append(Sample(f"{name}.png", question, answer, None, f"{name}/{number}", group))
    return _with_pictures(found, images, missing, limit)


def read_questions(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in any of the formats, told by the columns: COCO-QA's, CLEVR's, or one's own.

    Args:
        csv: one's own has the columns ``image`` (a file's name in the folder) and ``question``, and may have
            ``answer``, ``foil``, ``id`` and ``group``.
        images: the folder of the pictures.
        missing: see `read_coco_qa`.
        limit: only the first so many.

    Raises:
        OSError, ValueError: see `read_coco_qa`.
    """
    rows = _rows_of(csv, ())
    columns = list(rows[0]) if rows else []
    if set(COCO_QA) <= set(columns):
        return read_coco_qa(csv, images, None, missing, limit)
    if set(CLEVR) <= set(columns):
        return read_clevr(csv, images, missing, limit)
    if not {"image", "question"} <= set(columns):
        raise ValueError(
            f"csv: {os.fspath(csv)!r} has the columns {columns}; expected image and question (and answer, foil, id, "
            f"group), or COCO-QA's {list(COCO_QA)}, or CLEVR's {list(CLEVR)}"
        )
    given = [{name: row[name] for name in Sample._fields if name in row} for row in rows]
    return _with_pictures(list(as_samples(given)), images, missing, limit)


@dataclass(frozen=True)
class DrawnSamples:
    """Scenes of the built-in model with questions about them; see `demo_samples`."""

    n: int
    seed: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Sample]:
        from blip_trace_widget.demo.questions import KINDS, sample
        from blip_trace_widget.demo.scenes import draw

        for number in range(self.n):
            kind = KINDS[number % len(KINDS)]
            drawn = sample(random.Random(f"{self.seed}/{number}"), kind)  # noqa: S311 - nothing is kept secret
            yield Sample(draw(drawn.scene, DRAWN), drawn.question, drawn.answer, None, str(number), kind)


def demo_samples(n: int, seed: int = 0) -> DrawnSamples:
    """Scenes such as the built-in model was trained on, none of which it has seen, with a question about each.

    Args:
        n: how many; each is drawn when it is reached, so any number will do.
        seed: other scenes and questions. Of one seed the first are the same for every `n`.

    Returns:
        samples with the right answers, of the groups ``color``, ``object``, ``number`` and ``location`` in turn.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    return DrawnSamples(whole_number("n", n, 1), whole_number("seed", seed, 0))


def _rows_of(csv: PathLike, needed: Sequence[str]) -> list[dict[str, str]]:
    """A file of comma-separated values, by the names of its columns."""
    path = Path(csv)
    if not path.is_file():
        raise FileNotFoundError(f"csv: no such file: {os.fspath(csv)!r}")
    called = f"csv: {os.fspath(csv)!r}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, *rows = list(csv_files.reader(file, strict=True)) or [[]]
    except (ValueError, csv_files.Error) as error:  # undecodable or badly quoted
        raise ValueError(f"{called} is no table of comma-separated values: {error}") from error
    lacking = [name for name in needed if name not in columns]
    if lacking:
        raise ValueError(
            f"{called} lacks the columns {lacking}; it has {columns}. Expected are {list(needed)}; with columns of "
            "one's own see read_questions"
        )
    for number, row in enumerate(rows, start=1):
        if row and len(row) != len(columns):
            raise ValueError(
                f"{called}: row {number} has {len(row)} values, expected {len(columns)}; a text with a comma needs "
                f"quotes: {row}"
            )
    return [dict(zip(columns, row, strict=True)) for row in rows if row]


def _coco_name(number: str) -> str:
    if not re.fullmatch(r"\d{1,12}", number, re.ASCII):
        raise ValueError(f"csv: {COCO_QA[0]} should be a COCO image id of at most 12 digits, got {number!r}")
    return f"{int(number):012}.jpg"


def _clevr_questions(name: str, listed: str) -> Iterator[tuple[str, str]]:
    try:
        for entry in ast.literal_eval(listed):  # literals alone: nothing in the file is executed
            yield str(entry["question"]), {1: "yes", 0: "no"}[entry["answer"]]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"csv: {CLEVR[1]} of {name} should be a list of {{'question': text, 'answer': 1 or 0}}: {error!r}"
        ) from error


def _with_pictures(samples: list[Sample], images: PathLike, missing: str, limit: int | None) -> list[Sample]:
    """Samples whose pictures are named, with the pictures' paths, all of them directly in the folder."""
    one_of("missing", missing, MISSING)
    few = samples[: None if limit is None else whole_number("limit", limit, 1)]
    folder, names = Path(images), [str(sample.image) for sample in few]
    if not folder.is_dir():
        raise FileNotFoundError(f"images: no such folder: {os.fspath(images)!r}")
    outside = next((name for name in names if Path(name).name != name), None)
    if outside is not None:
        raise ValueError(f"csv: expected names of files in the folder of the pictures, got {outside!r}")
    there = {entry.name for entry in os.scandir(folder)}
    lacking = [name for name in names if name not in there]
    if lacking and missing == "error":
        raise FileNotFoundError(
            f"images: {len(lacking)} of {len(names)} pictures are not in {os.fspath(images)!r}, such as {lacking[0]}. "
            "Put them there, or go on without them by missing='skip': their questions end as skipped"
        )
    return [sample._replace(image=folder / name) for sample, name in zip(few, names, strict=True)]
