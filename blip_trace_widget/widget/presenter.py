"""What is shown: one tracer, its grid in view, the selected cells' patched run, and a pinned one.

For: turning results into what a view shows, in one place, so that grid, bars and sentence always belong to the same
inputs.
Cost: NumPy on one grid for each thing shown.
Ends: at a `View`. `blip_trace_widget.widget.session` decides what is computed when; it calls everything here under its
lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from blip_trace_widget.display import payloads, protocol
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, Selection
from blip_trace_widget.results.run import Effect, Run, Top
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.grid import as_trace
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.grid_store import GridScores, GridStore
from blip_trace_widget.widget.inputs import Inputs
from blip_trace_widget.widget.lost import told_lost
from blip_trace_widget.widget.view import View

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer


class Patched(NamedTuple):
    """The patched run of a selection in a grid; where something is held, also the one without that, if it is known."""

    effect: Effect
    selected: Selection
    spec: GridSpec
    free: Effect | None = None


class Spelled(NamedTuple):
    """A run with its words: `blip_trace_widget.display.payloads.Words` over the entire vocabulary."""

    run: Run | Effect
    ids: Callable[[Sequence[str]], Sequence[int]]

    @property
    def top(self) -> Top:
        """The likeliest words with their probability, best first."""
        return self.run.top

    def shares(self, words: Sequence[str]) -> list[float]:
        """Probability of each word."""
        return [float(self.run.distribution[index]) for index in self.ids(words)]


class Presenter:
    """Shows the results of one tracer in a view.

    Args:
        tracer: the first tracer.
        view: the view to show it in.
        inputs: what is asked, including the grid in view.
        comparison: the kept grid, if any.
        generation: the first generation.
    """

    def __init__(self, tracer: Tracer, view: View, inputs: Inputs, comparison: Comparison, generation: int = 0) -> None:
        self.tracer = tracer
        self.inputs = inputs
        self._comparison = comparison
        self.store = GridStore(0, {})
        #: Counts changes of the inputs.
        self.generation = generation
        #: The generation of `tracer`, once its runs are computed.
        self.computed: int | None = None
        #: The generation in which the selection was made.
        self.selected_for = 0
        #: The model's version then, see `BlipVqa.version`.
        self.version: int | None = None
        self.view = view
        self._patched: Patched | None = None
        self._shown_with: int | None = None  # the generation in which `_patched` was shown
        self._shown: dict[str, Any] = {}  # the payload of `_patched`
        self._pinned: Patched | None = None
        self._traces: dict[GridSpec, Trace] = {}  # as last shown, with what is computed of them

    @property
    def snapshot(self) -> Snapshot:
        """The tracer's snapshot."""
        snapshot = self.tracer.snapshot
        assert snapshot is not None  # a widget takes no corruption or metric of a user's own
        return snapshot

    @property
    def spec(self) -> GridSpec:
        """The grid in view."""
        return self.inputs.spec

    @property
    def has_grid(self) -> bool:
        """Whether the block in view can be traced under the inputs shown."""
        return self.store.has(self.spec.block)

    @property
    def is_settled(self) -> bool:
        """Whether the results shown are up to date with what is asked, including the block in view."""
        return self.computed == self.generation and self.has_grid

    @property
    def cells(self) -> GridScores:
        """The cells of the grid in view."""
        return self.store.cells(self.spec)

    def is_current(self, selected: Selection) -> bool:
        """Whether the patched run of a selection is shown, for the current inputs."""
        shown = self._patched is not None and (self._patched.spec, self._patched.selected) == (self.spec, selected)
        return shown and self._shown_with == self.computed

    def ask(self, inputs: Inputs, *, mended: bool = False) -> None:
        """Set what is asked."""
        self.inputs = inputs
        self.view.show_inputs(inputs, mended=mended)

    def begin_generation(self, *, keep_error: bool = False) -> None:
        """Count a change of what is asked."""
        self.generation += 1
        self.view.show_traits(generation=self.generation, **({} if keep_error else {"error": ""}))

    def adopt(self, tracer: Tracer, store: GridStore, generation: int, version: int) -> None:
        """Show this tracer from now on."""
        self.tracer, self.store, self.computed, self.version = tracer, store, generation, version
        self._traces.clear()

    def unselect(self) -> None:
        """Clear the selection."""
        self.inputs = replace(self.inputs, selection=(), patches=())
        self.view.show_inputs(self.inputs, gone=True)
        self.show_patched(None)

    def let_go(self) -> None:
        """Hold no longer what the tracer lacks, and say so: of a shorter answer, of a model that reads other words."""
        block_tokens = {state.block: len(self.tracer.tokens(state.block)) for state in self.inputs.named_states}
        now = self.inputs.naming_only(lambda state: state.position < block_tokens[state.block])
        if now != self.inputs:
            lost = told_lost(self.inputs, now, "there are fewer tokens now")
            if self.has_grid:
                self.store.cells(now.spec).wanted |= self.cells.wanted
            self.inputs = now
            self.view.show_inputs(now, gone=True)
            self.view.show_traits(error=lost)

    def show_setup(self) -> None:
        """Show what can be asked of the tracer."""
        self.view.show_traits(setup=payloads.setup(self.snapshot, chooser=self.tracer.model.built_in))

    def show_runs(self) -> None:
        """Show the clean and the corrupted run."""
        assert self.computed is not None
        bars = self._bars(None) if self._pinned else None
        self.view.show_traits(runs=payloads.runs(self.snapshot, self.computed, bars))

    def show_patched(self, patched: Patched | None) -> None:
        """Show the patched run of the selected cells, or none, for the current inputs."""
        self._patched, self._shown_with, self._shown = patched, self.computed, self._detail(patched)
        self.view.show_traits(detail=self._shown)

    def pin(self, on: bool) -> None:
        """Pin the patched run shown beside the next ones, or unpin it.

        It may still belong to older inputs; it is pinned with the payload shown then.
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
        """Unpin the pinned run, before other runs are shown."""
        self._pinned = None
        self.view.show_traits(pinned={})

    def show_grid(self) -> None:
        """Show the grid in view, and its difference from the kept one."""
        assert self.computed is not None
        trace = self._trace(self.spec)
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

    def show_verified(self) -> None:
        """The grid in view and the sentence below it, once its numbers were checked."""
        with self.view.together():
            self.show_grid()
            if self._patched is not None and self._shown_with == self.computed:
                self.show_patched(self._patched)

    def show_others(self) -> None:
        """Show the computed grids of these inputs that are not in view."""
        assert self.computed is not None
        self.view.show_traits(grids=payloads.other_grids(self.traces(), self.spec, self.computed))

    def traces(self) -> list[Trace]:
        """All grids of these inputs with computed cells."""
        return [self._trace(spec) for spec in self.store.computed()]

    def _trace(self, spec: GridSpec) -> Trace:
        """A grid as a trace: the one of before, with its errors and tests, as long as it has the same scores."""
        trace, kept = trace_of(self.tracer, self.store.cells(spec), spec), self._traces.get(spec)
        if kept is None or not _same(kept, trace):
            self._traces[spec] = kept = trace
        return kept

    def report(self, request: int, cells: Sequence[CellIndex], spec: GridSpec) -> None:
        """Single cells of a grid."""
        values = payloads.cell_values(self._trace(spec), cells)
        self.say("cells", request, [values.tobytes()], cells=list(cells), **spec.as_json)

    def say(self, kind: str, request: int, buffers: list[bytes] | None = None, **content: Any) -> None:
        """Send a transient message."""
        self.view.say({"type": kind, "id": request, "generation": self.computed, **content}, buffers)

    def answer(self, request: int, *, stopped: bool) -> None:
        """Answer a request, in the name of the newest generation: it will not be answered for another one."""
        self.say("done", request, generation=self.generation, stopped=stopped)

    def _detail(self, patched: Patched | None) -> dict[str, Any]:
        if patched is None or self.computed is None:
            return {}
        effect, selected, spec, free = patched
        verification = self.tracer.case.verification.known
        verified = None if verification is None else verification.as_settings()
        shown: dict[str, Any] = {
            **payloads.detail(self.snapshot, effect, selected, spec, self.computed, self._bars(effect), verified, free)
        }
        known = self.store.known(spec) if selected.one else None
        if known is not None:
            negligible = verdict(self._trace(spec), selected.cells[0])
            shown["negligible"] = shown["negligible"] if negligible is None else negligible
        return shown | self._judged_free(shown["free"], selected, spec)

    def _judged_free(self, free: protocol.Outcome | None, selected: Selection, spec: GridSpec) -> dict[str, Any]:
        """The numbers with nothing held, with the verdict of their grid if it is known."""
        spec = spec._replace(hold=())
        known = self.store.known(spec) if free is not None and selected.one else None
        negligible = None if known is None else verdict(self._trace(spec), selected.cells[0])
        return {} if free is None or negligible is None else {"free": {**free, "negligible": negligible}}

    def _bars(self, effect: Effect | None) -> protocol.Bars:
        """The words of all runs: a patched one may raise words that the snapshot lacks."""
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


def _same(one: Trace, other: Trace) -> bool:
    """Whether all that two traces are computed from is the same."""
    if (one.clean, one.tokens, one.settings) != (other.clean, other.tokens, other.settings):
        return False
    pairs = ((one.samples, other.samples), (one.corrupted, other.corrupted))
    known = one.known is not None and other.known is not None and np.array_equal(one.known, other.known)
    return known and all(np.array_equal(*pair, equal_nan=True) for pair in pairs)


def trace_of(tracer: Tracer, cells: GridScores, spec: GridSpec) -> Trace:
    """A grid as a trace."""
    trace = as_trace(tracer.case, cells.samples.copy(), spec, sorted(cells.dead))
    return replace(trace, known=cells.known.copy())
