"""What a page of ours never sends: values and messages that are far too long."""

from blip_trace_widget.checks import MAX_TEXT

LONG = "what is " * 500_000
#: As many tokens as any question has, and far too many characters.
SPACED = "what" + " " * MAX_TEXT + "color?"
TRAITS = {
    "question": [LONG, SPACED, [LONG]],
    "other_question": [LONG, SPACED],
    "foil": [LONG, "blue" + " " * MAX_TEXT],
    "selection": [[[0, 0]] * 10**6, [[LONG, 0]], [[0, 10**400]], [[0] * 10**6]],
    "patches": [[[0, 0]] * 10**6, [LONG]],
    "region": [[[True] * 3000] * 3000, [[True] * 8] * 10**6, LONG],
    "positions": [[1] * 10**6, ["color"] * 10**6, [LONG], 10**400],
    "block": [LONG, [LONG]],
    "show": [LONG],
    "noise": [LONG, [0.0] * 10**6, {"a": LONG}],
    "samples": [10**400, [1] * 10**6],
    "difference": [LONG, [LONG]],
    "error": [LONG],
    "overlay": [LONG],
}
MESSAGES = [
    {"type": LONG},
    {"type": "trace", "id": 1, "more": LONG},
    {"type": "trace", "id": 1} | {f"more {at}": 0 for at in range(10**5)},
    {"type": "patch", "id": 1, "cells": [[0, 0]] * 10**6},
    {"type": "also_under", "id": 1, "under": LONG},
    {"type": "export", "id": 1, "format": LONG, "theme": "light"},
    {"type": "attention", "id": 1, "layer": 10**400},
    [LONG],
    LONG,
]
