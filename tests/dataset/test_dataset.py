"""trace_dataset: exact, nothing dropped, resumable after any end, the same on a cluster."""

import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import zlib
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from blip_trace_widget import (
    BlipVqa,
    DatasetTrace,
    GaussianNoise,
    ImageSwap,
    QuestionSwap,
    Sample,
    State,
    Tracer,
    TraceWidget,
    demo_samples,
    trace_dataset,
)
from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.batch import UNBROKEN, UNREADABLE, UNUSABLE, WRONG
from blip_trace_widget.dataset.corruptions import own_noise
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.tracing.runs import Runner
from blip_trace_widget.tracing.together import clean_together
from helpers.dataset_runs import EVERYTHING, NOISE, trace, trace_and_die
from helpers.random_models import random_model
from helpers.reference import Hooked
from helpers.reference import noise as reference_noise

#: Questions of the shared run, of the one that is killed twice, and of those of pairs.
SAMPLES, KILLED, PAIRS = 200, 96, 8


def same_tables(one, other):
    pd.testing.assert_frame_equal(one.to_dataframe(), other.to_dataframe(), check_exact=True)
    pd.testing.assert_frame_equal(one.samples, other.samples, check_exact=True)


def parts(folder):
    return sorted((Path(folder) / "samples").glob("part-*.parquet"))


#: What each process that is started here would import by itself, in seconds: that of a run, of a worker, of BLIP.
PRELOADED = [
    *(
        "blip_trace_widget.dataset.batch",
        "blip_trace_widget.tracing.tracer",
        "pandas",
        "pyarrow.parquet",
        "distributed",
    ),
    *("transformers.models.blip.modeling_blip", "transformers.models.blip.image_processing_pil_blip"),
]


@pytest.fixture(scope="module")
def processes():
    """A way to start processes in which the package is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Twelve questions in three batches."""
    return trace(tmp_path_factory.mktemp("small") / "out", 12, batch_size=4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What one process gives that nobody kills, once for each kind."""
    found = {}

    def of(pairs, options):
        kind = pairs, bool(options)
        if kind not in found:
            found[kind] = trace(tmp_path_factory.mktemp("undisturbed") / "out", PAIRS, 4, pairs, **options)
        return found[kind]

    return of


# --- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", [GaussianNoise(3.0, "additive", 4, seed=5), QuestionSwap("what is it ?")])
def test_every_cell_is_what_a_tracer_and_plain_hooks_give(tmp_path, corruption):
    model = random_model(seed=3)
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)) for _ in range(3)]
    swap = isinstance(corruption, QuestionSwap)
    questions = ["what is it ?", "where is the red circle ?", "what is red ?", "how many ?"]
    questions = ["where is that ?"] * 4 if swap else questions
    samples = [
        Sample(pictures[0], questions[0], "red", id="7"),
        Sample(pictures[1], questions[1], "light blue", id="a name"),
        Sample(pictures[0], questions[2]),  # a picture asked twice, the model's own answer
        Sample(pictures[2], questions[3], "blue"),
        Sample(pictures[0], questions[0], "green"),
        Sample(pictures[0], questions[0], "light blue"),
    ]
    asked = {"corruption": corruption, "metric": "log_probability"}
    sites = ("block_output", "mlp", "cross_attention", "block_input")  # of which some are the others' over again
    grids = {"blocks": ("question_encoder", "answer_decoder"), "sites": sites}
    found = trace_dataset(samples, model, tmp_path / "out", **grids, **asked, progress=False)
    assert found.counts["traced"] >= 3, found.samples[["reason", "why"]]
    for number, sample in enumerate(samples):
        name = sample.id or str(number)
        damage = own_noise(corruption, name)
        if not swap:
            assert damage.seed == 5 + (zlib.crc32(b"a name") if name == "a name" else int(name))
        tracer = Tracer(model, *sample[:3], **{**asked, "corruption": damage})
        row = found.samples.iloc[number]
        assert row["clean"] == pytest.approx(tracer.clean.score, abs=1e-5)
        assert row["total_effect"] == pytest.approx(tracer.total_effect.value, abs=1e-5)
        assert row["traced"] == (tracer.total_effect.value > 1e-3)
        if not row["traced"]:
            continue
        for block, site in found.grids:
            expected, got = tracer.trace(block, site), found.trace(number, block, site)
            np.testing.assert_allclose(got.samples, expected.samples, atol=1e-5)
            np.testing.assert_allclose(got.stderr, expected.stderr, atol=1e-5)
            assert got.settings == expected.settings
            assert got.tokens == expected.tokens
        if swap or sample.answer is None:
            continue
        hooked = Hooked(
            model.hf,
            model.processor.image_processor(images=sample.image, return_tensors="pt")["pixel_values"],
            tracer.case.bases.question_ids,
            model.answer_ids("answer", sample.answer),
        )
        clean, state = hooked.embeddings(), State("question_encoder", 1, 3, "mlp")
        noisy = reference_noise(clean, 3.0, "additive", 4, damage.seed)
        scores = np.log(hooked.patched_scores([[state]], clean, noisy, "restore"))[:, 0]
        np.testing.assert_allclose(found.trace(number, site="mlp").samples[:, 1, 3], scores, atol=1e-5)


def test_the_image_encoder_s_grid_is_averaged_too(tmp_path, demo):
    noise = GaussianNoise(2.0, samples=2, at="patch_embeddings")
    asked = {"blocks": ("image_encoder", "answer_decoder"), "corruption": noise, "progress": False}
    few = random_model(seed=2, patches=3)
    found = trace_dataset(demo_samples(3), few, tmp_path / "out", **asked, metric="kl_divergence")
    sample = list(demo_samples(3))[1]
    tracer = Tracer(few, *sample[:3], corruption=own_noise(noise, "1"), metric="kl_divergence")
    expected = tracer.trace("image_encoder")
    np.testing.assert_allclose(found.trace(1).samples, expected.samples, atol=1e-5)
    assert found.mean("exact").roles == expected.tokens
    widget = TraceWidget.from_dataset(found)
    assert widget.block == "image_encoder"
    assert widget.grid["tokens"] == list(expected.tokens)
    widget.close()


def test_clean_runs_computed_together_are_those_computed_alone(monkeypatch):
    model = random_model(seed=1)
    generator = np.random.default_rng(1)
    pictures = [Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)) for _ in range(4)]
    asked = [(0, "what ?", None), (1, "why ?", "red"), (2, "what is that ?", "red"), (3, "where ?", "light blue")]
    asked += [(0, "where ?", None), (0, "who is that ?", "red")]
    known, passes, whole = {}, [], type(model).embed_images
    monkeypatch.setattr(
        type(model), "embed_images", lambda self, images: passes.append(len(images)) or whole(self, images)
    )

    def tracer(picture, question, answer):
        if picture not in known:
            known[picture] = Tracer(model, pictures[picture], question, answer)
            return known[picture]
        return known[picture].replace(question=question, answer=answer)

    for budget in (2**30, 1):  # all at once, and each in a group of its own
        model.limits = Limits(memory=budget, together=True)
        known.clear()
        tracers = [tracer(*each) for each in asked]
        passes.clear()
        groups = list(clean_together(each.case.bases for each in tracers))
        assert sorted(at for group in groups for at in group) == list(range(6))
        assert sum(passes) == 4  # each picture once
        assert max(passes) == (2 if budget > 1 else 1)
        for (picture, question, answer), together in zip(asked, tracers, strict=True):
            alone = Tracer(model, pictures[picture], question, answer)
            assert together.case.bases.own_answer_ids() == alone.case.bases.own_answer_ids()
            assert together.clean.score == pytest.approx(alone.clean.score, abs=1e-6)
            np.testing.assert_allclose(together.clean.distribution, alone.clean.distribution, atol=1e-6)
            np.testing.assert_allclose(together.corrupted.scores, alone.corrupted.scores, atol=1e-5)


# --- nothing is dropped ----------------------------------------------------------------------------------------------


def test_every_sample_is_traced_or_skipped_with_its_reason(tmp_path, demo, capsys):
    good = next(iter(demo_samples(1)))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    samples = [
        (good.image, good.question, good.answer, None, "good", "a"),
        (tmp_path / "nowhere.png", good.question),
        (broken, good.question),
        (None, good.question),
        (good.image, ""),
        (good.image, good.question, "\N{SNOWMAN}"),
        (good.image, "is " * 400, "red"),
        (good.image, good.question, "light blue" if good.answer != "light blue" else "red"),
        {"image": good.image, "question": None},
        (good.image, good.question, True),
    ]
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, only_correct=True)
    reasons = [None if isinstance(reason, float) else reason for reason in found.samples["reason"]]
    assert reasons == [None, *[UNREADABLE] * 3, UNUSABLE, UNUSABLE, UNUSABLE, WRONG, UNUSABLE, UNUSABLE]
    assert "nowhere.png" in found.samples["why"][1]
    assert "cannot spell" in found.samples["why"][5]
    assert found.counts == {
        "given": 10,
        "traced": 1,
        f"skipped: {WRONG}": 1,
        f"skipped: {UNREADABLE}": 3,
        f"skipped: {UNUSABLE}": 5,
    }
    assert json.loads((tmp_path / "out" / "counts.json").read_text("utf-8")) == found.counts
    assert "10 samples: 1 traced, 1 skipped" in capsys.readouterr().out
    with pytest.raises(ValueError, match="number 7 was skipped: the model's answer is wrong"):
        found.trace(7)
    with pytest.raises(ValueError, match="no number 99"):
        found.trace(99)
    quiet = trace_dataset(
        samples[:1], demo, tmp_path / "quiet", corruption=GaussianNoise(0.0, samples=2), progress=None
    )
    assert quiet.counts == {"given": 1, "traced": 0, f"skipped: {UNBROKEN}": 1}
    with pytest.raises(ValueError, match="no traced sample"):
        quiet.mean()
    assert "traced" not in capsys.readouterr().out


def test_a_batch_of_which_nothing_can_be_asked_is_no_end(tmp_path, demo):
    good = next(iter(demo_samples(1)))
    samples = [(tmp_path / f"{number}.png", good.question) for number in range(2)]
    found = trace_dataset([*samples, good], demo, tmp_path / "out", corruption=NOISE, batch_size=2, progress=False)
    assert found.counts == {"given": 3, "traced": 1, f"skipped: {UNREADABLE}": 2}
    assert found.mean().samples.max() == 1
    # A picture that is there at last is tried again, and no other.
    good.image.save(tmp_path / "1.png")
    found = trace_dataset([*samples, good], demo, tmp_path / "out", corruption=NOISE, batch_size=2, progress=False)
    assert found.counts == {"given": 3, "traced": 2, f"skipped: {UNREADABLE}": 1}
    odd = [
        (tmp_path / "\udcff.png", good.question),
        (good.image, np.array([1, 2])),
        (good.image, "what?", None, None, "\udcff"),
    ]
    found = trace_dataset(odd, demo, tmp_path / "odd", corruption=NOISE, progress=False)
    assert found.counts["given"] == 3
    assert found.samples["reason"].tolist()[:2] == [UNREADABLE, UNUSABLE]
    assert found.samples["id"][2] == "\\udcff"


def test_one_s_own_metric_is_known_by_its_code_and_its_errors_are_its_own(tmp_path, demo):
    samples = list(demo_samples(1))
    trace_dataset(
        samples,
        demo,
        tmp_path / "out",
        corruption=NOISE,
        metric=lambda logits, answer: logits[..., 0, 5],
        progress=False,
    )
    again = lambda logits, answer: logits[..., 0, 5]  # noqa: E731
    other = lambda logits, answer: logits[..., 0, 6]  # noqa: E731
    assert (
        trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, metric=again, progress=False).counts["given"]
        == 1
    )
    with pytest.raises(ValueError, match=f"that of {re.escape(str(tmp_path / 'out'))} is another"):
        TraceWidget.from_dataset(tmp_path / "out")
    with pytest.raises(ValueError, match="metric was '<lambda>"):
        trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, metric=other, progress=False)

    def broken(_logits, _answer):
        raise ValueError("it is broken")

    with pytest.raises(ValueError, match="it is broken"):
        trace_dataset(samples, demo, tmp_path / "broken", corruption=NOISE, metric=broken, progress=False)
    # Nothing has landed: the folder may be begun with other settings.
    assert trace_dataset(samples, demo, tmp_path / "broken", corruption=NOISE, progress=False).counts["given"] == 1


def test_two_runs_at_once_do_not_write_into_one_folder(tmp_path, demo):
    def begin_another(done, _total):
        with pytest.raises(OSError, match="another run is writing"):
            trace(tmp_path / "out", 4, batch_size=2)
        told.append(done)

    told = []
    trace(tmp_path / "out", 4, batch_size=2, progress=begin_another)
    assert told == [2, 4]
    assert trace(tmp_path / "out", 4, batch_size=2).counts["given"] == 4


def test_a_corruption_that_raises_the_score_did_not_break_the_answer(tmp_path, demo):
    one, other = (sample for sample in demo_samples(4) if sample.group in ("color", "location"))
    # The other picture's answer is asked for: swapping that picture in makes it likely.
    wrong = Tracer(demo, other.image, one.question).answer
    swapped = ImageSwap(other.image)
    total = Tracer(demo, one.image, one.question, wrong, corruption=swapped).total_effect.value
    assert total < 0
    for metric, reason in (("probability", UNBROKEN), ("log_probability", UNBROKEN)):
        found = trace_dataset(
            [(one.image, one.question, wrong)],
            demo,
            tmp_path / metric,
            corruption=swapped,
            metric=metric,
            progress=False,
        )
        assert found.samples["reason"][0] == reason
    # A divergence grows where the answer breaks.
    found = trace_dataset([one[:3]], demo, tmp_path / "kl", corruption=NOISE, metric="kl_divergence", progress=False)
    assert found.counts["traced"] == 1
    assert found.trace(0).total_effect < 0


def test_noise_goes_with_the_sample_wherever_it_stands(tmp_path, demo):
    samples = [sample._replace(id=f"q{at}") for at, sample in enumerate(demo_samples(5))]
    one = trace_dataset(samples, demo, tmp_path / "a", corruption=NOISE, progress=False)
    other = trace_dataset(samples[::-1][:3], demo, tmp_path / "b", corruption=NOISE, progress=False)
    for number in range(3):
        np.testing.assert_allclose(other.trace(number).samples, one.trace(4 - number).samples, atol=1e-5)
    seeds = {one.trace(number).settings["corruption"]["seed"] for number in range(5)}
    assert len(seeds) == 5


def test_the_tables_can_be_read_by_any_tool(small_run):
    cells = pd.read_parquet(small_run.folder / "cells")
    samples = pd.read_parquet(small_run.folder / "samples")
    assert list(cells.columns) == list(store.COLUMNS["cells"])
    assert list(samples.columns) == list(store.COLUMNS["samples"])
    assert len(samples) == 12
    assert set(cells["sample"]) == set(small_run.traced["sample"])
    trace = small_run.trace(3)
    of = cells[(cells["sample"] == 3) & (cells["block"] == "question_encoder")]
    cell = of[(of["layer"] == 2) & (of["position"] == 1)].iloc[0]
    assert cell["token"] == trace.tokens[1]
    assert cell["score"] == trace.scores[2, 1]
    assert cell["indirect_effect"] == trace.indirect_effect[2, 1]
    assert cell["stderr"] == trace.stderr[2, 1]
    assert cell["clean"] == trace.clean
    assert cell["corrupted"] == trace.corrupted.mean()
    assert cell["group"] == "location"


# --- resumable -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_if_nothing_had_happened(tmp_path, processes, dataset):
    folder = tmp_path / "out"
    first = processes.Process(target=trace, args=(folder, KILLED, 8))
    first.start()
    while len(parts(folder)) < 3:
        assert first.is_alive()
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    landed = {path: path.stat().st_mtime_ns for path in parts(folder)}
    assert 3 <= len(landed) < KILLED / 8
    second = processes.Process(target=trace_and_die, args=(folder, KILLED, 8, "cells landed without their samples", 4))
    second.start()
    second.join()
    assert second.exitcode == -signal.SIGKILL
    assert len(landed) < len(parts(folder)) < KILLED / 8
    same_tables(trace(folder, KILLED, 8), dataset.select(samples=range(KILLED)))
    assert {path: path.stat().st_mtime_ns for path in landed} == landed  # what had landed was not computed again
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize(
    "point",
    [
        "a file is written but not in its place",
        "cells landed without their samples",
        "in the middle of a file",
        "in the middle of a batch",
    ],
)
def test_a_run_killed_at_any_point_goes_on(tmp_path, processes, small_run, point, after):
    killed = processes.Process(target=trace_and_die, args=(tmp_path / "out", 12, 4, point, after))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    same_tables(trace(tmp_path / "out", 12, batch_size=4), small_run)


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["grids", "everything"])
def test_a_run_of_pairs_killed_in_a_batch_goes_on(tmp_path, processes, undisturbed, options):
    point = "in the middle of a batch"
    killed = processes.Process(
        target=trace_and_die, args=(tmp_path / "out", PAIRS, 4, point, PAIRS - 1, "image", options)
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(parts(tmp_path / "out")) >= 1
    asked = {"batch_size": 4, "pairs": "image", **options}
    same_tables(trace(tmp_path / "out", PAIRS, **asked), undisturbed("image", options))


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"pairs": "image", "blocks": "answer_decoder", **EVERYTHING}, 8),
        ({"hold": "mlp", "head": (None, "all"), "sites": "cross_attention", "blocks": "answer_decoder"}, 2),
        ({"receivers": "answer", "blocks": "question_encoder", "metric": ("probability", "kl_divergence")}, 2),
    ],
    ids=["everything", "holding", "paths"],
)
def test_ctrl_c_at_any_run_ends_the_call_and_the_next_one_goes_on(tmp_path, monkeypatch, options, every):
    """The same call, interrupted later and later in the same batch until it comes to its end."""
    whole, runs = trace(tmp_path / "whole", 2, batch_size=1, **options), iter(())

    def struck(self, hidden, of=Runner.logits):
        logits = of(self, hidden)
        if next(runs, None) == 0:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(Runner, "logits", struck)
    for after in itertools.count(0, every):
        runs = iter(range(after, -1, -1))
        try:
            found = trace(tmp_path / "out", 2, batch_size=1, **options)
        except KeyboardInterrupt:
            continue
        break
    assert next(runs, None) is not None, "a call that was interrupted returned"
    assert after > 2 * every
    same_tables(found, whole)
    assert np.isfinite(found.to_dataframe()["score"]).all()


def test_what_is_finished_is_not_computed_again(tmp_path, demo, monkeypatch):
    done = []
    first = trace(tmp_path / "out", 6, batch_size=4, progress=lambda *told: done.append(told))
    assert done == [(4, 6), (6, 6)]
    traced = []
    whole = store.Store.put
    monkeypatch.setattr(store.Store, "put", lambda self, *args: traced.append(args[0]) or whole(self, *args))
    same_tables(trace(tmp_path / "out", 6, batch_size=4), first)
    assert traced == []
    trace(tmp_path / "out", 10, batch_size=4)  # more of the same: the last batch was not whole
    assert traced == [1, 2]
    with pytest.raises(ValueError, match="at least 8 samples are there, 6 were given"):
        trace(tmp_path / "out", 6, batch_size=4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"corruption": GaussianNoise(3.0, samples=2)}, r"corruption\.factor was 5\.0 and is 3\.0 now"),
        ({"metric": "log_probability"}, "metric was 'probability' and is 'log_probability' now"),
        ({"blocks": "question_encoder"}, "grids was"),
        ({"batch_size": 5}, "batch_size was 4 and is 5 now"),
        ({"only_correct": True}, "only_correct was False"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(small_run, change, told):
    before = {path: path.stat().st_mtime_ns for path in small_run.folder.rglob("*.[jp]*")}
    assert len(before) == 8
    with pytest.raises(ValueError, match=told):
        trace(small_run.folder, 12, **{"batch_size": 4, **change})
    assert {path: path.stat().st_mtime_ns for path in small_run.folder.rglob("*.[jp]*")} == before


def test_other_samples_or_weights_in_the_same_folder_are_refused(small_run):
    options = {"corruption": NOISE, "progress": False, "batch_size": 4}
    with pytest.raises(ValueError, match="number 0 has image"):
        trace_dataset(demo_samples(12, seed=1), BlipVqa.demo(), small_run.folder, **options)
    changed = [sample._replace(group="other") if sample.id == "5" else sample for sample in demo_samples(12)]
    with pytest.raises(ValueError, match="number 5 has group 'object' there, 'other' now"):
        trace_dataset(changed, BlipVqa.demo(), small_run.folder, **options)
    with pytest.raises(ValueError, match="weights was"):
        trace_dataset(demo_samples(12), random_model(seed=1), small_run.folder, **options)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_ours_is_refused(tmp_path, demo):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(ValueError, match="files of other origin"):
        trace(tmp_path, 2)
    with pytest.raises(NotADirectoryError, match="is a file"):
        trace(tmp_path / "thesis.tex", 2)
    with pytest.raises(ValueError, match=r"no folder that trace_dataset wrote: it has no dataset\.json"):
        DatasetTrace.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        DatasetTrace.load(tmp_path / "nowhere")
    for content, told in (
        ("{", "no folder that trace_dataset wrote"),
        ("[]", "no folder that trace_dataset wrote"),
        ('{"format": "other"}', "its format is 'other'"),
        (json.dumps({"format": store.FORMAT, "version": 99, "settings": {}}), "format version 99"),
    ):
        (tmp_path / "dataset.json").write_text(content)
        with pytest.raises(ValueError, match=told):
            DatasetTrace.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
@pytest.mark.parametrize("table", store.TABLES)
def test_a_damaged_file_is_named_and_the_rest_stays(tmp_path, damage, table):
    folder = tmp_path / "out"
    whole = trace(folder, 4, batch_size=2)
    path = store.part(folder, table, 1)
    if damage == "other":
        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), path)
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "cut" else b"")
    for act in (lambda: DatasetTrace.load(folder).to_dataframe(), lambda: trace(folder, 4, batch_size=2)):
        with pytest.raises(ValueError, match=rf"{path.name}' is damaged.*Delete this file"):
            act()
    path.unlink()
    assert DatasetTrace.load(folder).counts["given"] == 2
    same_tables(trace(folder, 4, batch_size=2), whole)


@pytest.mark.parametrize(
    ("table", "column", "value", "told"),
    [
        ("samples", "snapshot", "{}", "snapshot: expected"),
        ("samples", "snapshot", "[" * 100_000, "damaged"),
        ("samples", "settings", "null", "damaged"),
        (
            "samples",
            "settings",
            '{"metric": "probability", "corruption": {"type": "__import__"}}',
            "corruption: expected",
        ),
        ("samples", "corrupted_scores", [0.5] * 3, "3 corrupted runs do not fit 2"),
        ("samples", "clean", None, "damaged"),
        ("samples", "picture", b"x" * (5 << 20), "picture: expected at most 4 MB"),
        ("cells", "layer", 5, "tokens do not fit"),
        ("cells", "scores", [0.5], "corrupted runs do not fit"),
        ("cells", "block", "image_encoder", "damaged"),
        ("cells", "scores", None, "damaged"),
    ],
)
def test_nothing_that_stands_in_the_tables_is_trusted(tmp_path, small_run, table, column, value, told):
    folder = shutil.copytree(small_run.folder, tmp_path / "out")
    path = store.part(folder, table, 0)
    rows = store.read(path).to_pylist()
    for row in rows:
        row[column] = value
    pyarrow.parquet.write_table(store.as_table(table, rows), path)
    with pytest.raises(ValueError, match=told):
        DatasetTrace.load(folder).traces(0)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": "4"},
        {"grids": [["image_encoder", "cross_attention"]]},
        {"grids": [["../..", "mlp"]]},
        {"grids": []},
        {"grids": 3},
        {"corruption": {"type": "eval"}},
        {"corruption": None},
    ],
)
def test_nothing_that_stands_in_the_settings_is_trusted(tmp_path, small_run, change):
    told = json.loads((small_run.folder / "dataset.json").read_text("utf-8"))
    told["settings"] |= change
    (tmp_path / "dataset.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(ValueError, match="no folder that trace_dataset wrote"):
        DatasetTrace.load(tmp_path)


def test_a_full_disk_is_told_and_what_was_finished_stays(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    trace(folder, 4, batch_size=4)
    size = max(path.stat().st_size for path in folder.rglob("*.parquet"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))  # as if no more fitted on the disk
        with pytest.raises(OSError, match=r"cannot be written.*kept.*make room where the disk is full"):
            trace(folder, 8, batch_size=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert DatasetTrace.load(folder).counts["given"] == 4
    assert not list(folder.rglob("*.part"))
    assert trace(folder, 8, batch_size=4).counts["given"] == 8


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"blocks": "image_encoder"}, "blocks: 'image_encoder' can be traced under"),
        ({"blocks": 5}, "blocks: expected some of"),
        ({"sites": None}, "sites: expected some of"),
        ({"blocks": ("decoder",)}, "blocks: expected one of"),
        ({"sites": ("attention",)}, "sites: expected one of"),
        ({"blocks": (), "sites": "mlp"}, "blocks, sites"),
        ({"corruption": 5}, "corruption: expected one such as"),
        ({"corruption": GaussianNoise(region=[[True]])}, "region: expected 8 x 8"),
        ({"metric": "accuracy"}, "metric: expected one of"),
        ({"only_correct": 1}, "only_correct: expected True or False"),
        ({"batch_size": 0}, "batch_size: expected from 1 to 65536"),
        ({"client": "tcp://127.0.0.1:8786"}, "client: expected a dask.distributed.Client"),
        ({"progress": 3}, "progress: expected"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(tmp_path, options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        trace(tmp_path / "out", 2, **options)
    if "progress" not in options:
        assert not (tmp_path / "out").exists()


def test_what_is_missing_is_told_with_what_to_install(tmp_path, demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for act in (lambda: trace(tmp_path / "out", 1), lambda: TraceWidget.from_dataset(tmp_path)):
        with pytest.raises(ImportError, match=r'pip install "blip_trace_widget\[data\]"'):
            act()
    assert not (tmp_path / "out").exists()


# --- what is made of it ----------------------------------------------------------------------------------------------


def test_averages_of_the_built_in_questions(dataset):
    table = dataset.to_dataframe()
    assert dataset.counts["given"] == SAMPLES
    mean = dataset.mean()
    of = table[(table["block"] == "question_encoder") & (table["site"] == "block_output")]
    first = of[(of["layer"] == 4) & (of["position"] == 0)]
    assert mean.indirect_effect[4, 0] == pytest.approx(first["indirect_effect"].mean())
    total = dataset.traced["total_effect"].mean()
    assert mean.total_effect == pytest.approx(total)
    assert mean.recovery[4, 0] == pytest.approx(first["indirect_effect"].mean() / total)
    last = of[of["layer"] == 5].groupby("sample")["indirect_effect"].last()
    assert mean.indirect_effect[5, -1] == pytest.approx(last.mean())
    assert (mean.low <= mean.indirect_effect).all()
    assert (mean.indirect_effect <= mean.high).all()
    assert mean.significant[5].all()
    shown = mean.to_dataframe()
    assert len(shown) == mean.recovery.size
    assert {"layer", "role", "samples", "recovery", "recovery_low", "recovery_high"} <= set(shown.columns)
    by_group = {group: dataset.mean(group=group) for group in dataset.groups}
    assert sum(len(each.aligned.total) for each in by_group.values()) == dataset.counts["traced"]
    decoder = dataset.mean(block="answer_decoder")
    assert decoder.roles[0] == "[DEC]"
    again = dataset.mean()
    np.testing.assert_array_equal(again.low, mean.low)


def test_one_length_and_groups_can_be_selected(dataset):
    lengths = dataset.traced["question_tokens"].map(len)
    usual = int(lengths.mode()[0])
    some = dataset.select(tokens=usual)
    assert some.mean("exact").samples.tolist() == [int((lengths == usual).sum())] * usual
    with pytest.raises(ValueError, match="exact"):
        dataset.mean("exact")
    assert set(dataset.select(group="color").samples["group"]) == {"color"}
    assert dataset.select(correct=True).samples["correct"].all()
    assert len(dataset.select(samples=[3, 5])) == 2
    for wrong in ({"group": "sound"}, {"tokens": 1}, {"tokens": "a"}, {"samples": []}):
        with pytest.raises((ValueError, TypeError)):
            dataset.select(**wrong)


def test_groups_are_compared(dataset):
    found = dataset.compare("color", "number", resamples=300)
    first, second = (dataset.mean(group=group).indirect_effect for group in ("color", "number"))
    np.testing.assert_allclose(found.difference[:, 0], (first - second)[:, 0])
    assert found.samples.shape == (2, len(found.roles))
    assert ((found.p > 0) & (found.p <= 1)).all()
    for groups in (("color", "sound"), ("color", "color")):
        with pytest.raises(ValueError, match="group_"):
            dataset.compare(*groups)
    for wrong in ({"rate": 2}, {"confidence": 95}, {"resamples": 0}, {"block": "image_encoder"}, {"site": "mlp"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataset.compare("color", "number", **wrong)


def test_averages_are_drawn(dataset, monkeypatch):
    drawn = dataset.plot()
    assert [axes.get_title() for axes in drawn] == [
        f"{block} encoder: layer output, mean of {dataset.counts['traced']}".replace("answer encoder", "answer decoder")
        for block in ("question", "answer")
    ]
    labels = [label.get_text() for label in drawn[0].get_yticklabels()]
    assert labels == list(dataset.mean().roles)
    faint = dataset.compare("color", "number", resamples=100)
    dots = faint.plot().collections[0].get_offsets()
    assert {tuple(map(int, dot[::-1])) for dot in dots} == {tuple(cell) for cell in np.argwhere(~faint.significant.T)}
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert type(dataset.mean().plot()).__name__ == "Figure"


# --- a cluster -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(processes):
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    forkserver.ensure_running()  # with what `processes` preloads, not with what distributed would
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["grids", "everything"])
def test_a_cluster_that_loses_a_worker_gives_what_one_process_gives(tmp_path, client, undisturbed, options):
    workers, done = client.run(os.getpid), []

    def progress(count, total):
        done.append((count, total))
        if len(done) == 2:
            os.kill(next(iter(workers.values())), signal.SIGKILL)

    pairs = "image" if options else None
    found = trace(tmp_path / "cluster", PAIRS, 2, pairs, client=client, progress=progress, **options)
    assert done[-1] == (PAIRS, PAIRS)
    assert next(iter(workers.values())) not in client.run(os.getpid).values()
    same_tables(found, undisturbed(pairs, options))


@pytest.mark.slow
@pytest.mark.parametrize("corruption", [ImageSwap, lambda sample: ImageSwap(sample.other_image, sample.region)])
def test_a_cluster_swaps_pictures_that_its_workers_do_not_see(tmp_path, client, corruption):
    samples = []
    for number, sample in enumerate(demo_samples(4, pairs="image")):
        paths = [tmp_path / f"{number}{name}.png" for name in "ab"]
        for path, picture in zip(paths, (sample.image, sample.other_image), strict=True):
            picture.save(path)
        samples.append(sample._replace(image=paths[0], other_image=paths[1] if number else tmp_path / "nowhere.png"))
    demo, options = BlipVqa.demo(), {"corruption": corruption, "progress": False}
    found = trace_dataset(samples, demo, tmp_path / "out", client=client, **options)
    alone = trace_dataset(samples, demo, tmp_path / "alone", **options)
    assert found.counts == alone.counts
    assert found.counts["traced"] == 3
    for number in (1, 2, 3):
        np.testing.assert_allclose(found.trace(number).samples, alone.trace(number).samples, atol=1e-5)


@pytest.mark.slow
def test_a_cluster_reads_no_files_of_its_own_and_tells_what_it_lacks(tmp_path, client, demo):
    picture = next(iter(demo_samples(1)))
    picture.image.save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    unreadable = [tmp_path / "nowhere.png", tmp_path / "cut.png", "https://example.org/a.png"]
    samples = [(image, picture.question) for image in (tmp_path / "a.png", *unreadable)]
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=NOISE, client=client, progress=False)
    alone = trace_dataset(samples, demo, tmp_path / "alone", corruption=NOISE, progress=False)
    assert found.counts == {"given": 4, "traced": 1, f"skipped: {UNREADABLE}": 3}
    assert list(found.samples["why"][1:]) == list(alone.samples["why"][1:])
    np.testing.assert_allclose(found.trace(0).samples, alone.trace(0).samples, atol=1e-5)
    with pytest.raises(ValueError, match="give a hub id or a folder"):
        trace_dataset(samples, random_model(seed=0), tmp_path / "no", client=client, progress=False)
    edited = BlipVqa.from_pretrained(MODEL_FOLDER)
    with torch.no_grad():
        edited.hf.text_encoder.encoder.layer[0].output.dense.weight.mul_(0.5)
    with pytest.raises(
        ValueError, match=r"what the workers load .* which was changed since \(weights\).*save_pretrained"
    ):
        trace_dataset(samples, edited, tmp_path / "no", client=client, progress=False)
    with pytest.raises(ValueError, match="asynchronous=False"):
        trace_dataset(
            samples,
            demo,
            tmp_path / "no",
            client=SimpleNamespace(submit=print, scheduler_info=print, asynchronous=True),
            progress=False,
        )
    with pytest.raises(OSError, match="could not be loaded"):
        trace_dataset(samples, str(tmp_path / "no model"), tmp_path / "no", client=client, progress=False)

    def lose_the_package():
        import sys

        sys.path[:] = [place for place in sys.path if "site-packages" not in place and "main" not in place]

    client.run(lose_the_package)
    with pytest.raises(ImportError, match="Install it there: pip install"):
        trace_dataset(samples, demo, tmp_path / "no", client=client, progress=False)
    assert not (tmp_path / "no").exists()
