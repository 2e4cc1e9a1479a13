"""The shell's way: python -m blip_trace_widget trace."""

import subprocess
import sys

import pytest

from blip_trace_widget import DatasetTrace, demo_samples
from blip_trace_widget.__main__ import main

FEW = ["--samples", "2", "--blocks", "answer_decoder"]


@pytest.fixture
def questions(tmp_path):
    """A file of three questions, one of a picture that is not there, and the folder of the pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["image,question,answer"]
    for number, sample in enumerate(demo_samples(2)):
        sample.image.save(folder / f"{number}.png")
        lines.append(f"{number}.png,{sample.question},{sample.answer}")
    path = tmp_path / "questions.csv"
    path.write_text("\n".join([*lines, "nowhere.png,what is it?,red"]))
    return [str(path), "--images", str(folder), "--out", str(tmp_path / "out")]


def test_a_file_is_traced_with_progress_and_counts(questions, tmp_path, capsys):
    assert main(["trace", *questions, *FEW]) == 1
    assert "missing='skip'" in capsys.readouterr().err
    assert main(["trace", *questions, *FEW, "--missing", "skip", "--noise", "4"]) == 0
    told = capsys.readouterr()
    assert "3 samples: 2 traced, 1 skipped: the picture cannot be read" in told.out
    assert "3/3" in told.err  # the bar
    found = DatasetTrace.load(tmp_path / "out")
    assert found.settings["corruption"]["factor"] == 4
    assert found.grids == [("answer_decoder", "block_output")]
    assert main(["trace", *questions, *FEW, "--missing", "skip"]) == 1
    told = capsys.readouterr().err
    assert "corruption.factor was 4.0 and is 5.0 now" in told
    assert "Traceback" not in told


def test_an_interrupted_run_says_how_to_go_on(questions, monkeypatch, capsys):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("blip_trace_widget.trace_dataset", interrupted, raising=False)
    assert main(["trace", *questions, "--missing", "skip"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["trace"], "questions, --out"),
        (["trace", "questions.csv", "--out", "out"], "--images"),
        (["trace", "demo", "--out", "out", "--limit", "0"], "--limit: expected 1 or more"),
        (["trace", "demo", "--out", "out", "--blocks", "decoder"], "invalid choice: 'decoder'"),
        (["trace", "demo", "--out", "out", "--noise", "much"], "invalid float value"),
        (["trace", "demo", "--out", "out", "--scheduler", "tcp://a:1", "--device", "cpu"], "--device: the workers"),
    ],
)
def test_arguments_that_cannot_be_used_end_with_2(arguments, told, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--noise", "-1"], "factor: expected a finite number of 0 or more"),
        (["--model", "/nowhere/at all"], "could not be loaded"),
        (["--device", "abacus"], "device"),
    ],
)
def test_errors_are_told_in_a_line_and_end_with_1(tmp_path, options, told, capsys):
    assert main(["trace", "demo", "--limit", "1", "--out", str(tmp_path / "out"), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error


@pytest.mark.slow
def test_it_is_a_command_of_its_own(tmp_path):
    command = [sys.executable, "-m", "blip_trace_widget", "trace"]
    help_ = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "python -m blip_trace_widget trace demo --limit 50 --out results" in help_
    made = subprocess.run(
        [*command, "demo", "--limit", "2", "--out", "out", *FEW], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout == "2 samples: 2 traced\n"
    assert len(DatasetTrace.load(tmp_path / "out")) == 2
