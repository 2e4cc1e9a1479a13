"""WebDataset's shards: tar files in which the files of one sample stand together and begin with one name.

For: data sets that are read from one end to the other. Nothing is unpacked to the disk, no link in a shard is followed,
and no name in it is used as a path; what is larger than it may be is refused before it is read.
Cost: one sample in memory at a time.
Ends: at samples whose pictures are bytes.

Source: the format of the WebDataset library: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from blip_trace_widget.checks import whole_number
from blip_trace_widget.dataset import columns, text_files
from blip_trace_widget.dataset.picture_folders import ENDS
from blip_trace_widget.dataset.samples import PathLike, Sample

#: Largest picture, and largest text, in bytes.
LARGEST = {"picture": 128 << 20, "text": 4 << 20}
#: Fields that may have a file of their own.
TEXTS = tuple(field for field in Sample._fields if "image" not in field)
#: What `tarfile` raises for what is no tar file.
BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError, MemoryError)


def read_webdataset(shards: PathLike | Sequence[PathLike], limit: int | None = None) -> Shards:
    """Samples of WebDataset's tar files, as ``000.jpg`` and ``000.json``.

    The files of a sample stand together and begin with one name. Its picture is ``.jpg``, ``.png`` or of another
    picture's end; its fields are in ``.json``, called as columns of a table are (``question``, ``answer``, ...), or in
    texts of their own, ``.question.txt``, ``.answer.txt``. A partner picture is ``.other_image.jpg``.

    Args:
        shards: the path of a shard (``.tar``, ``.tar.gz``), several, or a folder of them, in the order of their names.
        limit: only the first so many samples.

    Returns:
        the samples, read anew each time that one goes through them; their ids are their names in the shard, if no other
        is given. What has no picture or question ends as skipped.

    Raises:
        FileNotFoundError, OSError: if there is no such file.
        TypeError, ValueError: naming the argument, what was given and what is accepted; for what is in a shard when it
            is reached.
    """
    many = [shards] if isinstance(shards, (str, os.PathLike)) else shards
    if not isinstance(many, Sequence):
        raise TypeError(f"shards: expected the path of a shard or a folder, or several, got {type(shards).__name__}")
    paths: list[Path] = []
    for given in many:
        path = text_files.as_path("shards", given, "shard")
        found = sorted(path.iterdir()) if path.is_dir() else []
        found = [each for each in found if each.name.endswith((".tar", ".tar.gz", ".tgz"))]
        if not path.is_dir() and not path.is_file():
            raise FileNotFoundError(f"shards: no such file: {os.fspath(given)!r}; shards of the network are not read")
        if path.is_dir() and not found:
            raise FileNotFoundError(f"shards: there is no .tar file in {os.fspath(given)!r}")
        paths += found or [path]
    if not paths:
        raise ValueError("shards: expected one or more, got none")
    return Shards(tuple(paths), None if limit is None else whole_number("limit", limit, 1))


@dataclass(frozen=True)
class Shards:
    """The samples of shards, one after another; see `read_webdataset`."""

    paths: tuple[Path, ...]
    limit: int | None = None

    def __iter__(self) -> Iterator[Sample]:
        count, told = 0, _Told()
        for path in self.paths:
            for name, files in _samples(path):
                if self.limit is not None and count >= self.limit:
                    return
                yield told.sample(f"shards: {os.fspath(path)!r}: {name[:200]!r}", name, files)
                count += 1


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a shard: their names and files, by what follows the name."""
    called = f"shards: {os.fspath(path)!r}"
    name = ""
    files: dict[str, bytes] = {}
    for before, end, content in _files(path, called):
        if before != name and files:
            yield name, files
            files = {}
        name = before
        if end in files:
            raise ValueError(f"{called}: {name[:200]!r} has two files {end[:80]!r}")
        files[end] = content
    if files:
        yield name, files


def _files(path: Path, called: str) -> Iterator[tuple[str, str, bytes]]:
    """The files of a shard that are used: the sample's name, what follows it, and the content."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Any = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                read = -1
                while (member := archive.next()) is not None:
                    if member.size < 0 or archive.offset <= read:  # `tarfile` would go back, and round for ever
                        raise tarfile.ReadError("a header in it is damaged")
                    read = archive.offset
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps all that it has met
                    before, end = _split(member.name)
                    kind = _kind(end)
                    if not member.isreg() or not kind:
                        continue
                    if member.size > LARGEST[kind]:
                        raise ValueError(
                            f"{member.name[:200]!r} has {member.size} bytes, expected at most {LARGEST[kind]}"
                        )
                    content = archive.extractfile(member)
                    yield before, end, b"" if content is None else content.read()
                stream.seek(archive.offset)  # `tarfile` takes a damaged header for the end
                if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError("a header in it is damaged")
    except BROKEN as error:
        raise ValueError(f"{called} is no shard of a data set, or damaged: {error or type(error).__name__}") from error


def _split(name: str) -> tuple[str, str]:
    """The name of the sample, folders included, and what follows its first dot."""
    folder, _, file = name.rpartition("/")
    before, _, end = file.partition(".")
    return f"{folder}/{before}" if folder else before, end.lower()


def _kind(end: str) -> str:
    if f".{end.removeprefix('other_image.')}" in ENDS:
        return "picture"
    return "text" if end == "json" or (end.removesuffix(".txt") in TEXTS and end.endswith(".txt")) else ""


class _Told:
    """Samples of files; each unknown field is warned about once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def sample(self, called: str, name: str, files: Mapping[str, bytes]) -> Sample:
        fields: dict[str, Any] = self._described(called, files["json"]) if "json" in files else {}
        # What JSON has under the names of pictures is no picture: no file is opened by a name in a shard.
        fields |= {"image": None, "other_image": None}
        for end, content in files.items():
            if _kind(end) == "picture":
                field = "other_image" if end.startswith("other_image.") else "image"
                if fields[field] is not None:
                    raise ValueError(f"{called} has two pictures for {field!r}")
                fields[field] = {"bytes": content, "path": f"{name}.{end}"}
            elif end != "json":
                fields[end.removesuffix(".txt")] = _text(called, end, content)
        return Sample(**{"question": None, "id": name} | fields)

    def _described(self, called: str, content: bytes) -> dict[str, Any]:
        try:
            given = json.loads(_text(called, "json", content))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{called}: its .json is no JSON: {error}") from error
        if not isinstance(given, Mapping):
            raise ValueError(f"{called}: its .json should have the fields of a sample, got {type(given).__name__}")
        found = columns.find(given, Sample._fields, (), called)
        unknown = [each for each in columns.unknown(given, found) if each not in self._known]
        columns.tell_unknown(unknown, Sample._fields, called)
        self._known.update(unknown)
        names = list(given)
        return {field: given[names[at]] for field, at in found.items() if given[names[at]] is not None}


def _text(called: str, end: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{called}: its .{end} is no UTF-8 ({error})") from error


class _Bounded:
    """A file of which no more is read at once than a picture may have: headers of a shard claim any size."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        most = LARGEST["picture"] + tarfile.BLOCKSIZE
        if not 0 <= size <= most:
            raise ValueError(f"a part of it has {size} bytes, expected at most {most}")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
