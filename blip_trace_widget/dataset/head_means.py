"""Which attention heads matter over a data set, and which of them in every kind of question.

For: `DatasetTrace.heads` and `universal_heads`.
Cost: that of `blip_trace_widget.dataset.averages`, of layers x heads; for universal heads a sign-flip test a group.
Ends: at arrays and frozen results; nothing here reads a file or runs a model.

A head's effect in a question is the sum of what it does at each position, as in `HeadTrace`, or what it does at the
positions of one role. **Universal** is a head whose effect differs from 0 in every group, and has the same sign in all.
Each group is tested at the error rate divided by the number of groups, by the rule of
`blip_trace_widget.results.significance` over all its heads. So the chance that any head is called universal that has no
effect in some group is at most the error rate: it would have to be found in that group by mistake.

Sources: heads by activation patching of semantic pairs and "universal" heads, Golovanevsky et al. 2024 (NOTICE, arXiv
2406.16320), who state no error rate; every test at once, Berger 1982 (Technometrics 24), intersection-union test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of
from blip_trace_widget.corruption_fields import checked_region
from blip_trace_widget.dataset import averages
from blip_trace_widget.dataset.alignment import Aligned, Array
from blip_trace_widget.dataset.averages import MeanTrace
from blip_trace_widget.results import summaries
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.significance import LEAST, flip_test
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import attention_label

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Map

#: What may be drawn of an average over heads.
VALUES = ("recovery", "indirect_effect")


@dataclass(frozen=True, eq=False)
class RegionAttention:
    """Where heads look in the clean runs of samples that have a region: means over samples, (layers, heads).

    Cross-attention of the question's tokens, averaged over them; shares of all attention, the rest goes to the class
    token. A head that looks at the object more than its area asks for singles it out (image segmentation), one that
    looks at it less leaves it out (object inhibition); one that spends much on a single patch of the background looks
    at outliers. (The names are those of Golovanevsky et al. 2024.)

    Attributes:
        object: on the patches of the region.
        background: on all other patches.
        largest_background: on the one patch of the background that gets most.
        area: share of the patches that the region has, a mean over samples.
        samples: how many samples have a region.
    """

    object: Array = field(repr=False)
    background: Array = field(repr=False)
    largest_background: Array = field(repr=False)
    area: float
    samples: int

    @property
    @quiet
    def preference(self) -> Array:
        """Attention to a patch of the object over that to a patch of the background, (layers, heads): 1 is neither."""
        return np.asarray((self.object / self.area) / (self.background / (1 - self.area)))


@dataclass(frozen=True, eq=False, repr=False)
class MeanHeads(MeanTrace):
    """Heads averaged over samples, with intervals: a `MeanTrace` whose columns are heads, layers down, heads across.

    Attributes:
        attention: where the heads look, of the question encoder's cross-attention, if samples have a region; else None.
        numbers: the averaged samples' numbers, in the order of `aligned`, (samples,).
    """

    attention: RegionAttention | None = None
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    _columns: ClassVar[str] = "heads"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head: block, site, layer, head, samples, effect and recovery with intervals, significant, ...

        With `attention` also its shares: ``attention_object``, ``attention_background`` and
        ``attention_largest_background``.
        """
        names = ("object", "background", "largest_background")
        looks = {} if self.attention is None else {f"attention_{name}": getattr(self.attention, name) for name in names}
        table = super().to_dataframe().drop(columns="role")
        table["head"] = np.tile(np.arange(len(self.roles)), len(self.recovery))
        return table.assign(**{name: values.ravel() for name, values in looks.items()})

    def _drawn(self, value: str) -> Map:
        return _head_map(
            getattr(self, value), value, f"{self._title()}, mean of {len(self.aligned.total)}", ~self.significant
        )

    def _title(self) -> str:
        return _title(self.settings)

    def column_name(self, at: int) -> str:
        """A column, in a sentence."""
        return f"head {at}"


@dataclass(frozen=True, eq=False, repr=False)
class UniversalHeads(Summarised):
    """Heads that matter in every group, with the error rate stated.

    Attributes:
        groups: names of the groups.
        samples: of each group, (groups,).
        indirect_effect: mean over each group's samples, (groups, layers, heads).
        recovery: mean effect / mean total effect of each group, (groups, layers, heads).
        p: p values of each group, adjusted for all its heads, (groups, layers, heads).
        universal: heads that differ from 0 in every group, with one sign, (layers, heads).
        rate: at most this is the chance that any head is among them that has no effect in some group.
        settings: what was asked, as plain JSON.
        warning: what there is to say of groups with too few pictures to find anything, else "".
    """

    groups: tuple[str, ...]
    samples: NDArray[np.int64]
    indirect_effect: Array = field(repr=False)
    recovery: Array = field(repr=False)
    p: Array = field(repr=False)
    universal: NDArray[np.bool_] = field(repr=False)
    rate: float
    settings: dict[str, Any] = field(repr=False)
    warning: str = ""

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of each universal head, first those whose smallest recovery in any group is largest."""
        least = np.abs(self.recovery).min(axis=0)
        found = np.argwhere(self.universal).tolist()
        return sorted(((layer, head) for layer, head in found), key=lambda at: -least[at])

    def to_dataframe(self) -> pd.DataFrame:
        """One row per group and head: block, site, group, layer, head, indirect_effect, recovery, p, universal."""
        import pandas as pd

        group, layer, head = (axis.ravel() for axis in np.indices(self.p.shape))
        return pd.DataFrame(
            {
                "block": self.settings["block"],
                "site": self.settings["site"],
                "group": [self.groups[at] for at in group],
                "samples": self.samples[group],
                "layer": layer,
                "head": head,
                "indirect_effect": self.indirect_effect.ravel(),
                "recovery": self.recovery.ravel(),
                "p": self.p.ravel(),
                "universal": self.universal[layer, head],
            }
        )

    def plot(
        self,
        value: Literal["recovery", "indirect_effect"] = "recovery",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
    ) -> list[Any]:
        """Draw the heads of each group, all on one colour scale; universal ones are outlined.

        Args:
            value: ``"recovery"`` or ``"indirect_effect"``.
            limit: end of the colour scale on both sides of 0; default the largest value of any group.
            cmap: a matplotlib colour map or its name.
            marks: whether to put a dot where an effect is not distinguishable from 0 in its group.

        Returns:
            matplotlib axes, one per group; without matplotlib, bqplot figures.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        values = getattr(self, one_of("value", value, VALUES))
        end = plots.checked_limit(limit) or float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
        level = self.rate / len(self.groups)
        outlined = [(layer, head) for layer, head in np.argwhere(self.universal).tolist()]
        maps = [
            _head_map(of, value, f"{name or 'all'}, {count} samples", ~(p <= level), outlined)
            for of, name, count, p in zip(values, self.groups, self.samples, self.p, strict=True)
        ]
        places = plots.beside([each.values.shape for each in maps])
        return [plots.draw(each, ax, end, cmap, marks=marks) for each, ax in zip(maps, places, strict=True)]

    def _facts(self) -> dict[str, str]:
        found = self.heads
        shown = [f"layer {layer} head {head}" for layer, head in found[: summaries.BEST]]
        return {
            "grid": _title(self.settings),
            "groups": ", ".join(
                f"{name or '(none)'} {count}" for name, count in zip(self.groups, self.samples, strict=True)
            ),
            "universal": f"{len(found)} of {self.universal.size} heads",
            "error rate": f"{self.rate:g}",
            "warning": self.warning,
            "strongest": ", ".join(shown),
        }


def summed(effects: Sequence[Sequence[Array]]) -> Array:
    """Effects of heads, summed over positions, (samples, layers, heads).

    Args:
        effects: of each head, of each sample, (layers, positions).
    """
    return np.stack([np.stack([each.sum(axis=1) for each in of_head]) for of_head in effects], axis=2)


class Looks(NamedTuple):
    """Where the heads look in one sample that has a region.

    Attributes:
        shares: (3, layers, heads), see `blip_trace_widget.tracing.region_attention`.
        area: the region's share of the patches.
    """

    shares: Array
    area: float

    @classmethod
    def of(cls, attention: Any, region: Any, shape: tuple[int, ...]) -> Looks:
        """Where they look, from the columns of a sample's row; nothing in it is trusted.

        Args:
            attention: shares, as nested lists.
            region: the region, as nested lists.
            shape: numbers of layers and heads.

        Raises:
            TypeError, ValueError: if it is not that of so many heads.
        """
        shares = np.array(attention, np.float64)
        if shares.shape != (3, *shape):
            raise ValueError(f"attention: expected shares of shape {(3, *shape)}, got {shares.shape}")
        inside = checked_region(region)
        if inside is None:
            raise ValueError("region: a sample with attention has none")
        return cls(shares, float(np.mean(inside)))


def region_attention(looks: Sequence[Looks]) -> RegionAttention | None:
    """The mean of where heads look; None of no samples.

    Raises:
        ValueError: if they are not of one shape.
    """
    if not looks:
        return None
    object_, background, largest = np.mean([each.shares for each in looks], axis=0)
    return RegionAttention(object_, background, largest, float(np.mean([each.area for each in looks])), len(looks))


def of_role(role: str | None) -> str:
    """A role, as part of a sentence."""
    return "" if role is None else f" with the role {role!r}"


def some(data: Aligned, chosen: NDArray[np.bool_], of: str) -> Aligned:
    """Some of the samples.

    Raises:
        ValueError: if there are none, naming what they are `of`.
    """
    if not chosen.any():
        raise ValueError(f"{of} has no traced sample")
    return as_aligned(data.effects[chosen], data.total[chosen], data.pictures[chosen])


def as_aligned(effects: Array, total: Array, pictures: NDArray[np.int64]) -> Aligned:
    """Effects of heads, (samples, layers, heads), as what `averages` averages."""
    return Aligned(tuple(str(head) for head in range(effects.shape[2])), effects, total, pictures)


def mean(
    data: Aligned,
    attention: RegionAttention | None,
    confidence: float,
    resamples: int,
    seed: int,
    settings: dict[str, Any],
    numbers: Sequence[int] = (),
) -> MeanHeads:
    """The mean of heads' effects; arguments as in `averages.mean`, and see `MeanHeads`."""
    found = averages.mean(data, confidence, resamples, seed, settings)
    return MeanHeads(**vars(found), attention=attention, numbers=np.asarray(numbers, np.int64))


@quiet
def universal(
    data: Aligned, groups: Sequence[str], of: Sequence[str], rate: float, settings: dict[str, Any]
) -> UniversalHeads:
    """Which heads matter in every group; see the head of this module.

    Args:
        data: the effects of all samples, (samples, layers, heads).
        groups: the groups, at least one.
        of: each sample's group.
        rate: the error rate, between 0 and 1.
        settings: what was asked.
    """
    level, shape = rate / len(groups), data.effects.shape[1:]
    chosen = [np.array([name == group for name in of]) for group in groups]
    sums = [averages.sums(data, which) for which in chosen]
    effect = np.stack([each.effect.sum(axis=0) / each.number.sum(axis=0) for each in sums]).reshape(-1, *shape)
    recovery = np.stack([each.effect.sum(axis=0) / each.total.sum(axis=0) for each in sums]).reshape(-1, *shape)
    asked = [each.effect[each.number[:, 0] > 0] for each in sums]
    p = np.stack([flip_test(each) for each in asked]).reshape(-1, *shape)
    found = (p <= level).all(axis=0) & (np.abs(np.sign(effect).sum(axis=0)) == len(groups))
    return UniversalHeads(
        groups=tuple(groups),
        samples=np.array([which.sum() for which in chosen]),
        indirect_effect=effect,
        recovery=recovery,
        p=p,
        universal=found,
        rate=rate,
        settings=settings,
        warning=_warning(groups, [len(each) for each in asked], level),
    )


def fewest(level: float) -> int:
    """How many pictures a group needs before anything can be found at this level: the smallest p is 2 / 2^pictures."""
    return max(LEAST, 1 + int(np.ceil(-np.log2(level))))


def _warning(groups: Sequence[str], pictures: Sequence[int], level: float) -> str:
    least = fewest(level)
    few = [f"{group!r} {count}" for group, count in zip(groups, pictures, strict=True) if count < least]
    if not few:
        return ""
    return f"few pictures: {', '.join(few)}; with fewer than {least} no head of a group can be told from 0"


def _head_map(
    values: Array, value: str, title: str, dots: NDArray[np.bool_], outlined: Sequence[tuple[int, int]] = ()
) -> Map:
    from blip_trace_widget.results.plots import Map

    rows, columns = (range(count) for count in values.shape)
    label = value.replace("_", " ")
    return Map(values, label, title, ("layer", rows), ("head", columns), dots, outlined=outlined)


def _title(settings: dict[str, Any]) -> str:
    where = settings.get("role")
    at = "" if where is None else f" at “{where}”"
    which = f"{settings['block'].replace('_', ' ')}: heads of {attention_label(settings['site'])}"
    return f"{which}{at}{summaries.titled(settings)}"
