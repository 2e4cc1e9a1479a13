"""Several runs as one: the same tables as a single run's, or refused."""

import json
import multiprocessing
import os
import re
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from blip_trace_widget import DatasetTrace, demo_samples, merge, trace_dataset
from blip_trace_widget.__main__ import main
from blip_trace_widget.dataset import store
from helpers.dataset_runs import NOISE
from helpers.paths import OLD_FILES

SAMPLES = list(demo_samples(11))
#: Texts are compared as texts, however a column stores them.
PLAIN = {"check_categorical": False, "check_dtype": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, demo):
    """A whole run, and the same in two pieces of other batches, one of them with a skipped sample."""
    folder = tmp_path_factory.mktemp("runs")
    samples = [*SAMPLES[:4], (folder / "nowhere.png", "what is it?", "red", None, "lost"), *SAMPLES[4:]]
    for name, some, size in (("whole", samples, 4), ("one", samples[:7], 4), ("two", samples[7:], 3)):
        trace_dataset(some, demo, folder / name, corruption=NOISE, progress=False, batch_size=size)
    return folder


def same(merged, runs):
    """The same as the pieces, one after the other, bit for bit; as the whole run, but for the rounding of batches."""
    one, two, whole = (DatasetTrace.load(runs / name) for name in ("one", "two", "whole"))
    assert merged.counts == whole.counts
    for of in (lambda found: found.samples, DatasetTrace.to_dataframe):
        pieces = [of(one), of(two).assign(sample=lambda table: table["sample"] + len(one))]
        assert_frame_equal(of(merged), pd.concat(pieces, ignore_index=True), check_exact=True, **PLAIN)
        assert_frame_equal(of(merged), of(whole), atol=1e-5, **PLAIN)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_two_pieces_are_the_whole(runs, tmp_path):
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    merged, whole = merge([runs / "one", runs / "two"], tmp_path / "new" / "out"), DatasetTrace.load(runs / "whole")
    same(merged, runs)
    assert merged.counts["skipped: the picture cannot be read"] == 1
    for number in whole.traced["sample"]:
        for one, other in zip(merged.traces(number), whole.traces(number), strict=True):
            np.testing.assert_allclose(one.samples, other.samples, atol=1e-5)
            assert one.snapshot.question == other.snapshot.question
        assert merged.picture(number) == whole.picture(number)
    for path in store.parts(merged.folder, "samples"):
        batch = int(path.stem[-6:])
        assert set(pq.read_table(path)["sample"].to_numpy() // merged.settings["batch_size"]) == {batch}
    assert json.loads((merged.folder / store.COUNTS).read_text()) == merged.counts
    assert before == {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_what_was_merged_is_merged_again_and_not_resumed(runs, tmp_path, demo):
    more = trace_dataset(
        demo_samples(3, seed=9), demo, tmp_path / "more", corruption=NOISE, progress=False, batch_size=2
    )
    both = merge([runs / "one", more.folder], tmp_path / "both")
    three = merge([both.folder, runs / "two"], tmp_path / "three")
    assert three.counts["given"] == 15
    assert three.settings["merged"] == 3
    with pytest.raises(ValueError, match="was begun with other settings: merged was 2 and is None now"):
        trace_dataset(SAMPLES, demo, both.folder, corruption=NOISE, progress=False, batch_size=4)
    assert DatasetTrace.load(both.folder).counts == both.counts


def test_other_settings_are_named(runs, tmp_path, demo):
    trace_dataset(SAMPLES[:1], demo, tmp_path / "log", corruption=NOISE, progress=False, metric="log_probability")
    told = r"log' has other settings than '.*one': metric was 'probability' and is 'log_probability' now"
    with pytest.raises(ValueError, match=told):
        merge([runs / "one", tmp_path / "log"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sample_in_two_folders_is_refused_with_the_count(runs, tmp_path):
    with pytest.raises(ValueError, match=r"two' has 5 samples that are in others too, such as id .*whole'"):
        merge([runs / "whole", runs / "two"], tmp_path / "out")
    with pytest.raises(ValueError, match="has 7 samples"):
        merge([runs / "one", runs / "one"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folders", "error"),
    [
        ("one", r"folders: expected two or more paths of folders, got str"),
        (3, r"folders: expected two or more paths of folders, got int"),
        (["one"], r"folders: expected two or more, got 1"),
        (["one", 3], r"folders: expected paths of folders, got int among them"),
        (["one", "nowhere"], r"no such folder"),
    ],
)
def test_what_is_no_list_of_folders_is_refused(runs, tmp_path, folders, error):
    given = [runs / each if isinstance(each, str) else each for each in folders] if type(folders) is list else folders
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=error):
        merge(given, tmp_path / "out")


def test_a_place_that_is_taken_is_refused(runs, tmp_path):
    pieces = [runs / "one", runs / "two"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"out: .* is a file"):
        merge(pieces, tmp_path / "file")
    with pytest.raises(ValueError, match=r"out: .* is not empty"):
        merge(pieces, runs / "one")
    with pytest.raises(TypeError, match="out: expected the path of a folder"):
        merge(pieces, None)
    (tmp_path / "empty").mkdir()
    assert merge(pieces, tmp_path / "empty").counts["given"] == 12


@pytest.mark.parametrize("link", ["folder", "nowhere"])
def test_a_place_may_be_a_link_to_an_empty_folder(runs, tmp_path, link):
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").symlink_to(link)
    if link == "nowhere":
        with pytest.raises(OSError, match=r"out: .*out' cannot be written"):
            merge([runs / "one", runs / "two"], tmp_path / "out")
        return
    same(merge([runs / "one", runs / "two"], tmp_path / "out"), runs)
    assert (tmp_path / "out").is_symlink()
    same(DatasetTrace.load(tmp_path / "folder"), runs)


@pytest.mark.parametrize(
    "others", [lambda: ThreadPoolExecutor(1), lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))]
)
def test_another_run_in_the_place_of_a_merge_is_refused(runs, tmp_path, monkeypatch, demo, others):
    pieces, out, whole, told = [runs / "one", runs / "two"], tmp_path / "out", store.Store.put, []

    def put(self, batch, *tables):
        whole(self, batch, *tables)
        if batch == 1 and not told:
            told.append("asked")
            told.append(executor.submit(merge, pieces, out).exception(60))
            with pytest.raises(OSError, match="another run is writing to"):
                trace_dataset(SAMPLES, demo, out, progress=False)

    monkeypatch.setattr(store.Store, "put", put)
    with others() as executor:
        merged = merge(pieces, out)
    assert isinstance(told[1], OSError)
    assert re.match(r"out: another run is writing to '.*out' now; wait for it, or take another folder", str(told[1]))
    same(merged, runs)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_batch_without_its_cells_is_refused(runs, tmp_path, demo):
    folder = tmp_path / "piece"
    trace_dataset(demo_samples(3, seed=9), demo, folder, corruption=NOISE, progress=False)
    cells = store.part(folder, "cells", 0)
    pq.write_table(pq.read_table(cells, filters=[("sample", "=", 1)]), cells)
    with pytest.raises(ValueError, match="has other samples than its cells"):
        merge([runs / "one", folder], tmp_path / "out")
    assert visible(tmp_path / "out") == []
    assert merge([runs / "one", runs / "two"], tmp_path / "out").counts["given"] == 12


def merge_and_die(folders, out, after):
    """Merge, and be killed when so many files are in their place."""
    count, whole = iter(range(after)), Path.replace

    def trapped(*arguments):
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)

    Path.replace = trapped
    merge(folders, out)


@pytest.mark.parametrize("after", [0, 3, 8, 11])  # of which the last two are on the way to its place
def test_a_merge_that_is_killed_leaves_nothing_that_looks_finished(runs, tmp_path, after):
    pieces, out = [runs / "one", runs / "two"], tmp_path / "out"
    process = multiprocessing.get_context("spawn").Process(target=merge_and_die, args=(pieces, out, after))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"it has no dataset\.json"):
        DatasetTrace.load(out)
    same(merge(pieces, out), runs)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in out.iterdir()) == [".lock", *visible(out)]


def test_folders_of_an_earlier_version_keep_what_only_they_have(tmp_path):
    old = DatasetTrace.load(OLD_FILES / "dataset")
    copy = tmp_path / "other"
    for path in (OLD_FILES / "dataset").rglob("*"):
        if path.is_file():
            place = copy / path.relative_to(OLD_FILES / "dataset")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    for path in (copy / "samples").glob("*.parquet"):
        table = pq.read_table(path)
        names = table.column_names.index("id")
        ids = [f"other {name}" for name in table["id"].to_pylist()]
        pq.write_table(store.replaced(table, id=ids), path)
        assert table.column_names[names] == "id"
    merged = merge([OLD_FILES / "dataset", copy], tmp_path / "out")
    assert merged.counts["given"] == 2 * old.counts["given"]
    number = int(old.traced["sample"].iloc[0])
    for at in (number, number + len(old)):
        one, other = merged.trace(at), old.trace(number)
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.snapshot.packed() == other.snapshot.packed()


def test_the_shell_merges(runs, tmp_path, capsys):
    pieces, out = [str(runs / "one"), str(runs / "two")], str(tmp_path / "out")
    assert main(["merge", *pieces, "--out", out]) == 0
    assert "12 samples: " in capsys.readouterr().out
    assert main(["merge", *pieces, "--out", out]) == 1
    assert "error: --out: " in capsys.readouterr().err
