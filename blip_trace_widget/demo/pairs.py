"""Semantic minimal pairs: a scene and a question, and the same but for one attribute of an object, or for one word.

For: `image_pair` and `question_pair` draw unlimited pairs with both right answers, which differ and have as many of the
built-in model's tokens.
Cost: about a millisecond a pair, the pictures not included.
Ends: at scenes and questions. Both members of a pair have one right answer each, as in `questions.py`.

Source: Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320), whose pairs are photographs.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, NamedTuple

from blip_trace_widget.demo.questions import NUMBERS, Question, ask
from blip_trace_widget.demo.scenes import COLORS, SHAPES, Scene, SceneObject, arrange, coverage, object_at, overlap

if TYPE_CHECKING:
    import random

#: Rows and columns of the built-in model's image patches.
PATCHES = 8
#: Middles of the three bands of places.
_MIDDLES = (0.2, 0.5, 0.8)
_MARGIN = 0.02
#: Words of the plural, so that exchanging a shape exchanges one word.
_PLURALS = tuple(shape + "s" for shape in SHAPES)


class Pair(NamedTuple):
    """A question about a scene, its answer, and the partner: another scene or another question, and its answer.

    `region` is where the objects are that tell the two apart, in the scene: booleans, (rows, columns) of patches.
    """

    scene: Scene
    question: str
    answer: str
    foil: str
    other_scene: Scene | None
    other_question: str | None
    region: tuple[tuple[bool, ...], ...]


def image_pair(rng: random.Random, kind: str) -> Pair:
    """A scene and a question of `kind`, and a scene in which one attribute of one object is another."""
    while True:
        scene = arrange(rng)
        asked = ask(scene, kind, rng)
        item = None if asked is None else rng.choice(asked.named)
        if asked is None or item is None:
            continue
        other = _other_object(asked, item, scene, rng)
        if other is None:
            continue
        changed = Scene(tuple(other if each is item else each for each in scene.objects), scene.background)
        foil = _answer_of(kind, other, asked)
        if foil is not None and _fits(asked.answer, foil):
            return Pair(scene, asked.text, asked.answer, foil, changed, None, _patches((item,)))


def question_pair(rng: random.Random, kind: str) -> Pair:
    """A scene and a question of `kind`, and a question about the same scene in which one word is another."""
    while True:
        scene = arrange(rng)
        asked = ask(scene, kind, rng)
        if asked is None:
            continue
        for word, other in _exchanges(asked.text, rng):
            foil = _answer_about(scene, asked, word, other)
            if foil is not None and _fits(asked.answer, foil):
                text = re.sub(rf"\b{word}\b", other, asked.text)
                return Pair(scene, asked.text, asked.answer, foil, None, text, _patches(asked.named))


def tokens(word: str) -> int:
    """How many tokens of the built-in model a shape, colour, place or number has, less one if it is a plural."""
    return len(word.split()) + ("triangle" in word)


def _fits(answer: str, foil: str) -> bool:
    return answer != foil and tokens(answer) == tokens(foil)


def _patches(items: tuple[SceneObject, ...]) -> tuple[tuple[bool, ...], ...]:
    shares = sum(coverage(item.box, PATCHES, PATCHES) for item in items)
    return tuple(tuple(bool(share > 0) for share in row) for row in shares)  # type: ignore[union-attr]


# --- another scene ----------------------------------------------------------------------------------------------------


def _other_object(asked: Question, item: SceneObject, scene: Scene, rng: random.Random) -> SceneObject | None:
    """An object with one attribute unlike that of `item`: the one that is asked for, or of those counted, the named."""
    if asked.kind == "color":
        return dataclasses.replace(item, color=rng.choice([color for color in COLORS if color != item.color]))
    if asked.kind == "location":
        return _moved(item, scene, rng)
    if asked.kind == "object":
        return _reshaped(item, scene, rng)
    if _names(asked.text, item.shape + "s"):
        return _reshaped(item, scene, rng)
    if _names(asked.text, item.color):
        return dataclasses.replace(item, color=rng.choice([color for color in COLORS if color != item.color]))
    return None  # all things are counted, whatever they are like


def _reshaped(item: SceneObject, scene: Scene, rng: random.Random) -> SceneObject | None:
    x0, y0, x1, y1 = item.box
    shape = rng.choice([shape for shape in SHAPES if shape != item.shape])
    other = object_at(shape, item.color, ((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0), item.angle)
    return other if other.place == item.place and _has_room(other, item, scene) else None


def _moved(item: SceneObject, scene: Scene, rng: random.Random) -> SceneObject | None:
    x0, y0, x1, y1 = item.box
    half = max(x1 - x0, y1 - y0) / 2 + _MARGIN
    x, y = (min(max(rng.choice(_MIDDLES), half), 1 - half) for _ in range(2))
    other = object_at(item.shape, item.color, (x, y), max(x1 - x0, y1 - y0), item.angle)
    return other if other.place != item.place and _has_room(other, item, scene) else None


def _has_room(other: SceneObject, item: SceneObject, scene: Scene) -> bool:
    inside = all(0 <= edge <= 1 for edge in other.box)
    rest = [each for each in scene.objects if each is not item]
    free = not any(overlap(other.box, each.box, _MARGIN) or other.place == each.place for each in rest)
    return inside and free


def _answer_of(kind: str, other: SceneObject, asked: Question) -> str | None:
    """The answer in the other scene."""
    if kind == "number":  # one less of those that are counted; of none nothing is asked
        return NUMBERS[len(asked.named) - 2] if len(asked.named) > 1 else None
    return {"color": other.color, "object": other.shape, "location": other.place}[kind]


# --- another question -------------------------------------------------------------------------------------------------


def _exchanges(text: str, rng: random.Random) -> list[tuple[str, str]]:
    """The words of a question that name a shape or colour, and what each may become, in a random order."""
    found = [
        (word, other)
        for words in (SHAPES, _PLURALS, tuple(color for color in COLORS if " " not in color))
        for word in words
        if _names(text, word)
        for other in words
        if other != word and tokens(other) == tokens(word)
    ]
    rng.shuffle(found)
    return found


def _names(text: str, word: str) -> bool:
    """Whether a text has a word in it; "light blue" is not "blue"."""
    return re.search(rf"(?<!light )\b{word}\b", text) is not None


def _answer_about(scene: Scene, asked: Question, word: str, other: str) -> str | None:
    """The one right answer to the question with a word exchanged; None where it has none, or names nothing."""
    named = asked.named[0]
    changed = {
        name: other.removesuffix("s") if name == "shape" else other
        for name, value in (("shape", named.shape), ("color", named.color))
        if word in (value, value + "s")
    }
    # What else the question says of the object stays.
    said = {name for name in ("shape", "color") if _says(asked, name)}
    wanted = {name: changed.get(name, getattr(named, name)) for name in said}
    fitting = [each for each in scene.objects if all(getattr(each, name) == wanted[name] for name in wanted)]
    if asked.kind == "number":
        return NUMBERS[len(fitting) - 1] if fitting else None
    if len(fitting) != 1:
        return None
    return {"color": fitting[0].color, "object": fitting[0].shape, "location": fitting[0].place}[asked.kind]


def _says(asked: Question, name: str) -> bool:
    value = getattr(asked.named[0], name)
    return _names(asked.text, value) or _names(asked.text, value + "s")
