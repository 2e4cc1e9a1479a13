"""A batch of samples traced: from pictures and questions to rows of the two tables.

For: `trace_dataset`, which hands whole batches to this process or to workers on other machines.
Cost: of every picture one ViT pass, together as `memory_budget.CHUNK_ROWS` allows; the clean runs of questions of equal
length in one pass; then the corrupted runs and the grids, a sample after another, for one alone fills the machine.
Ends: at rows. What was not traced is a row too, with the reason.

Every sample has noise of its own (`corruptions.own_noise`). Were the noise drawn once for all, its share in the average
would not become less with more questions, and the intervals over questions would not know of it.
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
from blip_trace_widget.tracing.corruption import checked_region, plain_region
from blip_trace_widget.tracing.grid import whole_trace
from blip_trace_widget.tracing.metrics import METRICS, Metric, as_metric
from blip_trace_widget.tracing.tracer import Tracer

if TYPE_CHECKING:
    import pyarrow as pa

    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.trace import Trace

#: Why a sample was skipped: the reasons that are counted, beside those of `corruptions`.
UNREADABLE, UNUSABLE, UNFIT, UNANSWERED, WRONG, UNBROKEN = (
    "the picture cannot be read",
    "the question or answer cannot be used",
    "the region does not fit the model",
    "there is no answer to hold the model's against",
    "the model's answer is wrong",
    "the noise does not break the answer",
)
#: Longest side of the pictures that are kept beside the results, in pixels.
KEPT_SIDE = 160

Row: TypeAlias = dict[str, Any]
#: The samples' and the cells' table of a batch.
Tables: TypeAlias = "tuple[pa.Table, pa.Table]"


class Batch(NamedTuple):
    """Samples that land together; the first has the number `first`."""

    number: int
    first: int
    samples: list[Sample]


@dataclass(frozen=True)
class Plan:
    """What is done with every sample.

    Attributes:
        grids: block and site of each grid.
        corruption: where that of each sample comes from.
        metric: a name, or one's own callable.
        only_correct: skip what the model does not answer as the sample says.
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
        """From what was asked.

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
        grids = [(block, site) for block in block_names for site in site_names if site in BLOCKS[block].sites]
        if not grids:
            raise ValueError(f"blocks, sites: {block_names} have none of {site_names}")
        return cls(tuple(dict.fromkeys(grids)), source, metric, only_correct)

    def settings(self, model: BlipVqa) -> Row:
        """What makes the same numbers again, as plain JSON.

        Raises:
            ValueError: if the corruption does not fit the model.
        """
        told = model.provenance
        return {
            "model": model.name,
            **{name: told[name] for name in ("revision", "weights", "dtype", "adapters", "changed") if name in told},
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
            f"blocks: {block!r} can be traced under GaussianNoise(at='patch_embeddings') alone, got {shown_}"
        )


def _names(argument: str, given: Any, known: Iterable[str]) -> list[str]:
    if not isinstance(given, Iterable):
        raise TypeError(f"{argument}: expected some of {list(known)}, got {type(given).__name__}")
    return [named(argument, name, known) for name in ([given] if isinstance(given, str) else given)]


def trace_batch(model: BlipVqa, plan: Plan, batch: Batch) -> Tables:
    """The tables of a batch: a row for each sample, and one for each cell of those that are traced, in their order."""
    samples = batch.samples
    rows = [{"sample": batch.first + at, **identity(sample), "traced": False} for at, sample in enumerate(samples)]
    tracers: dict[int, Tracer] = dict(_tracers(model, plan, rows, samples))
    cells: dict[int, list[Row]] = {}
    places = list(tracers)
    for group in clean_together(tracers[at].case.bases for at in places):
        for place in group:
            at = places[place]
            # Let go of at once: what is recorded of one sample may fill the memory.
            cells[at] = list(_trace(plan, tracers.pop(at), rows[at], samples[at]))
    every = [cell for at in sorted(cells) for cell in cells[at]]
    return store.as_table("samples", rows), store.as_table("cells", every)


def identity(sample: Sample) -> Row:
    """What tells a sample from others, as it is kept."""
    told = {
        "id": sample.id,
        "group": sample.group,
        "image": image_name(sample.image),
        "question": shown(sample.question),
        "given_answer": answers.table_text(sample.answer),
        "foil": None if sample.foil is None else shown(sample.foil),
        "other_image": None if sample.other_image is None else image_name(sample.other_image),
        "other_question": None if sample.other_question is None else shown(sample.other_question),
    }
    # Names of files may hold what no text may.
    texts = {name: text and text.encode("utf-8", "backslashreplace").decode() for name, text in told.items()}
    return texts | {"region": _region(sample.region)}


def _region(given: Any) -> list[list[bool]] | None:
    """A region for the table; None also where it is none."""
    try:
        return plain_region(checked_region(given))
    except ValueError:
        return None


def image_name(image: Any) -> str:
    """A path as it was given; of anything else, where it is a picture, the hash of its pixels."""
    if isinstance(image, NamedPicture):
        return image.name
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        return str(image)
    try:
        return picture_hash(as_image(image))
    except (TypeError, ValueError, OSError):
        return ""


def _tracers(model: BlipVqa, plan: Plan, rows: list[Row], samples: Sequence[Sample]) -> Iterator[tuple[int, Tracer]]:
    """A tracer for each sample that can be asked; samples of one picture share what is computed of it."""
    known: dict[str, Tracer] = {}
    for at, (row, sample) in enumerate(zip(rows, samples, strict=True)):
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
            asked = _asked(plan, sample) | {"corruption": corruption}
            if row["image"] in known:
                tracer = known[row["image"]].replace(**asked)
            else:
                tracer = Tracer(model, image, **asked, metric=plan.metric)
                known[row["image"]] = tracer
            plan.corruption.check(tracer)
        except SkippedError as skipped:
            _skip(row, skipped.reason, skipped)
            continue
        except (TypeError, ValueError) as error:
            _skip(row, UNUSABLE, error)
            continue
        yield at, tracer


def _asked(plan: Plan, sample: Sample) -> dict[str, Any]:
    # A foil of another length than the answer is no obstacle to those metrics that do not look at it.
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
    """The cells of a sample; its row is filled in."""
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
    for block, site in plan.grids:
        yield from _cells(row, whole_trace(tracer.case, block, site))


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
    """Why a total effect is none, or "".

    Whether it is certain is not asked here, as recovery of a single question asks (the gate): to average only questions
    whose effect is would make the average of all look larger than it is.
    """
    if not math.isfinite(effect):
        return "the total effect is not a finite number"
    if abs(effect) < SMALLEST_TOTAL_EFFECT:
        return f"the total effect is smaller than {SMALLEST_TOTAL_EFFECT:g}"
    # A divergence grows where the answer breaks; of one's own metric nobody knows what is good.
    harm = -effect if metric_properties(metric.name).rises else effect
    return "the noise raises the score" if harm < 0 and metric.score in METRICS.values() else ""


def _skip(row: Row, reason: str, why: object) -> None:
    row |= {"reason": reason, "why": str(why).encode("utf-8", "backslashreplace").decode()}
