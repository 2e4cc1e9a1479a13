"""An update: from the inputs that are asked to a tracer whose runs are on show.

For: bringing what is shown in step with what is asked. Of several requests the latest state is computed; where that
fails each is tried alone, what failed is taken back and reported, and the rest stays.
Cost: what has changed of the two base runs; the grid in view along with it where that is quick.
Ends: at a `Presenter` that shows the new tracer. What is computed of it then is the followers'.

Everything here happens under the lock, but for the computing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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

#: Room for the grids of other inputs.
KEPT_BYTES = 64 * 2**20
#: Inputs that are typed: what was refused is named.
TEXTS = ("question", "foil", "other_question")


class Request(NamedTuple):
    """A change of a tracer's arguments: their names, and the inputs that have the new ones."""

    names: frozenset[str]
    inputs: Inputs


class UpdateJob:
    """Computes the two runs of what is asked, and shows them.

    Args:
        presenter: what is on show.
        jobs: where jobs are handed in.
        cells: computes the grid in view.
        follow: called when a new tracer is on show and no newer one is asked for.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue, cells: CellsJob, follow: Callable[[], None]) -> None:
        self._presenter, self._jobs, self._cells, self._follow = presenter, jobs, cells, follow
        self._good = presenter.inputs  # those that the tracer on show stands for
        self._requests: list[Request] = []  # that are not computed yet, the oldest first
        self._one_by_one = False
        self._stores: LruCache[GridStore] = LruCache(KEPT_BYTES, lambda store: store.nbytes)
        self._rows: tuple[str, list[str]] | None = None  # the block and the words of the grid on screen

    def ask(self, request: Request | None = None) -> None:
        """Begin a new generation: of other inputs, or of a model that has changed."""
        if request is not None:  # it takes the place of those that asked for nothing else
            self._requests = [each for each in self._requests if not each.names <= request.names] + [request]
        only_damage = request is not None and request.names == {"corruption"}
        # Else a slider in motion would never show a corrupted answer.
        self._jobs.cancel(keep=("update",) if only_damage else ())
        self._cells.forget()
        self._presenter.begin_generation()
        self.begin()

    def begin(self) -> None:
        """Compute what is asked."""
        self._jobs.submit("update", UPDATE, self._slices)

    def look_at(self) -> None:
        """Another grid is in view; its rows may be others."""
        self._rows = self._shown_rows()

    def store_of(self, tracer: Tracer) -> GridStore:
        """The grids of a tracer's inputs, as they were left."""
        shapes = {block: _shape(tracer, block) for block in BLOCKS if tracer.corruption.reaches(block)}
        key = inputs_of(tracer)  # not under our lock: the picture may have to be hashed
        with self._jobs.lock:
            presenter = self._presenter
            store = self._stores.get(key, lambda: GridStore(tracer.corruption.samples, shapes))
            store.want_as(presenter.store, same_words=tracer.question_tokens == presenter.tracer.question_tokens)
        return store

    # --- the story ---------------------------------------------------------------------------------------------------

    def _slices(self, job: Job) -> Slices:
        with self._jobs.lock:
            generation, good = self._presenter.generation, self._good
            requests = self._requests[:1] if self._one_by_one else list(self._requests)
            for each in requests:
                good = good.taking(each.names, each.inputs)
            names = good.differing(self._good)
        try:
            tracer = self._presenter.tracer
            tracer = tracer.replace(**good.arguments(names)) if names else tracer
            for step, compute in tracer.case.steps().items():
                self._presenter.view.show_traits(doing=labels.STEPS[step])
                compute(as_check(job.cancelled))
            tracer.prepare(job.cancelled)
            _ = tracer.snapshot  # made here: not under our lock, for it waits for the model's
            version = tracer.model.version
            store = self.store_of(tracer)
            with self._jobs.lock:
                self._carry_wishes(tracer, store)
                spec, selected = self._presenter.spec, self._presenter.inputs.selected
            patched = self._cells.keep_up(tracer, store, spec, selected, job)
        except (Cancelled, ModelChangedError):
            raise
        except Exception as error:  # noqa: BLE001 - shown; the last good state comes back
            self._refuse(job, error, requests)
            return
        with self._jobs.lock:
            if not job.cancelled.is_set():
                self._settle(requests)
                if self._one_by_one:  # what else is asked comes next, as a generation of its own
                    self._presenter.begin_generation(keep_error=True)
                    self.begin()
                with self._presenter.view.together():
                    self._carry_wishes(tracer, store)
                    self._presenter.adopt(tracer, store, generation, version)
                    self._show(good, patched)
        yield

    def _show(self, good: Inputs, patched: Patched | None) -> None:
        """Show a tracer whose two runs are computed, and what it stands for."""
        presenter, generation = self._presenter, self._presenter.computed
        names, self._good = good.differing(self._good), good
        # What was clicked meanwhile is to be computed with the new tracer.
        self._jobs.cancel(keep=("update",))
        if {"image", "question"} & names:
            presenter.unpin()
        if "image" in names:
            presenter.view.show_traits(picture=good.picture.jpeg)
        presenter.show_setup()
        presenter.show_runs()
        if not presenter.has_grid:
            return  # the next update is waiting already, and may open this block
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
        if other_rows or not presenter.cells.missing():  # else what there was stays until there is something new
            presenter.show_grid()
        if patched is not None and (patched.spec, patched.selected) == (presenter.spec, presenter.inputs.selected):
            presenter.show_patched(patched)
        if presenter.is_settled:  # else the next update is waiting already
            presenter.show_others()
            self.go_on()
            self._follow()

    def go_on(self) -> None:
        """Compute what is in view, but for what was selected before the grid was known and is not in it."""
        presenter = self._presenter
        if not can_patch(presenter.inputs.selected, presenter.tracer, presenter.store, presenter.spec):
            presenter.unselect()
        self._cells.go_on()

    def _carry_wishes(self, tracer: Tracer, store: GridStore) -> None:
        """What was wished for, or not any more, while an update was being computed."""
        presenter, spec = self._presenter, self._presenter.spec
        if not (presenter.has_grid and store.has(spec.block)):
            return
        if presenter.tracer.question_tokens == tracer.question_tokens:
            cells = store.cells(spec)
            cells.wanted = set(presenter.cells.wanted) | cells.computed()
        else:
            store.want_as(presenter.store, same_words=False)

    def _shown_rows(self) -> tuple[str, list[str]]:
        block = self._presenter.spec.block
        return block, self._presenter.tracer.tokens(block)

    # --- what failed -------------------------------------------------------------------------------------------------

    def _settle(self, requests: Sequence[Request]) -> None:
        """These requests are done with; others stay."""
        self._requests = [each for each in self._requests if not any(each is done for done in requests)]
        self._one_by_one = self._one_by_one and bool(self._requests)

    def _refuse(self, job: Job, error: Exception, requests: Sequence[Request]) -> None:
        """An update failed. Of several requests each is tried alone; one is let go, and said why.

        What was asked with it goes back to the last good state; what else was asked stays asked.
        """
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            if len(requests) > 1:
                self._one_by_one = True
                self.begin()
                return
            self._settle(requests)
            refused = {name for each in requests for name in each.names}
            refused -= {name for each in self._requests for name in each.names}
            presenter, before = self._presenter, self._presenter.inputs
            now = before.taking(refused, self._good).fitted(presenter.tracer.model)
            presenter.view.show_traits(error=_naming_texts(payloads.complaint(error), before, now))
            if refused:
                presenter.ask(now, mended=True)
                self.begin()


def _naming_texts(complaint: str, before: Inputs, now: Inputs) -> str:
    """A complaint that names the texts which were refused, because the fields no longer show them."""
    texts = {name: (getattr(before, name), getattr(now, name)) for name in TEXTS}
    gone = [f"{name} {was!r}" for name, (was, there) in texts.items() if was != there and was not in complaint]
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
