"""Detecting changes of a model: its weights, modules and hooks; and the weights' fingerprint.

For: noticing before every run what users changed since the last one, so that no number mixes old and new weights, and
none is attributed to weights that it was not computed with.
Cost: `Watch.look` about five milliseconds on BLIP base (of which it reads 1/300), `weights_hash` half a second.
Ends: at whether something changed; `blip_trace_widget.model.blip` acts on it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from blip_trace_widget.model.modules import acting, hooks_on_all_modules

#: Attributes of BLIP's modules, besides weights, that affect what they compute.
_SETTINGS = ("eps", "scale", "num_heads", "num_attention_heads", "attention_head_size", "chunk_size_feed_forward")
_NOTHING: dict[str, Any] = {}
#: Types of values that are compared by their `repr`.
_PLAIN = (bool, int, float, str, type(None))

#: Models with at most this many sampled numbers are compared at every look.
SMALL = 200_000
#: Views that a thread reads at a time, and the number of threads.
TOGETHER, READERS = 150, 4


class Watch:
    """The state of a model when this was made, which later ones are compared with.

    Three things are compared: the modules with their classes, modes, hooks and settings; each tensor's address and
    version counter, which counts in-place writes; and samples of its numbers, because writes through ``.data`` or NumPy
    are not counted. The samples lie on diagonals that cross every row and every column: a changed row, column, block of
    them, or sum of outer products is detected; a single number changed without the counter is not.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._settings = [
            (module.__dict__, name) for module in self._modules for name in _SETTINGS if name in module.__dict__
        ]
        self._structure = self._read_structure()
        tensors = _tensors(self._modules)
        self._places, self._views = list(map(_place, tensors)), _views(tensors)
        self._samples = _read(self._views)
        self._next = 0.0  # time from which a large model's samples are read again

    def look(self) -> tuple[bool, bool]:
        """Whether the structure has changed, and whether the weights have. What has changed is not taken over.

        A small model's samples are read every time; a large one's only after sixty times the duration of the last
        reading, so that it takes at most 1/60 of the time.
        """
        if self._structure != self._read_structure():
            return True, True
        if self._places != list(map(_place, _tensors(self._modules))):
            return False, True
        now = time.monotonic()
        if now < self._next:
            return False, False
        samples = _read(self._views)
        if not all(map(torch.equal, self._samples, samples)):
            return False, True
        self._next = now + (60 * (time.monotonic() - now) if sum(map(len, samples)) > SMALL else 0)
        return False, False

    def _read_structure(self) -> list[Any]:
        """The modules, their classes, modes and hooks; for adapters also their settings."""
        kept = [module.__dict__ for module in self._modules]
        kinds = list(map(type, self._modules))
        return [
            hooks_on_all_modules(),
            [(kind, getattr(kind, "forward", None)) for kind in dict.fromkeys(kinds)],
            kinds,
            [[*module.get("_modules", _NOTHING).values()] for module in kept],
            [module.get("training") for module in kept],
            [ids for module in kept if (hooks := module.get("_forward_hooks")) and (ids := acting(hooks))],
            [ids for module in kept if (hooks := module.get("_forward_pre_hooks")) and (ids := acting(hooks))],
            [module.get("forward") for module in kept],
            [module.get("_compiled_call_impl") for module in kept],
            [_comparable(module.get(name)) for module, name in self._settings],
            [_plain_values(module) for module in kept if "peft_config" in module or "_active_adapter" in module],
        ]


def weights_hash(model: Any) -> str:
    """A fingerprint of a model's weights, hexadecimal: the same for the same weights, on any device.

    SHA-256 over names, shapes, types, and the sums of each tensor's bits along rows and columns: ten times as fast as
    hashing every byte (BLIP base: half a second).
    """
    names, sums = [], []
    for name, tensor in _named_tensors([*model.state_dict().items(), *_unusual_buffers(model)]):
        integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        local = tensor.cpu() if tensor.device.type == "mps" else tensor  # which lacks some of these types
        bits = local.detach().contiguous().view(integer)
        table = bits.reshape(bits.shape[0], -1) if bits.dim() > 1 else bits.reshape(1, -1)
        names.append(f"{name} {tuple(tensor.shape)} {tensor.dtype}")
        sums.append(torch.cat([table.sum(axis, dtype=torch.int64) for axis in (0, 1)]))
    digest = hashlib.sha256()
    for name, numbers in zip(names, _fetched(sums), strict=True):
        digest.update(name.encode())
        digest.update(numbers.numpy().tobytes())
    return digest.hexdigest()


def _fetched(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield tensors of one dimension on the CPU; those of a device come in one copy."""
    sizes: dict[torch.device, list[int]] = defaultdict(list)
    for tensor in tensors:
        sizes[tensor.device].append(len(tensor))
    parts = {
        device: iter(torch.split(torch.cat([each for each in tensors if each.device == device]).cpu(), lengths))
        for device, lengths in sizes.items()
    }
    return (next(parts[tensor.device]) for tensor in tensors)


def _unusual_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that are not saved with the weights and do not just number positions."""
    saved = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name not in saved and not torch.equal(buffer.flatten().cpu(), torch.arange(buffer.numel(), device="cpu")):
            yield name, buffer


def _named_tensors(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state dict by name; quantised layers pack theirs into tuples, or tensors into a tensor."""
    for name, value in sorted(items, key=lambda item: item[0]):
        if hasattr(value, "__tensor_flatten__"):
            yield from _named_tensors(
                (f"{name}.{part}", getattr(value, part)) for part in value.__tensor_flatten__()[0]
            )
        elif isinstance(value, Tensor):
            yield name, value.int_repr() if value.is_quantized else value
        elif isinstance(value, (tuple, list)):
            yield from _named_tensors((f"{name}.{at}", item) for at, item in enumerate(value))


def _comparable(value: Any) -> Any:
    return id(value) if isinstance(value, Tensor) else value


def _tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    kept = [module.__dict__.get(name, {}) for name in ("_parameters", "_buffers") for module in modules]
    return [tensor for tensors in kept for tensor in tensors.values() if tensor is not None]


def _place(tensor: Tensor) -> tuple[int, int, int]:
    return id(tensor), 0 if tensor.is_meta else tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


def _plain_values(kept: dict[str, Any]) -> list[tuple[str, str]]:
    """A module's attributes that are plain values, or collections of them: which adapters are active, for instance."""

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(item) for item in value.values())
        return all(map(plain, value)) if isinstance(value, (list, tuple, set)) else isinstance(value, _PLAIN)

    return [(name, repr(value)) for name, value in kept.items() if plain(value)]


def _views(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Views of sampled numbers of each tensor, in lists of one dtype and device, each short enough to read at once."""
    views: dict[Any, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.numel() and type(tensor.detach()) is Tensor and not tensor.is_meta:
            views[tensor.dtype, tensor.device] += _diagonals(tensor.detach())
    return [group[at : at + TOGETHER] for group in views.values() for at in range(0, len(group), TOGETHER)]


def _diagonals(tensor: Tensor) -> list[Tensor]:
    """Views that together cross every row and every column of a tensor, taken as a matrix."""
    tensor = tensor.squeeze()
    if tensor.dim() < 2 or not tensor.is_contiguous():
        return [tensor]
    rows, columns = tensor.shape[0], tensor[0].numel()
    side, step = min(rows, columns), columns + 1
    beside = side * columns if rows > columns else side  # from one square of the matrix to the next
    starts = [at * beside for at in range(max(rows, columns) // side)]
    if max(rows, columns) % side:
        starts.append((rows - side) * columns if rows > columns else columns - side)
    return [torch.as_strided(tensor, (side,), (step,), tensor.storage_offset() + start) for start in starts]


def _read(views: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The numbers of each list of views. Memory bandwidth is the limit, of which several threads get more than one."""

    def read(group: Sequence[Tensor]) -> Tensor:
        return torch.cat([view if view.dim() == 1 else view.flatten() for view in group])

    if len(views) < 2 or torch.get_num_threads() < 2:
        return list(map(read, views))
    return list(_readers().map(read, views))


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, "blip-trace-weights")


if hasattr(os, "register_at_fork"):  # a fork does not copy threads
    os.register_at_fork(after_in_child=_readers.cache_clear)
