"""Edges: attention edges that are cut in every sample, written so that they mean something in all of them.

For: `trace_dataset(knockout={"picture": Edges("question_encoder"), ...})`.
Ends: at positions in one sample, or None where it lacks what was named; `blip_trace_widget.tracing.knockout` cuts.

Source: Geva et al. 2023 (arXiv 2304.14767), who cut edges between groups of tokens, such as the subject's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blip_trace_widget.checks import brief, named, whole_number
from blip_trace_widget.dataset import fingerprints
from blip_trace_widget.states import TEXT_BLOCKS, word_pieces
from blip_trace_widget.tracing.knockout import ATTENTIONS

if TYPE_CHECKING:
    from blip_trace_widget.tracing.question import Question

#: Image tokens by the sample's region: those in it, and the other patches. The class token is in neither.
OBJECT, BACKGROUND = REGIONS = ("object", "background")

#: Positions in every sample: None for all, whole numbers (negative ones from the end), words, or a function from the
#: sample's tokens to positions.
Everywhere: TypeAlias = "int | str | Iterable[int | str] | Callable[[tuple[str, ...]], Iterable[int]] | None"


@dataclass(frozen=True)
class Edges:
    """Attention edges that a knockout cuts: these queries no longer attend to these keys.

    Queries and keys are None for all tokens; whole numbers, negative ones counted from the end; words, which are cut
    wherever they occur; or a function from the tuple of a sample's tokens to positions. Keys that are image tokens may
    also be ``"object"`` or ``"background"``: the patches inside and outside the sample's region. A sample that lacks
    all that is named (no such word, fewer tokens, no region) has no knockout of these edges.

    Attributes:
        block: ``"question_encoder"`` or ``"answer_decoder"``.
        queries: the attending tokens of the block.
        keys: what they attend to: of ``"cross_attention"`` image tokens (question encoder; 0 is the class token) or
            question tokens (answer decoder), of ``"self_attention"`` the block's own.
        site: ``"cross_attention"`` or ``"self_attention"``.
        head: one head; None for all.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    block: str
    queries: Everywhere = None
    keys: Everywhere = None
    site: str = "cross_attention"
    head: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", named("block (of a knockout)", self.block, TEXT_BLOCKS))
        object.__setattr__(self, "site", named("site (of a knockout)", self.site, ATTENTIONS))
        if self.head is not None:
            object.__setattr__(self, "head", whole_number("head (of a knockout)", self.head, 0))
        object.__setattr__(self, "queries", _checked("queries", self.queries))
        object.__setattr__(self, "keys", _checked("keys", self.keys))
        if self._to_image and any(isinstance(key, str) and key not in REGIONS for key in _listed(self.keys)):
            raise ValueError(
                f"keys: image tokens are named by number or as one of {list(REGIONS)}, got {brief(self.keys)}"
            )

    def of(self, question: Question, region: Sequence[Sequence[bool]] | None) -> tuple[list[int], list[int]] | None:
        """Queries and keys in one sample; None if it lacks all of either.

        Args:
            question: the sample's question.
            region: the sample's region, checked.

        Raises:
            TypeError, ValueError: if a function of the user's gives anything but positions.
        """
        own = question.tokens(self.block)
        if self._to_image:
            others = question.tokens("image_encoder")
        else:
            others = own if self.site == "self_attention" else question.question_tokens
        queries = _positions("queries", self.queries, own)
        keys = _positions("keys", self.keys, others, _regions(region) if self._to_image else {})
        return (queries, keys) if queries and keys else None

    def settings(self) -> dict[str, Any]:
        """What tells these edges from others, as plain JSON."""
        return {
            "block": self.block,
            "site": self.site,
            "head": self.head,
            "queries": _told(self.queries),
            "keys": _told(self.keys),
        }

    @property
    def _to_image(self) -> bool:
        return self.block == "question_encoder" and self.site == "cross_attention"


def _checked(name: str, given: Any) -> Any:
    """Positions as they are kept: None, a function, or a tuple of numbers and words."""
    if given is None or callable(given):
        return given
    chosen = _listed(given)
    if not chosen:
        raise ValueError(f"{name}: expected at least one token, by number or as a word, got none")
    for each in chosen:
        if isinstance(each, bool) or not (isinstance(each, str) or hasattr(each, "__index__")):
            raise TypeError(f"{name}: expected whole numbers, words, a function or None, got {brief(each)}")
    return tuple(each.strip().casefold() if isinstance(each, str) else int(each) for each in chosen)


def _listed(given: Any) -> tuple[Any, ...]:
    if given is None or callable(given):
        return ()
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)


def _positions(
    name: str, chosen: Any, tokens: Sequence[str], regions: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """The positions that are there in one sample, each once."""
    count = len(tokens)
    if chosen is None:
        return list(range(count))
    if callable(chosen):
        given = chosen(tuple(tokens))
        return sorted({whole_number(f"{name} (of your function)", at, 0, count - 1) for at in given or ()})
    found: set[int] = set()
    for each in chosen:
        if not isinstance(each, str):
            found |= {each % count} if -count <= each < count else set()
        elif regions:
            found |= set(regions[each])
        else:
            found |= {at for at, token in enumerate(tokens) if token.casefold() == each} or set(
                word_pieces(each, tokens) or ()
            )
    return sorted(found)


def _regions(region: Sequence[Sequence[bool]] | None) -> dict[str, list[int]]:
    inside = np.ravel([] if region is None else region).astype(bool)
    return {
        name: [int(at) + 1 for at in np.flatnonzero(which)] for name, which in ((OBJECT, inside), (BACKGROUND, ~inside))
    }


def _told(chosen: Any) -> Any:
    if callable(chosen):
        return f"{getattr(chosen, '__qualname__', type(chosen).__qualname__)} {fingerprints.of_callable(chosen)}"
    return None if chosen is None else list(chosen)
