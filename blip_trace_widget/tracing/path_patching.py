"""What goes from senders to receivers directly: the methods of a `Tracer`.

For: the part of a `Tracer` that patches paths. Every method hands on to `blip_trace_widget.tracing.paths`, which says
what a path is, or to `traces`.
Ends: at results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from blip_trace_widget.model.computing import at_once
from blip_trace_widget.model.progress import Progress
from blip_trace_widget.results.maps import ImageTokenTrace
from blip_trace_widget.results.run import Effect
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BlockName, Direction, SiteName, State
from blip_trace_widget.tracing import paths, traces
from blip_trace_widget.tracing.holding import HoldLike
from blip_trace_widget.tracing.paths import ReceiversLike
from blip_trace_widget.tracing.question_view import QuestionView


class PathPatching(QuestionView):
    """A question about a picture, and the paths through the model that answers it."""

    @at_once
    def patch_path(
        self,
        senders: State | Iterable[State],
        receivers: ReceiversLike,
        direction: Direction = "restore",
        through: HoldLike = (),
        cancel: Callable[[], bool] | Any = None,
    ) -> Effect:
        """How much of senders goes to receivers directly, with all that lies between them held.

        In run A the senders are patched, and what every attention and MLP adds keeps its value of the run that is
        patched, of all layers, positions and blocks; residuals go on. In run B, whose score is the result, the
        receivers alone take the values that A computes for them. Costs as much as two cells of a grid.

        Of several receivers each is computed with the others held, unless they are residuals or named in `through`.
        What is patched and held may contradict each other: A is a run that the model would never come to by itself.

        Args:
            senders: states of any blocks, as in `patch`.
            receivers: states of any blocks; or ``"answer"``: the result is then the score of A. From one block to the
                next a path leads through the attention that looks there: only this attention, or a head of it, receives
                what senders in the block below wrote.
            direction: as in `patch`.
            through: what is not held: ``"mlp"``, ``"self_attention_out"``, ``"cross_attention_out"``, each of all
                layers and positions, states of these sites, and single heads. Wang et al. hold no MLP: ``"mlp"``.
            cancel: a callable, or an object with ``is_set``, that says whether to give up.

        Returns:
            `Effect`; where no path leads from the senders to the receivers, its effect is 0 by construction, see
            `Effect.without_effect`.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where a state is both
                a sender and a receiver.
            Cancelled: if `cancel` said so.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Wang et al. 2022 (arXiv 2211.00593), section 3.1; Goldowsky-Dill et al. 2023 (arXiv 2304.05969).
        """
        return paths.patch_path(self.case, senders, receivers, direction, through, cancel)

    @at_once
    def trace_paths(
        self,
        receivers: ReceiversLike,
        block: BlockName = "question_encoder",
        site: SiteName = "block_output",
        direction: Direction = "restore",
        through: HoldLike = (),
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
        head: int | None = None,
        patch: int = 1,
    ) -> Trace:
        """`patch_path` from every state of a block in turn to the same receivers: one grid of senders.

        Costs at most two grids, usually less than one. Cells from which no path leads to the receivers, such as those
        above them, are 0 by construction and not computed, see `Trace.without_effect`. Ctrl-C ends it as `cancel` does:
        what has been computed by then is returned, with a warning.

        Args:
            receivers: see `patch_path`.
            block: of the senders, as in `trace`.
            site: of the senders, as in `trace`.
            direction: as in `patch`.
            through: see `patch_path`.
            progress: as in `trace`.
            cancel: as in `trace`.
            head: of the senders, as in `trace`; one head or None.
            patch: as in `trace`.

        Returns:
            `Trace`, (layers, positions or squares).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        trace = traces.trace_paths(self.case, receivers, block, site, head, direction, through, progress, cancel, patch)
        return replace(trace, snapshot=self.snapshot)

    @at_once
    def trace_image_paths(
        self,
        receivers: State | Iterable[State],
        patch: int = 1,
        direction: Direction = "restore",
        through: HoldLike = (),
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> ImageTokenTrace:
        """Which parts of the picture reach some states directly: the senders are squares of image tokens.

        As `trace_image_tokens`, but what every attention and MLP of the text blocks adds is held on the way to the
        receivers, as in `patch_path`: a cross-attention's head receives what it reads off these tokens itself.

        Args:
            receivers: states, see `patch_path`.
            patch: side of the squares, in image patches.
            direction: as in `patch`.
            through: see `patch_path`.
            progress: as in `trace_image_tokens`.
            cancel: as in `trace_image_tokens`.

        Returns:
            `ImageTokenTrace`, (rows, columns) of squares.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.
        """
        return paths.trace_image_paths(self.case, receivers, patch, direction, through, progress, cancel)
