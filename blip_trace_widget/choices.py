"""The metrics and corruptions to choose from, and the properties of each that all rooms share.

For: checking arguments and files, and showing scores, without importing what computes them. A new metric or corruption
gets its row here; all other rooms read these tables.
Ends: at names, flags and shapes. `blip_trace_widget.tracing.metrics` and `blip_trace_widget.tracing.corruption` compute
them; `blip_trace_widget.display.labels` has their names on screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, get_args

#: The metrics that can score a run.
MetricName: TypeAlias = Literal["probability", "log_probability", "logit_difference", "kl_divergence"]
NoiseKind: TypeAlias = Literal["multiplicative", "additive"]
Place: TypeAlias = Literal["patch_embeddings", "image_embeddings"]
Goal: TypeAlias = Literal["mean", "zero"]
RunName: TypeAlias = Literal["clean", "corrupted", "difference"]
CorruptionName: TypeAlias = Literal["GaussianNoise", "ImageSwap", "QuestionSwap", "MeanAblation"]

NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
#: The embeddings that a corruption of the image changes: the input of the ViT's first layer, or the ViT's output.
PLACES: tuple[Place, ...] = get_args(Place)
#: What `MeanAblation` replaces image tokens with.
GOALS: tuple[Goal, ...] = get_args(Goal)


@dataclass(frozen=True)
class MetricProperties:
    """Properties of a metric that its display and its statistics depend on.

    Attributes:
        percent: whether scores are shares, shown in percent, and their differences in percentage points.
        rises: whether the score rises as the answer is lost.
        first_position: whether only the first answer position is scored.
        needs_foil: whether the answer is compared with a foil.
    """

    percent: bool = False
    rises: bool = False
    first_position: bool = False
    needs_foil: bool = False


#: The properties of each metric.
METRIC_PROPERTIES: dict[str, MetricProperties] = {
    "probability": MetricProperties(percent=True),
    "log_probability": MetricProperties(),
    "logit_difference": MetricProperties(needs_foil=True),
    "kl_divergence": MetricProperties(rises=True, first_position=True),
}
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)


def metric_properties(name: str) -> MetricProperties:
    """The properties of a metric; a user's own metric has none of them."""
    return METRIC_PROPERTIES.get(name, MetricProperties())


# --- settings from which each corruption can be rebuilt, as plain JSON ------------------------------------------------


class GaussianNoiseSettings(TypedDict):
    """Settings of `blip_trace_widget.GaussianNoise`."""

    type: Literal["GaussianNoise"]
    factor: float
    kind: NoiseKind
    samples: int
    seed: int
    region: list[list[bool]] | None
    at: Place


class ImageSwapSettings(TypedDict):
    """Settings of `blip_trace_widget.ImageSwap`; its picture is stored separately."""

    type: Literal["ImageSwap"]
    sha256: str
    region: list[list[bool]] | None


class QuestionSwapSettings(TypedDict):
    """Settings of `blip_trace_widget.QuestionSwap`."""

    type: Literal["QuestionSwap"]
    question: str


class MeanAblationSettings(TypedDict):
    """Settings of `blip_trace_widget.MeanAblation`."""

    type: Literal["MeanAblation"]
    to: Goal
    region: list[list[bool]] | None


@dataclass(frozen=True)
class CorruptionProperties:
    """Properties of a corruption that all rooms share.

    Attributes:
        settings: the type of its `settings`.
        fields: trait of the widget -> the field that it sets; ``region`` is left out, since it is common to all that
            have it.
    """

    settings: Any
    fields: dict[str, str]

    @property
    def has_region(self) -> bool:
        """Whether it can be limited to a region of the picture."""
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
