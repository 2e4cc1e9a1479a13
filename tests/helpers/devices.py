"""A device without a device: tensors that compute on the CPU and keep a GPU's rules.

`Elsewhere` is a tensor that says it is on a device of torch's "privateuseone" kind. As on a GPU, work that mixes
devices is refused (numbers of no dimension may mix, and indices on the CPU), and what goes over is counted. Numbers
that are fetched without waiting are there once an event behind them has been waited for, and not before. As on Apple's
MPS, where that is wanted, nothing may become float64.
"""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blip_trace_widget.model import modules

#: What has been fetched without waiting: where it is to stand, and what.
UNDER_WAY = []


class Event:
    """A point in what the device has been given to do."""

    def record(self, _stream):
        self.fetched, self.launches = list(UNDER_WAY), COUNTER.launches
        UNDER_WAY.clear()

    def synchronize(self):
        COUNTER.ahead.append(COUNTER.launches - self.launches)
        for place, numbers in self.fetched:
            place.copy_(numbers)


torch._register_device_module(
    "privateuseone",
    SimpleNamespace(
        is_available=lambda: Elsewhere.there,
        device_count=lambda: int(Elsewhere.there),
        _is_in_bad_fork=lambda: False,
        current_device=lambda: 0,
        current_stream=lambda _device: None,
        Event=Event,
        manual_seed_all=lambda seed: None,
        _lazy_init=lambda: None,
    ),
)
DEVICE = torch.device("privateuseone:0")
_COPY = torch.ops.aten._to_copy.default
#: Kernels that read a device's numbers on the host: they wait for all that is under way there.
_READ = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default}
_INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}


class Counter:
    """What went over, and what for.

    Attributes:
        copies: between host and device.
        waits: of these, at which the host waits until all is done that the device has been given.
        launches: kernels started on the device.
        ahead: of each event that was waited for, the kernels that had been started behind it by then.
    """

    def __init__(self):
        self.copies = self.waits = self.launches = 0
        self.ahead = []

    def waited(self, copies=1):
        """Count copies at which the host waits."""
        self.copies += copies
        self.waits += copies


COUNTER = Counter()


class Elsewhere(torch.Tensor):
    """A tensor on the device, made of one on the CPU."""

    #: Whether the device is there, and what it lacks.
    there, no_float64 = False, False

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            dtype=held.dtype,
            device=DEVICE,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
        )
        made.held = held
        return made

    def __repr__(self):
        return f"Elsewhere({self.held!r})"

    # These begin in C++ with a guard for the device, which is not there.
    def contiguous(self, **_keywords):
        return self if self.held.is_contiguous() else Elsewhere(self.held.contiguous())

    def item(self):
        COUNTER.waited()
        return self.held.item()

    def tolist(self):
        COUNTER.waited()
        return self.held.tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())

    def __getitem__(self, index):
        return Elsewhere(self.held[indices(index)])

    def __setitem__(self, index, value):
        if isinstance(value, torch.Tensor) and value.dim() and not isinstance(value, Elsewhere):
            COUNTER.waited()
        self.held[indices(index)] = held(value)

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        return compute(function, arguments, keywords or {})


def leaves(value):
    """All that is in nested lists, tuples and dictionaries; torch's `tree_flatten` would take most of a test's time."""
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in leaves(each)]
    return leaves(list(value.values())) if isinstance(value, dict) else [value]


def mapped(function, value):
    """The same with a function of each leaf in its place."""
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(function, each) for each in value])
    if isinstance(value, dict):
        return {name: mapped(function, each) for name, each in value.items()}
    return function(value)


def indices(index):
    """Indices on the host go over."""
    every = index if isinstance(index, tuple) else (index,)
    COUNTER.waited(any(isinstance(each, (list, torch.Tensor)) and not isinstance(each, Elsewhere) for each in every))
    return mapped(held, index)


@cache
def is_view(function):
    """Whether an operation only looks at its tensor's numbers in another shape."""
    return any(each.alias_info and not each.alias_info.is_write for each in function._schema.returns)


def compute(function, arguments, keywords):
    tensors = [each for each in leaves((arguments, keywords)) if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    here = [each for each in tensors if not isinstance(each, Elsewhere)]
    wanted = keywords.get("device")
    if function in _READ and there:
        COUNTER.waited()
    if function in (_COPY, torch.ops.aten.copy_.default):
        return copied(function, arguments, keywords)
    if there and any(each.dim() for each in here) and function not in _INDEXING:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two, {DEVICE} and cpu! ({function})"
        )
    if there and function in _INDEXING and here:
        COUNTER.waited()  # indices on the host go over
    goes = bool(there) if wanted is None else torch.device(wanted).type == DEVICE.type
    COUNTER.launches += goes and not is_view(function)
    keywords = {**keywords, **({"device": torch.device("cpu")} if wanted is not None else {})}
    if function is torch.ops.aten._local_scalar_dense.default:
        goes = False
    found = function(*mapped(held, arguments), **mapped(held, keywords))
    return settle(function, found, goes, arguments, keywords)


def settle(function, found, goes, arguments, keywords):
    """Results as tensors of the device; what was written in place is the same object again."""
    given = {id(each.held): each for each in leaves((arguments, keywords)) if isinstance(each, Elsewhere)}

    def back(result):
        if not isinstance(result, torch.Tensor) or not goes:
            return result
        if id(result) in given:
            return given[id(result)]
        if result.dtype == torch.float64 and Elsewhere.no_float64:
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype as MPS doesn't support float64 ({function})")
        return Elsewhere(result)

    return mapped(back, found)


def copied(function, arguments, keywords):
    """Copies between devices are what is counted."""
    if function is torch.ops.aten.copy_.default:
        target, source = arguments[:2]
        if isinstance(target, Elsewhere) != isinstance(source, Elsewhere):
            COUNTER.waited()
        held(target).copy_(held(source))
        return target
    (source,) = arguments
    wanted = keywords.get("device")
    goes = isinstance(source, Elsewhere) if wanted is None else torch.device(wanted).type == DEVICE.type
    fetched = isinstance(source, Elsewhere) and not goes
    waits = not keywords.get("non_blocking") or not (fetched or hasattr(source, "pinned"))
    if goes != isinstance(source, Elsewhere):
        COUNTER.copies += 1
        COUNTER.waits += waits
    keywords = {**keywords, **({"device": torch.device("cpu")} if wanted is not None else {})}
    made = function(held(source), **keywords)
    if fetched and not waits:
        UNDER_WAY.append((made, made.clone()))
        made.fill_(torch.nan if made.is_floating_point() else -1)
    return settle(function, made, goes, (), {})


def held(value):
    return value.held if isinstance(value, Elsewhere) else value


class Making(TorchDispatchMode):
    """What is made from nothing on the device is made here."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        wanted = keywords.get("device")
        if wanted is not None and torch.device(wanted).type == DEVICE.type:
            return compute(function, arguments, keywords)
        return function(*arguments, **keywords)


_TENSOR = torch.tensor


def made(data, *, device=None, **options):
    """A tensor of numbers of the host's."""
    if device is None or torch.device(device).type != DEVICE.type:
        return _TENSOR(data, device=device, **options)
    COUNTER.waited()
    return Elsewhere(_TENSOR(data, device="cpu", **options))


def pinned(tensor):
    """A copy in memory that a device reads by itself."""
    copy = tensor.clone()
    copy.pinned = True
    return copy


def without_gradients(_on=True):
    return torch.no_grad()


@contextmanager
def emulated(*, float64=True):
    """The device, inside."""
    Elsewhere.there, Elsewhere.no_float64 = True, not float64
    plain = {torch.Tensor, torch.nn.Parameter, Elsewhere}
    with (
        # In inference mode torch hides what an operation is made of, the copy in `Tensor.to` for instance.
        mock.patch.object(torch, "inference_mode", without_gradients),
        mock.patch.object(torch, "tensor", made),
        mock.patch.object(torch.Tensor, "pin_memory", pinned),
        mock.patch.object(modules, "PLAIN_TENSORS", plain),
    ):
        try:
            with Making():
                yield COUNTER
        finally:
            Elsewhere.there, Elsewhere.no_float64 = False, False


def moved(hf):
    """A model on the device."""
    for module in hf.modules():
        for kind in (module._parameters, module._buffers):
            for name, tensor in kind.items():
                if tensor is not None:
                    there = Elsewhere(tensor.detach().clone())
                    kind[name] = torch.nn.Parameter(there, requires_grad=False) if kind is module._parameters else there
    hf.tie_weights()
    return hf
