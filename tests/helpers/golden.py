"""Numbers, colours and sentences that Python and the front end must write alike: ``js/test/golden.json``.

For: one table that pytest and vitest both read, each to check its own functions. Write it anew with
``python tests/helpers/golden.py`` after a change that is meant, and read what changed in it.
Ends: at cases and what Python makes of them. JSON has no NaN and no infinity: they are written as text.
"""

import json
import math
from pathlib import Path

import numpy as np

from blip_trace_widget.display import colors, formatting, labels
from blip_trace_widget.results.maps import square_names
from blip_trace_widget.results.statistics import NO_NOISE, ONE_SAMPLE

PATH = Path(__file__).parents[2] / "js" / "test" / "golden.json"

NAN, INF = math.nan, math.inf
#: Value and margin: of every size and sign, at the edge of rounding, and none.
NUMBERS = [
    (None, None),
    (NAN, None),
    (INF, None),
    (-INF, 0.1),
    (0.0, None),
    (-0.0, None),
    (0.0, 0.01),
    (1e-12, None),
    (-1e-5, None),
    (0.004, None),
    (-0.004, 0.0002),
    (0.00999, None),
    (0.01, None),
    (0.125, 0.02),
    (0.5, 0.0),
    (0.5832, None),
    (0.5832, NAN),
    (0.5832, INF),
    (0.5832, -0.1),
    (0.5832, 0.123),
    (0.5832, 0.0413),
    (0.5832, 0.0041),
    (0.5832, 0.00096),
    (0.5832, 0.0004),
    (0.5832, 1e-7),
    (-0.474, 0.031),
    (0.995, 0.095),
    (0.9999, None),
    (1.0, None),
    (1.5, 0.2),
    (2.5, 1.0),
    (-2.3456, None),
    (12.5, 9.5),
    (37.25, 0.25),
    (-123456.789, 1234.0),
    (1e18, None),  # beyond 1e21 JavaScript writes powers of ten
]
LIMITS = [0.0, 1.0, -0.6, 0.0015, -40.0, 0.1, 150000.0, 1e-6, 1e-7, -1.5e-7, 3e-12]
ROUNDED_UP = [0.58, 0.6, 0.6 + 1e-8, 0.61, 1.0, 1.01, 0.012, 37.0, 1e-7, 123456.0, 9.9, 0.0, -1.0, NAN, INF]
METRICS = ("probability", "log_probability")
SHOWS = labels.SHOWS
#: Values, whether the score rises with the damage, and a fixed limit.
SCALES = [
    ([], False, 0.0),
    ([NAN], True, 0.0),
    ([0.01], False, 0.0),
    ([NAN, -0.55, 0.2], False, 0.0),
    ([NAN, -0.55, 0.2], True, 0.0),
    ([-2.0], False, 0.0),
    ([0.0], False, 0.0),
    ([0.3, INF], False, 0.0),
    ([-0.55, 0.2], True, 0.05),
    ([5.0], False, 3.0),
]
#: Steps of the front end's table, what lies outside, and what is not defined.
PLACES = [-7.0, -1.0, -0.74, -0.5, -0.04, 0.0, 0.04, 0.26, 0.5, 0.74, 1.0, 7.0, NAN]
ENDS = [(-1.0, 1.0, True), (1.0, -1.0, True), (0.0, 1.0, False), (-1.0, 0.0, False), (0.0, 0.0, False)]

TOKENS = ["[CLS]", "what", "color", "is", "the", "color", "?"]
DETAIL = {
    "cells": [[5, 1]],
    "patches": [],
    "direction": "restore",
    "window": 1,
    "site": "block_output",
    "head": None,
    "tokens": TOKENS,
    "layers": 12,
    "metric": "probability",
    "cause": "noise",
    "indirect_effect": 0.47,
    "margin": 0.03,
    "recovery": 0.5832,
    "recovery_margin": 0.0413,
    "negligible": False,
    "error": "",
}
#: The same run with nothing held, and what is held in it.
FREE = {name: DETAIL[name] for name in ("indirect_effect", "margin", "recovery", "recovery_margin", "negligible")}
HELD = {"phrase": "the later MLPs there", "kept": "noisy", "itself": False, "dead": False}
INTO = {"into": "layer 7 at “[CLS]”, or through MLPs", "dead": False}
CLOSED = {"open": False, "text": "the noise did not break the answer"}
NONE = {"recovery": None, "recovery_margin": None}
NAMES = ("mlp", "self_attention", "self_attention head", "block_output", "log_probability")
#: Rows and columns of patches, and the side of the squares.
SQUARES = [((2, 3), 1), ((4, 4), 4), ((3, 5), 2), ((7, 7), 3)]
#: What differs from `DETAIL`, and the gate where it is told.
SENTENCES = [
    ({}, None),
    ({"cells": [[0, 2]], "window": 3, "site": "mlp"}, None),
    ({"cells": [[11, 5]], "window": 4, "site": "self_attention", "head": 0}, None),
    ({"cells": [[0, 1], [1, 1], [2, 1]]}, None),
    ({"cells": [], "patches": [[2, 3]]}, None),
    ({"cells": [], "patches": [[2, 3], [2, 4]], "cause": "other picture"}, None),
    ({"direction": "disrupt"}, None),
    ({"direction": "disrupt", "recovery": -0.2, "indirect_effect": -0.2}, None),
    ({"recovery": -0.2, "indirect_effect": -0.2}, None),
    ({"recovery": -0.2, "negligible": True}, None),
    ({"recovery": -1e-5, "recovery_margin": None}, None),
    ({"recovery": 1.25, "recovery_margin": 0.004}, None),
    ({"recovery": 0.0, "indirect_effect": 0.0, "negligible": True}, None),
    ({"margin": None, "recovery_margin": None, "error": ONE_SAMPLE}, None),
    ({"held": HELD, "free": None}, None),
    ({"held": HELD, "free": FREE, "recovery": 0.012, "recovery_margin": 0.004}, None),
    ({"held": HELD, "free": {**FREE, "negligible": True}, "recovery": -0.03, "negligible": True}, None),
    ({"held": {**HELD, "kept": "clean"}, "free": FREE, "direction": "disrupt", "error": ONE_SAMPLE}, None),
    ({"held": {**HELD, "dead": True}, "free": FREE, "recovery": 0.0, "recovery_margin": 0.0}, None),
    ({"held": {**HELD, "itself": True}, "free": FREE}, None),
    ({"held": {**HELD, "itself": True}, "free": FREE, "cells": [[0, 1], [1, 1]]}, None),
    ({"held": HELD, "free": {**FREE, **NONE}, **NONE, "direction": "disrupt"}, CLOSED),
    ({"held": HELD, "free": {**FREE, **NONE}, **NONE, "indirect_effect": None}, CLOSED),
    ({"held": HELD, "free": {**FREE, "indirect_effect": None}}, None),
    (INTO, None),
    ({**INTO, "negligible": True, "recovery": -0.02}, None),
    ({**INTO, "recovery": -0.2, "error": ONE_SAMPLE}, None),
    ({**INTO, "direction": "disrupt"}, None),
    ({**INTO, "direction": "disrupt", "recovery": -0.2}, None),
    ({**INTO, "dead": True}, None),
    ({**INTO, **NONE, "cells": [[0, 1], [1, 1]]}, CLOSED),
    ({**INTO, **NONE, "indirect_effect": None}, CLOSED),
    ({**NONE, "margin": None, "direction": "disrupt", "error": NO_NOISE}, CLOSED),
    (NONE, None),
    (NONE, CLOSED),
    ({**NONE, "direction": "disrupt", "metric": "logit_difference", "indirect_effect": 1.5}, CLOSED),
    ({**NONE, "direction": "disrupt", "indirect_effect": 0.0, "negligible": True}, None),
    ({"indirect_effect": None, **NONE}, CLOSED),
]


def cases() -> dict[str, list]:
    """All cases, with what Python makes of each; its numbers are as in Python."""
    return {
        "numbers": [
            {
                "value": value,
                "margin": margin,
                "percent": formatting.percent(value, margin),
                "plain": formatting.plain(value, margin),
                "score": {metric: formatting.score(metric, value, margin) for metric in METRICS},
                "points": {metric: formatting.points(metric, value, margin) for metric in METRICS},
            }
            for value, margin in NUMBERS
        ],
        "limits": [{"value": value, "text": formatting.limit(value)} for value in LIMITS],
        "rounded_up": [{"value": value, "up": colors.round_up(value)} for value in ROUNDED_UP],
        "scales": [_scale(*case, show) for case in SCALES for show in SHOWS],
        "palettes": [{"theme": theme, **colors.palette(theme)} for theme in colors.THEMES],
        "colors": [_colors(theme, *ends) for theme in colors.THEMES for ends in ENDS],
        "sentences": [_sentence(changed, gate) for changed, gate in SENTENCES],
        "tokens": [{"position": at, "name": formatting.token_name(TOKENS, at)} for at in (0, 2, 5, 99)],
        "windows": [
            {"layer": layer, "window": window, "name": formatting.layers_name(layer, window, 12)}
            for layer, window in ((5, 1), (5, 4), (0, 3), (11, 3), (0, 30))
        ],
        "answers": [{"answer": answer, "text": formatting.answer_text(answer, "“{}”")} for answer in ("red", "")],
        "captions": [
            {"show": show, "direction": direction, "text": labels.caption(show, direction)}
            for show in SHOWS
            for direction in ("restore", "disrupt")
        ],
        "labels": [{"name": name, "text": labels.label(name)} for name in NAMES],
        "columns": [{"patches": size, "side": side, "names": _columns(size, side)} for size, side in SQUARES],
    }


def _columns(size: tuple[int, int], side: int) -> list[str]:
    """The class token, and single patches or squares."""
    return ["[CLS]", *square_names(*size, side)]


def _scale(values: list[float], falling: bool, limit: float, show: str) -> dict:
    scale = colors.fit_scale(np.array(values), show, falling=falling, limit=limit)
    asked = {"values": values, "show": show, "falling": falling, "limit": limit}
    return {**asked, "left": scale.left, "right": scale.right, "diverging": scale.diverging}


def _colors(theme: str, left: float, right: float, diverging: bool) -> dict:
    scale = colors.Scale(left, right, diverging)
    shades = [scale.color(theme, value) for value in PLACES]
    pairs = [[shade, colors.mark_on(shade)] for shade in shades]
    asked = {"theme": theme, "left": left, "right": right, "diverging": diverging}
    return {**asked, "shades": dict(zip(map(_name, PLACES), pairs, strict=True))}


def _sentence(changed: dict, gate: dict | None) -> dict:
    detail = DETAIL | changed
    runs = {} if gate is None else {"gate": gate}
    pieces = formatting.sentence(detail, runs, negligible=detail["negligible"])
    text = "".join(f"**{part}**" if bold else part for part, bold in pieces)
    return {"detail": detail, "gate": gate, "text": text}


def _name(value: float) -> str:
    """A number as JavaScript names it."""
    return repr(value).removesuffix(".0").replace("nan", "NaN").replace("inf", "Infinity")


def plain(value):
    """As JSON has it, with a name for what JSON has not."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return _name(value) if isinstance(value, float) and not math.isfinite(value) else value


def text() -> str:
    """The file: a case a line."""
    parts = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(plain(case), ensure_ascii=False) for case in listed) + "\n]"
        for name, listed in cases().items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
