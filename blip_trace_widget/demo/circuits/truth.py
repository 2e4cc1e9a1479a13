"""What is true of a known circuit: the states that carry the answer, the heads, and the edges between them.

For: `BlipVqa.truth`, tests, and the outlines in the widget. It follows from the same description as the weights.
Ends: at states. What a method makes of them differs: of two carriers of which either is enough, damaging one costs
nothing; that is what these models are for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias, cast

from blip_trace_widget.demo.circuits.descriptions import (
    BLOCK_OF,
    CIRCUITS,
    CLS,
    LAYERS,
    PATCH,
    PLACE,
    PLACES,
    SHOWN,
    SIDE,
    START,
    Circuit,
    CircuitName,
    Detect,
    Move,
    Role,
)
from blip_trace_widget.states import BLOCKS, State

#: From a state to the head or MLP that reads it, or to the answer.
Edge: TypeAlias = tuple[State, "State | Literal['answer']"]

#: The sites of the residual stream, and the parts that write to it, in the order within a layer.
_STREAM = {"block_input": 0, "self_attention": 1, "cross_attention": 2, "block_output": 4}
_PARTS = {"self_attention": 1, "cross_attention": 2, "mlp": 3}


@dataclass(frozen=True)
class Truth:
    """What is true of a known circuit when the picture is damaged.

    A state's position is its role: ``"patch"`` (the image token of the place that is asked for), ``"place"`` (the word
    that names it), ``"[CLS]"``, ``"[DEC]"`` (the decoder's start token). `located` puts numbers in their place.

    Attributes:
        states: the states, at all sites, in which the answer is on its way: in the residual stream from where it is
            written to where it is last read, and what each part of the circuit itself puts out. Heads are not among
            them.
        edges: pairs (sender, receiver): the sender a layer's output, the receiver a head or an MLP that reads it
            directly, or ``"answer"``.
        heads: the attention heads that move the answer, by what they put out.
    """

    states: tuple[State, ...]
    edges: tuple[Edge, ...]
    heads: tuple[State, ...]

    def located(self, tokens: Sequence[str]) -> Truth:
        """The same with numbers as positions.

        Args:
            tokens: the question's tokens, `Tracer.question_tokens`.

        Raises:
            ValueError: if they do not name exactly one place.
        """
        named = [at for at, token in enumerate(tokens) if token in PLACES]
        if len(named) != 1:
            raise ValueError(f"tokens: expected one of {list(PLACES)}, once, got {list(tokens)}")
        numbers = {PATCH: 1 + PLACES[tokens[named[0]]], PLACE: named[0], CLS: 0, START: 0}

        def at(state: State) -> State:
            return replace(state, position=numbers[cast("Any", state.position)])

        edges = ((at(sender), reader if isinstance(reader, str) else at(reader)) for sender, reader in self.edges)
        return Truth(tuple(map(at, self.states)), tuple(edges), tuple(map(at, self.heads)))

    def cells(self, grid: Mapping[str, Any], tokens: Sequence[str]) -> list[tuple[int, int]]:
        """The cells (layer, column) of a grid that are true states; none if the question does not name one place.

        Args:
            grid: its ``block``, ``site``, ``head`` and ``patch``, see `blip_trace_widget.results.grid_spec.GridSpec`.
            tokens: as in `located`.
        """
        try:
            truth = self.located(tokens)
        except ValueError:
            return []
        block, site, head = grid["block"], grid["site"], grid["head"]
        found = truth.states if head is None else truth.heads
        if head is not None:  # one head has one context vector, whichever of the attention's sites is named
            site = site.removesuffix("_out") + "_out"
        return sorted(
            {
                (state.layer, _column(state.position, grid["patch"]))
                for state in found
                if (state.block, state.site, state.head) == (block, site, head)
            }
        )


def _column(position: int, patch: int) -> int:
    """The column of an image token where squares of `patch` x `patch` of them are patched together."""
    if patch == 1 or position == 0:
        return position
    row, column = divmod(position - 1, SIDE)
    return 1 + (row // patch) * math.ceil(SIDE / patch) + column // patch


@cache
def truth_of(name: CircuitName) -> Truth:
    """What is true of a circuit."""
    circuit = CIRCUITS[name]
    states = {state for variable in _variables(circuit) for state in _carrying(circuit, variable)}
    written = [_output(step) for steps in circuit.writers.values() for step in steps]
    heads = tuple(state for state in written if state.head is not None)
    states |= {replace(state, head=None) for state in written}
    order = list(BLOCKS)
    listed = sorted(states, key=lambda s: (order.index(s.block), s.layer, str(s.position), s.site))
    return Truth(tuple(listed), tuple(_edges(circuit)), heads)


def _variables(circuit: Circuit) -> list[str]:
    return [SHOWN, *circuit.writers]


def _role(circuit: Circuit, variable: str) -> Role:
    """Whose row has the variable."""
    return PATCH if variable == SHOWN else circuit.writers[variable][0].role


def _readers(circuit: Circuit, variable: str) -> list[Move | Detect]:
    return [step for steps in circuit.writers.values() for step in steps if variable in _read(step)]


def _read(step: Move | Detect) -> tuple[str, ...]:
    return (step.reads,) if isinstance(step, Move) else step.reads


def _part(step: Move | Detect) -> str:
    return step.kind if isinstance(step, Move) else "mlp"


def _time(step: Move | Detect) -> tuple[int, int]:
    """When it acts within its block."""
    return step.layer, _PARTS[_part(step)]


def _output(step: Move | Detect) -> State:
    """What it puts out."""
    site, head = (f"{step.kind}_out", step.head) if isinstance(step, Move) else ("mlp", None)
    return State(cast("Any", step.block), step.layer, step.role, cast("Any", site), head)


def _carrying(circuit: Circuit, variable: str, until: Move | Detect | None = None) -> Iterator[State]:
    """The states of the residual stream that have the variable, until it is last read, or until a step reads it."""
    role = _role(circuit, variable)
    block = BLOCK_OF[role]
    end = (LAYERS[block], 0)
    written = (0, 0) if variable == SHOWN else min(map(_time, circuit.writers[variable]))
    readers = [until] if until else _readers(circuit, variable)
    # What another block reads, or the answer, is read behind the last layer.
    read = max([_time(step) if step.block == block else end for step in readers], default=end)
    for layer in range(LAYERS[block]):
        for site, stage in _STREAM.items():
            is_stream = block != "image_encoder" or not site.endswith("attention")
            if is_stream and written <= (layer, stage) < read:
                yield State(cast("Any", block), layer, role, cast("Any", site))


def _edges(circuit: Circuit) -> Iterator[Edge]:
    readers: list[tuple[str, Move | Detect | None]] = [
        (variable, step) for variable in _variables(circuit) for step in _readers(circuit, variable)
    ]
    for variable, step in [*readers, (circuit.says, None)]:
        for sender in _carrying(circuit, variable, step):
            if sender.site == "block_output":
                yield sender, "answer" if step is None else _output(step)
