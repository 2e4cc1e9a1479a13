"""Loading models and reading pictures: what works, and how failure is told."""

import copy
import importlib.metadata
import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel, BlipForConditionalGeneration

from blip_trace_widget import BlipVqa, Tracer, load_trace
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.model.weights import weights_hash
from blip_trace_widget.pictures import picture_hash
from helpers.random_models import random_config


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(MODEL_FOLDER, tmp_path / "model")


def test_a_folder_equals_the_built_in_model(folder, demo, example):
    model = BlipVqa.from_pretrained(folder)
    ours = Tracer(model, example.image, example.question)
    assert ours.clean.score == pytest.approx(Tracer(demo, example.image, example.question).clean.score, abs=1e-6)
    assert not model.hf.training


def test_given_objects(demo, example):
    model = BlipVqa(demo.hf, demo.processor)
    assert model.lock is demo.lock
    assert Tracer(model, example.image, example.question).answer


def test_overlapping_calls_share_the_built_in_model(demo):
    assert BlipVqa.demo() is demo
    assert BlipVqa.demo(dtype="float64") is not demo


def test_what_is_no_blip_is_refused(demo):
    with pytest.raises(TypeError, match="model: expected transformers' BlipForQuestionAnswering, got Linear"):
        BlipVqa(torch.nn.Linear(2, 2), demo.processor)
    with pytest.raises(TypeError, match="processor"):
        BlipVqa(demo.hf, None)
    with pytest.raises(TypeError, match="model: expected a hub id or a folder"):
        BlipVqa.from_pretrained(3)


def test_another_kind_of_model_is_refused(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    BlipForConditionalGeneration(random_config(layers=1)).save_pretrained(tmp_path / "caption")
    for name in ("bert", "caption"):
        with pytest.raises(ValueError, match="expected a BLIP question answering model"):
            BlipVqa.from_pretrained(tmp_path / name)


def test_weights_that_are_missing_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.startswith("text_encoder.encoder.layer.1."))
    save_file({name: value for name, value in weights.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 weights"):
        BlipVqa.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "cut"])
def test_a_damaged_folder_is_an_oserror(folder, name, damage):
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"\x00garbage")
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match=r"model: the folder .* is no complete BLIP checkpoint"):
        BlipVqa.from_pretrained(folder)


def test_weights_in_pickles_are_not_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save(BlipVqa.demo().hf.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(
        OSError, match=r"no complete BLIP checkpoint.*pickles \(pytorch_model\.bin\).*use_safetensors=False"
    ):
        BlipVqa.from_pretrained(folder)


@pytest.mark.parametrize("names", [["preprocessor_config.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_folder_without_its_processor_says_what_to_save_there(folder, names):
    for name in names:
        (folder / name).unlink()
    with pytest.raises(OSError, match=r"has no processor.*processor\.save_pretrained\(folder\)"):
        BlipVqa.from_pretrained(folder)


def test_without_network_and_cache_the_error_shows_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"no network.*BlipVqa\.demo\(\).*folder") as caught:
        BlipVqa.from_pretrained("nobody/no-such-model", local_files_only=True)
    assert "'nobody/no-such-model'" in str(caught.value)


@pytest.mark.parametrize(("options", "named"), [({"dtype": "int8"}, "dtype"), ({"device": "gpu?"}, "device")])
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        BlipVqa.from_pretrained(MODEL_FOLDER, **options)


def test_processor_configuration_of_blip_base_is_understood(folder, example):
    """The hub's file names the processor in the way of an older transformers."""
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor_type"] = "BlipImageProcessor"
    settings["processor_class"] = "BlipProcessor"
    path.write_text(json.dumps(settings))
    assert Tracer(BlipVqa.from_pretrained(folder), example.image, example.question).answer


def test_tokens_the_tokenizer_has_no_name_for(folder):
    """BLIP base's tokenizer lacks the decoder's start token."""
    model = BlipVqa.from_pretrained(folder)
    beyond = len(model.processor.tokenizer) + 1
    model.hf.decoder_start_token_id = beyond
    assert model.tokens([beyond, beyond + 1]) == ["[DEC]", f"[{beyond + 1}]"]


def test_weights_are_told_apart_by_their_hash(demo):
    assert weights_hash(demo.hf) == weights_hash(BlipVqa.demo().hf) == demo.provenance["weights"]
    for change in (lambda w: w[0, 0].add_(1e-6), lambda w: w.copy_(w.flip(0)), lambda w: w.copy_(w.flip(1))):
        other = copy.deepcopy(demo.hf)
        with torch.no_grad():
            change(other.text_encoder.encoder.layer[1].intermediate.dense.weight)
        assert weights_hash(other) != weights_hash(demo.hf)


def test_results_say_what_they_come_from(demo, example, tmp_path):
    trace = Tracer(demo, example.image, example.question).trace("answer_decoder")
    trace.save(tmp_path / "trace")
    settings = load_trace(tmp_path / "trace").settings
    names = ("blip_trace_widget", "torch", "transformers")
    assert settings["versions"] == {name: importlib.metadata.version(name) for name in names}
    assert settings["image"] == picture_hash(example.image)
    assert settings["weights"] == demo.provenance["weights"]
    assert (settings["dtype"], settings["revision"]) == ("float32", demo.revision)
