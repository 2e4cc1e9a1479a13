"""Where patched states come from: one recorded run, or what each of many patched runs had.

For: `blip_trace_widget.model.block.Patches`. A recorded base run gives all patched runs the same values; a `Recorder`
gives each run what a run of the same number had before: the second half of path patching.
Ends: at rows.

Shapes as in `blip_trace_widget.model.block`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from blip_trace_widget.model.patch_plan import place_of, stage_of
from blip_trace_widget.model.transfer import to_device
from blip_trace_widget.states import State


class Source(Protocol):
    """Where the values of patched states come from."""

    def taken(self, layer: int, stage: str, runs: Tensor, positions: Tensor) -> Tensor:
        """Rows for places in patched runs, (S, places, D); what enters layer 0 is what layer -1 puts out.

        Args:
            layer: 0-based.
            stage: a stage of it.
            runs: the number of each place's run.
            positions: each place's position.
        """

    def part(self, samples: slice) -> Source:
        """Some of the samples."""


class Recorder:
    """The values of some states in each of many patched runs, for other runs to take them.

    Of a stage it keeps what a run has computed, before anything is held or replaced there.

    Args:
        states: of one block.
        base: the run that the runs equal where nothing is patched.
        device: where it is.
        samples: S.
        runs: C.
    """

    def __init__(self, states: Iterable[State], base: Source, device: torch.device, samples: int, runs: int) -> None:
        places: dict[tuple[int, str], set[int]] = {}
        for state in states:
            # What enters a layer: stepped blocks know it as what the layer below puts out, hooked ones do not.
            for place in {place_of(state), (state.layer, stage_of(state))}:
                places.setdefault(place, set()).add(state.position)
        self._positions = {place: to_device(torch.tensor(sorted(found)), device) for place, found in places.items()}
        #: The last layer in which there is any.
        self.last = max(layer for layer, _ in places)
        self._values = {
            place: base.taken(*place, at, at)[:, None].expand(samples, runs, -1, -1).clone()
            for place, at in self._positions.items()
        }

    def keep(
        self, layer: int, stage: str, rows: Tensor, runs: Tensor, positions: Tensor, samples: slice = slice(None)
    ) -> None:
        """Keep what is wanted of rows, (S, R, D), that are of these runs and at these positions, (R,) each."""
        wanted = self._positions.get((layer, stage))
        for column, position in enumerate(() if wanted is None else wanted):
            here = (positions == position).nonzero()[:, 0]
            self._values[layer, stage][samples, runs[here], column] = rows[:, here]

    def taken(self, layer: int, stage: str, runs: Tensor, positions: Tensor) -> Tensor:
        """See `Source.taken`."""
        columns = torch.searchsorted(self._positions[layer, stage], positions)
        return self._values[layer, stage][:, runs, columns]

    def part(self, samples: slice) -> Recorder:
        """See `Source.part`."""
        part = copy.copy(self)
        part._values = {place: values[samples] for place, values in self._values.items()}
        return part
