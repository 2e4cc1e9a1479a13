"""Objects that cannot be pickled or copied, and what to do instead.

For: objects that hold a model with its weights, or a page.
Ends: at an error that says so. Results are data and can be pickled and copied.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn


class Unpicklable:
    """A base class that refuses to be pickled or copied, with a TypeError.

    Attributes:
        instead: what to do instead, for the error.
    """

    instead: ClassVar[str]

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        self._refuse()

    def __copy__(self) -> NoReturn:
        self._refuse()

    def __deepcopy__(self, _memo: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name}: cannot be pickled or copied, for it holds a model and what it computed; {self.instead}"
        )
