"""TraceWidget: the traits, their validation, and the wiring between front end, worker and tracer.

For: turning what a hand (or a line of Python) asks into jobs, and their results into traits and messages.
Cost: a handler validates and submits, under a millisecond; all that touches the model runs on the model's worker thread.
Ends: here is no mathematics; numbers come from `blip_trace_widget.tracer`, payloads from `blip_trace_widget.figure`.

Inputs are traits that both sides may set. Whatever changes what the model sees raises `generation`, drops the jobs of
the older one and submits an update: it derives a tracer, publishes the two runs, and queues what was in view before: the
selected cells, the cells of the grid, the noise curve. Only `_lock` holders set traits, since one thread at a time may.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from blip_trace_widget import figure, protocol
from blip_trace_widget.corruption import NOISE_KINDS, GaussianNoise, checked_factor
from blip_trace_widget.demo import examples
from blip_trace_widget.forward import Cancelled
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.model import BlipVqa, ImageLike, as_image
from blip_trace_widget.results import Trace
from blip_trace_widget.sites import BLOCKS, SITES, one_of, whole_number
from blip_trace_widget.tracer import Cell, Tracer
from blip_trace_widget.worker import Job, worker_of

#: What goes first on the worker: a new question or noise, then clicks, then the rest of the grid, then the curve.
UPDATE, PATCH, FILL, CURVE = range(4)
#: Seconds between two messages about a running grid.
REPORT_SECONDS = 0.1
#: Inputs that make a new tracer, and those that only choose a grid of it.
SUBJECT = ("question", "noise", "metric", "kind", "samples", "seed")
VIEW = ("block", "site", "direction", "window")
SHOWS = ("recovery", "indirect_effect", "score")
CURVE_FACTORS = tuple(float(factor) for factor in np.linspace(0, 10, 21))

CellIndex = tuple[int, int]
_STATIC = files("blip_trace_widget") / "static"


class Refused(traitlets.TraitError, ValueError):
    """A trait was given a value that is not accepted.

    A TraitError, for that alone makes traitlets keep the last good value; a ValueError, for that is what users expect.
    """


def _refusing(check: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Make a validator refuse in traitlets' way."""

    @functools.wraps(check)
    def checked(widget: Any, proposal: Any) -> Any:
        try:
            return check(widget, proposal)
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from error

    return checked


@dataclass
class _Cells:
    """The cells of one grid.

    Attributes:
        samples: scores, (samples, layers, positions), NaN where not computed.
        wanted: cells to compute again when the inputs change.
    """

    samples: NDArray[np.float64]
    wanted: set[CellIndex] = field(default_factory=set)


class TraceWidget(anywidget.AnyWidget):
    """Causal tracing of one image and question, by hand.

    Args:
        image: see `blip_trace_widget.Tracer`; default the built-in example.
        question: the question.
        model: a `BlipVqa`, a hub id or a folder; default the built-in model.
        keywords: `answer`, `foil`, `corruption` and `metric` as in `blip_trace_widget.Tracer`.

    Traits that may be set, observed and linked: `question`, `noise`, `metric`, `kind`, `samples`, `seed`, `block`,
    `site`, `direction`, `window`, `selection` (a list of (layer, position)), `show`.

    Raises:
        TypeError, ValueError, OSError: naming the argument, what was given and what is accepted.
    """

    # Strings, not paths: with a path anywidget keeps every instance alive.
    _esm = (_STATIC / "widget.js").read_text("utf-8")
    _css = (_STATIC / "widget.css").read_text("utf-8")

    question = traitlets.Unicode().tag(sync=True)
    noise = traitlets.Float(5.0).tag(sync=True)
    kind = traitlets.Unicode("multiplicative").tag(sync=True)
    samples = traitlets.Int(10).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    metric = traitlets.Unicode("probability").tag(sync=True)
    block = traitlets.Unicode("question_encoder").tag(sync=True)
    site = traitlets.Unicode("block_output").tag(sync=True)
    direction = traitlets.Unicode("restore").tag(sync=True)
    window = traitlets.Int(1).tag(sync=True)
    selection = traitlets.List().tag(sync=True)
    show = traitlets.Unicode("recovery").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    setup = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)
    runs = traitlets.Dict().tag(sync=True)
    grid = traitlets.Dict().tag(sync=True)
    detail = traitlets.Dict().tag(sync=True)
    curve = traitlets.Dict().tag(sync=True)
    generation = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        image: ImageLike | None = None,
        question: str | None = None,
        *,
        model: BlipVqa | str | None = None,
        **keywords: Any,
    ) -> None:
        if (image is None) != (question is None):
            raise ValueError("image, question: give both, or neither for the built-in example")
        if model is None:
            model = BlipVqa.demo()
        elif not isinstance(model, BlipVqa):
            model = BlipVqa.from_pretrained(model)
        if image is None or question is None:
            example = examples()[0]
            image, question = example.image, example.question
        unknown = set(keywords) - {"answer", "foil", "corruption", "metric"}
        if unknown:
            raise TypeError(f"TraceWidget: unknown argument {sorted(unknown)[0]!r}")
        self._start(Tracer(model, image, question, **keywords))

    @classmethod
    def from_tracer(cls, tracer: Tracer) -> TraceWidget:
        """A widget that goes on from a tracer; shares all that it has computed."""
        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracer: expected Tracer, got {type(tracer).__name__}")
        widget = cls.__new__(cls)
        widget._start(tracer)
        return widget

    def _start(self, tracer: Tracer) -> None:
        if not isinstance(tracer.corruption, GaussianNoise) or tracer.metric.name not in METRICS:
            raise ValueError("tracer: the widget shows GaussianNoise and the named metrics")
        self._lock = threading.RLock()
        self._muted = True
        self._owner = object()
        self._worker = worker_of(tracer.model.hf)
        self._tracer = tracer
        self._changes: dict[str, Any] = {}
        self._grids: dict[tuple[Any, ...], _Cells] = {}
        self._fill_id = 0
        self._curve: dict[float, float] = {}
        super().__init__(**_inputs_of(tracer), picture=figure.picture(tracer.image))
        self._muted = False
        self.on_msg(self._on_message)
        self.observe(self._on_subject, list(SUBJECT))
        self.observe(self._on_view, list(VIEW))
        self.observe(self._on_selection, "selection")
        self._update()

    def __repr__(self) -> str:
        return f"TraceWidget({self.question!r})"

    # --- what Python may ask -----------------------------------------------------------------------------------------

    @property
    def tracer(self) -> Tracer:
        """The tracer of what is shown; after a change of inputs the new one is there once it is computed (`wait`)."""
        return self._tracer

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far; NaN in the other cells."""
        with self._lock:
            return self._trace_of(self._tracer, self._view(), self._cells().samples)

    def trace_all(self) -> None:
        """Fill the grid in view, in the background."""
        with self._lock:
            self._cells().wanted.update(np.ndindex(self._cells().samples.shape[1:]))
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        with self._lock:
            cells = self._cells()
            cells.wanted &= _computed(cells.samples)
            self._worker.cancel(self._owner, "fill")
            self._say({"type": "done", "id": self._fill_id, "generation": self.generation, "stopped": True})

    def wait(self, timeout: float | None = None) -> None:
        """Block until all that was asked so far is computed and shown.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        if not self._worker.wait(self._owner, timeout):
            raise TimeoutError(f"the widget was still computing after {timeout} s")

    def close(self) -> None:
        """Drop all work and leave the page."""
        if hasattr(self, "_worker"):
            self._worker.cancel(self._owner)
        super().close()

    # --- what the front end asks -------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits from the front end; refuse one by one, in words, and send the last good value back."""
        with self._lock:
            for name, value in sync_data.items():
                try:
                    super().set_state({name: value})
                except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
                    self._refuse(error)
                    self.send_state(name)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any] | None) -> None:
        try:
            request = protocol.parse_request(content)
            with self._lock:
                if request["type"] == "patch":
                    self._select(request["cells"], request["id"])
                elif request["type"] == "trace":
                    self._fill_id = request["id"]
                    self.trace_all()
                elif request["type"] == "stop":
                    self.stop()
                elif request["type"] == "image":
                    self._use_picture(buffers)
                elif request["type"] == "example":
                    self._use_example(request["index"])
        except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
            self._refuse(error)

    def _use_picture(self, buffers: Sequence[Any] | None) -> None:
        if not buffers or len(buffers) != 1 or not 0 < len(buffers[0]) <= protocol.MAX_IMAGE_BYTES:
            raise ValueError(f"image: expected one picture file of at most {protocol.MAX_IMAGE_BYTES >> 20} MB")
        self._renew(image=as_image(bytes(buffers[0])), answer=None, foil=None)

    def _use_example(self, index: int) -> None:
        chosen = examples()[whole_number("example", index, 0, len(examples()) - 1)]
        self._mute(question=chosen.question)
        self._renew(image=chosen.image, question=chosen.question, answer=None, foil=None)

    # --- validation and reaction -------------------------------------------------------------------------------------

    @traitlets.validate("question")
    @_refusing
    def _valid_question(self, proposal: Any) -> str:
        self._tracer.model.question_ids(proposal["value"])
        return str(proposal["value"])

    @traitlets.validate("noise")
    @_refusing
    def _valid_noise(self, proposal: Any) -> float:
        return checked_factor("noise", proposal["value"])

    @traitlets.validate("kind", "metric", "block", "site", "direction", "show")
    @_refusing
    def _valid_name(self, proposal: Any) -> str:
        name = proposal["trait"].name
        accepted: dict[str, Iterable[str]] = {
            "kind": NOISE_KINDS,
            "metric": METRICS,
            "block": BLOCKS,
            "site": SITES,
            "direction": ("restore", "disrupt"),
            "show": SHOWS,
        }
        if name == "metric" and proposal["value"] == "logit_difference" and self._tracer.foil is None:
            raise ValueError("metric: 'logit_difference' needs a foil: TraceWidget(..., foil='blue')")
        return one_of(name, proposal["value"], accepted[name])

    @traitlets.validate("samples", "seed", "window")
    @_refusing
    def _valid_number(self, proposal: Any) -> int:
        name = proposal["trait"].name
        low, high = {"samples": (1, 200), "seed": (0, 2**31 - 1), "window": (1, self._tracer.model.layers)}[name]
        return whole_number(name, proposal["value"], low, high)

    @traitlets.validate("selection")
    @_refusing
    def _valid_selection(self, proposal: Any) -> list[CellIndex]:
        layers, positions = self._shape(self.block)
        cells = []
        for cell in proposal["value"]:
            if not isinstance(cell, (list, tuple)) or len(cell) != 2:
                raise ValueError(f"selection: expected a list of (layer, position), got {cell!r}")
            layer = whole_number("selection (layer)", cell[0], 0, layers - 1)
            cells.append((layer, whole_number("selection (position)", cell[1], 0, positions - 1)))
        return cells

    def _on_subject(self, change: Any) -> None:
        if self._muted:
            return
        if change["name"] == "question":
            self._renew(question=self.question, answer=None, foil=None)
        elif change["name"] == "metric":
            self._renew(metric=self.metric)
        else:
            tracer = self._tracer
            region = tracer.corruption.region if isinstance(tracer.corruption, GaussianNoise) else None
            self._renew(corruption=GaussianNoise(self.noise, self.kind, self.samples, self.seed, region))

    def _on_view(self, change: Any) -> None:
        with self._lock:
            self._worker.cancel(self._owner, "fill")
            if change["name"] == "block" and self.selection:
                self._worker.cancel(self._owner, "patch")
                self._mute(selection=[], detail={})
            self._show_grid()
            self._ask_again()

    def _on_selection(self, _change: Any) -> None:
        if not self._muted:
            self._patch()

    def _renew(self, **changes: Any) -> None:
        """The inputs have changed: what is computed belongs to an older generation now."""
        with self._lock:
            self._changes.update(changes)
            self._worker.cancel(self._owner)
            self.generation += 1
            self._update()

    def _select(self, cells: Sequence[Sequence[int]], request: int) -> None:
        chosen = [(int(layer), int(position)) for layer, position in cells]
        self._mute(selection=chosen)
        self._patch(request)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _submit(self, key: str, priority: int, slices: Any) -> None:
        def failed(error: Exception) -> None:
            if not isinstance(error, Cancelled):
                self._refuse(error)

        self._worker.submit(self._owner, key, slices, failed, priority)

    def _update(self) -> None:
        generation, changes = self.generation, dict(self._changes)

        def slices(job: Job) -> Iterator[None]:
            yield  # a still newer request may come before anything is computed
            try:
                tracer = self._tracer.replace(**changes) if changes else self._tracer
                tracer.prepare(job.cancelled)
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - shown; the last good state comes back
                self._go_back(job, error, changes)
                return
            with self._lock:
                if job.cancelled.is_set():
                    return
                self._adopt(tracer, generation, changes)

        self._submit("update", UPDATE, slices)

    def _adopt(self, tracer: Tracer, generation: int, changes: dict[str, Any]) -> None:
        """Show a tracer whose two runs are computed."""
        old, self._tracer, self._changes = self._tracer, tracer, {}
        same_text = old.question_tokens == tracer.question_tokens and self._shapes_known(tracer)
        for key, cells in self._grids.items():
            shape = self._shape(key[0])
            full = len(cells.wanted) == cells.samples[0].size
            if cells.samples.shape[1:] != shape or not same_text:
                cells.wanted = set(np.ndindex(shape)) if full else set()
            cells.samples = np.full((tracer.corrupted.scores.size, *shape), np.nan)
        self.setup = figure.setup(tracer)
        self.runs = figure.runs(tracer, generation, self.noise)
        if "image" in changes:
            self.picture = figure.picture(tracer.image)
        if not self.grid or not same_text:
            self._mute(selection=[], detail={})
            self._show_grid()
        if not changes or set(changes) - {"corruption"} or old.corruption.unit() != tracer.corruption.unit():
            self._curve = {}
        self._ask_again()
        self._draw_curve()

    def _shapes_known(self, tracer: Tracer) -> bool:
        """Whether the grid on screen has the rows of this tracer."""
        return bool(self.grid) and list(self.grid["tokens"]) == tracer.tokens(self.block)

    def _go_back(self, job: Job, error: Exception, changes: dict[str, Any]) -> None:
        """An update failed: say why, and return to the last good state."""
        with self._lock:
            if job.cancelled.is_set():
                return
            self._changes = {}
            self._refuse(error)
            if changes:
                self._mute(**_inputs_of(self._tracer))
                self._worker.cancel(self._owner, "update")
                self._update()

    def _ask_again(self) -> None:
        """Compute what is in view: the selected cells, then the cells of the grid."""
        if self.selection:
            self._patch()
        if self._cells().wanted - _computed(self._cells().samples):
            self._fill()

    def _patch(self, request: int = 0) -> None:
        """Patch the selected cells, all in one run."""
        with self._lock:
            self._worker.cancel(self._owner, "patch")
            chosen = [(int(layer), int(position)) for layer, position in self.selection]
            if not chosen:
                self.detail = {}
                return
            tracer, generation, view = self._tracer, self.generation, self._view()
            at = {(cell.layer, cell.position): cell for cell in tracer.cells(view[0], view[1], None, view[3])}

        def slices(job: Job) -> Iterator[None]:
            states = [state for index in chosen for state in at[index].states]
            effect = tracer.patch(states, view[2], job.cancelled)
            with self._lock:
                if job.cancelled.is_set() or generation != self.generation:
                    return
                if len(chosen) == 1:
                    cells = self._cells(view)
                    cells.samples[:, chosen[0][0], chosen[0][1]] = effect.scores
                    cells.wanted.add(chosen[0])
                    self._report_cells(request, chosen, view)
                    self._show_grid()
                self.detail = figure.detail(tracer, effect, chosen, view[3], generation)
                self._say({"type": "done", "id": request, "generation": generation, "stopped": False})
            yield

        self._submit("patch", PATCH, slices)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet."""
        with self._lock:
            self._worker.cancel(self._owner, "fill")
            tracer, generation, view = self._tracer, self.generation, self._view()
            cells, request = self._cells(view), self._fill_id

        def slices(job: Job) -> Iterator[None]:
            todo = [cell for cell in tracer.cells(view[0], view[1], None, view[3]) if _key(cell) in cells.wanted]
            todo = [cell for cell in todo if _key(cell) not in _computed(cells.samples)]
            yield from self._fill_slices(job, tracer, todo, cells.samples, view, request, generation)

        self._submit("fill", FILL, slices)

    def _fill_slices(
        self,
        job: Job,
        tracer: Tracer,
        todo: Sequence[Cell],
        samples: NDArray[np.float64],
        view: tuple[Any, ...],
        request: int,
        generation: int,
    ) -> Iterator[None]:
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            for part, scores in tracer.patched_scores([cell.states for cell in todo], view[2], job.cancelled):
                with self._lock:
                    if job.cancelled.is_set():
                        return
                    for cell, values in zip(todo[part], scores.T, strict=True):
                        samples[:, cell.layer, cell.position] = values
                        fresh.append(_key(cell))
                    done, now = part.stop, time.monotonic()
                    if done == len(todo) or now - reported >= REPORT_SECONDS:
                        reported = now
                        self._report_cells(request, fresh, view)
                        fresh = []
                        left = (now - started) / done * (len(todo) - done)
                        progress = {"done": done, "total": len(todo), "seconds_left": left}
                        self._say({"type": "progress", "id": request, "generation": generation, **progress})
                yield
        finally:
            with self._lock:
                if generation == self.generation and view == self._view():
                    self._show_grid()
                    stopped = done < len(todo)
                    self._say({"type": "done", "id": request, "generation": generation, "stopped": stopped})

    def _draw_curve(self) -> None:
        """Compute the noise curve, a factor at a time; it does not depend on the present factor."""
        tracer, generation, known = self._tracer, self.generation, self._curve

        def slices(job: Job) -> Iterator[None]:
            for factor in CURVE_FACTORS:
                if job.cancelled.is_set():
                    return
                if factor not in known:
                    known[factor] = float(tracer.noise_curve([factor]).scores[0])
                    yield
            with self._lock:
                if not job.cancelled.is_set():
                    self.curve = {
                        "generation": generation,
                        "factors": list(CURVE_FACTORS),
                        "scores": [figure.number(known[factor]) for factor in CURVE_FACTORS],
                        "clean": tracer.clean.score,
                    }

        if len(known) < len(CURVE_FACTORS):
            self._submit("curve", CURVE, slices)

    # --- publishing --------------------------------------------------------------------------------------------------

    def _view(self) -> tuple[str, str, str, int]:
        return (self.block, self.site, self.direction, self.window)

    def _shape(self, block: str) -> tuple[int, int]:
        return self._tracer.model.layers, len(self._tracer.tokens(block))

    def _cells(self, view: tuple[Any, ...] | None = None) -> _Cells:
        """The cells of a grid, made at the first call."""
        view = view or self._view()
        if view not in self._grids:
            count = self._tracer.corrupted.scores.size
            self._grids[view] = _Cells(np.full((count, *self._shape(view[0])), np.nan))
        return self._grids[view]

    def _trace_of(self, tracer: Tracer, view: tuple[Any, ...], samples: NDArray[np.float64]) -> Trace:
        block, site, direction, window = view
        return tracer.as_trace(samples.copy(), block, site, None, window, direction)

    def _show_grid(self) -> None:
        self.grid = figure.grid(self.trace, self.generation)

    def _report_cells(self, request: int, cells: Sequence[CellIndex], view: tuple[Any, ...]) -> None:
        values = figure.cell_values(self._trace_of(self._tracer, view, self._cells(view).samples))
        layers, positions = zip(*cells, strict=True)
        content = {
            "type": "cells",
            "id": request,
            "generation": self.generation,
            "block": view[0],
            "site": view[1],
            "cells": list(cells),
        }
        self._say(content, [np.ascontiguousarray(values[:, list(layers), list(positions)]).tobytes()])

    def _say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self.send(content, buffers)

    def _refuse(self, error: BaseException) -> None:
        """Show an error in place."""
        with self._lock:
            text = str(error) or type(error).__name__
            known = isinstance(error, (ValueError, TypeError, OSError, traitlets.TraitError))
            self.error = text if known else f"{type(error).__name__}: {text}"

    def _mute(self, **values: Any) -> None:
        """Set traits without acting on them."""
        self._muted = True
        try:
            for name, value in values.items():
                setattr(self, name, value)
        finally:
            self._muted = False


def _inputs_of(tracer: Tracer) -> dict[str, Any]:
    """The input traits that a tracer stands for."""
    noise = tracer.corruption
    assert isinstance(noise, GaussianNoise)
    return {
        "question": tracer.question,
        "noise": noise.factor,
        "kind": noise.kind,
        "samples": noise.samples,
        "seed": noise.seed,
        "metric": tracer.metric.name,
    }


def _key(cell: Cell) -> CellIndex:
    return cell.layer, cell.position


def _computed(samples: NDArray[np.float64]) -> set[CellIndex]:
    """The cells that are there."""
    return {(int(layer), int(position)) for layer, position in np.argwhere(~np.isnan(samples[0]))}



