"""Other corruptions that a grid is held against: what "also under …" offers.

For: the widget's list, and what is computed when one of them is chosen.
Ends: at names and settings; the corruptions are `blip_trace_widget.tracing.corruption`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blip_trace_widget.choices import IMAGE_PLACES, NOISE_KINDS

Settings = dict[str, Any]


def alternatives(settings: Mapping[str, Any]) -> dict[str, Settings]:
    """The settings of other corruptions than that of these settings, by name.

    The same noise drawn anew, half as much of it, its other kind; the picture at its mean; and noise, where there is
    none. All are done at the same place, if they can be, and confined to the same region.
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
