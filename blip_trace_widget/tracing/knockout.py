"""Attention knockout: cut chosen attention edges in the clean run, and score what is lost.

For: asking not which state carries the answer but along which path it travels: from which part of the picture to which
word, from word to word, from the question to the answer.
Cost: one text pass from the lowest cut layer up for each set of edges.
Ends: at `Knockout` and `KnockoutTrace`.

Source: Geva et al. 2023 (arXiv 2304.14767), section 4: a cut edge gets the attention score minus infinity, so that the
remaining weights sum to 1 again. A position with no edge left gets nothing from that attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.model.block import Cut
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.cross_attention import AbsorbedKV
from blip_trace_widget.model.progress import Check, Progress, as_check, as_progress, ended_early, no_check
from blip_trace_widget.model.transfer import to_device
from blip_trace_widget.results import losses, summaries
from blip_trace_widget.results.altered_run import AlteredRun
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.results.tables import asked_columns
from blip_trace_widget.states import TEXT_BLOCKS, attention_label, window_layers
from blip_trace_widget.tracing.patching import settled
from blip_trace_widget.tracing.positions import Positions, image_tokens, whole_numbers
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import Chunks

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

ATTENTIONS = ("cross_attention", "self_attention")


@dataclass(frozen=True, eq=False, repr=False)
class Knockout(AlteredRun):
    """A clean run without some of its attention edges; what was cut is in `settings`."""

    _altered: ClassVar[str] = "without these edges"

    def _title(self) -> str:
        return _title(self.settings)

    def _what(self) -> dict[str, str]:
        return _cut(self.settings)


@dataclass(frozen=True, eq=False, repr=False)
class KnockoutTrace(Summarised):
    """The same edges cut in a window of layers around each layer.

    Attributes:
        scores: (layers,); NaN where not computed.
        clean: score of the uncut clean run.
        settings: what was asked and which edges were cut, as plain JSON.
    """

    scores: NDArray[np.float64]
    clean: float
    settings: dict[str, Any]

    @property
    def loss(self) -> NDArray[np.float64]:
        """score(clean) - scores, (layers,)."""
        return np.asarray(self.clean - self.scores)

    @property
    def relative_loss(self) -> NDArray[np.float64]:
        """Loss / score(clean), (layers,); NaN if the latter is 0."""
        return losses.relative(self.loss, self.clean)

    @property
    def lost(self) -> NDArray[np.float64]:
        """What is lost, (layers,): a share of a probability, or the metric's units; above 0 is worse."""
        return losses.lost(self.settings["metric"], self.loss, self.clean)

    def plot(
        self,
        ax: Any = None,
        value: Literal["lost", "relative_loss", "loss", "score"] = "lost",
        limit: float | None = None,
        cmap: Any = None,
    ) -> Any:
        """Draw the loss of cutting around each layer, one bar per layer.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"lost"``, ``"relative_loss"``, ``"loss"`` or ``"score"``.
            limit: end of the axis; default the largest value. Give several figures the same limit to compare them.
            cmap: a matplotlib colour map or its name.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        name = one_of("value", value, ("lost", "relative_loss", "loss", "score"))
        values = self.scores if name == "score" else getattr(self, name)
        return plots.bars(values, range(values.size), name.replace("_", " "), _title(self.settings), ax, limit, cmap)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per layer: layer, clean, score, loss, relative_loss and the settings; see `Trace.to_dataframe`."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": np.arange(self.scores.size),
                "clean": self.clean,
                "score": self.scores,
                "loss": self.loss,
                "relative_loss": self.relative_loss,
                **asked_columns(self.settings, self.scores.size),
            }
        )

    def _facts(self) -> dict[str, str]:
        done, values = int(np.isfinite(self.scores).sum()), self.lost
        top = summaries.best(values, 1)
        return {
            **_cut(self.settings),
            "layers": f"{done} of {self.scores.size}" if done < self.scores.size else str(done),
            "lost most": "".join(f"{summaries.number(values[at])} at layer {at[0]}" for at in top),
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)


def _title(settings: dict[str, Any]) -> str:
    head = "" if settings["head"] is None else f", head {settings['head']}"
    return f"knockout, {settings['block'].replace('_', ' ')}: {attention_label(settings['site'])}{head}"


def _cut(settings: dict[str, Any]) -> dict[str, str]:
    edges = f"{len(settings['queries'])} queries × {len(settings['keys'])} keys"
    layers = settings.get("layers")
    return {"cut": f"{_title(settings)[10:]}, {edges}" + ("" if layers is None else f", layers {layers}")}


def knock_out(
    question: Question,
    block: str,
    layers: int | Iterable[int] | None,
    queries: Positions,
    keys: Positions,
    site: str = "cross_attention",
    head: int | None = None,
) -> Knockout:
    """See `Tracer.knockout`."""
    block, site = _checked_sites(block, site)
    edges, cut = _edges(question, block, site, head, queries, keys)
    chosen = sorted(whole_numbers("layers", layers, len(question.model.blocks[block].layers)))
    with Computing(question.model):
        clean = question.clean.score
        logits = _run(question, block, Cut(frozenset(chosen), site, edges), lambda: None)
        distribution = logits[0, 0].softmax(-1).cpu().numpy()
        score = float(question.score_logits(logits)[0])
    settings = question.settings() | cut | {"layers": chosen}
    return Knockout(score, clean, question.top_words(distribution), distribution, settings)


def knock_out_by_layer(
    question: Question,
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
    cutting = _Cutting([question], block, queries, keys, site, head, window, as_check(cancel))
    report, close = as_progress(progress, cutting.depth, "layer")
    with ended_early(lambda: f"{cutting.done} of {cutting.depth} layers", close), Computing(question.model):
        for _ in cutting.steps():
            report(cutting.done, cutting.depth)
    (trace,) = cutting.traces()
    return trace


def whole_knockouts(
    questions: Sequence[Question],
    block: str,
    queries: Positions,
    keys: Positions,
    site: str,
    head: int | None,
    window: int,
) -> list[KnockoutTrace]:
    """The same complete, for one question with several metrics; unlike in `trace_knockout`, Ctrl-C raises.

    Args:
        questions: one question, with each metric that is to score the runs (`Question.replace`).
        block: see `Tracer.trace_knockout`, as all that follows.
        queries: see there.
        keys: see there.
        site: see there.
        head: see there.
        window: see there.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    cutting = _Cutting(questions, block, queries, keys, site, head, window, no_check)
    with Computing(questions[0].model):
        for _ in cutting.steps():
            pass
    return cutting.traces()


class _Cutting:
    """The same edges cut around layer after layer, for one question with several metrics, whose runs are computed once.

    Attributes:
        depth: how many layers there are.
        done: how many are done.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        block: str,
        queries: Positions,
        keys: Positions,
        site: str,
        head: int | None,
        window: int,
        check: Check,
    ) -> None:
        question = questions[0]
        block, site = _checked_sites(block, site)
        self._questions, self._clean = questions, [each.clean_run(check).score for each in questions]
        edges, self._cut = _edges(question, block, site, head, queries, keys)
        self.depth, self.done = len(question.model.blocks[block].layers), 0
        self._cut["window"] = window = whole_number("window", window, 1, self.depth)
        self._scores = np.full((len(questions), self.depth), np.nan)
        windows = (window_layers(layer, window, self.depth) for layer in range(self.depth))
        self._chunks = _cut_in_each(question, block, windows, site, edges, check)

    def steps(self) -> Iterator[None]:
        """Compute them; yields after each layer.

        Raises:
            Cancelled: if it is stopped; what was computed so far is kept.
        """
        for _, layer, found in settled(self._questions, self._chunks):
            self._scores[:, layer] = found
            self.done += 1
            yield

    def traces(self) -> list[KnockoutTrace]:
        """The knockouts by each metric, with NaN where they are not computed yet."""
        return [
            KnockoutTrace(scores, clean, each.settings() | self._cut)
            for scores, clean, each in zip(self._scores, self._clean, self._questions, strict=True)
        ]


def cut_scores(
    question: Question,
    block: str,
    windows: Iterable[Iterable[int]],
    queries: Positions,
    keys: Positions,
    site: str,
    check: Callable[[], None],
) -> Iterator[float]:
    """Scores of the clean run with the same edges cut in each of several sets of layers, one after the other."""
    edges, _ = _edges(question, block, site, None, queries, keys)
    for _, _, (score,) in settled([question], _cut_in_each(question, block, windows, site, edges, check)):
        yield float(score[0])


def _cut_in_each(
    question: Question,
    block: str,
    windows: Iterable[Iterable[int]],
    site: str,
    edges: Tensor,
    check: Callable[[], None],
) -> Chunks:
    """Yield the clean run with the same edges cut in each of several sets of layers: (1, answer positions, words)."""
    for number, layers in enumerate(windows):
        logits = _run(question, block, Cut(frozenset(layers), site, edges), check)
        yield slice(0, 1), slice(number, number + 1), logits


def _checked_sites(block: str, site: str) -> tuple[str, str]:
    return named("block (of a knockout)", block, TEXT_BLOCKS), named("site (of a knockout)", site, ATTENTIONS)


def _run(question: Question, block: str, cut: Cut, check: Callable[[], None]) -> Tensor:
    """Logits of the clean run with some edges cut, (1, answer positions, vocabulary)."""
    clean, model = question.bases.clean(), question.model
    encoded = clean.encoder.output
    decoder = model.answer_decoder
    if block == "question_encoder":
        encoded = model.question_encoder.cut(clean.encoder, clean.image_view.kv, cut, check)
        output = question.runner.decode(clean.decoder.inputs, encoded, check).output
    else:
        output = decoder.cut(clean.decoder, AbsorbedKV(decoder.layers, encoded[:, None]), cut, check)
    return question.runner.logits(output)


def _edges(
    question: Question, block: str, site: str, head: int | None, queries: Positions, keys: Positions
) -> tuple[Tensor, dict[str, Any]]:
    """The edges to cut, (H or 1, queries, keys) bool, and what they are, as plain JSON."""
    own = question.tokens(block)
    rows = whole_numbers("queries", queries, len(own), own)
    if site == "cross_attention" and block == "question_encoder":
        count, columns = question.model.image_token_count, image_tokens("keys", keys, question.model)
    else:
        others = own if site == "self_attention" else question.question_tokens
        count, columns = len(others), whole_numbers("keys", keys, len(others), others)
    heads = question.model.blocks[block].heads
    edges = torch.zeros((1 if head is None else heads, len(own), count), dtype=torch.bool)
    which = slice(None) if head is None else whole_number("head", head, 0, heads - 1)
    for row in rows:
        edges[which, row, columns] = True
    edges = to_device(edges, question.model.device)
    return edges, {"block": block, "site": site, "head": head, "queries": rows, "keys": columns}
