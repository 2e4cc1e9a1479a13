"""Results as files: safetensors, with everything that is not an array as JSON in the metadata.

For: writing and reading traces, noise curves and recordings of many traces, bit for bit.
Cost: the arrays uncompressed (a trace takes samples x layers x positions x 8 bytes), and a little JSON.
Ends: at arrays and JSON; each result packs and unpacks itself. Reading executes nothing, and takes no more memory than
the file has bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import landing
from blip_trace_widget._version import __version__
from blip_trace_widget.checks import clipped, whole_number

Fields: TypeAlias = dict[str, Any]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]
PathLike: TypeAlias = "str | os.PathLike[str]"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Kind(Generic[Result]):
    """A kind of file.

    Attributes:
        name: what it holds, for messages.
        format: the metadata's key for its JSON.
        readers: version of the format -> what makes the result from arrays and JSON, and raises if they do not fit. A
            number is an array of length one. The last version is written; a new one is needed when older packages
            could misread it.
    """

    name: str
    format: str
    readers: Mapping[int, Callable[[Tensors, Fields], Result]]

    @property
    def version(self) -> int:
        """The version that is written."""
        return max(self.readers)


def write(path: PathLike, kind: Kind[Any], tensors: Mapping[str, Any], **described: Any) -> None:
    """Write a file.

    Args:
        path: the file; an existing one is replaced.
        kind: the kind of file.
        tensors: arrays and numbers by name.
        described: the rest, as plain JSON.

    Raises:
        OSError: if the file cannot be written; then it is as it was.
    """
    from safetensors.numpy import save

    metadata = {"format": kind.format, "version": kind.version, "package": __version__, **described}
    arrays = {name: np.ascontiguousarray(np.atleast_1d(array)) for name, array in tensors.items()}
    landing.write(path, save(arrays, metadata={kind.format: json.dumps(metadata)}))


def parsed(text: str) -> Any:
    """JSON of a file; halves of characters, which names of files may have and no text may, become "?".

    Raises:
        ValueError, RecursionError: if it is none.
    """
    value = json.loads(text)
    if "\\ud" not in text.lower():
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def read(path: PathLike, *kinds: Kind[Result]) -> Result:
    """Read the result in a file of one of these kinds.

    Raises:
        FileNotFoundError, OSError: if the file cannot be opened.
        TypeError: if `path` is none.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected the path of a file, got {type(path).__name__}")
    name = os.fspath(path)
    if not Path(name).is_file():
        raise FileNotFoundError(f"path: no such file: {name!r}")
    names = " or ".join(kind.name for kind in kinds)
    try:
        with safe_open(name, framework="numpy") as file:
            stored = file.metadata() or {}
            kind = next((kind for kind in kinds if kind.format in stored), kinds[0])
            metadata = parsed(stored[kind.format])
            version = whole_number("version", metadata["version"], 0)
            if version in kind.readers:
                return kind.readers[version](_Stored(file, Path(name).stat().st_size), metadata)
    except (KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"path: {name!r} is no saved {names}: it lacks {error}") from error
    except (SafetensorError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f"path: {name!r} is damaged or no saved {names}: {clipped(str(error))}") from error
    raise ValueError(f"path: {name!r} has format version {version}, this package reads up to {kind.version}")


class _Stored(Mapping[str, "NDArray[Any]"]):
    """The arrays of a file, read on demand and only if their shape fits into the file's size."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            KeyError: if there is none of that name.
            ValueError: if its shape is larger than the file.
        """
        if name not in self._file.keys():  # noqa: SIM118 - it is not a mapping
            raise KeyError(name)
        shape = self._file.get_slice(name).get_shape()
        if math.prod(shape) > self._size:
            raise ValueError(f"{name} of shape {shape} is larger than the file")
        return np.asarray(self._file.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())
