"""What goes between the host and a model's device, without either waiting for the other where it need not.

For: indices, noise and pixels on their way to the device; scores on their way back. A GPU works off what it is given
while the host goes on. A copy from or to ordinary memory makes the host wait until all of that is done; one from or to
pinned memory does not: what comes back is there once an event behind it has happened.
Cost: pinned memory of what is copied, which torch keeps for the next copy.
Ends: at numbers. On a CPU nothing is copied; Apple's GPU is waited for as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Devices that are waited for at every copy: a CPU does one thing after the other, and Apple's GPU pins no memory.
WAITED_FOR = {"cpu", "mps"}
#: Most bytes that are pinned at once; more goes over from where it is.
PINNED = 1 << 26


def goes_on(device: torch.device) -> bool:
    """Whether the host may go on while a device works, and learn later that something there is done."""
    return device.type not in WAITED_FOR


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; nobody may write into the given one any more."""
    if tensor.device.type != "cpu" or not goes_on(device) or tensor.nbytes > PINNED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def on_its_way(*tensors: Tensor) -> Callable[[], list[NDArray[np.float64]]]:
    """Start copying numbers to the host, behind all that the device has been given to do.

    Returns:
        a call that waits until they are there, and gives them as float64; they are converted on the host, since not
        every device has float64.
    """
    device, *others = {tensor.device for tensor in tensors}
    if others or not goes_on(device):
        return lambda: [on_cpu(tensor) for tensor in tensors]
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    its: Any = getattr(torch, device.type)
    there = its.Event()
    there.record(its.current_stream(device))

    def arrived() -> list[NDArray[np.float64]]:
        there.synchronize()
        return [on_cpu(copy) for copy in copies]

    return arrived


def on_cpu(tensor: Tensor) -> NDArray[np.float64]:
    """Numbers as a float64 array; of a device, waited for."""
    return np.asarray(tensor.cpu().double().numpy())
