"""Ctrl-C at any moment leaves no lock taken, no setting of torch changed, and the handler that was there."""

import random
import signal
import threading
import time

import pytest
import torch

from blip_trace_widget import GaussianNoise
from blip_trace_widget.forks import Lock
from blip_trace_widget.interrupts import PutOff
from blip_trace_widget.model.computing import Computing
from helpers.random_models import random_model
from helpers.widgets import quick_widget

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm clock here")


def is_free(lock, timeout=20):
    """Whether another thread can take it."""
    found = []

    def take():
        found.append(lock.acquire(timeout=timeout))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


def notices(model):
    """Whether it looks whether it has changed."""
    before, dropout = model.version, model.hf.text_encoder.encoder.layer[0].attention.self.dropout
    handle = dropout.register_forward_hook(lambda *_: None)
    model.glance()
    changed = model.version > before
    handle.remove()
    model.glance()
    return changed


def do_until_ctrl_c(work, chance, longest):
    """Do something over and over, until Ctrl-C comes somewhere in it; whether it did."""
    end = time.monotonic() + longest + 0.2
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, longest))
        while time.monotonic() < end:
            work()
    except KeyboardInterrupt:
        return True
    return False


@pytest.fixture
def ctrl_c():
    """The alarm clock presses Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGALRM, alarm)
    signal.signal(signal.SIGINT, before)


def test_a_model_is_free_whenever_ctrl_c_came(ctrl_c):
    model, chance = random_model(), random.Random(0)
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    lost = left = 0

    def work():
        with Computing(model):
            len(())

    for number in range(100):
        came = do_until_ctrl_c(work, chance, 2e-3)
        lost += not came
        settings = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        if not is_free(model.lock, 0) or settings != (grad, inference) or not notices(model):
            left += 1
            model = random_model(seed=number)
    assert lost < 20
    assert left <= 2  # Python itself may raise it between two statements, which nothing can put off


def test_a_widget_answers_whenever_ctrl_c_came(ctrl_c, demo, example):
    """And shows what is asked."""
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    widget.wait(30)
    chance = random.Random(0)

    def work():
        widget.noise = chance.uniform(1, 9)
        widget.selection = [(chance.randrange(6), 3)]
        widget.undo()

    for _ in range(40):
        do_until_ctrl_c(work, chance, 0.02)
        widget.wait(20)  # for the worker, which needs the widget's lock
    widget.noise = 2.5
    widget.wait(30)
    assert widget.error == ""
    expected = widget.tracer.with_corruption(factor=2.5).corrupted.score
    assert widget.tracer.corrupted.score == pytest.approx(expected, abs=1e-6)
    widget.close()


def test_ctrl_c_acts_at_once_while_one_waits_for_a_lock(ctrl_c):
    lock, ends = Lock(), threading.Event()
    holder = threading.Thread(target=lambda: [lock.acquire(), ends.wait(20), lock.release()])
    holder.start()
    while is_free(lock, 0):
        pass
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), PutOff(lambda: lock.owned):
        lock.acquire()
    assert time.monotonic() - began < 10
    ends.set()
    holder.join()
    assert is_free(lock)


def test_it_comes_once_what_it_was_put_off_for_is_done(ctrl_c):
    done = []

    def work():
        with PutOff():
            with PutOff():
                signal.raise_signal(signal.SIGINT)
                done.append(1)
            done.append(2)
        done.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1, 2]


def test_other_threads_and_hosts_without_a_handler_are_left_alone(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with PutOff():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = []

    def elsewhere():
        with PutOff():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_it_may_come_between_any_two_steps_of_its_end(ctrl_c, monkeypatch):
    """Nothing is held any more, and the handler is not yet back."""
    put_off, real = PutOff(lambda: False), signal.signal
    put_off.begin()

    def interrupted(number, handler):
        signal.raise_signal(signal.SIGINT)
        return real(number, handler)

    monkeypatch.setattr("blip_trace_widget.interrupts.signal.signal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put_off.end()
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_acts_at_once_while_a_change_is_examined(ctrl_c, monkeypatch):
    """Which takes as long as a run."""
    model = random_model()
    hook = model.hf.text_encoder.encoder.layer[0].register_forward_hook(lambda *_: None)
    steps = []

    def prove(_model):
        steps.append("begun")
        signal.raise_signal(signal.SIGINT)
        steps.append("ended")

    monkeypatch.setattr("blip_trace_widget.model.blip.prove", prove)
    with pytest.raises(KeyboardInterrupt), Computing(model):
        steps.append("computed")
    assert steps == ["begun"]
    assert is_free(model.lock, 0)
    hook.remove()
