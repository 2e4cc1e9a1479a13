"""What handlers of a page's messages take of their thread, in milliseconds: prints the slowest of each kind.

    python tests/benchmarks/handlers.py [--messages 2000]

Values and messages that no page sends (`helpers/hostile.py`), and random traits and messages of the usual kind; the
widget's worker computes meanwhile. Counted is the CPU time of the thread that handles them: others do not disturb it.
"""

import argparse
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


def measured(work, *arguments, **keywords):
    started = time.thread_time()
    work(*arguments, **keywords)
    return (time.thread_time() - started) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    comm.create_comm = RecordingComm
    shown, chance = examples()[0], random.Random(0)
    widget = quick_widget(shown.image, shown.question, model=BlipVqa.demo(), corruption=GaussianNoise(samples=2))
    widget.wait()
    slowest = {}
    for _ in range(given.messages):
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
    widget.close()
    for kind, times in sorted(slowest.items(), key=lambda each: -max(each[1])):
        times.sort()
        print(
            f"{kind:24} median {times[len(times) // 2]:6.2f}   99 % {times[int(len(times) * 0.99)]:6.2f}   "
            f"most {times[-1]:6.2f}   of {len(times)}"
        )


if __name__ == "__main__":
    main()
