"""Playing back a recording: a figure without a model.

For: `TraceWidget.from_trace`. `Replay` takes the place of `blip_trace_widget.widget.session.Session`, and answers every
request from traces; what was not recorded is refused with a message.
Ends: at a `View`. Only means and standard errors of recorded scores are computed here.
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
from blip_trace_widget.results.grid_spec import OF_STATES, CellIndex, GridSpec
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.tracing.corruption import ImageSwap, from_settings
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.inputs import Inputs, Picture
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.view import View

#: Why a request is refused.
CLOSED = "This is a recording: there is no model to ask, only what was recorded."
#: The same for the widget, in short.
HINT = "a recording: what is in it can be looked at"


#: The settings that are of one grid alone.
OWN = (*GridSpec._fields, "without_effect")


class RecordedBlock(NamedTuple):
    """The shape of a block.

    Attributes:
        layers: its layers.
        heads: number of attention heads.
    """

    layers: range
    heads: int


class RecordedModel:
    """What a recording knows about its model."""

    built_in = False

    def __init__(self, snapshot: Snapshot) -> None:
        self.name, self.grid = snapshot.model, snapshot.patches
        self.blocks = {block.name: RecordedBlock(range(block.layers), block.heads) for block in snapshot.blocks}
        asked = payloads.asked_of(snapshot)
        self._known = {asked[name].strip() for name in ("question", "other_question", "foil")}

    def question_ids(self, question: str) -> list[int]:
        """Accept only the recorded questions; their token ids are not recorded.

        Raises:
            ValueError: for any other question.
        """
        if question.strip() not in self._known:
            raise ValueError(f"question: {CLOSED}")
        return []

    def answer_ids(self, name: str, answer: str) -> list[int]:
        """Accept only the recorded answers; their token ids are not recorded.

        Raises:
            ValueError: for any other answer.
        """
        if answer.strip() not in self._known:
            raise ValueError(f"{name}: {CLOSED}")
        return []


class _Named(NamedTuple):
    name: str


class RecordedTracer:
    """What a recording knows about its tracer: the question and the model. It computes nothing.

    Raises:
        AttributeError: for everything else that a tracer has.
    """

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
    """Takes the place of the overlay's and the head map's jobs: no maps are recorded."""

    trace = None

    def choose(self, *_: Any) -> None:
        """Do nothing."""

    def send_attention(self, *_: Any) -> None:
        """Do nothing."""

    def fill(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class Replay:
    """Shows recorded traces in a view; its methods are the session's.

    Args:
        traces: traces of one picture and question, each with its snapshot.
        view: the view to show them in.
        path: the file that they were read from, if any.
        spec: the first grid to show, if it was recorded; default that of the first trace.

    Raises:
        TypeError, ValueError: if they are not such traces.
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
        """Change some of the inputs, and everything that must change as a consequence."""
        with self.lock:
            self.ask(self.inputs.changed(self.tracer.model, **changes), request)

    def ask(self, inputs: Inputs, request: int = 0) -> None:
        """Show another grid, a cell, or the nearest recorded noise factor; everything else is refused."""
        with self.lock:
            before = self.inputs
            asked = next((name for name in OF_STATES if getattr(inputs, name) != getattr(before, name)), None)
            if asked is not None and not self._is_recorded(inputs.spec):
                self._view.show_traits(error=f"{asked}: {CLOSED}")
                self._view.show_inputs(before, mended=True)
                return
            noise = replace(inputs, noise=before.noise)
            if noise.differing(before) or (inputs.noise != before.noise and inputs.corruption != "GaussianNoise"):
                self._view.show_traits(error=CLOSED)
                self._view.show_inputs(before, mended=True)
                return
            self._snapshot = min(self._snapshots, key=lambda snapshot: abs(payloads.noise(snapshot) - inputs.noise))
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

    def _is_recorded(self, spec: GridSpec) -> bool:
        """Whether a grid was recorded, at any noise factor."""
        return any(known == spec for _, known in self._grids)

    def _refused(self, inputs: Inputs) -> str:
        """A message about which of these inputs were not recorded, or ""."""
        if inputs.noise != self.inputs.noise:
            factors = ", ".join(f"{factor:g}" for factor in self._factors())
            shown = f"{self.inputs.noise:g} is shown, which is nearest; there are {factors}"
            return f"noise: {inputs.noise:g} was not recorded, {shown}"
        if inputs.strength != 1:
            return f"strength: {CLOSED}"
        if inputs.patches:
            return f"Patches of the picture: {CLOSED}"
        return f"Several states together: {CLOSED}" if len(inputs.selection) > 1 else ""

    def pin(self, on: bool) -> None:
        """Pin the result of the selected cell beside the next one, or unpin it."""
        with self.lock:
            self._view.show_traits(pinned=self._detail if on else {})

    def compare(self, on: bool, code: str = "") -> None:
        """Keep the grid in view to compare others with it, or stop comparing.

        Raises:
            ValueError: if the grid cannot be compared.
        """
        with self.lock:
            if on:
                self.comparison.keep(self.trace, code)
            else:
                self.comparison.clear()
            self._view.show_traits(compared=self.comparison.payload([self.trace], self.generation))

    def find(self, request: int = 0, **asked: Any) -> None:  # noqa: ARG002
        """Refuse, as there is no model to search in.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"find: {CLOSED}")

    def flow(self, request: int = 0) -> None:  # noqa: ARG002
        """Refuse, as there is no model to cut.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"flow: {CLOSED}")

    def show_member(self, index: int) -> None:  # noqa: ARG002
        """Refuse: sets are not recorded.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"member: {CLOSED}")

    def verify(self, request: int = 0) -> None:  # noqa: ARG002
        """Refuse, as there is no model to compute with.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"verify: {CLOSED}")

    def trace_all(self, request: int = 0) -> None:
        """Answer the request: there is nothing to compute."""
        self._done(request)

    def set_visible_range(self, first: int, last: int) -> None:
        """Do nothing: nothing is computed."""

    def stop(self) -> None:
        """Do nothing: nothing runs."""

    def close(self) -> None:
        """Do nothing: nothing runs."""

    def wait(self, _timeout: float | None) -> bool:
        """True: nothing is pending."""
        return True

    def later(self, work: Callable[[], None], _key: Hashable = None) -> None:
        """Do the work at once, since nothing runs."""
        work()

    @property
    def trace(self) -> Trace:
        """The grid in view; NaN where it was not recorded."""
        found = self.trace_of(self.spec.block)
        assert found is not None  # `fitted` chose an existing block
        return found

    @property
    def traces(self) -> list[Trace]:
        """All recorded traces."""
        return list(self._grids.values())

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block, otherwise like the one in view; None if the block was not traced."""
        spec = self.inputs.in_block(block, self._snapshot.patches).spec
        found = self._grids.get((id(self._snapshot), spec))
        if found is not None:
            return found
        tokens = tuple(payloads.columns_of(self._snapshot, spec))
        if not tokens:
            return None
        first = next(trace for trace in self._grids.values() if trace.snapshot is self._snapshot)
        unknown = np.full((first.samples.shape[0], len(self.tracer.model.blocks[block].layers), len(tokens)), np.nan)
        settings = {name: value for name, value in first.settings.items() if name not in OWN} | spec.settings
        return Trace(unknown, first.clean, first.corrupted, settings, tokens, first.snapshot)

    def tokens(self, block: str) -> list[str]:
        """Names of a block's positions."""
        return self.tracer.tokens(block)  # type: ignore[no-any-return]

    def columns(self, block: str, patch: int) -> int:
        """Number of columns of a block's grid."""
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
            verified = trace.settings.get("verified")
            known = (snapshot, effect, selected, self.spec, self.generation, bars, verified, self._free())
            self._detail = dict(payloads.detail(*known))
        self._view.show_traits(detail=self._detail)

    def _free(self) -> Effect | None:
        """The selected cell with nothing held, if the grid in view holds something and that was recorded too."""
        grid = self._grids.get((id(self._snapshot), self.spec._replace(hold=())))
        [cell] = self.inputs.selected.cells
        if not self.spec.hold or grid is None or not np.isfinite(grid.scores[cell]):
            return None
        return _effect(grid, cell)

    def _done(self, request: int) -> None:
        self._view.say({"type": "done", "id": request, "generation": self.generation, "stopped": False})


def _snapshots(traces: Sequence[Trace]) -> list[Snapshot]:
    """The snapshots, sorted by noise factor.

    Raises:
        TypeError, ValueError: see `Replay`.
    """
    if not traces:
        raise ValueError("trace: expected at least one, got none")
    for trace in traces:
        if not isinstance(trace, Trace):
            raise TypeError(f"trace: expected Trace, a list of them, or a path, got {type(trace).__name__}")
    by_id = {id(snapshot): snapshot for snapshot in map(snapshot_of, traces)}
    if len({_subject(snapshot) for snapshot in by_id.values()}) > 1:
        raise ValueError("trace: all must be of one picture, question, metric and corruption but for its factor")
    return sorted(by_id.values(), key=payloads.noise)


def _subject(snapshot: Snapshot) -> str:
    """Everything that was asked except the noise factor, as text for comparing."""
    asked = payloads.asked_of(snapshot) | {"noise": 0.0, "answer": snapshot.given_answer}
    return json.dumps([asked, hashlib.sha256(snapshot.picture).hexdigest()])


def _opened(picture: bytes) -> Image.Image:
    try:
        return as_image(picture)
    except ValueError as error:
        raise ValueError(f"picture: {error}") from error


def _effect(trace: Trace, cell: CellIndex) -> Effect:
    """The patched run of a cell; its words are not recorded."""
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
        without_effect=cell in trace.without_effect,
    )
