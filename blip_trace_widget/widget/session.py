"""What is computed when: from requests to jobs on the worker, and from results to the view.

For: keeping what is shown consistent with what is asked. Every change of the model's input begins a new generation:
jobs of the older one are dropped, an update derives a tracer and shows its two runs, and then queues what was in view:
the selected cells, the cells of the grid, the noise curve. While only the corruption changes, a running update is
allowed to finish.
Ends: at a `View`. It knows the tracer and the worker, but no traits and no messages of a front end.
`blip_trace_widget.widget.update_job` does updates, `blip_trace_widget.widget.cells_job` computes cells.

Everything here except the computations happens under `lock`. A thread that has it takes what is computed as it is:
whether the model has changed is looked at by the jobs, on the worker, as a page waits for whoever has the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from blip_trace_widget.display import payloads
from blip_trace_widget.model.block import Cancelled
from blip_trace_widget.model.computing import Computing, ModelChangedError, without_glances
from blip_trace_widget.results.found_states import FoundStates
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.grid import as_trace
from blip_trace_widget.tracing.tracer import Tracer
from blip_trace_widget.widget.ablation_job import AblationJob
from blip_trace_widget.widget.also_under_job import AlsoUnderJob
from blip_trace_widget.widget.cells_job import CellsJob
from blip_trace_widget.widget.comparison import Comparison
from blip_trace_widget.widget.find_job import FindJob
from blip_trace_widget.widget.flow_job import FlowJob
from blip_trace_widget.widget.head_map_job import HeadMapJob
from blip_trace_widget.widget.inputs import Inputs
from blip_trace_widget.widget.job_queue import GLANCE, UPDATE, JobQueue, Pace
from blip_trace_widget.widget.lock import Lock
from blip_trace_widget.widget.lost import told_lost
from blip_trace_widget.widget.noise_curve_job import NoiseCurveJob
from blip_trace_widget.widget.overlay_job import OverlayJob
from blip_trace_widget.widget.presenter import Presenter, trace_of
from blip_trace_widget.widget.update_job import Request, UpdateJob
from blip_trace_widget.widget.verify_job import VerifyJob
from blip_trace_widget.widget.view import View
from blip_trace_widget.widget.worker import Job, Slices, worker_of


class Session:
    """Computes for one view.

    Args:
        tracer: the first tracer.
        view: the view to show it in.
        inputs: the tracer's inputs, and what is in view.
        square: side of the squares of a map over the picture, in patches.
        before: the session that it replaces in that view.
        pace: how long its jobs take for what; default that of the session that it replaces, or `Pace()`.

    Attributes:
        lock: guards the session and its view.
        overlay_job: the overlay on the picture.
        heads: the map of heads.
        comparison: the kept grid, if any.
    """

    def __init__(
        self,
        tracer: Tracer,
        view: View,
        inputs: Inputs,
        square: int = 1,
        before: Session | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.lock: Lock = Lock(around=without_glances) if before is None else before.lock
        self.comparison: Comparison = Comparison() if before is None else before.comparison
        generation = 0 if before is None else before.generation + 1
        pace = pace if before is None else before._jobs.pace
        self._presenter = Presenter(tracer, view, inputs, self.comparison, generation)
        worker = worker_of(tracer.model.hf, around=without_glances)
        self._jobs: JobQueue = JobQueue(worker, self._failed, self.lock, self._outdated, pace)
        self._errands = JobQueue(worker, self._failed, self.lock, pace=pace)
        self._cells = CellsJob(self._presenter, self._jobs)
        self._update = UpdateJob(self._presenter, self._jobs, self._cells, self._follow)
        self.overlay_job = OverlayJob(self._presenter, self._jobs, square)
        self.heads = HeadMapJob(self._presenter, self._jobs)
        self._ablation = AblationJob(self._presenter, self._jobs)
        self._noise_curve = NoiseCurveJob(self._presenter, self._jobs)
        self._also_under = AlsoUnderJob(self._presenter, self._errands, self.comparison)
        self._verify = VerifyJob(self._presenter, self._jobs)
        self._find = FindJob(self._presenter, self._jobs)
        self._flow = FlowJob(self._presenter, self._jobs)

    @property
    def tracer(self) -> Tracer:
        """The tracer that is shown."""
        return self._presenter.tracer

    @property
    def inputs(self) -> Inputs:
        """What is asked."""
        return self._presenter.inputs

    @property
    def generation(self) -> int:
        """Counts changes of the inputs."""
        return self._presenter.generation

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compute and show the tracer's two runs, and what is in view."""
        self._update.begin()

    def change(self, request: int = 0, **changes: Any) -> None:
        """Change some of the inputs, and everything that must change as a consequence.

        Args:
            request: id of the request to answer when done; 0 for none.
            changes: fields of `Inputs`.
        """
        with self.lock:
            before = self.inputs
            inputs = before.changed(self.tracer.model, **changes)
            self.ask(inputs, request)
            if lost := told_lost(before, inputs, asked=changes):
                self._presenter.view.show_traits(error=lost)

    def ask(self, inputs: Inputs, request: int = 0) -> None:
        """Set the inputs: whatever differs from the previous ones is computed and shown."""
        with self.lock:
            before = self.inputs
            self._presenter.ask(inputs)
            names = inputs.differing(before)
            if names:
                self._update.ask(Request(names, inputs))
            if inputs.spec != before.spec:
                self._show_grid(before.spec)
            if inputs.selected != before.selected or request:
                self._presenter.selected_for = self.generation
                self._presenter.view.show_traits(error="")
                self._cells.select(request, again=inputs.selected == before.selected)
                self.overlay_job.follow_view()
            if inputs.strength != before.strength:
                self._presenter.view.show_traits(error="")
            if (inputs.strength, inputs.selected, inputs.spec) != (before.strength, before.selected, before.spec):
                self._ablation.follow()

    def _show_grid(self, before: GridSpec) -> None:
        """Show another grid of the same runs."""
        self._jobs.cancel(keep=("update", "curve", "overlay", "heads", "find", "flow"))
        self._want_as(before)
        if self.inputs.block != before.block:
            self._cells.set_visible(None)
        if self._presenter.has_grid:  # else the update shows it
            self._update.follow_view()
            self._presenter.show_grid()
            self._presenter.show_others()
            self._jobs.submit("look", GLANCE, _look)
        if self._presenter.is_settled:  # else the pending update continues from here
            self._update.fill_view()
            self.overlay_job.follow_view()
            self.heads.follow()

    def _want_as(self, before: GridSpec) -> None:
        """Want what was wanted of the grid before: the same cells, computed anew; or all that sends to receivers."""
        store, spec = self._presenter.store, self.inputs.spec
        if not (self._presenter.has_grid and store.has(before.block)):
            return
        theirs = store.cells(before)
        if spec._replace(hold=()) == before._replace(hold=()):
            self._presenter.cells.wanted |= theirs.wanted
        elif None not in (spec.receivers, before.receivers) and len(theirs.wanted) == theirs.known.size:
            self._presenter.cells.want_all()

    def _follow(self) -> None:
        """Let the other jobs follow a change of the runs."""
        self.overlay_job.follow()
        self.heads.follow()
        self._noise_curve.follow()
        self._ablation.follow()
        self._find.follow()
        self._flow.follow()

    def pin(self, on: bool) -> None:
        """Pin the patched run of the selected cells beside the next ones, or unpin it."""
        with self.lock:
            self._presenter.pin(on)

    def compare(self, on: bool, code: str = "") -> None:
        """Keep the grid in view to compare others with it, or stop comparing; see `Comparison.keep`.

        Raises:
            ValueError: if the grid is not computed, or cannot be compared.
        """
        with self.lock:
            presenter = self._presenter
            if on and not presenter.has_grid:
                raise ValueError("compare: the grid in view is not computed yet; wait for it first")
            if on:
                cells = presenter.cells  # not a copy of its samples, see `Comparison.keep`
                trace = as_trace(self.tracer.case, cells.samples, self.inputs.spec, sorted(cells.dead))
                self.comparison.keep(trace, code, self.tracer.corruption)
                self._also_under.stop()
            else:
                self._also_under.stop()
                self.comparison.clear()
            if presenter.has_grid:
                presenter.show_grid()
            else:
                presenter.view.show_traits(compared={})

    def also_under(self, other: Corruption) -> None:
        """Fill the grid in view, compute it under another corruption, and keep that one to compare with."""
        with self.lock:
            self._presenter.view.show_traits(error="")
            self._also_under.begin(other)
            self._cells.trace_all(0)

    def set_visible_range(self, first: int, last: int) -> None:
        """Set the first and last visible position of the grid: visible ones are computed first."""
        with self.lock:
            self._cells.set_visible(range(first, last + 1))

    def trace_all(self, request: int = 0) -> None:
        """Fill the grid in view."""
        with self.lock:
            self._cells.trace_all(request)

    def verify(self, request: int = 0) -> None:
        """Compute random cells of the grid in view again by plain hooks.

        Raises:
            ValueError: if none of its cells is computed.
        """
        with self.lock:
            self._verify.start(request)
            self._presenter.view.show_traits(error="")

    @property
    def found(self) -> FoundStates | None:
        """The set that was found for the runs shown."""
        with self.lock:
            return self._find.found

    def find(self, request: int = 0, **asked: Any) -> None:
        """Search for a set of states, see `FindJob.start`.

        Raises:
            ValueError: if nothing can be searched now.
        """
        with self.lock:
            self._presenter.view.show_traits(error="")
            self._find.start(request, **asked)

    def flow(self, request: int = 0) -> None:
        """Compute the flow between groups of tokens.

        Raises:
            ValueError: if nothing can be computed now.
        """
        with self.lock:
            self._presenter.view.show_traits(error="")
            self._flow.start(request)

    def show_member(self, index: int) -> None:
        """Select a member of the set that was found.

        Raises:
            ValueError: if there is none.
        """
        with self.lock:
            self._find.member(index)

    def stop(self) -> None:
        """Stop filling the grid, verifying it, or searching; computed cells stay."""
        with self.lock:
            self._cells.stop()
            self._also_under.stop()
            self._verify.stop()
            self._find.stop()
            self._flow.stop()

    def wait(self, timeout: float | None) -> bool:
        """Block until nothing is left to do; False after `timeout` seconds.

        Raises:
            RuntimeError: on the worker's own thread.
        """
        started = time.monotonic()
        while self._errands.wait(_left(timeout, started)):  # an errand may ask for more
            if not self._jobs.wait(_left(timeout, started)):
                return False
            if not self._errands.busy:
                return True
        return False

    def close(self) -> None:
        """Drop all work."""
        self._jobs.cancel()
        self._errands.cancel()

    @property
    def computed(self) -> bool:
        """Whether any cell of the grid in view is computed."""
        with self.lock:
            return self._presenter.has_grid and bool(self._presenter.cells.computed())

    @property
    def trace(self) -> Trace:
        """The grid in view as computed so far."""
        return self.traces[0]

    @property
    def traces(self) -> list[Trace]:
        """All computed grids of the inputs shown, the grid in view first."""
        tracer = self.tracer
        tracer.prepare()  # not under our lock, which a handler may be waiting for
        snapshot, store = tracer.snapshot, self._update.store_of(tracer)
        with self.lock:
            spec = self.inputs.spec
            spec = spec if store.has(spec.block) else spec._replace(block=GridSpec().block, patch=1)
            if snapshot is not None and tracer is self.tracer:
                snapshot = replace(snapshot, curve=self._noise_curve.shown)
            specs = dict.fromkeys([spec, *store.computed()])
            return [
                replace(trace_of(tracer, store.cells(known_spec), known_spec), snapshot=snapshot)
                for known_spec in specs
            ]

    def trace_of(self, block: str) -> Trace | None:
        """The grid of a block, otherwise like the one in view; None if there is none or the runs are not computed."""
        with self.lock:
            spec = self.inputs.in_block(block, self.tracer.model.grid).spec
            store = self._presenter.store
            sites = BLOCKS[block].accepted if spec.head is None else BLOCKS[block].heads
            if not store.has(block) or spec.site not in sites:
                return None
            return trace_of(self.tracer, store.cells(spec), spec)

    def tokens(self, block: str) -> list[str] | None:
        """Names of a block's positions; None while unknown without computing."""
        known = self._presenter.computed == self.generation and self._presenter.store.has(block)
        return self.tracer.tokens(block) if known else None

    def columns(self, block: str, patch: int) -> int | None:
        """Number of columns of a block's grid; None while unknown without computing."""
        known = self._presenter.computed == self.generation and self._presenter.store.has(block)
        return self._presenter.store.shape(GridSpec(block, patch=patch))[1] if known else None

    def later(self, work: Callable[[], None], key: Hashable = None) -> None:
        """Do something on the worker's thread that would block a handler; changes of inputs do not drop it.

        Args:
            work: what to do.
            key: only the latest work with the same key is done.
        """

        def slices(_job: Job) -> Slices:
            work()
            yield

        if key is not None:
            self._errands.cancel(key)
        self._errands.submit(key or object(), UPDATE, slices)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _outdated(self) -> bool:
        """Whether somebody changed the model since the results shown were computed; if so, queues an update."""
        model = self.tracer.model
        with Computing(model):
            version = model.version
        with self.lock:
            if self._presenter.computed is None or version == self._presenter.version:
                return False
            self._update.ask()
            return True

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, ModelChangedError):
            with self.lock:
                self._update.ask()
        elif not isinstance(error, Cancelled):
            self._presenter.view.show_traits(error=payloads.complaint(error))


def _look(_job: Job) -> Slices:
    """Nothing: before a job the model is looked at, see `Session._outdated`."""
    yield from ()


def _left(timeout: float | None, started: float) -> float | None:
    """Remaining seconds of a timeout."""
    return None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
