"""The notebooks as a reader meets them: what is in sight, which names they use, the exercises' checks and solutions.

That they run, and give what is printed in them, is nbval's part.
"""

import ast
import json
import re

import numpy as np
import pytest

import blip_trace_widget
from blip_trace_widget import State
from helpers.paths import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = {path.stem: json.loads(path.read_text("utf-8"))["cells"] for path in sorted(FOLDER.glob("*.ipynb"))}


def sources(notebook, kind="code"):
    return ["".join(cell["source"]) for cell in NOTEBOOKS[notebook] if cell["cell_type"] == kind]


def is_folded(cell):
    return cell["metadata"].get("jupyter", {}).get("source_hidden", False)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_only_public_names_are_used(notebook):
    shown = [
        *sources(notebook),
        *re.findall(r"```python\n(.*?)```", "\n".join(sources(notebook, "markdown")), re.DOTALL),
    ]
    for node in (node for source in shown for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("blip_trace_widget"):
            assert node.module == "blip_trace_widget"
            assert {name.name for name in node.names} <= {*blip_trace_widget.__all__}
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_long_asserts_are_out_of_the_readers_sight(notebook):
    for cell in NOTEBOOKS[notebook]:
        if cell["cell_type"] == "code" and not is_folded(cell):
            asserts = [line for line in "".join(cell["source"]).splitlines() if line.lstrip().startswith("assert ")]
            assert len(asserts) <= 2
            assert all(len(line) <= 90 for line in asserts)


def test_the_quickstart_begins_where_the_answer_is_right():
    first = sources("quickstart")[0].rpartition("\n")[0]
    names = {}
    exec(first, names)
    widget = names["widget"]
    try:
        widget.wait(60)
        assert widget.noise <= 1
        assert widget.tracer.corrupted.answer == widget.tracer.clean.answer
    finally:
        widget.close()


@pytest.fixture(scope="module")
def exercises():
    """What is defined once all cells of the exercises have run, and the code of each task's solution."""
    names = {}
    for source in sources("exercises"):
        exec(source, names)
    folded = re.findall(
        r"<summary>Solution</summary>(.*?)</details>", "\n".join(sources("exercises", "markdown")), re.DOTALL
    )
    solutions = [re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1) for text in folded]
    for solution in solutions:
        exec(solution, names)
    return names


def test_every_task_has_a_hint_and_an_explained_solution():
    text = "\n".join(sources("exercises", "markdown"))
    tasks = re.split(r"^## \d\. ", text, flags=re.MULTILINE)[1:-1]
    assert len(tasks) == 6
    for task in tasks:
        assert "<summary>Hint</summary>" in task
        explained = re.search(r"<summary>Solution</summary>(.*?)```", task, re.DOTALL).group(1)
        assert len(explained.split()) > 30


def test_nothing_is_right_before_it_is_answered(exercises):
    assert all(exercises["verdict"](task, None) == "not yet" for task in range(1, 7))


@pytest.mark.parametrize("task", range(1, 7))
def test_the_solutions_are_right(exercises, task):
    assert exercises["verdict"](task, exercises[f"answer_{task}"]) == "right"


def wrong_answers(names):
    """Of each task: mistakes that a reader may make."""
    tracer, last = names["tracer_1"], names["last"]
    clean, corrupted = tracer.clean.score, tracer.corrupted.score
    yield (
        1,
        [
            (corrupted, clean, clean - corrupted),
            (clean, corrupted, corrupted - clean),
            (clean, corrupted, corrupted / clean),
            (clean, tracer.corrupted.scores[0], clean - tracer.corrupted.scores[0]),
            clean - corrupted,
        ],
    )
    read = names["effect_2"].recovery
    yield (
        2,
        [
            read,
            lambda clean, corrupted, patched: read,
            lambda clean, corrupted, patched: ((patched - corrupted) / (clean - corrupted)).mean(),
            lambda clean, corrupted, patched: (patched - corrupted).mean(),
            lambda clean, corrupted, patched: (patched - corrupted).mean() / clean,
            lambda clean, corrupted, patched: patched.mean() / clean,
            lambda clean, corrupted, patched: 1 - (patched - corrupted).mean() / (clean - corrupted).mean(),
            lambda clean: clean,
        ],
    )
    right = names["answer_3"]
    coarse = names["tracer_3"].noise_curve().suggest_factor(0.5)
    yield 3, [0.0, right - 0.1, right + 0.2, coarse, 5.0, -1.0]
    trace = names["tracer_4"].trace()
    word, low, high = names["answer_4"]
    at, noun = trace.tokens.index(word), trace.tokens.index("heart")
    recovery, error = trace.recovery[last, at], trace.recovery_stderr[last, at]
    deviation = error * np.sqrt(len(trace.samples))
    yield (
        4,
        [
            ("heart", trace.recovery[last, noun] - 2 * error, trace.recovery[last, noun] + 2 * error),
            (word, recovery - 2 * deviation, recovery + 2 * deviation),
            (word, recovery - error, recovery + error),
            (word, 100 * low, 100 * high),
            (word, recovery - 4 * error, recovery + 0.1 * error),
            word,
        ],
    )
    pair, more = names["answer_5"], names["more_than_sum"]
    lucky = max((other for other in names["pairs"] if other[0] != pair[0]), key=more)
    assert more(lucky) > 0.1
    yield (
        5,
        [
            lucky,
            (State("question_encoder", last, 0), State("question_encoder", last, 6)),
            (State("question_encoder", 0, 1), State("question_encoder", 1, 1)),
            (State("question_encoder", last, 1), State("question_encoder", last, 1)),
            (State("answer_decoder", 0, 0), State("answer_decoder", last, 0)),
            (pair[0],),
            pair[0],
        ],
    )
    row, column = names["answer_6"]
    restored = names["tracer_6"].trace_image_tokens(direction="restore").recovery
    sums = np.lib.stride_tricks.sliding_window_view(restored, (3, 3)).sum(axis=(2, 3))
    yield 6, [np.unravel_index(sums.argmax(), sums.shape), (row - 1, column - 1), (0, 0), (7, 7), 4]


def test_mistakes_are_told_and_not_let_pass(exercises):
    for task, answers in wrong_answers(exercises):
        for answer in answers:
            assert exercises["verdict"](task, answer) not in ("right", "not yet"), (task, answer)
    assert "compute it from the arguments alone" in exercises["verdict"](2, lambda *_: exercises["effect_2"].recovery)


def test_other_right_ways_are_right_too(exercises):
    trace, (word, _, _) = exercises["tracer_4"].trace(), exercises["answer_4"]
    last, at = exercises["last"], trace.tokens.index(word)
    indirect, lost = trace.samples[:, last, at] - trace.corrupted, trace.clean - trace.corrupted
    again = np.random.default_rng(0).integers(len(lost), size=(2000, len(lost)))
    ends = np.quantile(indirect[again].mean(axis=1) / lost[again].mean(axis=1), [0.025, 0.975])
    assert exercises["verdict"](4, (word, *ends)) == "right"
    assert exercises["verdict"](3, float(exercises["answer_3"])) == "right"


def test_the_ring_is_where_the_solution_says(exercises):
    ring = exercises["example"]["green-ring"].region(*exercises["model"].grid, shape="ring")
    assert (exercises["square"](*exercises["answer_6"]) == ring).all()
