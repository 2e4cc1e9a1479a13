"""What the errors, dots and the gate hold of what they promise: simulations on the built-in model, as Markdown tables.

For: `python tests/benchmarks/calibration.py` (some fifteen minutes on two idle cores), whose tables stand in
``README.md`` beside this file; `test_calibration.py` runs a short form of it with bounds.

A large bank of noise samples is the population, its means are the truth. Experiments of n samples are drawn from it
with replacement. Three worlds without effects: *signs*, in which every sample's differences are turned round or not,
at random (the null of the test); *skewed*, in which each cell's mean is subtracted from its differences, so that the
mean is 0 and the skew stays (not the null: what the test does not promise); and *normal*, independent cells.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.dataset.alignment import Aligned
from blip_trace_widget.dataset.averages import mean as mean_of
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.numerics import LEVEL, ROUNDING, false_discovery, p_values, quantiles, standard_error
from blip_trace_widget.results.significance import differs
from blip_trace_widget.results.statistics import TotalEffect

Array = NDArray[np.float64]
FACTORS = (1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Bank:
    """A question under much noise.

    Attributes:
        effects: indirect effect of each sample, (samples, cells).
        total: total effect of each sample, (samples,).
        last: which cells are of the last layer.
    """

    effects: Array
    total: Array
    last: NDArray[np.bool_]


def banks(factor: float, questions: int, samples: int) -> list[Bank]:
    """The question encoder's grids of some of the built-in examples."""
    from blip_trace_widget import BlipVqa, GaussianNoise, Tracer, examples

    model, noise, found = BlipVqa.demo(), GaussianNoise(factor=factor, samples=samples, seed=1), []
    for example in examples()[:questions]:
        trace = Tracer(model, example.image, example.question, corruption=noise).trace()
        last = np.zeros(trace.shape, np.bool_)
        last[-1] = True
        effects = (trace.samples - trace.corrupted[:, None, None]).reshape(samples, -1)
        found.append(Bank(effects, trace.clean - trace.corrupted, last.ravel()))
    return found


def drawn(bank: Bank, count: int, times: int, generator: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Experiments: which samples of the bank each has."""
    for _ in range(times):
        yield generator.integers(0, len(bank.total), count)


# --- rules ------------------------------------------------------------------------------------------------------------


def flips_alone(differences: Array) -> Array:
    """P values of sign flips, each cell by itself."""
    count = len(differences)
    generator = np.random.default_rng(0)
    ways = itertools.product([1.0, -1.0], repeat=count) if count <= 12 else generator.choice([-1.0, 1.0], (4095, count))
    signs = np.vstack([np.ones((1, count)), np.array(list(ways))]) if count > 12 else np.array(list(ways))
    found = np.where(np.abs(differences) <= ROUNDING, 0.0, differences)  # their sum stands for t
    return np.asarray((np.abs(signs @ found) >= np.abs(found.sum(0)) - 1e-9).mean(0))


def t_alone(differences: Array) -> Array:
    """P values of Student's t, each cell by itself."""
    degrees = np.full(differences.shape[1], len(differences) - 1.0)
    return p_values(np.abs(differences.mean(0)), standard_error(differences) ** 2, degrees)


RULES: dict[str, Callable[[Array], NDArray[np.bool_]]] = {
    "t, FDR (before)": lambda found: false_discovery(t_alone(found), LEVEL) & (np.abs(found.mean(0)) > ROUNDING),
    "flips, FDR": lambda found: false_discovery(flips_alone(found), LEVEL),
    "flips, maximum": differs,
}


# --- tables -----------------------------------------------------------------------------------------------------------


def false_cells(population: list[Bank], count: int, times: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """How often any cell is marked where nothing has an effect, by world and rule."""
    generator = np.random.default_rng(seed)
    marked: dict[str, dict[str, list[bool]]] = {world: {rule: [] for rule in RULES} for world in ("signs", "skewed")}
    for bank in population:
        centred = bank.effects - bank.effects.mean(0)
        for which in drawn(bank, count, times, generator):
            signs = generator.choice([-1.0, 1.0], (count, 1))
            worlds = {"signs": bank.effects[which] * signs, "skewed": centred[which]}
            for world, differences in worlds.items():
                for rule, found in RULES.items():
                    marked[world][rule].append(bool(found(differences).any()))
    return {world: {rule: float(np.mean(each)) for rule, each in rules.items()} for world, rules in marked.items()}


def power(population: list[Bank], count: int, times: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The share of the last layer's cells that is marked; and how often one is that alone has an effect."""
    generator = np.random.default_rng(seed)
    marked: dict[str, list[tuple[float, bool]]] = {rule: [] for rule in RULES}
    for bank in population:
        for which in drawn(bank, count, times, generator):
            real = bank.effects[which]
            alone = real * generator.choice([-1.0, 1.0], (count, 1))
            lone = generator.choice(np.flatnonzero(bank.last))
            alone[:, lone] = real[:, lone]
            for rule, found in RULES.items():
                marked[rule].append((float(found(real)[bank.last].mean()), bool(found(alone)[lone])))
    return {
        rule: (float(np.mean([a for a, _ in each])), float(np.mean([b for _, b in each])))
        for rule, each in marked.items()
    }


def coverage(population: list[Bank], count: int, times: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """How often intervals cover the truth in the last layer: ± 1.96 standard errors, Student's, and ours."""
    generator = np.random.default_rng(seed)
    inside: dict[str, list[Array]] = {"recovery": [], "effect": []}
    student = float(quantiles(np.array([count - 1.0]))[0])
    for bank in population:
        effects = bank.effects[:, bank.last]
        truth = {"recovery": effects.mean(0) / bank.total.mean(), "effect": effects.mean(0)}
        for which in drawn(bank, count, times, generator):
            values, total = effects[which], bank.total[which]
            if TotalEffect(0.0, -total).closed_because:
                continue
            ratio = values.mean(0) / total.mean()
            error = standard_error(values - ratio * total[:, None]) / abs(total.mean())
            errors = {
                "recovery": (ratio, error, margin(values, total)),
                "effect": (values.mean(0), standard_error(values), margin(values)),
            }
            for name, (middle, spread, half) in errors.items():
                reach = np.stack([1.96 * spread, student * spread, half]) + ROUNDING
                inside[name].append((np.abs(middle - truth[name]) <= reach).mean(1))
    return {name: tuple(np.mean(each, 0)) for name, each in inside.items()}  # type: ignore[misc]


def gate(population: list[Bank], count: int, times: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """How often the gate is open where there is no total effect: within 2 standard errors (before), and Student's."""
    generator = np.random.default_rng(seed)
    opened: dict[str, list[tuple[bool, bool]]] = {"signs": [], "skewed": [], "normal": []}
    for bank in population:
        for which in drawn(bank, count, times, generator):
            worlds = {
                "signs": bank.total[which] * generator.choice([-1.0, 1.0], count),
                "skewed": bank.total[which] - bank.total.mean(),
                "normal": generator.normal(0, 0.1, count),
            }
            for world, lost in worlds.items():
                total = TotalEffect(0.0, -lost)
                opened[world].append((abs(total.value) > 2 * total.stderr, not total.closed_because))
    return {world: tuple(np.mean(each, 0)) for world, each in opened.items()}  # type: ignore[misc]


# --- data sets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Questions:
    """Mean effects of many questions, (questions, cells), and their total effects, (questions,)."""

    effects: Array
    total: Array


def questions(count: int, samples: int = 5) -> Questions:
    """Of the built-in model: the first, the mean and the last position of every layer."""
    from blip_trace_widget import BlipVqa, GaussianNoise, Tracer, demo_samples

    model, effects, totals = BlipVqa.demo(), [], []
    for sample in demo_samples(count, seed=3):
        noise = GaussianNoise(samples=samples, seed=len(totals))
        trace = Tracer(model, sample.image, sample.question, corruption=noise).trace()
        if not trace.undefined_because:
            effect = trace.indirect_effect
            effects.append(np.stack([effect[:, 0], effect.mean(1), effect[:, -1]], 1).ravel())
            totals.append(trace.total_effect)
    return Questions(np.array(effects), np.array(totals))


#: How many questions each picture has.
SHAPES = {
    "20 pictures": [1] * 20,
    "40 pictures": [1] * 40,
    "100 pictures": [1] * 100,
    "10 pictures of 2": [2] * 10,
    "20 pictures of 4": [4] * 20,
    "1 to 8 each": [1, 2, 3, 4, 5, 6, 7, 8] * 2,
    "one has 20 of 29": [20] + [1] * 9,
}


def averages(population: Questions, sizes: list[int], times: int, seed: int = 0) -> dict[str, float]:
    """Of means over questions: how often intervals cover, and how often a cell without an effect has p < .05.

    Half of a picture's questions are alike.
    """
    generator = np.random.default_rng(seed)
    pictures = np.repeat(np.arange(len(sizes)), sizes)
    number, inside = len(population.total), {name: [] for name in ("effect", "recovery", "total effect", "false cell")}
    truth = population.effects.mean(0), population.effects.mean(0) / population.total.mean(), population.total.mean()
    cells = population.effects.shape[1]
    for _ in range(times):
        alike = generator.integers(0, number, len(sizes))[pictures]
        which = np.where(generator.random(len(pictures)) < 0.7, alike, generator.integers(0, number, len(pictures)))
        effects, total = population.effects[which], population.total[which]
        data = Aligned(tuple(map(str, range(cells))), effects[:, None], total, pictures)
        found = mean_of(data, 0.95, 999, 0, {})
        inside["effect"].append(np.mean((found.low[0] <= truth[0]) & (truth[0] <= found.high[0])))
        inside["recovery"].append(np.mean((found.recovery_low[0] <= truth[1]) & (truth[1] <= found.recovery_high[0])))
        inside["total effect"].append(found.total_effect_low <= truth[2] <= found.total_effect_high)
        signs = generator.choice([-1.0, 1.0], len(sizes))[pictures, None]
        nothing = Aligned(data.roles, (effects * signs)[:, None], total, pictures)
        inside["false cell"].append(bool(mean_of(nothing, 0.95, 99, 0, {}).significant.any()))
    return {name: float(np.mean(each)) for name, each in inside.items()}


# --- printing ---------------------------------------------------------------------------------------------------------


def share(value: float) -> str:
    """A share to two decimals, as the tables have it."""
    text = f"{value:.2f}"
    return "1" if text == "1.00" else text.removeprefix("0")


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    """Print a Markdown table, each row as it comes."""
    for cells in itertools.chain((head, ["---"] + ["---:"] * (len(head) - 1)), rows):
        print("| " + " | ".join(cells) + " |", flush=True)
    print()


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2000, help="of the bank")
    parser.add_argument("--times", type=int, default=100, help="experiments a question")
    asked = parser.parse_args()
    population = {factor: banks(factor, asked.questions, asked.samples) for factor in FACTORS}

    def each(counts: tuple[int, ...], row: Callable[[list[Bank], int], list[str]]) -> Iterator[list[str]]:
        for count, factor in itertools.product(counts, FACTORS):
            yield [f"{count}", f"{factor:g}", *row(population[factor], count)]

    def errors(of: list[Bank], count: int) -> list[str]:
        found = false_cells(of, count, asked.times)
        return [share(found[world][rule]) for world in found for rule in RULES]

    def strengths(of: list[Bank], count: int) -> list[str]:
        return [f"{share(many)} / {share(one)}" for many, one in power(of, count, asked.times // 2).values()]

    def covered(of: list[Bank], count: int) -> list[str]:
        found = coverage(of, count, asked.times)
        return [f"{share(one)} / {share(other)}" for one, other in zip(found["recovery"], found["effect"], strict=True)]

    def opened(count: int) -> list[str]:
        found = gate([bank for of in population.values() for bank in of], count, asked.times * 3)
        return [f"{count}", *(f"{share(before)} / {share(now)}" for before, now in found.values())]

    print("**Coverage of 95 % intervals, last layer: recovery / indirect effect**\n")
    table(["samples", "ν", "± 1.96 SE", "Student's t", "bootstrap-t"], each((2, 3, 5, 10, 20), covered))
    print("**The gate is open though nothing is lost: before / now**\n")
    table(["samples", "signs", "skewed", "normal"], (opened(count) for count in (2, 5, 10)))
    print("**Share of the last layer's cells marked / how often a cell is that alone has an effect**\n")
    table(["samples", "ν", *RULES], each((6, 8, 10, 12, 20), strengths))
    print("**Any false cell** (nominal .05)\n")
    head = [f"{world}: {rule}" for world in ("signs", "skewed") for rule in RULES]
    table(["samples", "ν", *head], each((2, 5, 6, 10, 20), errors))
    print("**Averages over questions: coverage of 95 % intervals, and any false cell**\n")
    every = questions(500)
    rows = ([name, *map(share, averages(every, sizes, asked.times * 3).values())] for name, sizes in SHAPES.items())
    table(["questions", "effect", "recovery", "total effect", "any false cell"], rows)


if __name__ == "__main__":
    main()
