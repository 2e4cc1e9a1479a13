"""DatasetWidget: browsing a traced data set without a model.

For: `TraceWidget.from_dataset`. The figure is `TraceWidget`'s: it plays back the average grid, or the grids of the
sample that is chosen in the list beside it.
Cost: a page of small pictures; each average once, when it is first shown. The first average is computed by whoever
makes the widget, others on a worker: no handler waits for one.
Ends: at traits; `dataset_means` has the averages, `dataset_list` the list, `dataset_maps` the small maps, and
`blip_trace_widget.widget.replay` plays back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import traitlets

from blip_trace_widget.checks import one_of
from blip_trace_widget.dataset.alignment import Roles
from blip_trace_widget.dataset.averages import MeanTrace
from blip_trace_widget.dataset.head_means import MeanHeads
from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.display import payloads
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.widget import code, dataset_maps
from blip_trace_widget.widget.dataset_average import AverageTrace, average, interval, shown_first, snapshot_of
from blip_trace_widget.widget.dataset_list import EXTREMES, ORDERS, SampleList, Selected
from blip_trace_widget.widget.dataset_maps import NOTHING, Choice, heads_of
from blip_trace_widget.widget.dataset_means import Asked, Means
from blip_trace_widget.widget.figure_widget import FigureWidget
from blip_trace_widget.widget.job_queue import FILL, UPDATE, JobQueue
from blip_trace_widget.widget.refusing import Refused
from blip_trace_widget.widget.replay import Replay
from blip_trace_widget.widget.undo import UndoStack
from blip_trace_widget.widget.worker import Job, Slices, worker_of

#: The value of `chosen` for the average.
AVERAGE = -1
#: The traits that choose what is shown, that of the maps, and those of the list, with their defaults.
CHOSEN: dict[str, Any] = {"group": "", "chosen": AVERAGE}
MAPPED: dict[str, Any] = {"maps": NOTHING, "minus": "", "picked": []}
LISTED: dict[str, Any] = {"find": "", "order": next(iter(ORDERS)), "first": 0}
#: Those that choose a grid.
VIEW = ("block", "site", "head", "direction", "window")
#: The jobs: the average in view, and the small maps.
AVERAGING, MAPPING = "average", "maps"

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
    order = traitlets.Unicode(
        LISTED["order"],
        help="How the list is sorted, one of `ORDERS`; also one of `EXTREMES`, by the effect of the cell of the "
        "average, or the head, that is selected. Selecting one sets that, unless another order was chosen.",
    ).tag(sync=True)
    first = traitlets.Int(0, help="How many of the samples found lie before those in sight.").tag(sync=True)
    maps = traitlets.Unicode(NOTHING, help="The small maps that are shown, one of `MAPS`.").tag(sync=True)
    minus = traitlets.Unicode("", help='The group that is subtracted from the others in maps of groups; "": none.').tag(
        sync=True
    )
    picked: traitlets.List[int] = traitlets.List(
        traitlets.Int(), help="Layer and head of the head that is shown, by which the samples are sorted; or nothing."
    ).tag(sync=True)

    # Set by the kernel alone.
    listing = traitlets.Dict(help="The samples in sight.").tag(sync=True, result=True)
    interval = traitlets.Unicode("", help="The interval of the selected cell, in words.").tag(sync=True, result=True)
    mapped = traitlets.Dict(help="The small maps, as far as they are computed.").tag(sync=True, result=True)

    def __init__(self, folder: DatasetTrace | str | os.PathLike[str], align: str | Roles | None = None) -> None:
        if not isinstance(folder, (DatasetTrace, str, os.PathLike)):
            raise TypeError(f"folder: expected a path or a DatasetTrace, got {type(folder).__name__}")
        self._data = folder if isinstance(folder, DatasetTrace) else DatasetTrace.load(folder)
        self._means = Means(self._data, align)
        self._averages: dict[str, list[AverageTrace]] = {}
        self._playing = dict(CHOSEN)  # what was chosen
        self._shown = self._playing  # before that, while it is averaged
        self._averaging = ""  # what is averaged, in words
        self._switching = False  # whether other traces are being put in the figure
        self._read: tuple[int, list[Trace]] = (AVERAGE, [])  # the sample that was read last, with its grids
        self._cell: tuple[int, str] | None = None  # layer and role of the selected cell of the average
        self._listed = dict(LISTED)
        self._orders = (self.order, next(iter(EXTREMES)))  # while nothing is selected, and while something is
        self._mapped = dict(MAPPED)
        self._begin(Replay(self._averaged("", shown_first(list(self._means.specs))), self))
        self._jobs = JobQueue(worker_of(self._data, "blip-trace-averages"), self._failed, self._session.lock)
        self._samples = SampleList(self._data, self.metric)
        self._list()
        self._map()
        self._act_on(["group", "chosen"], self._on_choice, lambda name: self._playing[name])
        self._act_on(["find", "order", "first"], self._on_listing, lambda name: self._listed[name])
        self._act_on(["maps", "minus", "picked"], self._on_maps, lambda name: self._mapped[name])
        self._follow(self._on_selection, ["selection"])
        self._follow(self._on_grid, ["grid"])
        self._follow(self._on_detail, ["detail"])

    def __repr__(self) -> str:
        return f"DatasetWidget({os.fspath(self._data.folder)!r})"

    @property
    def dataset(self) -> DatasetTrace:
        """The data set that is shown."""
        return self._data

    @property
    def mean(self) -> MeanTrace | None:
        """The average grid in view; None while a sample is shown, or the grid is not averaged."""
        trace = self.trace
        return trace.mean if isinstance(trace, AverageTrace) else None

    @property
    def code(self) -> str:
        """Python code that shows the same again."""
        first = payloads.spec_of(self._averages[""][0])._asdict()
        view = {name: first[name] for name in VIEW if name != "head" or not self.picked}
        selected: dict[str, Any] = {"selection": []} if self.chosen == AVERAGE else {}
        lines = [
            "from blip_trace_widget import TraceWidget",
            "",
            f"widget = TraceWidget.from_dataset({code.literal(os.fspath(self._data.folder))})",
        ]
        lines += [
            f"widget.{name} = {getattr(self, name)!r}"
            for name, default in (CHOSEN | view | MAPPED | selected | LISTED).items()
            if getattr(self, name) != default
        ]
        return "\n".join([*lines, "widget", ""])

    # --- choosing ----------------------------------------------------------------------------------------------------

    @traitlets.validate("group")
    def _check_group(self, proposal: Any) -> str:
        return str(self._checked(lambda: one_of("group", proposal["value"], ["", *self._data.groups])))

    @traitlets.validate("order")
    def _check_order(self, proposal: Any) -> str:
        return str(self._checked(lambda: one_of("order", proposal["value"], [*ORDERS, *EXTREMES])))

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> int:
        number = proposal["value"]
        if number != AVERAGE:
            self._checked(lambda: self._traces(number))
        return int(number)

    @traitlets.validate("first")
    def _check_first(self, proposal: Any) -> int:
        return max(0, int(proposal["value"]))

    @traitlets.validate("maps")
    def _check_maps(self, proposal: Any) -> str:
        there = dataset_maps.choices(self._means) or [NOTHING]
        return str(self._checked(lambda: one_of("maps", proposal["value"], there)))

    @traitlets.validate("minus")
    def _check_minus(self, proposal: Any) -> str:
        there = ["", *dataset_maps.groups(self._means)]
        return str(self._checked(lambda: one_of("minus", proposal["value"], there)))

    @traitlets.validate("picked")
    def _check_picked(self, proposal: Any) -> list[int]:
        picked, heads = list(proposal["value"]), heads_of(self._means, self._spec)
        if not picked:
            return picked
        if heads is None:
            raise Refused("picked: of no site were all heads traced; trace_dataset(..., head='all') traces them")
        block = self.tracer.model.blocks[heads.block]
        if len(picked) != 2 or picked[0] not in block.layers or picked[1] not in range(block.heads):
            there = f"0 to {len(block.layers) - 1} and 0 to {block.heads - 1}"
            raise Refused(f"picked: expected a layer and a head of the {heads.block}, {there}, got {picked}")
        return picked

    def _checked(self, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except (TypeError, ValueError, OSError) as error:
            raise Refused(str(error)) from error

    def _on_choice(self, name: str) -> None:
        chosen = AVERAGE if name == "group" else self.chosen
        self._playing = {"chosen": chosen, "group": self.group}
        self._jobs.cancel(AVERAGING)  # the later choice holds
        try:
            if chosen != AVERAGE:
                self._show_chosen(self._traces_of(chosen))
            else:
                self._show_average()
        except (ValueError, OSError) as error:
            self._failed(error)
        if name == "group":
            self._on_listing(name)
            self._map()

    def _show_average(self) -> None:
        """Show the average, with the grid in view, of the group that was chosen; on a worker if it is not known."""
        group = self._playing["group"]
        known = self._averages.get(group, [])
        there = [payloads.spec_of(trace) for trace in known] or shown_first(list(self._means.specs))
        wanted = list(dict.fromkeys([*there, *([self._spec] if self._spec in self._means.specs else [])]))
        if len(known) == len(wanted):
            self._show_chosen(known)
            return
        head = "" if self._spec in there else f"head {self._spec.head} of "
        self._averaging = f"averaging {head}{group or 'all groups'} …"
        self.show_traits(chosen=AVERAGE, interval=self._averaging)
        self._jobs.submit(AVERAGING, UPDATE, lambda job: self._average_slices(job, group, wanted))

    def _average_slices(self, job: Job, group: str, specs: Sequence[GridSpec]) -> Slices:
        try:
            self._averaged(group, specs)
        except (ValueError, OSError) as error:
            with self._session.lock:
                if not job.cancelled.is_set():
                    self._failed(error)
            return
        with self._session.lock:
            if not job.cancelled.is_set():
                self._show_average()  # by now another grid may be in view
        yield

    def _show_chosen(self, traces: Sequence[Trace]) -> None:
        self._averaging = ""
        self._play(traces)
        self._shown = self._playing
        self.show_traits(chosen=self._shown["chosen"])
        self._on_grid(None)

    def _failed(self, error: BaseException) -> None:
        """Take back the choice of what cannot be shown."""
        with self._session.lock:
            self._averaging = ""
            self._playing = self._shown
            self.show_traits(**self._shown, interval="", error=payloads.complaint(error))
            self._on_listing("group")

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

    def _play(self, traces: Sequence[Trace]) -> None:
        """Show other traces in the same view; in an average the cell that was last selected in one."""
        before = self._session
        same = [payloads.spec_of(trace) for trace in traces]
        wanted = next((spec for spec in same if _in_tables(spec) == _in_tables(self._inputs.spec)), None)
        replay = Replay(traces, self, spec=wanted)
        replay.lock, replay.generation = before.lock, before.generation
        replay.comparison = before.comparison
        replay.inputs = replace(replay.inputs, selection=self._cell_in(replay.trace))
        self._switching = True
        try:
            with self.together():
                self._session = replay
                self._undo = UndoStack(replay.inputs)
                self.show_traits(picture=replay.inputs.picture.jpeg)
                self.show_inputs(replay.inputs)
                replay.begin()
        finally:
            self._switching = False

    def _cell_in(self, trace: Trace) -> tuple[tuple[int, int], ...]:
        """The selected cell, as a selection of a trace."""
        if self._cell is None or not isinstance(trace, AverageTrace) or self._cell[1] not in trace.tokens:
            return ()
        return ((self._cell[0], trace.tokens.index(self._cell[1])),)

    def _traces(self, number: int) -> list[Trace]:
        """A sample's grids; a choice is checked before it is shown, and again where it is set."""
        if self._read[0] != number:
            self._read = number, self._data.traces(number)
        return self._read[1]

    def _traces_of(self, number: int) -> list[Trace]:
        traces = self._traces(number)
        snapshot_of(traces[0], self._data.folder, "trace.plot()")
        return traces

    def _averaged(self, group: str, specs: Sequence[GridSpec]) -> list[AverageTrace]:
        self._averages[group] = average(self._means, group, specs)
        return self._averages[group]

    # --- what is in view ---------------------------------------------------------------------------------------------

    @property
    def _spec(self) -> GridSpec:
        """The grid in view, by the name that it has in the tables."""
        return _in_tables(payloads.spec_of(self.trace))

    @property
    def _averages_shown(self) -> bool:
        return self._shown["chosen"] == AVERAGE and not self._switching

    def _on_selection(self, _change: Any) -> None:
        """Remember the selected cell of the average, while samples are looked at and groups change."""
        if self._averages_shown:
            cells, tokens = self._inputs.selection, self.trace.tokens
            self._cell = (cells[0][0], tokens[cells[0][1]]) if len(cells) == 1 else None

    def _on_grid(self, _change: Any) -> None:
        """Average a grid that came in view, and map what belongs to it."""
        if self._averages_shown:
            if self._shown is self._playing and self.mean is None and self._spec in self._means.specs:
                self._show_average()
            if self.picked and self._spec != self._spec_of(self.picked):
                self._mapped["picked"] = []  # another grid was chosen
                self.show_traits(picked=[])
            self._map()
        self._on_detail(None)

    def _on_detail(self, _change: Any) -> None:
        if not self._switching:
            self._tell()

    def _tell(self) -> None:
        """Say what is known of the selected cell of the average, and sort the samples by it."""
        mean, cells = self.mean, list(self.detail.get("cells", ()))
        one = tuple(cells[0]) if mean is not None and len(cells) == 1 else None
        told = "" if mean is None or one is None else interval(mean, one)
        self.show_traits(interval=self._averaging or told)
        if self._averages_shown:  # while a sample is looked at, the list stays as it is
            self._sort_by(self._selected(mean, one))

    def _selected(self, mean: MeanTrace | None, cell: tuple[int, int] | None) -> Selected | None:
        """The effects of the selected cell, or else of the chosen head; the former ones until they are known."""
        group, former = self._shown["group"], self._samples.selected
        if mean is not None and cell is not None:
            return Selected("this cell", self._means.numbers(group), mean.aligned.effects[:, cell[0], cell[1]])
        if mean is None and self._averaging:
            return former
        heads = heads_of(self._means, self._spec)
        if heads is None or not self.picked:
            return None
        found = self._means.known(Asked("heads", heads, group))
        if not isinstance(found, MeanHeads):
            return former if found is None else None
        return Selected("this head", found.numbers, found.aligned.effects[:, self.picked[0], self.picked[1]])

    # --- the small maps ----------------------------------------------------------------------------------------------

    def _on_maps(self, name: str) -> None:
        self._mapped = {each: getattr(self, each) for each in MAPPED}
        if name == "picked":
            self._show_head()
        self._map()
        self._tell()

    def _show_head(self) -> None:
        """Show the average grid of the chosen head; if none is chosen any more, that of all together."""
        spec = self._spec_of(self.picked)
        if spec not in self._means.specs:
            return
        self._cell = None if self.picked else self._cell
        with self.together():
            self._change(selection=(), **{name: getattr(spec, name) for name in VIEW})
            self.chosen = AVERAGE

    def _spec_of(self, picked: Sequence[int]) -> GridSpec | None:
        """The grid of a head of the map; of all together if there is none."""
        heads = heads_of(self._means, self._spec)
        return heads._replace(head=picked[1]) if heads and picked else heads

    def _map(self) -> None:
        """Show the small maps as far as they are known, and compute the others on a worker."""
        self._jobs.cancel(MAPPING)  # the later choice holds
        missing = [asked for asked in dataset_maps.needed(self._means, self._choice) if not self._means.known(asked)]
        self._show_maps()
        if missing:
            self._jobs.submit(MAPPING, FILL, lambda job: self._map_slices(job, missing))

    def _map_slices(self, job: Job, missing: Sequence[Asked]) -> Slices:
        for asked in missing:
            self._means.compute(asked)
            with self._session.lock:
                if job.cancelled.is_set():
                    return
                self._show_maps()
                self._tell()
            yield

    def _show_maps(self) -> None:
        self.show_traits(mapped=dataset_maps.payload(self._means, self._choice))

    @property
    def _choice(self) -> Choice:
        return Choice(**self._mapped, group=self._playing["group"], spec=self._spec)

    # --- the list ----------------------------------------------------------------------------------------------------

    def _on_listing(self, name: str) -> None:
        if name == "order":
            self._orders = (self._orders[0], self.order) if self.order in EXTREMES else (self.order, self.order)
        self._list(self.first if name == "first" else 0)

    def _sort_by(self, selected: Selected | None) -> None:
        """List the extreme samples first, unless another order was chosen; the former order if nothing is selected."""
        if selected == self._samples.selected:
            return
        self._samples.selected = selected
        order = self._orders[selected is not None]
        self._listed["order"] = order  # shown, not asked
        self.show_traits(order=order)
        self._list()

    def _list(self, first: int = 0) -> None:
        listing = self._samples.page(self.group, self.find, self.order, first)
        self._listed = {"find": self.find, "order": self.order, "first": listing["first"]}
        self.show_traits(listing=listing, first=listing["first"])


def _in_tables(spec: GridSpec) -> GridSpec:
    """A grid without what is held in it, which is the same in all of a data set's, but for positions."""
    return spec._replace(hold=(), receivers=None)
