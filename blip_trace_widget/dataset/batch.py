"""Tracing a batch of samples: from pictures and questions to rows of the two tables.

For: `trace_dataset`, which gives batches to this process or to workers on other machines.
Cost: that of a `Tracer`'s own calls, with one ViT pass per picture, and runs that are computed once and scored by every
metric. On a CPU, which one question fills, every number is also theirs to the last bit. On other devices
(`Limits.together`) pictures are embedded several at once, and so are the clean and the corrupted runs of questions of
equal length; what grids have in common is computed once. Grids follow one sample after another.
Ends: at tables. A skipped sample has a row too, with the reason.

Every sample has its own noise (`corruptions.own_noise`). If all shared one draw, its variance would not shrink with
more questions, and the intervals over questions would not include it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.corruption_fields import checked_region
from blip_trace_widget.dataset import answers, rows, store
from blip_trace_widget.dataset.corruptions import SAME_ANSWER, SkippedError, is_pair
from blip_trace_widget.dataset.held import traces
from blip_trace_widget.dataset.plan import OneMetric, Plan, check_reach
from blip_trace_widget.dataset.rows import Row
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.pictures import as_image, jpeg
from blip_trace_widget.results.grid_spec import as_json
from blip_trace_widget.results.statistics import SMALLEST_TOTAL_EFFECT
from blip_trace_widget.tracing.base_runs import BaseRuns
from blip_trace_widget.tracing.grid import whole_image_maps
from blip_trace_widget.tracing.knockout import whole_knockouts
from blip_trace_widget.tracing.memory_budget import questions_together
from blip_trace_widget.tracing.metrics import METRICS, Metric, as_metric
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.region_attention import region_attention
from blip_trace_widget.tracing.together import clean_together, corrupted_together
from blip_trace_widget.tracing.tracer import Tracer

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from blip_trace_widget.model.blip import BlipVqa

#: The reasons for skipping a sample, which are counted, beside those of `corruptions`.
UNREADABLE, UNUSABLE, UNFIT, UNANSWERED, WRONG, UNBROKEN, NO_STATE = (
    "the picture cannot be read",
    "the question or answer cannot be used",
    "the region does not fit the model",
    "there is no answer to hold the model's against",
    "the model's answer is wrong",
    "the noise does not break the answer",
    "it has no such state to hold or to lead to",
)
#: Pixels of full-size pictures of a batch that are held at once; beyond them it is computed in parts, so that it holds
#: these and one sample's pictures more. A batch of ordinary pictures is one part. As many more are held of the next
#: batch, see `blip_trace_widget.dataset.ahead`.
HELD_PIXELS = 1 << 25
#: Longest side of the pictures stored with the results, in pixels.
KEPT_SIDE = 160

#: Pictures of a batch that are decoded already, by the index of their sample and its field.
Pictures: TypeAlias = "dict[tuple[int, str], Image.Image]"
#: A batch's table of samples and table of cells.
Tables: TypeAlias = "tuple[pa.Table, pa.Table]"


class Batch(NamedTuple):
    """Samples that are stored together.

    Attributes:
        number: number of the batch.
        first: number of its first sample.
        samples: the samples.
        decoded: those of their pictures that are decoded already, until they are used.
    """

    number: int
    first: int
    samples: list[Sample]
    decoded: Pictures | None = None

    def pictures(self, at: int) -> dict[str, Image.Image]:
        """The decoded pictures of a sample, by its field."""
        return {field: picture for (of, field), picture in (self.decoded or {}).items() if of == at}

    def take(self, at: int) -> Sample:
        """A sample with its decoded pictures, which are held here no longer."""
        pictures: dict[str, Any] = {**self.pictures(at)}
        for field in pictures:
            del (self.decoded or {})[at, field]
        return self.samples[at]._replace(**pictures)


class Outcome(NamedTuple):
    """What a metric says of a sample.

    Attributes:
        scored: the columns of its clean and corrupted runs; none if they cannot be scored.
        reason: why there are no cells of it, one of those that are counted; "" if there are.
        why: what exactly.
    """

    scored: Row
    reason: str = ""
    why: str = ""


#: A sample's tracer with each metric, or why there is none.
Tracers: TypeAlias = "list[Tracer | SkippedError]"


def trace_batch(model: BlipVqa, plan: Plan, batch: Batch, held: int = HELD_PIXELS) -> Tables:
    """The tables of a batch: a row per sample, and a row per cell of the traced ones, in order.

    Args:
        model: the model.
        plan: what is computed.
        batch: the samples.
        held: see `HELD_PIXELS`.
    """
    samples = batch.samples
    table: list[Row] = [
        {"sample": batch.first + at, **rows.identity(sample, batch.pictures(at)), "traced": False}
        for at, sample in enumerate(samples)
    ]
    cells: dict[int, pa.Table] = {}
    start = 0
    while start < len(samples):
        tracers, stop = _part(model, plan, table, batch, start, held)
        places = list(tracers)
        for group in clean_together(_first(tracers[at]).case.bases for at in places):
            for few in corrupted_together(_wanted(plan, tracers, table, samples, [places[place] for place in group])):
                for at in few:
                    # Free the tracers at once: one sample's recorded runs may fill the memory.
                    cells[at] = store.joined(list(_trace(plan, tracers.pop(at), table[at], samples[at])))
        start = stop
    return store.as_table("samples", table), store.joined([cells[at] for at in sorted(cells)])


def _first(tracers: Tracers) -> Tracer:
    return next(each for each in tracers if isinstance(each, Tracer))


def _part(
    model: BlipVqa, plan: Plan, table: list[Row], batch: Batch, start: int, held: int
) -> tuple[dict[int, Tracers], int]:
    """The tracers from a sample on that are held together, and the number of the sample that comes after them."""
    tracers: dict[int, Tracers] = {}
    pictures: dict[int, int] = {}
    for at, each in _usable(model, plan, table, batch, start):
        tracers[at], tracer = each, _first(each)  # a sample's tracers share its pictures
        for picture in (tracer.image, getattr(tracer.corruption, "image", None)):
            if picture is not None:
                pictures[id(picture)] = picture.width * picture.height
        if sum(pictures.values()) > held:
            return tracers, at + 1
    return tracers, len(batch.samples)


def _usable(model: BlipVqa, plan: Plan, table: list[Row], batch: Batch, start: int) -> Iterator[tuple[int, Tracers]]:
    """Yield the tracers of each usable sample from one on; samples of one picture share its embeddings."""
    known: dict[str, Tracer] = {}
    for at in range(start, len(batch.samples)):
        row = table[at]
        try:
            tracers = list(_tracers(model, plan, row["image"], batch.samples[at], batch.take(at), known))
            if not any(isinstance(each, Tracer) for each in tracers):
                raise next(each for each in tracers if isinstance(each, SkippedError))
        except SkippedError as skipped:
            _skip(row, skipped.reason, skipped)
        else:
            yield at, tracers


def _tracers(
    model: BlipVqa, plan: Plan, name: str, sample: Sample, decoded: Sample, known: dict[str, Tracer]
) -> Iterator[Tracer | SkippedError]:
    """Yield the tracer of a sample with each metric, or why there is none.

    Args:
        model: the model.
        plan: what is computed.
        name: the picture's name.
        sample: the sample.
        decoded: the same, with its decoded pictures.
        known: a tracer of each picture, by its name.

    Raises:
        SkippedError: if there can be none with any metric.
    """
    try:
        image = None if name in known else _picture(decoded.image)
    except (TypeError, ValueError, OSError) as error:
        raise SkippedError(UNREADABLE, error) from error
    _check_region(sample, model)
    corruption = plan.corruption.of(sample._replace(other_image=decoded.other_image), model)
    for block in plan.reached:
        check_reach(corruption, block, corruption)
    own: Tracer | None = None
    for metric in plan.metrics:
        try:
            asked = _arguments(metric, sample) | {"corruption": corruption, "metric": metric}
            if own is None:
                own = known[name].replace(**asked) if name in known else Tracer(model, image, **asked)
                plan.corruption.check(own)
                known.setdefault(name, own)  # not before: what is skipped is not held
            yield own.replace(metric=metric, foil=asked["foil"])
        except (TypeError, ValueError) as error:
            yield SkippedError(UNUSABLE, error)


def _arguments(metric: OneMetric, sample: Sample) -> dict[str, Any]:
    # A foil with another number of tokens than the answer does not matter to metrics that do not use it.
    foil = sample.foil if as_metric(metric).needs_foil else None
    return {
        "question": sample.question,
        "answer": answers.scored(answers.read(sample.answer)),
        "foil": answers.bare(foil) if isinstance(foil, str) else foil,
    }


def _check_region(sample: Sample, model: BlipVqa) -> None:
    try:
        checked_region(sample.region, model.grid)
    except ValueError as error:
        raise SkippedError(UNFIT, error) from error


def _picture(image: Any) -> Any:
    return image.opened() if isinstance(image, NamedPicture) else as_image(image)


def _wanted(
    plan: Plan, tracers: dict[int, Tracers], table: list[Row], samples: Sequence[Sample], group: Sequence[int]
) -> Iterator[tuple[int, BaseRuns]]:
    """Yield those of a group that are to be traced, with their base runs; the tracers of the others are dropped."""
    for at in group:
        bases = _first(tracers[at]).case.bases
        if _is_wanted(plan, bases, table[at], samples[at]):
            yield at, bases
        else:
            del tracers[at]


def _is_wanted(plan: Plan, bases: BaseRuns, row: Row, sample: Sample) -> bool:
    """Whether a sample's own answer lets it be traced; it is written into its row."""
    own = row["own_answer"] = bases.model.text(bases.own_answer_ids())
    if sample.answer is not None:
        accuracy = answers.accuracy(own, sample.answer)
        row |= {"accuracy": accuracy, "correct": accuracy >= answers.RIGHT}
    if not plan.only_correct or row.get("correct"):
        return True
    if sample.answer is None:
        _skip(row, UNANSWERED, f"it says {own!r}, and the sample has no answer")
    else:
        _skip(row, WRONG, f"it says {own!r}, not {answers.table_text(sample.answer)!r}")
    return False


def _trace(plan: Plan, tracers: Tracers, row: Row, sample: Sample) -> Iterator[pa.Table]:
    """Yield tables of a sample's cells, and complete the sample's own row."""
    own = row["own_answer"]
    outcomes = [_outcome(each) for each in tracers]
    first, *others = outcomes
    row |= first.scored
    if others:
        row["metrics"] = [
            {"metric": as_metric(metric).name, "why": outcome.why or None, **outcome.scored}
            for metric, outcome in zip(plan.metrics[1:], others, strict=True)
        ]
    scored = [each for each, outcome in zip(tracers, outcomes, strict=True) if outcome.scored]
    broken = [each for each, outcome in zip(tracers, outcomes, strict=True) if not outcome.reason]
    if scored:
        tracer = _first(scored)
        row |= {"answer": tracer.answer, "corrupted_answer": (said := tracer.corrupted.answer)}
        if is_pair(plan.corruption, tracer.corruption) and answers.normalised(said) == answers.normalised(own):
            _skip(row, SAME_ANSWER, f"it says {own!r} to both")
            return
    if not broken:
        _skip(row, first.reason, first.why)
        return
    cases = [each.case for each in broken if isinstance(each, Tracer)]
    try:
        held = plan.held.located(cases[0], plan.blocks)
    except ValueError as error:
        _skip(row, NO_STATE, error)
        return
    row |= _described(_first(broken), held) | {"traced": True, "why": first.why or None}
    if first.reason:  # what a widget shows is of the first metric
        row |= {"snapshot": None, "other_picture": None}
    region = checked_region(sample.region)
    if region is not None and plan.has_image_heads:
        row["attention"] = region_attention(cases[0], np.array(region)).tolist()
    yield from _cells(plan, cases, row, sample, held)


def _outcome(tracer: Tracer | SkippedError) -> Outcome:
    """What a metric says of a sample."""
    if isinstance(tracer, SkippedError):
        return Outcome({}, tracer.reason, rows.plain_text(tracer))
    try:
        _ = tracer.answer_tokens
    except ValueError as error:  # an empty answer, or a foil that does not fit the model's own
        return Outcome({}, UNUSABLE, rows.plain_text(error))
    total = tracer.total_effect
    scored = {
        "clean": tracer.clean.score,
        "corrupted": float(total.corrupted.mean()),
        "corrupted_scores": total.corrupted,
        "total_effect": total.value,
        "total_effect_stderr": total.stderr,
    }
    unbroken = _unbroken(total.value, tracer.metric)
    return Outcome(scored, UNBROKEN if unbroken else "", unbroken)


def _described(tracer: Tracer, held: Mapping[str, Any]) -> Row:
    """The columns of a traced sample that its cells are read with; with what is held."""
    snapshot = tracer.snapshot
    told = {name: as_json(given) for name, given in held.items()}
    return {
        "question_tokens": tracer.question_tokens,
        "unknown_words": tracer.unknown_words,
        "settings": json.dumps(tracer.case.settings() | {"corruption": tracer.corruption.settings(), **told}),
        "picture": jpeg(tracer.image, KEPT_SIDE, quality=80),
        "snapshot": None if snapshot is None else json.dumps(snapshot.packed()),
        "other_picture": None if snapshot is None else snapshot.other_picture or None,
    }


def _cells(
    plan: Plan, questions: Sequence[Question], row: Row, sample: Sample, held: Mapping[str, Any]
) -> Iterator[pa.Table]:
    """Yield tables of a sample's cells.

    Args:
        plan: what is computed.
        questions: the sample's question, with each metric under which its answer is broken.
        row: the sample's row.
        sample: the sample.
        held: what is held in it, or where paths lead.
    """
    model = questions[0].model
    shared = questions_together(model.device, model.limits)
    for of_each in traces(questions, plan.specs(model), held, shared=shared):
        for trace in of_each:
            yield rows.of_grid(row, trace)
    if plan.image_map is not None:
        for direction in plan.directions:
            for each in whole_image_maps(questions, plan.image_map, direction):
                yield rows.of_image_map(row, each, model.grid)
    region, names = checked_region(sample.region), list(plan.knockout)
    for name, window in plan.cuts(model):
        edges = plan.knockout[name]
        chosen = edges.of(questions[0], region)
        if chosen is not None:
            cut = (edges.block, *chosen, edges.site, edges.head, window)
            for knockout in whole_knockouts(questions, *cut):
                yield rows.of_knockout(row, knockout, names.index(name), name)


def _unbroken(effect: float, metric: Metric) -> str:
    """Why a total effect counts as none, or "".

    Unlike the gate for a single question's recovery, this does not require significance: averaging only questions with
    significant effects would bias the average upwards.
    """
    if not math.isfinite(effect):
        return "the total effect is not a finite number"
    if abs(effect) < SMALLEST_TOTAL_EFFECT:
        return f"the total effect is smaller than {SMALLEST_TOTAL_EFFECT:g}"
    # A divergence rises as the answer is lost; the good direction of a user's metric is unknown.
    harm = -effect if metric_properties(metric.name).rises else effect
    return "the noise raises the score" if harm < 0 and metric.score in METRICS.values() else ""


def _skip(row: Row, reason: str, why: object) -> None:
    row |= {"reason": reason, "why": rows.plain_text(why)}
