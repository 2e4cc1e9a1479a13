"""Averages over samples against slow, plain versions; intervals and tests against what they promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget.dataset import averages
from blip_trace_widget.dataset.averages import MIDDLE, Aligned, align_tokens, permutation_test

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def words(length):
    return tuple(f"w{at}" for at in range(length))


@given(LENGTHS)
@settings(derandomize=True, deadline=None)
def test_ends_keep_their_place_and_the_middle_is_one_role(lengths):
    tokens = [words(length) for length in lengths]
    roles, numbers = align_tokens(tokens, "ends")
    start, end = min(3, (min(lengths) + 1) // 2), min(3, min(lengths) // 2)
    for length, places in zip(lengths, numbers, strict=True):
        assert len(places) == length
        for at, place in enumerate(places):
            if at < start:
                assert place == at
            elif at >= length - end:
                assert place == len(roles) - (length - at)
            else:
                assert roles[place] == MIDDLE
    assert len(set(roles)) == len(roles)
    assert {place for places in numbers for place in places} == set(range(len(roles)))


def test_roles_are_named_by_what_all_samples_have_there():
    roles, _ = align_tokens(
        [("[CLS]", "what", "is", "it", "?", "[SEP]"), ("[CLS]", "where", "is", "the", "cat", "?", "[SEP]")], "ends"
    )
    assert roles == ("[CLS]", "1", "is", "…", "−3", "?", "[SEP]")
    roles, _ = align_tokens([("the", "the"), ("the", "the")], "exact")
    assert roles == ("the (0)", "the (1)")


def test_exact_needs_one_length():
    with pytest.raises(ValueError, match=r"\{2: 1, 3: 1\}.*select\(tokens"):
        align_tokens([words(2), words(3)], "exact")


def test_roles_of_ones_own():
    roles, numbers = align_tokens(
        [("what", "cat"), ("cat", "cat", "dog")],
        lambda tokens: ["animal" if t in ("cat", "dog") else None for t in tokens],
    )
    assert roles == ("animal",)
    assert numbers == [[-1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("align", "error"),
    [
        ("middle", "align: expected one of"),
        (3, "align: expected one of"),
        (lambda tokens: ["a"], "a role .* for each"),
        (lambda tokens: "ab", "a role .* for each"),
        (lambda tokens: [1, 2], "a text or None"),
        (lambda tokens: [None, None], "no token of any sample"),
    ],
)
def test_other_alignments_are_refused(align, error):
    with pytest.raises((TypeError, ValueError), match=error):
        align_tokens([words(2)], align)


def random_data(generator, samples, layers=2, lengths=(5, 8), offset=0.3):
    tokens = [words(int(generator.integers(*lengths))) for _ in range(samples)]
    effects = [generator.normal(offset, 1, (layers, len(each))) for each in tokens]
    return tokens, effects, generator.uniform(0.5, 1, samples)


@given(st.integers(0, 2**16), st.integers(2, 9))
@settings(derandomize=True, deadline=None, max_examples=25)
def test_means_and_intervals_equal_a_slow_bootstrap(seed, samples):
    generator = np.random.default_rng(seed)
    tokens, effects, total = random_data(generator, samples, lengths=(2, 6))
    data = averages.aligned(tokens, effects, total, "ends")
    found = averages.mean(data, 0.9, 40, seed, {})

    again = np.random.default_rng(seed)
    drawn = [again.integers(0, samples, samples) for _ in range(40)]
    roles, numbers = align_tokens(tokens, "ends")
    for layer, role in itertools.product(range(2), range(len(roles))):

        def value(chosen, share, layer=layer, role=role):
            have = [s for s in chosen if role in numbers[s]]
            if not have:
                return np.nan
            each = [np.mean([effects[s][layer, p] for p, r in enumerate(numbers[s]) if r == role]) for s in have]
            return np.mean(each) / (np.mean([total[s] for s in have]) if share else 1)

        everyone = range(samples)
        assert found.samples[role] == sum(role in numbers[s] for s in everyone)
        for share, middle, low, high in (
            (False, found.indirect_effect, found.low, found.high),
            (True, found.recovery, found.recovery_low, found.recovery_high),
        ):
            assert middle[layer, role] == pytest.approx(value(everyone, share))
            if found.samples[role] == 1:
                assert np.isnan([low[layer, role], high[layer, role]]).all()
                continue
            ends = np.nanpercentile([value(chosen, share) for chosen in drawn], [5, 95])
            assert [low[layer, role], high[layer, role]] == pytest.approx(list(ends))
    assert found.total_effect == pytest.approx(total.mean())
    ends = np.percentile([total[chosen].mean() for chosen in drawn], [5, 95])
    assert [found.total_effect_low, found.total_effect_high] == pytest.approx(list(ends))


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        samples = generator.exponential(1.0, (80, 1, 20))
        mean = averages.mean(Aligned(words(20), samples, np.ones(80)), 0.9, 400, 1, {})
        inside.append((mean.low <= 1) & (mean.high >= 1))
    assert 0.85 < np.mean(inside) < 0.94  # 800 intervals of 90 %; percentile intervals of skewed data are a bit narrow


def test_a_cell_of_nothing_is_not_significant_and_a_strong_one_is():
    generator = np.random.default_rng(0)
    effects = generator.normal(0, 1, (60, 4, 25))
    effects[:, 2, 3] += 1.5
    mean = averages.mean(Aligned(words(25), effects, np.ones(60)), 0.95, 50, 0, {})
    assert mean.significant[2, 3]
    assert mean.significant.sum() <= 3
    rounding = averages.mean(Aligned(words(1), np.full((9, 1, 1), 1e-9), np.ones(9)), 0.95, 50, 0, {})
    assert not rounding.significant.any()


def slow_welch(first, second):
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if len(first) < 2 or len(second) < 2:
        return np.nan
    gap = abs(first.mean() - second.mean())
    return gap / np.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))


@given(st.integers(0, 2**16), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=25)
def test_the_permutation_test_equals_a_slow_one(seed, holes):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(0, 1, (6, 3)), generator.normal(0.5, 2, (8, 3))
    if holes:
        first[0, 0] = second[2, 0] = second[5, 2] = np.nan
    found = permutation_test(first, second, 60, seed)
    again, both = np.random.default_rng(seed), np.concatenate([first, second])
    labels = np.arange(14) < 6
    dealt = [again.permutation(labels) for _ in range(60)]
    for column in range(3):
        observed = slow_welch(first[:, column], second[:, column])
        reached = sum(slow_welch(both[label, column], both[~label, column]) >= observed * (1 - 1e-9) for label in dealt)
        assert found[column] == pytest.approx((1 + reached) / 61)


def test_groups_that_are_alike_are_rarely_told_apart():
    generator = np.random.default_rng(0)
    p = np.concatenate(
        [permutation_test(generator.normal(0, 1, (12, 50)), generator.normal(0, 4, (30, 50)), 199, 3) for _ in range(8)]
    )
    assert 0.02 < np.mean(p <= 0.05) < 0.08  # though their spreads differ
    assert np.isnan(permutation_test(np.zeros((1, 1)), np.ones((5, 1)), 9, 0)).all()


def test_a_difference_is_found_where_it_is():
    generator = np.random.default_rng(1)
    parts = [Aligned(words(6), generator.normal(0, 1, (50, 3, 6)), np.ones(50)) for _ in range(2)]
    parts[0].effects[:, 1, 4] += 2
    found = averages.compare(parts[0], parts[1], ("a", "b"), 0.05, 0.95, 500, 0, {"block": "b", "site": "s"})
    assert found.significant[1, 4]
    assert found.significant.sum() <= 2
    assert found.low[1, 4] < found.difference[1, 4] < found.high[1, 4]
    table = found.to_dataframe()
    assert list(table.columns) == ["block", "site", "layer", "role", "difference", "low", "high", "p", "significant"]
    assert table.loc[table["significant"], "layer"].iloc[0] == 1
