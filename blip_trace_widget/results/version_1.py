"""Reading what version 0.1.0 stored besides a trace, messages of its front end, as a snapshot.

For: traces, recordings and data-set folders of format version 1.
Ends: at a `Snapshot`. Only the data in those files are read; sentences and drawings are made anew.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import conforms, one_of
from blip_trace_widget.choices import METRIC_NAMES
from blip_trace_widget.results.snapshot import (
    Average,
    Block,
    CurveSummary,
    RunSummary,
    Snapshot,
    checked_corruption,
    checked_picture,
)
from blip_trace_widget.results.statistics import TotalEffect
from blip_trace_widget.states import BLOCKS

#: What BERT's tokenizers replace unknown words with.
UNKNOWN = "[UNK]"


class _Inputs(TypedDict):
    question: str
    foil: str
    metric: str


class _Block(TypedDict):
    name: str
    layers: int
    tokens: list[str]
    sites: list[str]
    heads: int
    enabled: bool
    reason: str


class _Setup(TypedDict):
    model: str
    blocks: list[_Block]
    patches: tuple[int, int]
    answer_tokens: list[str]


class _RunInfo(TypedDict):
    answer: str
    score: float | None
    stderr: float | None
    share: float


class _Bars(TypedDict):
    words: list[str]
    clean: list[float | None]
    corrupted: list[float | None]
    patched: list[float | None]
    pinned: list[float | None]


class _Runs(TypedDict):
    given: bool
    clean: _RunInfo
    corrupted: _RunInfo
    bars: _Bars


class _Curve(TypedDict):
    factors: list[float]
    scores: list[float | None]
    clean: float | None


def snapshot(
    scene: Any,
    picture: bytes,
    other_picture: bytes,
    settings: Mapping[str, Any],
    clean: float,
    corrupted: NDArray[np.float64],
) -> Snapshot:
    """The snapshot stored in what version 1 called a scene.

    Args:
        scene: the scene's JSON.
        picture: JPEG.
        other_picture: JPEG, or empty.
        settings: settings of a trace of this scene.
        clean: that trace's clean score.
        corrupted: its corrupted scores, (samples,).

    Raises:
        KeyError, TypeError, ValueError: if the data do not have the expected shape.
    """
    if not isinstance(scene, dict):
        raise ValueError("scene: expected an object")
    inputs: _Inputs = _part("inputs", scene["inputs"], _Inputs)
    setup: _Setup = _part("setup", scene["setup"], _Setup)
    runs: _Runs = _part("runs", scene["runs"], _Runs)
    curve: _Curve | None = None if scene["curve"] is None else _part("curve", scene["curve"], _Curve)
    one_of("metric", inputs["metric"], METRIC_NAMES)
    average = settings.get("average_of")
    unknown = () if average else tuple(map(str, settings.get("unknown_words", ())))
    return Snapshot(
        picture=checked_picture("picture", picture),
        other_picture=checked_picture("other_picture", other_picture),
        question=inputs["question"],
        given_answer=str(settings["answer"]) if runs["given"] else None,
        foil=inputs["foil"] or None,
        metric=inputs["metric"],  # type: ignore[arg-type]
        corruption=checked_corruption(settings["corruption"]),
        model=setup["model"],
        patches=(setup["patches"][0], setup["patches"][1]),
        blocks=tuple(map(_block, setup["blocks"])),
        clean=_run(runs["clean"], runs["bars"]["words"], runs["bars"]["clean"]),
        corrupted=_run(runs["corrupted"], runs["bars"]["words"], runs["bars"]["corrupted"]),
        total_effect=TotalEffect(clean, corrupted),
        answer_tokens=tuple(setup["answer_tokens"]),
        unknown_words=unknown,
        knows_a_word=not unknown or _knows_a_word(setup["blocks"]),
        curve=curve
        and CurveSummary(tuple(curve["factors"]), tuple(map(_number, curve["scores"])), _number(curve["clean"])),
        average=Average(corrupted.size, math.nan, math.nan) if average else None,
    )


def _part(name: str, stored: Any, shape: Any) -> Any:
    """The fields of a part that are read, checked; the others are ignored."""
    fields = typing.get_type_hints(shape)
    kept = {key: stored[key] for key in fields} if isinstance(stored, dict) else stored
    return conforms(name, kept, shape)


def _block(stored: _Block) -> Block:
    name: Any = one_of("block", stored["name"], BLOCKS)
    sites: Any = tuple(one_of("site", site, BLOCKS[name].accepted) for site in stored["sites"])
    closed = "untraced" if "not traced" in stored["reason"] else "undamaged"
    tokens = tuple(stored["tokens"])
    return Block(name, stored["layers"], stored["heads"], tokens, sites, "" if stored["enabled"] else closed)  # type: ignore[arg-type]


def _run(stored: _RunInfo, words: list[str], shares: list[float | None]) -> RunSummary:
    known = dict(zip(words, map(_number, shares), strict=True))
    return RunSummary(stored["answer"], _number(stored["score"]), _number(stored["stderr"]), known)


def _number(stored: float | None) -> float:
    return math.nan if stored is None else float(stored)


def _knows_a_word(blocks: list[_Block]) -> bool:
    tokens = next((block["tokens"] for block in blocks if block["name"] == "question_encoder"), [])
    understood = {token for token in tokens[1:-1] if any(letter.isalnum() for letter in token)}
    return bool(understood - {UNKNOWN})
