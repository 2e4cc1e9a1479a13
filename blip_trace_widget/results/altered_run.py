"""A clean run in which something is altered: cut attention edges, or ablated states.

For: what knockout and ablation give, which is one and the same: what the clean run scores, and what is left of that.
Ends: at numbers and their plot. What is altered is told by the class of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.results import losses, summaries
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import asked_columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class AlteredRun(Summarised):
    """A clean run in which something is altered.

    Attributes:
        score: its score.
        clean: score of the clean run as it is.
        top: the likeliest words at the first answer position with their probability, best first.
        distribution: probability of every word there, (vocabulary,).
        settings: what was altered, as plain JSON.
    """

    #: What a plot calls it.
    _altered: ClassVar[str] = "altered"

    score: float
    clean: float
    top: list[tuple[str, float]]
    distribution: NDArray[np.float32] = field(repr=False)
    settings: dict[str, Any]

    @property
    def loss(self) -> float:
        """score(clean) - score."""
        return self.clean - self.score

    @property
    def relative_loss(self) -> float:
        """Loss / score(clean); NaN where that is 0."""
        return float(losses.relative(self.loss, self.clean))

    @property
    def lost(self) -> float:
        """What is lost: a share of a probability, or the metric's units; above 0 is worse."""
        return float(losses.lost(self.settings["metric"], self.loss, self.clean))

    def plot(
        self, ax: Any = None, value: Literal["score"] = "score", limit: float | None = None, cmap: Any = None
    ) -> Any:
        """Draw the score of the clean run as it is and altered.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"score"``.
            limit: where the axis ends; default the larger score.
            cmap: a matplotlib colour map or its name.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        one_of("value", value, ("score",))
        names, values = ["clean", self._altered], np.array([self.clean, self.score])
        return plots.bars(values, names, "score", self._title(), ax, limit, cmap)

    def to_dataframe(self) -> pd.DataFrame:
        """One row: clean, score, loss, relative_loss, and what was asked; see `Trace.to_dataframe`."""
        import pandas as pd

        numbers = {name: [getattr(self, name)] for name in ("clean", "score", "loss", "relative_loss")}
        return pd.DataFrame({**numbers, **asked_columns(self.settings, 1)})

    def _title(self) -> str:
        """What was altered, in a line."""
        raise NotImplementedError

    def _what(self) -> dict[str, str]:
        """The same for a table, by name."""
        raise NotImplementedError

    def _facts(self) -> dict[str, str]:
        return {
            **self._what(),
            "score": f"{summaries.number(self.clean)} → {summaries.number(self.score)}",
            "lost": summaries.number(self.lost),
            "top": summaries.listed(self.top),
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)
