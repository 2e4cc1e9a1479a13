"""From single states to mechanisms: the methods of a `Tracer` that find sets of states, and ways between tokens.

For: the part of a `Tracer` that looks for what works together. Every method hands on to the module that computes it:
`blip_trace_widget.tracing.finding`, `flow`.
Ends: at results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from blip_trace_widget.model.computing import at_once
from blip_trace_widget.model.progress import Progress
from blip_trace_widget.results.flow import Flow
from blip_trace_widget.results.found_states import FoundStates, Search
from blip_trace_widget.states import BlockName
from blip_trace_widget.tracing import finding
from blip_trace_widget.tracing.candidates import Among
from blip_trace_widget.tracing.flow import Groups, flow
from blip_trace_widget.tracing.question_view import QuestionView


class Mechanisms(QuestionView):
    """A question about a picture, and what works together to answer it."""

    @at_once
    def find_states(
        self,
        target: float = 0.9,
        among: Among = "states",
        direction: Search = "restore",
        blocks: BlockName | Iterable[BlockName] | None = None,
        most: int = 16,
        tries: int | None = None,
        fresh_seed: int | None = None,
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> FoundStates:
        """Find a small set of states that together bring the answer back, or that is all that the answer needs.

        A set is grown greedily: each step patches the present set together with each other candidate in turn and keeps
        the one with which most is recovered; of equal ones the lowest. ``"isolate"`` begins with all candidates. Then
        it is pruned: members that the target does not need are dropped, those that are missed least first. What is
        reported is measured under fresh noise, since the set was chosen for doing well under the noise that was
        searched. A found set is sufficient under this damage; it is not the mechanism: see `FoundStates`.

        Costs about a grid of the candidates for each member, ``"isolate"`` for each of some five rounds, see
        `FoundStates.grids`. Ctrl-C ends it as `cancel` does: what was found so far is returned, with a warning and
        without the numbers under fresh noise.

        Args:
            target: the share of the total effect that is to be recovered, above 0 and up to 1.
            among: ``"states"``: every layer's output at every position, the decoder's last layer left out, which is the
                answer by construction; ``"heads"``: every head of every attention; ``"mlp and heads"``: these and every
                layer's MLP. A head, or an MLP, counts as one at all positions together.
            direction: ``"restore"``: the set is restored in the corrupted run; of a chain one link is enough.
                ``"disrupt"``: it is corrupted in the clean run, and takes the answer away. ``"isolate"``: all
                candidates but the set are corrupted in the clean run, a circuit as Wang et al. and ACDC mean it: of a
                chain all links are needed.
            blocks: which blocks the candidates are of; ``"image_encoder"`` only where the corruption reaches it.
                Default of states: the question encoder, since late states of the decoder are enough by themselves; of
                heads: both text blocks.
            most: a set grows to so many members at most.
            tries: after the first step, only so many candidates are tried: those that recovered most by themselves.
                Cheaper, but what only helps together with others may be missed. None: all.
            fresh_seed: the seed of the fresh noise; default the next one. Without noise, as for a swapped picture,
                nothing fresh exists: the numbers are then of the run that was searched, see `FoundStates.fresh`.
            progress: True for a bar, or a callable on (runs done, runs at most); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted; also where the total effect
                is too small for a recovery.
            Cancelled: if `cancel` said so before the clean and the corrupted run were computed.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Conmy et al. 2023 (arXiv 2304.14997) ask this of edges; faithfulness, completeness and minimality of a
        set, Wang et al. 2022 (arXiv 2211.00593).
        """
        return finding.find_states(
            self.case, target, among, direction, blocks, most, tries, fresh_seed, progress, cancel
        )

    @at_once
    def flow(
        self,
        groups: Groups = None,
        window: int = 3,
        progress: bool | Progress | None = None,
        cancel: Callable[[], bool] | Any = None,
    ) -> Flow:
        """Cut the attention from each group of tokens to each other one, in a window of layers around each layer.

        Picture to question through the question encoder's cross-attention, question to question through its
        self-attention, question to answer through the decoder's cross-attention, and the answer's start to what follows
        through its self-attention, all in the clean run; what is lost tells where information travels. Each is a
        `trace_knockout`.

        Costs a text pass, half of one on average, for each pair of groups and layer: of a one-word answer 20 pairs by
        default. Ctrl-C ends it as `cancel` does: what has been computed by then is returned, with a warning.

        Args:
            groups: ``{"picture": {name: tokens}, "question": {…}, "answer": {…}}``; tokens as in `knockout`: image
                tokens or a boolean (rows, columns) region of patches, the question's tokens by number or as words, the
                decoder's likewise. A part that is missing has its default groups, an empty one none. Default: the
                region that the corruption damages and the rest of the picture, if it has one, else the whole picture;
                ``"[CLS]"``, ``"question word"`` (the first word), ``"other words"``, ``"end of the question"``
                (punctuation and [SEP]); ``"start of the answer"``, ``"answer so far"``.
            window: layers that are cut together around each layer.
            progress: True for a bar, or a callable on (runs done, runs in total); default and False as in `trace`.
            cancel: a callable, or an object with ``is_set``, that says whether to stop; what has been computed by then
                is returned, with NaN in the rest.

        Returns:
            `Flow`, (pairs, layers).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
            Cancelled: if `cancel` said so before the clean run was computed.
            ModelChangedError: if somebody changed the model meanwhile.

        Source: Geva et al. 2023 (arXiv 2304.14767), Zhang et al. 2024 (arXiv 2411.18620).
        """
        return flow(self.case, groups, window, progress, cancel)
