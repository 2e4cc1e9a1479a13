"""The traits that show results, and the notification of observers.

For: the session's view. Results and inputs become traits, which the page and users' functions follow; a shown input is
told from a requested one by its value, whoever sets it and when.
Ends: at traits and messages; `blip_trace_widget.widget.inputs` says what an input asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import traitlets
from anywidget import AnyWidget

from blip_trace_widget.widget.inputs import SLIDERS, Inputs
from blip_trace_widget.widget.observers import Observers
from blip_trace_widget.widget.refusing import Refused
from blip_trace_widget.widget.replay import CLOSED, Replay
from blip_trace_widget.widget.traits import TraceTraits
from blip_trace_widget.widget.undo import UndoStack

if TYPE_CHECKING:
    from blip_trace_widget.widget.session import Session

#: What may be gone from the figure although nobody asked for that: it is of cells that no longer exist.
FLEETING = ("selection", "patches", "arrow", "hold", "receivers", "through", "path")
#: The traits that are results: the next one clears the message about an observer's exception.
RESULTS = {"runs", "grid", "detail", "picture_map"}


class TraitView(TraceTraits):
    """Traits that only the kernel sets; their types are in `blip_trace_widget.display.protocol`."""

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
    ablation = traitlets.Dict(help="The clean run in which the selected states are times `strength`.").tag(
        sync=True, result=True
    )
    compared = traitlets.Dict(help="The grid that is kept, and how the one in view differs from it.").tag(
        sync=True, result=True
    )
    curve = traitlets.Dict(help="The noise curve.").tag(sync=True, result=True)
    found = traitlets.Dict(help="The set of states that was found, or the search for it.").tag(sync=True, result=True)
    flow = traitlets.Dict(help="What is lost without attention between groups of tokens.").tag(sync=True, result=True)
    steps = traitlets.Dict({"undo": False, "redo": False}, help="Whether there is something to undo, to redo.").tag(
        sync=True, result=True
    )
    generation = traitlets.Int(0, help="Counts the inputs; results say of which they are.").tag(sync=True, result=True)
    doing = traitlets.Unicode("", help="What is done until the two runs of new inputs are there.").tag(
        sync=True, result=True
    )
    heads = traitlets.Dict(help='How far `head_map` is: ``{"done": 12, "total": 96}``.').tag(result=True)

    _session: Session | Replay
    _undo: UndoStack[Inputs]
    #: The inputs that the traits mirror, except for a trait that is being set right now.
    _mirrored: Inputs | None = None
    #: The message about a user's function that failed.
    _blamed = ""
    #: Whether the widget is closed.
    _gone = False

    @traitlets.validate("difference")
    def _valid_difference(self, proposal: Any) -> bool:
        if proposal["value"] and not self.compared:
            raise Refused("difference: no grid is kept to compare with; compare() keeps the one in view")
        return bool(proposal["value"])

    # --- inputs ------------------------------------------------------------------------------------------------------

    @property
    def _inputs(self) -> Inputs:
        """What is asked."""
        return self._session.inputs

    @property
    def _closed(self) -> str:  # type: ignore[override]
        return CLOSED if isinstance(self._session, Replay) else ""

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

    def _change(self, request: int = 0, **changes: Any) -> None:
        """Change inputs, and add a step to the undo stack."""
        with self._session.lock:
            try:
                self._session.change(request, **changes)
            finally:  # a refused or adjusted value must not stay in the trait
                self._mirror(self._inputs, again=changes)
            # Moves of a slider are merged into one step.
            moved = next(iter(changes), None)
            self._undo.add(self._inputs, moved if len(changes) == 1 and moved in SLIDERS else None)
            self._show_steps()

    def _on_input(self, name: str) -> None:
        self._change(**{name: getattr(self, name)})

    def _on_overlay(self, _change: Any) -> None:
        self._session.overlay_job.choose(self.overlay, self.square)

    def _tokens(self, block: str) -> list[str] | None:
        if block == "question_encoder" and not self._closed:
            model = self.tracer.model
            return model.tokens(model.question_ids(self._inputs.question))
        return self._session.tokens(block)

    def _columns(self, block: str) -> int | None:
        return self._session.columns(block, self.patch if block == self.block else 1)

    def _undo_or_redo(self, *, back: bool) -> None:
        with self._session.lock:
            inputs = self._undo.undo() if back else self._undo.redo()
            if inputs is not None:
                self._session.ask(inputs)

    # --- observers ---------------------------------------------------------------------------------------------------

    def observe(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002
        """Call a function when traits change, see `traitlets.HasTraits.observe`.

        The function may set any trait. It is notified of results so that its output goes to the cell that registered
        it. If it raises, the exception is shown and the widget is not affected.
        """
        super().observe(handler if _is_framework_handler(handler) else self._observers.of(handler, self), names, type)

    def unobserve(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002
        """Stop calling a function, see `traitlets.HasTraits.unobserve`."""
        super().unobserve(handler if _is_framework_handler(handler) else self._observers.of(handler, self), names, type)
        self._observers.forget(handler)

    def _follow(self, handler: Callable[[Any], None], names: Sequence[str]) -> None:
        """Call one of our own functions at once, under the lock, on the thread that changes a trait."""
        super().observe(handler, list(names))

    def _unfollow(self, handler: Callable[[Any], None], names: Sequence[str]) -> None:
        super().unobserve(handler, list(names))

    def _act_on(self, names: Sequence[str], act: Callable[[str], None], known: Callable[[str], Any]) -> None:
        """Call `act` when a trait is set to another value than `known` returns, whoever sets it and when."""

        def changed(change: Any) -> None:
            name = change["name"]
            with self._session.lock:
                if _plain(getattr(self, name)) != _plain(known(name)):
                    self._needs_open()
                    act(name)

        self._follow(changed, names)

    @property
    def _observers(self) -> Observers:
        """Users' functions; created at the first use, which may be a subclass's before everything else."""
        if "_user_observers" not in self.__dict__:
            self._user_observers = Observers(self._call_page, self._blame)
        return self._user_observers

    def _call_page(self) -> None:
        self.say({"type": "call", "id": 0, "generation": self.generation})

    def _blame(self, handler: Any, change: Any, error: Exception) -> None:
        """Show that a user's function failed, until the next result."""
        name = getattr(handler, "__qualname__", None) or repr(handler)
        with self._session.lock:
            if change["name"] == "error" or self.error not in ("", self._blamed):
                return
            self._blamed = (
                f"{name}, a function of your own that observes {change['name']!r}, raised {type(error).__name__}: "
                f"{error}. Its traceback is in the cell's output or in the log; the figure is as it was."
            )
            self.show_traits(error=self._blamed)

    # --- the session's view --------------------------------------------------------------------------------------

    def show_traits(self, **state: Any) -> None:
        """Set traits without acting on them."""
        with self._session.lock:
            if self._blamed and self._blamed == self.error and not RESULTS.isdisjoint(state):
                state = {"error": ""} | state
            for name, value in state.items():
                self.set_trait(name, value)

    def show_inputs(self, inputs: Inputs, *, mended: bool = False, gone: bool = False) -> None:
        """Mirror the inputs in the traits, see `View.show_inputs`."""
        with self.together():
            self._mirror(inputs)
            if mended:
                self._undo.mend(inputs)
            elif gone and replace(self._undo.present, **{name: getattr(inputs, name) for name in FLEETING}) == inputs:
                self._undo.amend(inputs)
            self._show_steps()

    def _mirror(self, inputs: Inputs, again: Collection[str] = ()) -> None:
        """Set the traits whose inputs have changed since they were last mirrored, and those in `again`.

        No others: a trait that is being set right now, before any notification, must be left alone.
        """
        before, self._mirrored = self._mirrored, inputs
        with self.together():
            if before is None or before.other is not inputs.other:
                self.show_traits(other_picture=b"" if inputs.other is None else inputs.other.jpeg)
            for name, value in inputs.traits.items():
                if before is None or name in again or before.trait(name) != value:
                    self.show_traits(**{name: value})

    def _show_steps(self) -> None:
        self.show_traits(steps={"undo": self._undo.can_undo, "redo": self._undo.can_redo})

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send everything shown inside to the front end in one message."""
        with self._session.lock, self.hold_sync():
            yield

    def choose(self, **changes: Any) -> None:
        """See `View.choose`."""
        self._change(**changes)

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the front end."""
        with self._session.lock:
            self.send(content, buffers)


def _is_framework_handler(handler: Any) -> bool:
    """Whether a handler is a method of ipywidgets or anywidget, not of a user's subclass."""
    return isinstance(handler, traitlets.EventHandler) and issubclass(AnyWidget, handler.this_class or object)


def _plain(value: Any) -> Any:
    """A trait's value for comparing, with tuples as lists."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
