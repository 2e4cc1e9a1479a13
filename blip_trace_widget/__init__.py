"""Causal tracing of BLIP's visual question answering, in a notebook.

The names below are imported when they are first used: importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blip_trace_widget.corruption import GaussianNoise, ImageSwap, MeanAblation, QuestionSwap
    from blip_trace_widget.demo import examples
    from blip_trace_widget.model import BlipVqa
    from blip_trace_widget.results import Effect, NoiseCurve, Run, Trace, load_trace
    from blip_trace_widget.sites import State
    from blip_trace_widget.tracer import Tracer
    from blip_trace_widget.widget import TraceWidget

__version__ = "0.1.0"

_HOMES = {
    "BlipVqa": "model",
    "Effect": "results",
    "GaussianNoise": "corruption",
    "ImageSwap": "corruption",
    "MeanAblation": "corruption",
    "NoiseCurve": "results",
    "QuestionSwap": "corruption",
    "Run": "results",
    "State": "sites",
    "Trace": "results",
    "TraceWidget": "widget",
    "Tracer": "tracer",
    "examples": "demo",
    "load_trace": "results",
}

__all__ = [  # noqa: RUF022 - in the order in which one meets them
    "BlipVqa",
    "Tracer",
    "TraceWidget",
    "State",
    "GaussianNoise",
    "ImageSwap",
    "QuestionSwap",
    "MeanAblation",
    "Run",
    "Effect",
    "Trace",
    "NoiseCurve",
    "examples",
    "load_trace",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
