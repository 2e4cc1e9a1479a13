"""The payload of a clean run with scaled states.

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
        """The score."""

    @property
    def clean(self) -> float:
        """The score of the unchanged clean run."""

    @property
    def answer(self) -> str:
        """The answer."""

    @property
    def settings(self) -> dict[str, Any]:
        """The ablated states, and how they were ablated."""


def ablation(run: AblatedRun, spec: GridSpec, cells: Sequence[CellIndex], generation: int) -> protocol.Ablation:
    """The payload of the clean run in which the selected states are multiplied by a factor."""
    metric = run.settings["metric"]
    score, clean = (formatting.score(metric, value) for value in (run.score, run.clean))
    return {
        "generation": generation,
        "block": spec.block,
        "site": spec.site,
        "head": spec.head,
        "window": spec.window,
        "cells": list(cells),
        "strength": float(run.settings["to"]),
        "answer": run.answer,
        "score": run.score if math.isfinite(run.score) else None,
        "text": f"“{run.answer}”, {score} (untouched {clean})",
    }
