"""TraceWidget: a figure that is computed, anew or from a tracer, or played back.

For: the constructors of a figure, and changing its model.
Cost: a named model is loaded first; everything that uses the model runs on the model's worker. Playback needs neither a
model nor torch, which is therefore imported only where a session is made.
Ends: at constructors; `blip_trace_widget.widget.figure_widget` is the interface of a figure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blip_trace_widget.choices import CORRUPTIONS
from blip_trace_widget.demo import examples
from blip_trace_widget.display import payloads
from blip_trace_widget.display.overlays import square_for
from blip_trace_widget.pictures import ImageLike
from blip_trace_widget.results import recording
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.widget.figure_widget import FigureWidget, path_of
from blip_trace_widget.widget.inputs import Inputs, Picture
from blip_trace_widget.widget.job_queue import Pace
from blip_trace_widget.widget.lost import lost
from blip_trace_widget.widget.replay import Replay
from blip_trace_widget.widget.undo import UndoStack

if TYPE_CHECKING:
    from blip_trace_widget.dataset.alignment import Roles
    from blip_trace_widget.dataset.traced import DatasetTrace
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.tracing.tracer import Tracer
    from blip_trace_widget.widget.dataset import DatasetWidget

#: The result traits of a model that has computed nothing yet.
NOTHING: dict[str, Any] = {
    **{name: {} for name in ("runs", "grid", "detail", "pinned", "curve", "picture_map", "heads")},
    "grids": [],
}


class TraceWidget(FigureWidget):
    """Interactive causal tracing of one image and question.

    Args:
        image: see `blip_trace_widget.Tracer`; default the built-in example.
        question: the question.
        model: a `BlipVqa`, a hub id, a folder, or the name of a built-in model; default the one that learned.
        pace: how often it reports, and what it computes along with the noise; see
            `blip_trace_widget.widget.job_queue.Pace`.
        keywords: `answer`, `foil`, `corruption` and `metric` as in `blip_trace_widget.Tracer`.

    Its traits can be observed and linked, and those of `blip_trace_widget.widget.traits.TraceTraits` set; each trait's
    help says what it accepts. `image`, `answer` and `model` can be set too.

    Raises:
        TypeError, ValueError, OSError: naming the argument, what was given and what is accepted.
    """

    def __init__(
        self,
        image: ImageLike | None = None,
        question: str | None = None,
        *,
        model: BlipVqa | str | os.PathLike[str] | None = None,
        pace: Pace | None = None,
        **keywords: Any,
    ) -> None:
        if (image is None) != (question is None):
            raise ValueError("image, question: give both, or neither for the built-in example")
        if not (pace is None or isinstance(pace, Pace)):
            raise TypeError(f"pace: expected a Pace, got {type(pace).__name__}")
        unknown = set(keywords) - {"answer", "foil", "corruption", "metric"}
        if unknown:
            name = min(unknown)
            raise TypeError(
                f"TraceWidget: unknown argument {name!r}, accepted are image, question, model, answer, foil, "
                "corruption, metric, pace"
                + (f"; {name} is a trait, set it afterwards: widget.{name} = …" if self.has_trait(name) else "")
            )
        from blip_trace_widget.model.blip import BlipVqa
        from blip_trace_widget.model.model_of import as_model
        from blip_trace_widget.tracing.tracer import Tracer

        model = BlipVqa.demo() if model is None else as_model(model)
        selected = -1
        if image is None or question is None:
            selected = 0
            shown = examples(model)[selected]
            image, question = shown.image, shown.question
        self._start(Tracer(model, image, question, **keywords), selected, path_of(image), pace)

    @classmethod
    def from_tracer(cls, tracer: Tracer) -> TraceWidget:
        """A widget that continues from a tracer and shares what it has computed.

        Raises:
            TypeError: if it is not a tracer.
            ValueError: if its corruption or metric is a user's own, or it has more than 200 samples, which the front
                end cannot show.
        """
        from blip_trace_widget.tracing.tracer import Tracer

        if not isinstance(tracer, Tracer):
            raise TypeError(f"tracer: expected Tracer, got {type(tracer).__name__}")
        widget = cls.__new__(cls)
        widget._start(tracer)
        return widget

    @classmethod
    def from_trace(cls, trace: Trace | Sequence[Trace] | str | os.PathLike[str]) -> TraceWidget:
        """A widget that shows recorded traces without a model.

        Recorded cells can be clicked; recorded blocks, sites and noise factors can be chosen. Nothing else is computed
        or can be asked.

        Args:
            trace: a trace by `Tracer.trace`, or several of one question; or the path of a file by `Trace.save` or
                `Tracer.record`.

        Raises:
            FileNotFoundError, OSError: if the file cannot be opened.
            TypeError, ValueError: if it is damaged, of another kind or of a newer format, if a trace has no snapshot
                (`Trace.snapshot`), or if the traces are not of one picture and question.
        """
        path = path_of(trace)
        if isinstance(trace, (str, os.PathLike)):
            traces: Sequence[Trace] = recording.load(trace)
        else:
            traces = [trace] if isinstance(trace, Trace) else list(trace)
        widget = cls.__new__(cls)
        try:
            replay = Replay(traces, widget, path)
        except (TypeError, ValueError) as error:
            if path is None:
                raise
            raise type(error)(f"path: {path!r} cannot be shown: {error}") from error
        widget._begin(replay)
        return widget

    @staticmethod
    def from_dataset(folder: DatasetTrace | str | os.PathLike[str], align: str | Roles | None = None) -> DatasetWidget:
        """A widget that shows a traced data set without a model: the average grid, and beside it the samples.

        Args:
            folder: a folder by `trace_dataset`, or a `DatasetTrace` (or a selection of one).
            align: how to align different questions, see `DatasetTrace.mean`; default ``"exact"`` if all have the same
                length, else ``"ends"``.

        Raises:
            FileNotFoundError, OSError: if there is no such folder.
            TypeError, ValueError: if `trace_dataset` did not write it, it is damaged, or no sample in it was traced.
            ImportError: if the extra ``data`` is not installed.
        """
        from blip_trace_widget.widget.dataset import DatasetWidget

        return DatasetWidget(folder, align)

    def _start(self, tracer: Tracer, example: int = -1, path: str | None = None, pace: Pace | None = None) -> None:
        from blip_trace_widget.tracing.metrics import METRICS
        from blip_trace_widget.widget.session import Session

        kind = type(tracer.corruption).__name__
        if kind not in CORRUPTIONS:
            raise ValueError(f"corruption: the widget needs one of {list(CORRUPTIONS)}, got {kind}")
        if METRICS.get(tracer.metric.name) is not tracer.metric.score:
            raise ValueError(f"metric: the widget needs one of {list(METRICS)}, got {tracer.metric.name!r}")
        inputs = Inputs.of(tracer, Picture(tracer.image, path), GridSpec(), example)
        self._begin(Session(tracer, self, inputs, square_for(tracer.model.grid), pace=pace))

    @property
    def model(self) -> BlipVqa:
        """The model; can be set to a `BlipVqa`, a hub id, a folder or the name of a built-in model.

        Inputs that do not fit it are dropped and named; one whose circuit is known shows an example of its own.

        Raises:
            TypeError, ValueError, OSError: on setting, if it cannot be loaded, the question is too long for it, or the
                figure is a recording.
            RuntimeError: on setting, if the widget is closed.
        """
        return self.tracer.model

    @model.setter
    def model(self, model: BlipVqa | str | os.PathLike[str]) -> None:
        from blip_trace_widget.model.model_of import as_model

        self._needs_model("model")
        given = as_model(model)
        with self._session.lock:
            if given is not self.model:
                self._use_model(given)

    def _use_model(self, model: BlipVqa) -> None:
        """Continue with another model, and drop the inputs that it cannot take."""
        from blip_trace_widget.tracing.tracer import Tracer
        from blip_trace_widget.widget.session import Session

        before = self._session
        assert isinstance(before, Session)
        wanted, dropped = before.inputs.for_model(model, self.model)
        dropped += lost(before.inputs, wanted)
        # Whether a foil has as many tokens as the answer is known only once the answer is computed.
        inputs = replace(wanted, foil="", metric=payloads.BEGINNING["metric"]) if wanted.foil else wanted
        arguments = inputs.arguments(("image", "question", "answer", "metric", "corruption"))
        after = Session(Tracer(model, **arguments), self, inputs, min(self.square, max(model.grid)), before)
        before.close()
        with self.together():
            self._session = after
            self._undo = UndoStack(inputs)
            self.show_traits(**NOTHING, picture=inputs.picture.jpeg, generation=after.generation)
            self.show_inputs(inputs)
            self.show_traits(square=after.overlay_job.square)
            after.overlay_job.choose(self.overlay, self.square)
            after.begin()
            if wanted != inputs:
                after.ask(wanted)
                self._undo = UndoStack(wanted)
            self._show_steps()
            if dropped:
                self.show_traits(error=f"model: {', '.join(dropped)} did not fit {model.name} and was let go")
