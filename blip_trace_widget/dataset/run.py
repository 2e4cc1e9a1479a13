"""`trace_dataset`: every sample traced or skipped with a reason, batch by batch, here or on the workers of a cluster.

For: the single entry point. It splits the samples into batches, leaves out finished ones, and writes the others' tables
to the folder as they are completed.
Cost: see `blip_trace_widget.dataset.batch`; memory for one batch and the pictures of the next, or two batches per
worker.
Ends: at a folder; `blip_trace_widget.dataset.traced` reads it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, overload

from blip_trace_widget.checks import whole_number
from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.ahead import ReadAhead
from blip_trace_widget.dataset.batch import UNREADABLE, Batch, Tables, trace_batch
from blip_trace_widget.dataset.corruptions import UNREADABLE_PARTNER, Given
from blip_trace_widget.dataset.damage import MAX_BATCH
from blip_trace_widget.dataset.edges import Edges
from blip_trace_widget.dataset.estimate import DatasetPlan, estimated
from blip_trace_widget.dataset.plan import OneMetric, Plan
from blip_trace_widget.dataset.rows import identity
from blip_trace_widget.dataset.samples import PathLike, Sample, as_samples
from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import as_progress
from blip_trace_widget.pictures import as_image
from blip_trace_widget.states import BlockName, Direction, SiteName
from blip_trace_widget.tracing.holding import HoldLike
from blip_trace_widget.tracing.paths import ReceiversLike

#: Samples per batch, which are computed and written together, so that a batch always gives the same numbers.
BATCH = 16


@overload  # all but `plan` as below
def trace_dataset(*arguments: Any, plan: Literal[True], **options: Any) -> DatasetPlan: ...
@overload
def trace_dataset(
    samples: Any,
    model: BlipVqa | str | os.PathLike[str],
    out: PathLike,
    blocks: Sequence[BlockName] | BlockName = ("question_encoder", "answer_decoder"),
    sites: Sequence[SiteName] | SiteName = ("block_output",),
    corruption: Given = None,
    metric: OneMetric | Sequence[OneMetric] = "probability",
    client: Any = None,
    progress: bool | Callable[[int, int], object] | None = True,
    *,
    head: int | Literal["all"] | Sequence[int | Literal["all"] | None] | None = None,
    window: int | Sequence[int] = 1,
    direction: Direction | Sequence[Direction] = "restore",
    image_map: int | None = None,
    knockout: Mapping[str, Edges] | None = None,
    hold: HoldLike = None,
    receivers: ReceiversLike | None = None,
    only_correct: bool = False,
    batch_size: int = BATCH,
    plan: Literal[False] = False,
) -> DatasetTrace: ...
def trace_dataset(  # type: ignore[misc]
    samples: Any,
    model: BlipVqa | str | os.PathLike[str],
    out: PathLike,
    blocks: Sequence[BlockName] | BlockName = ("question_encoder", "answer_decoder"),
    sites: Sequence[SiteName] | SiteName = ("block_output",),
    corruption: Given = None,
    metric: OneMetric | Sequence[OneMetric] = "probability",
    client: Any = None,
    progress: bool | Callable[[int, int], object] | None = True,
    *,
    head: int | Literal["all"] | Sequence[int | Literal["all"] | None] | None = None,
    window: int | Sequence[int] = 1,
    direction: Direction | Sequence[Direction] = "restore",
    image_map: int | None = None,
    knockout: Mapping[str, Edges] | None = None,
    hold: HoldLike = None,
    receivers: ReceiversLike | None = None,
    only_correct: bool = False,
    batch_size: int = BATCH,
    plan: bool = False,
) -> DatasetTrace | DatasetPlan:
    """Trace every sample of a data set into a folder of Parquet files, resuming where an earlier call ended.

    Results are written in complete batches, which survive whatever ends the process: the same call computes only what
    is missing, and the tables are the same as without the interruption. Every sample appears in the samples' table,
    traced or skipped with a reason.

    Every sample has its own noise: the corruption's seed plus the sample's id if that is a whole number (7, 7.0 and "7"
    are the same), else its CRC-32; samples with the same id share it. So the intervals over samples include the noise.
    `Tracer` with the settings in the samples' table gives the same numbers. (To repeat everything with other noise, use
    a seed that differs by more than the number of samples.)

    A sample is skipped if its picture cannot be read, its question or answer cannot be used (True and 2.5 are not
    answers), its region has other patches than the model, or the noise does not break the answer: it raises the score,
    or lowers it by less than 0.001. With a partner, a sample is also skipped if the partner is missing, cannot be read,
    equals the original, has a question of another number of tokens (it is never padded), or gets the same answer from
    the model. (Pictures of any two sizes are a pair: they have the same number of image tokens.) All others are traced
    and averaged. Pictures are identified by file name; unreadable ones are tried again in the next call.

    Args:
        samples: an iterable of (image, question[, answer, foil, id, group, other_image, other_question, region]) or of
            mappings with these names (see `Sample`), a pandas DataFrame or Hugging Face data set with such columns, or
            the result of a reader (`read_coco_qa`, `read_vqa`, ...) or `demo_samples`. Names are compared without case
            and spaces; similar names are refused, others are listed in a warning. Without an answer the model's own is
            scored; of several (VQA's ten), the most frequent one. They are read one batch ahead.
        model: a `BlipVqa`, a hub id or a folder.
        out: the folder for the results; created if necessary.
        blocks: blocks to trace. All that is listed of blocks, sites, heads, windows and directions is combined: there
            is a grid of each combination that exists. Of what occurs in none, a head of sites without heads or a window
            larger than any block, the call is refused.
        sites: sites to trace.
        corruption: default ``GaussianNoise(factor=5.0, samples=10, seed=0)``. Any `Corruption`, also one of your own
            class (with a cluster, one that can be pickled); or the class `ImageSwap` or `QuestionSwap` itself: each
            sample's own partner, `other_image` or `other_question`, as a whole; or a function of the sample that
            returns a `Corruption`: ``lambda sample: ImageSwap(sample.other_image, region=sample.region)``. The results
            of a function, and instances of your own class, are used unchanged, seeds included.
        metric: as in `Tracer`, one or several. Runs are computed once and scored by each. A sample has cells of a
            metric if the corruption breaks its answer under that metric; it is skipped if it does under none, with the
            reason of the first. The samples' table has the first one's scores, and those of the others in the column
            ``metrics``.
        client: a ``dask.distributed.Client``, whose workers trace. They load the model themselves, so it must be a hub
            id, a folder that they can access, or a `BlipVqa` made from one. The pictures are sent to them.
        progress: True for a bar and the counts in words, or a callable on (samples done, samples in total; None if
            unknown).
        head: one head of an attention, several, or ``"all"`` for each head of a block; None for the whole site.
        window: layers patched together around each layer; one or several.
        direction: ``"restore"``, ``"disrupt"`` or both.
        image_map: side of the squares of image tokens that are patched one at a time, as in
            `Tracer.trace_image_tokens`, in each direction; None for no map.
        knockout: attention edges by name, which are cut in each window of layers in turn, as in
            `Tracer.trace_knockout`: ``{"object": Edges("question_encoder", keys="object")}``, see `Edges`.
        hold: what is held in every grid, as in `Tracer.trace`: sites by name, states, or both; a position may be a
            word, which is found in each question. Samples that lack the state, or have the word twice, are skipped.
        receivers: instead the grids are those of `Tracer.trace_paths`: what goes directly from each sender to these
            states, named likewise, or to ``"answer"``. Neither goes with `image_map` and `knockout`, nor receivers with
            a window.
        only_correct: whether to skip samples that the model does not answer correctly, and those without an answer.
            Answers are compared as in the VQA evaluation (case, punctuation, articles, number words); with several, an
            answer is right from an accuracy of 0.5: two of ten people gave it.
        batch_size: samples per batch.
        plan: True to say beforehand what all samples will take, without writing anything: cells, time on this machine,
            bytes on disk. Ten of them, evenly spread, are really traced for that, and thrown away. Of a stream, whose
            length is unknown, the first ten are; a generator loses these.

    Returns:
        the traced data set, as `DatasetTrace.load` opens it; with `plan`, a `DatasetPlan`.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted; also if the folder contains
            something else, or results of other settings or samples.
        OSError: if the folder cannot be written; finished batches are kept.
        ImportError: if the extra ``data`` is not installed, or the workers lack the package.
        RuntimeError: if the cluster lost a batch for good.
    """
    store.arrow()
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"out: expected the path of a folder, got {type(out).__name__}")
    if not isinstance(plan, bool):
        raise TypeError(f"plan: expected True or False, got {type(plan).__name__}")
    what = Plan.of(
        *(blocks, sites, corruption, metric, only_correct),
        head=head,
        window=window,
        direction=direction,
        image_map=image_map,
        knockout=knockout,
        hold=hold,
        receivers=receivers,
    )
    size = whole_number("batch_size", batch_size, 1, MAX_BATCH)
    given = as_samples(samples)
    total = len(samples) if hasattr(samples, "__len__") else None
    if plan:
        store.check_place(out)
        return estimated(given, total, size, _tracing(_loaded(model), what))
    if client is None:
        workers: Any = InProcess(_loaded(model), what)
    else:
        from blip_trace_widget.dataset.cluster import Cluster

        workers = Cluster(client, model, what)
    counted = _Counted(total)
    with store.Store(out, workers.settings | {"batch_size": size}) as folder:
        counted.report, close = as_progress(progress, total, "sample")  # type: ignore[arg-type]
        try:
            # Close the iterator at once if something fails here, so that no worker continues.
            with closing(workers.traced(_unfinished(folder, given, size, counted))) as results:
                for batch, (rows, cells) in results:
                    folder.put(batch.number, rows, cells)
                    counted.add(len(batch.samples))
        finally:
            close()
        traced = DatasetTrace.load(out)
        _check_nothing_beyond(traced, counted.done)
        folder.count(traced.counts)
    if progress is True:
        print(traced.summary)
    return traced


def _loaded(model: BlipVqa | str | os.PathLike[str]) -> BlipVqa:
    return model if isinstance(model, BlipVqa) else BlipVqa.from_pretrained(model)


def _tracing(model: BlipVqa, plan: Plan) -> Callable[[Batch], Tables]:
    plan.settings(model)  # refuses a corruption that does not fit

    def trace(batch: Batch) -> Tables:
        with Computing(model):
            return trace_batch(model, plan, batch)

    return trace


class InProcess:
    """Traces batches in this process.

    Args:
        model: the model.
        plan: what is computed for every sample.
    """

    def __init__(self, model: BlipVqa, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self.settings = plan.settings(model)

    def traced(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tables]]:
        """Yield the batches with their tables.

        Raises:
            ValueError: if the model's weights were changed meanwhile.
        """
        for batch in ReadAhead(batches, self._plan.pictures):
            with Computing(self._model):
                if self._model.provenance["weights"] != self.settings["weights"]:
                    raise ValueError(
                        f"model: its weights were changed while samples were traced, after {batch.number} of the "
                        "batches, which are kept. Take the weights back and run the same again, or take another folder"
                    )
                tables = trace_batch(self._model, self._plan, batch)
            yield batch, tables


class _Counted:
    """Counts the samples that are done, and reports them."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self.report: Callable[[int, Any], object]
        self.done = 0

    def add(self, samples: int) -> None:
        """Count more samples as done."""
        self.done += samples
        self.report(self.done, self._total)


def _unfinished(folder: store.Store, samples: Iterator[Sample], size: int, counted: _Counted) -> Iterator[Batch]:
    """Yield the batches that are not in the folder yet.

    Raises:
        ValueError: if the folder contains other samples.
    """
    for number in itertools.count():
        chunk = list(itertools.islice(samples, size))
        if not chunk:
            return
        batch = Batch(number, number * size, chunk)
        stored = folder.finished(number)
        if stored is not None:
            _check_same(folder, batch, stored)
            if (
                len(stored) == len(chunk)
                and not _readable_now(batch, stored)
                and not _passed_unanswered(folder, stored)
            ):
                counted.add(len(chunk))
                continue
        yield batch


def _readable_now(batch: Batch, stored: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a picture that could not be read can be read now."""
    for sample, row in zip(batch.samples, stored, strict=True):
        picture = {UNREADABLE: sample.image, UNREADABLE_PARTNER: sample.other_image}.get(row["reason"])
        if picture is not None:
            try:
                as_image(picture)
            except (TypeError, ValueError, OSError):
                continue
            return True
    return False


def _passed_unanswered(folder: store.Store, stored: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an earlier version accepted samples without an answer as right."""
    passed = any(row["traced"] and row["given_answer"] is None for row in stored)
    return bool(folder.settings["only_correct"]) and passed


def _check_same(folder: store.Store, batch: Batch, stored: Sequence[Mapping[str, Any]]) -> None:
    if len(stored) > len(batch.samples):
        raise _more(folder.folder, stored[-1]["sample"] + 1, batch.first + len(batch.samples))
    for sample, row in zip(batch.samples, stored, strict=False):
        for name, value in identity(sample).items():
            is_path = name.endswith("image") and None not in (row[name], value)
            was, now = (Path(each).name if is_path else each for each in (row[name], value))
            if was != now:
                raise ValueError(
                    f"samples: the folder {os.fspath(folder.folder)!r} was begun with others: number {row['sample']} "
                    f"has {name} {row[name]!r} there, {value!r} now. Take another folder"
                )


def _check_nothing_beyond(traced: DatasetTrace, given: int) -> None:
    if traced.counts["given"] > given:
        raise _more(traced.folder, traced.counts["given"], given)


def _more(folder: Path, stored: int, given: int) -> ValueError:
    return ValueError(
        f"samples: the folder {os.fspath(folder)!r} was begun with more: at least {stored} samples are there, "
        f"{given} were given now. Take another folder, or open what is there with DatasetTrace.load"
    )
