"""What results have in common as tables and drawings: the columns that say what was asked, and what can be drawn.

For: `to_dataframe` and `plot` of every result, so that tables of several can be put below each other.
Ends: at columns; the numbers are each result's own.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

#: What a grid can be drawn by.
GridValue: TypeAlias = Literal["recovery", "indirect_effect", "score"]
VALUES = ("recovery", "indirect_effect", "score")


def asked_columns(settings: dict[str, Any], rows: int) -> dict[str, Any]:
    """What a result's settings say, each as a column of so many rows and always of one type.

    So that tables of several results can be put below each other; what a result does not have is missing there.
    """
    import pandas as pd

    damage = settings.get("corruption") or {}
    head = settings.get("head")
    factor = damage.get("factor")
    told: dict[str, tuple[Any, str]] = {
        "block": (settings.get("block"), "object"),
        "site": (settings.get("site"), "object"),
        "head": (None if head == "all" else head, "Int64"),
        "window": (settings.get("window"), "Int64"),
        "patch": (settings.get("patch"), "Int64"),
        "direction": (settings.get("direction"), "object"),
        "metric": (settings.get("metric"), "object"),
        "question": (settings.get("question"), "object"),
        "answer": (settings.get("answer"), "object"),
        "corruption": (damage.get("type"), "object"),
        "factor": (np.nan if factor is None else float(factor), "float64"),
        "seed": (damage.get("seed"), "Int64"),
    }
    return {name: pd.array([value] * rows, dtype=kind) for name, (value, kind) in told.items()}
