"""Which grid is in view, and which of its cells are patched together.

For: whoever shows, keeps or computes a grid.
Ends: at names and numbers; scores are `blip_trace_widget.widget.grid_store`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from blip_trace_widget.states import State, as_states, windowed

#: (layer, position) of a cell.
CellIndex: TypeAlias = tuple[int, int]


class GridSpec(NamedTuple):
    """Which grid is in view."""

    block: str = "question_encoder"
    site: str = "block_output"
    head: int | None = None
    direction: str = "restore"
    window: int = 1

    def states(self, cells: Iterable[CellIndex], layers: int) -> tuple[State, ...]:
        """The states that cells stand for, each once, layer by layer; of a block of so many layers."""
        centers = (State(self.block, layer, position, self.site, self.head) for layer, position in sorted(cells))  # type: ignore[arg-type]
        return as_states([state for center in centers for state in windowed(center, self.window, layers)])


@dataclass(frozen=True)
class Selection:
    """What is patched together in one run: cells of the grid in view, or patches of the picture; false if nothing.

    Attributes:
        cells: (layer, position) each.
        patches: (row, column) each.
    """

    cells: tuple[CellIndex, ...] = ()
    patches: tuple[CellIndex, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.cells or self.patches)

    @property
    def one(self) -> bool:
        """Whether it is one cell, whose value belongs into the grid."""
        return len(self.cells) == 1
