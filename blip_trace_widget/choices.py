"""The names that can be chosen from, metrics and corruptions, and what everybody must know of each.

For: checking arguments and files, and showing scores, without what computes them. A new metric or corruption has its
row here; all other rooms read these tables.
Ends: at names, flags and shapes. What a metric or a corruption computes is `blip_trace_widget.tracing.metrics`' and
`blip_trace_widget.tracing.corruption`'s, what it is called on screen `blip_trace_widget.display.labels`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict, get_args, get_type_hints

#: What a run can be scored by.
MetricName: TypeAlias = Literal["probability", "log_probability", "logit_difference", "kl_divergence"]
NoiseKind: TypeAlias = Literal["multiplicative", "additive"]
ImagePlace: TypeAlias = Literal["patch_embeddings", "image_embeddings"]
Place: TypeAlias = Literal["patch_embeddings", "image_embeddings", "question_embeddings"]
Goal: TypeAlias = Literal["mean", "zero"]
RunName: TypeAlias = Literal["clean", "corrupted", "difference"]
AblationName: TypeAlias = Literal["zero", "mean"]
CorruptionName: TypeAlias = Literal["GaussianNoise", "Scale", "ImageSwap", "QuestionSwap", "MeanAblation"]

NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
#: The embeddings that a corruption can damage: what enters the ViT's first layer, what leaves the ViT, and what enters
#: the question encoder's first layer.
PLACES: tuple[Place, ...] = get_args(Place)
#: The one that the paper damages.
PUBLISHED_PLACE: Place = "image_embeddings"
IMAGE_PLACES: tuple[ImagePlace, ...] = get_args(ImagePlace)
#: Fields of a corruption that mean something at some places alone.
FIELDS_AT: dict[str, tuple[Place, ...]] = {"region": IMAGE_PLACES, "positions": ("question_embeddings",)}
#: What `Tracer.ablate` sets states to, beside factors.
ABLATIONS: tuple[AblationName, ...] = get_args(AblationName)
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
    positions: list[int | str] | None


class ScaleSettings(TypedDict):
    """Of `blip_trace_widget.Scale`."""

    type: Literal["Scale"]
    factor: float
    region: list[list[bool]] | None
    at: ImagePlace


class ImageSwapSettings(TypedDict):
    """Of `blip_trace_widget.ImageSwap`, whose picture is kept beside them."""

    type: Literal["ImageSwap"]
    sha256: str
    region: list[list[bool]] | None
    at: ImagePlace


class QuestionSwapSettings(TypedDict):
    """Of `blip_trace_widget.QuestionSwap`."""

    type: Literal["QuestionSwap"]
    question: str


class MeanAblationSettings(TypedDict):
    """Of `blip_trace_widget.MeanAblation`."""

    type: Literal["MeanAblation"]
    to: Goal
    region: list[list[bool]] | None
    at: ImagePlace


@dataclass(frozen=True)
class CorruptionProperties:
    """What everybody must know of a corruption.

    Attributes:
        settings: the shape of its `settings`.
        fields: trait of the widget -> the field that it sets; ``region``, where a corruption has one, is every one's.
        added: what the fields are that files of earlier versions lack.
    """

    settings: Any
    fields: dict[str, str]
    added: dict[str, Any] = field(default_factory=dict)

    @property
    def has_region(self) -> bool:
        """Whether it can be limited to a part of the picture."""
        return "region" in get_type_hints(self.settings)

    @property
    def places(self) -> tuple[Place, ...]:
        """The embeddings that it can damage; none where that cannot be chosen."""
        return get_args(get_type_hints(self.settings).get("at"))


#: The package's own corruptions.
CORRUPTIONS: dict[str, CorruptionProperties] = {
    "GaussianNoise": CorruptionProperties(
        GaussianNoiseSettings,
        {
            "noise": "factor",
            "kind": "kind",
            "samples": "samples",
            "seed": "seed",
            "at": "at",
            "positions": "positions",
        },
        {"positions": None},
    ),
    "Scale": CorruptionProperties(ScaleSettings, {"scale": "factor", "at": "at"}),
    "ImageSwap": CorruptionProperties(ImageSwapSettings, {"at": "at"}, {"at": "image_embeddings"}),
    "QuestionSwap": CorruptionProperties(QuestionSwapSettings, {"other_question": "question"}),
    "MeanAblation": CorruptionProperties(MeanAblationSettings, {"to": "to", "at": "at"}, {"at": "image_embeddings"}),
}
#: Those that can damage what enters the image encoder.
BEFORE_THE_VIT = tuple(name for name, own in CORRUPTIONS.items() if "patch_embeddings" in own.places)


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a corruption, from a file that may be of an earlier version, with what was added since."""
    own = CORRUPTIONS.get(settings["type"])
    return {**(own.added if own else {}), **settings}


def means_something(name: str, at: str | None) -> bool:
    """Whether a field of a corruption means something at a place."""
    return name not in FIELDS_AT or at in FIELDS_AT[name]
