"""Questions of COCO-QA's four kinds about a scene, each with one right answer.

For: `sample(rng)` draws any number of held-out samples, optionally of one kind; `ask` words a question about an
existing scene.
Cost: about 0.2 ms per sample, not including the picture.
Ends: at lower-case English from the templates below; no question is ambiguous in its scene.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from blip_trace_widget.checks import brief
from blip_trace_widget.demo.scenes import COLORS, SHAPES, Scene, SceneObject, arrange

if TYPE_CHECKING:
    import random

KINDS: tuple[str, ...] = ("color", "object", "number", "location")
NUMBERS: tuple[str, ...] = ("one", "two", "three", "four")

# {shape} is a shape, {color} a colour, {thing} one of `_THINGS`; {shapes} and {things} are plurals.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "color": (
        "what color is the {shape}?",
        "what is the color of the {shape}?",
        "which color is the {shape}?",
        "which color does the {shape} have?",
        "what color does the {shape} have?",
        "what color is the {shape} in the picture?",
        "what is the color of the {shape} in the image?",
        "the {shape} is what color?",
        "the {shape} in the picture has what color?",
        "in what color is the {shape} painted?",
        "what color is used for the {shape}?",
    ),
    "object": (
        "what is {color}?",
        "which shape is {color}?",
        "what shape is {color}?",
        "what is the {color} {thing}?",
        "what shape is the {color} {thing}?",
        "what shape does the {color} {thing} have?",
        "what is the shape of the {color} {thing}?",
        "what {color} {thing} is in the picture?",
        "what is painted in {color}?",
        "what {thing} has the color {color}?",
        "which {thing} in the image is {color}?",
    ),
    "number": (
        "how many {shapes} are there?",
        "how many {shapes} are in the picture?",
        "how many {shapes} can you see?",
        "what is the number of {shapes}?",
        "how many {things} are there?",
        "how many {things} are in the image?",
        "how many {things} can you see in the picture?",
        "what is the number of {things}?",
        "how many {color} {things} are there?",
        "how many {color} {things} are in the picture?",
        "how many {things} are {color}?",
        "how many of the {things} are {color}?",
    ),
    "location": (
        "where is the {shape}?",
        "where is the {shape} in the picture?",
        "where can you see the {shape}?",
        "where in the image is the {shape}?",
        "in which part of the picture is the {shape}?",
        "what is the position of the {shape}?",
        "where is the {shape} located?",
        "where is the {color} {thing}?",
        "where is the {color} {thing} located?",
        "where in the picture is the {color} {thing}?",
        "where is the {color} {shape}?",
        "what is the position of the {color} {shape}?",
    ),
}
_THINGS = ("shape", "object", "thing")


class Question(NamedTuple):
    """A question, its only right answer, its kind, and the objects that it names."""

    text: str
    answer: str
    kind: str
    named: tuple[SceneObject, ...]


class Sample(NamedTuple):
    """A scene with a question about it, as `sample` draws it."""

    scene: Scene
    question: str
    answer: str
    kind: str


def sample(rng: random.Random, kind: str | None = None) -> Sample:
    """Draw a scene and a question about it; the same state of `rng` gives the same sample.

    Args:
        rng: the random numbers.
        kind: one of `KINDS`; None for any, all equally likely.

    Raises:
        ValueError: for any other kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind: got {brief(kind)}; accepted are {', '.join(KINDS)} and None")
    wanted = kind or rng.choice(KINDS)
    while True:
        scene = arrange(rng)
        question = ask(scene, wanted, rng)
        if question is not None:
            return Sample(scene, question.text, question.answer, question.kind)


def ask(scene: Scene, kind: str, rng: random.Random) -> Question | None:
    """Word a question of `kind` about `scene`; None if the scene allows no unambiguous one."""
    template = rng.choice(TEMPLATES[kind])
    if kind == "number":
        return _count(scene, template, rng)
    candidates = [item for item in scene.objects if _is_named_alone(item, scene, template)]
    if not candidates:
        return None
    item = rng.choice(candidates)
    answer = {"color": item.color, "object": item.shape, "location": item.place}[kind]
    return Question(_fill(template, item, rng), answer, kind, (item,))


def answers(kind: str) -> tuple[str, ...]:
    """All answers that questions of `kind` can have."""
    places = tuple(vertical + level for vertical in ("top", "", "bottom") for level in (" left", "", " right"))
    table = {
        "color": tuple(COLORS),
        "object": SHAPES,
        "number": NUMBERS,
        "location": tuple(place.strip() or "center" for place in places),
    }
    return table[kind]


def _is_named_alone(item: SceneObject, scene: Scene, template: str) -> bool:
    """Whether the template's description of an object fits only `item` in the scene."""
    fitting = [
        other
        for other in scene.objects
        if ("{shape}" not in template or other.shape == item.shape)
        and ("{color}" not in template or other.color == item.color)
    ]
    return len(fitting) == 1


def _count(scene: Scene, template: str, rng: random.Random) -> Question | None:
    """A counting question; sometimes None if its answer is "one", so that this is not the usual answer."""
    if "{shapes}" in template:
        groups = Counter(item.shape for item in scene.objects)
    elif "{color}" in template:
        groups = Counter(item.color for item in scene.objects)
    else:
        groups = Counter({"": len(scene.objects)})
    chosen, number = rng.choice([pair for pair in sorted(groups.items()) for _ in range(pair[1] ** 2)])
    if number == 1 and rng.random() < 0.5:
        return None
    named = tuple(item for item in scene.objects if chosen in ("", item.shape, item.color))
    return Question(_fill(template, named[0], rng), NUMBERS[number - 1], "number", named)


def _fill(template: str, item: SceneObject, rng: random.Random) -> str:
    thing = rng.choice(_THINGS)
    return template.format(shape=item.shape, shapes=item.shape + "s", color=item.color, thing=thing, things=thing + "s")
