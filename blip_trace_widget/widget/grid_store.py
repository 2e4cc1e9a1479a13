"""The grids that were viewed under one set of inputs.

For: keeping every grid's scores and wanted cells while others are viewed.
Cost: eight bytes per sample and cell.
Ends: at arrays; `blip_trace_widget.widget.cells_job` fills them.
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
        wanted: cells to compute, now and whenever the inputs change.
        known: which cells are computed, (layers, positions) bool; a computed score may be NaN too.
    """

    samples: NDArray[np.float64]
    wanted: set[CellIndex] = field(default_factory=set)
    known: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.known = np.zeros(self.samples.shape[1:], dtype=bool)

    def computed(self) -> set[CellIndex]:
        """The computed cells."""
        return {(int(layer), int(position)) for layer, position in np.argwhere(self.known)}

    def missing(self) -> set[CellIndex]:
        """The wanted cells that are not computed."""
        return self.wanted - self.computed()

    def put(self, cell: CellIndex, scores: NDArray[np.float64]) -> None:
        """Store the scores of a cell, (samples,)."""
        self.samples[:, cell[0], cell[1]] = scores
        self.known[cell] = True

    def want_all(self) -> None:
        """Want every cell."""
        self.wanted.update(np.ndindex(self.samples.shape[1:]))


class GridStore:
    """All grids of one set of inputs.

    Args:
        samples: number of noise samples.
        shapes: block -> (layers, positions), for each block that can be traced.
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
        """The cells of a grid, created at the first call."""
        if spec not in self._grids:
            self._grids[spec] = GridScores(np.full((self._samples, *self.shape(spec.block)), np.nan))
        return self._grids[spec]

    def computed(self) -> dict[GridSpec, GridScores]:
        """The grids with computed cells."""
        return {spec: cells for spec, cells in self._grids.items() if cells.computed()}

    def known(self, spec: GridSpec) -> GridScores | None:
        """The cells of a grid if it was viewed, else None."""
        return self._grids.get(spec)

    def want_as(self, other: GridStore, *, same_words: bool) -> None:
        """Want the cells that are wanted under other inputs; if the words differ, only complete grids carry over."""
        for spec, theirs in other._grids.items():
            if not (theirs.wanted and self.has(spec.block)):
                continue
            shape = self.shape(spec.block)
            if len(theirs.wanted) == theirs.samples[0].size:
                self.cells(spec).want_all()
            elif same_words and shape == other.shape(spec.block):
                self.cells(spec).wanted |= theirs.wanted


def inputs_of(tracer: Tracer) -> tuple[Hashable, ...]:
    """Everything that the numbers depend on, the corruption last."""
    given = tuple(tracer.given.values())
    version = tracer.model.version
    return version, tracer.case.image.sha256(), tracer.question, given, tracer.metric.name, tracer.corruption
