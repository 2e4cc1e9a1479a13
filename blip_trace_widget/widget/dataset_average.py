"""A data set's average as a trace with a snapshot, so that a widget can play it back.

For: `blip_trace_widget.widget.dataset`.
Cost: the average of each grid that is not known, and a sheet of nine small pictures.
Ends: at traces; `blip_trace_widget.dataset.averages` averages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from PIL import Image, ImageOps

from blip_trace_widget.dataset import averages
from blip_trace_widget.dataset.alignment import MIDDLE
from blip_trace_widget.dataset.averages import MeanTrace
from blip_trace_widget.display import formatting, labels
from blip_trace_widget.pictures import as_image, jpeg
from blip_trace_widget.results.grid_spec import OF_STATES, GridSpec, SameGrid
from blip_trace_widget.results.numerics import standard_error
from blip_trace_widget.results.snapshot import Average, RunSummary, Snapshot
from blip_trace_widget.results.statistics import ONE_PICTURE, Effects, TotalEffect
from blip_trace_widget.results.summaries import titled
from blip_trace_widget.results.trace import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blip_trace_widget.dataset.traced import DatasetTrace
    from blip_trace_widget.widget.dataset_means import Means

#: Settings that speak of a sample's own positions; what was held is said with the average's question.
OF_A_SAMPLE = (*OF_STATES, "without_effect")
#: Pictures per row of the contact sheet, and its side in pixels.
ROW, SHEET = 3, 384


@dataclass(frozen=True, eq=False)
class AverageTrace(Trace):
    """An average as a trace whose noise samples are the data set's samples.

    Attributes:
        mean: the average.
    """

    mean: MeanTrace = field(kw_only=True, repr=False)

    def __sub__(self, other: object) -> NoReturn:
        """Not supported: the samples of two averages are different questions, which cannot be paired.

        Raises:
            TypeError: always, saying what to use instead.
        """
        raise TypeError("AverageTrace - other: averages are compared by DatasetTrace.compare(group_a, group_b)")

    @cached_property
    def significant(self) -> NDArray[np.bool_]:
        """Cells whose mean differs from 0, (layers, roles)."""
        return self.mean.significant

    @cached_property
    def margin(self) -> NDArray[np.float64]:
        """Half the width of each mean effect's interval, (layers, roles)."""
        return self.mean.high - self.mean.indirect_effect

    @cached_property
    def recovery_margin(self) -> NDArray[np.float64]:
        """Half the width of each recovery's interval, (layers, roles)."""
        return self.mean.recovery_high - self.mean.recovery

    @property
    def same_as(self) -> SameGrid | None:
        """See `Trace.same_as`; None where something was held."""
        return None if {*OF_STATES} & set(self.mean.settings) else super().same_as

    @property
    def undefined_because(self) -> str:
        """Always "": each of these questions went through a gate of its own."""
        return ""

    @property
    def error_unknown(self) -> str:
        """Why there are no intervals, or ""."""
        return "" if math.isfinite(self.mean.total_effect_low) else ONE_PICTURE

    @cached_property
    def _effects(self) -> Effects:
        mean = self.mean
        of = mean.aligned
        stderr, recovery_stderr = averages.standard_error(of)
        # Of a role that some samples lack all is the mean of the others.
        corrupted = np.nanmean(np.where(np.isfinite(of.effects), self.corrupted[:, None, None], np.nan), axis=0)
        return Effects(
            samples=of.effects,
            score=corrupted + mean.indirect_effect,
            indirect_effect=mean.indirect_effect,
            stderr=stderr,
            recovery=mean.recovery,
            recovery_stderr=recovery_stderr,
        )


def snapshot_of(trace: Trace, folder: object, otherwise: str) -> Snapshot:
    """What a widget shows a sample's grid with.

    Args:
        trace: the grid.
        folder: the data set's.
        otherwise: what draws the grid without a widget.

    Raises:
        ValueError: if there is none, as the metric is a user's own.
    """
    if trace.snapshot is None:
        raise ValueError(
            f"metric: a widget can show the package's own metrics, that of {folder} is another; use {otherwise}"
        )
    return trace.snapshot


def average(means: Means, group: str, specs: Sequence[GridSpec]) -> list[AverageTrace]:
    """The averages of grids over a group, of one snapshot.

    Args:
        means: the data set's averages.
        group: the group; "" for all samples.
        specs: the grids, by their present names; at least one of every block.

    Raises:
        ValueError: if no sample was traced, or the metric is a user's own.
    """
    data = means.of(group)
    table = data.scored()
    if table.empty:
        raise ValueError(f"folder: no sample in it was traced: {data.summary}")
    model = data.traces(int(table["sample"].iloc[0]))[0]
    shown = snapshot_of(model, data.folder, "mean().plot()")
    found = {spec: means.grid(group, spec) for spec in specs}
    snapshot = _snapshot(data, group, shown, found, list(means.specs))
    clean = table["clean"].to_numpy()
    # Shift each sample's scores so that all have the mean clean score, which leaves effects unchanged.
    corrupted = clean.mean() - table["total_effect"].to_numpy()
    return [
        AverageTrace(
            samples=corrupted[:, None, None] + mean.aligned.effects,
            clean=float(clean.mean()),
            corrupted=corrupted,
            settings={name: value for name, value in model.settings.items() if name not in OF_A_SAMPLE}
            | {"question": snapshot.question, "corruption": data.settings["corruption"]}
            | {"image": "", "answer": "", "answer_tokens": [], "foil": None}
            | {name: getattr(means.specs[spec], name) for name in ("block", "site", "head", "direction", "window")}
            | {"average_of": len(table)},
            tokens=mean.roles,
            snapshot=snapshot,
            mean=mean,
        )
        for spec, mean in found.items()
    ]


def shown_first(specs: Sequence[GridSpec]) -> list[GridSpec]:
    """The grids that are averaged before they are asked for: of single heads none unless their block has no others."""
    blocks = {spec.block for spec in specs if spec.head is None}
    return [spec for spec in specs if spec.head is None or spec.block not in blocks]


def _snapshot(
    data: DatasetTrace, group: str, one: Snapshot, means: dict[GridSpec, MeanTrace], there: Sequence[GridSpec]
) -> Snapshot:
    """The average's snapshot; what all samples share is taken from one of them, the sites from all that is `there`."""
    table, mean = data.scored(), next(iter(means.values()))
    roles = {spec.block: mean.roles for spec, mean in means.items()}
    sites = {name: tuple(dict.fromkeys(spec.site for spec in there if spec.block == name)) for name in roles}
    clean = float(table["clean"].mean())
    return replace(
        one,
        picture=_sheet(data),
        question=f"average of {len(table)}{f' “{group}”' if group else ''} question{'s'[: len(table) != 1]}"
        + titled(data.held),
        given_answer=None,
        foil=None,
        corruption=data.settings["corruption"],
        blocks=tuple(
            replace(block, closed="", tokens=tuple(roles[block.name]), sites=sites[block.name])  # type: ignore[arg-type]
            if block.name in roles
            else replace(block, closed=block.closed or "untraced", tokens=())
            for block in one.blocks
        ),
        clean=_run(table["clean"].to_numpy()),
        corrupted=_run(table["corrupted"].to_numpy()),
        total_effect=TotalEffect(clean, clean - table["total_effect"].to_numpy()),
        answer_tokens=(),
        unknown_words=(),
        curve=None,
        average=Average(len(table), mean.total_effect_low, mean.total_effect_high),
    )


def _run(scores: NDArray[np.float64]) -> RunSummary:
    return RunSummary("on average", float(scores.mean()), float(standard_error(scores[:, None])[0]), {})


def _sheet(data: DatasetTrace) -> bytes:
    """A contact sheet of some of the pictures, JPEG."""
    numbers = data.scored()["sample"].to_numpy()
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), ROW * ROW)).astype(int)]
    columns = math.ceil(math.sqrt(len(chosen)))
    side = SHEET // columns
    sheet = Image.new("RGB", (side * columns, side * math.ceil(len(chosen) / columns)), "grey")
    for at, number in enumerate(chosen):
        row, column = divmod(at, columns)
        small = ImageOps.pad(as_image(data.picture(int(number))), (side - 4, side - 4), color="grey")
        sheet.paste(small, (column * side + 2, row * side + 2))
    return jpeg(sheet)


def interval(mean: MeanTrace, cell: tuple[int, int]) -> str:
    """A sentence about a cell, (layer, column), and its interval."""
    layer, role = cell
    count, share = int(mean.samples[role]), formatting.percent(mean.settings["confidence"])
    recovery, low, high = (
        formatting.percent(float(values[layer, role]))
        for values in (mean.recovery, mean.recovery_low, mean.recovery_high)
    )
    pooled = " (all between the ends)" if mean.roles[role] == MIDDLE else ""
    known = math.isfinite(mean.recovery_low[layer, role])
    sure = f"{share} interval {low} to {high}, over {count} samples" if known else ONE_PICTURE
    # The interval is the cell's own; the dot in the grid asks more.
    faint = f"; {labels.EXPLAIN['negligible']} over the whole grid" if known and not mean.significant[cell] else ""
    careful = f" {formatting.capitalised(mean.warning)}." if mean.warning else ""
    return f"Layer {layer}, {mean.column_name(role)}{pooled}: recovery {recovery}, {sure}{faint}.{careful}"
