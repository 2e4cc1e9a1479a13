"""What a model's name or folder says before torch is imported, which takes seconds.

For: refusing at once what cannot be a BLIP question answering model, and saying what to do about it.
Cost: milliseconds; for a name that is not in the hub's cache, one question to the hub.
Ends: at names of files and the configuration. Whatever passes may still fail in `blip_trace_widget.model.loading`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The files of a model; a processor's, and a tokenizer's, as older and as newer versions of transformers write them.
CONFIG, PROCESSORS = "config.json", ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("vocab.txt", "tokenizer.json")
#: Those of an adapter, and of weights that are pickles.
ADAPTER, PICKLES = "adapter_config.json", (".bin", ".pt", ".pth", ".ckpt")
#: What torch computes on, where the machine has it; "npu" is what a plug-in calls "privateuseone".
DEVICES = (
    "cpu cuda ipu xpu mkldnn opengl opencl ideep hip ve fpga maia xla lazy vulkan mps meta hpu mtia npu privateuseone"
)
#: How long the hub may take to say whether it has a model, in seconds.
PATIENCE = 10


class NotBlipError(ValueError):
    """The configuration is another model's."""


def check(source: str) -> None:
    """Refuse what cannot be a BLIP question answering model.

    Args:
        source: a hub id or a folder.

    Raises:
        OSError: if there is no such model, or a file that it needs is missing or damaged.
        ValueError: if it is another kind of model.
    """
    path = Path(source)
    if path.is_dir():
        _check_folder(path, source)
    elif path.exists():
        raise NotADirectoryError(f"model: {source!r} is a file; expected a hub id or a folder")
    else:
        _check_hub(source)


def check_device(device: str) -> str:
    """Refuse what is no name of a torch device; whether the machine has it is for torch to say.

    Raises:
        ValueError: if it is none.
    """
    kind, colon, number = device.partition(":")
    if kind not in DEVICES.split() or (colon and not number.isdecimal()):
        raise ValueError(f"device: expected a torch device such as 'cpu' or 'cuda:0', got {device!r}")
    return device


def check_kind(source: str, config: Mapping[str, Any]) -> None:
    """Refuse the configuration of another kind of model.

    Raises:
        NotBlipError: if it is one.
    """
    kinds = config.get("architectures") or ["BlipForQuestionAnswering"]
    if config.get("model_type") != "blip" or "BlipForQuestionAnswering" not in kinds:
        raise NotBlipError(
            f"model: expected a BLIP question answering model (BlipForQuestionAnswering), {source!r} is "
            f"{config.get('model_type')!r} with architectures {config.get('architectures')}"
        )


def remedy(folder: Path) -> str:
    """What can be done about a folder that cannot be loaded, where its files tell."""
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
    if ADAPTER in names:  # what it lacks may be where its base is
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
        # Asked once: the loader would try again and again, for a minute, what no network can answer.
        found = HfApi().model_info(source, timeout=PATIENCE)
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{nowhere}the Hugging Face hub has no such model (or only for those who are logged in: hf auth login)"
        ) from None
    except HfHubHTTPError:  # the hub is there, but not well: the loader has more patience
        return
    except Exception as error:  # of which library the hub's errors of connection are depends on its version
        raise OSError(
            f"{nowhere}the Hugging Face hub's cache does not have it, nor can the hub be asked ({error}). Offline, "
            "use BlipVqa.demo() for the built-in model, or give a folder written by save_pretrained"
        ) from error
    if found.config and "model_type" in found.config:
        check_kind(source, found.config)
