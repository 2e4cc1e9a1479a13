"""Maps over other axes than layers and tokens: attention heads, and the image's patches.

For: "which head?" (layers x heads) and "which part of the picture?" (rows x columns of patches).
Cost: plain NumPy on what was computed.
Ends: at numbers; the statistics are `blip_trace_widget.results.effect_grid`'s, the drawing
`blip_trace_widget.results.plots`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results.effect_grid import EffectGrid
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.statistics import Effects, indirect_effects, statistics
from blip_trace_widget.states import site_label

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class HeadTrace(EffectGrid):
    """Which attention heads matter: layers down, heads across.

    Each head is patched at one position at a time. Over several positions the indirect effects are summed (sample by
    sample, so that the standard error is that of the sum); the sum of what heads do one by one, not what they would
    do together. `scores` then means: the base score plus that sum.

    Attributes:
        samples: scores, (samples, layers, heads, positions); NaN where not computed.
        tokens: word pieces at these positions.
    """

    tokens: tuple[str, ...]

    _axes = "layer", "head"

    def _title(self) -> str:
        return f"{self.settings['block'].replace('_', ' ')}: heads of {site_label(self.settings['site'])}"

    @cached_property
    @quiet
    def _effects(self) -> Effects:
        direction = self.settings["direction"]
        indirect = indirect_effects(self._total, self.samples, direction).sum(axis=-1)
        mean = indirect.mean(axis=0)
        score = self.clean - mean if direction == "disrupt" else self.corrupted.mean() + mean
        return statistics(self._total, indirect, score)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a head: block, site, layer, head, the numbers, and what was asked; see `Trace.to_dataframe`."""
        layer, head = (axis.ravel() for axis in np.indices(self.samples.shape[1:3]))
        import pandas as pd

        where = pd.array([self.settings.get("position")] * layer.size, dtype="Int64")  # missing: summed over positions
        told = self.settings["block"], self.settings["site"]
        return self._columns(block=told[0], site=told[1], layer=layer, head=head, position=where)


@dataclass(frozen=True, eq=False, repr=False)
class ImageTokenTrace(EffectGrid):
    """Which parts of the picture carry the answer: rows and columns of squares of patches.

    Attributes:
        samples: scores, (samples, rows, columns); NaN where not computed.
        patch: side of a square in patches; at the right and lower edge squares may be smaller.
    """

    patch: int

    def _title(self) -> str:
        return f"image tokens, {self.settings['direction']}"

    def to_dataframe(self) -> pd.DataFrame:
        """One row a square: row, column, the numbers, and what was asked; see `Trace.to_dataframe`."""
        row, column = (axis.ravel() for axis in np.indices(self.samples.shape[1:]))
        return self._columns(row=row, column=column, block="image_tokens", site="image_tokens")


def squares(rows: int, columns: int, patch: int) -> tuple[tuple[int, int], list[list[int]]]:
    """Squares of patch x patch image tokens, row by row: how many (rows, columns), and the tokens of each.

    Token 0 is the class token and in no square.
    """
    shape = -(-rows // patch), -(-columns // patch)
    tokens: NDArray[np.int_] = np.arange(rows * columns).reshape(rows, columns) + 1
    return shape, [
        tokens[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].ravel().tolist()
        for row in range(shape[0])
        for column in range(shape[1])
    ]
