"""Recordings: many grids of one question in one file, to be shown without a model.

For: classrooms without a GPU, web pages, and notebooks opened years later. `Tracer.record` makes them,
`TraceWidget.from_trace` shows them.
Cost: the file holds 8 bytes per sample and cell, and each picture once.
Ends: at traces; `blip_trace_widget.widget.replay` shows them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from blip_trace_widget.checks import whole_number
from blip_trace_widget.results import files
from blip_trace_widget.results.snapshot import Snapshot, pack, unpack
from blip_trace_widget.results.trace import TRACE, Trace, shown_with, snapshot_of_scene


def save(traces: Sequence[Trace], path: str | os.PathLike[str]) -> None:
    """Write traces with their snapshots, each snapshot once.

    Raises:
        OSError: if the file cannot be written.
    """
    snapshots = list({id(trace.snapshot): trace.snapshot for trace in traces if trace.snapshot is not None}.values())
    arrays: dict[str, Any]
    arrays, packed = pack(snapshots)
    entries = []
    for number, trace in enumerate(traces):
        numbers, fields = trace.packed(f"trace {number} ")
        arrays |= numbers
        entries.append({**fields, "snapshot": None if trace.snapshot is None else snapshots.index(trace.snapshot)})
    files.write(path, RECORDING, arrays, snapshots=packed, traces=entries)


def load(path: str | os.PathLike[str]) -> tuple[Trace, ...]:
    """The traces of a recording, or the single one that `Trace.save` wrote.

    Raises:
        FileNotFoundError, OSError: if the file cannot be opened.
        ValueError: if it is damaged, of another kind, or of a newer format.
    """
    kinds: tuple[files.Kind[Any], ...] = RECORDING, TRACE
    traces: Trace | tuple[Trace, ...] = files.read(path, *kinds)
    return (traces,) if isinstance(traces, Trace) else traces


def _read(arrays: files.Tensors, metadata: files.Fields) -> tuple[Trace, ...]:
    snapshots = unpack(arrays, metadata["snapshots"])
    return tuple(
        trace if entry["snapshot"] is None else shown_with(trace, _at(snapshots, entry["snapshot"]))
        for trace, entry in _traces(arrays, metadata)
    )


def _read_1(arrays: files.Tensors, metadata: files.Fields) -> tuple[Trace, ...]:
    snapshots: dict[int, Snapshot] = {}
    traces = []
    for trace, entry in _traces(arrays, metadata):
        scene = _at(metadata["scenes"], entry["scene"])
        if id(scene) not in snapshots:
            snapshots[id(scene)] = snapshot_of_scene(arrays, scene, trace)
        traces.append(shown_with(trace, snapshots[id(scene)]))
    return tuple(traces)


def _traces(arrays: files.Tensors, metadata: files.Fields) -> list[tuple[Trace, dict[str, Any]]]:
    if not metadata["traces"]:
        raise ValueError("there is no trace in it")
    return [(Trace.unpacked(arrays, entry, f"trace {at} "), entry) for at, entry in enumerate(metadata["traces"])]


def _at(listed: Sequence[Any], number: Any) -> Any:
    return listed[whole_number("number", number, 0, len(listed) - 1)]


RECORDING = files.Kind("recording", "blip_trace_widget.recording", {1: _read_1, 2: _read})
