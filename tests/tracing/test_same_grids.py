"""Grids that equal one another by construction: that they do, that no other is said to, and that none is made twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, State, Tracer, TraceWidget, load_trace
from blip_trace_widget.results import recording
from blip_trace_widget.results.grid_spec import GridSpec, SameGrid
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import whole_traces
from helpers.changed_models import ask, noisy, own_forward, plain_hf, wrap
from helpers.problems import EXAMPLES, ROUNDED, assert_close, hooked, problems

OUTPUT, BELOW = SameGrid("block_output"), SameGrid("block_output", -1)
BEFORE = {"at": "patch_embeddings"}


def claimed(tracer, block, single, draw):
    """A grid that is said to equal another one, and which."""
    layers, heads = len(tracer.model.blocks[block].layers), tracer.model.blocks[block].heads
    head, direction = draw(st.integers(0, heads - 1)), draw(st.sampled_from(["restore", "disrupt"]))
    every = [
        GridSpec(block, site, None if whole else head, direction, window)
        for site in BLOCKS[block].accepted
        for whole in ([True, False] if site in BLOCKS[block].heads else [True])
        for window in range(1, min(layers, 3) + 1)
    ]
    same = {spec: spec.same_as(layers, single=single) for spec in every}
    return draw(st.sampled_from([(spec, found) for spec, found in same.items() if found]))


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_a_grid_equals_the_one_that_it_is_said_to_equal(tracer, data):
    """What hooks give for a cell of the one is what the other has in its place."""
    if data.draw(st.booleans()):
        tracer = tracer.with_corruption(**BEFORE)
    block = data.draw(st.sampled_from([name for name in BLOCKS if tracer.corruption.reaches(name)]))
    single = block == "answer_decoder" and len(tracer.answer_tokens) == 1
    spec, same = claimed(tracer, block, single, data.draw)
    other = tracer.trace(**spec._replace(site=same.site).settings)
    layers, positions = other.samples.shape[1:]
    layer, position = data.draw(st.integers(-same.shift, layers - 1)), data.draw(st.integers(0, positions - 1))
    first = layer - spec.window // 2
    covered = [at for at in range(first, first + spec.window) if 0 <= at < layers]
    slow, clean, corrupted = hooked(tracer)
    cell = [State(block, at, position, spec.site, spec.head) for at in covered]
    exact = slow.patched_scores([cell], clean, corrupted, spec.direction)[:, 0]
    assert_close(other.samples[:, layer + same.shift, position], exact)


@EXAMPLES
@given(problems(), st.data())
def test_a_trace_says_it_and_it_holds_for_every_metric(tracer, data):
    tracer = tracer.replace(metric=data.draw(st.sampled_from(["probability", "kl_divergence"])))
    block = data.draw(st.sampled_from(["question_encoder", "answer_decoder"]))
    first = tracer.metric.name == "kl_divergence" or len(tracer.answer_tokens) == 1
    spec, same = claimed(tracer, block, block == "answer_decoder" and first, data.draw)
    trace, other = tracer.trace(**spec.settings), tracer.trace(**spec._replace(site=same.site).settings)
    assert trace.same_as == same
    ours, theirs = trace.samples[:, -same.shift :], other.samples[:, : other.samples.shape[1] + same.shift]
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "single", "same"),
    [
        (GridSpec(), False, None),
        (GridSpec(site="cross_attention"), False, OUTPUT),
        (GridSpec(site="cross_attention", window=3, direction="disrupt"), False, OUTPUT),
        (GridSpec(site="cross_attention", head=0), False, SameGrid("cross_attention_out")),
        (GridSpec(site="self_attention"), False, None),
        (GridSpec(site="self_attention", head=2, window=2), False, SameGrid("self_attention_out")),
        (GridSpec(site="self_attention_out"), False, None),
        (GridSpec(site="cross_attention_out"), False, None),
        (GridSpec(site="block_input"), False, BELOW),
        # Clipped at the edges of the block, the windows of the two are not the same layers.
        (GridSpec(site="block_input", window=2), False, None),
        (GridSpec(site="block_input", window=3), False, None),
        (GridSpec("image_encoder", "block_input"), False, BELOW),
        (GridSpec("image_encoder", "self_attention", window=3), False, SameGrid("self_attention_out")),
        (GridSpec("answer_decoder", "self_attention"), False, None),
        (GridSpec("answer_decoder", "self_attention"), True, BELOW),
        (GridSpec("answer_decoder", "self_attention", window=2), True, BELOW),
        (GridSpec("answer_decoder", "self_attention", window=3), True, SameGrid("block_input")),
        (GridSpec("answer_decoder", "self_attention", head=0), True, SameGrid("self_attention_out")),
        (GridSpec("answer_decoder", "self_attention_out"), True, None),
        (GridSpec("answer_decoder", "mlp"), True, None),
        (GridSpec("answer_decoder", "block_input", window=2), True, BELOW),
        (GridSpec("answer_decoder", "block_input", window=3), True, None),
    ],
)
def test_which_grids_are_said_to_be_equal(spec, single, same):
    assert spec.same_as(6, single=single) == same


def test_a_single_layer_is_equal_to_nothing_below_it():
    assert GridSpec(site="block_input").same_as(1, single=False) is None


def test_what_attention_adds_is_another_picture(tracer):
    for block in ("question_encoder", "answer_decoder"):
        with_residual, added = (tracer.trace(block, site) for site in ("cross_attention", "cross_attention_out"))
        assert with_residual.same_as == OUTPUT
        assert added.same_as is None
        assert np.abs(with_residual.recovery - added.recovery).max() > 0.1


def test_it_is_said_in_words_and_after_saving(tracer, tmp_path):
    trace = tracer.trace("answer_decoder", "self_attention")
    assert trace.same_as == ("block_output", -1)
    assert str(trace.same_as) == "by construction the same as “layer output”, a layer lower"
    assert str(trace.same_as) in repr(trace)
    trace.save(tmp_path / "trace")
    assert load_trace(tmp_path / "trace").same_as == BELOW
    assert tracer.replace(answer="red blue").trace("answer_decoder", "self_attention").same_as is None
    assert tracer.replace(answer="red blue", metric="kl_divergence").trace("answer_decoder", "self_attention").same_as


def test_of_modules_that_are_not_blips_own_nothing_is_said():
    hf = plain_hf()
    own_forward(hf)  # in the decoder
    tracer = ask(wrap(hf), corruption=noisy())
    assert tracer.trace("answer_decoder", "cross_attention").same_as is None
    assert tracer.trace("question_encoder", "cross_attention").same_as == OUTPUT


def counted(work):
    """How often it asks whether to go on: once a layer of every chunk of runs."""
    asked = []
    found = work(lambda: asked.append(None))
    return len(asked), found


def test_what_equals_another_grid_is_not_computed_again(tracer, tmp_path):
    def ask(*sites):
        return counted(
            lambda cancel: list(whole_traces([tracer.case], [GridSpec("question_encoder", s) for s in sites], cancel))
        )

    once, ((output,),) = ask("block_output")
    again, ((same,), (crossed,), (below,)) = ask("block_output", "cross_attention", "block_input")
    assert once < again <= 2 * once  # of what enters a layer the first one's is new
    np.testing.assert_array_equal(same.samples, output.samples)
    np.testing.assert_array_equal(crossed.samples, output.samples)
    np.testing.assert_array_equal(below.samples[:, 1:], output.samples[:, :-1])
    assert crossed.settings["site"] == "cross_attention"
    np.testing.assert_allclose(crossed.samples, tracer.trace(site="cross_attention").samples, atol=ROUNDED)
    np.testing.assert_allclose(below.samples, tracer.trace(site="block_input").samples, atol=ROUNDED)
    tracer.record(tmp_path / "recording", blocks="question_encoder", sites=("block_output", "cross_attention"))
    one, other = recording.load(tmp_path / "recording")
    np.testing.assert_array_equal(one.samples, other.samples)


def test_a_widget_shows_it_without_computing_it_again(demo, example):
    widget = TraceWidget(example.image, example.question, model=demo)
    try:
        widget.trace_all()
        widget.wait()
        whole = widget.trace
        assert widget.grid["notes"] == []
        for site, there in (("cross_attention", 0), ("block_input", 1)):
            widget.site = site
            widget.wait()
            assert widget.trace.computed[there:].all()
            assert not widget.trace.computed[:there].any()
            np.testing.assert_array_equal(widget.trace.samples[:, there:], whole.samples[:, : 6 - there])
            assert widget.grid["notes"][0].casefold() == str(widget.trace.same_as)
        widget.trace_all()
        widget.wait()
        np.testing.assert_allclose(widget.trace.samples, widget.tracer.trace(site="block_input").samples, atol=ROUNDED)
        widget.site = "cross_attention_out"
        widget.wait()
        assert not widget.trace.computed.any()
    finally:
        widget.close()


def test_of_changed_modules_every_grid_is_computed_by_itself():
    hf = plain_hf()
    own_forward(hf)
    tracer = ask(wrap(hf), corruption=noisy())
    grids = [GridSpec("answer_decoder", "block_output"), GridSpec("answer_decoder", "block_input")]
    for (found,) in whole_traces([tracer.case], grids):
        np.testing.assert_allclose(
            found.samples, tracer.trace("answer_decoder", found.settings["site"]).samples, atol=1e-6
        )


# --- squares of image tokens ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(demo, example):
    return Tracer(demo, example.image, example.question, corruption=GaussianNoise(2.0, samples=3, **BEFORE))


@pytest.mark.parametrize("site", ["block_output", "block_input", "self_attention_out"])
def test_squares_are_sets_of_image_tokens(before, site, tmp_path):
    trace = before.trace("image_encoder", site, window=2, patch=3)
    assert trace.tokens == (
        "[CLS]",
        *(f"{row},{column}" for row in ("0-2", "3-5", "6-7") for column in ("0-2", "3-5", "6-7")),
    )
    assert trace.settings["patch"] == 3
    layers, columns = len(before.model.image_encoder.layers), 10
    assert trace.samples.shape == (3, layers, columns)
    for layer, column, tokens in (
        (0, 0, [(0, 0)]),
        (2, 6, [(row, at) for row in (3, 4, 5) for at in (6, 7)]),
        (3, 9, [(row, at) for row in (6, 7) for at in (6, 7)]),
    ):
        places = [0] if column == 0 else [1 + 8 * row + at for row, at in tokens]
        covered = [at for at in (layer - 1, layer) if at >= 0]
        states = [State("image_encoder", at, place, site) for at in covered for place in places]
        np.testing.assert_allclose(trace.samples[:, layer, column], before.patch(states).scores, atol=1e-6)
    assert trace[2, "3-5,6-7"].score == trace.scores[2, 6]
    table = trace.to_dataframe()
    assert set(table.patch) == {3}
    assert list(table.token[:2]) == ["[CLS]", "0-2,0-2"]
    trace.save(tmp_path / "trace")
    again = load_trace(tmp_path / "trace")
    assert again.settings["patch"] == 3
    assert again.tokens == trace.tokens
    assert trace.same_as == again.same_as


def test_single_tokens_are_squares_of_one(before):
    one, single = (before.trace("image_encoder", **asked) for asked in ({"patch": 1}, {}))
    assert one.settings == single.settings
    np.testing.assert_array_equal(one.samples, single.samples)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"block": "question_encoder", "patch": 2},
            "patch: only of the image encoder.s tokens are squares patched, got 2",
        ),
        ({"block": "image_encoder", "patch": 0}, "patch: expected from 1 to 8"),
        ({"block": "image_encoder", "patch": 9}, "patch: expected from 1 to 8"),
        ({"block": "image_encoder", "site": "self_attention", "head": "all", "patch": 2}, "patch: not with head='all'"),
    ],
)
def test_squares_that_there_are_not_are_refused(before, asked, message):
    with pytest.raises(ValueError, match=message):
        before.trace(**asked)
