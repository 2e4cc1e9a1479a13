"""The grids that were viewed under one set of inputs.

For: keeping every grid's scores and wanted cells while others are viewed. Grids that are equal by construction share
one array, possibly a layer apart in it, so that no cell is computed twice.
Cost: eight bytes per sample and cell, and some 150 for each cell that is wanted.
Ends: at arrays; `blip_trace_widget.widget.cells_job` fills them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, SameGrid

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer

#: What a store takes beside its arrays, and a cell in a set, as measured.
EMPTY_BYTES, CELL_BYTES = 12 * 2**10, 150


@dataclass
class GridScores:
    """The cells of one grid.

    Attributes:
        samples: scores, (samples, layers, positions), NaN where not computed.
        known: which cells are computed, (layers, positions) bool; a computed score may be NaN too.
        wanted: cells to compute, now and whenever the inputs change.
        dead: computed cells of which nothing can come by construction, for what is held or for want of a path.
    """

    samples: NDArray[np.float64]
    known: NDArray[np.bool_]
    wanted: set[CellIndex] = field(default_factory=set)
    dead: set[CellIndex] = field(default_factory=set)

    @classmethod
    def empty(cls, samples: int, shape: tuple[int, int]) -> GridScores:
        """Scores of which none is computed."""
        return cls(np.full((samples, *shape), np.nan), np.zeros(shape, dtype=bool))

    def computed(self) -> set[CellIndex]:
        """The computed cells."""
        return {(int(layer), int(position)) for layer, position in np.argwhere(self.known)}

    def missing(self) -> set[CellIndex]:
        """The wanted cells that are not computed."""
        return self.wanted - self.computed()

    def put(self, cell: CellIndex, scores: NDArray[np.float64], *, live: bool = True) -> None:
        """Store the scores of a cell, (samples,), and whether anything can come of it."""
        self.samples[:, cell[0], cell[1]] = scores
        self.known[cell] = True
        if not live:
            self.dead.add(cell)

    def want_all(self) -> None:
        """Want every cell."""
        self.wanted.update(np.ndindex(self.samples.shape[1:]))


@dataclass(frozen=True)
class BlockShape:
    """What the grids of a block have in common.

    Attributes:
        layers: number of layers.
        columns: number of columns of a grid, given its `GridSpec.patch`.
        plain: whether all modules of the block are BLIP's own.
        single: whether a score depends only on its first position.
    """

    layers: int
    columns: Callable[[int], int]
    plain: bool = True
    single: bool = False

    def same_as(self, spec: GridSpec) -> SameGrid | None:
        """The grid that another one equals by construction, if any."""
        return spec.same_as(self.layers, single=self.single) if self.plain else None


class GridStore:
    """All grids of one set of inputs.

    Args:
        samples: number of noise samples.
        shapes: block -> the shape of its grids, for each block that can be traced.
    """

    def __init__(self, samples: int, shapes: Mapping[str, BlockShape]) -> None:
        self._samples, self._shapes = samples, shapes
        self._grids: dict[GridSpec, GridScores] = {}
        #: Arrays of grids that equal no other, a layer longer: the row before the first layer is what enters it.
        self._arrays: dict[GridSpec, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about: of a small model most of them are not scores, but wanted cells."""
        cells = sum(len(each.wanted) + len(each.dead) for each in self._grids.values())
        scores = sum(samples.nbytes + known.nbytes for samples, known in self._arrays.values())
        return EMPTY_BYTES + CELL_BYTES * cells + scores

    def has(self, block: str) -> bool:
        """Whether a block's states can be traced under these inputs."""
        return block in self._shapes

    def shape(self, spec: GridSpec) -> tuple[int, int]:
        """Layers and columns of a grid."""
        shape = self._shapes[spec.block]
        return shape.layers, shape.columns(spec.patch)

    def cells(self, spec: GridSpec) -> GridScores:
        """The cells of a grid, created at the first call."""
        if spec not in self._grids:
            self._grids[spec] = self._create(spec)
        return self._grids[spec]

    def _create(self, spec: GridSpec) -> GridScores:
        kept, shift = self._kept(spec)
        if not shift and kept != spec:
            return self.cells(kept)
        layers, columns = self.shape(spec)
        if kept not in self._arrays:
            shape = layers + 1, columns
            self._arrays[kept] = np.full((self._samples, *shape), np.nan), np.zeros(shape, dtype=bool)
        samples, known = self._arrays[kept]
        part = slice(1 + shift, 1 + shift + layers)
        return GridScores(samples[:, part], known[part])

    def _kept(self, spec: GridSpec) -> tuple[GridSpec, int]:
        """The grid whose array a grid is in, and how many layers apart."""
        same, shift = self._shapes[spec.block].same_as(spec), 0
        while same is not None:
            spec, shift = spec._replace(site=same.site), shift + same.shift
            same = self._shapes[spec.block].same_as(spec)
        return spec, shift

    def computed(self) -> dict[GridSpec, GridScores]:
        """The viewed grids with computed cells."""
        return {spec: cells for spec, cells in self._grids.items() if cells.computed()}

    def known(self, spec: GridSpec) -> GridScores | None:
        """The cells of a grid if it, or one that equals it, was viewed; else None."""
        return self.cells(spec) if self._kept(spec)[0] in self._arrays else None

    def want_as(self, other: GridStore, in_view: GridSpec, *, same_words: bool) -> None:
        """Want the cells that are wanted under other inputs; if the words differ, only complete grids carry over.

        Of grids in which something is held, or of paths, there are too many to keep up with: the one in view alone.
        """
        for spec, theirs in other._grids.items():
            if not (theirs.wanted and self.has(spec.block) and (spec.is_plain or spec == in_view)):
                continue
            if len(theirs.wanted) == theirs.samples[0].size:
                self.cells(spec).want_all()
            elif same_words and self.shape(spec) == other.shape(spec):
                self.cells(spec).wanted |= theirs.wanted


def inputs_of(tracer: Tracer) -> tuple[Hashable, ...]:
    """Everything that the numbers depend on, the corruption last."""
    given = tuple(tracer.given.values())
    version = tracer.model.version
    return version, tracer.case.image.sha256(), tracer.question, given, tracer.metric.name, tracer.corruption
