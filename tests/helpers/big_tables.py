"""A traced data set as large as the published ones, without computing it: a few traced questions, over and over."""

import numpy as np
import pyarrow as pa
from PIL import Image

from blip_trace_widget import DatasetTrace, GaussianNoise, trace_dataset
from blip_trace_widget.dataset import store
from helpers.random_models import random_model

#: Palit et al. trace as many questions of COCO-QA.
PUBLISHED = 13_113
#: Three a kind, of 8, 9 and 10 tokens: nine on average.
QUESTIONS = {
    "color": (
        "what color is the circle?",
        "what color does the circle have?",
        "what is the color of the circle?",
    ),
    "object": (
        "what is the red shape?",
        "what shape is the red object?",
        "which thing in the image is red?",
    ),
    "number": (
        "how many circles are there?",
        "what is the number of circles?",
        "how many shapes are in the picture?",
    ),
    "location": (
        "where is the circle located?",
        "where is the red shape located?",
        "where in the image is the circle?",
    ),
}


def big_table(folder, samples=PUBLISHED, layers=12, batch_size=16, questions=QUESTIONS):
    """Write a folder of so many samples with random effects, each column as `trace_dataset` writes it.

    Returns:
        the folder.
    """
    few = _traced(folder.with_name(f"{folder.name}-few"), layers, questions)
    rows, cells = (
        pa.concat_tables(store.read(path) for path in store.parts(few.folder, table)).unify_dictionaries()
        for table in ("samples", "cells")
    )
    of = cells["sample"].to_numpy()
    places = [np.flatnonzero(of == number) for number in rows["sample"].to_pylist()]
    generator = np.random.default_rng(0)
    with store.Store(folder, few.settings | {"batch_size": batch_size}) as made:
        for batch, first in enumerate(range(0, samples, batch_size)):
            numbers = np.arange(first, min(first + batch_size, samples))
            chosen = numbers % len(places)
            made.put(batch, _samples(rows.take(chosen), numbers, generator), _cells(cells, places, numbers, generator))
    return folder


def _traced(folder, layers, questions):
    model = random_model(layers=layers, heads=2, width=16)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    samples = [
        {"image": picture, "question": question, "answer": "red", "group": group}
        for group in questions
        for question in questions[group]
    ]
    # A divergence is there whatever a random model says: no question is skipped.
    noise = GaussianNoise(5.0, samples=10)
    found = trace_dataset(
        samples, model, folder, "question_encoder", corruption=noise, metric="kl_divergence", progress=False
    )
    assert found.counts["traced"] == len(samples), found
    return DatasetTrace.load(folder)


def _samples(table, numbers, generator):
    effect = -1 - generator.random(len(numbers))
    return store.replaced(
        table,
        sample=numbers,
        id=[str(number) for number in numbers],
        image=[f"COCO_train2014_{number * 2 // 3:012d}.jpg" for number in numbers],
        corrupted=-effect,
        total_effect=effect,
    )


def _cells(cells, places, numbers, generator):
    which = [places[number % len(places)] for number in numbers]
    sizes = [len(each) for each in which]
    table = cells.take(np.concatenate(which)).combine_chunks()
    score = generator.normal(1, 0.3, len(table))
    scores = score[:, None] + generator.normal(0, 0.1, (len(table), 10))
    ids = pa.array(np.repeat(np.arange(len(numbers)), sizes), pa.int32())
    named = pa.DictionaryArray.from_arrays(ids, [str(number) for number in numbers])
    return store.replaced(
        table,
        sample=np.repeat(numbers, sizes),
        score=score,
        indirect_effect=-generator.normal(0.3, 0.3, len(table)),
        scores=pa.ListArray.from_arrays(np.arange(0, 10 * len(table) + 1, 10, dtype=np.int32), scores.ravel()),
    ).set_column(1, table.schema.field("id"), named)
