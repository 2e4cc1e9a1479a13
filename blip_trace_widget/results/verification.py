"""Verification: scores on show held against plain hooks, and against the same in double precision.

For: `Tracer.verify`.
Ends: at numbers and what they mean; they are computed by `blip_trace_widget.tracing.verification`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.results import summaries
from blip_trace_widget.results.numerics import ROUNDING, quiet
from blip_trace_widget.results.summaries import Summarised

if TYPE_CHECKING:
    import pandas as pd

#: Two scores this close are equal, as a share of the larger where they are larger than 1, by the type of the weights.
CLOSE = {"float64": 1e-9, "float32": 1e-5, "float16": 0.02, "bfloat16": 0.1}
#: Ours may be this many times as far from double precision as plain hooks, or random rounding: all are of one size.
AS_NEAR = 4.0
#: Rounding matters where it reaches this share of a score, or of its error bar.
MATTERS = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class Verification(Summarised):
    """Scores computed again by plain forward hooks on the untouched model, one run of one noise sample at a time.

    Attributes:
        names: what each run is, in words.
        scores: the scores on show, (runs,).
        hooked: what plain hooks give in the model's own type, (runs,).
        exact: what plain hooks give in `exact_dtype`, (runs,); NaN where that was not asked for.
        stderr: the error bars beside the scores, (runs,): the standard error of a cell's indirect effect over all
            samples; NaN for base runs and for a single sample.
        jitter: how far random rounding of what every module puts out takes a run from `exact`, or from `hooked` without
            it, the largest of a few tries, (runs,); NaN where the scores agree without, so that it was not tried.
        dtype: the type of the model's weights.
        exact_dtype: the type of the third column, or None.
        seed: what chose the runs.
        grid: block, site, head, window and direction of the grid that the cells are of; None for states of any.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    hooked: NDArray[np.float64]
    exact: NDArray[np.float64]
    stderr: NDArray[np.float64]
    jitter: NDArray[np.float64]
    dtype: str
    exact_dtype: str | None
    seed: int
    grid: dict[str, Any] | None = field(default=None, repr=False)

    @property
    @quiet
    def difference(self) -> float:
        """The largest difference of a score on show from plain hooks in the model's own type."""
        return _largest(self.scores - self.hooked)

    @property
    @quiet
    def rounding(self) -> float:
        """How far rounding alone takes plain hooks: the largest of their differences from `exact`, and of `jitter`.

        NaN without either.
        """
        return _largest(np.fmax(np.abs(self.hooked - self.exact), self.jitter))

    @property
    @quiet
    def error(self) -> float:
        """The largest difference of a score on show from `exact`; NaN without it."""
        return _largest(self.scores - self.exact)

    @property
    @quiet
    def agrees(self) -> bool:
        """Whether every score is what plain hooks give."""
        return not self.apart.any()

    @property
    @quiet
    def apart(self) -> NDArray[np.bool_]:
        """Runs whose score is not what plain hooks give, (runs,).

        It is if both are equal but for `CLOSE`, or, where rounding is larger than that, if it is as near to `exact` as
        rounding brings it: `AS_NEAR` times the largest error of plain hooks, or this run's `jitter`. A score that is
        not a number must be none in plain hooks either.
        """
        size = np.maximum(1.0, np.abs(self.hooked))
        equal = np.abs(self.scores - self.hooked) <= CLOSE.get(self.dtype, CLOSE["float32"]) * size
        right = np.where(np.isnan(self.exact), self.hooked, self.exact)
        error = np.fmax(_largest(self.hooked - self.exact), self.jitter)
        near = (np.abs(self.scores - right) <= AS_NEAR * error) & np.isfinite(error)  # overflow excuses nothing
        return np.asarray(~(equal | near | (np.isnan(self.scores) & np.isnan(self.hooked))))

    @property
    @quiet
    def coarse(self) -> NDArray[np.bool_]:
        """Runs whose rounding is a tenth of their score, or of the error bar beside it, or more, (runs,)."""
        rounding = np.fmax(np.abs(self.hooked - self.exact), self.jitter)
        of_bar = (self.stderr > ROUNDING) & (rounding >= MATTERS * self.stderr)
        return np.asarray((rounding >= MATTERS * np.abs(self.exact)) & (rounding > 0) | of_bar)

    def as_settings(self) -> dict[str, Any]:
        """What is kept of it among a result's settings, as plain JSON."""
        return {
            "runs": len(self.names),
            "seed": self.seed,
            "grid": self.grid,
            "agrees": self.agrees,
            "dtype": self.dtype,
            "difference": _plain(self.difference),
            "exact_dtype": self.exact_dtype,
            "rounding": _plain(self.rounding),
            "coarse": int(self.coarse.sum()),
        }

    def to_dataframe(self) -> pd.DataFrame:
        """One row a run: run, score, hooked, exact, stderr, jitter, coarse."""
        import pandas as pd

        return pd.DataFrame(
            {
                "run": self.names,
                "score": self.scores,
                "hooked": self.hooked,
                "exact": self.exact,
                "stderr": self.stderr,
                "jitter": self.jitter,
                "coarse": self.coarse,
            }
        )

    def _facts(self) -> dict[str, str]:
        number, count = summaries.number, int(self.coarse.sum())
        return {
            "agrees": "yes" if self.agrees else "no",
            "runs": str(len(self.names)),
            f"largest difference from plain hooks in {self.dtype}": number(self.difference),
            "rounding" + (f", against {self.exact_dtype}" if self.exact_dtype else ""): ""
            if np.isnan(self.rounding)
            else number(self.rounding),
            "rounding matters": f"in {count} of {len(self.names)} runs: a tenth of the score or its error, or more"
            if count
            else "",
        }

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        columns = self.scores, self.hooked, self.exact
        return ["run", "score", "plain hooks", f"in {self.exact_dtype}" if self.exact_dtype else "–"], [
            [name, *(f"{value:.7g}" for value in row)] for name, *row in zip(self.names, *columns, strict=True)
        ]


def _largest(differences: NDArray[np.float64]) -> float:
    """The largest absolute value; NaN where there is no number."""
    known = np.abs(differences[~np.isnan(differences)])
    return float(known.max()) if known.size else float("nan")


def _plain(value: float) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return value if np.isfinite(value) else None
