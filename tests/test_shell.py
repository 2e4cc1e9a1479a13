"""The shell's way: python -m blip_trace_widget trace."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from blip_trace_widget import DatasetTrace, State, demo_samples
from blip_trace_widget.__main__ import main
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.model import checkpoint

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
    assert "--missing skip" in capsys.readouterr().err
    assert main(["trace", *questions, *FEW, "--missing", "skip", "--noise", "4"]) == 0
    told = capsys.readouterr()
    assert "3 samples: 2 traced, 1 skipped: the picture cannot be read" in told.out
    assert "skipped: 2: the picture cannot be read (" in told.out
    assert "nowhere.png" in told.out
    assert told.out.splitlines()[-1] == f"results: {tmp_path / 'out'}"
    assert "3/3" in told.err  # the bar
    found = DatasetTrace.load(tmp_path / "out")
    assert found.settings["corruption"]["factor"] == 4
    assert found.grids == [("answer_decoder", "block_output")]
    assert main(["trace", *questions, *FEW, "--missing", "skip"]) == 1
    told = capsys.readouterr().err
    assert "--noise was 4.0 and is 5.0 now" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("name", "pairs"), [("ImageSwap", "image"), ("QuestionSwap", "question")])
def test_drawn_pairs_are_traced_with_their_partners(tmp_path, capsys, name, pairs):
    asked = ["--limit", "2", "--corruption", name, "--metric", "logit_difference", "--blocks", "answer_decoder"]
    assert main(["trace", "demo", "--out", str(tmp_path), *asked]) == 0
    assert "2 samples: " in capsys.readouterr().out
    found = DatasetTrace.load(tmp_path)
    assert found.settings["corruption"]["type"] == name
    assert list(found.samples["foil"]) == [sample.foil for sample in demo_samples(2, pairs=pairs)]


def test_all_that_can_be_listed_is_traced(tmp_path, capsys):
    asked = ["--limit", "1", "--corruption", "ImageSwap", "--out", str(tmp_path), "--sites", "block_output"]
    listed = ["cross_attention", "--head", "whole", "all", "--window", "1", "3", "--direction", "restore", "disrupt"]
    more = ["--metric", "log_probability", "kl_divergence", "--image-map", "4", "--knockout", "picture", "object"]
    assert main(["trace", "demo", *asked, *listed, *more]) == 0, capsys.readouterr().err
    found = DatasetTrace.load(tmp_path)
    assert {spec[2:5] for spec in found.specs} == {
        (head, direction, window)
        for head in (None, 0, 1, 2, 3)
        for direction in ("restore", "disrupt")
        for window in (1, 3)
    }
    assert found.metrics == ["log_probability", "kl_divergence"]
    assert set(found.to_dataframe()["intervention"]) == {"patch", "patch_image_tokens", "knockout"}
    assert set(found.knockouts()["edges"]) == {"picture", "object"}
    capsys.readouterr()
    assert main(["trace", "demo", *asked, *listed, *more[:3]]) == 1
    told = capsys.readouterr().err
    assert "--image-map was 4 and is None now" in told
    assert "--knockout object was" in told
    assert main(["trace", "demo", *asked, *listed, "--metric", "log_probability", *more[3:]]) == 1
    assert "--metric was ['log_probability', 'kl_divergence'] and is None now" in capsys.readouterr().err


def test_the_help_is_one_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main(["trace", "--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    for option in ("--head", "--window", "--direction", "--metric", "--image-map", "--knockout"):
        assert any(line.strip().startswith(option) for line in lines)


def test_every_format_can_be_named(tmp_path, capsys):
    (sample,) = demo_samples(1)
    for folder in ("old car", "new car"):
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        sample.image.save(tmp_path / "pictures" / folder / "1.png")
    sample.image.save(tmp_path / "000000000009.jpg")
    one = {"question_id": 1, "image_id": 9, "question": sample.question}
    files = {
        "q": {"questions": [one]},
        "a": {"annotations": [one | {"answers": [{"answer": "red"}] * 10}]},
        "g": {"1": {"imageId": "000000000009", "question": sample.question}},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        shard.add(tmp_path / "000000000009.jpg", "1.jpg")
        shard.add(tmp_path / "g.json", "1.question.txt")
    here, pictures = ["--images", str(tmp_path)], str(tmp_path / "pictures")
    asked = {
        "vqa": [str(tmp_path / "q.json"), *here, "--annotations", str(tmp_path / "a.json")],
        "gqa": [str(tmp_path / "g.json"), *here],
        "mit_states": [pictures],
        "folders": [pictures, "--question", "is it {first} or {second}?"],
        "webdataset": [str(tmp_path / "s.tar")],
    }
    for name, arguments in asked.items():
        out = ["--out", str(tmp_path / name), "--format", name, "--limit", "1"]
        assert main(["trace", *arguments, *out, *FEW]) == 0, capsys.readouterr().err
        assert len(DatasetTrace.load(tmp_path / name)) == 1
    assert main(["trace", str(tmp_path / "nowhere"), "--format", "mit_states", "--out", str(tmp_path / "x")]) == 1
    assert "error: questions: no such folder: " in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_go_on(questions, monkeypatch, capsys):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("blip_trace_widget.trace_dataset", interrupted, raising=False)
    assert main(["trace", *questions, "--missing", "skip"]) == 130
    told = capsys.readouterr().err
    assert "the same command goes on" in told
    assert questions[-1] in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["trace"], "questions, --out"),
        (["trace", "questions.csv", "--out", "out"], "--images"),
        (["trace", "demo", "--out", "out", "--limit", "0"], "--limit: expected 1 or more"),
        (["trace", "demo", "--out", "out", "--blocks", "decoder"], "invalid choice: 'decoder'"),
        (["trace", "demo", "--out", "out", "--noise", "much"], "invalid float value"),
        (["trace", "demo", "--out", "out", "--dtype", "int32"], "--dtype: invalid choice"),
        (["trace", "demo", "--out", "out", "--blocks", "image_encoder"], "--blocks: image_encoder"),
        (["trace", "demo", "--out", "out", "--metric", "logit_difference"], "--metric: logit_difference needs a foil"),
        (["trace", "demo", "--out", "out", "--head", "first"], "--head: invalid head value: 'first'"),
        (["trace", "demo", "--out", "out", "--direction", "both"], "--direction: invalid choice: 'both'"),
        (["trace", "demo", "--out", "out", "--knockout", "noun"], "--knockout: invalid choice: 'noun'"),
        (["trace", "q.json", "--out", "out", "--format", "folders"], "--question: --format folders needs it"),
        (["trace", "q.csv", "--images", ".", "--out", "out", "--question", "a"], "--question: --format folders"),
        (["trace", "q.csv", "--images", ".", "--out", "out", "--annotations", "a"], "--annotations: only with"),
        (["trace", "q.json", "--out", "out", "--format", "vqa"], "--images"),
        (["trace", "demo", "--out", "out", "--corruption", "MeanAblation"], "invalid choice: 'MeanAblation'"),
        (["trace", "demo", "--out", "out", "--corruption", "ImageSwap", "--scale", "0.5"], "--scale: not with"),
        (["trace", "demo", "--out", "out", "--corruption", "ImageSwap", "--at", "patch_embeddings"], "--at: ImageSwap"),
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
        (["--noise", "-1"], "--noise: expected a finite number of 0 or more"),
        (["--samples", "0"], "--samples: expected from 1"),
        (["--seed", "-1"], "--seed: expected from 0"),
        (["--device", "abacus"], "--device: expected a torch device"),
        (["--head", "all"], "--head: 'all' is in no grid: "),
        (["--window", "7"], "--window: 7 is in no grid"),
        (["--window", "0"], "--window: expected 1 or more"),
        (["--image-map", "9"], "--image-map: expected from 1 to 8"),
    ],
)
def test_errors_are_told_in_a_line_and_end_with_1(tmp_path, options, told, capsys):
    assert main(["trace", "demo", "--limit", "1", "--out", str(tmp_path / "out"), *options]) == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")


@pytest.fixture
def wrong(tmp_path):
    """Files and folders that cannot be used; a name -> what the shell is given."""
    (tmp_path / "pictures").mkdir()
    tables = {
        "one's own": "image,question\na.png,what is it?",
        "misspelt": "picture,question\na.png,what is it?",
        "empty": "",
    }
    for name, content in tables.items():
        (tmp_path / f"{name}.csv").write_text(content)
    config = json.loads((MODEL_FOLDER / "config.json").read_text())
    models = {
        "nothing": {},
        "other": {"config.json": json.dumps({"model_type": "bert", "architectures": ["BertModel"]})},
        "captions": {"config.json": json.dumps(config | {"architectures": ["BlipForConditionalGeneration"]})},
        "damaged": {"config.json": "{"},
        "weightless": {"config.json": json.dumps(config)},
        "pickled": {"config.json": json.dumps(config), "pytorch_model.bin": ""},
        "mute": {"config.json": json.dumps(config), "model.safetensors": "", "processor_config.json": "{}"},
    }
    for name, files in models.items():
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
    return tmp_path


CHECKED_FIRST = """
import sys
from blip_trace_widget.__main__ import main
for line in sys.stdin:
    code = main(["trace", *line.rstrip().split("|")])
    print(f"ended with {code}", file=sys.stderr)
heavy = {"torch", "transformers"} & {*sys.modules}
assert not heavy, heavy
"""


def test_a_wrong_file_or_model_is_refused_before_torch_is_imported(wrong):
    """Importing torch and transformers alone takes seconds; what is in them cannot help with these."""
    file = ["one's own.csv", "--images", "pictures", "--out", "out"]
    tried = {
        ("nowhere.csv", *file[1:]): "questions: no such file: 'nowhere.csv'",
        ("pictures", *file[1:]): "questions: ",
        ("empty.csv", *file[1:]): "questions: 'empty.csv' is empty",
        ("misspelt.csv", *file[1:]): "questions: 'misspelt.csv' lacks the columns ['image']",
        (*file[:2], "nowhere", *file[3:]): "--images: no such folder: 'nowhere'",
        tuple(file): "--images: 1 of 1 pictures are not in 'pictures'",
        ("demo", "--out", "pictures/../empty.csv"): "--out: 'pictures/../empty.csv' is a file",
        ("demo", "--out", "out", "--device", "abacus"): "--device: expected a torch device such as",
        ("demo", "--out", "out", "--device", "cuda:x"): "--device: expected a torch device such as",
        ("demo", "--out", "other"): "--out: 'other' has files of other origin in it",
    }
    models = {
        "nothing": "the folder 'nothing' is no complete BLIP checkpoint: it has no config.json",
        "other": "expected a BLIP question answering model (BlipForQuestionAnswering), 'other' is 'bert'",
        "captions": "expected a BLIP question answering model",
        "damaged": "the folder 'damaged' is no complete BLIP checkpoint: its config.json is damaged",
        "weightless": "the folder 'weightless' is no complete BLIP checkpoint: it has no weights in safetensors",
        "pickled": "the folder 'pickled' is no complete BLIP checkpoint: it has no weights in safetensors. Its weights "
        "are pickles",
        "mute": "the folder 'mute' is no complete BLIP checkpoint. It has no processor",
        "empty.csv": "'empty.csv' is a file",
        "no where": "'no where' could not be loaded: there is no such folder, and it is no hub id",
        "no/where/at-all": "'no/where/at-all' could not be loaded: there is no such folder, and it is no hub id",
        "nobody/nothing": "'nobody/nothing' could not be loaded: there is no such folder, and the Hugging Face hub's "
        "cache does not have it",
    }
    tried |= {("demo", "--out", "out", "--model", name): f"--model: {told}" for name, told in models.items()}
    ran = subprocess.run(
        [sys.executable, "-c", CHECKED_FIRST],
        input="\n".join("|".join(arguments) for arguments in tried),
        cwd=wrong,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    *errors, rest = ran.stderr.split("ended with 1\n")
    assert not rest
    for error, told in zip(errors, tried.values(), strict=True):
        assert error.startswith(f"error: {told}")
    assert not (wrong / "out").exists()


def test_a_folder_saved_by_transformers_is_not_refused(tmp_path, demo):
    demo.hf.save_pretrained(tmp_path / "model")
    demo.processor.save_pretrained(tmp_path / "model")
    checkpoint.check(str(tmp_path / "model"))


@pytest.mark.slow
def test_it_is_a_command_of_its_own(tmp_path):
    command = [sys.executable, "-m", "blip_trace_widget", "trace"]
    help_ = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "python -m blip_trace_widget trace demo --limit 50 --out results" in help_
    made = subprocess.run(
        [*command, "demo", "--limit", "2", "--out", "out", *FEW], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout == f"2 samples: 2 traced\nresults: {tmp_path / 'out'}\n"
    assert len(DatasetTrace.load(tmp_path / "out")) == 2


def test_what_is_held_and_where_paths_lead_are_words_and_states(tmp_path, capsys):
    asked = ["trace", "demo", "--limit", "1", "--samples", "2", "--blocks", "question_encoder", "--out"]
    held = ["--hold", "mlp", "everywhere", "question_encoder.4.0.cross_attention_out.1"]
    assert main([*asked, str(tmp_path / "a"), *held]) == 0, capsys.readouterr().err
    head = State("question_encoder", 4, 0, "cross_attention_out", 1)
    assert DatasetTrace.load(tmp_path / "a").held == {"hold": ["mlp", "everywhere", vars(head)]}
    assert main([*asked, str(tmp_path / "a"), "--hold", "mlp"]) == 1
    assert "--hold was ['mlp', 'everywhere'," in capsys.readouterr().err
    assert main([*asked, str(tmp_path / "b"), "--receivers", "answer"]) == 0
    assert DatasetTrace.load(tmp_path / "b").held == {"receivers": "answer"}
    assert main([*asked, str(tmp_path / "c"), "--receivers", "question_encoder.3.[SEP].block_output"]) == 0
    last = State("question_encoder", 3, "[SEP]")
    assert DatasetTrace.load(tmp_path / "c").held == {"receivers": [vars(last)]}
    capsys.readouterr()
    assert main([*asked, str(tmp_path / "d"), *held, "--receivers", "answer"]) == 1
    assert capsys.readouterr().err.startswith("error: --hold, --receivers: expected one of the two, got both")
    assert main([*asked, str(tmp_path / "d"), "--receivers", "answer", "answer"]) == 1
    assert capsys.readouterr().err.startswith("error: --receivers: expected State")
    for option, wrong, told in (
        ("--hold", "elsewhere", "argument --hold: expected one of ['mlp',"),
        ("--hold", "question_encoder.4.mlp", "or BLOCK.LAYER.TOKEN.SITE[.HEAD] such as"),
        ("--receivers", "question_encoder.4.?.mlp.1", "site (of a single head): expected one of"),
    ):
        with pytest.raises(SystemExit):
            main([*asked, str(tmp_path / "d"), option, wrong])
        assert told in capsys.readouterr().err
