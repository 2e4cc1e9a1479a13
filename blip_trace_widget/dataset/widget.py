"""DatasetWidget: a traced data set to look at, without a model.

For: `TraceWidget.from_dataset`. The figure is `TraceWidget`'s: it plays the average grid, or the grids of the sample
that is chosen in the list beside it.
Cost: a page of small pictures; the average of a group once, when it is first looked at.
Ends: at traits. Averages are `blip_trace_widget.dataset.averages`', playing is `blip_trace_widget.playback`'s.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from PIL import Image, ImageOps

from blip_trace_widget import export, figure
from blip_trace_widget.controls import Refused
from blip_trace_widget.dataset.averages import MIDDLE, MeanTrace, Roles
from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.drawing import words
from blip_trace_widget.history import History
from blip_trace_widget.metrics import Effects, standard_error
from blip_trace_widget.model import as_image
from blip_trace_widget.playback import Player
from blip_trace_widget.results import Trace
from blip_trace_widget.sites import one_of
from blip_trace_widget.widget import TraceWidget

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from blip_trace_widget import protocol
    from blip_trace_widget.scene import Scene

#: The average, in the place of a sample's number.
AVERAGE = -1
#: Lines of a page of the list.
PAGE = 8
#: How the list may be sorted: the column, and whether downwards.
ORDERS = {
    "as given": ("sample", False),
    "total effect, largest first": ("total_effect", True),
    "total effect, smallest first": ("total_effect", False),
    "clean score, highest first": ("clean", True),
    "clean score, lowest first": ("clean", False),
    "question": ("question", False),
    "answer": ("answer", False),
}
#: What is looked through.
SEARCHED = ("id", "group", "question", "given_answer", "own_answer", "corrupted_answer", "reason", "why")
#: Pictures in a row of the picture that stands for all, and its side in pixels.
ROW, SHEET = 3, 384

#: The traits that say what is shown, and where they begin.
ASKED = {"group": "", "chosen": AVERAGE}

_STATIC = files("blip_trace_widget") / "static"


@dataclass(frozen=True, eq=False)
class AverageTrace(Trace):
    """An average in the shape of a trace: its noise samples are the data set's samples.

    Attributes:
        mean: the average.
    """

    mean: MeanTrace = field(kw_only=True, repr=False)

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Cells whose mean differs from 0, (layers, roles)."""
        return self.mean.significant

    @cached_property
    def _effects(self) -> Effects:
        mean = self.mean
        of = mean.aligned
        residuals = of.effects - mean.recovery * of.total[:, None, None]
        total = np.nanmean(np.where(np.isfinite(of.effects), of.total[:, None, None], np.nan), axis=0)
        return Effects(
            samples=of.effects,
            score=self.corrupted.mean() + mean.indirect_effect,
            indirect_effect=mean.indirect_effect,
            stderr=_standard_error(of.effects),
            recovery=mean.recovery,
            recovery_stderr=_standard_error(residuals) / np.abs(total),
        )


def _standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the samples that are there; NaN for a single one."""
    count = np.isfinite(values).sum(axis=0)
    squares = np.nansum((values - np.nanmean(values, axis=0)) ** 2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(squares / (count - 1) / count))


class DatasetWidget(TraceWidget):
    """A traced data set: the average grid with its intervals, and beside it the samples.

    Args:
        folder: see `TraceWidget.from_dataset`.
        align: see there.

    Traits, beside those of `TraceWidget`:
        group: the group that is averaged and listed; "" for all.
        chosen: number of the sample whose grids are shown; -1 for the average.
        find: what is looked for in questions, answers and reasons.
        order: how the list is sorted, one of `ORDERS`.
        first: how many of the samples found lie before those in sight.

    Raises:
        OSError, TypeError, ValueError, ImportError: see `TraceWidget.from_dataset`.
    """

    _esm = (_STATIC / "dataset.js").read_text("utf-8")
    _css = (_STATIC / "widget.css").read_text("utf-8") + (_STATIC / "dataset.css").read_text("utf-8")

    group = traitlets.Unicode("").tag(sync=True)
    chosen = traitlets.Int(AVERAGE).tag(sync=True)
    find = traitlets.Unicode("").tag(sync=True)
    order = traitlets.Unicode(next(iter(ORDERS))).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)

    # Set by the kernel alone.
    listing = traitlets.Dict().tag(sync=True)
    interval = traitlets.Unicode("").tag(sync=True)

    def __init__(self, folder: DatasetTrace | str | os.PathLike[str], align: str | Roles | None = None) -> None:
        if not isinstance(folder, (DatasetTrace, str, os.PathLike)):
            raise TypeError(f"folder: expected a path or a DatasetTrace, got {type(folder).__name__}")
        self._data = folder if isinstance(folder, DatasetTrace) else DatasetTrace.load(folder)
        self._align = align
        self._averages: dict[str, list[Trace]] = {}
        player = Player(self._traces_of(AVERAGE, ""), self)
        self._begin(player.tracer, player, scene=player.tracer.scene)
        self._list()
        self.observe(self._on_choice, ["group", "chosen"])
        self.observe(self._on_listing, ["group", "find", "order", "first"])
        self.observe(self._on_detail, "detail")

    def __repr__(self) -> str:
        return f"DatasetWidget({os.fspath(self._data.folder)!r})"

    @property
    def dataset(self) -> DatasetTrace:
        """The data set that is shown."""
        return self._data

    @property
    def mean(self) -> MeanTrace | None:
        """The average in view; None while a sample is shown."""
        trace = self.trace
        return trace.mean if isinstance(trace, AverageTrace) else None

    @property
    def code(self) -> str:
        """Python that shows the same again."""
        lines = [
            "from blip_trace_widget import TraceWidget",
            "",
            f"widget = TraceWidget.from_dataset({export.literal(os.fspath(self._data.folder))})",
        ]
        lines += [
            f"widget.{name} = {getattr(self, name)!r}"
            for name, default in ASKED.items()
            if getattr(self, name) != default
        ]
        return "\n".join([*lines, "widget", ""])

    # --- what is chosen ----------------------------------------------------------------------------------------------

    @traitlets.validate("group")
    def _check_group(self, proposal: Any) -> str:
        return str(self._checked(lambda: one_of("group", proposal["value"], ["", *self._data.groups])))

    @traitlets.validate("order")
    def _check_order(self, proposal: Any) -> str:
        return str(self._checked(lambda: one_of("order", proposal["value"], ORDERS)))

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> int:
        number = proposal["value"]
        if number != AVERAGE:
            self._checked(lambda: self._data.traces(number))
        return int(number)

    @traitlets.validate("first")
    def _check_first(self, proposal: Any) -> int:
        return max(0, int(proposal["value"]))

    def _checked(self, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except (TypeError, ValueError, OSError) as error:
            raise Refused(str(error)) from error

    def _on_choice(self, change: Any) -> None:
        if self._showing:
            return
        with self._conductor.lock:
            if change["name"] == "group":
                self.show_traits(chosen=AVERAGE)
            try:
                self._play(self._traces_of(self.chosen, self.group))
            except (ValueError, OSError) as error:
                self.show_traits(error=figure.complaint(error))

    def _play(self, traces: list[Trace]) -> None:
        """Show other traces, in the same view."""
        before = self._conductor
        player = Player(traces, self)
        player.lock, player.generation = before.lock, before.generation
        view = self._view()
        if view in map(figure.view_of, traces):
            player.view = view
        scene = player.tracer.scene
        with self.together():
            self._conductor = player
            self._image, self._answer = player.tracer.image, None
            shown = {"picture": scene.picture, "other_picture": scene.other_picture}
            self.show_traits(**shown, selection=[], patches=[], interval="", **figure.asked(player.tracer))
            self.show_traits(**player.view._asdict())
            self._history = History(self._asked())
            player.begin()

    def _on_detail(self, _change: Any) -> None:
        """The interval of the selected cell, in words."""
        mean, cells = self.mean, list(self.detail.get("cells", ()))
        self.show_traits(interval=_interval(mean, cells[0]) if mean and len(cells) == 1 else "")

    def _traces_of(self, number: int, group: str) -> list[Trace]:
        if number != AVERAGE:
            traces = self._data.traces(number)
            if traces[0].scene is None:
                raise ValueError("metric: a widget can show the package's own metrics; use trace.plot()")
            return traces
        if group not in self._averages:
            self._averages[group] = _average(self._data, group, self._align)
        return self._averages[group]

    # --- the list ----------------------------------------------------------------------------------------------------

    def _on_listing(self, change: Any) -> None:
        if self._showing:
            return
        with self._conductor.lock:
            if change["name"] != "first":
                self.show_traits(first=0)
            self._list()

    def _list(self) -> None:
        found = self._found()
        start = min(self.first, max(0, math.ceil(len(found) / PAGE) - 1) * PAGE)
        listing: protocol.Listing = {
            "title": self._data.summary,
            "rows": [self._row(row) for _, row in found.iloc[start : start + PAGE].iterrows()],
            "first": start,
            "size": PAGE,
            "found": len(found),
            "groups": [name for name in self._data.groups if name],
            "orders": list(ORDERS),
        }
        self.show_traits(listing=listing, first=start)

    @cached_property
    def _texts(self) -> dict[int, str]:
        """What is looked through, by the rows of the table."""
        rows = self._data.samples[list(SEARCHED)].fillna("").to_numpy()
        return {
            index: " ".join(map(str, row)).lower() for index, row in zip(self._data.samples.index, rows, strict=True)
        }

    def _found(self) -> pd.DataFrame:
        table = self._data.samples
        if self.group:
            table = table[table["group"] == self.group]
        for word in self.find.lower().split():
            table = table[np.array([word in self._texts[index] for index in table.index], dtype=bool)]
        column, down = ORDERS[self.order]
        return table.sort_values(column, ascending=not down, kind="stable", na_position="last")

    def _row(self, row: Any) -> protocol.ListedSample:
        metric = self.metric

        def text(name: str) -> str:
            return row[name] if isinstance(row[name], str) else ""

        right = f"{text('own_answer')} {'' if row['correct'] is None else '✓' if row['correct'] else '✗'}".strip()
        answers = [("right", text("given_answer")), ("says", right), ("damaged", text("corrupted_answer"))]
        effect = row["total_effect"]
        return {
            "number": int(row["sample"]),
            "picture": self._data.picture(int(row["sample"])) if row["traced"] else b"",
            "question": text("question"),
            "group": text("group"),
            "answers": [(name, answer) for name, answer in answers if answer],
            "effect": f"total effect {words.points(metric, effect)}" if math.isfinite(effect) else "",
            "note": "" if row["traced"] else f"skipped: {text('reason')}",
        }


# --- the average as a trace ------------------------------------------------------------------------------------------


def _average(whole: DatasetTrace, group: str, align: str | Roles | None) -> list[Trace]:
    """The average of each grid over a group, or all.

    Raises:
        ValueError: if no sample was traced.
    """
    data = whole.select(group) if group else whole
    grids, number = data.grids, int(data.traced["sample"].iloc[0]) if len(data.traced) else None
    if number is None:
        raise ValueError(f"folder: no sample in it was traced: {data.summary}")
    model = data.traces(number)[0]
    if model.scene is None:
        raise ValueError("metric: a widget can show the package's own metrics; use mean().plot()")
    means = {grid: whole.mean(align or _align(data, *grid), *grid, group=group or None) for grid in grids}
    scene = _scene(data, group, model.scene, means)
    clean = data.traced["clean"].to_numpy()
    # Each sample's scores are moved so that all have the mean clean score: effects stay as they are.
    corrupted = clean.mean() - data.traced["total_effect"].to_numpy()
    return [
        AverageTrace(
            samples=corrupted[:, None, None] + mean.aligned.effects,
            clean=float(clean.mean()),
            corrupted=corrupted,
            settings=model.settings
            | {"question": scene.inputs["question"], "corruption": data.settings["corruption"]}
            | {"image": "", "answer": "", "answer_tokens": [], "foil": None}
            | {"block": block, "site": site, "average_of": len(data.traced)},
            tokens=mean.roles,
            scene=scene,
            mean=mean,
        )
        for (block, site), mean in means.items()
    ]


def _align(data: DatasetTrace, block: str, site: str) -> str:
    """Where all samples are of one length, every position is shown."""
    try:
        data.aligned("exact", block, site)
    except ValueError:
        return "ends"
    return "exact"


def _scene(data: DatasetTrace, group: str, one: Scene, means: dict[tuple[str, str], MeanTrace]) -> Scene:
    """What stands beside the average; what all samples have in common is taken from one."""
    table, mean, metric = data.traced, next(iter(means.values())), one.inputs["metric"]
    question = f"average of {len(table)}{f' “{group}”' if group else ''} questions"
    roles = {block: list(mean.roles) for (block, _), mean in means.items()}
    blocks: list[protocol.BlockInfo] = []
    for block in one.setup["blocks"]:
        name, reason = block["name"], block["reason"] or "It was not traced."
        there = {"enabled": True, "reason": "", "tokens": roles[name]} if name in roles else {}
        sites = [site for known, site in means if known == name] or block["sites"]
        blocks.append({**block, "enabled": False, "reason": reason, "tokens": [], "sites": sites, **there})  # type: ignore[typeddict-item]
    low, high = (words.points(metric, end) for end in (mean.total_effect_low, mean.total_effect_high))
    took = f"the {one.runs['culprit']} took {words.points(metric, mean.total_effect)}"
    sure = f" (95 % interval {low} to {high})" if len(table) > 1 else ""
    inputs: protocol.Inputs = {**one.inputs, "question": question, "foil": ""}
    line = one.runs["line"]
    if "seed" in data.settings["corruption"]:
        inputs["seed"] = data.settings["corruption"]["seed"]
        line = line.replace(f"seed {one.inputs['seed']}", f"seed {inputs['seed']} + the sample's id")
    runs: protocol.Runs = {
        **one.runs,
        "given": False,
        "clean": _run(table["clean"].to_numpy(), metric),
        "corrupted": _run(table["corrupted"].to_numpy(), metric),
        "total_effect": mean.total_effect,
        "total_effect_stderr": figure.number(float(standard_error(table["total_effect"].to_numpy()[:, None])[0])),
        "line": line,
        "gate": {"open": True, "text": took + sure},
        "bars": {"words": [], "clean": [], "corrupted": [], "patched": [], "pinned": []},
    }
    return replace(
        one,
        picture=_sheet(data),
        inputs=inputs,
        setup={**one.setup, "blocks": blocks, "answer_tokens": []},
        runs=runs,
        curve=None,
    )


def _run(scores: NDArray[np.float64], metric: str) -> protocol.RunInfo:
    mean = float(scores.mean())
    error = figure.number(float(standard_error(scores[:, None])[0]))
    share = mean if metric == "probability" else 0.0
    return {"answer": "on average", "score": mean, "stderr": error, "share": share}


def _sheet(data: DatasetTrace) -> bytes:
    """Some of the pictures on one sheet."""
    numbers = data.traced["sample"].to_numpy()
    some = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), ROW * ROW)).astype(int)]
    columns = math.ceil(math.sqrt(len(some)))
    side = SHEET // columns
    sheet = Image.new("RGB", (side * columns, side * math.ceil(len(some) / columns)), "grey")
    for at, number in enumerate(some):
        row, column = divmod(at, columns)
        small = ImageOps.pad(as_image(data.picture(int(number))), (side - 4, side - 4), color="grey")
        sheet.paste(small, (column * side + 2, row * side + 2))
    return figure.picture(sheet)


def _interval(mean: MeanTrace, cell: tuple[int, int]) -> str:
    layer, role = cell
    count, share = int(mean.samples[role]), words.percent(mean.settings["confidence"])
    recovery, low, high = (
        words.percent(float(each[layer, role])) for each in (mean.recovery, mean.recovery_low, mean.recovery_high)
    )
    pooled = " (all between the ends)" if mean.roles[role] == MIDDLE else ""
    sure = f"{share} interval {low} to {high}, over {count} samples" if count > 1 else "one sample has no interval"
    # The interval is the cell's own; the dot in the grid asks more.
    faint = "" if mean.significant[layer, role] else "; not told from 0 over the whole grid (5 % false discoveries)"
    return f"Layer {layer}, “{mean.roles[role]}”{pooled}: recovery {recovery}, {sure}{faint}."
