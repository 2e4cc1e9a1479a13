"""What a model's modules are: torch's and transformers' own, or changed by somebody.

For: taking a shortcut only where it is one. Our forward reads the weights of some layers instead of calling them, calls
others with rows of many runs at once, and steps over the modules that only hold others. That is right for the modules
that BLIP is made of. A hook, an adapter, a quantised layer or a class of the user's may do anything.
Ends: at a description of the modules. `blip_trace_widget.model.blip` chooses how each block is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

#: torch's modules that treat every row of a batch alone, whatever the shape of the batch.
_ROW_BY_ROW = (
    *(nn.Linear, nn.LayerNorm, nn.Dropout, nn.Identity, nn.Embedding, nn.Conv2d),
    *(nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Mish),
    *(nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict),
)
#: What does nothing in evaluation mode, and is not called.
_STEPPED_OVER = (nn.Dropout, nn.Identity)
#: What weights are where nobody has packed them into something else.
PLAIN_TENSORS = {Tensor, nn.Parameter}
#: Packages of which every module does: BLIP itself, and the low-rank and scaling layers of PEFT.
_HOMES = ("transformers.models.blip.", "transformers.activations", "peft.tuners.", "peft.utils.")
#: Hooks of transformers' own that wait for somebody to ask for hidden states or attentions, and change nothing.
_INERT = "transformers.utils.output_capturing"


def hooked(module: nn.Module) -> bool:
    """Whether calling a module does something beside or instead of its class's own forward."""
    hooks = [*acting(module._forward_hooks), *acting(module._forward_pre_hooks)]
    return bool(hooks) or "forward" in module.__dict__


def acting(hooks: Mapping[int, Any]) -> list[int]:
    """The numbers of the hooks that may change something."""
    return [number for number, hook in hooks.items() if getattr(hook, "__module__", "") != _INERT]


def hooks_on_all_modules() -> list[int]:
    """The numbers of the hooks that somebody has registered for every module there is."""
    return [*torch_module._global_forward_hooks, *torch_module._global_forward_pre_hooks]


def is_linear(module: Any) -> bool:
    """Whether a module is torch's own `Linear` and nothing else, so that its weight and bias say what it computes."""
    return (
        type(module) is nn.Linear
        and _plain(module.weight)
        and module.bias is not None
        and not hooked(module)
        and not hooks_on_all_modules()
    )


def changed_modules(part: nn.Module, name: str) -> Iterator[tuple[str, str]]:
    """The modules of a part that need not treat the rows of a batch alone, by name, and what they are."""
    if hooks_on_all_modules():
        yield name, "has a hook, as all modules have"
    for path, module in part.named_modules(prefix=name):
        if ".parametrizations" in path:  # these make a weight, whatever they are
            continue
        if hooked(module):
            yield path, "has a hook" if "forward" not in module.__dict__ else "has a forward of its own"
        elif not _known(type(module)) or (path.endswith(".dropout") and type(module) not in _STEPPED_OVER):
            yield path, f"is a {type(module).__name__}"
        elif not all(map(_plain, _parameters(module))):
            yield path, "has weights that are no plain tensors"


def _plain(weight: Any) -> bool:
    return type(weight) in PLAIN_TENSORS and type(weight.detach()) in PLAIN_TENSORS


def _parameters(module: nn.Module) -> list[Any]:
    if parametrize.is_parametrized(module):
        return []
    return [each for each in module._parameters.values() if each is not None]


def _known(kind: type) -> bool:
    if kind.__bases__[-1] in _ROW_BY_ROW and kind.__name__.startswith("Parametrized"):  # torch.nn.utils.parametrize's
        return True
    return kind in _ROW_BY_ROW or kind.__module__.startswith(_HOMES)


def knows_training(module: nn.Module) -> bool:
    """Whether a module may do something else in training: drops out, gathers statistics, or is none that we know."""
    if isinstance(module, nn.Dropout):
        return module.p > 0
    return not _known(type(module))


def compiled_modules(model: nn.Module) -> list[str]:
    """The modules below a model that were compiled in one of torch's ways; hooks in them are not sure to be called."""
    wrapper = getattr(torch._dynamo, "OptimizedModule", ()) if hasattr(torch, "_dynamo") else ()

    def compiled(module: nn.Module) -> bool:
        return (
            isinstance(module, (torch.jit.ScriptModule, *((wrapper,) if wrapper else ())))
            or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        )

    return [name for name, module in model.named_modules() if name and compiled(module)]


def adapter_parameters(model: nn.Module) -> set[int]:
    """The identities of the parameters that PEFT's layers add, which cast what they get and give."""
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
    """The names of the PEFT adapters that act in a model."""
    acting: set[str] = set()
    for module in model.modules():
        names = getattr(module, "active_adapters", None)
        if isinstance(names, (list, tuple)) and not getattr(module, "disable_adapters", False):
            acting.update(map(str, names))
    return sorted(acting)
