"""Many questions on common axes, held against one question after the other."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget.dataset import ragged, store
from blip_trace_widget.dataset.alignment import align_tokens, aligned

WORDS = ("what", "color", "is", "red", "the", "##s", "circle", "?")


def one_by_one(tokens, effects, align):
    """Mean effect of each sample's tokens of a role, by a loop over everything."""
    roles, numbers = align_tokens(tokens, align)
    found = np.full((len(effects), effects[0].shape[0], len(roles)), np.nan)
    for sample, (effect, places) in enumerate(zip(effects, numbers, strict=True)):
        for layer in range(len(effect)):
            for role in set(places) - {-1}:
                found[sample, layer, role] = np.mean(
                    [effect[layer, at] for at, is_ in enumerate(places) if is_ == role]
                )
    return roles, found


def some_left_out(tokens):
    return [None if token == "the" else f"of {len(token)}" for token in tokens]


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(tuple), min_size=1, max_size=12),
    st.integers(1, 3),
    st.sampled_from(["ends", "words", some_left_out]),
    st.integers(0, 2**16),
)
@settings(derandomize=True, deadline=None)
def test_all_samples_of_a_length_together_are_one_after_the_other(tokens, layers, align, seed):
    generator = np.random.default_rng(seed)
    effects = [generator.normal(size=(layers, len(sample))) for sample in tokens]
    if align is some_left_out and set(sum(tokens, ())) == {"the"}:
        tokens = [("what",) * len(sample) for sample in tokens]
    found = aligned(tokens, effects, np.ones(len(tokens)), np.arange(len(tokens)), align)
    roles, expected = one_by_one(tokens, effects, align)
    assert found.roles == roles
    np.testing.assert_allclose(found.effects, expected, rtol=1e-12, atol=1e-14)


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
@settings(derandomize=True, deadline=None)
def test_cells_in_any_order_are_each_sample_s_grid(tokens, layers, random):
    numbers = random.sample(range(100), len(tokens))
    rows = [
        {"sample": number, "layer": layer, "position": at, "token": token, "indirect_effect": random.random()}
        for number, sample in sorted(zip(numbers, tokens, strict=True))
        for layer in range(layers)
        for at, token in enumerate(sample)
    ]
    grids = {number: np.zeros((layers, len(sample))) for number, sample in zip(numbers, tokens, strict=True)}
    for row in rows:
        grids[row["sample"]][row["layer"], row["position"]] = row["indirect_effect"]
    if random.random() < 0.5:
        random.shuffle(rows)
    cells = store.as_table("cells", rows)
    wanted = random.sample(numbers, random.randint(1, len(numbers)))
    words, effects = ragged.by_sample(cells, np.array(sorted(numbers))).of(np.array(wanted))
    for number, word, effect in zip(wanted, words, effects, strict=True):
        assert word == tuple(tokens[numbers.index(number)])
        np.testing.assert_array_equal(effect, grids[number])
    assert ragged.by_sample(cells, np.array(sorted(numbers))).of(np.array([101])) is None


def test_cells_that_are_no_grid_are_refused():
    rows = [{"sample": 3, "layer": layer, "position": 0, "token": "a", "indirect_effect": 0.0} for layer in (0, 1)]
    assert isinstance(store.as_table("cells", rows), pa.Table)
    with pytest.raises(ValueError, match="sample 4: 0 cells"):
        ragged.by_sample(store.as_table("cells", rows), np.array([3, 4]))
    for wrong in (
        [*rows, rows[0]],  # one too many
        [rows[0], rows[0]],  # twice, and another lacking
        [*rows, *({**row, "position": 2} for row in rows)],  # a gap
        [*rows, *({**row, "sample": 4, "position": 1 + row["layer"], "layer": 0} for row in rows)],
    ):
        with pytest.raises(ValueError, match=r"sample [34]: \d cells are no grid of \d layers"):
            ragged.by_sample(store.as_table("cells", wrong), np.unique([row["sample"] for row in wrong]))
    for name, value in (("layer", None), ("layer", -1), ("position", -1), ("sample", 2**60)):
        with pytest.raises(ValueError, match=r"layer: a value is missing|expected the numbers of|no grid"):
            ragged.by_sample(store.as_table("cells", [rows[0] | {name: value}, rows[1]]), np.array([3]))


def test_a_function_is_asked_once_for_equal_tokens():
    asked = []

    def roles(tokens):
        asked.append(tokens)
        return ["a"] * len(tokens)

    align_tokens([("what",), ("who",), ("what",)], roles)
    assert asked == [("what",), ("who",)]
