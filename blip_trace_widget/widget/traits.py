"""The widget's input traits and their validation.

For: setting inputs from Python and from the front end. A value that is not accepted is refused with a message, and the
last good one stays.
Ends: at valid values; `blip_trace_widget.widget.figure_widget` acts on changes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from blip_trace_widget.checks import brief, check_length, one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.corruption_fields import checked_factor, checked_region, plain_region
from blip_trace_widget.demo import examples
from blip_trace_widget.display import payloads
from blip_trace_widget.display.protocol import MAX_CELLS, MAX_PATH, MAX_SAMPLES
from blip_trace_widget.results.grid_spec import ANSWER, CellIndex
from blip_trace_widget.results.hold import as_hold
from blip_trace_widget.states import State, as_states, listed_states, plain_form, position_of
from blip_trace_widget.tracing.positions import whole_numbers
from blip_trace_widget.unpicklable import Unpicklable
from blip_trace_widget.widget.inputs import Inputs
from blip_trace_widget.widget.refusing import Number, Text, refusing
from blip_trace_widget.widget.surface import Surface

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer


#: Traits whose values are no lists and no mappings.
PLAIN = (traitlets.Unicode, traitlets.Float, traitlets.Int, traitlets.Bool)
#: The fields of a state as the page sends it.
_PLAIN_STATE = {field.name for field in fields(State)}
#: Columns of a grid whose tokens are not known yet: more than any has.
MAX_COLUMNS = 4096


def _either(names: Sequence[str]) -> str:
    """Names joined by commas and "or"."""
    *others, last = (f'"{name}"' for name in names)
    return f"{', '.join(others)} or {last}"


class TraceTraits(Unpicklable, Surface, anywidget.AnyWidget):
    """Traits that both Python and the front end can set; each trait's help says what it accepts."""

    question = traitlets.Unicode(help="The question: as many tokens as the model takes.").tag(sync=True)
    corruption = traitlets.Unicode(
        "GaussianNoise",
        help=f"What is done to the input: {_either(payloads.CHOICES['corruption'])}.",
    ).tag(sync=True)
    noise = Number(5.0, help="The noise factor ν of GaussianNoise: a number from 0.").tag(sync=True)
    kind = traitlets.Unicode("multiplicative", help=f"Kind of GaussianNoise: {_either(payloads.CHOICES['kind'])}.").tag(
        sync=True
    )
    at = traitlets.Unicode(
        "image_embeddings", help=f"Which embeddings are damaged: {_either(payloads.CHOICES['at'])}."
    ).tag(sync=True)
    positions = traitlets.Any(
        None,
        allow_none=True,
        help="Which tokens of the question GaussianNoise hits at question_embeddings: a list of positions or words; "
        "None for all.",
    ).tag(sync=True)
    scale = Number(0.7691, help="The factor of Scale: a number from 0.").tag(sync=True)
    samples = traitlets.Int(10, help=f"Noise samples of GaussianNoise: from 1 to {MAX_SAMPLES}.").tag(sync=True)
    seed = traitlets.Int(0, help="Seed of GaussianNoise: a whole number from 0.").tag(sync=True)
    other_question = traitlets.Unicode(
        "", help="The question of QuestionSwap: as many tokens as the question has."
    ).tag(sync=True)
    to = traitlets.Unicode(
        "mean", help=f"What MeanAblation puts in the place of the picture: {_either(payloads.CHOICES['to'])}."
    ).tag(sync=True)
    metric = traitlets.Unicode(
        "probability",
        help=f"The score: {_either(payloads.CHOICES['metric'])}; 'logit_difference' needs a foil.",
    ).tag(sync=True)
    foil = Text("", help='Another answer, of as many tokens as the answer; "" or None for none.').tag(sync=True)
    block = traitlets.Unicode(
        "question_encoder", help=f"Block of the grid in view: {_either(payloads.CHOICES['block'])}."
    ).tag(sync=True)
    site = traitlets.Unicode(
        "block_output", help=f"What is patched in a layer: {_either(payloads.CHOICES['site'])}."
    ).tag(sync=True)
    head = traitlets.Int(
        None, allow_none=True, help="One head of an attention, from 0; None for all of them together."
    ).tag(sync=True)
    direction = traitlets.Unicode(
        "restore", help=f"Which way is patched: {_either(payloads.CHOICES['direction'])}."
    ).tag(sync=True)
    window = traitlets.Int(1, help="How many neighbouring layers are patched together: from 1.").tag(sync=True)
    patch = traitlets.Int(
        1,
        help="Of the image encoder: side of the squares of image tokens that are patched together, from 1. Set anew "
        "whenever that block comes into view: larger where single tokens would take minutes.",
    ).tag(sync=True)
    hold = traitlets.Any(
        None,
        allow_none=True,
        help="What keeps the base run's value while a cell is patched, as in `Tracer.patch`: states, words, or both; "
        "None for nothing.",
    ).tag(sync=True)
    receivers = traitlets.Any(
        None,
        allow_none=True,
        help="Where the paths lead that the grid shows, as in `Tracer.trace_paths`: states, or 'answer'; None for a "
        "grid of patched states.",
    ).tag(sync=True)
    through = traitlets.Any(
        None, allow_none=True, help="What is not held on these paths, as in `Tracer.trace_paths`; None for nothing."
    ).tag(sync=True)
    path: traitlets.List[Any] = traitlets.List(
        help="The receivers from which paths were walked back to the present ones, the nearest to the answer first."
    ).tag(sync=True)
    arrow = traitlets.Bool(
        False, help="Whether an arrow points from the selected cell, which sends, to what receives it."
    ).tag(sync=True)
    selection: traitlets.List[Any] = traitlets.List(
        help="Cells of the grid that are patched together: a list of (layer, position)."
    ).tag(sync=True)
    region = traitlets.Any(
        None,
        allow_none=True,
        help="Where the picture is damaged: a boolean (rows, columns) mask over its patches; None for everywhere.",
    ).tag(sync=True)
    patches: traitlets.List[Any] = traitlets.List(
        help="Or patches of the picture that are patched together: a list of (row, column)."
    ).tag(sync=True)
    strength = Number(
        1.0, help="What the selected states are multiplied by in a clean run: a number from 0; 1 for no such run."
    ).tag(sync=True)
    overlay = traitlets.Unicode(
        "none", help=f"What lies over the picture: {_either(payloads.CHOICES['overlay'])}."
    ).tag(sync=True)
    square = traitlets.Int(1, help="Side of the squares of a map of image tokens, in patches: from 1.").tag(sync=True)
    opacity = Number(0.8, help="Of the overlay: from 0 to 1.").tag(sync=True)
    show = traitlets.Unicode("recovery", help=f"What the colour shows: {_either(payloads.CHOICES['show'])}.").tag(
        sync=True
    )
    axes = traitlets.Unicode("tokens", help=f"What the rows are: {_either(payloads.CHOICES['axes'])}.").tag(sync=True)
    limit = Number(0.0, help="Where the colours end: a number above 0; 0 for automatic.").tag(sync=True)
    difference = traitlets.Bool(
        False, help="Whether the difference from the grid that `compare` keeps is shown in place of the values."
    ).tag(sync=True)
    truth = traitlets.Bool(
        False, help="Whether the true states are outlined, of a model by `BlipVqa.known_circuit`."
    ).tag(sync=True)
    example = traitlets.Int(-1, help="Index of a built-in example of the model; -1 for none of them.").tag(sync=True)
    error = traitlets.Unicode("", help='What the error bar says; "" for nothing.').tag(sync=True)

    instead = "make another: TraceWidget.from_tracer(widget.tracer)"

    #: Why nothing can be computed, or "".
    _closed = ""

    def _check_from_page(self, name: str, value: Any) -> None:
        """Refuse what no page sends, before anything reads it: results, long texts, lists for numbers and texts.

        Raises:
            TypeError, ValueError: naming the trait.
        """
        trait = self.traits().get(name)
        if trait is None:  # of another version; ipywidgets passes over it
            return
        if trait.metadata.get("result") or (name.startswith("_") and name != "_view_count"):
            raise ValueError(f"{name}: only the kernel sets it")
        check_length(name, value)
        if isinstance(trait, PLAIN) and not isinstance(value, (str, int, float, type(None))):
            raise TypeError(f"{name}: expected {trait.info()}, got {type(value).__name__}")
        model = self.tracer.model
        most = max(len(block.layers) for block in model.blocks.values()) * max(512, math.prod(model.grid) + 1)
        if _listed(value, 3 * most) > 3 * most:  # a pair is a list of two
            raise ValueError(f"{name}: expected no more than a grid has cells ({most} at most)")

    @property
    def tracer(self) -> Tracer:
        """The tracer that is shown.

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    @property
    def _inputs(self) -> Inputs:
        """What is asked."""
        raise NotImplementedError

    # --- validation --------------------------------------------------------------------------------------------------

    @traitlets.validate("question", "other_question")
    @refusing
    def _valid_question(self, proposal: Any) -> str:
        question = proposal["value"]
        check_length(proposal["trait"].name, question)
        if question or proposal["trait"].name == "question":  # the other one may be left empty
            self.tracer.model.question_ids(question)
        return str(question).strip()

    @traitlets.validate("foil")
    @refusing
    def _valid_foil(self, proposal: Any) -> str:
        check_length("foil", proposal["value"])
        foil = str(proposal["value"]).strip()
        if foil:
            self.tracer.model.answer_ids("foil", foil)
        return foil

    @traitlets.validate("noise", "scale", "strength", "limit")
    @refusing
    def _valid_factor(self, proposal: Any) -> float:
        return checked_factor(proposal["trait"].name, proposal["value"])

    @traitlets.validate(
        "corruption", "kind", "at", "to", "metric", "block", "site", "direction", "show", "axes", "overlay"
    )
    @refusing
    def _valid_name(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        one_of(name, value, payloads.CHOICES[name])
        if name == "overlay" and value != "none" and self._closed:
            raise ValueError(f"overlay: {brief(value)} was not recorded. {self._closed}")
        if name == "at":
            self._check_place(value)
        if value == "logit_difference" and not self.foil:
            raise ValueError("metric: 'logit_difference' needs a foil, another answer to compare with: set foil first")
        if name == "block" and not self._inputs.damage.reaches(value):
            raise ValueError(f"block: {value!r} cannot be traced now. {payloads.CLOSED['undamaged']}")
        if name == "block" and self._columns(value) == 0:
            raise ValueError(f"block: {value!r} was not recorded. {self._closed}")
        return str(value)

    def _check_place(self, at: str) -> None:
        places = CORRUPTIONS[self._inputs.corruption].places
        if places:  # else it is kept for another corruption
            one_of(f"at (of {self._inputs.corruption})", at, places)

    @traitlets.validate("positions")
    @refusing
    def _valid_positions(self, proposal: Any) -> list[int] | None:
        if proposal["value"] is None:
            return None
        if self._closed:
            raise ValueError(f"positions: {self._closed}")
        model = self.tracer.model
        tokens = model.tokens(model.question_ids(self._inputs.question))
        if isinstance(proposal["value"], (list, tuple)) and len(proposal["value"]) > len(tokens):
            raise ValueError(f"positions: expected at most {len(tokens)}, got {len(proposal['value'])}")
        return sorted(whole_numbers("positions", proposal["value"], len(tokens), tokens))

    @traitlets.validate("opacity")
    @refusing
    def _valid_opacity(self, proposal: Any) -> float:
        opacity = checked_factor("opacity", proposal["value"])
        if opacity > 1:
            raise ValueError(f"opacity: expected a number from 0 to 1, got {opacity}")
        return opacity

    @traitlets.validate("region")
    @refusing
    def _valid_region(self, proposal: Any) -> list[list[bool]] | None:
        return plain_region(checked_region(proposal["value"], self.tracer.model.grid))

    @traitlets.validate("patches")
    @refusing
    def _valid_patches(self, proposal: Any) -> list[CellIndex]:
        if proposal["value"] and not self._inputs.damage.damages_image:
            raise ValueError(
                f"patches: they are the same in both runs, for {self._inputs.damage!r} leaves the picture alone"
            )
        return _places("patches", proposal["value"], ("row", "column"), self.tracer.model.grid)

    @traitlets.validate("samples", "seed", "window", "example", "square", "patch")
    @refusing
    def _valid_number(self, proposal: Any) -> int:
        name = proposal["trait"].name
        low, high = {
            "samples": (1, MAX_SAMPLES),
            "seed": (0, 2**53),
            "window": (1, len(self.tracer.model.blocks[self.block].layers)),
            "example": (-1, len(examples(self.tracer.model)) - 1),
            "square": (1, max(self.tracer.model.grid)),
            "patch": (1, max(self.tracer.model.grid) if self.block == "image_encoder" else 1),
        }[name]
        return whole_number(name, proposal["value"], low, high)

    @traitlets.validate("head")
    @refusing
    def _valid_head(self, proposal: Any) -> int | None:
        if proposal["value"] is None:
            return None
        return whole_number("head", proposal["value"], 0, self.tracer.model.blocks[self.block].heads - 1)

    @traitlets.validate("hold", "receivers", "through")
    @refusing
    def _valid_states(self, proposal: Any) -> Any:
        return self._checked_states(proposal["trait"].name, proposal["value"])

    @traitlets.validate("path")
    @refusing
    def _valid_path(self, proposal: Any) -> list[Any]:
        if proposal["value"] and self.receivers is None:
            raise ValueError("path: expected none where no paths are shown; set receivers first")
        return self._checked_path(proposal["value"])

    @traitlets.validate("arrow")
    @refusing
    def _valid_arrow(self, proposal: Any) -> bool:
        if proposal["value"] and self.receivers is None:
            raise ValueError("arrow: expected False where no paths are shown; set receivers first")
        return bool(proposal["value"])

    def _checked_path(self, given: Any) -> list[Any]:
        """The receivers that led to the present ones, as plain JSON; refused if too many, or if None is among them."""
        if len(given) > MAX_PATH or None in given:
            raise ValueError(f"path: expected at most {MAX_PATH} receivers without None, got {brief(given)}")
        if sum(len(each) for each in given if isinstance(each, (list, tuple))) > MAX_CELLS:
            raise ValueError(f"path: expected at most {MAX_CELLS} states in all, got more")
        return [self._checked_states("receivers", each) for each in given]

    def _checked_states(self, name: str, given: Any) -> Any:
        """What is held, receives, or is let through, as plain JSON.

        Raises:
            TypeError, ValueError: if it is not of states that differ between the two runs.
        """
        if name == "receivers" and (given is None or isinstance(given, str)):
            return None if given is None else one_of(name, given, [ANSWER])
        items: Any = [given] if isinstance(given, (str, State, dict)) else given
        if isinstance(items, Iterable):
            items = list(islice(items, MAX_CELLS + 1))
            if len(items) > MAX_CELLS:
                raise ValueError(f"{name}: expected at most {MAX_CELLS} states, got more")
            items = [State(**item) if isinstance(item, dict) and set(item) <= _PLAIN_STATE else item for item in items]
        tokens = functools.cache(self._tokens)  # of a question, which are not had for nothing
        if name == "receivers":
            some = dict.fromkeys(listed_states(items, name))
            return plain_form(as_states([self._located(name, state, tokens) for state in some], name))
        asked = as_hold(items, name)
        states = tuple(dict.fromkeys(self._located(name, state, tokens) for state in dict.fromkeys(asked.states)))
        return plain_form(replace(asked, states=states).told)

    def _located(self, name: str, state: State, tokens_of: Callable[[str], list[str] | None]) -> State:
        """A state by number, if the model has it and it differs between the two runs.

        Raises:
            TypeError, ValueError: if not.
        """
        block = self.tracer.model.blocks[state.block]
        if not self._inputs.damage.reaches(state.block):
            raise ValueError(f"{name}: {state.block!r} is the same in both runs. {payloads.CLOSED['undamaged']}")
        whole_number(f"{name}: layer", state.layer, 0, len(block.layers) - 1)
        if state.head is not None:
            whole_number(f"{name}: head", state.head, 0, block.heads - 1)
        tokens = tokens_of(state.block)
        if tokens is None:  # dropped later, if the block turns out to be shorter
            return replace(state, position=whole_number(f"{name}: position", state.position, 0, MAX_COLUMNS - 1))
        return replace(state, position=position_of(f"{name}: position", state.position, tokens, state.block))

    def _tokens(self, block: str) -> list[str] | None:
        """Names of the positions of a block; None while unknown without computing."""
        raise NotImplementedError

    @traitlets.validate("selection")
    @refusing
    def _valid_selection(self, proposal: Any) -> list[CellIndex]:
        return self._cells_of(self.block, proposal["value"])

    def _cells_of(self, block: str, cells: Any) -> list[CellIndex]:
        """Return cells if the grid of a block has all of them.

        Raises:
            TypeError, ValueError: if it does not.
        """
        shape = len(self.tracer.model.blocks[block].layers), self._columns(block)
        return _places("selection", cells, ("layer", "position"), shape)

    def _columns(self, block: str) -> int | None:
        """Number of columns of a block's grid; None while unknown without computing."""
        raise NotImplementedError


def _listed(value: Any, most: int) -> int:
    """Items of a list and of the lists in it; the count ends beyond `most`."""
    if not isinstance(value, (list, tuple)):
        return 0
    count = len(value)
    for item in value if count <= most else ():
        count += len(item) if isinstance(item, (list, tuple, dict, str)) else 0
        if count > most:
            break
    return count


def _places(name: str, value: Any, axes: tuple[str, str], shape: tuple[int, int | None]) -> list[CellIndex]:
    """A checked list of pairs within a shape, each once; None for an axis of unknown size.

    A longer list than a grid has cells is not looked at.
    """
    most = math.prod(MAX_COLUMNS if size is None else size for size in shape)
    if len(value) > most:
        raise ValueError(f"{name}: expected at most {most} pairs ({', '.join(axes)}), got {len(value)}")
    places: dict[CellIndex, None] = {}
    for place in value:
        if not isinstance(place, (list, tuple)) or len(place) != 2:
            raise ValueError(f"{name}: expected a list of ({', '.join(axes)}), got {brief(place)}")
        first, second = (
            whole_number(f"{name} ({axis})", at, 0, size and size - 1)
            for at, axis, size in zip(place, axes, shape, strict=True)
        )
        places[first, second] = None
    return list(places)
