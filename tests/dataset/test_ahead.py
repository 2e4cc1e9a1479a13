"""Pictures decoded while the batch before theirs is computed: no more than there is room for, and no thread is left."""

import io
import os
import signal
import threading
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

from blip_trace_widget import DatasetTrace, GaussianNoise, ImageSwap, Sample, trace_dataset
from blip_trace_widget.dataset.ahead import ReadAhead
from blip_trace_widget.dataset.batch import UNREADABLE, Batch
from helpers.random_models import random_model

pytest.importorskip("pyarrow")
#: Seconds after which something never comes.
PATIENCE = 30
NOISE = GaussianNoise(2.0, samples=2)


def encoded(seed, size=(20, 12)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Noticed(Mapping):
    """A picture's bytes, which say when they are asked for."""

    def __init__(self, seed):
        self.given, self.asked = {"bytes": encoded(seed), "path": None}, threading.Event()

    def __getitem__(self, name):
        self.asked.set()
        return self.given[name]

    def __iter__(self):
        return iter(self.given)

    def __len__(self):
        return len(self.given)


def readers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pictures")]


@pytest.fixture(scope="module")
def small():
    return random_model(seed=1)


def test_the_next_batch_is_decoded_while_one_is_computed(small, tmp_path):
    pictures = [Noticed(seed) for seed in range(4)]
    seen = []

    def score(logits, ids):
        if not seen:  # in the first batch
            seen.append(pictures[3].asked.wait(PATIENCE))
        return logits.softmax(-1)[..., 0, ids[0]]

    samples = [Sample(picture, "is it red", "blue") for picture in pictures]
    found = trace_dataset(samples, small, tmp_path / "a", metric=score, corruption=NOISE, progress=False, batch_size=2)
    assert seen == [True]
    assert found.counts["given"] == 4
    assert not readers()
    plain = [sample._replace(image=Image.open(io.BytesIO(sample.image.given["bytes"]))) for sample in samples]
    expected = trace_dataset(plain, small, tmp_path / "b", metric=score, corruption=NOISE, progress=False, batch_size=2)
    for name in ("image", "clean", "corrupted"):
        assert list(found.samples[name]) == list(expected.samples[name])


def test_what_is_wrong_is_said_of_the_same_sample_and_no_sooner(small, tmp_path):
    (tmp_path / "good.png").write_bytes(encoded(1))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    names = ["good.png", "bad.png", "gone.png", "good.png"]
    options = {"corruption": NOISE, "metric": "kl_divergence", "progress": False}

    def samples():
        for name in names:
            yield Sample(tmp_path / name, "is it red", "blue")
        raise OSError("the list ends here")

    for size in (1, 2):
        folder = tmp_path / str(size)
        with pytest.raises(OSError, match="the list ends here"):
            trace_dataset(samples(), small, folder, batch_size=size, **options)
        found = DatasetTrace.load(folder).samples
        assert list(found["reason"].fillna("")) == ["", UNREADABLE, UNREADABLE, ""]
        assert "bad.png' cannot be read as a picture (it is damaged" in found["why"][1]
        assert "no such file" in found["why"][2]
        assert not readers()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_no_thread_is_left_where_the_work_ends_early(small, tmp_path, stop):
    def score(_logits, _ids):
        raise stop

    samples = [Sample(encoded(seed), "is it red", "blue") for seed in range(4)]
    with pytest.raises(stop):
        trace_dataset(samples, small, tmp_path, metric=score, corruption=NOISE, progress=False, batch_size=1)
    assert not readers()


def test_no_more_is_decoded_than_there_is_room_for():
    batches = [
        Batch(number, 3 * number, [Sample(encoded(at), "?", other_image=encoded(9)) for at in range(3)])
        for number in range(2)
    ]
    alone, following = ReadAhead(batches, ("image",), pixels=20 * 12)
    assert alone.decoded is None
    assert list(following.decoded) == [(0, "image"), (1, "image")]
    assert following.take(1).image.size == (20, 12)
    assert list(following.decoded) == [(0, "image")]
    assert following.take(1) is not None
    (_, both) = ReadAhead(batches, ("image", "other_image"))
    assert len(both.decoded) == 6


def test_partners_are_decoded_too(small, tmp_path):
    samples = [Sample(encoded(seed), "is it red", "blue", other_image=encoded(9 - seed)) for seed in range(4)]
    options = {"corruption": ImageSwap, "progress": False, "metric": "kl_divergence"}
    ahead, alone = (trace_dataset(samples, small, tmp_path / str(n), batch_size=n, **options) for n in (2, 4))
    for name in ("image", "other_image", "clean", "corrupted", "reason"):
        assert list(ahead.samples[name]) == list(alone.samples[name])


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork here")
def test_a_child_that_was_forked_on_the_way_reads_on_by_itself():
    batches = [Batch(number, number, [Sample(encoded(number), "?")]) for number in range(3)]
    for batch in ReadAhead(batches, ("image",)):
        if batch.number == 0:
            child = os.fork()
            here = child != 0
            if not here:
                signal.alarm(PATIENCE)
    if not here:
        os._exit(0 if batch.number == 2 and batch.decoded is None else 1)
    assert batch.decoded is not None
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not readers()
