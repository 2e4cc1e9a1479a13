"""Cells of many samples, one below the other, as a grid for each sample.

For: averages over questions of different lengths, of which tables have millions of cells.
Cost: nothing a sample but a view of its cells; all else is done for all samples of one length together.
Ends: at arrays; `blip_trace_widget.dataset.alignment` puts them on common axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from blip_trace_widget.dataset.alignment import Array


@dataclass(frozen=True, eq=False)
class Grids:
    """Tokens and indirect effects of many samples.

    Attributes:
        places: the place of each sample in the lists, by its number.
        tokens: the tokens of each.
        effects: the indirect effects of each, (layers, positions).
    """

    places: dict[int, int]
    tokens: list[tuple[str, ...]]
    effects: list[Array]

    def of(self, samples: NDArray[np.int64]) -> tuple[list[tuple[str, ...]], list[Array]] | None:
        """Tokens and effects of some of the samples, in that order; None if not all of them are here."""
        places = [self.places.get(sample, -1) for sample in samples.tolist()]
        if -1 in places:
            return None
        return [self.tokens[place] for place in places], [self.effects[place] for place in places]


def by_sample(cells: pa.Table, samples: NDArray[np.int64]) -> Grids:
    """The grid of each sample.

    Args:
        cells: one row per cell of one grid: sample, layer, position, token, indirect_effect; in any order.
        samples: the samples' numbers.

    Raises:
        ValueError: if the cells of a sample make no grid.
    """
    numbers, layers, positions = (cells[name].to_numpy() for name in ("sample", "layer", "position"))
    depth, width = (int(axis.max(initial=0)) + 1 for axis in (layers, positions))
    values, names = cells["indirect_effect"].to_numpy(), cells["token"].combine_chunks()
    codes = np.asarray(names.indices)
    place = (numbers * depth + layers) * width + positions
    if (place[1:] < place[:-1]).any():  # not as it was written
        order = np.argsort(place)
        values, numbers, codes = values[order], numbers[order], codes[order]
    starts = np.searchsorted(numbers, samples)
    sizes = np.searchsorted(numbers, samples, side="right") - starts
    _check(samples, sizes, depth)
    effects = [values[start:stop].reshape(depth, -1) for start, stop in zip(starts, starts + sizes, strict=True)]
    tokens = _words(codes, starts, sizes // depth, np.asarray(names.dictionary.to_pylist(), dtype=object))
    return Grids({sample: place for place, sample in enumerate(samples.tolist())}, tokens, effects)


def _check(samples: NDArray[np.int64], sizes: NDArray[np.int64], depth: int) -> None:
    wrong = np.flatnonzero((sizes == 0) | (sizes % depth != 0))
    if wrong.size:
        raise ValueError(
            f"folder: what it has of sample {samples[wrong[0]]} is damaged: {sizes[wrong[0]]} cells are no grid of "
            f"{depth} layers"
        )


def _words(
    codes: NDArray[np.int32], starts: NDArray[np.int64], lengths: NDArray[np.int64], names: NDArray[np.object_]
) -> list[tuple[str, ...]]:
    """The tokens of each sample, whose first layer begins at `starts`; equal ones are one tuple."""
    words: list[tuple[str, ...]] = [()] * len(starts)
    for length in np.unique(lengths):
        of = np.flatnonzero(lengths == length)
        rows, which = np.unique(codes[starts[of, None] + np.arange(length)], axis=0, return_inverse=True)
        texts = [tuple(names[row]) for row in rows]
        for sample, text in zip(of.tolist(), which.ravel().tolist(), strict=True):
            words[sample] = texts[text]
    return words
