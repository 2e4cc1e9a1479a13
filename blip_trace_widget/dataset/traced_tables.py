"""TracedTables: the two tables of a traced data set, what was traced, and which part of it is meant.

For: `blip_trace_widget.dataset.traced_samples` and `traced`, which add a sample's own results and averages.
Cost: the samples' table without pictures is read at once; cells are read on demand.
Ends: at tables.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.dataset import ragged, store
from blip_trace_widget.dataset.damage import check_samples, check_scored, undamaged
from blip_trace_widget.dataset.settings import metric_name, read_settings
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.tables import held_columns

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

    from blip_trace_widget.dataset.samples import PathLike

#: Columns that are read one sample at a time.
HEAVY = ("corrupted_scores", "settings", "snapshot", "picture", "other_picture", "region", "attention", "metrics")
#: The samples' columns that depend on the metric.
SCORED = ("clean", "corrupted", "total_effect", "total_effect_stderr")
#: The cells' column that there is where something is held.
WITHOUT_EFFECT = "without_effect"
#: What tells one grid from another.
GRID = ("block", "site", "head", "direction", "window")


class Grid(NamedTuple):
    """A grid that every sample has, and what its runs are scored by."""

    spec: GridSpec
    metric: str


@dataclass(frozen=True, eq=False)
class TracedTables:
    """The tables of a traced data set, or of a selection of its samples.

    Attributes:
        folder: the folder of the tables.
        settings: the settings that it was computed with, as plain JSON.
        samples: one row per sample: question, answers, effects, and for a skipped one the reason; pandas DataFrame.
    """

    folder: Path
    settings: dict[str, Any] = field(repr=False)
    samples: pd.DataFrame = field(repr=False)
    #: What was read of each grid, which selections share.
    _read: dict[Grid, ragged.Grids] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: PathLike) -> Self:
        """Open a folder that `trace_dataset` wrote, finished or not.

        Raises:
            FileNotFoundError, OSError: if there is no such folder.
            ValueError: if `trace_dataset` did not write it, it has a newer format, or a file in it is damaged.
            ImportError: if the extra ``data`` is not installed.
        """
        store.arrow()
        settings = read_settings(folder)
        columns = [name for name in store.COLUMNS["samples"] if name not in HEAVY]
        places, most = store.parts(Path(folder), "samples"), settings["batch_size"]
        table = store.read_all("samples", places, columns, most=most)
        with undamaged(folder, "its samples"):
            samples = table.to_pandas()
            check_samples(samples, len(settings.get("metrics", ("",))))
        return cls(Path(folder), settings, samples)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({os.fspath(self.folder)!r}: {self.summary})"

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
        """Block and site of the grids that a sample has, each pair once."""
        return list(dict.fromkeys((spec.block, spec.site) for spec in self.specs))

    @property
    def specs(self) -> list[GridSpec]:
        """The grids that a sample has: block, site, head, direction and window of each."""
        return [GridSpec(*given) for given in self.settings["grids"]]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics by which the runs are scored."""
        return [metric_name(told) for told in self.settings.get("metrics", [self.settings["metric"]])]

    @property
    def held(self) -> dict[str, Any]:
        """What was held in all grids, or where their paths lead, as settings; nothing for plain grids."""
        return {name: self.settings[name] for name in ("hold", "receivers") if name in self.settings}

    def select(
        self, group: str | None = None, tokens: int | None = None, correct: bool | None = None, samples: Any = None
    ) -> Self:
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
        """One row per cell of the traced samples: sample, id, group, intervention, block, site, head, window, ...

        Of grids (``intervention`` "patch"), maps of image tokens ("patch_image_tokens": position and token are a
        square's) and knockouts ("knockout": position and token are those of the group of edges, the indirect effect is
        what is lost). What a cell does not have is missing: the head of a whole site, the layer of a square. If
        something was held, ``hold`` says what, or ``receivers`` where paths lead; ``without_effect``: whether nothing
        of a cell gets past it, so that its effect is 0 by construction.
        """
        columns = [
            name for name in store.COLUMNS["cells"] if name != "scores" and (self.held or name != WITHOUT_EFFECT)
        ]
        return self._frame(columns).assign(**held_columns(self.held))

    @cached_property
    def traced(self) -> pd.DataFrame:
        """The rows of `samples` that were traced."""
        return self.samples[self.samples["traced"]]

    def scored(self, metric: str | None = None) -> pd.DataFrame:
        """The rows of `samples` that have cells of a metric, with its scores and effects.

        Args:
            metric: default the first.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        name = self._metric(metric)
        if name == self.metrics[0]:  # the reason why it has none is in the same column as a skipped sample's
            return self.traced[self.traced["why"].isna()]
        found = self._others[name]
        table = self.traced[self.traced["sample"].isin(found)].copy()
        for column in SCORED:
            table[column] = [found[number][column] for number in table["sample"]]
        return table

    @cached_property
    def _others(self) -> dict[str, dict[int, dict[str, Any]]]:
        """What the metrics but the first say of each sample that has cells of them."""
        found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in self.metrics}
        for batch in self._batches:
            table = self._batch(batch, ["sample", "traced", "metrics"])
            with undamaged(self.folder, "other metrics"):
                for row in table.to_pylist():
                    for told in row["metrics"] or ():
                        if row["traced"] and told["why"] is None:
                            check_scored(told)
                            found[told["metric"]][row["sample"]] = told
        return found

    # --- which part --------------------------------------------------------------------------------------------------

    def _grid(self, metric: str | None, of: Sequence[GridSpec] | None = None, **asked: Any) -> Grid:
        """The grid that arguments mean: what is None is as in the first that was traced, its heads all together.

        Args:
            metric: default the first.
            of: the grids that are meant; default all that were traced.
            asked: block, site, head, direction and window, or None for each.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what was traced.
        """
        specs = list(self.specs if of is None else of)
        for name in GRID:
            if asked[name] is not None:
                value = among(name, asked[name], dict.fromkeys(getattr(spec, name) for spec in specs))
                specs = [spec for spec in specs if getattr(spec, name) == value]
        for name in GRID:
            there = [getattr(spec, name) for spec in specs]
            value = None if None in there else there[0]  # only heads can be None
            specs = [spec for spec in specs if getattr(spec, name) == value]
        return Grid(specs[0], self._metric(metric))

    def _head_grids(
        self,
        what: str,
        metric: str | None,
        block: str | None,
        site: str | None,
        window: int | None,
        direction: str | None,
    ) -> tuple[list[GridSpec], str]:
        """The grids of all heads of a site, in order, and the metric; `what` needs them.

        Raises:
            TypeError, ValueError: as `_grid`; also if not all of the heads were traced.
        """
        specs = [spec for spec in self.specs if spec.head is not None]
        if not specs:
            raise ValueError(f"{what}: no heads were traced; trace_dataset(..., head='all') traces them")
        first, name = self._grid(metric, specs, block=block, site=site, head=None, direction=direction, window=window)
        heads = sorted(spec for spec in specs if spec._replace(head=first.head) == first)
        numbers = [spec.head for spec in heads]
        if numbers != list(range(self.settings.get("heads", {}).get(first.block, 0))):
            raise ValueError(f"{what}: of {first.site!r} only the heads {numbers} were traced")
        return heads, name

    def _metric(self, metric: str | None) -> str:
        return self.metrics[0] if metric is None else one_of("metric", metric, self.metrics)

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.asarray(self.traced["sample"].to_numpy(), dtype=np.int64)

    @property
    def _batches(self) -> list[int]:
        return sorted(set((self._numbers // self.settings["batch_size"]).tolist()))

    @property
    def _added(self) -> dict[str, Any]:
        """What columns that cells of earlier versions lack are read as."""
        return {"metric": self.metrics[0]}

    def _batch(self, batch: int, columns: Sequence[str], where: Mapping[str, Any] | None = None) -> Any:
        """Columns of a batch's samples that have these values in these columns."""
        most = self.settings["batch_size"]
        return store.read(store.part(self.folder, "samples", batch), columns, where, most=most)

    def _cells(self, columns: Sequence[str], where: Mapping[str, Any] | None = None) -> Any:
        """Columns of the traced samples' cells that have these values in these columns."""
        places = [store.part(self.folder, "cells", batch) for batch in self._batches]
        return store.read_all("cells", places, columns, where, self._added)

    def _frame(self, columns: Sequence[str], where: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The same as a DataFrame, of the selected samples alone, with missing whole numbers where there are none."""
        found = self._cells([name for name in store.COLUMNS["cells"] if name in columns], where)
        with undamaged(self.folder, "its cells"):
            table = found.to_pandas()
        for name in ("head", "window", "layer"):
            if name in columns and (name != "layer" or found[name].null_count):
                table[name] = table[name].astype("Int16")
        return table.loc[table["sample"].isin(self._numbers), list(columns)].reset_index(drop=True)


def among(name: str, value: Any, there: Iterable[Any]) -> Any:
    """A value of an argument if it is among those that were traced.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what was traced.
    """
    known = list(there)
    if name in ("window", "head"):
        value = whole_number(name, value, 0)
        if value not in known:
            raise ValueError(f"{name}: expected one of those that were traced, {known}, got {value}")
        return value
    return one_of(name, value, known)
