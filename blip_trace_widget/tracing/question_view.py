"""A question as its users see it: what was asked, what the model says, and the clean and the corrupted runs.

For: the half of a `Tracer` that is read, and whoever needs no more of it. Everything is computed when it is first asked
for and kept; `with_corruption` and `replace` share what is still valid, so that moving the noise neither embeds the
image again nor projects it.
Cost: one ViT pass for an image; one text pass for the clean run; for a noise factor one text pass over all samples
without projections.
Ends: at runs. Interventions are `blip_trace_widget.tracing.tracer`'s.
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
        case: what is behind it.

    Attributes:
        case: the same for the modules of the package, which compute with it.
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
        """A tracer of the same image and question under another corruption; shares all that is still valid.

        Args:
            corruption: the new one; default the present one.
            changes: fields of it to change, for instance ``factor=3.0``.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        return self._of(self.case.with_corruption(corruption, **changes))

    def replace(self, **changes: Any) -> Self:
        """A tracer with other arguments (as in the constructor, without `model`); shares all that is still valid.

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
        """The given foil."""
        return self.case.given["foil"]

    @property
    def given(self) -> dict[str, str | None]:
        """The answer and the foil as they were given; None where none was."""
        return dict(self.case.given)

    @property
    def corruption(self) -> Corruption:
        """What tells the corrupted runs from the clean one."""
        return self.case.corruption

    @property
    def metric(self) -> Metric:
        """What a run is measured by."""
        return self.case.metric

    # --- what the model sees and says --------------------------------------------------------------------------------

    @property
    def question_tokens(self) -> list[str]:
        """Word pieces of the question as the model sees them, special tokens included."""
        return self.case.question_tokens

    @property
    def unknown_words(self) -> list[str]:
        """Words of the question that the model does not know: it was traced without what they mean."""
        return self.case.unknown_words

    @property
    def answer(self) -> str:
        """The scored answer: the given one, or the model's own greedy answer.

        Raises:
            ValueError: if the model's own answer is empty, or has another number of tokens than the foil.
        """
        return self.case.answer

    @property
    def answer_tokens(self) -> list[str]:
        """Word pieces of the answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty, or has another number of tokens than the foil.
        """
        return self.case.answer_tokens

    def tokens(self, block: BlockName | str) -> list[str]:
        """Names of a block's positions.

        Word pieces; the decoder's are the start token and the answer's but the last. Of the image encoder, "[CLS]" and
        each patch's "row,column".

        Raises:
            TypeError, ValueError: if there is no such block.
        """
        return self.case.tokens(block)

    # --- runs --------------------------------------------------------------------------------------------------------

    def prepare(self, cancel: Callable[[], bool] | Any = None) -> None:
        """Compute the clean and the corrupted run now, rather than when they are first asked for.

        Args:
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Raises:
            TypeError: if `cancel` is neither.
            ValueError: if the model's own answer is empty, or the model cannot be traced any more.
            Cancelled: within a layer of `cancel` saying so; what was computed by then is kept.
        """
        with Computing(self.model):
            self.case.prepare(as_check(cancel), answers=True)
            _ = self.model.provenance

    @property
    def clean(self) -> Run:
        """The run on the undamaged image."""
        return self.case.clean

    @property
    def corrupted(self) -> Run:
        """The runs on the corrupted image, one a noise sample.

        Its answer is the one that most samples give by greedy decoding; ``answers`` has all of them. Answers that go
        on beyond the clean one's length by more than four tokens are cut off with an ellipsis.
        """
        return self.case.corrupted

    @property
    def total_effect(self) -> TotalEffect:
        """score(clean) - score(corrupted) with its standard error, and the gate."""
        return self.case.total_effect

    @property
    def snapshot(self) -> Snapshot | None:
        """What stands beside the grids in files and figures; None where the corruption or the metric is one's own."""
        return self._snapshot()

    @lazy
    def _snapshot(self, _check: Check) -> Snapshot | None:
        return snapshot_of(self.case)
