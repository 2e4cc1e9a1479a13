"""Synthetic scenes: one to four coloured shapes with a soft shadow on a varied, calm background.

For: any number of pictures without licensing issues, about which every question has one right answer.
Cost: `draw` takes about 2 ms at 64 px and 30 ms at 384 px; neither torch nor transformers is imported.
Ends: at pictures; `questions.py` asks about them, `network.py` makes the model.

All positions are fractions of the picture, x to the right and y down, so that a scene can be drawn at any size.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "ring")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (216, 62, 54),
    "orange": (240, 138, 36),
    "yellow": (242, 202, 50),
    "green": (70, 158, 78),
    "blue": (48, 84, 196),
    "light blue": (112, 190, 240),
    "purple": (124, 70, 170),
    "pink": (242, 138, 182),
    "black": (44, 44, 52),
}

# A place is a cell of a 3 x 3 grid. The gaps between the bands make every object's place unambiguous.
PLACES: tuple[tuple[str, ...], ...] = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
_BANDS = ((0.0, 0.37), (0.42, 0.58), (0.63, 1.0))

BACKGROUNDS: tuple[str, ...] = ("gradient", "horizon", "texture", "bands")

Box = tuple[float, float, float, float]
_MARGIN = 0.025  # kept free at the border and between objects
_SUPERSAMPLE = 4


@dataclass(frozen=True)
class SceneObject:
    """One shape of a scene.

    Attributes:
        shape: one of `SHAPES`.
        color: one of `COLORS`.
        box: (x0, y0, x1, y1), in fractions of the picture.
        angle: in degrees.
    """

    shape: str
    color: str
    box: Box
    angle: float = 0.0

    @property
    def place(self) -> str:
        """The cell of the 3 x 3 grid that contains the centre of the box, such as "top left"."""
        x0, y0, x1, y1 = self.box
        return PLACES[_third((y0 + y1) / 2)][_third((x0 + x1) / 2)]


@dataclass(frozen=True)
class Background:
    """A background.

    Attributes:
        style: one of `BACKGROUNDS`.
        colors: three RGB colours in 0..1.
        seed: seed of its details.
    """

    style: str
    colors: tuple[tuple[float, float, float], ...]
    seed: int


@dataclass(frozen=True)
class Scene:
    """Objects that do not overlap, on a background."""

    objects: tuple[SceneObject, ...]
    background: Background


def arrange(rng: random.Random) -> Scene:
    """Draw a random scene of one to four objects, each in its own cell of the 3 x 3 grid.

    Half of the scenes repeat a shape or a colour, so that there is something to count.
    """
    count = rng.choice((1, 2, 3, 3, 4, 4))
    shared_shape = rng.choice(SHAPES) if rng.random() < 0.45 else None
    shared_color = rng.choice(tuple(COLORS)) if rng.random() < 0.35 else None
    while True:
        objects: list[SceneObject] = []
        for cell in rng.sample(range(9), count):
            shape = shared_shape if shared_shape and rng.random() < 0.75 else rng.choice(SHAPES)
            color = shared_color if shared_color and rng.random() < 0.75 else rng.choice(tuple(COLORS))
            placed = _place(shape, color, cell, objects, rng)
            if placed is None:
                break
            objects.append(placed)
        if len(objects) == count:
            return Scene(tuple(objects), random_background(rng))


def object_at(shape: str, color: str, center: tuple[float, float], size: float, angle: float = 0.0) -> SceneObject:
    """An object whose longer side is `size`, around `center`; both are fractions of the picture."""
    _, width, height = _outline(shape, round(angle))
    x, y = center
    box = (x - size * width / 2, y - size * height / 2, x + size * width / 2, y + size * height / 2)
    return SceneObject(shape, color, box, float(round(angle)))


def random_background(rng: random.Random) -> Background:
    """Draw a pale background of any hue, on which every colour of `COLORS` stands out."""
    hue = rng.random()
    value = rng.uniform(0.72, 0.97)
    colors = []
    for _ in range(3):
        drift = rng.uniform(-0.14, 0.14)
        saturation = rng.uniform(0.04, 0.26)
        colors.append(_hsv((hue + drift) % 1.0, saturation, min(0.98, value + rng.uniform(-0.1, 0.1))))
    return Background(rng.choice(BACKGROUNDS), tuple(colors), rng.randrange(2**31))


def draw(scene: Scene, size: int) -> Image.Image:
    """Draw `scene` as an RGB picture of `size` x `size` pixels, antialiased.

    Raises:
        ValueError: for fewer than 16 pixels, at which shapes cannot be distinguished.
    """
    if size < 16:
        raise ValueError(f"size: got {size}; accepted are 16 pixels and more")
    canvas = _draw_background(scene.background, size)
    masks = [_mask(item, size) for item in scene.objects]
    if masks:
        canvas *= 1.0 - 0.42 * _shadow(masks, size)[:, :, None]
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size
    for item, mask in zip(scene.objects, masks, strict=True):
        x0, y0, x1, y1 = item.box
        # The object lies inside its box; antialiased edges reach one pixel further.
        rows, columns = (
            slice(max(0, math.floor(start * size) - 1), math.ceil(end * size) + 1)
            for start, end in ((y0, y1), (x0, x1))
        )
        # Light falls from the upper left: 9 % brighter there, 9 % darker at the lower right.
        across = (ramp - (x0 + x1) / 2) / (x1 - x0)
        down = (ramp - (y0 + y1) / 2) / (y1 - y0)
        light = 1.0 - 0.09 * np.clip(across[None, columns] + down[rows, None], -1.0, 1.0)
        paint = np.asarray(COLORS[item.color], dtype=np.float32) / 255.0
        part = canvas[rows, columns]
        part += mask[rows, columns, None] * (light[:, :, None] * paint - part)
    return Image.fromarray((np.clip(canvas, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), "RGB")


def coverage(box: Box, rows: int, columns: int) -> NDArray[np.float64]:
    """The share of each image patch that `box` covers, (rows, columns) in 0..1."""
    x0, y0, x1, y1 = box
    across = np.clip(
        np.minimum(x1 * columns, np.arange(1, columns + 1)) - np.maximum(x0 * columns, np.arange(columns)), 0, 1
    )
    down = np.clip(np.minimum(y1 * rows, np.arange(1, rows + 1)) - np.maximum(y0 * rows, np.arange(rows)), 0, 1)
    return np.asarray(down[:, None] * across[None, :], dtype=np.float64)


def overlap(first: Box, second: Box, margin: float = 0.0) -> bool:
    """Whether two boxes, the first grown by `margin` on every side, share any area."""
    return (
        first[0] - margin < second[2]
        and second[0] < first[2] + margin
        and first[1] - margin < second[3]
        and second[1] < first[3] + margin
    )


def _place(shape: str, color: str, cell: int, others: list[SceneObject], rng: random.Random) -> SceneObject | None:
    """Place an object randomly into a cell without touching the others; None after eight failed tries."""
    upper = 0.37 if len(others) < 2 else 0.31
    for _ in range(8):
        size = rng.uniform(0.22, upper)
        angle = rng.uniform(-14.0, 14.0) if shape in ("square", "triangle", "star", "heart") else 0.0
        half = size / 2 + _MARGIN
        row, column = divmod(cell, 3)
        x = rng.uniform(max(_BANDS[column][0], half), min(_BANDS[column][1], 1 - half))
        y = rng.uniform(max(_BANDS[row][0], half), min(_BANDS[row][1], 1 - half))
        item = object_at(shape, color, (x, y), size, angle)
        if not any(overlap(item.box, other.box, _MARGIN) for other in others):
            return item
    return None


def _third(value: float) -> int:
    return 0 if value < 0.395 else 1 if value < 0.605 else 2


@lru_cache(maxsize=512)
def _outline(shape: str, angle: int) -> tuple[tuple[tuple[float, float], ...], float, float]:
    """Corners of a shape rotated by `angle` degrees, scaled to 0..1, and its width and height (the longer is 1)."""
    if shape in ("circle", "ring"):
        points = [_polar(turn / 60, 1.0) for turn in range(60)]
    elif shape == "square":
        points = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    elif shape == "triangle":
        points = [_polar(turn / 3, 1.0) for turn in range(3)]
    elif shape == "star":
        points = [_polar(turn / 10, 1.0 if turn % 2 == 0 else 0.45) for turn in range(10)]
    elif shape == "heart":
        points = []
        for turn in range(72):
            t = 2 * math.pi * turn / 72
            x = 16 * math.sin(t) ** 3
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((x, -y))
    else:
        raise ValueError(f"shape: got {shape!r}; accepted are {', '.join(SHAPES)}")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    points = [(x * c - y * s, x * s + y * c) for x, y in points]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    longer = max(width, height)
    unit = tuple(((x - min(xs)) / width, (y - min(ys)) / height) for x, y in points)
    return unit, width / longer, height / longer


def _polar(turn: float, radius: float) -> tuple[float, float]:
    return radius * math.sin(2 * math.pi * turn), -radius * math.cos(2 * math.pi * turn)


def _mask(item: SceneObject, size: int) -> NDArray[np.float32]:
    """The share of each pixel that the object covers, (size, size) in 0..1, by supersampling."""
    large = size * _SUPERSAMPLE
    x0, y0, x1, y1 = (value * large for value in item.box)
    image = Image.new("L", (large, large), 0)
    pen = ImageDraw.Draw(image)
    if item.shape in ("circle", "ring"):
        pen.ellipse((x0, y0, x1 - 1, y1 - 1), fill=255)
        if item.shape == "ring":
            rim = 0.24 * (x1 - x0)
            pen.ellipse((x0 + rim, y0 + rim, x1 - 1 - rim, y1 - 1 - rim), fill=0)
    else:
        points, _, _ = _outline(item.shape, round(item.angle))
        pen.polygon([(x0 + x * (x1 - x0) - 0.5, y0 + y * (y1 - y0) - 0.5) for x, y in points], fill=255)
    return np.asarray(image.reduce(_SUPERSAMPLE), dtype=np.float32) / 255.0


def _shadow(masks: list[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    """The shadow of all objects, (size, size) in 0..1: their masks shifted to the lower right and blurred."""
    together = np.clip(np.sum(masks, axis=0), 0.0, 1.0)
    image = Image.fromarray((together * 255).astype(np.uint8), "L")
    moved = image.transform(
        image.size,
        Image.Transform.AFFINE,
        (1, 0, -0.012 * size, 0, 1, -0.028 * size),
        resample=Image.Resampling.BILINEAR,
    )
    blurred = moved.filter(ImageFilter.GaussianBlur(0.018 * size))
    return np.asarray(blurred, dtype=np.float32) / 255.0


def _draw_background(background: Background, size: int) -> NDArray[np.float32]:
    """The background, (size, size, 3) in 0..1."""
    rng = random.Random(background.seed)  # noqa: S311  (scenes, not secrets)
    first, second, third = (np.asarray(color, dtype=np.float32) for color in background.colors)
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = ramp[None, :, None], ramp[:, None, None]
    if background.style == "horizon":
        height = rng.uniform(0.5, 0.78)
        wall = first + (second - first) * (y / height) + np.zeros_like(x)
        floor = third * (0.8 + 0.16 * (y - height) / (1 - height)) + np.zeros_like(x)
        return np.asarray(wall + np.clip((y - height) * 140 + 0.5, 0, 1) * (floor - wall), dtype=np.float32)
    turn = rng.uniform(0, 2 * math.pi)
    along = 0.5 + 0.7 * ((x - 0.5) * math.cos(turn) + (y - 0.5) * math.sin(turn))
    canvas = first * (1 - along) + second * along
    if background.style == "texture":
        cells = rng.choice((4, 5, 6))
        grain = np.asarray([[rng.uniform(-1, 1) for _ in range(cells)] for _ in range(cells)], dtype=np.float32)
        clouds = np.asarray(Image.fromarray(grain).resize((size, size), Image.Resampling.BICUBIC))
        canvas = canvas + 0.55 * np.clip(0.5 + clouds[:, :, None], 0, 1) * (third - canvas)
    elif background.style == "bands":
        waves = rng.uniform(2.0, 5.0)
        swing = 0.5 + 0.5 * np.sin(2 * math.pi * waves * along + rng.uniform(0, 6.28))
        canvas = canvas + 0.3 * swing * (third - canvas)
    return np.asarray(canvas, dtype=np.float32)


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """RGB of a colour given by hue, saturation and value, all in 0..1."""

    def channel(n: int) -> float:
        k = (n + hue * 6) % 6
        return value - value * saturation * max(0.0, min(k, 4 - k, 1.0))

    return channel(5), channel(3), channel(1)
