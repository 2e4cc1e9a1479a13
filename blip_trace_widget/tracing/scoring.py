"""Scores on their way: begun where the logits are, there once they are asked for.

For: `blip_trace_widget.tracing.question`. Whether logits are numbers comes back with their scores, in one wait.
Cost: the metric's, and a sum over the logits. Where memory runs out they are scored in parts.
Ends: at arrays of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_trace_widget.model.transfer import on_its_way, to_device
from blip_trace_widget.tracing.memory_budget import if_there_is_room, in_halves
from blip_trace_widget.tracing.metrics import Metric, Target


def target_of(answer: Sequence[int], foil: Sequence[int] | None, clean: Tensor) -> Target:
    """What runs are scored against, where the clean run's logits are, (answer positions, vocabulary)."""
    there = None if foil is None else to_device(torch.tensor(foil), clean.device)
    return Target(to_device(torch.tensor(answer), clean.device), there, clean)


def begun(
    metric: Metric, logits: Tensor, target: Target, check: Callable[[], None]
) -> Callable[[], NDArray[np.float64]]:
    """Begin to score logits, (..., answer positions, vocabulary) -> (...); where memory runs out, in parts.

    Args:
        metric: the metric.
        logits: of runs.
        target: what they are scored against.
        check: called where some may not be finite; raises if they should be.

    Returns:
        a call that waits for the scores.

    Raises:
        ValueError: if a user's metric returns anything but a tensor of that shape.
    """
    shape, device = logits.shape[:-2], logits.device
    started = if_there_is_room(partial(_begun, metric, logits, target, check), shape.numel(), device)

    def settled() -> NDArray[np.float64]:
        found = None if started is None else if_there_is_room(started, shape.numel(), device)
        if found is not None:
            return found
        each = logits.flatten(0, -3)
        parts = in_halves(lambda some: _begun(metric, each[some], target, check)(), shape.numel(), device)
        return np.concatenate(list(parts)).reshape(shape)

    return settled


def _begun(
    metric: Metric, logits: Tensor, target: Target, check: Callable[[], None]
) -> Callable[[], NDArray[np.float64]]:
    """As `begun`, all at once."""
    total = logits.sum()
    try:
        scores = metric.score(logits, target)
    except Exception:
        check()  # a metric may fail of what are no numbers
        raise
    if not isinstance(scores, Tensor) or scores.shape != logits.shape[:-2]:
        raise ValueError(
            f"metric: expected a tensor of shape {tuple(logits.shape[:-2])} for logits of shape "
            f"{tuple(logits.shape)}, got {getattr(scores, 'shape', type(scores).__name__)}"
        )
    there = on_its_way(scores, total)

    def settled() -> NDArray[np.float64]:
        found, sum_of_all = there()
        if not np.isfinite(sum_of_all):
            check()
        return found

    return settled
