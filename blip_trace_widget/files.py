"""Results as files: safetensors, with all that is no array as JSON in the metadata.

For: `Trace.save`, `NoiseCurve.save` and their way back, bit for bit.
Cost: the arrays as they are (a trace takes samples x layers x positions x 8 bytes) and a little JSON.
Ends: at the fields of a result; which result they make is `blip_trace_widget.results`'. Reading executes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.sites import BLOCKS, DIRECTIONS, SITES, State, one_of, whole_number

Fields: TypeAlias = dict[str, Any]
PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what it holds, for messages.
        format: where its JSON is in the metadata.
        version: raised when older packages could misread it.
        tensors: names of its arrays; a number is an array of one.
        fields: the result's fields from arrays and JSON; whatever does not fit raises.
    """

    name: str
    format: str
    version: int
    tensors: tuple[str, ...]
    fields: Callable[[dict[str, NDArray[Any]], Fields], Fields]


def write(path: PathLike, kind: Kind, tensors: Fields, **described: Any) -> None:
    """Write a file.

    Args:
        path: where; what is there is replaced.
        kind: what it is.
        tensors: its arrays and numbers by name.
        described: the rest, as plain JSON.

    Raises:
        OSError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    from blip_trace_widget import __version__

    metadata = {"format": kind.format, "version": kind.version, "package": __version__, **described}
    arrays = {name: np.ascontiguousarray(np.atleast_1d(tensors[name])) for name in kind.tensors}
    try:
        save_file(arrays, os.fspath(path), metadata={kind.format: json.dumps(metadata)})
    except SafetensorError as error:
        raise OSError(f"path: {os.fspath(path)!r} cannot be written: {error}") from error


def read(path: PathLike, kind: Kind) -> Fields:
    """The fields of the result that a file holds.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not Path(name).is_file():
        raise FileNotFoundError(f"path: no such file: {name!r}")
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[kind.format])
            version = metadata["version"]
            if version == kind.version:
                return kind.fields({key: file.get_tensor(key) for key in kind.tensors}, metadata)
    except (KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"path: {name!r} is no saved {kind.name}: it lacks {error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"path: {name!r} is damaged or no saved {kind.name}: {error}") from error
    raise ValueError(f"path: {name!r} has format version {version!r}, this package reads {kind.version}")


def _trace(tensors: dict[str, NDArray[Any]], metadata: Fields) -> Fields:
    samples, corrupted = tensors["samples"], tensors["corrupted"]
    tokens, settings = tuple(str(token) for token in metadata["tokens"]), dict(metadata["settings"])
    if samples.ndim != 3 or samples.shape[0] != corrupted.shape[0] or samples.shape[2] != len(tokens):
        raise ValueError(f"shapes {samples.shape} and {corrupted.shape} do not fit {len(tokens)} tokens")
    one_of("block", settings["block"], BLOCKS)
    one_of("site", settings["site"], SITES)
    one_of("direction", settings["direction"], DIRECTIONS)
    whole_number("window", settings["window"], 1)
    _ = settings["metric"], settings["corruption"]
    return {
        "samples": samples,
        "clean": float(tensors["clean"][0]),
        "corrupted": corrupted,
        "settings": settings,
        "tokens": tokens,
    }


def _noise_curve(tensors: dict[str, NDArray[Any]], metadata: Fields) -> Fields:
    factors, corrupted, patched = tensors["factors"], tensors["corrupted"], tensors["patched"]
    states = tuple(_state(entry) for entry in metadata["states"])
    if corrupted.ndim != 2 or corrupted.shape[1:] != factors.shape or patched.shape != (*corrupted.shape, len(states)):
        raise ValueError(
            f"shapes {factors.shape}, {corrupted.shape} and {patched.shape} do not fit each other and "
            f"{len(states)} states"
        )
    return {
        "factors": factors,
        "clean": float(tensors["clean"][0]),
        "corrupted": corrupted,
        "patched": patched,
        "states": states,
    }


def _state(entry: Any) -> State:
    try:
        return State(**entry)
    except TypeError as error:
        raise ValueError(f"no state: {entry!r}: {error}") from error


TRACE = Kind("trace", "blip_trace_widget.trace", 1, ("samples", "corrupted", "clean"), _trace)
NOISE_CURVE = Kind(
    "noise curve", "blip_trace_widget.noise_curve", 1, ("factors", "clean", "corrupted", "patched"), _noise_curve
)
