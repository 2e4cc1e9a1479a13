"""What is held in every sample while its cells are patched, or where its paths lead.

For: `trace_dataset(..., hold=...)` and `trace_dataset(..., receivers=...)`.
Ends: at grids of one sample, or at an error where it lacks a state; `blip_trace_widget.tracing` holds and computes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.results.grid_spec import ANSWER, Receivers, as_json
from blip_trace_widget.states import BLOCKS, State, listed_states
from blip_trace_widget.tracing.grid import whole_traces
from blip_trace_widget.tracing.holding import Hold, Holding, as_hold
from blip_trace_widget.tracing.paths import Paths
from blip_trace_widget.tracing.whole_held import whole_held_traces

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.grid_spec import GridSpec
    from blip_trace_widget.results.trace import Trace
    from blip_trace_widget.tracing.question import Question


@dataclass(frozen=True)
class Held:
    """What is held, or where paths lead, in every sample; neither by default.

    Positions may be words, which are found in each sample.

    Attributes:
        hold: what is held.
        receivers: states, or ``"answer"``.
    """

    hold: Hold = field(default_factory=Hold)
    receivers: Receivers = ()

    @classmethod
    def of(cls, hold: Any, receivers: Any) -> Held:
        """From the arguments of `trace_dataset`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        held = as_hold(hold)
        if hold is not None and not held:
            raise ValueError("hold: expected a state or a word, or None for nothing, got none")
        if receivers is None:
            return cls(held)
        if held:
            raise ValueError(
                "hold, receivers: expected one of the two, got both: on a path all that lies between is held anyway"
            )
        if isinstance(receivers, str):
            return cls(receivers=one_of("receivers", receivers, [ANSWER]))  # type: ignore[arg-type]
        states = tuple(dict.fromkeys(listed_states(receivers, "receivers")))
        if not states:
            raise ValueError("receivers: expected at least one State, or 'answer', got none")
        return cls(receivers=states)

    def __bool__(self) -> bool:
        return bool(self.hold or self.receivers)

    @property
    def argument(self) -> str:
        """The argument that was given: ``"hold"`` or ``"receivers"``."""
        return "receivers" if self.receivers else "hold"

    @property
    def states(self) -> tuple[State, ...]:
        """The states that it names."""
        return self.hold.states if isinstance(self.receivers, str) else self.hold.states + self.receivers

    @property
    def blocks(self) -> set[str]:
        """Their blocks, which a sample's corruption has to reach."""
        return {state.block for state in self.states}

    def check_listed(self, listed: Mapping[str, Sequence[Any]], others: Mapping[str, Any]) -> None:
        """Check what is asked for beside it.

        Args:
            listed: what the grids are the product of.
            others: what else is computed, by the argument's name.

        Raises:
            ValueError: if that does not go together.
        """
        for name, given in others.items():
            if self and given:
                raise ValueError(
                    f"{name}: not with {self.argument}, which is of grids alone: trace it into a folder of its own"
                )
        if self.receivers and listed["window"] != (1,):
            raise ValueError(f"window: with receivers a sender is one layer, expected 1, got {list(listed['window'])}")
        for block in listed["blocks"]:
            for site in self.hold.sites:
                if site not in BLOCKS[block].sites:
                    raise ValueError(f"hold: {block!r} has no {site!r}, its sites are {list(BLOCKS[block].sites)}")

    def check_model(self, model: BlipVqa) -> None:
        """Check that a model has the layers and heads; what positions there are depends on the sample.

        Raises:
            ValueError: if it has not.
        """
        for state in self.states:
            block = model.blocks[state.block]
            whole_number(f"layer (of {self.argument})", state.layer, 0, len(block.layers) - 1)
            whole_number(f"head (of {self.argument})", state.head or 0, 0, block.heads - 1)

    def settings(self) -> dict[str, Any]:
        """The same as plain JSON, by the argument's name; nothing if nothing is held."""
        if self.receivers:
            return {"receivers": as_json(self.receivers)}
        return {"hold": as_json(self.hold.told)} if self.hold else {}

    def located(self, question: Question, blocks: Collection[str]) -> dict[str, Any]:
        """The same in one sample, positions by number, as fields of a `GridSpec`; nothing if nothing is held.

        Args:
            question: the sample's question.
            blocks: the blocks that are traced.

        Raises:
            ValueError: if the sample has no such state.
        """
        if self.receivers:
            return {"receivers": Paths(question, self.receivers, ()).told}
        return {"hold": Holding(question, self.hold, blocks).told} if self.hold else {}


def traces(
    questions: Sequence[Question], specs: Sequence[GridSpec], located: Mapping[str, Any], *, shared: bool
) -> Iterator[list[Trace]]:
    """Complete grids of a sample, see `blip_trace_widget.tracing.grid.whole_traces`.

    Args:
        questions: the sample's question, with each metric.
        specs: the grids.
        located: what is held in all of them, or where their paths lead.
        shared: see there.
    """
    if not located:
        return whole_traces(questions, specs, shared=shared)
    return whole_held_traces(questions, [spec._replace(**located) for spec in specs])
