"""Random small problems for properties that hold of every model, and the same problems by plain hooks."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, Tracer
from blip_trace_widget.model.limits import Limits
from helpers.random_models import random_model
from helpers.reference import Hooked, noise

WORDS = ["red", "blue", "circle", "square", "what", "is", "the", "left", "two", "many"]
#: Each example is many whole runs of a model: a quarter of the usual number, the same ones every time; all of them, and
#: others every time, with --hypothesis-profile=thorough (500 a property).
THOROUGH = settings.default.max_examples > 100
EXAMPLES = settings(
    max_examples=settings.default.max_examples // 4,
    deadline=None,
    derandomize=not THOROUGH,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def problems(draw, vision_layers=1):
    """A random small model, question, answer and noise."""
    heads = draw(st.sampled_from([1, 2, 4]))
    model = random_model(
        seed=draw(st.integers(0, 10_000)),
        layers=draw(st.integers(1, 4)),
        heads=heads,
        width=heads * draw(st.sampled_from([4, 8])),
        patches=draw(st.integers(1, 3)),
        vision_layers=vision_layers,
    )
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
    tracer = Tracer(model, image, question, answer=answer, corruption=corruption)
    model.limits = Limits(rows=draw(st.sampled_from([1, 7, 40, 1024])))
    return tracer


def hooked(tracer):
    """The slow tracer of the same problem, its clean and its corrupted embeddings."""
    pixels = tracer.model.processor.image_processor(images=tracer.image, return_tensors="pt")["pixel_values"]
    c = tracer.corruption
    slow = Hooked(tracer.model.hf, pixels, tracer.case.bases.question_ids, tracer.case.answer_ids(), c.at)
    clean = slow.embeddings()
    return slow, clean, noise(clean, c.factor, c.kind, c.samples, c.seed, c.region)


def assert_close(ours, exact):
    """Within 1e-5, and relatively within 1e-3 where the value is small."""
    np.testing.assert_allclose(ours, exact, atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours, exact, atol=1e-9, rtol=1e-3)
