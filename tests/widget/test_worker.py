"""The worker: order, latest wins, cancellation, errors, and no thread left behind."""

import gc
import threading
import time
import weakref

import pytest

from blip_trace_widget.widget.worker import Worker, worker_of


class Log:
    """Jobs that write down what happens; a gate holds the worker until the test has queued what it wants."""

    def __init__(self):
        self.lines, self.errors, self.gate = [], [], threading.Event()

    def job(self, name, slices=1, gate=False):
        def run(job):
            for index in range(slices):
                if gate:
                    self.gate.wait(5)
                self.lines.append((name, index))
                yield

        return run


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def worker():
    return Worker("tried", idle=0.05)


def submit(worker, log, owner, key, slices, priority=0):
    worker.submit(owner, key, slices, log.errors.append, priority)


def test_urgent_jobs_go_between_the_slices_of_others(worker, log):
    submit(worker, log, "a", "grid", log.job("grid", 3, gate=True), priority=2)
    submit(worker, log, "a", "click", log.job("click"), priority=1)
    log.gate.set()
    assert worker.wait("a", 5)
    assert log.lines.index(("click", 0)) <= 1
    assert [line for line in log.lines if line[0] == "grid"] == [("grid", 0), ("grid", 1), ("grid", 2)]


def test_equal_keys_are_one_job(worker, log):
    submit(worker, log, "a", "first", log.job("first", gate=True))
    for _ in range(5):
        submit(worker, log, "a", "cell", log.job("cell"))
    submit(worker, log, "b", "cell", log.job("other"))
    log.gate.set()
    assert worker.wait("a", 5)
    assert worker.wait("b", 5)
    assert log.lines == [("first", 0), ("cell", 0), ("other", 0)]


def test_the_end_of_every_job_is_told_once(worker, log):
    """Of jobs that end, fail in and before their slices, are cancelled while they run or before, or are not taken."""
    ended = []

    def submit(key, slices):
        worker.submit("a", key, slices, log.errors.append, ended=lambda job: ended.append((key, job.complete)))

    def complete(job):
        log.gate.wait(5)
        yield
        job.complete = True

    def failing(job):
        yield
        raise ValueError("within")

    def raising(job):
        raise ValueError("before")

    def running(job):
        worker.cancel("a", "running")
        yield

    for key, slices in {"complete": complete, "fails": failing, "raises": raising, "running": running}.items():
        submit(key, slices)
    submit("queued", log.job("queued"))
    submit("queued", log.job("the same"))
    worker.cancel("a", "queued")
    submit("queued", log.job("queued again"))
    log.gate.set()
    assert worker.wait("a", 5)
    assert sorted(ended) == [
        ("complete", True),
        ("fails", False),
        ("queued", False),
        ("queued", False),
        ("raises", False),
        ("running", False),
    ]
    assert sorted(map(str, log.errors)) == ["before", "within"]
    assert log.lines == [("queued again", 0)]


def test_an_owner_that_fails_to_hear_the_end_stops_nothing(worker, log, caplog):
    def deaf(job):
        raise RuntimeError("deaf")

    worker.submit("a", "first", log.job("first"), log.errors.append, ended=deaf)
    submit(worker, log, "a", "second", log.job("second"))
    assert worker.wait("a", 5)
    assert [name for name, _ in log.lines] == ["first", "second"]
    assert "could not tell of 'first'" in caplog.text


def test_a_job_submitted_again_becomes_as_urgent(worker, log):
    submit(worker, log, "a", "first", log.job("first", gate=True))
    submit(worker, log, "a", "x", log.job("x"), priority=5)
    submit(worker, log, "a", "y", log.job("y"), priority=3)
    submit(worker, log, "a", "x", log.job("x"), priority=1)
    log.gate.set()
    assert worker.wait("a", 5)
    assert [name for name, _ in log.lines] == ["first", "x", "y"]


def test_cancel_drops_the_pending_and_tells_the_running(worker, log):
    told = []

    def running(job):
        log.gate.set()
        job.cancelled.wait(5)
        told.append(job.cancelled.is_set())
        yield
        log.lines.append("never")

    submit(worker, log, "a", "running", running)
    submit(worker, log, "a", "pending", log.job("pending"))
    submit(worker, log, "b", "other", log.job("other"))
    log.gate.wait(5)
    worker.cancel("a")
    assert worker.wait("a", 5)
    assert worker.wait("b", 5)
    assert told == [True]
    assert log.lines == [("other", 0)]


def test_cancel_of_one_key_spares_the_rest(worker, log):
    submit(worker, log, "a", "hold", log.job("hold", gate=True))
    submit(worker, log, "a", "x", log.job("x"))
    submit(worker, log, "a", "y", log.job("y"))
    worker.cancel("a", "x")
    submit(worker, log, "a", "x", log.job("again"))
    log.gate.set()
    assert worker.wait("a", 5)
    assert [name for name, _ in log.lines] == ["hold", "y", "again"]


def test_exceptions_are_told_and_the_worker_goes_on(worker, log):
    def broken(job):
        raise RuntimeError("boom")
        yield

    def failing_owner(job):
        raise ValueError("first")
        yield

    submit(worker, log, "a", "broken", broken)
    submit(worker, log, "a", "next", log.job("next"))
    assert worker.wait("a", 5)
    assert [str(error) for error in log.errors] == ["boom"]
    assert log.lines == [("next", 0)]


def test_a_job_whose_failure_cannot_be_told_ends_too(worker, log):
    def broken(job):
        raise RuntimeError("boom")
        yield

    def deaf(error):
        raise OSError("no screen")

    worker.submit("a", "broken", broken, deaf)
    submit(worker, log, "b", "next", log.job("next"))
    assert worker.wait("a", 5)
    assert worker.wait("b", 5)
    assert log.lines == [("next", 0)]


def test_wait_gives_up_in_time_and_refuses_to_wait_for_itself(worker, log):
    submit(worker, log, "a", "hold", log.job("hold", gate=True))
    assert not worker.wait("a", 0.05)
    submit(worker, log, "b", "self", lambda job: iter([worker.wait("b")]))
    log.gate.set()
    assert worker.wait("b", 5)
    assert "own thread" in str(log.errors[0])


def test_jobs_submitted_by_jobs_are_waited_for(worker, log):
    def parent(job):
        submit(worker, log, "a", "child", log.job("child"))
        yield

    submit(worker, log, "a", "parent", parent)
    assert worker.wait("a", 5)
    assert log.lines == [("child", 0)]


def test_an_idle_thread_ends_and_the_next_job_starts_another(worker, log):
    for round_ in range(2):
        submit(worker, log, "a", "job", log.job(round_))
        assert worker.wait("a", 5)
        for thread in threading.enumerate():
            if thread.name == "tried":
                thread.join(20)
                assert not thread.is_alive()
    assert len(log.lines) == 2


def test_a_finished_job_keeps_nothing_alive(worker, log):
    class Owner:
        def slices(self, job):
            yield

    owner = Owner()
    gone = weakref.ref(owner)
    submit(worker, log, id(owner), "job", owner.slices)
    assert worker.wait(id(owner), 5)
    del owner
    for _ in range(50):
        gc.collect()
        if gone() is None:
            break
        time.sleep(0.02)
    assert gone() is None


def test_one_worker_a_model_gone_with_it():
    class Model:
        pass

    model = Model()
    worker = weakref.ref(worker_of(model))
    assert worker_of(model) is worker()
    assert worker_of(Model()) is not worker()
    del model
    gc.collect()
    assert worker() is None


def test_many_threads_submitting_lose_nothing(worker, log):
    done = []

    def job_of(number):
        def run(job):
            done.append(number)
            yield

        return run

    def work(start):
        for number in range(start, start + 50):
            submit(worker, log, "a", number, job_of(number), priority=number % 3)

    threads = [threading.Thread(target=work, args=(start * 50,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker.wait("a", 10)
    assert sorted(done) == list(range(300))
