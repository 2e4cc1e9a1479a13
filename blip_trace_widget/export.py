"""What is shown, as files and as code that makes it again.

For: the widget's Export menu: numbers (CSV, JSON), the selected cells' values, the picture, and Python.
Cost: a table of one grid.
Ends: at bytes; the figure itself is drawn by `blip_trace_widget.drawing`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget.checks import one_of
from blip_trace_widget.corruption import Corruption, ImageSwap
from blip_trace_widget.demo import examples
from blip_trace_widget.grids import Chosen
from blip_trace_widget.results import Trace
from blip_trace_widget.states import State, as_states
from blip_trace_widget.tracer import Tracer

if TYPE_CHECKING:
    from blip_trace_widget.grids import View

#: What the pictures are called that are saved for the code.
PICTURE, OTHER = "picture.png", "other.png"
#: Format -> (name of the file, media type).
FILES = {
    "svg": ("blip-trace.svg", "image/svg+xml"),
    "csv": ("blip-trace.csv", "text/csv"),
    "json": ("blip-trace.json", "application/json"),
    "picture": (PICTURE, "image/png"),
    "other": (OTHER, "image/png"),
    "python": ("blip_trace.py", "text/x-python"),
    "cells": ("blip-trace.tsv", "text/tab-separated-values"),
}

#: What can be written from Python, by the path's ending.
WRITTEN = ("svg", "png", "pdf", "html", "csv", "json")


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a path ends with.

    Raises:
        TypeError, ValueError: if it ends with none of `WRITTEN`.
    """
    suffix = Path(path).suffix.removeprefix(".").lower()
    return one_of("path (ending)", suffix, WRITTEN)


def write(path: str | os.PathLike[str], make: Callable[[], str | bytes]) -> None:
    """Write a file, once its content is made.

    Raises:
        OSError: if the file cannot be written.
    """
    there, content = Path(path), make()
    there.write_bytes(content if isinstance(content, bytes) else content.encode())


def png(svg: str) -> bytes:
    """An SVG as PNG, two pixels for one.

    Raises:
        ImportError: if the extra ``export`` is not installed.
    """
    return bytes(_converter().svg_to_png(svg, scale=2))


def pdf(svg: str) -> bytes:
    """An SVG as PDF, with text as text.

    Raises:
        ImportError: if the extra ``export`` is not installed.
    """
    return bytes(_converter().svg_to_pdf(svg))


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise ImportError(
            "PNG and PDF are made by vl-convert-python: pip install 'blip_trace_widget[export]'. SVG needs nothing."
        ) from error
    return vl_convert


def csv(trace: Trace) -> str:
    """The computed cells, one row each, as in `Trace.to_dataframe`."""
    return str(_computed(trace).to_csv(index=False, lineterminator="\n"))


def json_text(trace: Trace) -> str:
    """The computed cells and all that they were asked with."""
    rows = _computed(trace).to_dict("records")
    cells = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    return json.dumps({"settings": trace.settings, "cells": cells}, indent=1, ensure_ascii=False) + "\n"


def cells_text(trace: Trace, cells: Sequence[tuple[int, int]]) -> str:
    """The values of some cells with a line of names above, separated by tabs, to be pasted into a table."""
    table = trace.to_dataframe()
    chosen = [layer * len(trace.tokens) + position for layer, position in cells]
    return str(table.iloc[chosen].to_csv(index=False, sep="\t", lineterminator="\n"))


def picture(image: Image.Image) -> bytes:
    """A picture as PNG, which loses nothing."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def python(
    tracer: Tracer,
    view: View,
    chosen: Chosen | None = None,
    image: str | None = None,
    picture_map: tuple[str, int] | None = None,
) -> str:
    """Code that makes the trace in view again, the patched run of what is selected, and the map over the picture.

    Args:
        tracer: what is shown.
        view: which grid.
        chosen: what is selected.
        image: an expression that gives the picture, where one is known.
        picture_map: direction of a map of image tokens, and side of its squares.
    """
    chosen = chosen or Chosen()
    names = {"BlipVqa", "Tracer", type(tracer.corruption).__name__}
    lines = ["", f"trace = tracer.trace({_keywords(view._asdict())})"]
    if chosen.cells:
        names.add("State")
        grid = tracer.cells(view.block, view.site, view.head, view.window)
        states = as_states([state for cell in grid if cell.index in set(chosen.cells) for state in cell.states])
        lines += ["effect = tracer.patch(", "    [", *(f"        {_state(state)}," for state in states), "    ],"]
        lines += [f"    direction={literal(view.direction)},", ")"]
    if chosen.patches:
        mask = np.zeros(tracer.model.grid, dtype=bool)
        mask[tuple(zip(*chosen.patches, strict=True))] = True
        lines += ["", *_mask("patches", mask)]
        lines += [f"effect = tracer.patch_image_tokens(patches, direction={literal(view.direction)})"]
    if picture_map is not None:
        direction, square = picture_map
        lines += [f"picture_map = tracer.trace_image_tokens(patch={square}, direction={literal(direction)})"]
    shown = image or _picture(tracer.image, PICTURE)
    region = getattr(tracer.corruption, "region", None)
    before = [] if region is None else [*_mask("region", np.array(region)), ""]
    corruption = _corruption(tracer.corruption)
    arguments = [shown, literal(tracer.question)]
    arguments += [_keywords({name: value}) for name, value in tracer.given.items() if value is not None]
    arguments += [f"corruption={corruption}", f"metric={literal(tracer.metric.name)}"]
    files = [name for name, where in ((PICTURE, shown), (OTHER, corruption)) if literal(name) in where]
    notes = [f"# {name} is saved by the widget's Export menu." for name in files]
    if "examples()" in shown + corruption:
        names.add("examples")
    top = ["import numpy as np", ""] if before or chosen.patches else []
    top += [f"from blip_trace_widget import {', '.join(sorted(names))}", "", *notes, *_model(tracer), *before]
    return "\n".join([*top, "tracer = Tracer(", "    model,", *(f"    {part}," for part in arguments), ")", *lines, ""])


def playback(path: str | None) -> str:
    """Code that shows a recording again."""
    shown = "trace" if path is None else literal(path)
    note = [] if path is not None else ["# trace: what the widget was handed"]
    return "\n".join(["from blip_trace_widget import TraceWidget", "", *note, f"TraceWidget.from_trace({shown})", ""])


def _mask(name: str, mask: NDArray[np.bool_]) -> list[str]:
    """Lines that make a boolean mask again, a line for each rectangle of whole rows."""
    lines = [f"{name} = np.zeros({mask.shape}, dtype=bool)"]
    top = 0
    for bottom in range(1, mask.shape[0] + 1):
        if bottom < mask.shape[0] and (mask[bottom] == mask[top]).all():
            continue
        edges = np.flatnonzero(np.diff(mask[top].astype(int), prepend=0, append=0))
        lines += [f"{name}[{top}:{bottom}, {left}:{right}] = True" for left, right in edges.reshape(-1, 2)]
        top = bottom
    return lines


def _computed(trace: Trace) -> Any:
    table = trace.to_dataframe()
    return table[np.isfinite(table["score"])]


def _model(tracer: Tracer) -> list[str]:
    model = tracer.model
    if model.built_in:
        return ["model = BlipVqa.demo()"]
    if not model.source:
        return [f"model = BlipVqa(...)  # {model.name}: a model that the widget was handed"]
    dtype = str(model.dtype).removeprefix("torch.")
    options = {"dtype": None if dtype == "float32" else dtype, "revision": model.revision}
    given = "".join(f", {name}={literal(value)}" for name, value in options.items() if value is not None)
    return [f"model = BlipVqa.from_pretrained({literal(model.source)}{given})"]


def _picture(image: Image.Image, otherwise: str) -> str:
    """The expression that gives a picture: a built-in one, or a file that the Export menu saves."""
    for index, example in enumerate(examples()):
        built_in = example.image
        if built_in.size == image.size and built_in.tobytes() == image.tobytes():
            return f"examples()[{index}].image"
    return literal(otherwise)


def _corruption(corruption: Corruption) -> str:
    """The expression that makes it again."""
    settings = corruption.settings()
    where = "" if settings.pop("region", None) is None else "region=region"
    first = f"{_picture(corruption.image, OTHER)}, " if isinstance(corruption, ImageSwap) else ""
    rest = _keywords({name: value for name, value in settings.items() if name not in ("type", "sha256")})
    return f"{settings['type']}({', '.join(filter(None, (first.removesuffix(', '), rest, where)))})"


def literal(value: Any) -> str:
    """A value as Python; texts in double quotes, as most people's formatters have them."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={literal(value)}" for name, value in values.items() if value is not None)


def _state(state: State) -> str:
    return f"State({_keywords(vars(state))})"
