"""Attention knockout: cut chosen attention edges in the clean run, and score what is lost.

For: asking not which state carries the answer but along which way it travels: from which part of the picture to which
word, from word to word, from the question to the answer.
Cost: one text pass from the lowest cut layer up for each set of edges.
Ends: at `Knockout` and `KnockoutTrace`.

Source: Geva et al. 2023 (arXiv 2304.14767), section 4: a cut edge gets the attention score minus infinity, so that the
weights that are left sum to 1 again. A position with no edge left gets nothing from that attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from blip_trace_widget.calls import Computing, Progress, as_check, as_progress
from blip_trace_widget.forward import Cancelled, Cut
from blip_trace_widget.memory import TokenMemory
from blip_trace_widget.positions import Positions, image_tokens, whole_numbers
from blip_trace_widget.sites import TEXT_BLOCKS, one_of, whole_number, window_layers

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from blip_trace_widget.tracer import Tracer

ATTENTIONS = ("cross_attention", "self_attention")


@dataclass(frozen=True, eq=False)
class Knockout:
    """A clean run without some of its attention edges.

    Attributes:
        score: its score.
        clean: score of the whole clean run.
        top: the likeliest words at the first answer position with their probability, best first.
        distribution: probability of every word there, (vocabulary,).
        settings: what was cut, as plain JSON.
    """

    score: float
    clean: float
    top: list[tuple[str, float]]
    distribution: NDArray[np.float32] = field(repr=False)
    settings: dict[str, Any]

    @property
    def loss(self) -> float:
        """score(clean) - score."""
        return self.clean - self.score

    @property
    def relative_loss(self) -> float:
        """Loss / score(clean); NaN where that is 0."""
        return self.loss / self.clean if self.clean else float("nan")


@dataclass(frozen=True, eq=False)
class KnockoutTrace:
    """The same edges cut in a window of layers around each layer.

    Attributes:
        scores: (layers,); NaN where not computed.
        clean: score of the whole clean run.
        settings: what was cut, as plain JSON.
    """

    scores: NDArray[np.float64]
    clean: float
    settings: dict[str, Any]

    @property
    def loss(self) -> NDArray[np.float64]:
        """score(clean) - scores, (layers,)."""
        return self.clean - self.scores

    @property
    def relative_loss(self) -> NDArray[np.float64]:
        """Loss / score(clean), (layers,); NaN where that is 0."""
        return self.loss / (self.clean or float("nan"))

    def to_dataframe(self) -> pd.DataFrame:
        """One row a layer: layer, clean, score, loss, relative_loss."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": np.arange(self.scores.size),
                "clean": self.clean,
                "score": self.scores,
                "loss": self.loss,
                "relative_loss": self.relative_loss,
            }
        )


def knock_out(
    tracer: Tracer,
    block: str,
    layers: int | Iterable[int] | None,
    queries: Positions,
    keys: Positions,
    site: str = "cross_attention",
    head: int | None = None,
) -> Knockout:
    """See `Tracer.knockout`."""
    edges, settings = _edges(tracer, block, site, head, queries, keys)
    depth = len(tracer.model.blocks[block].layers)
    chosen = sorted(set(whole_numbers("layers", layers, depth)))
    settings["layers"] = chosen
    with Computing(tracer.model):
        clean = tracer.clean.score
        logits = _run(tracer, block, Cut(frozenset(chosen), site, edges), lambda: None)
        distribution = logits[0, 0].softmax(-1).cpu().numpy()
        score = float(tracer.score_logits(logits)[0])
    return Knockout(score, clean, tracer.top_words(distribution), distribution, settings)


def knock_out_by_layer(
    tracer: Tracer,
    block: str,
    queries: Positions,
    keys: Positions,
    site: str = "cross_attention",
    head: int | None = None,
    window: int = 1,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> KnockoutTrace:
    """See `Tracer.trace_knockout`."""
    check = as_check(cancel)
    with tracer.preparing(cancel):
        clean = tracer.clean.score
    edges, settings = _edges(tracer, block, site, head, queries, keys)
    depth = len(tracer.model.blocks[block].layers)
    settings["window"] = window = whole_number("window", window, 1, depth)
    report, close = as_progress(progress, depth)
    scores = np.full(depth, np.nan)
    with Computing(tracer.model):
        try:
            for layer in range(depth):
                logits = _run(tracer, block, Cut(frozenset(window_layers(layer, window, depth)), site, edges), check)
                scores[layer] = tracer.score_logits(logits)[0]
                report(layer + 1, depth)
        except Cancelled:
            pass
        finally:
            close()
    return KnockoutTrace(scores, clean, settings)


def _run(tracer: Tracer, block: str, cut: Cut, check: Callable[[], None]) -> Tensor:
    """Logits of the clean run without some edges, (1, answer positions, vocabulary)."""
    clean, model = tracer.bases.clean, tracer.model
    encoded = clean.encoder.output
    decoder = model.answer_decoder
    if block == "question_encoder":
        encoded = model.question_encoder.cut(clean.encoder, clean.sight.memory, cut, check)
        output = tracer.runner.decode(clean.decoder.inputs, encoded, check).output
    else:
        output = decoder.cut(clean.decoder, TokenMemory(decoder.layers, encoded[:, None]), cut, check)
    return tracer.runner.logits(output)


def _edges(
    tracer: Tracer, block: str, site: str, head: int | None, queries: Positions, keys: Positions
) -> tuple[Tensor, dict[str, Any]]:
    """The edges to cut, (H or 1, queries, keys) bool, and what was asked, as plain JSON."""
    one_of("block (of a knockout)", block, TEXT_BLOCKS)
    one_of("site (of a knockout)", site, ATTENTIONS)
    own = len(tracer.tokens(block))
    looks_at_image = site == "cross_attention" and block == "question_encoder"
    others = own if site == "self_attention" else len(tracer.question_tokens)
    if looks_at_image:
        others = tracer.model.image_token_count
    rows = whole_numbers("queries", queries, own)
    columns = image_tokens("keys", keys, tracer.model) if looks_at_image else whole_numbers("keys", keys, others)
    heads = tracer.model.blocks[block].heads
    edges = torch.zeros((1 if head is None else heads, own, others), dtype=torch.bool, device=tracer.model.device)
    which = slice(None) if head is None else whole_number("head", head, 0, heads - 1)
    for row in rows:
        edges[which, row, columns] = True
    return edges, tracer.question_settings() | {
        "block": block,
        "site": site,
        "head": head,
        "queries": rows,
        "keys": columns,
    }
