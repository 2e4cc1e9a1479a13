"""Which grid is in view, which of its cells are patched together, and which grids are one and the same.

For: everything that shows, stores or computes a grid.
Ends: at names and numbers; `blip_trace_widget.widget.grid_store` has the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from blip_trace_widget.states import (
    BLOCKS,
    SITES,
    State,
    as_states,
    from_plain_form,
    plain_form,
    site_label,
    windowed,
)

#: (layer, position) of a cell.
CellIndex: TypeAlias = tuple[int, int]
#: Where paths lead: states, or the answer.
Receivers: TypeAlias = "tuple[State, ...] | Literal['answer']"
#: What decides the score of a run: layer, site and head of what is patched at a position.
Effective: TypeAlias = "frozenset[tuple[int, str, int | None]]"


class GridSpec(NamedTuple):
    """The arguments that identify a grid.

    What is held, and where paths lead, is normalised by whoever makes it: in the order that
    `blip_trace_widget.tracing.holding.Holding.told` has, states by number, so that equal grids have equal values.

    Attributes:
        block: one of `blip_trace_widget.states.BLOCKS`.
        site: one of its sites.
        head: one attention head, or None.
        direction: ``"restore"`` or ``"disrupt"``.
        window: layers patched together around each layer.
        patch: of the image encoder, side of the squares of image tokens that are patched together.
        hold: the states, and the words for states, that keep the base run's value, as in `Tracer.patch`.
        receivers: of a grid of paths: where they lead, as in `Tracer.trace_paths`; None of a grid of patched states.
        through: of a grid of paths: what is not held on them.
    """

    block: str = "question_encoder"
    site: str = "block_output"
    head: int | None = None
    direction: str = "restore"
    window: int = 1
    patch: int = 1
    hold: tuple[str | State, ...] = ()
    receivers: Receivers | None = None
    through: tuple[str | State, ...] = ()

    def states(
        self, cells: Iterable[CellIndex], layers: int, columns: Sequence[Sequence[int]] | None = None
    ) -> tuple[State, ...]:
        """The states that cells stand for, each once, sorted.

        Args:
            cells: cells of this grid.
            layers: number of layers of the block.
            columns: the positions that each column stands for; None where each is one.
        """
        centers = (
            State(self.block, layer, position, self.site, self.head)  # type: ignore[arg-type]
            for layer, column in cells
            for position in ([column] if columns is None else columns[column])
        )
        return as_states([state for center in centers for state in windowed(center, self.window, layers)])

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> GridSpec:
        """The grid that settings speak of; what they do not name is as it is by default."""
        found = {name: settings[name] for name in cls._fields if name in settings}
        return cls(**found | {name: of_states(found[name]) for name in OF_STATES if name in found})

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return self._asdict() | {name: as_json(getattr(self, name)) for name in OF_STATES}

    @property
    def settings(self) -> dict[str, Any]:
        """The same without what holds nothing and leads nowhere: what `of` reads."""
        told = self.as_json
        return {name: value for name, value in told.items() if name not in OF_STATES or value not in ([], None)}

    @property
    def is_plain(self) -> bool:
        """Whether it is of patched states, with nothing held."""
        return self.receivers is None and not self.hold

    @property
    def by_present_name(self) -> GridSpec:
        """The same grid with the present name of its site."""
        return self._replace(site=BLOCKS[self.block].older.get(self.site, self.site))

    def same_as(self, layers: int, *, single: bool) -> SameGrid | None:
        """The grid that this one equals by construction, in a model whose layers are BLIP's own; None if none is known.

        Args:
            layers: of the block.
            single: whether a score depends on the block's first position alone, see `is_single`.
        """
        mine = self._effective(layers, single=single)
        if not self.is_plain:
            return None
        sites = [site for site in BLOCKS[self.block].accepted if SITES.index(site) < SITES.index(self.site)]
        for site in sites:
            if self.head is not None and site not in BLOCKS[self.block].heads:
                continue
            theirs = self._replace(site=site)._effective(layers, single=single)
            for shift in (0, -1)[:layers]:
                if mine[-shift:] == theirs[: layers + shift]:
                    return SameGrid(site, shift)
        return None

    def whole(self, layers: int) -> list[bool]:
        """Layer by layer whether a cell patches all that the answer is read from, given that that is one position."""
        return [(layers - 1, "block_output", None) in each for each in self._effective(layers, single=True)]

    def _effective(self, layers: int, *, single: bool) -> list[Effective]:
        """What decides a cell's score, layer by layer; cells of which it is the same have the same scores."""
        head = None if self.head is None else 0  # as good as any
        return _effective_by_layer(self.block, self.site, head, self.window, layers, single)


#: The word for the answer among receivers.
ANSWER: Literal["answer"] = "answer"
#: The fields that are of states, which plain JSON spells out.
OF_STATES = ("hold", "receivers", "through")


def as_json(value: Any) -> Any:
    """One of the fields that are of states, as plain JSON."""
    return value if value in (None, ANSWER) else plain_form(value)


def of_states(plain: Any) -> Any:
    """One of the fields that are of states, from plain JSON, or from states themselves."""
    return plain if plain in (None, ANSWER) else from_plain_form(plain)


class SameGrid(NamedTuple):
    """A grid that another one equals by construction: its layer l has the scores of this one's layer l + shift.

    Attributes:
        site: of the same block, head, window and direction.
        shift: 0, or -1 for the layer below.
    """

    site: str
    shift: int = 0

    def __str__(self) -> str:
        where = ", a layer lower" if self.shift else ""
        return f"by construction the same as “{site_label(self.site)}”{where}"


@lru_cache(maxsize=1024)  # asked for whenever a grid is shown
def _effective_by_layer(
    block: str, site: str, head: int | None, window: int, layers: int, single: bool
) -> list[Effective]:
    centers = (State(block, layer, 0, site, head) for layer in range(layers))  # type: ignore[arg-type]
    return [effective(windowed(center, window, layers), single=single) for center in centers]


def effective(states: Iterable[State], *, single: bool) -> Effective:
    """What decides the score of a run in which states at one position are patched: (layer, site, head) of each.

    - What enters a layer is what the one below puts out.
    - Of a text layer the output of cross-attention, its residual added, is all that follows reads, token by token.
    - A head is a slice of the context, whichever of the attention's sites is named.
    - With a single position the output of self-attention, its residual added, follows from what enters the layer; and
      what is patched below a layer whose whole output is patched is lost.
    """
    found = {_effective_place(state, single=single) for state in states}
    if single:
        whole = max((layer for layer, site, _ in found if site == "block_output"), default=-2)
        found = {place for place in found if place[0] > whole or place == (whole, "block_output", None)}
    return frozenset(found)


def _effective_place(state: State, *, single: bool) -> tuple[int, str, int | None]:
    layer, site = state.place
    if state.head is not None:
        return layer, site.removesuffix("_out"), state.head
    if site == "cross_attention":
        return layer, "block_output", None
    if site == "self_attention" and single:
        return layer - 1, "block_output", None
    return layer, site, None


def is_single(block: str, answer_tokens: int, *, first_position: bool) -> bool:
    """Whether a run's score depends on a block's first position alone, for nothing else is there or is scored.

    Args:
        block: its name.
        answer_tokens: of the scored answer.
        first_position: whether the metric looks at the first answer position alone, which sees no later ones.
    """
    return block == "answer_decoder" and (first_position or answer_tokens == 1)


@dataclass(frozen=True)
class Selection:
    """What is patched together in one run: cells of the grid in view, or patches of the picture; false if empty.

    Attributes:
        cells: (layer, position) of each cell.
        patches: (row, column) of each patch.
    """

    cells: tuple[CellIndex, ...] = ()
    patches: tuple[CellIndex, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.cells or self.patches)

    @property
    def one(self) -> bool:
        """Whether it is a single cell, whose value belongs in the grid."""
        return len(self.cells) == 1
