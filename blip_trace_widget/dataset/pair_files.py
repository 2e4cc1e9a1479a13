"""Pictures that come in pairs: SVO-Probes, MIT-States, and folders whose names say what their pictures show.

For: `ImageSwap` as a corruption: each sample has a partner picture, and its word as a foil. The question names both
words, as in the published code of NOTICE, which asks all three data sets so.
Cost: the file in memory; of the pictures only the names.
Ends: at samples whose pictures have paths.

Sources: SVO-Probes (Hendricks and Nematzadeh 2021, arXiv 2106.09141); MIT-States (Isola et al. 2015); how they are
asked, Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320).
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blip_trace_widget.checks import brief, one_of, whole_number
from blip_trace_widget.dataset import answers, cells, columns, text_files
from blip_trace_widget.dataset.picture_folders import ENDS, Stem, with_pictures
from blip_trace_widget.dataset.samples import PathLike, Sample

SVO = ("pos_triplet", "neg_triplet", "pos_image_id", "neg_image_id")
#: The parts of a triplet, and the column that says that the negative picture differs in it.
PARTS = {"subject": "subj_neg", "verb": "verb_neg", "object": "obj_neg"}
#: By what the pictures of MIT-States may be grouped.
MIT_GROUPS = ("adjective", "noun")
#: What the question about folders may have in it: the two labels, in an order that is drawn.
FIRST, SECOND = "{first}", "{second}"


def read_svo_probes(csv: PathLike, images: PathLike, missing: str = "error", limit: int | None = None) -> list[Sample]:
    """Pairs of pictures in the format of SVO-Probes: a positive and a negative one of a triplet.

    The question is made of both triplets, without any change of their words: where the verb differs,
    ``child,sit,chair`` and ``child,stand,chair`` become "is child sit or stand chair?", the answer is "sit", the foil
    "stand"; where the subject differs "is child or dog sit chair?", where the object does "is child sit chair or bed?".

    Args:
        csv: columns ``pos_triplet``, ``neg_triplet``, ``pos_image_id``, ``neg_image_id``, and ``subj_neg``,
            ``verb_neg``, ``obj_neg``, of which one is True; others are not used. Where these three are not there, it is
            the part in which the triplets differ.
        images: the folder of the pictures, named by their ids, ``12.jpg`` or with another end; they may lie in folders
            in it.
        missing: see `read_coco_qa`.
        limit: only the first so many.

    Returns:
        one sample a row, of the groups ``subject``, ``verb`` and ``object``; its partner is the negative picture, its
        id the row's number. A row whose triplets do not say what to ask has no question, and ends as skipped.

    Raises:
        OSError, ValueError: see `read_coco_qa`.
    """
    return svo_probes(text_files.read("csv", csv, [*SVO, *PARTS.values(), "sentence"]), images, missing, limit)


def svo_probes(table: text_files.Table, images: PathLike, missing: str, limit: int | None) -> list[Sample]:
    """The same of a table that is read; see `read_svo_probes`."""
    found = columns.find(table.columns, [*SVO, *PARTS.values()], SVO, table.called)
    samples = []
    for at, row in enumerate(table.rows):
        told = {name: row[place] for name, place in found.items()}
        part, question, answer, foil = _triplets(told)
        pictures = [Stem(cells.name(told[name], "")) for name in ("pos_image_id", "neg_image_id")]
        samples.append(Sample(pictures[0], question, answer, foil, str(at), part, other_image=pictures[1]))
    return with_pictures(samples, images, missing, limit)


def read_mit_states(
    images: PathLike, group: str = "adjective", seed: int = 0, limit: int | None = None
) -> list[Sample]:
    """Pictures of nouns in states, in the folders of MIT-States: ``images/ancient building/*.jpg``.

    The question is "is this building ancient or modern?", with the second adjective, the foil, drawn among the others
    that the noun has, and the two in an order that is drawn; the partner is a picture of it. Where a noun has no other
    there is no partner, and "is this building ancient?" is asked, without an answer to it.

    Args:
        images: the folder of these folders (``release_dataset/images``). Those called ``adj`` with a noun, whose state
            nobody named, are left out.
        group: what groups the samples, ``"adjective"`` or ``"noun"``.
        seed: of what is drawn.
        limit: only the first so many.

    Returns:
        one sample a picture, in the order of their names; ids ``ancient building/name.jpg``.

    Raises:
        OSError: if there is no such folder.
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    one_of("group", group, MIT_GROUPS)
    found = []
    for folder in _folders(images):
        adjective, _, noun = folder.name.strip().lower().partition(" ")
        if noun and adjective != "adj":
            found.append(_Labelled(folder, adjective, noun, _pictures(folder)))
    if not found:
        raise ValueError(f"images: {os.fspath(images)!r} has no folders called 'adjective noun', such as 'old car'")
    return _asked(found, "is this {noun} {first} or {second}?", "is this {noun} {first}?", group == "noun", seed, limit)


def read_folders(
    images: PathLike,
    question: str,
    words: Mapping[str, str] | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> list[Sample]:
    """Pictures in folders whose names are the answers, such as those of facial expressions: ``train/happy/*.jpg``.

    Args:
        images: the folder of these folders.
        question: the question about all of them, such as "is this person feeling {first} or {second}?", in which
            ``{first}`` and ``{second}`` become the answer and another label, in an order that is drawn.
        words: the answers for folders that are called otherwise, such as ``{"fear": "fearful"}``.
        seed: of what is drawn.
        limit: only the first so many.

    Returns:
        one sample a picture, in the order of their names, of groups called as the folders' answers; ids
        ``happy/name.jpg``. The foil is a label that is drawn among the others, the partner a picture of it.

    Raises:
        OSError: if there is no such folder.
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if not isinstance(question, str):
        raise TypeError(f"question: expected a text, got {type(question).__name__}")
    if (FIRST in question) != (SECOND in question):
        raise ValueError(f"question: expected both {FIRST} and {SECOND} in it or neither, got {brief(question)}")
    called = _words(words)
    folders = _folders(images)
    unknown = set(called) - {folder.name for folder in folders}
    if unknown:
        raise ValueError(f"words: there is no folder {min(unknown)!r}, expected some of {[f.name for f in folders]}")
    found = [_Labelled(folder, called.get(folder.name, folder.name), "", _pictures(folder)) for folder in folders]
    if not any(each.pictures for each in found):
        raise ValueError(f"images: {os.fspath(images)!r} has no folders with pictures in them")
    if FIRST in question and len({each.label for each in found if each.pictures}) < 2:
        raise ValueError(f"images: {os.fspath(images)!r} has pictures of one label alone, and the question needs two")
    return _asked(found, question, question, False, seed, limit)


class _Labelled(NamedTuple):
    """A folder of pictures of one label; those of the same `noun` are each other's partners."""

    folder: Path
    label: str
    noun: str
    pictures: list[str]


def _asked(
    found: Sequence[_Labelled],
    question: str,
    alone: str,
    by_noun: bool,
    seed: int,
    limit: int | None,
) -> list[Sample]:
    """A sample for each picture, with a partner that is drawn for it; of one seed the same, whatever else is there."""
    whole_number("seed", seed, 0)
    most = None if limit is None else whole_number("limit", limit, 1)
    of_noun: dict[str, list[_Labelled]] = {}
    for each in found:
        if each.pictures:
            of_noun.setdefault(each.noun, []).append(each)
    samples: list[Sample] = []
    for each in found:
        others = [other for other in of_noun.get(each.noun, ()) if other.label != each.label]
        for name in each.pictures[: None if most is None else most - len(samples)]:
            called = f"{each.folder.name}/{name}"
            rng = random.Random(f"{seed}/{called}")  # noqa: S311 - nothing is kept secret
            group = each.noun if by_noun else each.label
            sample = Sample(each.folder / name, _filled(alone, each.noun, each.label, ""), id=called, group=group)
            if others:
                other = rng.choice(others)
                first, second = rng.sample([each.label, other.label], 2)
                sample = sample._replace(
                    question=_filled(question, each.noun, first, second),
                    answer=each.label,
                    foil=other.label,
                    other_image=other.folder / rng.choice(other.pictures),
                )
            elif alone == question:
                sample = sample._replace(answer=each.label)
            samples.append(sample)
    return samples


def _filled(text: str, noun: str, first: str, second: str) -> str:
    return text.replace("{noun}", noun).replace(FIRST, first).replace(SECOND, second)


def _folders(images: PathLike) -> list[Path]:
    folder = text_files.as_path("images", images, "folder")
    if not folder.is_dir():
        raise FileNotFoundError(f"images: no such folder: {os.fspath(images)!r}")
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _pictures(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.suffix.lower() in ENDS and each.is_file())


def _words(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for pair in given.items() for each in pair):
        raise TypeError(f"words: expected a mapping of folders' names to answers, got {type(given).__name__}")
    return dict(given)


# --- SVO-Probes -------------------------------------------------------------------------------------------------------


def _triplets(told: Mapping[str, str]) -> tuple[str, str, str | None, str | None]:
    """The part that differs, the question, the answer and the foil; the question is "" where there is none."""
    one, other = (_triplet(told[name]) for name in ("pos_triplet", "neg_triplet"))
    differing = [at for at, (word, its) in enumerate(zip(one, other, strict=False)) if word != its]
    said = [at for at, flag in enumerate(PARTS.values()) if told.get(flag, "").strip().lower() in ("true", "1", "1.0")]
    if len(one) != 3 or len(other) != 3 or len(said or differing) != 1 or (said or differing)[0] not in differing:
        return "", "", None, None
    at = (said or differing)[0]
    words = [word if place != at else f"{word} or {other[place]}" for place, word in enumerate(one)]
    return list(PARTS)[at], f"is {' '.join(words)}?", one[at], other[at]


def _triplet(written: str) -> list[str]:
    """The words of ``child,sit,chair``; in the published file some stand in a list, of which the first counts."""
    try:
        given: Any = answers.read(written)
    except (TypeError, ValueError):
        return []
    text = given if isinstance(given, str) else given[0] if given else ""
    return [word.strip() for word in re.sub(r"[\[\]'\"]", "", text).split(",") if word.strip()]
