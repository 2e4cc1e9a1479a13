"""From results to what the front end draws: the payloads of `blip_trace_widget.protocol`.

For: the words and numbers of the figure, as pure functions of a tracer and its results.
Cost: NumPy on one grid; a JPEG of at most 384 px for the picture.
Ends: at JSON-ready dictionaries. Who computes what and when is `blip_trace_widget.conductor`'s.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget import protocol, wording
from blip_trace_widget.choices import GOALS, NOISE_KINDS, PLACES
from blip_trace_widget.corruption import Corruption, GaussianNoise, ImageSwap, MeanAblation, QuestionSwap, plain_region
from blip_trace_widget.demo import examples
from blip_trace_widget.drawing.colors import THEMES, palette
from blip_trace_widget.drawing.words import is_negligible
from blip_trace_widget.grids import Chosen, View
from blip_trace_widget.metrics import METRICS
from blip_trace_widget.overlay import OVERLAYS
from blip_trace_widget.results import Effect, Run, Top, Trace
from blip_trace_widget.scene import Scene
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES, TEXT_BLOCKS
from blip_trace_widget.statistics import TotalEffect
from blip_trace_widget.tracer import Tracer

#: Longest side of the picture that is sent to the front end.
PICTURE_SIDE = 384
#: The same in a still figure.
STILL_SIDE = 256
#: Words in the bars: so many of the clean run first, and so many in all, always, so that the figure keeps its height.
CLEAN_WORDS, ALL_WORDS = 4, 7
#: A word outside the clean run's first ones gets a bar from this probability on.
RISING = 0.03
#: Each corruption by its name, with what took the answer away, what was done, and what to do where it did too little.
CULPRITS = {
    "GaussianNoise": ("noise", "noise", "turn it up"),
    "ImageSwap": ("swap", "other picture", "choose another picture"),
    "QuestionSwap": ("swap", "other question", "ask something else instead"),
    "MeanAblation": ("ablation", "ablation", "damage it otherwise"),
}
#: What each trait accepts that is one of several names.
CHOICES: dict[str, list[str]] = {
    "metric": list(METRICS),
    "corruption": list(CULPRITS),
    "kind": list(NOISE_KINDS),
    "at": list(PLACES),
    "to": list(GOALS),
    "overlay": list(OVERLAYS),
    "direction": list(DIRECTIONS),
    "axes": list(wording.AXES),
    "show": list(wording.SHOWS),
    "block": list(BLOCKS),
    "site": list(SITES),
}
#: What the traits of corruptions and scores are where nothing else was asked.
BEGINNING: protocol.Inputs = {
    "question": "",
    "foil": "",
    "metric": next(iter(METRICS)),
    "corruption": "GaussianNoise",
    "noise": 5.0,
    "kind": NOISE_KINDS[0],
    "at": PLACES[-1],
    "samples": 10,
    "seed": 0,
    "other_question": "",
    "to": GOALS[0],
    "region": None,
}
#: Room for the grids, the one in view first: so much a saved notebook grows by them, and by a third for base64.
ROOM = 120_000
#: Below this share of the clean score the noise has taken little.
LITTLE = 0.1


def picture(image: Image.Image) -> bytes:
    """The picture as JPEG, shrunk to `PICTURE_SIDE`."""
    return jpeg(image, PICTURE_SIDE, quality=85)


def thumbnail(shown: bytes) -> bytes:
    """The same for a still figure that notebooks keep beside the widget's state: a fifth of the bytes."""
    return jpeg(Image.open(io.BytesIO(shown)), STILL_SIDE, quality=80)


def jpeg(image: Image.Image, side: int, **options: Any) -> bytes:
    """A picture as JPEG, shrunk to a side."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", **options)
    return file.getvalue()


@cache
def look() -> protocol.Look:
    """The words and colours of the front end."""
    return {
        "labels": wording.LABELS,
        "explain": wording.EXPLAIN,
        "captions": wording.CAPTIONS,
        "palettes": {theme: cast("protocol.Palette", palette(theme)) for theme in THEMES},
    }


def asked(tracer: Tracer) -> dict[str, Any]:
    """The traits that a tracer stands for; not those that belong to other corruptions than its own."""
    corruption = tracer.corruption
    damage: dict[str, Any] = {"corruption": type(corruption).__name__, "other_question": ""}
    if hasattr(corruption, "region"):  # else what was marked is kept for another one
        damage["region"] = plain_region(corruption.region)
    if isinstance(corruption, GaussianNoise):
        names = {"noise": "factor", "kind": "kind", "samples": "samples", "seed": "seed", "at": "at"}
        damage |= {trait: getattr(corruption, field) for trait, field in names.items()}
    elif isinstance(corruption, QuestionSwap):
        damage["other_question"] = corruption.question
    elif isinstance(corruption, MeanAblation):
        damage["to"] = corruption.to
    foil = tracer.given["foil"] or ""
    return {"question": tracer.question, "foil": foil, "metric": tracer.metric.name, **damage}


def corruption(asked: Mapping[str, Any], swapped: Callable[[], ImageSwap]) -> Corruption:
    """The corruption that traits stand for; a swap of pictures, which no trait holds, is asked for."""
    if asked["corruption"] == "ImageSwap":
        return swapped().within(asked["region"])
    if asked["corruption"] == "QuestionSwap":
        return QuestionSwap(asked["other_question"])
    if asked["corruption"] == "MeanAblation":
        return MeanAblation(asked["to"], asked["region"])
    return GaussianNoise(*(asked[name] for name in ("noise", "kind", "samples", "seed", "region", "at")))


def scene(tracer: Tracer) -> Scene | None:
    """What a widget shows beside the grids of a tracer; None where it could not show it."""
    kind = type(tracer.corruption).__name__
    if kind not in CULPRITS or METRICS.get(tracer.metric.name) is not tracer.metric.score:
        return None
    other = tracer.corruption.image if isinstance(tracer.corruption, ImageSwap) else None
    return Scene(
        picture=picture(tracer.image),
        other_picture=b"" if other is None else picture(other),
        inputs={name: asked(tracer).get(name, default) for name, default in BEGINNING.items()},  # type: ignore[arg-type]
        setup=setup(tracer),
        runs=runs(tracer, 0),
    )


def setup(tracer: Tracer) -> protocol.Setup:
    """What can be asked of this model and question."""
    model = tracer.model
    chooser: list[protocol.ExampleInfo] = [
        {"name": item.name.replace("-", " "), "question": item.question} for item in examples()
    ]
    return {
        "version": protocol.PROTOCOL_VERSION,
        "closed": "",
        "model": model.name,
        "blocks": [_block(tracer, name) for name in BLOCKS],
        "head_sites": list(BLOCKS["question_encoder"].heads),
        "choices": CHOICES,
        "patches": model.grid,
        "examples": chooser if model.built_in else [],
        "answer_tokens": tracer.answer_tokens,
    }


def _block(tracer: Tracer, name: str) -> protocol.BlockInfo:
    reason = closed_because(tracer.corruption, name)
    block = tracer.model.blocks[name]
    return {
        "name": name,
        "layers": len(block.layers),
        "tokens": [] if reason else tracer.tokens(name),
        "sites": list(BLOCKS[name].sites),
        "heads": block.heads,
        "enabled": not reason,
        "reason": reason,
    }


def closed_because(corruption: Corruption, block: str) -> str:
    """Why a block's states cannot be traced under a corruption; "" where they can."""
    if block in TEXT_BLOCKS or (corruption.damages_image and corruption.at == "patch_embeddings"):
        return ""
    return (
        "The damage is done behind the image encoder: its states are the same in both runs. "
        "Under More, let the noise begin at the patch embeddings."
    )


def runs(tracer: Tracer, generation: int, pinned: Effect | None = None) -> protocol.Runs:
    """The clean and the corrupted run, what lies between them, and whether that is enough to trace."""
    total = tracer.total_effect
    clean, corrupted = tracer.clean, tracer.corrupted
    return {
        "generation": generation,
        "culprit": CULPRITS[type(tracer.corruption).__name__][0],
        "damage": damage(tracer.corruption.settings()),
        "metric": tracer.metric.name,
        "given": tracer.given["answer"] is not None,
        "line": damage_line(tracer.corruption),
        "clean": _run(tracer, clean),
        "corrupted": _run(tracer, corrupted),
        "total_effect": number(total.value),
        "total_effect_stderr": number(total.stderr),
        "gate": _with_unknown_words(gate(total, tracer.metric.name, tracer.corruption), tracer),
        "bars": bars(tracer, None, pinned),
    }


def _run(tracer: Tracer, run: Run) -> protocol.RunInfo:
    score, stderr = number(run.score), number(run.stderr)
    return {"answer": run.answer, "score": score, "stderr": stderr, "share": _filled(tracer, score or 0.0)}


def _filled(tracer: Tracer, score: float) -> float:
    """How much of its bar a score fills; one without natural limits is shown beside the other run's."""
    if tracer.metric.name == "probability":
        return score
    if tracer.metric.name == "log_probability":
        return math.exp(min(score, 0.0))
    largest = max(abs(number(run.score) or 0.0) for run in (tracer.clean, tracer.corrupted))
    return max(0.0, score) / largest if largest else 0.0


def damage(settings: Mapping[str, Any]) -> str:
    """What was done to the input, in a few words; of a corruption's `settings`."""
    if settings["type"] == "GaussianNoise":
        return f"ν {settings['factor']:.1f}"
    return CULPRITS[settings["type"]][1]


def damage_line(corruption: Corruption) -> str:
    """The corruption and its fields, in a line."""
    region = getattr(corruption, "region", None) or ()
    cells = [cell for row in region for cell in row]
    return _damage_line(corruption) + (f" · {sum(cells)} of {len(cells)} patches" if cells else "")


def _damage_line(corruption: Corruption) -> str:
    if isinstance(corruption, GaussianNoise):
        draws = "1 sample" if corruption.samples == 1 else f"{corruption.samples} samples"
        before = " · before the ViT" if corruption.at == "patch_embeddings" else ""
        return f"{corruption.kind} · {draws} · seed {corruption.seed}{before}"
    if isinstance(corruption, MeanAblation):
        return "image tokens at their mean" if corruption.to == "mean" else "image tokens at zero"
    if isinstance(corruption, QuestionSwap):
        return f"“{corruption.question}” asked instead"
    return "another picture's image tokens"


def gate(total: TotalEffect, metric: str, corruption: Corruption) -> protocol.Gate:
    """Whether the corruption did enough to ask what undoes it, in words."""
    value, stderr, clean = total.value, total.stderr, total.clean
    percent = metric == "probability"
    name, _, remedy = CULPRITS[type(corruption).__name__]

    def amount(number: float) -> str:
        return f"{abs(number) * 100:.0f}" if percent else f"{abs(number):.2g}"

    unit = " points" if percent else f" of {metric.replace('_', ' ')}"
    before, after = clean, float(total.corrupted.mean())
    change = f"{before * 100:.0f} % → {after * 100:.0f} %" if percent else f"{before:.3g} → {after:.3g}"
    harm = -value if metric == "kl_divergence" else value
    if not math.isfinite(value):
        return {"open": False, "text": f"the score is not a finite number ({change})"}
    if not total.closed_because and harm > 0:
        took = f"the {name} {'made' if metric == 'kl_divergence' else 'took'} {amount(value)}{unit}"
        weak = percent and value < LITTLE * clean
        return {"open": True, "text": f"{took}: {f'little to bring back, {remedy}' if weak else 'enough to trace'}"}
    if not total.closed_because:
        return {"open": True, "text": f"the {name} raised the score ({change}): recovery means undoing that"}
    if math.isfinite(stderr) and 0 < abs(value) <= 2 * stderr:
        return {
            "open": False,
            "text": f"the {name} changed {amount(value)} ± {amount(stderr)}{unit}, which is not distinguishable from "
            f"0: {remedy}, or use more samples",
        }
    return {"open": False, "text": f"the {name} did not break the answer ({change}): {remedy}"}


def _with_unknown_words(gate: protocol.Gate, tracer: Tracer) -> protocol.Gate:
    """The same, and that the model has not understood the question, where it has not."""
    unknown = tracer.unknown_words
    if not unknown:
        return gate
    understood = [token for token in tracer.question_tokens[1:-1] if any(letter.isalnum() for letter in token)]
    unk = tracer.model.processor.tokenizer.unk_token
    words = ", ".join(f"“{word}”" for word in unknown)
    told = f"the model does not know {words}" if set(understood) - {unk} else f"the model knows no word of it: {words}"
    return {**gate, "text": f"{gate['text']} · {told}"}


def bars(tracer: Tracer, effect: Effect | None, pinned: Effect | None = None) -> protocol.Bars:
    """The likeliest first words of the clean run and any that rise in the others, with their probability in each."""
    clean, corrupted = tracer.clean, tracer.corrupted
    patched = [run for run in (effect, pinned) if run is not None]
    others: list[Top] = [*(run.top for run in patched), corrupted.top]
    rising = [word for top in others for word, share in top if share >= RISING]
    first, rest = ([word for word, _ in part] for part in (clean.top[:CLEAN_WORDS], clean.top[CLEAN_WORDS:]))
    words = list(dict.fromkeys([*first, *rising, *rest]))[:ALL_WORDS]
    ids = tracer.model.token_ids(words)

    return {
        "words": words,
        "clean": _shares(clean, ids),
        "corrupted": _shares(corrupted, ids),
        "patched": _shares(effect, ids),
        "pinned": _shares(pinned, ids),
    }


def with_pinned(shown: protocol.Bars, tracer: Tracer, pinned: Effect | None) -> protocol.Bars:
    """The same bars with another pinned run beside them."""
    return {**shown, "pinned": _shares(pinned, tracer.model.token_ids(shown["words"]))}


def _shares(run: Run | Effect | None, ids: Sequence[int]) -> list[float | None]:
    return [] if run is None else [number(run.distribution[index]) for index in ids]


def grid(trace: Trace, generation: int) -> protocol.Grid:
    """The grid in view."""
    asked = trace.settings
    return {
        "generation": generation,
        "block": asked["block"],
        "site": asked["site"],
        "head": asked["head"],
        "direction": asked["direction"],
        "window": asked["window"],
        "damage": damage(asked["corruption"]),
        "layers": trace.samples.shape[1],
        "tokens": list(trace.tokens),
        "constructed": trace.constructed,
        "values": cell_values(trace).tobytes(),
    }


def other_grids(traces: Iterable[Trace], view: View, generation: int) -> list[protocol.Grid]:
    """The grids that are not in view, the smallest first, as many as there is `ROOM` for beside the one in view.

    A page without a kernel shows them; with one they are there before the kernel's answer.
    """
    room, made = ROOM, []
    for trace in sorted(traces, key=lambda trace: (view_of(trace) != view, trace.samples[0].size)):
        room -= trace.samples[0].size * len(protocol.CELL_FIELDS) * 4
        if view_of(trace) != view and room >= 0:
            made.append(grid(trace, generation))
    return made


def view_of(trace: Trace) -> View:
    """Which grid a trace is."""
    return View(*(trace.settings[name] for name in View._fields))


def cell_values(trace: Trace) -> NDArray[np.float32]:
    """`blip_trace_widget.protocol.CELL_FIELDS` of every cell, (fields, layers, positions), little endian."""
    known = np.isfinite(trace.stderr)
    significant = np.where(known, trace.significant, np.nan)
    fields = (trace.scores, trace.indirect_effect, trace.stderr, trace.recovery, trace.recovery_stderr, significant)
    return np.stack(fields).astype("<f4")


def detail(
    tracer: Tracer,
    effect: Effect,
    chosen: Chosen,
    view: View,
    generation: int,
    bars: protocol.Bars,
) -> protocol.Detail:
    """The patched run of what is selected."""
    return {
        "generation": generation,
        "block": view.block,
        "site": view.site,
        "head": view.head,
        "tokens": tracer.tokens(view.block),
        "layers": len(tracer.model.blocks[view.block].layers),
        "damage": damage(tracer.corruption.settings()),
        "culprit": CULPRITS[type(tracer.corruption).__name__][0],
        "metric": tracer.metric.name,
        "direction": effect.direction,
        "window": view.window,
        "cells": list(chosen.cells),
        "patches": list(chosen.patches),
        "score": number(effect.score),
        "stderr": number(effect.stderr),
        "indirect_effect": number(effect.indirect_effect),
        "recovery": number(effect.recovery),
        "recovery_stderr": number(effect.recovery_stderr),
        "negligible": bool(is_negligible(effect.indirect_effect, effect.stderr)),
        "bars": bars,
    }


def curve(factors: Iterable[float], scores: Iterable[float], clean: float, generation: int) -> protocol.Curve:
    """The noise curve: mean scores of the corrupted run."""
    return {
        "generation": generation,
        "factors": [float(factor) for factor in factors],
        "scores": [number(score) for score in scores],
        "clean": number(clean),
    }


def complaint(error: BaseException) -> str:
    """An exception as a person should read it; of those that no one expected, with the name."""
    text = str(error) or type(error).__name__
    return text if isinstance(error, (ValueError, TypeError, OSError)) else f"{type(error).__name__}: {text}"


def number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
