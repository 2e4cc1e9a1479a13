"""From results to what the front end draws: the payloads of `blip_trace_widget.protocol`.

For: the words and numbers of the figure, as pure functions of a tracer and its results.
Cost: NumPy on one grid; a JPEG of at most 384 px for the picture.
Ends: at JSON-ready dictionaries. Who computes what and when is `blip_trace_widget.widget`'s.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget import protocol
from blip_trace_widget.corruption import NOISE_KINDS
from blip_trace_widget.demo import examples
from blip_trace_widget.metrics import METRICS, TotalEffect
from blip_trace_widget.results import Effect, Top, Trace
from blip_trace_widget.sites import SITES, TEXT_BLOCKS
from blip_trace_widget.tracer import Tracer

#: Longest side of the picture that is sent to the front end.
PICTURE_SIDE = 384
#: Words in the bars: so many of the clean run first, and so many in all, always, so that the figure keeps its height.
CLEAN_WORDS, ALL_WORDS = 4, 7
#: A word outside the clean run's first ones gets a bar from this probability on.
RISING = 0.03
#: Below this share of the clean score the noise has taken little.
LITTLE = 0.1


def picture(image: Image.Image) -> bytes:
    """The picture as JPEG, shrunk to `PICTURE_SIDE`."""
    small = image.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def setup(tracer: Tracer) -> protocol.Setup:
    """What can be asked of this model and question."""
    model = tracer.model
    blocks: list[protocol.BlockInfo] = [
        {"name": name, "layers": model.layers, "tokens": tracer.tokens(name), "enabled": True, "reason": ""}
        for name in TEXT_BLOCKS
    ]
    behind: protocol.BlockInfo = {
        "name": "image_encoder",
        "layers": 0,
        "tokens": [],
        "enabled": False,
        "reason": "The noise is added behind the image encoder: its states are the same in both runs.",
    }
    chooser: list[protocol.ExampleInfo] = [
        {"name": item.name.replace("-", " "), "question": item.question} for item in examples()
    ]
    return {
        "version": protocol.PROTOCOL_VERSION,
        "model": model.name,
        "blocks": [behind, *blocks],
        "sites": list(SITES),
        "metrics": [name for name in METRICS if name != "logit_difference" or tracer.foil is not None],
        "kinds": list(NOISE_KINDS),
        "examples": chooser if model.built_in else [],
        "answer_tokens": tracer.answer_tokens,
    }


def runs(tracer: Tracer, generation: int) -> protocol.Runs:
    """The clean and the corrupted run, what lies between them, and whether that is enough to trace."""
    total = tracer.total_effect
    clean, corrupted = tracer.clean, tracer.corrupted
    return {
        "generation": generation,
        "noise": float(tracer.corruption.settings()["factor"]),
        "metric": tracer.metric.name,
        "clean": {"answer": clean.answer, "score": number(clean.score), "stderr": None},
        "corrupted": {
            "answer": corrupted.answer,
            "score": number(corrupted.score),
            "stderr": number(corrupted.stderr),
        },
        "total_effect": number(total.value),
        "total_effect_stderr": number(total.stderr),
        "gate": gate(total, tracer.metric.name),
        "bars": bars(tracer, None),
    }


def gate(total: TotalEffect, metric: str) -> protocol.Gate:
    """Whether the noise did enough to ask what undoes it, in words."""
    value, stderr, clean = total.value, total.stderr, total.clean
    percent = metric == "probability"

    def amount(number: float) -> str:
        return f"{abs(number) * 100:.0f}" if percent else f"{abs(number):.2g}"

    unit = " points" if percent else f" of {metric.replace('_', ' ')}"
    before, after = clean, float(total.corrupted.mean())
    change = f"{before * 100:.0f} % → {after * 100:.0f} %" if percent else f"{before:.3g} → {after:.3g}"
    harm = -value if metric == "kl_divergence" else value
    if not math.isfinite(value):
        return {"open": False, "text": f"the score is not a finite number ({change})"}
    if not total.closed_because and harm > 0:
        took = (
            f"the noise took {amount(value)}{unit}"
            if not metric.startswith("kl")
            else f"the noise made {amount(value)}{unit}"
        )
        weak = percent and value < LITTLE * clean
        return {"open": True, "text": f"{took}: {'little to bring back, turn it up' if weak else 'enough to trace'}"}
    if not total.closed_because:
        return {"open": True, "text": f"the noise raised the score ({change}): recovery means undoing that"}
    if math.isfinite(stderr) and 0 < abs(value) <= 2 * stderr:
        return {
            "open": False,
            "text": f"the noise changed {amount(value)} ± {amount(stderr)}{unit}, which is not distinguishable from 0: "
            "turn it up, or use more samples",
        }
    return {"open": False, "text": f"the noise did not break the answer ({change}): turn it up"}


def bars(tracer: Tracer, effect: Effect | None) -> protocol.Bars:
    """The likeliest first words of the clean run and any that rise in the others, with their probability in each."""
    clean, corrupted = tracer.clean, tracer.corrupted
    others: list[Top] = [corrupted.top] if effect is None else [effect.top, corrupted.top]
    rising = [word for top in others for word, share in top if share >= RISING]
    first, rest = ([word for word, _ in part] for part in (clean.top[:CLEAN_WORDS], clean.top[CLEAN_WORDS:]))
    words = list(dict.fromkeys([*first, *rising, *rest]))[:ALL_WORDS]
    ids = tracer.model.token_ids(words)
    return {
        "words": words,
        "clean": [number(clean.distribution[index]) for index in ids],
        "corrupted": [number(corrupted.distribution[index]) for index in ids],
        "patched": [] if effect is None else [number(effect.distribution[index]) for index in ids],
    }


def grid(trace: Trace, generation: int) -> protocol.Grid:
    """The grid in view."""
    asked = trace.settings
    return {
        "generation": generation,
        "block": asked["block"],
        "site": asked["site"],
        "noise": float(asked["corruption"]["factor"]),
        "layers": trace.samples.shape[1],
        "tokens": list(trace.tokens),
        "constructed": trace.constructed,
        "values": cell_values(trace).tobytes(),
    }


def cell_values(trace: Trace) -> NDArray[np.float32]:
    """`blip_trace_widget.protocol.CELL_FIELDS` of every cell, (fields, layers, positions), little endian."""
    fields = (trace.scores, trace.indirect_effect, trace.stderr, trace.recovery, trace.recovery_stderr)
    return np.stack(fields).astype("<f4")


def detail(
    tracer: Tracer, effect: Effect, cells: Sequence[tuple[int, int]], window: int, generation: int
) -> protocol.Detail:
    """The patched run of the selected cells."""
    return {
        "generation": generation,
        "block": effect.states[0].block,
        "site": effect.states[0].site,
        "direction": effect.direction,
        "window": window,
        "cells": list(cells),
        "score": number(effect.score),
        "stderr": number(effect.stderr),
        "indirect_effect": number(effect.indirect_effect),
        "recovery": number(effect.recovery),
        "recovery_stderr": number(effect.recovery_stderr),
        "bars": bars(tracer, effect),
    }


def complaint(error: BaseException) -> str:
    """An exception as a person should read it; of those that no one expected, with the name."""
    text = str(error) or type(error).__name__
    return text if isinstance(error, (ValueError, TypeError, OSError)) else f"{type(error).__name__}: {text}"


def number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
