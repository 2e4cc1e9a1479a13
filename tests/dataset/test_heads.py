"""Heads over a data set: averages against plain loops, universal heads against what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_trace_widget import BlipVqa, ImageSwap, Tracer, demo_samples, examples, trace_dataset
from blip_trace_widget.dataset import head_means as heads
from blip_trace_widget.tracing.region_attention import region_attention

SETTINGS = {"block": "question_encoder", "site": "cross_attention", "role": None}


def found(effects, of, groups=None, rate=0.05, pictures=None):
    pictures = np.arange(len(effects)) if pictures is None else np.asarray(pictures)
    data = heads.as_aligned(np.asarray(effects, np.float64), np.ones(len(effects)), pictures)
    return heads.universal(data, groups or list(dict.fromkeys(of)), of, rate, SETTINGS)


@given(st.integers(0, 10**6))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_the_mean_of_heads_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    samples, layers, count = rng.integers(2, 9), rng.integers(1, 4), rng.integers(1, 5)
    lengths = rng.integers(1, 6, samples)
    effects = [[rng.normal(size=(layers, length)) for length in lengths] for _ in range(count)]
    total, pictures = rng.uniform(0.2, 1, samples), np.unique(rng.integers(0, 4, samples), return_inverse=True)[1]
    data = heads.as_aligned(heads.summed(effects), total, pictures)
    mean = heads.mean(data, None, 0.95, 50, 0, SETTINGS)
    for layer in range(layers):
        for head in range(count):
            sums = [effects[head][sample][layer].sum() for sample in range(samples)]
            assert mean.indirect_effect[layer, head] == pytest.approx(sum(sums) / samples)
            assert mean.recovery[layer, head] == pytest.approx(sum(sums) / total.sum())
    table = mean.to_dataframe()
    assert table["head"].tolist() == list(range(count)) * layers
    assert "heads of cross-attention" in repr(mean)
    assert f"{count} heads" in repr(mean)


def test_a_head_is_universal_only_with_an_effect_of_one_sign_in_every_group():
    rng = np.random.default_rng(0)
    of = ["color"] * 12 + ["object"] * 12
    effects = 0.01 * rng.normal(size=(24, 2, 4))
    effects[:, 1, 2] += 0.5  # in both
    effects[:12, 0, 0] += 0.5  # in one
    effects[:12, 0, 1] += 0.5  # of opposite signs
    effects[12:, 0, 1] -= 0.5
    result = found(effects, of)
    assert result.heads == [(1, 2)]
    assert result.universal.sum() == 1
    assert result.samples.tolist() == [12, 12]
    table = result.to_dataframe()
    assert len(table) == 2 * 8
    assert table["universal"].sum() == 2
    assert found(effects, of, ["color"]).universal.sum() == 3  # of one group: all that differ from 0 there


@pytest.mark.parametrize("null", [1, 2, 3])
def test_the_error_rate_holds_whichever_groups_have_no_effect(null):
    rng = np.random.default_rng(null)
    of, wrong, runs = ["a"] * 10 + ["b"] * 10 + ["c"] * 10, 0, 200
    for _ in range(runs):
        effects = rng.normal(size=(30, 2, 6))
        for head in range(6):  # each head without effect in `null` groups, not the same ones
            strong = [group for group in range(3) if (group - head) % 3 >= null]
            for group in strong:
                effects[10 * group : 10 * group + 10, :, head] += 4
        wrong += found(effects, of).universal.any()
    assert wrong / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_questions_about_one_picture_are_no_evidence_of_their_own():
    rng = np.random.default_rng(1)
    effects = 0.5 + 0.01 * rng.normal(size=(24, 1, 1))
    of = ["a"] * 12 + ["b"] * 12
    assert found(effects, of).universal.all()
    again = found(effects, of, pictures=[0] * 12 + list(range(1, 13)))
    assert not again.universal.any()
    assert "few pictures: 'a' 1; with fewer than 7" in again.warning
    assert "few pictures" in repr(again)


def test_groups_are_drawn_on_one_scale_with_universal_heads_outlined():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    effects = 0.1 * rng.normal(size=(20, 3, 4))
    effects[:, 1, 2] += 0.5
    effects[10:] *= 3
    result = found(effects, ["a"] * 10 + ["b"] * 10)
    axes = result.plot()
    assert len(axes) == 2
    limits = {axes_.images[0].get_clim() for axes_ in axes}
    assert limits == {(-np.abs(result.recovery).max(), np.abs(result.recovery).max())}
    assert [len(axes_.patches) for axes_ in axes] == [1, 1]


def test_attention_to_a_region_equals_the_tracers():
    tracer = Tracer(BlipVqa.demo(), examples()[0].image, examples()[0].question)
    region = np.zeros(tracer.model.grid, dtype=bool)
    region[2:5, 1:4] = True
    shares = region_attention(tracer.case, region)
    chosen = np.concatenate([[False], region.ravel()])
    for layer, head in [(0, 0), (3, 1), (5, 2)]:
        weights = tracer.attention("question_encoder", layer, head).clean.mean(axis=0)
        expected = [weights[chosen].sum(), weights[1:][~region.ravel()].sum(), weights[1:][~region.ravel()].max()]
        np.testing.assert_allclose(shares[:, layer, head], expected, atol=1e-6)
    nothing = region_attention(tracer.case, np.ones_like(region))
    assert nothing[0].min() > 0
    assert not nothing[1:].any()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Image pairs of the built-in model, all heads of two sites traced."""
    return trace_dataset(
        demo_samples(8, pairs="image"),
        BlipVqa.demo(),
        tmp_path_factory.mktemp("heads") / "found",
        "question_encoder",
        ("cross_attention", "self_attention"),
        head="all",
        corruption=ImageSwap,
        progress=False,
    )


def test_heads_of_a_data_set_equal_the_tracers(pairs):
    of = pairs.traced["sample"].to_list()
    model, given_ = BlipVqa.demo(), list(demo_samples(8, pairs="image"))
    maps, shares, totals = [], [], []
    for number in of:
        sample = given_[number]
        swap = ImageSwap(sample.other_image)
        tracer = Tracer(model, sample.image, sample.question, sample.answer, corruption=swap)
        maps.append(tracer.trace_heads("question_encoder", "self_attention").indirect_effect)
        totals.append(tracer.total_effect.value)
        shares.append(region_attention(tracer.case, np.array(sample.region)))
    found_ = pairs.heads(site="self_attention")
    np.testing.assert_allclose(found_.indirect_effect, np.mean(maps, axis=0), atol=1e-5)
    np.testing.assert_allclose(found_.recovery, np.sum(maps, axis=0) / np.sum(totals), atol=1e-5)
    looks = pairs.heads(site="cross_attention").attention
    assert looks.samples == len(of)
    mean = np.mean(shares, axis=0)
    for name, expected in zip(("object", "background", "largest_background"), mean, strict=True):
        np.testing.assert_allclose(getattr(looks, name), expected, atol=1e-5)
    assert looks.area == pytest.approx(np.mean([np.mean(given_[number].region) for number in of]))
    assert looks.preference.shape == found_.recovery.shape
    table = pairs.heads().to_dataframe()
    assert {"head", "recovery_low", "attention_object"} <= set(table)


def test_heads_at_one_role_are_those_positions_alone(pairs):
    whole = pairs.heads(role="[CLS]", align="ends", site="self_attention")
    one = [pairs.aligned("ends", site="self_attention", head=head) for head in range(whole.recovery.shape[1])]
    for head, data in enumerate(one):
        at = data.roles.index("[CLS]")
        np.testing.assert_allclose(whole.indirect_effect[:, head], data.effects[:, :, at].mean(axis=0))
    assert "at “[CLS]”" in repr(whole)


def test_heads_of_a_group_and_universal_heads(pairs):
    groups = list(dict.fromkeys(pairs.traced["group"]))
    one = pairs.heads(group=groups[0])
    assert len(one.aligned.total) == (pairs.traced["group"] == groups[0]).sum()
    result = pairs.universal_heads(groups[:2])
    assert result.samples.tolist() == [(pairs.traced["group"] == group).sum() for group in groups[:2]]
    assert "few pictures" in result.warning
    assert not result.heads


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"groups": ["color"]}, "groups: expected two or more"),
        ({"groups": "color"}, "groups: expected two or more of .* got the text 'color'"),
        ({"groups": ["color", "nothing"]}, "groups: .*'nothing'"),
        ({"rate": 1.5}, "rate: expected a number between 0 and 1"),
        ({"role": "nobody", "align": "ends"}, "role: .*'nobody'"),
        ({"site": "mlp"}, "site: "),
    ],
)
def test_what_cannot_be_asked_of_heads_is_refused_by_name(pairs, asked, match):
    with pytest.raises((TypeError, ValueError), match=match):
        pairs.universal_heads(**asked)


def test_a_run_without_heads_says_what_to_do(tmp_path):
    plain = trace_dataset(demo_samples(1), BlipVqa.demo(), tmp_path / "plain", progress=False)
    with pytest.raises(ValueError, match=r"heads: no heads were traced; trace_dataset\(..., head='all'\)"):
        plain.heads()
