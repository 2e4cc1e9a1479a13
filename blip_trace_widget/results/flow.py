"""Flow: what is lost when one group of tokens no longer attends to another, by layer window.

For: what `Tracer.flow` gives: between which parts of picture, question and answer information travels, and where.
Ends: at numbers and arrows.

Sources: Geva et al. 2023 (arXiv 2304.14767), section 4; Zhang et al. 2024, Cross-modal Information Flow in Multimodal
Large Language Models (arXiv 2411.18620).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import conforms, one_of, whole_number
from blip_trace_widget.results import files, losses, stored, summaries
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import asked_columns
from blip_trace_widget.states import BLOCKS, TEXT_BLOCKS

if TYPE_CHECKING:
    import pandas as pd


#: What groups are parts of, in the order in which information travels.
PARTS = PICTURE, QUESTION, ANSWER = "picture", "question", "answer"


@dataclass(frozen=True)
class Group:
    """Tokens that are cut off together.

    Attributes:
        name: as it was given.
        part: ``"picture"``, ``"question"`` or ``"answer"``.
        positions: of the image tokens (0 is the class token), the question's or the decoder's.
    """

    name: str
    part: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Edge:
    """Attention from one group to another.

    Attributes:
        source: the group that is attended to, from which information comes.
        target: the group that attends.
        block: of the attention, the target's.
        site: ``"self_attention"`` or ``"cross_attention"``.
    """

    source: Group
    target: Group
    block: str
    site: str

    @property
    def name(self) -> str:
        """In words: "picture → [CLS]"."""
        return f"{self.source.name} → {self.target.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Flow(Summarised):
    """What the clean run loses where one group of tokens does not attend to another, by layer window.

    A loss near 0 does not say that nothing travels there: it may travel elsewhere too. Cut attention may leave the
    model's distribution, as the weights that are left grow. Layers are of the edge's own block.

    Attributes:
        edges: the pairs of groups.
        scores: of the clean run without an edge in a window around a layer, (edges, layers); NaN where not computed,
            and behind the last layer of a block that has fewer than another.
        clean: score of the clean run.
        settings: what was asked, as plain JSON.
    """

    edges: tuple[Edge, ...]
    scores: NDArray[np.float64]
    clean: float
    settings: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The pairs of groups in words, (edges,)."""
        return tuple(edge.name for edge in self.edges)

    @property
    @quiet
    def loss(self) -> NDArray[np.float64]:
        """score(clean) - scores, (edges, layers), in the units of the metric."""
        return np.asarray(self.clean - self.scores)

    @property
    def relative_loss(self) -> NDArray[np.float64]:
        """Loss / score(clean), (edges, layers); NaN if the latter is 0."""
        return losses.relative(self.loss, self.clean)

    @property
    def lost(self) -> NDArray[np.float64]:
        """What is lost, (edges, layers): a share of a probability, or the metric's units; above 0 is worse."""
        return losses.lost(self.settings["metric"], self.loss, self.clean)

    def plot(
        self, ax: Any = None, value: Literal["lost", "relative_loss", "loss"] = "lost", layer: int | None = None
    ) -> Any:
        """Draw an arrow for each pair of groups, as wide as the loss; orange where cutting it raises the score.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"lost"``, ``"relative_loss"`` or ``"loss"``.
            layer: the layer around which was cut; default for each pair the one where it matters most, which is told
                beside its arrow.

        Returns:
            matplotlib axes; where matplotlib is not installed, a bqplot figure with a bar for each pair.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.checks import whole_number
        from blip_trace_widget.results import arrows

        values = getattr(self, one_of("value", value, ("lost", "relative_loss", "loss")))
        count = self.scores.shape[1]
        if layer is None:
            layers = [_peak(row) for row in values]
        else:
            layers = [whole_number("layer", layer, 0, count - 1)] * len(self.edges)
        chosen = np.array([row[at] for row, at in zip(values, layers, strict=True)])
        notes = [f"{summaries.number(number)} at {at}" for number, at in zip(chosen, layers, strict=True)]
        columns: dict[str, list[str]] = {}
        for edge in self.edges:
            for group in (edge.source, edge.target):
                own = columns.setdefault(group.part, [])
                if group.name not in own:
                    own.append(group.name)
        where = "at the layer where it is most" if layer is None else f"around layer {layer}"
        title = f"flow: {value.replace('_', ' ')} {where}"
        ends = [(edge.source.name, edge.target.name) for edge in self.edges]
        return arrows.draw(columns, ends, chosen, notes, title, ax)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a pair of groups and layer of its block.

        Columns: source, target, layer, clean, score, loss, relative_loss, and the settings with the edge's block and
        site, see `Trace.to_dataframe`.
        """
        import pandas as pd

        tables = []
        for edge, scores, loss, relative in zip(self.edges, self.scores, self.loss, self.relative_loss, strict=True):
            count = self.settings["layers"][edge.block]
            asked = self.settings | {"block": edge.block, "site": edge.site}
            own = {
                "source": edge.source.name,
                "target": edge.target.name,
                "layer": np.arange(count),
                "clean": self.clean,
                "score": scores[:count],
                "loss": loss[:count],
                "relative_loss": relative[:count],
            }
            tables.append(pd.DataFrame({**own, **asked_columns(asked, count)}))
        return pd.concat(tables, ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write safetensors with JSON metadata.

        Raises:
            OSError: if the file cannot be written.
        """
        edges = [asdict(edge) for edge in self.edges]
        files.write(path, FLOW, {"scores": self.scores, "clean": self.clean}, edges=edges, settings=self.settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Flow:
        """Read what `save` wrote, bit for bit.

        Raises:
            FileNotFoundError, OSError: if the file cannot be opened.
            ValueError: if it is damaged, of another kind, or of a newer format.
        """
        return files.read(path, FLOW)

    def _facts(self) -> dict[str, str]:
        values = self.lost
        expected = sum(self.settings["layers"][edge.block] for edge in self.edges)
        done = int(np.isfinite(self.scores).sum())
        return {
            "lost most": ", ".join(
                f"{self.names[edge]} {summaries.number(values[edge, layer])} at layer {layer}"
                for edge, layer in summaries.best(values, 1)
            ),
            "pairs": str(len(self.edges)),
            "window": str(self.settings["window"]),
            "computed": "" if done == expected else f"{done} of {expected}",
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)

    def _rows(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        values = self.lost
        rows = [
            [name, summaries.number(row[at]), str(at)]
            for name, row, at in zip(self.names, values, map(_peak, values), strict=True)
        ]
        return ["from → to", "lost most", "layer"], rows


def _peak(row: NDArray[np.float64]) -> int:
    """Where a row is farthest from 0; 0 if nothing is known."""
    return int(np.abs(np.nan_to_num(row)).argmax())


# --- files -----------------------------------------------------------------------------------------------------------


class _Group(TypedDict):
    name: str
    part: str
    positions: list[int]


class _Edge(TypedDict):
    source: _Group
    target: _Group
    block: str
    site: str


def _read(arrays: files.Tensors, told: files.Fields) -> Flow:
    scores, clean = arrays["scores"], arrays["clean"]
    edges = tuple(map(_edge, conforms("edges", told["edges"], list[_Edge])))
    settings = stored.settings(told["settings"], ("metric",))
    layers = conforms("settings.layers", settings["layers"], dict[str, int])
    whole_number("settings.window", settings["window"], 1)
    if scores.ndim != 2 or len(scores) != len(edges) or not scores.size or clean.shape != (1,):
        raise ValueError(f"shapes {scores.shape} and {clean.shape} do not fit {len(edges)} pairs of groups")
    if {scores.dtype, clean.dtype} != {np.dtype(np.float64)}:
        raise ValueError("scores, clean: expected numbers of type float64")
    for edge in edges:
        whole_number(f"settings.layers: {edge.block}", layers[edge.block], 1, scores.shape[1])
    return Flow(edges, scores, float(clean[0]), settings)


def _edge(told: Mapping[str, Any]) -> Edge:
    block = one_of("block", told["block"], TEXT_BLOCKS)
    site = one_of("site", told["site"], BLOCKS[block].heads)
    source, target = (
        Group(**{**told[end], "positions": tuple(told[end]["positions"])}) for end in ("source", "target")
    )
    for group in (source, target):
        one_of("part", group.part, PARTS)
    return Edge(source, target, block, site)


FLOW = files.Kind("flow", "blip_trace_widget.flow", {1: _read})
