"""The built-in models and their example pictures, for use without a download.

For: `examples()` has curated pictures with a question and its right answer, `MODEL_FOLDER` the weights of the tiny BLIP
that learned to answer; `blip_trace_widget.demo.circuits` writes those whose circuit is known.
Cost: importing it loads only NumPy and Pillow; a picture is read when its `image` is asked for.
Ends: at files and pictures; no model is loaded. `blip_trace_widget.demo.training` made both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from blip_trace_widget.checks import brief
from blip_trace_widget.demo.circuits import CIRCUITS, CircuitExample, circuit_examples, circuit_of, name_of
from blip_trace_widget.demo.scenes import SceneObject, coverage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BUILT_IN", "MODEL_FOLDER", "PICTURE_FOLDER", "Example", "SceneObject", "examples"]

MODEL_FOLDER: Path = Path(__file__).resolve().parent / "model"
PICTURE_FOLDER: Path = Path(__file__).resolve().parent / "pictures"


#: The names of the built-in models: first the one that learned.
BUILT_IN: tuple[str, ...] = ("built-in", *map(name_of, CIRCUITS))


@dataclass(frozen=True)
class Example:
    """A picture, a question about it, and its only right answer, which the built-in model gives.

    Attributes:
        name: a slug.
        picture: path of the picture.
        question: the question.
        answer: the right answer.
        kind: COCO-QA's kind of question: ``"color"``, ``"object"``, ``"number"`` or ``"location"``.
        objects: the objects in the picture: shape, colour and box (x0, y0, x1, y1) in fractions of the picture.
        sha256: the picture's `blip_trace_widget.pictures.picture_hash`, so that it is recognised without being read.
    """

    name: str
    picture: Path
    question: str
    answer: str
    kind: str
    objects: tuple[SceneObject, ...]
    sha256: str

    @property
    def image(self) -> Image.Image:
        """The picture, RGB, read anew at every call, so that callers may modify it."""
        with Image.open(self.picture) as stored:
            return stored.convert("RGB")

    def region(self, rows: int, columns: int, shape: str | None = None, color: str | None = None) -> NDArray[np.bool_]:
        """The image patches that the boxes of matching objects touch, (rows, columns) bool.

        Args:
            rows: rows of patches.
            columns: columns of patches.
            shape: only objects of this shape; None for any.
            color: only objects of this colour; None for any.

        Raises:
            ValueError: if nothing matches, or a number is below 1.
        """
        for name, count in (("rows", rows), ("columns", columns)):
            if count < 1:
                raise ValueError(f"{name}: got {count}; accepted are whole numbers from 1")
        chosen = [item for item in self.objects if shape in (None, item.shape) and color in (None, item.color)]
        if not chosen:
            objects = ", ".join(f"{item.color} {item.shape}" for item in self.objects)
            raise ValueError(f"shape, color: got {brief(shape)}, {brief(color)}; this picture has: {objects}")
        touched = np.zeros((rows, columns), dtype=np.bool_)
        for item in chosen:
            touched |= coverage(item.box, rows, columns) > 0
        return touched


@overload
def examples() -> tuple[Example, ...]: ...


@overload
def examples(model: Any) -> tuple[Example | CircuitExample, ...]: ...


def examples(model: Any = None) -> tuple[Example | CircuitExample, ...]:
    """The curated examples, with all four kinds of questions; the widget opens with the first.

    Args:
        model: a `BlipVqa`, or its name: of one by `BlipVqa.known_circuit` its own examples, each also with an
            ``other_image`` to swap in; for any other model the same as without one.
    """
    circuit = circuit_of(getattr(model, "name", model))
    return circuit_examples(circuit) if circuit else _curated()


@lru_cache(maxsize=1)
def _curated() -> tuple[Example, ...]:
    listed = json.loads((PICTURE_FOLDER / "examples.json").read_text(encoding="utf-8"))
    return tuple(
        Example(
            name=entry["name"],
            picture=PICTURE_FOLDER / entry["picture"],
            question=entry["question"],
            answer=entry["answer"],
            kind=entry["kind"],
            objects=tuple(SceneObject(item["shape"], item["color"], (*item["box"],)) for item in entry["objects"]),
            sha256=entry["sha256"],
        )
        for entry in listed
    )
