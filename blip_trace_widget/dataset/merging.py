"""`merge`: several traced folders as one.

For: a data set that was traced in pieces, on several machines or one after the other.
Cost: the identifying columns of all samples, and one batch of tables; on disk another copy.
Ends: at a folder as `trace_dataset` writes it, for one run at a time. All is made in a hidden folder inside, and put in
its place when it is whole, the settings last, so that a merge that was killed leaves no folder that looks finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.damage import undamaged
from blip_trace_widget.dataset.locking import locked
from blip_trace_widget.dataset.settings import MERGED, SETTINGS, differences
from blip_trace_widget.dataset.traced import DatasetTrace

if TYPE_CHECKING:
    from blip_trace_widget.dataset.batch import Tables
    from blip_trace_widget.dataset.samples import PathLike

#: Settings of the tables' layout, on which no number depends.
LAYOUT = ("batch_size", MERGED)
#: Where a merge makes its tables, inside of the new folder: wherever that is, or a link to it leads, a rename puts them
#: in their place.
MAKING = ".merging"
#: What it puts in its place, in this order: a folder without settings is not taken for a finished one.
MADE = (*store.TABLES, store.COUNTS, SETTINGS)


def merge(folders: Iterable[PathLike], out: PathLike) -> DatasetTrace:
    """Several folders that `trace_dataset` wrote, merged into a new one; they stay as they are.

    Samples follow each other as the folders do and are numbered anew; ids and groups stay. What is unfinished is merged
    as far as it is. A merged folder can be merged again, and is not resumed by `trace_dataset`: its samples are of
    several calls.

    Noise belongs to a sample's id: samples of two folders that were numbered from 0 in both share theirs.

    Args:
        folders: two or more folders, computed with the same settings (but for `batch_size`, on which no number depends;
            that of the first is taken).
        out: the new folder; it may exist if it is empty, or be a link to such a one.

    Returns:
        the merged data set, as `DatasetTrace.load` opens it.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted; also if settings differ,
            naming them, or if two folders have the same sample (id, picture and question): which of its rows counts is
            not for a merge to decide, and to count both would make intervals narrower than they are.
        OSError: if a folder cannot be read or written, or another run is writing to the new one.
        ImportError: if the extra ``data`` is not installed.
    """
    store.arrow()
    parts = [DatasetTrace.load(folder) for folder in _places(folders)]
    place = _checked(out)
    for part in parts[1:]:
        _check_settings(parts[0], part)
    _check_samples(parts)
    with locked(place):
        _check_free(place)  # now that nobody else can fill it
        _clear(place)
        try:
            _make(parts, place / MAKING)
            for name in MADE:
                (place / MAKING / name).replace(place / name)
        finally:
            _clear(place)
    return DatasetTrace.load(place)


def _make(parts: list[DatasetTrace], making: Path) -> None:
    size = parts[0].settings["batch_size"]
    pieces = sum(part.settings.get(MERGED, 1) for part in parts)
    with store.Store(making, parts[0].settings | {MERGED: pieces}) as folder:
        for batch, (rows, cells) in enumerate(_batches(parts, size)):
            folder.put(batch, rows, cells)
        folder.count(DatasetTrace.load(making).counts)


def _places(folders: Any) -> list[PathLike]:
    if isinstance(folders, (str, bytes, os.PathLike)) or not isinstance(folders, Iterable):
        raise TypeError(f"folders: expected two or more paths of folders, got {type(folders).__name__}")
    places = list(folders)
    for place in places:
        if not isinstance(place, (str, os.PathLike)):
            raise TypeError(f"folders: expected paths of folders, got {type(place).__name__} among them")
    if len(places) < 2:
        raise ValueError(f"folders: expected two or more, got {len(places)}")
    return places


def _checked(out: Any) -> Path:
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"out: expected the path of a folder, got {type(out).__name__}")
    place = Path(out)
    _check_free(place)
    return place


def _check_free(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(f"out: {os.fspath(place)!r} is a file; expected a folder for the results")
    left = _left(place)
    if place.is_dir() and any(not path.name.startswith(".") and path not in left for path in place.iterdir()):
        raise ValueError(f"out: {os.fspath(place)!r} is not empty; a merge needs a new folder")


def _left(place: Path) -> list[Path]:
    """What a merge that did not come to its end may have left: beside `MAKING`, tables without settings are its own."""
    if not (place / MAKING).is_dir():
        return []
    own = [] if (place / SETTINGS).exists() else [place / name for name in MADE]
    return [*own, place / MAKING]


def _clear(place: Path) -> None:
    for path in _left(place):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _check_settings(first: DatasetTrace, other: DatasetTrace) -> None:
    was, now = ({name: value for name, value in part.settings.items() if name not in LAYOUT} for part in (first, other))
    what = differences(was, now)
    if what:
        one, two = (os.fspath(part.folder) for part in (first, other))
        raise ValueError(f"folders: {two!r} has other settings than {one!r}: {what}. Only runs of the same are merged")


def _check_samples(parts: list[DatasetTrace]) -> None:
    seen: dict[tuple[str, str, str], DatasetTrace] = {}
    for part in parts:
        with undamaged(part.folder, "its samples"):
            keys = {
                (name, Path(image).name, question)
                for name, image, question in part.samples[["id", "image", "question"]].itertuples(index=False)
            }
        both = sorted(keys & seen.keys())
        if both:
            name, image, question = both[0]
            one, two = os.fspath(seen[both[0]].folder), os.fspath(part.folder)
            raise ValueError(
                f"folders: {two!r} has {len(both)} samples that are in others too, such as id {name!r} ({image!r}, "
                f"{question!r}), which is in {one!r}. Trace each sample in one of them only"
            )
        seen |= dict.fromkeys(keys, part)


def _batches(parts: list[DatasetTrace], size: int) -> Iterator[Tables]:
    """Tables of so many samples each, numbered through: number // size is the batch."""
    arrow, end = store.arrow(), size
    held: list[Tables] = []
    for tables in _numbered(parts):
        held.append(tables)
        while sum(len(rows) for rows, _ in held) >= size:
            rows, cells = (arrow.concat_tables(each).unify_dictionaries() for each in zip(*held, strict=True))
            below = arrow.compute.field("sample") < end
            yield rows.filter(below), cells.filter(below)
            held, end = [(rows.filter(~below), cells.filter(~below))], end + size
    rows, cells = (arrow.concat_tables(each).unify_dictionaries() for each in zip(*held, strict=True))
    if len(rows):
        yield rows, cells


def _numbered(parts: list[DatasetTrace]) -> Iterator[Tables]:
    """The tables of each batch of each folder, the samples numbered from 0 on."""
    first = 0
    for part in parts:
        for samples in store.parts(part.folder, "samples"):
            rows, cells = _read(samples, part)
            numbers = rows["sample"].to_numpy()
            order = np.argsort(numbers)
            places = np.searchsorted(numbers, cells["sample"].to_numpy(), sorter=order)
            yield (
                store.replaced(rows, sample=first + np.arange(len(rows))),
                store.replaced(cells, sample=first + order[places]),
            )
            first += len(rows)


def _read(samples: Path, part: DatasetTrace) -> Tables:
    """The tables of a batch; cells of earlier versions do not say their metric.

    Raises:
        ValueError: if they do not belong together, or one is damaged.
    """
    rows = store.read(samples, [*store.COLUMNS["samples"], store.SCENE], most=part.settings["batch_size"])
    if rows[store.SCENE].null_count == len(rows):
        rows = rows.drop_columns([store.SCENE])
    cells = store.read(samples.parents[1] / "cells" / samples.name, added={"metric": part.metrics[0]})
    traced: Mapping[int, bool] = dict(zip(rows["sample"].to_pylist(), rows["traced"].to_pylist(), strict=True))
    if {number for number, is_traced in traced.items() if is_traced} != set(cells["sample"].unique().to_pylist()):
        raise ValueError(
            f"folder: {os.fspath(samples)!r} has other samples than its cells: a run is writing to it now, or was "
            "ended; run trace_dataset to its end first"
        )
    return rows, cells
