"""Tracer: what it tells, what it shares, what it refuses."""

import math
import threading

import numpy as np
import pytest

from blip_trace_widget import BlipVqa, GaussianNoise, State, Tracer, examples
from blip_trace_widget.model.blip import BlipVqa as ModelClass
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.model.limits import Limits


def test_the_contract_of_a_tracer(tracer, example):
    assert tracer.question_tokens[0] == "[CLS]"
    assert tracer.question_tokens[-1] == "[SEP]"
    assert tracer.answer == example.answer
    assert tracer.answer_tokens == [example.answer]
    clean, corrupted = tracer.clean, tracer.corrupted
    assert clean.scores.shape == (1,)
    assert corrupted.scores.shape == (10,)
    assert clean.answer == example.answer
    assert clean.top[0] == (example.answer, pytest.approx(clean.score, abs=1e-6))
    assert corrupted.score == pytest.approx(corrupted.scores.mean())
    assert corrupted.answer in corrupted.answers
    assert tracer.total_effect.value == pytest.approx(clean.score - corrupted.score)


def test_a_patch_is_one_cell_of_the_trace(tracer):
    trace = tracer.trace()
    effect = tracer.patch(State("question_encoder", layer=4, position=5))
    np.testing.assert_allclose(effect.scores, trace.samples[:, 4, 5], atol=1e-6)
    assert effect.recovery == pytest.approx(trace.recovery[4, 5], abs=1e-5)
    assert effect.stderr == pytest.approx(trace.stderr[4, 5], abs=1e-6)
    assert effect.recovery_stderr == pytest.approx(trace.recovery_stderr[4, 5], abs=1e-5)
    assert len(effect.top) == 10


def test_restoring_the_whole_last_layer_brings_everything_back(tracer):
    last = tracer.model.layers - 1
    whole = [State("question_encoder", last, at) for at in range(len(tracer.question_tokens))]
    assert tracer.patch(whole).recovery == pytest.approx(1, abs=1e-4)
    assert tracer.patch(whole, direction="disrupt").recovery == pytest.approx(1, abs=1e-4)


def test_the_only_decoder_position_is_one_by_construction(tracer):
    trace = tracer.trace("answer_decoder")
    assert trace.constructed == [(tracer.model.layers - 1, 0)]
    assert trace.recovery[-1, 0] == pytest.approx(1, abs=1e-4)
    assert tracer.trace("answer_decoder", window=3).constructed == [
        (tracer.model.layers - 2, 0),
        (tracer.model.layers - 1, 0),
    ]
    assert tracer.trace().constructed == []
    crossed = tracer.trace("answer_decoder", "cross_attention")  # with its residual
    assert crossed.constructed == [(tracer.model.layers - 1, 0)]
    assert crossed.recovery[-1, 0] == pytest.approx(1, abs=1e-4)
    for site, head in (("mlp", None), ("self_attention", None), ("cross_attention", 0)):
        assert tracer.trace("answer_decoder", site, head).constructed == []


def test_answers_of_several_tokens(demo, example):
    tracer = Tracer(demo, example.image, example.question, answer="light blue")
    assert tracer.answer_tokens == ["light", "blue"]
    assert tracer.tokens("answer_decoder") == ["[DEC]", "light"]
    trace = tracer.trace("answer_decoder")
    assert trace.samples.shape == (10, demo.layers, 2)
    assert trace.constructed == []
    log = tracer.replace(metric="log_probability")
    assert math.exp(log.clean.score) == pytest.approx(tracer.clean.score, rel=1e-4)


def test_the_image_is_embedded_once(monkeypatch, demo, example):
    embedded = []
    whole = ModelClass.embed_image
    monkeypatch.setattr(ModelClass, "embed_image", lambda self, image: embedded.append(1) or whole(self, image))
    tracer = Tracer(demo, example.image, example.question)
    tracer.with_corruption(factor=1.0).corrupted
    tracer.noise_curve([0.0, 1.0])
    assert len(embedded) == 1
    tracer.trace()
    tracer.trace("answer_decoder")
    tracer.with_corruption(factor=2.0).trace()
    tracer.with_corruption(GaussianNoise(kind="additive")).corrupted
    tracer.replace(question="how many circles are there?").trace()
    assert len(embedded) == 1


def test_moving_the_noise_projects_nothing(monkeypatch, demo, example):
    tracer = Tracer(demo, example.image, example.question)
    tracer.trace()
    from blip_trace_widget.model.cross_attention import Projections

    projected = []
    whole = Projections._project
    monkeypatch.setattr(
        Projections, "_project", lambda self, layer, out: projected.append(layer) or whole(self, layer, out)
    )
    moved = tracer.with_corruption(factor=7.0)
    moved.trace()
    tracer.recovery_curve(factors=[1.0, 2.0])
    tracer.agreement([GaussianNoise(1.0), GaussianNoise(2.0)])
    assert projected == []
    tracer.with_corruption(seed=5).trace()
    assert projected == list(range(6))


def test_derived_tracers_equal_fresh_ones(demo, example):
    tracer = Tracer(demo, example.image, example.question)
    tracer.trace()
    derived = tracer.with_corruption(factor=2.0, kind="additive").replace(question="what shape is red?")
    fresh = Tracer(demo, example.image, "what shape is red?", corruption=GaussianNoise(2.0, "additive"))
    assert derived.answer == fresh.answer
    np.testing.assert_allclose(derived.trace().samples, fresh.trace().samples, atol=1e-6)
    assert tracer.with_corruption(GaussianNoise(1.5)).corruption == GaussianNoise(1.5)
    other = examples()[-1].image
    moved, fresh = tracer.replace(image=other), Tracer(demo, other, example.question)
    assert (moved.answer, moved.clean.score) == (fresh.answer, pytest.approx(fresh.clean.score, abs=1e-6))


def test_noise_zero_changes_nothing_and_closes_the_gate(tracer):
    still = tracer.with_corruption(factor=0.0)
    np.testing.assert_allclose(still.corrupted.scores, tracer.clean.score, atol=1e-6)
    effect = still.patch(State("question_encoder", 0, 0))
    assert math.isnan(effect.recovery)
    assert "smaller than" in effect.undefined_because


def test_noise_curve(tracer):
    state = State("question_encoder", tracer.model.layers - 1, 5)
    curve = tracer.noise_curve([0.0, 2.0, 5.0], states=state)
    assert curve.corrupted.shape == (10, 3)
    assert curve.patched.shape == (10, 3, 1)
    np.testing.assert_allclose(curve.corrupted[:, 2], tracer.corrupted.scores, atol=1e-6)
    np.testing.assert_allclose(curve.patched[:, 2, 0], tracer.patch(state).scores, atol=1e-6)
    assert curve.scores[0] == pytest.approx(tracer.clean.score, abs=1e-6)
    assert tracer.noise_curve().factors.tolist() == [x / 2 for x in range(21)]


def test_progress_counts_every_cell_and_a_cancelled_trace_keeps_what_it_has(monkeypatch, tracer):
    seen = []
    trace = tracer.trace(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (trace.samples[0].size, trace.samples[0].size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert trace.complete

    stop = threading.Event()
    monkeypatch.setattr(tracer.model, "limits", Limits(rows=168))
    partial = tracer.trace(progress=lambda done, _total: stop.set() if done > 25 else None, cancel=stop)
    known = ~np.isnan(partial.samples[0])
    assert 0 < known.sum() < known.size
    np.testing.assert_allclose(partial.samples[:, known], trace.samples[:, known], atol=1e-6)


def test_a_cancelled_patch_says_so(tracer):
    with pytest.raises(Cancelled):
        tracer.patch(State("question_encoder", 0, 0), cancel=lambda: True)


def test_a_model_in_use_by_one_thread_never_locks_out_another_for_good(demo, example):
    """One thread computes a tracer from its scores, another a second one from its answer: all finish."""

    def work(index):
        for _ in range(5):
            tracer = Tracer(demo, example.image, example.question)
            _ = (tracer.corrupted, tracer.answer) if index % 2 else (tracer.answer, tracer.corrupted)

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_may_share_a_model(demo, example):
    tracers = [Tracer(demo, example.image, example.question, corruption=GaussianNoise(seed=seed)) for seed in range(4)]
    expected = [tracer.replace().trace().samples for tracer in tracers]
    found = [None] * 4

    def work(index):
        found[index] = tracers[index].trace().samples

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"model": 3}, TypeError, "model: expected BlipVqa, a hub id or a folder, got int"),
        ({"image": 3}, TypeError, "image: expected a PIL image"),
        ({"image": b"no picture"}, ValueError, "image: .*cannot be read as a picture"),
        ({"image": "nowhere.png"}, FileNotFoundError, "image: no such file: 'nowhere.png'"),
        ({"image": np.zeros((4, 4, 7), np.uint8)}, ValueError, "image: .*shape"),
        ({"image": np.full((4, 4), 300.0)}, ValueError, "image: .*0 to 1"),
        ({"question": "  "}, ValueError, "question: expected a text with at least one token"),
        ({"question": None}, TypeError, "question: expected a text"),
        ({"question": "red " * 600}, ValueError, "question: expected at most"),
        ({"answer": ""}, ValueError, "answer: expected a text with at least one token"),
        ({"answer": 5}, TypeError, "answer"),
        ({"metric": "accuracy"}, ValueError, "metric"),
        ({"metric": "logit_difference"}, ValueError, "foil"),
        ({"corruption": 5.0}, TypeError, "corruption: expected one such as GaussianNoise, got float"),
    ],
)
def test_wrong_arguments_are_named(demo, example, wrong, error, message):
    arguments = {"model": demo, "image": example.image, "question": example.question, **wrong}
    with pytest.raises(error, match=message):
        Tracer(**arguments)


def test_a_foil_of_another_length_is_refused(demo, example):
    tracer = Tracer(demo, example.image, example.question, foil="light blue", metric="logit_difference")
    with pytest.raises(ValueError, match="foil: expected as many tokens"):
        _ = tracer.clean
    with pytest.raises(ValueError, match="foil: expected as many tokens"):
        Tracer(demo, example.image, example.question, answer="red", foil="light blue")


def test_a_region_of_another_grid_is_refused(demo, example):
    with pytest.raises(ValueError, match="region: expected 8 x 8"):
        Tracer(demo, example.image, example.question, corruption=GaussianNoise(region=[[True, False]]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.patch(State("question_encoder", 99, 0)), ValueError, "layer: expected from 0 to 5, got 99"),
        (lambda t: t.patch(State("question_encoder", 0, 99)), ValueError, "position: expected from 0 to 7.*got 99"),
        (lambda t: t.patch(State("answer_decoder", 0, 1)), ValueError, "position: expected from 0 to 0"),
        (lambda t: t.patch(State("answer_decoder", 0, 0, "self_attention", 99)), ValueError, "head"),
        (lambda t: t.patch(State("question_encoder", 0, 0), direction="repair"), ValueError, "direction"),
        (lambda t: t.patch([]), ValueError, "states"),
        (lambda t: t.trace("decoder"), ValueError, "block"),
        (lambda t: t.trace(site="output"), ValueError, "site"),
        (lambda t: t.trace(window=0), ValueError, "window"),
        (lambda t: t.trace(head=1), ValueError, "site"),
        (lambda t: t.trace(direction="back"), ValueError, "direction"),
        (lambda t: t.trace(progress=3), TypeError, "progress"),
        (lambda t: t.trace(cancel=3), TypeError, "cancel"),
        (lambda t: t.noise_curve([-1.0]), ValueError, "factors"),
        (lambda t: t.noise_curve(5.0), TypeError, "factors"),
        (lambda t: t.noise_curve([]), ValueError, "factors"),
        (lambda t: t.noise_curve(["a"]), TypeError, "factors"),
        (lambda t: t.replace(colour="red"), TypeError, "colour"),
    ],
)
def test_wrong_requests_are_named(tracer, call, error, message):
    with pytest.raises(error, match=message):
        call(tracer)


@pytest.mark.slow
def test_full_width_from_a_folder(tmp_path, picture):
    """BLIP base's widths, two layers of each part, random weights, by `from_pretrained`; three cells against hooks."""
    from helpers.random_models import BASE_SIZES, random_hf_model, words
    from helpers.reference import Hooked, noise

    hf = random_hf_model(0, words(), **BASE_SIZES | {"layers": 2, "vision_layers": 2})
    hf.save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    BlipVqa.demo().processor.image_processor.__class__(size={"height": 384, "width": 384}).save_pretrained(tmp_path)
    del hf
    model = BlipVqa.from_pretrained(tmp_path)
    assert model.grid == (24, 24)
    tracer = Tracer(model, picture, "what color is the circle?", answer="red", corruption=GaussianNoise(2.0, samples=1))
    pixels = model.processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
    slow = Hooked(model.hf, pixels, tracer.case.bases.question_ids, tracer.case.answer_ids())
    clean = slow.embeddings()
    assert clean.shape == (577, 768)
    (damaged,) = noise(clean, 2.0, "multiplicative", 1, 0)
    assert tracer.clean.score == pytest.approx(slow.probability(slow.run()[0]), abs=1e-5)
    log = tracer.replace(metric="log_probability")
    states = [
        State("question_encoder", 0, 2),
        State("question_encoder", 1, 5, "cross_attention", 7),
        State("answer_decoder", 1, 0, "mlp"),
    ]
    (scores,) = slow.patched_scores([[state] for state in states], clean, [damaged], "restore")
    for state, exact in zip(states, scores, strict=True):
        assert tracer.patch(state).score == pytest.approx(exact, abs=1e-5)
        assert log.patch(state).score == pytest.approx(math.log(exact), rel=1e-4, abs=1e-3)
