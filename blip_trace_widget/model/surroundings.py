"""What a notebook may have set in torch or NumPy for everything, and must not change a number here.

For: `neutral`, under which everything is computed: no gradients, no autocast, tensors made where we say, products in
full float32, and always a kernel for attention. What is found is restored.
Cost: some twenty microseconds.
Ends: at settings. The types and devices of our own tensors are named where these are made; this is for what torch
decides by itself, and for the code of others that is called (the image processor, the model's own forward).

Precision and kernels of attention are switches of the whole process, so their guards are too: what the first thread
finds is what the last one restores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch


class _Switch(NamedTuple):
    """A setting of the whole process: how it is read, how set, and the value that changes no number."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    neutral: Callable[[Any], Any]


class _ProcessWide:
    """Switches held at their neutral values while anybody is inside."""

    def __init__(self, switches: Sequence[_Switch]) -> None:
        self._switches = switches
        self._lock = threading.Lock()
        self._inside = 0
        self._found: list[tuple[_Switch, Any]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                for switch in self._switches:
                    found = switch.read()
                    wanted = switch.neutral(found)
                    if wanted != found:
                        switch.write(wanted)
                        self._found.append((switch, found))

    def __exit__(self, *_details: object) -> None:
        with self._lock:
            self._inside -= 1
            while not self._inside and self._found:
                switch, found = self._found.pop()
                switch.write(found)


def _precision(operation: Any) -> _Switch:
    """How float32 products of one kind are rounded (torch 2.9 and later)."""

    def write(value: str) -> None:
        # "none" lets the setting above decide. Where that gives what was found, it is what was found.
        operation.fp32_precision = "none"
        if operation.fp32_precision != value:
            operation.fp32_precision = value

    return _Switch(lambda: operation.fp32_precision, write, lambda found: found if found == "none" else "ieee")


def _flag(owner: Any, name: str) -> _Switch:
    """The switch that older versions have in place of `_precision`."""
    return _Switch(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), lambda _found: False)


def _switches() -> tuple[dict[str, list[_Switch]], dict[str, list[_Switch]]]:
    """Of products and of convolutions, for each type of device that has any."""
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    if hasattr(cudnn, "conv"):
        products = {"cuda": [_precision(cuda.matmul)], "cpu": [_precision(mkldnn.matmul)]}
        return products, {"cuda": [_precision(cudnn.conv)], "cpu": [_precision(mkldnn.conv)]}
    matmul = _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, lambda _found: "highest")
    return {"cuda": [matmul], "cpu": [matmul]}, {"cuda": [_flag(cudnn, "allow_tf32")]}


#: Somebody may allow some kernels of attention alone; where none of them fits, this one always does.
_ATTENTION = _Switch(torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp, lambda _found: True)
_products, _convolutions = _switches()
_PRODUCTS = {kind: _ProcessWide([*_products.get(kind, []), _ATTENTION]) for kind in ("cpu", "cuda", "mps")}
_CONVOLUTIONS = {kind: _ProcessWide(switches) for kind, switches in _convolutions.items()}


@contextmanager
def neutral(device: torch.device, *, inference: bool = True) -> Iterator[None]:
    """Compute on a device as if nothing were set in torch or NumPy. May be nested, and entered by several threads.

    Args:
        device: where.
        inference: in torch's inference mode, which is the quickest, and which some tensors of others cannot bear; else
            only without gradients.
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
    """Convolve in full float32: a GPU would round the inputs to TF32 unless told not to.

    Apart from `neutral`, because torch has this on by default: whoever reads the older of torch's two switches while
    the newer one is off gets an error.
    """
    with _CONVOLUTIONS.get(device.type) or nullcontext():
        yield
