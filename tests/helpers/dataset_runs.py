"""What runs in a process of its own, to be killed: `trace_dataset` with a trap at a chosen point."""

import itertools
import os
import signal
from pathlib import Path

import torch

from blip_trace_widget import BlipVqa, Edges, GaussianNoise, ImageSwap, QuestionSwap, demo_samples, trace_dataset
from blip_trace_widget.dataset import batch, store

NOISE = GaussianNoise(samples=2)


def last(tokens):
    """The last of a sample's tokens."""
    return [len(tokens) - 1]


#: Something of everything that a run can list.
EVERYTHING = {
    "sites": ("block_output", "self_attention_out"),
    "head": (None, "all"),
    "window": (1, 3),
    "direction": ("restore", "disrupt"),
    "metric": ("log_probability", "kl_divergence"),
    "image_map": 4,
    "knockout": {
        "object": Edges("question_encoder", keys="object"),
        "what": Edges("question_encoder", "what", site="self_attention", head=1),
        "last": Edges("answer_decoder", keys=last),
    },
}


def trace(folder, samples, batch_size=16, pairs=None, **options):
    """Trace scenes of the built-in model, or pairs of them."""
    torch.set_num_threads(1)
    damage = {None: NOISE, "image": ImageSwap, "question": QuestionSwap}[pairs]
    options = {"corruption": damage, "progress": False, **options}
    return trace_dataset(demo_samples(samples, pairs=pairs), BlipVqa.demo(), folder, batch_size=batch_size, **options)


def trace_and_die(folder, samples, batch_size, point, after, pairs=None, options=None):
    """The same, killed when that point is reached for so many times."""
    count = itertools.count(1)

    def trap():
        if next(count) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    owner, name = {
        "a file is written but not in its place": (Path, "replace"),
        "cells landed without their samples": (store.Store, "_land"),
        "in the middle of a file": (store, "_write"),
        "in the middle of a batch": (batch, "_trace"),
    }[point]
    whole = getattr(owner, name)

    def trapped(*arguments):
        if point == "in the middle of a file":
            content, place = arguments
            whole(content.slice(0, 1), place)
            trap()
            return whole(*arguments)
        trap()
        return whole(*arguments)

    setattr(owner, name, trapped)
    trace(folder, samples, batch_size, pairs, **(options or {}))
