"""A process that forks in the middle of a computation: the child computes too, and the same; nothing hangs."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer, examples
from helpers.changed_models import ask, at_random, hook, plain_hf, wrap, zero_second
from helpers.scarce import Operations, operations_of_look
from helpers.widgets import quick_widget

pytestmark = pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork here")
CELL = State("question_encoder", 3, 2)
#: Seconds after which a child hangs.
PATIENCE = 60


def fresh(seed=0):
    """A tracer that shares the model and nothing else."""
    shown = examples()[0]
    return Tracer(BlipVqa.demo(), shown.image, shown.question, corruption=GaussianNoise(samples=3, seed=seed))


def score(seed):
    torch.set_num_threads(1)
    return fresh(seed).patch(CELL).score


@contextmanager
def computing(work):
    """Work done over and over in another thread, inside."""
    over, begun = threading.Event(), threading.Event()

    def again():
        while not over.is_set():
            work(begun.set)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()


def verified(begun):
    """What puts hooks on the model while it runs."""
    tracer = fresh()
    tracer.verify(cells=2, cancel=lambda: bool(begun()))


def traced(begun):
    fresh().trace(progress=lambda *_: begun())


def outcome(child):
    """How a child ends: its exit status, or "hangs"."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def forked(check):
    """Fork; in the child, whether the check holds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return outcome(child)


@pytest.mark.parametrize("work", [traced, verified])
def test_a_child_forked_while_another_thread_computes(demo, work):
    wanted = score(1)
    hooks = [len(module._forward_hooks) for module in demo.hf.modules()]

    def check():
        same = [len(module._forward_hooks) for module in BlipVqa.demo().hf.modules()] == hooks
        return same and abs(score(1) - wanted) < 1e-6

    with computing(work):
        for _ in range(6):
            assert forked(check) == 0


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
@pytest.mark.parametrize("acting", [zero_second, at_random])
def test_a_child_forked_while_another_thread_looks_at_a_change(acting, share):
    """The child computed without the hook, or with one that is refused."""
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before = tracer.clean.score
    number = int(share * operations_of_look(model, hook(hf, acting)))
    inside, over = threading.Event(), threading.Event()

    def wait():
        inside.set()
        over.wait(PATIENCE)

    def look():
        with Operations(number, wait):
            model.glance()

    def outcome_here():
        try:
            return tracer.clean.score
        except ValueError as error:
            return type(error).__name__

    with hook(hf, acting):
        thread = threading.Thread(target=look)
        thread.start()
        assert inside.wait(PATIENCE)
        wanted = os.pipe()
        child = forked(lambda: os.write(wanted[1], repr(outcome_here()).encode()) > 0)
        over.set()
        thread.join()
        assert child == 0
        assert os.read(wanted[0], 10_000).decode() == repr(outcome_here()) != repr(before)


def test_a_child_forked_by_the_thread_that_computes(demo):
    """What it holds stays its own, and is released as ever."""
    wanted, ended = score(1), []

    def fork(*_):
        if not ended:
            ended.append(os.fork())

    result = fresh(1).trace(progress=fork).scores
    if ended == [0]:
        try:
            same = abs(score(1) - wanted) < 1e-6 and np.isfinite(result).all()
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert outcome(ended[0]) == 0
    assert abs(score(1) - wanted) < 1e-6


def test_a_widget_in_a_child_has_no_dead_worker(demo, example):
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))

    def check():
        widget.wait(PATIENCE)
        widget.noise = 3.0
        widget.wait(PATIENCE)
        return widget.tracer.corruption.factor == 3.0 and np.isfinite(widget.runs["corrupted"]["score"])

    try:
        for at in range(5):
            widget.seed = at
            widget.trace_all()
            time.sleep(0.02 * at)
            assert forked(check) == 0
    finally:
        widget.close()


def test_a_pool_of_forked_processes_while_tracing(demo):
    wanted = [score(seed) for seed in range(4)]
    with computing(traced), multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map_async(score, range(4)).get(PATIENCE)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
