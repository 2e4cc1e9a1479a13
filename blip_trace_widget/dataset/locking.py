"""Folders of results that one run at a time writes to.

For: `trace_dataset` and `merge`, which refuse a folder in which the other, or another of themselves, is at work.
Ends: at a file system's lock, which ends with the process that holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from blip_trace_widget.dataset.samples import PathLike


@contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Keep a folder, created if necessary, for one run at a time.

    Raises:
        OSError: if it cannot be created or written, or another run is writing to it.
    """
    try:
        with _told(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock = FileLock(Path(folder) / ".lock", timeout=0)
            lock.acquire()
    except Timeout:
        raise OSError(
            f"out: another run is writing to {os.fspath(folder)!r} now; wait for it, or take another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


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
