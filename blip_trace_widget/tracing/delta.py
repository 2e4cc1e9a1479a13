"""What a corruption adds to embeddings, held to its contract: a user's own may give anything.

For: whoever damages embeddings.
Ends: at a tensor. What a corruption of the package adds is `blip_trace_widget.tracing.corruption`'s.
"""

from __future__ import annotations

import torch

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.tracing.corruption import Corruption


def checked_delta(corruption: Corruption, embeddings: torch.Tensor, model: BlipVqa, part: slice) -> torch.Tensor:
    """`Corruption.delta` of some samples, checked.

    Raises:
        TypeError: if it is no tensor of floating point numbers.
        ValueError: if it is not (samples of the part, tokens, width).
    """
    delta: object = corruption.delta(embeddings, model, part)
    expected = (len(range(*part.indices(corruption.samples))), *embeddings.shape)
    what = f"corruption: {type(corruption).__name__}.delta should give a tensor of shape {expected}"
    if not isinstance(delta, torch.Tensor) or not delta.is_floating_point():
        kind = f"a tensor of {delta.dtype}" if isinstance(delta, torch.Tensor) else type(delta).__name__
        raise TypeError(f"{what}, in floating point, got {kind}")
    if tuple(delta.shape) != expected:
        raise ValueError(f"{what} (samples of the part, tokens, width), got {tuple(delta.shape)}")
    return delta.to(embeddings.device)
