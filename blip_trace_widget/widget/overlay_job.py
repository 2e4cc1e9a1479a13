"""The overlay on the picture: which map is requested, what of it is computed, and when the rest is.

For: keeping the overlay consistent with the runs shown, the grid's selection, and the layer that the mouse points at.
Cost: maps of image tokens, a text pass per square and sample, are filled in the background and kept within
`KEPT_BYTES`; attention and the strength of the corruption are read from the runs.
Ends: at a `View`; `blip_trace_widget.display.overlays` makes the payloads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.display import formatting, labels, protocol
from blip_trace_widget.display import overlays as maps
from blip_trace_widget.display.held import image_paths
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec
from blip_trace_widget.results.hold import as_hold
from blip_trace_widget.results.maps import squares
from blip_trace_widget.tracing.grid import as_image_token_trace
from blip_trace_widget.tracing.patching import image_token_scores
from blip_trace_widget.tracing.traces import image_path_scores
from blip_trace_widget.widget.grid_store import GridScores, inputs_of
from blip_trace_widget.widget.job_queue import GLANCE, MAP, JobQueue
from blip_trace_widget.widget.lru_cache import LruCache
from blip_trace_widget.widget.presenter import Presenter
from blip_trace_widget.widget.worker import Job, Slices

if TYPE_CHECKING:
    from blip_trace_widget.tracing.tracer import Tracer

#: Bytes for the maps of other inputs.
KEPT_BYTES = 16 * 2**20
#: The note on a map that has not begun.
WAITING = "waiting"


class OverlayJob:
    """Shows a map over the picture.

    Args:
        presenter: shows the results.
        jobs: the queue to submit jobs to.
        square: side of the squares of a map of image tokens, in patches.
    """

    def __init__(self, presenter: Presenter, jobs: JobQueue, square: int) -> None:
        self.overlay, self.square = "none", square
        self._presenter, self._jobs = presenter, jobs
        self._kept: LruCache[GridScores] = LruCache(KEPT_BYTES, lambda cells: cells.samples.nbytes)
        self._stopped = False
        self._shown: tuple[object, ...] | None = None  # overlay, square, and paths on screen

    def choose(self, overlay: str, square: int) -> None:
        """Show an overlay, with squares of this side."""
        self.overlay, self.square, self._stopped = overlay, square, False
        self.follow()

    def stop(self) -> None:
        """Stop filling; computed squares stay."""
        if self.overlay in maps.EFFECTS:
            self._stopped = True
            self.follow()

    def resume(self) -> None:
        """Fill the rest."""
        self._stopped = False
        self.follow()

    def follow_view(self) -> None:
        """Follow a change of the selection or of the grid in view."""
        if self.overlay in maps.ATTENTIONS or (self.overlay == maps.PATHS and self._asked != self._shown):
            self.follow()

    @property
    def picture_map(self) -> tuple[str, int, GridSpec | None] | None:
        """Of a map of image tokens: its direction, the side of its squares, and where paths lead; None for no such."""
        if self.overlay not in maps.EFFECTS or (self.overlay == maps.PATHS and self._paths is None):
            return None
        return maps.EFFECTS[self.overlay] or self._presenter.spec.direction, self.square, self._paths

    @property
    def _paths(self) -> GridSpec | None:
        """Where the paths of the map lead, and through what."""
        return paths_from_image(self._presenter.spec) if self.overlay == maps.PATHS else None

    @property
    def _asked(self) -> tuple[object, ...]:
        return self.overlay, self.square, self._paths

    def follow(self) -> None:
        """Show the overlay for the runs shown, as soon as it is computed."""
        self._jobs.cancel("overlay")
        presenter = self._presenter
        if presenter.computed is None:
            return
        if self.overlay in maps.EFFECTS:
            if not presenter.tracer.corruption.damages_image:
                why = labels.OVERLAYS["undamaged"]
                self._show(maps.nothing(self.overlay, presenter.computed, why))
            elif self.picture_map is None:
                self._show(maps.nothing(self.overlay, presenter.computed, labels.OVERLAYS[self.overlay]))
            elif self._missing().size and not self._stopped:
                if self._shown != self._asked:  # else keep the old map until there is a new one
                    self._show_effects(WAITING)
                self._jobs.submit("overlay", MAP, self._fill)
            else:
                self._show_effects()
        elif self.overlay == "none":
            self._show({})
        else:
            self._jobs.submit("overlay", GLANCE, self._glance)

    # --- attention, and the strength of the corruption ----------------------------------------------------------------

    def _glance(self, job: Job) -> Slices:
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            tracer, generation, spec = self._presenter.tracer, self._presenter.computed, self._presenter.spec
            overlay, cells = self.overlay, self._presenter.inputs.selection
        assert generation is not None
        if overlay != "strength":
            shown = _attention(tracer, overlay, cells, spec, generation)
        elif tracer.corruption.damages_image:
            shown = maps.strength(tracer.corruption_strength(), generation)
        else:
            shown = maps.nothing(overlay, generation, labels.OVERLAYS["undamaged"])
        with self._jobs.lock:
            if not job.cancelled.is_set():
                self._show(shown)
        yield

    def send_attention(self, layer: int, request: int) -> None:
        """Send each question token's attention to the image in a layer of the clean run, when the mouse is over it."""

        def slices(job: Job) -> Slices:
            with self._jobs.lock:
                tracer, generation = self._presenter.tracer, self._presenter.computed
                head = maps.head_of(self._presenter.spec)
            attention = tracer.attention("question_encoder", layer, head)
            weights = np.stack([attention.image(at).ravel() for at in range(len(attention.queries))])
            with self._jobs.lock:
                if not job.cancelled.is_set() and generation == self._presenter.computed:
                    rows, columns = tracer.model.grid
                    header = {"layer": layer, "head": head, "rows": rows, "columns": columns}
                    self._presenter.say("attention", request, [weights.astype("<f4").tobytes()], **header)
            yield

        self._jobs.cancel("attend")
        self._jobs.submit("attend", GLANCE, slices)

    # --- maps of image tokens ----------------------------------------------------------------------------------------

    def _squares(self) -> GridScores:
        """The squares of the requested map."""
        tracer = self._presenter.tracer
        shape, _ = squares(*tracer.model.grid, self.square)
        key = (*inputs_of(tracer), self.picture_map)
        return self._kept.get(key, lambda: GridScores.empty(tracer.corruption.samples, shape))

    def _missing(self) -> NDArray[np.int_]:
        return np.flatnonzero(~self._squares().known)

    def _fill(self, job: Job) -> Slices:
        with self._jobs.lock:
            if job.cancelled.is_set():
                return
            tracer, kept = self._presenter.tracer, self._squares()
            assert self.picture_map is not None
            direction, _, paths = self.picture_map
            todo = self._missing()
            _, groups = squares(*tracer.model.grid, self.square)
        flat = kept.samples.reshape(kept.samples.shape[0], -1)
        started = reported = time.monotonic()
        chosen = [groups[at] for at in todo]
        runs: Iterator[tuple[Any, NDArray[np.float64], float]]
        if paths is None or paths.receivers is None:
            runs = image_token_scores(tracer.case, chosen, direction, job.cancelled)
        else:
            into = paths.receivers, chosen, direction, paths.through
            runs = image_path_scores(tracer.case, *into, job.cancelled)
        try:
            for part, scores, share in runs:
                with self._jobs.lock:
                    if job.cancelled.is_set():
                        return
                    flat[:, todo[part]] = scores
                    kept.known.flat[todo[part]] = True
                    now = time.monotonic()
                    if share < 1 and now - reported >= self._jobs.pace.report:
                        reported = now
                        self._show_effects(formatting.seconds_left((now - started) * (1 / share - 1)))
                yield
        finally:
            with self._jobs.lock:
                if not job.cancelled.is_set():  # else whoever cancelled it updates the map
                    self._show_effects()

    def _show_effects(self, left: str = "") -> None:
        tracer, generation, cells = self._presenter.tracer, self._presenter.computed, self._squares()
        assert generation is not None
        assert self.picture_map is not None
        direction, square, paths = self.picture_map
        trace = as_image_token_trace(tracer.case, cells.samples.copy(), square, direction)
        text = "" if paths is None else image_paths(paths, tracer.tokens(paths.block))
        self._show(maps.effects(replace(trace, known=cells.known.copy()), self.overlay, generation, left, text))

    def _show(self, shown: Mapping[str, Any]) -> None:
        self._shown = (shown.get("overlay"), shown.get("square"), self._paths)
        self._presenter.view.show_traits(picture_map=shown)


def paths_from_image(spec: GridSpec) -> GridSpec | None:
    """The paths from the picture to the receivers of a grid; None if none of the question encoder's states receives.

    Into the text the picture comes through cross-attentions alone: where no receiver is one, they are let through.
    """
    receivers = () if spec.receivers is None or isinstance(spec.receivers, str) else spec.receivers
    if not receivers or any(state.block != "question_encoder" for state in receivers):
        return None
    through = as_hold(spec.through, "through").told
    if not any(state.head is not None and state.site.startswith("cross_attention") for state in receivers) and not any(
        state.site == "cross_attention_out" for state in receivers
    ):
        through = as_hold([*through, "cross_attention_out"], "through").told
    return GridSpec(direction=spec.direction, receivers=receivers, through=through)


def _attention(
    tracer: Tracer, overlay: str, cells: Sequence[CellIndex], spec: GridSpec, generation: int
) -> protocol.PictureMap:
    """The map of the selected tokens' attention, the mean over the selected cells of an encoder."""
    if spec.block == "answer_decoder" or not cells:
        return maps.nothing(overlay, generation, labels.OVERLAYS["attention"])
    head, minus = maps.head_of(spec), "heads" if overlay in maps.MINUS_HEADS else None
    if minus and head is None:
        return maps.nothing(overlay, generation, labels.OVERLAYS["heads"])
    weights = np.zeros(tracer.model.grid)
    for layer in sorted({layer for layer, _ in cells}):
        attention = tracer.attention(spec.block, layer, head, minus=minus)  # type: ignore[arg-type]
        for position in [position for at, position in cells if at == layer]:
            weights += attention.image(position, maps.ATTENTIONS[overlay])
    layer, position = cells[0]
    who = f"“{tracer.tokens(spec.block)[position]}” looks in layer {layer}"
    who = who if len(cells) == 1 else f"these {len(cells)} states look"
    return maps.attention(weights / len(cells), overlay, who, head, generation)
