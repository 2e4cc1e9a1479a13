"""A small set of states that together bring the answer back, searched for on request.

For: "Find a set…". A step of the search at a time, so that clicks are answered in between.
Cost: some grids, see `blip_trace_widget.tracing.finding`.
Ends: at the trait `found`, at progress reports, and at the set as the selection where it is cells of one grid.
"""

from __future__ import annotations

from typing import Any

from blip_trace_widget.display import found as words
from blip_trace_widget.results.found_states import FoundStates, Member
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.tracing.finding import Finding
from blip_trace_widget.widget.grid_store import inputs_of
from blip_trace_widget.widget.job_queue import MAP, JobQueue
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.stepped import stepped
from blip_trace_widget.widget.worker import Job, Slices


class FindJob:
    """The search for a set.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue) -> None:
        self._presenter, self._jobs = presenter, jobs
        self._of: object = None  # what the set was found for
        self._found: FoundStates | None = None
        self._shown = False

    @property
    def found(self) -> FoundStates | None:
        """The set that was found for the runs shown."""
        return self._found if self._of == inputs_of(self._presenter.tracer) else None

    def start(self, request: int, **asked: Any) -> None:
        """Search; `request` is answered once that is done.

        Args:
            request: id of the request.
            asked: target, among and direction, see `Tracer.find_states`; states are those of the block in view.

        Raises:
            ValueError: if nothing can be searched now.
        """
        presenter = self._presenter
        if not presenter.is_settled:
            raise ValueError("find: the two runs are not computed yet; wait for them first")
        if asked["among"] == "states":
            if presenter.spec.block == "image_encoder":
                raise ValueError(
                    "find: single image tokens in every layer are too many; look at another block, or search heads"
                )
            asked["blocks"] = presenter.spec.block
        self._jobs.answer(
            "find", MAP, lambda job: self._slices(job, request, asked), lambda job: self._ended(job, request)
        )

    def stop(self) -> None:
        """Stop searching; what was found before stays."""
        self._jobs.cancel("find")

    def follow(self) -> None:
        """Follow a change of the runs: show what was found for them, if anything was."""
        found = self.found
        self._show({} if found is None else dict(words.found(found, self._presenter.computed or 0)))

    def member(self, index: int) -> None:
        """Select the states of one member of the set, in the grid that they are cells of.

        Raises:
            ValueError: if there is no such member.
        """
        if self.found is None or not 0 <= index < len(self.found.members):
            raise ValueError(f"member: expected one of the set that was found, got {index}")
        self._select([self.found.members[index]], self.found.settings["direction"])

    def _select(self, members: list[Member], direction: str) -> None:
        states = [state for member in members for state in member.states]
        grids = {GridSpec(state.block, state.site, state.head).by_present_name[:3] for state in states}
        if len(grids) == 1:
            [(block, site, head)] = grids
            self._presenter.view.choose(
                block=block,
                site=site,
                head=head,
                window=1,
                patch=1,
                hold=(),
                receivers=None,
                direction="disrupt" if direction == "disrupt" else "restore",
                selection=[(state.layer, state.position) for state in states],
            )

    def _slices(self, job: Job, request: int, asked: dict[str, Any]) -> Slices:
        presenter = self._presenter
        with self._jobs.lock:
            tracer, generation, of = presenter.tracer, presenter.computed or 0, inputs_of(presenter.tracer)
        finding = Finding(tracer.case, **asked, cancel=job.cancelled)

        def show() -> None:
            self._show(dict(words.searching(finding.way, asked["target"], generation)))

        if not (yield from stepped(finding, presenter, self._jobs, job, request, show)):
            return
        found = finding.found()
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            self._found, self._of = found, of
            self._show(dict(words.found(found, generation)))
            self._select(list(found.members), asked["direction"])
            job.complete = True

    def _ended(self, job: Job, request: int) -> None:
        if not job.complete:
            self.follow()  # what was shown of the search goes
        self._presenter.answer(request, stopped=not job.complete)

    def _show(self, payload: dict[str, Any]) -> None:
        if payload or self._shown:
            self._presenter.view.show_traits(found=payload)
        self._shown = bool(payload)
