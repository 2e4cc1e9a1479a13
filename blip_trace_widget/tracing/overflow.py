"""Numbers beyond what a floating point type holds: noticed, and said.

For: every run whose logits are read. What overflows becomes infinite, then NaN wherever it is looked at, and so are
the logits of that run; they are looked at here, before anybody scores or shows them. Damaged embeddings are looked at
themselves, for the fast way to their keys and values goes without them.
Cost: one sum over the logits and the damaged embeddings; in float16 over keys and values too.
Ends: at an error. A metric of the user's own may give NaN of finite logits: that is a score like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.model.cross_attention import ImageKV
    from blip_trace_widget.tracing.corruption import Corruption


class BeyondRangeError(ValueError):
    """A run holds numbers that the model's floating point type cannot; no score can be made of it."""


@dataclass(frozen=True)
class Cause:
    """What takes runs beyond the range of a floating point type.

    Attributes:
        text: the argument and the run, as the subject of a sentence.
        remedy: what to do about it besides choosing another type.
    """

    text: str
    remedy: str


CLEAN = Cause("model: the clean run goes", "look for weights that are not finite")


def cause_of(corruption: Corruption) -> Cause:
    """A corruption as what takes corrupted runs, and those patched from them, beyond range."""
    kind, factor = type(corruption).__name__, getattr(corruption, "factor", None)
    if factor is None:
        return Cause(f"corruption: {kind} takes a run", "use a milder one")
    return Cause(f"corruption: {kind} with factor {factor:g} takes a run", "use a smaller factor")


def check_in_range(logits: Tensor, model: BlipVqa, cause: Cause, clean: Tensor | None = None) -> None:
    """Whether the logits of some runs are numbers.

    Args:
        logits: (..., answer positions, vocabulary).
        model: whose they are.
        cause: what is to blame if they are not.
        clean: the clean run's logits, (answer positions, vocabulary): a word that the model itself rules out there, at
            minus infinity, may be ruled out in every run. None: these are the clean run's.

    Raises:
        BeyondRangeError: if they are not, naming the cause, the type, and what to do.
    """
    if torch.isfinite(logits.sum()):
        return
    ruled_out = torch.isneginf(logits if clean is None else clean)
    ruled_out &= ~ruled_out.all(-1, keepdim=True)
    if not (torch.isfinite(logits) | (torch.isneginf(logits) & ruled_out)).all():
        raise beyond_range(model, cause)


def check_embeddings(embeddings: Tensor, model: BlipVqa, corruption: Corruption) -> None:
    """Whether damaged embeddings are numbers: if not, keys and values that are made without them may hide it.

    Raises:
        BeyondRangeError: if they are not.
    """
    if not torch.isfinite(embeddings.sum(dtype=torch.float32)):
        raise beyond_range(model, cause_of(corruption))


def check_keys_values(kv: ImageKV, model: BlipVqa, corruption: Corruption) -> None:
    """Whether the keys and values of damaged image tokens are numbers: an infinite key may hide behind a weight of 0.

    Checked only if numbers are that small; modules that somebody has changed are not called once more for it.

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
        raise beyond_range(model, cause_of(corruption))


def beyond_range(model: BlipVqa, cause: Cause) -> BeyondRangeError:
    """The error for a cause."""
    dtype = str(model.dtype).removeprefix("torch.")
    load = "" if model.dtype.itemsize > 2 else ", or load the model with dtype='float32'"
    return BeyondRangeError(
        f"{cause.text} beyond {dtype}, whose largest number is {torch.finfo(model.dtype).max:.3g}: {cause.remedy}{load}"
    )
