"""The settings of a traced data set, read from its folder: nothing in the file is trusted.

For: going on in a folder, and opening it.
Ends: at plain JSON that was checked; `blip_trace_widget.dataset.plan` makes settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS, METRIC_NAMES, completed
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import BLOCKS, DIRECTIONS, TEXT_BLOCKS

if TYPE_CHECKING:
    from blip_trace_widget.dataset.samples import PathLike

FORMAT, VERSION = "blip_trace_widget.dataset", 2
#: Versions of the format that can be read and continued.
READABLE = (1, 2)
SETTINGS = "dataset.json"

#: The type of a corruption that is not the package's own: a user's class, or a function of the sample.
USERS = ("class", "function")


def read_settings(folder: PathLike) -> dict[str, Any]:
    """The settings that a folder was computed with.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if `trace_dataset` did not write it, or it has a newer format.
    """
    path = Path(folder) / SETTINGS
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder: no such folder: {os.fspath(folder)!r}")
    if not path.is_file():
        raise ValueError(f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: it has no {SETTINGS}")
    try:
        stored = json.loads(path.read_text("utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']!r}")
        version, settings = stored["version"], dict(stored["settings"])
        if version in READABLE:
            _check_settings(settings)
            settings["corruption"] = completed(settings["corruption"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: {SETTINGS}: {error}"
        ) from error
    if version not in READABLE:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} has format version {version!r}, this package reads up to {VERSION}"
        )
    return settings


def metric_name(told: str) -> str:
    """The name of a metric as settings tell it: those of users' own carry a fingerprint."""
    return told if told in METRIC_NAMES else told.rpartition(" ")[0] or told


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check that settings from a file are as `trace_dataset` writes them; raises whatever is wrong."""
    whole_number("batch_size", settings["batch_size"], 1)
    one_of("corruption", settings["corruption"]["type"], (*CORRUPTIONS, *USERS))
    for given in settings["grids"]:
        spec = GridSpec(*given)
        one_of("site", spec.site, BLOCKS[spec.block].accepted)
        one_of("direction", spec.direction, DIRECTIONS)
        whole_number("window", spec.window, 1)
        if spec.head is not None:
            whole_number("head", spec.head, 0)
    if not settings["grids"]:
        raise ValueError("there is no grid in it")
    for heads in settings.get("heads", {}).values():
        whole_number("heads", heads, 1)
    for name in (settings["metric"], *settings.get("metrics", ())):
        if not isinstance(name, str):
            raise TypeError(f"metric: expected a text, got {type(name).__name__}")
    whole_number("image_map", settings.get("image_map", 1), 1)
    for cut in settings.get("knockout", {}).values():
        one_of("block", cut["block"], TEXT_BLOCKS)
        for window in cut["windows"]:
            whole_number("window", window, 1)
