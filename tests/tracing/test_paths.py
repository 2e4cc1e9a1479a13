"""Path patching: two runs by plain hooks give the same, over random models, senders, receivers and ways through."""

import itertools
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, State, load_trace
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.grid import cells_of
from blip_trace_widget.tracing.paths import Paths
from blip_trace_widget.tracing.traces import CellRuns
from helpers.changed_models import CHANGES, ask, noisy, plain_hf, slow, wrap
from helpers.problems import EXAMPLES, assert_close, every_corruption, hooked, problems
from helpers.random_models import random_model
from helpers.random_states import WORDS, a_state, blocks_of, place

BEFORE = {"at": "patch_embeddings"}
DIRECTIONS = st.sampled_from(["restore", "disrupt"])
METRICS = st.sampled_from(["probability", "kl_divergence"])
REAL_CHANGES = [name for name in CHANGES if name != "nothing"]
#: Any damage, of models that somebody has changed, too, which are computed by other code.
ANY = problems(vision_layers=2, corruptions=every_corruption, changes=REAL_CHANGES)
DAMAGED_BEHIND_THE_VIT = problems(
    corruptions=partial(every_corruption, places=("image_embeddings",)), changes=REAL_CHANGES
)


def scored(tracer, slow, clean):
    """The tracer's metric, for plain hooks."""
    return slow.probability if tracer.metric.name == "probability" else slow.divergence_from(clean)


def assert_same(tracer, ours, exact):
    """As near as float32 brings it: a small divergence is a difference of numbers that are not small."""
    if tracer.metric.name == "probability":
        assert_close(ours, exact)
    np.testing.assert_allclose(ours, exact, atol=1e-5, rtol=1e-3)


def held_between(tracer, senders, through):
    """What path patching holds, from its definition: a plain list."""
    words = [item for item in through if isinstance(item, str)]
    free = [item for item in (*through, *senders) if isinstance(item, State)]
    heads = {(s.block, s.layer, s.position, s.site.removesuffix("_out"), s.head) for s in free if s.head is not None}
    held = []
    for block in blocks_of(tracer):
        stack = tracer.model.blocks[block]
        everywhere = range(len(stack.layers)), range(len(tracer.tokens(block)))
        for layer, position in itertools.product(*everywhere):
            for site in (site for site in WORDS if site in BLOCKS[block].sites and site not in words):
                whole = State(block, layer, position, site)
                if place(whole) in {place(state) for state in free}:
                    continue
                names = [(block, layer, position, site.removesuffix("_out"), head) for head in range(stack.heads)]
                if not heads & set(names):
                    held.append(whole)
                    continue
                held += [State(block, layer, position, site, name[-1]) for name in names if name not in heads]
    return held


def some_receivers(tracer, draw, blocks=None):
    """Receivers, of which some lie above the first: what is sent to that goes on to them, unless they are held."""
    first, *others = (a_state(tracer, draw, blocks) for _ in range(draw(st.integers(1, 3))))
    return [first, *(above(tracer, draw, first) if draw(st.booleans()) else other for other in others)]


def above(tracer, draw, state):
    """A state at the same position, in the same layer or a later one."""
    found = a_state(tracer, draw, [state.block])
    last = len(tracer.model.blocks[state.block].layers) - 1
    return replace(found, layer=draw(st.integers(state.layer, last)), position=state.position)


def a_way(tracer, draw):
    """Senders, receivers, and what is let through."""
    blocks = blocks_of(tracer)
    later = blocks[draw(st.integers(0, len(blocks) - 1)) :]
    of_senders = draw(st.sampled_from([later[:1], later, blocks]))
    senders = [a_state(tracer, draw, of_senders) for _ in range(draw(st.integers(1, 3)))]
    receivers = some_receivers(tracer, draw, later)
    taken = {place(state) for state in senders}
    receivers = [state for state in receivers if place(state) not in taken]
    through = draw(st.lists(st.sampled_from(WORDS), max_size=2, unique=True))
    for _ in range(draw(st.integers(0, 2))):
        state = a_state(tracer, draw)
        if state.head is not None or state.site in WORDS:
            through.append(state)
    return senders, receivers if receivers and draw(st.integers(0, 4)) else "answer", through


@EXAMPLES
@given(ANY, METRICS, st.data())
def test_a_path_is_two_runs_by_hooks(tracer, metric, data):
    tracer = tracer.replace(metric=metric)
    senders, receivers, through = a_way(tracer, data.draw)
    direction = data.draw(DIRECTIONS)
    effect = tracer.patch_path(senders, receivers, direction, through)
    slow, clean, corrupted = hooked(tracer)
    into = [] if receivers == "answer" else receivers
    held = held_between(tracer, senders, through)
    exact = slow.path_scores(senders, into, held, clean, corrupted, direction, scored(tracer, slow, clean))
    assert_same(tracer, effect.scores, exact)
    assert set(effect.states) == set(senders)
    assert set(effect.through) == set(through)
    if effect.without_effect:
        assert effect.indirect_effect == 0
        assert "no path leads there" in repr(effect) or effect.undefined_because


@EXAMPLES
@given(ANY, METRICS, st.data())
def test_every_cell_of_a_grid_of_senders_is_a_path(tracer, metric, data):
    tracer = tracer.replace(metric=metric)
    _, receivers, through = a_way(tracer, data.draw)
    block, direction = data.draw(st.sampled_from(blocks_of(tracer))), data.draw(DIRECTIONS)
    site = data.draw(st.sampled_from(list(BLOCKS[block].sites)))
    stack = tracer.model.blocks[block]
    head = data.draw(st.none() | st.integers(0, stack.heads - 1)) if site in BLOCKS[block].heads else None
    trace = tracer.trace_paths(receivers, block, site, direction, through, head=head)
    slow, clean, corrupted = hooked(tracer)
    into = [] if receivers == "answer" else receivers
    any_cell = st.tuples(*(st.integers(0, count - 1) for count in trace.shape))
    for at in {data.draw(any_cell), data.draw(any_cell), *trace.without_effect[:1], *trace.constructed}:
        cell = State(block, *at, site, head)
        held = held_between(tracer, [cell], through)
        exact = slow.path_scores([cell], into, held, clean, corrupted, direction, scored(tracer, slow, clean))
        if place(cell) in {place(state) for state in into}:  # from itself to itself leads no path
            exact = tracer.corrupted.scores if direction == "restore" else tracer.clean.score
        assert_same(tracer, trace.samples[(slice(None), *at)], exact)
    for at in trace.without_effect:
        assert trace.indirect_effect[at] == 0
    assert trace.complete
    assert trace.same_as is None


@EXAMPLES
@given(DAMAGED_BEHIND_THE_VIT, st.data())
def test_squares_of_the_picture_reach_states(tracer, data):
    receivers = some_receivers(tracer, data.draw)
    through = data.draw(st.lists(st.sampled_from(WORDS), max_size=2, unique=True))
    direction, (rows, columns) = data.draw(DIRECTIONS), tracer.model.grid
    patch = data.draw(st.integers(1, rows))
    found = tracer.trace_image_paths(receivers, patch, direction, through)
    slow, clean, corrupted = hooked(tracer)
    held = held_between(tracer, [], through)
    row, column = (data.draw(st.integers(0, -(-count // patch) - 1)) for count in (rows, columns))
    square = torch.zeros(rows, columns, dtype=torch.bool)
    square[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = True
    inside = torch.cat([torch.tensor([False]), square.flatten()])[:, None]
    exact = []
    for damaged in corrupted:
        base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
        kept = slow.run(base, record=set(held))[1]
        values = slow.run(torch.where(inside, source, base), patches=kept, record=set(receivers))[1]
        exact.append(slow.probability(slow.run(base, patches={one: values[one] for one in receivers})[0]))
    assert_close(found.samples[:, row, column], exact)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("direction", ["restore", "disrupt"])
def test_changed_modules_do_what_they_do_in_the_model(change, direction):
    hf = plain_hf()
    model = wrap(hf)
    CHANGES[change](hf)
    tracer = ask(model, metric="probability", corruption=noisy(**BEFORE))
    hooks, clean, corrupted = slow(tracer)
    encoder, decoder, image = "question_encoder", "answer_decoder", "image_encoder"
    for senders, receivers, through in [
        ([State(encoder, 0, 2)], [State(encoder, 1, 1, "self_attention", 1)], []),
        ([State(encoder, 0, 1, "cross_attention", 0)], [State(decoder, 0, 0, "cross_attention_out")], ["mlp"]),
        ([State(image, 0, 1)], [State(encoder, 1, 3, "cross_attention", 1), State(encoder, 1, 3, "mlp")], []),
        ([State(decoder, 0, 1)], "answer", [State(decoder, 1, 1, "self_attention_out", 1)]),
        ([State(encoder, 0, 2, "mlp")], [State(encoder, 1, 2, "block_input"), State(decoder, 1, 0, "block_input")], []),
    ]:
        into = [] if receivers == "answer" else receivers
        held = held_between(tracer, senders, through)
        exact = hooks.path_scores(senders, into, held, clean, corrupted, direction)
        effect = tracer.patch_path(senders, receivers, direction, through)
        np.testing.assert_allclose(effect.scores, exact, rtol=1e-4)
        if len(senders) == 1:
            (one,) = senders
            grid = tracer.trace_paths(receivers, one.block, one.site, direction, through, head=one.head)
            np.testing.assert_allclose(grid.samples[:, one.layer, one.position], exact, rtol=1e-4)


# --- what is said of it --------------------------------------------------------------------------------------------


HEAD = State("question_encoder", 3, 0, "self_attention", 1)


def test_no_path_leads_past_what_looks_there(tracer):
    """Into the answer from the decoder alone; into the decoder through its cross-attention alone."""
    layers, count = tracer.model.layers, len(tracer.question_tokens)
    assert len(tracer.trace_paths("answer").without_effect) == layers * count
    assert tracer.trace_paths("answer", through="cross_attention_out").without_effect == []
    direct = tracer.trace_paths("answer", "answer_decoder")
    assert direct.without_effect == []
    assert direct.constructed == [(layers - 1, 0)]
    assert direct.recovery[-1, 0] == pytest.approx(1, abs=1e-5)
    assert tracer.trace_paths(State("answer_decoder", 2, 0, "cross_attention", 0)).without_effect == []
    mlp = tracer.trace_paths(State("answer_decoder", 2, 0, "mlp"))
    assert len(mlp.without_effect) == layers * count
    assert not mlp.indirect_effect.any()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("through", [(), ("mlp",), (State("image_encoder", 1, 7, "self_attention_out", 1),)])
def test_runs_of_single_heads_share_what_they_hold(patch, through):
    """Of 577 tokens and 12 layers each run for itself would hold 14,000 states: gigabytes for one grid."""
    model = random_model(seed=0, vision_layers=2, patches=6, heads=3, width=24)
    tracer = ask(model, corruption=GaussianNoise(samples=1, at="patch_embeddings"))
    cells = cells_of(tracer.case, GridSpec("image_encoder", "self_attention_out", 1, patch=patch))
    senders = [cell.states for cell in cells]
    held = Paths(tracer.case, "answer", through, with_states=True).edits(senders).held
    for states, parts in zip(senders, held, strict=True):
        every = [state for part in parts for state in part]
        assert len(every) == len(set(every))
        assert set(every) == set(held_between(tracer, states, through))
    parts = {id(part): part for of_run in held for part in of_run}
    whole = len(held_between(tracer, [], through))
    assert sum(map(len, parts.values())) < 8 * whole  # however many the runs are
    assert max(map(len, held)) < whole / 2


def test_above_the_receivers_is_no_path(tracer):
    trace = tracer.trace_paths(HEAD)
    assert {layer for layer, _ in trace.without_effect} == {3, 4, 5}
    assert trace.complete
    assert trace.constructed == []
    one = tracer.patch_path(State("question_encoder", 4, 0), HEAD)
    assert one.without_effect
    np.testing.assert_array_equal(one.scores, tracer.corrupted.scores)
    assert "no path leads there" in one._repr_html_()


def test_it_is_kept_in_settings_files_and_tables(tracer, tmp_path):
    trace = tracer.trace_paths([HEAD], through=["mlp", State("question_encoder", 1, "circle", "self_attention_out", 0)])
    free = dict(vars(State("question_encoder", 1, 5, "self_attention_out", 0)))
    assert trace.settings["receivers"] == [dict(vars(HEAD))]
    assert trace.settings["through"] == ["mlp", free]
    assert json.loads(json.dumps(trace.settings)) == trace.settings
    trace.save(tmp_path / "trace")
    again = load_trace(tmp_path / "trace")
    assert again.settings == trace.settings
    assert again.without_effect == trace.without_effect
    into = "question_encoder layer 3 position 0 self_attention head 1"
    assert set(again.to_dataframe()["receivers"]) == {into}
    assert "mlp; question_encoder layer 1" in again.to_dataframe()["through"][0]
    assert into in again._repr_html_()
    plain, other = tracer.trace(), tracer.trace_paths("answer")
    assert plain.to_dataframe()["receivers"].isna().all()
    assert (again - plain).names[1] == "not along a path, through nothing"
    assert (other - plain).names == ("into answer", "not along a path")
    assert set(other.to_dataframe()["receivers"]) == {"answer"}
    assert tracer.verify(cells=2, trace=trace).agrees
    effect = tracer.patch_path(State("question_encoder", 2, 3), HEAD, through="mlp")
    assert (effect.receivers, effect.through) == ((HEAD,), ("mlp",))
    assert f"into: {into[:20]}" in repr(effect)
    np.testing.assert_allclose(effect.scores, tracer.trace_paths(HEAD, through="mlp").samples[:, 2, 3], atol=1e-6)
    assert tracer.trace_image_paths(HEAD).settings["receivers"] == [dict(vars(HEAD))]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (("answers",), ValueError, r"receivers: expected one of \['answer'\], got 'answers'"),
        ((3,), TypeError, "receivers: expected State or an iterable of State, got int"),
        (([],), ValueError, "receivers: expected at least one State, got none"),
        ((State("image_encoder", 0, 3),), ValueError, "image_encoder' are the same in the clean and the corrupted run"),
        ((State("question_encoder", 9, 3),), ValueError, "layer: expected from 0 to 5, got 9"),
        ((State("question_encoder", 2, 3),), ValueError, "receivers: .* sender or a receiver.*layer 2 position 3"),
        ((State("question_encoder", 3, 3, "block_input"),), ValueError, "receivers: .* sender or a receiver"),
        ((HEAD, "restore", "block_output"), ValueError, "through: expected one of .*'mlp'.* got 'block_output'"),
        ((HEAD, "restore", ("mlp", "everywhere")), ValueError, "through: a word means all layers and positions"),
        ((HEAD, "restore", State("question_encoder", 2, 1)), ValueError, "through: expected states of .*block_output"),
        ((HEAD, "sideways"), ValueError, "direction: expected one of"),
    ],
)
def test_what_is_no_path_is_refused(tracer, asked, error, message):
    with pytest.raises(error, match=message):
        tracer.patch_path(State("question_encoder", 2, 3), *asked)


def test_senders_are_named_in_refusals(tracer):
    with pytest.raises(TypeError, match="senders: expected State or an iterable of State, got str"):
        tracer.patch_path("circle", HEAD)
    with pytest.raises(ValueError, match="senders: expected at least one State, got none"):
        tracer.patch_path([], HEAD)
    with pytest.raises(ValueError, match="receivers: expected states, got 'answer'"):
        tracer.trace_image_paths("answer")
    with pytest.raises(ValueError, match="block: the states of 'image_encoder' are the same"):
        tracer.trace_paths(HEAD, "image_encoder")


def test_a_long_list_of_paths_is_stopped_wherever_it_is():
    """Of thousands of single heads even the list takes seconds: what each holds, and what can come of it."""
    tracer = ask(random_model(vision_layers=2), corruption=GaussianNoise(samples=1, **BEFORE))
    receivers = (State("question_encoder", 1, 1, "mlp"),)
    spec = GridSpec("image_encoder", "self_attention", head=1, receivers=receivers)
    tracer.case.prepare(with_states=True)
    states = [cell.states for cell in cells_of(tracer.case, spec)]

    def stopped_at(step):
        steps = itertools.count()
        CellRuns(tracer.case, spec, states, lambda: next(steps) == step)
        return next(steps)

    asked = stopped_at(None)
    layers = sum(len(tracer.model.blocks[block].layers) for block in BLOCKS)
    assert asked == len(states) + layers
    for step in range(asked):
        with pytest.raises(Cancelled):
            stopped_at(step)
