"""Pictures in folders, found by the names that tables give them.

For: the readers. A name in a file is looked up among the names that are there, in the folder and in those below it; it
is never used as a path by itself, so it cannot lead out of the folder. COCO's pictures have two names, of 2014
(``COCO_train2014_000000000009.jpg``) and of 2017 (``000000000009.jpg``): each is found by the other.
Cost: the names of the files, at most `DEPTH` folders deep; no picture is opened.
Ends: at paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.dataset import cells, text_files
from blip_trace_widget.dataset.samples import PathLike, Sample

#: What to do about questions whose picture is not there.
MISSING = ("error", "skip")
#: So many folders below that of the pictures are looked through.
DEPTH = 3
#: How the names of pictures end.
ENDS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")

_COCO = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(?=\d{12}\.jpg\Z)", re.ASCII)


class Stem(str):
    """The name of a picture without its end, which may be any."""

    __slots__ = ()


def coco_name(given: Any, called: str) -> str:
    """The name of a COCO picture, from its id (9, "9", "9.0"), or from either of its names.

    Args:
        given: the id, or the name.
        called: where it stands, for errors.

    Raises:
        ValueError: if it is neither.
    """
    name = cells.name(given, "").replace("\\", "/")
    if re.fullmatch(r"([\w-]+/)*(COCO_[a-z]+\d{4}_)?\d{12}\.jpg", name, re.ASCII):
        return name
    if not re.fullmatch(r"\d{1,12}", name, re.ASCII):
        raise ValueError(f"{called} should be a COCO image id of at most 12 digits, got {name[:80]!r}")
    return f"{int(name):012}.jpg"


class PictureFolder:
    """A folder of pictures, and those below it.

    Args:
        images: its path.
        argument: what holds the names, for errors.

    Raises:
        TypeError, FileNotFoundError: if there is no such folder.
    """

    def __init__(self, images: PathLike, argument: str = "csv") -> None:
        self.folder, self._argument = text_files.as_path("images", images, "folder"), argument
        if not self.folder.is_dir():
            raise FileNotFoundError(f"images: no such folder: {os.fspath(images)!r}")
        with os.scandir(self.folder) as there:
            self._top = {entry.name for entry in there}

    def path(self, name: str) -> tuple[Path, bool]:
        """The path of a picture, and whether it is there.

        Raises:
            ValueError: if the name leads out of the folder, or several pictures have it.
        """
        name = type(name)(name.strip())
        plain = PurePosixPath(name if name in self._top else name.replace("\\", "/"))
        if plain.is_absolute() or ".." in plain.parts or re.match(r"[A-Za-z]:", name) or name == ".":
            raise ValueError(
                f"{self._argument}: expected names of files in the folder of the pictures, got {name[:200]!r}"
            )
        if name in self._top and not isinstance(name, Stem):
            return self.folder / name, True
        found = self._found(plain, isinstance(name, Stem))
        if found is not None:
            return self.folder / found, True
        return self.folder / (f"{name}.jpg" if isinstance(name, Stem) else plain), False

    def _found(self, name: PurePosixPath, is_stem: bool) -> PurePosixPath | None:
        known = self._by_stem if is_stem else self._by_name
        key = _key(name.name)
        several = known.get(key, [])
        # A folder that is named too must be the one.
        several = [each for each in several if each.parts[-len(name.parts) : -1] == name.parts[:-1]]
        exact = [each for each in several if each.name == name.name] or several
        exact = [each for each in exact if len(each.parts) == 1] or exact
        if len(exact) > 1 and not re.fullmatch(r"\d{12}\.jpg", key, re.ASCII):
            raise ValueError(
                f"images: {len(exact)} pictures are called {name.name!r}, such as {str(exact[0])!r} and "
                f"{str(exact[1])!r}: name their folders too"
            )
        return exact[0] if exact else None

    @cached_property
    def _by_name(self) -> dict[str, list[PurePosixPath]]:
        """The files by name, those of fewer folders first."""
        found: dict[str, list[PurePosixPath]] = {}
        for path in _files(self.folder, PurePosixPath(), DEPTH, set()):
            found.setdefault(_key(path.name), []).append(path)
        for paths in found.values():
            paths.sort(key=lambda path: (len(path.parts), path))
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[PurePosixPath]]:
        found: dict[str, list[PurePosixPath]] = {}
        for paths in self._by_name.values():
            for path in paths:
                if path.suffix.lower() in ENDS:
                    found.setdefault(path.stem, []).append(path)
        return found


def with_pictures(
    samples: Sequence[Sample], images: PathLike, missing: str, limit: int | None, argument: str = "csv"
) -> list[Sample]:
    """Samples whose pictures are named, with the paths of the pictures, those of their partners too.

    Args:
        samples: their pictures as names in the folder.
        images: the folder.
        missing: one of `MISSING`.
        limit: only the first so many.
        argument: what holds the names, for errors.

    Raises:
        FileNotFoundError, OSError: if there is no such folder, or pictures are missing.
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    one_of("missing", missing, MISSING)
    if not samples:
        raise ValueError(f"{argument}: there is no question in the file, only the names of columns")
    few = samples[: None if limit is None else whole_number("limit", limit, 1)]
    folder = PictureFolder(images, argument)
    named = 0
    lacking: list[str] = []

    def path_of(name: Any) -> Path:
        nonlocal named
        path, is_there = folder.path(name if isinstance(name, Stem) else str(name))
        named += 1
        if not is_there:
            lacking.append(path.name)
        return path

    found = [
        sample._replace(
            image=path_of(sample.image),
            other_image=None if sample.other_image is None else path_of(sample.other_image),
        )
        for sample in few
    ]
    if lacking and missing == "error":
        raise FileNotFoundError(
            f"images: {len(lacking)} of {named} pictures are not in {os.fspath(images)!r}, such as {lacking[0]}. "
            "Put them there, or go on without them by missing='skip': their questions end as skipped"
        )
    return found


def _key(name: str) -> str:
    return _COCO.sub("", name, count=1)


def _files(folder: Path, inside: PurePosixPath, depth: int, seen: set[str]) -> Iterator[PurePosixPath]:
    """The files below a folder, as paths in it; a folder that is linked to twice, or in a circle, is read once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    below = []
    with os.scandir(folder) as there:
        for entry in there:
            if entry.is_dir():
                below.append(entry.name)
            else:
                yield inside / entry.name
    if depth:
        for name in sorted(below):
            try:
                yield from _files(folder / name, inside / name, depth - 1, seen)
            except OSError:  # a folder that may not be read has no pictures for us
                continue
