"""A batch of samples traced: from pictures and questions to rows of the two tables.

For: `trace_dataset`, which hands whole batches to this process or to workers on other machines.
Cost: of every picture one ViT pass, together as `memory_budget.CHUNK_ROWS` allows; the clean runs of questions of equal
length in one pass; then the corrupted runs and the grids, a sample after another, for one alone fills the machine.
Ends: at rows. What was not traced is a row too, with the reason.

Every sample has noise of its own (`own_noise`). Were the noise drawn once for all, its share in the average would not
become less with more questions, and the intervals over questions would not know of it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from blip_trace_widget.checks import named, one_of
from blip_trace_widget.choices import CORRUPTIONS, MetricName, metric_properties
from blip_trace_widget.dataset import answers, store
from blip_trace_widget.dataset.cells import shown
from blip_trace_widget.dataset.samples import Sample
from blip_trace_widget.pictures import as_image, jpeg, picture_hash
from blip_trace_widget.results.statistics import SMALLEST_TOTAL_EFFECT
from blip_trace_widget.states import BLOCKS, SITES, BlockName, SiteName
from blip_trace_widget.tracing.base_runs import clean_together
from blip_trace_widget.tracing.corruption import Corruption, GaussianNoise
from blip_trace_widget.tracing.damaged_tokens import checked_region
from blip_trace_widget.tracing.grid import whole_traces
from blip_trace_widget.tracing.metrics import METRICS, Metric, as_metric
from blip_trace_widget.tracing.tracer import Tracer

if TYPE_CHECKING:
    import pyarrow as pa

    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.trace import Trace

#: Why a sample was skipped: the reasons that are counted.
UNREADABLE, UNUSABLE, UNANSWERED, WRONG, UNBROKEN = (
    "the picture cannot be read",
    "the question or answer cannot be used",
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
        corruption: its noise is drawn for every sample anew, see `own_noise`.
        metric: a name, or one's own callable.
        only_correct: skip what the model does not answer as the sample says.
    """

    grids: tuple[tuple[str, str], ...]
    corruption: Corruption
    metric: MetricName | Callable[..., Any]
    only_correct: bool

    @classmethod
    def of(
        cls,
        blocks: Sequence[BlockName] | BlockName,
        sites: Sequence[SiteName] | SiteName,
        corruption: Corruption | None,
        metric: MetricName | Callable[..., Any],
        only_correct: bool,
    ) -> Plan:
        """From what was asked.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        damage = GaussianNoise() if corruption is None else corruption
        if not isinstance(damage, Corruption):
            raise TypeError(f"corruption: expected one such as GaussianNoise, got {type(damage).__name__}")
        one_of("corruption", type(damage).__name__, CORRUPTIONS)
        if not isinstance(only_correct, bool):
            raise TypeError(f"only_correct: expected True or False, got {type(only_correct).__name__}")
        as_metric(metric)
        block_names, site_names = _names("blocks", blocks, BLOCKS), _names("sites", sites, SITES)
        for block in block_names:
            if not damage.reaches(block):
                raise ValueError(
                    f"blocks: {block!r} can be traced under a corruption at='patch_embeddings' alone, got {damage!r}"
                )
        grids = [(block, site) for block in block_names for site in site_names if site in BLOCKS[block].accepted]
        if not grids:
            raise ValueError(f"blocks, sites: {block_names} have none of {site_names}")
        return cls(tuple(dict.fromkeys(grids)), damage, metric, only_correct)

    def settings(self, model: BlipVqa) -> Row:
        """What makes the same numbers again, as plain JSON.

        Raises:
            ValueError: if the corruption does not fit the model.
        """
        checked_region(getattr(self.corruption, "region", None), model.grid)
        told = model.provenance
        return {
            "model": model.name,
            **{name: told[name] for name in ("revision", "weights", "dtype", "adapters", "changed") if name in told},
            "grids": [list(grid) for grid in self.grids],
            "corruption": self.corruption.settings(),
            "metric": as_metric(self.metric).name
            + ("" if isinstance(self.metric, str) else f" {_fingerprint(self.metric)}"),
            "only_correct": self.only_correct,
        }


def _names(argument: str, given: Any, known: Iterable[str]) -> list[str]:
    if not isinstance(given, Iterable):
        raise TypeError(f"{argument}: expected some of {list(known)}, got {type(given).__name__}")
    return [named(argument, name, known) for name in ([given] if isinstance(given, str) else given)]


def _fingerprint(metric: Any) -> str:
    """What distinguishes a user's metric from another of the same name, as far as possible: its code."""
    code = getattr(metric, "__code__", None)
    told = [metric.__module__, metric.__qualname__, _of_code(code), metric.__defaults__] if code else [type(metric)]
    told += [cell.cell_contents for cell in getattr(metric, "__closure__", None) or ()]
    return f"{zlib.crc32(repr(told).encode('utf-8', 'backslashreplace')):08x}"


def _of_code(code: Any) -> Any:
    inner = [_of_code(each) if hasattr(each, "co_code") else each for each in code.co_consts]
    return code.co_code, code.co_names, inner


def own_noise(corruption: Corruption, name: str) -> Corruption:
    """The noise of a sample: the given seed plus the sample's id where that is a whole number, else plus its CRC-32.

    So it goes with the sample, wherever it stands in the list and whatever is traced beside it.
    """
    if not isinstance(corruption, GaussianNoise):
        return corruption
    step = int(name) if re.fullmatch(r"\d{1,15}", name, re.ASCII) else zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return replace(corruption, seed=(corruption.seed + step) % 2**63)


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
    }
    # Names of files may hold what no text may.
    return {name: text and text.encode("utf-8", "backslashreplace").decode() for name, text in told.items()}


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


@dataclass(frozen=True)
class NamedPicture:
    """The bytes of a picture file and its path, for workers that do not see the file; None where it cannot be read."""

    name: str
    content: bytes | None
    problem: str = ""


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
            asked: dict[str, Any] = {
                "question": sample.question,
                "answer": answers.scored(answers.read(sample.answer)),
                "foil": answers.bare(sample.foil) if isinstance(sample.foil, str) else sample.foil,
                "corruption": own_noise(plan.corruption, sample.id),
            }
            if row["image"] in known:
                tracer = known[row["image"]].replace(**asked)
            else:
                tracer = Tracer(model, image, **asked, metric=plan.metric)
                known[row["image"]] = tracer
        except (TypeError, ValueError) as error:
            _skip(row, UNUSABLE, error)
            continue
        yield at, tracer


def _picture(image: Any) -> Any:
    if not isinstance(image, NamedPicture):
        return as_image(image)
    if image.content is None:
        raise OSError(image.problem)
    return as_image({"bytes": image.content, "path": image.name})


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
    unbroken = _unbroken(total.value, tracer.metric)
    if unbroken:
        _skip(row, UNBROKEN, unbroken)
        return
    snapshot = tracer.snapshot
    row |= {
        "traced": True,
        "corrupted_answer": tracer.corrupted.answer,
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
