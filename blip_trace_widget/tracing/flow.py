"""Flow: attention cut between groups of tokens, pair by pair, in a window of layers around each layer.

For: along which ways the answer travels. A single edge shows nothing where others carry the same; groups do.
Cost: for each pair of groups a text pass from each layer up, one at a time: pairs x layers, half a pass on average.
Ends: at a `Flow`.

Sources: Geva et al. 2023 (arXiv 2304.14767), section 4, with windows of layers; Zhang et al. 2024 (arXiv 2411.18620),
who cut between parts of picture and question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from blip_trace_widget.checks import brief, whole_number
from blip_trace_widget.model.computing import Computing, ModelChangedError
from blip_trace_widget.model.progress import Progress, as_check, as_progress, ended_early
from blip_trace_widget.results.flow import ANSWER, PARTS, PICTURE, QUESTION, Edge, Flow, Group
from blip_trace_widget.states import window_layers
from blip_trace_widget.tracing.knockout import cut_scores
from blip_trace_widget.tracing.positions import Positions, image_tokens, whole_numbers
from blip_trace_widget.tracing.question import Question

#: Part -> name -> tokens of that part.
Groups: TypeAlias = "Mapping[str, Mapping[str, Positions]] | None"
#: The attention from one part to another: source and target -> block and site.
WAYS = {
    (PICTURE, QUESTION): ("question_encoder", "cross_attention"),
    (QUESTION, QUESTION): ("question_encoder", "self_attention"),
    (QUESTION, ANSWER): ("answer_decoder", "cross_attention"),
    (ANSWER, ANSWER): ("answer_decoder", "self_attention"),
}


def flow(
    question: Question,
    groups: Groups = None,
    window: int = 3,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> Flow:
    """See `Tracer.flow`.

    Raises:
        TypeError, ValueError: see there.
    """
    flowing = Flowing(question, groups, window, cancel)
    report, close = as_progress(progress, flowing.total, "run")
    with ended_early(lambda: f"{flowing.done} of {flowing.total} runs", close), Computing(question.model):
        for _ in flowing.steps():
            report(flowing.done, flowing.total)
    return flowing.flow()


class Flowing:
    """A flow that is computed step by step, for whoever has something more urgent to do in between.

    Args:
        question: the question.
        groups: see `Tracer.flow`, as all that follows.
        window: layers that are cut together.
        cancel: says whether to stop.

    Attributes:
        total: how many runs there are.
        done: how many are done.

    Raises:
        TypeError, ValueError, Cancelled: see there.
    """

    def __init__(
        self,
        question: Question,
        groups: Groups = None,
        window: int = 3,
        cancel: Callable[[], bool] | Any = None,
    ) -> None:
        self._layers = {name: len(question.model.blocks[name].layers) for name, _ in WAYS.values()}
        self._window = whole_number("window", window, 1, max(self._layers.values()))
        self._question, self._check = question, as_check(cancel)
        self._clean, self._version = question.clean_run(self._check).score, question.model.version
        self._edges = _edges(_grouped(question, groups))
        self._scores = np.full((len(self._edges), max(self._layers.values())), np.nan)
        self.total, self.done = sum(self._layers[edge.block] for edge in self._edges), 0

    def steps(self) -> Iterator[None]:
        """Compute it; yields after each run.

        Raises:
            Cancelled: if it is stopped; what was computed so far is kept.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        for row, edge in enumerate(self._edges):
            depth = self._layers[edge.block]
            windows = (window_layers(layer, min(self._window, depth), depth) for layer in range(depth))
            cut = list(edge.target.positions), list(edge.source.positions), edge.site
            found = cut_scores(self._question, edge.block, windows, *cut, self._check)
            for layer in range(depth):
                with Computing(self._question.model):  # not across the yield
                    if self._question.model.version != self._version:
                        raise ModelChangedError
                    self._scores[row, layer] = next(found)
                self.done += 1
                yield

    def flow(self) -> Flow:
        """It, with NaN where it is not computed yet."""
        settings = self._question.settings() | {
            "window": self._window,
            "layers": self._layers,
            "groups": {
                part: {group.name: list(group.positions) for group in _ends(self._edges) if group.part == part}
                for part in PARTS
            },
        }
        return Flow(tuple(self._edges), self._scores, self._clean, settings)


def _ends(edges: Sequence[Edge]) -> list[Group]:
    return list(dict.fromkeys(group for edge in edges for group in (edge.source, edge.target)))


def _edges(groups: Sequence[Group]) -> list[Edge]:
    """The pairs of groups between which there is attention; the decoder's looks back alone."""
    found = []
    for source in groups:
        for target in groups:
            way = WAYS.get((source.part, target.part))
            ahead = source.part == ANSWER and min(source.positions) > max(target.positions)
            if way is not None and source != target and not ahead:
                found.append(Edge(source, target, *way))
    if not found:
        raise ValueError("groups: expected two between which there is attention, got none")
    return found


def _grouped(question: Question, given: Any) -> list[Group]:
    """The groups, from picture to answer, their tokens by number."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"groups: expected a mapping of {list(PARTS)}, got {type(given).__name__} {brief(given)}")
    asked: dict[str, Any] = dict(given or {})
    unknown = [part for part in asked if part not in PARTS]
    if unknown:
        raise ValueError(f"groups: expected parts out of {list(PARTS)}, got {brief(unknown[0])}")
    found: list[Group] = []
    for part in PARTS:
        own = asked.get(part)
        if own is not None and not isinstance(own, Mapping):
            raise TypeError(f"groups[{brief(part)}]: expected names with tokens, got {type(own).__name__} {brief(own)}")
        for name, tokens in (_default(question, part) if own is None else own).items():
            if not isinstance(name, str):
                raise TypeError(f"groups[{brief(part)}]: expected names, got {type(name).__name__} {brief(name)}")
            positions = tuple(sorted(set(_positions(question, part, name, tokens))))
            found.append(Group(name, part, positions))
    names = [group.name for group in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"groups: expected a name for each group, got {brief(twice[0])} twice")
    return found


def _positions(question: Question, part: str, name: str, tokens: Positions) -> list[int]:
    told = f"groups[{part!r}][{name!r}]"
    if part == PICTURE:
        return image_tokens(told, tokens, question.model)
    own = question.tokens("question_encoder" if part == QUESTION else "answer_decoder")
    return whole_numbers(told, tokens, len(own), own)


def _default(question: Question, part: str) -> dict[str, list[int]]:
    """The groups of a part where none are given; those without tokens are left out."""
    if part == PICTURE:
        found = _of_picture(question)
    elif part == QUESTION:
        found = _of_question(question.question_tokens)
    else:
        last = len(question.tokens("answer_decoder"))
        found = {"start of the answer": [0], "answer so far": list(range(1, last))}
    return {name: positions for name, positions in found.items() if positions}


def _of_picture(question: Question) -> dict[str, list[int]]:
    """The region that the corruption damages and the rest of the picture; or all of it."""
    region = getattr(question.corruption, "region", None)
    every = list(range(question.model.image_token_count))
    if region is None:
        return {"picture": every}
    inside = [int(at) + 1 for at in np.flatnonzero(np.asarray(region))]
    return {"region": inside, "rest of the picture": [at for at in every if at not in set(inside)]}


def _of_question(tokens: Sequence[str]) -> dict[str, list[int]]:
    """The first token, the question word, other words, and what follows: punctuation and [SEP]."""
    words = [at for at, token in enumerate(tokens) if any(sign.isalnum() for sign in token) and token[0] != "["]
    first = words[:1] + _pieces(tokens, words[1:])
    others = [at for at in words if at not in first]
    marks = [at for at in range(1, len(tokens)) if at not in words]
    return {tokens[0]: [0], "question word": first, "other words": others, "end of the question": marks}


def _pieces(tokens: Sequence[str], words: Iterable[int]) -> list[int]:
    """The word pieces with which a word goes on."""
    found = []
    for at in words:
        if not tokens[at].startswith("##"):
            break
        found.append(at)
    return found
