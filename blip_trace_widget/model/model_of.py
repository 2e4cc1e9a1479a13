"""A model from any accepted argument.

For: everything that takes a model: as an object, a hub id or a folder.
Ends: at a `BlipVqa`.
"""

from __future__ import annotations

import os

from blip_trace_widget.model.blip import BlipVqa


def as_model(model: BlipVqa | str | os.PathLike[str]) -> BlipVqa:
    """The model, loaded if necessary.

    Raises:
        TypeError: if it is none of these.
        ValueError, OSError, ImportError: see `BlipVqa.from_pretrained`.
    """
    if isinstance(model, BlipVqa):
        return model
    if isinstance(model, (str, os.PathLike)):
        return BlipVqa.from_pretrained(model)
    raise TypeError(f"model: expected BlipVqa, a hub id or a folder, got {type(model).__name__}")
