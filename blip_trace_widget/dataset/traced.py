"""DatasetTrace: a traced data set, read from its folder.

For: the tables (`blip_trace_widget.dataset.traced_tables`), every sample's own results (`traced_samples`), averages and
comparisons.
Cost: the samples' table without pictures is read at once; cells are read on demand.
Ends: at results; no model is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import brief, one_of, whole_number
from blip_trace_widget.dataset import alignment, averages, head_means, ragged, rows
from blip_trace_widget.dataset.alignment import Aligned, Roles
from blip_trace_widget.dataset.averages import Comparison, MeanTrace
from blip_trace_widget.dataset.damage import undamaged
from blip_trace_widget.dataset.head_means import MeanHeads, UniversalHeads
from blip_trace_widget.dataset.traced_samples import TracedSamples
from blip_trace_widget.dataset.traced_tables import GRID, Grid
from blip_trace_widget.results.grid_spec import GridSpec

if TYPE_CHECKING:
    import pandas as pd

#: Default number of bootstrap resamples.
RESAMPLES = 2000


@dataclass(frozen=True, eq=False, repr=False)
class DatasetTrace(TracedSamples):
    """A data set that `trace_dataset` traced, or a selection of it.

    Attributes:
        folder: the folder of its tables.
        settings: the settings that it was computed with, as plain JSON.
        samples: one row per sample: question, answers, effects, and for a skipped one the reason; pandas DataFrame. Of
            several metrics the scores are the first one's, and ``why`` says of a traced sample why it has no cells of
            that; see `scored` for the others.
    """

    def mean(
        self,
        align: str | Roles = "ends",
        block: str | None = None,
        site: str | None = None,
        group: str | None = None,
        confidence: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
        *,
        head: int | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> MeanTrace:
        """The average grid over the traced samples, with bootstrap intervals over pictures.

        Only questions whose answer the noise breaks are averaged: skipped ones are not included (see `counts`).

        Args:
            align: how to align positions of different questions. ``"exact"``: questions of one length, one role per
                position. ``"ends"``: up to three positions from either end have their own roles, and all between are
                pooled. ``"words"``: question word, attribute, noun, verb, other, special tokens (see `word_roles`). Or
                a callable from the tuple of a sample's tokens to a role for each, None to leave it out.
            block: default the first that was traced.
            site: default the first that was traced in that block.
            group: only the samples of this group.
            confidence: coverage of the intervals, between 0 and 1.
            resamples: number of bootstrap resamples.
            seed: seed of the bootstrap.
            head: see `trace`.
            window: see `trace`.
            direction: see `trace`.
            metric: see `trace`; the samples that have cells of it are averaged, with its total effects.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        grid = self._grid(metric, block=block, site=site, head=head, direction=direction, window=window)
        bootstrap = _bootstrap(confidence, resamples, seed)
        if group is None:
            data = self._aligned(align, grid)
        elif callable(align):  # align all samples, so that the roles have the same order in every group
            of_group = (self.scored(grid.metric)["group"] == one_of("group", group, self.groups)).to_numpy()
            data = self._aligned(align, grid).of(of_group)
        else:
            data = self.select(group)._aligned(align, grid)
        return averages.mean(data, *bootstrap, settings=_description(align, grid) | self.held | {"group": group})

    def compare(
        self,
        group_a: str,
        group_b: str,
        align: str | Roles = "ends",
        block: str | None = None,
        site: str | None = None,
        rate: float = 0.05,
        confidence: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
        *,
        head: int | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> Comparison:
        """Where the average indirect effects of two groups differ.

        Every cell is tested by Welch's t test over pictures, paired where both groups have questions about the same
        picture; over the grid the false-discovery rate is held. Effects are compared, not recoveries:
        where noise takes more of one group's scores, its effects can be larger for that alone.

        Args:
            group_a: one group.
            group_b: the other group, which is subtracted.
            align: see `mean`; the positions of both groups are aligned together.
            block: see `mean`.
            site: see `mean`.
            rate: the false-discovery rate, between 0 and 1.
            confidence: see `mean`.
            resamples: see `mean`.
            seed: see `mean`.
            head: see `mean`.
            window: see `mean`.
            direction: see `mean`.
            metric: see `mean`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        grid = self._grid(metric, block=block, site=site, head=head, direction=direction, window=window)
        for name, group in (("group_a", group_a), ("group_b", group_b)):
            one_of(name, group, self.groups)
        if group_a == group_b:
            raise ValueError(f"group_a, group_b: expected two groups, got {brief(group_a)} twice")
        _share("rate", rate)
        bootstrap = _bootstrap(confidence, resamples, seed)
        both = replace(self, samples=self.samples[self.samples["group"].isin([group_a, group_b])])
        data = both._aligned(align, grid)
        of = [(both.scored(grid.metric)["group"] == group).to_numpy() for group in (group_a, group_b)]
        for group, which in zip((group_a, group_b), of, strict=True):
            if which.sum() < 2:
                raise ValueError(f"group_a, group_b: {group!r} has {which.sum()} traced samples, expected 2 or more")
        description = _description(align, grid) | self.held | {"groups": [group_a, group_b]}
        return averages.compare(data, (of[0], of[1]), (group_a, group_b), rate, *bootstrap, settings=description)

    def plot(
        self,
        align: str | Roles = "ends",
        group: str | None = None,
        value: Literal["recovery", "indirect_effect"] = "recovery",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
        *,
        head: int | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> list[Any]:
        """Draw the average of each grid in the paper's layout, tokens down and layers across.

        Args:
            align: see `mean`.
            group: see `mean`.
            value: see `MeanTrace.plot`.
            limit: see `MeanTrace.plot`; default the largest value of each grid.
            cmap: see `MeanTrace.plot`.
            marks: see `MeanTrace.plot`.
            head: see `mean`; grids without it are left out.
            window: see `mean`; as `head`.
            direction: see `mean`; as `head`.
            metric: see `mean`.

        Returns:
            matplotlib axes, one per grid; without matplotlib, bqplot figures.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        asked: dict[str, Any] = {"head": head, "direction": direction, "window": window}
        first = self._grid(metric, block=None, site=None, **asked).spec  # raises if there is none
        there = [
            spec for spec in self.specs if all(value in (None, getattr(spec, name)) for name, value in asked.items())
        ]
        pairs = dict.fromkeys((spec.block, spec.site) for spec in [first, *there])
        means = [self.mean(align, block, site, group, metric=metric, **asked) for block, site in pairs]
        return [mean.plot(limit=limit, value=value, cmap=cmap, marks=marks) for mean in means]

    def aligned(
        self,
        align: str | Roles = "ends",
        block: str | None = None,
        site: str | None = None,
        *,
        head: int | None = None,
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> Aligned:
        """The traced samples' indirect effects on common axes, from which averages are computed; see `mean`.

        Raises:
            TypeError, ValueError: see `mean`.
        """
        return self._aligned(
            align, self._grid(metric, block=block, site=site, head=head, direction=direction, window=window)
        )

    # --- heads -------------------------------------------------------------------------------------------------------

    def heads(
        self,
        group: str | None = None,
        block: str | None = None,
        site: str | None = None,
        *,
        role: str | None = None,
        align: str | Roles = "ends",
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
        confidence: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> MeanHeads:
        """Which heads matter on average, (layers, heads), with intervals; needs ``trace_dataset(..., head="all")``.

        Args:
            group: only the samples of this group.
            block: default the first of which heads were traced.
            site: default the first of which heads were traced in that block.
            role: only the positions of this role, their mean; default the sum over all positions, as in `HeadTrace`.
            align: how roles are found, see `mean`.
            window: see `mean`.
            direction: see `mean`.
            metric: see `mean`.
            confidence: see `mean`.
            resamples: see `mean`.
            seed: see `mean`.

        Returns:
            `MeanHeads`; where samples have a region, and heads of the question encoder's cross-attention were traced,
            with where each head looks.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if not all heads of
                the site were traced.
        """
        specs, name = self._head_grids("heads", metric, block, site, window, direction)
        bootstrap = _bootstrap(confidence, resamples, seed)
        data, table = self._head_effects(specs, name, role, align)
        looks = self._region_attention(data.effects.shape[1:]) if specs[0].block == "question_encoder" else {}
        if group is not None:
            of_group = (table["group"] == one_of("group", group, self.groups)).to_numpy()
            data, table = head_means.some(data, of_group, f"group: {group!r}"), table[of_group]
        attention = head_means.region_attention([looks[number] for number in table["sample"] if number in looks])
        settings = _of_heads(specs[0], name, role) | self.held | {"group": group}
        return head_means.mean(data, attention, *bootstrap, settings, numbers=table["sample"].to_list())

    def universal_heads(
        self,
        groups: Sequence[str] | None = None,
        block: str | None = None,
        site: str | None = None,
        *,
        rate: float = 0.05,
        role: str | None = None,
        align: str | Roles = "ends",
        window: int | None = None,
        direction: str | None = None,
        metric: str | None = None,
    ) -> UniversalHeads:
        """Heads whose effect holds in every group: it differs from 0, with the same sign in all.

        Args:
            groups: two or more groups; default all.
            block: see `heads`.
            site: see `heads`.
            rate: the error rate, between 0 and 1: at most this is the chance that any head is called universal that has
                no effect in some group. See `blip_trace_widget.dataset.head_means`.
            role: see `heads`.
            align: see `heads`.
            window: see `mean`.
            direction: see `mean`.
            metric: see `mean`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if not all heads of
                the site were traced.

        Source: Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320).
        """
        specs, name = self._head_grids("universal_heads", metric, block, site, window, direction)
        if isinstance(groups, str):
            raise TypeError(f"groups: expected two or more of {self.groups}, got the text {groups!r}")
        chosen = [one_of("groups", group, self.groups) for group in dict.fromkeys(groups or self.groups)]
        if len(chosen) < 2:
            raise ValueError(f"groups: expected two or more of {self.groups}, got {chosen}")
        data, table = self._head_effects(specs, name, role, align)
        of = table["group"].to_list()
        for group in chosen:
            if group not in of:
                raise ValueError(f"groups: {group!r} has no traced sample{head_means.of_role(role)}")
        return head_means.universal(data, chosen, of, _share("rate", rate), _of_heads(specs[0], name, role) | self.held)

    def _head_effects(
        self, specs: Sequence[GridSpec], metric: str, role: str | None, align: str | Roles
    ) -> tuple[Aligned, pd.DataFrame]:
        """Effects of heads, (samples, layers, heads), and the rows of the samples that have the role."""
        grids, table = [Grid(spec, metric) for spec in specs], self.scored(metric)
        data = [self._aligned(align, grid) for grid in grids[: None if role else 1]]
        if role is None:
            effects = head_means.summed([self._effects(grid)[1] for grid in grids])
        else:
            at = data[0].roles.index(one_of("role", role, data[0].roles))
            effects = np.stack([each.effects[:, :, at] for each in data], axis=2)
        has = np.isfinite(effects[:, 0]).all(axis=1)
        return head_means.as_aligned(effects[has], data[0].total[has], data[0].pictures[has]), table[has]

    def _region_attention(self, shape: tuple[int, ...]) -> dict[int, head_means.Looks]:
        """Where heads, (layers, heads) of them, look in each sample that has a region."""
        found: dict[int, head_means.Looks] = {}
        for batch in self._batches:
            for row in self._batch(batch, ["sample", "region", "attention"]).to_pylist():
                if row["attention"] is not None:
                    with undamaged(self.folder, f"sample {row['sample']}"):
                        found[row["sample"]] = head_means.Looks.of(row["attention"], row["region"], shape)
        return found

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _aligned(self, align: str | Roles, grid: Grid) -> Aligned:
        import pandas as pd

        table = self.scored(grid.metric)
        if table.empty:
            raise ValueError(f"there is no traced sample: {self.summary}")
        words, effects = self._effects(grid)
        total, (pictures, _) = table["total_effect"].to_numpy(), pd.factorize(table["image"])
        return alignment.aligned(words, effects, total, pictures, align)

    def _effects(self, grid: Grid) -> tuple[list[tuple[str, ...]], list[NDArray[np.float64]]]:
        """Tokens and indirect effects, (layers, positions), of each sample that is `scored`; selections share them."""
        samples = self.scored(grid.metric)["sample"].to_numpy()
        read = self._read.get(grid)
        found = None if read is None else read.of(samples)
        if found is None:
            where = self._telling(grid)
            cells = self._cells(["sample", *where, "layer", "position", "token", "indirect_effect"], where)
            with undamaged(self.folder, "its cells"):
                self._read[grid] = read = ragged.by_sample(cells, samples)
            found = read.tokens, read.effects
        return found

    def _telling(self, grid: Grid) -> dict[str, Any]:
        """What tells the cells of a grid from all others; columns that are the same in all need not be read."""
        several = [name for name in GRID if len({getattr(spec, name) for spec in self.specs}) > 1]
        where = {name: getattr(grid.spec, name) for name in several}
        if {"image_map", "knockout"} & set(self.settings):
            where["intervention"] = rows.PATCH
        return where | ({"metric": grid.metric} if len(self.metrics) > 1 else {})


def _description(align: str | Roles, grid: Grid) -> dict[str, Any]:
    name = align if isinstance(align, str) else getattr(align, "__name__", "roles")
    return {**{of: getattr(grid.spec, of) for of in GRID}, "metric": grid.metric, "align": name}


def _of_heads(spec: GridSpec, metric: str, role: str | None) -> dict[str, Any]:
    return {**{of: getattr(spec, of) for of in GRID}, "head": "all", "metric": metric, "role": role}


def _bootstrap(confidence: float, resamples: int, seed: int) -> tuple[float, int, int]:
    return _share("confidence", confidence), whole_number("resamples", resamples, 1), whole_number("seed", seed, 0)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number between 0 and 1, got {type(value).__name__}")
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {brief(value)}")
    return float(value)
