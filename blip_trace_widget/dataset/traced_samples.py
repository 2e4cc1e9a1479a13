"""TracedSamples: each sample's own results, read from the folder of a traced data set.

For: `blip_trace_widget.dataset.traced`, which adds averages.
Cost: two files are read for a sample, one after another.
Ends: at traces and maps, as `Tracer` gave them; `blip_trace_widget.dataset.one_sample` makes them of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.dataset import rows, store
from blip_trace_widget.dataset.damage import undamaged
from blip_trace_widget.dataset.one_sample import OneSample
from blip_trace_widget.dataset.traced_tables import TracedTables, among
from blip_trace_widget.results import losses
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace
from blip_trace_widget.results.trace import Trace, shown_with

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class TracedSamples(TracedTables):
    """The samples of a traced data set, see `TracedTables`."""

    def trace(
        self,
        sample: int,
        block: str | None = None,
        site: str | None = None,
        *,
        head: int | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> Trace:
        """A sample's own grid, as `Tracer.trace` gave it.

        Args:
            sample: the sample's number.
            block: default the first that was traced.
            site: default the first that was traced in that block.
            head: default the whole site, if it was traced, else the first head.
            window: default the first that was traced.
            direction: default the first that was traced.
            metric: default the first.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the sample was
                skipped, or the corruption does not break its answer under the metric, with the reason.
        """
        spec, name = self._grid(metric, block=block, site=site, head=head, direction=direction, window=window)
        return self._traces(sample, [spec], name)[0]

    def traces(self, sample: int, metric: str | None = None) -> list[Trace]:
        """All grids of a sample under one metric, by default the first, with its snapshot.

        Raises:
            TypeError, ValueError: see `trace`.
        """
        return self._traces(sample, self.specs, self._metric(metric))

    def head_map(
        self,
        sample: int,
        block: str | None = None,
        site: str | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> HeadTrace:
        """A sample's map of layers x heads, as `Tracer.trace_heads` gave it; all heads of a site must be traced.

        Args:
            sample: the sample's number.
            block: default the first of which heads were traced.
            site: default the first of which heads were traced in that block.
            window: see `trace`.
            direction: see `trace`.
            metric: see `trace`.

        Raises:
            TypeError, ValueError: see `trace`.
        """
        heads, name = self._head_grids("head_map", metric, block, site, window, direction)
        one = self._one_sample(sample, name)
        with self._undamaged(sample):
            return one.head_map(one.traces(heads))

    def image_map(self, sample: int, direction: str | None = None, metric: str | None = None) -> ImageTokenTrace:
        """A sample's map of image tokens, as `Tracer.trace_image_tokens` gave it.

        Args:
            sample: the sample's number.
            direction: see `trace`.
            metric: see `trace`.

        Raises:
            TypeError, ValueError: see `trace`; also if no maps were traced.
        """
        patch = self.settings.get("image_map")
        if patch is None:
            raise ValueError("image_map: none was traced; trace_dataset(..., image_map=4) traces squares of 4 x 4")
        directions = list(dict.fromkeys(spec.direction for spec in self.specs))
        chosen = directions[0] if direction is None else one_of("direction", direction, directions)
        one = self._one_sample(sample, self._metric(metric))
        with self._undamaged(sample):
            return one.image_map(patch, chosen)

    def knockouts(self, metric: str | None = None, window: int | None = None) -> pd.DataFrame:
        """What cutting each group of edges costs: one row per sample, group of edges and layer.

        Columns: sample, id, group, edges (the name), block, site, head, window, layer, clean, score, loss (score(clean)
        - score) and relative_loss (loss / score(clean), NaN if the latter is 0). Samples that lack a group have no rows
        of it. ``table.groupby(["edges", "layer"])["loss"].mean()`` averages.

        Args:
            metric: default the first.
            window: layers cut together around each layer; default all that were asked for.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if nothing was cut.
        """
        cuts = self.settings.get("knockout")
        if not cuts:
            raise ValueError("knockouts: no edges were cut; trace_dataset(..., knockout={...}) cuts some")
        where: dict[str, Any] = {"intervention": rows.KNOCKOUT, "metric": self._metric(metric)}
        if window is not None:
            windows = dict.fromkeys(each for cut in cuts.values() for each in cut["windows"])
            where["window"] = among("window", window, windows)
        kept = ["sample", "id", "group", "token", "block", "site", "head", "window", "layer", "clean", "score"]
        kept += ["indirect_effect"]
        table = self._frame(kept, where).rename(columns={"token": "edges", "indirect_effect": "loss"})
        return table.assign(relative_loss=losses.relative(table["loss"], table["clean"]))

    def _traces(self, sample: int, specs: Sequence[GridSpec], metric: str) -> list[Trace]:
        one = self._one_sample(sample, metric)
        with self._undamaged(sample):
            traces = one.traces(specs)
            # Words for another corruption than the package's own there are none, nor for what many functions may give,
            # nor is there a snapshot of another metric than the first.
            snapshot = one.snapshot(traces[0]) if self._own and metric == self.metrics[0] else None
            return traces if snapshot is None else [shown_with(trace, snapshot) for trace in traces]

    def _undamaged(self, sample: int) -> AbstractContextManager[None]:
        return undamaged(self.folder, f"sample {sample}")

    @property
    def _own(self) -> bool:
        """Whether the corruption is one of the package's own."""
        return self.settings["corruption"]["type"] in CORRUPTIONS

    def _one_sample(self, sample: int, metric: str) -> OneSample:
        """A sample's rows of one metric.

        Raises:
            TypeError, ValueError: see `trace`.
        """
        number = whole_number("sample", sample, 0)
        row = self.samples[self.samples["sample"] == number]
        if row.empty:
            raise ValueError(f"sample: there is no number {number}; expected one of the column 'sample' of `samples`")
        if not row["traced"].iloc[0]:
            raise ValueError(f"sample: number {number} was skipped: {row['reason'].iloc[0]} ({row['why'].iloc[0]})")
        if number not in self.scored(metric)["sample"].to_numpy():
            others = [name for name in self.metrics if number in self.scored(name)["sample"].to_numpy()]
            raise ValueError(
                f"metric: under {metric!r} the answer to number {number} is not broken; it is under {others}"
            )
        batch = number // self.settings["batch_size"]
        own = self._batch(batch, [*store.COLUMNS["samples"], store.SCENE], {"sample": number})
        where = {"sample": number, "metric": metric}
        cells = store.read(store.part(self.folder, "cells", batch), None, where, self._added)
        with self._undamaged(number):
            (row,) = own.to_pylist()
            return OneSample(row, cells.to_pandas(), metric, first=metric == self.metrics[0], own=self._own)

    def picture(self, sample: int) -> bytes:
        """The small picture stored for a traced sample, JPEG; empty for a skipped one.

        Raises:
            TypeError, ValueError: if there can be no such number, or the file is damaged.
            OSError: if the file cannot be opened.
        """
        batch = whole_number("sample", sample, 0) // self.settings["batch_size"]
        found = self._batch(batch, ["sample", "picture"], {"sample": sample}).to_pylist()
        return bytes(found[0]["picture"] or b"") if found else b""
