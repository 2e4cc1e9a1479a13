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

from blip_trace_widget.checks import LARGEST
from blip_trace_widget.dataset.damage import check_present

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
        ValueError: if the cells of a sample make no grid, naming it.
    """
    check_present(cells, ("layer",))
    numbers, layers, positions = (cells[name].to_numpy() for name in ("sample", "layer", "position"))
    depth, width = (int(axis.max(initial=0)) + 1 for axis in (layers, positions))
    values, names = cells["indirect_effect"].to_numpy(), cells["token"].combine_chunks()
    codes = np.asarray(names.indices)
    if (
        int(numbers.max(initial=0)) * depth * width > LARGEST
        or min(layers.min(initial=0), positions.min(initial=0)) < 0
    ):
        raise ValueError("sample, layer, position: expected the numbers of samples, layers and positions")
    place = (numbers * depth + layers) * width + positions
    if (place[1:] < place[:-1]).any():  # not as it was written
        order = np.argsort(place)
        place, values, numbers, codes = place[order], values[order], numbers[order], codes[order]
    starts = np.searchsorted(numbers, samples)
    sizes = np.searchsorted(numbers, samples, side="right") - starts
    _check(samples, starts, sizes, place, (depth, width))
    effects = [values[start:stop].reshape(depth, -1) for start, stop in zip(starts, starts + sizes, strict=True)]
    tokens = _words(codes, starts, sizes // depth, np.asarray(names.dictionary.to_pylist(), dtype=object))
    return Grids({sample: place for place, sample in enumerate(samples.tolist())}, tokens, effects)


def _check(
    samples: NDArray[np.int64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    place: NDArray[np.int64],
    shape: tuple[int, int],
) -> None:
    """Check that the cells of each sample, at ascending places, are all of a grid's.

    Raises:
        ValueError: naming the first sample of which they are not.
    """
    depth, width = shape
    wrong = (sizes == 0) | (sizes % depth != 0)
    if not wrong.any():
        # Where no place is there twice, a layer's first and last cell say that those between are there.
        layers, lengths = np.arange(depth), (sizes // depth)[:, None]
        first, expected = starts[:, None] + layers * lengths, (samples[:, None] * depth + layers) * width
        found = place[first], place[first + lengths - 1] - lengths + 1
        wrong = np.any([each != expected for each in found], axis=(0, 2))
        wrong |= np.isin(samples, place[1:][place[1:] == place[:-1]] // (depth * width))
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise ValueError(f"sample {samples[at]}: {sizes[at]} cells are no grid of {depth} layers")


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
