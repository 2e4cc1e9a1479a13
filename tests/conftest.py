"""What several test files share: the built-in model, small random models, and the front end's packages."""

import gc
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from blip_trace_widget import BlipVqa, DatasetTrace, Tracer, TraceWidget, examples
from helpers.dataset_runs import trace
from helpers.node import npm
from helpers.paths import ROOT
from helpers.random_models import random_model
from helpers.screen import Screen, session_of
from helpers.widgets import PACE, SMALL_CHUNKS, limited

# No example has a wall-clock limit: a busy machine is no fault of the code.
settings.register_profile("suite", deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("suite")
# The models are tiny: more threads only wait for each other, here and in the kernels of notebooks.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a machine has downloaded before changes no test.
os.environ["HF_HUB_CACHE"] = str(Path(tempfile.gettempdir()) / "blip_trace_widget_no_hub")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Where files are shared out to processes: those of slow tests first, then those of many tests.

    A long file that is begun last is waited for by all the others.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    counts = Counter(item.path for item in items)
    slow = {item.path for item in items if item.path.suffix == ".ipynb" or item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -counts[item.path]))


def pytest_collection_finish():
    """What is there when the tests begin stays: that the collector looks at it no more saves a tenth of all work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def demo():
    return BlipVqa.demo()


@pytest.fixture(scope="session")
def example():
    return next(item for item in examples() if item.name == "red-circle")


@pytest.fixture(scope="session")
def tracer(demo, example):
    return Tracer(demo, example.image, example.question)


@pytest.fixture(scope="module")
def filled_widget(tracer):
    """A widget with the question encoder's grid in view and the answer decoder's beside it, both filled."""
    shown = TraceWidget.from_tracer(tracer)
    for block in ("answer_decoder", "question_encoder"):
        shown.block = block
        shown.trace_all()
        shown.wait(60)
    yield shown
    shown.close()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A way to make a folder that all processes of a test run share: `made_once(name, make)`."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()

    def folder(name, make):
        place = (base.parent if shared else base) / name
        with FileLock(place.with_suffix(".lock")):
            if not place.exists():
                making = place.with_suffix(".part")
                make(making)
                making.rename(place)
        return place

    return folder


@pytest.fixture(scope="session")
def dataset(made_once):
    """Two hundred questions of the built-in model, traced without a disturbance."""
    return DatasetTrace.load(made_once("dataset", lambda folder: trace(folder, 200)))


@pytest.fixture(scope="session")
def pairs(made_once):
    """Pairs of pictures, with all heads of one attention."""
    asked = {"pairs": "image", "blocks": "question_encoder", "head": (None, "all")}
    sites = ("block_output", "cross_attention_out")
    return DatasetTrace.load(made_once("pairs", lambda folder: trace(folder, 24, sites=sites, **asked)))


@pytest.fixture
def screen():
    """A screen that only writes down what it is shown."""
    return Screen()


@pytest.fixture
def pace():
    """The session's; parametrized where a test needs another."""
    return PACE


@pytest.fixture
def session(demo, example, screen, pace):
    """A session for that screen, whose two runs are computed."""
    made = session_of(Tracer(demo, example.image, example.question), screen, pace=pace)
    made.begin()
    assert made.wait(30)
    yield made
    made.close()
    assert made.wait(30)


@pytest.fixture
def small_chunks(demo):
    """So little is computed at a time that much can happen between two chunks."""
    with limited(demo, **SMALL_CHUNKS):
        yield


@pytest.fixture(scope="session")
def small():
    """A random model of two layers."""
    return random_model(seed=0)


@pytest.fixture(scope="session")
def picture():
    """A random picture."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def js(made_once):
    """A copy of js/ with its packages, which are 200 MB, in a project of its own: building touches nothing here."""

    def make(project):
        shutil.copytree(ROOT / "js", project / "js", ignore=shutil.ignore_patterns("node_modules"))
        (project / "blip_trace_widget" / "static").mkdir(parents=True)
        npm(project / "js", "ci", "--no-audit", "--no-fund")

    return made_once("project", make) / "js"
