"""Guarding against global settings of torch and NumPy that a notebook may have changed.

For: `neutral`, under which everything is computed: no gradients, no autocast, an explicit default device, matrix
products in full float32, and always a usable attention kernel. Previous settings are restored.
Cost: about twenty microseconds.
Ends: at settings. Our own tensors are created with explicit dtypes and devices; this is for what torch decides by
itself, and for code that we call (the image processor, the model's own forward).

Precision and attention kernels are process-wide switches, so their guards are process-wide too: the last thread to
leave restores what the first one found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from blip_trace_widget.forks import Lock, on_fork


class _Switch(NamedTuple):
    """A process-wide setting: how to read it, how to set it, and its neutral value."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    neutral: Callable[[Any], Any]


class _ProcessWide:
    """Switches held at their neutral values while any thread is inside."""

    def __init__(self, switches: Sequence[_Switch]) -> None:
        self._switches = switches
        self._lock = Lock()
        #: The thread of each that is inside.
        self._inside: list[int] = []
        self._previous: list[tuple[_Switch, Any]] = []
        on_fork(self, _ProcessWide._renew)

    def _renew(self) -> None:
        """In a forked child only its own thread is inside."""
        self._inside = [each for each in self._inside if each == threading.get_ident()]
        self._restore()

    def __enter__(self) -> None:
        with self._lock:
            self._inside.append(threading.get_ident())
            if len(self._inside) == 1:
                for switch in self._switches:
                    previous = switch.read()
                    wanted = switch.neutral(previous)
                    if wanted != previous:
                        switch.write(wanted)
                        self._previous.append((switch, previous))

    def __exit__(self, *_details: object) -> None:
        with self._lock:
            mine = threading.get_ident()
            self._inside.remove(mine if mine in self._inside else self._inside[-1])  # or closed by another thread
            self._restore()

    def _restore(self) -> None:
        while not self._inside and self._previous:
            switch, previous = self._previous.pop()
            switch.write(previous)


def _precision(operation: Any) -> _Switch:
    """The precision of one kind of float32 products (torch 2.9 and later)."""

    def write(value: str) -> None:
        # "none" inherits the parent setting. If that gives the value found before, it was inherited before.
        operation.fp32_precision = "none"
        if operation.fp32_precision != value:
            operation.fp32_precision = value

    return _Switch(lambda: operation.fp32_precision, write, lambda found: found if found == "none" else "ieee")


def _flag(owner: Any, name: str) -> _Switch:
    """The switch of older torch versions instead of `_precision`."""
    return _Switch(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), lambda _found: False)


def _switches() -> tuple[dict[str, list[_Switch]], dict[str, list[_Switch]]]:
    """The switches of matrix products and of convolutions, by device type."""
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    if hasattr(cudnn, "conv"):
        products = {"cuda": [_precision(cuda.matmul)], "cpu": [_precision(mkldnn.matmul)]}
        return products, {"cuda": [_precision(cudnn.conv)], "cpu": [_precision(mkldnn.conv)]}
    matmul = _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, lambda _found: "highest")
    return {"cuda": [matmul], "cpu": [matmul]}, {"cuda": [_flag(cudnn, "allow_tf32")]}


#: Users may have enabled only some attention kernels; if none of them fits, this one always does.
_ATTENTION = _Switch(torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp, lambda _found: True)
_products, _convolutions = _switches()
_PRODUCTS = {kind: _ProcessWide([*_products.get(kind, []), _ATTENTION]) for kind in ("cpu", "cuda", "mps")}
_CONVOLUTIONS = {kind: _ProcessWide(switches) for kind, switches in _convolutions.items()}


@contextmanager
def neutral(device: torch.device, *, inference: bool = True) -> Iterator[None]:
    """Compute on a device independent of global torch and NumPy settings. May be nested, also in several threads.

    Args:
        device: the device.
        inference: whether to use torch's inference mode, which is fastest but which some users' tensors do not support;
            otherwise only gradients are disabled.
    """
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(torch.inference_mode(inference))
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", device.type}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_PRODUCTS.get(device.type, _PRODUCTS["cpu"]))
        yield


@contextmanager
def exact_convolution(device: torch.device) -> Iterator[None]:
    """Convolve in full float32: by default a GPU rounds the inputs to TF32.

    Separate from `neutral`, because TF32 is on by default here: reading the older of torch's two switches while the
    newer one is off raises an error.
    """
    with _CONVOLUTIONS.get(device.type) or nullcontext():
        yield
