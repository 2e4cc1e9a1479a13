"""What was done to the input, in words.

For: the line below the noise slider, the caption of grids and details, and sentences that name the cause of the damage.
Ends: at lines; a corruption's name in a menu is in `blip_trace_widget.display.labels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blip_trace_widget.choices import PUBLISHED_PLACE
from blip_trace_widget.results.snapshot import Average

#: Corruption -> the cause of the damage in a word, what was done, and what to do if it did too little.
CAUSES = {
    "GaussianNoise": ("noise", "noise", "turn it up"),
    "Scale": ("scaling", "scaled tokens", "take a factor further from 1"),
    "ImageSwap": ("swap", "other picture", "choose another picture"),
    "QuestionSwap": ("swap", "other question", "ask something else instead"),
    "MeanAblation": ("ablation", "ablation", "damage it otherwise"),
}


def damage(settings: Mapping[str, Any]) -> str:
    """What was done to the input, in a few words, from a corruption's `settings`."""
    if settings["type"] == "GaussianNoise":
        return f"ν {settings['factor']:.1f}"
    if settings["type"] == "Scale":
        return f"tokens × {settings['factor']:.3g}"
    return CAUSES[settings["type"]][1]


def damage_line(settings: Mapping[str, Any], average: Average | None = None, words: Sequence[str] = ()) -> str:
    """The corruption and its fields, in one line; in an average each sample has its own noise.

    Args:
        settings: the corruption's settings.
        average: the average, if it is one.
        words: word pieces of the question.
    """
    own = " + the sample's id" if average else ""
    return _damage_line(settings, own) + _damaged_part(settings, words)


def _damaged_part(settings: Mapping[str, Any], words: Sequence[str]) -> str:
    """The damaged part of the input, unless it is the paper's: all image tokens."""
    cells = [cell for row in settings.get("region") or () for cell in row]
    some = f" · {sum(cells)} of {len(cells)} patches" if cells else ""
    at = settings.get("at", PUBLISHED_PLACE)
    if at != "question_embeddings":
        return {"patch_embeddings": " · before the ViT"}.get(at, "") + some
    positions = settings["positions"]
    if positions is None:
        return " · on every word"
    hit = [each if isinstance(each, str) else words[each] for each in positions]
    return " · on " + ", ".join(f"“{word}”" for word in hit)


def _damage_line(settings: Mapping[str, Any], own: str) -> str:
    if settings["type"] == "GaussianNoise":
        draws = "1 sample" if settings["samples"] == 1 else f"{settings['samples']} samples"
        return f"{settings['kind']} · {draws} · seed {settings['seed']}{own}"
    if settings["type"] == "Scale":
        return f"image tokens × {settings['factor']:g}"
    if settings["type"] == "MeanAblation":
        return "image tokens at their mean" if settings["to"] == "mean" else "image tokens at zero"
    if settings["type"] == "QuestionSwap":
        return f"“{settings['question']}” asked instead"
    if settings["type"] == "ImageSwap":
        return "another picture's image tokens"
    return damage(settings)
