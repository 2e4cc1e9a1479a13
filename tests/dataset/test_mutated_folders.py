"""Folders of a data set that somebody changed: each is shown, or refused by name; and files that claim too much."""

import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from blip_trace_widget import DatasetTrace, TraceWidget
from blip_trace_widget.dataset import store
from helpers.dataset_runs import EVERYTHING, trace
from helpers.mutations import VALUES, mutated

#: Mutations in every run, and in the slow one, 20000 where the environment says so.
FEW, MANY = 24, int(os.environ.get("BLIP_TRACE_MUTATIONS", "40"))
#: Columns whose texts are JSON.
JSON = ("snapshot", "settings")


#: Folders: of plain grids, and of all that a run can list.
KINDS = {"plain": {}, "everything": {"pairs": "image", **EVERYTHING}}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """Three questions in two batches."""
    return trace(tmp_path_factory.mktemp(request.param) / "out", 3, batch_size=2, **KINDS[request.param]).folder


def changed(whole, folder, chance):
    """A copy of the folder in which a few values are others."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    if chance.random() < 0.3:
        place = folder / store.SETTINGS
        place.write_text(json.dumps(mutated(json.loads(place.read_text("utf-8")), chance)), "utf-8")
        return folder
    table = chance.choice(store.TABLES)
    place = store.part(folder, table, chance.choice((0, 0, 1)))
    given = parquet.read_table(place)
    rows = given.to_pylist()
    column = chance.choice(given.column_names)
    some = rows if chance.random() < 0.3 else [chance.choice(rows)]
    value = chance.choice(VALUES)
    for row in some:
        if column in JSON and chance.random() < 0.9:
            row[column] = json.dumps(mutated(json.loads(row[column] or "{}") or {"a": 1}, chance))
        else:
            row[column] = value if chance.random() < 0.7 else chance.choice(rows)[column]
    if chance.random() < 0.1:
        rows = [*rows, chance.choice(rows)] if chance.random() < 0.5 else rows[1:]
    if chance.random() < 0.05:
        rows = [{name: item for name, item in row.items() if name != column} for row in rows]
    try:
        parquet.write_table(_as_table(rows, column, value, given), place)
    except pa.ArrowNotImplementedError:  # an empty object
        parquet.write_table(given.drop_columns([column]), place)
    return folder


def _as_table(rows, column, value, given):
    """Rows as a table, of another type where the value asks for one."""
    kinds = given.schema
    try:
        return pa.Table.from_pylist(
            rows, schema=kinds if not rows or column in rows[0] else kinds.remove(kinds.names.index(column))
        )
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        rest = given.drop_columns([column])
    try:
        return rest.append_column(column, pa.array([value] * given.num_rows))
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return rest


def show(folder):
    found = DatasetTrace.load(folder)
    assert repr(found)
    found.to_dataframe()
    for number in found.samples["sample"]:
        found.picture(int(number))
    for metric in found.metrics:
        for number in map(int, found.scored(metric)["sample"]):
            for trace_ in found.traces(number, metric):
                trace_.to_dataframe()
            if "heads" in found.settings:
                found.head_map(number, metric=metric).to_dataframe()
            if "image_map" in found.settings:
                found.image_map(number, metric=metric).to_dataframe()
        if "knockout" in found.settings:
            found.knockouts(metric)
        if len(found.scored(metric)):
            found.mean("ends", metric=metric).to_dataframe()
        if "heads" in found.settings:
            found.heads(metric=metric).to_dataframe()
    widget = TraceWidget.from_dataset(folder)
    try:
        widget.selection = [(0, 0)]
        widget.find = "color"
        widget.order = "total effect, largest first"
        for number in found.scored()["sample"]:
            widget.chosen = int(number)
            if np.isfinite(widget.trace.scores[0, 0]):
                widget.selection = [(0, 0)]
        json.dumps([widget.runs, widget.setup, widget.detail, widget.curve], allow_nan=False)
        assert widget.code
        for kind in ("svg", "html", "csv", "json"):
            widget.export(folder / f"shown.{kind}")
    finally:
        widget.close()


def check(whole, folder, seeds):
    loaded = 0
    for seed in seeds:
        changed(whole, folder / "mutated", random.Random(f"folder {seed}"))
        try:
            show(folder / "mutated")
            loaded += 1
            continue
        except (ValueError, OSError) as error:
            told = str(error)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        assert "mutated" in told, f"seed {seed}: {told}"
        assert len(told) < 3000
    assert loaded


def test_what_nobody_changed_is_shown(whole, tmp_path):
    show(shutil.copytree(whole, tmp_path / "out"))


def test_a_changed_folder_is_shown_or_refused_by_name(whole, tmp_path):
    few = FEW if "heads" not in DatasetTrace.load(whole).settings else FEW // 3
    check(whole, tmp_path, range(few))


@pytest.mark.slow
def test_many_changed_folders_are_shown_or_refused_by_name(whole, tmp_path):
    many = MANY if "heads" not in DatasetTrace.load(whole).settings else MANY // 4
    check(whole, tmp_path, range(FEW, FEW + many))


@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_a_part_that_claims_too_many_rows_is_not_read(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "out")
    place = store.part(folder, "samples", 0)
    large = pa.table({"sample": pa.array(np.zeros(200_000, dtype=np.int64))})
    parquet.write_table(large, place)
    assert place.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"part-000000.*it has 200000 rows, expected at most 2"):
        DatasetTrace.load(folder)


def test_a_batch_size_that_no_batch_has_is_refused(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "out")
    told = json.loads((folder / store.SETTINGS).read_text("utf-8"))
    told["settings"]["batch_size"] = 10**9
    (folder / store.SETTINGS).write_text(json.dumps(told), "utf-8")
    with pytest.raises(ValueError, match=r"dataset\.json: batch_size: expected from 1 to 65536"):
        DatasetTrace.load(folder)
