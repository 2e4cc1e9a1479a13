"""TraceWidget: the traits, their validation, and the messages of the front end.

For: the two doors through which one asks, Python and the front end. Inputs are traits that both sides may set; a value
that is not accepted is told in words and the last good one kept.
Cost: a handler validates and submits, under a millisecond; all that touches the model runs on the model's worker.
Ends: here is no mathematics and no order of work; see `blip_trace_widget.conductor`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from blip_trace_widget import figure, protocol
from blip_trace_widget.conductor import CellIndex, Conductor, View
from blip_trace_widget.corruption import NOISE_KINDS, GaussianNoise, checked_factor
from blip_trace_widget.demo import examples
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.model import BlipVqa, ImageLike, as_image
from blip_trace_widget.results import Trace
from blip_trace_widget.sites import SITES, TEXT_BLOCKS, one_of, whole_number
from blip_trace_widget.tracer import Tracer

SHOWS = ("recovery", "indirect_effect", "score")
NOISE = ("noise", "kind", "samples", "seed")
MAX_SAMPLES = 200

_STATIC = files("blip_trace_widget") / "static"


class Refused(traitlets.TraitError, ValueError):  # noqa: N818 - it says what happened
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


class TraceWidget(anywidget.AnyWidget):
    """Causal tracing of one image and question, by hand.

    Args:
        image: see `blip_trace_widget.Tracer`; default the built-in example.
        question: the question.
        model: a `BlipVqa`, a hub id or a folder; default the built-in model.
        keywords: `answer`, `foil`, `corruption` and `metric` as in `blip_trace_widget.Tracer`.

    Traits that may be set, observed and linked: `question`, `noise`, `metric`, `kind`, `samples`, `seed`, `block`,
    `site`, `direction`, `window`, `selection` (a list of (layer, position)), `show`, `example` (index of a built-in
    example, -1 for none).

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
    selection: traitlets.List[Any] = traitlets.List().tag(sync=True)
    show = traitlets.Unicode("recovery").tag(sync=True)
    example = traitlets.Int(-1).tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    # Set by the kernel alone; the shapes are those of `blip_trace_widget.protocol`.
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
        unknown = set(keywords) - {"answer", "foil", "corruption", "metric"}
        if unknown:
            raise TypeError(f"TraceWidget: unknown argument {min(unknown)!r}")
        if model is None:
            model = BlipVqa.demo()
        elif not isinstance(model, BlipVqa):
            model = BlipVqa.from_pretrained(model)
        chosen = -1
        if image is None or question is None:
            chosen = 0
            image, question = examples()[chosen].image, examples()[chosen].question
        self._start(Tracer(model, image, question, **keywords), chosen)

    @classmethod
    def from_tracer(cls, tracer: Tracer) -> TraceWidget:
        """A widget that goes on from a tracer; shares all that it has computed.

        Raises:
            TypeError: if it is no tracer.
            ValueError: if its metric is a callable, which the front end could not show.
        """
        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracer: expected Tracer, got {type(tracer).__name__}")
        widget = cls.__new__(cls)
        widget._start(tracer)
        return widget

    def _start(self, tracer: Tracer, example: int = -1) -> None:
        if not isinstance(tracer.corruption, GaussianNoise):
            raise ValueError(f"corruption: the widget needs GaussianNoise, got {type(tracer.corruption).__name__}")
        if METRICS.get(tracer.metric.name) is not tracer.metric.score:
            raise ValueError(f"metric: the widget needs one of {list(METRICS)}, got {tracer.metric.name!r}")
        self._thread = threading.local()  # `showing`: this thread sets traits because of a result, not of a request
        self._conductor = Conductor(tracer, self)
        super().__init__(**_inputs_of(tracer), example=example, picture=figure.picture(tracer.image))
        self.on_msg(self._on_message)
        self.observe(self._on_question, "question")
        self.observe(self._on_example, "example")
        self.observe(self._on_metric, "metric")
        self.observe(self._on_noise, list(NOISE))
        self.observe(self._on_view, list(View._fields))
        self.observe(self._on_selection, "selection")
        self._conductor.begin()

    def __repr__(self) -> str:
        return f"TraceWidget({self.question!r})"

    # --- what Python may ask -----------------------------------------------------------------------------------------

    @property
    def tracer(self) -> Tracer:
        """The tracer of what is shown; after a change of inputs the new one is there once it is computed (`wait`)."""
        return self._conductor.tracer

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far; NaN in the other cells."""
        return self._conductor.trace

    def trace_all(self) -> None:
        """Fill the grid in view, in the background."""
        self._conductor.trace_all()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        self._conductor.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Block until all that was asked so far is computed and shown.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        if not self._conductor.wait(timeout):
            raise TimeoutError(f"the widget was still computing after {timeout} s")

    def close(self) -> None:
        """Drop all work and leave the page."""
        if "_conductor" in self.__dict__:  # not where the constructor refused its arguments
            self._conductor.close()
        super().close()

    # --- what the front end asks -------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits from the front end; refuse one by one, in words, and send the last good value back."""
        with self._conductor.lock:
            for name, value in sync_data.items():
                try:
                    super().set_state({name: value})
                except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
                    self.error = figure.complaint(error)
                    self.send_state(name)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any] | None) -> None:
        try:
            request = protocol.parse_request(content)
            if request["type"] == "patch":
                self._patch(request["cells"], request["id"])
            elif request["type"] == "trace":
                self._conductor.trace_all(request["id"])
            elif request["type"] == "stop":
                self._conductor.stop()
            elif request["type"] == "image":
                self._use_picture(buffers)
        except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
            self.show_traits(error=figure.complaint(error))

    def _patch(self, cells: Sequence[CellIndex], request: int) -> None:
        with self._conductor.lock:
            self.show_traits(selection=list(cells))
            self._conductor.select([(cell[0], cell[1]) for cell in self.selection], request)

    def _use_picture(self, buffers: Sequence[Any] | None) -> None:
        if not buffers or len(buffers) != 1 or not 0 < len(buffers[0]) <= protocol.MAX_IMAGE_BYTES:
            raise ValueError(f"image: expected one picture file of at most {protocol.MAX_IMAGE_BYTES >> 20} MB")
        content = bytes(buffers[0])
        self._conductor.later("picture", lambda: self._change_subject(image=as_image(content)))

    # --- validation and reaction -------------------------------------------------------------------------------------

    @traitlets.validate("question")
    @_refusing
    def _valid_question(self, proposal: Any) -> str:
        self.tracer.model.question_ids(proposal["value"])
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
            "block": TEXT_BLOCKS,
            "site": SITES,
            "direction": ("restore", "disrupt"),
            "show": SHOWS,
        }
        if proposal["value"] == "logit_difference" and self.tracer.foil is None:
            raise ValueError("metric: 'logit_difference' needs a foil: TraceWidget(..., foil='blue')")
        return one_of(name, proposal["value"], accepted[name])

    @traitlets.validate("samples", "seed", "window")
    @_refusing
    def _valid_number(self, proposal: Any) -> int:
        name = proposal["trait"].name
        low, high = {"samples": (1, MAX_SAMPLES), "seed": (0, 2**53), "window": (1, self.tracer.model.layers)}[name]
        return whole_number(name, proposal["value"], low, high)

    @traitlets.validate("example")
    @_refusing
    def _valid_example(self, proposal: Any) -> int:
        return whole_number("example", proposal["value"], -1, len(examples()) - 1)

    @traitlets.validate("selection")
    @_refusing
    def _valid_selection(self, proposal: Any) -> list[CellIndex]:
        layers, positions = self.tracer.model.layers, self._conductor.positions(self.block)
        cells = []
        for cell in proposal["value"]:
            if not isinstance(cell, (list, tuple)) or len(cell) != 2:
                raise ValueError(f"selection: expected a list of (layer, position), got {cell!r}")
            layer = whole_number("selection (layer)", cell[0], 0, layers - 1)
            cells.append((layer, whole_number("selection (position)", cell[1], 0, positions and positions - 1)))
        return cells

    def _change_subject(self, example: int = -1, **changes: Any) -> None:
        """Another image or question, which has an answer of its own; a foil was for the old one."""
        with self._conductor.lock:
            self.show_traits(example=example)
            if self.metric == "logit_difference":
                self.show_traits(metric="probability")
                changes["metric"] = "probability"
            self._conductor.change(answer=None, foil=None, **changes)

    def _on_question(self, _change: Any) -> None:
        if not self._showing:
            self._change_subject(question=self.question)

    def _on_example(self, _change: Any) -> None:
        if not self._showing and self.example >= 0:
            chosen = examples()[self.example]
            with self._conductor.lock:
                self.show_traits(question=chosen.question)
                self._change_subject(self.example, image=chosen.image, question=chosen.question)

    def _on_metric(self, _change: Any) -> None:
        if not self._showing:
            self._conductor.change(metric=self.metric)

    def _on_noise(self, _change: Any) -> None:
        if not self._showing:
            present = self.tracer.corruption
            assert isinstance(present, GaussianNoise)
            noise = GaussianNoise(self.noise, self.kind, self.samples, self.seed, present.region)
            self._conductor.change(corruption=noise)

    def _on_view(self, _change: Any) -> None:
        self._conductor.look_at(View(self.block, self.site, self.direction, self.window))

    def _on_selection(self, _change: Any) -> None:
        if not self._showing:
            self._conductor.select([(cell[0], cell[1]) for cell in self.selection])

    # --- the conductor's screen --------------------------------------------------------------------------------------

    def show_traits(self, **state: Any) -> None:
        """Set traits without acting on them."""
        with self._conductor.lock, self._quietly():
            for name, value in state.items():
                setattr(self, name, value)

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the front end."""
        with self._conductor.lock:
            self.send(content, buffers)

    def go_back(self, tracer: Tracer) -> None:
        """Show the inputs that a tracer stands for."""
        self.show_traits(**_inputs_of(tracer), example=-1)

    @property
    def _showing(self) -> bool:
        return getattr(self._thread, "showing", False)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        before, self._thread.showing = self._showing, True
        try:
            yield
        finally:
            self._thread.showing = before


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
