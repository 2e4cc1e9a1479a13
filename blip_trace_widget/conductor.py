"""What is computed when: from requests to jobs on the worker, and from results to the screen.

For: keeping what is shown in step with what is asked. Whatever changes what the model sees begins a new generation:
jobs of the older one are dropped, an update derives a tracer and shows its two runs, and then queues what was in view
before: the selected cells, the cells of the grid, the noise curve. While only the damage moves, an update that has
begun is let finish: otherwise a slider in motion would never show a corrupted answer. Where the grid in view takes no
longer than `LIVE_SECONDS`, it is part of the update, and moves with the slider.
Cost: requests validate nothing and return at once; grids are kept for the inputs looked at before, within `KEPT_BYTES`.
Ends: at a `Screen`. It knows the tracer and the worker, but no traits and no messages of a front end.

Everything here happens under `lock`, but for the computing itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget import figure, wording
from blip_trace_widget.calls import Computing, ModelChangedError
from blip_trace_widget.curve_line import CurveLine
from blip_trace_widget.desk import FILL, PATCH, REPORT_SECONDS, UPDATE, Desk
from blip_trace_widget.drawing import words
from blip_trace_widget.forward import Cancelled
from blip_trace_widget.grids import CellIndex, Cells, Chosen, Sheet, View, inputs_of
from blip_trace_widget.head_map import HeadMap
from blip_trace_widget.lock import Lock
from blip_trace_widget.painter import Painter
from blip_trace_widget.results import Effect, Trace
from blip_trace_widget.shelf import Shelf
from blip_trace_widget.sites import BLOCKS
from blip_trace_widget.stage import Patched, Screen, Stage, trace_of
from blip_trace_widget.tracer import Cell, Tracer
from blip_trace_widget.worker import Job, Slices, worker_of

#: A grid that takes no longer is computed before the corrupted run is shown, and shown with it.
LIVE_SECONDS = 0.3
#: Room for the grids of other inputs.
KEPT_BYTES = 64 * 2**20


class Conductor:
    """Computes for one screen.

    Args:
        tracer: what to begin with.
        screen: where to show it.
        view: the grid to begin with.
        square: side of the squares of a map over the picture, in patches.
        before: whose place it takes at that screen.

    Attributes:
        painter: what lies over the picture.
        heads: the map of heads.
    """

    def __init__(
        self,
        tracer: Tracer,
        screen: Screen,
        view: View | None = None,
        square: int = 1,
        before: Conductor | None = None,
    ) -> None:
        self.lock: Lock = Lock() if before is None else before.lock
        self.generation: int = 0 if before is None else before.generation + 1
        self.chosen = Chosen()
        self._chosen_for = 0  # the generation for which that was selected
        self._screen = screen
        self._stage = Stage(tracer, screen, view or View())
        worker = worker_of(tracer.model.hf)
        self._desk = Desk(worker, self._failed, self.lock, self._outdated)
        self._errands = Desk(worker, self._failed, self.lock)
        self.painter = Painter(self._stage, self._desk, square)
        self.heads = HeadMap(self._stage, self._desk)
        self._curve = CurveLine(self._stage, self._desk)
        self._requests: list[dict[str, Any]] = []  # changes of the tracer that are not computed yet, the oldest first
        self._one_by_one = False
        self._sheets: Shelf[Sheet] = Shelf(KEPT_BYTES, lambda sheet: sheet.nbytes)
        self._pace: dict[str, float] = {}  # seconds a cell and sample of a block's grid took at last
        self._rows: tuple[str, list[str]] | None = None  # the block and the words of the grid on screen
        self._patch_requests: dict[Chosen, list[int]] = {}  # that wait for an answer
        self._fill_request = 0
        self._fill_at_once = False  # Trace all was asked for before there was a grid
        self._in_sight: range | None = None

    @property
    def tracer(self) -> Tracer:
        """The tracer that is on show."""
        return self._stage.tracer

    @property
    def view(self) -> View:
        """The grid in view."""
        return self._stage.view

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compute and show the tracer's two runs, and what is in view."""
        self._desk.submit("update", UPDATE, self._update)

    def change(self, **changes: Any) -> None:
        """Change arguments of the tracer (as in `Tracer.replace`)."""
        with self.lock:
            self._requests = [each for each in self._requests if not each.keys() <= changes.keys()] + [changes]
            self._desk.cancel(keep=("update",) if set(changes) == {"corruption"} else ())
            self._patch_requests.clear()  # they were for what there was before
            self.generation += 1
            self._screen.show_traits(generation=self.generation, error="")
            self.begin()

    def look_at(self, view: View) -> None:
        """Show another grid of the same runs."""
        with self.lock:
            self._desk.cancel(keep=("update", "curve", "overlay", "heads"))
            if view.block != self.view.block:
                if self.chosen.cells:
                    self._unselect()
                self._in_sight = None
            self._stage.view = view
            if self._stage.sheet.has(view.block):  # else it will be, after the update
                self._rows = _rows(self.tracer, view)
                self._stage.show_grid()
                self._stage.show_others()
                self._ask_again()
                self.painter.look_at(self.chosen.cells)
                self.heads.follow()

    def select(self, cells: Sequence[CellIndex], request: int = 0) -> None:
        """Patch these cells of the grid in view, all in one run."""
        self._choose(Chosen(cells=tuple(cells)), request)

    def select_patches(self, patches: Sequence[CellIndex]) -> None:
        """Patch these patches (row, column) of the picture, all in one run."""
        self._choose(Chosen(patches=tuple(patches)))

    def _choose(self, chosen: Chosen, request: int = 0) -> None:
        with self.lock:
            again = chosen == self.chosen and self._desk.pending(_patch_key(chosen))
            self.chosen = chosen
            self._chosen_for = self.generation
            if request:  # a trait that changes and a message may ask for the same cells: one job answers both
                self._patch_requests.setdefault(chosen, []).append(request)
            if again:
                return
            self._desk.cancel("patch a set")
            for older in [each for each in self._patch_requests if not each.one and each != chosen]:
                self._answer(older, stopped=True)
            self._screen.show_traits(error="")
            self.painter.look_at(chosen.cells)
            if not chosen:
                self._stage.show_patched(None)
            elif self._stage.computed == self.generation and self._stage.sheet.has(self.view.block):
                self._patch(chosen)

    def pin(self, on: bool) -> None:
        """Keep the patched run of the selected cells beside the next ones, or let it go."""
        with self.lock:
            self._stage.pin(on)

    def look(self, first: int, last: int) -> None:
        """Which positions of the grid are in sight: they are computed first."""
        with self.lock:
            self._in_sight = range(first, last + 1)
            waiting = self._desk.pending("fill")
            if waiting and any(position in self._in_sight for _, position in self._stage.cells.missing()):
                self._fill()

    def trace_all(self, request: int = 0) -> None:
        """Fill the grid in view."""
        with self.lock:
            self._fill_request = request
            if not self._stage.sheet.has(self.view.block):
                self._fill_at_once = True
                return
            self._stage.cells.want_all()
            self._fill()

    def stop(self) -> None:
        """Stop filling the grid; what is computed stays."""
        with self.lock:
            filling, self._fill_at_once = self._fill_at_once, False
            if self._stage.sheet.has(self.view.block):
                cells = self._stage.cells
                filling = filling or bool(cells.missing()) or self._desk.pending("fill")
                # Where the values belong to an older generation none of them stays.
                cells.wanted &= cells.computed() if self._stage.computed == self.generation else set()
                self._desk.cancel("fill")
            if filling:
                self._done(self._fill_request, stopped=True)

    def wait(self, timeout: float | None) -> bool:
        """Block until nothing is left to do; False if the time ran out."""
        started = time.monotonic()
        while self._errands.wait(_left(timeout, started)):  # an errand may ask for more
            if not self._desk.wait(_left(timeout, started)):
                return False
            if not self._errands.busy:
                return True
        return False

    def close(self) -> None:
        """Drop all work."""
        self._desk.cancel()
        self._errands.cancel()

    @property
    def computed(self) -> bool:
        """Whether any cell of the grid in view is."""
        with self.lock:
            sheet = self._stage.sheet
            return sheet.has(self.view.block) and bool(sheet.cells(self.view).computed())

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far."""
        return self.traces[0]

    @property
    def traces(self) -> list[Trace]:
        """All that is computed for the inputs on show, the grid in view first."""
        tracer = self.tracer
        tracer.prepare()  # not under our lock, for which a handler may wait
        scene, sheet = tracer.scene, self._sheet_of(tracer)
        with self.lock:
            view = self.view if sheet.has(self.view.block) else self.view._replace(block=View().block)
            if scene is not None and tracer is self.tracer:
                scene = replace(scene, curve=self._curve.shown)
            views = dict.fromkeys([view, *sheet.computed()])
            return [replace(trace_of(tracer, sheet.cells(each), each), scene=scene) for each in views]

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block, otherwise as the one in view; None where there is none, or before the runs are there."""
        with self.lock:
            view = self.view._replace(block=block)
            sheet, site = self._stage.sheet, BLOCKS[block].sites if view.head is None else BLOCKS[block].heads
            if not sheet.has(block) or view.site not in site:
                return None
            return trace_of(self.tracer, sheet.cells(view), view)

    def positions(self, block: str) -> int | None:
        """How many positions a block has; None while that is not known without computing."""
        known = self._stage.computed == self.generation and self._stage.sheet.has(block)
        return self._stage.sheet.shape(block)[1] if known else None

    def later(self, work: Callable[[], None], key: Hashable = None) -> None:
        """Do something on the worker's thread that might hold up a handler; no change of inputs drops it.

        Args:
            work: what to do.
            key: of those with the same key only the latest is done.
        """

        def slices(_job: Job) -> Slices:
            work()
            yield

        if key is not None:
            self._errands.cancel(key)
        self._errands.submit(key or object(), UPDATE, slices)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _outdated(self) -> bool:
        """Whether somebody changed the model since what is on show was computed: then all of it is computed anew."""
        model = self.tracer.model
        with Computing(model):
            version = model.version
        with self.lock:
            if self._stage.computed is None or version == self._stage.version:
                return False
            self.change()
            return True

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, ModelChangedError):
            self.change()
            return
        if not isinstance(error, Cancelled):
            self._screen.show_traits(error=figure.complaint(error))

    def _update(self, job: Job) -> Slices:
        with self.lock:
            generation = self.generation
            requests = self._requests[:1] if self._one_by_one else list(self._requests)
        changes = _merged(requests)
        try:
            tracer = self.tracer.replace(**changes) if changes else self.tracer
            for step in tracer.steps:
                self._screen.show_traits(doing=wording.STEPS[step])
                tracer.take(step, job.cancelled)
            tracer.prepare(job.cancelled)
            version = tracer.model.version
            sheet = self._sheet_of(tracer)
            patched = self._keep_up(tracer, sheet, job)
        except (Cancelled, ModelChangedError):
            raise
        except Exception as error:  # noqa: BLE001 - shown; the last good state comes back
            self._refuse(job, error, requests)
            return
        with self.lock:
            if not job.cancelled.is_set():
                self._settle(requests)
                if self._one_by_one:
                    self._again()
                self._stage.version = version
                with self._screen.together():
                    self._adopt(tracer, sheet, generation, changes, patched)
        yield

    def _sheet_of(self, tracer: Tracer) -> Sheet:
        """The grids of a tracer's inputs, as they were left."""
        shapes = {
            block: (len(tracer.model.blocks[block].layers), len(tracer.tokens(block)))
            for block in BLOCKS
            if not figure.closed_because(tracer.corruption, block)
        }
        with self.lock:
            sheet = self._sheets.get(inputs_of(tracer), lambda: Sheet(tracer.corruption.samples, shapes))
            sheet.want_as(self._stage.sheet, same_words=tracer.question_tokens == self.tracer.question_tokens)
        return sheet

    def _keep_up(self, tracer: Tracer, sheet: Sheet, job: Job) -> Patched | None:
        """Compute what is in view right away, if it is known to be quick; the patched run of the selected cells."""
        with self.lock:
            self._carry_wishes(tracer, sheet)
            view, chosen = self.view, self.chosen
        if not sheet.has(view.block) or view.block not in self._pace:
            return None
        cells = sheet.cells(view)
        there = bool(chosen) and _is_there(chosen, tracer, sheet, view)
        if chosen.one and there:  # clicked since the last update
            cells.wanted.update(chosen.cells)
        missing = cells.missing()
        samples = tracer.corruption.samples
        if len(missing) * samples * self._pace[view.block] > LIVE_SECONDS:
            return None
        started = time.monotonic()
        grid = tracer.cells(view.block, view.site, view.head, view.window)
        todo = [cell for cell in grid if cell.index in missing]
        if todo:
            for part, scores, _ in tracer.patched_scores([cell.states for cell in todo], view.direction, job.cancelled):
                _write(cells, todo[part], scores)
            self._pace[view.block] = (time.monotonic() - started) / (len(todo) * samples)
        return Patched(_patched(tracer, chosen, view, job), chosen, view) if there else None

    def _adopt(
        self,
        tracer: Tracer,
        sheet: Sheet,
        generation: int,
        changes: dict[str, Any],
        patched: Patched | None,
    ) -> None:
        """Show a tracer whose two runs are computed."""
        stage = self._stage
        self._carry_wishes(tracer, sheet)
        stage.tracer, stage.sheet, stage.computed = tracer, sheet, generation
        # What was clicked meanwhile is to be computed with the new tracer.
        self._desk.cancel(keep=("update",))
        if {"image", "question"} & set(changes):
            stage.unpin()
        if "image" in changes:
            self._screen.show_traits(picture=figure.picture(tracer.image))
        self._screen.show_traits(setup=figure.setup(tracer))
        stage.show_runs()
        if not sheet.has(self.view.block) and generation != self.generation:
            return  # the next update is waiting already, and may open this block
        if not sheet.has(self.view.block):  # its states are the same in both runs now
            stage.view = self.view._replace(block=View().block)
            self._screen.show_traits(block=self.view.block)
        other_rows = self._rows != (rows := _rows(tracer, self.view))
        if other_rows and self._rows is not None and self._chosen_for < generation and self.chosen.cells:
            self._unselect()
        self._rows = rows
        if self._fill_at_once:
            self._fill_at_once = False
            stage.cells.want_all()
        if other_rows or not stage.cells.missing():  # else what there was stays until there is something new
            stage.show_grid()
        if patched is not None and (patched.view, patched.chosen) == (self.view, self.chosen):
            stage.show_patched(patched)
        if generation == self.generation:  # else the next update is waiting already
            stage.show_others()
            self._ask_again()
            self.painter.look_at(self.chosen.cells)
            self.painter.follow()
            self.heads.follow()
            self._curve.follow()

    def _carry_wishes(self, tracer: Tracer, sheet: Sheet) -> None:
        """What was wished for, or not any more, while an update was being computed."""
        stage = self._stage
        if not (stage.sheet.has(self.view.block) and sheet.has(self.view.block)):
            return
        if stage.tracer.question_tokens == tracer.question_tokens:
            cells = sheet.cells(self.view)
            cells.wanted = set(stage.cells.wanted) | cells.computed()
        else:
            sheet.want_as(stage.sheet, same_words=False)

    def _settle(self, requests: Sequence[dict[str, Any]]) -> None:
        """These requests are done with; others stay."""
        self._requests = [each for each in self._requests if not any(each is done for done in requests)]
        self._one_by_one = self._one_by_one and bool(self._requests)

    def _refuse(self, job: Job, error: Exception, requests: Sequence[dict[str, Any]]) -> None:
        """An update failed. Of several requests each is tried alone; one is let go, and said why.

        What the screen says of it goes back to the last good state; what else was asked stays asked.
        """
        with self.lock:
            if job.cancelled.is_set():
                return
            if len(requests) > 1:
                self._one_by_one = True
                self.begin()
                return
            self._settle(requests)
            self._screen.show_traits(error=figure.complaint(error))
            refused = _merged(requests).keys() - _merged(self._requests).keys()
            if refused:
                self._screen.go_back(self.tracer, refused)
                self.begin()

    def _again(self) -> None:
        """Compute what else is asked, as a generation of its own."""
        self.generation += 1
        self._screen.show_traits(generation=self.generation)
        self.begin()

    def _ask_again(self) -> None:
        """Compute what is in view: the cells asked for one by one, then the grid."""
        if not _is_there(self.chosen, self.tracer, self._stage.sheet, self.view):
            self._unselect()  # selected before the grid was known
        wanted = dict.fromkeys(self._patch_requests)
        if self.chosen and not self._stage.is_current(self.chosen):
            wanted[self.chosen] = None
        for chosen in wanted:
            if _is_there(chosen, self.tracer, self._stage.sheet, self.view):
                self._patch(chosen)
            else:
                self._answer(chosen, stopped=True)
        if self._stage.cells.missing() - {chosen.cells[0] for chosen in wanted if chosen.one}:
            self._fill()

    def _patch(self, chosen: Chosen) -> None:
        tracer, generation, view = self.tracer, self._stage.computed, self.view
        cells = self._stage.cells
        if chosen.one:
            cells.wanted.update(chosen.cells)

        def slices(job: Job) -> Slices:
            try:
                effect = _patched(tracer, chosen, view, job)
                with self.lock:
                    if not job.cancelled.is_set():
                        if chosen.one:
                            cells.put(chosen.cells[0], effect.scores)
                        self._show_effect(Patched(effect, chosen, view))
            finally:
                with self.lock:
                    if generation == self._stage.computed and not job.cancelled.is_set():
                        job.cancelled.set()  # a click that comes now is for a job of its own
                        self._answer(chosen, stopped=False)
            yield

        self._desk.submit(_patch_key(chosen), PATCH, slices)

    def _answer(self, chosen: Chosen, *, stopped: bool) -> None:
        """Say to all who asked for this that it is done."""
        for request in self._patch_requests.pop(chosen, []):
            self._done(request, stopped=stopped)

    def _done(self, request: int, *, stopped: bool) -> None:
        """Say that a request is done with: of the newest inputs, for it will not be answered of any others."""
        self._stage.say("done", request, generation=self.generation, stopped=stopped)

    def _show_effect(self, patched: Patched) -> None:
        chosen, view = patched.chosen, patched.view
        if chosen.one:
            self._stage.report(self._patch_requests.get(chosen, [0])[-1], chosen.cells, view)
            if not self._desk.pending("fill"):  # else the grid is shown at its end
                self._stage.show_grid()
        if chosen == self.chosen:
            self._stage.show_patched(patched)

    def _fill(self) -> None:
        """Compute the wanted cells of the grid in view that are not there yet, those in sight first."""
        self._desk.cancel("fill")
        tracer, view, request, in_sight = self.tracer, self.view, self._fill_request, self._in_sight
        cells = self._stage.cells

        def slices(job: Job) -> Slices:
            missing = cells.missing()
            grid = tracer.cells(view.block, view.site, view.head, view.window)
            todo = [cell for cell in grid if cell.index in missing]
            if in_sight is not None:
                todo.sort(key=lambda cell: cell.position not in in_sight)
            yield from self._fill_slices(job, tracer, todo, cells, view, request)

        self._desk.submit("fill", FILL, slices)

    def _fill_slices(
        self,
        job: Job,
        tracer: Tracer,
        todo: Sequence[Cell],
        cells: Cells,
        view: View,
        request: int,
    ) -> Slices:
        generation = self._stage.computed
        started = reported = time.monotonic()
        fresh: list[CellIndex] = []
        done = 0
        try:
            runs = [cell.states for cell in todo]
            for part, scores, share in tracer.patched_scores(runs, view.direction, job.cancelled):
                with self.lock:
                    if job.cancelled.is_set():
                        return
                    _write(cells, todo[part], scores)
                    fresh += (cell.index for cell in todo[part])
                    done, now = part.stop, time.monotonic()
                    taken = (now - started) / share
                    self._pace[view.block] = taken / (len(todo) * tracer.corruption.samples)
                    if share == 1 or now - reported >= REPORT_SECONDS:
                        reported = now
                        if fresh:
                            self._stage.report(request, fresh, view)
                            fresh = []
                        # Of work, not of cells: all samples of a cell need not be done together.
                        counted: dict[str, Any] = {"done": int(share * len(todo)), "total": len(todo)}
                        self._stage.say("progress", request, **counted, left=words.seconds_left(taken * (1 - share)))
                yield
        finally:
            with self.lock:
                if generation == self._stage.computed == self.generation and view == self.view:
                    self._stage.show_grid()
                    if not job.cancelled.is_set():  # who cancels says so
                        self._done(request, stopped=done < len(todo))

    # --- showing -----------------------------------------------------------------------------------------------------

    def _unselect(self) -> None:
        self.chosen = Chosen()
        self._screen.show_traits(selection=[], patches=[])
        self._stage.show_patched(None)


def _merged(requests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All that requests ask for, of two for the same the later."""
    return {name: value for request in requests for name, value in request.items()}


def _left(timeout: float | None, started: float) -> float | None:
    """Seconds that are left of a timeout."""
    return None if timeout is None else max(0.0, timeout - (time.monotonic() - started))


def _patch_key(chosen: Chosen) -> Hashable:
    """Every single cell clicked is computed, be the next click ever so quick; of sets only the latest."""
    return ("patch", chosen) if chosen.one else "patch a set"


def _is_there(chosen: Chosen, tracer: Tracer, sheet: Sheet, view: View) -> bool:
    """Whether what is chosen can be patched: the grid in view has these cells, the damage is done to the picture."""
    layers, positions = sheet.shape(view.block)
    fits = all(layer < layers and position < positions for layer, position in chosen.cells)
    return fits and (not chosen.patches or tracer.corruption.damages_image)


def _patched(tracer: Tracer, chosen: Chosen, view: View, job: Job) -> Effect:
    """The patched run of what is chosen."""
    if chosen.patches:
        columns = tracer.model.grid[1]
        tokens = [1 + row * columns + column for row, column in chosen.patches]
        return tracer.patch_image_tokens(tokens, view.direction, job.cancelled)  # type: ignore[arg-type]
    grid = tracer.cells(view.block, view.site, view.head, view.window)
    states = [state for cell in grid if cell.index in set(chosen.cells) for state in cell.states]
    return tracer.patch(states, view.direction, job.cancelled)  # type: ignore[arg-type]


def _write(cells: Cells, computed: Sequence[Cell], scores: NDArray[np.float64]) -> None:
    """Put scores, (samples, cells), where they belong."""
    for cell, values in zip(computed, scores.T, strict=True):
        cells.put(cell.index, values)


def _rows(tracer: Tracer, view: View) -> tuple[str, list[str]]:
    return view.block, tracer.tokens(view.block)
