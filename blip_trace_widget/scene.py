"""Scene: what a widget shows beside a grid, kept with the grid so that it can be shown without the model.

For: `Trace.scene`, recordings, pages without a kernel.
Cost: the picture as a JPEG of at most 384 px, and some kilobytes of words and numbers.
Ends: at bytes and plain JSON, in the shapes of `blip_trace_widget.protocol`. `blip_trace_widget.figure` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import protocol
from blip_trace_widget.checks import conforms

#: The most bytes of a picture that is read from a file.
MAX_PICTURE_BYTES = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Scene:
    """What a widget shows beside the grids of one tracer.

    Attributes:
        picture: what is asked about, JPEG.
        inputs: what was asked, by the names of the widget's traits.
        setup: which blocks, layers and tokens there are.
        runs: the clean and the corrupted run.
        curve: the noise curve, or None.
        other_picture: the picture that was swapped in, JPEG, or empty.
    """

    picture: bytes = field(repr=False)
    inputs: protocol.Inputs
    setup: protocol.Setup = field(repr=False)
    runs: protocol.Runs = field(repr=False)
    curve: protocol.Curve | None = field(default=None, repr=False)
    other_picture: bytes = field(default=b"", repr=False)

    def traits(self, generation: int) -> dict[str, Any]:
        """What a widget shows of it, as of that generation of inputs."""
        born = {"generation": generation}
        return {
            "noise": self.inputs["noise"],
            "runs": {**self.runs, **born},
            "curve": {**self.curve, **born} if self.curve else {},
        }

    def packed(self) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
        """The pictures as arrays, and the rest as plain JSON."""
        pictures = {"picture": self.picture, "other_picture": self.other_picture}
        told = {"inputs": self.inputs, "setup": self.setup, "runs": self.runs, "curve": self.curve}
        return {name: np.frombuffer(each, np.uint8) for name, each in pictures.items()}, told

    @classmethod
    def unpacked(cls, pictures: dict[str, NDArray[Any]], told: Any) -> Scene:
        """The way back, from a file.

        Raises:
            ValueError: if something has not the shape that it should have.
        """
        shapes: dict[str, Any] = {
            "inputs": protocol.Inputs,
            "setup": protocol.Setup,
            "runs": protocol.Runs,
            "curve": protocol.Curve | None,
        }
        if not isinstance(told, dict) or set(told) != set(shapes):
            raise ValueError(f"scene: expected an object with {sorted(shapes)}")
        for name, picture in pictures.items():
            if picture.dtype != np.uint8 or picture.ndim != 1 or picture.size > MAX_PICTURE_BYTES:
                raise ValueError(f"{name}: expected at most {MAX_PICTURE_BYTES >> 20} MB, got {picture.shape}")
        parts: dict[str, Any] = {name: conforms(name, told[name], shape) for name, shape in shapes.items()}
        return cls(**parts | {name: picture.tobytes() for name, picture in pictures.items()})
