"""What files hold, read into values: types, ranges, and what must agree with what.

For: traces, recordings, curves and data sets. JSON that has the shape of a result can still mean nothing: a head that
its block lacks, a corruption with half its settings, a grid of more layers than its model. All of it is refused here,
by the name of the field, so that everything that is loaded can also be shown.
Ends: at checked values. `blip_trace_widget.results.files` opens the files, and names them in the errors.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict

from blip_trace_widget.checks import brief, conforms, one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS, completed
from blip_trace_widget.pictures import as_image
from blip_trace_widget.results.grid_spec import ANSWER, OF_STATES, GridSpec
from blip_trace_widget.results.hold import as_hold
from blip_trace_widget.results.maps import square_names
from blip_trace_widget.results.snapshot import Block, Snapshot, checked_corruption
from blip_trace_widget.states import BLOCKS, DIRECTIONS, EVERYWHERE, HELD_SITES, State

#: More layers, heads, positions, or patches to a side, has no model; the arrays of a grid are made from such numbers.
MOST = 4096
#: Most pixels of a picture in a file; 384 x 384 are written.
MOST_PIXELS = 1 << 22


class _Grid(TypedDict):
    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int


class _State(TypedDict):
    block: str
    layer: int
    position: int
    site: str
    head: int | None


class _Verified(TypedDict):
    runs: int
    seed: int
    grid: dict[str, Any] | None  # see `_check_spec`
    agrees: bool
    dtype: str
    difference: float | None
    exact_dtype: str | None
    rounding: float | None
    coarse: int


class _Settings(TypedDict):
    """The settings that the package itself reads; a trace may have others."""

    model: str
    revision: str | None
    weights: str
    dtype: str
    versions: dict[str, str]
    changed: list[str]
    image: str
    question: str
    unknown_words: list[str]
    answer: str
    answer_tokens: list[str]
    foil: str | None
    metric: str
    verified: _Verified
    average_of: int
    block: str
    site: str
    head: int | None
    direction: str
    window: int
    patch: int
    hold: list[str | _State]
    receivers: str | list[_State]
    through: list[str | _State]
    without_effect: list[tuple[int, int]]


#: What a trace cannot be read without.
NEEDED = ("block", "site", "direction", "window", "metric", "corruption")


def settings(stored: Any, needed: tuple[str, ...] = NEEDED) -> dict[str, Any]:
    """The settings of a result from a file, which may be of an earlier version.

    Args:
        stored: what the file holds.
        needed: what must be among them.

    Raises:
        ValueError, TypeError: naming the field, what was expected and what was found.
    """
    found = dict(conforms("settings", stored, dict[str, Any]))
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise ValueError(f"settings: {', '.join(lacking)} missing")
    for name, kind in typing.get_type_hints(_Settings).items():
        if name in found:
            conforms(f"settings.{name}", found[name], kind)
    if "block" in found:
        check_grid(found)
    verified = found.get("verified")
    if verified is not None and verified["grid"] is not None:
        _check_spec(verified["grid"])
    _check_held(found)
    if "corruption" in found:
        found["corruption"] = corruption(found["corruption"], swept=not needed)
    return found


def state(stored: Any) -> State:
    """A state from a file, in which its position is never a word.

    Raises:
        ValueError: if it is none.
    """
    try:
        found = State(**stored)
        for name in ("layer", "position"):
            whole_number(name, getattr(found, name), 0, MOST)
        whole_number("head", found.head or 0, 0, MOST)
    except TypeError as error:
        raise ValueError(f"no state: {brief(stored)}: {error}") from error
    return found


def corruption(stored: Any, *, swept: bool = False) -> dict[str, Any]:
    """The settings of a corruption, the package's own or a user's, from a file.

    Args:
        stored: what the file holds.
        swept: whether its factor may be left open, as in a curve over factors.

    Raises:
        ValueError, TypeError: naming the field, what was expected and what was found.
    """
    found = conforms("settings.corruption", stored, dict[str, Any])
    name = conforms("settings.corruption.type", found.get("type"), str)
    if name in CORRUPTIONS:
        is_open = swept and found.get("factor", "") is None
        return checked_corruption(found | ({"factor": 0.0} if is_open else {})) | ({"factor": None} if is_open else {})
    for field, kind in (("factor", float | None), ("seed", int | None), ("samples", int | None)):
        conforms(f"settings.corruption.{field}", found.get(field), kind)
    return completed(found)


def _check_spec(grid: Mapping[str, Any]) -> None:
    """Check the fields of a `GridSpec`; files that knew of nothing held lack those of states."""
    kinds = typing.get_type_hints(_Settings)
    states = {name: value for name, value in grid.items() if name in OF_STATES}
    for name, value in states.items():
        conforms(f"settings.verified.grid.{name}", value, kinds[name])
    check_grid(conforms("settings.verified.grid", {n: v for n, v in grid.items() if n not in states}, _Grid))
    _check_held(states)


def _check_held(found: Mapping[str, Any]) -> None:
    """Check what is held, where paths lead, and what is not held on them."""
    receivers = found.get("receivers", ())
    if isinstance(receivers, str):
        one_of("settings.receivers", receivers, (ANSWER,))
    elif "receivers" in found and not receivers:
        raise ValueError("settings.receivers: expected states or 'answer', got none")
    if "receivers" in found and ("hold" in found or found.get("window", 1) != 1):
        raise ValueError(
            "settings.receivers: paths lead there from single layers, with nothing held but what they hold"
        )
    if "through" in found and "receivers" not in found:
        raise ValueError("settings.through: this is no grid of paths, its receivers are missing")
    into = () if isinstance(receivers, str) else receivers
    listed = {"hold": found.get("hold", ()), "receivers": into, "through": found.get("through", ())}
    for name, items in listed.items():
        for item in items:
            if isinstance(item, str):
                one_of(f"settings.{name}", item, (*HELD_SITES, EVERYWHERE))
            else:
                check_grid({**item, "direction": DIRECTIONS[0], "window": 1})
                for axis in ("layer", "position"):
                    whole_number(f"settings.{name}: {axis}", item[axis], 0, MOST)
        words = as_hold([item for item in items if isinstance(item, str)], f"settings.{name}")
        if name == "through" and words.everywhere:
            raise ValueError(f"settings.through: a word means all layers and positions anyway, got {EVERYWHERE!r}")


def check_without_effect(found: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Check that a grid has the cells of which its settings say that they have no effect.

    Args:
        found: the settings, checked.
        shape: layers and positions.

    Raises:
        ValueError: if it has not.
    """
    for cell in found.get("without_effect", ()):
        for axis, at, count in zip(("layer", "position"), cell, shape, strict=True):
            whole_number(f"settings.without_effect: {axis}", at, 0, count - 1)


def check_grid(found: Mapping[str, Any]) -> None:
    """Check that a block has a grid.

    Args:
        found: the grid's fields, of the types that they have in `GridSpec`.

    Raises:
        ValueError, TypeError: naming the field, what was found and what is accepted.
    """
    block = BLOCKS[one_of("settings.block", found["block"], BLOCKS)]
    one_of("settings.site", found["site"], block.accepted)
    one_of("settings.direction", found["direction"], DIRECTIONS)
    whole_number("settings.window", found["window"], 1, MOST)
    whole_number("settings.patch", found.get("patch", 1), 1, MOST if found["block"] == "image_encoder" else 1)
    if found.get("head") is not None:
        one_of("settings.site (of a single head)", found["site"], block.heads)
        whole_number("settings.head", found["head"], 0, MOST)


def check_together(spec: Mapping[str, Any], layers: int, found: tuple[str, ...], snapshot: Snapshot) -> None:
    """Check that a trace from a file and its snapshot agree.

    Args:
        spec: the trace's settings.
        layers: its layers.
        found: its tokens.
        snapshot: the snapshot.

    Raises:
        ValueError, TypeError: naming the field that does not fit.
    """
    check(snapshot)
    block = snapshot.block(spec["block"])
    patch = spec.get("patch", 1)
    squares = square_names(*snapshot.patches, patch) if patch > 1 else ()
    tokens = (*block.tokens[:1], *squares) if patch > 1 else block.tokens
    if (block.layers, tokens) != (layers, found):
        raise ValueError(
            f"snapshot.blocks: {block.name} has {block.layers} layers and {len(tokens)} tokens, which are not those of "
            f"the trace, {layers} and {len(found)}"
        )
    if block.closed or (spec["site"] not in block.sites and spec["site"] not in BLOCKS[block.name].older):
        raise ValueError(f"snapshot.blocks: {block.name} is closed or has no {spec['site']}, but the trace is of it")
    whole_number("settings.head", spec.get("head") or 0, 0, block.heads - 1)
    _check_states_exist(GridSpec.of(spec), snapshot)
    if snapshot.metric != spec["metric"] or snapshot.corruption != spec["corruption"]:
        raise ValueError("snapshot: its metric or corruption is not the trace's")


def _check_states_exist(spec: GridSpec, snapshot: Snapshot) -> None:
    """Check that a snapshot's blocks have the states that are held, or lead somewhere, in a grid."""
    receivers = () if spec.receivers in (None, ANSWER) else spec.receivers
    for state in (*spec.hold, *(receivers or ()), *spec.through):
        if isinstance(state, State):
            block = snapshot.block(state.block)
            if block.closed:
                raise ValueError(f"snapshot.blocks: {block.name} is closed, but a state of it is held or receives")
            whole_number("settings: layer", state.layer, 0, block.layers - 1)
            whole_number("settings: position", state.position, 0, len(block.tokens) - 1)
            whole_number("settings: head", state.head or 0, 0, block.heads - 1)


def check(snapshot: Snapshot) -> None:
    """Check that the parts of a snapshot from a file fit each other.

    Raises:
        ValueError, TypeError: naming the field that does not fit.
    """
    for size in snapshot.patches:
        whole_number("snapshot.patches", size, 1, MOST // 16)
    if len({block.name for block in snapshot.blocks}) < len(snapshot.blocks):
        raise ValueError("snapshot.blocks: a block is there twice")
    for block in snapshot.blocks:
        _check_block(block, snapshot)
    if snapshot.average is None:
        snapshot.block("question_encoder")
        _check_damage(snapshot)
    else:
        whole_number("snapshot.average.samples", snapshot.average.samples, 1)
    if not snapshot.total_effect.corrupted.size:
        raise ValueError("snapshot.total_effect.corrupted: expected a score for each sample, got none")
    curve = snapshot.curve
    if curve and (len(curve.factors) != len(curve.scores) or not all(map(math.isfinite, curve.factors))):
        raise ValueError(f"snapshot.curve: {len(curve.scores)} scores at {len(curve.factors)} factors do not fit")
    if curve and curve.lost_at is not None and not math.isfinite(curve.lost_at):
        raise ValueError("snapshot.curve.lost_at: expected a number or none")
    _check_picture("picture", snapshot.picture)
    if snapshot.other_picture or snapshot.corruption["type"] == "ImageSwap":
        _check_picture("other_picture", snapshot.other_picture)


def _check_block(block: Block, snapshot: Snapshot) -> None:
    name = f"snapshot.blocks: {block.name}"
    whole_number(f"{name}: layers", block.layers, 1, MOST)
    whole_number(f"{name}: heads", block.heads, 1, MOST)
    for site in block.sites:
        one_of(f"{name}: sites", site, BLOCKS[block.name].accepted)
    if block.closed or (snapshot.average and not block.tokens):
        return
    whole_number(f"{name}: number of tokens", len(block.tokens), 1, MOST)
    count = 1 + math.prod(snapshot.patches)
    if block.name == "image_encoder" and not snapshot.average and len(block.tokens) != count:
        raise ValueError(f"{name}: {len(block.tokens)} tokens are not the class token and {count - 1} patches")
    if not block.sites:
        raise ValueError(f"{name}: it is open, but has no site")


def _check_damage(snapshot: Snapshot) -> None:
    """A region has the picture's patches, and damaged words are the question's."""
    region, positions = snapshot.corruption.get("region"), snapshot.corruption.get("positions")
    rows, columns = snapshot.patches
    if region is not None and (len(region) != rows or any(len(row) != columns for row in region)):
        raise ValueError(f"snapshot.corruption.region: expected {rows} x {columns} patches")
    words = snapshot.block("question_encoder").tokens
    for at in positions or ():
        if isinstance(at, str) and at not in words:
            one_of("snapshot.corruption.positions", at, words)
        elif not isinstance(at, str):
            whole_number("snapshot.corruption.positions", at, 0, len(words) - 1)


@lru_cache(maxsize=4)
def _check_picture(name: str, picture: bytes) -> None:
    try:
        as_image(picture, pixels=MOST_PIXELS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
