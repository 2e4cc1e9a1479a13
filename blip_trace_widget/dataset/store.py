"""The folder of a traced data set: two tables in parts, each part a whole batch, and their settings.

For: results that survive whatever happens to the process, and that any tool can read. ``samples/*.parquet`` has a row
for each sample that was given, ``cells/*.parquet`` a row for each cell of those that were traced, ``dataset.json`` the
settings. A part is written beside its place and renamed; of a batch the cells come first, so that a batch whose samples
are there is whole. One run at a time writes into a folder.
Cost: on the disk some 90 bytes a cell with ten noise samples, and 4 KB a sample; a batch in memory.
Ends: at tables (pyarrow; extra ``data``). What they mean is `blip_trace_widget.dataset.averages`'.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.states import BLOCKS

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

    from blip_trace_widget.dataset.samples import PathLike

FORMAT, VERSION = "blip_trace_widget.dataset", 2
#: Versions of the format that are read, and gone on with.
READABLE = (1, 2)
SETTINGS = "dataset.json"
#: How many samples were given, traced, and skipped for each reason, when the folder was last finished.
COUNTS = "counts.json"
TABLES = ("cells", "samples")

#: What stands in the place of the name of one of the package's corruptions if it is a user's own.
USERS = ("class", "function")

#: The columns by which a sample is known again, and what became of it.
IDENTITY = (
    *("sample", "id", "group", "image", "question", "given_answer", "foil", "other_image", "other_question", "region"),
    *("traced", "reason"),
)

#: What a row of each table holds; see the README for what it means.
COLUMNS = {
    "samples": {
        "sample": "int64",
        "id": "string",
        "group": "string",
        "image": "string",
        "question": "string",
        "given_answer": "string",
        "foil": "string",
        "other_image": "string",
        "other_question": "string",
        "region": "mask",
        "traced": "bool",
        "reason": "string",
        "why": "string",
        "answer": "string",
        "own_answer": "string",
        "accuracy": "double",
        "correct": "bool",
        "corrupted_answer": "string",
        "clean": "double",
        "corrupted": "double",
        "total_effect": "double",
        "total_effect_stderr": "double",
        "corrupted_scores": "list",
        "question_tokens": "strings",
        "unknown_words": "strings",
        "settings": "string",
        "snapshot": "string",
        "picture": "binary",
        "other_picture": "binary",
    },
    "cells": {
        "sample": "int64",
        "id": "name",
        "group": "name",
        "block": "name",
        "site": "name",
        "layer": "int16",
        "position": "int16",
        "token": "name",
        "clean": "double",
        "corrupted": "double",
        "score": "double",
        "indirect_effect": "double",
        "stderr": "double",
        "scores": "list",
    },
}

#: Columns that folders of earlier versions lack; they are read as null.
ADDED = ("accuracy", "unknown_words", "snapshot", "other_image", "other_question", "region")
#: What version 1 had in the place of a snapshot; see `blip_trace_widget.results.version_1`.
SCENE = "scene"


def arrow() -> Any:
    """Pyarrow.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import_module("pyarrow.parquet")
        pa = import_module("pyarrow")
    except ImportError as error:
        raise ImportError('a data set needs pyarrow: pip install "blip_trace_widget[data]"') from error
    return pa


def schema(table: str) -> pa.Schema:
    """The columns of a table."""
    arrow_ = arrow()
    types = {
        "list": arrow_.list_(arrow_.float64()),
        "strings": arrow_.list_(arrow_.string()),
        "mask": arrow_.list_(arrow_.list_(arrow_.bool_())),
        "name": arrow_.dictionary(arrow_.int32(), arrow_.string()),
        "bool": arrow_.bool_(),
        "double": arrow_.float64(),
    }
    return arrow_.schema(
        [(name, types[kind] if kind in types else getattr(arrow_, kind)()) for name, kind in COLUMNS[table].items()]
    )


def as_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    return arrow().Table.from_pylist(list(rows), schema=schema(table))


def check_place(folder: PathLike) -> None:
    """Refuse a place that cannot become, or is not, a folder of results.

    Raises:
        ValueError: if it holds something else.
        OSError: if it is a file.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"out: {os.fspath(folder)!r} is a file; expected a folder for the results")
    known = (path / SETTINGS).is_file()
    if not known and path.is_dir() and any(not each.name.startswith(".") for each in path.iterdir()):
        raise ValueError(
            f"out: {os.fspath(folder)!r} has files of other origin in it and no {SETTINGS}; take a new folder"
        )


class Store:
    """A folder that is written to, by one run at a time.

    Args:
        folder: where; it is made if it is not there.
        settings: what everything in it is computed with, as plain JSON.

    Raises:
        ValueError: if the folder holds something else, or what was computed with other settings, naming them.
        OSError: if it cannot be made, read or written, or another run is writing to it.
    """

    def __init__(self, folder: PathLike, settings: Mapping[str, Any]) -> None:
        arrow()
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings))
        check_place(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock", timeout=0)

    def __enter__(self) -> Self:
        try:
            self._lock.acquire()
        except Timeout:
            raise OSError(
                f"out: another run is writing to {os.fspath(self.folder)!r} now; wait for it, or take another folder"
            ) from None
        try:
            self._begin()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _begin(self) -> None:
        for left in self.folder.rglob(".*.part"):  # of runs that were killed
            left.unlink()
        if any(True for table in TABLES for _ in (self.folder / table).glob("*.parquet")):
            self._check(read_settings(self.folder))
        # Written anew where earlier batches are there: what is added may be of a newer version than they are.
        content = json.dumps({"format": FORMAT, "version": VERSION, "settings": self.settings}, indent=1)
        self._land(self.folder / SETTINGS, lambda place: place.write_text(content, "utf-8"))
        for table in TABLES:
            (self.folder / table).mkdir(exist_ok=True)

    def __exit__(self, *_details: object) -> None:
        self._lock.release()

    def _check(self, there: Mapping[str, Any]) -> None:
        was, now = _flat(there), _flat(self.settings)
        differing = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        if differing:
            told = "; ".join(f"{name} was {was.get(name)!r} and is {now.get(name)!r} now" for name in differing)
            raise ValueError(
                f"out: {os.fspath(self.folder)!r} was begun with other settings: {told}. Take another folder, or the "
                "settings that it was begun with"
            )

    def finished(self, batch: int) -> list[dict[str, Any]] | None:
        """What a sample is known by, and why it was skipped, of a batch that is there whole; None where it is not.

        Raises:
            ValueError: if one of its files is damaged.
        """
        if not all(part(self.folder, table, batch).is_file() for table in TABLES):
            return None
        rows: list[dict[str, Any]] = read(part(self.folder, "samples", batch), IDENTITY).to_pylist()
        cells = read(part(self.folder, "cells", batch), ["sample"])["sample"].unique().to_pylist()
        # Of a batch that was to become longer the cells may have come without their samples.
        return rows if set(cells) == {row["sample"] for row in rows if row["traced"]} else None

    def put(self, batch: int, samples: pa.Table, cells: pa.Table) -> None:
        """Write a batch.

        Raises:
            OSError: if it cannot be written, for instance on a full disk; what was written before stays.
        """
        for table, content in (("cells", cells), ("samples", samples)):
            self._land(part(self.folder, table, batch), lambda place, content=content: _write(content, place))

    def count(self, counts: Mapping[str, int]) -> None:
        """Write what became of the samples, in numbers.

        Raises:
            OSError: if it cannot be written.
        """
        self._land(self.folder / COUNTS, lambda place: place.write_text(json.dumps(counts, indent=1), "utf-8"))

    def _land(self, path: Path, write: Any) -> None:
        """Write a file beside its place, and rename it once it is safe on the disk."""
        beside = path.with_name(f".{path.name}.part")
        try:
            write(beside)
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
            _keep_names(path.parent)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"out: {os.fspath(path)!r} cannot be written ({error.strerror or error}). What was finished before is "
                "kept: mend that (make room where the disk is full), and run the same again to go on",
            ) from error


def _keep_names(folder: Path) -> None:
    """A name that was changed outlasts a loss of power once its folder is on the disk, where a system knows that."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings inside of settings by one name: ``corruption.factor``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _write(content: pa.Table, place: Path) -> None:
    arrow().parquet.write_table(content, place, compression="zstd")


def part(folder: Path, table: str, batch: int) -> Path:
    """The file of a batch."""
    return folder / table / f"part-{batch:06d}.parquet"


def parts(folder: Path, table: str) -> Iterator[Path]:
    """The files of the batches that are there whole, in their order."""
    for path in sorted((folder / "samples").glob("part-*.parquet")):
        if all((folder / each / path.name).is_file() for each in TABLES):
            yield folder / table / path.name


def read_settings(folder: PathLike) -> dict[str, Any]:
    """What a folder was computed with.

    Raises:
        OSError: if there is no such folder.
        ValueError: if it is none of ours, or of a newer format.
    """
    path = Path(folder) / SETTINGS
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder: no such folder: {os.fspath(folder)!r}")
    if not path.is_file():
        raise ValueError(f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: it has no {SETTINGS}")
    try:
        told = json.loads(path.read_text("utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']!r}")
        version, settings = told["version"], dict(told["settings"])
        if version in READABLE:
            _check_settings(settings)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: {SETTINGS}: {error}"
        ) from error
    if version not in READABLE:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} has format version {version!r}, this package reads up to {VERSION}"
        )
    return settings


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Whether settings from a file are such as `trace_dataset` writes; whatever they are not raises."""
    whole_number("batch_size", settings["batch_size"], 1)
    one_of("corruption", settings["corruption"]["type"], (*CORRUPTIONS, *USERS))
    for block, site in settings["grids"]:
        one_of("site", site, BLOCKS[block].sites)
    if not settings["grids"]:
        raise ValueError("there is no grid in it")


def read(path: Path, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """Read a part.

    Raises:
        ValueError: if it is damaged, with the way out.
        OSError: if it cannot be opened.
    """
    arrow_ = arrow()
    table = path.parent.name
    known = [*schema(table), arrow_.field(SCENE, arrow_.string())]
    wanted = [field for field in known if field.name in (COLUMNS[table] if columns is None else columns)]
    try:
        lacking = {*ADDED, SCENE} - set(arrow_.parquet.read_schema(path).names)
        there = [field.name for field in wanted if field.name not in lacking]
        read_ = arrow_.parquet.read_table(path, columns=there, filters=filters)
        for field in wanted:
            if field.name in lacking:
                read_ = read_.append_column(field, arrow_.nulls(read_.num_rows, field.type))
        return read_.select([field.name for field in wanted]).cast(arrow_.schema(wanted))
    except (arrow_.ArrowException, KeyError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"folder: {os.fspath(path)!r} is damaged ({str(error).splitlines()[0]}). Delete this file and run the same "
            "again: its batch alone is computed anew"
        ) from error
