"""Pictures decoded while the batch before theirs is computed.

For: `blip_trace_widget.dataset.run`. One thread, which lives as long as the batches are read, works on one batch at a
time, and does nothing but decode: pictures of files and bytes, not what users may hold themselves (a PIL image, an open
file). What it cannot decode, or has no room for, is left to the batch, which then says so of the right sample.
Cost: full-size pictures of a stated number of pixels, and those of one sample more.
Ends: at `Batch.decoded`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

from blip_trace_widget.dataset.batch import HELD_PIXELS, Batch, Pictures
from blip_trace_widget.forks import on_fork
from blip_trace_widget.pictures import as_image


class ReadAhead:
    """Batches, each of which is read before the one before it is computed.

    Args:
        batches: the batches.
        fields: the fields of a sample whose pictures are decoded.
        pixels: about how many pixels are decoded ahead.
    """

    def __init__(self, batches: Iterable[Batch], fields: Sequence[str], pixels: int = HELD_PIXELS) -> None:
        self._batches, self._decodes, self._pixels = iter(batches), fields, pixels
        self._over = Event()
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "pictures")
        on_fork(self, ReadAhead._renew)

    def _renew(self) -> None:
        """In a forked child there is no thread to wait for."""
        self._pool = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches.

        Raises:
            Exception: what reading them raises, once the batches before are done with.
        """
        try:
            batch, problem = self._read()
            while batch is not None:
                following, problem = self._read()
                decoding = self._begin(following)
                yield batch
                batch = self._with_pictures(following, decoding)
            if problem is not None:
                raise problem
        finally:
            self._over.set()
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _read(self) -> tuple[Batch | None, Exception | None]:
        try:
            return next(self._batches, None), None
        except Exception as problem:  # noqa: BLE001 - raised in its turn
            return None, problem

    def _begin(self, batch: Batch | None) -> Future[Pictures] | None:
        if batch is None or self._pool is None:
            return None
        return self._pool.submit(self._decoded, batch)

    def _with_pictures(self, batch: Batch | None, decoding: Future[Pictures] | None) -> Batch | None:
        if batch is None or decoding is None or self._pool is None:
            return batch
        return batch._replace(decoded=decoding.result())

    def _decoded(self, batch: Batch) -> Pictures:
        found: Pictures = {}
        names: set[str] = set()
        pixels = 0
        for at, sample in enumerate(batch.samples):
            if self._over.is_set() or pixels > self._pixels:
                break
            for field in self._decodes:
                picture: Any = getattr(sample, field)
                name = str(picture) if isinstance(picture, (str, os.PathLike)) else ""
                if name in names or not (name or isinstance(picture, (bytes, Mapping))):
                    continue
                with suppress(Exception):
                    image = found[at, field] = as_image(picture)
                    pixels += image.width * image.height
                    if name:
                        names.add(name)
        return found
