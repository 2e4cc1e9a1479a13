"""What is held while something else is patched, as it is asked: states, and words for the states above what is patched.

For: arguments, traits and settings named ``hold`` and ``through``, which all are read here, in one order.
Ends: at names; `blip_trace_widget.tracing.holding` finds the states that each run holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from blip_trace_widget.checks import named
from blip_trace_widget.states import EVERYWHERE, HELD_SITES, HeldSiteName, State, as_states

#: States, words, or both.
HoldLike: TypeAlias = "State | HeldSiteName | Iterable[State | str] | None"


@dataclass(frozen=True)
class Hold:
    """What is held, as it was asked; false if nothing is.

    Attributes:
        sites: of ``HELD_SITES``: in every later layer of a patched state's block.
        everywhere: whether that is at all positions; else at the patched state's.
        states: states by themselves.
    """

    sites: tuple[str, ...] = ()
    everywhere: bool = False
    states: tuple[State, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sites or self.states)

    @property
    def told(self) -> tuple[str | State, ...]:
        """It as an argument that asks for the same: of states by number always in the same order."""
        numbered = not any(isinstance(state.position, str) for state in self.states)
        states = as_states(self.states) if self.states and numbered else self.states
        return (*self.sites, *([EVERYWHERE] if self.everywhere and self.sites else []), *states)


def as_hold(given: Any, name: str = "hold") -> Hold:
    """What is held, from an argument.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if given is None:
        return Hold()
    if not isinstance(given, (str, State, Iterable)):
        raise TypeError(
            f"{name}: expected State, one of {list(HELD_SITES)}, several of these, or None, got {type(given).__name__}"
        )
    items = [given] if isinstance(given, (str, State)) else list(given)
    states = tuple(dict.fromkeys(item for item in items if isinstance(item, State)))
    words = [named(name, item, (*HELD_SITES, EVERYWHERE)) for item in items if not isinstance(item, State)]
    sites = tuple(site for site in HELD_SITES if site in words)
    if EVERYWHERE in words and not sites:
        raise ValueError(f"{name}: {EVERYWHERE!r} says where a site is held: expected one of {list(HELD_SITES)} too")
    return Hold(sites, EVERYWHERE in words, states)
