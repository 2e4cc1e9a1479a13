"""DatasetWidget: browsing a traced data set without a model.

For: `TraceWidget.from_dataset`. The figure is `TraceWidget`'s: it plays back the average grid, or the grids of the
sample that is chosen in the list beside it.
Cost: a page of small pictures; the average of a group once, when it is first shown. The first average is computed by
whoever makes the widget, others on a worker: no handler waits for one.
Ends: at traits; `blip_trace_widget.dataset.averages` averages, `blip_trace_widget.widget.replay` plays back.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from blip_trace_widget.checks import one_of
from blip_trace_widget.dataset.alignment import Roles
from blip_trace_widget.dataset.averages import MeanTrace
from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.display import formatting, payloads
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.widget import code
from blip_trace_widget.widget.dataset_average import AverageTrace, average, interval
from blip_trace_widget.widget.figure_widget import FigureWidget
from blip_trace_widget.widget.job_queue import UPDATE, JobQueue
from blip_trace_widget.widget.replay import Replay
from blip_trace_widget.widget.traits import Refused
from blip_trace_widget.widget.undo import UndoStack
from blip_trace_widget.widget.worker import Job, Slices, worker_of

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.display import protocol

#: The value of `chosen` for the average.
AVERAGE = -1
#: Rows per page of the list.
PAGE = 8
#: Orders of the list -> the column, and whether descending.
ORDERS = {
    "as given": ("sample", False),
    "total effect, largest first": ("total_effect", True),
    "total effect, smallest first": ("total_effect", False),
    "clean score, highest first": ("clean", True),
    "clean score, lowest first": ("clean", False),
    "question": ("question", False),
    "answer": ("answer", False),
}
#: Columns that are searched.
SEARCHED = ("id", "group", "question", "given_answer", "own_answer", "corrupted_answer", "reason", "why")
#: The traits that choose what is shown, with their defaults.
ASKED = {"group": "", "chosen": AVERAGE}

_STATIC = files("blip_trace_widget") / "static"


class DatasetWidget(FigureWidget):
    """A traced data set: the average grid with its intervals, and beside it the samples.

    Args:
        folder: see `TraceWidget.from_dataset`.
        align: see `TraceWidget.from_dataset`.

    Raises:
        OSError, TypeError, ValueError, ImportError: see `TraceWidget.from_dataset`.
    """

    _esm = (_STATIC / "dataset.js").read_text("utf-8")
    _css = (_STATIC / "widget.css").read_text("utf-8") + (_STATIC / "dataset.css").read_text("utf-8")

    group = traitlets.Unicode("", help='The group that is averaged and listed; "" for all.').tag(sync=True)
    chosen = traitlets.Int(AVERAGE, help="Number of the sample whose grids are shown; -1 for the average.").tag(
        sync=True
    )
    find = traitlets.Unicode("", help="What is looked for in questions, answers and reasons.").tag(sync=True)
    order = traitlets.Unicode(next(iter(ORDERS)), help="How the list is sorted, one of `ORDERS`.").tag(sync=True)
    first = traitlets.Int(0, help="How many of the samples found lie before those in sight.").tag(sync=True)

    # Set by the kernel alone.
    listing = traitlets.Dict(help="The samples in sight.").tag(sync=True, result=True)
    interval = traitlets.Unicode("", help="The interval of the selected cell, in words.").tag(sync=True, result=True)

    def __init__(self, folder: DatasetTrace | str | os.PathLike[str], align: str | Roles | None = None) -> None:
        if not isinstance(folder, (DatasetTrace, str, os.PathLike)):
            raise TypeError(f"folder: expected a path or a DatasetTrace, got {type(folder).__name__}")
        self._data = folder if isinstance(folder, DatasetTrace) else DatasetTrace.load(folder)
        self._align = align
        self._averages: dict[str, list[Trace]] = {}
        self._playing: dict[str, Any] = {"chosen": AVERAGE, "group": ""}  # what was chosen
        self._shown = self._playing  # before that, while it is averaged
        self._listed: dict[str, Any] = {}  # the shown search, order and first row
        self._begin(Replay(self._averaged(""), self))
        self._jobs = JobQueue(worker_of(self._data, "blip-trace-averages"), self._failed, self._session.lock)
        self._list()
        self._act_on(["group", "chosen"], self._on_choice, lambda name: self._playing[name])
        self._act_on(["find", "order", "first"], self._on_listing, lambda name: self._listed[name])
        self._follow(self._on_detail, ["detail"])

    def __repr__(self) -> str:
        return f"DatasetWidget({os.fspath(self._data.folder)!r})"

    @property
    def dataset(self) -> DatasetTrace:
        """The data set that is shown."""
        return self._data

    @property
    def mean(self) -> MeanTrace | None:
        """The average grid in view; None while a sample is shown."""
        trace = self.trace
        return trace.mean if isinstance(trace, AverageTrace) else None

    @property
    def code(self) -> str:
        """Python code that shows the same again."""
        lines = [
            "from blip_trace_widget import TraceWidget",
            "",
            f"widget = TraceWidget.from_dataset({code.literal(os.fspath(self._data.folder))})",
        ]
        lines += [
            f"widget.{name} = {getattr(self, name)!r}"
            for name, default in ASKED.items()
            if getattr(self, name) != default
        ]
        return "\n".join([*lines, "widget", ""])

    # --- choosing ----------------------------------------------------------------------------------------------------

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

    def _on_choice(self, name: str) -> None:
        chosen = AVERAGE if name == "group" else self.chosen
        self._playing = {"chosen": chosen, "group": self.group}
        self._jobs.cancel()  # the later choice holds
        try:
            if chosen != AVERAGE:
                self._show_chosen(self._traces_of(chosen))
            elif self.group in self._averages:
                self._show_chosen(self._averages[self.group])
            else:
                self.show_traits(chosen=chosen, interval=self._averaging)
                group = self.group
                self._jobs.submit(group, UPDATE, lambda job: self._average_slices(job, group))
        except (ValueError, OSError) as error:
            self._failed(error)
        if name == "group":
            self._on_listing(name)

    def _average_slices(self, job: Job, group: str) -> Slices:
        try:
            traces = self._averaged(group)
        except (ValueError, OSError) as error:
            with self._session.lock:
                if not job.cancelled.is_set():
                    self._failed(error)
            return
        with self._session.lock:
            if not job.cancelled.is_set():
                self._show_chosen(traces)
        yield

    def _show_chosen(self, traces: list[Trace]) -> None:
        self._play(traces)
        self._shown = self._playing
        self.show_traits(chosen=self._shown["chosen"])

    def _failed(self, error: BaseException) -> None:
        """Take back the choice of what cannot be shown."""
        with self._session.lock:
            self._playing = self._shown
            self.show_traits(**self._shown, interval="", error=payloads.complaint(error))
            self._on_listing("group")

    @property
    def _averaging(self) -> str:
        """What is computed, in words; "" if nothing is."""
        shown = self._playing is self._shown or self._playing["chosen"] != AVERAGE
        return "" if shown else f"averaging {self._playing['group'] or 'all groups'} …"

    def wait(self, timeout: float | None = None) -> None:
        """Block until everything asked for so far is computed and shown, see `TraceWidget.wait`.

        Raises:
            TimeoutError, RuntimeError: see `TraceWidget.wait`.
        """
        self._needs_open()
        began = time.monotonic()
        if not self._jobs.wait(timeout):
            raise TimeoutError(f"the widget was still computing after {timeout} s")
        super().wait(None if timeout is None else max(0.0, timeout - (time.monotonic() - began)))

    def close(self) -> None:
        """Drop all work and remove the widget from the page."""
        if "_jobs" in self.__dict__:  # not if the constructor refused its arguments
            self._jobs.cancel()
        super().close()

    def _play(self, traces: list[Trace]) -> None:
        """Show other traces in the same view."""
        before = self._session
        replay = Replay(traces, self, spec=self._inputs.spec)
        replay.lock, replay.generation = before.lock, before.generation
        replay.comparison = before.comparison
        with self.together():
            self._session = replay
            self._undo = UndoStack(replay.inputs)
            self.show_traits(picture=replay.inputs.picture.jpeg, interval="")
            self.show_inputs(replay.inputs)
            replay.begin()

    def _on_detail(self, _change: Any) -> None:
        """Show the interval of the selected cell, in words."""
        mean, cells = self.mean, list(self.detail.get("cells", ()))
        told = interval(mean, cells[0]) if mean and len(cells) == 1 else ""
        self.show_traits(interval=self._averaging or told)

    def _traces_of(self, number: int) -> list[Trace]:
        traces = self._data.traces(number)
        if traces[0].snapshot is None:
            raise ValueError("metric: a widget can show the package's own metrics; use trace.plot()")
        return traces

    def _averaged(self, group: str) -> list[Trace]:
        if group not in self._averages:
            self._averages[group] = average(self._data, group, self._align)
        return self._averages[group]

    # --- the list ----------------------------------------------------------------------------------------------------

    def _on_listing(self, name: str) -> None:
        self._list(self.first if name == "first" else 0)

    def _list(self, first: int = 0) -> None:
        matching = self._matching()
        start = min(first, max(0, math.ceil(len(matching) / PAGE) - 1) * PAGE)
        self._listed = {"find": self.find, "order": self.order, "first": start}
        listing: protocol.Listing = {
            "title": self._data.summary,
            "rows": [self._row(row) for _, row in matching.iloc[start : start + PAGE].iterrows()],
            "first": start,
            "size": min(PAGE, len(self._data.samples)),  # no taller than necessary for a small data set
            "found": len(matching),
            "groups": [name for name in self._data.groups if name],
            "orders": list(ORDERS),
        }
        self.show_traits(listing=listing, first=start)

    @cached_property
    def _texts(self) -> dict[int, str]:
        """The searched text of each row, by the table's index."""
        rows = self._data.samples[list(SEARCHED)].fillna("").to_numpy()
        return {
            index: " ".join(map(str, row)).lower() for index, row in zip(self._data.samples.index, rows, strict=True)
        }

    def _matching(self) -> pd.DataFrame:
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
            "effect": f"total effect {formatting.points(metric, effect)}" if math.isfinite(effect) else "",
            "note": "" if row["traced"] else f"skipped: {text('reason')}",
        }
