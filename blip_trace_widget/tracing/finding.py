"""Finding a small set of states that together bring the answer back.

For: from single states to sets: `Tracer.find_states`. Grown greedily: each step patches the present set together with
each of the other candidates in turn, one run each, and keeps the one that recovers most. Then pruned: the member that
is missed least goes, while what is left keeps the target. Then the numbers of the result are computed under fresh
noise: the set was chosen because it did well on the noise that was searched.
Cost: about a grid of the candidates for each member, less than one to prune, a few runs and a text pass under fresh
noise.
Ends: at a `FoundStates`. Greedy search finds a small set, not always the smallest; where no candidate does anything by
itself, as with two that are both needed, it adds the lowest one and goes on, at most `most` times.

Sources: the question is ACDC's (Conmy et al. 2023, arXiv 2304.14997), answered with exact patches of states; greedy
growth as in Vig et al. 2020 (arXiv 2004.12265), who also test sets of neurons and heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, whole_number
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.found_states import FoundStates, Member
from blip_trace_widget.results.statistics import effects
from blip_trace_widget.states import BLOCKS, DIRECTIONS, TEXT_BLOCKS, State, attention_label, site_label
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.patching import all_patched_scores, patched_scores
from blip_trace_widget.tracing.question import Question

Among: TypeAlias = Literal["states", "heads", "mlp and heads"]
AMONG: tuple[Among, ...] = get_args(Among)
#: Recoveries that differ by less are equal: the lower candidate is taken, whatever rounding says.
TIE = 1e-6
#: The attentions whose heads are tried.
_ATTENTIONS = ("self_attention", "cross_attention")
#: The largest seed, see `GaussianNoise`.
_LAST_SEED = 2**63 - 1


def find_states(
    question: Question,
    target: float = 0.9,
    among: str = "states",
    direction: str = "restore",
    blocks: str | Iterable[str] | None = None,
    most: int = 16,
    tries: int | None = None,
    fresh_seed: int | None = None,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> FoundStates:
    """See `Tracer.find_states`.

    Raises:
        TypeError, ValueError: see there.
    """
    target, among = _checked_target(target), named("among", among, AMONG)
    direction = named("direction", direction, DIRECTIONS)
    names = _checked_blocks(question, blocks, among)
    most = whole_number("most", most, 1)
    tries = None if tries is None else whole_number("tries", tries, 1)
    fresh = _fresh(question, fresh_seed)
    check = as_check(cancel)
    question.prepare(check, with_states="image_encoder" in names)
    if question.total_effect.closed_because:
        raise ValueError(
            f"target: there is nothing to recover: {question.total_effect.closed_because}; choose another corruption, "
            "or more noise"
        )
    candidates = _candidates(question, among, names)
    most = min(most, len(candidates))
    total = most * len(candidates)
    report, close = as_progress(progress, total, "run")
    search = _Search(question, candidates, direction, cancel, lambda done: report(min(done, total), total))
    measured = _Measured(fresh or question, direction, cancel)
    left = "found so far, not all of them needed, and not measured on fresh noise"
    with ended_early(lambda: f"{len(search.kept)} {among}", close, left):
        search.grow(target, most, tries)
        search.prune(target)
        measured.measure([list(candidates[at].states) for at in search.grown], search.kept_states)
        report(total, total)
    settings = question.settings() | {
        "corruption": question.corruption.settings(),
        "fresh_corruption": None if fresh is None else fresh.corruption.settings(),
        "target": target,
        "among": among,
        "direction": direction,
        "blocks": list(names),
        "most": most,
        "tries": tries,
        "candidates": len(candidates),
        "runs": search.runs + measured.runs,
        "stopped": not measured.done,
    }
    found = tuple(candidates[at] for at in sorted(search.kept))
    grown = tuple(candidates[at] for at in search.grown)
    by_layer = np.argsort(search.kept, kind="stable")  # members are told from below upward
    return FoundStates(
        members=found,
        grown=grown,
        clean=question.clean.score,
        searched=np.array(search.searched),
        fresh=fresh is not None,
        settings=settings,
        **measured.fields(len(found), len(grown), by_layer),
    )


class _Search:
    """A set that grows and is pruned, by what it recovers on the noise that is searched."""

    def __init__(
        self,
        question: Question,
        candidates: Sequence[Member],
        direction: str,
        cancel: Any,
        report: Callable[[int], object],
    ) -> None:
        self._question, self._candidates, self._direction = question, candidates, direction
        self._cancel, self._report = cancel, report
        self.grown: list[int] = []
        self.searched: list[float] = []
        self.kept: list[int] = []
        self.runs = 0

    def grow(self, target: float, most: int, tries: int | None) -> None:
        """Add candidates until the target is reached, or `most` of them are in."""
        left = list(range(len(self._candidates)))
        while left and len(self.grown) < most and max(self.searched, default=-np.inf) < target:
            found = self._recoveries([[*self.grown, at] for at in left])
            best = _first_best(found)
            if not self.grown and tries is not None:
                strongest = np.argsort(-found, kind="stable")[: tries + 1]
                added, left = left[best], [left[at] for at in sorted({*strongest.tolist(), best})]
            else:
                added = left[best]
            self.grown.append(added)
            self.searched.append(float(found[best]))
            left.remove(added)
            self.kept = self.grown[: _first_best(np.array(self.searched)) + 1]

    def prune(self, target: float) -> None:
        """Drop members that are not needed for the target, or for what the set has if that is less."""
        goal = min(target, max(self.searched, default=target) - TIE)
        while len(self.kept) > 1:
            found = self._recoveries([[other for other in self.kept if other != at] for at in self.kept])
            best = _first_best(found)
            if not found[best] >= goal:
                return
            self.kept = self.kept[:best] + self.kept[best + 1 :]

    @property
    def kept_states(self) -> list[list[State]]:
        """The states of each member of the set."""
        return [list(self._candidates[at].states) for at in self.kept]

    def _recoveries(self, sets: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """What each of some sets recovers, (sets,)."""
        runs = [[state for at in some for state in self._candidates[at].states] for some in sets]
        scores = np.empty((self._question.corruption.samples, len(runs)))
        for which, found, share in patched_scores(self._question, runs, self._direction, self._cancel):
            scores[:, which] = found
            self._report(self.runs + int(share * len(runs)))
        self.runs += len(runs)
        return effects(self._question.total_effect, scores, self._direction).recovery


class _Measured:
    """The scores of a set that is found, under fresh noise if there is any."""

    def __init__(self, question: Question, direction: str, cancel: Any) -> None:
        self._question, self._direction, self._cancel = question, direction, cancel
        self.done, self.runs = False, 0

    def measure(self, grown: Sequence[list[State]], kept: Sequence[list[State]]) -> None:
        """Score the set, the set without each member, the set the other way, and the first of what was grown."""

        def joined(some: Sequence[list[State]]) -> list[State]:
            return [state for states in some for state in states]

        question, check = self._question, as_check(self._cancel)
        whole = joined(kept)
        less = [joined([*kept[:at], *kept[at + 1 :]]) for at in range(len(kept))]
        first = [joined(grown[: size + 1]) for size in range(len(grown))]
        other = DIRECTIONS[1 - DIRECTIONS.index(self._direction)]
        self._corrupted = question.corrupted_scores(check)
        self._scores = all_patched_scores(question, [whole, *less, *first], self._direction, self._cancel)
        self._opposite = all_patched_scores(question, [whole], other, self._cancel)
        self.done, self.runs = True, self._scores.shape[1] + 1

    def fields(self, members: int, sizes: int, order: NDArray[np.intp]) -> dict[str, Any]:
        """The fields of `FoundStates` that are scores; NaN where nothing was measured.

        Args:
            members: how many there are.
            sizes: how many were grown.
            order: the order in which members are told.
        """
        samples = self._question.corruption.samples
        if not self.done:
            self._corrupted = np.full(samples, np.nan)
            self._scores = np.full((samples, 1 + members + sizes), np.nan)
            self._opposite = np.full((samples, 1), np.nan)
        return {
            "corrupted": self._corrupted,
            "scores": self._scores[:, 0],
            "without": self._scores[:, 1 : members + 1][:, order],
            "grown_scores": self._scores[:, members + 1 :],
            "opposite": self._opposite[:, 0],
        }


def _first_best(found: NDArray[np.float64]) -> int:
    """The first of the best; NaN is worst."""
    known = np.nan_to_num(found, nan=-np.inf)
    return int(np.flatnonzero(known >= known.max() - TIE)[0])


def _candidates(question: Question, among: str, blocks: Sequence[str]) -> list[Member]:
    """What can be added, from below upward."""
    found: list[Member] = []
    for block in blocks:
        stack, tokens = question.model.blocks[block], question.tokens(block)
        spoken, positions = block.replace("_", " "), range(len(tokens))
        for layer in range(len(stack.layers)):
            where = f"{spoken} layer {layer}"
            if among == "states":
                if (block, layer) != ("answer_decoder", len(stack.layers) - 1):  # its output is the answer
                    found += [
                        Member(f"{where} at {token!r} ({at})", (State(block, layer, at),))  # type: ignore[arg-type]
                        for at, token in enumerate(tokens)
                    ]
                continue
            sites: list[tuple[str, int | None, str]] = [
                (site, head, f"{attention_label(site)} head {head}")
                for site in _ATTENTIONS
                if site in BLOCKS[block].heads
                for head in range(stack.heads)
            ]
            if among == "mlp and heads":
                sites.append(("mlp", None, site_label("mlp")))
            found += [
                Member(f"{where} {name}", tuple(State(block, layer, at, site, head) for at in positions))  # type: ignore[arg-type]
                for site, head, name in sites
            ]
    if not found:
        raise ValueError(f"blocks: {list(blocks)} have nothing to choose from but what is the answer by construction")
    return found


def _fresh(question: Question, seed: int | None) -> Question | None:
    """The same question under other noise; None where the corruption has none."""
    corruption: Corruption = question.corruption
    fields: tuple[Any, ...] = dataclasses.fields(corruption) if dataclasses.is_dataclass(corruption) else ()
    if "seed" not in {each.name for each in fields}:
        if seed is not None:
            raise ValueError(f"fresh_seed: {corruption!r} has no noise, expected None, got {seed!r}")
        return None
    searched: int = corruption.seed  # type: ignore[attr-defined]
    if seed is None:
        seed = searched + 1 if searched < _LAST_SEED else 0
    if whole_number("fresh_seed", seed, 0, _LAST_SEED) == searched:
        raise ValueError(f"fresh_seed: expected another seed than the one that is searched, got {seed}")
    return question.with_corruption(seed=seed)


def _checked_target(given: Any) -> float:
    if isinstance(given, (bool, str, bytes)) or not hasattr(given, "__float__"):
        raise TypeError(f"target: expected a share above 0 and up to 1, got {type(given).__name__} {given!r}")
    target: float = given.__float__()
    if not 0 < target <= 1:
        raise ValueError(f"target: expected a share above 0 and up to 1, got {given!r}")
    return target


def _checked_blocks(question: Question, given: Any, among: str) -> tuple[str, ...]:
    if given is None:
        return ("question_encoder",) if among == "states" else TEXT_BLOCKS
    if not isinstance(given, (str, Iterable)):
        raise TypeError(f"blocks: expected names out of {list(BLOCKS)}, got {type(given).__name__} {given!r}")
    asked = {named("blocks", block, BLOCKS) for block in ([given] if isinstance(given, str) else given)}
    names = tuple(block for block in BLOCKS if block in asked)
    if not names:
        raise ValueError(f"blocks: expected at least one of {list(BLOCKS)}, got none")
    for name in names:
        question.check_block(name)
    return names
