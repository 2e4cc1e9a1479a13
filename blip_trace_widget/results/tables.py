"""What all results share as tables and drawings: the columns of settings, and the values that can be drawn.

For: `to_dataframe` and `plot` of every result, so that tables of several can be concatenated.
Ends: at columns; each result adds its own numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from blip_trace_widget.results.summaries import beside

#: The values of a grid that can be drawn.
GridValue: TypeAlias = Literal["recovery", "indirect_effect", "score"]
VALUES = ("recovery", "indirect_effect", "score")


def held_columns(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is held, or where paths lead, as columns: those alone that settings speak of."""
    told = beside(settings)
    return {column: told[name] for column, name in (("hold", "held"), ("receivers", "into")) if column in settings}


def asked_columns(settings: dict[str, Any], rows: int) -> dict[str, Any]:
    """A result's settings as columns of `rows` rows, each always of the same type.

    So tables of several results can be concatenated; settings that a result lacks are missing values.
    """
    import pandas as pd

    damage = settings.get("corruption") or {}
    head = settings.get("head")
    factor = damage.get("factor")
    told = beside(settings)
    columns: dict[str, tuple[Any, str]] = {
        "block": (settings.get("block"), "object"),
        "site": (settings.get("site"), "object"),
        "head": (None if head == "all" else head, "Int64"),
        "window": (settings.get("window"), "Int64"),
        "patch": (settings.get("patch"), "Int64"),
        "direction": (settings.get("direction"), "object"),
        "hold": (told["held"] or None, "object"),
        "receivers": (told["into"] or None, "object"),
        "through": (told["through"] or None, "object"),
        "metric": (settings.get("metric"), "object"),
        "question": (settings.get("question"), "object"),
        "answer": (settings.get("answer"), "object"),
        "corruption": (damage.get("type"), "object"),
        "factor": (np.nan if factor is None else float(factor), "float64"),
        "seed": (damage.get("seed"), "Int64"),
    }
    return {name: pd.array([value] * rows, dtype=kind) for name, (value, kind) in columns.items()}
