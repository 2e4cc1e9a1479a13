"""Questions in JSON as they are published: VQA v2's questions with ten answers each, and GQA's with their types.

For: question files with a folder of pictures beside them. A question may have the fields of a pair too (`PAIRED`).
Cost: the file in memory, several times its size; of the pictures only the names.
Ends: at samples whose pictures have paths.

Sources: VQA v2 (Goyal et al. 2017, arXiv 1612.00837), whose questions and annotations are two files; GQA (Hudson and
Manning 2019, arXiv 1902.09506).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from blip_trace_widget.checks import one_of
from blip_trace_widget.dataset import cells, columns, text_files
from blip_trace_widget.dataset.picture_folders import coco_name, with_pictures
from blip_trace_widget.dataset.question_files import paired
from blip_trace_widget.dataset.samples import PAIRED, PathLike, Sample, cleaned

#: By what the questions of VQA v2 may be grouped, and those of GQA.
VQA_GROUPS, GQA_GROUPS = ("answer_type", "question_type"), ("structural", "semantic", "detailed")

_QUESTION = ("question_id", "image_id", "question")
_ANNOTATION = ("question_id", "image_id", "answers")


def read_vqa(
    questions: PathLike,
    annotations: PathLike | None,
    images: PathLike,
    group: str = "answer_type",
    missing: str = "error",
    limit: int | None = None,
) -> list[Sample]:
    """Questions in the format of VQA v2, with the ten answers that as many people gave.

    Args:
        questions: ``v2_OpenEnded_mscoco_train2014_questions.json``: each ``question_id``, ``image_id``, ``question``.
        annotations: ``v2_mscoco_train2014_annotations.json``, which has ten ``answers`` to each of these questions;
            None where they are not published. What is scored is the answer that most gave.
        images: the folder of the pictures, by either of COCO's names, ``COCO_train2014_000000000009.jpg`` or
            ``000000000009.jpg``; they may lie in folders in it.
        group: ``"answer_type"`` (``yes/no``, ``number``, ``other``) or ``"question_type"`` (how the question begins).
        missing: see `read_coco_qa`.
        limit: only the first so many.

    Returns:
        one sample a question; its id is the question's.

    Raises:
        OSError: if a file or the folder cannot be read, or pictures are missing.
        TypeError, ValueError: naming the argument, what was given and what is accepted; also if fields are missing, or
            the annotations are of other questions.
    """
    one_of("group", group, VQA_GROUPS)
    answered = None if annotations is None else _annotations(annotations, group)
    found, lacking = [], []
    for called, entry in _entries("questions", questions, "questions", _QUESTION, PAIRED):
        name, picture = cells.name(entry["question_id"], ""), coco_name(entry["image_id"], f"{called}: image_id")
        annotated = (answered or {}).get(name)
        if answered is not None and annotated is None:
            lacking.append(name)
            continue
        answers, kind, other_picture = annotated or (None, "", picture)
        if other_picture != picture:
            raise ValueError(
                f"annotations: question {name} is about {other_picture} there, about {picture} in questions"
            )
        more = paired(entry, partial(coco_name, called=f"{called}: other_image"))
        found.append(Sample(picture, entry["question"], answers, id=name, group=kind, **more))
    if lacking:
        raise ValueError(
            f"annotations: {len(lacking)} of {len(lacking) + len(found)} questions have no answers there, such as "
            f"{lacking[0]!r}; give the file that belongs to these questions, or None"
        )
    return with_pictures(list(cleaned(found)), images, missing, limit, "questions")


def read_gqa(
    questions: PathLike,
    images: PathLike,
    group: str = "structural",
    missing: str = "error",
    limit: int | None = None,
) -> list[Sample]:
    """Questions in the format of GQA.

    Args:
        questions: such as ``val_balanced_questions.json``: by the question's id, ``question``, ``imageId``, and where
            they are published ``answer`` and ``types``.
        images: the folder of the pictures, ``2354786.jpg``; they may lie in folders in it.
        group: which of the types groups them: ``"structural"`` (``verify``, ``query``, ``choose``, ``logical``,
            ``compare``), ``"semantic"`` (``attr``, ``cat``, ``global``, ``obj``, ``rel``) or ``"detailed"``.
        missing: see `read_coco_qa`.
        limit: only the first so many.

    Returns:
        one sample a question; its id is the question's.

    Raises:
        OSError, TypeError, ValueError: see `read_vqa`.
    """
    one_of("group", group, GQA_GROUPS)
    known = ("answer", "types", *PAIRED)
    found = []
    for _, entry in _entries("questions", questions, None, ("question", "imageId"), known):
        types = entry.get("types")
        kind = types.get(group) if isinstance(types, Mapping) else None
        more = paired(entry, _gqa_picture)
        picture, answer = _gqa_picture(entry["imageId"]), entry.get("answer")
        found.append(Sample(picture, entry["question"], answer, id=entry[""], group=kind or "", **more))
    return with_pictures(list(cleaned(found)), images, missing, limit, "questions")


def _gqa_picture(given: Any) -> str:
    name = cells.name(given, "")
    return name if name.lower().endswith(".jpg") else f"{name}.jpg"


def _annotations(file: PathLike, group: str) -> dict[str, tuple[Any, str, str]]:
    """By the question's id: the answers, the group, and the picture."""
    found = {}
    for called, entry in _entries("annotations", file, "annotations", _ANNOTATION, (group,)):
        picture = coco_name(entry["image_id"], f"{called}: image_id")
        found[cells.name(entry["question_id"], "")] = (entry["answers"], cells.name(entry.get(group), ""), picture)
    return found


def _entries(
    argument: str, file: PathLike, inside: str | None, needed: Sequence[str], known: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions of a file: what each is called in errors, and its fields; its name under "" where it has one.

    Args:
        argument: whose value the file is, for errors.
        file: its path.
        inside: the field in which they are listed; None: they are the fields of the whole, by their names.
        needed: fields that each must have.
        known: fields that it may have; all others are left alone, for published files have many.
    """
    called, text = text_files.content(argument, file)
    try:
        whole = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{called} is no JSON: {error}") from error
    if not isinstance(whole, Mapping):
        raise ValueError(f"{called}: expected {_shape(inside, needed)}, got {type(whole).__name__}")
    if inside is not None:
        place = columns.find(whole, (inside,), (inside,), called)[inside]
        whole = list(whole.values())[place]
        if not isinstance(whole, list):
            raise ValueError(f"{called}: expected {_shape(inside, needed)}, got {type(whole).__name__} in it")
        whole = {str(at): each for at, each in enumerate(whole)}
    places: dict[tuple[str, ...], dict[str, int]] = {}
    for name, entry in whole.items():
        one = f"{called}: {name[:80]!r}"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{one} should have {list(needed)}, got {type(entry).__name__}")
        keys = tuple(entry)
        if keys not in places:
            places[keys] = _places(keys, needed, known, one)
        yield one, {"": name} | {field: entry[keys[at]] for field, at in places[keys].items()}


def _places(keys: tuple[str, ...], needed: Sequence[str], known: Sequence[str], called: str) -> dict[str, int]:
    """The places of the fields; of other names those alone are looked at that are nearly one that is needed."""
    found = columns.find(keys, needed, needed, called)
    exact = {columns.key(key): at for at, key in enumerate(keys)}
    return found | {field: exact[columns.key(field)] for field in known if columns.key(field) in exact}


def _shape(inside: str | None, needed: Sequence[str]) -> str:
    fields = ", ".join(f'"{name}": …' for name in needed)
    return f'{{"{inside}": [{{{fields}}}, …]}}' if inside else f'{{"id": {{{fields}}}, …}}'
