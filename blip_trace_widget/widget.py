"""TraceWidget: from what changes to what is asked of the conductor, and back to the traits.

For: wiring. A trait that is set here or there, and a message of the front end, become one request.
Cost: a handler returns in under a millisecond; all that touches the model runs on the model's worker.
Ends: here is no mathematics and no order of work; see `blip_trace_widget.conductor`. What a trait accepts is
`blip_trace_widget.controls`'.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from anywidget import AnyWidget
from ipywidgets import DOMWidget
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget import drawing, export, figure, protocol, recording
from blip_trace_widget.conductor import Conductor
from blip_trace_widget.controls import DAMAGE, VIEW, Controls
from blip_trace_widget.corruption import ImageSwap
from blip_trace_widget.demo import examples
from blip_trace_widget.drawing import raster, words
from blip_trace_widget.grids import CellIndex, Chosen
from blip_trace_widget.history import History
from blip_trace_widget.maps import HeadTrace
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.model import BlipVqa, ImageLike, as_image
from blip_trace_widget.model_of import as_model
from blip_trace_widget.observers import Observers
from blip_trace_widget.overlay import EFFECTS, square_for
from blip_trace_widget.page import page
from blip_trace_widget.playback import CLOSED, Player
from blip_trace_widget.results import Trace
from blip_trace_widget.scene import Scene
from blip_trace_widget.sites import BLOCKS, one_of, whole_number
from blip_trace_widget.tracer import Tracer
from blip_trace_widget.worker import on_worker

if TYPE_CHECKING:
    from blip_trace_widget.dataset.alignment import Roles
    from blip_trace_widget.dataset.traced import DatasetTrace
    from blip_trace_widget.dataset.widget import DatasetWidget

#: What is patched: cells of the grid, or patches of the picture; choosing one lets the other go.
SELECTED = ("selection", "patches")
#: The traits that are taken back together with what is no trait: the pictures, a given answer.
ASKED = ("question", "foil", "metric", "example", *SELECTED, *DAMAGE, *VIEW)

#: The tracer's arguments that traits stand for; those that are not named here make up its corruption.
ARGUMENTS = {"question": "question", "foil": "foil", "metric": "metric"}

#: Those that are typed: what was refused is named.
TEXTS = ("question", "foil", "other_question")

#: The traits that are the host's.
HOSTS = {*DOMWidget.class_trait_names(sync=True), "_esm", "_css", "_anywidget_id"}
#: The traits that results change.
SHOWN = ("setup", "picture_map", "runs", "grid", "grids", "detail", "pinned", "curve", "generation")
#: Those of them that are results: after one, an observer's exception is over.
RESULTS = {"runs", "grid", "detail", "picture_map"}
#: How long a still picture waits for what is being computed, and how large it may be.
STILL_SECONDS, STILL_BYTES = 0.5, 150_000

_STATIC = files("blip_trace_widget") / "static"


class TraceWidget(Controls):
    """Causal tracing of one image and question, by hand.

    Args:
        image: see `blip_trace_widget.Tracer`; default the built-in example.
        question: the question.
        model: a `BlipVqa`, a hub id or a folder; default the built-in model.
        keywords: `answer`, `foil`, `corruption` and `metric` as in `blip_trace_widget.Tracer`.

    Its traits may be observed and linked, and those of `blip_trace_widget.controls.Controls` set; the help of each says
    what it accepts. `image`, `answer` and `model` may be set too.

    Raises:
        TypeError, ValueError, OSError: naming the argument, what was given and what is accepted.
    """

    # Strings, not paths: with a path anywidget keeps every instance alive.
    _esm = (_STATIC / "widget.js").read_text("utf-8")
    _css = (_STATIC / "widget.css").read_text("utf-8")

    # Set by the kernel alone; the shapes are those of `blip_trace_widget.protocol`.
    look = traitlets.Dict(help="Colours and words of the front end.").tag(sync=True, result=True)
    setup = traitlets.Dict(help="What the model and the inputs are, and what may be chosen.").tag(
        sync=True, result=True
    )
    picture = traitlets.Bytes(b"", help="The picture as JPEG.").tag(sync=True, result=True)
    picture_map = traitlets.Dict(help="What lies over the picture.").tag(sync=True, result=True)
    other_picture = traitlets.Bytes(b"", help="The picture of ImageSwap as JPEG.").tag(sync=True, result=True)
    runs = traitlets.Dict(help="The clean and the corrupted run, and the total effect.").tag(sync=True, result=True)
    grid = traitlets.Dict(help="The grid in view; NaN where it is not computed.").tag(sync=True, result=True)
    grids: traitlets.List[Any] = traitlets.List(help="The other grids that are computed for these inputs.").tag(
        sync=True, result=True
    )
    detail = traitlets.Dict(help="The patched run of what is selected.").tag(sync=True, result=True)
    pinned = traitlets.Dict(help="The patched run that was pinned.").tag(sync=True, result=True)
    curve = traitlets.Dict(help="The noise curve.").tag(sync=True, result=True)
    steps = traitlets.Dict({"undo": False, "redo": False}, help="Whether there is something to undo, to redo.").tag(
        sync=True, result=True
    )
    generation = traitlets.Int(0, help="Counts the inputs; results say of which they are.").tag(sync=True, result=True)
    heads = traitlets.Dict(help='How far `head_map` is: ``{"done": 12, "total": 96}``.').tag(result=True)

    #: Whether it was closed.
    _gone = False
    _internal = ("show_traits", "together", "say", "go_back", "set_state", "instead")

    def __init__(
        self,
        image: ImageLike | None = None,
        question: str | None = None,
        *,
        model: BlipVqa | str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> None:
        if (image is None) != (question is None):
            raise ValueError("image, question: give both, or neither for the built-in example")
        unknown = set(keywords) - {"answer", "foil", "corruption", "metric"}
        if unknown:
            name = min(unknown)
            raise TypeError(
                f"TraceWidget: unknown argument {name!r}, accepted are image, question, model, answer, foil, "
                "corruption, metric"
                + (f"; {name} is a trait, set it afterwards: widget.{name} = …" if self.has_trait(name) else "")
            )
        model = BlipVqa.demo() if model is None else as_model(model)
        chosen = -1
        if image is None or question is None:
            chosen = 0
            image, question = examples()[chosen].image, examples()[chosen].question
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        self._start(Tracer(model, image, question, **keywords), chosen, path)

    @classmethod
    def from_tracer(cls, tracer: Tracer) -> TraceWidget:
        """A widget that goes on from a tracer; shares all that it has computed.

        Raises:
            TypeError: if it is no tracer.
            ValueError: if its corruption or metric is of one's own, or has more than 200 samples, which the
                front end could not show.
        """
        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracer: expected Tracer, got {type(tracer).__name__}")
        widget = cls.__new__(cls)
        widget._start(tracer)
        return widget

    @classmethod
    def from_trace(cls, trace: Trace | Sequence[Trace] | str | os.PathLike[str]) -> TraceWidget:
        """A widget that shows what was recorded, without a model.

        Cells that were recorded can be clicked; blocks, sites and noise factors that were recorded can be chosen. What
        was not is not computed, and nothing else can be asked.

        Args:
            trace: what `Tracer.trace` gave, or several of one question; or the path of what `Trace.save` or
                `Tracer.record` wrote.

        Raises:
            OSError: if the file cannot be opened.
            TypeError, ValueError: if it is damaged, of another kind or of a newer format, if a trace has no scene
                (`Trace.scene`), or if the traces are not of one picture and question.
        """
        path = os.fspath(trace) if isinstance(trace, (str, os.PathLike)) else None
        if isinstance(trace, (str, os.PathLike)):
            traces: Sequence[Trace] = recording.load(trace)
        else:
            traces = [trace] if isinstance(trace, Trace) else list(trace)
        widget = cls.__new__(cls)
        player = Player(traces, widget)
        widget._begin(player.tracer, player, path=path, scene=player.tracer.scene)
        return widget

    @staticmethod
    def from_dataset(folder: DatasetTrace | str | os.PathLike[str], align: str | Roles | None = None) -> DatasetWidget:
        """A widget that shows a traced data set, without a model: the average grid, and beside it the samples.

        Args:
            folder: what `trace_dataset` wrote, or the `DatasetTrace` that it gave (or a selection of it).
            align: how different questions are brought together, see `DatasetTrace.mean`; default ``"exact"`` where all
                have one length, else ``"ends"``.

        Raises:
            OSError: if there is no such folder.
            TypeError, ValueError: if it is none of ours, damaged, or no sample in it was traced.
            ImportError: if the extra ``data`` is not installed.
        """
        from blip_trace_widget.dataset.widget import DatasetWidget

        return DatasetWidget(folder, align)

    def _start(self, tracer: Tracer, example: int = -1, path: str | None = None) -> None:
        kind = type(tracer.corruption).__name__
        if kind not in figure.CULPRITS:
            raise ValueError(f"corruption: the widget needs one of {list(figure.CULPRITS)}, got {kind}")
        if METRICS.get(tracer.metric.name) is not tracer.metric.score:
            raise ValueError(f"metric: the widget needs one of {list(METRICS)}, got {tracer.metric.name!r}")
        self._begin(tracer, Conductor(tracer, self, square=square_for(tracer.model.grid)), example, path)

    def _begin(
        self,
        tracer: Any,
        conductor: Conductor | Player,
        example: int = -1,
        path: str | None = None,
        scene: Scene | None = None,
    ) -> None:
        #: What the session was asked, or shows, of each trait that is acted on: another value is somebody's wish.
        self._known: dict[str, Any] = {}
        self._blamed = ""
        square = square_for(tracer.model.grid)
        self._conductor = conductor
        self._observers.lock = conductor.lock
        conductor.lock.then = self._observers.settle
        self._path = path
        self._image, self._answer = tracer.image, tracer.given["answer"]
        self._start_from(tracer)
        if scene is not None:
            picture, other = scene.picture, scene.other_picture
        else:
            picture = figure.picture(tracer.image)
            other = figure.picture(self._swap.image) if self._swap else b""
        self.show_traits(look=figure.look(), picture=picture, other_picture=other)  # part of the first message
        super().__init__()
        self.show_traits(
            **figure.asked(tracer), **conductor.view._asdict(), example=example, square=square
        )  # one by one: a metric may need the foil before it
        self._known |= {name: getattr(self, name) for name in (*ASKED, "overlay", "square")}
        self._history = History(self._asked())
        self.on_msg(self._on_message)
        self._act_on(["question"], self._on_question)
        self._act_on(["example"], self._on_example)
        self._act_on(["metric", "foil"], self._on_scoring)
        self._act_on(DAMAGE, self._on_damage)
        self._act_on(VIEW, self._on_view)
        self._act_on(SELECTED, self._on_selection)
        self._act_on(["overlay", "square"], self._on_overlay)
        self._conductor.begin()

    def __repr__(self) -> str:
        return f"TraceWidget({self.question!r})"

    @property
    def _closed(self) -> str:  # type: ignore[override]
        return CLOSED if isinstance(self._conductor, Player) else ""

    # --- inputs that are no traits -----------------------------------------------------------------------------------

    @property
    def model(self) -> BlipVqa:
        """The model. Another one (a `BlipVqa`, a hub id or a folder) keeps what fits it, and says what it does not."""
        return self.tracer.model

    @model.setter
    def model(self, model: BlipVqa | str | os.PathLike[str]) -> None:
        self._needs_model("model")
        given = as_model(model)
        with self._conductor.lock:
            if given is not self.model:
                self._use_model(given)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB; may be set to whatever `Tracer` takes."""
        return self._image

    @image.setter
    def image(self, image: ImageLike) -> None:
        self._needs_model("image")
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        self._change_subject(image=as_image(image), path=path)

    @property
    def answer(self) -> str:
        """The answer that is scored: the given one, else the model's own. None lets a given one go."""
        return self.tracer.answer if self._answer is None else self._answer

    @answer.setter
    def answer(self, answer: str | None) -> None:
        self._needs_model("answer")
        if answer is not None:
            self.model.answer_ids("answer", answer)
        with self._conductor.lock:
            self._answer = answer
            self._conductor.change(answer=answer)
            self._remember()

    def _needs_model(self, name: str) -> None:
        self._needs_open()
        if self._closed:
            raise ValueError(f"{name}: {self._closed}")

    def _needs_open(self) -> None:
        if self._gone:
            raise RuntimeError(
                f"this {type(self).__name__} was closed; {self.instead}"
                if not self._closed
                else f"this {type(self).__name__} was closed; load what it showed again"
            )

    def _use_model(self, model: BlipVqa) -> None:
        """Go on with another model, and let go what it cannot take."""
        asked = len(model.question_ids(self.question))  # refused before anything changes
        dropped = []
        if self._answer is not None and not _taken(lambda: model.answer_ids("answer", self._answer or "")):
            self._answer = None
            dropped.append("answer")
        foil, metric = self.foil, self.metric
        if foil and not _taken(lambda: model.answer_ids("foil", foil)):
            foil = ""
            dropped.append("foil")
        grid, before = model.grid, self._conductor
        region = self.region
        if region is not None and grid != self.model.grid:
            region = None
            dropped.append("region")
        other = self.other_question
        if self.corruption == "QuestionSwap" and not _taken(lambda: len(model.question_ids(other)) == asked):
            other = self.question
            dropped.append("other_question")
        assert isinstance(before, Conductor)
        damage = figure.corruption(
            {name: getattr(self, name) for name in DAMAGE} | {"region": region, "other_question": other}, self._swapped
        )
        square = min(self.square, max(grid))
        tracer = Tracer(model, self._image, self.question, answer=self._answer, corruption=damage)
        cells, patches = list(self.selection), list(self.patches)
        layers = {name: len(block.layers) for name, block in model.blocks.items()}
        if any(layer >= layers[self.block] for layer, _ in cells):
            cells = []
            dropped.append("selection")
        if any(row >= grid[0] or column >= grid[1] for row, column in patches):
            patches = []
            dropped.append("patches")
        after = Conductor(tracer, self, before.view, square, before)
        before.close()
        with self.together():
            self._conductor = after
            nothing: dict[str, Any] = {
                name: {} for name in ("runs", "grid", "detail", "pinned", "curve", "picture_map")
            }
            self.show_traits(**nothing, grids=[], heads={}, generation=after.generation, selection=[], patches=[])
            self.show_traits(**figure.asked(tracer), square=square, example=self.example if model.built_in else -1)
            view = self._fitting(self._view())
            self.show_traits(**view._asdict())
            after.look_at(view)
            self.show_traits(selection=cells, patches=patches)
            self._select()
            after.painter.choose(self.overlay, self.square)
            after.begin()
            if foil:  # of as many tokens as the answer? that is known once it is computed
                self.show_traits(foil=foil, metric=metric)
                after.change(foil=foil, metric=metric)
            self._history = History(self._asked())
            self._show_steps()
            if dropped:
                self.show_traits(error=f"model: {', '.join(dropped)} did not fit {model.name} and was let go")

    # --- what Python may ask -----------------------------------------------------------------------------------------

    @property
    def tracer(self) -> Tracer:
        """The tracer of what is shown; after a change of inputs the new one is there once it is computed (`wait`)."""
        return self._conductor.tracer

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far; NaN in the other cells."""
        return self._conductor.trace

    @property
    def code(self) -> str:
        """Python that computes what is shown again: the grid in view and the patched run of the selected cells.

        Of a recording: that shows it again.
        """
        if isinstance(self._conductor, Player):
            return export.playback(self._path)
        with self._conductor.lock:
            tracer, view, chosen = self.tracer, self._view(), self._chosen()
            picture_map = (EFFECTS[self.overlay], self.square) if self.overlay in EFFECTS else None
        image = None if self._path is None else export.literal(self._path)
        return export.python(tracer, view, chosen, image, picture_map)

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block as computed so far, with the site, head, direction and window in view.

        Returns:
            None where that block cannot be traced now or has no such site, and before the two runs are computed.

        Raises:
            ValueError: if there is no such block.
        """
        return self._conductor.trace_of(one_of("block", block, BLOCKS))

    @property
    def head_map(self) -> HeadTrace | None:
        """The heads of the block and site in view as computed so far (`trace_heads`); None where it has no heads."""
        with self._conductor.lock:
            return self._conductor.heads.trace

    def trace_all(self) -> None:
        """Fill the grid in view, in the background."""
        self._needs_open()
        self._conductor.trace_all()

    def trace_heads(self) -> None:
        """Fill `head_map`, in the background; the trait `heads` says how far it is."""
        self._needs_open()
        with self._conductor.lock:
            self._conductor.heads.fill()

    def stop(self) -> None:
        """Stop filling the grid, the map over the picture and the map of heads; what is computed stays."""
        self._needs_open()
        with self._conductor.lock:
            self._conductor.stop()
            self._conductor.painter.stop()
            self._conductor.heads.stop()

    def panel(self) -> Any:
        """The widget with charts beside it, linked in both directions: an ipywidgets layout. Needs bqplot.

        The noise curve with a marker to drag, the profile over layers, the answers of the three runs, the map of heads.

        Raises:
            ImportError: if bqplot is not installed.
            RuntimeError: in marimo, which cannot show bqplot.
        """
        self._needs_open()
        from blip_trace_widget import charts

        return charts.panel(self)

    def undo(self) -> None:
        """Take back what was asked last; nothing happens where there is nothing to take back."""
        self._needs_open()
        self._step(back=True)

    def redo(self) -> None:
        """Ask again what was taken back."""
        self._needs_open()
        self._step(back=False)

    def pin(self, on: bool = True) -> None:
        """Keep the patched run of the selected cells beside the next ones, or let it go."""
        self._needs_open()
        self._conductor.pin(on)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the figure as a web page of one file, which needs no kernel and no network.

        All grids that are computed for the inputs on show can be looked at in it; of a recording, all that is recorded.
        Where nothing of the grid in view is computed, it is traced first.

        Raises:
            TypeError: if the path is none.
            OSError: if the file cannot be written.
        """
        self._needs_open()
        self._trace_first()
        export.write(path, lambda: self._content("html", "light"))

    def export(self, path: str | os.PathLike[str], theme: str = "light") -> None:
        """Write what is shown, in the format that the path ends with; traced first where nothing of it is computed.

        Args:
            path: ends with ``.svg``, ``.png``, ``.pdf`` (the figure), ``.html`` (a page, as `save_html`), ``.csv`` or
                ``.json`` (the computed cells of the grid in view).
            theme: of the figure, ``"light"`` or ``"dark"``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            ImportError: for PNG and PDF, if the extra ``export`` is not installed.
            OSError: if the file cannot be written.
        """
        self._needs_open()
        one_of("theme", theme, drawing.THEMES)
        name = export.format_of(path)
        self._trace_first()
        export.write(path, lambda: self._content(name, theme))

    def _trace_first(self) -> None:
        """A figure of nothing is no figure: where no cell of the grid in view is there, the grid is filled."""
        conductor = self._conductor
        if isinstance(conductor, Conductor) and not on_worker():
            self.wait()
            if not conductor.computed:
                self.trace_all()
                self.wait()

    def wait(self, timeout: float | None = None) -> None:
        """Block until all that was asked so far is computed, shown, and said to whoever keeps the widget's state.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        self._needs_open()
        started = time.monotonic()
        while True:
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
            if not self._conductor.wait(left):
                raise TimeoutError(f"the widget was still computing after {timeout} s")
            if not self._observers.waiting:
                break
            self._observers.deliver()  # they may ask for more
        with self._conductor.lock:  # programs that run a notebook and keep its widgets hear only what a cell says
            self.send_state(SHOWN)

    def close(self) -> None:
        """Drop all work and leave the page."""
        if "_conductor" in self.__dict__:  # not where the constructor refused its arguments
            self._conductor.close()
            self._observers.forget()
        super().close()
        self._gone = True

    # --- observers ---------------------------------------------------------------------------------------------------

    def observe(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002
        """Call a function when traits change, see `traitlets.HasTraits.observe`.

        It may set what it likes. Of results it is told where its output goes to the cell that registered it. An
        exception of it is shown, and changes nothing here.
        """
        super().observe(handler if _of_the_house(handler) else self._observers.of(handler, self), names, type)

    def unobserve(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002
        """Call a function no more, see `traitlets.HasTraits.unobserve`."""
        super().unobserve(handler if _of_the_house(handler) else self._observers.of(handler, self), names, type)
        self._observers.forget(handler)

    def _follow(self, handler: Callable[[Any], None], names: Sequence[str]) -> None:
        """Call a function of ours at once, under the lock, on the thread that changes a trait."""
        super().observe(handler, list(names))

    def _unfollow(self, handler: Callable[[Any], None], names: Sequence[str]) -> None:
        super().unobserve(handler, list(names))

    def _act_on(self, names: Sequence[str], act: Callable[[str], None]) -> None:
        """Do what is asked where a trait says something else than what is known; by whom and when it was set is one."""

        def changed(change: Any) -> None:
            name = change["name"]
            with self._conductor.lock:
                value = getattr(self, name)
                if _plain(value) != _plain(self._known.get(name)):
                    self._needs_open()
                    self._known[name] = value
                    act(name)

        self._follow(changed, names)

    @property
    def _observers(self) -> Observers:
        """Users' functions; made when it is first asked for, which a subclass may do before there is anything else."""
        if "_told" not in self.__dict__:
            self._told = Observers(self._call_page, self._blame)
        return self._told

    def _call_page(self) -> None:
        self.say({"type": "call", "id": 0, "generation": self.generation})

    def _blame(self, handler: Any, change: Any, error: Exception) -> None:
        """Say that a user's function failed, until the next result."""
        name = getattr(handler, "__qualname__", None) or repr(handler)
        with self._conductor.lock:
            if change["name"] == "error" or self.error not in ("", self._blamed):
                return
            self._blamed = (
                f"{name}, a function of your own that observes {change['name']!r}, raised {type(error).__name__}: "
                f"{error}. Its traceback is in the cell's output or in the log; the figure is as it was."
            )
            self.show_traits(error=self._blamed)

    # --- what the front end asks -------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits from the front end; refuse one by one, in words, and send the last good value back."""
        with self._conductor.lock:
            for name, value in sync_data.items():
                try:
                    if name in self.trait_names(result=True):
                        raise ValueError(f"{name}: only the kernel sets it")
                    super().set_state({name: value})
                except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
                    self.error = figure.complaint(error)
                    self.send_state(name)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any] | None) -> None:
        try:
            request = protocol.parse_request(content)
            self.say({"type": "taken", "id": request["id"], "generation": self.generation})
            if request["type"] == "patch":
                self._patch(request["cells"], request["id"])
            elif request["type"] == "trace":
                self._conductor.trace_all(request["id"])
            elif request["type"] == "stop":
                self._conductor.stop()
            elif request["type"] == "paint":
                self._paint(on=request["on"])
            elif request["type"] == "confine":
                self.region = self._confined(request["to"])
            elif request["type"] == "attend":
                self._attend(request["layer"], request["id"])
            elif request["type"] == "image":
                content = _picture_in(buffers)
                self._conductor.later(lambda: self._change_subject(image=as_image(content)), "picture")
            elif request["type"] == "other_image":
                content = _picture_in(buffers)
                self._conductor.later(lambda: self._use_other(ImageSwap(content)), "other picture")
            elif request["type"] == "pin":
                self._conductor.pin(request["on"])
            elif request["type"] == "step":
                self._step(back=request["back"])
            elif request["type"] == "look":
                self._conductor.look(request["first"], request["last"])
            elif request["type"] == "export":
                self._export(request)
            elif request["type"] == "called":
                self._observers.deliver()
        except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
            self.show_traits(error=figure.complaint(error))

    def _patch(self, cells: Sequence[CellIndex], request: int) -> None:
        with self._conductor.lock:
            self.show_traits(selection=list(cells), patches=[])
            self._conductor.select(self.selection, request)
            self._remember()

    def _paint(self, *, on: bool) -> None:
        painter = self._conductor.painter
        with self._conductor.lock:
            if on:
                painter.go_on()
            else:
                painter.stop()

    def _marked(self) -> list[CellIndex]:
        """The patches that are selected, (row, column): of the picture, or in the image encoder's grid."""
        if self.block != "image_encoder" or self.patches:
            return list(self.patches)
        # Position 0 is the class token, which is no part of the picture.
        columns = self.tracer.model.grid[1]
        return [divmod(position - 1, columns) for _, position in self.selection if position]

    def _confined(self, to: str) -> NDArray[np.bool_] | None:
        """The region that is damaged: the patches that are marked, the others, or all."""
        mask = np.zeros(self.tracer.model.grid, dtype=bool)
        with self._conductor.lock:
            for place in self._marked():
                mask[place] = True
        return {"marked": mask, "others": ~mask, "all": None}[to]

    def _attend(self, layer: int, request: int) -> None:
        whole_number("layer", layer, 0, len(self.tracer.model.question_encoder.layers) - 1)
        with self._conductor.lock:
            self._conductor.painter.attend(layer, request)

    def _export(self, request: protocol.ExportRequest) -> None:
        name = request["format"]
        file, media = export.FILES[name]

        def make() -> None:
            made = self._content(name, request["theme"])
            content = made if isinstance(made, bytes) else made.encode()
            said = {"type": "exported", "id": request["id"], "generation": self.generation, "format": name}
            self.say({**said, "name": file, "media": media}, [content])

        self._conductor.later(make)

    def _content(self, name: str, theme: str) -> str | bytes:
        """What is shown, in one of the formats that `export` and the front end know."""
        with self._conductor.lock:
            cells = list(self.selection)
        makers: dict[str, Callable[[], str | bytes]] = {
            "svg": lambda: self._drawn(theme),
            "png": lambda: export.png(self._drawn(theme)),
            "pdf": lambda: export.pdf(self._drawn(theme)),
            "html": self._page,
            "csv": lambda: export.csv(self.trace),
            "json": lambda: export.json_text(self.trace),
            "picture": lambda: export.picture(self._image),
            "other": lambda: export.picture(self._swapped().image),
            "python": lambda: self.code,
            "cells": lambda: export.cells_text(self.trace, cells),
        }
        return makers[name]()

    def _page(self) -> str:
        picture, traces = self._drawn("light", thumbnail=True), self._conductor.traces
        with self._conductor.lock:
            traits = {name: getattr(self, name) for name in self.keys if name not in HOSTS}
        return page(traits, traces, picture, self._esm, self._css)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """With a still picture and words for where no widget can be drawn: previews of notebooks, terminals."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None:
            return None
        data, metadata = bundle
        self._conductor.wait(STILL_SECONDS)
        still = self._drawn("light", thumbnail=True)
        if len(still) <= STILL_BYTES:
            data["image/svg+xml"] = still
            drawn = raster.png(still)
            for kind, made in (("image/png", drawn), ("application/pdf", raster.pdf(drawn))):
                data[kind] = base64.b64encode(made).decode("ascii")
        data["text/plain"] = self._said()
        return data, metadata

    def _said(self) -> str:
        """What the figure says, in a few lines."""
        with self._conductor.lock:
            runs, lines = self.runs, [repr(self)]
        if runs:
            clean, corrupted = (words.score(runs["metric"], runs[name]["score"]) for name in ("clean", "corrupted"))
            lines += [
                f"{runs['clean']['answer']}: clean {clean}, with {runs['damage']} {corrupted}; {runs['gate']['text']}"
            ]
        return "\n".join(lines)

    def _drawn(self, theme: str, *, thumbnail: bool = False) -> str:
        shown = ("runs", "grid", "detail", "question", "show", "limit", "axes", "direction", "window")
        with self._conductor.lock:
            return drawing.svg(
                **{name: getattr(self, name) for name in shown},
                picture=figure.thumbnail(self.picture) if thumbnail else self.picture,
                settings_line=self.runs.get("line", ""),
                marks=drawing.Marks(
                    self.picture_map, self.opacity, self.tracer.model.grid, self._marked(), self.region
                ),
                theme=theme,
            )

    # --- what changes ------------------------------------------------------------------------------------------------

    def _change_subject(self, example: int = -1, path: str | None = None, **changes: Any) -> None:
        """Another image or question, which has an answer of its own; a foil was for the old one."""
        with self._conductor.lock:
            self.show_traits(example=example, foil="")
            if self.metric == "logit_difference":
                self.show_traits(metric="probability")
                changes["metric"] = "probability"
            self._answer = None
            self._image = changes.get("image", self._image)
            if "image" in changes:  # what was marked on the old picture means nothing on the new one
                self._path = path
                self.show_traits(patches=[], region=None)
                if self.block == "image_encoder":  # its cells are parts of the picture
                    self.show_traits(selection=[])
                if self._swap is not None and self._swap is self._chance_swap:
                    self._swap = None
                    self.show_traits(other_picture=b"")
            if "question" in changes:  # its tokens are others
                self.show_traits(selection=[])
            self._select()
            self._conductor.change(answer=None, foil=None, corruption=self._asked_damage(), **changes)
            self._remember()

    def _use_other(self, swap: ImageSwap) -> None:
        shown = figure.picture(swap.image)
        with self._conductor.lock:
            self._swap = swap
            self.show_traits(other_picture=shown, corruption="ImageSwap")
            self._conductor.change(corruption=self._asked_damage())
            self._remember()

    def _asked_damage(self) -> Any:
        """The corruption that the traits ask for; another question must have as many tokens as this one."""
        model = self.tracer.model
        if self.corruption == "QuestionSwap":
            other = model.question_ids(self.other_question) if self.other_question else []
            if len(other) != len(model.question_ids(self.question)):
                self.show_traits(other_question=self.question)
        elif self.corruption == "ImageSwap" and not self.other_picture:
            self.show_traits(other_picture=figure.picture(self._swapped().image))
        return self._damage()

    def _on_question(self, _name: str) -> None:
        self._change_subject(question=self.question)

    def _on_example(self, _name: str) -> None:
        if self.example >= 0:
            chosen = examples()[self.example]
            self.show_traits(question=chosen.question)
            self._change_subject(self.example, image=chosen.image, question=chosen.question)

    def _on_scoring(self, name: str) -> None:
        changes: dict[str, Any] = {"metric": self.metric} if name == "metric" else {"foil": self.foil or None}
        if not self.foil and self.metric == "logit_difference":
            changes["metric"] = "probability"
            self.show_traits(metric="probability")
        self._conductor.change(**changes)
        self._remember()

    def _on_damage(self, name: str) -> None:
        damage = self._asked_damage() if name == "corruption" else self._damage()
        view = self._fitting(self._view())
        if view != self._view():
            self.show_traits(**view._asdict())
            self._conductor.look_at(view)
        self._conductor.change(corruption=damage)
        self._remember("noise" if name == "noise" else None)  # the slider is moved, the rest is set

    def _on_view(self, _name: str) -> None:
        view = self._fitting(self._view())
        self.show_traits(**view._asdict())
        self._conductor.look_at(view)
        self._remember()

    def _on_selection(self, name: str) -> None:
        if getattr(self, name):
            self.show_traits(**{other: [] for other in SELECTED if other != name})
        self._select()
        self._remember()

    def _on_overlay(self, _name: str) -> None:
        self._conductor.painter.choose(self.overlay, self.square)

    def _chosen(self) -> Chosen:
        return Chosen(tuple(self.selection), tuple(self.patches))

    def _select(self) -> None:
        """Patch what the traits say is selected."""
        if self.patches:
            self._conductor.select_patches(self.patches)
        else:
            self._conductor.select(self.selection)

    # --- undo and redo -----------------------------------------------------------------------------------------------

    def _asked(self) -> dict[str, Any]:
        """All that was asked, the pictures too."""
        return {
            **{name: getattr(self, name) for name in ASKED},
            "image": self._image,
            "answer": self._answer,
            "swap": self._swap,
            "path": self._path,
        }

    def _remember(self, gesture: str | None = None) -> None:
        self._history.add(self._asked(), gesture)
        self._show_steps()

    def _show_steps(self) -> None:
        self.show_traits(steps={"undo": self._history.can_undo, "redo": self._history.can_redo})

    def _step(self, *, back: bool) -> None:
        with self._conductor.lock:
            now = self._history.present
            asked = self._history.undo() if back else self._history.redo()
            if asked is None:
                return
            self._image, self._answer, self._path = asked["image"], asked["answer"], asked["path"]
            with self.together():
                if asked["swap"] is not self._swap:
                    self._swap = asked["swap"]
                    other = b"" if self._swap is None else figure.picture(self._swap.image)
                    self.show_traits(other_picture=other)
                self.show_traits(**{name: asked[name] for name in ASKED if name not in SELECTED})
                self._show_steps()
            changed = {name for name in asked if asked[name] is not now[name] and asked[name] != now[name]}
            changes: dict[str, Any] = {
                name: asked[name] for name in ("image", "question", "answer", "metric") if name in changed
            }
            if "foil" in changed:
                changes["foil"] = asked["foil"] or None
            if changed & {*DAMAGE, "swap"}:
                changes["corruption"] = self._damage()
            if changed & set(VIEW):
                self._conductor.look_at(self._view())
            if changes:
                self._conductor.change(**changes)
            self.show_traits(**{name: asked[name] for name in SELECTED})
            self._select()

    # --- the conductor's screen --------------------------------------------------------------------------------------

    def show_traits(self, **state: Any) -> None:
        """Set traits without acting on them."""
        with self._conductor.lock:
            if self._blamed and self._blamed == self.error and not RESULTS.isdisjoint(state):
                state = {"error": ""} | state
            for name, value in state.items():
                self._known[name] = value
                self.set_trait(name, value)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is shown inside reaches the front end in one message."""
        with self._conductor.lock, self.hold_sync():
            yield

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the front end."""
        with self._conductor.lock:
            self.send(content, buffers)

    def go_back(self, tracer: Tracer, asked: Collection[str] = ()) -> None:
        """Show the inputs that a tracer stands for, but for those arguments of it that are being changed."""
        with self._conductor.lock:
            before, inputs = self._asked(), figure.asked(tracer)
            good = self._history.last(lambda step: all(step[name] == value for name, value in inputs.items()))
            swap = tracer.corruption if "corruption" not in asked else None
            if isinstance(swap, ImageSwap) and swap != self._damage():
                self._swap = swap
                self.show_traits(other_picture=figure.picture(swap.image))
            back = {name: value for name, value in inputs.items() if ARGUMENTS.get(name, "corruption") not in asked}
            if "answer" not in asked:
                self._answer = tracer.given["answer"]
            if "image" not in asked:
                self._image, self._path = tracer.image, good["path"] if good else None
            if not {"image", "question"} & set(asked):
                back["example"] = good["example"] if good else -1
            self.show_traits(**back)
            if before != (now := self._asked()):
                self._history.mend(now)
            refused = [name for name in TEXTS if before[name] != now[name] and before[name] not in self.error]
            if self.error and refused:
                said = ", ".join(f"{name} {before[name]!r}" for name in refused)
                self.show_traits(error=f"{self.error} (refused: {said})")
            self._show_steps()

    def _positions(self) -> int | None:
        return self._conductor.positions(self.block)


def _of_the_house(handler: Any) -> bool:
    """Whether it is a method of ipywidgets' or anywidget's, not of a user's subclass."""
    return isinstance(handler, traitlets.EventHandler) and issubclass(AnyWidget, handler.this_class or object)


def _taken(check: Callable[[], Any]) -> bool:
    """Whether a check lets something pass."""
    try:
        return check() is not False
    except (ValueError, TypeError):
        return False


def _plain(value: Any) -> Any:
    """A trait's value for comparing: whether pairs are lists or tuples is one."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _picture_in(buffers: Sequence[Any] | None) -> bytes:
    if not buffers or len(buffers) != 1 or not 0 < len(buffers[0]) <= protocol.MAX_IMAGE_BYTES:
        raise ValueError(f"image: expected one picture file of at most {protocol.MAX_IMAGE_BYTES >> 20} MB")
    return bytes(buffers[0])
