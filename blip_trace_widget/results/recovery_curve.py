"""RecoveryCurve: how much the states of a block bring back on average, over the noise factor.

For: Γ(ν) of Palit et al. 2023 (arXiv 2308.14179): which block restores, and under how much noise any does.
Cost: statistics of a few numbers a factor.
Ends: at numbers and what its files hold; drawing is `blip_trace_widget.results.plots`'.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.results import files, stored, summaries
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.noise_curve import check_factors
from blip_trace_widget.results.statistics import Effects, TotalEffect, effects
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import BLOCKS, BlockName

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class RecoveryCurve(Summarised):
    """Mean recovery of blocks over the noise factor.

    The mean is over all cells of a block's grid (layer outputs, each restored alone), those that are 1 by construction
    among them; recoveries have one total effect in common, so that it is the recovery of the mean patched score.

    Attributes:
        factors: noise factors, (factors,).
        blocks: the blocks.
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples, factors); NaN where not computed.
        patched: scores of the patched runs, mean over a block's cells, (samples, blocks, factors); NaN where not
            computed.
        computed: which factors are computed, (factors,).
        settings: what was asked, as plain JSON; its corruption without the factor.
    """

    factors: NDArray[np.float64]
    blocks: tuple[BlockName, ...]
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    patched: NDArray[np.float64] = field(repr=False)
    computed: NDArray[np.bool_] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)

    @property
    def recovery(self) -> NDArray[np.float64]:
        """Mean recovery of each block's cells, (blocks, factors); NaN where `undefined_because` says why."""
        return np.stack([each.recovery for each in self._effects], axis=1)

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Its standard error over noise samples (delta method), (blocks, factors); NaN for a single sample."""
        return np.stack([each.recovery_stderr for each in self._effects], axis=1)

    @cached_property
    def margin(self) -> NDArray[np.float64]:
        """Half the width of its 95 % interval, (blocks, factors), as `EffectGrid.recovery_margin`."""
        unknown = np.full(len(self.blocks), np.nan)
        each = [
            unknown if total.closed_because else margin(found.samples, total.samples)
            for found, total in zip(self._effects, self._totals, strict=True)
        ]
        return np.stack(each, axis=1)

    @property
    def undefined_because(self) -> tuple[str, ...]:
        """Why there is no recovery at each factor, or "" where there is, (factors,)."""
        known = zip(self.computed, self._totals, strict=True)
        return tuple(total.closed_because if computed else "not computed" for computed, total in known)

    @cached_property
    def _totals(self) -> list[TotalEffect]:
        return [TotalEffect(self.clean, scores) for scores in self.corrupted.T]

    @cached_property
    def _effects(self) -> list[Effects]:
        return [effects(total, self.patched[:, :, at], "restore") for at, total in enumerate(self._totals)]

    def _facts(self) -> dict[str, str]:
        number = summaries.number
        closed = [f"{factor:g}" for factor, why in zip(self.factors, self.undefined_because, strict=True) if why]
        told = [
            f"{block} {number(recovery[at], half[at])} at ν {self.factors[at]:g}"
            for block, recovery, half in zip(self.blocks, self.recovery, self.margin, strict=True)
            for (at,) in summaries.best(recovery, 1)
        ]
        return {
            "factors": f"{self.factors.size} from {self.factors.min():g} to {self.factors.max():g}",
            "samples": str(len(self.corrupted)),
            "largest mean recovery": ", ".join(told),
            "no recovery": f"at ν {', '.join(closed)}" if closed else "",
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a block and factor: block, factor, recovery, stderr, corrupted and clean score, undefined_because."""
        import pandas as pd

        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "block": block,
                        "factor": self.factors,
                        "recovery": self.recovery[row],
                        "stderr": self.stderr[row],
                        "corrupted": self.corrupted.mean(axis=0),
                        "clean": self.clean,
                        "undefined_because": self.undefined_because,
                    }
                )
                for row, block in enumerate(self.blocks)
            ],
            ignore_index=True,
        )

    def plot(self, ax: Any = None) -> Any:
        """Mean recovery and its standard error over the factor, a line for each block.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        from blip_trace_widget.results import plots

        return plots.curves(self.to_dataframe(), ax, names="block", values="recovery")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata.

        Raises:
            OSError: if the file cannot be written.
        """
        names = ("factors", "clean", "corrupted", "patched", "computed")
        arrays = {name: getattr(self, name) for name in names}
        files.write(path, RECOVERY_CURVE, arrays, blocks=self.blocks, settings=self.settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecoveryCurve:
        """Read a curve that `save` wrote, bit for bit.

        Raises:
            OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return files.read(path, RECOVERY_CURVE)


def _read(arrays: files.Tensors, told: files.Fields) -> RecoveryCurve:
    factors, corrupted, patched = arrays["factors"], arrays["corrupted"], arrays["patched"]
    blocks = tuple(cast("BlockName", one_of("block", block, BLOCKS)) for block in told["blocks"])
    computed, samples, count = arrays["computed"], corrupted.shape[0], len(factors)
    found = factors.shape, corrupted.shape, patched.shape, computed.shape
    if found != ((count,), (samples, count), (samples, len(blocks), count), (count,)) or computed.dtype != np.bool_:
        raise ValueError(f"shapes {found} do not fit each other and {len(blocks)} blocks")
    if not samples or not count or not blocks:
        raise ValueError(f"expected scores of blocks at factors, got shapes {found}")
    check_factors(factors)
    settings = stored.settings(told["settings"], ())
    return RecoveryCurve(factors, blocks, float(arrays["clean"][0]), corrupted, patched, computed, settings)


RECOVERY_CURVE = files.Kind("recovery curve", "blip_trace_widget.recovery_curve", {1: _read})
