"""Maps over other axes than layers and tokens: attention heads, and the image's patches.

For: "which head?" (layers x heads) and "which part of the picture?" (rows x columns of patches).
Cost: statistics on small arrays, computed on demand.
Ends: at numbers; `blip_trace_widget.results.effect_grid` has the statistics, `blip_trace_widget.results.plots` the
drawing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.effect_grid import EffectGrid
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.statistics import Effects, indirect_effects, statistics
from blip_trace_widget.states import attention_label

if TYPE_CHECKING:
    import pandas as pd


#: A grid of more image tokens than this takes minutes on a CPU, and cannot be read.
MOST_COLUMNS = 100


@dataclass(frozen=True, eq=False, repr=False)
class HeadTrace(EffectGrid):
    """Which attention heads matter: layers down, heads across.

    Each head is patched at one position at a time. Over several positions the indirect effects are summed (sample by
    sample, so that the standard error is that of the sum): the sum of separate effects, not the effect of patching all
    positions together. `scores` is then the base score plus that sum.

    Attributes:
        samples: scores, (samples, layers, heads, positions); NaN where not computed.
        tokens: word pieces at these positions.
    """

    tokens: tuple[str, ...]

    _axes = "layer", "head"

    def _title(self) -> str:
        return f"{self.settings['block'].replace('_', ' ')}: heads of {attention_label(self.settings['site'])}"

    @cached_property
    @quiet
    def _effects(self) -> Effects:
        direction = self.settings["direction"]
        indirect = indirect_effects(self._total, self.samples, direction).sum(axis=-1)
        mean = indirect.mean(axis=0)
        score = self.clean - mean if direction == "disrupt" else self.corrupted.mean() + mean
        return statistics(self._total, indirect, score)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head: block, site, layer, head, position, numbers and settings; see `Trace.to_dataframe`."""
        layer, head = (axis.ravel() for axis in np.indices(self.samples.shape[1:3]))
        import pandas as pd

        where = pd.array([self.settings.get("position")] * layer.size, dtype="Int64")  # missing: summed over positions
        block, site = self.settings["block"], self.settings["site"]
        return self._columns(block=block, site=site, layer=layer, head=head, position=where)


@dataclass(frozen=True, eq=False, repr=False)
class ImageTokenTrace(EffectGrid):
    """Which parts of the picture carry the answer: rows and columns of squares of patches.

    Attributes:
        samples: scores, (samples, rows, columns); NaN where not computed.
        patch: side of a square in patches; squares at the right and lower edges may be smaller.
    """

    patch: int

    def _title(self) -> str:
        return f"image tokens, {self.settings['direction']}"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per square: row, column, numbers and settings; see `Trace.to_dataframe`."""
        row, column = (axis.ravel() for axis in np.indices(self.samples.shape[1:]))
        return self._columns(row=row, column=column, block="image_tokens", site="image_tokens")


def squares(rows: int, columns: int, patch: int) -> tuple[tuple[int, int], list[list[int]]]:
    """Squares of patch x patch image tokens, row by row: their number (rows, columns), and the tokens of each.

    Token 0 is the class token, which is in no square.
    """
    shape = _squares(rows, columns, patch)
    tokens: NDArray[np.int_] = np.arange(rows * columns).reshape(rows, columns) + 1
    return shape, [
        tokens[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].ravel().tolist()
        for row in range(shape[0])
        for column in range(shape[1])
    ]


def default_patch(rows: int, columns: int) -> int:
    """Side of the squares with which a grid of the image encoder has few enough columns: 1, 2, 4, ..."""
    patch = 1
    while 1 + math.prod(_squares(rows, columns, patch)) > MOST_COLUMNS:
        patch *= 2
    return patch


def square_names(rows: int, columns: int, patch: int) -> list[str]:
    """The names of these squares, by the "row,column" of their patches: "0-3,4-7"."""
    down, across = _squares(rows, columns, patch)
    names = ([_span(at, count, patch) for at in range(many)] for many, count in ((down, rows), (across, columns)))
    return [",".join(both) for both in itertools.product(*names)]


def _squares(rows: int, columns: int, patch: int) -> tuple[int, int]:
    return -(-rows // patch), -(-columns // patch)


def _span(at: int, count: int, patch: int) -> str:
    first, last = at * patch, min((at + 1) * patch, count) - 1
    return str(first) if first == last else f"{first}-{last}"
