"""What of a widget is for everybody: which names may be set, and which Tab shows.

For: refusing in words a misspelt name, or a result or method that is set by mistake.
Ends: at names. Those that begin with "_", and whatever a subclass of a user's own sets, pass.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any

from traitlets import HasTraits

#: Where classes come from that are not a user's. traitlets itself makes one when a widget is made.
_HOUSES = ("blip_trace_widget", "anywidget", "ipywidgets", "traitlets", "builtins")
#: What the hosts' classes have that a user needs.
_USEFUL = ("layout", "observe", "unobserve", "close", "add_class", "remove_class", "comm", "model_id", "tooltip")


class Surface(HasTraits):
    """A widget that takes no name it does not know. Traits that are tagged `result` are its own to set."""

    #: Public names that are not for users.
    _internal: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            self._check_name(name)
        super().__setattr__(name, value)

    def _check_name(self, name: str) -> None:
        kind = type(self)
        found = getattr(kind, name, None)
        who = next(each.__name__ for each in kind.__mro__ if each.__module__.startswith("blip_trace_widget"))
        if self.has_trait(name) and self.trait_metadata(name, "result"):
            raise AttributeError(f"{name}: only the widget sets it; it can be observed")
        if name in _of_ours(kind):
            self._needs_open()
        if name in _of_ours(kind) and callable(found):
            raise AttributeError(f"{name}: is a method of {who}, call it: {name}(…)")
        if found is None and not hasattr(kind, name) and not _of_users(kind):
            near = difflib.get_close_matches(name, self._settable(), 1)
            meant = f"did you mean {near[0]!r}?" if near else f"accepted are {', '.join(self._settable())}"
            raise AttributeError(f"{name}: {who} has nothing of that name; {meant}")

    def _needs_open(self) -> None:
        """Refuse to go on where it was closed."""

    def _settable(self) -> list[str]:
        """What may be set."""
        kind = type(self)
        properties = [name for name in _of_ours(kind) if getattr(getattr(kind, name), "fset", None)]
        return sorted({*properties, *_inputs(self), "layout"})

    def __dir__(self) -> Iterable[str]:
        names = {*_of_ours(type(self)), *_USEFUL} - set(self._internal)
        users = {name for kind in _of_users(type(self)) for name in vars(kind)}
        return sorted(names | users | {name for name in self.__dict__ if not name.startswith("_")})


def _of_users(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.partition(".")[0] not in _HOUSES]


def _of_ours(kind: type) -> frozenset[str]:
    """Public names that our own classes bring, but for those that are the hosts'."""
    return _names(next(each for each in kind.__mro__ if each.__module__.partition(".")[0] != "traitlets"))


@functools.cache  # traitlets makes a class for every widget: those are not kept
def _names(kind: type) -> frozenset[str]:
    ours = [each for each in kind.__mro__ if each.__module__.startswith("blip_trace_widget")]
    hosts = [each for each in kind.__mro__ if each.__module__.partition(".")[0] in _HOUSES[1:]]
    theirs = {name for each in hosts for name in vars(each)}
    return frozenset({name for each in ours for name in vars(each) if not name.startswith("_")} - theirs)


def _inputs(widget: HasTraits) -> list[str]:
    return [
        name for name in _of_ours(type(widget)) if widget.has_trait(name) and not widget.trait_metadata(name, "result")
    ]
