"""Held states: patched runs in which they keep the base run's value, against plain hooks, and what is said of them."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import GaussianNoise, State, Tracer, load_trace
from blip_trace_widget.states import BLOCKS
from helpers.changed_models import CHANGES, HELD, ask, noisy, plain_hf, slow, wrap
from helpers.problems import EXAMPLES, assert_close, hooked, problems
from helpers.random_states import WORDS, a_state, blocks_of, place

BEFORE = {"at": "patch_embeddings"}
DIRECTIONS = st.sampled_from(["restore", "disrupt"])


def by_words(tracer, chosen, words, *, everywhere):
    """What words hold, from their definition, less what is patched."""
    taken, held = {place(state) for state in chosen}, []
    for block in {state.block for state in chosen}:
        own = [state for state in chosen if state.block == block]
        count = len(tracer.model.blocks[block].layers)
        for position, site in itertools.product(range(len(tracer.tokens(block))), words):
            below = [state.place[0] for state in own if everywhere or state.position == position]
            if below and site in BLOCKS[block].sites:
                held += [State(block, at, position, site) for at in range(min(below) + 1, count)]
    return [state for state in held if place(state) not in taken]


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_any_states_can_be_held_while_any_are_patched(tracer, data):
    if data.draw(st.booleans()):
        tracer = tracer.with_corruption(**BEFORE)
    chosen = [a_state(tracer, data.draw) for _ in range(data.draw(st.integers(1, 3)))]
    taken = {place(state) for state in chosen}
    held = [a_state(tracer, data.draw) for _ in range(data.draw(st.integers(1, 6)))]
    held = [state for state in held if place(state) not in taken]
    direction = data.draw(DIRECTIONS)
    effect = tracer.patch(chosen, direction, hold=held)
    slow, clean, corrupted = hooked(tracer)
    assert_close(effect.scores, slow.held_scores(chosen, held, clean, corrupted, direction))
    assert set(effect.held) == set(held)


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_a_word_means_that_site_above_what_is_patched(tracer, data):
    if data.draw(st.booleans()):
        tracer = tracer.with_corruption(**BEFORE)
    chosen = [a_state(tracer, data.draw) for _ in range(data.draw(st.integers(1, 3)))]
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
    if all(state.block == "image_encoder" for state in chosen):
        words = list({*words, "mlp"} - {"cross_attention_out"})
    everywhere, direction = data.draw(st.booleans()), data.draw(DIRECTIONS)
    held = by_words(tracer, chosen, words, everywhere=everywhere)
    effect = tracer.patch(chosen, direction, hold=[*words, *(["everywhere"] if everywhere else [])])
    slow, clean, corrupted = hooked(tracer)
    assert_close(effect.scores, slow.held_scores(chosen, held, clean, corrupted, direction))


@EXAMPLES
@given(problems(vision_layers=2), st.data())
def test_every_cell_of_a_grid_holds_above_itself(tracer, data):
    if data.draw(st.booleans()):
        tracer = tracer.with_corruption(**BEFORE)
    block, direction = data.draw(st.sampled_from(blocks_of(tracer))), data.draw(DIRECTIONS)
    site = data.draw(st.sampled_from(BLOCKS[block].accepted))
    stack = tracer.model.blocks[block]
    head = data.draw(st.none() | st.integers(0, stack.heads - 1)) if site in BLOCKS[block].heads else None
    window = data.draw(st.integers(1, len(stack.layers)))
    words = data.draw(
        st.lists(st.sampled_from([word for word in WORDS if word in BLOCKS[block].sites]), max_size=2, unique=True)
    )
    everywhere = bool(words) and data.draw(st.booleans())
    states = [a_state(tracer, data.draw) for _ in range(data.draw(st.integers(0 if words else 1, 2)))]
    hold = [*words, *(["everywhere"] if everywhere else []), *states]
    trace = tracer.trace(block, site, head, window, direction, hold=hold)
    slow, clean, corrupted = hooked(tracer)
    kept = {place(state) for state in states}
    any_cell = st.tuples(*(st.integers(0, count - 1) for count in trace.shape))
    for at, position in {data.draw(any_cell), *trace.without_effect[:1], *trace.constructed[-1:]}:
        first = at - window // 2
        covered = [one for one in range(first, first + window) if 0 <= one < len(stack.layers)]
        cell = [State(block, one, position, site, head) for one in covered]
        cell = [state for state in cell if place(state) not in kept]
        held = states + by_words(tracer, cell, words, everywhere=everywhere)
        assert_close(trace.samples[:, at, position], slow.held_scores(cell, held, clean, corrupted, direction))
    for cell in trace.without_effect:
        assert trace.indirect_effect[cell] == 0
    for cell in trace.constructed:
        np.testing.assert_allclose(trace.indirect_effect[cell], trace.total_effect, atol=2e-5)
    assert trace.same_as is None
    assert trace.complete


@EXAMPLES
@given(problems(), st.data())
def test_a_map_of_heads_holds_too(tracer, data):
    block, direction = data.draw(st.sampled_from(["question_encoder", "answer_decoder"])), data.draw(DIRECTIONS)
    site = data.draw(st.sampled_from(["self_attention", "cross_attention"]))
    position = data.draw(st.integers(0, len(tracer.tokens(block)) - 1))
    everywhere = data.draw(st.booleans())
    found = tracer.trace_heads(
        block, site, direction=direction, position=position, hold=["mlp", "everywhere"][: 1 + everywhere]
    )
    slow, clean, corrupted = hooked(tracer)
    for _ in range(3):
        at, head = (data.draw(st.integers(0, count - 1)) for count in found.shape)
        cell = [State(block, at, position, site, head)]
        held = by_words(tracer, cell, ["mlp"], everywhere=everywhere)
        exact = slow.held_scores(cell, held, clean, corrupted, direction)
        assert_close(found.samples[:, at, head, 0], exact)
    assert found.settings["hold"] == ["mlp", "everywhere"][: 1 + everywhere]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("direction", ["restore", "disrupt"])
def test_changed_modules_do_what_they_do_in_the_model(change, direction):
    hf = plain_hf()
    model = wrap(hf)
    CHANGES[change](hf)
    tracer = ask(model, metric="probability", corruption=noisy(**BEFORE))
    hooks, clean, corrupted = slow(tracer)
    for chosen, hold in HELD:
        words = [item for item in hold if isinstance(item, str) and item != "everywhere"]
        held = [item for item in hold if isinstance(item, State)]
        held += by_words(tracer, chosen, words, everywhere="everywhere" in hold)
        found = tracer.patch(chosen, direction, hold=hold).scores
        exact = hooks.held_scores(chosen, held, clean, corrupted, direction)
        np.testing.assert_allclose(found, exact, rtol=1e-4)


# --- what is said of it --------------------------------------------------------------------------------------------


def test_nothing_above_a_held_output_has_an_effect(tracer):
    """What is held decides all that follows at its position; the rest goes on."""
    last = tracer.model.layers - 1
    count = len(tracer.question_tokens)
    whole = [State("question_encoder", last, position) for position in range(count)]
    trace = tracer.trace(hold=whole)
    assert trace.without_effect == list(itertools.product(range(last + 1), range(count)))
    assert not trace.indirect_effect.any()
    assert trace.complete
    assert trace.significant.sum() == 0
    some = tracer.trace(hold=whole[:3])
    assert some.without_effect == [(last, 0), (last, 1), (last, 2)]
    np.testing.assert_allclose(some.scores[last, 3:], tracer.trace().scores[last, 3:], atol=1e-6)


def test_what_is_one_by_construction_stays_so_unless_it_is_held(tracer):
    last = tracer.model.layers - 1
    assert tracer.trace("answer_decoder", hold="mlp").constructed == [(last, 0)]
    held = tracer.trace("answer_decoder", hold=State("answer_decoder", last, 0))
    assert held.constructed == []
    assert len(held.without_effect) == last + 1


def test_it_is_kept_in_settings_files_and_tables(tracer, tmp_path):
    state = State("question_encoder", 4, "circle", "mlp")
    trace = tracer.trace("question_encoder", "self_attention_out", hold=["MLP", state, "everywhere"])
    numbered = State("question_encoder", 4, tracer.question_tokens.index("circle"), "mlp")
    assert trace.settings["hold"] == ["mlp", "everywhere", dict(vars(numbered))]
    assert json.loads(json.dumps(trace.settings)) == trace.settings
    trace.save(tmp_path / "trace")
    again = load_trace(tmp_path / "trace")
    assert again.settings == trace.settings
    assert again.without_effect == trace.without_effect
    words = "mlp everywhere above; question_encoder layer 4 position 5 mlp"
    assert set(again.to_dataframe()["hold"]) == {words}
    assert "mlp everywhere above" in repr(again)
    plain = tracer.trace("question_encoder", "self_attention_out")
    assert "hold" not in plain.settings
    assert plain.to_dataframe()["hold"].isna().all()
    assert (trace - plain).names == (f"held {words}", "nothing held")
    assert "mlp there above" in repr(tracer.patch(State("question_encoder", 2, 3), hold="mlp"))
    trace.export(tmp_path / "trace.svg")
    note = "Held noisy: the later MLPs and layer 4 (MLP) at “circle”"
    assert note in (tmp_path / "trace.svg").read_text("utf-8")


def test_a_held_grid_is_verified_by_hooks(tracer):
    trace = tracer.trace(hold=("mlp", State("question_encoder", 3, 2, "self_attention_out")))
    assert tracer.verify(cells=4, trace=trace).agrees


@pytest.mark.parametrize(
    ("hold", "error", "message"),
    [
        ("attention", ValueError, "hold: expected one of .*'mlp'.*'everywhere'.*, got 'attention'"),
        ("block_output", ValueError, "hold: expected one of .* got 'block_output'"),
        ("everywhere", ValueError, "hold: 'everywhere' says where a site is held: expected one of .*'mlp'"),
        (["mlp", 3], TypeError, "hold: expected one of .* got int"),
        (3, TypeError, "hold: expected State, one of .* got int"),
        (
            State("question_encoder", 2, 3),
            ValueError,
            "hold: .*either patched or held.*layer 2 position 3 block_output",
        ),
        (
            State("question_encoder", 3, 3, "block_input"),
            ValueError,
            "hold: .*either patched or held.*layer 2 position 3",
        ),
        (State("question_encoder", 60, 3), ValueError, "layer: expected from 0 to 5, got 60"),
        (State("image_encoder", 0, 3), ValueError, "image_encoder' are the same in the clean and the corrupted run"),
    ],
)
def test_what_cannot_be_held_is_refused(tracer, hold, error, message):
    with pytest.raises(error, match=message):
        tracer.patch(State("question_encoder", 2, 3), hold=hold)


def test_a_site_that_no_patched_block_has_is_refused(demo, example):
    before = Tracer(demo, example.image, example.question, corruption=GaussianNoise(2.0, samples=2, **BEFORE))
    with pytest.raises(
        ValueError, match=r"hold: .*image_encoder.* has no 'cross_attention_out', its sites are .*'mlp'"
    ):
        before.patch(State("image_encoder", 0, 3), hold="cross_attention_out")
    both = [State("image_encoder", 0, 3), State("question_encoder", 1, 3)]
    assert before.patch(both, hold="cross_attention_out").held == ("cross_attention_out",)
