"""A sample's own results, from its rows in the two tables.

For: `blip_trace_widget.dataset.traced`.
Ends: at traces, as `Tracer` gave them. Nothing in the tables is trusted: what does not fit raises.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.choices import CORRUPTIONS, metric_properties
from blip_trace_widget.dataset import answers, rows, store
from blip_trace_widget.dataset.damage import OF_GRIDS
from blip_trace_widget.dataset.traced_tables import GRID
from blip_trace_widget.results import files, stored, version_1
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


class OneSample:
    """A sample's rows of one metric.

    Args:
        row: its row in the samples' table.
        cells: its cells of the metric, a pandas DataFrame.
        metric: the metric's name.
        first: whether that is the first metric of the run.
        own: whether the corruption is one of the package's own.

    Raises:
        LookupError, TypeError, ValueError, RecursionError, OverflowError: if the row is damaged; so do the methods.
    """

    def __init__(self, row: Mapping[str, Any], cells: pd.DataFrame, metric: str, *, first: bool, own: bool) -> None:
        self._row = row
        scored = row if first else next(one for one in row["metrics"] if one["metric"] == metric)
        self._clean = float(scored["clean"])
        self._corrupted = np.asarray(scored["corrupted_scores"], dtype=np.float64)
        settings = stored.settings(files.parsed(row["settings"]), needed=("metric", "corruption"))
        foil = row["foil"] if metric_properties(metric).needs_foil else None
        if own:
            one_of("corruption", settings["corruption"]["type"], CORRUPTIONS)
        self._settings = settings
        if first and settings["metric"] != metric:
            raise ValueError(f"settings.metric: expected {metric!r}, got {settings['metric']!r}")
        if not first:
            settings |= {"metric": metric, "foil": foil and answers.bare(foil).strip()}
        self._cells = dict(iter(cells.groupby("intervention", observed=True)))

    def traces(self, specs: Sequence[GridSpec]) -> list[Trace]:
        """The grids, without a snapshot."""
        table = self._cells[rows.PATCH]
        _check_whole(table)
        by_grid = dict(iter(table.groupby(list(GRID), observed=True, dropna=False, sort=False)))
        found = {_spec(key): grid for key, grid in by_grid.items()}
        return [self._trace(spec, found[spec]) for spec in specs]

    def _trace(self, spec: GridSpec, cells: pd.DataFrame) -> Trace:
        grid = cells.sort_values(["layer", "position"])
        layers, positions = grid["layer"].to_numpy(), grid["position"].to_numpy()
        depth, tokens = int(layers.max()) + 1, tuple(grid["token"].to_numpy()[layers == 0])
        places = list(zip(layers.tolist(), positions.tolist(), strict=True))
        if places != list(itertools.product(range(depth), range(len(tokens)))):
            raise ValueError(f"{len(grid)} cells of {depth} layers and {len(tokens)} tokens do not fit")
        samples = self._scores(grid).reshape(-1, depth, len(tokens))
        settings = self._settings | {name: getattr(spec, name) for name in GRID}
        dead = grid["without_effect"].to_numpy(np.bool_, na_value=False).reshape(depth, len(tokens))
        if dead.any():
            settings["without_effect"] = np.argwhere(dead).tolist()
        stored.check_without_effect(settings, samples.shape[1:])
        return Trace(samples, self._clean, self._corrupted, settings, tokens)

    def head_map(self, grids: Sequence[Trace]) -> HeadTrace:
        """The map of a block's heads, from the grid of each."""
        samples = np.stack([trace.samples for trace in grids], axis=2)
        settings = grids[0].settings | {"head": "all", "position": None}
        settings.pop("without_effect", None)  # of a single head
        return HeadTrace(samples, self._clean, self._corrupted, settings, grids[0].tokens)

    def image_map(self, patch: int, direction: str) -> ImageTokenTrace:
        """The map of squares of image tokens.

        Raises:
            LookupError, TypeError, ValueError: if there is none, or its cells make no map.
        """
        table = self._cells[rows.PATCH_IMAGE_TOKENS]
        squares = table[table["direction"] == direction].sort_values("position")
        names = [tuple(str(name).split(",")) for name in squares["token"]]
        down, across = (list(dict.fromkeys(name[axis] for name in names)) for axis in (0, 1))
        if names != list(itertools.product(down, across)) or list(squares["position"]) != list(range(len(names))):
            raise ValueError(f"{len(names)} squares of {len(down)} rows and {len(across)} columns do not fit")
        settings = self._settings | {"direction": direction, "patch": patch}
        samples = self._scores(squares).reshape(-1, len(down), len(across))
        return ImageTokenTrace(samples, self._clean, self._corrupted, settings, patch)

    def _scores(self, cells: pd.DataFrame) -> NDArray[np.float64]:
        """Scores of the cells' runs, (samples, cells)."""
        scores = np.stack([np.asarray(values, dtype=np.float64) for values in cells["scores"]], axis=1)
        if self._corrupted.shape != scores.shape[:1]:
            raise ValueError(f"{self._corrupted.size} corrupted runs do not fit {scores.shape[0]} patched ones")
        return scores

    def snapshot(self, trace: Trace) -> Snapshot | None:
        """What a widget shows beside the grids, of which `trace` is one; None if there is none."""
        row = self._row
        picture, other = (row[name] or b"" for name in ("picture", "other_picture"))
        if row["snapshot"] is not None:
            return Snapshot.unpacked(files.parsed(row["snapshot"]), picture, other)
        if row[store.SCENE] is None:
            return None
        scene = files.parsed(row[store.SCENE])
        return version_1.snapshot(scene, picture, other, trace.settings, trace.clean, trace.corrupted)


def _check_whole(grids: pd.DataFrame) -> None:
    for name in OF_GRIDS:
        if grids[name].isna().any():
            raise ValueError(f"{name}: a value is missing")


def _spec(key: tuple[Any, ...]) -> GridSpec:
    """The grid of a group of cells, in which pandas writes NaN for no head."""
    block, site, head, direction, window = key
    return GridSpec(block, site, None if head != head else int(head), direction, int(window))
