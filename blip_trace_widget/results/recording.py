"""Recordings: many grids of one question in one file, to be shown without a model.

For: classes without a GPU, pages on the web, and notebooks that are opened years later. `Tracer.record` makes them,
`TraceWidget.from_trace` shows them.
Cost: the file holds 8 bytes a sample and cell, and each picture once.
Ends: at traces; showing them is `blip_trace_widget.widget.replay`'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blip_trace_widget.checks import whole_number
from blip_trace_widget.results import files
from blip_trace_widget.results.snapshot import Snapshot, pack, unpack
from blip_trace_widget.results.trace import TRACE, Trace, snapshot_of_scene


def save(traces: Sequence[Trace], path: str | os.PathLike[str]) -> None:
    """Write traces, and each of their snapshots once.

    Raises:
        OSError: if the file cannot be written.
    """
    snapshots = list({id(trace.snapshot): trace.snapshot for trace in traces if trace.snapshot is not None}.values())
    arrays: dict[str, Any]
    arrays, packed = pack(snapshots)
    told = []
    for number, trace in enumerate(traces):
        numbers, described = trace.packed(f"trace {number} ")
        arrays |= numbers
        told.append({**described, "snapshot": None if trace.snapshot is None else snapshots.index(trace.snapshot)})
    files.write(path, RECORDING, arrays, snapshots=packed, traces=told)


def load(path: str | os.PathLike[str]) -> tuple[Trace, ...]:
    """The traces of a recording, or the one that `Trace.save` wrote.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    kinds: tuple[files.Kind[Any], ...] = RECORDING, TRACE
    found: Trace | tuple[Trace, ...] = files.read(path, *kinds)
    return (found,) if isinstance(found, Trace) else found


def _read(arrays: files.Tensors, told: files.Fields) -> tuple[Trace, ...]:
    snapshots = unpack(arrays, told["snapshots"])
    return tuple(
        replace(trace, snapshot=None if each["snapshot"] is None else _at(snapshots, each["snapshot"]))
        for trace, each in _traces(arrays, told)
    )


def _read_1(arrays: files.Tensors, told: files.Fields) -> tuple[Trace, ...]:
    snapshots: dict[int, Snapshot] = {}
    traces = []
    for trace, each in _traces(arrays, told):
        scene = _at(told["scenes"], each["scene"])
        if id(scene) not in snapshots:
            snapshots[id(scene)] = snapshot_of_scene(arrays, scene, trace)
        traces.append(replace(trace, snapshot=snapshots[id(scene)]))
    return tuple(traces)


def _traces(arrays: files.Tensors, told: files.Fields) -> list[tuple[Trace, dict[str, Any]]]:
    if not told["traces"]:
        raise ValueError("there is no trace in it")
    return [(Trace.unpacked(arrays, each, f"trace {at} "), each) for at, each in enumerate(told["traces"])]


def _at(listed: Sequence[Any], number: Any) -> Any:
    return listed[whole_number("number", number, 0, len(listed) - 1)]


RECORDING = files.Kind("recording", "blip_trace_widget.recording", {1: _read_1, 2: _read})
