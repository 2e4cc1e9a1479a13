"""Taking a snapshot of a question: the data kept besides its grids.

For: storing and showing results without the model, see `blip_trace_widget.results.snapshot`.
Cost: a JPEG of at most 384 px, once per picture.
Ends: at data; `blip_trace_widget.display.payloads` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from blip_trace_widget.choices import CORRUPTIONS, MetricName
from blip_trace_widget.results.run import Run
from blip_trace_widget.results.snapshot import Block, RunSummary, Snapshot
from blip_trace_widget.states import BLOCKS, BlockName, SiteName
from blip_trace_widget.tracing.corruption import ImageSwap
from blip_trace_widget.tracing.metrics import METRICS
from blip_trace_widget.tracing.question import Question


def snapshot_of(question: Question) -> Snapshot | None:
    """The snapshot of a question; None if the corruption or the metric is a user's own."""
    corruption = question.corruption
    if type(corruption).__name__ not in CORRUPTIONS or METRICS.get(question.metric.name) is not question.metric.score:
        return None
    clean, corrupted = question.clean, question.corrupted
    words = list(dict.fromkeys(word for run in (clean, corrupted) for word, _ in run.top))
    ids = question.model.token_ids(words)
    unknown = tuple(question.unknown_words)
    return Snapshot(
        picture=question.image.jpeg(),
        other_picture=corruption.jpeg if isinstance(corruption, ImageSwap) else b"",
        question=question.text,
        given_answer=question.given["answer"],
        foil=question.given["foil"],
        metric=cast("MetricName", question.metric.name),
        corruption=corruption.settings(),
        model=question.model.name,
        patches=question.model.grid,
        blocks=tuple(_block(question, cast("BlockName", name)) for name in BLOCKS),
        clean=_summary(clean, words, ids),
        corrupted=_summary(corrupted, words, ids),
        total_effect=question.total_effect,
        answer_tokens=tuple(question.answer_tokens),
        unknown_words=unknown,
        knows_a_word=not unknown or _knows_a_word(question),
    )


def _block(question: Question, name: BlockName) -> Block:
    block, reached = question.model.blocks[name], question.corruption.reaches(name)
    sites = cast("tuple[SiteName, ...]", tuple(BLOCKS[name].sites))
    tokens = tuple(question.tokens(name)) if reached else ()
    return Block(name, len(block.layers), block.heads, tokens, sites, "" if reached else "undamaged")


def _summary(run: Run, words: Sequence[str], ids: Sequence[int]) -> RunSummary:
    shares = {word: float(run.distribution[index]) for word, index in zip(words, ids, strict=True)}
    return RunSummary(run.answer, run.score, run.stderr, shares)


def _knows_a_word(question: Question) -> bool:
    pieces = {token for token in question.question_tokens[1:-1] if any(letter.isalnum() for letter in token)}
    return bool(pieces - {question.model.processor.tokenizer.unk_token})
