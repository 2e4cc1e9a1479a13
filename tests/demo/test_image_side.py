"""What the image-token map finds in the built-in model, measured on questions that training never drew.

`pytest tests/demo/test_image_side.py -s` prints the table: for each rule that picks ν, and each direction, the share of
the positive effect that falls on the named object's patches divided by their share of the picture ("x chance", ± the
standard error over questions), and what one of its patches and one of the others does on average, as a share of the
total effect. Then what noise costs that is only on the object, on a region of the same form elsewhere, and on all
patches but the object's. With few noise samples "x chance" exaggerates in `restore`, where effects are hardly larger
than their errors and vary most on the object; the averages do not.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, Tracer
from blip_trace_widget.demo.questions import KINDS
from blip_trace_widget.demo.scenes import coverage, draw
from blip_trace_widget.demo.training.evaluate import NOISE_FACTOR, PICTURE_SIZE, held_out

QUESTIONS, SEED, SAMPLES = 50, 1, 5
#: Far enough for each question to lose half of its score.
CURVE = np.linspace(0.5, 5, 10)
DIRECTIONS = ("disrupt", "restore")
REGIONS = ("object", "elsewhere", "rest")
#: How a question's ν follows from its noise curve: what takes half of the clean score; the paper's.
HALF, STRONG = "suggest_factor(0.5)", f"{NOISE_FACTOR:g}"
RULES = {
    HALF: lambda curve: curve.suggest_factor(0.5),
    STRONG: lambda _: NOISE_FACTOR,
}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Found:
    """One rule's figures; arrays have an entry for each question.

    Attributes:
        factor: ν.
        total: total effect.
        times_chance: of a direction.
        inside: mean effect of a patch of the object, of a direction.
        outside: of another patch.
        cost: total effect of noise on a region alone.
    """

    factor: np.ndarray
    total: np.ndarray
    times_chance: dict[str, np.ndarray]
    inside: dict[str, np.ndarray]
    outside: dict[str, np.ndarray]
    cost: dict[str, np.ndarray]

    def relative(self, effect):
        """An effect as a share of the total effect: mean over questions and its standard error (delta method)."""
        share = effect.sum() / self.total.sum()
        return share, mean(effect - share * self.total)[1] / self.total.mean()


def mean(values):
    """Mean over questions and its standard error."""
    return values.mean(), values.std(ddof=1) / np.sqrt(values.size)


def interval(estimate):
    """95 %."""
    middle, error = estimate
    return middle - 2 * error, middle + 2 * error


def question_figures(tracer, object_patches):
    """For each rule: ν, total effect, what the map says in both directions, cost of noise on regions alone."""
    # Half the picture away in both directions: no object is larger than that.
    regions = (object_patches, np.roll(object_patches, (4, 4), axis=(0, 1)), ~object_patches)
    assert not (object_patches & regions[1]).any()
    curve = tracer.noise_curve(CURVE)
    for rule in RULES.values():
        noisy = tracer.with_corruption(factor=rule(curve))
        said = []
        for direction in DIRECTIONS:
            effect = noisy.trace_image_tokens(direction=direction).indirect_effect
            positive = effect.clip(min=0)
            share = positive[object_patches].sum() / positive.sum()
            said.append((share / object_patches.mean(), effect[object_patches].mean(), effect[~object_patches].mean()))
        yield (
            noisy.corruption.factor,
            noisy.total_effect.value,
            said,
            [noisy.with_corruption(region=region).total_effect.value for region in regions],
        )


@pytest.fixture(scope="module")
def found(demo):
    figures = []
    for item in held_out(len(KINDS) * QUESTIONS, SEED):
        if item.kind != "color":
            continue
        named = next(thing for thing in item.scene.objects if thing.shape in item.question)
        picture = draw(item.scene, PICTURE_SIZE)
        tracer = Tracer(demo, picture, item.question, corruption=GaussianNoise(samples=SAMPLES))
        assert tracer.answer == item.answer == named.color
        figures.append(list(question_figures(tracer, coverage(named.box, *demo.grid) > 0)))
    assert len(figures) == QUESTIONS
    rules = {}
    for name, rows in zip(RULES, zip(*figures, strict=True), strict=True):
        factor, total, said, costs = (np.array(column) for column in zip(*rows, strict=True))
        by_direction = [dict(zip(DIRECTIONS, said[:, :, at].T, strict=True)) for at in range(3)]
        rules[name] = Found(factor, total, *by_direction, dict(zip(REGIONS, costs.T, strict=True)))
    print("\n" + as_table(rules))
    return rules


def as_table(rules):
    lines = [
        f"{QUESTIONS} held-out colour questions, {SAMPLES} noise samples",
        "| ν | median (range) | total effect | direction | x chance | a patch of the object | another patch |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, rule in rules.items():
        factors = f"{np.median(rule.factor):g} ({rule.factor.min():g} to {rule.factor.max():g})"
        for direction in DIRECTIONS:
            shares = [
                "{:.1%} ± {:.1%}".format(*rule.relative(effect[direction])) for effect in (rule.inside, rule.outside)
            ]
            ratio = "{:.2f} ± {:.2f}".format(*mean(rule.times_chance[direction]))
            lines.append(
                f"| {name} | {factors} | {rule.total.mean():.2f} | {direction} | {ratio} | {shares[0]} | {shares[1]} |"
            )
    lines += ["", "| ν | noise on the object | elsewhere | on the rest |", "| --- | ---: | ---: | ---: |"]
    for name, rule in rules.items():
        costs = ["{:.0%} ± {:.0%}".format(*rule.relative(rule.cost[region])) for region in REGIONS]
        lines.append(f"| {name} | {' | '.join(costs)} |")
    return "\n".join(lines)


def test_damaging_one_patch_at_a_time_finds_the_named_object_where_half_of_the_answer_is_left(found):
    half = found[HALF]
    low, _ = interval(mean(half.times_chance["disrupt"]))
    assert low >= 3
    low, _ = interval(half.relative(half.inside["disrupt"] - half.outside["disrupt"]))
    assert low >= 0.1


def test_noise_that_takes_the_whole_answer_takes_it_from_any_patch(found):
    _, high = interval(mean(found[STRONG].times_chance["disrupt"]))
    assert high < 1.5


def test_noise_on_the_object_alone_costs_most_of_what_noise_everywhere_does(found):
    assert found[STRONG].relative(found[STRONG].cost["object"])[0] >= 0.6
    # So does strong noise anywhere else: this alone says nothing about the object. Weaker noise tells them apart.
    assert found[STRONG].relative(found[STRONG].cost["elsewhere"])[0] >= 0.9
    half = found[HALF]
    assert half.relative(half.cost["object"])[0] >= 0.6
    low, _ = interval(half.relative(half.cost["object"] - half.cost["elsewhere"]))
    assert low >= 0.2


def test_restoring_one_patch_among_all_noisy_ones_finds_nothing(found):
    for rule in (found[HALF], found[STRONG]):
        low, high = interval(rule.relative(rule.inside["restore"] - rule.outside["restore"]))
        assert -0.02 < low < 0.005
        assert high < 0.02
        for patches in (rule.inside, rule.outside):
            low, high = interval(rule.relative(patches["restore"]))
            assert low > -0.03
            assert high < 0.03
    low, high = interval(mean(found[STRONG].times_chance["restore"]))
    assert low < 1.1
    assert high < 1.5
