"""The curated example scenes, and writing them as PNG files with an `examples.json`.

For: `train.py`, so that one command makes pictures and model.
Cost: about a second.
Ends: at files; `blip_trace_widget.demo.examples` reads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from blip_trace_widget.demo.scenes import Background, Scene, SceneObject, draw, object_at
from blip_trace_widget.pictures import picture_hash

if TYPE_CHECKING:
    from pathlib import Path

PICTURE_SIZE = 384  # pixels

_SKY = (0.72, 0.88, 0.86)
_SAND = (0.89, 0.79, 0.66)
_MEADOW = (0.83, 0.87, 0.74)
_LILAC = (0.86, 0.82, 0.92)
_ROSE = (0.95, 0.85, 0.86)
_MIST = (0.80, 0.84, 0.88)
_IVORY = (0.95, 0.93, 0.87)
_STONE = (0.78, 0.75, 0.70)


class Curated(NamedTuple):
    """An example to be written: its slug, scene, question, right answer and kind."""

    name: str
    scene: Scene
    question: str
    answer: str
    kind: str


def _opening(circle: str) -> Scene:
    """The picture that the widget opens with; other circle colours make pairs that differ only in that."""
    return Scene(
        (
            object_at("circle", circle, (0.29, 0.34), 0.32),
            object_at("triangle", "yellow", (0.73, 0.24), 0.25),
            object_at("square", "blue", (0.69, 0.66), 0.33),
        ),
        Background("gradient", (_SKY, _SAND, _MEADOW), 4),
    )


def curated() -> tuple[Curated, ...]:
    """All examples, in the widget's order."""
    night_sky = Scene(
        (
            object_at("star", "light blue", (0.24, 0.26), 0.30, 8),
            object_at("star", "purple", (0.74, 0.70), 0.30, -6),
            object_at("heart", "red", (0.70, 0.22), 0.24),
        ),
        Background("texture", (_LILAC, _MIST, _ROSE), 11),
    )
    shelf = Scene(
        (
            object_at("heart", "pink", (0.26, 0.66), 0.30, -6),
            object_at("ring", "green", (0.72, 0.68), 0.28),
            object_at("square", "orange", (0.50, 0.24), 0.26, 7),
        ),
        Background("horizon", (_IVORY, _MIST, _STONE), 2),
    )
    beach = Scene(
        (
            object_at("triangle", "yellow", (0.30, 0.70), 0.32, -5),
            object_at("circle", "light blue", (0.72, 0.26), 0.30),
            object_at("star", "red", (0.74, 0.74), 0.24),
        ),
        Background("horizon", (_SKY, _IVORY, _SAND), 5),
    )
    marbles = Scene(
        (
            object_at("circle", "red", (0.24, 0.25), 0.27),
            object_at("circle", "green", (0.73, 0.30), 0.30),
            object_at("circle", "purple", (0.50, 0.74), 0.28),
        ),
        Background("bands", (_IVORY, _SAND, _ROSE), 7),
    )
    blues = Scene(
        (
            object_at("triangle", "blue", (0.26, 0.28), 0.27, -8),
            object_at("circle", "blue", (0.74, 0.72), 0.29),
            object_at("heart", "orange", (0.27, 0.76), 0.26),
        ),
        Background("gradient", (_MEADOW, _IVORY, _SKY), 9),
    )
    crowd = Scene(
        (
            object_at("ring", "purple", (0.24, 0.24), 0.26),
            object_at("star", "orange", (0.75, 0.25), 0.28, 6),
            object_at("heart", "red", (0.25, 0.75), 0.27),
            object_at("square", "green", (0.75, 0.76), 0.26, -9),
        ),
        Background("bands", (_MIST, _SKY, _IVORY), 21),
    )
    corner = Scene(
        (
            object_at("star", "black", (0.22, 0.22), 0.28),
            object_at("circle", "orange", (0.52, 0.50), 0.27),
            object_at("heart", "green", (0.78, 0.78), 0.28, 5),
        ),
        Background("gradient", (_MEADOW, _IVORY, _SKY), 3),
    )
    target = Scene(
        (
            object_at("ring", "blue", (0.50, 0.50), 0.30),
            object_at("triangle", "pink", (0.20, 0.24), 0.24),
            object_at("square", "yellow", (0.80, 0.78), 0.24, 6),
        ),
        Background("bands", (_MIST, _LILAC, _IVORY), 13),
    )
    return (
        Curated("green-circle", _opening("green"), "what color is the circle?", "green", "color"),
        Curated("one-circle", _opening("red"), "how many circles are there?", "one", "number"),
        Curated("red-circle", _opening("red"), "what color is the circle?", "red", "color"),
        Curated("light-blue-circle", beach, "what is the color of the circle?", "light blue", "color"),
        Curated("green-ring", shelf, "what color is the ring in the picture?", "green", "color"),
        Curated("pink-heart", shelf, "what is the pink object?", "heart", "object"),
        Curated("yellow-triangle", beach, "which shape is yellow?", "triangle", "object"),
        Curated("three-circles", marbles, "how many circles are there?", "three", "number"),
        Curated("two-blue-things", blues, "how many blue things are there?", "two", "number"),
        Curated("four-objects", crowd, "how many objects are in the image?", "four", "number"),
        Curated("star-top-left", corner, "where is the star?", "top left", "location"),
        Curated("heart-bottom-right", corner, "where is the green heart?", "bottom right", "location"),
        Curated("ring-in-the-center", target, "where is the ring in the picture?", "center", "location"),
        Curated("two-stars", night_sky, "how many stars can you see?", "two", "number"),
    )


def write(folder: Path) -> None:
    """Draw every example into `folder` and write `examples.json`; pictures shared by examples are stored once."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[Scene, str] = {}
    hashes: dict[Scene, str] = {}
    entries = []
    for item in curated():
        if item.scene not in files:
            files[item.scene] = f"{item.name}.png"
            picture = draw(item.scene, PICTURE_SIZE)
            picture.save(folder / files[item.scene], optimize=True)
            hashes[item.scene] = picture_hash(picture)
        entries.append(
            {
                "name": item.name,
                "picture": files[item.scene],
                "sha256": hashes[item.scene],
                "question": item.question,
                "answer": item.answer,
                "kind": item.kind,
                "objects": [_as_entry(thing) for thing in item.scene.objects],
            }
        )
    (folder / "examples.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _as_entry(thing: SceneObject) -> dict[str, object]:
    return {"shape": thing.shape, "color": thing.color, "box": [round(value, 4) for value in thing.box]}
