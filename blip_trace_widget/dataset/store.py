"""The folder of a traced data set: two tables in parts, one part per batch, and their settings.

For: results that survive whatever happens to the process, and that any tool can read. ``samples/*.parquet`` has a row
per given sample, ``cells/*.parquet`` a row per cell of the traced ones, ``dataset.json`` the settings. A part is
written to a temporary file and renamed; a batch's cells are written first, so that a batch whose samples exist is
complete. One run at a time writes to a folder.
Cost: on disk about 90 bytes per cell with ten noise samples, and 4 KB per sample; one batch in memory.
Ends: at tables (pyarrow; extra ``data``); `blip_trace_widget.dataset.traced` interprets them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blip_trace_widget.checks import brief, clipped, conforms, one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS, completed
from blip_trace_widget.landing import landing
from blip_trace_widget.results import stored
from blip_trace_widget.states import BLOCKS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from typing_extensions import Self

    from blip_trace_widget.dataset.samples import PathLike

FORMAT, VERSION = "blip_trace_widget.dataset", 2
#: Versions of the format that can be read and continued.
READABLE = (1, 2)
SETTINGS = "dataset.json"
#: File with the numbers of samples given, traced, and skipped for each reason, as of the last finished run.
COUNTS = "counts.json"
TABLES = ("cells", "samples")

#: What a run that cannot go on leaves.
KEPT = "What was finished before is kept: mend that (make room where the disk is full), and run the same again to go on"

#: The type of a corruption that is not the package's own: a user's class, or a function of the sample.
USERS = ("class", "function")

#: The columns that identify a sample, and say what became of it.
IDENTITY = (
    *("sample", "id", "group", "image", "question", "given_answer", "foil", "other_image", "other_question", "region"),
    *("traced", "reason"),
)

#: Table -> column -> type; the README explains them.
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

#: Columns that folders of earlier versions lack, read as null.
ADDED = ("accuracy", "unknown_words", "snapshot", "other_image", "other_question", "region")
#: Columns that are never null.
PRESENT = {
    "samples": ("sample", "group", "traced"),
    "cells": ("sample", "block", "site", "layer", "position", "token", "clean", "indirect_effect", "scores"),
}
#: Most samples of a batch.
MAX_BATCH = 1 << 16
#: Most rows of a part, and most numbers in a column of it, that are read; a small file can claim any number of them.
MAX_ROWS, MAX_NUMBERS = 1 << 24, 1 << 28
#: Version 1's column instead of a snapshot; see `blip_trace_widget.results.version_1`.
SCENE = "scene"


def arrow() -> Any:
    """Import pyarrow and return it.

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
    """Rows as a table; missing values are null."""
    return arrow().Table.from_pylist(list(rows), schema=schema(table))


def check_place(folder: PathLike) -> None:
    """Check that a path is, or can become, a folder of results.

    Raises:
        ValueError: if the folder contains something else.
        NotADirectoryError: if it is a file.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"out: {os.fspath(folder)!r} is a file; expected a folder for the results")
    known = (path / SETTINGS).is_file()
    if not known and path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise ValueError(
            f"out: {os.fspath(folder)!r} has files of other origin in it and no {SETTINGS}; take a new folder"
        )


class Store:
    """A folder that one run at a time writes to; a context manager.

    Args:
        folder: the folder; created if necessary.
        settings: the settings of everything in it, as plain JSON.

    Raises:
        ValueError: if the folder contains something else, or results of other settings, naming them.
        NotADirectoryError, OSError: if it cannot be created, read or written, or another run is writing to it.
        ImportError: if pyarrow is not installed.
    """

    def __init__(self, folder: PathLike, settings: Mapping[str, Any]) -> None:
        arrow()
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings))
        check_place(folder)
        with _told(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock", timeout=0)

    def __enter__(self) -> Self:
        try:
            with _told(self.folder):
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
        for leftover in self.folder.rglob(".*.part"):  # left by killed runs
            leftover.unlink()
        if any(True for table in TABLES for _ in (self.folder / table).glob("*.parquet")):
            self._check(read_settings(self.folder))
        # Rewritten even if there are earlier batches: added ones may be of a newer version.
        content = json.dumps({"format": FORMAT, "version": VERSION, "settings": self.settings}, indent=1)
        self._land(self.folder / SETTINGS, lambda place: place.write_text(content, "utf-8"))
        for table in TABLES:
            (self.folder / table).mkdir(exist_ok=True)

    def __exit__(self, *_details: object) -> None:
        self._lock.release()

    def _check(self, before: Mapping[str, Any]) -> None:
        was, now = _flat(before), _flat(self.settings)
        differing = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        if differing:
            what = "; ".join(f"{name} was {was.get(name)!r} and is {now.get(name)!r} now" for name in differing)
            raise ValueError(
                f"out: {os.fspath(self.folder)!r} was begun with other settings: {what}. Take another folder, or the "
                "settings that it was begun with"
            )

    def finished(self, batch: int) -> list[dict[str, Any]] | None:
        """The `IDENTITY` columns of a complete batch; None if it is incomplete.

        Raises:
            ValueError: if one of its files is damaged.
        """
        if not all(part(self.folder, table, batch).is_file() for table in TABLES):
            return None
        most = self.settings["batch_size"]
        rows: list[dict[str, Any]] = read(part(self.folder, "samples", batch), IDENTITY, most=most).to_pylist()
        cells = read(part(self.folder, "cells", batch), ["sample"])["sample"].unique().to_pylist()
        # If a batch was being extended, its new cells may exist without their samples.
        return rows if set(cells) == {row["sample"] for row in rows if row["traced"]} else None

    def put(self, batch: int, samples: pa.Table, cells: pa.Table) -> None:
        """Write a batch.

        Raises:
            OSError: if it cannot be written, for instance on a full disk; earlier batches are kept.
        """
        for table, content in (("cells", cells), ("samples", samples)):
            self._land(part(self.folder, table, batch), lambda place, content=content: _write(content, place))

    def count(self, counts: Mapping[str, int]) -> None:
        """Write the numbers of traced and skipped samples.

        Raises:
            OSError: if it cannot be written.
        """
        self._land(self.folder / COUNTS, lambda place: place.write_text(json.dumps(counts, indent=1), "utf-8"))

    def _land(self, path: Path, write: Any) -> None:
        """Write a temporary file, and rename it once it is synced to disk."""
        with landing(path, "out", KEPT) as beside:
            write(beside)


@contextmanager
def _told(folder: PathLike) -> Iterator[None]:
    """Turn the errors of a folder that cannot be used, and of file systems without locks, into words."""
    try:
        yield
    except Timeout:
        raise
    except NotImplementedError as error:
        raise OSError(
            f"out: {os.fspath(folder)!r} is on a file system without locks, so that two runs could write to it at "
            "once: take a folder on a local disk, and copy it afterwards"
        ) from error
    except OSError as error:
        raise OSError(
            error.errno, f"out: {os.fspath(folder)!r} cannot be written ({error.strerror or error})"
        ) from error


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: ``corruption.factor``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _write(content: pa.Table, place: Path) -> None:
    arrow().parquet.write_table(content, place, compression="zstd")


def part(folder: Path, table: str, batch: int) -> Path:
    """The path of a batch's file."""
    return folder / table / f"part-{batch:06d}.parquet"


def parts(folder: Path, table: str) -> Iterator[Path]:
    """The paths of all complete batches' files, in order."""
    for path in sorted((folder / "samples").glob("part-*.parquet")):
        if all((folder / other / path.name).is_file() for other in TABLES):
            yield folder / table / path.name


def read_settings(folder: PathLike) -> dict[str, Any]:
    """The settings that a folder was computed with.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if `trace_dataset` did not write it, or it has a newer format.
    """
    path = Path(folder) / SETTINGS
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder: no such folder: {os.fspath(folder)!r}")
    if not path.is_file():
        raise ValueError(f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: it has no {SETTINGS}")
    try:
        told = json.loads(path.read_text("utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {brief(told['format'])}")
        version, settings = (
            whole_number("version", told["version"], 0),
            dict(conforms("settings", told["settings"], dict[str, Any])),
        )
        if version in READABLE:
            _check_settings(settings)
            settings["corruption"] = completed(settings["corruption"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: {SETTINGS}: {clipped(str(error))}"
        ) from error
    if version not in READABLE:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} has format version {version!r}, this package reads up to {VERSION}"
        )
    return settings


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check that settings from a file are as `trace_dataset` writes them; raises whatever is wrong."""
    whole_number("batch_size", settings["batch_size"], 1, MAX_BATCH)
    told = conforms("corruption", settings["corruption"], dict[str, Any])
    one_of("corruption", told.get("type"), (*CORRUPTIONS, *USERS))
    # Of each sample's own partner there is no one hash.
    partner = {"sha256": ""} if told["type"] == "ImageSwap" and "partner" in told else {}
    stored.corruption({name: value for name, value in told.items() if name != "partner" or not partner} | partner)
    conforms("metric", settings["metric"], str)
    for block, site in conforms("grids", settings["grids"], list[tuple[str, str]]):
        one_of("site", site, BLOCKS[one_of("block", block, BLOCKS)].accepted)
    if not settings["grids"]:
        raise ValueError("there is no grid in it")


def _check_size(metadata: Any, most: int) -> None:
    """Hold the rows and numbers that a file claims against what there can be, before they are read."""
    if metadata.num_rows > most:
        raise ValueError(f"it has {metadata.num_rows} rows, expected at most {most}")
    for at in range(metadata.num_columns):
        numbers = sum(metadata.row_group(group).column(at).num_values for group in range(metadata.num_row_groups))
        if numbers > MAX_NUMBERS:
            raise ValueError(f"a column has {numbers} numbers, expected at most {MAX_NUMBERS}")


def read(path: Path, columns: Sequence[str] | None = None, filters: Any = None, most: int = MAX_ROWS) -> pa.Table:
    """Read a part.

    Args:
        path: its file.
        columns: default all.
        filters: see `pyarrow.parquet.read_table`.
        most: most rows that it may have; a file that claims more is not read.

    Raises:
        ValueError: if it is damaged, with a remedy.
        OSError: if it cannot be opened.
    """
    arrow_ = arrow()
    table = path.parent.name
    known = [*schema(table), arrow_.field(SCENE, arrow_.string())]
    wanted = [field for field in known if field.name in (COLUMNS[table] if columns is None else columns)]
    try:
        _check_size(arrow_.parquet.read_metadata(path), most)
        lacking = {*ADDED, SCENE} - set(arrow_.parquet.read_schema(path).names)
        present = [field.name for field in wanted if field.name not in lacking]
        read_ = arrow_.parquet.read_table(path, columns=present, filters=filters)
        for field in wanted:
            if field.name in lacking:
                read_ = read_.append_column(field, arrow_.nulls(read_.num_rows, field.type))
        found = read_.select([field.name for field in wanted]).cast(arrow_.schema(wanted))
        for name in PRESENT[table]:
            if name in found.column_names and found[name].null_count:
                raise ValueError(f"{name}: a value is missing")
        return found
    except (arrow_.ArrowException, LookupError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        reason = clipped(f"{error} ".splitlines()[0].strip(), 400)
        raise ValueError(
            f"folder: {os.fspath(path)!r} is damaged ({reason}). Delete this file and run the same "
            "again: its batch alone is computed anew"
        ) from error


@contextmanager
def undamaged(folder: PathLike, what: str) -> Iterator[None]:
    """Turn whatever is raised by damaged data into one error that says of what they are.

    Raises:
        ValueError: in place of it.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is damaged: what it has of {what}: {clipped(repr(error))}"
        ) from error


def check_samples(samples: pd.DataFrame) -> None:
    """Check that rows from files are of different samples, and that the traced ones have what averages need.

    Raises:
        ValueError: naming the column.
    """
    whole_number("sample", int(samples["sample"].min()) if len(samples) else 0, 0)
    if samples["sample"].duplicated().any():
        raise ValueError("sample: a number is there twice")
    traced = samples[samples["traced"]]
    for name in ("clean", "corrupted", "total_effect", "question_tokens", "image", "answer"):
        if traced[name].isna().any():
            raise ValueError(f"{name}: a traced sample has none")
    if samples.loc[~samples["traced"], "reason"].isna().any():
        raise ValueError("reason: a skipped sample has none")
    for name in ("group", "question"):
        samples[name].fillna("").map(str.encode)
