"""How much a model's runs may take at once, where that is not left to its device.

For: peak memory, and how often long work reports and may be stopped.
Ends: at numbers. What follows from them is `blip_trace_widget.tracing.memory_budget`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from blip_trace_widget.checks import whole_number


@dataclass(frozen=True)
class Limits:
    """What runs may take at once; None: as much as the device has and needs for full speed.

    Attributes:
        memory: bytes above the weights.
        rows: rows (samples x runs x positions) through a layer.
        rows_per_sample: rows that a sample should have in a chunk: samples share no keys, so a few samples with many
            rows each are faster.

    Raises:
        TypeError: if one is no whole number.
        ValueError: if one is less than 1.
    """

    memory: int | None = None
    rows: int | None = None
    rows_per_sample: int = 512

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                whole_number(each.name, value, 1)
