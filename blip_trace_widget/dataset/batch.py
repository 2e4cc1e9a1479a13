"""Tracing a batch of samples: from pictures and questions to rows of the two tables.

For: `trace_dataset`, which gives batches to this process or to workers on other machines.
Cost: one ViT pass per picture, as many at once as `memory_budget.CHUNK_ROWS` allows; the clean runs of questions of
equal length in one pass; then the corrupted runs and the grids, one sample after another, since one fills the machine.
Ends: at rows. A skipped sample has a row too, with the reason.

Every sample has its own noise (`own_noise`). If all shared one draw, its variance would not shrink with more questions,
and the intervals over questions would not include it.
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

#: The reasons for skipping a sample, which are counted.
UNREADABLE, UNUSABLE, UNANSWERED, WRONG, UNBROKEN = (
    "the picture cannot be read",
    "the question or answer cannot be used",
    "there is no answer to hold the model's against",
    "the model's answer is wrong",
    "the noise does not break the answer",
)
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
        corruption: the corruption; its noise is drawn anew for every sample, see `own_noise`.
        metric: a name, or a user's callable.
        only_correct: whether to skip samples that the model does not answer correctly.
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
        """A plan from the arguments of `trace_dataset`.

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
        """Everything that the numbers depend on, as plain JSON.

        Raises:
            ValueError: if the corruption does not fit the model.
        """
        checked_region(getattr(self.corruption, "region", None), model.grid)
        provenance = model.provenance
        return {
            "model": model.name,
            **{
                name: provenance[name]
                for name in ("revision", "weights", "dtype", "adapters", "changed")
                if name in provenance
            },
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
    """A fingerprint of a user's metric by its code, to distinguish it from others of the same name if possible."""
    code = getattr(metric, "__code__", None)
    parts = [metric.__module__, metric.__qualname__, _of_code(code), metric.__defaults__] if code else [type(metric)]
    parts += [cell.cell_contents for cell in getattr(metric, "__closure__", None) or ()]
    return f"{zlib.crc32(repr(parts).encode('utf-8', 'backslashreplace')):08x}"


def _of_code(code: Any) -> Any:
    inner = [_of_code(constant) if hasattr(constant, "co_code") else constant for constant in code.co_consts]
    return code.co_code, code.co_names, inner


def own_noise(corruption: Corruption, name: str) -> Corruption:
    """A sample's corruption: its seed is the given one plus the sample's id if that is a whole number, else its CRC-32.

    So the noise depends only on the sample, not on its place in the list or the other samples.
    """
    if not isinstance(corruption, GaussianNoise):
        return corruption
    step = int(name) if re.fullmatch(r"\d{1,15}", name, re.ASCII) else zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return replace(corruption, seed=(corruption.seed + step) % 2**63)


def trace_batch(model: BlipVqa, plan: Plan, batch: Batch) -> Tables:
    """The tables of a batch: a row per sample, and a row per cell of the traced ones, in order."""
    samples = batch.samples
    rows = [{"sample": batch.first + at, **identity(sample), "traced": False} for at, sample in enumerate(samples)]
    tracers: dict[int, Tracer] = dict(_tracers(model, plan, rows, samples))
    cells: dict[int, list[Row]] = {}
    places = list(tracers)
    for group in clean_together(tracers[at].case.bases for at in places):
        for place in group:
            at = places[place]
            # Free each tracer at once: one sample's recorded runs may fill the memory.
            cells[at] = list(_trace(plan, tracers.pop(at), rows[at], samples[at]))
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
    }
    # File names may contain what is not valid text.
    return {name: text and text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}


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


@dataclass(frozen=True)
class NamedPicture:
    """A picture file for workers that cannot access it.

    Attributes:
        name: its path.
        content: its bytes; None if it cannot be read.
        problem: why it cannot be read.
    """

    name: str
    content: bytes | None
    problem: str = ""


def _tracers(model: BlipVqa, plan: Plan, rows: list[Row], samples: Sequence[Sample]) -> Iterator[tuple[int, Tracer]]:
    """Yield a tracer for each usable sample; samples of one picture share its embeddings."""
    known: dict[str, Tracer] = {}
    for at, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        try:
            if row["image"] not in known:
                image = _picture(sample.image)
        except (TypeError, ValueError, OSError) as error:
            _skip(row, UNREADABLE, error)
            continue
        try:
            arguments: dict[str, Any] = {
                "question": sample.question,
                "answer": answers.scored(answers.read(sample.answer)),
                "foil": answers.bare(sample.foil) if isinstance(sample.foil, str) else sample.foil,
                "corruption": own_noise(plan.corruption, sample.id),
            }
            if row["image"] in known:
                tracer = known[row["image"]].replace(**arguments)
            else:
                tracer = Tracer(model, image, **arguments, metric=plan.metric)
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
