"""Values that a trait does not take: refused in words, and the last good one stays.

For: the validators of all traits, and kinds of traits that traitlets refuses in no words, or not at all.
Ends: at one value; what is accepted stands in `blip_trace_widget.widget.traits`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import traitlets

from blip_trace_widget.checks import brief
from blip_trace_widget.widget.inputs import TRAITS


class Refused(traitlets.TraitError, ValueError):  # noqa: N818 - it says what happened
    """A trait was set to a value that is not accepted.

    A TraitError, since only that makes traitlets keep the last good value; a ValueError, since users expect one.
    """


def refusing(check: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Decorates a validator: its ValueError or TypeError becomes `Refused`.

    A value that is already asked for is not checked again, since the tracer may still belong to older inputs.
    """

    @functools.wraps(check)
    def checked(widget: Any, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if name in TRAITS:
            known = widget._inputs.trait(name)
            if type(value) is type(known) and value == known:
                return value
        try:
            return check(widget, proposal)
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from error

    return checked


class Text(traitlets.Unicode[str, str | None]):
    """A text; None becomes ""."""

    def validate(self, obj: Any, value: Any) -> str:
        """See `traitlets.TraitType.validate`."""
        return str(super().validate(obj, "" if value is None else value))


class Number(traitlets.Float[float, float]):
    """A number; an integer that no float can hold is refused in words, too."""

    def validate(self, obj: Any, value: Any) -> float:
        """See `traitlets.TraitType.validate`.

        Raises:
            Refused: if no float can hold it.
        """
        try:
            return float(super().validate(obj, value))
        except OverflowError:
            raise Refused(f"{self.name}: expected a number, got {brief(value)}") from None
