"""Training batches as plain arrays: pictures, questions, and what every image patch shows.

For: a worker process, which draws lessons ahead while `train.py` computes; torch is not needed here.
Cost: about 2 ms per picture.
Ends: at arrays; `teaching.py` has tokens, targets and losses.
"""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from blip_trace_widget.demo.questions import KINDS, Question, ask
from blip_trace_widget.demo.scenes import COLORS, PLACES, SHAPES, Scene, arrange, coverage, draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGES_A_LESSON = 32
QUESTIONS_AN_IMAGE = 3
KIND_SHARES = (0.20, 0.22, 0.33, 0.25)  # of color, object, number, location: counting is learned most slowly
FILLED = 0.4  # a patch shows an object whose box covers at least this share of it
IGNORED = -100  # a patch on an object's rim: neither object nor background
_AHEAD = 8  # lessons drawn ahead of the one in use

# What a patch may show, by property; class 0 is the background.
PLACE_NAMES: tuple[str, ...] = tuple(place for row in PLACES for place in row)
PROPERTIES: tuple[tuple[str, ...], ...] = (SHAPES, tuple(COLORS), PLACE_NAMES)


@dataclass(frozen=True)
class Lesson:
    """The batch of one training step.

    Attributes:
        pixels: uint8, (images, size, size, 3).
        patches: classes or IGNORED, int64, (images, properties, rows * columns).
        questions: `QUESTIONS_AN_IMAGE` for each image, image by image.
        named: patches of the objects that a question names, (questions, rows * columns) bool.
        places: places of these objects, (questions, places) bool.
    """

    pixels: NDArray[np.uint8]
    patches: NDArray[np.int64]
    questions: tuple[Question, ...]
    named: NDArray[np.bool_]
    places: NDArray[np.bool_]


def lessons(seed: int, first: int, count: int, size: int, grid: int) -> Iterator[Lesson]:
    """Yield `count` lessons of `size` px pictures, from number `first` on, drawn ahead by a worker process.

    A lesson's content depends only on `seed` and its number.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as helper:
        waiting: deque[Future[Lesson]] = deque()
        try:
            for index in range(count + _AHEAD):
                if index < count:
                    waiting.append(helper.submit(draw_lesson, seed, first + index, size, grid))
                if index >= _AHEAD and waiting:
                    yield waiting.popleft().result()
        finally:
            helper.shutdown(cancel_futures=True)


def draw_lesson(seed: int, index: int, size: int, grid: int) -> Lesson:
    """Draw lesson number `index` of a training with this seed."""
    rng = random.Random(f"lesson {seed} {index}")  # noqa: S311  (scenes, not secrets)
    pixels = np.empty((IMAGES_A_LESSON, size, size, 3), dtype=np.uint8)
    patches = np.empty((IMAGES_A_LESSON, len(PROPERTIES), grid * grid), dtype=np.int64)
    asked: list[Question] = []
    for image in range(IMAGES_A_LESSON):
        scene, questions = _scene_with_questions(rng)
        pixels[image] = np.asarray(draw(scene, size))
        patches[image] = _patch_classes(scene, grid)
        asked.extend(questions)
    named = [np.any([coverage(item.box, grid, grid) >= FILLED for item in one.named], axis=0) for one in asked]
    places = [[place in {item.place for item in one.named} for place in PLACE_NAMES] for one in asked]
    return Lesson(pixels, patches, tuple(asked), np.stack(named).reshape(len(asked), grid * grid), np.asarray(places))


def _scene_with_questions(rng: random.Random) -> tuple[Scene, list[Question]]:
    while True:
        scene = arrange(rng)
        tried = (ask(scene, kind, rng) for kind in rng.choices(KINDS, KIND_SHARES, k=2 * QUESTIONS_AN_IMAGE))
        questions = [question for question in tried if question is not None]
        if len(questions) >= QUESTIONS_AN_IMAGE:
            return scene, questions[:QUESTIONS_AN_IMAGE]


def _patch_classes(scene: Scene, grid: int) -> NDArray[np.int64]:
    """The class of every patch for every property, (properties, grid * grid)."""
    covered = np.stack([coverage(item.box, grid, grid).ravel() for item in scene.objects])
    owner, share = covered.argmax(axis=0), covered.max(axis=0)
    classes = np.empty((len(PROPERTIES), grid * grid), dtype=np.int64)
    for row, names in enumerate(PROPERTIES):
        own = [(item.shape, item.color, item.place)[row] for item in scene.objects]
        ids = np.asarray([names.index(name) + 1 for name in own])
        classes[row] = np.where(share >= FILLED, ids[owner], np.where(share < 0.05, 0, IGNORED))
    return classes
