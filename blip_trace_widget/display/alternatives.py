"""Other corruptions to compare a grid with: what "also under …" offers.

For: the widget's list, and what is computed when one of them is chosen.
Ends: at names and settings; `blip_trace_widget.tracing.corruption` makes corruptions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blip_trace_widget.choices import IMAGE_PLACES, NOISE_KINDS

Settings = dict[str, Any]


def alternatives(settings: Mapping[str, Any]) -> dict[str, Settings]:
    """Name -> settings of other corruptions than the one with these settings.

    The same noise with another seed, half of it, its other kind; the image tokens at their mean; and noise, if there
    is none. All act on the same embeddings if they can, and on the same region.
    """
    where = {"region": settings.get("region")}
    where |= {"at": settings["at"]} if settings.get("at") in IMAGE_PLACES else {}
    found: dict[str, Settings] = {}
    if settings["type"] == "GaussianNoise":
        (kind,) = (each for each in NOISE_KINDS if each != settings["kind"])
        found["other seed"] = {**settings, "seed": settings["seed"] + 1}
        found["half the noise"] = {**settings, "factor": settings["factor"] / 2}
        found[f"{kind} noise"] = {**settings, "kind": kind}
    else:
        found["noise"] = {"type": "GaussianNoise", **where}
    if settings["type"] != "MeanAblation":
        found["ablation"] = {"type": "MeanAblation", **where}
    return found
