"""The metrics and corruptions to choose from, and the properties of each that all rooms share.

For: checking arguments and files, and showing scores, without importing what computes them. A new metric or corruption
gets its row here; all other rooms read these tables.
Ends: at names, flags and shapes. `blip_trace_widget.tracing.metrics` and `blip_trace_widget.tracing.corruption` compute
them; `blip_trace_widget.display.labels` has their names on screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict, get_args, get_type_hints

#: The metrics that can score a run.
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
#: Largest factor of a corruption; beyond it float32 overflows somewhere in the model.
MAX_FACTOR = 1e6
#: Most noise samples, and the largest seed.
MOST_SAMPLES, MAX_SEED = 10_000, 2**63 - 1
#: What `Tracer.ablate` sets states to, beside factors.
ABLATIONS: tuple[AblationName, ...] = get_args(AblationName)
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
    positions: list[int | str] | None


class ScaleSettings(TypedDict):
    """Of `blip_trace_widget.Scale`."""

    type: Literal["Scale"]
    factor: float
    region: list[list[bool]] | None
    at: ImagePlace


class ImageSwapSettings(TypedDict):
    """Settings of `blip_trace_widget.ImageSwap`; its picture is stored separately."""

    type: Literal["ImageSwap"]
    sha256: str
    region: list[list[bool]] | None
    at: ImagePlace


class QuestionSwapSettings(TypedDict):
    """Settings of `blip_trace_widget.QuestionSwap`."""

    type: Literal["QuestionSwap"]
    question: str


class MeanAblationSettings(TypedDict):
    """Settings of `blip_trace_widget.MeanAblation`."""

    type: Literal["MeanAblation"]
    to: Goal
    region: list[list[bool]] | None
    at: ImagePlace


@dataclass(frozen=True)
class CorruptionProperties:
    """Properties of a corruption that all rooms share.

    Attributes:
        settings: the type of its `settings`.
        fields: trait of the widget -> the field that it sets; ``region`` is left out, since it is common to all that
            have it.
        added: values of the fields that files of earlier versions lack.
    """

    settings: Any
    fields: dict[str, str]
    added: dict[str, Any] = field(default_factory=dict)

    @property
    def has_region(self) -> bool:
        """Whether it can be limited to a region of the picture."""
        return "region" in self.settings.__annotations__

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


def damages_image(settings: Mapping[str, Any]) -> bool:
    """Whether a corruption of these settings damages the picture, rather than the question."""
    return settings.get("type") != "QuestionSwap" and settings.get("at", PUBLISHED_PLACE) in IMAGE_PLACES


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a corruption, from a file that may be of an earlier version, with what was added since."""
    own = CORRUPTIONS.get(settings["type"])
    added = own.added if own else {}
    return {**settings, **{name: value for name, value in added.items() if name not in settings}}
