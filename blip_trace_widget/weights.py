"""Whether a model is still what it was: its weights, its modules, its hooks.

For: noticing before every run what somebody changed since the last one, so that no number is made of old and new
weights, and none names weights that it was not computed with. And for the weights' fingerprint.
Cost: `Watch.look` some milliseconds on BLIP base (a thousandth of its numbers are read); `weights_hash` half a second.
Where it ends: at the news. What is to be done about it is `blip_trace_widget.model`'s.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

#: Attributes of a module that say which adapters act: their weights stay when one is switched off.
_PLAIN = (bool, int, float, str, type(None))

Samples: TypeAlias = "dict[tuple[torch.dtype, torch.device], Tensor]"


class Watch:
    """The state of a model, as it was when last looked at.

    Three things are compared: which modules there are, with their modes and hooks; each tensor's place and version
    counter, which counts what is written in place; and samples of its numbers, because writing through ``.data`` or
    NumPy is not counted. The samples lie on diagonals that cross every row and every column: a changed row, column,
    block of them, or sum of outer products is seen. A single number changed behind the counter's back is not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._structure, self._tensors, self._places = _state(model)
        self._views = _views(self._tensors)
        self._samples = _read(self._views)

    def look(self) -> tuple[bool, bool]:
        """Whether the structure changed since the last look, and whether the weights did."""
        structure, tensors, places = _state(self._model)
        new_structure, new_places = structure != self._structure, places != self._places
        if new_places:
            self._views = _views(tensors)
        samples = _read(self._views)
        new_weights = new_places or any(not torch.equal(kept, samples[kind]) for kind, kept in self._samples.items())
        self._structure, self._tensors, self._places, self._samples = structure, tensors, places, samples
        return new_structure, new_weights


def weights_hash(model: Any) -> str:
    """A fingerprint of a model's weights, hexadecimal: the same for the same weights, on any device.

    SHA-256 over names, shapes, types, and of each tensor the sums of its bits along rows and along columns: a tenth of
    the time that hashing every byte takes (BLIP base: half a second).
    """
    digest = hashlib.sha256()
    for name, tensor in _named_tensors(model.state_dict().items()):
        whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        bits = tensor.detach().contiguous().view(whole)
        table = bits.reshape(bits.shape[0], -1) if bits.dim() > 1 else bits.reshape(1, -1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        for axis in (0, 1):
            digest.update(table.sum(axis, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()


def _named_tensors(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, by name; quantised layers pack theirs into tuples."""
    for name, value in sorted(items, key=lambda item: item[0]):
        if isinstance(value, Tensor):
            yield name, value.int_repr() if value.is_quantized else value
        elif isinstance(value, (tuple, list)):
            yield from _named_tensors((f"{name}.{at}", each) for at, each in enumerate(value))


def _state(model: nn.Module) -> tuple[list[Any], list[Tensor], list[tuple[int, int, int]]]:
    """What the modules are, their tensors, and where these are."""
    structure: list[Any] = []
    tensors: list[Tensor] = []
    waiting, seen = [model], {id(model)}
    while waiting:
        module = waiting.pop()
        kept = module.__dict__
        hooks, before = kept["_forward_hooks"], kept["_forward_pre_hooks"]
        structure.append((id(module), module.training, "forward" in kept))
        if hooks or before:
            structure.append((*hooks, None, *before))
        if type(module).__module__.startswith("peft."):
            structure.append(_settings(kept))
        tensors += [tensor for tensor in kept["_parameters"].values() if tensor is not None]
        tensors += [tensor for tensor in kept["_buffers"].values() if tensor is not None]
        for child in kept["_modules"].values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)
    return structure, tensors, [_place(tensor) for tensor in tensors]


def _place(tensor: Tensor) -> tuple[int, int, int]:
    return id(tensor), tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


def _settings(kept: dict[str, Any]) -> list[tuple[str, str]]:
    """A module's attributes that are plain values, or lists and dictionaries of such."""

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(each) for each in value.values())
        return all(map(plain, value)) if isinstance(value, (list, tuple, set)) else isinstance(value, _PLAIN)

    return [(name, repr(value)) for name, value in kept.items() if plain(value)]


def _views(tensors: Iterable[Tensor]) -> dict[tuple[torch.dtype, torch.device], list[Tensor]]:
    """Views of some numbers of each tensor, by type and device."""
    views = defaultdict(list)
    for tensor in tensors:
        if tensor.numel() and type(tensor.detach()) is Tensor and not tensor.is_meta:
            views[tensor.dtype, tensor.device] += _diagonals(tensor.detach())
    return views


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


def _read(views: dict[tuple[torch.dtype, torch.device], list[Tensor]]) -> Samples:
    return {kind: torch.cat([view.flatten() for view in few]) for kind, few in views.items()}
