"""States of the model and the one table of what can be patched.

For: naming a hidden state (block, layer, position, site, head) and the module of the transformers model whose output
it is. Everything that lists, validates or shows sites reads `BLOCKS`.
Cost: none; knows neither torch nor the model's weights.
Ends: at names. How a state is computed and replaced is `blip_trace_widget.forward`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

#: The names of `BLOCKS`, `SITES` and `DIRECTIONS`, for type checkers and editors.
BlockName: TypeAlias = Literal["image_encoder", "question_encoder", "answer_decoder"]
TextBlockName: TypeAlias = Literal["question_encoder", "answer_decoder"]
SiteName: TypeAlias = Literal["block_output", "self_attention", "cross_attention", "mlp"]
AttentionName: TypeAlias = Literal["self_attention", "cross_attention"]
Direction: TypeAlias = Literal["restore", "disrupt"]

#: What is patched, in the order in which a layer computes it.
SITES = ("block_output", "self_attention", "cross_attention", "mlp")


@dataclass(frozen=True)
class BlockSites:
    """Where a block's states are in a transformers `BlipForQuestionAnswering`.

    Attributes:
        layers: path to its layers.
        stack: path to the module that runs them all.
        embeddings: path to what makes the first layer's input.
        sites: site -> the module below a layer whose output is patched ("" is the layer itself).
        heads: site -> the module whose input holds the heads' context vectors side by side.
    """

    layers: str
    stack: str
    embeddings: str
    sites: dict[str, str]
    heads: dict[str, str]

    @property
    def part(self) -> str:
        """The part of the model that the block is in, or is."""
        return self.layers.partition(".")[0]


_TEXT_SITES = {
    "block_output": "",
    "self_attention": "attention",
    "cross_attention": "crossattention",
    "mlp": "output.dense",
}
_TEXT_HEADS = {"self_attention": "attention.output.dense", "cross_attention": "crossattention.output.dense"}

#: The one table of what can be patched, after Palit et al. 2023; blocks in the order in which the model runs them.
BLOCKS: dict[str, BlockSites] = {
    "image_encoder": BlockSites(
        "vision_model.encoder.layers",
        "vision_model.encoder",
        "vision_model.embeddings",
        {"block_output": "", "self_attention": "self_attn", "mlp": "mlp"},
        {"self_attention": "self_attn.projection"},
    ),
    "question_encoder": BlockSites(
        "text_encoder.encoder.layer", "text_encoder", "text_encoder.embeddings", _TEXT_SITES, _TEXT_HEADS
    ),
    "answer_decoder": BlockSites(
        "text_decoder.bert.encoder.layer",
        "text_decoder.bert",
        "text_decoder.bert.embeddings",
        _TEXT_SITES,
        _TEXT_HEADS,
    ),
}

#: Clean states into the corrupted run, or corrupted ones into the clean run.
DIRECTIONS = ("restore", "disrupt")

#: What the widget says for some names; of the others it changes capitals and puts blanks and hyphens.
SPOKEN = {"layer_output": "block_output"}

#: The blocks that read text, and the image through cross-attention or through the question.
TEXT_BLOCKS = ("question_encoder", "answer_decoder")


def one_of(name: str, value: object, accepted: Iterable[str]) -> str:
    """Return `value` if it is one of the accepted names.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is another string. Both name the argument, what was given and what is accepted.
    """
    names = list(accepted)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {names}, got {type(value).__name__}")
    if value not in names:
        raise ValueError(f"{name}: expected one of {names}, got {value!r}")
    return value


def named(name: str, value: object, accepted: Iterable[str]) -> Any:
    """As `one_of`, but a name may be written as the widget writes it: "layer output", "self-attention"."""
    names = list(accepted)
    if isinstance(value, str) and value not in names:
        plain = value.strip().casefold().replace(" ", "_").replace("-", "_")
        plain = SPOKEN.get(plain, plain)
        if plain in names:
            return plain
    return one_of(name, value, names)


def whole_number(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number in low..high (both included).

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is out of range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    number = int(value.__index__())
    if number < low or (high is not None and number > high):
        accepted = f"from {low} to {high}" if high is not None else f"{low} or more"
        raise ValueError(f"{name}: expected {accepted}, got {number}")
    return number


@dataclass(frozen=True, order=True)
class State:
    """One hidden state: the output of a site of a layer at one token, or one attention head's part of it.

    Attributes:
        block: ``"image_encoder"``, ``"question_encoder"`` or ``"answer_decoder"``.
        layer: 0-based layer inside the block.
        position: 0-based token inside the block; of the image encoder, 0 is the class token. Or the token itself, a
            word such as ``"circle"``, which a `Tracer` finds in its question.
        site: one of `SITES`; the image encoder has no ``"cross_attention"``.
        head: 0-based attention head; only for ``"self_attention"`` and ``"cross_attention"``. The head's slice of the
            context vector is patched, before the attention's output projection.

    Raises:
        TypeError, ValueError: for names or numbers that no model has.
    """

    block: BlockName
    layer: int
    position: int
    site: SiteName = "block_output"
    head: int | None = None

    if TYPE_CHECKING:  # made with a word or a number, it holds a number once it is found

        def __init__(
            self,
            block: BlockName,
            layer: int,
            position: int | str,
            site: SiteName = "block_output",
            head: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", named("block", self.block, BLOCKS))
        object.__setattr__(self, "site", named("site", self.site, SITES))
        one_of(f"site (of {self.block})", self.site, BLOCKS[self.block].sites)
        object.__setattr__(self, "layer", whole_number("layer", self.layer, 0))
        given: object = self.position
        if not isinstance(given, str):
            object.__setattr__(self, "position", whole_number("position", given, 0))
        if self.head is not None:
            one_of("site (of a single head)", self.site, BLOCKS[self.block].heads)
            object.__setattr__(self, "head", whole_number("head", self.head, 0))


def window_layers(layer: int, window: int, layers: int) -> range:
    """Layers that a window centred on `layer` covers: l - w//2 ... l - w//2 + w - 1, clipped to the block."""
    first = layer - window // 2
    return range(max(0, first), min(layers, first + window))


def windowed(state: State, window: int, layers: int) -> tuple[State, ...]:
    """The states of a window of layers around `state`, at its position, site and head."""
    return tuple(
        State(state.block, layer, state.position, state.site, state.head)
        for layer in window_layers(state.layer, window, layers)
    )


def as_states(states: State | Iterable[State]) -> tuple[State, ...]:
    """One state or several, their positions numbers, as a tuple without repetitions, sorted.

    Raises:
        TypeError: if anything else is among them.
        ValueError: if there is none.
    """
    items = listed_states(states)
    if not items:
        raise ValueError("states: expected at least one State, got none")
    return tuple(
        sorted(set(items), key=lambda s: (list(BLOCKS).index(s.block), s.layer, s.position, s.site, s.head or 0))
    )


def listed_states(states: State | Iterable[State]) -> list[State]:
    """One state or several as a list, as they come.

    Raises:
        TypeError: if anything else is among them.
    """
    if not isinstance(states, (State, Iterable)):
        raise TypeError(f"states: expected State or an iterable of State, got {type(states).__name__}")
    items = [states] if isinstance(states, State) else list(states)
    for item in items:
        if not isinstance(item, State):
            raise TypeError(f"states: expected State or an iterable of State, got {type(item).__name__}")
    return items
