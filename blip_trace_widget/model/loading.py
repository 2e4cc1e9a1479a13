"""Loading a model and its processor from the hub or a folder.

For: the one place that knows transformers' loaders. Weights are read only from safetensors; code from the hub is never
run. A folder may hold a PEFT adapter beside the weights, or alone, with the name of its base model.
Cost: loading.
Ends: at a model and a processor; `blip_trace_widget.model.admission` checks whether they can be traced.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BlipForQuestionAnswering, BlipProcessor
from transformers.configuration_utils import PretrainedConfig
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.utils import find_adapter_config_file
from transformers.utils import logging as transformers_logging

from blip_trace_widget.checks import brief
from blip_trace_widget.model.checkpoint import ADAPTER, CONFIG, PROCESSORS, NotBlipError, check, check_kind, remedy


def load(
    name: str | os.PathLike[str],
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    revision: str | None,
    local_files_only: bool,
) -> tuple[BlipForQuestionAnswering, BlipProcessor]:
    """See `blip_trace_widget.BlipVqa.from_pretrained`.

    Raises:
        TypeError: if `name` is neither a string nor a path.
        ValueError: if it is another kind of model or lacks weights, or if the device or dtype cannot be used.
        OSError: if it cannot be found, reached or read.
        ImportError: if it has an adapter and ``peft`` is not installed.
    """
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        raise TypeError(f"model: expected a hub id or a folder, got {type(name).__name__} {brief(name)}")
    source = os.fspath(name)
    weights, target = as_dtype(dtype), device_of(device)
    if revision is None and not local_files_only:
        check(source)  # fails at once, whereas the loaders would retry an unreachable hub
    options: dict[str, Any] = {"local_files_only": local_files_only, "revision": revision or "main"}
    try:
        base = _base_of(source, options)
        _check_config(base, options)
        with _quiet() if Path(source).is_dir() else nullcontext():
            loader: Any = BlipForQuestionAnswering  # its annotations lack `output_loading_info`
            model, info = loader.from_pretrained(
                source, dtype=weights, use_safetensors=True, output_loading_info=True, **options
            )
        # An adapter's folder need not have a processor.
        has_own = not Path(source).is_dir() or any((Path(source) / name).is_file() for name in PROCESSORS)
        beside = source if has_own else base
        # The Pil image processor on purpose: the default one needs torchvision.
        images = BlipImageProcessorPil.from_pretrained(beside, **options)
        tokenizer = AutoTokenizer.from_pretrained(beside, trust_remote_code=False, **options)
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("its tokenizer has no words")  # the vocabulary is missing
    except (NotBlipError, _NoPeftError):
        raise
    except Exception as error:  # loaders raise anything on damaged files
        raise OSError(_why_not_loaded(source, error)) from error
    if info["missing_keys"] or info.get("mismatched_keys"):
        missing = sorted(str(key) for key in [*info["missing_keys"], *info.get("mismatched_keys", ())])
        raise ValueError(
            f"model: {source!r} lacks {len(missing)} weights of a BLIP question answering model, such as {missing[0]}"
        )
    assemble: Any = BlipProcessor
    return placed(model, target), assemble(images, tokenizer)


def placed(model: BlipForQuestionAnswering, device: torch.device) -> BlipForQuestionAnswering:
    """The model, moved to a device.

    Raises:
        ValueError: if it cannot be used here.
    """
    try:
        model.to(device)
    except (AssertionError, RuntimeError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device: {str(device)!r} cannot be used here: {error}") from error
    return model


class _NoPeftError(ImportError):
    """There is an adapter, but ``peft`` is not installed."""


def _base_of(source: str, options: dict[str, Any]) -> str:
    """The source of an adapter's base model; for a complete model, the same source."""
    adapter = find_adapter_config_file(source, **options)
    if adapter is None:
        return source
    if importlib.util.find_spec("peft") is None:
        raise _NoPeftError(
            f"model: {source!r} holds a PEFT adapter ({ADAPTER}), without which the model is another one: "
            "pip install peft, or remove the adapter's files to load the model without it"
        )
    if not Path(source).is_dir() or (Path(source) / CONFIG).is_file():
        return source
    return str(json.loads(Path(adapter).read_text("utf-8"))["base_model_name_or_path"])


def _check_config(source: str, options: dict[str, Any]) -> None:
    if Path(source).is_dir() and not (Path(source) / CONFIG).is_file():
        raise OSError("the folder has no config.json")
    config, _ = PretrainedConfig.get_config_dict(source, **options)
    if not config:
        raise OSError("its config.json is empty")
    check_kind(source, config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' progress bar: a folder loads too fast for one."""
    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _why_not_loaded(source: str, error: Exception) -> str:
    if Path(source).is_dir():
        return f"model: the folder {source!r} is no complete BLIP checkpoint: {error}{remedy(Path(source))}"
    return (
        f"model: {source!r} could not be loaded: it is no folder, and neither the cache of the Hugging Face hub nor "
        "the hub itself (no network?) has it. Offline, use BlipVqa.demo() for the built-in model, or "
        f"BlipVqa.from_pretrained(folder) with a folder written by save_pretrained. ({type(error).__name__}: {error})"
    )


def device_of(device: str | torch.device | None) -> torch.device:
    """The torch device of a name; None: CUDA if available, else MPS, else the CPU.

    Raises:
        ValueError: if there is no such kind of device.
    """
    if device is None:
        kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((kind for kind, available in kinds.items() if available), "cpu"))
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected a torch device such as 'cpu' or 'cuda:0', got {brief(device)}") from error


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A floating point type from its name; float32 for None.

    Raises:
        ValueError: if it is anything else.
    """
    value = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if value is None and dtype is None:
        return torch.float32
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"dtype: expected a floating point type such as 'float32' or 'bfloat16', got {brief(dtype)}")
    return value
