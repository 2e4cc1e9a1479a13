"""What goes beyond the grid of states against plain hooks: the ViT, image tokens, heads, cut edges, readings."""

import itertools
import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, ImageSwap, MeanAblation, QuestionSwap, State, Tracer
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.model.layers import ImageBlock, TextBlock
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.tracing.grid import grid_cells
from blip_trace_widget.tracing.patching import patched_scores
from helpers.problems import EXAMPLES, assert_close, every_corruption, hooked, problems
from helpers.reference import LAYERS
from helpers.scarce import fail_where

#: The last one is an older name of the second.
IMAGE_SITES = ["block_output", "self_attention_out", "mlp", "block_input", "self_attention"]


def before_the_vit(tracer):
    """The same problem with the noise on the patch embeddings."""
    return tracer.with_corruption(at="patch_embeddings")


BEFORE_THE_VIT = partial(every_corruption, places=["patch_embeddings"])


def image_states(tracer, draw):
    site = draw(st.sampled_from(IMAGE_SITES))
    block = tracer.model.image_encoder
    head = draw(st.none() | st.integers(0, block.heads - 1)) if "attention" in site else None
    layer = draw(st.integers(0, len(block.layers) - 1))
    return State("image_encoder", layer, draw(st.integers(0, tracer.model.image_token_count - 1)), site, head)


@EXAMPLES
@given(problems(vision_layers=2, corruptions=BEFORE_THE_VIT), st.data())
def test_states_of_the_image_encoder_equal_hooks(tracer, data):
    chosen = [image_states(tracer, data.draw) for _ in range(data.draw(st.integers(1, 3)))]
    if data.draw(st.booleans()):
        block = data.draw(st.sampled_from(["question_encoder", "answer_decoder"]))
        chosen.append(State(block, data.draw(st.integers(0, tracer.model.layers - 1)), 0))
    direction = data.draw(st.sampled_from(["restore", "disrupt"]))
    slow, clean, corrupted = hooked(tracer)
    assert_close(tracer.corrupted.scores, [slow.probability(slow.run(e)[0]) for e in corrupted])
    exact = slow.patched_scores([chosen], clean, corrupted, direction)[:, 0]
    assert_close(tracer.patch(chosen, direction).scores, exact)


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_a_trace_of_the_image_encoder_is_its_patches(tracer, data):
    tracer = before_the_vit(tracer)
    site = data.draw(st.sampled_from(IMAGE_SITES))
    trace = tracer.trace("image_encoder", site)
    assert trace.samples.shape[1:] == (2, tracer.model.image_token_count)
    layer = data.draw(st.integers(0, 1))
    position = data.draw(st.integers(0, tracer.model.image_token_count - 1))
    effect = tracer.patch(State("image_encoder", layer, position, site))
    np.testing.assert_allclose(trace.samples[:, layer, position], effect.scores, atol=1e-6)


@EXAMPLES
@given(problems(), st.data())
def test_every_square_of_image_tokens_equals_swapped_embeddings(tracer, data):
    if data.draw(st.booleans()):
        tracer = before_the_vit(tracer)
    rows, columns = tracer.model.grid
    patch = data.draw(st.integers(1, rows))
    direction = data.draw(st.sampled_from(["restore", "disrupt"]))
    found = tracer.trace_image_tokens(patch, direction)
    slow, clean, corrupted = hooked(tracer)
    if tracer.corruption.at == "patch_embeddings":  # what the question encoder looks at, in either run
        clean, *corrupted = [vit_output(slow, e) for e in (clean, *corrupted)]
        slow.at = "image_embeddings"
    assert found.samples.shape == (len(corrupted), -(-rows // patch), -(-columns // patch))
    for row in range(found.samples.shape[1]):
        for column in range(found.samples.shape[2]):
            square = torch.zeros(rows, columns, dtype=torch.bool)
            square[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = True
            inside = torch.cat([torch.tensor([False]), square.flatten()])[:, None]
            exact = []
            for damaged in corrupted:
                base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
                exact.append(slow.probability(slow.run(torch.where(inside, source, base))[0]))
            assert_close(found.samples[:, row, column], exact)


@EXAMPLES
@given(problems(), st.data())
def test_several_image_tokens_in_one_run_equal_swapped_embeddings(tracer, data):
    if data.draw(st.booleans()):
        tracer = before_the_vit(tracer)
    count = tracer.model.image_token_count
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    direction = data.draw(st.sampled_from(["restore", "disrupt"]))
    found = tracer.patch_image_tokens(chosen, direction)
    assert found.image_tokens == tuple(sorted(chosen))
    assert found.states == ()
    slow, clean, corrupted = hooked(tracer)
    if tracer.corruption.at == "patch_embeddings":
        clean, *corrupted = [vit_output(slow, e) for e in (clean, *corrupted)]
        slow.at = "image_embeddings"
    inside = torch.tensor([token in chosen for token in range(count)])[:, None]
    exact = []
    for damaged in corrupted:
        base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
        exact.append(slow.probability(slow.run(torch.where(inside, source, base))[0]))
    assert_close(found.scores, exact)
    total = tracer.clean.score - tracer.corrupted.scores
    restored = found.scores - tracer.corrupted.scores
    effect = restored if direction == "restore" else tracer.clean.score - found.scores
    assert found.indirect_effect == pytest.approx(effect.mean())
    if not found.undefined_because:
        assert found.recovery == pytest.approx(effect.mean() / total.mean())


@EXAMPLES
@given(problems(), st.data())
def test_how_strongly_patches_are_hit_is_the_length_of_what_is_added(tracer, data):
    if data.draw(st.booleans()):
        tracer = before_the_vit(tracer)
    _, clean, corrupted = hooked(tracer)
    added = torch.stack([damaged - clean for damaged in corrupted]).double()
    length = added.norm(dim=-1).square().mean(0).sqrt() / clean.double().norm(dim=-1)
    found = tracer.corruption_strength()
    assert found.shape == tracer.model.grid
    np.testing.assert_allclose(found.ravel(), length[1:].numpy(), rtol=1e-4, atol=1e-5)


def vit_output(slow, patch_embeddings):
    """The image tokens that patch embeddings lead to."""
    vision = slow.hf.vision_model
    with torch.no_grad():
        return vision.post_layernorm(vision.encoder(inputs_embeds=patch_embeddings[None]).last_hidden_state)[0]


@EXAMPLES
@given(problems(), st.data())
def test_a_map_of_heads_is_its_patches(tracer, data):
    block = data.draw(st.sampled_from(["question_encoder", "answer_decoder"]))
    site = data.draw(
        st.sampled_from(["self_attention", "cross_attention", "self_attention_out", "cross_attention_out"])
    )
    direction = data.draw(st.sampled_from(["restore", "disrupt"]))
    count = len(tracer.tokens(block))
    position = data.draw(st.none() | st.integers(0, count - 1))
    found = tracer.trace(block, site, head="all", direction=direction, position=position)
    assert found.indirect_effect.shape == (tracer.model.layers, tracer.model.heads)
    layer = data.draw(st.integers(0, tracer.model.layers - 1))
    head = data.draw(st.integers(0, tracer.model.heads - 1))
    slow, clean, corrupted = hooked(tracer)
    states = [State(block, layer, at, site, head) for at in (range(count) if position is None else [position])]
    scores = slow.patched_scores([[state] for state in states], clean, corrupted, direction)
    if direction == "restore":
        exact = scores - np.array([[slow.probability(slow.run(damaged)[0])] for damaged in corrupted])
    else:
        exact = slow.probability(slow.run()[0]) - scores
    np.testing.assert_allclose(found.indirect_effect[layer, head], exact.sum(1).mean(), atol=1e-5 * count)


def edges(tracer, draw):
    """A random block, attention, head, queries and keys to cut, and their mask for the hooks."""
    block = draw(st.sampled_from(["question_encoder", "answer_decoder"]))
    site = draw(st.sampled_from(["self_attention", "cross_attention"]))
    head = draw(st.none() | st.integers(0, tracer.model.heads - 1))
    own = len(tracer.tokens(block))
    others = own
    if site == "cross_attention":
        others = tracer.model.image_token_count if block == "question_encoder" else len(tracer.question_tokens)
    queries = draw(st.lists(st.integers(0, own - 1), min_size=1, max_size=own, unique=True))
    keys = draw(st.lists(st.integers(0, others - 1), min_size=1, max_size=others, unique=True))
    mask = torch.zeros(tracer.model.heads, own, others, dtype=torch.bool)
    for query in queries:
        mask[slice(None) if head is None else head, query, keys] = True
    return block, site, head, queries, keys, mask


@EXAMPLES
@given(problems(), st.data())
def test_cut_edges_equal_hooks_on_the_attention_weights(tracer, data):
    block, site, head, queries, keys, mask = edges(tracer, data.draw)
    layers = data.draw(
        st.lists(st.integers(0, tracer.model.layers - 1), min_size=1, max_size=tracer.model.layers, unique=True)
    )
    found = tracer.knockout(block, layers, queries, keys, site, head)
    slow, *_ = hooked(tracer)
    stack = LAYERS[block](slow.hf)
    name = "attention" if site == "self_attention" else "crossattention"
    logits = slow.run(cuts=[(getattr(stack[layer], name), mask) for layer in layers])[0]
    assert_close(found.score, slow.probability(logits))
    assert found.loss == pytest.approx(tracer.clean.score - found.score)
    np.testing.assert_allclose(found.distribution, logits[0].softmax(-1).numpy(), atol=1e-5)

    window = data.draw(st.integers(1, tracer.model.layers))
    trace = tracer.trace_knockout(block, queries, keys, site, head, window)
    layer = data.draw(st.integers(0, tracer.model.layers - 1))
    covered = [at for at in range(layer - window // 2, layer - window // 2 + window) if 0 <= at < tracer.model.layers]
    assert trace.scores[layer] == pytest.approx(tracer.knockout(block, covered, queries, keys, site, head).score)


@EXAMPLES
@given(problems(vision_layers=2, corruptions=every_corruption), st.data())
def test_attention_equals_the_weights_inside_the_model(tracer, data):
    block = data.draw(st.sampled_from(list(LAYERS)))
    stack = tracer.model.blocks[block]
    layer = data.draw(st.integers(0, len(stack.layers) - 1))
    head = data.draw(st.none() | st.integers(0, stack.heads - 1))
    minus = data.draw(st.sampled_from([None, "heads"])) if head is not None else None
    site = data.draw(st.sampled_from(["self_attention", "cross_attention"][: 1 if block == "image_encoder" else 2]))
    found = tracer.attention(block, layer, head, site, minus)
    slow, _, corrupted = hooked(tracer)
    if not tracer.corruption.reaches(block):
        corrupted = [None]
    module = LAYERS[block](slow.hf)[layer]
    name = {
        "self_attention": "self_attn" if block == "image_encoder" else "attention",
        "cross_attention": "crossattention",
    }
    module = getattr(module, name[site])

    def weights(embeddings=None):
        seen = slow.run(embeddings, weights=module)[1]["weights"]
        mean = seen.mean(0)
        return (mean if head is None else seen[head] - mean if minus else seen[head]).numpy()

    # A weight's relative error is its logit's absolute one, and strong noise makes large logits.
    close = {"atol": 1e-5, "rtol": 1e-4}
    np.testing.assert_allclose(found.clean, weights(), **close)
    np.testing.assert_allclose(found.corrupted, [weights(e) for e in corrupted], **close)
    if block == "image_encoder" or (block, site) == ("question_encoder", "cross_attention"):
        assert found.image(1).shape == tracer.model.grid
        np.testing.assert_allclose(found.image(1).ravel(), found.clean[1, 1:])
        np.testing.assert_allclose(
            found.image(1, "difference"), found.image(1, "corrupted") - found.image(1), atol=1e-6
        )


@EXAMPLES
@given(problems())
def test_the_logit_lens_reads_the_decoders_states(tracer):
    lens = tracer.logit_lens()
    slow, _, corrupted = hooked(tracer)

    def read(embeddings=None):
        """(layers, positions, vocabulary)."""
        states = [
            State("answer_decoder", layer, position)
            for layer in range(tracer.model.layers)
            for position in range(len(tracer.tokens("answer_decoder")))
        ]
        seen = slow.run(embeddings, record=states)[1]
        with torch.no_grad():
            logits = [slow.hf.text_decoder.cls(seen[state]) for state in states]
        return torch.stack(logits).softmax(-1).reshape(tracer.model.layers, -1, logits[0].shape[-1]).numpy()

    clean = read()
    np.testing.assert_allclose(lens.probabilities, clean, atol=1e-5)
    ids = tracer.case.bases.answer_ids()
    np.testing.assert_allclose(lens.answer, clean[:, range(len(ids)), ids], atol=1e-5)
    damaged = [read(e)[:, range(len(ids)), ids] for e in corrupted]
    np.testing.assert_allclose(lens.corrupted_answer, damaged, atol=1e-5)
    assert lens.answer[-1].prod() == pytest.approx(tracer.clean.score, abs=1e-5)
    assert lens.top[0][0][0][1] == pytest.approx(clean[0, 0].max(), abs=1e-5)


# --- what they tell on the built-in model, and what they refuse ---------------------------------------------------


def test_a_region_as_keys_is_its_image_tokens(tracer):
    rows, columns = tracer.model.grid
    region = np.zeros((rows, columns), bool)
    region[2:4, 3] = True
    tokens = [1 + 2 * columns + 3, 1 + 3 * columns + 3]
    by_region = tracer.knockout("question_encoder", None, None, region)
    assert by_region.score == tracer.knockout("question_encoder", None, None, tokens).score
    assert by_region.score == tracer.knockout("question_encoder", None, None, region.tolist()).score
    assert by_region.relative_loss == pytest.approx(by_region.loss / tracer.clean.score)


@pytest.mark.parametrize("metric", ["log_probability", "kl_divergence"])
def test_what_a_cut_loses_is_told_in_the_units_of_its_metric(demo, example, metric):
    """Without the picture something is lost under each metric, though one is below 0 and the other rises."""
    tracer = Tracer(demo, example.image, example.question, metric=metric)
    cut, layers = tracer.knockout("question_encoder", None, None, None), tracer.trace_knockout("question_encoder")
    assert cut.lost == abs(cut.loss) > 0.1 < layers.lost.max()
    assert "nan" not in repr(cut)
    assert "lost most" in repr(layers)
    bars = layers.plot().patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], layers.lost, atol=1e-6)


def test_cutting_every_edge_to_the_image_takes_it_away(tracer):
    blind = tracer.knockout("question_encoder", None, None, None)
    other = tracer.replace(image=np.zeros((8, 8, 3), np.uint8), answer=tracer.answer)
    assert blind.score == pytest.approx(other.knockout("question_encoder", None, None, None).score, abs=1e-6)
    assert blind.score < tracer.clean.score


def test_a_whole_square_of_image_tokens_restored_is_all_but_the_class_token(tracer):
    whole = tracer.trace_image_tokens(patch=max(tracer.model.grid))
    assert whole.samples.shape == (10, 1, 1)
    everything = np.ones(tracer.model.grid, bool)
    spared = tracer.with_corruption(region=everything)  # damages all but the class token
    back = spared.trace_image_tokens(patch=max(tracer.model.grid))
    assert back.recovery[0, 0] == pytest.approx(1, abs=1e-4)
    assert whole.recovery[0, 0] <= 1 + 1e-4


def test_tables_and_plots_of_maps(tracer):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    heads = tracer.trace("question_encoder", "cross_attention", head="all")
    squares = tracer.trace_image_tokens(patch=2)
    for grid, columns in ((heads, {"layer", "head"}), (squares, {"row", "column"})):
        table = grid.to_dataframe()
        assert len(table) == grid.indirect_effect.size
        assert columns <= set(table)
        assert grid.significant.shape == grid.stderr.shape == grid.indirect_effect.shape
        image = grid.plot().images[0].get_array()
        assert image.shape == grid.indirect_effect.shape
    matplotlib.pyplot.close("all")
    lens = tracer.logit_lens().to_dataframe()
    assert lens.iloc[-1].word == tracer.answer
    looks = tracer.attention("answer_decoder", 0).to_dataframe()
    assert looks.clean.sum() == pytest.approx(1, abs=1e-5)
    cut = tracer.trace_knockout("answer_decoder").to_dataframe()
    assert list(cut.layer) == list(range(tracer.model.layers))


def test_progress_and_cancel_of_maps(tracer):
    seen = []
    tracer.trace_image_tokens(patch=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert np.isnan(tracer.trace_image_tokens(cancel=lambda: True).samples).all()
    assert np.isnan(tracer.trace_knockout("question_encoder", cancel=lambda: True).scores).all()
    seen.clear()
    tracer.trace_knockout("question_encoder", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(layer + 1, tracer.model.layers) for layer in range(tracer.model.layers)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.patch(State("image_encoder", 0, 0)), ValueError, "image_encoder.*GaussianNoise.*patch_embeddings"),
        (lambda t: t.trace("image_encoder"), ValueError, "same in the clean and the corrupted run"),
        (
            lambda t: t.with_corruption(MeanAblation()).trace("image_encoder"),
            ValueError,
            "image_encoder.*MeanAblation",
        ),
        (lambda t: State("image_encoder", 0, 0, "cross_attention"), ValueError, "site.*image_encoder.*cross_attention"),
        (
            lambda t: t.with_corruption(at="patch_embeddings").trace("image_encoder", "cross_attention"),
            ValueError,
            "site.*image_encoder",
        ),
        (lambda t: t.with_corruption(at="pixels"), ValueError, "at: expected one of"),
        (lambda t: t.trace_image_tokens(0), ValueError, "patch: expected from 1 to"),
        (lambda t: t.trace_image_tokens(direction="back"), ValueError, "direction"),
        (
            lambda t: t.with_corruption(QuestionSwap("what shape is the circle?")).trace_image_tokens(),
            ValueError,
            "corruption.*QuestionSwap",
        ),
        (lambda t: t.trace(head="some"), ValueError, "head: expected a whole number, 'all' or None, got 'some'"),
        (lambda t: t.trace(head="all"), ValueError, "site .of a single head."),
        (lambda t: t.trace(site="self_attention", head=0, position=1), ValueError, "position: only with head='all'"),
        (lambda t: t.trace(site="self_attention", head="all", position=99), ValueError, "position.*99"),
        (lambda t: t.knockout("image_encoder", 0, 0, 0), ValueError, "block .of a knockout."),
        (lambda t: t.knockout("question_encoder", 99, 0, 0), ValueError, "layers: expected from 0 to 5, got 99"),
        (lambda t: t.knockout("question_encoder", [], 0, 0), ValueError, "layers: expected at least one"),
        (
            lambda t: t.knockout("question_encoder", 0, "red", 0),
            ValueError,
            "queries: there is no token .red.: .*circle",
        ),
        (lambda t: t.knockout("question_encoder", 0, 0, 999), ValueError, "keys: expected from 0 to 64, got 999"),
        (lambda t: t.knockout("question_encoder", 0, 0, [[True]]), ValueError, "keys: a region must be 8 x 8"),
        (lambda t: t.knockout("question_encoder", 0, 0, [[True], [True, False]]), ValueError, "keys: .*unequal"),
        (lambda t: t.knockout("question_encoder", 0, 0, np.array([[1, 2]])), ValueError, "keys: expected whole"),
        (lambda t: t.knockout("answer_decoder", 0, 0, [[1], [1, 2]]), ValueError, "keys: expected whole"),
        (lambda t: t.knockout("question_encoder", 0, 1.5, 0), TypeError, "queries: expected whole"),
        (lambda t: patched_scores(t.case, [[State("question_encoder", 99, 0)]]), ValueError, "layer: .*99"),
        (lambda t: patched_scores(t.case, [[State("image_encoder", 0, 0)]]), ValueError, "image_encoder"),
        (lambda t: patched_scores(t.case, [[State("question_encoder", 0, 0)]], "back"), ValueError, "direction"),
        (lambda t: t.knockout("question_encoder", 0, 0, 0, "mlp"), ValueError, "site .of a knockout."),
        (lambda t: t.knockout("question_encoder", 0, 0, 0, head=99), ValueError, "head"),
        (lambda t: t.trace_knockout("answer_decoder", window=9), ValueError, "window"),
        (
            lambda t: t.attention("image_encoder", 0, site="cross_attention"),
            ValueError,
            "site .of attention in image_encoder.: .*self_attention.*got 'cross_attention'",
        ),
        (lambda t: t.attention("question_encoder", 0, minus="heads"), ValueError, "minus: .* give head"),
        (lambda t: t.attention("question_encoder", 0, 1, minus="mean"), ValueError, "minus: expected one of"),
        (
            lambda t: t.attention("question_encoder", 0, site="self_attention").image(0),
            ValueError,
            "look at the picture, this is the self_attention of 'question_encoder'",
        ),
        (lambda t: t.attention("answer_decoder", 6), ValueError, "layer: expected from 0 to 5"),
        (lambda t: t.attention("answer_decoder", 0).image(0), ValueError, "only the question encoder"),
        (lambda t: t.attention("question_encoder", 0).image(0, "loud"), ValueError, "run: expected one of"),
    ],
)
def test_wrong_requests_are_named(tracer, call, error, message):
    with pytest.raises(error, match=message):
        call(tracer)


def test_deterministic_corruptions_give_maps_without_standard_errors(tracer, picture):
    for corruption in (MeanAblation("zero"), ImageSwap(picture)):
        found = tracer.with_corruption(corruption).trace_image_tokens(patch=4)
        assert found.samples.shape == (1, 2, 2)
        assert np.isnan(found.stderr).all()


def test_a_tracer_of_the_vit_leaves_the_others_alone(demo, example):
    tracer = Tracer(demo, example.image, example.question)
    tracer.trace()
    tracer.with_corruption(at="patch_embeddings", samples=1).trace("image_encoder")
    after = tracer.with_corruption(factor=2.0).trace().samples
    fresh = Tracer(demo, example.image, example.question, corruption=GaussianNoise(2.0)).trace().samples
    np.testing.assert_allclose(after, fresh, atol=1e-6)


def test_a_cold_trace_that_nobody_wants_computes_nothing(monkeypatch, demo, example):
    """Not a layer beyond the one in which it is cancelled, whatever was asked."""
    stepped = []
    for kind in (TextBlock, ImageBlock):
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda *given, step=step: stepped.append(1) or step(*given))
    noise = GaussianNoise(samples=2)
    for ask in (
        lambda t: t.trace(cancel=lambda: True),
        lambda t: t.trace("answer_decoder", cancel=lambda: True),
        lambda t: t.trace(site="self_attention", head="all", cancel=lambda: True),
        lambda t: t.trace_image_tokens(cancel=lambda: True),
        lambda t: t.patch(State("answer_decoder", 0, 0), cancel=lambda: True),
        lambda t: t.noise_curve(cancel=lambda: True),
        lambda t: t.trace_knockout("question_encoder", cancel=lambda: True),
        lambda t: t.find_states(cancel=lambda: True),
        lambda t: t.flow(cancel=lambda: True),
        lambda t: t.with_corruption(at="patch_embeddings").trace("image_encoder", cancel=lambda: True),
    ):
        with pytest.raises(Cancelled):
            ask(Tracer(demo, example.image, example.question, corruption=noise))
    assert stepped == []


def test_memory_that_runs_out_now_and_then_counts_nothing_twice(monkeypatch, demo, example):
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=4))
    state = State("question_encoder", 2, 3)
    effect, trace = tracer.patch(state), tracer.trace()
    calls = itertools.count(1)
    fail_where(monkeypatch, lambda runs, samples: next(calls) % 3 == 1 and samples * runs > 1, torch.OutOfMemoryError)
    again = tracer.patch(state)
    assert again.distribution.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(again.scores, effect.scores, atol=1e-6)
    np.testing.assert_allclose(tracer.trace().samples, trace.samples, atol=1e-6)
    seen = []
    for part, scores, _ in patched_scores(
        tracer.case, [cell.states for cell in grid_cells(tracer.case, "question_encoder")]
    ):
        assert np.isfinite(scores).all()
        seen += range(part.start, part.stop)
    assert seen == list(range(48))
    fail_where(monkeypatch, lambda *_: True, torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError):
        tracer.patch(state)


@pytest.mark.parametrize("direction", ["restore", "disrupt"])
def test_groups_of_samples_through_the_vit_give_the_same(monkeypatch, demo, example, direction):
    noise = GaussianNoise(samples=3, at="patch_embeddings")
    states = [State("image_encoder", 0, 9), State("answer_decoder", 1, 0, "mlp")]
    whole = Tracer(demo, example.image, example.question, corruption=noise)
    expected = [whole.patch(states, direction).scores, whole.trace_image_tokens(4, direction).samples]
    monkeypatch.setattr(demo, "limits", Limits(memory=1))
    grouped = Tracer(demo, example.image, example.question, corruption=noise)
    np.testing.assert_allclose(grouped.patch(states, direction).scores, expected[0], atol=1e-6)
    np.testing.assert_allclose(grouped.trace_image_tokens(4, direction).samples, expected[1], atol=1e-6)
    seen = [part for part, _, _ in patched_scores(grouped.case, [[state] for state in states], direction)]
    assert [(part.start, part.stop) for part in seen if part.stop > part.start][-1][1] == 2
    assert [part.stop for part in seen] == sorted(part.stop for part in seen)


def test_what_is_kept_stays_kept_when_memory_shrinks(monkeypatch, demo, example):
    tracer = Tracer(demo, example.image, example.question)
    before = tracer.trace().samples
    monkeypatch.setattr(demo, "limits", Limits(memory=1))
    with torch.inference_mode():
        assert len(list(tracer.case.bases.corrupted())) == 1
    np.testing.assert_array_equal(tracer.trace().samples, before)


def test_noise_before_the_vit_takes_one_pass_a_sample(monkeypatch, demo, example):
    tracer = Tracer(demo, example.image, example.question, corruption=GaussianNoise(samples=2, at="patch_embeddings"))
    _ = tracer.clean
    passed = []
    step = ImageBlock.step
    monkeypatch.setattr(ImageBlock, "step", lambda *given: passed.append(given[2].shape[0]) or step(*given))
    tracer.patch(State("image_encoder", 5, 0))
    vision_layers = len(demo.image_encoder.layers)
    assert sum(passed) == vision_layers * (2 + 1)  # two corrupted, one clean


@pytest.mark.parametrize(
    "given", [iter([1, 2]), {1, 2}, range(1, 3), np.array([1, 2]), (np.int64(1), 2)], ids=lambda given: str(type(given))
)
def test_positions_may_be_any_iterable(tracer, given):
    found = tracer.knockout("question_encoder", 1, 3, given)
    assert found.score == tracer.knockout("question_encoder", 1, 3, [1, 2]).score
    assert json.loads(json.dumps(found.settings))["keys"] == [1, 2]
