"""`trace_dataset`: every sample traced or skipped with a reason, batch by batch, here or on the workers of a cluster.

For: the one call. It cuts the samples into batches, leaves out those that are finished, and puts the others' tables
into the folder as they come.
Cost: see `blip_trace_widget.dataset.batch`; memory for one batch, or two a worker.
Ends: at a folder; `blip_trace_widget.dataset.averages` reads it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from blip_trace_widget.checks import whole_number
from blip_trace_widget.choices import MetricName
from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.batch import UNREADABLE, Batch, Plan, Tables, identity, trace_batch
from blip_trace_widget.dataset.corruptions import UNREADABLE_PARTNER, Given
from blip_trace_widget.dataset.samples import PathLike, Sample, as_samples
from blip_trace_widget.dataset.traced import DatasetTrace
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import as_progress
from blip_trace_widget.pictures import as_image
from blip_trace_widget.states import BlockName, SiteName

#: Samples that land together. The model meets them together too, so that a batch always gives the same numbers.
BATCH = 16


def trace_dataset(
    samples: Any,
    model: BlipVqa | str | os.PathLike[str],
    out: PathLike,
    blocks: Sequence[BlockName] | BlockName = ("question_encoder", "answer_decoder"),
    sites: Sequence[SiteName] | SiteName = ("block_output",),
    corruption: Given = None,
    metric: MetricName | Callable[..., Any] = "probability",
    client: Any = None,
    progress: bool | Callable[[int, int], object] | None = True,
    *,
    only_correct: bool = False,
    batch_size: int = BATCH,
) -> DatasetTrace:
    """Trace every sample of a data set into a folder of Parquet files, and go on where an earlier call was ended.

    Results land in whole batches. Whatever ends the process, what has landed stays: the same call again computes only
    what is missing, and the tables are the same as if nothing had happened. Every sample given ends in the samples'
    table, traced or skipped with its reason.

    Every sample has noise of its own: the corruption's seed plus the sample's id where that is a whole number (7, 7.0
    and "7" are one; else its CRC-32); samples of one id share it. The intervals over samples then hold for the noise
    too. `Tracer` with the settings in the samples' table gives the same numbers. (To repeat all with other noise take a
    seed that is further away than there are samples.)

    A sample is skipped where its picture cannot be read, its question or answer cannot be used (True and 2.5 are no
    answers), its region has other patches than the model, or the noise does not break the answer: it raises the score,
    or takes less than 0.001 of it. With a partner also where that is not there, cannot be read, equals the original,
    has a question of another number of tokens (it is never padded), or where the model gives the same answer to it.
    (Pictures of any two sizes are a pair: they have the same number of image tokens.) What is traced, and averaged, is
    the others. A picture is known again by its file's name; one that could not be read is
    tried again by the next call.

    Args:
        samples: an iterable of (image, question[, answer, foil, id, group, other_image, other_question, region]) or of
            mappings with these names (see `Sample`), a pandas DataFrame or Hugging Face data set with such columns, or
            what a reader (`read_coco_qa`, `read_vqa`, ...) or `demo_samples` gives. Names are compared without case and
            spaces; what is nearly one of them is refused, others are listed in a warning. Without an answer the
            model's own is scored; of several (VQA's ten) the one that most gave.
        model: a `BlipVqa`, a hub id or a folder.
        out: the folder for the results; made if it is not there.
        blocks: of which blocks there shall be grids.
        sites: and of which sites.
        corruption: default ``GaussianNoise(factor=5.0, samples=10, seed=0)``. Any `Corruption`, also one of a class of
            your own (with a cluster, one that can be pickled); or the class `ImageSwap` or `QuestionSwap` itself: each
            sample's own partner, `other_image` or `other_question`, as a whole; or a function of the sample that gives
            a `Corruption`: ``lambda sample: ImageSwap(sample.other_image, region=sample.region)``. What a function
            gives, and one of your own class, is used as it is: their seeds are theirs.
        metric: as in `Tracer`.
        client: a ``dask.distributed.Client``: its workers trace, and load the model by themselves, so it must be a hub
            id, a folder that they see, or a `BlipVqa` made from one. The pictures travel to them.
        progress: True for a bar and the counts in words, or a callable on (samples done, samples in all; None where
            that is not known).
        only_correct: skip samples that the model does not answer as they say, and those that have no answer. Answers
            are compared as the VQA evaluation does it (case, punctuation, articles, number words); of several, one is
            right from an accuracy of 0.5 on: of ten people, two gave it.
        batch_size: samples that land together.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted; also where the folder holds
            something else, or results of other settings or samples.
        OSError: if the folder cannot be written; what was finished before stays.
        ImportError: if the extra ``data`` is not installed, or the workers lack the package.
    """
    store.arrow()
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"out: expected the path of a folder, got {type(out).__name__}")
    plan = Plan.of(blocks, sites, corruption, metric, only_correct)
    size = whole_number("batch_size", batch_size, 1)
    given = as_samples(samples)
    total = len(samples) if hasattr(samples, "__len__") else None
    if client is None:
        workers: Any = Here(_loaded(model), plan)
    else:
        from blip_trace_widget.dataset.cluster import Cluster

        workers = Cluster(client, model, plan)
    counted = _Counted(total)
    with store.Store(out, workers.settings | {"batch_size": size}) as folder:
        counted.report, close = as_progress(progress, total, "sample")  # type: ignore[arg-type]
        try:
            # Closed at once when something fails here, so that no worker goes on.
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


class Here:
    """This process traces."""

    def __init__(self, model: BlipVqa, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self.settings = plan.settings(model)

    def traced(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tables]]:
        """The batches with their tables."""
        for batch in batches:
            with Computing(self._model):
                if self._model.provenance["weights"] != self.settings["weights"]:
                    raise ValueError(
                        f"model: its weights were changed while samples were traced, after {batch.number} of the "
                        "batches, which are kept. Take the weights back and run the same again, or take another folder"
                    )
                tables = trace_batch(self._model, self._plan, batch)
            yield batch, tables


class _Counted:
    """How many samples are done, said to whoever wants to know."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self.report: Callable[[int, Any], object]
        self.done = 0

    def add(self, samples: int) -> None:
        self.done += samples
        self.report(self.done, self._total)


def _unfinished(folder: store.Store, samples: Iterator[Sample], size: int, counted: _Counted) -> Iterator[Batch]:
    """The batches that are not in the folder yet.

    Raises:
        ValueError: if the folder holds other samples.
    """
    for number in itertools.count():
        some = list(itertools.islice(samples, size))
        if not some:
            return
        batch = Batch(number, number * size, some)
        there = folder.finished(number)
        if there is not None:
            _check_same(folder, batch, there)
            if len(there) == len(some) and not _readable_now(batch, there) and not _passed_unanswered(folder, there):
                counted.add(len(some))
                continue
        yield batch


def _readable_now(batch: Batch, there: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a picture that could not be read can be now."""
    for sample, row in zip(batch.samples, there, strict=True):
        picture = {UNREADABLE: sample.image, UNREADABLE_PARTNER: sample.other_image}.get(row["reason"])
        if picture is not None:
            try:
                as_image(picture)
            except (TypeError, ValueError, OSError):
                continue
            return True
    return False


def _passed_unanswered(folder: store.Store, there: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an earlier version let samples without an answer pass as right."""
    passed = any(row["traced"] and row["given_answer"] is None for row in there)
    return bool(folder.settings["only_correct"]) and passed


def _check_same(folder: store.Store, batch: Batch, there: Sequence[Mapping[str, Any]]) -> None:
    if len(there) > len(batch.samples):
        raise _more(folder.folder, there[-1]["sample"] + 1, batch.first + len(batch.samples))
    for sample, row in zip(batch.samples, there, strict=False):
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


def _more(folder: Path, there: int, given: int) -> ValueError:
    return ValueError(
        f"samples: the folder {os.fspath(folder)!r} was begun with more: at least {there} samples are there, "
        f"{given} were given now. Take another folder, or open what is there with DatasetTrace.load"
    )
