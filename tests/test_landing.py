"""What cannot be written leaves what was there, and nothing beside it."""

import os
import resource
import stat
from contextlib import contextmanager

import pytest

from blip_trace_widget import GaussianNoise, Tracer, merge, trace_dataset
from blip_trace_widget.__main__ import main
from blip_trace_widget.landing import landing
from blip_trace_widget.results import recording
from helpers.dataset_runs import NOISE, trace
from helpers.widgets import quick_widget


@contextmanager
def full_after(size):
    """No file may become larger than so many bytes, inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def writers(demo, example):
    """Everything that writes a file: by its ending."""
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=2))
    made, curve = tracer.trace("answer_decoder"), tracer.noise_curve([0.0, 2.0])
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    widget.wait(30)
    yield {
        **dict.fromkeys(("svg", "png", "pdf", "html", "csv", "json"), made.export),
        **{f"widget.{kind}": widget.export for kind in ("svg", "html", "json")},
        "page.html": made.save_html,
        "widget.page.html": widget.save_html,
        "trace": made.save,
        "recording": lambda path: recording.save([made], path),
        "curve": curve.save,
        "recovery": tracer.recovery_curve(factors=[2.0]).save,
    }
    widget.close()


WRITERS = (
    *("svg", "png", "pdf", "html", "csv", "json", "page.html", "trace", "recording", "curve", "recovery"),
    *("widget.svg", "widget.html", "widget.json", "widget.page.html"),
)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file(writers, tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    writers[kind](path)
    size = path.stat().st_size
    path.write_bytes(b"the old one")
    for room in (0, size - 1):
        with full_after(room), pytest.raises(OSError, match=r"cannot be written .*What was there before is kept"):
            writers[kind](path)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == b"the old one"
    writers[kind](path)
    assert path.read_bytes() != b"the old one"


def test_whatever_fails_while_a_file_is_written_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_text("old")

    def interrupted():
        with landing(tmp_path / "a") as beside:
            beside.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    with landing(tmp_path / "link") as beside:
        beside.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_what_is_no_file_is_an_oserror_in_words(writers, tmp_path):
    os.mkfifo(tmp_path / "pipe.svg")
    with pytest.raises(OSError, match=r"pipe\.svg' is no regular file"):
        writers["svg"](tmp_path / "pipe.svg")
    (tmp_path / "folder.svg").mkdir()
    for name in ("folder.svg", "nowhere/a.svg", f"{'x' * 300}.svg"):
        with pytest.raises(OSError, match=r"path: .* cannot be written"):
            writers["svg"](tmp_path / name)
    writers["svg"](tmp_path / f"{'é' * 120}.svg")


@pytest.fixture
def deleted(tmp_path, monkeypatch):
    """The working directory is one that somebody deleted."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_working_directory_that_is_gone_is_an_oserror_in_words(writers, deleted, kind):
    with pytest.raises(OSError, match=rf"path: 'a\.{kind}' cannot be written \(No such file or directory\)"):
        writers[kind](f"a.{kind}")


@pytest.mark.usefixtures("deleted")
def test_a_data_set_in_a_working_directory_that_is_gone_is_an_oserror_in_words(tmp_path, demo, capsys):
    one = trace(tmp_path / "one", 1).folder
    two = trace_dataset([], demo, tmp_path / "two", corruption=NOISE, progress=False).folder
    for work in (lambda: trace("out", 1), lambda: merge([one, two], "out")):
        with pytest.raises(OSError, match=r"out: 'out' cannot be written \(No such file or directory\)"):
            work()
    for command in (["merge", str(one), str(two)], ["trace", "demo", "--limit", "1"]):
        assert main([*command, "--out", "out"]) == 1
        assert "out: 'out' cannot be written (No such file or directory)" in capsys.readouterr().err


def test_a_data_set_on_a_full_disk_or_in_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, demo):
    whole = trace(tmp_path / "out", 2, batch_size=2)
    before = {path: path.read_bytes() for path in whole.folder.rglob("*.*") if path.is_file()}
    with full_after(1000), pytest.raises(OSError, match=r"out: .*cannot be written.*kept"):
        trace(tmp_path / "out", 4, batch_size=2)
    assert {path: path.read_bytes() for path in whole.folder.rglob("*.*") if path.is_file()} == before
    (tmp_path / "locked" / ".lock").mkdir(parents=True)
    with pytest.raises(OSError, match=r"out: .*locked' cannot be written"):
        trace_dataset([], demo, tmp_path / "locked", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"out: .*cannot be written"):
        trace_dataset([], demo, tmp_path / "file" / "out", progress=False)
