"""The messages and the synced state that pass between kernel and front end, typed.

For: one place that says what crosses the wire. Every shape here is a ``TypedDict``; ``js/src/protocol.ts`` is
generated from them (``python -m blip_trace_widget.display.protocol > js/src/protocol.ts``) and a test compares the two,
so the sides cannot drift apart.
Ends: at shapes and ranges of plain JSON. Whether a question has too many tokens or a cell lies outside the grid is for
`blip_trace_widget.widget.widget` and the tracer to say.

Durable state travels as traits (`Setup`, `Runs`, `Grid`, `Detail`, `PictureMap`, `Curve`), so that a saved notebook
shows the whole figure. What passes by (progress, single cells) travels as custom messages with the id of the request
that caused them and the generation of the inputs they were computed from; the front end drops those of an older
generation.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Union, cast

from blip_trace_widget.checks import fits

PROTOCOL_VERSION = 6
#: What writes the front end's copy of this.
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

#: What can be saved or copied; see `blip_trace_widget.display.export`.
Format: typing.TypeAlias = Literal["svg", "csv", "json", "picture", "other", "python", "cells"]
FORMATS: tuple[Format, ...] = typing.get_args(Format)

#: The most cells of one `PatchRequest`.
MAX_CELLS = 4096
#: The most samples of noise that can be asked for.
MAX_SAMPLES = 200
#: The noise factor at which the slider ends, and the curve behind it.
MAX_NOISE = 10
#: The factors at which the sliders of scaled tokens and of ablated states end.
MAX_SCALE = 2
#: Bytes of the largest picture file.
MAX_IMAGE_BYTES = 32 * 2**20


# --- traits, kernel -> front end -----------------------------------------------------------------------------------


class Palette(TypedDict):
    """Colours at even steps from the left to the right end, each with a mark's colour that can be seen on it."""

    diverging: list[tuple[str, str]]
    sequential: list[tuple[str, str]]


class Look(TypedDict):
    """What does not depend on what is asked: words and colours."""

    labels: dict[str, str]
    explain: dict[str, str]
    captions: dict[str, str]  # by shown quantity and direction, with a space between
    palettes: dict[str, Palette]  # by theme


class BlockInfo(TypedDict):
    """One block of the model: the rows and columns of its grid."""

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
    closed: str  # why nothing can be asked and only be looked at what is computed, else ""
    model: str
    blocks: list[BlockInfo]
    head_sites: list[str]  # those that have single heads
    choices: dict[str, list[str]]  # of each trait that is one of several names
    places: dict[str, list[str]]  # by corruption: the embeddings that it can damage
    words: list[str]  # word pieces of the question
    patches: tuple[int, int]  # rows and columns of the picture's patches
    examples: list[ExampleInfo]
    answer_tokens: list[str]


class RunInfo(TypedDict):
    """A run in two numbers; None stands for NaN."""

    answer: str
    score: float | None
    stderr: float | None
    share: float  # of its bar that the score fills


class Bars(TypedDict):
    """Probabilities of the same words at the first answer position; empty where there is no such run."""

    words: list[str]
    clean: list[float | None]
    corrupted: list[float | None]
    patched: list[float | None]
    pinned: list[float | None]


class Gate(TypedDict):
    """Whether the total effect is large enough for recovery to mean something, and the same in words."""

    open: bool
    text: str


class Runs(TypedDict):
    """The clean and the corrupted run."""

    generation: int
    culprit: str  # what took the answer away, in a word
    damage: str  # what was done to the input, in a few words
    line: str  # the same with all fields
    metric: str
    given: bool  # the answer was given, and need not be the model's own
    clean: RunInfo
    corrupted: RunInfo
    total_effect: float | None
    total_effect_margin: float | None
    error: str  # why there are no intervals and tests, else ""
    gate: Gate
    bars: Bars


class Grid(TypedDict):
    """The grid in view: layers x positions."""

    generation: int
    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int  # side of the squares of image tokens that are patched together
    damage: str
    layers: int
    tokens: list[str]
    constructed: list[tuple[int, int]]  # cells that are 1 by construction
    nan: list[tuple[int, int]]  # cells that are computed, and whose score is not a number
    notes: list[str]  # what there is to know of all of them
    values: bytes  # float32 (len(CELL_FIELDS), layers, positions)


class GridDifference(TypedDict):
    """A grid less the one that is kept."""

    generation: int
    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int
    text: str  # what sets the two apart; where they cannot be compared, why
    undefined: str  # why recoveries have no difference, else ""
    values: bytes  # float32 (len(DIFFERENCE_FIELDS), layers, positions); empty where they cannot be compared
    agreement: str  # how far they agree, where they differ in the corruption alone, else ""
    apart: list[tuple[int, int]]  # then the cells on which they disagree


class Comparison(TypedDict):
    """The grid that is kept to compare others with."""

    kept: str  # its settings, in words
    differences: list[GridDifference]  # of the grid in view, and of others that can be looked at


class Detail(TypedDict):
    """The patched run of the selected cells, or of those that were pinned."""

    generation: int
    block: str
    site: str
    head: int | None
    tokens: list[str]
    layers: int
    damage: str
    culprit: str
    metric: str
    direction: str
    window: int
    patch: int
    cells: list[tuple[int, int]]  # of the grid, or
    patches: list[tuple[int, int]]  # of the picture
    score: float | None
    indirect_effect: float | None
    margin: float | None
    recovery: float | None
    recovery_margin: float | None
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
    """What a person sets of the question, the score and the damage; each is a trait."""

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
    """What lies over the picture."""

    generation: int
    overlay: str
    square: int  # patches in a row or column of a square
    rows: int  # of squares
    columns: int
    limit: float  # where the colours end, to both sides of 0
    low: str  # the ends of the legend, in words; "0" where no value is below
    high: str
    text: str
    unit: str
    percent: bool
    done: int | None  # squares, where they are patched one at a time
    left: str  # about how long it takes yet, while it is being filled
    values: bytes  # float32 (3, rows, columns): value, margin, significant; NaN = not known


class Steps(TypedDict):
    """Whether there is something to take back, and something taken back."""

    undo: bool
    redo: bool


class Curve(TypedDict):
    """The noise curve: mean score of the corrupted run over the noise factor."""

    generation: int
    factors: list[float]
    scores: list[float | None]
    clean: float | None
    low: float | None  # where the noise takes 90 % of the clean score, for all that is known: from here
    high: float | None  # to here; with `low` alone there is no upper end
    lost_at: float | None  # from here on all is lost
    lost: str  # the same in words, or ""


class ListedSample(TypedDict):
    """One line of a data set's list."""

    number: int
    picture: bytes  # JPEG, or empty
    question: str
    group: str
    answers: list[tuple[str, str]]  # what each is, and the answer
    effect: str  # the total effect, in words
    note: str  # why it was skipped and cannot be chosen, else ""


class Listing(TypedDict):
    """The samples of a data set that are in sight."""

    title: str
    rows: list[ListedSample]
    first: int  # how many lie before them
    size: int  # of a page
    found: int  # samples that fit what is looked for
    groups: list[str]
    orders: list[str]


# --- custom messages, front end -> kernel --------------------------------------------------------------------------


class HelloRequest(TypedDict):
    """The first message of a view: which protocol it speaks."""

    type: Literal["hello"]
    id: int
    version: int


class PatchRequest(TypedDict):
    """Select these states of the grid in view and patch them, all in one run; none: nothing is selected."""

    type: Literal["patch"]
    id: int
    cells: list[tuple[int, int]]


class TraceRequest(TypedDict):
    """Fill the grid in view."""

    type: Literal["trace"]
    id: int


class StopRequest(TypedDict):
    """Stop filling the grid; what is computed stays."""

    type: Literal["stop"]
    id: int


class FillOverlayRequest(TypedDict):
    """Fill what is left of the map over the picture, or stop filling it."""

    type: Literal["fill_overlay"]
    id: int
    on: bool


class ImageRequest(TypedDict):
    """Use the picture in the message's one buffer."""

    type: Literal["image"]
    id: int


class OtherImageRequest(TypedDict):
    """Swap in the picture in the message's one buffer."""

    type: Literal["other_image"]
    id: int


class PinRequest(TypedDict):
    """Keep the patched run of the selected cells beside the next ones, or let it go."""

    type: Literal["pin"]
    id: int
    on: bool


class CompareRequest(TypedDict):
    """Keep the grid in view to compare others with, or let it go."""

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


class UndoRequest(TypedDict):
    """Take back what was asked last."""

    type: Literal["undo"]
    id: int


class RedoRequest(TypedDict):
    """Ask again what was taken back."""

    type: Literal["redo"]
    id: int


class VisibleRangeRequest(TypedDict):
    """Which positions of the grid are visible, first and last: they are computed first."""

    type: Literal["visible_range"]
    id: int
    first: int
    last: int


class SetRegionRequest(TypedDict):
    """Damage the picture only in the patches that are marked, only in the others, or everywhere."""

    type: Literal["set_region"]
    id: int
    to: Literal["marked", "others", "all"]


class AttentionRequest(TypedDict):
    """Say where the question's tokens attend to in a layer."""

    type: Literal["attention"]
    id: int
    layer: int


class ExportRequest(TypedDict):
    """Make a file or a text of what is shown."""

    type: Literal["export"]
    id: int
    format: Format
    theme: Literal["light", "dark"]


class CalledRequest(TypedDict):
    """The answer to a `call`."""

    type: Literal["called"]
    id: int


Request = (
    HelloRequest
    | PatchRequest
    | TraceRequest
    | StopRequest
    | FillOverlayRequest
    | ImageRequest
    | OtherImageRequest
    | PinRequest
    | CompareRequest
    | AlsoUnderRequest
    | VerifyRequest
    | UndoRequest
    | RedoRequest
    | VisibleRangeRequest
    | SetRegionRequest
    | AttentionRequest
    | ExportRequest
    | CalledRequest
)


# --- custom messages, kernel -> front end --------------------------------------------------------------------------


class CellsEvent(TypedDict):
    """Computed cells; the message's buffer is float32 (len(CELL_FIELDS), len(cells))."""

    type: Literal["cells"]
    id: int
    generation: int
    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int
    cells: list[tuple[int, int]]


class AttentionEvent(TypedDict):
    """Where the question's tokens attend to in a layer; the message's buffer is float32 (tokens, rows, columns)."""

    type: Literal["attention"]
    id: int
    generation: int
    layer: int
    head: int | None
    rows: int
    columns: int


class ProgressEvent(TypedDict):
    """How far the grid is; sent at most ten times a second."""

    type: Literal["progress"]
    id: int
    generation: int
    done: int
    total: int
    left: str  # about how long it takes yet


class DoneEvent(TypedDict):
    """The request is finished, or was stopped."""

    type: Literal["done"]
    id: int
    generation: int
    stopped: bool


class TakenEvent(TypedDict):
    """The kernel has heard the request; what it asks for may take a while."""

    type: Literal["taken"]
    id: int
    generation: int


class ExportedEvent(TypedDict):
    """What was asked to be exported; the message's buffer is the file."""

    type: Literal["exported"]
    id: int
    generation: int
    format: str
    name: str
    media: str


class CallEvent(TypedDict):
    """Call back: what users' functions print is shown only while a message of the page is handled."""

    type: Literal["call"]
    id: int
    generation: int


Event = CellsEvent | AttentionEvent | ProgressEvent | DoneEvent | TakenEvent | ExportedEvent | CallEvent

_REQUESTS: dict[str, type] = {
    typing.get_args(typing.get_type_hints(shape)["type"])[0]: shape for shape in typing.get_args(Request)
}


def parse_request(content: object) -> Request:
    """Check a message of the front end against its shape.

    Unknown fields are refused, as is a `hello` of another protocol version.

    Raises:
        ValueError: naming what was wrong and what is accepted.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"message: expected an object, got {type(content).__name__}")
    kind = content.get("type")
    shape = _REQUESTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise ValueError(f"message: type must be one of {sorted(_REQUESTS)}, got {kind!r}")
    fields = typing.get_type_hints(shape)
    if set(content) != set(fields):
        raise ValueError(f"message {kind!r}: expected the fields {sorted(fields)}, got {sorted(map(str, content))}")
    for name, annotation in fields.items():
        if not fits(content[name], annotation):
            raise ValueError(f"message {kind!r}: field {name!r} must be {_typescript(annotation)}")
    if kind == "patch" and len(content["cells"]) > MAX_CELLS:
        raise ValueError(f"message 'patch': at most {MAX_CELLS} cells, got {len(content['cells'])}")
    if kind == "hello" and content["version"] != PROTOCOL_VERSION:
        raise ValueError(
            f"The widget's front end speaks protocol {content['version']}, the kernel {PROTOCOL_VERSION}: "
            "restart the kernel and reload the page so that both come from the same version of blip_trace_widget."
        )
    return cast(Request, dict(content))


# --- the same in TypeScript ----------------------------------------------------------------------------------------

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
