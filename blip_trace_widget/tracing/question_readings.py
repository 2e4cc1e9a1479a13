"""What is read of a question's runs without patching them.

For: the half of a `Tracer` that only looks: attention, the logit lens, how strong a corruption is, noise curves, and
numbers computed again. Every method hands on to the module that computes it.
Ends: at results. Interventions are `blip_trace_widget.tracing.tracer`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.computing import at_once
from blip_trace_widget.model.progress import Progress
from blip_trace_widget.results.noise_curve import NoiseCurve
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.results.verification import Verification
from blip_trace_widget.states import AttentionName, BlockName, State
from blip_trace_widget.tracing import noise_curve, readings, verification
from blip_trace_widget.tracing.question_view import QuestionView

if TYPE_CHECKING:
    import torch


class QuestionReadings(QuestionView):
    """A question about a picture, and what can be read of its runs."""

    @at_once
    def attention(
        self,
        block: BlockName,
        layer: int,
        head: int | None = None,
        site: AttentionName | None = None,
        minus: Literal["heads"] | None = None,
    ) -> readings.Attention:
        """Attention weights, in the clean and the corrupted runs.

        Args:
            block: ``"image_encoder"``, ``"question_encoder"`` or ``"answer_decoder"``.
            layer: 0-based.
            head: one head; None for the mean over heads.
            site: ``"cross_attention"``, question to image or answer to question; or ``"self_attention"``, between the
                tokens of the block itself. Default the former; of the image encoder the latter, the only one it has.
            minus: ``"heads"``: what distinguishes the head, its weights minus the mean over the layer's heads.

        Returns:
            `Attention`: clean (queries, keys), corrupted (samples, queries, keys).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return readings.attention(self.case, block, layer, head, site, minus)

    @at_once
    def logit_lens(self) -> readings.LogitLens:
        """What the model's own head reads from the answer decoder's output at every layer and position.

        Returns:
            `LogitLens`: probabilities (layers, positions, vocabulary).

        Raises:
            ValueError: if the model's own answer is empty.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return readings.logit_lens(self.case)

    @at_once
    def corruption_strength(self) -> NDArray[np.float64]:
        """How strongly each patch of the picture is corrupted, (rows, columns).

        The norm of what is added to the patch's embedding divided by the norm of the clean embedding, as a root mean
        square over noise samples; 0 outside of the region. Measured at the embeddings that the corruption changes.

        Raises:
            ValueError: if the corruption does not damage the image.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        self.case.check_damages_image()
        return self.case.image.damage(self.corruption)[1:].reshape(self.model.grid)

    @at_once
    def noise_curve(
        self,
        factors: Sequence[float] | NDArray[Any] | None = None,
        states: State | Iterable[State] = (),
        cancel: Callable[[], bool] | Any = None,
        progress: bool | Progress | None = None,
    ) -> NoiseCurve:
        """Mean score against the noise factor, of the corrupted run and of patched ones.

        Costs for each factor a text pass over all samples, and as much as a cell of a grid for each state.

        Args:
            factors: noise factors; default 21 from 0 to 10.
            states: states to restore, each in its own run; their positions by number or as words.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.
            progress: True for a bar, or a callable on (factors done, factors in total); default and False as in
                `trace`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the corruption has
                no factor.
            Cancelled: within a layer of `cancel` saying so.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return noise_curve.noise_curve(self.case, factors, states, cancel, progress)

    @at_once
    def verify(
        self,
        cells: int = 8,
        dtype: str | torch.dtype | None = "float64",
        seed: int = 0,
        trace: Trace | None = None,
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> Verification:
        """Compute random runs again by plain forward hooks on the untouched model, and hold the scores against them.

        The clean run, a corrupted run and random patched runs, each of one noise sample, by whole forwards without any
        shortcut; in the model's own type and in double precision, so that rounding is told from error. Of a run that
        differs by more, random rounding says what rounding makes of it (Parker 1997, Monte Carlo arithmetic). The
        outcome is kept in the `settings` of this tracer's later results, as ``"verified"``. Costs two forwards a run,
        the ViT included; meanwhile a copy of the model in the other type is kept.

        Args:
            cells: how many patched runs.
            dtype: a type to compare with, ``"float64"``; None: only with plain hooks in the model's own.
            seed: what chooses the runs.
            trace: a trace of this tracer: random cells of it, and it gets ``settings["verified"]``. Default: random
                states of any block, site, head and direction.
            progress: True for a bar, or a callable on (runs done, runs in all); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also if the model cannot
                be copied in that type.
            Cancelled: if `cancel` said so.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return verification.verify(self.case, cells, dtype, seed, trace, progress, cancel)
