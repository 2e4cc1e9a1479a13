"""Numbers beyond what a floating point type holds: noticed, and said.

For: every run whose logits are read. What overflows becomes infinite, then NaN wherever it is looked at, and so are
the logits of that run; they are looked at here, before anybody scores or shows them. Damaged embeddings are looked at
themselves, for the fast way to their keys and values goes without them.
Cost: one sum over the logits and the damaged embeddings; in float16 over keys and values too.
Ends: at an error. A metric of the user's own may give NaN of finite logits: that is a score like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.model.cross_attention import ImageKV
    from blip_trace_widget.tracing.corruption import Corruption


class BeyondRangeError(ValueError):
    """A run holds numbers that the model's floating point type cannot; no score can be made of it."""


def check_in_range(
    logits: Tensor, model: BlipVqa, corruption: Corruption | None = None, clean: Tensor | None = None
) -> None:
    """Whether the logits of some runs are numbers.

    Args:
        logits: (..., answer positions, vocabulary).
        model: whose they are.
        corruption: what these runs are corrupted by, or patched from; None for the clean run.
        clean: the clean run's logits, (answer positions, vocabulary): a word that the model itself rules out there, at
            minus infinity, may be ruled out in every run.

    Raises:
        BeyondRangeError: if they are not, naming the factor, the type, and what to do.
    """
    if torch.isfinite(logits.sum()):
        return
    ruled_out = torch.isneginf(logits if clean is None else clean)
    ruled_out &= ~ruled_out.all(-1, keepdim=True)
    if not (torch.isfinite(logits) | (torch.isneginf(logits) & ruled_out)).all():
        raise beyond_range(model, corruption)


def check_embeddings(embeddings: Tensor, model: BlipVqa, corruption: Corruption) -> None:
    """Whether damaged embeddings are numbers: if not, keys and values that are made without them may hide it.

    Raises:
        BeyondRangeError: if they are not.
    """
    if not torch.isfinite(embeddings.sum(dtype=torch.float32)):
        raise beyond_range(model, corruption)


def check_keys_values(kv: ImageKV, model: BlipVqa, corruption: Corruption) -> None:
    """Whether the keys and values of damaged image tokens are numbers: an infinite key may hide behind a weight of 0.

    Looked at where numbers are that small; modules that somebody has changed are not called once more for it.

    Raises:
        BeyondRangeError: if they are not.
    """
    block = model.question_encoder
    if model.dtype is torch.float16 and not block.one_by_one:
        for layer in range(len(block.layers)):
            for each in kv.keys_values(layer):
                check_embeddings(each, model, corruption)


def check_strength(model: BlipVqa, corruption: Corruption) -> None:
    """Whether a strength is a number of the model's type, so that it can be multiplied with.

    Raises:
        BeyondRangeError: if it is not.
    """
    if abs(corruption.strength) > torch.finfo(model.dtype).max:
        raise beyond_range(model, corruption)


def beyond_range(model: BlipVqa, corruption: Corruption | None) -> BeyondRangeError:
    """What is raised."""
    dtype = str(model.dtype).removeprefix("torch.")
    largest = f"{dtype}, whose largest number is {torch.finfo(model.dtype).max:.3g}"
    load = "" if model.dtype.itemsize > 2 else "load the model with dtype='float32'"
    wider = load or "look for weights that are not finite"
    if corruption is None:
        return BeyondRangeError(f"model: the clean run goes beyond {largest}: {wider}")
    factor: Any = getattr(corruption, "factor", None)
    kind = type(corruption).__name__
    told = f"corruption: {kind}{f' with factor {factor:g}' if factor else ''} takes a run beyond {largest}"
    way = f"use a {'smaller factor' if factor else 'milder corruption'}"
    return BeyondRangeError(f"{told}: {way}{f', or {load}' if load else ''}")
