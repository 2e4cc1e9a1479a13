"""Computing noise curves: mean score against the noise factor, of the corrupted run and of patched ones.

For: `Tracer.noise_curve`.
Cost: for each factor a text pass over all samples, and one patched run for each state.
Ends: at a `NoiseCurve`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief
from blip_trace_widget.corruption_fields import checked_factor
from blip_trace_widget.model.progress import Progress, as_check, as_progress
from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS, NoiseCurve
from blip_trace_widget.states import State, as_states, listed_states
from blip_trace_widget.tracing.corruption import GaussianNoise
from blip_trace_widget.tracing.patching import all_patched_scores
from blip_trace_widget.tracing.question import Question


def noise_curve(
    question: Question,
    factors: Iterable[float] | None = None,
    states: State | Iterable[State] = (),
    cancel: Callable[[], bool] | Any = None,
    progress: bool | Progress | None = None,
) -> NoiseCurve:
    """See `Tracer.noise_curve`.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
        Cancelled: within a layer of `cancel` saying so.
    """
    values = checked_factors(question, factors)
    given = listed_states(states)
    for state in given:
        question.check_block(state.block)
    check = as_check(cancel)
    clean = question.clean_run(check).score  # computed now: the questions below share it
    chosen = as_states(question.located(given)) if given else ()
    runs = [(state,) for state in chosen]
    corrupted, patched = [], []
    report, close = as_progress(progress, values.size, "factor")
    try:
        for done, factor in enumerate(values, 1):
            noisier = question.with_corruption(factor=float(factor))
            corrupted.append(noisier.corrupted_scores(check))
            patched.append(all_patched_scores(noisier, runs, "restore", cancel))
            report(done, values.size)
    finally:
        close()
    return NoiseCurve(
        factors=values,
        clean=clean,
        corrupted=np.stack(corrupted, axis=1),
        patched=np.stack(patched, axis=1),
        states=chosen,
    )


def checked_factors(question: Question, factors: Any) -> NDArray[np.float64]:
    """The noise factors of a curve; None stands for the default ones.

    Raises:
        TypeError, ValueError: if they are none, or the question's corruption has no factor.
    """
    if not isinstance(question.corruption, GaussianNoise):
        raise ValueError(f"corruption: a noise curve needs GaussianNoise, got {type(question.corruption).__name__}")
    given = DEFAULT_FACTORS if factors is None else factors
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"factors: expected a sequence of numbers, got {type(given).__name__} {brief(given)}")
    values = [checked_factor("factors", factor) for factor in given]
    if not values:
        raise ValueError("factors: expected at least one number, got none")
    return np.array(values)
