"""The list of a data set's samples: which are found, in which order, and a page of them in words.

For: `blip_trace_widget.widget.dataset`.
Cost: the searched texts once; a page of small pictures.
Ends: at `Listing`; what is looked for is the widget's to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.display import formatting

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.display import protocol

#: Rows per page of the list.
PAGE = 8
#: Orders of the list -> the column, and whether descending.
ORDERS = {
    "as given": ("sample", False),
    "total effect, largest first": ("total_effect", True),
    "total effect, smallest first": ("total_effect", False),
    "clean score, highest first": ("clean", True),
    "clean score, lowest first": ("clean", False),
    "question": ("question", False),
    "answer": ("answer", False),
}
#: Orders by the effect of what is selected -> whether descending.
EXTREMES = {"largest here first": True, "smallest here first": False}
#: Columns that are searched.
SEARCHED = ("id", "group", "question", "given_answer", "own_answer", "corrupted_answer", "reason", "why")


@dataclass(frozen=True, eq=False)
class Selected:
    """The effects of what is selected in the average, by which samples can be sorted.

    Attributes:
        what: it, in a word or two.
        numbers: of the samples, (samples,).
        effects: indirect effect in each, (samples,); NaN where it has no such token.
    """

    what: str
    numbers: NDArray[np.int64]
    effects: NDArray[np.float64]

    @cached_property
    def of(self) -> dict[int, float]:
        """Number of a sample -> its effect."""
        return dict(zip(self.numbers.tolist(), self.effects.tolist(), strict=True))

    def __eq__(self, other: object) -> bool:
        """Whether the list would be the same."""
        return (
            isinstance(other, Selected)
            and self.what == other.what
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.effects, other.effects, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]


class SampleList:
    """The samples of a data set, as a list.

    Args:
        data: the data set.
        metric: by which effects are told.
    """

    def __init__(self, data: DatasetTrace, metric: str) -> None:
        self._data, self._metric = data, metric
        #: What is selected, if anything.
        self.selected: Selected | None = None

    @property
    def orders(self) -> list[str]:
        """The orders that there are."""
        return [*ORDERS, *(EXTREMES if self.selected else ())]

    def page(self, group: str, find: str, order: str, first: int) -> protocol.Listing:
        """A page of the list.

        Args:
            group: only this group; "" for all.
            find: words that must be in the texts.
            order: of `ORDERS` or `EXTREMES`.
            first: how many are before the page; the last page if there are not so many.
        """
        matching = self._matching(group, find, order)
        start = min(first, max(0, math.ceil(len(matching) / PAGE) - 1) * PAGE)
        return {
            "title": self._data.summary,
            "rows": [self._row(row) for _, row in matching.iloc[start : start + PAGE].iterrows()],
            "first": start,
            "size": min(PAGE, len(self._data.samples)),  # no taller than necessary for a small data set
            "found": len(matching),
            "groups": [name for name in self._data.groups if name],
            "orders": self.orders,
        }

    @cached_property
    def _texts(self) -> dict[int, str]:
        """The searched text of each row, by the table's index."""
        rows = self._data.samples[list(SEARCHED)].fillna("").to_numpy()
        return {
            index: " ".join(map(str, row)).lower() for index, row in zip(self._data.samples.index, rows, strict=True)
        }

    def _matching(self, group: str, find: str, order: str) -> pd.DataFrame:
        table = self._data.samples
        if group:
            table = table[table["group"] == group]
        for word in set(find.lower().split()):  # each once, however long the text
            table = table[np.array([word in self._texts[index] for index in table.index], dtype=bool)]
        if order in EXTREMES and self.selected:  # those that lack the token come last
            effects = self.selected.of
            by = np.array([effects.get(number, np.nan) for number in table["sample"].tolist()])
            return table.iloc[np.argsort(-by if EXTREMES[order] else by, kind="stable")]
        column, down = ORDERS.get(order, ("sample", False))
        return table.sort_values(column, ascending=not down, kind="stable", na_position="last")

    def _row(self, row: Any) -> protocol.ListedSample:
        def text(name: str) -> str:
            return row[name] if isinstance(row[name], str) else ""

        right = f"{text('own_answer')} {'' if row['correct'] is None else '✓' if row['correct'] else '✗'}".strip()
        answers = [("right", text("given_answer")), ("says", right), ("damaged", text("corrupted_answer"))]
        effect = row["total_effect"]
        told = [f"total effect {formatting.points(self._metric, effect)}"] if math.isfinite(effect) else []
        return {
            "number": int(row["sample"]),
            "picture": self._data.picture(int(row["sample"])) if row["traced"] else b"",
            "question": text("question"),
            "group": text("group"),
            "answers": [(name, answer) for name, answer in answers if answer],
            "effect": " · ".join([*self._of_selected(int(row["sample"])), *told]),
            "note": "" if row["traced"] else f"skipped: {text('reason')}",
        }

    def _of_selected(self, number: int) -> list[str]:
        """The effect of what is selected, in words."""
        if self.selected is None or number not in self.selected.of:
            return []
        effect = self.selected.of[number]
        told = formatting.points(self._metric, effect) if math.isfinite(effect) else "no such token"
        return [f"{self.selected.what} {told}"]
