"""Files of questions: the published ones of COCO-QA and CLEVR, and users' own tables.

For: question files with a folder of pictures.
Cost: the file in memory; of the pictures only the names.
Ends: at samples whose pictures are paths, all directly in that folder.

Source: COCO-QA (Ren et al. 2015, arXiv 1505.02074) and CLEVR (Johnson et al. 2017, arXiv 1612.06890), in the files
that Palit et al. 2023 (arXiv 2308.14179) publish with their tool.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.dataset import cells, columns, text_files
from blip_trace_widget.dataset.samples import NEEDED, PathLike, Sample, cleaned

#: Columns of COCO-QA's files, and of CLEVR's.
COCO_QA = ("train_image_id_count", "question_count", "answer_count")
CLEVR = ("Image_IDs", "Questions_Answers")
#: What to do about questions whose picture is missing.
MISSING = ("error", "skip")
#: Kinds of COCO-QA's questions, which file names begin with.
COCO_QA_KINDS = ("color", "count", "location", "object", "number")


def read_coco_qa(
    csv: PathLike, images: PathLike, group: str | None = None, missing: str = "error", limit: int | None = None
) -> list[Sample]:
    """Questions in the format of COCO-QA's published files.

    Args:
        csv: columns ``train_image_id_count`` (the COCO train2017 image id), ``question_count``, ``answer_count``.
        images: the folder of the pictures, named by 12 digits: ``000000023004.jpg``.
        group: name of the group; default the kind that the file's name begins with (``color``, ``count``,
            ``location``), else none.
        missing: ``"error"``, or ``"skip"``: questions whose picture is missing appear in the table as skipped.
        limit: only the first `limit` rows.

    Returns:
        one sample per row; its id is the group's name and the row's number in the file: ``color/12``.

    Raises:
        OSError: if the file or the folder cannot be read, or pictures are missing.
        TypeError, ValueError: naming the argument, what was given and what is accepted; also if columns are missing.
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
    samples = [
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
    return _with_pictures(samples, images, missing, limit)


def read_clevr(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in the format of the CLEVR file that Palit et al. publish.

    Args:
        csv: columns ``Image_IDs`` (``CLEVR_val_000145``) and ``Questions_Answers``, a list of
            ``{'question': ..., 'answer': 1 or 0}``; 1 is read as "yes", 0 as "no".
        images: the folder of the pictures: ``CLEVR_val_000145.png``.
        missing: see `read_coco_qa`.
        limit: only the first `limit` questions.

    Returns:
        one sample per question, with ids ``CLEVR_val_000145/0``, grouped by the relation in the question
        (``"left of"``, ``"right of"``, ``"behind"``, ``"in front of"``), else "".

    Raises:
        OSError, TypeError, ValueError: see `read_coco_qa`.
    """
    return _clevr(text_files.read("csv", csv, CLEVR), images, missing, limit)


def _clevr(table: text_files.Table, images: PathLike, missing: str, limit: int | None) -> list[Sample]:
    image, listed = _columns(table, CLEVR)
    samples = []
    for row in table.rows:
        name = row[image].strip()
        for number, (question, answer) in enumerate(_clevr_questions(name, row[listed])):
            relation = re.search(r"left of|right of|behind|in front of", question)
            group = relation.group() if relation else ""
            samples.append(Sample(f"{name}.png", question, answer, None, f"{name}/{number}", group))
    return _with_pictures(samples, images, missing, limit)


def read_questions(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in any of the formats, recognised by their columns: COCO-QA's, CLEVR's, or a user's own.

    Args:
        csv: a user's own file has the columns ``image`` (a file's name in the folder) and ``question``, and may have
            ``answer`` (a text, or a list of several in JSON), ``foil``, ``id`` and ``group``. Comma, semicolon or tab;
            UTF-8, UTF-16 or cp1252.
        images: the folder of the pictures.
        missing: see `read_coco_qa`.
        limit: only the first `limit` questions.

    Returns:
        one sample per question.

    Raises:
        OSError, TypeError, ValueError: see `read_coco_qa`.
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
    return _with_pictures(list(cleaned(given)), images, missing, limit)


def _columns(table: text_files.Table, needed: Sequence[str]) -> list[int]:
    """The indices of a published format's columns."""
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
        for entry in ast.literal_eval(listed):  # only literals: nothing in the file is executed
            yield str(entry["question"]), {1: "yes", 0: "no"}[entry["answer"]]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"csv: {CLEVR[1]} of {name} should be a list of {{'question': text, 'answer': 1 or 0}}: {error!r}"
        ) from error


def _with_pictures(samples: list[Sample], images: PathLike, missing: str, limit: int | None) -> list[Sample]:
    """Samples with their pictures' names replaced by paths, all directly in the folder."""
    one_of("missing", missing, MISSING)
    if not samples:
        raise ValueError("csv: there is no question in the file, only the names of columns")
    wanted = samples[: None if limit is None else whole_number("limit", limit, 1)]
    folder, names = text_files.as_path("images", images, "folder"), [str(sample.image).strip() for sample in wanted]
    if not folder.is_dir():
        raise FileNotFoundError(f"images: no such folder: {os.fspath(images)!r}")
    outside = next((name for name in names if Path(name).name != name), None)
    if outside is not None:
        raise ValueError(f"csv: expected names of files in the folder of the pictures, got {outside!r}")
    present = {entry.name for entry in os.scandir(folder)}
    lacking = [name for name in names if name not in present]
    if lacking and missing == "error":
        raise FileNotFoundError(
            f"images: {len(lacking)} of {len(names)} pictures are not in {os.fspath(images)!r}, such as {lacking[0]}. "
            "Put them there, or go on without them by missing='skip': their questions end as skipped"
        )
    return [sample._replace(image=folder / name) for sample, name in zip(wanted, names, strict=True)]
