"""How much a model's runs may take at once, where that is not left to its device.

For: peak memory, how often long work reports and may be stopped, and whether questions of a data set are computed
together.
Ends: at numbers. What follows from them is `blip_trace_widget.tracing.memory_budget`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_trace_widget.checks import brief, whole_number


@dataclass(frozen=True)
class Limits:
    """What runs may take at once; None: as much as the device has and needs for full speed.

    Attributes:
        memory: bytes above the weights.
        rows: rows (samples x runs x positions) through a layer.
        rows_per_sample: rows that a sample should have in a chunk: samples share no keys, so a few samples with many
            rows each are faster.
        together: whether questions of a data set share passes, and their grids the runs that are equal by construction.
            Faster where one question does not fill the device, but the last bits are not those of a `Tracer`. None: on
            all devices but a CPU, where every question is computed exactly as a `Tracer` of it does.

    Raises:
        TypeError: if one is no whole number, or `together` neither a bool nor None.
        ValueError: if one is less than 1.
    """

    memory: int | None = None
    rows: int | None = None
    rows_per_sample: int = 512
    together: bool | None = None

    def __post_init__(self) -> None:
        for name in ("memory", "rows", "rows_per_sample"):
            value = getattr(self, name)
            if value is not None or name == "rows_per_sample":
                whole_number(name, value, 1)
        if not isinstance(self.together, bool | None):
            raise TypeError(f"together: expected True, False or None, got {brief(self.together)}")
