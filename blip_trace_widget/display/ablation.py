"""A clean run with states at another strength, as the front end shows it.

For: the strength slider.
Ends: at a JSON-ready dictionary, `blip_trace_widget.display.protocol.Ablation`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from blip_trace_widget.display import formatting, protocol
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec


class AblatedRun(Protocol):
    """A clean run in which states are ablated."""

    @property
    def score(self) -> float:
        """Its score."""

    @property
    def clean(self) -> float:
        """That of the clean run as it is."""

    @property
    def answer(self) -> str:
        """What is answered then."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was ablated, and how."""


def ablation(found: AblatedRun, spec: GridSpec, cells: Sequence[CellIndex], generation: int) -> protocol.Ablation:
    """The clean run in which the selected states are times a factor."""
    metric = found.settings["metric"]
    score, clean = (formatting.score(metric, value) for value in (found.score, found.clean))
    return {
        "generation": generation,
        "block": spec.block,
        "site": spec.site,
        "head": spec.head,
        "window": spec.window,
        "cells": list(cells),
        "strength": float(found.settings["to"]),
        "answer": found.answer,
        "score": found.score if math.isfinite(found.score) else None,
        "text": f"“{found.answer}”, {score} (untouched {clean})",
    }
