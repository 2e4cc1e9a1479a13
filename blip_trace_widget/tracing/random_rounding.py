"""Random rounding: a model whose modules round what they put out at random, by as much as its numbers' type rounds.

For: how far rounding alone takes a run, where a single run in another type says too little: of two right ways of
computing it each rounds by luck. Some runs amplify rounding a thousand times more than others.
Cost: what the model costs, and a random number for each number that a module with weights puts out.
Ends: at the hooks; `blip_trace_widget.tracing.verification` runs the model.

Source: Parker 1997, Monte Carlo arithmetic (UCLA CSD-970002).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from blip_trace_widget.model.hooked import ThreadHook


@contextmanager
def randomly_rounded(hf: nn.Module, seed: int) -> Iterator[None]:
    """Multiply what each module with weights of its own puts out by 1 + the type's epsilon × N(0, 1), in this thread.

    Args:
        hf: the model.
        seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)

    def rounded(_module: Any, _inputs: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        kind = torch.float64 if output.dtype == torch.float64 else torch.float32
        # Twice the unit roundoff, as errors of a sum add up; drawn on the CPU so that the seed means the same anywhere.
        error = torch.finfo(output.dtype).eps * torch.randn(output.shape, generator=random, dtype=kind)
        return (output + output * error.to(output.device)).to(output.dtype)

    with ExitStack() as stack:
        for module in hf.modules():
            if any(True for _ in module.parameters(recurse=False)):
                stack.callback(ThreadHook(module, rounded).remove)
        yield
