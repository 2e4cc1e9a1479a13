"""Random small problems for properties that hold of every model, and the same problems by plain hooks."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, ImageSwap, MeanAblation, Scale, Tracer
from blip_trace_widget.choices import PLACES
from blip_trace_widget.model.limits import Limits
from helpers.changed_models import CHANGES
from helpers.random_models import random_model
from helpers.reference import Hooked, damaged

WORDS = ["red", "blue", "circle", "square", "what", "is", "the", "left", "two", "many"]
#: Each example is many whole runs of a model: a sixth of the usual number, the same ones every time; more, and others
#: every time, with --hypothesis-profile=thorough (333 a property).
THOROUGH = settings.default.max_examples > 100
EXAMPLES = settings(
    max_examples=settings.default.max_examples // 6,
    deadline=None,
    derandomize=not THOROUGH,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def problems(draw, vision_layers=1, corruptions=None, changes=()):
    """A random small model, question, answer and noise.

    Args:
        draw: hypothesis'.
        vision_layers: of the image encoder.
        corruptions: in place of noise: a strategy for a grid and a number of question tokens.
        changes: of `CHANGES`, of which one may have been made to the model.
    """
    heads = draw(st.sampled_from([1, 2, 4]))
    model = random_model(
        seed=draw(st.integers(0, 10_000)),
        layers=draw(st.integers(1, 4)),
        heads=heads,
        width=heads * draw(st.sampled_from([4, 8])),
        patches=draw(st.integers(1, 3)),
        vision_layers=vision_layers,
        check=False,  # it is compared with the model's own forward by whoever asks for a problem
    )
    if changes and draw(st.booleans()):
        CHANGES[draw(st.sampled_from(changes))](model.hf)
    question = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7)))
    answer = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)))
    pixels = draw(st.integers(0, 1000))
    image = np.random.default_rng(pixels).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    region = None
    if draw(st.booleans()):
        rows, columns = model.grid
        cells = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns).filter(any))
        region = np.array(cells).reshape(rows, columns)
    corruption = GaussianNoise(
        factor=draw(st.sampled_from([0.0, 0.3, 1.0, 5.0])),
        kind=draw(st.sampled_from(["multiplicative", "additive"])),
        samples=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**40)),
        region=region,
    )
    if corruptions is not None:
        corruption = draw(corruptions(model.grid, len(model.question_ids(question))))
    tracer = Tracer(model, image, question, answer=answer, corruption=corruption)
    model.limits = Limits(rows=draw(st.sampled_from([1, 7, 40, 1024])))
    return tracer


def hooked(tracer):
    """The slow tracer of the same problem, its clean and its corrupted embeddings."""

    def looking_at(image):
        pixels = tracer.model.processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
        return Hooked(tracer.model.hf, pixels, tracer.case.bases.question_ids, tracer.case.answer_ids(), c.at)

    c = tracer.corruption
    slow = looking_at(tracer.image)
    clean = slow.embeddings()
    return slow, clean, damaged(clean, c, lambda: looking_at(c.image).embeddings())


@st.composite
def every_corruption(draw, grid, tokens, places=PLACES):
    """Any corruption at any place, in a region or on some of the question's tokens."""
    at = draw(st.sampled_from(places))
    region = positions = None
    if at == "question_embeddings":
        positions = draw(st.none() | st.lists(st.integers(0, tokens - 1), min_size=1))
    elif draw(st.booleans()):
        region = draw(st.lists(st.booleans(), min_size=grid[0] * grid[1], max_size=grid[0] * grid[1]).filter(any))
        region = np.array(region).reshape(grid)
    if at == "question_embeddings" or draw(st.booleans()):
        kind = draw(st.sampled_from(["multiplicative", "additive"]))
        factor, samples = draw(st.sampled_from([0.3, 1.0, 5.0])), draw(st.integers(1, 3))
        return GaussianNoise(factor, kind, samples, draw(st.integers(0, 2**40)), region, at, positions)
    other = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return draw(
        st.sampled_from(
            [
                Scale(0.0, region, at),
                Scale(0.7691, region, at),
                Scale(2.5, region, at),
                MeanAblation("mean", region, at),
                MeanAblation("zero", region, at),
                ImageSwap(other, region, at),
            ]
        )
    )


#: How far scores of one run may lie apart in batches of other sizes, on any processor: products of matrices are added
#: up in another order there, and strong noise amplifies what float32 makes of that.
ROUNDED = 1e-4


def assert_close(ours, exact):
    """Within 1e-5, and relatively within 1e-3 where the value is small."""
    np.testing.assert_allclose(ours, exact, atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours, exact, atol=1e-9, rtol=1e-3)
