"""Playing back what was recorded: a widget's screen without a model.

For: `TraceWidget.from_trace`. `Player` stands where `blip_trace_widget.conductor.Conductor` stands, and answers every
request from traces; what was not recorded is refused in words.
Cost: a lookup, and the payload of one grid.
Ends: at a `Screen`. Nothing is computed here but means and standard errors of recorded scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from PIL import Image

from blip_trace_widget import figure, protocol
from blip_trace_widget.corruption import ImageSwap
from blip_trace_widget.grids import CellIndex, View
from blip_trace_widget.inputs import Inputs, Picture
from blip_trace_widget.lock import Lock
from blip_trace_widget.pictures import as_image
from blip_trace_widget.results import Effect, Trace
from blip_trace_widget.scene import Scene
from blip_trace_widget.stage import Screen

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

    def __init__(self, scene: Scene) -> None:
        self.name = scene.setup["model"]
        self.grid = tuple(scene.setup["patches"])
        self.blocks = {
            block["name"]: RecordedBlock(range(block["layers"]), block["heads"]) for block in scene.setup["blocks"]
        }
        inputs = scene.inputs
        self._known = {inputs[name].strip() for name in ("question", "other_question", "foil")}

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

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = RecordedModel(scene)
        inputs = scene.inputs
        self.question, self.metric = inputs["question"], _Named(inputs["metric"])
        self.given = {"answer": None, "foil": inputs["foil"] or None}
        self.image = _opened(scene.picture)
        self.corruption = figure.corruption(inputs, lambda: ImageSwap(_opened(scene.other_picture)))

    def tokens(self, block: str) -> list[str]:
        """Names of a block's positions."""
        return next(each["tokens"] for each in self.scene.setup["blocks"] if each["name"] == block)

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


class Player:
    """Shows recorded traces on a screen; its methods are the conductor's.

    Args:
        traces: of one picture and question, each with its scene.
        screen: where to show them.
        path: the file that they are from, if any.
        view: the grid to begin with, if it was recorded; default that of the first trace.

    Raises:
        TypeError, ValueError: if they are no such traces.
    """

    def __init__(
        self, traces: Sequence[Trace], screen: Screen, path: str | None = None, view: View | None = None
    ) -> None:
        self.lock = Lock()
        self.generation = 0
        self.painter = self.heads = _Nothing()
        self._screen = screen
        self._scenes = _scenes(traces)
        self._grids = {(id(trace.scene), figure.view_of(trace)): trace for trace in traces}
        self._scene = self._scenes[0]
        self.tracer: Any = RecordedTracer(self._scene)
        picture = Picture(self.tracer.image, path, shown=self._scene.picture)
        views = [figure.view_of(trace) for trace in traces]
        self.inputs = Inputs.of(self.tracer, picture, view if view in views else views[0])
        self._detail: dict[str, Any] = {}

    @property
    def view(self) -> View:
        """The grid in view."""
        return self.inputs.view

    def begin(self) -> None:
        """Show the first scene."""
        self._screen.show_traits(error="")
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
                self._screen.show_traits(error=CLOSED)
                self._screen.show_inputs(before, mended=True)
                return
            self._scene = min(self._scenes, key=lambda scene: abs(scene.inputs["noise"] - inputs.noise))
            shown = self._scene.inputs["noise"]
            self.inputs = replace(inputs, noise=shown, patches=())
            if shown != before.noise or inputs.noise != shown:
                self.tracer = RecordedTracer(self._scene)
            self._screen.show_inputs(self.inputs)
            if inputs.noise != before.noise or inputs.view != before.view:
                self._show()
            if inputs.chosen != before.chosen or request:
                self._show_detail()
                self._done(request)
            self._screen.show_traits(error=self._refused(inputs))

    def _refused(self, inputs: Inputs) -> str:
        """What of these inputs was not recorded."""
        if inputs.noise != self.inputs.noise:
            there = ", ".join(f"{each:g}" for each in self._factors())
            shown = f"{self.inputs.noise:g} is shown, which is nearest; there are {there}"
            return f"noise: {inputs.noise:g} was not recorded, {shown}"
        if inputs.patches:
            return f"Patches of the picture: {CLOSED}"
        return f"Several states together: {CLOSED}" if len(inputs.selection) > 1 else ""

    def pin(self, on: bool) -> None:
        """Keep what is said of the selected cell beside the next one, or let it go."""
        with self.lock:
            self._screen.show_traits(pinned=self._detail if on else {})

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
        found = self.trace_of(self.view.block)
        assert found is not None  # the view has been fitted
        return found

    @property
    def traces(self) -> list[Trace]:
        """All that is recorded."""
        return list(self._grids.values())

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block, otherwise as the one in view; None where there is no such block."""
        view = self.view._replace(block=block)
        found = self._grids.get((id(self._scene), view))
        if found is not None:
            return found
        tokens = tuple(self.tracer.tokens(block))
        if not tokens:
            return None
        first = next(trace for trace in self._grids.values() if trace.scene is self._scene)
        unknown = np.full((first.samples.shape[0], len(self.tracer.model.blocks[block].layers), len(tokens)), np.nan)
        settings = first.settings | view._asdict()
        return Trace(unknown, first.clean, first.corrupted, settings, tokens, first.scene)

    def positions(self, block: str) -> int:
        """How many positions a block has."""
        return len(self.tracer.tokens(block))

    def _show(self) -> None:
        with self.lock, self._screen.together():
            self.generation += 1
            scene = self._scene
            setup: dict[str, Any] = {**scene.setup, "version": protocol.PROTOCOL_VERSION, "closed": HINT}
            setup |= {"examples": [], "choices": figure.CHOICES | {"noise": [str(each) for each in self._factors()]}}
            self._screen.show_traits(
                **scene.traits(self.generation),
                generation=self.generation,
                setup=setup,
                grid=figure.grid(self.trace, self.generation),
                grids=figure.other_grids(self._known(), self.view, self.generation),
            )
            self._show_detail()

    def _factors(self) -> list[float]:
        return sorted(scene.inputs["noise"] for scene in self._scenes)

    def _known(self) -> list[Trace]:
        return [trace for (scene, _), trace in self._grids.items() if scene == id(self._scene)]

    def _show_detail(self) -> None:
        self._detail = {}
        trace = self.trace
        chosen = self.inputs.chosen
        if chosen.one and np.isfinite(trace.scores[chosen.cells[0]]):
            effect, bars = _effect(trace, chosen.cells[0]), self._scene.runs["bars"]
            self._detail = dict(figure.detail(self.tracer, effect, chosen, self.view, self.generation, bars))
        self._screen.show_traits(detail=self._detail)

    def _done(self, request: int) -> None:
        self._screen.say({"type": "done", "id": request, "generation": self.generation, "stopped": False})


def _scenes(traces: Sequence[Trace]) -> list[Scene]:
    """The scenes, by noise factor.

    Raises:
        TypeError, ValueError: see `Player`.
    """
    if not traces:
        raise ValueError("trace: expected at least one, got none")
    for trace in traces:
        if not isinstance(trace, Trace):
            raise TypeError(f"trace: expected Trace, a list of them, or a path, got {type(trace).__name__}")
        if trace.scene is None:
            raise ValueError(
                "trace: it has no scene to show, for it comes from an older file, or its corruption or metric is one's "
                "own; trace it again, or use trace.plot()"
            )
    scenes = list({id(trace.scene): trace.scene for trace in traces if trace.scene is not None}.values())
    said = {json.dumps([scene.inputs | {"noise": 0.0}, hashlib.sha256(scene.picture).hexdigest()]) for scene in scenes}
    if len(said) > 1:
        raise ValueError("trace: all must be of one picture, question, metric and corruption but for its factor")
    return sorted(scenes, key=lambda scene: scene.inputs["noise"])


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
        undefined_because=trace.undefined_because,
        distribution=np.empty(0, np.float32),
        states=(),
        direction=trace.settings["direction"],
    )
