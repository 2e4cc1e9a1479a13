"""Tracer: the clean, corrupted and patched runs of one image and question.

For: asking. Everything is computed when it is first asked for and kept; `with_corruption` and `replace` share what is
still valid, so that moving the noise neither embeds the image again nor projects it.
Cost: one ViT pass for an image; one text pass for the clean run; for a noise factor one text pass over all samples
without projections; for patched runs see `blip_trace_widget.forward`.
Ends: at results. It knows no widget; all methods may be called from any thread, one at a time by the model's lock.

Method: Palit et al. 2023 (arXiv 2308.14179), after Meng et al. 2022 (arXiv 2202.05262).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blip_trace_widget import readouts
from blip_trace_widget.bases import BaseRuns
from blip_trace_widget.calls import (
    Check,
    Computing,
    ModelChangedError,
    Progress,
    as_check,
    as_progress,
    at_once,
    computed,
    ended_early,
    kept_of,
    on_cpu,
)
from blip_trace_widget.corruption import Corruption, GaussianNoise, checked_factor
from blip_trace_widget.image_tokens import ImageTokens
from blip_trace_widget.knockout import Knockout, KnockoutTrace, knock_out, knock_out_by_layer
from blip_trace_widget.maps import HeadTrace, ImageTokenTrace, squares
from blip_trace_widget.metrics import Metric, MetricName, Target, TotalEffect, as_metric, effects
from blip_trace_widget.model import BlipVqa
from blip_trace_widget.model_of import as_model
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.positions import Positions, image_tokens, position_of
from blip_trace_widget.results import Effect, NoiseCurve, Run, Trace
from blip_trace_widget.runs import BaseRun, Chunks, Runner
from blip_trace_widget.scene import Scene
from blip_trace_widget.sites import (
    BLOCKS,
    DIRECTIONS,
    SITES,
    AttentionName,
    BlockName,
    Direction,
    SiteName,
    State,
    TextBlockName,
    as_states,
    listed_states,
    named,
    one_of,
    whole_number,
    windowed,
)
from blip_trace_widget.unpicklable import Unpicklable

#: Answers of corrupted runs are read this many tokens beyond the clean answer's length, then cut off with an ellipsis.
EXTRA_ANSWER_TOKENS = 4
#: Words kept in `Run.top` and `Effect.top`.
TOP_WORDS = 10
#: What other modules of the package need of a `Tracer`, and its users do not: left out of completion.
INTERNAL = frozenset(
    {
        "as_head_trace",
        "as_image_token_trace",
        "as_trace",
        "bases",
        "cells",
        "given",
        "image_token_scores",
        "located",
        "patched_scores",
        "preparing",
        "question_settings",
        "runner",
        "scene",
        "score_logits",
        "steps",
        "take",
        "top_words",
        "whole_trace",
    }
)


class Tracer(Unpicklable):
    """Causal tracing of one image and question.

    Args:
        model: a `BlipVqa`, a hub id or a folder.
        image: a path, a PIL image, an array or tensor, the bytes of a picture file, or what else
            `blip_trace_widget.pictures` reads; transparent pixels lie over white, of several frames the first is taken.
        question: the question.
        answer: the answer to score; default the model's own greedy answer.
        foil: another answer of as many tokens, for ``metric="logit_difference"``.
        corruption: default ``GaussianNoise(factor=5.0, kind="multiplicative", samples=10, seed=0)``.
        metric: ``"probability"``, ``"log_probability"``, ``"logit_difference"``, ``"kl_divergence"``, or a callable on
            (logits (..., answer tokens, vocabulary), answer tokens) -> (...).

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    instead = "keep its results, which can be, or make another: Tracer(model, tracer.image, tracer.question)"

    def __init__(
        self,
        model: BlipVqa | str | os.PathLike[str],
        image: ImageLike,
        question: str,
        answer: str | None = None,
        foil: str | None = None,
        corruption: Corruption | None = None,
        metric: MetricName | Callable[..., Any] = "probability",
    ) -> None:
        self._set_up(ImageTokens(as_model(model), as_image(image)), question, answer, foil, corruption, metric)

    def _set_up(
        self,
        image_tokens: ImageTokens,
        question: str,
        answer: str | None,
        foil: str | None,
        corruption: Corruption | None,
        metric: str | Metric | Callable[..., Any],
    ) -> None:
        model = image_tokens.model
        self.model = model
        self.corruption: Corruption = GaussianNoise() if corruption is None else _as_corruption(corruption)
        self.metric: Metric = as_metric(metric)
        question_ids = model.question_ids(question)
        given_ids = None if answer is None else model.answer_ids("answer", answer)
        self._foil_ids = None if foil is None else model.answer_ids("foil", foil)
        # Known to be texts by now; kept in one form, so that what is saved is what is compared later.
        self.question = question.strip()
        self._given_answer = None if answer is None else answer.strip()
        self._given_foil = None if foil is None else foil.strip()
        if self.metric.needs_foil and self._foil_ids is None:
            raise ValueError("foil: the metric 'logit_difference' compares the answer with a foil, got none")
        if given_ids is not None:
            self._check_foil(given_ids)
        self.corruption.check(model, question_ids)
        #: The recorded runs that everything here is made from.
        self.bases = BaseRuns(image_tokens, question_ids, given_ids, self.corruption)
        self.runner = Runner(model)

    def __repr__(self) -> str:
        return f"Tracer({self.question!r}, {self.corruption!r}, metric={self.metric.name!r})"

    def __dir__(self) -> list[str]:
        return sorted(name for name in {*super().__dir__()} - INTERNAL if name[:1] != "_" or name[:2] == "__")

    # --- derived tracers ---------------------------------------------------------------------------------------------

    def with_corruption(self, corruption: Corruption | None = None, /, **changes: Any) -> Tracer:
        """A tracer of the same image and question under another corruption; shares all that is still valid.

        Args:
            corruption: the new one; default the present one.
            changes: fields of it to change, for instance ``factor=3.0``.
        """
        corruption = self.corruption if corruption is None else _as_corruption(corruption)
        return self.replace(corruption=dataclasses.replace(corruption, **changes) if changes else corruption)  # type: ignore[type-var]

    def replace(self, **changes: Any) -> Tracer:
        """A tracer with other arguments (as in the constructor, without `model`); shares all that is still valid."""
        arguments: dict[str, Any] = {
            "question": self.question,
            **self.given,
            "corruption": self.corruption,
            "metric": self.metric,
        }
        unknown = set(changes) - {"image", *arguments}
        if unknown:
            raise TypeError(f"replace: unknown argument {min(unknown)!r}, accepted are {['image', *arguments]}")
        new_image = "image" in changes
        tokens = ImageTokens(self.model, as_image(changes.pop("image"))) if new_image else self.bases.image
        other = type(self).__new__(type(self))
        other._set_up(tokens, **{**arguments, **changes})
        self.bases.hand_over(other.bases)
        return other

    @property
    def given(self) -> dict[str, str | None]:
        """The answer and the foil as they were given; None where none was."""
        return {"answer": self._given_answer, "foil": self._given_foil}

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self.bases.image.image

    # --- what the model sees and says --------------------------------------------------------------------------------

    @property
    def question_tokens(self) -> list[str]:
        """Word pieces of the question as the model sees them, special tokens included."""
        return self.model.tokens(self.bases.question_ids)

    @property
    def unknown_words(self) -> list[str]:
        """Words of the question that the model does not know: it was traced without what they mean."""
        return self.model.unknown_words(self.question)

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

    def tokens(self, block: BlockName | str) -> list[str]:
        """Names of a block's positions.

        Word pieces; the decoder's are the start token and the answer's but the last. Of the image encoder, "[CLS]" and
        each patch's "row,column".
        """
        block = named("block", block, BLOCKS)
        if block == "image_encoder":
            rows, columns = self.model.grid
            return ["[CLS]", *(f"{row},{column}" for row in range(rows) for column in range(columns))]
        if block == "question_encoder":
            return self.question_tokens
        return self.model.tokens([self.model.start_id, *self._answer_ids[:-1]])

    # --- runs --------------------------------------------------------------------------------------------------------

    def prepare(self, cancel: Callable[[], bool] | Any = None) -> None:
        """Compute the clean and the corrupted run now, rather than when they are first asked for.

        Raises:
            Cancelled: within a layer of `cancel` saying so; what was computed by then is kept.
        """
        with self.preparing(cancel):
            _ = self.clean, self.corrupted, self.model.provenance

    @property
    def steps(self) -> list[str]:
        """What is left for `prepare`, in order: ``"embed"`` the picture, the ``"clean"``, the ``"corrupted"`` run."""
        there = {
            "embed": self.bases.image.embedded,
            "clean": "clean" in kept_of(self.bases),  # which another corruption shares
            "corrupted": "corrupted" in kept_of(self),
        }
        return [step for step, done in there.items() if not done]

    def take(self, step: str, cancel: Callable[[], bool] | Any = None) -> None:
        """One of the `steps`; see `prepare`."""
        with self.preparing(cancel):
            _ = self.bases.image.clean_tokens if step == "embed" else getattr(self, step)

    @computed
    def clean(self) -> Run:
        """The run on the undamaged image."""
        return self._as_run([(self.bases.clean, [self._answer_ids])], answer=self.answer)

    @computed
    def corrupted(self) -> Run:
        """The runs on the corrupted image, one a noise sample.

        Its answer is the one that most samples give by greedy decoding; ``answers`` has all of them. Answers that go
        on beyond the clean one's length by more than four tokens are cut off with an ellipsis.
        """
        longest = len(self._answer_ids) + EXTRA_ANSWER_TOKENS
        check = self.bases.check

        def answered(run: BaseRun) -> tuple[BaseRun, list[list[int]]]:
            return run, self.runner.greedy(run.encoder.output, longest, check, first=run.logits[:, 0])

        return self._as_run((answered(run) for _, run in self.bases.corrupted()), longest=longest)

    @computed
    def total_effect(self) -> TotalEffect:
        """score(clean) - score(corrupted) with its standard error, and the gate."""
        return TotalEffect(self.clean.score, self._corrupted_scores)

    @computed
    def scene(self) -> Scene | None:
        """What a widget shows beside the grids; None where the corruption or the metric is one's own."""
        from blip_trace_widget import figure  # the one look upward: what is kept with a trace is what will be shown

        return figure.scene(self)

    @computed
    def _corrupted_scores(self) -> NDArray[np.float64]:
        """(samples,); without spelling the answers, which costs more than the scores."""
        if "corrupted" in kept_of(self):
            return self.corrupted.scores
        return np.concatenate([self.score_logits(run.logits) for _, run in self.bases.corrupted()])

    # --- interventions -----------------------------------------------------------------------------------------------

    @at_once
    def patch(
        self,
        states: State | Iterable[State],
        direction: Direction = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Effect:
        """Patch one state, or several of any layers and blocks in one run; costs a cell of a grid.

        Args:
            states: what to patch; their positions by number or as words, ``State("question_encoder", 5, "circle")``.
            direction: ``"restore"``: a corrupted run in which the states take their clean values; ``"disrupt"``: a
                clean run in which they take their corrupted values.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so.
        """
        given = listed_states(states)
        direction = named("direction", direction, DIRECTIONS)
        self._check_blocks(given)
        self._begin(cancel, with_states=_needs_states([given]))
        chosen = as_states(self.located(given))
        check = as_check(cancel)
        return self._as_effect(self._patched([chosen], direction, check), direction, cancel, states=chosen)

    @at_once
    def patch_image_tokens(
        self,
        tokens: Positions,
        direction: Direction = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Effect:
        """Restore, or damage, some of the image tokens that the question encoder looks at, all in one run.

        Costs a few cells of a grid: the question encoder runs from its first layer on.

        Args:
            tokens: their positions (0 is the class token; patches follow row by row), or a boolean (rows, columns)
                region of patches. None: all.
            direction: ``"restore"``: a corrupted run that sees these tokens' clean embeddings; ``"disrupt"``: a clean
                run that sees their corrupted ones.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so.
        """
        chosen = sorted(set(image_tokens("tokens", tokens, self.model)))
        direction = named("direction", direction, DIRECTIONS)
        self._check_damages_image()
        chunks = self._swapped([chosen], direction, as_check(cancel))
        return self._as_effect(chunks, direction, cancel, image_tokens=tuple(chosen))

    def _as_effect(
        self,
        chunks: Chunks,
        direction: str,
        cancel: Any,
        states: tuple[State, ...] = (),
        image_tokens: tuple[int, ...] = (),
    ) -> Effect:
        """One patched run, whose samples come in chunks."""
        with self.preparing(cancel):
            total = self.total_effect
            scores = np.empty(self.corruption.samples)
            distribution: Any = 0.0
            for part, _, logits in chunks:
                scores[part] = self.score_logits(logits[:, 0])
                distribution = distribution + _distribution_sum(logits[:, 0])
        mean = (distribution / scores.size).astype(np.float32)
        statistics = effects(total, scores, direction)
        return Effect(
            score=float(statistics.score),
            scores=scores,
            indirect_effect=float(statistics.indirect_effect),
            recovery=float(statistics.recovery),
            stderr=float(statistics.stderr),
            top=self.top_words(mean),
            recovery_stderr=float(statistics.recovery_stderr),
            undefined_because=total.closed_because,
            distribution=mean,
            states=states,
            direction=direction,
            image_tokens=image_tokens,
        )

    @overload
    def trace(
        self,
        block: BlockName = ...,
        site: SiteName = ...,
        head: int | None = ...,
        window: int = ...,
        direction: Direction = ...,
        progress: bool | Progress | None = ...,
        cancel: Callable[[], bool] | Any = ...,
        position: None = ...,
    ) -> Trace: ...
    @overload
    def trace(
        self,
        block: BlockName = ...,
        site: SiteName = ...,
        *,
        head: Literal["all"],
        window: int = ...,
        direction: Direction = ...,
        progress: bool | Progress | None = ...,
        cancel: Callable[[], bool] | Any = ...,
        position: int | str | None = ...,
    ) -> HeadTrace: ...
    @at_once
    def trace(
        self,
        block: BlockName = "question_encoder",
        site: SiteName = "block_output",
        head: int | Literal["all"] | None = None,
        window: int = 1,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
        position: int | str | None = None,
    ) -> Trace | HeadTrace:
        """Patch every state of a block, one at a time: one grid.

        ``head="all"`` computes a grid for each head of the block (BLIP base: twelve), with `position` one of its
        columns for each. Ctrl-C ends it as `cancel` does: what is computed by then is returned, with a warning.

        Args:
            block: ``"image_encoder"`` (only under a corruption of the patch embeddings), ``"question_encoder"`` or
                ``"answer_decoder"``.
            site: ``"block_output"``, ``"self_attention"``, ``"cross_attention"`` or ``"mlp"``.
            head: one head of an attention, instead of the whole; or ``"all"`` for a map of layers x heads.
            window: layers patched together around each layer.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (cells done, cells in all); a cell counts by the share of its
                samples that is done. Default: a bar once it takes more than two seconds, in a notebook or a terminal;
                False: none.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; the cells of which all samples
                are computed by then are returned, with NaN in the others.
            position: with ``head="all"``: at this position alone, by number or as a word, instead of summed over all.

        Returns:
            `Trace`, (layers, positions); with ``head="all"`` `HeadTrace`, (layers, heads).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were there.
        """
        direction = named("direction", direction, DIRECTIONS)
        if head == "all":
            return self._trace_heads(block, site, window, direction, progress, cancel, position)
        if isinstance(head, str):
            raise ValueError(f"head: expected a whole number, 'all' or None, got {head!r}")
        if position is not None:
            raise ValueError(f"position: only with head='all', got {position!r} with head={head!r}")
        block, site = named("block", block, BLOCKS), named("site", site, SITES)
        self._check_block(block)
        self._begin(cancel, with_states=block == "image_encoder")
        runs = [cell.states for cell in self.cells(block, site, head, window)]
        samples = self._fill(len(runs), lambda check: self._patched(runs, direction, check), progress, cancel)
        shape = len(self.model.blocks[block].layers), len(self.tokens(block))
        trace = self.as_trace(samples.reshape(-1, *shape), block, site, head, window, direction)
        return dataclasses.replace(trace, scene=self.scene)

    def _trace_heads(
        self,
        block: str,
        site: str,
        window: int,
        direction: str,
        progress: bool | Progress | None,
        cancel: Callable[[], bool] | Any,
        position: int | str | None,
    ) -> HeadTrace:
        block, site = named("block", block, BLOCKS), named("site", site, SITES)
        self._check_block(block)
        self._begin(cancel, with_states=block == "image_encoder")
        heads, tokens = self.model.blocks[block].heads, self.tokens(block)
        if position is not None:
            position = position_of("position", position, tokens, block)
        each = [
            [cell for cell in self.cells(block, site, head, window) if position in (None, cell.position)]
            for head in range(heads)
        ]
        runs = [cell.states for cells in each for cell in cells]
        samples = self._fill(len(runs), lambda check: self._patched(runs, direction, check), progress, cancel)
        layers = len(self.model.blocks[block].layers)
        shaped = samples.reshape(samples.shape[0], heads, layers, -1).swapaxes(1, 2)
        return self.as_head_trace(shaped, block, site, window, direction, position)

    @at_once
    def trace_image_tokens(
        self,
        patch: int = 1,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> ImageTokenTrace:
        """Which parts of the picture carry the answer: restore, or damage, one square of image tokens at a time.

        The question encoder looks at the corrupted image in which just these tokens have their clean embeddings
        (``"restore"``), or at the clean image in which just these have their corrupted ones (``"disrupt"``). The keys
        and values of either are projected already. Each square costs a few cells of a grid. Ctrl-C ends it as `cancel`
        does: what is computed by then is returned, with a warning.

        Args:
            patch: side of the squares, in image patches.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (squares done, squares in all); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what is computed by then is
                returned, with NaN in the other squares.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were there.
        """
        rows, columns = self.model.grid
        patch = whole_number("patch", patch, 1, max(rows, columns))
        direction = named("direction", direction, DIRECTIONS)
        self._check_damages_image()
        shape, groups = squares(rows, columns, patch)
        self._begin(cancel)
        samples = self._fill(len(groups), lambda check: self._swapped(groups, direction, check), progress, cancel)
        return self.as_image_token_trace(samples.reshape(-1, *shape), patch, direction)

    @at_once
    def knockout(
        self,
        block: TextBlockName,
        layers: int | Iterable[int] | None,
        queries: Positions,
        keys: Positions,
        site: AttentionName = "cross_attention",
        head: int | None = None,
    ) -> Knockout:
        """Cut attention edges in the clean run: what the queries no longer see of the keys (Geva et al. 2023).

        Costs a text pass.

        Args:
            block: ``"question_encoder"`` or ``"answer_decoder"``.
            layers: one, several, or None for all.
            queries: positions that look: one, several, or None for all; by number or as words.
            keys: what they no longer see. ``cross_attention`` of the question encoder: image tokens (0 is the class
                token), or a boolean (rows, columns) region of patches; of the answer decoder: question tokens.
                ``self_attention``: positions of the block itself. These by number or as words. None for all.
            site: ``"cross_attention"`` (question to image, answer to question) or ``"self_attention"`` (token to
                token).
            head: one head alone.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        return knock_out(self, block, layers, queries, keys, site, head)

    @at_once
    def trace_knockout(
        self,
        block: TextBlockName,
        queries: Positions = None,
        keys: Positions = None,
        site: AttentionName = "cross_attention",
        head: int | None = None,
        window: int = 1,
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> KnockoutTrace:
        """Cut the same attention edges in a window of layers around each layer in turn: a text pass for each layer.

        Ctrl-C ends it as `cancel` does: what is computed by then is returned, with a warning.

        Args:
            block: see `knockout`.
            queries: see `knockout`.
            keys: see `knockout`.
            site: see `knockout`.
            head: see `knockout`.
            window: layers cut together around each layer.
            progress: True for a bar, or a callable on (layers done, layers in all); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what is computed by then is
                returned, with NaN in the other layers.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean run was there.
        """
        return knock_out_by_layer(self, block, queries, keys, site, head, window, progress, cancel)

    # --- readings ----------------------------------------------------------------------------------------------------

    @at_once
    def attention(self, block: TextBlockName, layer: int, head: int | None = None) -> readouts.Attention:
        """Where tokens look: question to image, or answer to question, in the clean and the corrupted runs.

        Args:
            block: ``"question_encoder"`` (keys are image tokens) or ``"answer_decoder"`` (keys are question tokens).
            layer: 0-based.
            head: one head; None for the mean over heads.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        return readouts.attention(self, block, layer, head)

    @at_once
    def logit_lens(self) -> readouts.LogitLens:
        """What the model's own head reads from the answer decoder's output at every layer and position."""
        return readouts.logit_lens(self)

    @at_once
    def corruption_strength(self) -> NDArray[np.float64]:
        """How strongly each patch of the picture is hit, (rows, columns).

        The length of what is added to the patch's embedding divided by the length of the clean embedding, as a root
        mean square over noise samples; 0 outside of a region. At the place where the corruption sits.

        Raises:
            ValueError: where the corruption does not damage the image.
        """
        self._check_damages_image()
        with Computing(self.model):
            return self.bases.image.damage(self.corruption)[1:].reshape(self.model.grid)

    @at_once
    def noise_curve(
        self,
        factors: Sequence[float] | NDArray[Any] | None = None,
        states: State | Iterable[State] = (),
        cancel: Callable[[], bool] | Any = None,
        progress: bool | Progress | None = None,
    ) -> NoiseCurve:
        """Mean score over the noise factor, of the corrupted run and of patched ones.

        Costs for each factor a text pass over all samples, and a cell of a grid for each state.

        Args:
            factors: noise factors; default 21 from 0 to 10.
            states: states to restore, each in a run of its own; their positions by number or as words.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.
            progress: True for a bar, or a callable on (factors done, factors in all); default and False as in `trace`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where the corruption
                has no factor.
            Cancelled: within a layer of `cancel` saying so.
        """
        if not isinstance(self.corruption, GaussianNoise):
            raise ValueError(f"corruption: a noise curve needs GaussianNoise, got {type(self.corruption).__name__}")
        given = listed_states(states)
        self._check_blocks(given)
        values = np.linspace(0, 10, 21) if factors is None else _as_factors(factors)
        with self.preparing(cancel):
            clean = self.clean.score  # computed here, the tracers below share it
        chosen = as_states(self.located(given)) if given else ()
        corrupted, patched = [], []
        report, close = as_progress(progress, values.size, "factor")
        try:
            for done, factor in enumerate(values, 1):
                tracer = self.with_corruption(factor=float(factor))
                tracer.runner = self.runner
                with tracer.preparing(cancel):
                    corrupted.append(tracer._corrupted_scores)
                runs = [(state,) for state in chosen]
                found = [scores for _, scores, _ in tracer.patched_scores(runs, "restore", cancel)]
                patched.append(np.concatenate(found, axis=1) if found else np.empty((corrupted[-1].size, 0)))
                report(done, values.size)
        finally:
            close()
        return NoiseCurve(
            factors=values,
            clean=clean,
            corrupted=np.stack(corrupted, axis=1),
            patched=np.stack(patched, axis=1),
            states=chosen,
        )

    @at_once
    def record(
        self,
        path: str | os.PathLike[str],
        blocks: BlockName | Iterable[BlockName] | None = None,
        sites: SiteName | Iterable[SiteName] | None = None,
        factors: Iterable[float] | None = None,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> None:
        """Trace many grids into one file, which `TraceWidget.from_trace` shows without a model.

        Costs a grid for each block, site and factor, and a noise curve. Ctrl-C, as `cancel`, writes nothing.

        Args:
            path: the file; it is written when all is computed.
            blocks: default all that can be traced under the corruption.
            sites: default all that a block has.
            factors: noise factors, each with all of these grids; default the corruption's own.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (grids done, grids in all); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            OSError: if the file cannot be written.
            Cancelled: if `cancel` said so; nothing is written then.
        """
        from blip_trace_widget import recording

        recording.record(self, path, blocks, sites, factors, direction, progress, cancel)

    # --- the pieces of `trace`, for callers that fill a grid themselves ----------------------------------------------

    def cells(self, block: str, site: str = "block_output", head: int | None = None, window: int = 1) -> list[Cell]:
        """The cells of a grid, layer by layer, each with the states that it patches."""
        one_of("block", block, BLOCKS)
        self._check_block(block)
        one_of(f"site (of {block})", one_of("site", site, SITES), BLOCKS[block].sites)
        layers, positions = len(self.model.blocks[block].layers), len(self.tokens(block))
        window = whole_number("window", window, 1, layers)
        if head is not None:
            one_of("site (of a single head)", site, BLOCKS[block].heads)
            head = whole_number("head", head, 0, self.model.blocks[block].heads - 1)
        return [
            Cell(layer, position, windowed(State(block, layer, position, site, head), window, layers))  # type: ignore[arg-type]
            for layer in range(layers)
            for position in range(positions)
        ]

    def patched_scores(
        self,
        runs: Sequence[Sequence[State]],
        direction: str = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Iterator[tuple[slice, NDArray[np.float64], float]]:
        """Scores of many patched runs, chunk by chunk.

        Yields:
            which of the runs, and their scores (samples, runs); after a step that completes none, an empty slice. Then
            the share of all the work that is done, from 0 to 1.

        Raises:
            TypeError, ValueError: at once, naming the argument, what was given and what is accepted.
            Cancelled: within a layer of `cancel` saying so.
            ModelChangedError: if somebody changed the model since the first chunk.
        """
        direction = named("direction", direction, DIRECTIONS)
        check = as_check(cancel)
        every = {state for states in runs for state in states}
        self._check_blocks(every)
        found = dict(zip(every, self.located(every), strict=True))
        located = [[found[state] for state in states] for states in runs]
        return self._complete_runs(self._patched(located, direction, check), len(runs), cancel)

    def image_token_scores(
        self,
        groups: Sequence[Sequence[int]],
        direction: str = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Iterator[tuple[slice, NDArray[np.float64], float]]:
        """Scores of many runs that each see some image tokens of the other run; yields as `patched_scores` does.

        Raises:
            TypeError, ValueError: at once, naming the argument, what was given and what is accepted.
            Cancelled: within a layer of `cancel` saying so.
        """
        direction = named("direction", direction, DIRECTIONS)
        self._check_damages_image()
        return self._complete_runs(self._swapped(groups, direction, as_check(cancel)), len(groups), cancel)

    def as_image_token_trace(self, samples: NDArray[np.float64], patch: int, direction: str) -> ImageTokenTrace:
        """The scores of squares of image tokens, (samples, rows, columns), with all that they mean."""
        return ImageTokenTrace(**self._grid(samples, direction=direction, patch=patch), patch=patch)

    def _complete_runs(
        self, chunks: Chunks, count: int, cancel: Callable[[], bool] | Any
    ) -> Iterator[tuple[slice, NDArray[np.float64], float]]:
        done = 0
        scores = np.full((self.corruption.samples, count), np.nan)
        complete = slice(0, 0)
        version = None
        while True:
            with self.preparing(cancel):  # not across the yield: the consumer may take its time, on any thread
                if version not in (None, self.model.version):
                    raise ModelChangedError
                version = self.model.version
                chunk = next(chunks, None)
                if chunk is None:
                    return
                part, which, logits = chunk
                scores[part, which] = self.score_logits(logits)
            done += (part.stop - part.start) * (which.stop - which.start)
            last = part.stop == self.corruption.samples  # of the samples of a run, in whatever groups and chunks
            complete = which if last else slice(complete.stop, complete.stop)
            yield complete, scores[:, complete], done / scores.size

    def whole_trace(
        self, block: str, site: str, direction: str = "restore", cancel: Callable[[], bool] | Any = None
    ) -> Trace:
        """A grid as `trace` gives it, without its scene; all of it, or what stops it is raised.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: within a layer of `cancel` saying so.
        """
        direction = named("direction", direction, DIRECTIONS)
        runs = [cell.states for cell in self.cells(block, site)]
        scores = np.concatenate([found for _, found, _ in self.patched_scores(runs, direction, cancel)], axis=1)
        shape = len(self.model.blocks[block].layers), len(self.tokens(block))
        return self.as_trace(scores.reshape(-1, *shape), block, site, None, 1, direction)

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
        return Trace(
            **self._grid(samples, block=block, site=site, head=head, window=window, direction=direction),
            tokens=tuple(self.tokens(block)),
        )

    def as_head_trace(
        self,
        samples: NDArray[np.float64],
        block: str,
        site: str,
        window: int,
        direction: str,
        position: int | None = None,
    ) -> HeadTrace:
        """The scores of a block's heads, (samples, layers, heads, positions), with all that they mean."""
        asked = {"block": block, "site": site, "head": "all", "position": position}
        tokens = self.tokens(block)
        return HeadTrace(
            **self._grid(samples, **asked, window=window, direction=direction),
            tokens=tuple(tokens if position is None else [tokens[position]]),
        )

    def _grid(self, samples: NDArray[np.float64], **asked: Any) -> dict[str, Any]:
        """The fields of an `EffectGrid`."""
        return {
            "samples": samples,
            "clean": self.clean.score,
            "corrupted": self._corrupted_scores,
            "settings": self.question_settings() | {"corruption": self.corruption.settings(), **asked},
        }

    # --- for the modules that intervene and read ---------------------------------------------------------------------

    def question_settings(self) -> dict[str, Any]:
        """What was asked, without how it was intervened, as plain JSON."""
        return {
            "model": self.model.name,
            **self.model.provenance,
            "image": self.bases.image.sha256,
            "question": self.question,
            "unknown_words": self.unknown_words,
            "answer": self.answer,
            "answer_tokens": self.answer_tokens,
            "foil": self._given_foil,
            "metric": self.metric.name,
        }

    def score_logits(self, logits: Tensor) -> NDArray[np.float64]:
        """Scores (...) of logits (..., answer positions, vocabulary)."""
        device = logits.device
        foil = None if self._foil_ids is None else torch.tensor(self._foil_ids, device=device)
        target = Target(torch.tensor(self._answer_ids, device=device), foil, self.bases.clean.logits[0])
        scores = self.metric.score(logits, target)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:-2]:
            raise ValueError(
                f"metric: expected a tensor of shape {tuple(logits.shape[:-2])} for logits of shape "
                f"{tuple(logits.shape)}, got {getattr(scores, 'shape', type(scores).__name__)}"
            )
        return on_cpu(scores)

    def top_words(self, distribution: NDArray[np.float32]) -> list[tuple[str, float]]:
        """The likeliest words of a distribution, (vocabulary,), with their probability, best first."""
        count = min(TOP_WORDS, distribution.size)
        best = np.argsort(-distribution, kind="stable")[:count]
        words = self.model.tokens([int(index) for index in best])
        return [(word, float(distribution[index])) for word, index in zip(words, best, strict=True)]

    # --- helpers -----------------------------------------------------------------------------------------------------

    @property
    def _answer_ids(self) -> list[int]:
        ids = self.bases.answer_ids
        self._check_foil(ids)
        return ids

    @contextmanager
    def preparing(self, cancel: Callable[[], bool] | Any = None) -> Iterator[None]:
        """Under the model's lock; what is computed for the first time gives up when `cancel` says so."""
        check = as_check(cancel)
        with Computing(self.model):
            before, self.bases.check = self.bases.check, check
            try:
                yield
            finally:
                self.bases.check = before

    def _begin(self, cancel: Callable[[], bool] | Any, *, with_states: bool = False) -> None:
        """The runs that everything is held against; `Cancelled` before they are there leaves nothing to return."""
        with self.preparing(cancel):
            if with_states:
                self.bases.prepare_states()
            _ = self.total_effect

    def _patched(self, runs: Sequence[Sequence[State]], direction: str, check: Check) -> Chunks:
        """Patched runs: which samples, which runs, and their logits (samples, runs, answer positions, vocabulary)."""
        return self._in_groups(
            lambda base, source: self.runner.patched(base, source, runs, check),
            direction,
            with_states=_needs_states(runs),
        )

    def _swapped(self, groups: Sequence[Sequence[int]], direction: str, check: Check) -> Chunks:
        """Runs that see some image tokens of the other run; as `_patched`."""
        return self._in_groups(lambda base, source: self.runner.swapped(base, source, groups, check), direction)

    def _in_groups(
        self, work: Callable[[BaseRun, BaseRun], Chunks], direction: str, *, with_states: bool = False
    ) -> Chunks:
        """Do the work for each group of samples; samples count from the first of all.

        Args:
            work: given the run that the new runs equal elsewhere, and the one that something is taken from.
            direction: which of the clean and the corrupted run is which.
            with_states: with the ViT's states.
        """
        clean = self.bases.clean_for(with_states=with_states)
        for group, corrupted in self.bases.corrupted(with_states=with_states):
            base, source = (corrupted, clean) if direction == "restore" else (clean, corrupted)
            for some, which, logits in work(base, source):
                yield slice(group.start + some.start, group.start + some.stop), which, logits
            del base, source, corrupted  # before the next group is made

    def _fill(
        self,
        count: int,
        work: Callable[[Check], Chunks],
        progress: bool | Progress | None,
        cancel: Callable[[], bool] | Any,
    ) -> NDArray[np.float64]:
        """Scores of so many runs, (samples, runs); NaN where `cancel` or Ctrl-C said stop before."""
        report, close = as_progress(progress, count)
        samples = np.full((self.corruption.samples, count), np.nan)
        done = 0
        told = lambda: f"{np.isfinite(samples).all(axis=0).sum()} of {count} cells"  # noqa: E731
        with ended_early(told, close), self.preparing(cancel):
            for part, which, logits in work(as_check(cancel)):
                samples[part, which] = self.score_logits(logits)
                done += (part.stop - part.start) * (which.stop - which.start)
                report(done // self.corruption.samples, count)
        samples[:, np.isnan(samples).any(axis=0)] = np.nan  # a run of which samples are missing is not computed
        return samples

    def _check_block(self, block: str) -> None:
        if block == "image_encoder" and self.corruption.at != "patch_embeddings":
            raise ValueError(
                f"block: the states of 'image_encoder' are the same in the clean and the corrupted run, because "
                f"{type(self.corruption).__name__} damages what the image encoder puts out, or nothing of the image; "
                f"to trace them use GaussianNoise(at='patch_embeddings'), which damages what goes in"
            )

    def _check_damages_image(self) -> None:
        if not self.corruption.damages_image:
            raise ValueError(
                f"corruption: image tokens can be patched under one that damages the image, such as GaussianNoise; "
                f"{type(self.corruption).__name__} leaves it as it is"
            )

    def _check_blocks(self, states: Iterable[State]) -> None:
        for block in {state.block for state in states}:
            self._check_block(block)

    def located(self, states: Iterable[State]) -> list[State]:
        """These states with words as positions turned into numbers.

        Raises:
            ValueError: if the model or this question has no such state, or has the word several times.
        """
        every = list(states)
        tokens = {block: self.tokens(block) for block in {state.block for state in every}}
        found = []
        for state in every:
            block, names = self.model.blocks[state.block], tokens[state.block]
            whole_number("layer", state.layer, 0, len(block.layers) - 1)
            position = position_of("position", state.position, names, state.block)
            if state.head is not None:
                whole_number("head", state.head, 0, block.heads - 1)
            found.append(state if position == state.position else dataclasses.replace(state, position=position))
        return found

    def _check_foil(self, answer: list[int]) -> None:
        if self._foil_ids is not None and len(self._foil_ids) != len(answer):
            raise ValueError(
                f"foil: expected as many tokens as the answer {self.model.tokens(answer)}, "
                f"got {self.model.tokens(self._foil_ids)}"
            )

    def _as_run(
        self, runs: Iterable[tuple[BaseRun, list[list[int]]]], *, longest: int | None = None, answer: str | None = None
    ) -> Run:
        """Groups of runs with their greedy answers, as one result."""
        texts: list[str] = []
        scores: list[NDArray[np.float64]] = []
        distribution: Any = 0.0
        for run, answers in runs:
            texts += [
                self.model.text(ids) + (" …" if longest is not None and len(ids) >= longest else "") for ids in answers
            ]
            scores.append(self.score_logits(run.logits))
            distribution = distribution + _distribution_sum(run.logits)
        every = np.concatenate(scores)
        mean = (distribution / every.size).astype(np.float32)
        return Run(
            score=float(every.mean()),
            scores=every,
            answer=Counter(texts).most_common(1)[0][0] if answer is None else answer,
            top=self.top_words(mean),
            answers=tuple(texts),
            distribution=mean,
        )


class Cell:
    """One cell of a grid and the states that it patches."""

    __slots__ = ("layer", "position", "states")

    def __init__(self, layer: int, position: int, states: tuple[State, ...]) -> None:
        self.layer, self.position, self.states = layer, position, states

    @property
    def index(self) -> tuple[int, int]:
        """(layer, position)."""
        return self.layer, self.position


def _needs_states(runs: Iterable[Iterable[State]]) -> bool:
    """Whether any run patches the image encoder."""
    return any(state.block == "image_encoder" for states in runs for state in states)


def _distribution_sum(logits: Tensor) -> NDArray[np.float64]:
    """Distributions at the first answer position, summed over samples, (S, positions, vocabulary) -> (vocabulary,)."""
    return np.asarray(on_cpu(logits[:, 0].softmax(-1)).sum(0))


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
