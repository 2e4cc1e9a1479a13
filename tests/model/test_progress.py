"""Ctrl-C in long work, and progress that shows itself."""

import io
import sys
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest

from blip_trace_widget import BlipVqa, Tracer, demo_samples, trace_dataset
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.model.progress import announced, as_progress
from blip_trace_widget.tracing.question import Question

#: Seconds of patience.
AT_ONCE, NEVER = 1e-9, 1000.0


def interrupted(at):
    """A progress callback that gets Ctrl-C once so much is done."""

    def report(done, total):
        if done >= at:
            raise KeyboardInterrupt

    return report


def is_free(model):
    """Whether another thread gets the model's lock."""
    found = []
    other = threading.Thread(target=lambda: found.append(model.lock.acquire(timeout=5)) or model.lock.release())
    other.start()
    other.join()
    return found == [True]


LONG = [
    ("cells", lambda t, at: t.trace(progress=interrupted(at))),
    ("cells", lambda t, at: t.trace("answer_decoder", direction="disrupt", progress=interrupted(at))),
    ("cells", lambda t, at: t.trace(site="cross_attention", head="all", progress=interrupted(at))),
    ("cells", lambda t, at: t.trace_image_tokens(progress=interrupted(at))),
    ("layers", lambda t, at: t.trace_knockout("question_encoder", progress=interrupted(at))),
]


@pytest.mark.parametrize(("unit", "work"), LONG)
def test_ctrl_c_gives_what_was_computed(tracer, small_chunks, unit, work):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = work(tracer, 10**9)
    with pytest.warns(UserWarning, match=rf"interrupted: [1-9]\d* of \d+ {unit} are computed") as caught:
        part = work(tracer, 2)
    values, all_of_it = (getattr(each, "samples", each.scores) for each in (part, whole))
    there = np.isfinite(values)
    assert 0 < there.sum() < there.size
    np.testing.assert_allclose(values[there], all_of_it[there], atol=1e-5)
    done = int(str(caught[0].message).split()[1])
    assert done == (there.all(axis=0).sum() if values.ndim > 1 else there.sum())
    assert is_free(tracer.model)


def test_ctrl_c_before_anything_is_there_is_passed_on(demo, example, monkeypatch):
    tracer = Tracer(demo, example.image, example.question)
    with monkeypatch.context() as patched:
        patched.setattr(
            "blip_trace_widget.tracing.runs.Runner.encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            tracer.trace()
    assert is_free(demo)
    assert tracer.trace().complete


@pytest.mark.parametrize(
    "work",
    [
        lambda t, path: t.noise_curve(progress=interrupted(3)),
        lambda t, path: t.record(path, factors=[2.0, 5.0], progress=interrupted(2)),
    ],
)
def test_ctrl_c_where_a_part_is_of_no_use_is_passed_on(tracer, tmp_path, work):
    with pytest.raises(KeyboardInterrupt):
        work(tracer, tmp_path / "recording")
    assert not list(tmp_path.iterdir())
    assert is_free(tracer.model)


def test_a_recording_never_holds_half_a_grid(demo, example, tmp_path, monkeypatch):
    """Ctrl-C inside of a grid ends the recording; it is not taken for the grid's end."""
    grids = iter(range(10**6))

    def struck(self, logits, cause=None, of=Question.scoring):
        if logits.ndim == 4 and next(grids) == 3:  # of patched runs
            raise KeyboardInterrupt
        return of(self, logits, cause)

    monkeypatch.setattr(Question, "scoring", struck)
    tracer = Tracer(demo, example.image, example.question)
    with pytest.raises(KeyboardInterrupt):
        tracer.record(tmp_path / "recording", blocks="question_encoder", factors=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert not list(tmp_path.iterdir())


def test_a_data_set_never_holds_half_a_grid(demo, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    samples = demo_samples(6)
    grids = iter(range(10**6))

    def struck(self, logits, cause=None, of=Question.scoring):
        if logits.ndim == 4 and next(grids) == 1:
            raise KeyboardInterrupt
        return of(self, logits, cause)

    with monkeypatch.context() as patched:
        patched.setattr(Question, "scoring", struck)
        with pytest.raises(KeyboardInterrupt):
            trace_dataset(samples, demo, tmp_path / "out", progress=False, batch_size=2)
    found = trace_dataset(samples, demo, tmp_path / "out", progress=False, batch_size=2)
    assert np.isfinite(found.to_dataframe()["score"]).all()


def test_a_curve_reports_each_factor(tracer):
    seen = []
    tracer.noise_curve([0.0, 1.0, 2.0], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


class Terminal(io.StringIO):
    """Knows when the first line is written."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        done = super().write(text)
        if text:
            self.written.set()
        return done


@pytest.fixture
def before(monkeypatch):
    """Sit before a stream."""
    return lambda stream: monkeypatch.setattr(sys, "stderr", stream)


def shown(progress, patience=AT_ONCE, total=3):
    report, close = as_progress(progress, total, patience=patience)
    for done in range(total):
        time.sleep(0.11)  # bars are drawn at most ten times a second
        report(done + 1, total)
    close()
    return sys.stderr.getvalue()


def test_long_work_shows_its_progress_to_somebody_who_waits(before):
    before(Terminal())
    assert "3/3" in shown(None)


def test_short_work_shows_nothing(before):
    before(Terminal())
    assert shown(None, NEVER) == ""


def test_work_that_shows_nothing_leaves_no_widgets(before, monkeypatch):
    """Tqdm's widgets would be saved with the notebook."""
    before(Terminal())
    monkeypatch.setattr("tqdm.auto.tqdm.__init__", lambda *_: pytest.fail("a bar was made"))
    assert shown(None, NEVER) == ""


def test_nobody_is_shown_progress_in_a_script_or_a_thread(before):
    before(io.StringIO())
    assert shown(None) == ""
    before(Terminal())
    other = threading.Thread(target=shown, args=(None,))
    other.start()
    other.join()
    assert sys.stderr.getvalue() == ""


def test_progress_false_is_never_and_true_always(before):
    before(Terminal())
    assert shown(False) == ""
    before(io.StringIO())
    assert "3/3" in shown(True, NEVER)


def test_long_loading_says_so_with_its_time(before):
    before(terminal := Terminal())
    with announced("loading the model some/where", AT_ONCE):
        assert terminal.written.wait(20)
    assert terminal.getvalue().startswith("\rloading the model some/where … 0 s")
    assert terminal.getvalue().endswith(" s\n")


def test_a_model_says_that_it_is_loaded(before, monkeypatch):
    monkeypatch.setattr("blip_trace_widget.model.blip.announced", partial(announced, patience=AT_ONCE))
    before(Terminal())
    BlipVqa.from_pretrained(MODEL_FOLDER)
    assert f"loading the model {MODEL_FOLDER} … " in sys.stderr.getvalue()


@pytest.mark.parametrize(("seconds", "stream"), [(NEVER, Terminal), (AT_ONCE, io.StringIO)])
def test_quick_loading_and_a_script_say_nothing(before, seconds, stream):
    before(stream())
    with announced("loading", seconds):
        time.sleep(0.02)
    assert sys.stderr.getvalue() == ""


def test_what_fails_is_told_no_longer(before):
    before(terminal := Terminal())

    def fail():
        with announced("loading", AT_ONCE):
            assert terminal.written.wait(20)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert terminal.getvalue().endswith(" s\n")
