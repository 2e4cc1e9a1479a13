"""Rows of the two tables: what identifies a sample, and the cells of its grids, maps and knockouts.

For: `blip_trace_widget.dataset.batch`.
Cost: arrays, a column at a time.
Ends: at rows of samples and tables of cells; `blip_trace_widget.dataset.store` has their columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blip_trace_widget.corruption_fields import checked_region, plain_region
from blip_trace_widget.dataset import answers, store
from blip_trace_widget.dataset.cells import shown
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.pictures import as_image, picture_hash
from blip_trace_widget.results.maps import square_names

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from blip_trace_widget.results.effect_grid import EffectGrid
    from blip_trace_widget.results.maps import ImageTokenTrace
    from blip_trace_widget.results.trace import Trace
    from blip_trace_widget.tracing.knockout import KnockoutTrace

Row: TypeAlias = dict[str, Any]

#: What was done to a cell's run, by the name of the `Tracer`'s method that does it.
PATCH, PATCH_IMAGE_TOKENS, KNOCKOUT = "patch", "patch_image_tokens", "knockout"


def identity(sample: Sample, decoded: Mapping[str, Image.Image] = MappingProxyType({})) -> Row:
    """The columns that identify a sample; some of its pictures may be decoded already."""
    texts = {
        "id": sample.id,
        "group": sample.group,
        "image": image_name(sample.image, decoded.get("image")),
        "question": shown(sample.question),
        "given_answer": answers.table_text(sample.answer),
        "foil": None if sample.foil is None else shown(sample.foil),
        "other_image": None
        if sample.other_image is None
        else image_name(sample.other_image, decoded.get("other_image")),
        "other_question": None if sample.other_question is None else shown(sample.other_question),
    }
    # File names may contain what is not valid text.
    valid = {name: text and plain_text(text) for name, text in texts.items()}
    return valid | {"region": _region(sample.region)}


def plain_text(text: object) -> str:
    """A text with escapes for what is not valid in a table."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _region(given: Any) -> list[list[bool]] | None:
    """A region for the table; None also if it is not a valid one."""
    try:
        return plain_region(checked_region(given))
    except ValueError:
        return None


def image_name(image: Any, decoded: Image.Image | None = None) -> str:
    """A path as it was given; the hash of the pixels for any other picture; "" if it cannot be read."""
    if isinstance(image, NamedPicture):
        return image.name
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        return str(image)
    try:
        return picture_hash(as_image(image) if decoded is None else decoded)
    except (TypeError, ValueError, OSError):
        return ""


def of_grid(row: Row, trace: Trace) -> pa.Table:
    """The cells of a sample's grid.

    Args:
        row: the sample's row.
        trace: the grid.
    """
    layers, positions = (axis.ravel() for axis in np.indices(trace.shape))
    asked = {name: trace.settings[name] for name in ("block", "site", "head", "window", "direction")}
    tokens = [trace.tokens[position] for position in positions]
    told: Row = {"intervention": PATCH, "layer": layers, "position": positions, "token": tokens}
    if {"hold", "receivers"} & set(trace.settings):
        dead = {*trace.without_effect}
        told["without_effect"] = [cell in dead for cell in np.ndindex(trace.shape)]
    return _patched(row, trace, asked | told)


def of_image_map(row: Row, trace: ImageTokenTrace, grid: tuple[int, int]) -> pa.Table:
    """The cells of a map of image tokens.

    Args:
        row: the sample's row.
        trace: the map.
        grid: rows and columns of image tokens.
    """
    asked = {"intervention": PATCH_IMAGE_TOKENS, "direction": trace.settings["direction"]}
    names = square_names(*grid, trace.patch)
    return _patched(row, trace, asked | {"position": np.arange(len(names)), "token": names})


def _patched(row: Row, trace: EffectGrid, columns: Mapping[str, Any]) -> pa.Table:
    """What the cells of patched runs have in common."""
    numbers = {
        "metric": trace.settings["metric"],
        "clean": trace.clean,
        "corrupted": float(trace.corrupted.mean()),
        "score": trace.scores.ravel(),
        "indirect_effect": trace.indirect_effect.ravel(),
        "stderr": trace.stderr.ravel(),
        "scores": trace.samples.reshape(len(trace.samples), -1).T,
    }
    return store.cells_table(trace.scores.size, _of_sample(row) | numbers | dict(columns))


def of_knockout(row: Row, trace: KnockoutTrace, number: int, name: str) -> pa.Table:
    """The cells of a knockout, one a layer; what is lost stands in the place of the indirect effect.

    Args:
        row: the sample's row.
        trace: the knockout.
        number: the number of its edges among those that are cut.
        name: their name.
    """
    asked = {column: trace.settings[column] for column in ("block", "site", "head", "window", "metric")}
    columns = {
        "intervention": KNOCKOUT,
        "layer": np.arange(trace.scores.size),
        "position": number,
        "token": name,
        "clean": trace.clean,
        "score": trace.scores,
        "indirect_effect": trace.loss,
        "scores": trace.scores[:, None],
    }
    return store.cells_table(trace.scores.size, _of_sample(row) | asked | columns)


def _of_sample(row: Row) -> Row:
    return {name: row[name] for name in ("sample", "id", "group")}
