"""Batches on the workers of a dask cluster.

For: more than one process or machine (dask.distributed; extra ``data``). A worker loads the model once; batches are
sent to it with their pictures, and their tables sent back, so that workers need access neither to the pictures nor to
the results.
Cost: two batches per worker are in flight: one is computed while the next waits.
Ends: at tables, in the order of completion. A batch whose worker is lost goes to another.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from blip_trace_widget._version import __version__
from blip_trace_widget.dataset.batch import Batch, Tables, trace_batch
from blip_trace_widget.dataset.plan import Plan
from blip_trace_widget.dataset.rows import image_name
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.display.export import picture
from blip_trace_widget.forks import Lock
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.pictures import as_image, opened

if TYPE_CHECKING:
    from distributed import Client

#: Batches in flight per worker: one is computed, the other waits.
AHEAD = 2
#: The package's name, for pip.
PACKAGE = "blip_trace_widget"

#: A worker may have many threads; the model computes one batch at a time.
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Loader:
    """How a worker loads the model: the arguments of `BlipVqa.from_pretrained`.

    Attributes:
        source: a hub id or a folder, or the name of a built-in model.
        revision: the hub's commit.
        dtype: the dtype's name.
    """

    source: str
    revision: str | None = None
    dtype: str | None = None

    @classmethod
    def of(cls, model: BlipVqa | str | os.PathLike[str]) -> Loader:
        """How to load a given model.

        Raises:
            ValueError: if only this process has it.
        """
        if not isinstance(model, BlipVqa):
            return cls(os.fspath(model))
        dtype = str(model.dtype).removeprefix("torch.")
        if not model.source:
            raise ValueError(
                "model: with a client the workers load the model by themselves: give a hub id or a folder (write one "
                "with save_pretrained), not a model that this process alone has"
            )
        return cls(model.source, model.revision, dtype)


@lru_cache(maxsize=1)
def _load(loader: Loader) -> BlipVqa:
    """On the worker: load the model, once."""
    _use_its_threads()
    return BlipVqa.from_pretrained(loader.source, revision=loader.revision, dtype=loader.dtype)


def _use_its_threads() -> None:
    """Let torch use all of the worker's threads, since one batch is computed at a time; dask sets it to one."""
    from distributed import get_worker

    worker = get_worker()
    if getattr(worker, "nanny", None):  # else the worker runs inside the calling process
        torch.set_num_threads(max(1, worker.state.nthreads))


def _settings(loader: Loader, plan: Plan) -> dict[str, Any]:
    """On the worker: the settings of the results."""
    with _ONE_AT_A_TIME:
        return plan.settings(_load(loader))


def _work(loader: Loader, plan: Plan, settings: dict[str, Any], batch: Batch) -> Tables:
    """On the worker: the tables of a batch.

    Raises:
        ValueError: if this worker's weights differ from the first one's.
    """
    with _ONE_AT_A_TIME:
        model = _load(loader)
        if plan.settings(model) != settings:
            raise ValueError(f"model: the workers have different weights of {loader.source!r}; name a folder")
        return trace_batch(model, plan, batch)


class Cluster:
    """Traces batches on the workers of a client.

    Args:
        client: a ``dask.distributed.Client``.
        model: the model that they load.
        plan: what is computed for every sample.

    Raises:
        TypeError, ValueError: if it is not such a client, has no workers, or they cannot load the model.
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
                    f"model: what the workers load from {self._loader.source!r} is not the model of "
                    f"this process, which was changed since ({', '.join(differing)}). Write it with save_pretrained "
                    "into a folder that they see, and give that"
                )

    def _check(self) -> None:
        """Check that all workers have this version of the package; asking them takes only the standard library."""
        versions = self._client.run(importlib.metadata.version, PACKAGE, on_error="return")
        if not versions:
            raise ValueError("client: it has no workers; start some, or wait with client.wait_for_workers(1)")
        try:
            versions["the scheduler"] = self._client.run_on_scheduler(importlib.metadata.version, PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            versions["the scheduler"] = error
        for worker, version in versions.items():
            if version != __version__:
                has = f"has version {version}" if isinstance(version, str) else "lacks it"
                raise ImportError(
                    f"client: workers and scheduler need {PACKAGE} {__version__}, as here; {worker} {has}. Install it "
                    f'there: pip install "{PACKAGE}[data]=={__version__}", or client.register_plugin(PipInstall([...]))'
                )

    def traced(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tables]]:
        """Yield the batches with their tables, in the order of completion.

        Raises:
            RuntimeError: if the cluster lost a batch for good.
        """
        from distributed import as_completed

        pending, done = iter(batches), as_completed()
        in_flight: dict[Any, Batch] = {}
        try:
            while True:
                # Workers come and go, so count them again.
                room = AHEAD * max(1, len(self._client.nthreads()))
                for batch in itertools.islice(pending, max(0, room - len(in_flight))):
                    future = self._client.submit(_work, *self._task(batch), pure=False)
                    in_flight[future] = batch
                    done.add(future)
                if not in_flight:
                    return
                future = next(done)
                yield in_flight.pop(future), _result(future)
        finally:
            self._client.cancel(list(in_flight))

    def _task(self, batch: Batch) -> tuple[Any, ...]:
        samples = [_with_its_pictures(sample) for sample in batch.samples]
        return self._loader, self._plan, self.settings, batch._replace(samples=samples)


def _result(future: Any) -> Tables:
    """The tables of a batch.

    Raises:
        RuntimeError: if the cluster lost it for good. Exceptions of the batch itself are raised unchanged.
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
    """A sample with its pictures as small files, which workers need no access to."""
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
