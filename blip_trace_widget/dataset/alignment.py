"""Different questions on common axes: which of their tokens play the same role.

For: averages and comparisons over questions of different words and lengths.
Cost: one pass over the tokens; the effects once more, (samples, layers, roles).
Ends: at arrays with names; what is made of them is `blip_trace_widget.dataset.averages`'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
#: From the tokens of a sample to a role for each; None leaves it out.
Roles: TypeAlias = Callable[[tuple[str, ...]], Sequence[str | None]]

ALIGNMENTS = ("exact", "ends")
#: Positions that keep their place at either end where the samples are long enough.
ENDS = 3
#: The role of all between the ends.
MIDDLE = "…"


@dataclass(frozen=True, eq=False)
class Aligned:
    """Effects of many samples on common axes.

    Attributes:
        roles: what the columns stand for.
        effects: indirect effect of each sample, mean over its positions of a role, (samples, layers, roles); NaN where
            a sample has none.
        total: total effect of each sample, (samples,).
        pictures: number of each sample's picture, (samples,).
    """

    roles: tuple[str, ...]
    effects: Array = field(repr=False)
    total: Array = field(repr=False)
    pictures: NDArray[np.int64] = field(repr=False)

    def of(self, chosen: NDArray[np.bool_]) -> Aligned:
        """Some of the samples, with the roles that they have."""
        effects = self.effects[chosen]
        there = np.atleast_1d(np.isfinite(effects[:, 0]).any(axis=0))
        roles = tuple(role for role, has in zip(self.roles, there, strict=True) if has)
        return Aligned(roles, effects[:, :, there], self.total[chosen], self.pictures[chosen])

    @property
    def flat(self) -> Array:
        """(samples, layers x roles)."""
        return self.effects.reshape(len(self.effects), -1)


def align_tokens(tokens: Sequence[tuple[str, ...]], align: str | Roles) -> tuple[tuple[str, ...], list[list[int]]]:
    """Roles for the tokens of many samples.

    Args:
        tokens: of each sample.
        align: ``"exact"``: samples of one length, a role a position; ``"ends"``: up to three positions from either end
            keep their place, as many as the shortest sample has, and all between are one role; or a callable from a
            sample's tokens to a role for each, None to leave it out.

    Returns:
        the roles' names, and for each sample the role of each position, -1 for none.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if callable(align):
        return _own_roles(tokens, align)
    if align not in ALIGNMENTS:
        given = repr(align) if isinstance(align, str) else type(align).__name__
        raise (ValueError if isinstance(align, str) else TypeError)(
            f"align: expected one of {list(ALIGNMENTS)} or a callable, got {given}"
        )
    lengths = Counter(len(each) for each in tokens)
    shortest = min(lengths)
    if align == "exact":
        if len(lengths) > 1:
            raise ValueError(
                "align: 'exact' needs samples of one length, these have (length: samples) "
                f"{dict(sorted(lengths.items()))}: take align='ends', or questions of one length by select(tokens=...)"
            )
        start, end = shortest, 0
    else:
        start, end = min(ENDS, (shortest + 1) // 2), min(ENDS, shortest // 2)
    middle = [] if max(lengths) == start + end else [MIDDLE]
    names = [_name(at, tokens) for at in range(start)] + middle + [_name(at, tokens) for at in range(-end, 0)]
    numbers = [
        [*range(start), *[start] * (len(each) - start - end), *range(len(names) - end, len(names))] for each in tokens
    ]
    return _distinct(names), numbers


def _name(at: int, tokens: Sequence[tuple[str, ...]]) -> str:
    """The token that all samples have there, or the position, counted from the end where negative."""
    there = {each[at] for each in tokens}
    return there.pop() if len(there) == 1 else str(at).replace("-", "−")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} ({at})" for at, name in enumerate(names))


def _own_roles(tokens: Sequence[tuple[str, ...]], align: Roles) -> tuple[tuple[str, ...], list[list[int]]]:
    index: dict[str, int] = {}
    numbers = []
    for each in tokens:
        roles = align(each)
        if isinstance(roles, str) or not isinstance(roles, Sequence) or len(roles) != len(each):
            raise ValueError(f"align: expected a role (or None) for each of the tokens {list(each)}, got {roles!r}")
        if not all(role is None or isinstance(role, str) for role in roles):
            raise TypeError(f"align: a role is a text or None, got {list(roles)!r}")
        numbers.append([-1 if role is None else index.setdefault(role, len(index)) for role in roles])
    if not index:
        raise ValueError("align: no token of any sample has a role")
    return tuple(index), numbers


def aligned(
    tokens: Sequence[tuple[str, ...]],
    effects: Sequence[Array],
    total: Array,
    pictures: NDArray[np.int64],
    align: str | Roles,
) -> Aligned:
    """Effects of samples, (layers, positions) each, on common axes; see `align_tokens`."""
    roles, numbers = align_tokens(tokens, align)
    made = np.full((len(effects), effects[0].shape[0], len(roles)), np.nan)
    for sample, (effect, places) in enumerate(zip(effects, numbers, strict=True)):
        of = np.asarray(places)
        for role in set(places) - {-1}:
            made[sample, :, role] = effect[:, of == role].mean(axis=1)
    return Aligned(roles, made, np.asarray(total, dtype=np.float64), pictures)
