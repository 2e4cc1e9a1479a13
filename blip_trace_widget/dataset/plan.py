"""What is computed for every sample: the product of what `trace_dataset` lists, checked before the first question.

For: `blip_trace_widget.dataset.batch`, here or on a worker: a plan can be pickled.
Ends: at grids, maps and knockouts by name. Anything listed that nothing can be computed of is refused: a head of sites
without heads, a site that no block has, a window larger than any block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from blip_trace_widget.checks import brief, named, whole_number
from blip_trace_widget.choices import MetricName
from blip_trace_widget.dataset import fingerprints
from blip_trace_widget.dataset.corruptions import FromPartner, Given, Source, as_source
from blip_trace_widget.dataset.edges import Edges
from blip_trace_widget.dataset.held import Held
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES
from blip_trace_widget.tracing.metrics import as_metric

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa

OneMetric: TypeAlias = "MetricName | Callable[..., Any]"
#: Numbers of a block's layers and heads; None while no model is known.
Sizes: TypeAlias = "Callable[[str], tuple[int, int] | None]"
#: The heads of a block, whatever their number.
ALL = "all"


@dataclass(frozen=True)
class Plan:
    """What is computed for every sample; see `trace_dataset`.

    Attributes:
        listed: what the grids are the product of: argument -> values, each once.
        corruption: the source of each sample's corruption.
        metrics: names, or users' callables.
        only_correct: whether to skip samples that the model does not answer correctly.
        image_map: side of the squares of image tokens, or None for no map.
        knockout: edges that are cut, by name.
        held: what is held in all grids, or where their paths lead.
    """

    listed: Mapping[str, tuple[Any, ...]]
    corruption: Source
    metrics: tuple[OneMetric, ...]
    only_correct: bool
    image_map: int | None
    knockout: Mapping[str, Edges]
    held: Held

    @classmethod
    def of(
        cls,
        blocks: Sequence[str] | str,
        sites: Sequence[str] | str,
        corruption: Given,
        metric: OneMetric | Sequence[OneMetric],
        only_correct: bool,
        *,
        head: Any = None,
        window: Any = 1,
        direction: Any = "restore",
        image_map: int | None = None,
        knockout: Mapping[str, Edges] | None = None,
        hold: Any = None,
        receivers: Any = None,
    ) -> Plan:
        """A plan from the arguments of `trace_dataset`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        source = as_source(corruption)
        if not isinstance(only_correct, bool):
            raise TypeError(f"only_correct: expected True or False, got {type(only_correct).__name__}")
        listed = {
            "blocks": _names("blocks", blocks, BLOCKS),
            "sites": _names("sites", sites, SITES),
            "head": _heads(head),
            "direction": _names("direction", direction, DIRECTIONS),
            "window": _each("window", window, lambda one: whole_number("window", one, 1)),
        }
        held = Held.of(hold, receivers)
        held.check_listed(listed, {"image_map": image_map, "knockout": knockout})
        for block in listed["blocks"]:
            check_reach(source, block, corruption)
        for block in held.blocks:
            check_reach(source, block, corruption, held.argument)
        if image_map is not None:
            image_map = whole_number("image_map", image_map, 1)
            if not source.damages_image():
                raise ValueError(
                    f"image_map: under a corruption that leaves the image as it is, got {_shown(corruption)}"
                )
        plan = cls(listed, source, _metrics(metric), only_correct, image_map, _groups(knockout), held)
        plan._grids(lambda _block: None)
        return plan

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that are traced."""
        return self.listed["blocks"]

    @property
    def reached(self) -> set[str]:
        """The blocks that a sample's corruption has to reach."""
        return {*self.blocks, *self.held.blocks}

    @property
    def directions(self) -> tuple[str, ...]:
        """``"restore"``, ``"disrupt"`` or both."""
        return self.listed["direction"]

    @property
    def pictures(self) -> tuple[str, ...]:
        """The fields of a sample whose pictures are all that is taken of them."""
        return ("image", *(self.corruption.pictures if isinstance(self.corruption, FromPartner) else ()))

    @property
    def has_image_heads(self) -> bool:
        """Whether heads are traced that look at the picture, so that where they look is of interest."""
        heads, sites = self.listed["head"], self.listed["sites"]
        return (
            "question_encoder" in self.blocks and heads != (None,) and any("cross_attention" in site for site in sites)
        )

    def specs(self, model: BlipVqa) -> list[GridSpec]:
        """The grids that a model has, those of a site's heads one after another.

        Raises:
            ValueError: if it has none of something that is listed.
        """
        return self._grids(_sizes_of(model))

    def cuts(self, model: BlipVqa) -> list[tuple[str, int]]:
        """The knockouts: the name of the edges, and the window."""
        windows = self.listed["window"]
        layers = {name: len(model.blocks[edges.block].layers) for name, edges in self.knockout.items()}
        return [(name, window) for name in self.knockout for window in windows if window <= layers[name]]

    def settings(self, model: BlipVqa) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain JSON; what is as it is by default is left out.

        Raises:
            ValueError: if what is listed does not fit the model.
        """
        provenance, specs, cuts = model.provenance, self.specs(model), self.cuts(model)
        plain = all(spec == GridSpec(spec.block, spec.site) for spec in specs)
        self._check_model(model)
        metrics = [_told(metric) for metric in self.metrics]
        knockout = {
            name: edges.settings() | {"windows": [window for one, window in cuts if one == name]}
            for name, edges in self.knockout.items()
        }
        return {
            "model": model.name,
            **{
                name: provenance[name]
                for name in ("revision", "weights", "dtype", "adapters", "changed")
                if name in provenance
            },
            "grids": [list(spec[: 2 if plain else 5]) for spec in specs],
            **({"heads": heads} if (heads := _heads_in(specs, model)) else {}),
            "corruption": self.corruption.settings(model),
            "metric": metrics[0],
            **({"metrics": metrics} if len(metrics) > 1 else {}),
            "only_correct": self.only_correct,
            **({} if self.image_map is None else {"image_map": self.image_map}),
            **({"knockout": knockout} if knockout else {}),
            **self.held.settings(),
        }

    def _check_model(self, model: BlipVqa) -> None:
        if self.image_map is not None:
            whole_number("image_map", self.image_map, 1, max(model.grid))
        self.held.check_model(model)
        for name, edges in self.knockout.items():
            heads = model.blocks[edges.block].heads
            if edges.head is not None:
                whole_number(f"head (of the knockout {name!r})", edges.head, 0, heads - 1)

    def _grids(self, sizes: Sizes) -> list[GridSpec]:
        """The combinations that exist.

        Raises:
            ValueError: if a value occurs in none.
        """
        listed = self.listed
        pairs = [(block, site) for block, site in product(listed["blocks"], listed["sites"]) if _has(block, site)]
        if not pairs:
            raise ValueError(f"blocks, sites: {list(listed['blocks'])} have none of {list(listed['sites'])}")
        found = [
            GridSpec(block, site, head, direction, window)
            for (block, site), direction, window in product(pairs, listed["direction"], listed["window"])
            if window <= _layers(sizes(block), window)
            for head in _heads_of(block, site, listed["head"], sizes(block))
        ]
        self._check_all_occur(found, [block for block, _ in pairs], sizes)
        return list(dict.fromkeys(found))

    def _check_all_occur(self, found: list[GridSpec], blocks: list[str], sizes: Sizes) -> None:
        """Whether each value of each argument is in some grid; a window may be in a knockout alone.

        Args:
            found: the grids.
            blocks: the blocks that have any of the sites.
            sizes: see `_grids`.

        Raises:
            ValueError: naming the first that is in none.
        """
        tried = [*blocks, *(edges.block for edges in self.knockout.values())]
        heads = {spec.head for spec in found}
        there: dict[str, set[Any]] = {
            "window": {
                each for each in self.listed["window"] for block in tried if each <= _layers(sizes(block), each)
            },
            "head": heads | ({ALL} if heads - {None} else set()),
            "direction": {spec.direction for spec in found},
            "sites": {spec.site for spec in found},
            "blocks": {spec.block for spec in found},
        }
        for argument, values in there.items():
            for value in self.listed[argument]:
                if value not in values:
                    raise ValueError(f"{argument}: {value!r} is in no grid: {self._why(argument, sizes)}")

    def _why(self, argument: str, sizes: Sizes) -> str:
        """What a value of an argument lacks, in words."""
        blocks, sites, heads = (list(self.listed[name]) for name in ("blocks", "sites", "head"))
        known = [size for size in map(sizes, blocks) if size]
        if argument == "window":
            return f"{blocks} have at most {max(layers for layers, _ in known)} layers"
        if argument == "head" and known:
            return f"sites with heads have at most {max(heads for _, heads in known)} of them, numbered from 0"
        if argument == "head":
            return f"{sites} of {blocks} have no heads; take a site of an attention"
        return f"blocks={blocks} and sites={sites} have none" + ("" if heads == [None] else f" with head={heads}")


def check_reach(source: Any, block: str, given: Any, name: str = "blocks") -> None:
    """Whether a corruption, or the source of each sample's, reaches a block, which an argument names.

    Raises:
        ValueError: if it does not.
    """
    if not source.reaches(block):
        raise ValueError(
            f"{name}: {block!r} can be traced under a corruption at='patch_embeddings' alone, got {_shown(given)}"
        )


def _shown(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else repr(given)


def _told(metric: OneMetric) -> str:
    name = as_metric(metric).name
    return name if isinstance(metric, str) else f"{name} {fingerprints.of_callable(metric)}"


# --- the values of an argument --------------------------------------------------------------------------------------


def _each(
    argument: str, given: Any, check: Callable[[Any], Any], accepted: str = "one or several values"
) -> tuple[Any, ...]:
    """One value or several, checked, each once.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    alone = given is None or isinstance(given, str) or not isinstance(given, Iterable)
    values = tuple(dict.fromkeys(check(one) for one in ([given] if alone else given)))
    if not values and argument not in ("blocks", "sites"):  # that there is no grid is said of these two together
        raise ValueError(f"{argument}: expected {accepted}, got none")
    return values


def _names(argument: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    if not isinstance(given, Iterable):
        raise TypeError(f"{argument}: expected some of {list(known)}, got {type(given).__name__}")
    return _each(argument, given, lambda name: named(argument, name, known))


def _heads(given: Any) -> tuple[Any, ...]:
    """Heads: first the whole site, last all of them."""

    def checked(head: Any) -> Any:
        if isinstance(head, str) and head != ALL:
            raise ValueError(f"head: expected a whole number, 'all' or None, got {brief(head)}")
        return head if head is None or head == ALL else whole_number("head", head, 0)

    return tuple(sorted(_each("head", given, checked), key=lambda head: (head is not None, head == ALL)))


def _metrics(given: Any) -> tuple[OneMetric, ...]:
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found: list[OneMetric] = []
    for metric in given if several else [given]:
        if metric not in found:
            found.append(metric)
    if not found:
        raise ValueError("metric: expected one or several, got none")
    names = [as_metric(metric).name for metric in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"metric: two of those given are called {twice!r}; give each a __name__ of its own")
    # By their present names, so that the same metric has the same settings however it was written.
    return tuple(name if isinstance(metric, str) else metric for metric, name in zip(found, names, strict=True))  # type: ignore[misc]


def _groups(given: Any) -> dict[str, Edges]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"knockout: expected a mapping from names to Edges, or None, got {type(given).__name__}")
    for name, edges in given.items():
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"knockout: expected texts as names, got {brief(name)}")
        if not isinstance(edges, Edges):
            raise TypeError(f"knockout: expected Edges(...) for {name!r}, got {type(edges).__name__}")
    if not given:
        raise ValueError("knockout: expected at least one group of edges, got none")
    return dict(given)


# --- what exists ----------------------------------------------------------------------------------------------------


def _sizes_of(model: BlipVqa) -> Sizes:
    def sizes(block: str) -> tuple[int, int] | None:
        return len(model.blocks[block].layers), model.blocks[block].heads

    return sizes


def _heads_in(specs: Iterable[GridSpec], model: BlipVqa) -> dict[str, int]:
    """How many heads there are in the blocks of which heads are traced."""
    return {spec.block: model.blocks[spec.block].heads for spec in specs if spec.head is not None}


def _has(block: str, site: str) -> bool:
    return site in BLOCKS[block].accepted


def _layers(size: tuple[int, int] | None, unknown: int) -> int:
    return unknown if size is None else size[0]


def _heads_of(block: str, site: str, asked: Sequence[Any], size: tuple[int, int] | None) -> list[int | None]:
    """The heads of a site that are asked for; of an unknown number one stands for all."""
    found: list[int | None] = []
    for head in asked:
        if head is None:
            found.append(None)
        elif site in BLOCKS[block].heads:
            count = size[1] if size else None
            found += range(count or 1) if head == ALL else [head] if count is None or head < count else []
    return list(dict.fromkeys(found))
