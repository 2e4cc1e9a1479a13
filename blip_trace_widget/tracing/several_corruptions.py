"""What takes a question under several corruptions: the half of a `Tracer` that compares them.

For: seeing how much of a finding is the corruption's. Every method delegates to the module that computes it:
`blip_trace_widget.tracing.recovery_curve`, `agreement`.
Cost: see each method.
Ends: at results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from blip_trace_widget.model.computing import at_once
from blip_trace_widget.model.progress import Progress
from blip_trace_widget.results.agreement import Agreement
from blip_trace_widget.results.recovery_curve import RecoveryCurve
from blip_trace_widget.states import BlockName, Direction, SiteName
from blip_trace_widget.tracing import agreement, recovery_curve
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.question_view import QuestionView


class SeveralCorruptions(QuestionView):
    """A question under several corruptions."""

    @at_once
    def recovery_curve(
        self,
        blocks: BlockName | Iterable[BlockName] = ("question_encoder", "answer_decoder"),
        factors: Sequence[float] | NDArray[Any] | None = None,
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> RecoveryCurve:
        """Γ(ν): how much restoring a state of a block brings back, on average over its grid, over the noise factor.

        Costs a grid for each block and factor, and for each factor a text pass over all samples; keys and values are
        projected once for all factors. Ctrl-C ends it as `cancel` does: what has been computed by then is returned,
        with a warning.

        Args:
            blocks: blocks, as in `trace`.
            factors: noise factors; default 21 from 0 to 10.
            progress: True for a bar, or a callable on (cells done, cells in total); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; the factors that are complete
                by then are returned, with NaN in the others.

        Returns:
            `RecoveryCurve`, (blocks, factors); NaN where the total effect is too small for a recovery, and said why.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where the corruption
                has no factor.
            Cancelled: if `cancel` said so before the clean run was computed.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Palit et al. 2023 (arXiv 2308.14179).
        """
        return recovery_curve.recovery_curve(self.case, blocks, factors, progress, cancel)

    @at_once
    def agreement(
        self,
        corruptions: Iterable[Corruption],
        block: BlockName = "question_encoder",
        site: SiteName = "block_output",
        head: int | None = None,
        window: int = 1,
        direction: Direction = "restore",
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
        patch: int = 1,
    ) -> Agreement:
        """The same grid under several corruptions: how alike they rank its cells, and on which they disagree.

        Costs a grid for each corruption; the clean run is shared, and projections between noise of one seed and kind.
        Ctrl-C ends it as `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            corruptions: two or more; the tracer's own is not among them unless it is given.
            block: see `trace`.
            site: see `trace`.
            head: see `trace`; one head or None.
            window: see `trace`.
            direction: see `trace`.
            progress: True for a bar, or a callable on (cells done, cells in total); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; the cells that are complete by
                then are returned, with NaN in the others.
            patch: see `trace`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where a corruption
                does not reach the block.
            Cancelled: if `cancel` said so before the clean and the corrupted runs were computed.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Zhang & Nanda 2023 (arXiv 2309.16042).
        """
        return agreement.agreement(
            self.case, corruptions, block, site, head, window, direction, progress, cancel, patch
        )
