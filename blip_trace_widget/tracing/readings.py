"""Reading without intervening: what tokens attend to, and what the decoder would answer at each layer.

For: attention maps of the clean and the corrupted runs, and the logit lens. Both are read from recorded runs.
Cost: one attention of one layer; one pass of the model's head per layer.
Ends: at `Attention` and `LogitLens`. That a token attends to another does not mean that it matters: for that, patch or
cut (`blip_trace_widget.tracing.knockout`).

Source: for the logit lens, nostalgebraist 2020, "interpreting GPT: the logit lens"; here the head is BLIP's own, with
its transform, on the output of each decoder layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.choices import RunName
from blip_trace_widget.model.block import Activations
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.cross_attention import AbsorbedKV, CrossAttentionKV
from blip_trace_widget.results import summaries
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import BLOCKS, TEXT_BLOCKS, position_of
from blip_trace_widget.tracing.memory_budget import in_halves
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import BaseRun

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels

Value = TypeVar("Value")

#: The weights to show: the clean run's, the mean of the corrupted runs, or corrupted - clean.
RUNS = ("clean", "corrupted", "difference")
#: What tokens look with; the image encoder has the last alone.
ATTENTIONS = ("cross_attention", "self_attention")
#: Whose tokens a block's cross-attention looks at.
KEYS_OF = {"question_encoder": "image_encoder", "answer_decoder": "question_encoder"}
#: What can be taken from a head's weights.
MINUS = ("heads",)


@dataclass(frozen=True, eq=False, repr=False)
class Attention(Summarised):
    """Attention weights of a layer: of tokens to the image, to the question, or to tokens of their own block.

    Attributes:
        clean: (queries, keys); each row sums to 1, or less the mean over heads to 0.
        corrupted: (samples, queries, keys); of the image encoder (1, queries, keys), the clean ones, where the
            corruption does not reach it.
        queries: names of the tokens that look: word pieces (under `QuestionSwap` the clean question's, in both runs),
            of the image "[CLS]" and each patch's "row,column".
        keys: names of the tokens looked at.
        grid: rows and columns of patches where the keys are image tokens, else None.
        settings: block, site, layer, head and minus, as plain JSON.
    """

    clean: NDArray[np.float32] = field(repr=False)
    corrupted: NDArray[np.float32] = field(repr=False)
    queries: tuple[str, ...]
    keys: tuple[str, ...] = field(repr=False)
    grid: tuple[int, int] | None
    settings: dict[str, Any]

    def image(self, position: int | str, run: RunName = "clean") -> NDArray[np.float32]:
        """Where one token looks, (rows, columns), the class token left out.

        Args:
            position: the token that looks, by number or as a word.
            run: ``"clean"``, ``"corrupted"`` (mean over samples), or ``"difference"`` (corrupted - clean).

        Raises:
            TypeError: if an argument has the wrong type.
            ValueError: if the keys are not image tokens, or an argument is out of range.
        """
        if self.grid is None:
            block, site = self.settings["block"], self.settings["site"]
            raise ValueError(
                "block, site: only the question encoder's cross_attention and the image encoder look at the picture, "
                f"this is the {site} of {block!r}"
            )
        at = position_of("position", position, self.queries, self.settings["block"])
        return np.asarray(self._weights(run)[at, 1:].reshape(self.grid))

    @quiet
    def _weights(self, run: str) -> NDArray[np.float32]:
        """(queries, keys)."""
        run = named("run", run, RUNS)
        if run == "clean":
            return self.clean
        corrupted = self.corrupted.mean(axis=0)
        return np.asarray(corrupted if run == "corrupted" else corrupted - self.clean)

    def plot(
        self,
        ax: Any = None,
        value: RunName = "clean",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
        position: int | str | None = None,
    ) -> Any:
        """Draw the weights, queries down and keys across; or where one token looks in the picture.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"clean"``, ``"corrupted"`` (mean over samples), or ``"difference"`` (corrupted - clean).
            limit: end of the colour scale; default the largest weight. Give several figures the same to compare them.
            cmap: a matplotlib colour map or its name.
            marks: there are none of attention; taken so that all results are drawn alike.
            position: the token, by number or as a word, whose weights to draw as the picture lies.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        block, title = self.settings["block"], self._title
        value = named("value", value, RUNS)
        rows: Labels = ("", self.queries) if block != "image_encoder" else ("image token", range(len(self.queries)))
        columns: Labels = ("", self.keys) if self.grid is None else ("image token", range(len(self.keys)))
        if position is None:
            values = self._weights(value)
        else:
            values = self.image(position, value)
            title += f": “{self.queries[position_of('position', position, self.queries, block)]}”"
            rows, columns = ("row", range(values.shape[0])), ("column", range(values.shape[1]))
        label = {"difference": "attention, corrupted − clean"}.get(value, f"attention, {value}")
        signed = value == "difference" or self.settings["minus"] is not None
        drawn = plots.Map(values, label, title, rows, columns, sequential=not signed)
        return plots.draw(drawn, ax, limit, cmap, marks=marks)

    @property
    def _title(self) -> str:
        block, site, layer, head = (self.settings[name] for name in ("block", "site", "layer", "head"))
        which = "" if head is None else f", head {head}"
        less = "" if self.settings["minus"] is None else " minus the mean of heads"
        own = " to itself" if site == "self_attention" and block in TEXT_BLOCKS else ""
        return f"{block}{own}, layer {layer}{which}{less}".replace("_", " ")

    def _facts(self) -> dict[str, str]:
        return {
            "of": self._title + (", mean of heads" if self.settings["head"] is None else ""),
            "shape": f"{len(self.queries)} queries × {len(self.keys)} keys",
            "samples": str(len(self.corrupted)),
        }

    def _asked(self) -> dict[str, str]:
        return summaries.asked(self.settings)

    @quiet
    def to_dataframe(self) -> pd.DataFrame:
        """One row per edge: query, query_token, key, key_token, clean, corrupted (mean over samples)."""
        import pandas as pd

        query, key = (axis.ravel() for axis in np.indices(self.clean.shape))
        return pd.DataFrame(
            {
                "query": query,
                "query_token": [self.queries[at] for at in query],
                "key": key,
                "key_token": [self.keys[at] for at in key],
                "clean": self.clean.ravel(),
                "corrupted": self.corrupted.mean(axis=0).ravel(),
            }
        )


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(Summarised):
    """The distribution over words that the model's head reads from each decoder layer's output.

    Attributes:
        probabilities: of the clean run, (layers, positions, vocabulary).
        answer: probability of the answer's token at its position in the clean run, (layers, positions).
        corrupted_answer: the same in the corrupted runs, (samples, layers, positions).
        top: [layer][position]: the likeliest words of the clean run with their probability, best first.
        tokens: word pieces at the decoder's positions.
        answer_tokens: the answer's word piece read at each position.
    """

    probabilities: NDArray[np.float32] = field(repr=False)
    answer: NDArray[np.float32]
    corrupted_answer: NDArray[np.float32] = field(repr=False)
    top: list[list[list[tuple[str, float]]]] = field(repr=False)
    tokens: tuple[str, ...]
    answer_tokens: tuple[str, ...]

    def plot(
        self,
        ax: Any = None,
        value: Literal["answer", "corrupted_answer"] = "answer",
        limit: float | None = None,
        cmap: Any = None,
        marks: bool = True,
    ) -> Any:
        """Draw the answer's probability at each layer and position.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"answer"``, of the clean run, or ``"corrupted_answer"``, mean over samples.
            limit: end of the colour scale; default the largest value.
            cmap: a matplotlib colour map or its name.
            marks: whether to write the clean run's likeliest word into each cell.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        clean = one_of("value", value, ("answer", "corrupted_answer")) == "answer"
        drawn = plots.Map(
            values=self.answer if clean else self._corrupted,
            label=f"probability, {'clean' if clean else 'corrupted'}",
            title="logit lens" + (", with the likeliest word" if clean and marks else ""),
            rows=("layer", range(len(self.answer))),
            columns=("", [f"{token} → {read}" for token, read in zip(self.tokens, self.answer_tokens, strict=True)]),
            words=[[best[0][0] for best in layer] for layer in self.top] if clean else (),
            sequential=True,
        )
        return plots.draw(drawn.transposed, ax, limit, cmap, marks=marks)

    @property
    @quiet
    def _corrupted(self) -> NDArray[np.float64]:
        return np.asarray(self.corrupted_answer.mean(axis=0))

    def _facts(self) -> dict[str, str]:
        layers, positions = self.answer.shape
        (word, share), *_ = self.top[-1][0]
        return {
            "shape": f"{layers} layers × {positions} positions",
            "answer": " ".join(self.answer_tokens),
            "at the last layer": f"{word!r} {summaries.number(share)}",
            "samples": str(len(self.corrupted_answer)),
        }

    def to_dataframe(self) -> pd.DataFrame:
        """One row per layer and position.

        Columns: layer, position, token, word (the clean run's likeliest), probability, answer_token,
        answer_probability, corrupted_answer_probability (mean over samples).
        """
        import pandas as pd

        layer, position = (axis.ravel() for axis in np.indices(self.answer.shape))
        best = [self.top[at][where][0] for at, where in zip(layer, position, strict=True)]
        return pd.DataFrame(
            {
                "layer": layer,
                "position": position,
                "token": [self.tokens[at] for at in position],
                "word": [word for word, _ in best],
                "probability": [value for _, value in best],
                "answer_token": [self.answer_tokens[at] for at in position],
                "answer_probability": self.answer.ravel(),
                "corrupted_answer_probability": self._corrupted.ravel(),
            }
        )


def attention(
    question: Question,
    block: str,
    layer: int,
    head: int | None = None,
    site: str | None = None,
    minus: str | None = None,
) -> Attention:
    """See `Tracer.attention`.

    Raises:
        ValueError: see there.
    """
    block = named("block", block, BLOCKS)
    sites = ATTENTIONS if block in TEXT_BLOCKS else ATTENTIONS[1:]
    site = sites[0] if site is None else named(f"site (of attention in {block})", site, sites)
    stack = question.model.blocks[block]
    whole_number("layer", layer, 0, len(stack.layers) - 1)
    if head is not None:
        whole_number("head", head, 0, stack.heads - 1)
    if minus is not None:
        one_of("minus", minus, MINUS)
        if head is None:
            raise ValueError("minus: the mean over heads is taken from one head's weights: give head")

    def weights(run: BaseRun) -> NDArray[np.float32]:
        """(samples, queries, keys)."""
        found = stack.weights(site, layer, *_looking(question, block, run)).float()
        mean = found.mean(1)
        chosen = mean if head is None else found[:, head] - (mean if minus else 0.0)
        return np.asarray(chosen.cpu().numpy())

    in_vit = block == "image_encoder"
    with Computing(question.model):
        clean = weights(question.bases.clean(with_states=in_vit))
        reached = question.corruption.reaches(block)
        runs = question.bases.corrupted(with_states=in_vit) if reached else ()
        corrupted = np.concatenate([few for _, run in runs for few in _in_parts(weights, run)]) if reached else clean
    of_keys = block if site == "self_attention" else KEYS_OF[block]
    return Attention(
        clean=clean[0],
        corrupted=corrupted,
        queries=tuple(question.tokens(block)),
        keys=tuple(question.tokens(of_keys)),
        grid=question.model.grid if of_keys == "image_encoder" else None,
        settings=question.settings() | {"block": block, "site": site, "layer": layer, "head": head, "minus": minus},
    )


def _in_parts(reading: Callable[[BaseRun], Value], run: BaseRun) -> Iterator[Value]:
    """What is read in a run's samples, part by part where memory runs out for all of them."""
    return in_halves(lambda some: reading(run.part(some)), run.samples, run.logits.device)


def _looking(question: Question, block: str, run: BaseRun) -> tuple[Activations, CrossAttentionKV | None]:
    """A block's part of a run, and what its cross-attention looks at."""
    if block == "image_encoder":
        assert run.image_view.activations is not None
        return run.image_view.activations, None
    if block == "question_encoder":
        return run.encoder, run.image_view.kv
    return run.decoder, AbsorbedKV(question.model.answer_decoder.layers, run.encoder.output[:, None])


def logit_lens(question: Question) -> LogitLens:
    """See `Tracer.logit_lens`."""
    runner, answer_ids = question.runner, question.bases.answer_ids()

    def answer(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., positions, vocabulary) -> (..., positions)."""
        return np.stack([probabilities[..., at, token] for at, token in enumerate(answer_ids)], axis=-1)

    def read(layer: int, run: BaseRun) -> NDArray[np.float32]:
        """(samples, positions, vocabulary)."""
        return np.asarray(runner.logits(run.decoder.values["block_output"][layer]).softmax(-1).cpu().numpy())

    def answers(run: BaseRun) -> NDArray[np.float32]:
        """(samples, layers, positions)."""
        return np.stack([answer(read(layer, run)) for layer in layers], axis=1)

    layers = range(len(question.model.answer_decoder.layers))
    with Computing(question.model):
        clean = np.stack([read(layer, question.bases.clean())[0] for layer in layers])
        corrupted = np.concatenate([few for _, run in question.bases.corrupted() for few in _in_parts(answers, run)])
    return LogitLens(
        probabilities=clean,
        answer=answer(clean),
        corrupted_answer=corrupted,
        top=[[question.top_words(position) for position in layer] for layer in clean],
        tokens=tuple(question.tokens("answer_decoder")),
        answer_tokens=tuple(question.answer_tokens),
    )
