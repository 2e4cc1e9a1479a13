"""Files that are there whole or not at all.

For: everything that the package writes. A file is written beside its place, synced to disk, and renamed: whatever ends
the process, fills the disk or takes a permission away, what was there before stays.
Ends: at a file in its place.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT = "What was there before is kept"
#: Of the file's own name, so that the longest that a file system takes can be written.
_NAME = 60
_NUMBERS = itertools.count()


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file; an existing one is replaced.

    Raises:
        OSError: naming the path; then it is as it was before.
    """
    with landing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def landing(path: str | os.PathLike[str], argument: str = "path", kept: str = KEPT) -> Iterator[Path]:
    """A path to write to, which takes the place of another at the end.

    Args:
        path: the file's place. A link stays one: what it leads to is replaced.
        argument: whose value it is, for the error.
        kept: what is as it was, for the error.

    Raises:
        OSError: naming the path, if it cannot be written; then nothing is left beside it.
        ValueError: if no file can be called so.
    """
    if not _is_name(path):
        raise ValueError(f"{argument}: expected the name of a file, got {os.fspath(path)!a}. {kept}")
    try:
        place = Path(os.path.realpath(path))  # which fails where the working directory is gone
        if place.exists() and not place.is_file() and not place.is_dir():
            raise OSError(f"{argument}: {os.fspath(path)!r} is no regular file. {kept}")
        with _replacing(place) as beside:
            yield beside
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno, f"{argument}: {os.fspath(path)!r} cannot be written ({error.strerror or error}). {kept}"
        ) from error


def _is_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file can be called so: not with a NUL, or half a character, in its name."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


@contextmanager
def _replacing(place: Path) -> Iterator[Path]:
    """A path beside a file, whose place it takes at the end; whatever fails, nothing is left there."""
    beside = place.with_name(f".{place.name[:_NAME]}.{os.getpid()}.{next(_NUMBERS)}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        if place.is_file():
            shutil.copymode(place, beside)
        beside.replace(place)
        _keep_names(place.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _keep_names(folder: Path) -> None:
    """Sync a folder to disk, so that a rename survives a loss of power; where the system supports it."""
    if os.name == "posix":
        with suppress(OSError):  # not every file system does
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
