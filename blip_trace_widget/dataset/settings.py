"""The settings of a traced data set, read from its folder: nothing in the file is trusted.

For: going on in a folder, and opening it.
Ends: at plain JSON that was checked; `blip_trace_widget.dataset.plan` makes settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from blip_trace_widget.checks import brief, clipped, conforms, one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS, METRIC_NAMES, completed
from blip_trace_widget.dataset.damage import MAX_BATCH
from blip_trace_widget.results import stored
from blip_trace_widget.results.grid_spec import ANSWER, GridSpec
from blip_trace_widget.states import BLOCKS, EVERYWHERE, HELD_SITES, TEXT_BLOCKS, State

if TYPE_CHECKING:
    from blip_trace_widget.dataset.samples import PathLike

FORMAT, VERSION = "blip_trace_widget.dataset", 2
#: Versions of the format that can be read and continued.
READABLE = (1, 2)
SETTINGS = "dataset.json"

#: The type of a corruption that is not the package's own: a user's class, or a function of the sample.
USERS = ("class", "function")
#: The setting that a merged folder has beside those of its parts: how many there were. `trace_dataset`, which has none,
#: does not go on with a merged folder.
MERGED = "merged"

#: A grid of the whole site, and any other: block, site, head, direction, window.
_Pair: TypeAlias = tuple[str, str]
_Five: TypeAlias = tuple[str, str, int | None, str, int]


class _Cut(TypedDict):
    """A knockout."""

    block: str
    site: str
    head: int | None
    queries: Any
    keys: Any
    windows: list[int]


class _State(TypedDict):
    """A state that is held, or where paths lead."""

    block: str
    layer: int
    position: int | str
    site: str
    head: int | None


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
        told = json.loads(path.read_text("utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {brief(told['format'])}")
        version = whole_number("version", told["version"], 0)
        settings = dict(conforms("settings", told["settings"], dict[str, Any]))
        if version in READABLE:
            _check_settings(settings)
            settings["corruption"] = completed(settings["corruption"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is no folder that trace_dataset wrote: {SETTINGS}: {clipped(str(error))}"
        ) from error
    if version not in READABLE:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} has format version {version!r}, this package reads up to {VERSION}"
        )
    return settings


def metric_name(told: str) -> str:
    """The name of a metric as settings tell it: those of users' own carry a fingerprint."""
    return told if told in METRIC_NAMES else told.rpartition(" ")[0] or told


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that differ, by name, in words; "" if none does."""
    was, now = _flat(was), _flat(now)
    names = sorted(name for name in {*was, *now} if _plain(name, was.get(name)) != _plain(name, now.get(name)))
    return "; ".join(f"{name} was {brief(was.get(name))} and is {brief(now.get(name))} now" for name in names)


def _plain(name: str, value: Any) -> Any:
    """A setting as it is compared: in what order states are held, or receive, says nothing."""
    if name in ("hold", "receivers") and isinstance(value, list):
        return sorted(json.dumps(item, sort_keys=True) for item in value)
    return value


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: ``corruption.factor``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check that settings from a file are as `trace_dataset` writes them; raises whatever is wrong."""
    whole_number("batch_size", settings["batch_size"], 1, MAX_BATCH)
    conforms("model", settings["model"], str)
    _check_corruption(conforms("corruption", settings["corruption"], dict[str, Any]))
    _check_grids(settings)
    _check_held(settings)
    metrics = conforms("metrics", settings.get("metrics", [settings["metric"]]), list[str])
    if metrics[:1] != [settings["metric"]] or len({*map(metric_name, metrics)}) < len(metrics):
        raise ValueError(f"metrics: expected {brief(settings['metric'])} and others, each once, got {brief(metrics)}")
    for name, least, most in (("image_map", 1, stored.MOST), (MERGED, 2, None)):
        if name in settings:
            whole_number(name, settings[name], least, most)
    for cut in conforms("knockout", settings.get("knockout", {}), dict[str, _Cut]).values():
        one_of("block (of a knockout)", cut["block"], TEXT_BLOCKS)
        one_of("site (of a knockout)", cut["site"], BLOCKS[cut["block"]].heads)
        whole_number("head (of a knockout)", cut["head"] or 0, 0, stored.MOST)
        for window in cut["windows"]:
            whole_number("window (of a knockout)", window, 1, stored.MOST)


def _check_held(settings: Mapping[str, Any]) -> None:
    """Check what is held, and where paths lead."""
    hold = conforms("hold", settings.get("hold", []), list[str | _State])
    receivers = conforms("receivers", settings.get("receivers", []), str | list[_State])
    if isinstance(receivers, str):
        one_of("receivers", receivers, (ANSWER,))
    for item in [*hold, *(() if isinstance(receivers, str) else receivers)]:
        if isinstance(item, str):
            one_of("hold", item, (*HELD_SITES, EVERYWHERE))
        else:
            State(**item)


def _check_corruption(told: Mapping[str, Any]) -> None:
    one_of("corruption", told.get("type"), (*CORRUPTIONS, *USERS))
    # Of each sample's own partner there is no one hash.
    partner = {"sha256": ""} if told["type"] == "ImageSwap" and "partner" in told else {}
    stored.corruption({name: value for name, value in told.items() if name != "partner" or not partner} | partner)


def _check_grids(settings: Mapping[str, Any]) -> None:
    """Check the grids: block and site of each, or these with head, direction and window."""
    known = conforms("heads", settings.get("heads", {}), dict[str, int])
    for block, heads in known.items():
        one_of("heads", block, BLOCKS)
        whole_number("heads", heads, 1, stored.MOST)
    specs = [GridSpec(*given) for given in conforms("grids", settings["grids"], list[_Pair | _Five])]
    if not specs:
        raise ValueError("there is no grid in it")
    if len({*specs}) < len(specs):
        raise ValueError("grids: one is there twice")
    for spec in specs:
        stored.check_grid(spec._asdict())
        if spec.head is not None:
            whole_number("head", spec.head, 0, known[spec.block] - 1)
