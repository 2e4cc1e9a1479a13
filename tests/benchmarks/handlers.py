"""What handlers of a page's messages take of their thread, in milliseconds: prints the slowest of each kind.

    python tests/benchmarks/handlers.py [--messages 2000]
    python tests/benchmarks/handlers.py --first    # each gesture as the first of a process, the worker idle

Values and messages that no page sends (`helpers/hostile.py`), and random traits and messages of the usual kind; the
widget's worker computes meanwhile. Counted is the CPU time of the thread that handles them: others do not disturb it.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import comm
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from blip_trace_widget import BlipVqa, GaussianNoise, examples
from helpers.front_end import RecordingComm, set_traits, take
from helpers.hostile import MESSAGES, TRAITS
from helpers.widgets import quick_widget

USUAL = {
    "noise": [0.0, 1.5, 5.0, 9.9, -1.0, "x"],
    "question": ["what color is the circle?", "what is it?", "", " ".join(["what"] * 600)],
    "selection": [[[0, 1]], [[layer, at] for layer in range(6) for at in range(8)], [[9, 9]]],
    "patches": [[[row, column] for row in range(8) for column in range(8)], [[0, 0]]],
    "region": [[[True] * 8] * 8, None, [[False] * 8] * 8],
    "samples": [1, 3, 200, 0],
    "block": ["answer_decoder", "question_encoder", "image_encoder"],
    "metric": ["probability", "kl_divergence", "logit_difference"],
}
REQUESTS = [
    {"type": "trace", "id": 1},
    {"type": "stop", "id": 2},
    {"type": "undo", "id": 3},
    {"type": "redo", "id": 4},
    {"type": "patch", "id": 5, "cells": [[0, 1], [1, 2]]},
]
#: Gestures, each tried as the first one.
FIRST_TRAITS = [
    {"block": "answer_decoder"},
    {"site": "mlp"},
    {"site": "self_attention", "head": 0},
    {"direction": "disrupt"},
    {"window": 3},
    {"hold": ["mlp"]},
    {"receivers": "answer"},
    {"corruption": "ImageSwap"},
    {"corruption": "MeanAblation"},
    {"overlay": "map_restore"},
    {"overlay": "attention_clean"},
    {"example": 2},
    {"noise": 3.0},
    {"selection": [[1, 2]]},
]
FIRST_REQUESTS = [
    {"type": "trace"},
    {"type": "compare", "on": True},
    {"type": "pin", "on": True},
    {"type": "also_under", "under": "other seed"},
    {"type": "find", "percent": 90, "among": "states", "direction": "restore"},
    {"type": "flow"},
    {"type": "verify"},
    {"type": "attention", "layer": 1},
    *({"type": "export", "format": name, "theme": "light"} for name in ("svg", "csv", "json", "python")),
]


def measured(work, *arguments, **keywords):
    started = time.thread_time()
    work(*arguments, **keywords)
    return (time.thread_time() - started) * 1000


def first(widget):
    """Each gesture in a child of its own, of a widget whose grid is filled and that rests."""
    widget.trace_all()
    widget.wait()
    gestures = [(set_traits, each) for each in FIRST_TRAITS] + [(take, {"id": 1, **each}) for each in FIRST_REQUESTS]
    for work, content in gestures:
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        taken = measured(work, widget, **content) if work is set_traits else measured(work, widget, content)
        print(f"{taken:6.2f}  {content}  {widget.error}", flush=True)
        os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--first", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    comm.create_comm = RecordingComm
    shown, chance = examples()[0], random.Random(0)
    widget = quick_widget(
        shown.image, shown.question, model=BlipVqa.demo(), corruption=GaussianNoise(samples=10 if given.first else 2)
    )
    widget.wait()
    if given.first:
        first(widget)
    else:
        many(widget, chance, given.messages)
    widget.close()


def many(widget, chance, messages):
    slowest = {}
    for _ in range(messages):
        name, values = chance.choice([*USUAL.items(), *TRAITS.items()])
        long = values is TRAITS.get(name)
        taken = {
            ("long " if long else "") + name: measured(set_traits, widget, **{name: chance.choice(values)}),
            "a request": measured(take, widget, chance.choice(REQUESTS)),
            "a long message": measured(take, widget, chance.choice(MESSAGES)),
        }
        for kind, each in taken.items():
            slowest.setdefault(kind, []).append(each)
        widget.comm.sent.clear()
    for kind, times in sorted(slowest.items(), key=lambda each: -max(each[1])):
        times.sort()
        print(
            f"{kind:24} median {times[len(times) // 2]:6.2f}   99 % {times[int(len(times) * 0.99)]:6.2f}   "
            f"most {times[-1]:6.2f}   of {len(times)}"
        )


if __name__ == "__main__":
    main()
