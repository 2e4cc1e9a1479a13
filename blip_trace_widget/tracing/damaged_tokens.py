"""Which tokens a corruption damages, as a mask.

For: the corruptions.
Ends: at the mask; what the fields accept that say it is in `blip_trace_widget.corruption_fields`, what is done to the
tokens in `blip_trace_widget.tracing.corruption`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def token_mask(
    count: int, region: Sequence[Sequence[bool]] | None = None, positions: Sequence[int | str] | None = None
) -> torch.Tensor | None:
    """The damaged tokens, (count,) bool; None for all of them.

    Args:
        count: number of tokens.
        region: the damaged patches of a picture; its first token, the class token, is spared.
        positions: or the damaged tokens themselves.

    Raises:
        ValueError: if `positions` holds words, not numbers.
    """
    import torch

    if region is not None:
        return torch.tensor([False, *(cell for row in region for cell in row)], dtype=torch.bool)
    if positions is not None:
        if any(isinstance(each, str) for each in positions):
            raise ValueError("positions: words become numbers in a question: corruption.located(question_tokens)")
        damaged = set(positions)
        return torch.tensor([at in damaged for at in range(count)], dtype=torch.bool)
    return None
