"""States of the model and the one table of what can be patched.

For: naming a hidden state (block, layer, position or word, site, head) and the module of the transformers model whose
output it is. Everything that lists, validates or shows sites reads `BLOCKS`.
Ends: at names. `blip_trace_widget.model.block` computes and replaces states.

Source: Palit et al. 2023 (arXiv 2308.14179).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from blip_trace_widget.checks import brief, named, one_of, whole_number

#: The names of `BLOCKS`, `SITES` and `DIRECTIONS`, for type checkers and editors.
BlockName: TypeAlias = Literal["image_encoder", "question_encoder", "answer_decoder"]
TextBlockName: TypeAlias = Literal["question_encoder", "answer_decoder"]
SiteName: TypeAlias = Literal[
    "block_output",
    "self_attention_out",
    "cross_attention_out",
    "mlp",
    "block_input",
    "self_attention",
    "cross_attention",
]
AttentionName: TypeAlias = Literal["self_attention", "cross_attention"]
HeadSiteName: TypeAlias = Literal["self_attention_out", "cross_attention_out", "self_attention", "cross_attention"]
HeldSiteName: TypeAlias = Literal["mlp", "self_attention_out", "cross_attention_out"]
Direction: TypeAlias = Literal["restore", "disrupt"]

#: What is patched: first what a layer and its parts put out by themselves, last the attentions with their residual.
SITES: tuple[str, ...] = get_args(SiteName)

#: What the parts of a layer add to the residual: all that goes on from a state but for the residual itself.
HELD_SITES: tuple[str, ...] = get_args(HeldSiteName)
#: Beside these says that they mean all positions, not only the patched ones.
EVERYWHERE = "everywhere"

#: Sites that are what a module is given; of all others it is what the module puts out.
INPUTS = ("block_input",)


@dataclass(frozen=True)
class BlockSites:
    """Where a block's states are in a transformers `BlipForQuestionAnswering`.

    Attributes:
        layers: path to its layers.
        stack: path to the module that runs all layers.
        embeddings: path to the module whose output enters the first layer.
        sites: site -> the module below a layer whose output, or of `INPUTS` input, is patched ("" is the layer itself).
        heads: site -> the module whose input holds the heads' context vectors side by side.
        older: other names of sites, which mean the same.
    """

    layers: str
    stack: str
    embeddings: str
    sites: dict[str, str]
    heads: dict[str, str]
    older: dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The names of its sites, the older ones last."""
        return (*self.sites, *self.older)

    @property
    def part(self) -> str:
        """The submodel of transformers' BLIP that contains the block: the first name of the path."""
        return self.layers.partition(".")[0]


_TEXT_SITES = {
    "block_output": "",
    "self_attention_out": "attention.output.dense",
    "cross_attention_out": "crossattention.output.dense",
    "mlp": "output.dense",
    "block_input": "",
    "self_attention": "attention",
    "cross_attention": "crossattention",
}
_TEXT_HEADS = {
    "self_attention_out": "attention.output.dense",
    "cross_attention_out": "crossattention.output.dense",
    "self_attention": "attention.output.dense",
    "cross_attention": "crossattention.output.dense",
}

#: The one table of what can be patched, after Palit et al. 2023; blocks in the order in which the model runs them.
BLOCKS: dict[str, BlockSites] = {
    "image_encoder": BlockSites(
        "vision_model.encoder.layers",
        "vision_model.encoder",
        "vision_model.embeddings",
        {"block_output": "", "self_attention_out": "self_attn", "mlp": "mlp", "block_input": ""},
        {"self_attention_out": "self_attn.projection", "self_attention": "self_attn.projection"},
        # Its residual is added behind the module, so that what was called so is what the attention puts out.
        {"self_attention": "self_attention_out"},
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

#: Names of the sites in figures and the interface.
SITE_LABELS = {
    "block_output": "layer output",
    "self_attention_out": "self-attention’s own output",
    "cross_attention_out": "cross-attention’s own output",
    "mlp": "MLP",
    "block_input": "layer input",
    "self_attention": "self-attention with residual, as published",
    "cross_attention": "cross-attention with residual, as published",
}

#: Patch clean states into the corrupted run, or corrupted ones into the clean run.
DIRECTIONS = ("restore", "disrupt")


def site_label(site: str, block: str = "") -> str:
    """The name of a site in figures and the interface; given a block, by the name that the site has there."""
    if block in BLOCKS:
        site = BLOCKS[block].older.get(site, site)
    return SITE_LABELS.get(site, site.replace("_", " "))


def attention_label(site: str) -> str:
    """The attention that a site is of, whichever of its sites that is: "self-attention"."""
    return site.removesuffix("_out").replace("_", "-")


def grid_title(block: str, site: str) -> str:
    """A block and a site as the title of a figure: "question encoder: layer output"."""
    return f"{block.replace('_', ' ')}: {site_label(site, block)}"


#: Messages list the tokens of blocks that have fewer than this.
LISTED = 100
#: Longest word for which the nearest token is looked for.
LONGEST_WORD = 100

#: The blocks that read text, and the image through cross-attention or through the question.
TEXT_BLOCKS = ("question_encoder", "answer_decoder")


@dataclass(frozen=True, order=True)
class State:
    """One hidden state: the output of a site of a layer at one token, or one attention head's part of it.

    Attributes:
        block: ``"image_encoder"``, ``"question_encoder"`` or ``"answer_decoder"``.
        layer: 0-based layer inside the block.
        position: 0-based token inside the block; of the image encoder, 0 is the class token. Or the token itself, a
            word such as ``"circle"``, which a `Tracer` finds in its question.
        site: one of `SITES`; the image encoder has no ``"cross_attention"``, and its ``"self_attention"`` is another
            name of ``"self_attention_out"``.
        head: 0-based attention head; only for the sites of an attention. The head's slice of the context vector is
            patched, before the attention's output projection, whichever of the attention's sites is named.

    Raises:
        TypeError, ValueError: for names or numbers that no model can have.
    """

    block: BlockName
    layer: int
    position: int
    site: SiteName = "block_output"
    head: int | None = None

    if TYPE_CHECKING:  # takes a word or a number; once located, `position` is a number

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
        one_of(f"site (of {self.block})", self.site, BLOCKS[self.block].accepted)
        object.__setattr__(self, "layer", whole_number("layer", self.layer, 0))
        given: object = self.position
        if not isinstance(given, str):
            object.__setattr__(self, "position", whole_number("position", given, 0))
        if self.head is not None:
            one_of("site (of a single head)", self.site, BLOCKS[self.block].heads)
            object.__setattr__(self, "head", whole_number("head", self.head, 0))

    @classmethod
    def grid(
        cls,
        block: BlockName,
        layers: int | Iterable[int],
        positions: int | str | Iterable[int | str],
        site: SiteName = "block_output",
        heads: int | Iterable[int] | None = None,
    ) -> list[State]:
        """The states of all given layers, positions and heads at one site: ``State.grid(block, range(4), "circle")``.

        Args:
            block: as in `State`.
            layers: one layer or several.
            positions: one position or several, each a number or a word.
            site: as in `State`.
            heads: one head or several; None for all of a layer together.

        Returns:
            layers x positions x heads states, in this order, the last changing fastest.

        Raises:
            TypeError, ValueError: as `State`; also where nothing is given at all.
        """
        axes = {
            "layers": _several("layers", layers),
            "positions": _several("positions", positions),
            "heads": [None] if heads is None else _several("heads", heads),
        }
        for name, values in axes.items():
            if not values:
                raise ValueError(f"{name}: expected at least one, got none")
        return [cls(block, layer, at, site, head) for layer, at, head in product(*axes.values())]

    @property
    def place(self) -> tuple[int, str]:
        """The layer and the site at which it is replaced; what enters a layer is what the one below puts out.

        What enters layer 0 is what "layer -1" puts out.
        """
        if self.site == "block_input":
            return self.layer - 1, "block_output"
        return self.layer, BLOCKS[self.block].older.get(self.site, self.site)


def _several(name: str, given: Any) -> list[Any]:
    """One value or several, as a list."""
    if isinstance(given, Iterable) and not isinstance(given, str):
        return list(given)
    if isinstance(given, str) or hasattr(given, "__index__"):
        return [given]
    raise TypeError(f"{name}: expected one or several, got {type(given).__name__}")


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


def as_states(states: State | Iterable[State], name: str = "states") -> tuple[State, ...]:
    """One state or several, with numbers as positions, as a sorted tuple without repetitions.

    Raises:
        TypeError: if any is not a `State`, by the argument's name.
        ValueError: if there are none.
    """
    items = listed_states(states, name)
    if not items:
        raise ValueError(f"{name}: expected at least one State, got none")
    return tuple(
        sorted(set(items), key=lambda s: (list(BLOCKS).index(s.block), s.layer, s.position, s.site, s.head or 0))
    )


def plain_form(items: Iterable[State | str]) -> list[Any]:
    """States, and words beside them, as plain JSON: words as they are, states as objects."""
    return [item if isinstance(item, str) else dict(vars(item)) for item in items]


def from_plain_form(items: Iterable[Any]) -> tuple[Any, ...]:
    """The states and words that `plain_form` wrote; a state may also be one already.

    Raises:
        TypeError, ValueError: see `State`.
    """
    return tuple(item if isinstance(item, (str, State)) else State(**item) for item in items)


def listed_states(states: State | Iterable[State], name: str = "states") -> list[State]:
    """One state or several as a list, in the given order.

    Raises:
        TypeError: if any is not a `State`, by the argument's name.
    """
    if not isinstance(states, (State, Iterable)):
        raise TypeError(f"{name}: expected State or an iterable of State, got {type(states).__name__}")
    items = [states] if isinstance(states, State) else list(states)
    for item in items:
        if not isinstance(item, State):
            raise TypeError(f"{name}: expected State or an iterable of State, got {type(item).__name__}")
    return items


def position_of(name: str, given: Any, tokens: Sequence[str], block: str = "") -> int:
    """The position of a token that is given by its number or as a word.

    Args:
        name: the argument's name, for messages.
        given: a whole number, or one of the tokens, in any case.
        tokens: the block's tokens.
        block: the block's name, for messages.

    Raises:
        TypeError: if it is neither.
        ValueError: if there is no such token, or if the word occurs several times; with the tokens and the nearest
            one, or the positions.
    """
    if not isinstance(given, str):
        last, number = len(tokens) - 1, whole_number(name, given, 0)
        if number > last:
            raise ValueError(f"{name}: expected from 0 to {last} ({_sees(tokens, block)}), got {number}")
        return number
    word = given.strip().casefold()
    matches = [at for at, token in enumerate(tokens) if token.casefold() == word]
    if len(matches) == 1:
        return matches[0]
    if matches:
        places = f"{', '.join(map(str, matches[:-1]))} and {matches[-1]}"
        found = f"{brief(given)} is at positions {places} of {list(tokens)}"
        raise ValueError(f"{name}: {found}: give one of these numbers")
    pieces = word_pieces(word, tokens)
    if pieces:
        inside, read = f"{pieces.start} to {pieces.stop - 1}", list(tokens[pieces.start : pieces.stop])
        raise ValueError(f"{name}: the model reads {brief(given)} as {read}, positions {inside}: give one of these")
    nearest = get_close_matches(word[:LONGEST_WORD], [token.casefold() for token in tokens], 1, 0.6)
    suggestion = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"{name}: there is no token {brief(given)}: {_sees(tokens, block)}{suggestion}")


def _sees(tokens: Sequence[str], block: str) -> str:
    who = block or "the block"
    return f"{who} sees {list(tokens)}" if len(tokens) < LISTED else f"{who} has {len(tokens)} tokens"


def word_pieces(word: str, tokens: Sequence[str]) -> range | None:
    """The positions of a word, in lower case, that was split into word pieces ("surf", "##board"), if it occurs."""
    for start in range(len(tokens)):
        whole = tokens[start]
        for stop in range(start + 1, len(tokens)):
            if not tokens[stop].startswith("##"):
                break
            whole += tokens[stop][2:]
            if whole.casefold() == word:
                return range(start, stop + 1)
    return None
