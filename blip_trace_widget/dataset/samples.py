"""What is asked of a data set: pictures with questions, from wherever they come.

For: one shape (`Sample`) for rows of published question files, of tables, and of one's own programs.
Cost: a list of names a file; pictures are opened when their batch is traced, scenes drawn when they are reached.
Ends: at samples. Whether a picture can be read or an answer spelled is `blip_trace_widget.dataset.batch`'s to find out.

Sources: COCO-QA (Ren et al. 2015, arXiv 1505.02074) and CLEVR (Johnson et al. 2017, arXiv 1612.06890), in the files
that Palit et al. 2023 (arXiv 2308.14179) publish with their tool.
"""

from __future__ import annotations

import ast
import numbers
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from blip_trace_widget.dataset import answers, cells, columns, text_files
from blip_trace_widget.dataset.cells import shown
from blip_trace_widget.sites import one_of, whole_number

if TYPE_CHECKING:
    import pandas as pd

PathLike: TypeAlias = "str | os.PathLike[str]"

#: The columns of COCO-QA's files, and of CLEVR's.
COCO_QA = ("train_image_id_count", "question_count", "answer_count")
CLEVR = ("Image_IDs", "Questions_Answers")
#: Columns without which nothing can be asked.
NEEDED = ("image", "question")
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
        answer: the answer to score; None: the model's own. Of several (VQA's ten) the one is scored that most people
            gave, and the model's own is right by VQA's rule; see `blip_trace_widget.dataset.answers`.
        foil: another answer of as many tokens, for ``metric="logit_difference"``.
        id: its name; "" for its number.
        group: what it is to be averaged with, for instance the kind of question.
    """

    image: Any
    question: str
    answer: answers.Answers | None = None
    foil: str | None = None
    id: str = ""
    group: str = ""


def as_samples(samples: Any) -> Iterator[Sample]:
    """Samples from an iterable of samples, tuples or mappings, or from a table, one after another.

    A table is a pandas DataFrame or a Hugging Face data set. For the names of columns and keys see
    `blip_trace_widget.dataset.columns`, for answers `blip_trace_widget.dataset.answers`.

    Raises:
        TypeError, ValueError: naming what was given and what is accepted; of a single sample when it is reached.
    """
    if isinstance(samples, (str, bytes, Mapping, Sample)) or not isinstance(samples, Iterable):
        splits = f", or one of its values {list(map(shown, samples))}" if isinstance(samples, Mapping) else ""
        raise TypeError(
            f"samples: expected an iterable of (image, question[, answer, foil, id, group]) or of mappings with these "
            f"names, a pandas DataFrame, a Hugging Face data set, or what a reader such as read_coco_qa gives{splits}; "
            f"got {type(samples).__name__}"
        )
    if hasattr(samples, "columns") and hasattr(samples, "to_dict"):
        return _cleaned(_of_table(samples))
    names = getattr(samples, "column_names", None)
    rows = _Rows(getattr(samples, "features", None))
    if isinstance(names, (list, tuple)):  # a wrong one is told before anything is computed
        rows.places(tuple(names), "samples: the data set")
    return _cleaned(rows.sample(number, given) for number, given in enumerate(samples))


def _cleaned(samples: Iterable[Sample]) -> Iterator[Sample]:
    for number, sample in enumerate(samples):
        answer = sample.answer
        with suppress(TypeError, ValueError):  # what is no answer stays, for the row to say so
            answer = answers.read(answer)
        yield sample._replace(
            question=cells.text(sample.question),
            answer=answer,
            foil=cells.text(sample.foil),
            id=cells.name(sample.id, str(number)),
            group=cells.name(sample.group, ""),
        )


class _Rows:
    """Samples, tuples and mappings, one after another; of all mappings each unknown key is told once."""

    def __init__(self, features: Any) -> None:
        self._features = features if isinstance(features, Mapping) else {}
        self._places: dict[tuple[Any, ...], dict[str, int]] = {}
        self._told: set[str] = set()

    def sample(self, number: int, given: Any) -> Sample:
        if isinstance(given, Sample):
            return given
        if isinstance(given, Mapping):
            names = tuple(given)
            places = self.places(names, f"samples: number {number}")
            return Sample(**{field: self._value(names[at], given[names[at]]) for field, at in places.items()})
        if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= len(Sample._fields):
            raise TypeError(
                f"samples: number {number} should be (image, question[, answer, foil, id, group]), "
                f"got {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, (tuple, list)) else "")
            )
        return Sample(*given)

    def places(self, names: tuple[Any, ...], where: str) -> dict[str, int]:
        if names not in self._places:
            found = columns.find(names, Sample._fields, NEEDED, where)
            new = [name for name in columns.unknown(names, found) if name not in self._told]
            columns.tell_unknown(new, Sample._fields, where)
            self._told.update(new)
            self._places[names] = found
        return self._places[names]

    def _value(self, name: Any, value: Any) -> Any:
        """Hugging Face keeps names of classes as numbers."""
        spell = getattr(self._features.get(name), "int2str", None)
        is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return spell(int(value)) if callable(spell) and is_number else value


def _of_table(table: pd.DataFrame) -> Iterator[Sample]:
    names = list(table.columns)
    found = columns.find(names, Sample._fields, NEEDED, "samples: the table")
    columns.tell_unknown(columns.unknown(names, found), Sample._fields, "samples: the table")
    of_fields = [table[names[at]] for at in found.values()]
    return (Sample(**dict(zip(found, row, strict=True))) for row in zip(*of_fields, strict=True))


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
    return _coco_qa(text_files.read("csv", csv, COCO_QA), csv, images, group, missing, limit)


def _coco_qa(
    table: text_files.Table, csv: PathLike, images: PathLike, group: str | None, missing: str, limit: int | None
) -> list[Sample]:
    image, question, answer = _columns(table, COCO_QA)
    if group is None:
        group = next((kind for kind in COCO_QA_KINDS if Path(csv).name.lower().startswith(kind)), "")
    before = f"{group}/" if group else ""
    is_numbered = not columns.key(table.columns[0])
    found = [
        Sample(
            _coco_name(row[image]),
            row[question],
            cells.text(row[answer]),
            None,
            before + cells.name(row[0] if is_numbered else None, str(at)),
            group,
        )
        for at, row in enumerate(table.rows)
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
    return _clevr(text_files.read("csv", csv, CLEVR), images, missing, limit)


def _clevr(table: text_files.Table, images: PathLike, missing: str, limit: int | None) -> list[Sample]:
    image, listed = _columns(table, CLEVR)
    found = []
    for row in table.rows:
        name = row[image].strip()
        for number, (question, answer) in enumerate(_clevr_questions(name, row[listed])):
            relation = re.search(r"left of|right of|behind|in front of", question)
            group = relation.group() if relation else ""
            found.append(Sample(f"{name}.png", question, answer, None, f"{name}/{number}", group))
    return _with_pictures(found, images, missing, limit)


def read_questions(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in any of the formats, told by the columns: COCO-QA's, CLEVR's, or one's own.

    Args:
        csv: one's own has the columns ``image`` (a file's name in the folder) and ``question``, and may have
            ``answer`` (a text, or a list of several in JSON), ``foil``, ``id`` and ``group``. Comma, semicolon or tab;
            UTF-8, UTF-16 or cp1252.
        images: the folder of the pictures.
        missing: see `read_coco_qa`.
        limit: only the first so many.

    Raises:
        OSError, ValueError: see `read_coco_qa`.
    """
    table = text_files.read("csv", csv, [*Sample._fields, *COCO_QA, *CLEVR])
    keys = {columns.key(name) for name in table.columns}
    if {columns.key(name) for name in COCO_QA} <= keys:
        return _coco_qa(table, csv, images, None, missing, limit)
    if {columns.key(name) for name in CLEVR} <= keys:
        return _clevr(table, images, missing, limit)
    try:
        found = columns.find(table.columns, Sample._fields, NEEDED, table.called)
    except ValueError as error:
        raise ValueError(f"{error}. Or COCO-QA's {list(COCO_QA)}, or CLEVR's {list(CLEVR)}") from None
    columns.tell_unknown(columns.unknown(table.columns, found), Sample._fields, table.called)
    given = [Sample(**{field: row[at] for field, at in found.items()}) for row in table.rows]
    return _with_pictures(list(_cleaned(given)), images, missing, limit)


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


def _columns(table: text_files.Table, needed: Sequence[str]) -> list[int]:
    """The places of a published format's columns."""
    try:
        found = columns.find(table.columns, needed, needed, table.called)
    except ValueError as error:
        raise ValueError(f"{error}; with columns of one's own see read_questions") from None
    columns.tell_unknown(columns.unknown(table.columns, found), needed, table.called)
    return [found[name] for name in needed]


def _coco_name(number: str) -> str:
    number = cells.name(number, "")
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
    if not samples:
        raise ValueError("csv: there is no question in the file, only the names of columns")
    few = samples[: None if limit is None else whole_number("limit", limit, 1)]
    folder, names = text_files.as_path("images", images, "folder"), [str(sample.image).strip() for sample in few]
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
