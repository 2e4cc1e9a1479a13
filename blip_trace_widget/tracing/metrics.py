"""Metrics: from a run's logits to its score.

For: the metrics of the paper, those common in the field, and users' own.
Cost: one log-softmax over the vocabulary per scored answer position.
Ends: at scores; `blip_trace_widget.results.statistics` turns them into effects.

Source: Zhang & Nanda 2023 (arXiv 2309.16042) for the choice of metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from blip_trace_widget.checks import named
from blip_trace_widget.choices import metric_properties

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Target:
    """What a metric compares the logits with.

    Attributes:
        answer: token ids of the answer, end token left out, (a,).
        foil: token ids of the foil, (a,), or None.
        clean_logits: the clean run's logits, (a, vocabulary).
    """

    answer: torch.Tensor
    foil: torch.Tensor | None
    clean_logits: torch.Tensor


Score: TypeAlias = "Callable[[torch.Tensor, Target], torch.Tensor]"


def log_probability(logits: torch.Tensor, target: Target) -> torch.Tensor:
    """Logarithm of the answer's probability: sum over its tokens. (..., a, vocabulary) -> (...)."""
    answer = target.answer.expand(logits.shape[:-1]).unsqueeze(-1)
    return (logits.gather(-1, answer).squeeze(-1) - logits.logsumexp(-1)).sum(-1)


def probability(logits: torch.Tensor, target: Target) -> torch.Tensor:
    """The answer's probability: product over its tokens. (..., a, vocabulary) -> (...)."""
    return log_probability(logits, target).exp()


def logit_difference(logits: torch.Tensor, target: Target) -> torch.Tensor:
    """Logits of the answer minus those of the foil, summed over positions. (..., a, vocabulary) -> (...)."""
    assert target.foil is not None
    answer = target.answer.expand(logits.shape[:-1]).unsqueeze(-1)
    foil = target.foil.expand(logits.shape[:-1]).unsqueeze(-1)
    return (logits.gather(-1, answer) - logits.gather(-1, foil)).squeeze(-1).sum(-1)


def kl_divergence(logits: torch.Tensor, target: Target) -> torch.Tensor:
    """KL(clean ‖ run) of the first answer position's distribution, in nats. (..., a, vocabulary) -> (...)."""
    first = logits[..., 0, :].log_softmax(-1)
    clean = target.clean_logits[0].log_softmax(-1)
    return (clean.exp() * (clean - first)).sum(-1)


METRICS: dict[str, Score] = {
    "probability": probability,
    "log_probability": log_probability,
    "logit_difference": logit_difference,
    "kl_divergence": kl_divergence,
}


@dataclass(frozen=True)
class Metric:
    """A named way to score a run.

    Attributes:
        name: one of `blip_trace_widget.choices.METRIC_NAMES`, or the name of a user's function.
        score: (logits (..., a, vocabulary), target) -> scores (...).
    """

    name: str
    score: Score

    @property
    def needs_foil(self) -> bool:
        """Whether it compares the answer with a foil."""
        return metric_properties(self.name).needs_foil


def as_metric(metric: object) -> Metric:
    """A metric from its name, or from a callable (logits (..., a, vocabulary), answer tokens (a,)) -> scores (...).

    Raises:
        TypeError, ValueError: naming what was given and what is accepted.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        function: Any = metric
        name = str(getattr(metric, "__name__", type(metric).__name__))
        if name in METRICS:  # whose properties are looked up by their names, in files too
            name = f"own {name}"
        return Metric(name, lambda logits, target: function(logits, target.answer.clone()))
    name = named("metric", metric, METRICS)
    return Metric(name, METRICS[name])
