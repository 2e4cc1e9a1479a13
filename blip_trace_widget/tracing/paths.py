"""Path patching: how much goes from senders to receivers directly, all that lies between them held.

For: telling a direct path from one through other states, and walking back from the answer to what made it. Run A: the
base run with the senders patched and what every attention and MLP adds held, of every layer, position and block, but
for what is named in ``through``; of each receiver it is recorded what the run computes there. Run B: the base run in
which the receivers take these values, and nothing is held. Into ``"answer"``: the score of A.

- Residuals are never held: they are the direct path. From one block to the next it leads through the attention that
  looks there, which is held too: only a receiver that is this attention, or a head of it, takes in what senders wrote
  into the block below.
- A receiver is recorded before it is held itself, so that of several receivers each is recorded with the others held
  (unless they are residuals, or named in ``through``), as in Wang et al.
- A sender that is a head leaves the other heads of its attention held; so does a head in ``through``.

Cost: at most two grids, usually less than one: A ends at the last receiver, B begins at the first.
Ends: at an `Effect`, an `ImageTokenTrace`, and at runs for the grids of `blip_trace_widget.tracing.traces`.

Sources: Wang et al. 2022 (arXiv 2211.00593), section 3.1 and appendix B, where MLPs are not held
(``through="mlp"``); Goldowsky-Dill et al. 2023 (arXiv 2304.05969).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.model.progress import Check, Progress, as_check, no_check
from blip_trace_widget.results.grid_spec import ANSWER, Receivers
from blip_trace_widget.results.maps import ImageTokenTrace, squares
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.summaries import called
from blip_trace_widget.states import BLOCKS, DIRECTIONS, HELD_SITES, State, as_states, listed_states, plain_form
from blip_trace_widget.tracing.grid import as_image_token_trace, filled, knowing
from blip_trace_widget.tracing.holding import Hold, HoldLike, as_hold, held_at, key_of
from blip_trace_widget.tracing.patching import as_effect, in_groups, needs_states, patched, unchanged
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.reach import reached, reaching
from blip_trace_widget.tracing.runs import Chunks, Edits

#: States, or the answer.
ReceiversLike: TypeAlias = "State | Iterable[State] | Literal['answer']"
#: The image tokens that each run takes from the other run.
Groups: TypeAlias = "Sequence[Sequence[int]] | None"
#: A block, a layer, and a site that is held.
Place: TypeAlias = "tuple[str, int, str]"


def patch_path(
    question: Question,
    senders: State | Iterable[State],
    receivers: ReceiversLike,
    direction: str = "restore",
    through: HoldLike = (),
    cancel: Callable[[], bool] | Any = None,
) -> Effect:
    """See `Tracer.patch_path`.

    Raises:
        TypeError, ValueError, Cancelled: see there.
    """
    given = listed_states(senders, "senders")
    direction = named("direction", direction, DIRECTIONS)
    paths = Paths(question, receivers, through, with_states=needs_states([given]))
    check = as_check(cancel)
    question.prepare(check, with_states=paths.with_states)
    chosen = as_states(question.located(given), "senders")
    both = [called(state) for state in chosen if key_of(state) in {key_of(each) for each in paths.states}]
    if both:
        raise ValueError(f"receivers: a state is either a sender or a receiver, got both of {'; '.join(both)}")
    edits = paths.edits([chosen], check)
    live = paths.live(edits, check)
    chunks = paths.runs(edits, live, direction, check) if live.any() else unchanged(question, direction, check)
    told: dict[str, Any] = {"receivers": paths.told, "through": paths.through, "without_effect": not live.any()}
    return as_effect(question, chunks, direction, check, states=chosen, **told)


def trace_image_paths(
    question: Question,
    receivers: ReceiversLike,
    patch: int = 1,
    direction: str = "restore",
    through: HoldLike = (),
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> ImageTokenTrace:
    """See `Tracer.trace_image_paths`.

    Raises:
        TypeError, ValueError, Cancelled: see there.
    """
    rows, columns = question.model.grid
    patch = whole_number("patch", patch, 1, max(rows, columns))
    direction = named("direction", direction, DIRECTIONS)
    question.check_damages_image()
    paths = Paths(question, receivers, through)
    if paths.told == ANSWER:
        raise ValueError(
            "receivers: expected states, got 'answer': from image tokens to it no path leads past the question "
            "encoder's cross-attention"
        )
    check = as_check(cancel)
    question.prepare(check, with_states=paths.with_states)
    shape, groups = squares(rows, columns, patch)
    edits = paths.edits([()] * len(groups), check)
    live = paths.live(edits, check, by_image_tokens=True)
    some = np.asarray(live.any(axis=1))
    chosen = list(itertools.compress(groups, some.tolist()))
    samples, known = filled(
        question, direction, some, progress, lambda: paths.runs(edits, live, direction, check, chosen)
    )
    trace = as_image_token_trace(question, samples.reshape(-1, *shape), patch, direction, **paths.settings)
    return knowing(trace, known.reshape(shape))


class Paths:
    """All paths into some receivers.

    Args:
        question: the question.
        receivers: states, or ``"answer"``.
        through: what is not held.
        with_states: whether any sender is a state of the image encoder.

    Attributes:
        states: the receivers, if they are states.
        with_states: whether senders or receivers are among the image encoder's states.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    def __init__(
        self, question: Question, receivers: ReceiversLike, through: HoldLike, *, with_states: bool = False
    ) -> None:
        self._question = question
        self.states: tuple[State, ...] = ()
        if isinstance(receivers, str):
            one_of("receivers", receivers, [ANSWER])
        else:
            self.states = as_states(question.located(listed_states(receivers, "receivers")), "receivers")
        self.with_states = with_states or needs_states([self.states])
        asked = as_hold(through, "through")
        if asked.everywhere:
            raise ValueError("through: a word means all layers and positions anyway, got 'everywhere'")
        self._free = Hold(asked.sites, states=as_states(question.located(asked.states)) if asked.states else ())
        for state in self._free.states:
            if state.head is None and state.place[1] not in HELD_SITES:
                raise ValueError(
                    f"through: expected states of {list(HELD_SITES)}, or single heads, for nothing else is held; got "
                    f"{called(state)}"
                )

    @property
    def told(self) -> Receivers:
        """The receivers."""
        return self.states or ANSWER

    @property
    def through(self) -> tuple[str | State, ...]:
        """What is not held, as an argument, its states by number."""
        return (*self._free.sites, *self._free.states)

    @property
    def settings(self) -> dict[str, Any]:
        """Both as plain JSON, by their arguments' names; the latter if there is any."""
        through = {"through": plain_form(self.through)} if self.through else {}
        return {"receivers": plain_form(self.states) if self.states else ANSWER, **through}

    def edits(self, senders: Sequence[Sequence[State]], check: Check = no_check) -> Edits:
        """What the runs A patch and hold; `check` is called once a run."""
        every = {
            (name, layer, site): held_at(name, [site], [layer], range(len(self._question.tokens(name))))
            for name in BLOCKS
            if name != "image_encoder" or self.with_states
            for layer in range(len(self._question.model.blocks[name].layers))
            for site in HELD_SITES
            if site in BLOCKS[name].sites and site not in self._free.sites
        }

        @cache
        def part(place: Place, span: range, heads: frozenset[State] = frozenset()) -> tuple[State, ...]:
            held = self._less(every[place][span.start : span.stop], self._free.states)
            return self._less(held, heads) if heads else held

        whole = {place: part(place, range(len(states))) for place, states in every.items()}

        def held(states: Sequence[State]) -> list[tuple[State, ...]]:
            check()
            if not (heads := _heads(states)):
                return shared
            theirs: dict[Place, dict[int, set[State]]] = {}
            for head in heads:
                block, layer, position, site = _attention(head)
                if (place := (block, layer, f"{site}_out")) in whole:
                    theirs.setdefault(place, {}).setdefault(position, set()).add(head)
            parts = [states for place, states in whole.items() if place not in theirs]
            for place, at in theirs.items():
                parts += [part(place, span) for span in _between(range(len(every[place])), at)]
                parts += [part(place, range(one, one + 1), frozenset(own)) for one, own in at.items()]
            return parts

        shared = list(whole.values())
        return Edits(senders, [held(states) for states in senders])

    def _less(self, held: Iterable[State], free: Iterable[State]) -> tuple[State, ...]:
        """What is held without some states; of an attention of which some heads are free the others are held."""
        whole = {key_of(state) for state in free if state.head is None}
        heads: dict[Any, set[int]] = {}
        for state in free:
            if state.head is not None:
                heads.setdefault(_attention(state), set()).add(state.head)
        left: list[State] = []
        for state in held:
            own = heads.get(_attention(state), set()) if "attention" in state.site else set()
            if key_of(state) in whole or state.head in own:
                continue
            if state.head is not None or not own:
                left.append(state)
                continue
            count = self._question.model.blocks[state.block].heads
            others = [head for head in range(count) if head not in own]
            left += [State(state.block, state.layer, state.position, state.site, head) for head in others]
        return tuple(left)

    def live(self, edits: Edits, check: Check = no_check, *, by_image_tokens: bool = False) -> NDArray[np.bool_]:
        """Which runs A can differ from the base run at which receivers, (runs, receivers), or in their score."""
        if not self.states:
            return reaching(self._question, edits, check)[:, None]
        return reached(self._question, edits, self.states, check, by_image_tokens=by_image_tokens)

    def runs(
        self, edits: Edits, live: NDArray[np.bool_], direction: str, check: Check, groups: Groups = None
    ) -> Chunks:
        """Yield the runs B of those that are live, or A where it is the answer that receives; see `patching.patched`.

        Receivers at which A is the base run are held in B, so that B begins at the first of the others.
        """
        some, runner = np.asarray(live.any(axis=1)), self._question.runner
        edits = edits.only(some)
        if not self.states:
            return patched(self._question, edits, direction, check)
        reached_by = [tuple(which) for which in live[some].tolist()]
        left = {
            which: [[state for state, at in zip(self.states, which, strict=True) if not at]] for which in reached_by
        }
        taken = Edits(
            [list(itertools.compress(self.states, which)) for which in reached_by], [left[each] for each in reached_by]
        )
        return in_groups(
            self._question,
            lambda base, source: runner.paths(base, source, edits, taken, check, groups),
            direction,
            check,
            with_states=self.with_states,
        )


def _heads(states: Iterable[State]) -> list[State]:
    return [state for state in states if state.head is not None]


def _between(span: range, gaps: Collection[int]) -> Iterator[range]:
    """A span without its gaps, in pieces that recur: halved until there is none in it, so that runs can share them."""
    if not any(gap in span for gap in gaps):
        yield span
    elif len(span) > 1:
        yield from _between(span[: len(span) // 2], gaps)
        yield from _between(span[len(span) // 2 :], gaps)


def _attention(state: State) -> tuple[str, int, int, str]:
    return state.block, state.layer, state.position, state.site.removesuffix("_out")
