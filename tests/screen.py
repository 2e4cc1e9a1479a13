"""A screen that only writes down what it is shown."""

from contextlib import nullcontext


class Screen:
    def __init__(self):
        self.lines, self.state, self.went_back, self.buffers = [], {}, [], []

    def show_traits(self, **state):
        self.lines += list(state.items())
        self.state.update(state)

    def together(self):
        return nullcontext()

    def say(self, content, buffers=None):
        self.lines.append((content["type"], content))
        self.buffers.append(buffers)

    def go_back(self, tracer, refused):
        self.went_back.append(tracer)

    def said(self, kind):
        return [content for name, content in self.lines if name == kind]
