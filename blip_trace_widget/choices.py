"""The names that can be chosen from: metrics, corruptions, and what corruptions are made with.

For: checking arguments and files, and the widget's menus, without what computes them.
Cost: none.
Ends: at names; what they do is `blip_trace_widget.tracing.metrics`' and `blip_trace_widget.tracing.corruption`'s.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

#: What a run can be scored by.
MetricName: TypeAlias = Literal["probability", "log_probability", "logit_difference", "kl_divergence"]
NoiseKind: TypeAlias = Literal["multiplicative", "additive"]
Place: TypeAlias = Literal["patch_embeddings", "image_embeddings"]
Goal: TypeAlias = Literal["mean", "zero"]
RunName: TypeAlias = Literal["clean", "corrupted", "difference"]
CorruptionName: TypeAlias = Literal["GaussianNoise", "ImageSwap", "QuestionSwap", "MeanAblation"]

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
#: The embeddings that a corruption of the image damages: what enters the ViT's first layer, or what leaves the ViT.
PLACES: tuple[Place, ...] = get_args(Place)
#: What `MeanAblation` puts in the place of image tokens.
GOALS: tuple[Goal, ...] = get_args(Goal)
#: The package's own corruptions.
CORRUPTIONS: tuple[CorruptionName, ...] = get_args(CorruptionName)
