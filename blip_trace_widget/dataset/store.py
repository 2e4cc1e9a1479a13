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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blip_trace_widget.checks import clipped
from blip_trace_widget.dataset.damage import MAX_ROWS, PRESENT, check_present, check_size
from blip_trace_widget.dataset.locking import locked
from blip_trace_widget.dataset.settings import FORMAT, SETTINGS, VERSION, differences, read_settings
from blip_trace_widget.landing import landing

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

    from blip_trace_widget.dataset.samples import PathLike

#: File with the numbers of samples given, traced, and skipped for each reason, as of the last finished run.
COUNTS = "counts.json"
TABLES = ("cells", "samples")

#: What a run that cannot go on leaves.
KEPT = "What was finished before is kept: mend that (make room where the disk is full), and run the same again to go on"

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
        "attention": "maps",
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
        "metrics": "scored",
    },
    "cells": {
        "sample": "int64",
        "id": "name",
        "group": "name",
        "intervention": "name",
        "block": "name",
        "site": "name",
        "head": "int16",
        "window": "int16",
        "direction": "name",
        "metric": "name",
        "layer": "int16",
        "position": "int16",
        "token": "name",
        "clean": "double",
        "corrupted": "double",
        "score": "double",
        "indirect_effect": "double",
        "stderr": "double",
        "scores": "list",
        "without_effect": "bool",
    },
}

#: Of a run with several metrics, what a sample has under each but the first.
SCORED = {
    "metric": "string",
    "clean": "double",
    "corrupted": "double",
    "corrupted_scores": "list",
    "total_effect": "double",
    "total_effect_stderr": "double",
    "why": "string",
}

#: Columns that folders of earlier versions lack, and what they are read as; `metric` is the one in the settings.
ADDED: dict[str, Any] = {
    **dict.fromkeys(
        ("accuracy", "unknown_words", "snapshot", "other_image", "other_question", "region", "metrics", "attention")
    ),
    "intervention": "patch",
    "head": None,
    "without_effect": None,
    "window": 1,
    "direction": "restore",
    "metric": None,
}
#: Version 1's column instead of a snapshot; see `blip_trace_widget.results.version_1`.
SCENE = "scene"


def arrow() -> Any:
    """Import pyarrow and return it.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import_module("pyarrow.parquet")
        import_module("pyarrow.compute")
        pa = import_module("pyarrow")
    except ImportError as error:
        raise ImportError('a data set needs pyarrow: pip install "blip_trace_widget[data]"') from error
    return pa


@cache
def schema(table: str) -> pa.Schema:
    """The columns of a table."""
    arrow_ = arrow()
    types = {
        "list": arrow_.list_(arrow_.float64()),
        "strings": arrow_.list_(arrow_.string()),
        "mask": arrow_.list_(arrow_.list_(arrow_.bool_())),
        "maps": arrow_.list_(arrow_.list_(arrow_.list_(arrow_.float64()))),
        "name": arrow_.dictionary(arrow_.int32(), arrow_.string()),
        "bool": arrow_.bool_(),
        "double": arrow_.float64(),
        "string": arrow_.string(),
    }
    types["scored"] = arrow_.list_(arrow_.struct([(name, types[kind]) for name, kind in SCORED.items()]))
    return arrow_.schema(
        [(name, types[kind] if kind in types else getattr(arrow_, kind)()) for name, kind in COLUMNS[table].items()]
    )


def as_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table; missing values are null."""
    return arrow().Table.from_pylist(list(rows), schema=schema(table))


def cells_table(count: int, columns: Mapping[str, Any]) -> pa.Table:
    """A table of cells from its columns.

    Args:
        count: number of cells.
        columns: an array or list of each column's values, a single value that all cells have, or None for null; of
            `scores` an array (cells, runs). Columns that are missing are null.
    """
    arrow_, found = arrow(), []
    for field in schema("cells"):
        value: Any = columns.get(field.name)
        if field.name == "scores":
            ends = np.arange(count + 1, dtype=np.int32) * value.shape[1]
            found.append(arrow_.ListArray.from_arrays(ends, np.ascontiguousarray(value, np.float64).ravel()))
        elif value is None:
            found.append(arrow_.nulls(count, field.type))
        else:
            several = isinstance(value, (np.ndarray, list))
            found.append(arrow_.array(value if several else [value] * count, type=field.type))
    return arrow_.Table.from_arrays(found, schema=schema("cells"))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of cells as one."""
    return arrow().concat_tables([as_table("cells", []), *tables]).unify_dictionaries()


def replaced(table: pa.Table, **columns: Any) -> pa.Table:
    """A table with other values in some of its columns, of the same types."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, arrow().array(values, field.type))
    return table


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

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            self._begin()
            self._held = stack.pop_all()
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
        self._held.close()

    def _check(self, stored: Mapping[str, Any]) -> None:
        what = differences(stored, self.settings)
        if what:
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


def _write(content: pa.Table, place: Any) -> None:
    arrow().parquet.write_table(content, place, compression="zstd")


def bytes_of(content: pa.Table) -> int:
    """How many bytes a table takes on disk."""
    sink = arrow().BufferOutputStream()
    _write(content, sink)
    return int(sink.getvalue().size)


def part(folder: Path, table: str, batch: int) -> Path:
    """The path of a batch's file."""
    return folder / table / f"part-{batch:06d}.parquet"


def parts(folder: Path, table: str) -> Iterator[Path]:
    """The paths of all complete batches' files, in order."""
    names = [{path.name for path in (folder / each).glob("part-*.parquet")} for each in TABLES]
    for name in sorted(set.intersection(*names)):
        yield folder / table / name


@cache
def _some_of(table: str, columns: tuple[str, ...] | None) -> pa.Schema:
    """Some of the columns of a table, in its order; default all of today's."""
    known = [*schema(table), arrow().field(SCENE, arrow().string())]
    return arrow().schema([field for field in known if field.name in (COLUMNS[table] if columns is None else columns)])


def read_all(
    table: str,
    places: Iterable[Path],
    columns: Sequence[str],
    where: Mapping[str, Any] | None = None,
    added: Mapping[str, Any] | None = None,
    most: int = MAX_ROWS,
) -> pa.Table:
    """Read many parts of a table; arguments as in `read`.

    Raises:
        ValueError, OSError: see `read`.
    """
    parts_ = [read(path, columns, where, added, most) for path in places]
    empty = as_table(table, []).select([name for name in COLUMNS[table] if name in columns])
    return arrow().concat_tables([empty, *parts_]).unify_dictionaries()


def read(
    path: Path,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    added: Mapping[str, Any] | None = None,
    most: int = MAX_ROWS,
) -> pa.Table:
    """Read a part.

    Args:
        path: the file.
        columns: default all.
        where: only rows with these values in these columns; None for null.
        added: what columns that the file lacks are read as, beside `ADDED`.
        most: most rows that it may have; a file that claims more is not read.

    Raises:
        ValueError: if it is damaged, with a remedy.
        OSError: if it cannot be opened.
    """
    arrow_ = arrow()
    table, values = path.parent.name, {**ADDED, SCENE: None, **(added or {})}
    wanted = _some_of(table, None if columns is None else tuple(columns))
    asked = {*wanted.names, *(where or {})}
    try:
        # A part is small: what `read_table` does first, to read large files in parallel, takes longer than to read it.
        with arrow_.parquet.ParquetFile(path, pre_buffer=False) as file:
            check_size(file.metadata, most)
            lacking = set(values) - set(file.schema_arrow.names)
            read_ = file.read(columns=sorted(asked - lacking), use_threads=False)
        check_present(read_, PRESENT[table])
        for name in sorted(lacking & asked):
            field = schema(table).field(name) if name in COLUMNS[table] else wanted.field(name)
            read_ = read_.append_column(field, arrow_.array([values[name]] * read_.num_rows, type=field.type))
        if where:
            read_ = read_.filter(_condition(where))
        return read_.select(wanted.names).cast(wanted)
    except (arrow_.ArrowException, LookupError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        reason = clipped(f"{error} ".splitlines()[0].strip(), 400)
        raise ValueError(
            f"folder: {os.fspath(path)!r} is damaged ({reason}). Delete this file and run the same "
            "again: its batch alone is computed anew"
        ) from error


def _condition(where: Mapping[str, Any]) -> Any:
    """A condition on columns of a file, for pyarrow; None for none."""
    column, condition = arrow().compute.field, None
    for name, value in where.items():
        one = column(name).is_null() if value is None else column(name) == value
        condition = one if condition is None else condition & one
    return condition
