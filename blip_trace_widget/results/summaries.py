"""How a notebook shows a result in a cell's output: a line of text, or a small table.

For: the `repr` and the HTML of all results.
Ends: at text. All HTML is escaped here, and contains neither scripts nor styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.states import EVERYWHERE, State

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Rows in the table of cells.
BEST = 5
#: Texts longer than this are truncated in the `repr`.
LONGEST = 60


class Summarised:
    """A result that summarises itself.

    Subclasses override `_facts`, and may override the rest for the table.
    """

    def _facts(self) -> dict[str, str]:
        """Name -> value, for the `repr` and the table."""
        raise NotImplementedError

    def _asked(self) -> dict[str, str]:
        """Name -> value of what was asked, only for the table."""
        return {}

    def _rows(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """A header and rows of a second table."""
        return (), ()

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}: {_short(value)}" for name, value in self._facts().items() if value)
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        facts = {name: value for name, value in {**self._asked(), **self._facts()}.items() if value}
        lines = [f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()]
        head, rows = self._rows()
        table = ""
        if rows:
            cells = [("th", head), *(("td", row) for row in rows)]
            table = "<table>" + "".join(_row(tag, row) for tag, row in cells) + "</table>"
        return f"<table><caption>{escape(type(self).__name__)}</caption>{''.join(lines)}</table>{table}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"


def number(value: float, margin: float = float("nan")) -> str:
    """A number to three digits, and half the width of its 95 % interval to two if that is known."""
    error = "" if not np.isfinite(margin) else f" ± {margin:.2g}"
    return f"{value:.3g}{error}".replace("-", "−")


def listed(words: Sequence[tuple[str, float]], count: int = 3) -> str:
    """The likeliest words with their probability."""
    return ", ".join(f"{word!r} {number(share)}" for word, share in words[:count])


def called(state: State) -> str:
    """A state in words."""
    head = "" if state.head is None else f" head {state.head}"
    return f"{state.block} layer {state.layer} position {state.position} {state.site}{head}"


def held(told: Sequence[Any]) -> str:
    """What is held, in words; words and states, or the latter as plain JSON. "" for nothing."""
    words = [item for item in told if isinstance(item, str) and item != EVERYWHERE]
    where = "everywhere above" if EVERYWHERE in told else "there above"
    parts = [f"{', '.join(word.replace('_', ' ') for word in words)} {where}"] if words else []
    return "; ".join(parts + several([item for item in told if not isinstance(item, str)]))


def beside(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is held, and where paths lead, of a result's settings, by name; empty texts for what there is not."""
    return {
        "held": held(settings.get("hold", ())),
        **path(settings.get("receivers", ()), settings.get("through", ())),
    }


def titled(settings: Mapping[str, Any]) -> str:
    """The same behind a title: ", held: mlp there above", ", paths into answer"; "" for a plain grid."""
    told = beside(settings)
    return (f", held: {told['held']}" if told["held"] else "") + (
        f", paths into {told['into']}" if told["into"] else ""
    )


def path(receivers: Sequence[Any], through: Sequence[Any]) -> dict[str, str]:
    """Where a path leads, and what is not held on it, by name; empty texts for what is no path."""
    into = receivers if isinstance(receivers, str) else "; ".join(several(receivers))
    words = [item.replace("_", " ") for item in through if isinstance(item, str)]
    return {
        "into": into,
        "through": "; ".join(words + several([item for item in through if not isinstance(item, str)])),
    }


def several(states: Sequence[Any]) -> list[str]:
    """States, or such as plain JSON, in words: up to three of them by name."""
    if len(states) > 3:
        return [f"{len(states)} states"]
    return [called(state if isinstance(state, State) else State(**state)) for state in states]


def asked(settings: Mapping[str, Any]) -> dict[str, str]:
    """Question, answer, metric and corruption of a result's settings."""
    damage = settings.get("corruption")
    return {
        "question": settings.get("question", ""),
        "answer": settings.get("answer", ""),
        "metric": settings.get("metric", ""),
        "corruption": "" if damage is None else corruption(damage),
    }


def corruption(settings: Mapping[str, Any]) -> str:
    """A corruption's settings on one line; a region as the number of its patches."""
    shown = {name: value for name, value in settings.items() if name != "type" and value is not None}
    if shown.get("region") is not None:
        shown["region"] = region_size(shown["region"])
    return ", ".join([str(settings.get("type", "")), *(f"{name} {value}" for name, value in shown.items())])


def best(values: NDArray[np.float64], count: int) -> list[tuple[int, ...]]:
    """The cells with the largest values, largest first; NaN is left out."""
    known = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=None, kind="stable")[: np.isfinite(values).sum()]
    return [tuple(int(at) for at in np.unravel_index(index, values.shape)) for index in known[:count]]


def region_size(region: Sequence[Sequence[bool]]) -> str:
    """The size of a region: how many patches it has."""
    patches = [patch for row in region for patch in row]
    return f"{sum(patches)} of {len(patches)} patches"
