"""Results as files: safetensors, with all that is no array as JSON in the metadata.

For: `Trace.save`, `NoiseCurve.save`, recordings of many traces, and their way back, bit for bit.
Cost: the arrays as they are (a trace takes samples x layers x positions x 8 bytes), a little JSON, and a small picture.
Ends: at the fields of a result; which result they make is `blip_trace_widget.results`'. Reading executes nothing, and
takes no more memory than the file has bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.scene import Scene
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, State

if TYPE_CHECKING:
    from blip_trace_widget.results import Trace

Fields: TypeAlias = dict[str, Any]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]
PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what it holds, for messages.
        format: where its JSON is in the metadata.
        version: raised when older packages could misread it.
        fields: the result's fields from arrays and JSON; whatever does not fit raises. A number is an array of one.
    """

    name: str
    format: str
    version: int
    fields: Callable[[Tensors, Fields], Fields]


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
    arrays = {name: np.ascontiguousarray(np.atleast_1d(array)) for name, array in tensors.items()}
    try:
        save_file(arrays, os.fspath(path), metadata={kind.format: json.dumps(metadata)})
    except SafetensorError as error:
        raise OSError(f"path: {os.fspath(path)!r} cannot be written: {error}") from error


def read(path: PathLike, *kinds: Kind) -> tuple[Kind, Fields]:
    """The kind of a file, one of these, and the fields of the result that it holds.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not Path(name).is_file():
        raise FileNotFoundError(f"path: no such file: {name!r}")
    called = " or ".join(kind.name for kind in kinds)
    try:
        with safe_open(name, framework="numpy") as file:
            told = file.metadata() or {}
            kind = next((kind for kind in kinds if kind.format in told), kinds[0])
            metadata = json.loads(told[kind.format])
            version = metadata["version"]
            if version == kind.version:
                return kind, kind.fields(_Stored(file, Path(name).stat().st_size), metadata)
    except (KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"path: {name!r} is no saved {called}: it lacks {error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"path: {name!r} is damaged or no saved {called}: {error}") from error
    raise ValueError(f"path: {name!r} has format version {version!r}, this package reads {kind.version}")


class _Stored(Mapping[str, "NDArray[Any]"]):
    """The arrays of a file, each read when it is asked for, if the file can hold it."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._file.keys():  # noqa: SIM118 - it is no mapping
            raise KeyError(name)
        shape = self._file.get_slice(name).get_shape()
        if math.prod(shape) > self._size:
            raise ValueError(f"{name} of shape {shape} is larger than the file")
        return np.asarray(self._file.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


def trace_parts(trace: Trace, before: str = "") -> tuple[Fields, Fields]:
    """The arrays of a trace, with that before their names, and the rest as plain JSON, but for its scene."""
    arrays = {"samples": trace.samples, "corrupted": trace.corrupted, "clean": trace.clean}
    told = {"tokens": trace.tokens, "settings": trace.settings}
    return {before + name: array for name, array in arrays.items()}, told


def scene_parts(scene: Scene | None) -> tuple[Fields, Fields | None]:
    """The pictures of a scene as arrays, and the rest as plain JSON."""
    return ({}, None) if scene is None else scene.packed()


def _trace(tensors: Tensors, metadata: Fields) -> Fields:
    scene = metadata.get("scene")  # older files have none
    return _grid(tensors, metadata) | {"scene": scene if scene is None else _scene(tensors, scene)}


def _recording(tensors: Tensors, metadata: Fields) -> Fields:
    scenes = [_scene(tensors, told) for told in metadata["scenes"]]
    traces = []
    for number, told in enumerate(metadata["traces"]):
        scene = scenes[whole_number("scene", told["scene"], 0, len(scenes) - 1)]
        traces.append(_grid(tensors, told, f"trace {number} ") | {"scene": scene})
    if not traces:
        raise ValueError("there is no trace in it")
    return {"traces": traces}


def _scene(tensors: Tensors, told: Fields) -> Scene:
    return Scene.unpacked({name: tensors[name] for name in ("picture", "other_picture")}, told)


def _grid(tensors: Tensors, told: Fields, before: str = "") -> Fields:
    samples, clean, corrupted = (tensors[before + name] for name in ("samples", "clean", "corrupted"))
    tokens, settings = tuple(str(token) for token in told["tokens"]), dict(told["settings"])
    if samples.ndim != 3 or samples.shape[:1] != corrupted.shape or samples.shape[2] != len(tokens):
        raise ValueError(f"shapes {samples.shape} and {corrupted.shape} do not fit {len(tokens)} tokens")
    if {array.dtype for array in (samples, clean, corrupted)} != {np.dtype(np.float64)}:
        raise ValueError("scores must be float64")
    one_of("block", settings["block"], BLOCKS)
    one_of("site", settings["site"], SITES)
    one_of("direction", settings["direction"], DIRECTIONS)
    whole_number("window", settings["window"], 1)
    _ = settings["metric"], settings["corruption"]
    return {
        "samples": samples,
        "clean": float(clean[0]),
        "corrupted": corrupted,
        "settings": settings,
        "tokens": tokens,
    }


def _noise_curve(tensors: Tensors, metadata: Fields) -> Fields:
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
        state = State(**entry)
        whole_number("position", state.position, 0)  # by now no word
    except TypeError as error:
        raise ValueError(f"no state: {entry!r}: {error}") from error
    return state


TRACE = Kind("trace", "blip_trace_widget.trace", 1, _trace)
RECORDING = Kind("recording", "blip_trace_widget.recording", 1, _recording)
NOISE_CURVE = Kind("noise curve", "blip_trace_widget.noise_curve", 1, _noise_curve)
