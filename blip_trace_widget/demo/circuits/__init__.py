"""Models whose circuit is known, because it is written and not learned: the truth that methods are tested against.

For: `blip_trace_widget.BlipVqa.known_circuit`. `descriptions` has the four circuits, `truth` what must be found in
them, `compiler` their weights, `pictures` what they are asked.
Cost: importing it loads no torch; a model is compiled in a fraction of a second.
Ends: at a transformers model and its processor.
"""

from __future__ import annotations

from blip_trace_widget.demo.circuits.descriptions import CIRCUITS, CircuitName
from blip_trace_widget.demo.circuits.pictures import CircuitExample, circuit_examples, circuit_questions
from blip_trace_widget.demo.circuits.truth import Truth, truth_of

__all__ = [
    "CIRCUITS",
    "CircuitExample",
    "CircuitName",
    "Truth",
    "circuit_examples",
    "circuit_of",
    "circuit_questions",
    "name_of",
    "truth_of",
]

_PREFIX = "known circuit: "


def name_of(circuit: CircuitName) -> str:
    """The name of the model with a known circuit, in results and on screen."""
    return _PREFIX + circuit


def circuit_of(name: object) -> CircuitName | None:
    """The circuit of the model of that name; None if it has none that is known."""
    return next((circuit for circuit in CIRCUITS if name_of(circuit) == name), None)
