"""A question as users see it: what was asked, what the model answers, and the clean and the corrupted runs.

For: the read-only half of a `Tracer`. Everything is computed at its first use and kept; `with_corruption` and `replace`
share whatever stays valid, so that changing the noise neither embeds nor projects the image again.
Cost: one ViT pass for an image; one text pass for the clean run; for a noise factor one text pass over all samples
without projections.
Ends: at runs. `blip_trace_widget.tracing.tracer` adds interventions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Check, as_check
from blip_trace_widget.results.run import Run
from blip_trace_widget.results.snapshot import Snapshot
from blip_trace_widget.results.statistics import TotalEffect
from blip_trace_widget.states import BlockName
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.lazy import lazy
from blip_trace_widget.tracing.metrics import Metric
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.snapshot import snapshot_of
from blip_trace_widget.unpicklable import Unpicklable

if TYPE_CHECKING:
    from typing_extensions import Self


class QuestionView(Unpicklable):
    """A question about a picture.

    Args:
        case: the `Question` behind it.

    Attributes:
        case: the `Question` behind it, for the package's own modules.
    """

    instead = "keep its results, which can be, or make another: Tracer(model, tracer.image, tracer.question)"

    def __init__(self, case: Question) -> None:
        self.case = case

    @classmethod
    def _of(cls, case: Question) -> Self:
        view = cls.__new__(cls)
        view.case = case
        return view

    # --- other questions ---------------------------------------------------------------------------------------------

    def with_corruption(self, corruption: Corruption | None = None, /, **changes: Any) -> Self:
        """A tracer of the same image and question with another corruption; shares whatever stays valid.

        Args:
            corruption: the new corruption; default the current one.
            changes: fields of it to change, for instance ``factor=3.0``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        return self._of(self.case.with_corruption(corruption, **changes))

    def replace(self, **changes: Any) -> Self:
        """A tracer with other arguments (the constructor's, except `model`); shares whatever stays valid.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        return self._of(self.case.replace(**changes))

    # --- what was asked ----------------------------------------------------------------------------------------------

    @property
    def model(self) -> BlipVqa:
        """The model."""
        return self.case.model

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self.case.image.image

    @property
    def question(self) -> str:
        """The question."""
        return self.case.text

    @property
    def foil(self) -> str | None:
        """The foil, if one was given."""
        return self.case.given["foil"]

    @property
    def given(self) -> dict[str, str | None]:
        """``"answer"`` and ``"foil"`` as they were given, else None."""
        return dict(self.case.given)

    @property
    def corruption(self) -> Corruption:
        """How the corrupted runs differ from the clean one."""
        return self.case.corruption

    @property
    def metric(self) -> Metric:
        """How a run is scored."""
        return self.case.metric

    # --- tokens and answers ------------------------------------------------------------------------------------------

    @property
    def question_tokens(self) -> list[str]:
        """Word pieces of the question as the model sees them, special tokens included."""
        return self.case.question_tokens

    @property
    def unknown_words(self) -> list[str]:
        """Words of the question that the model does not know: it answers without their meaning."""
        return self.case.unknown_words

    @property
    def answer(self) -> str:
        """The scored answer: the given one, or the model's own greedy answer.

        Raises:
            ValueError: if the model's own answer is empty, or its number of tokens differs from the foil's.
        """
        return self.case.answer

    @property
    def answer_tokens(self) -> list[str]:
        """Word pieces of the answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty, or its number of tokens differs from the foil's.
        """
        return self.case.answer_tokens

    def tokens(self, block: BlockName | str) -> list[str]:
        """Names of a block's positions.

        Word pieces; the decoder's are the start token and the answer's tokens but the last. For the image encoder,
        "[CLS]" and each patch's "row,column".

        Raises:
            TypeError, ValueError: if there is no such block; for the decoder, if the model's own answer is empty.
        """
        return self.case.tokens(block)

    # --- runs --------------------------------------------------------------------------------------------------------

    def prepare(self, cancel: Callable[[], bool] | Any = None) -> None:
        """Compute the clean and the corrupted run now, rather than when they are first asked for.

        Args:
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError: if `cancel` is neither.
            ValueError: if the model's own answer is empty, or the model can no longer be traced.
            Cancelled: within a layer of `cancel` saying so; what was computed by then is kept.
        """
        with Computing(self.model):
            self.case.prepare(as_check(cancel), answers=True)
            _ = self.model.provenance

    @property
    def clean(self) -> Run:
        """The run on the undamaged image.

        Raises:
            ValueError: if the model's own answer is empty, or the model can no longer be traced.
        """
        return self.case.clean

    @property
    def corrupted(self) -> Run:
        """The runs on the corrupted image, one per noise sample.

        Its answer is the one that most samples give by greedy decoding; ``answers`` has all of them. Answers that
        exceed the clean one's length by more than four tokens are cut off with an ellipsis.

        Raises:
            ValueError: if the model's own answer is empty, or the model can no longer be traced.
        """
        return self.case.corrupted

    @property
    def total_effect(self) -> TotalEffect:
        """score(clean) - score(corrupted) with its standard error, and whether it suffices to trace (the gate).

        Raises:
            ValueError: if the model's own answer is empty, or the model can no longer be traced.
        """
        return self.case.total_effect

    @property
    def snapshot(self) -> Snapshot | None:
        """What files and figures keep besides the grids; None if the corruption or the metric is a user's own."""
        return self._snapshot()

    @lazy
    def _snapshot(self, _check: Check) -> Snapshot | None:
        return snapshot_of(self.case)
