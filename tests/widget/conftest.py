"""What the tests of the widget share."""

import comm
import pytest

from blip_trace_widget import GaussianNoise
from helpers.front_end import RecordingComm
from helpers.widgets import quick_widget


@pytest.fixture
def recording(monkeypatch):
    """Widgets that are made from here on write down what they send."""
    monkeypatch.setattr(comm, "create_comm", RecordingComm)


@pytest.fixture
def widget(demo, example):
    """A widget of the built-in example and two samples, whose two runs are computed."""
    made = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    made.wait(30)
    yield made
    made.close()
