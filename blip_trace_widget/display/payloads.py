"""From results to payloads for the front end, as typed in `blip_trace_widget.display.protocol`.

For: the words and numbers of the figure, as pure functions of a snapshot and of grids, whether computed now or read
from a file.
Cost: NumPy on one grid.
Ends: at JSON-ready dictionaries; `blip_trace_widget.widget.session` decides what is computed when.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget.checks import clipped
from blip_trace_widget.choices import (
    CORRUPTIONS,
    GOALS,
    METRIC_NAMES,
    NOISE_KINDS,
    PLACES,
    PUBLISHED_PLACE,
    damages_image,
    metric_properties,
)
from blip_trace_widget.demo import BUILT_IN, examples
from blip_trace_widget.demo.circuits import circuit_of, truth_of
from blip_trace_widget.display import gate, held, labels, protocol
from blip_trace_widget.display.alternatives import alternatives
from blip_trace_widget.display.colors import THEMES, palette
from blip_trace_widget.display.damage import CAUSES, damage, damage_line
from blip_trace_widget.display.notes import grid_notes, rounding_note
from blip_trace_widget.display.overlays import OVERLAYS
from blip_trace_widget.pictures import jpeg
from blip_trace_widget.results.found_states import SEARCHES
from blip_trace_widget.results.grid_spec import GridSpec, Selection
from blip_trace_widget.results.maps import square_names, squares
from blip_trace_widget.results.noise_curve import beyond, too_much
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.run import Effect, Top
from blip_trace_widget.results.snapshot import Block, CurveSummary, RunSummary, Snapshot
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES

#: Longest side of the picture in a still figure, in pixels.
STILL_SIDE = 256
#: Words in the bars: the first ones from the clean run, and the total, which is fixed so that the figure keeps its
#: height.
CLEAN_WORDS, ALL_WORDS = 4, 7
#: Probability from which a word outside the clean run's first ones gets a bar.
RISING = 0.03
#: Trait -> the names that it accepts.
CHOICES: dict[str, list[str]] = {
    "metric": list(METRIC_NAMES),
    "corruption": list(CORRUPTIONS),
    "kind": list(NOISE_KINDS),
    "at": list(PLACES),
    "to": list(GOALS),
    "overlay": list(OVERLAYS),
    "direction": list(DIRECTIONS),
    "axes": list(labels.AXES),
    "show": list(labels.SHOWS),
    "block": list(BLOCKS),
    "site": list(SITES),
    "find": list(SEARCHES),
    "among": ["states", "heads"],
}
#: Defaults of the traits of the question, the score and the corruption.
BEGINNING: protocol.Inputs = {
    "question": "",
    "foil": "",
    "metric": METRIC_NAMES[0],
    "corruption": "GaussianNoise",
    "noise": 5.0,
    "kind": NOISE_KINDS[0],
    "at": PUBLISHED_PLACE,
    "samples": 10,
    "seed": 0,
    "other_question": "",
    "to": GOALS[0],
    "region": None,
    "scale": 0.7691,
    "positions": None,
}
#: Bytes for the grids, the one in view first; a saved notebook grows by this and a third more for base64.
ROOM = 120_000


#: Why a block has no grids.
CLOSED = {
    "undamaged": "The damage is not done before the image encoder: its states are the same in both runs. "
    "Under More, damage what enters it, before the ViT.",
    "untraced": "It was not traced.",
}


class Words(Protocol):
    """A run's words at the first answer position."""

    @property
    def top(self) -> Top:
        """The likeliest words with their probability, best first."""

    def shares(self, words: Sequence[str]) -> list[float]:
        """Probability of each word; NaN if unknown."""


def thumbnail(shown: bytes) -> bytes:
    """A smaller JPEG for still figures, which notebooks store beside the widget's state: a fifth of the bytes."""
    return jpeg(Image.open(io.BytesIO(shown)), STILL_SIDE, quality=80)


@cache
def look() -> protocol.Look:
    """The words and colours of the front end."""
    return {
        "labels": labels.LABELS,
        "explain": labels.EXPLAIN,
        "captions": labels.CAPTIONS,
        "palettes": {theme: cast("protocol.Palette", palette(theme)) for theme in THEMES},
    }


def asked(question: str, foil: str | None, metric: str, corruption: Mapping[str, Any]) -> dict[str, Any]:
    """The traits for what was asked, except those of other corruptions."""
    damage: dict[str, Any] = {"corruption": corruption["type"], "other_question": ""}
    if "region" in corruption:  # else keep the marked region for another corruption
        damage["region"] = corruption["region"]
    fields = CORRUPTIONS[corruption["type"]].fields
    damage |= {trait: corruption[field] for trait, field in fields.items()}
    return {"question": question, "foil": foil or "", "metric": metric, **damage}


def asked_of(snapshot: Snapshot) -> dict[str, Any]:
    """The traits for what was asked in a snapshot."""
    return asked(snapshot.question, snapshot.foil, snapshot.metric, snapshot.corruption)


def noise(snapshot: Snapshot) -> float:
    """The position of the noise slider."""
    asked = asked_of(snapshot)
    return float(asked.get("noise", BEGINNING["noise"]))


def setup(
    snapshot: Snapshot, *, chooser: bool = False, closed: str = "", factors: Sequence[float] | None = None
) -> protocol.Setup:
    """What can be asked of this model and question.

    Args:
        snapshot: the snapshot of model and question.
        chooser: whether the model's examples can be chosen.
        closed: why nothing can be computed but only viewed, else "".
        factors: the only noise factors that can be chosen; None for any.
    """
    shown = examples(snapshot.model) if chooser else ()
    return {
        "version": protocol.PROTOCOL_VERSION,
        "closed": closed,
        "model": snapshot.model,
        "models": [] if closed else list(BUILT_IN),
        "circuit": circuit_of(snapshot.model) or "",
        "blocks": [_block(block) for block in snapshot.blocks],
        "head_sites": list(BLOCKS["question_encoder"].heads),
        "choices": CHOICES
        | {"also": [] if closed else list(alternatives(snapshot.corruption))}
        | ({} if factors is None else {"noise": [str(factor) for factor in factors]}),
        "places": {name: list(own.places) for name, own in CORRUPTIONS.items()},
        "words": list(snapshot.words),
        "patches": snapshot.patches,
        "examples": [{"name": item.name.replace("-", " "), "question": item.question} for item in shown],
        "answer_tokens": list(snapshot.answer_tokens),
    }


def _block(block: Block) -> protocol.BlockInfo:
    return {
        "name": block.name,
        "layers": block.layers,
        "tokens": list(block.tokens),
        "sites": list(dict.fromkeys(GridSpec(block.name, site).by_present_name.site for site in block.sites)),
        "heads": block.heads,
        "enabled": not block.closed,
        "reason": CLOSED[block.closed] if block.closed else "",
    }


def runs(snapshot: Snapshot, generation: int, bars: protocol.Bars | None = None) -> protocol.Runs:
    """The clean and the corrupted run, the total effect, and whether that suffices to trace.

    Args:
        snapshot: the snapshot of the runs.
        generation: generation of the inputs.
        bars: the words of these runs, and of a pinned one if there is one; default those of the two runs.
    """
    total = snapshot.total_effect
    return {
        "generation": generation,
        "cause": CAUSES[snapshot.corruption["type"]][0],
        "damage": damage(snapshot.corruption),
        "metric": snapshot.metric,
        "given": snapshot.given_answer is not None,
        "line": damage_line(snapshot.corruption, snapshot.average, snapshot.words),
        "clean": _run(snapshot, snapshot.clean),
        "corrupted": _run(snapshot, snapshot.corrupted),
        "total_effect": number(total.value),
        "total_effect_margin": number(total.margin),
        "error": gate.error_unknown(snapshot),
        "gate": gate.of(snapshot),
        "bars": bars_of(snapshot.clean, snapshot.corrupted) if bars is None else bars,
    }


def _run(snapshot: Snapshot, run: RunSummary) -> protocol.RunInfo:
    score, stderr = number(run.score), number(run.stderr)
    return {"answer": run.answer, "score": score, "stderr": stderr, "share": _filled(snapshot, score or 0.0)}


def _filled(snapshot: Snapshot, score: float) -> float:
    """The share of its bar that a score fills; a score without natural limits is relative to the larger run's."""
    if metric_properties(snapshot.metric).percent:
        return score
    if snapshot.average:
        return 0.0
    if snapshot.metric == "log_probability":
        return math.exp(min(score, 0.0))
    largest = max(abs(number(run.score) or 0.0) for run in (snapshot.clean, snapshot.corrupted))
    return max(0.0, score) / largest if largest else 0.0


def bars_of(clean: Words, corrupted: Words, patched: Words | None = None, pinned: Words | None = None) -> protocol.Bars:
    """The likeliest words of the clean run and any that rise in the others, with their probability in each run."""
    others = [run.top for run in (patched, pinned, corrupted) if run is not None]
    rising = [word for top in others for word, share in top if share >= RISING]
    first, rest = ([word for word, _ in part] for part in (clean.top[:CLEAN_WORDS], clean.top[CLEAN_WORDS:]))
    shown = list(dict.fromkeys([*first, *rising, *rest]))[:ALL_WORDS]
    return {
        "words": shown,
        "clean": _shares(clean, shown),
        "corrupted": _shares(corrupted, shown),
        "patched": _shares(patched, shown),
        "pinned": _shares(pinned, shown),
    }


def with_pinned(shown: protocol.Bars, pinned: Words | None) -> protocol.Bars:
    """The bars with another pinned run."""
    return {**shown, "pinned": _shares(pinned, shown["words"])}


def _shares(run: Words | None, shown: Sequence[str]) -> list[float | None]:
    return [] if run is None else [number(share) for share in run.shares(shown)]


def grid(trace: Trace, generation: int) -> protocol.Grid:
    """The payload of a grid."""
    spec = spec_of(trace)
    return {
        "generation": generation,
        **spec.as_json,  # type: ignore[typeddict-item]
        "damage": damage(trace.settings["corruption"]),
        "layers": trace.samples.shape[1],
        "tokens": list(trace.tokens),
        "constructed": trace.constructed,
        "dead": trace.without_effect,
        "nan": [(int(layer), int(at)) for layer, at in np.argwhere(trace.computed & np.isnan(trace.scores))],
        "truth": _true_cells(trace, spec),
        "notes": grid_notes(trace),
        "held": held.held(spec.hold, spec.block, trace.tokens),
        "kept": held.kept(spec.direction, trace.settings["corruption"]),
        "into": held.into(spec, trace.tokens),
        "values": cell_values(trace).tobytes(),
    }


def _true_cells(trace: Trace, spec: GridSpec) -> list[tuple[int, int]]:
    """The cells that are true states, of a model whose circuit is known, where the picture is damaged."""
    circuit, corruption = circuit_of(trace.settings.get("model")), trace.settings["corruption"]
    if circuit is None or not damages_image(corruption):
        return []
    question = str(trace.settings.get("question", ""))
    tokens = trace.tokens if spec.block == "question_encoder" else re.findall(r"\w+", question.lower())
    return truth_of(circuit).cells(spec._asdict(), tokens)


def other_grids(traces: Iterable[Trace], spec: GridSpec, generation: int) -> list[protocol.Grid]:
    """The grids that are not in view, the smallest first, as many as `ROOM` allows besides the one in view.

    A page without a kernel shows them; with a kernel they appear before its answer.
    """
    room, grids = ROOM, []
    for trace in sorted(traces, key=lambda trace: (spec_of(trace) != spec, trace.samples[0].size)):
        room -= trace.samples[0].size * len(protocol.CELL_FIELDS) * 4
        if spec_of(trace) != spec and room >= 0:
            grids.append(grid(trace, generation))
    return grids


def spec_of(trace: Trace) -> GridSpec:
    """The arguments that identify a trace's grid, by their present names."""
    return GridSpec.of(trace.settings).by_present_name


@quiet
def cell_values(trace: Trace, cells: Sequence[tuple[int, int]] | None = None) -> NDArray[np.float32]:
    """`blip_trace_widget.display.protocol.CELL_FIELDS` of every cell, (fields, layers, positions), little endian.

    Of some cells alone (fields, 1, cells): what each is by itself is not computed of the others.
    """
    significant = trace.significant
    if cells is not None:
        layers, positions = (list(axis) for axis in zip(*cells, strict=True))
        significant = significant[layers, positions][None]
        trace = replace(trace, samples=trace.samples[:, layers, positions][:, None], known=None)
    # Of what is not computed, or of a single sample, nothing is claimed.
    significant = np.where(np.isfinite(trace.margin), significant, np.nan)
    fields = (trace.scores, trace.indirect_effect, trace.margin, trace.recovery, trace.recovery_margin, significant)
    return np.stack(fields).astype("<f4")


def detail(
    snapshot: Snapshot,
    effect: Effect,
    chosen: Selection,
    spec: GridSpec,
    generation: int,
    bars: protocol.Bars,
    verified: Mapping[str, Any] | None = None,
    free: Effect | None = None,
) -> protocol.Detail:
    """The payload of the patched run of what is selected.

    Args:
        snapshot: the snapshot of the question.
        effect: the patched run.
        chosen: what is selected.
        spec: the grid in view.
        generation: generation of the inputs.
        bars: the words of all runs.
        verified: the last check of numbers, of whatever grid.
        free: where something is held, the same run without that.
    """
    block = snapshot.block(spec.block)
    on_grid = bool(spec.hold) and not chosen.patches  # the picture's patches are patched with nothing held
    return {
        "generation": generation,
        **spec.as_json,  # type: ignore[typeddict-item]
        "tokens": columns_of(snapshot, spec),
        "layers": block.layers,
        "damage": damage(snapshot.corruption),
        "cause": CAUSES[snapshot.corruption["type"]][0],
        "metric": snapshot.metric,
        "cells": list(chosen.cells),
        "patches": list(chosen.patches),
        "held": _held(effect, chosen, spec, snapshot) if on_grid else None,
        "free": _outcome(free) if on_grid and free is not None else None,
        "into": "" if chosen.patches else held.into(spec, columns_of(snapshot, spec)),
        "dead": effect.without_effect,
        "score": number(effect.score),
        **_outcome(effect),
        "error": effect.error_unknown or rounding_note(verified, spec),
        "bars": bars,
    }


def _outcome(effect: Effect) -> protocol.Outcome:
    return {
        "indirect_effect": number(effect.indirect_effect),
        "margin": number(effect.margin),
        "recovery": number(effect.recovery),
        "recovery_margin": number(effect.recovery_margin),
        "negligible": effect.negligible,
    }


def _held(effect: Effect, chosen: Selection, spec: GridSpec, snapshot: Snapshot) -> protocol.HeldInfo:
    layers, columns = snapshot.block(spec.block).layers, squares_of(snapshot, spec)
    return {
        "phrase": held.held(spec.hold, spec.block, columns_of(snapshot, spec)),
        "kept": held.kept(spec.direction, snapshot.corruption),
        "itself": not spec.free(spec.states(chosen.cells, layers, columns)),
        "dead": effect.without_effect,
    }


def squares_of(snapshot: Snapshot, spec: GridSpec) -> list[list[int]] | None:
    """The positions that each column of a grid stands for; None where each is one."""
    return None if spec.patch == 1 else [[0], *squares(*snapshot.patches, spec.patch)[1]]


def columns_of(snapshot: Snapshot, spec: GridSpec) -> list[str]:
    """Names of a grid's columns: tokens, or squares of image tokens."""
    tokens = list(snapshot.block(spec.block).tokens)
    return tokens if spec.patch == 1 else [*tokens[:1], *square_names(*snapshot.patches, spec.patch)]


def curve(summary: CurveSummary, generation: int) -> protocol.Curve:
    """The payload of a noise curve: mean scores of the corrupted run."""
    return {
        "generation": generation,
        "factors": list(summary.factors),
        "scores": [number(score) for score in summary.scores],
        "clean": number(summary.clean),
        "low": number(summary.low),
        "high": number(summary.high),
        "lost_at": summary.lost_at,
        "lost": too_much(summary.lost_at),
    }


def noted(line: str, curve: Mapping[str, Any], noise: float) -> str:
    """The line below the noise slider, with what its curve, if not empty, says about noise that is too strong."""
    lost = curve and beyond(noise, curve["lost_at"])
    return f"{line}. {curve['lost']}." if lost else line


def traits(snapshot: Snapshot, generation: int) -> dict[str, Any]:
    """The traits that a widget shows of a snapshot besides the grids."""
    return {
        "noise": noise(snapshot),
        "runs": runs(snapshot, generation),
        "curve": curve(snapshot.curve, generation) if snapshot.curve else {},
    }


def complaint(error: BaseException) -> str:
    """The message of an exception, clipped, with its class's name if it was unexpected."""
    text = clipped(str(error)) or type(error).__name__
    return text if isinstance(error, (ValueError, TypeError, OSError)) else f"{type(error).__name__}: {text}"


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN and no infinity: these become None."""
    return float(value) if math.isfinite(value) else None
