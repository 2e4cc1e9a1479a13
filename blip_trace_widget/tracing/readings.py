"""Reading without intervening: what tokens attend to, and what the decoder would answer at each layer.

For: attention maps of the clean and the corrupted runs, and the logit lens. Both are read from recorded runs.
Cost: one attention of one layer; one pass of the model's head per layer.
Ends: at `Attention` and `LogitLens`. That a token attends to another does not mean that it matters: for that, patch or
cut (`blip_trace_widget.tracing.knockout`).

Source: for the logit lens, nostalgebraist 2020, "interpreting GPT: the logit lens"; here the head is BLIP's own, with
its transform, on the output of each decoder layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.choices import RunName
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.cross_attention import AbsorbedKV
from blip_trace_widget.results import summaries
from blip_trace_widget.results.numerics import quiet
from blip_trace_widget.results.summaries import Summarised
from blip_trace_widget.states import TEXT_BLOCKS, position_of
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.runs import BaseRun

if TYPE_CHECKING:
    import pandas as pd

    from blip_trace_widget.results.plots import Labels

#: The weights to show: the clean run's, the mean of the corrupted runs, or corrupted - clean.
RUNS = ("clean", "corrupted", "difference")


@dataclass(frozen=True, eq=False, repr=False)
class Attention(Summarised):
    """Cross-attention weights of a layer: question tokens to image tokens, or answer positions to question tokens.

    Attributes:
        clean: (queries, keys); each row sums to 1.
        corrupted: (samples, queries, keys).
        queries: word pieces of the attending tokens; under `QuestionSwap` the clean question's, in both runs.
        keys: names of the attended tokens; of the image, "[CLS]" and each patch's "row,column".
        grid: rows and columns of patches where the keys are image tokens, else None.
        settings: block, layer and head, as plain JSON.
    """

    clean: NDArray[np.float32] = field(repr=False)
    corrupted: NDArray[np.float32] = field(repr=False)
    queries: tuple[str, ...]
    keys: tuple[str, ...] = field(repr=False)
    grid: tuple[int, int] | None
    settings: dict[str, Any]

    def image(self, position: int | str, run: RunName = "clean") -> NDArray[np.float32]:
        """Attention of one question token to the image patches, (rows, columns), without the class token.

        Args:
            position: the question token, by number or as a word.
            run: ``"clean"``, ``"corrupted"`` (mean over samples), or ``"difference"`` (corrupted - clean).

        Raises:
            TypeError: if an argument has the wrong type.
            ValueError: if the keys are not image tokens, or an argument is out of range.
        """
        if self.grid is None:
            raise ValueError("block: only the question encoder looks at the image, this is the answer decoder's")
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
        """Draw the weights, queries down and keys across; or one question token's over the picture.

        Args:
            ax: matplotlib axes to draw on.
            value: ``"clean"``, ``"corrupted"`` (mean over samples), or ``"difference"`` (corrupted - clean).
            limit: end of the colour scale; default the largest weight. Give several figures the same to compare them.
            cmap: a matplotlib colour map or its name.
            marks: has no effect; accepted because all results are drawn alike.
            position: a question token, by number or as a word: draw its weights over the picture's patches.

        Returns:
            matplotlib axes; without matplotlib, a bqplot figure.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        from blip_trace_widget.results import plots

        block, layer, head = (self.settings[name] for name in ("block", "layer", "head"))
        title = f"{block}, layer {layer}".replace("_", " ") + ("" if head is None else f", head {head}")
        value = named("value", value, RUNS)
        rows: Labels = ("", self.queries)
        columns: Labels = ("", self.keys) if self.grid is None else ("image token", range(len(self.keys)))
        if position is None:
            values = self._weights(value)
        else:
            values = self.image(position, value)
            title += f": “{self.queries[position_of('position', position, self.queries, block)]}”"
            rows, columns = ("row", range(values.shape[0])), ("column", range(values.shape[1]))
        label = {"difference": "attention, corrupted − clean"}.get(value, f"attention, {value}")
        drawn = plots.Map(values, label, title, rows, columns, sequential=value != "difference")
        return plots.draw(drawn, ax, limit, cmap, marks=marks)

    def _facts(self) -> dict[str, str]:
        block, layer, head = (self.settings[name] for name in ("block", "layer", "head"))
        return {
            "of": f"{block} layer {layer}" + (", mean of heads" if head is None else f" head {head}"),
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


def attention(question: Question, block: str, layer: int, head: int | None = None) -> Attention:
    """See `Tracer.attention`."""
    block = named("block (of cross-attention)", block, TEXT_BLOCKS)
    stack = question.model.blocks[block]
    whole_number("layer", layer, 0, len(stack.layers) - 1)
    if head is not None:
        whole_number("head", head, 0, stack.heads - 1)
    attends_to_image = block == "question_encoder"

    def weights(run: BaseRun) -> NDArray[np.float32]:
        """(samples, queries, keys)."""
        own = run.encoder if attends_to_image else run.decoder
        kv = run.image_view.kv if attends_to_image else AbsorbedKV(stack.layers, run.encoder.output[:, None])
        by_head = stack.cross_weights(layer, own, kv).float()
        chosen = by_head.mean(1) if head is None else by_head[:, head]
        return np.asarray(chosen.cpu().numpy())

    with Computing(question.model):
        clean = weights(question.bases.clean())[0]
        corrupted = np.concatenate([weights(run) for _, run in question.bases.corrupted()])
    settings = question.settings() | {"block": block, "layer": layer, "head": head}
    return Attention(
        clean=clean,
        corrupted=corrupted,
        queries=tuple(question.tokens(block)),
        keys=tuple(question.tokens("image_encoder" if attends_to_image else "question_encoder")),
        grid=question.model.grid if attends_to_image else None,
        settings=settings,
    )


def logit_lens(question: Question) -> LogitLens:
    """See `Tracer.logit_lens`."""
    runner, answer_ids = question.runner, question.bases.answer_ids()

    def answer(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., positions, vocabulary) -> (..., positions)."""
        return np.stack([probabilities[..., at, token] for at, token in enumerate(answer_ids)], axis=-1)

    def read(run: BaseRun, layer: int) -> NDArray[np.float32]:
        """(samples, positions, vocabulary)."""
        return np.asarray(runner.logits(run.decoder.values["block_output"][layer]).softmax(-1).cpu().numpy())

    with Computing(question.model):
        layers = range(len(question.model.answer_decoder.layers))
        clean = np.stack([read(question.bases.clean(), layer)[0] for layer in layers])
        corrupted = np.concatenate(
            [np.stack([answer(read(run, layer)) for layer in layers], axis=1) for _, run in question.bases.corrupted()]
        )
    return LogitLens(
        probabilities=clean,
        answer=answer(clean),
        corrupted_answer=corrupted,
        top=[[question.top_words(position) for position in layer] for layer in clean],
        tokens=tuple(question.tokens("answer_decoder")),
        answer_tokens=tuple(question.answer_tokens),
    )
