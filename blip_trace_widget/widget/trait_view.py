"""What a widget shows: results as traits, and who is notified of them.

For: the session's view. Results and inputs become traits, which the page and users' functions follow; an input that
is shown is distinguished from one that is asked for by its value, whoever sets it and when.
Ends: at traits and messages. What an input asks for is `blip_trace_widget.widget.inputs`'.
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
from blip_trace_widget.widget.replay import CLOSED, Replay
from blip_trace_widget.widget.traits import Refused, TraceTraits
from blip_trace_widget.widget.undo import UndoStack

if TYPE_CHECKING:
    from blip_trace_widget.widget.session import Session

#: The traits that are results: after one of them, an observer's exception is over.
RESULTS = {"runs", "grid", "detail", "picture_map"}


class TraitView(TraceTraits):
    """Traits that the kernel alone sets; the shapes are those of `blip_trace_widget.display.protocol`."""

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
    #: The inputs that the traits say, but for what somebody is setting just now.
    _mirrored: Inputs | None = None
    #: The message about a user's function that failed.
    _blamed = ""
    #: Whether it was closed.
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
        """Ask for other inputs, and remember them."""
        with self._session.lock:
            try:
                self._session.change(request, **changes)
            finally:  # what was refused, or came out as something else, does not stay
                self._mirror(self._inputs, again=changes)
            # A slider is moved, everything else is set.
            moved = next(iter(changes), None)
            self._undo.add(self._inputs, moved if len(changes) == 1 and moved in SLIDERS else None)
            self._show_steps()

    def _on_input(self, name: str) -> None:
        self._change(**{name: getattr(self, name)})

    def _on_overlay(self, _change: Any) -> None:
        self._session.overlay_job.choose(self.overlay, self.square)

    def _positions(self) -> int | None:
        return self._session.columns(self.block, self.patch)

    def _step(self, *, back: bool) -> None:
        with self._session.lock:
            asked = self._undo.undo() if back else self._undo.redo()
            if asked is not None:
                self._session.ask(asked)

    # --- observers ---------------------------------------------------------------------------------------------------

    def observe(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002
        """Call a function when traits change, see `traitlets.HasTraits.observe`.

        It may set what it likes. It is notified of results where its output goes to the cell that registered it. An
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

    def _act_on(self, names: Sequence[str], act: Callable[[str], None], known: Callable[[str], Any]) -> None:
        """Do what is asked where a trait says something else than what is known; by whom and when it was set is one."""

        def changed(change: Any) -> None:
            name = change["name"]
            with self._session.lock:
                if _plain(getattr(self, name)) != _plain(known(name)):
                    self._needs_open()
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

    def show_inputs(self, inputs: Inputs, *, mended: bool = False, unselected: bool = False) -> None:
        """Let the traits say what is asked, see `View.show_inputs`."""
        with self.together():
            self._mirror(inputs)
            if mended:
                self._undo.mend(inputs)
            elif unselected and replace(self._undo.present, selection=(), patches=()) == inputs:
                self._undo.amend(inputs)
            self._show_steps()

    def _mirror(self, inputs: Inputs, again: Collection[str] = ()) -> None:
        """Set the traits in which inputs differ from those shown before, and some again.

        No others: a trait that somebody is setting just now, and of which nobody was told yet, is left alone.
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
        """What is shown inside reaches the front end in one message."""
        with self._session.lock, self.hold_sync():
            yield

    def say(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to the front end."""
        with self._session.lock:
            self.send(content, buffers)


def _of_the_house(handler: Any) -> bool:
    """Whether it is a method of ipywidgets' or anywidget's, not of a user's subclass."""
    return isinstance(handler, traitlets.EventHandler) and issubclass(AnyWidget, handler.this_class or object)


def _plain(value: Any) -> Any:
    """A trait's value for comparing: whether pairs are lists or tuples is one."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
