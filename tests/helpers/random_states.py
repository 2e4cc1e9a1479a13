"""Random states of a tracer's model, for hypothesis; and what makes two names mean one state."""

from hypothesis import strategies as st

from blip_trace_widget import State
from blip_trace_widget.states import BLOCKS

WORDS = ("mlp", "self_attention_out", "cross_attention_out")


def blocks_of(tracer):
    """The blocks whose states differ between the runs."""
    return [block for block in BLOCKS if tracer.corruption.reaches(block)]


def a_state(tracer, draw, blocks=None):
    block = draw(st.sampled_from(blocks or blocks_of(tracer)))
    stack = tracer.model.blocks[block]
    site = draw(st.sampled_from(list(BLOCKS[block].sites)))
    head = draw(st.none() | st.integers(0, stack.heads - 1)) if site in BLOCKS[block].heads else None
    at = draw(st.integers(0, len(stack.layers) - 1)), draw(st.integers(0, len(tracer.tokens(block)) - 1))
    return State(block, *at, site, head)


def place(state):
    """States of one place are one state."""
    site = "heads of " + state.site.removesuffix("_out") if state.head is not None else state.place[1]
    return state.block, state.place[0] if state.head is None else state.layer, site, state.position, state.head
