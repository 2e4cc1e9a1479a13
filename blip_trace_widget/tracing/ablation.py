"""Ablation: states or heads of the clean run set to zero, to their mean, or times a factor.

For: asking whether a state is needed where nothing is damaged, and what rescaling a head does.
Cost: a pass of each block from the lowest one that is altered on, and one of the decoder for each word of the answer.
Ends: at an `Ablation`.

Sources: zero and mean ablation of heads, Michel et al. 2019 (arXiv 1905.10650), Wang et al. 2022 (arXiv 2211.00593);
heads rescaled, Wang et al. 2025 (V-SEAM, arXiv 2509.14837).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from blip_trace_widget.checks import brief
from blip_trace_widget.choices import ABLATIONS, AblationName
from blip_trace_widget.corruption_fields import checked_factor
from blip_trace_widget.model.block import Activations, LayerEdit, as_it_is
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.cross_attention import AbsorbedKV, CrossAttentionKV, ImageKV, Projections
from blip_trace_widget.model.patch_plan import place_of, stage_of
from blip_trace_widget.model.progress import Check, as_check
from blip_trace_widget.results.altered_run import AlteredRun
from blip_trace_widget.results.summaries import called
from blip_trace_widget.states import BLOCKS, State, as_states, listed_states
from blip_trace_widget.tracing.base_runs import EXTRA_ANSWER_TOKENS
from blip_trace_widget.tracing.overflow import Cause
from blip_trace_widget.tracing.question import Question


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(AlteredRun):
    """A clean run in which states are set to zero, to their mean, or times a factor.

    Attributes:
        answer: what the model answers then; where it goes on for more than four tokens beyond the scored answer's
            length, cut off with an ellipsis.
        states: what was ablated.
    """

    _altered: ClassVar[str] = "ablated"

    answer: str
    states: tuple[State, ...]

    @property
    def to(self) -> AblationName | float:
        """What they were set to, see `Tracer.ablate`."""
        given: AblationName | float = self.settings["to"]
        return given

    def _title(self) -> str:
        who = called(self.states[0]).replace("_", " ") if len(self.states) == 1 else f"{len(self.states)} states"
        return f"{who} {f'× {self.to:g}' if isinstance(self.to, float) else f'at {self.to}'}"

    def _what(self) -> dict[str, str]:
        return {"ablated": self._title(), "answer": self.answer}


def ablate(
    question: Question,
    states: State | Iterable[State],
    to: AblationName | float = "zero",
    cancel: Callable[[], bool] | Any = None,
) -> Ablation:
    """See `Tracer.ablate`."""
    goal = checked_goal(to)
    check = as_check(cancel)
    given = listed_states(states)
    with Computing(question.model):
        clean = question.clean_run(check).score
        # Two names of one state are one state.
        numbered = question.numbered(given)
        named = {(place_of(state), state.block, state.position, state.head): state for state in numbered}
        chosen = as_states(named.values())
        of_block = {name: [state for state in chosen if state.block == name] for name in BLOCKS}
        goals = _goals(question, of_block, goal, check) if isinstance(goal, str) else goal
        edits = {name: _edit(own, goals, question.model.blocks[name].heads) for name, own in of_block.items() if own}
        encoded = _encoded(question, edits, check)
        logits, answer = _decoded(question, encoded, edits, check)
        distribution = logits[0, 0].softmax(-1).cpu().numpy()
        return Ablation(
            score=float(question.score_logits(logits, _cause(goal))[0]),
            clean=clean,
            top=question.top_words(distribution),
            distribution=distribution,
            settings=question.settings() | {"states": [vars(state) for state in chosen], "to": goal},
            answer=answer,
            states=chosen,
        )


def checked_goal(to: object) -> AblationName | float:
    """What states are set to: a name, or a factor.

    Raises:
        TypeError, ValueError: if it is neither.
    """
    accepted = f"one of {list(ABLATIONS)} or a number of 0 or more"
    if isinstance(to, str):
        if to not in ABLATIONS:
            raise ValueError(f"to: expected {accepted}, got {brief(to)}")
        return to
    try:
        return checked_factor("to", to)
    except (TypeError, ValueError) as error:
        raise type(error)(f"to: expected {accepted}{str(error).partition('number of 0 or more')[2]}") from error


def _cause(goal: AblationName | float) -> Cause:
    """What is to blame for a run beyond the range of the model's type."""
    states = f"these states times {goal:g}" if isinstance(goal, float) else f"these states at {goal}"
    return Cause(f"to: with {states} a run goes", "use a smaller factor")


def _goals(
    question: Question, of_block: Mapping[str, list[State]], goal: AblationName, check: Check
) -> dict[State, Tensor]:
    """What takes the place of each state, a number or (width,)."""
    if goal == "zero":
        return {state: torch.zeros(()) for states in of_block.values() for state in states}
    found = {}
    for name, states in of_block.items():
        if not states:
            continue
        if len(question.tokens(name)) == 1:
            raise ValueError(
                f"to: the mean over the positions of {name!r} is the state itself, for it has one position alone; "
                "set it to 'zero' or to a factor"
            )
        values = _recorded(question, name, check)
        for state in states:
            every = values.at(state.layer, stage_of(state))[0]
            found[state] = every.mean(0)[_part(state, every.shape[-1], question.model.blocks[name].heads)]
    return found


def _recorded(question: Question, block: str, check: Check) -> Activations:
    """The clean run of a block."""
    if block == "image_encoder":
        states = question.bases.clean(check, with_states=True).image_view.activations
        assert states is not None
        return states
    run = question.bases.clean(check)
    return run.encoder if block == "question_encoder" else run.decoder


def _edit(states: Iterable[State], goals: Mapping[State, Tensor] | float, heads: int) -> LayerEdit:
    """What ablates states of a block: each where the run has come to it, whatever was done to the run before."""
    at: dict[tuple[int, str], list[State]] = {}
    for state in states:
        at.setdefault((state.layer, stage_of(state)), []).append(state)

    def edit(layer: int, stage: str, rows: Tensor) -> Tensor:
        # An answer that is still being spelled is not yet so long.
        here = [state for state in at.get((layer, stage), ()) if state.position < rows.shape[1]]
        if not here:
            return rows
        rows = rows.clone()
        for state in here:
            where = (slice(None), state.position, _part(state, rows.shape[-1], heads))
            rows[where] = rows[where] * goals if isinstance(goals, float) else goals[state].to(rows)
        return rows

    return edit


def _part(state: State, width: int, heads: int) -> slice:
    """The part of a row that is a state."""
    size = width // heads
    return slice(None) if state.head is None else slice(state.head * size, (state.head + 1) * size)


def _encoded(question: Question, edits: Mapping[str, LayerEdit], check: Check) -> Tensor:
    """The question encoder's output, (1, question tokens, width)."""
    clean, model = question.bases.clean(check), question.model
    if not {"image_encoder", "question_encoder"} & set(edits):
        return clean.encoder.output
    kv: CrossAttentionKV = clean.image_view.kv
    encoder = model.question_encoder
    if "image_encoder" in edits:
        block = model.image_encoder
        rows = block.run(question.image.patch_embeddings(check)[None], None, check, edits["image_encoder"])
        kv = ImageKV(encoder.layers, Projections(encoder.layers, block.tokens(rows), bias=True))
    return encoder.run(clean.encoder.inputs, kv, check, edits.get("question_encoder", as_it_is))


def _decoded(question: Question, encoded: Tensor, edits: Mapping[str, LayerEdit], check: Check) -> tuple[Tensor, str]:
    """Logits of the scored answer, (1, answer positions, vocabulary), and what is answered."""
    block, model = question.model.answer_decoder, question.model
    edit = edits.get("answer_decoder", as_it_is)
    inputs, kv = question.bases.clean(check).decoder.inputs, AbsorbedKV(block.layers, encoded[:, None])
    output = block.run(inputs, kv, check, edit)
    longest = len(question.answer_ids(check)) + EXTRA_ANSWER_TOKENS
    (ids,) = question.runner.greedy(encoded, longest, check, edit=edit)
    return question.runner.logits(output), model.text(ids) + (" …" if len(ids) >= longest else "")
