"""Checking a model's name or folder before torch is imported, which takes seconds.

For: refusing at once what cannot be a BLIP question answering model, with a remedy.
Cost: milliseconds; for a name that is not in the hub's cache, one request to the hub.
Ends: at file names and the configuration. What passes may still fail in `blip_trace_widget.model.loading`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blip_trace_widget.checks import brief
from blip_trace_widget.demo import BUILT_IN

#: Files of a model, a processor and a tokenizer, as older and newer versions of transformers write them.
CONFIG, PROCESSORS = "config.json", ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("vocab.txt", "tokenizer.json")
#: The file of an adapter, and the extensions of pickled weights.
ADAPTER, PICKLES = "adapter_config.json", (".bin", ".pt", ".pth", ".ckpt")
#: Names of torch's device types; "npu" is a plug-in's name for "privateuseone".
DEVICES = (
    "cpu cuda ipu xpu mkldnn opengl opencl ideep hip ve fpga maia xla lazy vulkan mps meta hpu mtia npu privateuseone"
)
#: Timeout for asking the hub whether it has a model, in seconds.
PATIENCE = 10


class NotBlipError(ValueError):
    """The configuration is that of another kind of model."""


def check(source: str) -> None:
    """Refuse what cannot be a BLIP question answering model.

    Args:
        source: a hub id or a folder, or the name of a built-in model.

    Raises:
        FileNotFoundError, NotADirectoryError, OSError: if there is no such model, or a file that it needs is missing or
            damaged.
        ValueError: if it is another kind of model.
    """
    path = Path(source)
    if source in BUILT_IN:
        return
    if path.is_dir():
        _check_folder(path, source)
    elif path.exists():
        raise NotADirectoryError(f"model: {source!r} is a file; expected a hub id or a folder")
    else:
        _check_hub(source)


def check_device(device: str) -> str:
    """Return `device` if it is the name of a torch device; torch itself checks later whether the machine has it.

    Raises:
        ValueError: if it is not.
    """
    kind, colon, number = device.partition(":")
    if kind not in DEVICES.split() or (colon and not number.isdecimal()):
        raise ValueError(f"device: expected a torch device such as 'cpu' or 'cuda:0', got {brief(device)}")
    return device


def check_kind(source: str, config: Mapping[str, Any]) -> None:
    """Check that a configuration is that of a BLIP question answering model.

    Raises:
        NotBlipError: if it is not.
    """
    kinds = config.get("architectures") or ["BlipForQuestionAnswering"]
    if config.get("model_type") != "blip" or "BlipForQuestionAnswering" not in kinds:
        raise NotBlipError(
            f"model: expected a BLIP question answering model (BlipForQuestionAnswering), {source!r} is "
            f"{config.get('model_type')!r} with architectures {config.get('architectures')}"
        )


def remedy(folder: Path) -> str:
    """What to do about a folder that cannot be loaded, as far as its files tell, or ""."""
    names = {path.name for path in folder.iterdir()}
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles and not any(name.endswith(".safetensors") for name in names):
        return (
            f". Its weights are pickles ({pickles[0]}), which are not opened, because they can run code. If you trust "
            "them, convert them once: BlipForQuestionAnswering.from_pretrained(folder, use_safetensors=False)"
            ".save_pretrained(folder)"
        )
    if not names & set(PROCESSORS) or not names & set(TOKENIZERS):
        return (
            ". It has no processor, which reads questions and pictures: save the model's own there too, "
            "processor.save_pretrained(folder)"
        )
    return ""


def _check_folder(folder: Path, source: str) -> None:
    names = {path.name for path in folder.iterdir()}
    if ADAPTER in names:  # missing files may be in the base model's folder
        return
    incomplete = f"model: the folder {source!r} is no complete BLIP checkpoint: "
    if CONFIG not in names:
        raise FileNotFoundError(f"{incomplete}it has no {CONFIG}")
    check_kind(source, _config(folder / CONFIG, incomplete))
    if not any(name.endswith(".safetensors") for name in names):
        raise FileNotFoundError(f"{incomplete}it has no weights in safetensors{remedy(folder)}")
    if remedy(folder):
        raise FileNotFoundError(incomplete.removesuffix(": ") + remedy(folder))


def _config(path: Path, incomplete: str) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{incomplete}its {CONFIG} is damaged: {error}") from error
    if not isinstance(config, Mapping) or not config:
        raise OSError(f"{incomplete}its {CONFIG} is no configuration")
    return config


def _check_hub(source: str) -> None:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    nowhere = f"model: {source!r} could not be loaded: there is no such folder, and "
    try:
        adapter, config = (try_to_load_from_cache(source, name) for name in (ADAPTER, CONFIG))
    except HFValidationError:
        raise FileNotFoundError(f"{nowhere}it is no hub id (owner/name) either") from None
    if isinstance(adapter, str):
        return
    if isinstance(config, str):
        check_kind(source, _config(Path(config), f"model: {source!r} in the hub's cache is damaged: "))
        return
    try:
        # Ask once: without a network, the loader would retry for a minute.
        info = HfApi().model_info(source, timeout=PATIENCE)
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{nowhere}the Hugging Face hub has no such model (or only for those who are logged in: hf auth login)"
        ) from None
    except HfHubHTTPError:  # the hub responds, with an error: the loader retries
        return
    except Exception as error:  # the class of connection errors depends on the hub library's version
        raise OSError(
            f"{nowhere}the Hugging Face hub's cache does not have it, nor can the hub be asked ({error}). Offline, "
            "use BlipVqa.demo() for the built-in model, or give a folder written by save_pretrained"
        ) from error
    if info.config and "model_type" in info.config:
        check_kind(source, info.config)
