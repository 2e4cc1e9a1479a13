"""FigureWidget: a figure, whether a session computes it or it is played back.

For: the Python interface of a figure, and the wiring of its traits: setting a trait or a picture changes the inputs,
which the session then shows.
Ends: before computations, their order, and torch, see `blip_trace_widget.widget.session`. `messages` handles the page's
messages, `traits` validates, and `inputs` says what changes with an input.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from PIL import Image

from blip_trace_widget.checks import one_of
from blip_trace_widget.display import export, payloads, svg
from blip_trace_widget.display.overlays import square_for
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.results.maps import HeadTrace
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.widget import code, documents, messages
from blip_trace_widget.widget.inputs import TRAITS, Picture
from blip_trace_widget.widget.replay import Replay
from blip_trace_widget.widget.trait_view import TraitView
from blip_trace_widget.widget.undo import UndoStack
from blip_trace_widget.widget.worker import on_worker

if TYPE_CHECKING:
    from blip_trace_widget.tracing.corruption import Corruption
    from blip_trace_widget.tracing.tracer import Tracer
    from blip_trace_widget.widget.session import Session

#: The traits that results set.
SHOWN = (
    "setup",
    "picture_map",
    "runs",
    "grid",
    "grids",
    "detail",
    "pinned",
    "ablation",
    "compared",
    "curve",
    "found",
    "flow",
    "generation",
)

_STATIC = files("blip_trace_widget") / "static"


class FigureWidget(TraitView):
    """A figure.

    Its traits can be observed and linked, and those of `blip_trace_widget.widget.traits.TraceTraits` set; each trait's
    help says what it accepts.
    """

    # Strings, not paths: with a path anywidget keeps every instance alive.
    _esm = (_STATIC / "widget.js").read_text("utf-8")
    _css = (_STATIC / "widget.css").read_text("utf-8")

    # Public names that are not for users; see `Surface`.
    _internal = ("show_traits", "together", "say", "choose", "show_inputs", "set_state", "instead")

    def _begin(self, session: Session | Replay) -> None:
        self._session = session
        self._observers.lock = session.lock
        session.lock.then = self._observers.settle
        inputs = session.inputs
        self._undo = UndoStack(inputs)
        self.show_traits(look=payloads.look(), picture=inputs.picture.jpeg)  # part of the first message
        super().__init__()
        self._made_layout = self.layout
        self.show_inputs(inputs)
        self.show_traits(square=square_for(self.tracer.model.grid))
        self.on_msg(self._on_message)
        self._act_on(TRAITS, self._on_input, lambda name: self._inputs.trait(name))  # noqa: PLW0108 - others each time
        self._follow(self._on_overlay, ["overlay", "square"])
        session.begin()

    def __repr__(self) -> str:
        return f"TraceWidget({self.question!r})"

    # --- the Python interface ----------------------------------------------------------------------------------------

    @property
    def tracer(self) -> Tracer:
        """The tracer that is shown; after a change of inputs, the new one is available once computed (`wait`)."""
        return self._session.tracer

    @property
    def image(self) -> Image.Image:
        """The picture, RGB; can be set to anything that `Tracer` takes.

        Raises:
            TypeError, ValueError, OSError: on setting, if it cannot be read, or the figure is a recording.
            RuntimeError: on setting, if the widget is closed.
        """
        return self._inputs.picture.image

    @image.setter
    def image(self, image: ImageLike) -> None:
        self._needs_model("image")
        self._change(picture=Picture(as_image(image), path_of(image)))

    @property
    def answer(self) -> str:
        """The scored answer: the given one, or the model's own. Set it to None to use the model's own.

        Raises:
            TypeError, ValueError: on setting, if the model cannot read it, or the figure is a recording.
            RuntimeError: on setting, if the widget is closed.
        """
        answer = self._inputs.answer
        return self.tracer.answer if answer is None else answer

    @answer.setter
    def answer(self, answer: str | None) -> None:
        self._needs_model("answer")
        if answer is not None:
            self.model.answer_ids("answer", answer)
        self._change(answer=None if answer is None else answer.strip())

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far; NaN in the other cells."""
        return self._session.trace

    @property
    def code(self) -> str:
        """Python code that computes what is shown: the grid in view and the patched run of the selected cells.

        For a recording, code that shows it again.
        """
        if isinstance(self._session, Replay):
            return code.playback(self._inputs.picture.path)
        with self._session.lock:
            tracer, inputs = self.tracer, self._inputs
            picture_map = self._session.overlay_job.picture_map
            kept, under = self._session.comparison.code, self._session.comparison.corruption
            found = self._session.found
        if under is not None and self._session.comparison.agreement(self.trace) is None:
            under = None
        image = code.literal_or_none(inputs.picture.path)
        made = code.python(tracer, inputs.spec, inputs.selected, image, picture_map, inputs.strength, under, found)
        difference = documents.shown_difference(self) if kept else None
        if difference is None:
            return made
        one, other = (
            [grid.settings["image"], grid.settings["corruption"].get("sha256")]
            for grid in (difference.first, difference.second)
        )
        return code.difference_code(kept, made, same_pictures=one == other)

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block as computed so far, with the site, head, direction and window in view.

        Returns:
            None if that block cannot be traced now or has no such site, and before the two runs are computed.

        Raises:
            TypeError, ValueError: if there is no such block.
        """
        return self._session.trace_of(one_of("block", block, BLOCKS))

    @property
    def head_map(self) -> HeadTrace | None:
        """The heads of the block and site in view as computed so far (`trace_heads`); None if it has no heads."""
        with self._session.lock:
            return self._session.heads.trace

    def trace_all(self) -> None:
        """Fill the grid in view, in the background.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        self._session.trace_all()

    def trace_heads(self) -> None:
        """Fill `head_map`, in the background; the trait `heads` has the progress.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        with self._session.lock:
            self._session.heads.fill()

    def verify(self) -> None:
        """Compute random cells of the grid in view and both base runs again, as `Tracer.verify`, in the background.

        What comes of it stands below the grid, and in ``trace.settings["verified"]``.

        Raises:
            ValueError: if nothing of the grid in view is computed; in a recording.
        """
        self._needs_open()
        self._session.verify()

    def stop(self) -> None:
        """Stop filling the grid, the map over the picture and the map of heads; computed values stay.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        with self._session.lock:
            self._session.stop()
            self._session.overlay_job.stop()
            self._session.heads.stop()

    def panel(self) -> Any:
        """The widget with charts beside it, linked in both directions: an ipywidgets layout. Needs bqplot.

        The noise curve with a marker to drag, the profile over layers, the answers of the three runs, the map of heads.

        Raises:
            ImportError: if bqplot is not installed.
            RuntimeError: in marimo, which cannot show bqplot, or if the widget is closed.
        """
        self._needs_open()
        from blip_trace_widget import charts

        return charts.panel(self)

    def undo(self) -> None:
        """Undo the last change of inputs, if there is one.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        self._undo_or_redo(back=True)

    def redo(self) -> None:
        """Redo what was undone, if there is anything.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        self._undo_or_redo(back=False)

    def pin(self, on: bool = True) -> None:
        """Pin the patched run of the selected cells beside the next ones, or unpin it.

        Raises:
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        self._session.pin(on)

    def compare(self, on: bool = True) -> None:
        """Keep the grid in view and show others as the difference from it, or stop comparing.

        The figure, `export` and copies then contain ``trace - kept`` (see `Difference`), as long as the trait
        `difference` is True and the two can be compared: same block, same tokens, same metric. Otherwise the values are
        shown, and `compared` says why. Cells that either grid lacks are NaN.

        Raises:
            ValueError: if nothing of the grid in view is computed.
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        live = on and not isinstance(self._session, Replay)
        image = code.literal_or_none(self._inputs.picture.path)
        made = code.python(self.tracer, self._inputs.spec, image=image) if live else ""
        with self._session.lock, self.together():
            if not on:
                self.difference = False
            self._session.compare(on, made)
            if on:
                self.difference = True

    def also_under(self, corruption: Corruption | str) -> None:
        """Compute the grid in view under another corruption too, in the background, and keep that to compare with.

        The trait `compared` says how alike the two rank the cells, and on which they disagree (see `Agreement`). The
        grid that is kept stays what it is when other inputs are asked; `compare(False)` lets it go.

        Args:
            corruption: another corruption; or the name of one that is made of the present one, as under More: "other
                seed", "half the noise", "additive noise", "ablation", … (`widget.setup["choices"]["also"]`).

        Raises:
            TypeError, ValueError: naming what was given and what is accepted; also of a recording.
        """
        self._needs_model("also_under")
        assert not isinstance(self._session, Replay)
        self._session.also_under(self._inputs.other_damage(corruption))

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the figure as a single-file web page that needs no kernel and no network.

        It contains all grids that are computed for the inputs shown; for a recording, everything that is recorded. If
        nothing of the grid in view is computed, it is traced first.

        Raises:
            TypeError: if it is not a path.
            OSError: if the file cannot be written.
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        self._trace_first()
        export.write(path, lambda: documents.content(self, "html", "light"))

    def export(self, path: str | os.PathLike[str], theme: str = "light") -> None:
        """Write what is shown, in the format given by the path's extension; if nothing is computed, trace first.

        Args:
            path: ends with ``.svg``, ``.png``, ``.pdf`` (the figure), ``.html`` (a page, as `save_html`), ``.csv`` or
                ``.json`` (the computed cells of the grid in view).
            theme: the figure's theme, ``"light"`` or ``"dark"``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            ImportError: for PNG and PDF, if the extra ``export`` is not installed.
            OSError: if the file cannot be written.
            RuntimeError: if the widget is closed.
        """
        self._needs_open()
        one_of("theme", theme, svg.THEMES)
        name = export.format_of(path)
        self._trace_first()
        export.write(path, lambda: documents.content(self, name, theme))

    def _trace_first(self) -> None:
        """Fill the grid in view if none of its cells is computed, since an empty figure is useless."""
        session = self._session
        if not isinstance(session, Replay) and not on_worker():
            self.wait()
            if not session.computed:
                self.trace_all()
                self.wait()

    def wait(self, timeout: float | None = None) -> None:
        """Block until everything asked for so far is computed, shown, and sent to whatever stores the widget's state.

        Args:
            timeout: in seconds; None to wait without limit.

        Raises:
            TimeoutError: after `timeout` seconds.
            RuntimeError: if the widget is closed, or on the worker's own thread.
        """
        self._needs_open()
        started = time.monotonic()
        while True:
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
            session = self._session
            if not session.wait(left):
                raise TimeoutError(f"the widget was still computing after {timeout} s")
            if session is not self._session:  # another model was chosen
                continue
            if not self._observers.waiting:
                break
            self._observers.deliver()  # observers may ask for more
        # Programs that execute a notebook and store its widgets only see messages of a running cell.
        with self._session.lock:
            self.send_state(SHOWN)

    def close(self) -> None:
        """Drop all work and remove the widget from the page."""
        if "_session" in self.__dict__:  # not if the constructor refused its arguments
            self._session.close()
            self._observers.forget()
        super().close()
        if (layout := self.__dict__.get("_made_layout")) is not None:  # ipywidgets keeps it for ever
            layout.close()
        self._gone = True

    # --- the front end's requests ------------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits from the front end; refused ones are reported, and their last good values sent back."""
        with self._session.lock:
            for name, value in sync_data.items():
                try:
                    self._check_from_page(name, value)
                    super().set_state({name: value})
                except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
                    self.show_traits(error=payloads.complaint(error))
                    if name in self.keys:
                        self.send_state(name)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any] | None) -> None:
        try:
            messages.handle(self, content, buffers)
        except Exception as error:  # noqa: BLE001 - exceptions in handlers show nowhere
            self.show_traits(error=payloads.complaint(error))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Add a still picture and text for hosts that cannot draw a widget: previews of notebooks, terminals."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | documents.still(self), metadata


def path_of(given: Any) -> str | None:
    """The given path as text, or None if it is not a path."""
    return os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
