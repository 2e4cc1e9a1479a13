"""What is on show: one tracer, the grid of it that is in view, the selected cells' patched run, and a pinned one.

For: turning results into what a view shows, in one place, so that grid, bars and sentence always speak of the same
inputs.
Cost: NumPy on one grid for each thing that is shown.
Ends: at a `View`. What is computed and when is `blip_trace_widget.widget.session`'s; it calls everything here under
its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from blip_trace_widget.display import payloads, protocol
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, Selection
from blip_trace_widget.results.run import Effect, Run, Top
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.grid import as_trace
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.grid_store import GridScores, GridStore
from blip_trace_widget.widget.inputs import Inputs
from blip_trace_widget.widget.view import View

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer


class Patched(NamedTuple):
    """A patched run of what was chosen."""

    effect: Effect
    selected: Selection
    spec: GridSpec


class Spelled(NamedTuple):
    """A run with its words: `blip_trace_widget.display.payloads.Words` of the whole vocabulary."""

    run: Run | Effect
    ids: Callable[[Sequence[str]], Sequence[int]]

    @property
    def top(self) -> Top:
        """The likeliest words with their probability, best first."""
        return self.run.top

    def shares(self, words: Sequence[str]) -> list[float]:
        """Probability of each of these words."""
        return [float(self.run.distribution[index]) for index in self.ids(words)]


class Presenter:
    """What is on show.

    Args:
        tracer: what to begin with.
        view: where to show it.
        inputs: what is asked, and which grid is in view.
        comparison: what grids are compared with.
        generation: where to count from.
    """

    def __init__(self, tracer: Tracer, view: View, inputs: Inputs, comparison: Comparison, generation: int = 0) -> None:
        self.tracer = tracer
        self.inputs = inputs
        self._comparison = comparison
        self.store = GridStore(0, {})
        #: Counts the inputs that are asked.
        self.generation = generation
        #: The generation of `tracer`, once its runs are there.
        self.computed: int | None = None
        #: The generation for which the selection was made.
        self.selected_for = 0
        #: The model's version then, see `BlipVqa.version`.
        self.version: int | None = None
        self.view = view
        self._patched: Patched | None = None
        self._shown_with: int | None = None  # the generation with which `_patched` was shown
        self._shown: dict[str, Any] = {}  # what is said of `_patched`
        self._pinned: Patched | None = None

    @property
    def snapshot(self) -> Snapshot:
        """What stands beside the grids."""
        snapshot = self.tracer.snapshot
        assert snapshot is not None  # a widget takes no corruption and no metric of one's own
        return snapshot

    @property
    def spec(self) -> GridSpec:
        """The grid in view."""
        return self.inputs.spec

    @property
    def has_grid(self) -> bool:
        """Whether the states of the block in view can be traced under the inputs on show."""
        return self.store.has(self.spec.block)

    @property
    def is_settled(self) -> bool:
        """Whether what is on show is what is asked, the block in view included."""
        return self.computed == self.generation and self.has_grid

    @property
    def cells(self) -> GridScores:
        """The cells of the grid in view."""
        return self.store.cells(self.spec)

    def is_current(self, selected: Selection) -> bool:
        """Whether the patched run of what is chosen is on show, with these inputs."""
        shown = self._patched is not None and (self._patched.spec, self._patched.selected) == (self.spec, selected)
        return shown and self._shown_with == self.computed

    def ask(self, inputs: Inputs, *, mended: bool = False) -> None:
        """Let this be what is asked."""
        self.inputs = inputs
        self.view.show_inputs(inputs, mended=mended)

    def begin_generation(self, *, keep_error: bool = False) -> None:
        """Something else is asked than what is on show."""
        self.generation += 1
        self.view.show_traits(generation=self.generation, **({} if keep_error else {"error": ""}))

    def adopt(self, tracer: Tracer, store: GridStore, generation: int, version: int) -> None:
        """This tracer is on show from now on."""
        self.tracer, self.store, self.computed, self.version = tracer, store, generation, version

    def unselect(self) -> None:
        """Let go what is selected."""
        self.inputs = replace(self.inputs, selection=(), patches=())
        self.view.show_inputs(self.inputs, unselected=True)
        self.show_patched(None)

    def show_setup(self) -> None:
        """What can be asked of the tracer."""
        self.view.show_traits(setup=payloads.setup(self.snapshot, chooser=self.tracer.model.built_in))

    def show_runs(self) -> None:
        """The clean and the corrupted run."""
        assert self.computed is not None
        bars = self._bars(None) if self._pinned else None
        self.view.show_traits(runs=payloads.runs(self.snapshot, self.computed, bars))

    def show_patched(self, patched: Patched | None) -> None:
        """The patched run of the selected cells, or none; of the present inputs."""
        self._patched, self._shown_with, self._shown = patched, self.computed, self._detail(patched)
        self.view.show_traits(detail=self._shown)

    def pin(self, on: bool) -> None:
        """Keep the patched run that is on show beside the next ones, or let it go.

        What is on show may still be of older inputs: it is kept with what was said of it then.
        """
        self._pinned = self._patched if on else None
        with self.view.together():
            self.view.show_traits(pinned=self._shown if self._pinned else {})
            if self.computed is not None:
                self.show_runs()
            if self._shown:
                self._shown = self._shown | {"bars": payloads.with_pinned(self._shown["bars"], self._pinned_words)}
                self.view.show_traits(detail=self._shown)

    def unpin(self) -> None:
        """Let what was pinned go, before other runs are shown."""
        self._pinned = None
        self.view.show_traits(pinned={})

    def show_grid(self) -> None:
        """The grid in view, and how it differs from the one that is kept."""
        assert self.computed is not None
        trace = trace_of(self.tracer, self.cells, self.spec)
        with self.view.together():
            self.view.show_traits(grid=payloads.grid(trace, self.computed))
            self._judge(trace)
            self.view.show_traits(compared=self._comparison.payload([trace], self.computed))

    def _judge(self, trace: Trace) -> None:
        """Let what is said of a single state have the verdict of the grid in view, as its cell has."""
        patched = self._patched
        if patched is None or not patched.selected.one or not self.is_current(patched.selected):
            return
        negligible = verdict(trace, patched.selected.cells[0])
        if negligible is not None and negligible != self._shown["negligible"]:
            self._shown = self._shown | {"negligible": negligible}
            self.view.show_traits(detail=self._shown)

    def show_others(self) -> None:
        """The grids that were left for the one in view; nothing where they are of older inputs."""
        assert self.computed is not None
        self.view.show_traits(grids=payloads.other_grids(self.traces(), self.spec, self.computed))

    def traces(self) -> list[Trace]:
        """All grids of these inputs of which something is computed."""
        return [trace_of(self.tracer, cells, spec) for spec, cells in self.store.computed().items()]

    def report(self, request: int, cells: Sequence[CellIndex], spec: GridSpec) -> None:
        """Single cells of a grid."""
        values = payloads.cell_values(trace_of(self.tracer, self.store.cells(spec), spec), cells)
        self.say("cells", request, [values.tobytes()], cells=list(cells), **spec._asdict())

    def say(self, kind: str, request: int, buffers: list[bytes] | None = None, **content: Any) -> None:
        """Something that goes by."""
        self.view.say({"type": kind, "id": request, "generation": self.computed, **content}, buffers)

    def _detail(self, patched: Patched | None) -> dict[str, Any]:
        if patched is None or self.computed is None:
            return {}
        effect, selected, spec = patched
        shown = dict(payloads.detail(self.snapshot, effect, selected, spec, self.computed, self._bars(effect)))
        known = self.store.known(spec) if selected.one else None
        if known is not None:
            negligible = verdict(trace_of(self.tracer, known, spec), selected.cells[0])
            shown["negligible"] = shown["negligible"] if negligible is None else negligible
        return shown

    def _bars(self, effect: Effect | None) -> protocol.Bars:
        """The words of all runs: a patched one may raise some that a snapshot does not have."""
        clean, corrupted = (self._spelled(run) for run in (self.tracer.clean, self.tracer.corrupted))
        return payloads.bars_of(clean, corrupted, None if effect is None else self._spelled(effect), self._pinned_words)

    @property
    def _pinned_words(self) -> Spelled | None:
        return None if self._pinned is None else self._spelled(self._pinned.effect)

    def _spelled(self, run: Run | Effect) -> Spelled:
        return Spelled(run, self.tracer.model.token_ids)


def verdict(trace: Trace, cell: CellIndex) -> bool | None:
    """Whether a cell cannot be told from 0 within its grid; None where it is not in it, or nothing is tested."""
    if trace.error_unknown or not trace.computed[cell]:
        return None
    return not trace.significant[cell]


def trace_of(tracer: Tracer, cells: GridScores, spec: GridSpec) -> Trace:
    """The grid in view as a trace."""
    trace = as_trace(tracer.case, cells.samples.copy(), spec)
    return replace(trace, known=cells.there.copy())
