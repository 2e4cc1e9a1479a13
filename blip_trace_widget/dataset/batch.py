"""Tracing a batch of samples: from pictures and questions to rows of the two tables.

For: `trace_dataset`, which gives batches to this process or to workers on other machines.
Cost: one ViT pass per picture, as many at once as `memory_budget.CHUNK_ROWS` allows; the clean runs of questions of
equal length in one pass; then the corrupted runs and the grids, one sample after another, since one fills the machine.
Ends: at rows. A skipped sample has a row too, with the reason.

Every sample has its own noise (`corruptions.own_noise`). If all shared one draw, its variance would not shrink with
more questions, and the intervals over questions would not include it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from blip_trace_widget.checks import named
from blip_trace_widget.choices import MetricName, metric_properties
from blip_trace_widget.dataset import answers, fingerprints, store
from blip_trace_widget.dataset.cells import shown
from blip_trace_widget.dataset.corruptions import SAME_ANSWER, Given, SkippedError, Source, as_source, is_pair
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.pictures import as_image, jpeg, picture_hash
from blip_trace_widget.results.statistics import SMALLEST_TOTAL_EFFECT
from blip_trace_widget.states import BLOCKS, SITES, BlockName, SiteName
from blip_trace_widget.tracing.base_runs import clean_together
from blip_trace_widget.tracing.damaged_tokens import checked_region, plain_region
from blip_trace_widget.tracing.grid import whole_traces
from blip_trace_widget.tracing.metrics import METRICS, Metric, as_metric
from blip_trace_widget.tracing.tracer import Tracer

if TYPE_CHECKING:
    import pyarrow as pa

    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.trace import Trace

#: The reasons for skipping a sample, which are counted, beside those of `corruptions`.
UNREADABLE, UNUSABLE, UNFIT, UNANSWERED, WRONG, UNBROKEN = (
    "the picture cannot be read",
    "the question or answer cannot be used",
    "the region does not fit the model",
    "there is no answer to hold the model's against",
    "the model's answer is wrong",
    "the noise does not break the answer",
)
#: Pixels of full-size pictures that are held at once; beyond them a batch is computed in parts, so that it holds these
#: and one sample's pictures more. A batch of ordinary pictures is one part.
HELD_PIXELS = 1 << 26
#: Longest side of the pictures stored with the results, in pixels.
KEPT_SIDE = 160

Row: TypeAlias = dict[str, Any]
#: A batch's table of samples and table of cells.
Tables: TypeAlias = "tuple[pa.Table, pa.Table]"


class Batch(NamedTuple):
    """Samples that are stored together.

    Attributes:
        number: number of the batch.
        first: number of its first sample.
        samples: the samples.
    """

    number: int
    first: int
    samples: list[Sample]


@dataclass(frozen=True)
class Plan:
    """What is computed for every sample.

    Attributes:
        grids: block and site of each grid.
        corruption: the source of each sample's corruption.
        metric: a name, or a user's callable.
        only_correct: whether to skip samples that the model does not answer correctly.
    """

    grids: tuple[tuple[str, str], ...]
    corruption: Source
    metric: MetricName | Callable[..., Any]
    only_correct: bool

    @classmethod
    def of(
        cls,
        blocks: Sequence[BlockName] | BlockName,
        sites: Sequence[SiteName] | SiteName,
        corruption: Given,
        metric: MetricName | Callable[..., Any],
        only_correct: bool,
    ) -> Plan:
        """A plan from the arguments of `trace_dataset`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        source = as_source(corruption)
        if not isinstance(only_correct, bool):
            raise TypeError(f"only_correct: expected True or False, got {type(only_correct).__name__}")
        as_metric(metric)
        block_names, site_names = _names("blocks", blocks, BLOCKS), _names("sites", sites, SITES)
        for block in block_names:
            _check_reach(source, block, corruption)
        grids = [(block, site) for block in block_names for site in site_names if site in BLOCKS[block].accepted]
        if not grids:
            raise ValueError(f"blocks, sites: {block_names} have none of {site_names}")
        return cls(tuple(dict.fromkeys(grids)), source, metric, only_correct)

    def settings(self, model: BlipVqa) -> Row:
        """Everything that the numbers depend on, as plain JSON.

        Raises:
            ValueError: if the corruption does not fit the model.
        """
        provenance = model.provenance
        return {
            "model": model.name,
            **{
                name: provenance[name]
                for name in ("revision", "weights", "dtype", "adapters", "changed")
                if name in provenance
            },
            "grids": [list(grid) for grid in self.grids],
            "corruption": self.corruption.settings(model),
            "metric": as_metric(self.metric).name
            + ("" if isinstance(self.metric, str) else f" {fingerprints.of_callable(self.metric)}"),
            "only_correct": self.only_correct,
        }


def _check_reach(source: Any, block: str, given: Any) -> None:
    if not source.reaches(block):
        shown_ = given.__name__ if isinstance(given, type) else repr(given)
        raise ValueError(
            f"blocks: {block!r} can be traced under a corruption at='patch_embeddings' alone, got {shown_}"
        )


def _names(argument: str, given: Any, known: Iterable[str]) -> list[str]:
    if not isinstance(given, Iterable):
        raise TypeError(f"{argument}: expected some of {list(known)}, got {type(given).__name__}")
    return [named(argument, name, known) for name in ([given] if isinstance(given, str) else given)]


def trace_batch(model: BlipVqa, plan: Plan, batch: Batch, held: int = HELD_PIXELS) -> Tables:
    """The tables of a batch: a row per sample, and a row per cell of the traced ones, in order.

    Args:
        model: the model.
        plan: what is computed.
        batch: the samples.
        held: see `HELD_PIXELS`.
    """
    samples = batch.samples
    rows = [{"sample": batch.first + at, **identity(sample), "traced": False} for at, sample in enumerate(samples)]
    cells: dict[int, list[Row]] = {}
    start = 0
    while start < len(samples):
        tracers, stop = _part(model, plan, rows, samples, start, held)
        places = list(tracers)
        for group in clean_together(tracers[at].case.bases for at in places):
            for place in group:
                at = places[place]
                # Free each tracer at once: one sample's recorded runs may fill the memory.
                cells[at] = list(_trace(plan, tracers.pop(at), rows[at], samples[at]))
        start = stop
    cell_rows = [cell for at in sorted(cells) for cell in cells[at]]
    return store.as_table("samples", rows), store.as_table("cells", cell_rows)


def identity(sample: Sample) -> Row:
    """The columns that identify a sample."""
    texts = {
        "id": sample.id,
        "group": sample.group,
        "image": image_name(sample.image),
        "question": shown(sample.question),
        "given_answer": answers.table_text(sample.answer),
        "foil": None if sample.foil is None else shown(sample.foil),
        "other_image": None if sample.other_image is None else image_name(sample.other_image),
        "other_question": None if sample.other_question is None else shown(sample.other_question),
    }
    # File names may contain what is not valid text.
    valid = {name: text and text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return valid | {"region": _region(sample.region)}


def _region(given: Any) -> list[list[bool]] | None:
    """A region for the table; None also if it is not a valid one."""
    try:
        return plain_region(checked_region(given))
    except ValueError:
        return None


def image_name(image: Any) -> str:
    """A path as it was given; the hash of the pixels for any other picture; "" if it cannot be read."""
    if isinstance(image, NamedPicture):
        return image.name
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        return str(image)
    try:
        return picture_hash(as_image(image))
    except (TypeError, ValueError, OSError):
        return ""


def _part(
    model: BlipVqa, plan: Plan, rows: list[Row], samples: Sequence[Sample], start: int, held: int
) -> tuple[dict[int, Tracer], int]:
    """The tracers from a sample on that are held together, and the number of the sample that comes after them."""
    tracers: dict[int, Tracer] = {}
    pictures: dict[int, int] = {}
    for at, tracer in _tracers(model, plan, rows, samples, start):
        tracers[at] = tracer
        for picture in (tracer.image, getattr(tracer.corruption, "image", None)):
            if picture is not None:
                pictures[id(picture)] = picture.width * picture.height
        if sum(pictures.values()) > held:
            return tracers, at + 1
    return tracers, len(samples)


def _tracers(
    model: BlipVqa, plan: Plan, rows: list[Row], samples: Sequence[Sample], start: int
) -> Iterator[tuple[int, Tracer]]:
    """Yield a tracer for each usable sample from one on; samples of one picture share its embeddings."""
    known: dict[str, Tracer] = {}
    for at, (row, sample) in enumerate(zip(rows[start:], samples[start:], strict=True), start):
        try:
            if row["image"] not in known:
                image = _picture(sample.image)
        except (TypeError, ValueError, OSError) as error:
            _skip(row, UNREADABLE, error)
            continue
        try:
            _check_region(sample, model)
            corruption = plan.corruption.of(sample, model)
        except SkippedError as skipped:
            _skip(row, skipped.reason, skipped)
            continue
        for block, _ in plan.grids:
            _check_reach(corruption, block, corruption)
        try:
            arguments = _arguments(plan, sample) | {"corruption": corruption}
            if row["image"] in known:
                tracer = known[row["image"]].replace(**arguments)
            else:
                tracer = Tracer(model, image, **arguments, metric=plan.metric)
                known[row["image"]] = tracer
            plan.corruption.check(tracer)
        except SkippedError as skipped:
            _skip(row, skipped.reason, skipped)
            continue
        except (TypeError, ValueError) as error:
            _skip(row, UNUSABLE, error)
            continue
        yield at, tracer


def _arguments(plan: Plan, sample: Sample) -> dict[str, Any]:
    # A foil with another number of tokens than the answer does not matter to metrics that do not use it.
    foil = sample.foil if as_metric(plan.metric).needs_foil else None
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


def _trace(plan: Plan, tracer: Tracer, row: Row, sample: Sample) -> Iterator[Row]:
    """Yield the rows of a sample's cells, and complete the sample's own row."""
    own = tracer.model.text(tracer.case.bases.own_answer_ids())
    row["own_answer"] = own
    if sample.answer is not None:
        accuracy = answers.accuracy(own, sample.answer)
        row |= {"accuracy": accuracy, "correct": accuracy >= answers.RIGHT}
    if plan.only_correct and not row.get("correct"):
        if sample.answer is None:
            _skip(row, UNANSWERED, f"it says {own!r}, and the sample has no answer")
        else:
            _skip(row, WRONG, f"it says {own!r}, not {answers.table_text(sample.answer)!r}")
        return
    try:
        _ = tracer.answer_tokens
    except ValueError as error:  # an empty answer, or a foil that does not fit the model's own
        _skip(row, UNUSABLE, error)
        return
    clean, total = tracer.clean, tracer.total_effect
    row |= {
        "answer": tracer.answer,
        "clean": clean.score,
        "corrupted": float(total.corrupted.mean()),
        "corrupted_scores": total.corrupted,
        "total_effect": total.value,
        "total_effect_stderr": total.stderr,
    }
    row["corrupted_answer"] = said = tracer.corrupted.answer
    if is_pair(plan.corruption, tracer.corruption) and answers.normalised(said) == answers.normalised(own):
        _skip(row, SAME_ANSWER, f"it says {own!r} to both")
        return
    unbroken = _unbroken(total.value, tracer.metric)
    if unbroken:
        _skip(row, UNBROKEN, unbroken)
        return
    snapshot = tracer.snapshot
    row |= {
        "traced": True,
        "question_tokens": tracer.question_tokens,
        "unknown_words": tracer.unknown_words,
        "settings": json.dumps(tracer.case.settings() | {"corruption": tracer.corruption.settings()}),
        "picture": jpeg(tracer.image, KEPT_SIDE, quality=80),
        "snapshot": None if snapshot is None else json.dumps(snapshot.packed()),
        "other_picture": None if snapshot is None else snapshot.other_picture or None,
    }
    for trace in whole_traces(tracer.case, plan.grids):
        yield from _cells(row, trace)


def _cells(row: Row, trace: Trace) -> Iterator[Row]:
    effect, stderr, scores = trace.indirect_effect, trace.stderr, trace.scores
    for layer, position in np.ndindex(effect.shape):
        yield {
            "sample": row["sample"],
            "id": row["id"],
            "group": row["group"],
            "block": trace.settings["block"],
            "site": trace.settings["site"],
            "layer": layer,
            "position": position,
            "token": trace.tokens[position],
            "clean": trace.clean,
            "corrupted": row["corrupted"],
            "score": scores[layer, position],
            "indirect_effect": effect[layer, position],
            "stderr": stderr[layer, position],
            "scores": trace.samples[:, layer, position],
        }


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
    row |= {"reason": reason, "why": str(why).encode("utf-8", "backslashreplace").decode()}
