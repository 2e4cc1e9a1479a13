"""The names that can be chosen from, metrics and corruptions, and what everybody must know of each.

For: checking arguments and files, and showing scores, without what computes them. A new metric or corruption has its
row here; all other rooms read these tables.
Ends: at names, flags and shapes. What a metric or a corruption computes is `blip_trace_widget.tracing.metrics`' and
`blip_trace_widget.tracing.corruption`'s, what it is called on screen `blip_trace_widget.display.labels`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, get_args

#: What a run can be scored by.
MetricName: TypeAlias = Literal["probability", "log_probability", "logit_difference", "kl_divergence"]
NoiseKind: TypeAlias = Literal["multiplicative", "additive"]
Place: TypeAlias = Literal["patch_embeddings", "image_embeddings"]
Goal: TypeAlias = Literal["mean", "zero"]
RunName: TypeAlias = Literal["clean", "corrupted", "difference"]
CorruptionName: TypeAlias = Literal["GaussianNoise", "ImageSwap", "QuestionSwap", "MeanAblation"]

NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
#: The embeddings that a corruption of the image damages: what enters the ViT's first layer, or what leaves the ViT.
PLACES: tuple[Place, ...] = get_args(Place)
#: What `MeanAblation` puts in the place of image tokens.
GOALS: tuple[Goal, ...] = get_args(Goal)


@dataclass(frozen=True)
class MetricProperties:
    """What follows from the kind of a metric, whoever shows or judges its scores.

    Attributes:
        percent: whether scores are shares, shown in percent and their differences in points.
        rises: whether the score rises where the answer breaks.
        first_position: whether only the first answer position is scored.
        needs_foil: whether the answer is compared with a foil.
    """

    percent: bool = False
    rises: bool = False
    first_position: bool = False
    needs_foil: bool = False


#: Of each metric.
METRIC_PROPERTIES: dict[str, MetricProperties] = {
    "probability": MetricProperties(percent=True),
    "log_probability": MetricProperties(),
    "logit_difference": MetricProperties(needs_foil=True),
    "kl_divergence": MetricProperties(rises=True, first_position=True),
}
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)


def metric_properties(name: str) -> MetricProperties:
    """What follows from a metric's kind; of a user's own none of it does."""
    return METRIC_PROPERTIES.get(name, MetricProperties())


# --- what makes each corruption again, as plain JSON ------------------------------------------------------------------


class GaussianNoiseSettings(TypedDict):
    """Of `blip_trace_widget.GaussianNoise`."""

    type: Literal["GaussianNoise"]
    factor: float
    kind: NoiseKind
    samples: int
    seed: int
    region: list[list[bool]] | None
    at: Place


class ImageSwapSettings(TypedDict):
    """Of `blip_trace_widget.ImageSwap`, whose picture is kept beside them."""

    type: Literal["ImageSwap"]
    sha256: str
    region: list[list[bool]] | None


class QuestionSwapSettings(TypedDict):
    """Of `blip_trace_widget.QuestionSwap`."""

    type: Literal["QuestionSwap"]
    question: str


class MeanAblationSettings(TypedDict):
    """Of `blip_trace_widget.MeanAblation`."""

    type: Literal["MeanAblation"]
    to: Goal
    region: list[list[bool]] | None


@dataclass(frozen=True)
class CorruptionProperties:
    """What everybody must know of a corruption.

    Attributes:
        settings: the shape of its `settings`.
        fields: trait of the widget -> the field that it sets; ``region``, where a corruption has one, is every one's.
    """

    settings: Any
    fields: dict[str, str]

    @property
    def has_region(self) -> bool:
        """Whether it can be limited to a part of the picture."""
        return "region" in self.settings.__annotations__


#: The package's own corruptions.
CORRUPTIONS: dict[str, CorruptionProperties] = {
    "GaussianNoise": CorruptionProperties(
        GaussianNoiseSettings,
        {"noise": "factor", "kind": "kind", "samples": "samples", "seed": "seed", "at": "at"},
    ),
    "ImageSwap": CorruptionProperties(ImageSwapSettings, {}),
    "QuestionSwap": CorruptionProperties(QuestionSwapSettings, {"other_question": "question"}),
    "MeanAblation": CorruptionProperties(MeanAblationSettings, {"to": "to"}),
}
