"""Patched runs of a question: runs in which chosen states, or image tokens, take their values from the other run.

For: the one intervention behind grids, maps, single patches and noise curves.
Cost: see `blip_trace_widget.model.block`; `blip_trace_widget.tracing.runs` bounds the memory.
Ends: at an `Effect`, or at scores chunk by chunk for callers that fill a grid themselves.

Source: activation patching, Meng et al. 2022 (arXiv 2202.05262), after Vig et al. 2020 (arXiv 2004.12265); both
directions, Zhang & Nanda 2023 (arXiv 2309.16042).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named
from blip_trace_widget.model.computing import Computing, ModelChangedError
from blip_trace_widget.model.progress import Check, as_check
from blip_trace_widget.model.transfer import goes_on
from blip_trace_widget.results.intervals import margin
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.significance import differs, rounding
from blip_trace_widget.results.statistics import effects, unknown_error
from blip_trace_widget.states import DIRECTIONS, State, as_states, listed_states
from blip_trace_widget.tracing.holding import Holding, HoldLike, as_hold
from blip_trace_widget.tracing.positions import Positions, image_tokens
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import BaseRun, Chunks, Edits, distribution_sum

#: The runs that are complete, their scores (samples, runs), and the share of all the work that is done, from 0 to 1.
#: Of several questions (questions, samples, runs): the same runs, scored by the metric of each.
Scores: TypeAlias = Iterator[tuple[slice, NDArray[np.float64], float]]


def patch(
    question: Question,
    states: State | Iterable[State],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
    hold: HoldLike = None,
) -> Effect:
    """See `Tracer.patch`."""
    given = listed_states(states)
    direction = named("direction", direction, DIRECTIONS)
    for state in given:
        question.check_block(state.block)
    held = as_hold(hold)
    check = as_check(cancel)
    question.prepare(check, with_states=needs_states([given]))
    chosen = as_states(question.located(given))
    holding = Holding(question, held, {state.block for state in chosen})
    holding.check_apart(chosen)
    chunks = patched(question, Edits([chosen], [holding.of(chosen)]), direction, check)
    return as_effect(question, chunks, direction, check, states=chosen, held=holding.told)


def patch_image_tokens(
    question: Question, tokens: Positions, direction: str = "restore", cancel: Callable[[], bool] | Any = None
) -> Effect:
    """See `Tracer.patch_image_tokens`."""
    chosen = sorted(set(image_tokens("tokens", tokens, question.model)))
    direction = named("direction", direction, DIRECTIONS)
    question.check_damages_image()
    check = as_check(cancel)
    chunks = swapped(question, [chosen], direction, check)
    return as_effect(question, chunks, direction, check, image_tokens=tuple(chosen))


def patched_scores(
    question: Question,
    runs: Sequence[Sequence[State]],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
) -> Scores:
    """Scores of many patched runs, chunk by chunk; nothing is held.

    Args:
        question: the question.
        runs: the states that each run patches.
        direction: ``"restore"`` or ``"disrupt"``.
        cancel: a callable, or an object with ``is_set``, that says whether to give up.

    Yields:
        a slice of the runs, empty after a step that completes none; their scores (samples, runs); and the share of all
        the work that is done, from 0 to 1.

    Raises:
        TypeError, ValueError: at once, naming the argument, what was given and what is accepted.
        Cancelled: within a layer of `cancel` saying so.
        ModelChangedError: if somebody changed the model since the first chunk.
    """
    return _of_one(_several_patched([question], runs, direction, cancel))


def all_patched_scores(
    question: Question,
    runs: Sequence[Sequence[State]],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
) -> NDArray[np.float64]:
    """Scores of many patched runs at once, (samples, runs); arguments and errors as in `patched_scores`."""
    found: NDArray[np.float64] = scored_together([question], runs, direction, cancel)[0]
    return found


def scored_together(
    questions: Sequence[Question],
    runs: Sequence[Sequence[State]],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
) -> NDArray[np.float64]:
    """The same patched runs scored by several metrics, (questions, samples, runs).

    Args:
        questions: one question with several metrics, see `Question.replace`.
        runs: see `patched_scores`, as all that follows and the errors.
        direction: ``"restore"`` or ``"disrupt"``.
        cancel: a callable, or an object with ``is_set``.
    """
    return _joined(questions, _several_patched(questions, runs, direction, cancel))


def image_tokens_scored_together(
    questions: Sequence[Question],
    groups: Sequence[Sequence[int]],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
) -> NDArray[np.float64]:
    """The same runs on swapped image tokens, scored by several metrics, (questions, samples, groups).

    Args:
        questions: see `scored_together`.
        groups: see `image_token_scores`, as all that follows and the errors.
        direction: ``"restore"`` or ``"disrupt"``.
        cancel: a callable, or an object with ``is_set``.
    """
    return _joined(questions, _several_swapped(questions, groups, direction, cancel))


def image_token_scores(
    question: Question,
    groups: Sequence[Sequence[int]],
    direction: str = "restore",
    cancel: Callable[[], bool] | Any = None,
) -> Scores:
    """Scores of many runs that each see some image tokens of the other run; yields as `patched_scores` does.

    Args:
        question: the question.
        groups: the image tokens that each run takes, 0 the class token.
        direction: ``"restore"`` or ``"disrupt"``.
        cancel: a callable, or an object with ``is_set``, that says whether to give up.

    Raises:
        TypeError, ValueError: at once, naming the argument, what was given and what is accepted.
        Cancelled: within a layer of `cancel` saying so.
        ModelChangedError: if somebody changed the model since the first chunk.
    """
    return _of_one(_several_swapped([question], groups, direction, cancel))


def _several_patched(
    questions: Sequence[Question], runs: Sequence[Sequence[State]], direction: str, cancel: Callable[[], bool] | Any
) -> Scores:
    direction, question = named("direction", direction, DIRECTIONS), questions[0]
    check = as_check(cancel)
    # By identity, for a search asks for millions of states that are but a few.
    each = {id(state): state for states in runs for state in states}
    numbered = dict(zip(each, question.located(each.values()), strict=True))
    located = [[numbered[id(state)] for state in states] for states in runs]
    return complete_runs(questions, patched(question, Edits(located), direction, check), len(runs))


def _several_swapped(
    questions: Sequence[Question], groups: Sequence[Sequence[int]], direction: str, cancel: Callable[[], bool] | Any
) -> Scores:
    direction, question = named("direction", direction, DIRECTIONS), questions[0]
    question.check_damages_image()
    return complete_runs(questions, swapped(question, groups, direction, as_check(cancel)), len(groups))


def scored_by_each(questions: Sequence[Question], chunks: Chunks, count: int) -> NDArray[np.float64]:
    """Scores of runs that come in chunks, by the metric of each question, (questions, samples, runs).

    Args:
        questions: see `scored_together`.
        chunks: the runs.
        count: their number.
    """
    return _joined(questions, complete_runs(questions, chunks, count))


def _of_one(several: Scores) -> Scores:
    return ((which, scores[0], share) for which, scores, share in several)


def _joined(questions: Sequence[Question], several: Scores) -> NDArray[np.float64]:
    none = np.empty((len(questions), questions[0].corruption.samples, 0))
    return np.concatenate([none, *(scores for _, scores, _ in several)], axis=-1)


def patched(question: Question, edits: Edits, direction: str, check: Check) -> Chunks:
    """Yield patched runs: slices of samples and runs, and logits (samples, runs, answer positions, vocabulary)."""
    return in_groups(
        question,
        lambda base, source: question.runner.patched(base, source, edits, check),
        direction,
        check,
        with_states=edits.reach("image_encoder"),
    )


def swapped(question: Question, groups: Sequence[Sequence[int]], direction: str, check: Check) -> Chunks:
    """Yield runs that see some image tokens of the other run; as `patched`."""
    return in_groups(
        question, lambda base, source: question.runner.swapped(base, source, groups, check), direction, check
    )


def unchanged(question: Question, direction: str, check: Check) -> Chunks:
    """The base run's logits, as those of a run that nothing reaches."""

    def work(base: BaseRun, source: BaseRun) -> Chunks:
        samples = max(base.samples, source.samples)
        yield slice(0, samples), slice(0, 1), base.logits[:, None].expand(samples, -1, -1, -1)

    return in_groups(question, work, direction, check)


def needs_states(runs: Iterable[Iterable[State]]) -> bool:
    """Whether any run patches the image encoder."""
    return any(state.block == "image_encoder" for states in runs for state in states)


def in_groups(
    question: Question,
    work: Callable[[BaseRun, BaseRun], Chunks],
    direction: str,
    check: Check,
    *,
    with_states: bool = False,
) -> Chunks:
    """Do the work for each group of samples, and number its samples among all samples.

    Args:
        question: the question.
        work: called with the base run, which the patched runs equal elsewhere, and the source run.
        direction: which of the clean and the corrupted run is the base.
        check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.
        with_states: whether the runs need the ViT's states.
    """
    clean = question.bases.clean(check, with_states=with_states)
    for group, corrupted in question.bases.corrupted(check, with_states=with_states):
        base, source = (corrupted, clean) if direction == "restore" else (clean, corrupted)
        for some, which, logits in work(base, source):
            yield slice(group.start + some.start, group.start + some.stop), which, logits
        del base, source, corrupted  # free them before the next group is computed


def settled(questions: Sequence[Question], chunks: Chunks) -> Iterator[tuple[slice, slice, list[NDArray[np.float64]]]]:
    """Scores of chunks of runs of the first question by the metric of each: slices of samples and runs, and the scores.

    Where the device works while the host goes on, a chunk is started before the scores of the one before it are waited
    for, so that planning it takes no time. Whatever ends the chunks, the scores of those before are yielded first.
    """
    begun: deque[tuple[slice, slice, list[Callable[[], NDArray[np.float64]]]]] = deque()
    ahead = int(goes_on(questions[0].model.device))

    def waited_for() -> tuple[slice, slice, list[NDArray[np.float64]]]:
        part, which, scores = begun.popleft()
        return part, which, [score() for score in scores]

    try:
        for part, which, logits in chunks:
            begun.append((part, which, [question.scoring(logits) for question in questions]))
            while len(begun) > ahead:
                yield waited_for()
    except (Exception, KeyboardInterrupt):
        while begun:
            yield waited_for()
        raise
    while begun:
        yield waited_for()


def complete_runs(questions: Sequence[Question], chunks: Chunks, count: int) -> Scores:
    """Scores of chunks of runs of the first question, by the metric of each, (questions, samples, runs).

    Raises:
        ModelChangedError: if somebody changed the model since the first chunk.
    """
    question = questions[0]
    done, samples = 0, question.corruption.samples
    scores = np.full((len(questions), samples, count), np.nan)
    complete = slice(0, 0)
    version = None
    scored = settled(questions, chunks)
    while True:
        with Computing(question.model):  # not across the yield: the consumer may take long, on any thread
            if version not in (None, question.model.version):
                raise ModelChangedError
            version = question.model.version
            chunk = next(scored, None)
            if chunk is None:
                return
            part, which, found = chunk
            scores[:, part, which] = found
        done += (part.stop - part.start) * (which.stop - which.start)
        last = part.stop == samples  # the last samples of these runs, whatever the groups and chunks
        complete = which if last else slice(complete.stop, complete.stop)
        yield complete, scores[..., complete], done / (samples * count)


def as_effect(
    question: Question,
    chunks: Chunks,
    direction: str,
    check: Check,
    states: tuple[State, ...] = (),
    image_tokens: tuple[int, ...] = (),
    **asked: Any,
) -> Effect:
    """The `Effect` of one patched run whose samples come in chunks; `asked` are fields that say more of it."""
    with Computing(question.model):
        total = question.effect(check)
        scores = np.empty(question.corruption.samples)
        distribution: Any = 0.0
        for part, _, logits in chunks:
            scores[part] = question.score_logits(logits[:, 0])
            distribution = distribution + distribution_sum(logits[:, 0])
    mean = (distribution / scores.size).astype(np.float32)
    statistics = effects(total, scores, direction)
    return Effect(
        score=float(statistics.score),
        scores=scores,
        indirect_effect=float(statistics.indirect_effect),
        recovery=float(statistics.recovery),
        stderr=float(statistics.stderr),
        top=question.top_words(mean),
        recovery_stderr=float(statistics.recovery_stderr),
        margin=float(margin(statistics.samples)),
        recovery_margin=math.nan if total.closed_because else float(margin(statistics.samples, total.samples)),
        significant=bool(differs(statistics.samples, rounding(total.clean))),
        undefined_because=total.closed_because,
        error_unknown=unknown_error(question.corruption.settings(), scores.size),
        distribution=mean,
        states=states,
        direction=direction,
        image_tokens=image_tokens,
        **asked,
    )
