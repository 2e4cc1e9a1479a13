"""Batches on the workers of a dask cluster.

For: more than one process or machine (dask.distributed; extra ``data``). A worker loads the model once; batches travel
to it, pictures included, and their tables back, so that the workers need to see neither the pictures nor the results.
Cost: two batches a worker are under way, the next one waiting where the last is computed.
Ends: at tables, in whatever order they come. A batch whose worker is lost goes to another.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from blip_trace_widget._version import __version__
from blip_trace_widget.dataset.batch import Batch, Plan, Tables, image_name, trace_batch
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.display.export import picture
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.pictures import as_image, opened

if TYPE_CHECKING:
    from distributed import Client

#: Batches that a worker has: one is computed, the other waits.
AHEAD = 2
#: The package's name, for pip.
PACKAGE = "blip_trace_widget"

#: A worker may have many threads; the model has one batch at a time.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Loader:
    """How a worker gets the model: what `BlipVqa.from_pretrained` was given; no source stands for the built-in one."""

    source: str
    revision: str | None = None
    dtype: str | None = None

    @classmethod
    def of(cls, model: BlipVqa | str | os.PathLike[str]) -> Loader:
        """How that model is loaded.

        Raises:
            ValueError: if nobody but this process has it.
        """
        if not isinstance(model, BlipVqa):
            return cls(os.fspath(model))
        dtype = str(model.dtype).removeprefix("torch.")
        if model.built_in:
            return cls("", None, dtype)
        if not model.source:
            raise ValueError(
                "model: with a client the workers load the model by themselves: give a hub id or a folder (write one "
                "with save_pretrained), not a model that this process alone has"
            )
        return cls(model.source, model.revision, dtype)


@lru_cache(maxsize=1)
def _load(loader: Loader) -> BlipVqa:
    """On the worker: once."""
    _use_its_threads()
    if not loader.source:
        return BlipVqa.demo(dtype=loader.dtype)
    return BlipVqa.from_pretrained(loader.source, revision=loader.revision, dtype=loader.dtype)


def _use_its_threads() -> None:
    """One batch is computed at a time, by as many threads as the worker has; dask would give it but one."""
    from distributed import get_worker

    worker = get_worker()
    if getattr(worker, "nanny", None):  # else the worker is a part of the program that asked
        torch.set_num_threads(max(1, worker.state.nthreads))


def _settings(loader: Loader, plan: Plan) -> dict[str, Any]:
    """On the worker: what the results are computed with."""
    with _ONE_AT_A_TIME:
        return plan.settings(_load(loader))


def _work(loader: Loader, plan: Plan, settings: dict[str, Any], batch: Batch) -> Tables:
    """On the worker: the tables of a batch.

    Raises:
        ValueError: if this worker has other weights than the first one.
    """
    with _ONE_AT_A_TIME:
        model = _load(loader)
        if plan.settings(model) != settings:
            raise ValueError(f"model: the workers have different weights of {loader.source!r}; name a folder")
        return trace_batch(model, plan, batch)


class Cluster:
    """The workers of a client trace.

    Args:
        client: a ``dask.distributed.Client``.
        model: what they load.
        plan: what is done with every sample.

    Raises:
        TypeError, ValueError: if it is no such client, has no workers, or they cannot load the model.
        ImportError: if the workers lack the package, or have another version of it.
    """

    def __init__(self, client: Client, model: BlipVqa | str | os.PathLike[str], plan: Plan) -> None:
        if not callable(getattr(client, "submit", None)) or not callable(getattr(client, "scheduler_info", None)):
            raise TypeError(f"client: expected a dask.distributed.Client, got {type(client).__name__}")
        if getattr(client, "asynchronous", False):
            raise ValueError("client: expected one with asynchronous=False, this one has to be awaited")
        self._client, self._loader, self._plan = client, Loader.of(model), plan
        self._check()
        self.settings: dict[str, Any] = client.submit(_settings, self._loader, plan, pure=False).result()
        if isinstance(model, BlipVqa):
            mine = plan.settings(model)
            differing = [
                name for name in ("weights", "adapters", "changed") if mine.get(name) != self.settings.get(name)
            ]
            if differing:
                raise ValueError(
                    f"model: what the workers load from {self._loader.source or 'the package'!r} is not the model of "
                    f"this process, which was changed since ({', '.join(differing)}). Write it with save_pretrained "
                    "into a folder that they see, and give that"
                )

    def _check(self) -> None:
        """Whether all workers have this package; they are asked by means of the standard library alone."""
        told = self._client.run(importlib.metadata.version, PACKAGE, on_error="return")
        if not told:
            raise ValueError("client: it has no workers; start some, or wait with client.wait_for_workers(1)")
        try:
            told["the scheduler"] = self._client.run_on_scheduler(importlib.metadata.version, PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            told["the scheduler"] = error
        for worker, version in told.items():
            if version != __version__:
                has = f"has version {version}" if isinstance(version, str) else "lacks it"
                raise ImportError(
                    f"client: workers and scheduler need {PACKAGE} {__version__}, as here; {worker} {has}. Install it "
                    f'there: pip install "{PACKAGE}[data]=={__version__}", or client.register_plugin(PipInstall([...]))'
                )

    def traced(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tables]]:
        """The batches with their tables, as they are ready."""
        from distributed import as_completed

        waiting, done = iter(batches), as_completed()
        under_way: dict[Any, Batch] = {}
        try:
            while True:
                # Workers come and go: how many there are is asked anew.
                room = AHEAD * max(1, len(self._client.nthreads()))
                for batch in itertools.islice(waiting, max(0, room - len(under_way))):
                    future = self._client.submit(_work, *self._task(batch), pure=False)
                    under_way[future] = batch
                    done.add(future)
                if not under_way:
                    return
                future = next(done)
                yield under_way.pop(future), _result(future)
        finally:
            self._client.cancel(list(under_way))

    def _task(self, batch: Batch) -> tuple[Any, ...]:
        samples = [_with_its_pictures(sample) for sample in batch.samples]
        return self._loader, self._plan, self.settings, batch._replace(samples=samples)


def _result(future: Any) -> Tables:
    """The tables of a batch.

    Raises:
        RuntimeError: if the cluster lost it for good; what the batch itself raised as it is.
    """
    from distributed import CancelledError, KilledWorker

    try:
        tables: Tables = future.result()
    except (CancelledError, KilledWorker) as error:
        raise RuntimeError(
            f"client: the cluster lost a batch ({type(error).__name__}: {error}), for its scheduler is gone or worker "
            "after worker died of it, of memory perhaps. What was finished is kept: run the same again to go on"
        ) from error
    return tables


def _with_its_pictures(sample: Sample) -> Sample:
    """A sample whose pictures travel as files: a worker need not see them, and they are small."""
    other = None if sample.other_image is None else _file_of(sample.other_image)
    return sample._replace(image=_file_of(sample.image), other_image=other)


def _file_of(image: Any) -> NamedPicture:
    name = image_name(image)
    try:
        if isinstance(image, (str, os.PathLike)):
            with opened(image) as file:
                return NamedPicture(name, file.read())
        return NamedPicture(name, picture(as_image(image)))
    except (TypeError, ValueError, OSError) as error:
        return NamedPicture(name, None, str(error))
