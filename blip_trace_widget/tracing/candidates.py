"""What a search for a set of states chooses from.

For: `blip_trace_widget.tracing.finding`.
Ends: at lists of states with names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from blip_trace_widget.checks import brief, named
from blip_trace_widget.results.found_states import Member
from blip_trace_widget.states import BLOCKS, TEXT_BLOCKS, State, attention_label, site_label
from blip_trace_widget.tracing.question import Question

Among: TypeAlias = Literal["states", "heads", "mlp and heads"]
AMONG: tuple[Among, ...] = get_args(Among)
#: The attentions whose heads are tried.
_ATTENTIONS = ("self_attention", "cross_attention")


def candidates(question: Question, among: str, blocks: Sequence[str]) -> list[Member]:
    """What can be added, from below upward.

    Raises:
        ValueError: if that is nothing.
    """
    found: list[Member] = []
    for block in blocks:
        stack, tokens = question.model.blocks[block], question.tokens(block)
        spoken, positions = block.replace("_", " "), range(len(tokens))
        for layer in range(len(stack.layers)):
            where = f"{spoken} layer {layer}"
            if among == "states":
                if (block, layer) != ("answer_decoder", len(stack.layers) - 1):  # its output is the answer
                    found += [
                        Member(f"{where} at {token!r} ({at})", (State(block, layer, at),))  # type: ignore[arg-type]
                        for at, token in enumerate(tokens)
                    ]
                continue
            sites: list[tuple[str, int | None, str]] = [
                (site, head, f"{attention_label(site)} head {head}")
                for site in _ATTENTIONS
                if site in BLOCKS[block].heads
                for head in range(stack.heads)
            ]
            if among == "mlp and heads":
                sites.append(("mlp", None, site_label("mlp")))
            found += [
                Member(f"{where} {name}", tuple(State(block, layer, at, site, head) for at in positions))  # type: ignore[arg-type]
                for site, head, name in sites
            ]
    if not found:
        raise ValueError(f"blocks: {list(blocks)} have nothing to choose from but what is the answer by construction")
    return found


def checked_blocks(question: Question, given: Any, among: str) -> tuple[str, ...]:
    """The blocks that are searched, of an argument, from below upward.

    Raises:
        TypeError, ValueError: naming what was given and what is accepted.
    """
    if given is None:
        return ("question_encoder",) if among == "states" else TEXT_BLOCKS
    if not isinstance(given, (str, Iterable)):
        raise TypeError(f"blocks: expected names out of {list(BLOCKS)}, got {type(given).__name__} {brief(given)}")
    asked = {named("blocks", block, BLOCKS) for block in ([given] if isinstance(given, str) else given)}
    names = tuple(block for block in BLOCKS if block in asked)
    if not names:
        raise ValueError(f"blocks: expected at least one of {list(BLOCKS)}, got none")
    for name in names:
        question.check_block(name)
    return names
