"""NoiseCurve: scores against the noise factor, the factor that they suggest, and the one from which on all is lost.

For: choosing the amount of noise, and seeing how much a state restores under more or less of it.
Cost: some milliseconds for the interval of a suggestion.
Ends: at numbers and files; `blip_trace_widget.results.plots` draws them.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief, conforms
from blip_trace_widget.results import files, stored, summaries
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import quiet, standard_error
from blip_trace_widget.results.snapshot import CurveSummary
from blip_trace_widget.results.statistics import SMALLEST_TOTAL_EFFECT
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import State

if TYPE_CHECKING:
    import pandas as pd

#: The noise factors of a curve by default.
DEFAULT_FACTORS = tuple(float(factor) for factor in np.linspace(0, 10, 21))


#: Of what the noise takes at the largest third of the factors: where so much of it is taken, all is.
ALL = 0.95


class SuggestedFactor(float):
    """A noise factor with the reason for it.

    Attributes:
        reason: why this factor, a sentence.
        low: lower end of the 95 % interval over noise samples, one of the curve's factors; NaN for a single sample.
        high: its upper end; infinite where these samples leave open whether any factor of the curve is enough.
        lost_at: see `NoiseCurve.lost_at`.
    """

    reason: str
    low: float
    high: float
    lost_at: float | None

    def __new__(  # noqa: PYI034 - Self needs Python 3.11
        cls, factor: float, reason: str, low: float = math.nan, high: float = math.nan, lost_at: float | None = None
    ) -> SuggestedFactor:
        """A factor from a number and what is to be said of it."""
        made = super().__new__(cls, factor)
        made.reason, made.low, made.high, made.lost_at = reason, low, high, lost_at
        return made

    def __getnewargs__(self) -> tuple[float, str, float, float, float | None]:  # type: ignore[override]
        return float(self), self.reason, self.low, self.high, self.lost_at

    def __repr__(self) -> str:
        return f"{float(self)!r} ({self.reason})"

    __str__ = float.__repr__


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCurve(Summarised):
    """Scores against the noise factor.

    Attributes:
        factors: noise factors, (factors,).
        clean: score of the clean run, in the units of the metric.
        corrupted: scores of the corrupted runs, (samples, factors).
        patched: scores with one state restored, (samples, factors, states).
        states: the restored states.
    """

    factors: NDArray[np.float64]
    clean: float
    corrupted: NDArray[np.float64] = field(repr=False)
    patched: NDArray[np.float64] = field(repr=False)
    states: tuple[State, ...] = ()

    def _facts(self) -> dict[str, str]:
        number = summaries.number
        return {
            "factors": f"{self.factors.size} from {self.factors.min():g} to {self.factors.max():g}",
            "samples": str(len(self.corrupted)),
            "clean": number(self.clean),
            "corrupted": f"{number(self.scores.max())} to {number(self.scores.min())}",
            "all is lost": "" if self.lost_at is None else f"from ν {self.lost_at:g} on",
            "states": ", ".join(map(summaries.called, self.states)),
        }

    @property
    @quiet
    def scores(self) -> NDArray[np.float64]:
        """Mean score of the corrupted run, (factors,)."""
        return np.asarray(self.corrupted.mean(axis=0))

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Standard error of `scores`, (factors,); NaN for a single sample."""
        return standard_error(self.corrupted)

    @property
    @quiet
    def lost_at(self) -> float | None:
        """The smallest factor at which all is lost at once; None where the curve shows no floor.

        The floor is the mean score over the largest third of the factors (two at least). All is lost where the mean
        score has come 95 % of the way from the clean score to it. From there on more noise takes nothing more from
        the score, only what single states could bring back: patched states then show where the answer is read off
        (the last layer, whatever the word), and a smaller factor tells more. A curve that gets there no sooner than
        in that third has not shown a floor.
        """
        order, count = np.argsort(self.factors), self.factors.size // 3
        scores = self.scores[order]
        taken = self.clean - scores
        whole = float(taken[-count:].mean()) if count > 1 else math.nan
        if not abs(whole) >= SMALLEST_TOTAL_EFFECT:
            return None
        enough = np.flatnonzero(taken[:-count] / whole >= ALL)
        return float(self.factors[order][enough[0]]) if enough.size else None

    @quiet
    def suggest_factor(self, share: float = 0.9) -> SuggestedFactor:
        """The smallest factor of this curve at which the noise removes so much of the clean score, with an interval.

        The 95 % interval is of the factor that endless noise samples would give: from the first factor at which the
        mean score may have fallen so far to the first at which it must have, by the interval of the mean score
        (`blip_trace_widget.results.intervals`). Measured on eight questions of the built-in model, 21 factors: it
        holds the factor in .91 of cases with 10 samples (.83 with 5, .94 with 20) for 90 %, in .99 for half the score.
        It holds it least where the noise never takes much more than that share: there a smaller share is a better
        question.

        Args:
            share: share of the clean score, above 0 and at most 1.

        Returns:
            A float with `low` and `high`, the `reason` for it, and `lost_at`.

        Raises:
            ValueError: if the clean score is not above 0 (a logarithm, a divergence), so that there is no share of it;
                or if no factor of this curve removes that much.
            TypeError, ValueError: if `share` is not such a number.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(
                f"share: expected a number above 0 and at most 1, got {type(share).__name__} {brief(share)}"
            )
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a number above 0 and at most 1, got {brief(share)}")
        if not self.clean > 0:
            raise ValueError(
                f"a share of the clean score needs one above 0, this is {self.clean:.3g}: take the curve with "
                "metric='probability'"
            )
        order = np.argsort(self.factors)
        factors, scores = self.factors[order], self.scores[order]
        removed = 1 - scores / self.clean
        first = _first(factors, removed >= share)
        if math.isinf(first):
            most = int(np.nanargmax(removed))
            raise ValueError(
                f"no factor of this curve removes {share:.0%} of the clean score ({self.clean:.3g}); the most is "
                f"{removed[most]:.0%} at {factors[most]:g}: take a curve with larger factors"
            )
        low, high = math.nan, math.nan
        if len(self.corrupted) > 1:
            half = margin(self.corrupted[:, order])
            low = _first(factors, 1 - (scores - half) / self.clean >= share)
            high = _first(factors, 1 - (scores + half) / self.clean >= share)
        return SuggestedFactor(first, self._reason(share, first, low, high), low, high, self.lost_at)

    def _reason(self, share: float, factor: float, low: float, high: float) -> str:
        score = self.scores[np.flatnonzero(self.factors == factor)[0]]
        told = (
            f"ν = {factor:g} is the smallest of {self.factors.size} factors at which the noise removes {share:.0%} of "
            f"the clean score: {self.clean:.3g} → {score:.3g}"
        )
        if math.isnan(low):
            told += "; one noise sample: no error known"
        else:
            end = f"to {high:g}" if math.isfinite(high) else "on, with no upper end on this curve"
            told += f"; 95 % interval over {len(self.corrupted)} noise samples: from {low:g} {end}"
        return f"{told}. {too_much(self.lost_at)}" if beyond(factor, self.lost_at) else told

    @property
    def summary(self) -> CurveSummary:
        """What a widget and a file keep of it: mean scores, the interval of `suggest_factor`, and `lost_at`."""
        try:
            suggested = self.suggest_factor()
        except ValueError:  # there is no share of a logarithm, or no factor of this curve removes so much
            suggested = SuggestedFactor(math.nan, "")
        factors, scores = (tuple(map(float, each)) for each in (self.factors, self.scores))
        return CurveSummary(factors, scores, self.clean, suggested.low, suggested.high, self.lost_at)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per factor and run: factor, run ("corrupted" or the state), score, stderr, clean score."""
        import pandas as pd

        tables = [
            pd.DataFrame({"factor": self.factors, "run": "corrupted", "score": self.scores, "stderr": self.stderr})
        ]
        for index, state in enumerate(self.states):
            scores = self.patched[:, :, index]
            tables.append(
                pd.DataFrame(
                    {
                        "factor": self.factors,
                        "run": summaries.called(state),
                        "score": scores.mean(axis=0),
                        "stderr": standard_error(scores),
                    }
                )
            )
        return pd.concat(tables, ignore_index=True).assign(clean=self.clean)

    def plot(self, ax: Any = None) -> Any:
        """Draw mean scores and standard errors against the factor.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.
        """
        from blip_trace_widget.results import plots

        return plots.curves(self.to_dataframe(), ax, names="run", values="score", level=("clean", self.clean))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata.

        Raises:
            OSError: if the file cannot be written.
        """
        arrays = {
            "factors": self.factors,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "patched": self.patched,
        }
        files.write(path, NOISE_CURVE, arrays, states=[asdict(state) for state in self.states])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NoiseCurve:
        """Read a curve that `save` wrote, bit for bit.

        Raises:
            FileNotFoundError, OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return files.read(path, NOISE_CURVE)


def beyond(factor: float, lost_at: float | None) -> bool:
    """Whether all is lost at a factor."""
    return lost_at is not None and factor >= lost_at


def too_much(lost_at: float | None) -> str:
    """What there is to say of the factors at which all is lost; "" where there are none."""
    if lost_at is None:
        return ""
    return f"From ν = {lost_at:g} on all is lost at once: a smaller factor tells more"


def _first(factors: NDArray[np.float64], enough: NDArray[np.bool_]) -> float:
    """The first factor that is enough; infinite where none is."""
    return float(factors[enough.argmax()]) if enough.any() else math.inf


def check_factors(factors: NDArray[Any]) -> None:
    """Refuse noise factors from a file that are none.

    Raises:
        ValueError: if any is negative, infinite or NaN.
    """
    if not (np.isfinite(factors) & (factors >= 0)).all():
        raise ValueError("factors: expected finite numbers of 0 or more")


def _read(arrays: files.Tensors, metadata: files.Fields) -> NoiseCurve:
    factors, corrupted, patched = arrays["factors"], arrays["corrupted"], arrays["patched"]
    states = tuple(stored.state(entry) for entry in conforms("states", metadata["states"], list[Any]))
    if corrupted.ndim != 2 or corrupted.shape[1:] != factors.shape or patched.shape != (*corrupted.shape, len(states)):
        raise ValueError(
            f"shapes {factors.shape}, {corrupted.shape} and {patched.shape} do not fit each other and "
            f"{len(states)} states"
        )
    if not corrupted.size or {array.dtype for array in (factors, corrupted, patched)} != {np.dtype(np.float64)}:
        raise ValueError("factors, corrupted, patched: expected numbers of type float64")
    check_factors(factors)
    return NoiseCurve(factors, float(arrays["clean"][0]), corrupted, patched, states)


NOISE_CURVE = files.Kind("noise curve", "blip_trace_widget.noise_curve", {1: _read})
