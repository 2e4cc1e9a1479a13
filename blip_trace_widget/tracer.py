"""Tracer: the clean, corrupted and patched runs of one image and question.

For: asking. Everything is computed when it is first asked for and kept; `with_corruption` and `replace` share what is
still valid, so that moving the noise neither embeds the image again nor projects it.
Cost: one ViT pass for an image; one text pass for the clean run; for a noise factor one text pass over all samples
without projections; for patched runs see `blip_trace_widget.forward`.
Ends: at results. It knows no widget; all methods may be called from any thread, one at a time by the model's lock.

Method: Palit et al. 2023 (arXiv 2308.14179), after Meng et al. 2022 (arXiv 2202.05262).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blip_trace_widget.calls import Check, Computing, Progress, as_check, as_progress, computed, no_check
from blip_trace_widget.corruption import Corruption, GaussianNoise, checked_factor
from blip_trace_widget.forward import Activations, Cancelled
from blip_trace_widget.metrics import Metric, Target, TotalEffect, as_metric, effects
from blip_trace_widget.model import BlipVqa, ImageLike, as_image
from blip_trace_widget.results import Effect, NoiseCurve, Run, Trace
from blip_trace_widget.runs import EXTRA_ANSWER_TOKENS, BaseRun, ImageTokens, Runner, Text
from blip_trace_widget.sites import (
    BLOCKS,
    HEAD_SITES,
    SITES,
    State,
    as_states,
    one_of,
    whole_number,
    windowed,
)

#: Longest greedy answer where the model's generation settings name none (transformers' default).
ANSWER_TOKENS = 20
#: Words kept in `Run.top` and `Effect.top`.
TOP_WORDS = 10


class Tracer:
    """Causal tracing of one image and question.

    Args:
        model: a `BlipVqa`.
        image: a PIL image, a NumPy array, a path, or the bytes of a picture file.
        question: the question.
        answer: the answer to score; default the model's own greedy answer.
        foil: another answer of as many tokens, for ``metric="logit_difference"``.
        corruption: default ``GaussianNoise(factor=5.0, kind="multiplicative", samples=10, seed=0)``.
        metric: ``"probability"``, ``"log_probability"``, ``"logit_difference"``, ``"kl_divergence"``, or a callable on
            (logits (..., answer tokens, vocabulary), answer tokens) -> (...).

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    def __init__(
        self,
        model: BlipVqa,
        image: ImageLike,
        question: str,
        answer: str | None = None,
        foil: str | None = None,
        corruption: Corruption | None = None,
        metric: str | Callable[..., Any] = "probability",
    ) -> None:
        if not isinstance(model, BlipVqa):
            raise TypeError(f"model: expected BlipVqa, got {type(model).__name__}")
        self._set_up(model, ImageTokens(model, as_image(image)), question, answer, foil, corruption, metric)

    def _set_up(
        self,
        model: BlipVqa,
        image_tokens: ImageTokens,
        question: str,
        answer: str | None,
        foil: str | None,
        corruption: Corruption | None,
        metric: str | Metric | Callable[..., Any],
    ) -> None:
        self.model = model
        self.question = question
        self.corruption: Corruption = GaussianNoise() if corruption is None else _as_corruption(corruption)
        self.metric: Metric = as_metric(metric)
        self._image_tokens = image_tokens
        self._given_answer, self._given_foil = answer, foil
        self._question_ids = model.question_ids(question)
        self._answer_given_ids = None if answer is None else model.answer_ids("answer", answer)
        self._foil_ids = None if foil is None else model.answer_ids("foil", foil)
        if self.metric.needs_foil and self._foil_ids is None:
            raise ValueError("foil: the metric 'logit_difference' compares the answer with a foil, got none")
        if self._answer_given_ids is not None:
            self._check_foil(self._answer_given_ids)
        self.corruption.check(model, self._question_ids)
        self._runner = Runner(model)
        self._check: Check = no_check

    def __repr__(self) -> str:
        return f"Tracer({self.question!r}, {self.corruption!r}, metric={self.metric.name!r})"

    # --- derived tracers ---------------------------------------------------------------------------------------------

    def with_corruption(self, corruption: Corruption | None = None, /, **changes: Any) -> Tracer:
        """A tracer of the same image and question under another corruption; shares all that is still valid.

        Args:
            corruption: the new one; default the present one.
            changes: fields of it to change, for instance ``factor=3.0``.
        """
        import dataclasses

        corruption = self.corruption if corruption is None else _as_corruption(corruption)
        return self.replace(corruption=dataclasses.replace(corruption, **changes) if changes else corruption)  # type: ignore[type-var]

    def replace(self, **changes: Any) -> Tracer:
        """A tracer with other arguments (as in the constructor, without `model`); shares all that is still valid."""
        arguments: dict[str, Any] = {
            "question": self.question,
            "answer": self._given_answer,
            "foil": self._given_foil,
            "corruption": self.corruption,
            "metric": self.metric,
        }
        unknown = set(changes) - {"image", *arguments}
        if unknown:
            raise TypeError(f"replace: unknown argument {min(unknown)!r}, accepted are {['image', *arguments]}")
        same_image = "image" not in changes
        tokens = self._image_tokens if same_image else ImageTokens(self.model, as_image(changes.pop("image")))
        other = type(self).__new__(type(self))
        other._set_up(self.model, tokens, **{**arguments, **changes})
        if same_image and other.question == self.question:
            _share(self, other, "_clean_encoder")
            if other._answer_given_ids == self._answer_given_ids:
                _share(self, other, "_answer_ids", "_text", "_clean_run")
            if other.corruption == self.corruption:
                _share(self, other, "_corrupted_encoder")
        return other

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self._image_tokens.image

    # --- what the model sees and says --------------------------------------------------------------------------------

    @property
    def question_tokens(self) -> list[str]:
        """Word pieces of the question as the model sees them, special tokens included."""
        return self.model.tokens(self._question_ids)

    @property
    def answer(self) -> str:
        """The scored answer: the given one, or the model's own greedy answer."""
        return self.model.text(self._answer_ids) if self._given_answer is None else self._given_answer

    @property
    def answer_tokens(self) -> list[str]:
        """Word pieces of the answer, end token left out."""
        return self.model.tokens(self._answer_ids)

    @property
    def foil(self) -> str | None:
        """The given foil."""
        return self._given_foil

    def tokens(self, block: str) -> list[str]:
        """Word pieces at the positions of a block; the decoder's are the start token and the answer's but the last."""
        if one_of("block", block, BLOCKS) == "question_encoder":
            return self.question_tokens
        return self.model.tokens([self.model.start_id, *self._answer_ids[:-1]])

    # --- runs --------------------------------------------------------------------------------------------------------

    def prepare(self, cancel: Callable[[], bool] | Any = None) -> None:
        """Compute the clean and the corrupted run now, rather than when they are first asked for.

        Raises:
            Cancelled: within a layer of `cancel` saying so; what was computed by then is kept.
        """
        with self._computing():
            self._check = as_check(cancel)
            try:
                _ = self.clean, self.corrupted
            finally:
                self._check = no_check

    @computed
    def clean(self) -> Run:
        """The run on the undamaged image."""
        with self._computing():
            run = self._clean_run
            return self._as_run(run, [self._answer_ids], answer=self.answer)

    @computed
    def corrupted(self) -> Run:
        """The runs on the corrupted image, one a noise sample.

        Its answer is the one that most samples give by greedy decoding; ``answers`` has all of them. Answers that go
        on beyond the clean one's length by more than four tokens are cut off with an ellipsis.
        """
        with self._computing():
            run = self._corrupted_run
            longest = len(self._answer_ids) + EXTRA_ANSWER_TOKENS
            answers = self._runner.greedy(run.encoder.output, longest, self._check, first=run.logits[:, 0])
            return self._as_run(run, answers, longest=longest)

    @computed
    def total_effect(self) -> TotalEffect:
        """score(clean) - score(corrupted) with its standard error, and the gate."""
        return TotalEffect(self.clean.score, np.asarray(self.corrupted.scores, dtype=np.float64))

    def patch(
        self,
        states: State | Iterable[State],
        direction: str = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Effect:
        """Patch one state, or several of any layers and blocks in one run.

        Args:
            states: what to patch.
            direction: ``"restore"``: a corrupted run in which the states take their clean values; ``"disrupt"``: a
                clean run in which they take their corrupted values.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so.
        """
        chosen = as_states(states)
        one_of("direction", direction, ("restore", "disrupt"))
        for state in chosen:
            self._check_state(state)
        check = as_check(cancel)
        self.prepare(cancel)
        with self._computing():
            base, source = self._base_and_source(direction)
            for _, logits in self._runner.patched(base, source, [chosen], check):
                scores = self._score(logits[:, 0])
                distribution = _distribution(logits[:, 0])
        statistics = effects(self.total_effect, scores, direction)
        return Effect(
            score=float(statistics.score),
            scores=scores,
            indirect_effect=float(statistics.indirect_effect),
            recovery=float(statistics.recovery),
            stderr=float(statistics.stderr),
            top=self._top(distribution),
            recovery_stderr=float(statistics.recovery_stderr),
            undefined_because=self.total_effect.closed_because,
            distribution=distribution,
            states=chosen,
            direction=direction,
        )

    def trace(
        self,
        block: str = "question_encoder",
        site: str = "block_output",
        head: int | None = None,
        window: int = 1,
        direction: str = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> Trace:
        """Patch every state of a block, one at a time.

        Args:
            block: ``"question_encoder"`` or ``"answer_decoder"``.
            site: ``"block_output"``, ``"self_attention"``, ``"cross_attention"`` or ``"mlp"``.
            head: one head of an attention, instead of the whole.
            window: layers patched together around each layer.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (cells done, cells in all).
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what is computed by then is
                returned, with NaN in the other cells.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        cells = self.cells(block, site, head, window)
        layers, positions = len(self._layers(block)), len(self.tokens(block))
        one_of("direction", direction, ("restore", "disrupt"))
        report, close = as_progress(progress, len(cells))
        with self._computing():
            samples = np.full((self.corruption.samples, layers, positions), np.nan)
            try:
                self.prepare(cancel)
                for part, scores in self.patched_scores([cell.states for cell in cells], direction, cancel):
                    for cell, values in zip(cells[part], scores.T, strict=True):
                        samples[:, cell.layer, cell.position] = values
                    report(part.stop, len(cells))
            except Cancelled:
                pass
            finally:
                close()
        return self.as_trace(samples, block, site, head, window, direction)

    def noise_curve(
        self,
        factors: Sequence[float] | NDArray[Any] | None = None,
        states: State | Iterable[State] = (),
        cancel: Callable[[], bool] | Any = None,
    ) -> NoiseCurve:
        """Mean score over the noise factor, of the corrupted run and of patched ones.

        Args:
            factors: noise factors; default 21 from 0 to 10.
            states: states to restore, each in a run of its own.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where the corruption
                has no factor.
            Cancelled: within a layer of `cancel` saying so.
        """
        if not isinstance(self.corruption, GaussianNoise):
            raise ValueError(f"corruption: a noise curve needs GaussianNoise, got {type(self.corruption).__name__}")
        chosen = as_states(states) if isinstance(states, State) or states else ()
        values = np.linspace(0, 10, 21) if factors is None else _as_factors(factors)
        _ = self._clean_run  # computed here, the tracers below share it
        corrupted, patched = [], []
        for factor in values:
            tracer = self.with_corruption(factor=float(factor))
            with tracer._computing():
                tracer._check = as_check(cancel)
                corrupted.append(tracer._score(tracer._corrupted_run.logits))
            patched.append([tracer.patch(state, cancel=cancel).scores for state in chosen])
        return NoiseCurve(
            factors=values,
            clean=self.clean.score,
            corrupted=np.stack(corrupted, axis=1),
            patched=np.array(patched).reshape(len(values), len(chosen), len(corrupted[0])).transpose(2, 0, 1),
            states=chosen,
        )

    # --- the pieces of `trace`, for callers that fill a grid themselves ----------------------------------------------

    def cells(self, block: str, site: str = "block_output", head: int | None = None, window: int = 1) -> list[Cell]:
        """The cells of a grid, layer by layer, each with the states that it patches."""
        one_of("block", block, BLOCKS)
        one_of("site", site, SITES)
        layers, positions = len(self._layers(block)), len(self.tokens(block))
        window = whole_number("window", window, 1, layers)
        if head is not None:
            one_of("site (of a single head)", site, HEAD_SITES)
            head = whole_number("head", head, 0, self.model.heads - 1)
        return [
            Cell(layer, position, windowed(State(block, layer, position, site, head), window, layers))
            for layer in range(layers)
            for position in range(positions)
        ]

    def patched_scores(
        self,
        runs: Sequence[Sequence[State]],
        direction: str = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Scores of many patched runs, chunk by chunk.

        Yields:
            which of the runs, and their scores (samples, runs).

        Raises:
            Cancelled: within a layer of `cancel` saying so.
        """
        one_of("direction", direction, ("restore", "disrupt"))
        check = as_check(cancel)
        with self._computing():
            base, source = self._base_and_source(direction)
            chunks = self._runner.patched(base, source, runs, check)
        while True:
            with self._computing():  # not across the yield: the consumer may take its time, on this thread or another
                chunk = next(chunks, None)
                if chunk is None:
                    return
                scores = self._score(chunk[1])
            yield chunk[0], scores

    def as_trace(
        self,
        samples: NDArray[np.float64],
        block: str,
        site: str,
        head: int | None,
        window: int,
        direction: str,
    ) -> Trace:
        """The scores of a grid's patched runs, (samples, layers, positions), with all that they mean."""
        settings = {
            "model": self.model.name,
            "question": self.question,
            "answer": self.answer,
            "answer_tokens": self.answer_tokens,
            "foil": self._given_foil,
            "metric": self.metric.name,
            "corruption": self.corruption.settings(),
            "block": block,
            "site": site,
            "head": head,
            "window": window,
            "direction": direction,
        }
        return Trace(
            samples=samples,
            clean=self.clean.score,
            corrupted=np.asarray(self.corrupted.scores),
            tokens=tuple(self.tokens(block)),
            settings=settings,
        )

    # --- computed once -----------------------------------------------------------------------------------------------

    @computed
    def _clean_encoder(self) -> Activations:
        question = self._runner.embed_question(self._question_ids)
        return self._runner.encode(question, self._image_tokens.clean(), 1, self._check)

    @computed
    def _corrupted_encoder(self) -> Activations:
        memory = self._image_tokens.corrupted(self.corruption)
        question = self._text.question
        ids = self.corruption.question_ids(self._question_ids, self.model)
        if ids != self._question_ids:
            question = self._runner.embed_question(ids)
        return self._runner.encode(question, memory, self.corruption.samples, self._check)

    @computed
    def _answer_ids(self) -> list[int]:
        if self._answer_given_ids is not None:
            ids = self._answer_given_ids
        else:
            length = getattr(self.model.hf.text_decoder.generation_config, "max_length", None)
            longest = length - 1 if length else ANSWER_TOKENS  # max_length counts the start token
            with self._computing():
                ids = self._runner.greedy(self._clean_encoder.output, longest, self._check)[0]
            if not ids:
                raise ValueError("answer: the model's own answer to this question is empty; give one")
        self._check_foil(ids)
        return ids

    @computed
    def _text(self) -> Text:
        return Text(self._clean_encoder.inputs, self._runner.embed_answer(self._answer_ids))

    @computed
    def _clean_run(self) -> BaseRun:
        return self._runner.base(self._text, self._clean_encoder, self._image_tokens.clean(), self._check)

    @computed
    def _corrupted_run(self) -> BaseRun:
        memory = self._image_tokens.corrupted(self.corruption)
        return self._runner.base(self._text, self._corrupted_encoder, memory, self._check)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _computing(self) -> Computing:
        return Computing(self.model)

    def _base_and_source(self, direction: str) -> tuple[BaseRun, BaseRun]:
        clean, corrupted = self._clean_run, self._corrupted_run
        return (corrupted, clean) if direction == "restore" else (clean, corrupted)

    def _layers(self, block: str) -> list[Any]:
        return (self.model.question_encoder if block == "question_encoder" else self.model.answer_decoder).layers

    def _check_state(self, state: State) -> None:
        layers, tokens = len(self._layers(state.block)), self.tokens(state.block)
        whole_number("layer", state.layer, 0, layers - 1)
        if state.position >= len(tokens):
            raise ValueError(
                f"position: expected from 0 to {len(tokens) - 1} ({state.block} sees {tokens}), got {state.position}"
            )
        if state.head is not None:
            whole_number("head", state.head, 0, self.model.heads - 1)

    def _check_foil(self, answer: list[int]) -> None:
        if self._foil_ids is not None and len(self._foil_ids) != len(answer):
            raise ValueError(
                f"foil: expected as many tokens as the answer {self.model.tokens(answer)}, "
                f"got {self.model.tokens(self._foil_ids)}"
            )

    def _score(self, logits: Tensor) -> NDArray[np.float64]:
        """Scores (...) of logits (..., answer positions, vocabulary)."""
        device = logits.device
        foil = None if self._foil_ids is None else torch.tensor(self._foil_ids, device=device)
        target = Target(torch.tensor(self._answer_ids, device=device), foil, self._clean_run.logits[0])
        scores = self.metric.score(logits, target)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:-2]:
            raise ValueError(
                f"metric: expected a tensor of shape {tuple(logits.shape[:-2])} for logits of shape "
                f"{tuple(logits.shape)}, got {getattr(scores, 'shape', type(scores).__name__)}"
            )
        return scores.double().cpu().numpy()

    def _as_run(
        self, run: BaseRun, answers: list[list[int]], *, longest: int | None = None, answer: str | None = None
    ) -> Run:
        texts = [
            self.model.text(ids) + (" …" if longest is not None and len(ids) >= longest else "") for ids in answers
        ]
        scores = self._score(run.logits)
        distribution = _distribution(run.logits)
        return Run(
            score=float(scores.mean()),
            scores=scores,
            answer=Counter(texts).most_common(1)[0][0] if answer is None else answer,
            top=self._top(distribution),
            answers=tuple(texts),
            distribution=distribution,
        )

    def _top(self, distribution: NDArray[np.float32]) -> list[tuple[str, float]]:
        count = min(TOP_WORDS, distribution.size)
        best = np.argsort(-distribution, kind="stable")[:count]
        words = self.model.tokens([int(index) for index in best])
        return [(word, float(distribution[index])) for word, index in zip(words, best, strict=True)]


class Cell:
    """One cell of a grid and the states that it patches."""

    __slots__ = ("layer", "position", "states")

    def __init__(self, layer: int, position: int, states: tuple[State, ...]) -> None:
        self.layer, self.position, self.states = layer, position, states


def _share(old: Tracer, new: Tracer, *names: str) -> None:
    """Hand over what the old tracer has computed. A cached property lives in the instance's dictionary."""
    for name in names:
        if name in old.__dict__:
            new.__dict__[name] = old.__dict__[name]


def _distribution(logits: Tensor) -> NDArray[np.float32]:
    """Mean distribution over samples at the first answer position, (S, positions, vocabulary) -> (vocabulary,)."""
    mean: NDArray[np.float32] = logits[:, 0].softmax(-1).mean(0).cpu().numpy()
    return mean


def _as_factors(factors: Any) -> NDArray[np.float64]:
    if isinstance(factors, (str, bytes)) or not isinstance(factors, Iterable):
        raise TypeError(f"factors: expected a sequence of numbers, got {type(factors).__name__} {factors!r}")
    values = [checked_factor("factors", factor) for factor in factors]
    if not values:
        raise ValueError("factors: expected at least one number, got none")
    return np.array(values)


def _as_corruption(corruption: Any) -> Corruption:
    if not isinstance(corruption, Corruption):
        raise TypeError(f"corruption: expected one such as GaussianNoise, got {type(corruption).__name__}")
    return corruption
