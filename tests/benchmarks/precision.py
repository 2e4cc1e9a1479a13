"""How far the tracer, and plain hooks in float32, are from double precision: the README's table, as Markdown.

For: `python tests/benchmarks/precision.py` (some ten minutes on two idle cores). Random patched runs of the built-in
examples at several noise factors, scored by log-probability, each by the tracer, by plain hooks in float32 and by plain
hooks in float64 (`Tracer.verify`). ``--cells`` says how many per example.
"""

from __future__ import annotations

import argparse

import numpy as np

from blip_trace_widget import BlipVqa, GaussianNoise, Tracer, Verification, examples

FACTORS = (1.0, 2.0, 5.0, 10.0)


def verifications(factor: float, cells: int, questions: int | None = None) -> list[Verification]:
    """Random runs of some of the examples, or all, at one noise factor."""
    model, noise = BlipVqa.demo(), GaussianNoise(factor=factor)
    return [
        Tracer(model, each.image, each.question, corruption=noise, metric="log_probability").verify(
            cells=cells, seed=at
        )
        for at, each in enumerate(examples()[:questions])
    ]


def row(factor: float, found: list[Verification]) -> str:
    """A row of the table: median and largest distance from float64 of each, and the largest between the two."""
    ours = np.concatenate([np.abs(each.scores - each.exact) for each in found])
    hooks = np.concatenate([np.abs(each.hooked - each.exact) for each in found])
    apart = max(each.difference for each in found)
    cells = [f"{np.median(each):.0e}, {each.max():.0e}" for each in (ours, hooks)]
    agrees = sum(each.agrees for each in found)
    return f"| {factor:g} | {ours.size} | {' | '.join(cells)} | {apart:.0e} | {agrees} of {len(found)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--questions", type=int, default=None)
    options = parser.parse_args()
    print("| ν | runs | the tracer | plain hooks in float32 | between the two, largest | agrees |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for factor in FACTORS:
        print(row(factor, verifications(factor, options.cells, options.questions)), flush=True)


if __name__ == "__main__":
    main()
