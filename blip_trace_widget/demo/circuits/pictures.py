"""The pictures of the known circuits, and all that can be asked about them.

For: `circuit_questions`, every question about every picture with four colours; `circuit_examples`, twelve of them to
choose from.
Cost: a picture of 24 x 24 pixels is drawn when it is asked for.
Ends: at pictures and questions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from blip_trace_widget.demo.circuits.descriptions import CIRCUITS, COLORS, NOTHING, PIXELS, PLACES, SIDE, CircuitName
from blip_trace_widget.pictures import picture_hash

#: What is at each of `PLACES`: a colour, or None for nothing.
Layout: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True)
class CircuitExample:
    """A picture, a question about one place in it, the right answer, and another picture to swap in.

    Attributes:
        layout: what is at the left, the right, the top and the bottom.
        place: the place that is asked for.
        other: what is there in the other picture.
    """

    layout: Layout
    place: str
    other: Layout

    @property
    def name(self) -> str:
        """A slug."""
        return f"{self.place}-{self.answer}"

    @property
    def question(self) -> str:
        """The question."""
        return f"what color is at the {self.place}?"

    @property
    def answer(self) -> str:
        """The right answer, which the model gives."""
        return self._at(self.layout)

    @property
    def other_answer(self) -> str:
        """The right answer for the other picture."""
        return self._at(self.other)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB, drawn anew at every call."""
        return draw(self.layout)

    @property
    def other_image(self) -> Image.Image:
        """The other picture, in which every place is different."""
        return draw(self.other)

    @property
    def sha256(self) -> str:
        """The picture's `blip_trace_widget.pictures.picture_hash`."""
        return picture_hash(self.image)

    @property
    def other_sha256(self) -> str:
        """That of the other picture."""
        return picture_hash(self.other_image)

    def _at(self, layout: Layout) -> str:
        return layout[list(PLACES).index(self.place)] or NOTHING


def draw(layout: Iterable[str | None]) -> Image.Image:
    """A picture with a coloured square at each place that has a colour, on black."""
    pixels = np.zeros((SIDE * PIXELS, SIDE * PIXELS, 3), np.uint8)
    for patch, color in zip(PLACES.values(), layout, strict=True):
        if color is not None:
            row, column = (PIXELS * at for at in divmod(patch, SIDE))
            pixels[row : row + PIXELS, column : column + PIXELS] = COLORS[color]
    return Image.fromarray(pixels)


def circuit_questions(circuit: CircuitName = "chain") -> Iterator[CircuitExample]:
    """Every question about every picture with a colour at each place: 324.

    The other picture has another colour at every place; for ``"redundant"`` nothing at any: where either of two
    carriers is enough, another colour in one of them is as good as the right one in the other.
    """
    for colors in itertools.product(COLORS, repeat=len(PLACES)):
        for place in PLACES:
            yield CircuitExample(colors, place, _other(circuit, colors))


def circuit_examples(circuit: CircuitName) -> tuple[CircuitExample, ...]:
    """A question for each place and colour.

    The other places have the other colours; but none where two carriers vote: noise can make a head look there, so that
    one carrier votes for two colours.
    """
    names, found = list(COLORS), []
    for asked, place in enumerate(PLACES):
        for start in range(len(names)):
            layout: Layout = tuple(names[(start + at - asked) % len(names)] for at in range(len(PLACES)))
            if CIRCUITS[circuit].votes:
                layout = tuple(color if at == asked else None for at, color in enumerate(layout))
            found.append(CircuitExample(layout, place, _other(circuit, layout)))
    return tuple(found)


def _other(circuit: str, layout: Layout) -> Layout:
    """What the other picture has: at each place the next colour, or nothing."""
    if circuit == "redundant":
        return (None,) * len(PLACES)
    names = list(COLORS)
    return tuple(None if color is None else names[(names.index(color) + 1) % len(names)] for color in layout)
