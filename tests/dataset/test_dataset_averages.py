"""Averages over samples against slow, plain versions; intervals and tests against what they promise."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget.dataset import averages
from blip_trace_widget.dataset.alignment import MIDDLE, Aligned, align_tokens, aligned
from blip_trace_widget.results.numerics import student_quantile

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


def slow_interval(sums, weights, draws):
    """A ratio of sums over pictures and half the width of its 90 % interval, one resample after the other."""
    ratio, total = sum(sums) / sum(weights), sum(weights)
    shares = np.array([weight / total for weight in weights])
    pictures = np.flatnonzero(weights)
    if len(pictures) < 2:
        return ratio, np.nan
    deviation = (np.eye(len(shares)) - np.outer(np.ones(len(shares)), shares))[pictures]
    spread = np.diag(deviation @ deviation.T)
    form = deviation.T @ np.diag(shares[pictures] ** 2 / spread) @ deviation
    means = np.array([value / weight if weight else 0.0 for value, weight in zip(sums, weights, strict=True)])
    error = math.sqrt(means @ form @ means)
    degrees = math.floor(np.trace(form) ** 2 / np.trace(form @ form) + 1e-6)
    t = []
    residuals = [value - ratio * weight for value, weight in zip(sums, weights, strict=True)]
    for draw in draws:
        below = sum(times * weight for times, weight in zip(draw, weights, strict=True))
        if not below:
            continue  # none of these pictures has the role
        again = sum(times * value for times, value in zip(draw, sums, strict=True)) / below
        squares = [(value - again * weight) ** 2 for value, weight in zip(sums, weights, strict=True)]
        count = len(draw)
        wide = math.sqrt(sum(times * square for times, square in zip(draw, squares, strict=True)) * count / (count - 1))
        apart = again - ratio
        alike = max(map(abs, residuals)) * 1e-6
        t.append(apart * below / wide if wide > alike else math.copysign(math.inf, apart) if abs(apart) > 1e-9 else 0.0)
    reach = max(sorted(tail)[math.ceil(0.95 * len(t)) - 1] for tail in (t, [-each for each in t]))
    return ratio, error * min(max(reach, student_quantile(degrees, 0.1)), student_quantile(1, 0.1))


@given(st.integers(0, 2**16), st.integers(2, 9))
@settings(derandomize=True, deadline=None, max_examples=25)
def test_means_and_intervals_equal_a_slow_bootstrap_of_pictures(seed, samples):
    generator = np.random.default_rng(seed)
    tokens, effects, total = random_data(generator, samples, lengths=(2, 6))
    pictures = np.unique(generator.integers(0, samples, samples), return_inverse=True)[1]
    data = aligned(tokens, effects, total, pictures, "ends")
    found = averages.mean(data, 0.9, 40, seed, {})

    count = int(pictures.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), 40).tolist()
    roles, numbers = align_tokens(tokens, "ends")
    for layer, role in itertools.product(range(2), range(len(roles))):
        sums, asked, lost = ([0.0] * count for _ in range(3))
        for s in range(samples):
            each = [effects[s][layer, p] for p, r in enumerate(numbers[s]) if r == role]
            if each:
                sums[pictures[s]] += np.mean(each)
                asked[pictures[s]] += 1
                lost[pictures[s]] += total[s]
        assert found.samples[role] == sum(asked)
        for weights, middle, low, high in (
            (asked, found.indirect_effect, found.low, found.high),
            (lost, found.recovery, found.recovery_low, found.recovery_high),
        ):
            ratio, half = slow_interval(sums, weights, draws)
            assert middle[layer, role] == pytest.approx(ratio)
            ends = [low[layer, role], high[layer, role]]
            assert ends == pytest.approx([ratio - half, ratio + half], rel=1e-6, abs=1e-9, nan_ok=True)


def of_pictures(effects, pictures=None):
    """Samples of one total effect, each of a picture of its own where nothing is said."""
    count = len(effects)
    return Aligned(words(effects.shape[2]), effects, np.ones(count), np.arange(count) if pictures is None else pictures)


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        samples = generator.exponential(1.0, (80, 1, 20))
        mean = averages.mean(of_pictures(samples), 0.9, 400, 1, {})
        inside.append((mean.low <= 1) & (mean.high >= 1))
    assert 0.87 < np.mean(inside) < 0.95  # 800 intervals of 90 %, of skewed data


def test_a_cell_of_nothing_is_not_significant_and_a_strong_one_is():
    generator = np.random.default_rng(0)
    effects = generator.normal(0, 1, (60, 4, 25))
    effects[:, 2, 3] += 1.5
    mean = averages.mean(of_pictures(effects), 0.95, 50, 0, {})
    assert mean.significant[2, 3]
    assert mean.significant.sum() <= 2
    rounding = averages.mean(of_pictures(np.full((9, 1, 1), 1e-9)), 0.95, 50, 0, {})
    assert not rounding.significant.any()


def test_questions_about_one_picture_are_one_cluster():
    """Ten questions a picture that share most of what they say: intervals and tests still hold what they promise."""
    generator = np.random.default_rng(0)
    pictures = np.repeat(np.arange(20), 10)
    inside, found = [], []
    for _ in range(40):
        samples = generator.normal(0, 1, (20, 1, 20))[pictures] + generator.normal(0, 0.3, (200, 1, 20))
        mean = averages.mean(of_pictures(samples, pictures), 0.9, 300, 1, {})
        inside.append((mean.low <= 0) & (mean.high >= 0))
        found.append(mean.significant.any())
        first = np.arange(200) < 100
        told = averages.compare(of_pictures(samples, pictures), (first, ~first), ("a", "b"), 0.05, 0.9, 9, 1, {})
        found.append((told.p < 0.05 / 20).any())
    assert 0.84 < np.mean(inside) < 0.94  # as independent samples: about half
    assert np.mean(found) < 0.15


def test_asking_everything_twice_makes_nothing_surer():
    effects = np.random.default_rng(0).normal(0, 1, (12, 2, 3))
    effects[0, :, 2] = np.nan
    once, twice = of_pictures(effects), of_pictures(np.repeat(effects, 2, axis=0), np.repeat(np.arange(12), 2))
    count = np.isfinite(effects).sum(axis=0)
    plain = np.nanstd(effects, axis=0, ddof=1) / np.sqrt(count)
    np.testing.assert_allclose(averages.standard_error(once)[0], plain)
    np.testing.assert_allclose(averages.standard_error(twice)[0], plain)
    one, two = (averages.mean(each, 0.95, 99, 0, {}) for each in (once, twice))
    np.testing.assert_allclose(one.low, two.low)
    assert (one.significant == two.significant).all()


@pytest.mark.parametrize(
    ("sizes", "told"),
    [([1] * 6, ""), ([1] * 5, "few pictures: 5"), ([20] + [1] * 9, "one has 20 of 29 questions"), ([3] * 20, "")],
)
def test_few_pictures_and_unequal_ones_are_said(sizes, told):
    """One picture with 20 of 29 questions: the usual error of clusters found an effect of nothing in .42 of cases."""
    generator, pictures = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    inside, found = [], []
    for _ in range(60):
        effects = generator.normal(0, 1, (len(sizes), 1, 8))[pictures]
        mean = averages.mean(of_pictures(effects, pictures), 0.95, 99, 0, {"block": "question_encoder", "site": "mlp"})
        inside.append((mean.low <= 0) & (mean.high >= 0))
        found.append(mean.significant.any())
    assert told in mean.warning
    assert bool(mean.warning) == bool(told)
    assert mean.warning in mean._repr_html_()
    assert np.mean(inside) > 0.92
    assert np.mean(found) < 0.12


def test_pictures_that_both_groups_ask_about_are_paired():
    """Pictures differ much, and what the groups differ by is small: told, where each picture is in both."""
    generator, pictures = np.random.default_rng(0), np.tile(np.arange(12), 2)
    first = np.arange(24) < 12
    effects = generator.normal(0, 1, (12, 1, 3))[pictures] + generator.normal(0, 0.05, (24, 1, 3))
    effects[first] += 0.2
    paired = averages.compare(of_pictures(effects, pictures), (first, ~first), ("a", "b"), 0.05, 0.95, 99, 0, {})
    apart = averages.compare(of_pictures(effects), (first, ~first), ("a", "b"), 0.05, 0.95, 99, 0, {})
    assert paired.significant.all()
    assert (paired.low > 0).all()
    assert not apart.significant.any()
    gaps = (effects[first] - effects[~first])[:, 0]
    t = np.abs(gaps.mean(0)) / (gaps.std(0, ddof=1) / math.sqrt(12))
    assert ((paired.p <= 0.05) == (t >= student_quantile(11))).all()


def welch(first, second):
    """By the book."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if len(first) < 2 or len(second) < 2:
        return np.nan
    parts = [each.var(ddof=1) / len(each) for each in (first, second)]
    degrees = math.floor(
        sum(parts) ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True))
    )
    t = abs(first.mean() - second.mean()) / math.sqrt(sum(parts))
    density = np.linspace(-t, t, 200_001)
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    heights = constant * (1 + density**2 / degrees) ** (-(degrees + 1) / 2)
    return 1 - float(((heights[1:] + heights[:-1]) / 2).sum() * (density[1] - density[0]))


def p_of(first, second, pictures):
    """What a comparison of two groups gives, (columns,); NaN where a sample is of the other group, or lacks a value."""
    of = np.isfinite(first).any(axis=1)
    effects = np.where(of[:, None], first, second)[:, None]
    return averages.compare(of_pictures(effects, pictures), (of, ~of), ("a", "b"), 0.05, 0.95, 9, 0, {}).p[0]


@given(st.integers(0, 2**16), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=25)
def test_welch_s_test_is_that_of_the_books(seed, holes):
    generator = np.random.default_rng(seed)
    first, second = np.full((14, 3), np.nan), np.full((14, 3), np.nan)
    first[:6], second[6:] = generator.normal(0, 1, (6, 3)), generator.normal(0.5, 2, (8, 3))
    if holes:
        first[0, 0] = second[7, 0] = second[9, 2] = np.nan
        first[:5, 1] = np.nan  # one sample left: no test
    found = p_of(first, second, generator.permutation(14))
    assert found == pytest.approx(
        [welch(first[:, column], second[:, column]) for column in range(3)], nan_ok=True, abs=1e-6
    )


def split(values, count):
    """The first so many samples as one group, the others as the other."""
    which = np.arange(len(values))[:, None] < count
    return np.where(which, values, np.nan), np.where(which, np.nan, values), np.arange(len(values))


def test_groups_that_are_alike_are_rarely_told_apart():
    generator = np.random.default_rng(0)
    spread = np.where(np.arange(42) < 12, 1, 4)[:, None]
    p = p_of(*split(generator.normal(0, 1, (42, 2000)) * spread, 12))
    assert 0.035 < np.mean(p <= 0.05) < 0.065  # though their spreads differ
    assert np.isnan(p_of(*split(np.ones((5, 1)), 1))).all()
    assert p_of(*split(np.repeat([[0.0], [1.0]], 4, axis=0), 4)) == 0  # no spread, another mean
    assert p_of(*split(np.ones((8, 1)), 4)) == 1


def test_a_difference_is_found_where_it_is():
    generator = np.random.default_rng(1)
    effects = generator.normal(0, 1, (100, 3, 6))
    first = np.arange(100) < 50
    effects[first, 1, 4] += 2
    effects[~first, :, 5] = np.nan
    told = {"block": "b", "site": "s"}
    found = averages.compare(of_pictures(effects), (first, ~first), ("a", "b"), 0.05, 0.95, 500, 0, told)
    assert found.significant[1, 4]
    assert found.significant.sum() <= 2
    assert found.low[1, 4] < found.difference[1, 4] < found.high[1, 4]
    assert found.samples.tolist() == [[50] * 6, [50] * 5 + [0]]
    assert np.isnan(found.difference[:, 5]).all()
    assert np.isnan(found.low[:, 5]).all()
    table = found.to_dataframe()
    columns = [
        "block",
        "site",
        *("head", "window", "direction", "metric"),
        "layer",
        "role",
        "samples_a",
        "samples_b",
        "difference",
        "low",
        "high",
        "p",
        "significant",
    ]
    assert list(table.columns) == columns
    assert table.loc[table["significant"], "layer"].iloc[0] == 1


def test_groups_of_very_different_size_are_compared():
    effects = np.random.default_rng(0).normal(0, 1, (14_000, 1, 1))
    first = np.arange(14_000) < 9_000
    found = averages.compare(of_pictures(effects), (first, ~first), ("a", "b"), 0.05, 0.95, 300, 0, {})
    error = math.sqrt(1 / 9_000 + 1 / 5_000)
    assert found.high[0, 0] - found.low[0, 0] == pytest.approx(2 * 1.96 * error, rel=0.25)


def test_averages_do_not_mind_seterr():
    """A role that nobody has, one that a single picture has, effects that are missing, tiny or all alike."""
    effects = np.full((6, 2, 4), 0.25)
    effects[:, :, 1], effects[1:, :, 2], effects[:, :, 3] = np.nan, np.nan, 1e-200
    data = Aligned(("a", "nobody", "one", "tiny"), effects, np.linspace(0, 1, 6), np.array([0, 0, 1, 2, 3, 4]))
    of = np.arange(6) < 3, np.arange(6) >= 3

    def everything():
        mean = averages.mean(data, 0.95, 50, 0, {"block": "question_encoder", "site": "mlp"})
        compared = averages.compare(data, of, ("x", "y"), 0.05, 0.95, 50, 0, mean.settings)
        assert "mean of" in repr(mean)
        assert "x − y" in compared._repr_html_()
        return [mean.to_dataframe(), compared.to_dataframe()]

    calm = everything()
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        again = everything()
    for one, other in zip(calm, again, strict=True):
        assert one.equals(other)


def test_averages_are_drawn_as_asked():
    mpl = pytest.importorskip("matplotlib")
    mpl.use("agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    generator = np.random.default_rng(0)
    effects = generator.normal([[0.5, 0.0, 0.0]], 0.1, (20, 2, 3))
    data = Aligned(("a", "b", "c"), effects, np.full(20, 0.5), np.arange(20))
    mean = averages.mean(data, 0.95, 50, 0, {"block": "question_encoder", "site": "mlp"})
    assert not mean.significant.all()
    for value in ("recovery", "indirect_effect"):
        axes = mean.plot(limit=2.0, value=value, cmap="viridis")
        np.testing.assert_array_equal(axes.images[0].get_array(), getattr(mean, value).T)
        assert axes.images[0].get_clim() == (-2.0, 2.0)
        assert axes.images[0].get_cmap().name == "viridis"
        dots = {tuple(dot) for dot in axes.collections[0].get_offsets().tolist()}
        assert dots == {tuple(cell) for cell in np.argwhere(~mean.significant).tolist()}
    assert not mean.plot(marks=False).collections
    with pytest.raises(ValueError, match="value: expected one of"):
        mean.plot(value="score")
    with pytest.raises(ValueError, match="limit: expected a number above 0"):
        mean.plot(limit=-1)
    plt.close("all")
