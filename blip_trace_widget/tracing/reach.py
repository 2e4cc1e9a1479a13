"""Whether what is patched can change anything at all at a goal, given what is held.

For: cells whose effect is 0 by construction: they are said to be, and not computed.
Cost: a few truth values per run, row and stage.
Ends: at BLIP's own modules. Of a model in which somebody has changed any nothing is known: all counts as reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.model.patch_plan import ByLayer, by_layer, held_in, place_of
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.states import BLOCKS, State
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Edits

Truths = NDArray[np.bool_]


def reaching(question: Question, edits: Edits, check: Check = no_check) -> Truths:
    """Which runs can differ from the base run in their score, (runs,); `check` is called once a layer."""
    if any(question.model.changed.values()):
        return np.ones(len(edits), np.bool_)
    output = _Walks(question, edits, (), check).output
    first = metric_properties(question.metric.name).first_position
    return np.asarray((output[:, :1] if first else output).any(axis=1))


def reached(
    question: Question,
    edits: Edits,
    goals: Sequence[State],
    check: Check = no_check,
    *,
    by_image_tokens: bool = False,
) -> Truths:
    """Which runs can differ from the base run at which states, (runs, goals).

    Args:
        question: the question.
        edits: the states that each run patches and holds.
        goals: the states; what they are before anything is held or patched there.
        check: called once a layer.
        by_image_tokens: whether the runs see other image tokens than the base run.
    """
    if any(question.model.changed.values()):
        return np.ones((len(edits), len(goals)), np.bool_)
    return _Walks(question, edits, goals, check, by_image_tokens=by_image_tokens).found


class _Walks:
    """The way through all blocks.

    Attributes:
        found: which runs can differ at which goals, (runs, goals).
        output: at which positions the last block's output can differ, (runs, positions).
    """

    def __init__(
        self,
        question: Question,
        edits: Edits,
        goals: Sequence[State],
        check: Check,
        *,
        by_image_tokens: bool = False,
    ) -> None:
        self.found: Truths = np.zeros((len(edits), len(goals)), np.bool_)
        self.output: Truths = np.zeros((len(edits), 1), np.bool_)
        seen: Truths = np.full(len(edits), by_image_tokens)
        for name in BLOCKS:
            if name == "image_encoder" and not edits.reach(name):
                continue
            walk = _Walk(question, name, edits, goals, self.found)
            self.output = walk.through(seen, check)
            before = seen if name == "image_encoder" else np.zeros(len(edits), np.bool_)
            seen = np.asarray(before | self.output.any(axis=1))


class _Walk:
    """The way through a block: which rows of which runs can differ from the base run's, stage by stage."""

    def __init__(self, question: Question, name: str, edits: Edits, goals: Sequence[State], found: Truths) -> None:
        own = edits.of(name)
        self._name, self._block, self._runs = name, question.model.blocks[name], len(edits)
        self._positions = len(question.tokens(name))
        self._found = found
        self._goals: dict[tuple[int, str], list[int]] = {}
        self._at_goal = [(state.position,) if state.head is None else (state.position, state.head) for state in goals]
        for number, goal in enumerate(goals):
            if goal.block == name:
                self._goals.setdefault(place_of(goal), []).append(number)
        self._patched = [by_layer(states) for states in own.patched]
        self._inputs = [[state.position for state in states if place_of(state)[0] < 0] for states in own.patched]
        self._held = held_in(own.held, range(len(own.held)))

    def through(self, seen: Truths, check: Check) -> Truths:
        """The block's output, (runs, positions), given whether a run's cross-attention sees other tokens, (runs,)."""
        rows = np.zeros((self._runs, self._positions), np.bool_)
        for goal in self._goals.get((-1, "block_output"), ()):
            self._found[:, goal] = rows[:, self._at_goal[goal][0]]
        for run, positions in enumerate(self._inputs):
            rows[run, positions] = True
        for layer in range(len(self._block.layers)):
            check()
            rows = self._layer(layer, rows, seen[:, None])
        return rows

    def _layer(self, layer: int, rows: Truths, seen: Truths) -> Truths:
        causal = self._name == "answer_decoder"
        read = np.logical_or.accumulate(rows, axis=1) if causal else rows.any(axis=1, keepdims=True) | rows
        attended = self._added(layer, "self", read) | rows
        if self._name == "image_encoder":
            crossed = attended
        else:
            attended = self._at(layer, "self_attention", attended)
            crossed = self._at(layer, "cross_attention", self._added(layer, "cross", attended | seen) | attended)
        mlp = self._at(layer, "mlp", crossed.copy())
        return np.asarray(self._at(layer, "block_output", mlp | crossed))

    def _added(self, layer: int, attention: str, read: Truths) -> Truths:
        """What an attention adds, given what each row reads."""
        heads = self._at(layer, f"{attention}_context", np.repeat(read[:, :, None], self._block.heads, axis=2))
        return np.asarray(self._at(layer, f"{attention}_attention_out", heads.any(axis=2)))

    def _at(self, layer: int, stage: str, rows: Any) -> Any:
        """What goes on from a stage: as it is, held, or patched."""
        for goal in self._goals.get((layer, stage), ()):
            self._found[:, goal] = rows[(slice(None), *self._at_goal[goal])]
        for held, runs in self._held:
            at = _places(held, layer, stage)
            if at:
                rows[(runs[:, None], *at)] = False
        for run, patched in enumerate(self._patched):
            at = _places(patched, layer, stage)
            if at:
                rows[(run, *at)] = True
        return rows


def _places(of_run: ByLayer, layer: int, stage: str) -> tuple[NDArray[np.int_], ...]:
    """Indices of a run's rows, or of their heads, at a stage; () if there are none."""
    if stage not in of_run.get(layer, {}):
        return ()
    positions, heads = of_run[layer][stage]
    return (positions, heads) if len(heads) else (positions,)
