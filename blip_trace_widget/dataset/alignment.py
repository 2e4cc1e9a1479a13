"""Different questions on common axes: which of their tokens play the same role.

For: averages and comparisons over questions of different words and lengths.
Cost: one pass over the tokens; a copy of the effects, (samples, layers, roles).
Ends: at arrays with names; `blip_trace_widget.dataset.averages` averages them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief
from blip_trace_widget.dataset.word_roles import ROLES, word_roles

Array: TypeAlias = NDArray[np.float64]
#: From the tokens of a sample to a role for each; None leaves a token out. The same tokens have the same roles.
Roles: TypeAlias = Callable[[tuple[str, ...]], Sequence[str | None]]

ALIGNMENTS = ("exact", "ends", "words")
#: Positions at either end that keep their own role if the samples are long enough.
ENDS = 3
#: The role of all positions between the ends.
MIDDLE = "…"


@dataclass(frozen=True, eq=False)
class Aligned:
    """Effects of many samples on common axes.

    Attributes:
        roles: names of the columns.
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
        """Some of the samples, (samples,) bool, with the roles that occur in them."""
        effects = self.effects[chosen]
        present = np.atleast_1d(np.isfinite(effects[:, 0]).any(axis=0))
        roles = tuple(role for role, has in zip(self.roles, present, strict=True) if has)
        return Aligned(roles, effects[:, :, present], self.total[chosen], self.pictures[chosen])

    @property
    def flat(self) -> Array:
        """The effects as (samples, layers x roles)."""
        return self.effects.reshape(len(self.effects), -1)


def align_tokens(tokens: Sequence[tuple[str, ...]], align: str | Roles) -> tuple[tuple[str, ...], list[list[int]]]:
    """Roles for the tokens of many samples.

    Args:
        tokens: the tokens of each sample.
        align: ``"exact"``: samples of one length, one role per position; ``"ends"``: up to three positions from either
            end have their own roles, as many as the shortest sample has, and all between share one; ``"words"``: see
            `blip_trace_widget.dataset.word_roles`; or a callable from a sample's tokens to a role for each, None to
            leave it out.

    Returns:
        the roles' names, and for each sample the index of each position's role, -1 for none.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    if callable(align):
        return _own_roles(tokens, align)
    if isinstance(align, str) and align == "words":
        return _own_roles(tokens, word_roles, ROLES)
    if align not in ALIGNMENTS:
        given = repr(align) if isinstance(align, str) else type(align).__name__
        raise (ValueError if isinstance(align, str) else TypeError)(
            f"align: expected one of {list(ALIGNMENTS)} or a callable, got {given}"
        )
    lengths = Counter(len(sample) for sample in tokens)
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
        [*range(start), *[start] * (len(sample) - start - end), *range(len(names) - end, len(names))]
        for sample in tokens
    ]
    return _distinct(names), numbers


def _name(at: int, tokens: Sequence[tuple[str, ...]]) -> str:
    """The token that all samples have at a position, or the position, counted from the end if negative."""
    words = {sample[at] for sample in tokens}
    return words.pop() if len(words) == 1 else str(at).replace("-", "−")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({at})" for at, name in enumerate(names))


def _own_roles(
    tokens: Sequence[tuple[str, ...]], align: Roles, order: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[list[int]]]:
    """Roles by a function, asked once for equal tokens; those of `order` first, then in order of first occurrence."""
    known = {sample: _checked(align(sample), sample) for sample in dict.fromkeys(tokens)}
    present = dict.fromkeys(role for roles in known.values() for role in roles if role is not None)
    if not present:
        raise ValueError("align: no token of any sample has a role")
    names = [role for role in order if role in present] + [role for role in present if role not in order]
    index: dict[str | None, int] = {None: -1, **{role: at for at, role in enumerate(names)}}
    numbers = {sample: [index[role] for role in roles] for sample, roles in known.items()}
    return tuple(names), [numbers[sample] for sample in tokens]


def _checked(roles: Any, sample: tuple[str, ...]) -> Sequence[str | None]:
    if isinstance(roles, str) or not isinstance(roles, Sequence) or len(roles) != len(sample):
        raise ValueError(f"align: expected a role (or None) for each of the tokens {list(sample)}, got {brief(roles)}")
    if not all(role is None or isinstance(role, str) for role in roles):
        raise TypeError(f"align: a role is a text or None, got {list(roles)!r}")
    return roles


def aligned(
    tokens: Sequence[tuple[str, ...]],
    effects: Sequence[Array],
    total: Array,
    pictures: NDArray[np.int64],
    align: str | Roles,
) -> Aligned:
    """Effects of many samples on common axes.

    Args:
        tokens: the tokens of each sample.
        effects: indirect effects of each sample, (layers, positions).
        total: total effect of each sample, (samples,).
        pictures: number of each sample's picture, (samples,).
        align: see `align_tokens`.

    Raises:
        TypeError, ValueError: as `align_tokens`.
    """
    roles, numbers = align_tokens(tokens, align)
    sums = np.zeros((len(effects), effects[0].shape[0], len(roles)))
    counts = np.zeros((len(effects), 1, len(roles)))
    lengths = np.array([len(sample) for sample in tokens])
    for length in np.unique(lengths):
        of = np.flatnonzero(lengths == length)
        values, places = (
            np.stack([effects[sample] for sample in of.tolist()]),
            np.array([numbers[sample] for sample in of.tolist()]),
        )
        for position in range(length):
            has = places[:, position] >= 0
            rows, columns = of[has], places[has, position]
            sums[rows, :, columns] += values[has, :, position]
            counts[rows, 0, columns] += 1
    by_role = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return Aligned(roles, by_role, np.asarray(total, dtype=np.float64), pictures)
