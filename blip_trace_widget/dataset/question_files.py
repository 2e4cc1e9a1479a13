"""Tables of questions: the published ones of COCO-QA and CLEVR, and users' own.

For: CSV files with a folder of pictures. Every format may also have the columns of a pair (`PAIRED`): ``foil``,
``other_image``, named as pictures are, ``other_question``, and ``region``, lists of 1 and 0 in JSON.
Cost: the file in memory; of the pictures only the names.
Ends: at samples whose pictures are paths.

Source: COCO-QA (Ren et al. 2015, arXiv 1505.02074) and CLEVR (Johnson et al. 2017, arXiv 1612.06890), in the files
that Palit et al. 2023 (arXiv 2308.14179) publish with their tool.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blip_trace_widget.dataset import cells, columns, text_files
from blip_trace_widget.dataset.pair_files import SVO, svo_probes
from blip_trace_widget.dataset.picture_folders import coco_name, with_pictures
from blip_trace_widget.dataset.samples import NEEDED, PAIRED, PathLike, Sample, cleaned

#: Columns of COCO-QA's files, and of CLEVR's.
COCO_QA = ("train_image_id_count", "question_count", "answer_count")
CLEVR = ("Image_IDs", "Questions_Answers")
#: Kinds of COCO-QA's questions, which file names begin with.
COCO_QA_KINDS = ("color", "count", "location", "object", "number")


def read_coco_qa(
    csv: PathLike, images: PathLike, group: str | None = None, missing: str = "error", limit: int | None = None
) -> list[Sample]:
    """Questions in the format of COCO-QA's published files.

    Args:
        csv: columns ``train_image_id_count`` (the COCO train2017 image id), ``question_count``, ``answer_count``.
        images: the folder of the pictures, named by 12 digits, ``000000023004.jpg``, or as in 2014,
            ``COCO_train2014_000000023004.jpg``; they may lie in folders in it.
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
    (image, question, answer), pair = _columns(table, COCO_QA)
    if group is None:
        group = next((kind for kind in COCO_QA_KINDS if Path(csv).name.lower().startswith(kind)), "")
    before = f"{group}/" if group else ""
    is_numbered = not columns.key(table.columns[0])
    samples = [
        Sample(
            _coco_id(row[image]),
            row[question],
            cells.text(row[answer]),
            id=before + cells.name(row[0] if is_numbered else None, str(at)),
            group=group,
            **paired({name: row[place] for name, place in pair.items()}, _coco_id),
        )
        for at, row in enumerate(table.rows)
    ]
    return with_pictures(samples, images, missing, limit)


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
    (image, listed), pair = _columns(table, CLEVR)
    samples = []
    for row in table.rows:
        name, of_row = row[image].strip(), {name: row[place] for name, place in pair.items()}
        for number, (question, answer, of_question) in enumerate(_clevr_questions(name, row[listed])):
            relation = re.search(r"left of|right of|behind|in front of", question)
            group = relation.group() if relation else ""
            more = paired(of_row | of_question, _clevr_picture)
            samples.append(Sample(_clevr_picture(name), question, answer, id=f"{name}/{number}", group=group, **more))
    return with_pictures(samples, images, missing, limit)


def read_questions(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Questions in any of these formats, recognised by their columns: COCO-QA's, CLEVR's, SVO-Probes', or a user's own.

    Args:
        csv: a user's own file has the columns ``image`` (a file's name in the folder) and ``question``, and may have
            ``answer`` (a text, or a list of several in JSON), ``foil``, ``id``, ``group``, ``other_image`` (a file's
            name), ``other_question`` and ``region`` (``[[0, 1], [0, 0]]``: a list of rows). Comma, semicolon or tab;
            UTF-8, UTF-16 or cp1252.
        images: the folder of the pictures; they may lie in folders in it.
        missing: see `read_coco_qa`.
        limit: only the first `limit` questions.

    Returns:
        one sample per question.

    Raises:
        OSError, TypeError, ValueError: see `read_coco_qa`.
    """
    table = text_files.read("csv", csv, [*Sample._fields, *COCO_QA, *CLEVR, *SVO])
    keys = {columns.key(name) for name in table.columns}
    if {columns.key(name) for name in COCO_QA} <= keys:
        return _coco_qa(table, csv, images, None, missing, limit)
    if {columns.key(name) for name in CLEVR} <= keys:
        return _clevr(table, images, missing, limit)
    if {columns.key(name) for name in SVO} <= keys:
        return svo_probes(table, images, missing, limit)
    try:
        found = columns.find(table.columns, Sample._fields, NEEDED, table.called)
    except ValueError as error:
        raise ValueError(
            f"{error}. Or COCO-QA's {list(COCO_QA)}, CLEVR's {list(CLEVR)}, or SVO-Probes' {list(SVO)}"
        ) from None
    columns.tell_unknown(columns.unknown(table.columns, found), Sample._fields, table.called)
    given = [Sample(**{field: row[at] for field, at in found.items()}) for row in table.rows]
    return with_pictures(list(cleaned(given)), images, missing, limit)


def paired(given: Mapping[str, Any], picture: Callable[[Any], str] = str) -> dict[str, Any]:
    """The fields of a pair that a row has.

    Args:
        given: the row's values of some of `PAIRED`.
        picture: turns a cell into the name of a picture.
    """
    other = given.get("other_image")
    return {
        "foil": cells.text(given.get("foil")),
        "other_image": None if cells.is_absent(other) else picture(other),
        "other_question": cells.text(given.get("other_question")),
        "region": cells.mask(given.get("region")),
    }


def _columns(table: text_files.Table, needed: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """The indices of a published format's columns, and of those of a pair that it has."""
    try:
        found = columns.find(table.columns, [*needed, *PAIRED], needed, table.called)
    except ValueError as error:
        raise ValueError(f"{error}; with columns of one's own see read_questions") from None
    columns.tell_unknown(columns.unknown(table.columns, found), [*needed, *PAIRED], table.called)
    return [found[name] for name in needed], {name: found[name] for name in PAIRED if name in found}


def _coco_id(number: Any) -> str:
    return coco_name(number, f"csv: {COCO_QA[0]}")


def _clevr_picture(name: Any) -> str:
    name = str(name).strip()
    return name if name.lower().endswith(".png") else f"{name}.png"


def _clevr_questions(name: str, listed: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    try:
        for entry in ast.literal_eval(listed):  # only literals: nothing in the file is executed
            pair = {field: entry[field] for field in PAIRED if field in entry}
            yield str(entry["question"]), {1: "yes", 0: "no"}[entry["answer"]], pair
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"csv: {CLEVR[1]} of {name} should be a list of {{'question': text, 'answer': 1 or 0}}: {error!r}"
        ) from error
