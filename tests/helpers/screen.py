"""A screen that only writes down what it is shown."""

from contextlib import nullcontext

from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.widget.inputs import Inputs, Picture
from blip_trace_widget.widget.session import Session
from helpers.widgets import PACE


def session_of(tracer, screen, view=None, pace=PACE):
    """A session that computes for a screen."""
    screen.session = made = Session(
        tracer, screen, Inputs.of(tracer, Picture(tracer.image), view or GridSpec()), pace=pace
    )
    return made


class Screen:
    def __init__(self):
        self.lines, self.state, self.inputs, self.mended, self.buffers = [], {}, None, 0, []

    def show_traits(self, **state):
        self.lines += list(state.items())
        self.state.update(state)

    def together(self):
        return nullcontext()

    def say(self, content, buffers=None):
        self.lines.append((content["type"], content))
        self.buffers.append(buffers)

    def show_inputs(self, inputs, *, mended=False, gone=False):
        self.inputs = inputs
        self.mended += mended

    def choose(self, **changes):
        self.session.change(**changes)

    def said(self, kind):
        return [content for name, content in self.lines if name == kind]


def traced(tracer, spec):
    """A whole grid, by the `Tracer`'s methods."""
    asked = spec._asdict()
    hold, receivers, through = (asked.pop(name) for name in ("hold", "receivers", "through"))
    if receivers is None:
        return tracer.trace(**asked, hold=hold or None)
    del asked["window"]
    return tracer.trace_paths(receivers, **asked, through=through)
