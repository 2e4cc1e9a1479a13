"""Finding a small set of states that together bring the answer back.

For: from single states to sets: `Tracer.find_states`. Two searches:

- A set grows: each step patches the present set together with each of the other candidates in turn, one run each, and
  keeps the one that recovers most (``"restore"``, ``"disrupt"``).
- All candidates but a set are corrupted in the clean run: what is left is a circuit as Wang et al. and ACDC mean it
  (``"isolate"``). It begins with all candidates, since no link of a chain does anything alone.

Then it is pruned: members go that the target does not need. Then the numbers of the result are computed under fresh
noise: the set was chosen because it did well on the noise that was searched.
Cost: about a grid of the candidates for each member that is added, one for each round that drops, a few runs and
a text pass under fresh noise. Runs that patch many states begin at the lowest of them: a grid of such runs costs up to
twice one of single cells.
Ends: at a `FoundStates`. Greedy search finds a small set, not always the smallest; where no candidate does anything by
itself, as with two that are both needed, growing adds the lowest one and goes on, at most `most` times.

Sources: Conmy et al. 2023 (ACDC, arXiv 2304.14997), who prune edges one by one from the whole graph; Wang et al. 2022
(arXiv 2211.00593), section 4; greedy growth of sets of heads, Vig et al. 2020 (arXiv 2004.12265).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief, named, whole_number
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.found_states import SEARCHES, FoundStates, Member, measured_as, opposite
from blip_trace_widget.results.statistics import effects
from blip_trace_widget.states import State
from blip_trace_widget.tracing.candidates import AMONG, candidates, checked_blocks
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.grid import scores_without_effect
from blip_trace_widget.tracing.patching import patched_scores
from blip_trace_widget.tracing.question import Question

_Result = TypeVar("_Result")
#: Something that takes many runs: it yields after each chunk of them.
Steps: TypeAlias = Generator[None, None, _Result]
#: Recoveries that differ by less are equal: the lower candidate is taken, whatever rounding says.
TIE = 1e-6
#: Rounds of pruning that a search from all candidates is expected to take, for the display of progress.
ROUNDS = 8
#: How many numbers of members to drop together are tried at a time.
SPREAD = 16
#: States that are patched in all runs of one batch together, so that a search can be stopped.
_STATES = 50_000
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
    finding = Finding(question, target, among, direction, blocks, most, tries, fresh_seed, cancel)
    report, close = as_progress(progress, finding.total, "run")
    left = "found so far: not measured on fresh noise, and perhaps not all of them needed"
    with ended_early(lambda: f"{finding.size} {finding.among}", close, left):
        for _ in finding.steps():
            report(finding.done, finding.total)
        report(finding.total, finding.total)
    return finding.found()


class Finding:
    """A search that is done step by step, for whoever has something more urgent to do in between.

    Args:
        question: the question.
        target: see `Tracer.find_states`, as all that follows.
        among: what sets are made of.
        direction: what is patched.
        blocks: names of blocks.
        most: most members.
        tries: candidates after the first step.
        fresh_seed: the seed of the fresh noise.
        cancel: says whether to stop.

    Attributes:
        total: patched runs at most.

    Raises:
        TypeError, ValueError, Cancelled: see there.
    """

    def __init__(
        self,
        question: Question,
        target: float = 0.9,
        among: str = "states",
        direction: str = "restore",
        blocks: str | Iterable[str] | None = None,
        most: int = 16,
        tries: int | None = None,
        fresh_seed: int | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> None:
        self._target, self.among = _checked_target(target), named("among", among, AMONG)
        self._direction = named("direction", direction, SEARCHES)
        self._blocks = checked_blocks(question, blocks, self.among)
        self._most = whole_number("most", most, 1)
        self._tries = None if tries is None else whole_number("tries", tries, 1)
        if tries is not None and direction == "isolate":
            raise ValueError(f"tries: only where a set grows, got {tries} with direction='isolate'")
        self._question, self._fresh = question, _fresh(question, fresh_seed)
        question.prepare(as_check(cancel), with_states="image_encoder" in self._blocks)
        if question.total_effect.closed_because:
            raise ValueError(
                f"target: there is nothing to recover: {question.total_effect.closed_because}; choose another "
                "corruption, or more noise"
            )
        self._candidates = candidates(question, self.among, self._blocks)
        count = len(self._candidates)
        self.total = count * (ROUNDS if self._direction == "isolate" else min(self._most, count))
        self._runs = _Runs(question, self._candidates, self._direction, cancel)
        self._fresh_runs = _Runs(self._fresh or question, self._candidates, self._direction, cancel)
        self._search = _Search(self._runs, count)
        self._numbers: dict[str, Any] | None = None

    @property
    def done(self) -> int:
        """How many patched runs are done, at most `total`."""
        return min(self._runs.done, self.total)

    @property
    def size(self) -> int:
        """How many members the set has so far."""
        return len(self._search.kept)

    @property
    def way(self) -> list[tuple[int, float]]:
        """Size of each set on the way, and its recovery on the noise that is searched: too good to be a result."""
        return [(len(some), each) for some, each in zip(self._search.path, self._search.searched, strict=True)]

    def steps(self) -> Iterator[None]:
        """Search, and measure what was found; yields after each chunk of runs.

        Raises:
            Cancelled: if it is stopped; what was found so far is kept.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        if self._direction == "isolate":
            self._search.start_from_all()
        else:
            yield from self._search.grow(self._target, self._most, self._tries)
        yield from self._search.prune(self._target, told=self._direction == "isolate")
        self._numbers = yield from _measured(self._fresh_runs, self._search)

    def found(self) -> FoundStates:
        """What was found so far; without the numbers under fresh noise if the search was stopped."""
        question, search, fresh = self._question, self._search, self._fresh
        settings = question.settings() | {
            "corruption": question.corruption.settings(),
            "fresh_corruption": None if fresh is None else fresh.corruption.settings(),
            "target": self._target,
            "among": self.among,
            "direction": self._direction,
            "blocks": list(self._blocks),
            "most": self._most,
            "tries": self._tries,
            "candidates": len(self._candidates),
            "runs": self._runs.done + self._fresh_runs.done,
            "stopped": self._numbers is None,
        }
        grown = () if self._direction == "isolate" or not search.path else search.path[-1]
        return FoundStates(
            members=tuple(self._candidates[at] for at in sorted(search.kept)),
            grown=tuple(self._candidates[at] for at in grown),
            clean=question.clean.score,
            fresh=fresh is not None,
            settings=settings,
            **(self._numbers or _unmeasured(question.corruption.samples, search)),
        )


class _Runs:
    """Patched runs of sets of candidates under one noise.

    Args:
        question: the question.
        candidates: what sets are made of; a set is a list of their numbers.
        direction: one of `SEARCHES`.
        cancel: see `Tracer.find_states`.

    Attributes:
        done: how many runs are done.
    """

    def __init__(self, question: Question, candidates: Sequence[Member], direction: str, cancel: Any) -> None:
        self.question, self._candidates, self._direction = question, candidates, direction
        self._cancel = cancel
        self.done = 0

    def scores(self, sets: Sequence[Sequence[int]]) -> Steps[NDArray[np.float64]]:
        """Scores of the runs that decide about sets, (samples, sets)."""
        if self._direction == "isolate":
            every = range(len(self._candidates))
            return (yield from self._patched([sorted({*every} - {*some}) for some in sets], "disrupt"))
        return (yield from self._patched(sets, self._direction))

    def opposite(self, some: Sequence[int]) -> Steps[NDArray[np.float64]]:
        """Scores of the runs in which a set is patched the other way, (samples,)."""
        return (yield from self._patched([some], opposite(self._direction)))[:, 0]

    def recoveries(self, sets: Sequence[Sequence[int]]) -> Steps[NDArray[np.float64]]:
        """What each of some sets recovers, (sets,)."""
        scores = yield from self.scores(sets)
        return effects(self.question.total_effect, scores, measured_as(self._direction)).recovery

    def _patched(self, sets: Sequence[Sequence[int]], direction: str) -> Steps[NDArray[np.float64]]:
        some = [number for number, members in enumerate(sets) if members]
        none = [number for number, members in enumerate(sets) if not members]
        runs = [[state for at in sets[number] for state in self._candidates[at].states] for number in some]
        scores = np.empty((self.question.corruption.samples, len(sets)))
        for part in _parts(runs):
            scores[:, some[part]] = yield from self._some(runs[part], direction)
        scores[:, none] = scores_without_effect(self.question, direction, len(none))  # what patches nothing is the base
        return scores

    def _some(self, runs: Sequence[Sequence[State]], direction: str) -> Steps[NDArray[np.float64]]:
        scores, before = np.empty((self.question.corruption.samples, len(runs))), self.done
        for which, found, share in patched_scores(self.question, runs, direction, self._cancel):
            scores[:, which] = found
            self.done = before + int(share * len(runs))
            yield
        self.done = before + len(runs)
        return scores


class _Search:
    """A set that grows and is pruned, by what it recovers on the noise that is searched.

    Attributes:
        kept: the set.
        path: the sets that it was on the way there.
        searched: what they recover, on that noise.
    """

    def __init__(self, runs: _Runs, count: int) -> None:
        self._runs, self._count = runs, count
        self.kept: list[int] = []
        self.path: list[list[int]] = []
        self.searched: list[float] = []

    def grow(self, target: float, most: int, tries: int | None) -> Steps[None]:
        """Add candidates until the target is reached, or `most` of them are in."""
        left, grown = list(range(self._count)), list[int]()
        while left and len(grown) < most and max(self.searched, default=-np.inf) < target:
            found = yield from self._runs.recoveries([[*grown, at] for at in left])
            best = _first_best(found)
            added = left[best]
            if not grown and tries is not None:
                strongest = np.argsort(-found, kind="stable")[: tries + 1].tolist()  # the best itself is among them
                left = [left[at] for at in sorted({*strongest, best})]
            left.remove(added)
            grown = [*grown, added]
            self._went(grown, float(found[best]))
            self.kept = self.path[_first_best(np.array(self.searched))]

    def start_from_all(self) -> None:
        """Begin with all candidates, which recover everything by definition."""
        self.kept = list(range(self._count))
        self._went(self.kept, 1.0)

    def prune(self, target: float, *, told: bool) -> Steps[None]:
        """Drop members that are not needed for the target, or for what the set has if that is less.

        First it is asked of each by itself. Those that are missed least go, as many together as the target allows; then
        all is asked again of the rest.

        Args:
            target: a share of the total effect.
            told: whether the sets on the way belong to `path`.
        """
        goal = min(target, max(self.searched, default=target) - TIE)
        while self.kept:
            alone = yield from self._runs.recoveries(
                [[other for other in self.kept if other != at] for at in self.kept]
            )
            able = int((alone >= goal).sum())
            if not able:
                return
            least_missed = [self.kept[at] for at in np.argsort(-np.round(alone / TIE), kind="stable")]
            self.kept, recovery = yield from self._without_first(least_missed, able, goal, float(alone.max()))
            if told:
                self._went(self.kept, recovery)

    def _without_first(
        self, dropped: list[int], most: int, goal: float, recovery: float
    ) -> Steps[tuple[list[int], float]]:
        """The set without as many of the first to drop as the goal allows, at most so many, and what it recovers.

        `SPREAD` numbers at a time are tried, then those between the largest that will do and the next.

        Args:
            dropped: the set, in the order in which members are dropped.
            most: how many may be.
            goal: what is to be recovered.
            recovery: what the set without the first one alone recovers, which will do.
        """

        def left(count: int) -> list[int]:
            return [at for at in self.kept if at not in dropped[:count]]

        good, bad = 1, most + 1
        while bad - good > 1:
            counts = sorted({*np.linspace(good + 1, bad - 1, SPREAD).astype(int).tolist()})
            found = yield from self._runs.recoveries([left(count) for count in counts])
            enough = np.flatnonzero(found >= goal)
            if not enough.size:
                bad = counts[0]
                continue
            last = int(enough[-1])
            good, recovery = counts[last], float(found[last])
            bad = counts[last + 1] if last + 1 < len(counts) else bad
        return left(good), recovery

    def _went(self, some: list[int], recovery: float) -> None:
        self.path.append(some)
        self.searched.append(recovery)


def _measured(runs: _Runs, search: _Search) -> Steps[dict[str, Any]]:
    """The fields of `FoundStates` that are scores, under fresh noise if there is any.

    Raises:
        Cancelled: if it is stopped now.
    """
    kept, path = sorted(search.kept), _path(search)
    sets = [kept, *([other for other in kept if other != at] for at in kept), *path]
    scores = yield from runs.scores(sets)
    other = yield from runs.opposite(kept)
    return _numbers(search, runs.question.corrupted_scores(), scores, other)


def _unmeasured(samples: int, search: _Search) -> dict[str, Any]:
    """The same of a search that was stopped before."""
    nothing = np.full(samples, np.nan)
    return _numbers(search, nothing, np.full((samples, 1 + len(search.kept) + len(_path(search))), np.nan), nothing)


def _numbers(search: _Search, corrupted: Any, scores: NDArray[np.float64], other: Any) -> dict[str, Any]:
    path, end = _path(search), len(search.kept) + 1
    return {
        "corrupted": corrupted,
        "scores": scores[:, 0],
        "without": scores[:, 1:end],
        "path_scores": scores[:, end:],
        "opposite": other,
        "sizes": np.array([len(some) for some in path]),
        "searched": np.array([0.0 if not some else search.searched[search.path.index(some)] for some in path]),
    }


def _path(search: _Search) -> list[list[int]]:
    """The sets on the way, smallest first, beginning with none."""
    return sorted([[], *search.path], key=len)


def _parts(runs: Sequence[Sequence[State]]) -> list[slice]:
    """The runs, cut where there are too many states."""
    size = max(1, _STATES // max(map(len, runs), default=1))
    return [slice(start, start + size) for start in range(0, len(runs), size)]


def _first_best(found: NDArray[np.float64]) -> int:
    """The first of the best; NaN is worst."""
    known = np.nan_to_num(found, nan=-np.inf)
    return int(np.flatnonzero(known >= known.max() - TIE)[0])


def _fresh(question: Question, seed: int | None) -> Question | None:
    """The same question under other noise; None where the corruption has none."""
    corruption: Corruption = question.corruption
    fields: tuple[Any, ...] = dataclasses.fields(corruption) if dataclasses.is_dataclass(corruption) else ()
    if "seed" not in {each.name for each in fields}:
        if seed is not None:
            raise ValueError(f"fresh_seed: {corruption!r} has no noise, expected None, got {brief(seed)}")
        return None
    searched: int = corruption.seed  # type: ignore[attr-defined]
    if seed is None:
        seed = searched + 1 if searched < _LAST_SEED else 0
    if whole_number("fresh_seed", seed, 0, _LAST_SEED) == searched:
        raise ValueError(f"fresh_seed: expected another seed than the one that is searched, got {seed}")
    return question.with_corruption(seed=seed)


def _checked_target(given: Any) -> float:
    if isinstance(given, (bool, str, bytes)) or not hasattr(given, "__float__"):
        raise TypeError(f"target: expected a share above 0 and up to 1, got {type(given).__name__} {brief(given)}")
    try:
        target = float(given)
    except OverflowError:
        target = math.inf
    if not 0 < target <= 1:
        raise ValueError(f"target: expected a share above 0 and up to 1, got {brief(given)}")
    return target
