"""Weights that somebody edits between two runs: no number mixes old and new, none names weights it is not of."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa, GaussianNoise, ImageSwap, Sample, State, Tracer, trace_dataset
from blip_trace_widget.model.computing import ModelChangedError
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.model.weights import weights_hash
from blip_trace_widget.tracing.grid import grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from helpers.random_models import random_hf_model, random_model, words
from helpers.widgets import quick_widget

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def dense(hf):
    return hf.text_encoder.encoder.layer[1].intermediate.dense


def in_place(hf):
    with torch.no_grad():
        dense(hf).weight.mul_(1.5)


def one_number(hf):
    with torch.no_grad():
        dense(hf).bias[3] += 1


def behind_the_counter(hf):
    dense(hf).weight.data *= 1.5


def a_row(hf):
    dense(hf).weight.data[5] = 0


def a_column(hf):
    hf.text_decoder.bert.encoder.layer[1].output.dense.weight.data[:, 7] = 0


def a_head(hf):
    hf.text_encoder.encoder.layer[0].attention.output.dense.weight.data[:, 8:] = 0


def a_word(hf):
    hf.text_encoder.embeddings.word_embeddings.weight.data[words().convert_tokens_to_ids("red")] = 0


def rank_one(hf):
    key = hf.text_encoder.encoder.layer[1].crossattention.self.key.weight
    key.data += torch.outer(torch.ones(16), torch.linspace(-1, 1, 16))


def numpy(hf):
    dense(hf).weight.detach().numpy()[:] *= 0.5


def another_tensor(hf):
    dense(hf).weight = nn.Parameter(dense(hf).weight.detach() * 1.5)


def another_place(hf):
    dense(hf).weight.data = dense(hf).weight.data * 1.5


def another_module(hf):
    old = dense(hf)
    hf.text_encoder.encoder.layer[1].intermediate.dense = nn.Linear(old.in_features, old.out_features)


def loaded(hf):
    hf.load_state_dict(random_hf_model(8, words(), vision_layers=len(hf.vision_model.encoder.layers)).state_dict())


def an_image_weight(hf):
    hf.vision_model.embeddings.patch_embedding.weight.data *= 1.5


def transposed(hf):
    """A weight that does not lie in memory row by row."""
    dense(hf).weight = nn.Parameter(dense(hf).weight.detach().t().contiguous().t() * 1.5)


EDITS = [
    *(in_place, one_number, behind_the_counter, a_row, a_column, a_head, a_word, rank_one, numpy, another_tensor),
    *(another_place, another_module, loaded, an_image_weight, transposed),
]
STATES = [State("question_encoder", 0, 2), State("answer_decoder", 1, 0)]


def ask(model, **options):
    return Tracer(model, PICTURE, "what is red circle", **{"answer": "blue", "metric": "log_probability", **options})


def numbers(tracer):
    """All kinds of what a tracer gives."""
    found = [
        tracer.patch(STATES).scores,
        tracer.trace("question_encoder", "cross_attention").samples.ravel(),
        tracer.trace("image_encoder").samples.ravel() if tracer.corruption.at == "patch_embeddings" else [],
        tracer.patch_image_tokens([1, 2]).scores,
        [tracer.clean.score, tracer.corrupted.score, tracer.total_effect.value],
        tracer.noise_curve([1.0, 2.0]).corrupted.ravel() if isinstance(tracer.corruption, GaussianNoise) else [],
        [tracer.knockout("question_encoder", 0, 1, 1).score],
        tracer.attention("question_encoder", 1).corrupted.ravel(),
        tracer.logit_lens().answer.ravel(),
        tracer.corruption_strength().ravel(),
        tracer.with_corruption(GaussianNoise(factor=0.7, samples=2)).corrupted.scores,
        tracer.replace(question="is it blue").corrupted.scores,
    ]
    return np.concatenate(found)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(
    "corruption",
    [
        GaussianNoise(factor=2.0, samples=2),
        GaussianNoise(factor=2.0, samples=2, at="patch_embeddings"),
        ImageSwap(PICTURE.rotate(90)),
    ],
)
def test_an_older_tracer_goes_on_with_the_new_weights(edit, corruption):
    model = random_model(seed=1, vision_layers=2)
    older = ask(model, corruption=corruption)
    before, old_hash = numbers(older), older.trace().settings["weights"]
    edit(model.hf)
    found = numbers(older)
    assert np.abs(found - before).max() > 1e-4  # the edit matters
    fresh = BlipVqa(model.hf, model.processor)
    np.testing.assert_allclose(found, numbers(ask(fresh, corruption=corruption)), atol=1e-6)
    settings = older.trace().settings
    assert settings["weights"] == weights_hash(model.hf) == fresh.provenance["weights"] != old_hash


@pytest.mark.parametrize("edit", [in_place, another_module, loaded])
def test_what_was_computed_is_not_read_again_after_an_edit(edit):
    model = random_model(seed=1)
    tracer = ask(model)
    kept = tracer.clean, tracer.corrupted, tracer.total_effect
    assert (tracer.clean, tracer.corrupted, tracer.total_effect) == kept
    edit(model.hf)
    fresh = ask(BlipVqa(model.hf, model.processor))
    assert tracer.clean.score == pytest.approx(fresh.clean.score, abs=1e-7)
    assert tracer.corrupted.score == pytest.approx(fresh.corrupted.score, abs=1e-7)
    assert tracer.total_effect.value == pytest.approx(fresh.total_effect.value, abs=1e-7)


def test_an_edit_undone_gives_the_old_numbers():
    model = random_model(seed=1)
    tracer = ask(model)
    before, told = tracer.trace(), model.provenance
    with torch.no_grad():
        kept = dense(model.hf).weight.clone()
        dense(model.hf).weight.zero_()
        assert not np.allclose(tracer.trace().samples, before.samples)
        dense(model.hf).weight.copy_(kept)
    after = tracer.trace()
    np.testing.assert_array_equal(after.samples, before.samples)
    assert model.provenance == told
    assert after.settings == before.settings


def test_an_edit_between_two_chunks_ends_the_work_aloud():
    model = random_model(seed=1)
    tracer = ask(model)
    model.limits = Limits(rows=7)
    chunks = patched_scores(tracer.case, [cell.states for cell in grid_cells(tracer.case, "question_encoder")])
    next(chunks)
    in_place(model.hf)
    with pytest.raises(ModelChangedError, match="model: its weights or modules were changed while"):
        list(chunks)
    assert np.isfinite(tracer.trace().samples).all()


def test_moving_the_model_keeps_its_numbers():
    model = random_model(seed=1)
    tracer = ask(model)
    before = tracer.trace().samples
    model.hf.double()
    after = tracer.trace()
    assert after.settings["dtype"] == "float64"
    np.testing.assert_allclose(after.samples, before, atol=1e-4)


def test_a_folder_of_other_weights_is_refused(tmp_path):
    model = random_model(seed=1)
    samples = [Sample(PICTURE, question, "blue", id=str(at)) for at, question in enumerate(["is it red", "is it blue"])]
    options = {"corruption": GaussianNoise(samples=2), "progress": False, "batch_size": 1, "metric": "log_probability"}
    trace_dataset(samples[:1], model, tmp_path / "out", **options)
    in_place(model.hf)
    with pytest.raises(ValueError, match=r"was begun with other settings: weights was"):
        trace_dataset(samples, model, tmp_path / "out", **options)


def test_weights_that_change_during_a_run_end_it(tmp_path):
    model = random_model(seed=1)

    def samples():
        yield Sample(PICTURE, "is it red", "blue")
        yield Sample(PICTURE, "is it blue", "blue")
        in_place(model.hf)  # once the first is computed: they are read a batch ahead
        yield Sample(PICTURE, "is it red", "blue")

    options = {"corruption": GaussianNoise(samples=2), "progress": False, "batch_size": 1, "metric": "log_probability"}
    with pytest.raises(ValueError, match=r"model: its weights were changed.*after 1 of the batches"):
        trace_dataset(samples(), model, tmp_path / "out", **options)


def test_a_widget_shows_the_grid_of_the_new_weights():
    model = random_model(seed=1)
    widget = quick_widget(PICTURE, "what is red circle", model=model, answer="blue", metric="log_probability")
    widget.trace_all()
    widget.wait(60)
    before = widget.trace.samples
    in_place(model.hf)
    widget.trace_all()
    widget.wait(60)
    fresh = ask(BlipVqa(model.hf, model.processor)).trace()
    assert not np.allclose(fresh.samples, before)
    np.testing.assert_allclose(widget.trace.samples, fresh.samples, atol=1e-5)
    assert widget.trace.settings["weights"] == weights_hash(model.hf)
    assert widget.error == ""
    widget.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_can_look_too(demo):
    """The threads that read samples stay in the parent."""
    torch.set_num_threads(2)
    try:
        ask(demo).case.answer_ids()
        child = os.fork()
        if not child:
            os._exit(0 if ask(demo).model.provenance["weights"] else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(1)


def test_a_model_loaded_in_inference_mode():
    with torch.inference_mode():
        hf = random_hf_model(0, words())
    model = BlipVqa(hf, BlipProcessor(BlipImageProcessorPil(size={"height": 16, "width": 16}), words()))
    tracer = ask(model)
    before = tracer.clean.score
    with torch.inference_mode():
        dense(hf).weight.mul_(1.5)
    assert tracer.patch(STATES).score != pytest.approx(before)
    assert tracer.clean.score == ask(BlipVqa(hf, model.processor)).clean.score
