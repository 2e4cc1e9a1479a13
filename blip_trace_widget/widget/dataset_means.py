"""A data set's averages as its widget needs them, each computed once.

For: `blip_trace_widget.widget.dataset`: the average in view, the map of heads, the groups side by side.
Cost: an average when it is first asked for. Ask on a worker; `known` computes nothing.
Ends: at results; `blip_trace_widget.dataset` averages.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from blip_trace_widget.dataset import averages
from blip_trace_widget.dataset.alignment import Roles
from blip_trace_widget.dataset.averages import Comparison, MeanTrace
from blip_trace_widget.dataset.head_means import MeanHeads
from blip_trace_widget.dataset.traced import RESAMPLES, DatasetTrace
from blip_trace_widget.results.grid_spec import GridSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Error rate and confidence of differences, the bootstrap's size and seed: the defaults of `DatasetTrace.compare`.
COMPARED = (0.05, 0.95, RESAMPLES, 0)


class Asked(NamedTuple):
    """What is averaged.

    Attributes:
        kind: ``"grid"`` or ``"heads"``.
        spec: the grid; of heads without a head.
        group: the group; "" for all samples.
        minus: the group that is subtracted; "" for none.
    """

    kind: str
    spec: GridSpec
    group: str
    minus: str = ""


#: What was computed, or why it could not be.
Found: TypeAlias = "MeanTrace | Comparison | ValueError | OSError"


class Means:
    """A data set's averages.

    Args:
        data: the data set.
        align: see `DatasetTrace.mean`; None for every position of questions of one length, else the ends.
    """

    def __init__(self, data: DatasetTrace, align: str | Roles | None) -> None:
        self.data = data
        self._align = align
        self._found: dict[Asked, Found] = {}

    @cached_property
    def specs(self) -> dict[GridSpec, GridSpec]:
        """The grids that were traced, by their present names."""
        return {spec.by_present_name: spec for spec in self.data.specs}

    @cached_property
    def head_specs(self) -> list[GridSpec]:
        """The grids of which all heads were traced, without a head, by their present names."""
        whole: dict[GridSpec, set[int]] = {}
        for spec in self.specs:
            if spec.head is not None:
                whole.setdefault(spec._replace(head=None), set()).add(spec.head)
        count = self.data.settings.get("heads", {})
        return [spec for spec, heads in whole.items() if heads == set(range(count.get(spec.block, 0)))]

    def of(self, group: str) -> DatasetTrace:
        """The samples of a group; "" for all."""
        return self.data.select(group) if group else self.data

    def numbers(self, group: str) -> NDArray[np.int64]:
        """Numbers of the samples that a group's grid averages, in the order of ``MeanTrace.aligned``."""
        table = self.data.scored()
        return np.asarray((table[table["group"] == group] if group else table)["sample"].to_numpy(), dtype=np.int64)

    def known(self, asked: Asked) -> Found | None:
        """What was computed, or why it could not be; None if nobody asked yet."""
        return self._found.get(asked)

    def compute(self, asked: Asked) -> Found:
        """Compute it, if nobody did yet."""
        if asked not in self._found:
            try:
                self._found[asked] = self._computed(asked)
            except (ValueError, OSError) as error:
                self._found[asked] = error
        return self._found[asked]

    def grid(self, group: str, spec: GridSpec) -> MeanTrace:
        """The average of a grid.

        Raises:
            ValueError: see `DatasetTrace.mean`.
        """
        found = self._found.get(Asked("grid", spec, group))
        if not isinstance(found, MeanTrace):  # what failed once is tried again, since it is asked for again
            found = self._found[Asked("grid", spec, group)] = self._computed(Asked("grid", spec, group))
        assert isinstance(found, MeanTrace)
        return found

    def _computed(self, asked: Asked) -> MeanTrace | Comparison:
        if asked.kind == "heads":
            return self._head_difference(asked) if asked.minus else self._heads(asked.spec, asked.group or None)
        spec = self.specs[asked.spec]
        which = spec.settings
        block, site, _ = which.pop("block"), which.pop("site"), which.pop("patch")
        some = self.of(asked.group)
        if asked.minus:
            both = self.data.samples["group"].isin([asked.group, asked.minus])
            some = self.data.select(samples=self.data.samples["sample"][both])
            return self.data.compare(asked.group, asked.minus, self._fitting(some, spec), block, site, **which)
        return self.data.mean(self._fitting(some, spec), block, site, asked.group or None, **which)

    def _fitting(self, some: DatasetTrace, spec: GridSpec) -> str | Roles:
        if self._align is not None:
            return self._align
        asked: dict[str, Any] = {"head": spec.head, "direction": spec.direction, "window": spec.window}
        try:
            some.aligned("exact", spec.block, spec.site, **asked)
        except ValueError:
            return "ends"
        return "exact"

    def _heads(self, spec: GridSpec, group: str | None) -> MeanHeads:
        one = self.specs[spec._replace(head=0)]
        return self.data.heads(group, one.block, one.site, direction=one.direction, window=one.window)

    def _head_difference(self, asked: Asked) -> Comparison:
        """As `DatasetTrace.compare`, of heads."""
        whole = self.compute(asked._replace(group="", minus=""))
        if not isinstance(whole, MeanHeads):
            raise ValueError(str(whole))
        groups = (asked.group, asked.minus)
        of = self.data.samples.set_index("sample")["group"].loc[whole.numbers].to_numpy()
        first, second = (of == group for group in groups)
        for group, which in zip(groups, (first, second), strict=True):
            if which.sum() < 2:
                raise ValueError(f"{group!r} has {which.sum()} traced samples, expected 2 or more")
        settings = whole.settings | {"groups": list(groups)}
        return averages.compare(whole.aligned, (first, second), groups, *COMPARED, settings=settings)
