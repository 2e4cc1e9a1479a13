"""The public surface of a widget: which names can be set, and which Tab completion shows.

For: refusing misspelt names, and results or methods that are set by mistake, with a helpful message.
Ends: at names. Names that begin with "_", and those set by users' subclasses, are allowed.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any

from traitlets import HasTraits

#: Packages whose classes are not users'. traitlets itself creates a class for every widget.
_FRAMEWORKS = ("blip_trace_widget", "anywidget", "ipywidgets", "traitlets", "builtins")
#: Names of the frameworks' classes that users need.
_USEFUL = ("layout", "observe", "unobserve", "close", "add_class", "remove_class", "comm", "model_id", "tooltip")


class Surface(HasTraits):
    """A widget on which unknown names cannot be set; traits tagged `result` are set only by the widget.

    Raises:
        AttributeError: on setting a name that is unknown, a result or a method.
    """

    #: Public names that are not for users.
    _internal: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            self._check_name(name)
        super().__setattr__(name, value)

    def _check_name(self, name: str) -> None:
        kind = type(self)
        attribute = getattr(kind, name, None)
        owner = next(base.__name__ for base in kind.__mro__ if base.__module__.startswith("blip_trace_widget"))
        if self.has_trait(name) and self.trait_metadata(name, "result"):
            raise AttributeError(f"{name}: only the widget sets it; it can be observed")
        if name in _own_names(kind):
            self._needs_open()
        if name in _own_names(kind) and callable(attribute):
            raise AttributeError(f"{name}: is a method of {owner}, call it: {name}(…)")
        if attribute is None and not hasattr(kind, name) and not _user_classes(kind):
            nearest = difflib.get_close_matches(name, self._settable(), 1)
            suggestion = f"did you mean {nearest[0]!r}?" if nearest else f"accepted are {', '.join(self._settable())}"
            raise AttributeError(f"{name}: {owner} has nothing of that name; {suggestion}")

    def _needs_open(self) -> None:
        """Refuse to continue if the widget is closed."""

    def _settable(self) -> list[str]:
        """The names that can be set."""
        kind = type(self)
        properties = [name for name in _own_names(kind) if getattr(getattr(kind, name), "fset", None)]
        return sorted({*properties, *_inputs(self), "layout"})

    def __dir__(self) -> Iterable[str]:
        names = {*_own_names(type(self)), *_USEFUL} - set(self._internal)
        users = {name for kind in _user_classes(type(self)) for name in vars(kind)}
        return sorted(names | users | {name for name in self.__dict__ if not name.startswith("_")})


def _user_classes(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in _FRAMEWORKS]


def _own_names(kind: type) -> frozenset[str]:
    """Public names defined by this package's classes, without those of the frameworks."""
    return _names(next(base for base in kind.__mro__ if base.__module__.partition(".")[0] != "traitlets"))


@functools.cache  # `kind` is never the class that traitlets makes for each widget
def _names(kind: type) -> frozenset[str]:
    ours = [base for base in kind.__mro__ if base.__module__.startswith("blip_trace_widget")]
    hosts = [base for base in kind.__mro__ if base.__module__.partition(".")[0] in _FRAMEWORKS[1:]]
    theirs = {name for base in hosts for name in vars(base)}
    return frozenset({name for base in ours for name in vars(base) if not name.startswith("_")} - theirs)


def _inputs(widget: HasTraits) -> list[str]:
    return [
        name
        for name in _own_names(type(widget))
        if widget.has_trait(name) and not widget.trait_metadata(name, "result")
    ]
