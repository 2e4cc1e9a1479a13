"""Whether a model's modules are torch's and transformers' own, or changed by users.

For: taking shortcuts only where they are exact. Our forward reads the weights of some layers instead of calling them,
calls others with rows of many runs at once, and skips modules that only contain others. That is exact for BLIP's own
modules. A hook, an adapter, a quantised layer or a user's class may do anything.
Ends: at a description of the modules; `blip_trace_widget.model.parts` chooses how each block is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

#: torch's modules that treat the rows of a batch independently, whatever the shape of the batch.
_ROW_BY_ROW = (
    *(nn.Linear, nn.LayerNorm, nn.Dropout, nn.Identity, nn.Embedding, nn.Conv2d),
    *(nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Mish),
    *(nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict),
)
#: Modules that do nothing in evaluation mode and are not called.
_SKIPPED = (nn.Dropout, nn.Identity)
#: Types of ordinary, unpacked weights.
PLAIN_TENSORS = {Tensor, nn.Parameter}
#: Packages all of whose modules treat rows independently: BLIP itself, and PEFT's low-rank and scaling layers.
_ROW_WISE_PACKAGES = ("transformers.models.blip.", "transformers.activations", "peft.tuners.", "peft.utils.")
#: transformers' own hooks, which only capture hidden states or attentions on request and change nothing.
_INERT = "transformers.utils.output_capturing"


def hooked(module: nn.Module) -> bool:
    """Whether calling a module does anything besides or instead of its class's forward."""
    hooks = [*acting(module._forward_hooks), *acting(module._forward_pre_hooks)]
    return bool(hooks) or "forward" in module.__dict__


def acting(hooks: Mapping[int, Any]) -> list[int]:
    """The ids of the hooks that may change something."""
    return [number for number, hook in hooks.items() if getattr(hook, "__module__", "") != _INERT]


def hooks_on_all_modules() -> list[int]:
    """The ids of hooks registered for all modules globally."""
    return [*torch_module._global_forward_hooks, *torch_module._global_forward_pre_hooks]


def is_linear(module: Any) -> bool:
    """Whether a module is exactly torch's `Linear`, so that its weight and bias determine what it computes."""
    return (
        type(module) is nn.Linear
        and _plain(module.weight)
        and module.bias is not None
        and not hooked(module)
        and not hooks_on_all_modules()
    )


def changed_modules(part: nn.Module, name: str) -> Iterator[tuple[str, str]]:
    """The names of a part's modules that may not treat rows independently, each with the reason."""
    if hooks_on_all_modules():
        yield name, "has a hook, as all modules have"
    for path, module in part.named_modules(prefix=name):
        if ".parametrizations" in path:  # these compute a weight, not rows
            continue
        if hooked(module):
            yield path, "has a hook" if "forward" not in module.__dict__ else "has a forward of its own"
        elif not _known(type(module)) or (path.endswith(".dropout") and type(module) not in _SKIPPED):
            yield path, f"is a {type(module).__name__}"
        elif not all(map(_plain, _parameters(module))):
            yield path, "has weights that are no plain tensors"


def _plain(weight: Any) -> bool:
    return type(weight) in PLAIN_TENSORS and type(weight.detach()) in PLAIN_TENSORS


def _parameters(module: nn.Module) -> list[Any]:
    if parametrize.is_parametrized(module):
        return []
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _known(kind: type) -> bool:
    if kind.__bases__[-1] in _ROW_BY_ROW and kind.__name__.startswith("Parametrized"):  # torch.nn.utils.parametrize's
        return True
    return kind in _ROW_BY_ROW or kind.__module__.startswith(_ROW_WISE_PACKAGES)


def knows_training(module: nn.Module) -> bool:
    """Whether a module may behave differently in training: dropout, batch statistics, or an unknown class."""
    if isinstance(module, nn.Dropout):
        return module.p > 0
    return not _known(type(module))


def compiled_modules(model: nn.Module) -> list[str]:
    """The names of submodules that torch has compiled; hooks in them may not be called."""
    wrapper = getattr(torch._dynamo, "OptimizedModule", ()) if hasattr(torch, "_dynamo") else ()

    def compiled(module: nn.Module) -> bool:
        return (
            isinstance(module, (torch.jit.ScriptModule, *((wrapper,) if wrapper else ())))
            or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        )

    return [name for name, module in model.named_modules() if name and compiled(module)]


def adapter_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters that PEFT's layers add; these layers cast their inputs and outputs."""
    return {
        id(parameter)
        for module in model.modules()
        for name in getattr(module, "adapter_layer_names", ())
        for parameter in _parameters_of(getattr(module, name, None))
    }


def _parameters_of(kept: Any) -> Iterator[nn.Parameter]:
    if isinstance(kept, nn.Parameter):
        yield kept
    elif isinstance(kept, nn.Module):
        yield from kept.parameters()


def active_adapters(model: nn.Module) -> list[str]:
    """The names of a model's active PEFT adapters."""
    acting: set[str] = set()
    for module in model.modules():
        names = getattr(module, "active_adapters", None)
        if isinstance(names, (list, tuple)) and not getattr(module, "disable_adapters", False):
            acting.update(map(str, names))
    return sorted(acting)
