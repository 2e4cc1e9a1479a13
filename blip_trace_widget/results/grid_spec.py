"""Which grid is in view, and which of its cells are patched together.

For: everything that shows, stores or computes a grid.
Ends: at names and numbers; `blip_trace_widget.widget.grid_store` has the scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from blip_trace_widget.states import State, as_states, windowed

#: (layer, position) of a cell.
CellIndex: TypeAlias = tuple[int, int]


class GridSpec(NamedTuple):
    """The arguments that identify a grid.

    Attributes:
        block: one of `blip_trace_widget.states.BLOCKS`.
        site: one of its sites.
        head: one attention head, or None.
        direction: ``"restore"`` or ``"disrupt"``.
        window: layers patched together around each layer.
    """

    block: str = "question_encoder"
    site: str = "block_output"
    head: int | None = None
    direction: str = "restore"
    window: int = 1

    def states(self, cells: Iterable[CellIndex], layers: int) -> tuple[State, ...]:
        """The states that cells stand for, each once, sorted; `layers` is the number of layers of the block."""
        centers = (State(self.block, layer, position, self.site, self.head) for layer, position in sorted(cells))  # type: ignore[arg-type]
        return as_states([state for center in centers for state in windowed(center, self.window, layers)])


@dataclass(frozen=True)
class Selection:
    """What is patched together in one run: cells of the grid in view, or patches of the picture; false if empty.

    Attributes:
        cells: (layer, position) of each cell.
        patches: (row, column) of each patch.
    """

    cells: tuple[CellIndex, ...] = ()
    patches: tuple[CellIndex, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.cells or self.patches)

    @property
    def one(self) -> bool:
        """Whether it is a single cell, whose value belongs in the grid."""
        return len(self.cells) == 1
