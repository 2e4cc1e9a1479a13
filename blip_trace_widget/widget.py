"""TraceWidget: how it is made, what Python and the page may do with it, and what it is saved as.

For: the two doors to a figure. Inputs that change are `blip_trace_widget.asking`'s.
Cost: a handler returns in under a millisecond; all that touches the model runs on the model's worker.
Ends: here is no mathematics and no order of work; see `blip_trace_widget.conductor`.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from ipywidgets import DOMWidget
from numpy.typing import NDArray

from blip_trace_widget import drawing, export, figure, protocol, recording
from blip_trace_widget.asking import ASKED, Asking
from blip_trace_widget.conductor import Conductor
from blip_trace_widget.corruption import ImageSwap
from blip_trace_widget.demo import examples
from blip_trace_widget.drawing import raster, words
from blip_trace_widget.grids import CellIndex
from blip_trace_widget.history import History
from blip_trace_widget.maps import HeadTrace
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.model import BlipVqa
from blip_trace_widget.model_of import as_model
from blip_trace_widget.overlay import EFFECTS, square_for
from blip_trace_widget.page import page
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.playback import Player
from blip_trace_widget.results import Trace
from blip_trace_widget.scene import Scene
from blip_trace_widget.sites import BLOCKS, one_of, whole_number
from blip_trace_widget.tracer import Tracer
from blip_trace_widget.worker import on_worker

if TYPE_CHECKING:
    from blip_trace_widget.dataset.alignment import Roles
    from blip_trace_widget.dataset.traced import DatasetTrace
    from blip_trace_widget.dataset.widget import DatasetWidget

#: The traits that are the host's.
HOSTS = {*DOMWidget.class_trait_names(sync=True), "_esm", "_css", "_anywidget_id"}
#: The traits that results change.
SHOWN = ("setup", "picture_map", "runs", "grid", "grids", "detail", "pinned", "curve", "generation")
#: How long a still picture waits for what is being computed, and how large it may be.
STILL_SECONDS, STILL_BYTES = 0.5, 150_000
#: What to do about it that the widget itself is not there.
KEEP = (
    "To keep the widget in a saved notebook, turn on Settings, Save Widget State Automatically in JupyterLab; "
    "to bring it back, run the cell again."
)

_STATIC = files("blip_trace_widget") / "static"


class TraceWidget(Asking):
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
        self._known = {}
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
        self._listen()
        self._conductor.begin()

    def __repr__(self) -> str:
        return f"TraceWidget({self.question!r})"

    # --- what Python may ask -----------------------------------------------------------------------------------------

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
        still = self._drawn("light", thumbnail=True, note=KEEP)
        if len(still) <= STILL_BYTES:
            data["image/svg+xml"] = still
            drawn = raster.png(still)
            for kind, made in (("image/png", drawn), ("application/pdf", raster.pdf(drawn))):
                data[kind] = base64.b64encode(made).decode("ascii")
        data["text/plain"] = f"{self._said()}\n{KEEP}"
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

    def _drawn(self, theme: str, *, thumbnail: bool = False, note: str = "") -> str:
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
                note=note,
            )


def _picture_in(buffers: Sequence[Any] | None) -> bytes:
    if not buffers or len(buffers) != 1 or not 0 < len(buffers[0]) <= protocol.MAX_IMAGE_BYTES:
        raise ValueError(f"image: expected one picture file of at most {protocol.MAX_IMAGE_BYTES >> 20} MB")
    return bytes(buffers[0])
