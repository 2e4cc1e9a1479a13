"""Playing back a recording: a figure without a model.

For: `TraceWidget.from_trace`. `Replay` stands where `blip_trace_widget.widget.session.Session` stands, and answers
every request from traces; what was not recorded is refused in words.
Ends: at a `View`. Nothing is computed here but means and standard errors of recorded scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from PIL import Image

from blip_trace_widget.display import payloads
from blip_trace_widget.display.still import snapshot_of
from blip_trace_widget.pictures import as_image
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.corruption import ImageSwap, from_settings
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.inputs import Inputs, Picture
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.view import View

#: Why something cannot be asked.
CLOSED = "This is a recording: there is no model to ask, only what was recorded."
#: The same for the widget, in few words.
HINT = "a recording: what is in it can be looked at"


class RecordedBlock(NamedTuple):
    """The shape of a block."""

    layers: range
    heads: int


class RecordedModel:
    """What is known of the model that a recording was made with."""

    built_in = False

    def __init__(self, snapshot: Snapshot) -> None:
        self.name, self.grid = snapshot.model, snapshot.patches
        self.blocks = {block.name: RecordedBlock(range(block.layers), block.heads) for block in snapshot.blocks}
        asked = payloads.asked_of(snapshot)
        self._known = {asked[name].strip() for name in ("question", "other_question", "foil")}

    def question_ids(self, question: str) -> list[int]:
        """Refuse every question but the recorded ones; of those nothing is known."""
        if question.strip() not in self._known:
            raise ValueError(f"question: {CLOSED}")
        return []

    def answer_ids(self, name: str, answer: str) -> list[int]:
        """Refuse every answer but the recorded ones."""
        if answer.strip() not in self._known:
            raise ValueError(f"{name}: {CLOSED}")
        return []


class _Named(NamedTuple):
    name: str


class RecordedTracer:
    """What is known of a tracer: what was asked, and of whom. It computes nothing."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.model = RecordedModel(snapshot)
        self.question, self.metric = snapshot.question, _Named(snapshot.metric)
        self.given = {"answer": snapshot.given_answer, "foil": snapshot.foil}
        self.answer = snapshot.clean.answer if snapshot.given_answer is None else snapshot.given_answer
        self.image = _opened(snapshot.picture)
        self.corruption = from_settings(snapshot.corruption, lambda: ImageSwap(_opened(snapshot.other_picture)))

    def tokens(self, block: str) -> list[str]:
        """Names of a block's positions."""
        return list(self.snapshot.block(block).tokens)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {CLOSED}")


class _Nothing:
    """Stands where maps are painted: none was recorded."""

    trace = None

    def choose(self, *_: Any) -> None: ...
    def attend(self, *_: Any) -> None: ...
    def fill(self) -> None: ...
    def go_on(self) -> None: ...
    def stop(self) -> None: ...


class Replay:
    """Shows recorded traces in a view; its methods are the session's.

    Args:
        traces: of one picture and question, each with its snapshot.
        view: where to show them.
        path: the file that they are from, if any.
        view: the grid to begin with, if it was recorded; default that of the first trace.

    Raises:
        TypeError, ValueError: if they are no such traces.
    """

    def __init__(
        self, traces: Sequence[Trace], view: View, path: str | None = None, spec: GridSpec | None = None
    ) -> None:
        self.lock = Lock()
        self.generation = 0
        self.overlay_job = self.heads = _Nothing()
        self.comparison = Comparison()
        self._view = view
        self._snapshots = _snapshots(traces)
        self._grids = {(id(trace.snapshot), payloads.spec_of(trace)): trace for trace in traces}
        self._snapshot = self._snapshots[0]
        self.tracer: Any = RecordedTracer(self._snapshot)
        picture = Picture(self.tracer.image, path, shown=self._snapshot.picture)
        specs = [payloads.spec_of(trace) for trace in traces]
        self.inputs = Inputs.of(self.tracer, picture, spec if spec in specs else specs[0])
        if self.inputs.other is not None:
            other = replace(self.inputs.other, shown=self._snapshot.other_picture)
            self.inputs = replace(self.inputs, other=other)
        self._detail: dict[str, Any] = {}

    @property
    def spec(self) -> GridSpec:
        """The grid in view."""
        return self.inputs.spec

    def begin(self) -> None:
        """Show the first snapshot."""
        self._view.show_traits(error="")
        self._show()

    def change(self, request: int = 0, **changes: Any) -> None:
        """Change some of the inputs, and what must change with them."""
        with self.lock:
            self.ask(self.inputs.changed(self.tracer.model, **changes), request)

    def ask(self, inputs: Inputs, request: int = 0) -> None:
        """Show another grid, a cell, or the noise factor that is nearest of those recorded; all else is refused."""
        with self.lock:
            before = self.inputs
            noise = replace(inputs, noise=before.noise)
            if noise.differing(before) or (inputs.noise != before.noise and inputs.corruption != "GaussianNoise"):
                self._view.show_traits(error=CLOSED)
                self._view.show_inputs(before, mended=True)
                return
            self._snapshot = min(self._snapshots, key=lambda each: abs(payloads.noise(each) - inputs.noise))
            shown = payloads.noise(self._snapshot)
            self.inputs = replace(inputs, noise=shown, patches=(), strength=1.0)
            if shown != before.noise or inputs.noise != shown:
                self.tracer = RecordedTracer(self._snapshot)
            self._view.show_inputs(self.inputs)
            if inputs.noise != before.noise or inputs.spec != before.spec:
                self._show()
            if inputs.selected != before.selected or request:
                self._show_detail()
                self._done(request)
            self._view.show_traits(error=self._refused(inputs))

    def _refused(self, inputs: Inputs) -> str:
        """What of these inputs was not recorded."""
        if inputs.noise != self.inputs.noise:
            there = ", ".join(f"{each:g}" for each in self._factors())
            shown = f"{self.inputs.noise:g} is shown, which is nearest; there are {there}"
            return f"noise: {inputs.noise:g} was not recorded, {shown}"
        if inputs.strength != 1:
            return f"strength: {CLOSED}"
        if inputs.patches:
            return f"Patches of the picture: {CLOSED}"
        return f"Several states together: {CLOSED}" if len(inputs.selection) > 1 else ""

    def pin(self, on: bool) -> None:
        """Keep the result of the selected cell beside the next one, or let it go."""
        with self.lock:
            self._view.show_traits(pinned=self._detail if on else {})

    def compare(self, on: bool, code: str = "") -> None:
        """Keep the grid in view to compare others with, or let it go."""
        with self.lock:
            if on:
                self.comparison.keep(self.trace, code)
            else:
                self.comparison.let_go()
            self._view.show_traits(compared=self.comparison.payload([self.trace], self.generation))

    def verify(self, request: int = 0) -> None:  # noqa: ARG002
        """There is no model to compute with."""
        raise ValueError(f"verify: {CLOSED}")

    def trace_all(self, request: int = 0) -> None:
        """There is nothing to compute."""
        self._done(request)

    def look(self, first: int, last: int) -> None:
        """Nothing is computed, so nothing goes first."""

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""

    def wait(self, _timeout: float | None) -> bool:
        """Everything is there."""
        return True

    def later(self, work: Callable[[], None], _key: Hashable = None) -> None:
        """At once: nothing is computed meanwhile."""
        work()

    @property
    def trace(self) -> Trace:
        """The grid in view; NaN where it was not recorded."""
        found = self.trace_of(self.spec.block)
        assert found is not None  # the view has been fitted
        return found

    @property
    def traces(self) -> list[Trace]:
        """All that is recorded."""
        return list(self._grids.values())

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block, otherwise as the one in view; None where there is no such block."""
        spec = self.inputs.in_block(block, self._snapshot.patches).spec
        found = self._grids.get((id(self._snapshot), spec))
        if found is not None:
            return found
        tokens = tuple(payloads.columns_of(self._snapshot, spec))
        if not tokens:
            return None
        first = next(trace for trace in self._grids.values() if trace.snapshot is self._snapshot)
        unknown = np.full((first.samples.shape[0], len(self.tracer.model.blocks[block].layers), len(tokens)), np.nan)
        settings = first.settings | spec._asdict()
        return Trace(unknown, first.clean, first.corrupted, settings, tokens, first.snapshot)

    def columns(self, block: str, patch: int) -> int:
        """How many columns a block's grid has."""
        return len(payloads.columns_of(self._snapshot, GridSpec(block, patch=patch)))

    def _show(self) -> None:
        with self.lock, self._view.together():
            self.generation += 1
            self._view.show_traits(
                **payloads.traits(self._snapshot, self.generation),
                generation=self.generation,
                setup=payloads.setup(self._snapshot, closed=HINT, factors=self._factors()),
                grid=payloads.grid(self.trace, self.generation),
                grids=payloads.other_grids(self._known(), self.spec, self.generation),
                compared=self.comparison.payload([self.trace], self.generation),
            )
            self._show_detail()

    def _factors(self) -> list[float]:
        return sorted(map(payloads.noise, self._snapshots))

    def _known(self) -> list[Trace]:
        return [trace for (snapshot, _), trace in self._grids.items() if snapshot == id(self._snapshot)]

    def _show_detail(self) -> None:
        self._detail = {}
        trace = self.trace
        selected = self.inputs.selected
        if selected.one and np.isfinite(trace.scores[selected.cells[0]]):
            effect, snapshot = _effect(trace, selected.cells[0]), self._snapshot
            bars = payloads.bars_of(snapshot.clean, snapshot.corrupted)
            self._detail = dict(payloads.detail(snapshot, effect, selected, self.spec, self.generation, bars))
        self._view.show_traits(detail=self._detail)

    def _done(self, request: int) -> None:
        self._view.say({"type": "done", "id": request, "generation": self.generation, "stopped": False})


def _snapshots(traces: Sequence[Trace]) -> list[Snapshot]:
    """The snapshots, by noise factor.

    Raises:
        TypeError, ValueError: see `Replay`.
    """
    if not traces:
        raise ValueError("trace: expected at least one, got none")
    for trace in traces:
        if not isinstance(trace, Trace):
            raise TypeError(f"trace: expected Trace, a list of them, or a path, got {type(trace).__name__}")
    found = {id(snapshot): snapshot for snapshot in map(snapshot_of, traces)}
    if len({_subject(snapshot) for snapshot in found.values()}) > 1:
        raise ValueError("trace: all must be of one picture, question, metric and corruption but for its factor")
    return sorted(found.values(), key=payloads.noise)


def _subject(snapshot: Snapshot) -> str:
    """What was asked, whatever the noise factor."""
    asked = payloads.asked_of(snapshot) | {"noise": 0.0, "answer": snapshot.given_answer}
    return json.dumps([asked, hashlib.sha256(snapshot.picture).hexdigest()])


def _opened(picture: bytes) -> Image.Image:
    try:
        return as_image(picture)
    except ValueError as error:
        raise ValueError(f"picture: {error}") from error


def _effect(trace: Trace, cell: CellIndex) -> Effect:
    """The patched run of a cell; of its words nothing is recorded."""
    return Effect(
        score=float(trace.scores[cell]),
        scores=trace.samples[:, cell[0], cell[1]],
        indirect_effect=float(trace.indirect_effect[cell]),
        recovery=float(trace.recovery[cell]),
        stderr=float(trace.stderr[cell]),
        top=[],
        recovery_stderr=float(trace.recovery_stderr[cell]),
        margin=float(trace.margin[cell]),
        recovery_margin=float(trace.recovery_margin[cell]),
        significant=bool(trace.significant[cell]),
        undefined_because=trace.undefined_because,
        error_unknown=trace.error_unknown,
        distribution=np.empty(0, np.float32),
        states=(),
        direction=trace.settings["direction"],
    )
