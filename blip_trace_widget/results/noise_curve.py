"""NoiseCurve: scores over the noise factor, and the factor that they suggest.

For: choosing how much noise, and seeing what a state brings back under more or less of it.
Ends: at numbers and what its files hold; drawing is `blip_trace_widget.results.plots`'.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import whole_number
from blip_trace_widget.results import files, summaries
from blip_trace_widget.results.numerics import quiet, standard_error
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import State

if TYPE_CHECKING:
    import pandas as pd

#: The noise factors of a curve unless others are asked for.
DEFAULT_FACTORS = tuple(float(factor) for factor in np.linspace(0, 10, 21))


class SuggestedFactor(float):
    """A noise factor, and why this one.

    Attributes:
        reason: a sentence.
    """

    reason: str

    def __new__(cls, factor: float, reason: str) -> SuggestedFactor:  # noqa: PYI034 - Self needs Python 3.11
        """Make it from a number and a sentence."""
        made = super().__new__(cls, factor)
        made.reason = reason
        return made

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        return float(self), self.reason

    def __repr__(self) -> str:
        return f"{float(self)!r} ({self.reason})"

    __str__ = float.__repr__


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCurve(Summarised):
    """Scores over the noise factor.

    Attributes:
        factors: noise factors, (factors,).
        clean: score of the clean run.
        corrupted: scores of the corrupted runs, (samples, factors).
        patched: scores with one state restored, (samples, factors, states).
        states: those states.
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
            "states": ", ".join(map(summaries.called, self.states)),
        }

    @property
    @quiet
    def scores(self) -> NDArray[np.float64]:
        """Mean score of the corrupted run, (factors,)."""
        return np.asarray(self.corrupted.mean(axis=0))

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Its standard error, (factors,); NaN for a single sample."""
        return standard_error(self.corrupted)

    @quiet
    def suggest_factor(self, share: float = 0.9) -> SuggestedFactor:
        """The smallest factor of this curve at which the noise removes so much of the clean score.

        Args:
            share: of the clean score, above 0 and at most 1.

        Raises:
            ValueError: if the clean score is not above 0 (a logarithm, a divergence), so that there is no share of it;
                or if no factor of this curve removes so much.
            TypeError, ValueError: if `share` is no such number.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(f"share: expected a number above 0 and at most 1, got {type(share).__name__} {share!r}")
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a number above 0 and at most 1, got {share!r}")
        if not self.clean > 0:
            raise ValueError(
                f"a share of the clean score needs one above 0, this is {self.clean:.3g}: take the curve with "
                "metric='probability'"
            )
        removed = 1 - self.scores / self.clean
        order = np.argsort(self.factors)
        enough = [index for index in order if removed[index] >= share]
        if not enough:
            most = int(np.nanargmax(removed))
            raise ValueError(
                f"no factor of this curve removes {share:.0%} of the clean score ({self.clean:.3g}); the most is "
                f"{removed[most]:.0%} at {self.factors[most]:g}: take a curve with larger factors"
            )
        first = int(enough[0])
        return SuggestedFactor(
            float(self.factors[first]),
            f"ν = {self.factors[first]:g} is the smallest of {self.factors.size} factors at which the noise removes "
            f"{share:.0%} of the clean score: {self.clean:.3g} → {self.scores[first]:.3g}",
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each factor and run: factor, run ("corrupted" or the state), score, stderr, clean score."""
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
        """Mean score and standard error over the factor.

        Args:
            ax: matplotlib axes to draw on.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure.
        """
        from blip_trace_widget.results import plots

        return plots.curve(self, ax)

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
            OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return files.read(path, NOISE_CURVE)


def _read(arrays: files.Tensors, told: files.Fields) -> NoiseCurve:
    factors, corrupted, patched = arrays["factors"], arrays["corrupted"], arrays["patched"]
    states = tuple(_state(entry) for entry in told["states"])
    if corrupted.ndim != 2 or corrupted.shape[1:] != factors.shape or patched.shape != (*corrupted.shape, len(states)):
        raise ValueError(
            f"shapes {factors.shape}, {corrupted.shape} and {patched.shape} do not fit each other and "
            f"{len(states)} states"
        )
    return NoiseCurve(factors, float(arrays["clean"][0]), corrupted, patched, states)


def _state(entry: Any) -> State:
    try:
        state = State(**entry)
        whole_number("position", state.position, 0)  # by now no word
    except TypeError as error:
        raise ValueError(f"no state: {entry!r}: {error}") from error
    return state


NOISE_CURVE = files.Kind("noise curve", "blip_trace_widget.noise_curve", {1: _read})
