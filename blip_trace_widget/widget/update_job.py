"""An update: from the requested inputs to a tracer whose runs are shown.

For: making what is shown consistent with what is asked. Of several requests the latest state is computed; if that
fails, each is tried alone, the failing one is reverted and reported, and the others stay.
Cost: the changed parts of the two base runs; and the grid in view if that is quick.
Ends: at a `Presenter` that shows the new tracer; `follow` then starts further computations.

Everything here except the computations happens under the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from blip_trace_widget.checks import brief
from blip_trace_widget.display import labels, payloads
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.model.computing import ModelChangedError
from blip_trace_widget.model.progress import as_check
from blip_trace_widget.results.maps import square_names
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.tracer import Tracer
from blip_trace_widget.widget.cells_job import CellsJob, can_patch
from blip_trace_widget.widget.grid_store import BlockShape, GridStore, inputs_of
from blip_trace_widget.widget.inputs import Inputs
from blip_trace_widget.widget.job_queue import UPDATE, JobQueue
from blip_trace_widget.widget.lru_cache import LruCache
from blip_trace_widget.widget.presenter import Patched, Presenter
from blip_trace_widget.widget.worker import Job, Slices

#: Bytes for the grids of other inputs.
KEPT_BYTES = 16 * 2**20
#: Typed inputs, which error messages repeat if they are refused.
TEXTS = ("question", "foil", "other_question")


class Request(NamedTuple):
    """A change of a tracer's arguments: their names, and the inputs with the new values."""

    names: frozenset[str]
    inputs: Inputs


class UpdateJob:
    """Computes the two runs of the requested inputs, and shows them.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
        cells: computes the grid in view.
        follow: called when a new tracer is shown and no newer one is requested.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue, cells: CellsJob, follow: Callable[[], None]) -> None:
        self._presenter, self._jobs, self._cells, self._follow = presenter, jobs, cells, follow
        self._good = presenter.inputs  # the inputs of the tracer shown
        self._requests: list[Request] = []  # pending requests, the oldest first
        self._one_by_one = False
        self._stores: LruCache[GridStore] = LruCache(KEPT_BYTES, lambda store: store.nbytes)
        self._rows: tuple[str, list[str]] | None = None  # the block and the tokens of the grid on screen

    def ask(self, request: Request | None = None) -> None:
        """Begin a new generation: for other inputs, or because the model has changed."""
        if request is not None:  # it supersedes requests for the same arguments
            self._requests = [pending for pending in self._requests if not pending.names <= request.names] + [request]
        only_damage = request is not None and request.names == {"corruption"}
        # Otherwise a moving slider would never show a corrupted answer.
        self._jobs.cancel(keep=("update",) if only_damage else ())
        self._cells.forget()
        self._presenter.begin_generation()
        self.begin()

    def begin(self) -> None:
        """Queue an update."""
        self._jobs.submit("update", UPDATE, self._slices)

    def follow_view(self) -> None:
        """Follow a change of the grid in view, whose rows may differ."""
        self._rows = self._shown_rows()

    def store_of(self, tracer: Tracer) -> GridStore:
        """The stored grids of a tracer's inputs."""
        shapes = {block: _shape(tracer, block) for block in BLOCKS if tracer.corruption.reaches(block)}
        key = inputs_of(tracer)  # not under our lock, as this may hash the picture
        with self._jobs.lock:
            presenter = self._presenter
            store = self._stores.get(key, lambda: GridStore(tracer.corruption.samples, shapes))
            same_words = tracer.question_tokens == presenter.tracer.question_tokens
            store.want_as(presenter.store, presenter.spec, same_words=same_words)
        return store

    # --- the update --------------------------------------------------------------------------------------------------

    def _slices(self, job: Job) -> Slices:
        with self._jobs.lock:
            generation, good = self._presenter.generation, self._good
            requests = self._requests[:1] if self._one_by_one else list(self._requests)
            for pending in requests:
                good = good.taking(pending.names, pending.inputs)
            names = good.differing(self._good)
        try:
            tracer = self._presenter.tracer
            tracer = tracer.replace(**good.arguments(names)) if names else tracer
            for step, compute in tracer.case.steps().items():
                self._presenter.view.show_traits(doing=labels.STEPS[step])
                compute(as_check(job.cancelled))
            tracer.prepare(job.cancelled)
            _ = tracer.snapshot  # made here, not under our lock, as it waits for the model's
            version = tracer.model.version
            store = self.store_of(tracer)
            with self._jobs.lock:
                self._carry_over_wanted(tracer, store)
                spec, selected = self._presenter.spec, self._presenter.inputs.selected
            patched = self._cells.keep_up(tracer, store, spec, selected, job)
        except (Cancelled, ModelChangedError):
            raise
        except BaseException as error:  # noqa: BLE001 - sys.exit() too: shown, and the last good state is restored
            self._refuse(job, error, requests)
            return
        with self._jobs.lock:
            if not job.cancelled.is_set():
                self._settle(requests)
                if self._one_by_one:  # further requests follow, as a new generation
                    self._presenter.begin_generation(keep_error=True)
                    self.begin()
                with self._presenter.view.together():
                    self._carry_over_wanted(tracer, store)
                    self._presenter.adopt(tracer, store, generation, version)
                    self._show(good, patched)
        yield

    def _show(self, good: Inputs, patched: Patched | None) -> None:
        """Show a tracer whose two runs are computed, and its inputs."""
        presenter, generation = self._presenter, self._presenter.computed
        names, self._good = good.differing(self._good), good
        # Cells that were clicked meanwhile are computed with the new tracer.
        self._jobs.cancel(keep=("update",))
        if {"image", "question"} & names:
            presenter.unpin()
        if "image" in names:
            presenter.view.show_traits(picture=good.picture.jpeg)
        presenter.show_setup()
        presenter.show_runs()
        if generation == presenter.generation:  # else of what is asked by now another tracer decides
            presenter.let_go()
        if not presenter.has_grid:
            return  # the next update is already queued, and may allow this block
        other_rows = self._rows != (rows := self._shown_rows())
        if (
            other_rows
            and self._rows is not None
            and presenter.selected_for < (generation or 0)
            and presenter.inputs.selection
        ):
            presenter.unselect()
        self._rows = rows
        self._cells.want_whole()
        if other_rows or not presenter.cells.missing():  # else keep the old grid until there is a new one
            presenter.show_grid()
        if patched is not None and (patched.spec, patched.selected) == (presenter.spec, presenter.inputs.selected):
            presenter.show_patched(patched)
        if presenter.is_settled:  # else the next update is already queued
            presenter.show_others()
            self.fill_view()
            self._follow()

    def fill_view(self) -> None:
        """Queue jobs for what is in view; first clear a selection that does not exist in the grid."""
        presenter = self._presenter
        if not can_patch(presenter.inputs.selected, presenter.tracer, presenter.store, presenter.spec):
            presenter.unselect()
        self._cells.fill_view()

    def _carry_over_wanted(self, tracer: Tracer, store: GridStore) -> None:
        """Carry over changes of the wanted cells made during the update."""
        presenter, spec = self._presenter, self._presenter.spec
        if not (presenter.has_grid and store.has(spec.block)):
            return
        if presenter.tracer.question_tokens == tracer.question_tokens:
            cells = store.cells(spec)
            cells.wanted = set(presenter.cells.wanted) | cells.computed()
        else:
            store.want_as(presenter.store, spec, same_words=False)

    def _shown_rows(self) -> tuple[str, list[str]]:
        block = self._presenter.spec.block
        return block, self._presenter.tracer.tokens(block)

    # --- failures ----------------------------------------------------------------------------------------------------

    def _settle(self, requests: Sequence[Request]) -> None:
        """Remove finished requests."""
        self._requests = [pending for pending in self._requests if not any(pending is done for done in requests)]
        self._one_by_one = self._one_by_one and bool(self._requests)

    def _refuse(self, job: Job, error: BaseException, requests: Sequence[Request]) -> None:
        """Handle a failed update: try several requests one by one; drop a single one and report why.

        Its inputs revert to the last good state; all other requests stay.
        """
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            if len(requests) > 1:
                self._one_by_one = True
                self.begin()
                return
            self._settle(requests)
            refused = {name for pending in requests for name in pending.names}
            refused -= {name for pending in self._requests for name in pending.names}
            presenter, before = self._presenter, self._presenter.inputs
            now = before.taking(refused, self._good).fitted(presenter.tracer.model)
            presenter.view.show_traits(error=_naming_texts(payloads.complaint(error), before, now))
            if refused:
                presenter.ask(now, mended=True)
                self.begin()


def _naming_texts(complaint: str, before: Inputs, now: Inputs) -> str:
    """A complaint that also names the refused texts, because the fields no longer show them."""
    texts = {name: (getattr(before, name), getattr(now, name)) for name in TEXTS}
    gone = [f"{name} {brief(was)}" for name, (was, current) in texts.items() if was != current and was not in complaint]
    return f"{complaint} (refused: {', '.join(gone)})" if gone else complaint


def _shape(tracer: Tracer, block: str) -> BlockShape:
    """What the grids of a block have in common."""
    model, tokens = tracer.model, len(tracer.tokens(block))
    return BlockShape(
        layers=len(model.blocks[block].layers),
        columns=lambda patch: tokens if patch == 1 else 1 + len(square_names(*model.grid, patch)),
        plain=not model.changed[block],
        single=tracer.case.is_single(block),
    )
