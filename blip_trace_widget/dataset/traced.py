"""DatasetTrace: a traced data set, read from its folder.

For: the tables, averages, comparisons, and every sample's own grids.
Cost: the samples' table without pictures is read at once; cells are read on demand.
Ends: at results; no model is needed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.dataset import alignment, averages, store
from blip_trace_widget.dataset.alignment import Aligned, Roles
from blip_trace_widget.dataset.averages import Comparison, MeanTrace
from blip_trace_widget.results import files, stored, version_1
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace, shown_with
from blip_trace_widget.states import BLOCKS, SITES

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.dataset.samples import PathLike

#: Columns that are read one sample at a time.
HEAVY = ("corrupted_scores", "settings", "snapshot", "picture", "other_picture", "region")
#: Default number of bootstrap resamples.
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class DatasetTrace:
    """A data set that `trace_dataset` traced, or a selection of it.

    Attributes:
        folder: the folder of its tables.
        settings: the settings that it was computed with, as plain JSON.
        samples: one row per sample: question, answers, effects, and for a skipped one the reason; pandas DataFrame.
    """

    folder: Path
    settings: dict[str, Any] = field(repr=False)
    samples: pd.DataFrame = field(repr=False)

    @classmethod
    def load(cls, folder: PathLike) -> DatasetTrace:
        """Open a folder that `trace_dataset` wrote, finished or not.

        Raises:
            FileNotFoundError, OSError: if there is no such folder.
            ValueError: if `trace_dataset` did not write it, it has a newer format, or a file in it is damaged.
            ImportError: if the extra ``data`` is not installed.
        """
        arrow = store.arrow()
        settings = store.read_settings(folder)
        columns = [name for name in store.COLUMNS["samples"] if name not in HEAVY]
        empty = store.as_table("samples", []).select(columns)
        size = settings["batch_size"]
        tables = [store.read(path, columns, most=size) for path in store.parts(Path(folder), "samples")]
        samples = arrow.concat_tables([empty, *tables]).to_pandas()
        with store.undamaged(folder, "its samples"):
            store.check_samples(samples)
        return cls(Path(folder), settings, samples)

    def __repr__(self) -> str:
        return f"DatasetTrace({os.fspath(self.folder)!r}: {self.summary})"

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of samples given, traced, and skipped for each reason."""
        reasons = Counter(self.samples.loc[~self.samples["traced"], "reason"])
        return {
            "given": len(self.samples),
            "traced": int(self.samples["traced"].sum()),
            **{f"skipped: {reason}": number for reason, number in sorted(reasons.items())},
        }

    @property
    def summary(self) -> str:
        """The counts in words."""
        counts = self.counts
        skipped = "".join(f", {number} {name}" for name, number in counts.items() if name.startswith("skipped"))
        given = "1 sample" if counts["given"] == 1 else f"{counts['given']} samples"
        return f"{given}: {counts['traced']} traced{skipped}"

    @property
    def groups(self) -> list[str]:
        """The groups' names, in order of first occurrence."""
        return list(dict.fromkeys(self.samples["group"]))

    @property
    def grids(self) -> list[tuple[str, str]]:
        """Block and site of each grid that a sample has."""
        return [(block, site) for block, site in self.settings["grids"]]

    def select(
        self, group: str | None = None, tokens: int | None = None, correct: bool | None = None, samples: Any = None
    ) -> DatasetTrace:
        """Some of the samples.

        Args:
            group: only samples of this group.
            tokens: only questions with this number of tokens, special ones included.
            correct: only samples that the model answered correctly, or only others.
            samples: only samples with these numbers.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if none are left.
        """
        table = self.samples
        keep = np.ones(len(table), dtype=bool)
        if group is not None:
            keep &= (table["group"] == one_of("group", group, self.groups)).to_numpy()
        if tokens is not None:
            whole_number("tokens", tokens, 1)
            keep &= np.array([words is not None and len(words) == tokens for words in table["question_tokens"]])
        if correct is not None:
            keep &= (table["correct"] == correct).fillna(False).to_numpy(dtype=bool)
        if samples is not None:
            keep &= table["sample"].isin(list(samples)).to_numpy()
        if not keep.any():
            raise ValueError("select: no sample is left")
        return replace(self, samples=table[keep])

    def to_dataframe(self) -> pd.DataFrame:
        """One row per cell of the traced samples: sample, id, group, block, site, layer, position, token, clean, ..."""
        columns = [name for name in store.COLUMNS["cells"] if name != "scores"]
        table = self._cells(columns, None).to_pandas()
        return table[table["sample"].isin(self._numbers)].reset_index(drop=True)

    def trace(self, sample: int, block: str | None = None, site: str | None = None) -> Trace:
        """A sample's own grid, as `Tracer.trace` gave it.

        Args:
            sample: the sample's number.
            block: default the first that was traced.
            site: default the first that was traced in that block.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the sample was
                skipped, with the reason.
        """
        block, site = self._grid(block, site)
        return next(
            trace for trace in self.traces(sample) if (trace.settings["block"], trace.settings["site"]) == (block, site)
        )

    def traces(self, sample: int) -> list[Trace]:
        """All grids of a sample, with its snapshot.

        Raises:
            TypeError, ValueError: see `trace`.
        """
        number = whole_number("sample", sample, 0)
        rows = self.samples[self.samples["sample"] == number]
        if rows.empty:
            raise ValueError(f"sample: there is no number {number}; expected one of the column 'sample' of `samples`")
        if not rows["traced"].iloc[0]:
            raise ValueError(f"sample: number {number} was skipped: {rows['reason'].iloc[0]} ({rows['why'].iloc[0]})")
        batch = number // self.settings["batch_size"]
        filters = [("sample", "=", number)]
        columns = [*store.COLUMNS["samples"], store.SCENE]
        most = self.settings["batch_size"]
        found = store.read(store.part(self.folder, "samples", batch), columns, filters, most)
        cells = store.read(store.part(self.folder, "cells", batch), filters=filters)
        with store.undamaged(self.folder, f"sample {number}"):
            (row,) = found.to_pylist()
            own = self.settings["corruption"]["type"] in CORRUPTIONS
            traces = [_trace(row, cells, block, site, own=own) for block, site in self.grids]
            # Words for another corruption than the package's own there are none, nor for what many functions may give.
            snapshot = _snapshot(row, traces[0]) if own else None
            return traces if snapshot is None else [shown_with(trace, snapshot) for trace in traces]

    def picture(self, sample: int) -> bytes:
        """The small picture stored for a traced sample, JPEG; empty for a skipped one.

        Raises:
            TypeError, ValueError: if there can be no such number, or the file is damaged.
            OSError: if the file cannot be opened.
        """
        batch = whole_number("sample", sample, 0) // self.settings["batch_size"]
        path = store.part(self.folder, "samples", batch)
        rows = store.read(path, ["sample", "picture"], [("sample", "=", sample)]).to_pylist()
        return bytes(rows[0]["picture"] or b"") if rows else b""

    # --- averages ----------------------------------------------------------------------------------------------------

    def mean(
        self,
        align: str | Roles = "ends",
        block: str | None = None,
        site: str | None = None,
        group: str | None = None,
        confidence: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> MeanTrace:
        """The average grid over the traced samples, with bootstrap intervals over pictures.

        Only questions whose answer the noise breaks are averaged: skipped ones are not included (see `counts`).

        Args:
            align: how to align positions of different questions. ``"exact"``: questions of one length, one role per
                position. ``"ends"``: up to three positions from either end have their own roles, and all between are
                pooled. Or a callable from the tuple of a sample's tokens to a role for each, None to leave it out.
            block: default the first that was traced.
            site: default the first that was traced in that block.
            group: only the samples of this group.
            confidence: coverage of the intervals, between 0 and 1.
            resamples: number of bootstrap resamples.
            seed: seed of the bootstrap.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        block, site = self._grid(block, site)
        bootstrap = _bootstrap(confidence, resamples, seed)
        if group is None:
            data = self.aligned(align, block, site)
        elif callable(align):  # align all samples, so that the roles have the same order in every group
            of_group = (self.traced["group"] == one_of("group", group, self.groups)).to_numpy()
            data = self.aligned(align, block, site).of(of_group)
        else:
            data = self.select(group).aligned(align, block, site)
        return averages.mean(data, *bootstrap, settings=self._description(align, block, site) | {"group": group})

    def compare(
        self,
        group_a: str,
        group_b: str,
        align: str | Roles = "ends",
        block: str | None = None,
        site: str | None = None,
        rate: float = 0.05,
        confidence: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Comparison:
        """Where the average indirect effects of two groups differ.

        Every cell is tested by Welch's t test over pictures, paired where both groups have questions about the same
        picture; over the grid the false-discovery rate is held. Effects are compared, not recoveries:
        where noise takes more of one group's scores, its effects can be larger for that alone.

        Args:
            group_a: one group.
            group_b: the other group, which is subtracted.
            align: see `mean`; the positions of both groups are aligned together.
            block: see `mean`.
            site: see `mean`.
            rate: the false-discovery rate, between 0 and 1.
            confidence: see `mean`.
            resamples: see `mean`.
            seed: see `mean`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        block, site = self._grid(block, site)
        for name, group in (("group_a", group_a), ("group_b", group_b)):
            one_of(name, group, self.groups)
        if group_a == group_b:
            raise ValueError(f"group_a, group_b: expected two groups, got {group_a!r} twice")
        _share("rate", rate)
        bootstrap = _bootstrap(confidence, resamples, seed)
        both = replace(self, samples=self.samples[self.samples["group"].isin([group_a, group_b])])
        data = both.aligned(align, block, site)
        of = [(both.traced["group"] == group).to_numpy() for group in (group_a, group_b)]
        for group, which in zip((group_a, group_b), of, strict=True):
            if which.sum() < 2:
                raise ValueError(f"group_a, group_b: {group!r} has {which.sum()} traced samples, expected 2 or more")
        description = self._description(align, block, site) | {"groups": [group_a, group_b]}
        return averages.compare(data, (of[0], of[1]), (group_a, group_b), rate, *bootstrap, settings=description)

    def plot(
        self,
        align: str | Roles = "ends",
        group: str | None = None,
        value: Literal["recovery", "indirect_effect"] = "recovery",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
    ) -> list[Any]:
        """Draw the average of each grid in the paper's layout, tokens down and layers across.

        Args:
            align: see `mean`.
            group: see `mean`.
            value: see `MeanTrace.plot`.
            limit: see `MeanTrace.plot`; default the largest value of each grid.
            cmap: see `MeanTrace.plot`.
            marks: see `MeanTrace.plot`.

        Returns:
            matplotlib axes, one per grid; without matplotlib, bqplot figures.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        means = [self.mean(align, block, site, group) for block, site in self.grids]
        return [mean.plot(limit=limit, value=value, cmap=cmap, marks=marks) for mean in means]

    def aligned(self, align: str | Roles = "ends", block: str | None = None, site: str | None = None) -> Aligned:
        """The traced samples' indirect effects on common axes, from which averages are computed.

        Raises:
            TypeError, ValueError: see `mean`.
        """
        import pandas as pd

        block, site = self._grid(block, site)
        if not len(self._numbers):
            raise ValueError(f"there is no traced sample: {self.summary}")
        words, effects = self._effects(block, site)
        total, (pictures, _) = self.traced["total_effect"].to_numpy(), pd.factorize(self.traced["image"])
        return alignment.aligned(words, effects, total, pictures, align)

    # --- helpers -----------------------------------------------------------------------------------------------------

    @cached_property
    def traced(self) -> pd.DataFrame:
        """The rows of `samples` that were traced."""
        return self.samples[self.samples["traced"]]

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.asarray(self.traced["sample"].to_numpy(), dtype=np.int64)

    def _cells(self, columns: Sequence[str], filters: Any) -> Any:
        batches = set(self._numbers // self.settings["batch_size"])
        places = [store.part(self.folder, "cells", batch) for batch in sorted(batches)]
        empty = store.as_table("cells", []).select(columns)
        tables = [store.read(path, columns, filters) for path in places]
        return store.arrow().concat_tables([empty, *tables]).unify_dictionaries()

    def _effects(self, block: str, site: str) -> tuple[list[tuple[str, ...]], list[NDArray[np.float64]]]:
        """Tokens and indirect effects, (layers, positions), of each traced sample; read once."""
        known = self._read.get((block, site))
        if known is not None:
            return known
        columns = ["sample", "layer", "position", "token", "indirect_effect"]
        table = self._cells(columns, [("block", "=", block), ("site", "=", site)])
        numbers, layers, positions = (table[name].to_numpy() for name in columns[:3])
        order = np.lexsort((positions, layers, numbers))
        values, names = table["indirect_effect"].to_numpy()[order], table["token"].combine_chunks()
        codes, named = np.asarray(names.indices)[order], names.dictionary.to_pylist()
        starts = np.searchsorted(numbers[order], self._numbers)
        stops = np.searchsorted(numbers[order], self._numbers, side="right")
        depth = int(layers.max(initial=0)) + 1
        words: list[tuple[str, ...]] = []
        effects: list[NDArray[np.float64]] = []
        for number, start, stop in zip(self._numbers, starts, stops, strict=True):
            with store.undamaged(self.folder, f"sample {number}"):
                effects.append(values[start:stop].reshape(depth, -1))
            words.append(tuple(named[code] for code in codes[start : start + effects[-1].shape[1]]))
        self._read[block, site] = words, effects
        return words, effects

    @cached_property
    def _read(self) -> dict[tuple[str, str], tuple[list[tuple[str, ...]], list[NDArray[np.float64]]]]:
        return {}

    def _grid(self, block: str | None, site: str | None) -> tuple[str, str]:
        if block is not None:
            one_of("block", one_of("block", block, BLOCKS), dict.fromkeys(block for block, _ in self.grids))
        candidates = [grid for grid in self.grids if block in (None, grid[0])]
        if site is not None:
            one_of("site", one_of("site", site, SITES), dict.fromkeys(site for _, site in candidates))
        return next(grid for grid in candidates if site in (None, grid[1]))

    def _description(self, align: str | Roles, block: str, site: str) -> dict[str, Any]:
        name = align if isinstance(align, str) else getattr(align, "__name__", "roles")
        return {"block": block, "site": site, "align": name}


def _bootstrap(confidence: float, resamples: int, seed: int) -> tuple[float, int, int]:
    return _share("confidence", confidence), whole_number("resamples", resamples, 1), whole_number("seed", seed, 0)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number between 0 and 1, got {type(value).__name__}")
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value!r}")
    return float(value)


def _snapshot(row: dict[str, Any], trace: Trace) -> Snapshot | None:
    """The snapshot of a row from a file; `trace` is one of the row's grids."""
    picture, other = (row[name] or b"" for name in ("picture", "other_picture"))
    if row["snapshot"] is not None:
        return Snapshot.unpacked(files.parsed(row["snapshot"]), picture, other)
    if row[store.SCENE] is None:
        return None
    scene = files.parsed(row[store.SCENE])
    return version_1.snapshot(scene, picture, other, trace.settings, trace.clean, trace.corrupted)


def _trace(row: dict[str, Any], cells: Any, block: str, site: str, *, own: bool) -> Trace:
    table = cells.to_pandas()
    grid = table[(table["block"] == block) & (table["site"] == site)].sort_values(["layer", "position"])
    depth, tokens = int(grid["layer"].max()) + 1, tuple(grid["token"][grid["layer"] == 0])
    if len(grid) != depth * len(tokens):
        raise ValueError(f"{len(grid)} cells of {depth} layers and {len(tokens)} tokens do not fit")
    scores = np.stack([np.asarray(values, dtype=np.float64) for values in grid["scores"]], axis=1)
    intervention = {"block": block, "site": site, "head": None, "window": 1, "direction": "restore"}
    corrupted = np.asarray(row["corrupted_scores"], dtype=np.float64)
    if corrupted.shape != scores.shape[:1]:
        raise ValueError(f"{corrupted.size} corrupted runs do not fit {scores.shape[0]} patched ones")
    settings = stored.settings(files.parsed(row["settings"]) | intervention)
    if own:
        one_of("corruption", settings["corruption"]["type"], CORRUPTIONS)
    if not all(isinstance(token, str) for token in tokens):
        raise ValueError("token: expected a text")
    return Trace(
        samples=scores.reshape(scores.shape[0], depth, -1),
        clean=float(row["clean"]),
        corrupted=corrupted,
        settings=settings,
        tokens=tokens,
    )
