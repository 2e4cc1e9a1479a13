"""A question with all that is read of its runs without intervening.

For: the second third of a `Tracer`, between what was asked (`blip_trace_widget.tracing.question_view`) and the
interventions (`blip_trace_widget.tracing.tracer`).
Cost: see each method.
Ends: at results; `blip_trace_widget.tracing.readings` computes them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.computing import at_once
from blip_trace_widget.states import AttentionName, BlockName
from blip_trace_widget.tracing import readings
from blip_trace_widget.tracing.question_view import QuestionView


class ReadingsView(QuestionView):
    """A question about a picture whose runs can be read."""

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
