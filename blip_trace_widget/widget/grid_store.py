"""The grids that were asked for under one set of inputs.

For: keeping every grid's scores, and which of its cells are wanted, while one looks at others.
Cost: eight bytes a sample and cell.
Ends: at arrays. Who fills them and when is `blip_trace_widget.widget.session`'s.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.grid_spec import CellIndex, GridSpec

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer


@dataclass
class GridScores:
    """The cells of one grid.

    Attributes:
        samples: scores, (samples, layers, positions), NaN where not computed.
        wanted: cells to compute, now and again when the inputs change.
        there: which cells are computed; a score that is NaN is one all the same.
    """

    samples: NDArray[np.float64]
    wanted: set[CellIndex] = field(default_factory=set)
    there: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.there = np.zeros(self.samples.shape[1:], dtype=bool)

    def computed(self) -> set[CellIndex]:
        """Cells that are there."""
        return {(int(layer), int(position)) for layer, position in np.argwhere(self.there)}

    def missing(self) -> set[CellIndex]:
        """Wanted cells that are not there."""
        return self.wanted - self.computed()

    def put(self, cell: CellIndex, scores: NDArray[np.float64]) -> None:
        """Keep the scores of a cell, (samples,)."""
        self.samples[:, cell[0], cell[1]] = scores
        self.there[cell] = True

    def want_all(self) -> None:
        """Want every cell."""
        self.wanted.update(np.ndindex(self.samples.shape[1:]))


class GridStore:
    """All grids of one set of inputs.

    Args:
        samples: noise samples.
        shapes: of each block that can be traced, (layers, positions).
    """

    def __init__(self, samples: int, shapes: Mapping[str, tuple[int, int]]) -> None:
        self._samples, self._shapes = samples, shapes
        self._grids: dict[GridSpec, GridScores] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that the scores take."""
        return sum(cells.samples.nbytes for cells in self._grids.values())

    def has(self, block: str) -> bool:
        """Whether a block's states can be traced under these inputs."""
        return block in self._shapes

    def shape(self, block: str) -> tuple[int, int]:
        """Layers and positions of a block."""
        return self._shapes[block]

    def cells(self, spec: GridSpec) -> GridScores:
        """The cells of a grid, made at the first call."""
        if spec not in self._grids:
            self._grids[spec] = GridScores(np.full((self._samples, *self.shape(spec.block)), np.nan))
        return self._grids[spec]

    def computed(self) -> dict[GridSpec, GridScores]:
        """The grids of which something is there."""
        return {spec: cells for spec, cells in self._grids.items() if cells.computed()}

    def known(self, spec: GridSpec) -> GridScores | None:
        """The cells of a grid that was looked at, or None."""
        return self._grids.get(spec)

    def want_as(self, other: GridStore, *, same_words: bool) -> None:
        """Want what is wanted of the same grids under other inputs; of other words only whole grids mean the same."""
        for spec, theirs in other._grids.items():
            if not (theirs.wanted and self.has(spec.block)):
                continue
            shape = self.shape(spec.block)
            if len(theirs.wanted) == theirs.samples[0].size:
                self.cells(spec).want_all()
            elif same_words and shape == other.shape(spec.block):
                self.cells(spec).wanted |= theirs.wanted


def inputs_of(tracer: Tracer) -> tuple[Hashable, ...]:
    """All that the numbers depend on, the corruption last."""
    given = tuple(tracer.given.values())
    version = tracer.model.version
    return version, tracer.case.image.sha256(), tracer.question, given, tracer.metric.name, tracer.corruption
