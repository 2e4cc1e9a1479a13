"""Tracer: the public interface for causal tracing of one image and question.

For: intervening. Every method delegates to the module that computes it: `blip_trace_widget.tracing.patching`, `grid`,
`knockout`, `ablation`, `recording`. What was asked, and the clean and the corrupted run, come from
`blip_trace_widget.tracing.question_view`, what is read of them from `blip_trace_widget.tracing.question_readings`, what
compares several corruptions from `blip_trace_widget.tracing.several_corruptions`, paths from
`blip_trace_widget.tracing.path_patching`, and what finds sets of states and ways between tokens from
`blip_trace_widget.tracing.mechanisms`.
Cost: see each method.
Ends: at results. All methods may be called from any thread; the model's lock lets in one at a time.

Source: Palit et al. 2023 (arXiv 2308.14179), after Meng et al. 2022 (arXiv 2202.05262).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

from blip_trace_widget.checks import brief
from blip_trace_widget.choices import AblationName, MetricName
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.computing import at_once
from blip_trace_widget.model.model_of import as_model
from blip_trace_widget.model.progress import Progress
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import AttentionName, BlockName, Direction, HeadSiteName, SiteName, State, TextBlockName
from blip_trace_widget.tracing import ablation, grid, knockout, patching, traces
from blip_trace_widget.tracing.ablation import Ablation
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.holding import HoldLike
from blip_trace_widget.tracing.image import ImageTokens
from blip_trace_widget.tracing.knockout import Knockout, KnockoutTrace
from blip_trace_widget.tracing.mechanisms import Mechanisms
from blip_trace_widget.tracing.path_patching import PathPatching
from blip_trace_widget.tracing.positions import Positions
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.question_readings import QuestionReadings
from blip_trace_widget.tracing.several_corruptions import SeveralCorruptions


class Tracer(QuestionReadings, SeveralCorruptions, PathPatching, Mechanisms):
    """Causal tracing of one image and question.

    Args:
        model: a `BlipVqa`, a hub id or a folder.
        image: a path, a PIL image, an array or tensor, the bytes of a picture file, or anything else that
            `blip_trace_widget.pictures` reads; transparent pixels are composited over white, and of several frames the
            first is used.
        question: the question.
        answer: the answer to score; default the model's own greedy answer.
        foil: another answer with the same number of tokens, for ``metric="logit_difference"``.
        corruption: default ``GaussianNoise(factor=5.0, kind="multiplicative", samples=10, seed=0)``.
        metric: ``"probability"``, ``"log_probability"``, ``"logit_difference"``, ``"kl_divergence"`` (nats), or a
            callable (logits (..., answer tokens, vocabulary), answer tokens) -> scores (...).

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
        OSError: if the picture or the model cannot be read.
    """

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
        super().__init__(
            Question(ImageTokens(as_model(model), as_image(image)), question, answer, foil, corruption, metric)
        )

    def __repr__(self) -> str:
        return f"Tracer({self.question!r}, {self.corruption!r}, metric={self.metric.name!r})"

    # --- interventions -----------------------------------------------------------------------------------------------

    @at_once
    def patch(
        self,
        states: State | Iterable[State],
        direction: Direction = "restore",
        cancel: Callable[[], bool] | Any = None,
        hold: HoldLike = None,
    ) -> Effect:
        """Patch one state, or several of any layers and blocks in one run; costs as much as a cell of a grid.

        Args:
            states: what to patch; their positions by number or as words, ``State("question_encoder", 5, "circle")``.
            direction: ``"restore"``: a corrupted run in which the states take their clean values; ``"disrupt"``: a
                clean run in which they take their corrupted values.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.
            hold: states that keep their value of the run that is patched (corrupted for ``"restore"``, clean for
                ``"disrupt"``), whatever is patched below them: one or several, of any blocks. Or a word, or several:
                ``"mlp"``, ``"self_attention_out"``, ``"cross_attention_out"``: that site in every layer above the
                lowest one patched at a position, there (ROME's severed paths), each block by itself; with
                ``"everywhere"`` beside it, ``("mlp", "everywhere")``, above the block's lowest one at all positions. Of
                what a word means, what is patched is patched. Such runs may be none that the model ever comes to.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where a state is both
                patched and held, and where no patched block has a site that is to be held.
            Cancelled: if `cancel` said so.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Meng et al. 2022 (arXiv 2202.05262).
        """
        return patching.patch(self.case, states, direction, cancel, hold)

    @at_once
    def patch_image_tokens(
        self,
        tokens: Positions,
        direction: Direction = "restore",
        cancel: Callable[[], bool] | Any = None,
    ) -> Effect:
        """Restore, or corrupt, some of the image tokens that the question encoder attends to, all in one run.

        Costs as much as a few cells of a grid: the question encoder runs from its first layer.

        Args:
            tokens: their positions (0 is the class token; patches follow row by row), or a boolean (rows, columns)
                region of patches. None: all.
            direction: ``"restore"``: a corrupted run that sees these tokens' clean embeddings; ``"disrupt"``: a clean
                run that sees their corrupted ones.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return patching.patch_image_tokens(self.case, tokens, direction, cancel)

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
        patch: int = ...,
        hold: HoldLike = ...,
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
        hold: HoldLike = ...,
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
        patch: int = 1,
        hold: HoldLike = None,
    ) -> Trace | HeadTrace:
        """Patch every state of a block, one at a time: one grid.

        ``head="all"`` computes a grid for each head of the block (BLIP base: twelve); with `position`, only one column
        of each. Ctrl-C ends it as `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            block: ``"image_encoder"`` (only under a corruption of the patch embeddings), ``"question_encoder"`` or
                ``"answer_decoder"``.
            site: ``"block_output"``; what a part of the layer adds, ``"self_attention_out"``,
                ``"cross_attention_out"`` or ``"mlp"``; ``"block_input"``; or an attention with its residual, as
                published, ``"self_attention"`` or ``"cross_attention"``. Some grids equal one another by construction,
                see `Trace.same_as`.
            head: one head of an attention instead of all together; or ``"all"`` for a map of layers x heads.
            window: layers patched together around each layer.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (cells done, cells in total); a cell counts by the share of its
                samples that are done. Default: a bar once it takes more than two seconds, in a notebook or a terminal;
                False: none.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; the cells whose samples have
                all been computed by then are returned, with NaN in the others.
            position: with ``head="all"``: only this position, by number or as a word, instead of the sum over all.
            patch: of the image encoder: side of the squares of image tokens that are patched together, each a column;
                the class token has a column of its own. BLIP base has 577 columns of single tokens, and 37 at 4.
            hold: as in `patch`, above each cell's own states; a state that is held by itself stays so in its own cell.
                See `Trace.without_effect`.

        Returns:
            `Trace`, (layers, positions or squares); with ``head="all"`` `HeadTrace`, (layers, heads).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        if head == "all":
            if patch != 1:
                raise ValueError(f"patch: not with head='all', got {brief(patch)}")
            return traces.trace_heads(self.case, block, site, window, direction, position, progress, cancel, hold)
        if isinstance(head, str):
            raise ValueError(f"head: expected a whole number, 'all' or None, got {brief(head)}")
        if position is not None:
            raise ValueError(f"position: only with head='all', got {brief(position)} with head={brief(head)}")
        trace = traces.trace(self.case, block, site, head, window, direction, progress, cancel, patch, hold)
        return dataclasses.replace(trace, snapshot=self.snapshot)

    @at_once
    def trace_heads(
        self,
        block: BlockName = "question_encoder",
        site: HeadSiteName = "self_attention",
        window: int = 1,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
        position: int | str | None = None,
        hold: HoldLike = None,
    ) -> HeadTrace:
        """Patch every head of every layer, one at a time: a map of layers x heads.

        Costs a grid for each head of the block (BLIP base: twelve); with `position`, only one column of each. Ctrl-C
        ends it as `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            block: see `trace`.
            site: ``"self_attention"`` or ``"cross_attention"``; their ``_out`` sites have the same heads.
            window: see `trace`.
            direction: see `trace`.
            progress: see `trace`.
            cancel: see `trace`.
            position: only this position, by number or as a word, instead of the sum over all.
            hold: see `trace`.

        Returns:
            `HeadTrace`, (layers, heads).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return traces.trace_heads(self.case, block, site, window, direction, position, progress, cancel, hold)

    @at_once
    def trace_image_tokens(
        self,
        patch: int = 1,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> ImageTokenTrace:
        """Which parts of the picture carry the answer: restore, or corrupt, one square of image tokens at a time.

        The question encoder sees the corrupted image in which only these tokens have their clean embeddings
        (``"restore"``), or the clean image in which only these have their corrupted ones (``"disrupt"``). The keys and
        values of both are already projected. Each square costs as much as a few cells of a grid. Ctrl-C ends it as
        `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            patch: side of the squares, in image patches.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (squares done, squares in total); default and False as in
                `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what has been computed by then
                is returned, with NaN in the other squares.

        Returns:
            `ImageTokenTrace`, (rows, columns) of squares.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return grid.trace_image_tokens(self.case, patch, direction, progress, cancel)

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
        """Cut attention edges in the clean run: the queries no longer attend to the keys.

        Costs a text pass.

        Args:
            block: ``"question_encoder"`` or ``"answer_decoder"``.
            layers: one, several, or None for all.
            queries: the attending positions: one, several, or None for all; by number or as words.
            keys: what they no longer attend to; None for all. ``cross_attention`` of the question encoder: image tokens
                (0 is the class token), or a boolean (rows, columns) region of patches; of the answer decoder: question
                tokens, by number or as words. ``self_attention``: positions of the block itself, by number or as words.
            site: ``"cross_attention"`` (question to image, answer to question) or ``"self_attention"`` (token to
                token).
            head: only one head; None for all.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Geva et al. 2023 (arXiv 2304.14767).
        """
        return knockout.knock_out(self.case, block, layers, queries, keys, site, head)

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

        Ctrl-C ends it as `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            block: see `knockout`.
            queries: see `knockout`.
            keys: see `knockout`.
            site: see `knockout`.
            head: see `knockout`.
            window: layers cut together around each layer.
            progress: True for a bar, or a callable on (layers done, layers in total); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what has been computed by then
                is returned, with NaN in the other layers.

        Returns:
            `KnockoutTrace`, (layers,).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean run was computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return knockout.knock_out_by_layer(self.case, block, queries, keys, site, head, window, progress, cancel)

    @at_once
    def ablate(
        self,
        states: State | Iterable[State],
        to: AblationName | float = "zero",
        cancel: Callable[[], bool] | Any = None,
    ) -> Ablation:
        """Set states or heads of the clean run to zero or to their mean, or rescale them, all in one run.

        Of any blocks and layers together; the image encoder's too, whatever the corruption is, which costs a pass of
        the ViT. Else a text pass.

        Args:
            states: what to ablate; their positions by number or as words, ``State("question_encoder", 5, "circle")``.
            to: ``"zero"``; ``"mean"``, the mean over the block's positions of that site, or head, in the clean run; or
                a factor of 0 or more, by which what the state is in that run is multiplied, all that was ablated below
                it included.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where a block has one
                position alone, which is its own mean, and where the model's numbers do not reach so far.
            Cancelled: if `cancel` said so.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return ablation.ablate(self.case, states, to, cancel)

    # --- files --------------------------------------------------------------------------------------------------------

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

        Costs a grid for each block, site and factor, and a noise curve. Ctrl-C, like `cancel`, writes nothing.

        Args:
            path: the file; it is written once everything is computed.
            blocks: default all that can be traced under the corruption.
            sites: default all that a block has.
            factors: noise factors, each with all of these grids; default the corruption's own.
            direction: ``"restore"`` or ``"disrupt"``.
            progress: True for a bar, or a callable on (grids done, grids in total); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            OSError: if the file cannot be written.
            Cancelled: if `cancel` said so; then nothing is written.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        from blip_trace_widget.tracing.recording import record

        record(self, path, blocks, sites, factors, direction, progress, cancel)
