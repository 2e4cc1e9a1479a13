"""Inputs: everything that a figure is asked for, as one frozen value, and the consequences of changes.

For: the single source of what is asked. Traits mirror it, undo stores it, a session compares it with the previous one.
Ends: at values; `blip_trace_widget.widget.traits` validates traits, `blip_trace_widget.widget.session` computes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any

from PIL import Image

from blip_trace_widget.checks import one_of
from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.corruption_fields import means_something
from blip_trace_widget.demo import examples
from blip_trace_widget.demo.circuits import CircuitExample, circuit_of
from blip_trace_widget.display import payloads
from blip_trace_widget.display.alternatives import alternatives
from blip_trace_widget.pictures import jpeg, picture_hash
from blip_trace_widget.results.grid_spec import (
    OF_STATES,
    CellIndex,
    GridSpec,
    Receivers,
    Selection,
    as_json,
    of_states,
)
from blip_trace_widget.results.hold import as_hold
from blip_trace_widget.results.maps import default_patch
from blip_trace_widget.states import BLOCKS, EVERYWHERE, HELD_SITES, TEXT_BLOCKS, State
from blip_trace_widget.tracing.corruption import Corruption, ImageSwap, from_settings

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa

#: The fields that make up a corruption, and the ones that make up a view; traits have the same names.
DAMAGE = (
    "corruption",
    "noise",
    "kind",
    "at",
    "samples",
    "seed",
    "other_question",
    "to",
    "region",
    "scale",
    "positions",
)
VIEW = GridSpec._fields
#: What is patched: cells of the grid, or patches of the picture; choosing one clears the other.
SELECTED = ("selection", "patches")
#: The traits that mirror inputs, in an order in which they can be set: a metric may need the foil first.
TRAITS = ("question", "foil", "metric", *DAMAGE, *VIEW, "path", *SELECTED, "arrow", "strength", "example")
#: Those that sliders move.
SLIDERS = ("noise", "scale", "strength")
#: A tracer's arguments -> the fields that each is made from.
ARGUMENTS = {
    "image": ("picture",),
    "question": ("question",),
    "answer": ("answer",),
    "foil": ("foil",),
    "metric": ("metric",),
    "corruption": (*DAMAGE, "other"),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is asked about, or swapped in; compared by identity, not by content.

    Attributes:
        image: RGB.
        path: the path that it was read from, or None.
        by_chance: whether it was chosen automatically.
        shown: the picture as the page shows it, JPEG, if already known.
    """

    image: Image.Image
    path: str | None = None
    by_chance: bool = False
    shown: bytes | None = field(default=None, repr=False)

    @cached_property
    def jpeg(self) -> bytes:
        """The picture as the page shows it, JPEG."""
        return jpeg(self.image) if self.shown is None else self.shown

    @cached_property
    def swap(self) -> ImageSwap:
        """The corruption that swaps it in; cached, so that it is hashed once."""
        return ImageSwap(self.image)


@dataclass(frozen=True)
class Inputs:
    """Everything that is asked: the question about a picture, the corruption, the grid in view, and the selection.

    Attributes:
        picture: the picture.
        question, answer, foil, metric: as in `blip_trace_widget.Tracer`; no foil is "", the model's own answer None.
        corruption: its kind; the fields of all kinds follow.
        other: the picture of an ``ImageSwap``.
        block, site, head, direction, window, patch, hold, receivers, through: the grid in view.
        path: the receivers from which paths were walked back to `receivers`, the nearest to the answer first.
        selection: (layer, position) of the cells that are patched together.
        patches: or (row, column) of patches of the picture.
        arrow: whether the selected sender's share is pointed out, with an arrow to what receives it.
        strength: what the selected states are times in a clean run; 1 for no such run.
        example: index of the built-in example that is shown, or -1.
    """

    picture: Picture
    question: str
    answer: str | None = None
    foil: str = ""
    metric: str = payloads.BEGINNING["metric"]
    corruption: str = payloads.BEGINNING["corruption"]
    noise: float = payloads.BEGINNING["noise"]
    kind: str = payloads.BEGINNING["kind"]
    at: str = payloads.BEGINNING["at"]
    samples: int = payloads.BEGINNING["samples"]
    seed: int = payloads.BEGINNING["seed"]
    other_question: str = ""
    to: str = payloads.BEGINNING["to"]
    region: list[list[bool]] | None = None
    scale: float = payloads.BEGINNING["scale"]
    positions: list[int] | None = None
    other: Picture | None = None
    block: str = GridSpec().block
    site: str = GridSpec().site
    head: int | None = None
    direction: str = GridSpec().direction
    window: int = 1
    patch: int = 1
    hold: tuple[str | State, ...] = ()
    receivers: Receivers | None = None
    through: tuple[str | State, ...] = ()
    path: tuple[Receivers, ...] = ()
    selection: tuple[CellIndex, ...] = ()
    patches: tuple[CellIndex, ...] = ()
    arrow: bool = False
    strength: float = 1.0
    example: int = -1

    @classmethod
    def of(cls, tracer: Any, picture: Picture, spec: GridSpec, example: int = -1) -> Inputs:
        """The inputs that a tracer was made from."""
        corruption = tracer.corruption.located(tracer.tokens("question_encoder"))
        swap = corruption if isinstance(corruption, ImageSwap) else None
        traits = payloads.asked(tracer.question, tracer.given["foil"], tracer.metric.name, corruption.settings())
        return cls(
            picture=picture,
            answer=tracer.given["answer"],
            other=None if swap is None else Picture(swap.image),
            example=example,
            **traits,
            **spec._asdict(),
        )

    @property
    def traits(self) -> dict[str, Any]:
        """The mirroring traits and their values."""
        return {name: self.trait(name) for name in TRAITS}

    def trait(self, name: str) -> Any:
        """The value of a mirroring trait."""
        value = getattr(self, name)
        if name in OF_STATES:
            return as_json(value)
        if name == "path":
            return [as_json(each) for each in value]
        return list(value) if name in SELECTED else value

    @property
    def spec(self) -> GridSpec:
        """The grid in view: on paths nothing else is held, and each sender is of one layer."""
        spec = GridSpec(*(getattr(self, name) for name in VIEW))
        return spec._replace(through=()) if spec.receivers is None else spec._replace(hold=(), window=1)

    @property
    def held_states(self) -> tuple[State, ...]:
        """The states that are held by themselves."""
        return tuple(item for item in self.hold if isinstance(item, State))

    @property
    def walked(self) -> tuple[Receivers, ...]:
        """All receivers, from the first that paths were walked back from to the present ones."""
        return self.path if self.receivers is None else (*self.path, self.receivers)

    @property
    def named_states(self) -> tuple[State, ...]:
        """The states that are held by themselves, receive, or lie on the paths to these."""
        receivers = (state for each in self.walked if not isinstance(each, str) for state in each)
        through = (item for item in self.through if isinstance(item, State))
        return (*self.held_states, *receivers, *through)

    def naming_only(self, wanted: Callable[[State], bool]) -> Inputs:
        """These inputs without the held states that are not wanted any more, walked back to receivers that are."""
        hold, through = (
            tuple(item for item in items if isinstance(item, str) or wanted(item))
            for items in (self.hold, self.through)
        )
        left = tuple(takewhile(lambda each: isinstance(each, str) or all(map(wanted, each)), self.walked))
        receivers, path = (left[-1], left[:-1]) if left else (None, ())
        return replace(self, hold=hold, through=through, receivers=receivers, path=path)

    @property
    def selected(self) -> Selection:
        """The selection that is patched."""
        return Selection(self.selection, self.patches)

    @property
    def damage(self) -> Corruption:
        """The corruption."""
        known = CORRUPTIONS[self.corruption]
        settings = {field: getattr(self, trait) for trait, field in known.fields.items()}
        settings |= {"region": self.region} if known.has_region else {}
        at = settings.get("at")
        there = {name: value if means_something(name, at) else None for name, value in settings.items()}
        return from_settings({"type": self.corruption, **there}, self._swap)

    def other_damage(self, given: Any) -> Corruption:
        """Another corruption, or the one that a name of `alternatives` makes of the present one.

        Raises:
            TypeError, ValueError: if it is neither, or of one's own, which the page could not name.
        """
        if isinstance(given, Corruption):
            one_of("corruption", type(given).__name__, CORRUPTIONS)
            return given
        known = alternatives(self.damage.settings())
        return from_settings(known[one_of("corruption", given, known)], self._swap)

    def arguments(self, names: Iterable[str]) -> dict[str, Any]:
        """The named arguments of a tracer."""
        made: dict[str, Callable[[], Any]] = {
            "image": lambda: self.picture.image,
            "question": lambda: self.question,
            "answer": lambda: self.answer,
            "foil": lambda: self.foil or None,
            "metric": lambda: self.metric,
            "corruption": lambda: self.damage,
        }
        return {name: made[name]() for name in names}

    def differing(self, other: Inputs) -> frozenset[str]:
        """The names of a tracer's arguments that differ between these inputs and others."""
        return frozenset(
            name
            for name, fields in ARGUMENTS.items()
            if any(getattr(self, field_name) != getattr(other, field_name) for field_name in fields)
        )

    def taking(self, names: Collection[str], other: Inputs) -> Inputs:
        """These inputs with the named arguments of a tracer taken from others."""
        fields = [field_name for name in names for field_name in ARGUMENTS[name]]
        fields += ["example"] if {"image", "question"} & set(names) else []
        return replace(self, **{name: getattr(other, name) for name in fields})

    def changed(self, model: BlipVqa, **changes: Any) -> Inputs:
        """These inputs with fields changed, and with everything that must change as a consequence.

        Args:
            model: the model.
            changes: fields with valid values.
        """
        if changes.get("example", -1) >= 0:
            shown = examples(model)[changes["example"]]
            changes = {"picture": Picture(shown.image), "question": shown.question, **changes}
        for name in SELECTED:
            if name in changes:
                changes[name] = tuple((first, second) for first, second in changes[name])
        for name in set(OF_STATES) & set(changes):
            none = None if name == "receivers" else ()
            changes[name] = none if changes[name] is None else of_states(changes[name])
        if {"receivers", "path"} & set(changes):
            changes["path"] = tuple(map(of_states, changes.get("path", ())))
        now = replace(self, **changes)
        subject = now.differing(self) & {"image", "question"}
        if subject:
            now = now._about_another(subject, changes)
        if now.metric == "logit_difference" and not now.foil:
            now = replace(now, metric=payloads.BEGINNING["metric"])
        if subject or "corruption" in changes:
            now = now._with_partner(model)
        places = CORRUPTIONS[now.corruption].places
        if places and now.at not in places:  # not every corruption damages words
            now = replace(now, at=payloads.BEGINNING["at"])
        if now.block != self.block and "patch" not in changes:
            now = replace(now, patch=_patch_of(now.block, model.grid))
        now = now.fitted(model)
        if (now.block, now.patch) != (self.block, self.patch) and "selection" not in changes:  # its cells are different
            now = replace(now, selection=())
        if now.receivers is None:
            now = replace(now, path=())
        if (now.spec, now.selection) != (self.spec, self.selection) or now.receivers is None:
            now = replace(now, arrow=changes.get("arrow", False) and now.receivers is not None)
        if not now.damage.damages_image:  # the picture is the same in both runs
            now = replace(now, patches=())
        if now.selection and now.selection != self.selection:
            return replace(now, patches=())
        return replace(now, selection=()) if now.patches and now.patches != self.patches else now

    def in_block(self, block: str, patches: tuple[int, int]) -> Inputs:
        """With another block in view; of one with very many tokens squares of them are patched together.

        Args:
            block: its name.
            patches: rows and columns of the model's image patches.
        """
        return self if block == self.block else replace(self, block=block, patch=_patch_of(block, patches))

    def fitted(self, model: BlipVqa) -> Inputs:
        """These inputs with the nearest existing grid: not every block has every site, nor every site heads."""
        block = self.block if self.damage.reaches(self.block) else GridSpec().block
        site = self.site if self.site in BLOCKS[block].accepted else GridSpec().site
        site = GridSpec(block, site).by_present_name.site
        layout, damage = model.blocks[block], self.damage
        held = [item for item in self.hold if item not in HELD_SITES or item in BLOCKS[block].sites]
        if not any(item in HELD_SITES for item in held):  # nothing is left to be held everywhere
            held = [item for item in held if item != EVERYWHERE]
        hold = as_hold(held or None)
        head = self.head if site in BLOCKS[block].heads else None
        return replace(
            self,
            block=block,
            site=site,
            head=head if head is None else min(head, layout.heads - 1),
            window=min(self.window, len(layout.layers)),
            patch=min(self.patch, max(model.grid)) if block == "image_encoder" else 1,
            hold=hold.told,
        ).naming_only(lambda state: damage.reaches(state.block) and _has(model, state))

    def for_model(self, model: BlipVqa, before: BlipVqa) -> tuple[Inputs, list[str]]:
        """The inputs as far as another model can take them, and the names of those dropped but of held states.

        A model whose circuit is known shows an example of its own; so does any built-in model in the place of one.

        Args:
            model: the other model.
            before: the current model.

        Raises:
            ValueError: if the question is too long for it.
        """
        if model.name != before.name and (circuit_of(model.name) or (model.built_in and self.example >= 0)):
            return self.changed(model, example=0, block=GridSpec().block), []
        length = len(model.question_ids(self.question))
        layers, grid = len(model.blocks[self.block].layers), model.grid
        fits = {
            "answer": self.answer is None or _taken(lambda: model.answer_ids("answer", self.answer or "")),
            "foil": not self.foil or _taken(lambda: model.answer_ids("foil", self.foil)),
            "region": self.region is None or grid == before.grid,
            "positions": self.positions is None or self._words(model) == self._words(before),
            "other_question": self.corruption != "QuestionSwap"
            or _taken(lambda: len(model.question_ids(self.other_question)) == length),
            "selection": all(layer < layers for layer, _ in self.selection),
            "patches": all(row < grid[0] and column < grid[1] for row, column in self.patches),
        }
        instead: dict[str, Any] = {"answer": None, "foil": "", "region": None, "positions": None}
        instead |= {"other_question": self.question}
        dropped = [name for name, fit in fits.items() if not fit]
        now = replace(self, **{name: instead.get(name, ()) for name in dropped})
        if now.metric == "logit_difference" and not now.foil:
            now = replace(now, metric=payloads.BEGINNING["metric"])
        return replace(now, example=now.example if model.built_in else -1).fitted(model), dropped

    def _about_another(self, subject: Collection[str], changes: Collection[str]) -> Inputs:
        """Reset what belonged to the previous picture or question: answer, foil, selection, region."""
        reset: dict[str, Any] = {"answer": None, "foil": "", "example": -1}
        if "image" in subject:
            reset |= {"patches": (), "region": None}
            reset |= {"selection": ()} if self.block == "image_encoder" else {}
            reset |= {"other": None} if self.other and self.other.by_chance else {}
        if "question" in subject:
            reset |= {"selection": (), "positions": None}
        now = replace(self, **{name: value for name, value in reset.items() if name not in changes})
        texts = "question" in subject  # other words, or another picture's patches, are other states
        return now.naming_only(lambda state: not (texts if state.block in TEXT_BLOCKS else "image" in subject))

    def _with_partner(self, model: BlipVqa) -> Inputs:
        """Make a swap valid: a question with as many tokens, or some other picture if none is chosen."""
        if self.corruption == "QuestionSwap":
            other = model.question_ids(self.other_question) if self.other_question else []
            if len(other) != len(model.question_ids(self.question)):
                return replace(self, other_question=self.question)
        if self.corruption == "ImageSwap" and self.other is None:
            return replace(self, other=Picture(_another(model, self.picture.image), by_chance=True))
        return self

    def _words(self, model: BlipVqa) -> list[str]:
        """Word pieces of the question, as a model reads it."""
        return model.tokens(model.question_ids(self.question))

    def _swap(self) -> ImageSwap:
        assert self.other is not None  # `_with_partner` provides one
        return self.other.swap


def _has(model: BlipVqa, state: State) -> bool:
    """Whether a model has a state, whatever its question."""
    block = model.blocks[state.block]
    return state.layer < len(block.layers) and (state.head or 0) < block.heads


def _patch_of(block: str, patches: tuple[int, int]) -> int:
    """Side of the squares of tokens that are patched together where nobody chose one."""
    return default_patch(*patches) if block == "image_encoder" else 1


def _another(model: BlipVqa, image: Image.Image) -> Image.Image:
    """A default picture to swap in: another example's for a built-in model, else plain grey."""
    if model.built_in:
        shown, sha256 = examples(model), picture_hash(image)
        partners = (each.other_image for each in shown if isinstance(each, CircuitExample) and each.sha256 == sha256)
        others = (each.image for each in shown if each.sha256 != sha256)
        return next(chain(partners, others))
    return Image.new("RGB", (64, 64), (127, 127, 127))


def _taken(check: Callable[[], Any]) -> bool:
    """Whether a check passes."""
    try:
        return check() is not False
    except (ValueError, TypeError):
        return False
