"""The protocol: the types of all messages and synced state between kernel and front end.

For: one definition for both sides. Every shape here is a ``TypedDict``; ``js/src/protocol.ts`` is generated from them
(``python -m blip_trace_widget.display.protocol > js/src/protocol.ts``) and a test compares the two, so that they cannot
drift apart.
Ends: at shapes and ranges of plain JSON. `blip_trace_widget.widget.widget` and the tracer check the rest, such as the
number of tokens of a question or whether a cell lies in the grid.

Durable state is sent as traits (`Setup`, `Runs`, `Grid`, `Detail`, `PictureMap`, `Curve`), so that a saved notebook
shows the complete figure. Transient state (progress, single cells) is sent as custom messages with the id of the
request that caused it and the generation of the inputs it was computed from; the front end drops those of an older
generation.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal, TypedDict, Union, cast

from blip_trace_widget.checks import brief, fits

PROTOCOL_VERSION = 7
#: The module that generates the front end's copy of this.
GENERATOR = "blip_trace_widget.display.protocol"

#: What a cell of `Grid.values` and `CellsEvent` holds, in this order: axis 0, float32, little endian, NaN = not known.
#: A margin is half the width of a 95 % interval. ``significant`` is 1 where the indirect effect differs from 0 by
#: `EffectGrid.significant`, else 0; margins and tests are NaN where there is but one sample.
CELL_FIELDS = ("score", "indirect_effect", "margin", "recovery", "recovery_margin", "significant")

#: The same of a difference of two grids, `GridDifference.values`: each quantity has a margin and a test of its own.
DIFFERENCE_FIELDS = (
    "score",
    "score_margin",
    "score_significant",
    "indirect_effect",
    "margin",
    "significant",
    "recovery",
    "recovery_margin",
    "recovery_significant",
)

#: Formats that can be saved or copied; see `blip_trace_widget.display.export`.
Format: typing.TypeAlias = Literal["svg", "csv", "json", "picture", "other", "python", "cells"]
FORMATS: tuple[Format, ...] = typing.get_args(Format)

#: Most cells in one `PatchRequest`.
MAX_CELLS = 4096
#: Receivers that are walked back one after the other.
MAX_PATH = 100
#: Most noise samples that can be asked for.
MAX_SAMPLES = 200
#: The noise factor at the end of the slider and of the curve behind it.
MAX_NOISE = 10
#: The factors at which the sliders of scaled tokens and of ablated states end.
MAX_SCALE = 2
#: Maximal size of a picture file, in bytes.
MAX_IMAGE_BYTES = 32 * 2**20


# --- traits, kernel -> front end -----------------------------------------------------------------------------------


class Palette(TypedDict):
    """Colours at even steps from the left to the right end, each with the colour of a legible mark on it."""

    diverging: list[tuple[str, str]]
    sequential: list[tuple[str, str]]


class Look(TypedDict):
    """Words and colours, which do not depend on what is asked."""

    labels: dict[str, str]
    explain: dict[str, str]
    captions: dict[str, str]  # by "quantity direction"
    palettes: dict[str, Palette]  # by theme


class BlockInfo(TypedDict):
    """One block of the model, with the rows and columns of its grid."""

    name: str
    layers: int
    tokens: list[str]
    sites: list[str]
    heads: int
    enabled: bool
    reason: str  # why it is not enabled, else ""


class ExampleInfo(TypedDict):
    """One line of the example chooser."""

    name: str
    question: str


class Setup(TypedDict):
    """What can be asked of this model and question."""

    version: int
    closed: str  # why nothing can be computed but only viewed, else ""
    model: str
    models: list[str]  # those that can be chosen instead
    circuit: str  # the circuit of the model, if it is known, else ""
    blocks: list[BlockInfo]
    head_sites: list[str]  # those with single heads
    choices: dict[str, list[str]]  # trait -> the names that it accepts
    places: dict[str, list[str]]  # corruption -> the embeddings that it can damage
    words: list[str]  # word pieces of the question
    patches: tuple[int, int]  # rows and columns of the picture's patches
    examples: list[ExampleInfo]
    answer_tokens: list[str]


class RunInfo(TypedDict):
    """A summary of a run; None stands for NaN."""

    answer: str
    score: float | None
    stderr: float | None
    share: float  # the share of its bar that the score fills


class Bars(TypedDict):
    """Probabilities of the same words at the first answer position in each run; empty if there is no such run."""

    words: list[str]
    clean: list[float | None]
    corrupted: list[float | None]
    patched: list[float | None]
    pinned: list[float | None]


class Gate(TypedDict):
    """Whether the total effect is large enough for recovery to be meaningful, also in words."""

    open: bool
    text: str


class Runs(TypedDict):
    """The clean and the corrupted run."""

    generation: int
    cause: str  # what took the answer away, in a word
    damage: str  # what was done to the input, in a few words
    line: str  # the same with all fields
    metric: str
    given: bool  # whether the answer was given rather than the model's own
    clean: RunInfo
    corrupted: RunInfo
    total_effect: float | None
    total_effect_margin: float | None
    error: str  # why there are no intervals and tests, else ""
    gate: Gate
    bars: Bars


class StateInfo(TypedDict):
    """A state, as `blip_trace_widget.states.plain_form` writes it."""

    block: str
    layer: int
    position: int
    site: str
    head: int | None


class GridOf(TypedDict):
    """Which grid something is of, see `blip_trace_widget.results.grid_spec.GridSpec`."""

    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int  # side of the squares of image tokens that are patched together
    hold: list[str | StateInfo]
    receivers: str | list[StateInfo] | None
    through: list[str | StateInfo]


class Grid(GridOf):
    """The grid in view: layers x positions."""

    generation: int
    damage: str
    layers: int
    tokens: list[str]
    constructed: list[tuple[int, int]]  # cells that are 1 by construction
    dead: list[tuple[int, int]]  # computed cells that are 0 by construction, for what is held or for want of a path
    nan: list[tuple[int, int]]  # computed cells whose score is not a number
    truth: list[tuple[int, int]]  # cells that are true states, of a model whose circuit is known
    notes: list[str]  # lines about all cells
    held: str  # what is held, in words, else ""
    kept: str  # what held states are: "noisy", "clean"
    into: str  # where its paths lead, in words, else ""
    values: bytes  # float32 (len(CELL_FIELDS), layers, positions)


class GridDifference(GridOf):
    """A grid minus the kept one."""

    generation: int
    text: str  # how the two differ, or why they cannot be compared
    undefined: str  # why the difference of recoveries is undefined, else ""
    values: bytes  # float32 (len(DIFFERENCE_FIELDS), layers, positions); empty if they cannot be compared
    agreement: str  # how far they agree if they differ in the corruption alone, else ""
    apart: list[tuple[int, int]]  # then the cells on which they disagree


class Comparison(TypedDict):
    """The grid that others are compared with."""

    kept: str  # its settings, in words
    differences: list[GridDifference]  # of the grid in view, and of others that can be shown


class Outcome(TypedDict):
    """The numbers of a patched run; None stands for NaN."""

    indirect_effect: float | None
    margin: float | None
    recovery: float | None
    recovery_margin: float | None
    negligible: bool


class HeldInfo(TypedDict):
    """What is held in a patched run, in words."""

    phrase: str
    kept: str  # what held states are: "noisy", "clean"
    itself: bool  # all that is selected is held, and nothing patched
    dead: bool  # nothing of what is patched gets past what is held


class Detail(GridOf):
    """The patched run of the selected cells, or of the pinned ones."""

    generation: int
    tokens: list[str]
    layers: int
    damage: str
    cause: str
    metric: str
    cells: list[tuple[int, int]]  # of the grid, or
    patches: list[tuple[int, int]]  # of the picture
    score: float | None
    indirect_effect: float | None
    margin: float | None
    recovery: float | None
    recovery_margin: float | None
    held: HeldInfo | None  # what is held, if anything
    free: Outcome | None  # then the same run with nothing held, if it is known
    into: str  # of paths: where they lead, in words, else ""
    dead: bool  # nothing can come of it by construction
    negligible: bool  # the effect was tested and cannot be told from 0: of a single cell by the grid's verdict
    error: str  # why there is no margin, else ""
    bars: Bars


class Ablation(TypedDict):
    """The clean run in which the selected states are times a factor."""

    generation: int
    block: str
    site: str
    head: int | None
    window: int
    cells: list[tuple[int, int]]
    strength: float
    answer: str
    score: float | None
    text: str  # what the answer and its score are, in words


class Inputs(TypedDict):
    """What users set of the question, the score and the corruption; each is a trait."""

    question: str
    foil: str
    metric: str
    corruption: str
    noise: float
    kind: str
    at: str
    samples: int
    seed: int
    other_question: str
    to: str
    region: list[list[bool]] | None
    scale: float
    positions: list[int] | None


class PictureMap(TypedDict):
    """An overlay on the picture."""

    generation: int
    overlay: str
    square: int  # patches in a row or column of a square
    rows: int  # of squares
    columns: int
    limit: float  # end of the colour scale on both sides of 0
    low: str  # the ends of the legend, in words; "0" if no value is negative
    high: str
    text: str
    unit: str
    percent: bool
    done: int | None  # squares, where they are patched one at a time
    left: str  # about how long it takes yet, while it is being filled
    values: bytes  # float32 (3, rows, columns): value, margin, significant; NaN = not known


class Steps(TypedDict):
    """Whether there is something to undo, and something to redo."""

    undo: bool
    redo: bool


class Curve(TypedDict):
    """The noise curve: mean score of the corrupted run against the noise factor."""

    generation: int
    factors: list[float]
    scores: list[float | None]
    clean: float | None
    low: float | None  # where the noise takes 90 % of the clean score, for all that is known: from here
    high: float | None  # to here; with `low` alone there is no upper end
    lost_at: float | None  # from here on all is lost
    lost: str  # the same in words, or ""


class Found(TypedDict):
    """A set of states that was searched for, or the search so far."""

    generation: int
    target: float
    sizes: list[int]  # of the sets on the way
    curve: list[float | None]  # what they recover: on fresh noise, of a search so far on the noise that is searched
    bold: str  # what the set recovers, on fresh noise; "" of a search
    text: str  # all in words; "#" is the place of what is bold
    members: list[str]


class Arrow(TypedDict):
    """What is lost where one group of tokens no longer attends to another."""

    ends: tuple[str, str]  # from and to
    value: float | None  # share of the clean score
    text: str


class FlowPicture(TypedDict):
    """Groups of tokens, and arrows between them."""

    generation: int
    columns: list[list[str]]  # names of groups, unique in all
    arrows: list[Arrow]
    text: str


class ListedSample(TypedDict):
    """One line of a data set's list."""

    number: int
    picture: bytes  # JPEG, or empty
    question: str
    group: str
    answers: list[tuple[str, str]]  # (kind, answer)
    effect: str  # the total effect, in words
    note: str  # why it was skipped and cannot be chosen, else ""


class Listing(TypedDict):
    """The visible part of a data set's list."""

    title: str
    rows: list[ListedSample]
    first: int  # number of samples before them
    size: int  # rows per page
    found: int  # number of samples that match the search
    groups: list[str]
    orders: list[str]


class Panel(TypedDict):
    """One of a data set's small maps."""

    group: str  # "" = all samples
    text: str  # how many samples, or why there is no map; "" = not computed yet
    rows: list[str]
    columns: list[str]
    values: bytes  # float32 (2, rows, columns): value, significant; empty if there is no map


class Maps(TypedDict):
    """A data set's small maps beside each other, on one scale."""

    choices: list[str]  # what can be shown; empty if there is nothing
    groups: list[str]
    title: str
    across: tuple[str, str]  # what rows and columns are
    difference: bool  # whether the values are differences of effects, else recoveries
    panels: list[Panel]
    told: str  # what is known of the chosen head, in words
    note: str  # what is missing


# --- custom messages, front end -> kernel --------------------------------------------------------------------------


class HelloRequest(TypedDict):
    """The first message of a view: its protocol version."""

    type: Literal["hello"]
    id: int
    version: int


class PatchRequest(TypedDict):
    """Select these cells of the grid in view and patch them, all in one run; an empty list clears the selection."""

    type: Literal["patch"]
    id: int
    cells: list[tuple[int, int]]


class WalkRequest(TypedDict):
    """Show the paths into some receivers, or none, walked back to along `path`, and fill that grid."""

    type: Literal["walk"]
    id: int
    block: str
    site: str
    head: int | None
    receivers: str | list[StateInfo] | None
    path: list[str | list[StateInfo]]
    cells: list[tuple[int, int]]  # of that grid, to be selected


class TraceRequest(TypedDict):
    """Fill the grid in view."""

    type: Literal["trace"]
    id: int


class StopRequest(TypedDict):
    """Stop filling the grid; computed cells stay."""

    type: Literal["stop"]
    id: int


class FillOverlayRequest(TypedDict):
    """Fill the rest of the map over the picture, or stop filling it."""

    type: Literal["fill_overlay"]
    id: int
    on: bool


class ImageRequest(TypedDict):
    """Use the picture in the message's only buffer."""

    type: Literal["image"]
    id: int


class OtherImageRequest(TypedDict):
    """Swap in the picture in the message's only buffer."""

    type: Literal["other_image"]
    id: int


class PinRequest(TypedDict):
    """Pin the patched run of the selected cells beside the next ones, or unpin it."""

    type: Literal["pin"]
    id: int
    on: bool


class CompareRequest(TypedDict):
    """Keep the grid in view to compare others with it, or stop comparing."""

    type: Literal["compare"]
    id: int
    on: bool


class AlsoUnderRequest(TypedDict):
    """Compute the grid in view under another corruption too, one of `Setup.choices`' "also", and keep that."""

    type: Literal["also_under"]
    id: int
    under: str


class VerifyRequest(TypedDict):
    """Compute random cells of the grid in view again by plain hooks."""

    type: Literal["verify"]
    id: int


class FindRequest(TypedDict):
    """Search for a small set that recovers a share of the total effect."""

    type: Literal["find"]
    id: int
    percent: float
    among: Literal["states", "heads"]  # of the block in view; of both text blocks
    direction: Literal["restore", "disrupt", "isolate"]


class MemberRequest(TypedDict):
    """Select one member of the set that was found."""

    type: Literal["member"]
    id: int
    index: int


class FlowRequest(TypedDict):
    """Cut the attention between groups of tokens, pair by pair."""

    type: Literal["flow"]
    id: int


class UndoRequest(TypedDict):
    """Undo the last change of inputs."""

    type: Literal["undo"]
    id: int


class RedoRequest(TypedDict):
    """Redo what was undone."""

    type: Literal["redo"]
    id: int


class VisibleRangeRequest(TypedDict):
    """The first and last visible position of the grid: visible ones are computed first."""

    type: Literal["visible_range"]
    id: int
    first: int
    last: int


class SetRegionRequest(TypedDict):
    """Corrupt only the marked patches of the picture, only the others, or all."""

    type: Literal["set_region"]
    id: int
    to: Literal["marked", "others", "all"]


class AttentionRequest(TypedDict):
    """Ask what the question's tokens attend to in a layer."""

    type: Literal["attention"]
    id: int
    layer: int


class ExportRequest(TypedDict):
    """Export what is shown as a file or text."""

    type: Literal["export"]
    id: int
    format: Format
    theme: Literal["light", "dark"]


class ModelRequest(TypedDict):
    """Continue with another built-in model, one of `Setup.models`."""

    type: Literal["model"]
    id: int
    name: str


class CalledRequest(TypedDict):
    """The answer to a `call`."""

    type: Literal["called"]
    id: int


Request = (
    HelloRequest
    | PatchRequest
    | WalkRequest
    | TraceRequest
    | StopRequest
    | FillOverlayRequest
    | ImageRequest
    | OtherImageRequest
    | PinRequest
    | CompareRequest
    | AlsoUnderRequest
    | VerifyRequest
    | FindRequest
    | MemberRequest
    | FlowRequest
    | UndoRequest
    | RedoRequest
    | VisibleRangeRequest
    | SetRegionRequest
    | AttentionRequest
    | ExportRequest
    | ModelRequest
    | CalledRequest
)


# --- custom messages, kernel -> front end --------------------------------------------------------------------------


class CellsEvent(GridOf):
    """Computed cells; the message's buffer is float32 (len(CELL_FIELDS), len(cells))."""

    type: Literal["cells"]
    id: int
    generation: int
    cells: list[tuple[int, int]]


class AttentionEvent(TypedDict):
    """What the question's tokens attend to in a layer; the message's buffer is float32 (tokens, rows, columns)."""

    type: Literal["attention"]
    id: int
    generation: int
    layer: int
    head: int | None
    rows: int
    columns: int


class ProgressEvent(TypedDict):
    """Progress of the grid; sent at most ten times a second."""

    type: Literal["progress"]
    id: int
    generation: int
    done: int
    total: int
    left: str  # about how much time is left


class DoneEvent(TypedDict):
    """The request is finished, or was stopped."""

    type: Literal["done"]
    id: int
    generation: int
    stopped: bool


class TakenEvent(TypedDict):
    """The kernel has received the request, which may take a while."""

    type: Literal["taken"]
    id: int
    generation: int


class ExportedEvent(TypedDict):
    """An export; the message's buffer is the file."""

    type: Literal["exported"]
    id: int
    generation: int
    format: str
    name: str
    media: str


class CallEvent(TypedDict):
    """Ask for a `called`: output of users' functions is shown only while a message of the page is handled."""

    type: Literal["call"]
    id: int
    generation: int


Event = CellsEvent | AttentionEvent | ProgressEvent | DoneEvent | TakenEvent | ExportedEvent | CallEvent

_REQUESTS: dict[str, type] = {
    typing.get_args(typing.get_type_hints(shape)["type"])[0]: shape for shape in typing.get_args(Request)
}


def parse_request(content: object) -> Request:
    """Check a message of the front end against its type.

    Unknown fields are refused, as is a `hello` of another protocol version.

    Raises:
        ValueError: naming what is wrong and what is accepted.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"message: expected an object, got {type(content).__name__}")
    kind = content.get("type")
    shape = _REQUESTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise ValueError(f"message: type must be one of {sorted(_REQUESTS)}, got {brief(kind)}")
    fields = typing.get_type_hints(shape)
    if len(content) != len(fields) or set(content) != set(fields):
        raise ValueError(
            f"message {kind!r}: expected the fields {sorted(fields)}, got {brief(list(islice(content, 20)))}"
        )
    for name, annotation in fields.items():
        value = content[name]
        if isinstance(value, (str, list, tuple, Mapping)) and len(value) > MAX_CELLS:  # nothing long is looked at
            raise ValueError(f"message {kind!r}: {name}: at most {MAX_CELLS}, got {len(value)}")
        if not fits(content[name], annotation):
            raise ValueError(f"message {kind!r}: field {name!r} must be {_typescript(annotation)}")
    if kind == "hello" and content["version"] != PROTOCOL_VERSION:
        raise ValueError(
            f"The widget's front end speaks protocol {content['version']}, the kernel {PROTOCOL_VERSION}: "
            "restart the kernel and reload the page so that both come from the same version of blip_trace_widget."
        )
    return cast(Request, dict(content))


# --- generating TypeScript -----------------------------------------------------------------------------------------

#: Constants that both sides know.
_NUMBERS = ("PROTOCOL_VERSION", "MAX_CELLS", "MAX_SAMPLES", "MAX_NOISE", "MAX_SCALE")

_TYPESCRIPT = {str: "string", int: "number", float: "number", bool: "boolean", bytes: "DataView", type(None): "null"}


def _typescript(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if origin is dict:
        return f"Record<string, {_typescript(arguments[1])}>"
    if origin is list:
        item = _typescript(arguments[0])
        return f"({item})[]" if " | " in item else f"{item}[]"
    if origin is tuple:
        return f"[{', '.join(map(_typescript, arguments))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(_typescript, arguments))
    return _TYPESCRIPT.get(annotation) or str(annotation.__name__)


def to_typescript() -> str:
    """The text of ``js/src/protocol.ts``."""
    shapes = [value for value in globals().values() if typing.is_typeddict(value)]
    lines = [
        f"// Generated from blip_trace_widget/display/protocol.py by `python -m {GENERATOR}`. Do not edit.",
        "",
        *(f"export const {name} = {globals()[name]};" for name in _NUMBERS),
    ]
    for named, fields in (("CELL_FIELDS", CELL_FIELDS), ("DIFFERENCE_FIELDS", DIFFERENCE_FIELDS)):
        lines += [f"export const {named} = [", *(f'\t"{name}",' for name in fields), "] as const;"]
    for shape in shapes:
        lines += ["", f"/** {(shape.__doc__ or '').strip()} */", f"export interface {shape.__name__} {{"]
        lines += [f"\t{name}: {_typescript(kind)};" for name, kind in typing.get_type_hints(shape).items()]
        lines += ["}"]
    for name, union in (("Request", Request), ("TraceEvent", Event)):
        lines += ["", f"export type {name} =", *(f"\t| {part.__name__}" for part in typing.get_args(union))]
        lines[-1] += ";"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(to_typescript(), end="")
