"""Sets of states that are found: against slow searches by single patches, and on a model whose circuit is known."""

import json
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import BlipVqa, FoundStates, GaussianNoise, ImageSwap, State, Tracer, examples
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.states import BLOCKS, TEXT_BLOCKS
from helpers.problems import EXAMPLES, problems


def close_to(tracer):
    """How far recoveries of one run may lie apart: products of matrices are added up in another order in other chunks.

    A score, here a log probability, has some millionths of that, which are more of a small total effect.
    """
    return 2e-4 + 4e-6 / abs(tracer.total_effect.value)


@pytest.fixture(scope="module")
def found(tracer):
    return tracer.find_states()


def circuit(name):
    """A question to a model whose circuit is known, another picture swapped in, and the truth about it.

    The truth: layers' outputs that carry the answer, the decoder's last left out, which is the answer; and heads and
    MLPs, each as (block, layer, site, head).
    """
    model = BlipVqa.known_circuit(name, device="cpu")
    asked = examples(model)[4]
    tracer = Tracer(model, asked.image, asked.question, corruption=ImageSwap(asked.other_image))
    truth = model.truth.located(tracer.question_tokens)
    stream = [state for state in truth.states if state.site == "block_output" and state.block in TEXT_BLOCKS]
    last = "answer_decoder", model.layers - 1
    parts = [*truth.heads, *(state for state in truth.states if state.site == "mlp")]
    return tracer, {state for state in stream if (state.block, state.layer) != last}, {place(state) for state in parts}


def place(state):
    return state.block, state.layer, state.site.removesuffix("_out"), state.head


def choices(tracer, among, blocks):
    """All that can be chosen, each the states that it stands for, from below upward."""
    chosen = []
    for block in [name for name in BLOCKS if name in blocks]:
        stack, tokens = tracer.model.blocks[block], range(len(tracer.tokens(block)))
        for layer in range(len(stack.layers)):
            if among == "states":
                if block != "answer_decoder" or layer < len(stack.layers) - 1:
                    chosen += [(State(block, layer, at),) for at in tokens]
                continue
            for site in ("self_attention", "cross_attention")[: 1 if block == "image_encoder" else 2]:
                heads = range(stack.heads)
                chosen += [tuple(State(block, layer, at, site, head) for at in tokens) for head in heads]
            if among != "heads":
                chosen.append(tuple(State(block, layer, at, "mlp") for at in tokens))
    return chosen


def recovery(tracer, direction, some, every):
    """What a set recovers, by a patch of its own."""
    if direction == "isolate":
        rest = [state for states in every if states not in some for state in states]
        return 1 - tracer.patch(rest, "disrupt").recovery if rest else 1.0
    states = [state for states in some for state in states]
    return tracer.patch(states, direction).recovery if states else 0.0


@EXAMPLES
@given(problems(vision_layers=1), st.data())
def test_a_search_is_what_single_patches_say(tracer, data):
    """Whatever it claims on the way is patched again: each step is the best, nothing more can be dropped."""
    tracer = tracer.replace(metric="log_probability")
    among = data.draw(st.sampled_from(["states", "heads", "mlp and heads"]))
    direction = data.draw(st.sampled_from(["restore", "disrupt", "isolate"]))
    blocks = data.draw(st.lists(st.sampled_from(["question_encoder", "answer_decoder"]), min_size=1, unique=True))
    if data.draw(st.booleans()):
        tracer = tracer.with_corruption(at="patch_embeddings")
        blocks = data.draw(st.sampled_from([blocks, [*blocks, "image_encoder"]]))
    every = choices(tracer, among, blocks)
    target, most = data.draw(st.sampled_from([0.3, 0.9])), data.draw(st.integers(1, 3))
    ask = {"target": target, "among": among, "direction": direction, "blocks": blocks, "most": most}
    if tracer.total_effect.closed_because or not every:
        with pytest.raises(ValueError, match=r"target: there is nothing to recover|blocks: .* nothing to choose from"):
            tracer.find_states(**ask)
        return
    found = tracer.find_states(**ask)
    members = [member.states for member in found.members]
    assert [states for states in every if states in members] == members
    if direction != "isolate":
        check_growth(tracer, found, every)
    goal, close = min(target, found.searched.max()), close_to(tracer)
    assert recovery(tracer, direction, members, every) >= goal - close
    for member in members:
        less = [states for states in members if states != member]
        assert recovery(tracer, direction, less, every) < goal + close
    check_fresh_numbers(tracer, found, every)


def check_growth(tracer, found, every):
    """Each step adds the best of all candidates, and the last one is the first to reach the target."""
    target, direction, close = found.settings["target"], found.settings["direction"], close_to(tracer)
    grown, others = [], list(every)
    for step, member in enumerate(found.grown):
        each = {states: recovery(tracer, direction, [*grown, states], every) for states in others}
        assert max(each.values()) - each[member.states] < close
        np.testing.assert_allclose(found.searched[1 + step], each[member.states], atol=close)
        assert found.searched[step] < target or step == 0
        grown.append(member.states)
        others.remove(member.states)
    assert found.reached or len(grown) == min(found.settings["most"], len(every))
    assert found.reached == bool(found.searched[-1] >= target)


def check_fresh_numbers(tracer, found, every):
    """What is reported is of the next seed, and is what single patches of that give."""
    fresh = tracer.with_corruption(seed=tracer.corruption.seed + 1)
    direction, members = found.settings["direction"], [member.states for member in found.members]
    if fresh.total_effect.closed_because:
        assert np.isnan(found.recovery)
        assert found.undefined_because == fresh.total_effect.closed_because
        return
    whole, close = recovery(fresh, direction, members, every), close_to(fresh)
    np.testing.assert_allclose(found.recovery, whole, rtol=close, atol=close)
    opposite = "restore" if direction == "disrupt" else "disrupt"
    np.testing.assert_allclose(found.completeness, recovery(fresh, opposite, members, every), rtol=close, atol=close)
    for at, member in enumerate(members):
        less = recovery(fresh, direction, [states for states in members if states != member], every)
        np.testing.assert_allclose(found.minimality[at], whole - less, rtol=close, atol=close)
    if direction != "isolate":
        steps = [[member.states for member in found.grown[:size]] for size in found.sizes]
        exact = [recovery(fresh, direction, some, every) for some in steps]
        np.testing.assert_allclose(found.curve, exact, rtol=close, atol=close)


def test_the_margins_are_those_of_a_patch(tracer, found):
    fresh = tracer.with_corruption(seed=1)
    effect, other = fresh.patch(found.states), fresh.patch(found.states, "disrupt")
    assert found.margin == pytest.approx(effect.recovery_margin, rel=1e-3)
    assert found.completeness_margin == pytest.approx(other.recovery_margin, rel=1e-3)
    assert found.fresh
    assert found.settings["fresh_corruption"] == fresh.corruption.settings()
    assert found.settings["corruption"] == tracer.corruption.settings()
    for at, member in enumerate(found.members):
        less = fresh.patch([state for state in found.states if state not in member.states])
        paired = margin(effect.scores - less.scores, fresh.total_effect.samples)
        assert found.minimality_margin[at] == pytest.approx(float(paired), rel=1e-3)
    assert np.isfinite(found.curve_margin).all()
    again = tracer.find_states(fresh_seed=8).scores
    np.testing.assert_allclose(again, tracer.with_corruption(seed=8).patch(found.states).scores, atol=1e-6)


def test_single_members_of_the_set_are_fewer_than_the_curve_shows(tracer, found):
    assert found.sizes.tolist() == list(range(len(found.grown) + 1))
    assert len(found.members) <= len(found.grown)
    assert found.curve[0] == found.searched[0] == 0
    assert found.complete
    assert found.grids == pytest.approx(found.settings["runs"] / 48)
    assert found.settings["runs"] >= 48 * len(found.grown) - sum(range(len(found.grown)))


# --- a model whose circuit is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chain", "mlp"])
def test_one_link_of_a_chain_restores_all(name):
    tracer, states, parts = circuit(name)
    for direction in ("restore", "disrupt"):
        found = tracer.find_states(direction=direction, blocks=TEXT_BLOCKS)
        assert len(found.states) == 1
        assert set(found.states) <= states
        assert found.recovery == pytest.approx(1, abs=1e-6)
        assert found.completeness == pytest.approx(1, abs=1e-6)
    (member,) = tracer.find_states(among="heads").members
    assert {place(state) for state in member.states} <= parts


@pytest.mark.parametrize("name", ["chain", "both", "mlp"])
def test_with_all_else_corrupted_the_whole_circuit_is_found_and_nothing_else(name):
    tracer, states, parts = circuit(name)
    found = tracer.find_states(direction="isolate", blocks=TEXT_BLOCKS)
    assert set(found.states) == states
    np.testing.assert_allclose(found.minimality, 1, atol=1e-6)
    assert found.grids < 3
    assert found.grown == ()
    found = tracer.find_states(among="mlp and heads", direction="isolate")
    assert {place(state) for state in found.states} == parts
    assert found.recovery == pytest.approx(1, abs=1e-6)
    heads = tracer.find_states(among="heads", direction="isolate")
    assert {place(state) for state in heads.states} == {part for part in parts if part[2] != "mlp"}


def test_of_two_carriers_one_is_found_where_it_is_enough_and_both_where_they_are_needed():
    for name, enough in (("redundant", "restore"), ("both", "disrupt")):
        tracer, states, _ = circuit(name)
        encoder = {state for state in states if state.block == "question_encoder"}
        needed = "disrupt" if enough == "restore" else "restore"
        one, two = (tracer.find_states(direction=direction) for direction in (enough, needed))
        assert (len(one.states), one.completeness) == (1, pytest.approx(0, abs=1e-6))
        assert {state.position for state in two.states} == {state.position for state in encoder}
        assert {*one.states, *two.states} <= encoder
        assert two.searched[1] == pytest.approx(0, abs=1e-6)
    tracer, states, parts = circuit("redundant")
    encoder = {state for state in states if state.block == "question_encoder"}
    carried = tracer.find_states(direction="isolate").states
    assert set(carried) in [
        {state for state in encoder if state.position == at} for at in {s.position for s in encoder}
    ]
    some = {place(state) for state in tracer.find_states(among="mlp and heads", direction="isolate").states}
    assert some < parts
    assert len(some) == 3


def test_without_noise_nothing_fresh_exists_and_that_is_said():
    asked_of_chain, _, _ = circuit("chain")
    found = asked_of_chain.find_states()
    assert not found.fresh
    assert found.settings["fresh_corruption"] is None
    assert "recovery: 1 on the run that was searched" in repr(found)
    assert "fresh noise: none" in repr(found)
    assert np.isnan(found.margin)
    with pytest.raises(ValueError, match=r"fresh_seed: ImageSwap.* has no noise, expected None, got 3"):
        asked_of_chain.find_states(fresh_seed=3)


# --- what is tried, and where it ends --------------------------------------------------------------------------------


def test_only_the_best_single_candidates_are_tried_if_asked(tracer, found):
    few = tracer.find_states(tries=3, most=4, target=1.0)
    alone = tracer.trace().recovery
    strongest = np.sort(alone, axis=None)[-4]
    assert all(
        alone[state.layer, state.position] >= strongest - 1e-6 for member in few.grown for state in member.states
    )
    assert few.grown[0] == found.grown[0]
    assert not few.reached
    assert few.settings["runs"] < 48 + 3 * 3 + 4 * 5 + 12
    assert "target: 1, not reached in the search" in repr(few)


def test_a_stopped_search_keeps_what_it_has(tracer, found, small_chunks):
    def struck(done, _total):
        if done > 110:  # in the third step
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted: 2 states found so far: not measured on fresh noise"):
        parts = [tracer.find_states(progress=struck)]
    stop = threading.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts.append(tracer.find_states(progress=lambda done, _: stop.set() if done > 110 else None, cancel=stop))
        parts.append(tracer.find_states(direction="isolate", progress=lambda *_: stop.set(), cancel=stop.is_set))
    for part in parts:
        assert not part.complete
        assert np.isnan([part.recovery, part.completeness, part.margin, *part.minimality, *part.curve]).all()
        assert "stopped before" in part.undefined_because
        assert "stopped" in repr(part)
        assert len(part.to_dataframe()) == len(part.members)
    for part in parts[:2]:
        assert part.grown == found.grown[:2]
        assert part.members == tuple(sorted(part.grown, key=lambda member: member.states))
    assert len(parts[2].members) == 48


def test_progress_rises_to_its_end(tracer):
    for direction in ("restore", "isolate"):
        seen = []
        tracer.find_states(0.5, direction=direction, progress=lambda *told, seen=seen: seen.append(told))
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1]


def test_what_is_told(tracer, found):
    assert json.loads(json.dumps(found.settings)) == found.settings
    table = found.to_dataframe()
    assert table["member"].tolist() == [member.name for member in found.members]
    np.testing.assert_array_equal(table["minimality"], found.minimality)
    assert [State(row.block, row.layer, row.position, row.site) for row in table.itertuples()] == list(found.states)
    assert set(table["direction"]) == {"restore"}
    assert "sufficient under this damage, not the mechanism" in repr(found)
    assert all(name.startswith("question encoder layer ") for name in table["member"])
    heads = tracer.find_states(0.5, "mlp and heads").to_dataframe()
    assert heads["position"].isna().all()
    assert set(heads["site"]) <= {"mlp", "self_attention", "cross_attention"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"target": 0}, ValueError, "target: expected a share above 0 and up to 1, got 0"),
        ({"target": 1.1}, ValueError, "target: expected a share above 0 and up to 1, got 1.1"),
        ({"target": "all"}, TypeError, "target: expected a share above 0 and up to 1, got str"),
        ({"among": "neurons"}, ValueError, "among: expected one of .*'mlp and heads'.* got 'neurons'"),
        ({"direction": "up"}, ValueError, "direction: expected one of .*'isolate'.* got 'up'"),
        ({"blocks": "image_encoder"}, ValueError, "the same in the clean and the corrupted run"),
        ({"blocks": []}, ValueError, "blocks: expected at least one"),
        ({"blocks": 3}, TypeError, "blocks: expected names out of .* got int 3"),
        ({"most": 0}, ValueError, "most: expected 1 or more, got 0"),
        ({"tries": 0}, ValueError, "tries: expected 1 or more, got 0"),
        ({"tries": 2, "direction": "isolate"}, ValueError, "tries: only where a set grows, got 2"),
        ({"fresh_seed": 0}, ValueError, "fresh_seed: expected another seed than the one that is searched, got 0"),
        ({"fresh_seed": "x"}, TypeError, "fresh_seed: expected an integer, got str"),
    ],
)
def test_what_cannot_be_searched_is_refused(tracer, given, error, message):
    with pytest.raises(error, match=message):
        tracer.find_states(**given)


def test_without_an_effect_there_is_nothing_to_find(tracer):
    with pytest.raises(
        ValueError, match=r"target: there is nothing to recover: the total effect is smaller than 0.001"
    ):
        tracer.with_corruption(GaussianNoise(0.0)).find_states()


def test_the_curve_is_drawn_over_the_number_of_members(found):
    mpl = pytest.importorskip("matplotlib")
    mpl.use("agg")
    axes = found.plot()
    target, line = axes.lines
    assert axes.get_xlabel() == "members"
    np.testing.assert_array_equal(line.get_xdata(), found.sizes)
    np.testing.assert_allclose(line.get_ydata(), found.curve)
    assert set(target.get_ydata()) == {0.9}
    mpl.pyplot.close("all")


def test_what_is_saved_is_read_bit_for_bit(tracer, found, tmp_path):
    for at, each in enumerate((found, tracer.find_states(0.3, "heads", "disrupt", tries=2, most=2))):
        each.save(tmp_path / str(at))
        read = FoundStates.load(tmp_path / str(at))
        for name in ("members", "grown", "states", "clean", "fresh", "settings", "reached", "complete"):
            assert getattr(read, name) == getattr(each, name)
        for name in ("corrupted", "scores", "without", "opposite", "sizes", "path_scores", "searched", "curve"):
            np.testing.assert_array_equal(getattr(read, name), getattr(each, name))
        assert repr(read) == repr(each)
        pd.testing.assert_frame_equal(read.to_dataframe(), each.to_dataframe())
