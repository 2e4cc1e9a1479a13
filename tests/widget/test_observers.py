"""Users' functions that observe a widget: what they set counts, what they print is seen, what they raise is theirs."""

import contextlib
import time

import pytest
import traitlets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipywidgets import FloatText
from jupyter_client.manager import start_new_kernel

from blip_trace_widget import GaussianNoise, State, Tracer, TraceWidget
from blip_trace_widget.display.protocol import PROTOCOL_VERSION
from blip_trace_widget.widget.observers import HEARD, LOOK
from helpers.widgets import PACE, quick_widget

RESULTS = ["runs", "detail", "grid", "picture_map", "curve", "generation", "setup", "error"]
QUESTIONS = ["what color is the circle?", "how many circles are there?", "what shape is red?"]
WRITES = st.one_of(
    st.tuples(st.just("noise"), st.sampled_from([0.5, 3.0, 8.0])),
    st.tuples(st.just("seed"), st.integers(0, 2)),
    st.tuples(st.just("question"), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("selection"), st.sampled_from([[], [(5, 5)], [(0, 1), (2, 2)]])),
    st.tuples(st.just("block"), st.sampled_from(["question_encoder", "answer_decoder"])),
    st.tuples(st.just("window"), st.integers(1, 2)),
    st.tuples(st.just("direction"), st.sampled_from(["restore", "disrupt"])),
    st.tuples(st.just("metric"), st.sampled_from(["probability", "log_probability"])),
    st.tuples(st.just("foil"), st.sampled_from(["", "blue"])),
    st.tuples(st.just("corruption"), st.sampled_from(["GaussianNoise", "QuestionSwap", "MeanAblation"])),
)


def agrees(widget, model):
    """Whether the traits say what is computed: the tracer's inputs, and the numbers of one of its own."""
    assert widget.tracer.question == widget.question
    assert widget.tracer.metric.name == widget.metric
    assert (widget.tracer.foil or "") == widget.foil
    corruption = widget.tracer.corruption
    assert type(corruption).__name__ == widget.corruption
    if isinstance(corruption, GaussianNoise):
        asked = (widget.noise, widget.samples, widget.seed, widget.kind, widget.at)
        made = (corruption.factor, corruption.samples, corruption.seed, corruption.kind, corruption.at)
        assert asked == made
    alone = Tracer(
        model,
        widget.tracer.image,
        widget.question,
        foil=widget.foil or None,
        metric=widget.metric,
        corruption=corruption,
    )
    assert widget.runs["generation"] == widget.generation
    assert widget.runs["clean"]["score"] == pytest.approx(alone.clean.score, abs=1e-5)
    assert widget.runs["corrupted"]["score"] == pytest.approx(alone.corrupted.score, abs=1e-5)
    view = {name: widget.grid[name] for name in ("block", "site", "head", "direction", "window")}
    assert view == {name: getattr(widget, name) for name in view}
    if widget.selection:
        assert [tuple(cell) for cell in widget.detail["cells"]] == widget.selection
        states = [
            State(widget.block, layer, position, widget.site)
            for first, position in widget.selection
            for layer in range(first - widget.window // 2, first - widget.window // 2 + widget.window)
            if 0 <= layer < len(model.blocks[widget.block].layers)
        ]
        effect = alone.patch(states, widget.direction)
        assert widget.detail["indirect_effect"] == pytest.approx(effect.indirect_effect, abs=1e-5)
    else:
        assert widget.detail == {}


@pytest.mark.parametrize("result", ["runs", "detail", "grid", "picture_map", "generation"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("noise", 3.0), ("selection", [(1, 1)]), ("block", "answer_decoder"), ("question", QUESTIONS[1])],
)
def test_what_an_observer_of_a_result_sets_is_computed(widget, demo, result, name, value):
    widget.overlay = "strength"
    widget.selection = [(5, 5)]
    widget.wait(30)
    widget.observe(lambda _change: setattr(widget, name, value), result)
    widget.noise = 8.0
    widget.wait(30)
    assert getattr(widget, name) == value
    agrees(widget, demo)


@given(
    observers=st.lists(st.tuples(st.sampled_from(RESULTS), WRITES, st.integers(1, 3)), max_size=3),
    writes=st.lists(st.tuples(WRITES, st.sampled_from([0, 0.002, 0.02])), min_size=1, max_size=4),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_sets_what_and_when_the_traits_say_what_is_computed(demo, example, observers, writes):
    widget = quick_widget(example.image, example.question, model=demo, corruption=GaussianNoise(samples=2))
    for result, (name, value), times in observers:
        left = iter(range(times))

        def observer(_change, name=name, value=value, left=left):
            if next(left, None) is not None:
                setattr(widget, name, value)

        widget.observe(observer, result)
    for (name, value), pause in writes:
        with contextlib.suppress(ValueError):  # a selection that this block has not, say
            setattr(widget, name, value)
        time.sleep(pause)
    widget.wait(60)
    agrees(widget, demo)
    widget.close()


def test_observers_are_never_called_amid_a_change(widget):
    """Not when the runs are there but the grid is still the old one."""
    seen = []
    widget.trace_all()
    widget.wait(30)
    widget.observe(lambda _: seen.append((widget.runs["generation"], widget.grid["generation"])), ["runs", "grid"])
    widget.noise = 3.0
    widget.wait(30)
    assert seen
    assert all(runs == grid for runs, grid in seen)


def test_an_exception_of_an_observer_is_its_own(widget, capfd):
    def careless(_change):
        raise ZeroDivisionError("mine")

    widget.observe(careless, "runs")
    widget.noise = 8.0
    widget.wait(30)
    said = capfd.readouterr()
    assert "ZeroDivisionError: mine" in said.err + said.out
    assert "in careless" in said.err + said.out
    assert "careless, a function of your own that observes 'runs', raised ZeroDivisionError: mine" in widget.error
    assert widget.noise == widget.tracer.corruption.factor == 8.0
    widget.unobserve(careless, "runs")
    widget.selection = [(5, 5)]
    widget.wait(30)
    assert widget.error == ""
    assert widget.detail


def test_its_message_leaves_with_the_next_result_that_nobody_asked_for_again(widget):
    once = iter([1])

    def careless(_change):
        if next(once, None):
            raise KeyError("mine")

    widget.observe(careless, "detail")
    widget.selection = [(5, 5)]
    widget.wait(30)
    assert "KeyError" in widget.error
    widget.trace_all()
    widget.wait(30)
    assert widget.error == ""


def test_a_refused_input_is_not_an_observers_fault_nor_the_reverse(widget):
    def careless(_change):
        raise ValueError("foil: mine")

    widget.observe(careless, "error")
    widget.foil = "red blue"
    widget.wait(30)
    assert "foil" in widget.error
    assert "mine" not in widget.error
    assert widget.foil == ""


def test_an_exception_goes_to_the_line_of_python_that_set_the_trait_as_traitlets_does(widget):
    widget.observe(lambda _change: 1 / 0, "noise")
    with pytest.raises(ZeroDivisionError):
        widget.noise = 8.0
    widget.wait(30)
    assert widget.tracer.corruption.factor == widget.noise == 8.0


def test_an_observer_is_let_go_and_counted_once(widget):
    seen = []
    for _ in range(2):
        widget.observe(seen.append, "runs")
    widget.noise = 3.0
    widget.wait(30)
    assert len(seen) == 1
    widget.unobserve(seen.append, "runs")
    widget.noise = 4.0
    widget.wait(30)
    assert len(seen) == 1


def test_links_and_observers_of_a_subclass_work(demo, example):
    class Counting(TraceWidget):
        counted = 0

        @traitlets.observe("runs")
        def _count(self, _change):
            self.counted = self.counted + 1
            if self.counted == 1:
                self.noise = 2.0

    widget = Counting(example.image, example.question, model=demo, pace=PACE)
    box = FloatText(7.0)
    traitlets.link((box, "value"), (widget, "noise"))
    widget.wait(30)
    assert widget.counted >= 2
    assert box.value == widget.noise == widget.tracer.corruption.factor == 2.0
    box.value = 6.0
    widget.wait(30)
    assert widget.tracer.corruption.factor == 6.0
    widget.close()


# --- in a kernel -----------------------------------------------------------------------------------------------------

SETUP = """
import threading
from blip_trace_widget import TraceWidget
w = TraceWidget()
w.wait(60)
"""


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


class Page:
    """What a page does: it runs cells, sends messages, and hears what is said to each."""

    def __init__(self, client):
        self.client, self.heard = client, []

    def run(self, code):
        """Run a cell; the number of its request."""
        number = self.client.execute(code)
        self.until(lambda message: message["parent_header"].get("msg_id") == number and idle(message))
        errors = [
            message["content"] for message in self.heard if message["msg_type"] == "error" and of(message, number)
        ]
        assert not errors, errors[0]["traceback"]
        return number

    def value(self, expression):
        number = self.run(f"print(repr({expression}))")
        return "".join(self.printed(number)).strip()

    def send(self, model, **data):
        content = {"comm_id": model, "data": data}
        message = self.client.session.msg("comm_msg", content)
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def until(self, condition, timeout=30):
        end = time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
            self.heard.append(message)
            if condition(message):
                return message

    def printed(self, number):
        return [each["content"]["text"] for each in self.heard if each["msg_type"] == "stream" and of(each, number)]


def of(message, number):
    return message["parent_header"].get("msg_id") == number


def idle(message):
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


def says(message, text):
    return message["msg_type"] == "stream" and text in message["content"]["text"]


def called(message):
    data = message["content"].get("data", {}) if message["msg_type"] == "comm_msg" else {}
    return data.get("method") == "custom" and data["content"]["type"] == "call"


@pytest.fixture
def page(kernel):
    page = Page(kernel)
    page.run(SETUP)
    page.model = page.value("w.model_id").strip("'")
    return page


def test_what_an_observer_prints_goes_to_its_cell_where_a_page_calls_back(page):
    cell = page.run("w.observe(lambda c: print('seen', threading.current_thread() is threading.main_thread()), 'runs')")
    page.run("'another cell'")
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    page.until(called)
    page.send(page.model, method="custom", content={"type": "called", "id": 9})
    message = page.until(lambda message: says(message, "seen"))
    assert of(message, cell)
    page.run("w.close()")


def test_and_where_none_does(page):
    cell = page.run(
        "w.observe(lambda c: print('alone', threading.current_thread() is threading.main_thread()), 'runs')"
    )
    page.run("'another cell'")
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    message = page.until(lambda message: says(message, "alone"))
    assert of(message, cell)
    assert "True" in message["content"]["text"]
    page.run("w.close()")


def test_an_output_widget_takes_what_is_printed_while_a_message_is_handled(page):
    page.run(
        "import ipywidgets\nout = ipywidgets.Output()\n"
        "def show(c):\n    with out:\n        print('within')\nw.observe(show, 'runs')"
    )
    out = page.value("out.model_id").strip("'")
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    page.until(called)
    number = page.send(page.model, method="custom", content={"type": "called", "id": 9})
    assert of(page.until(lambda message: says(message, "within")), number)
    ids = [
        each["content"]["data"]["state"].get("msg_id")
        for each in page.heard
        if each["msg_type"] == "comm_msg" and each["content"]["comm_id"] == out
    ]
    assert number in ids  # this is how a host knows what to take
    page.run("w.close()")


@pytest.mark.parametrize("busy", ["page", "kernel"])
def test_a_page_that_was_heard_of_may_take_its_time(page, busy):
    """Whoever printed before it called back would print for nobody where the page did not run the cell (voila)."""
    cell = page.run("w.observe(lambda c: print('seen', get_ipython().get_parent()['msg_type']), 'runs')")
    page.send(page.model, method="custom", content={"type": "hello", "id": 1, "version": PROTOCOL_VERSION})
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    page.until(called)
    if busy == "page":
        time.sleep(3 * LOOK)
    else:
        page.client.execute(f"import time; time.sleep({3 * LOOK})")
    page.send(page.model, method="custom", content={"type": "called", "id": 9})
    message = page.until(lambda message: says(message, "seen"))
    assert of(message, cell)
    assert "comm_msg" in message["content"]["text"]
    page.run("w.close()")


@pytest.mark.slow
def test_a_page_that_is_late_again_and_again_is_waited_for_each_time(page):
    cell = page.run("w.observe(lambda c: print('seen', get_ipython().get_parent()['msg_type']), 'runs')")
    page.send(page.model, method="custom", content={"type": "hello", "id": 1, "version": PROTOCOL_VERSION})
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    late = LOOK * (HEARD // 4 + 0.5)  # between two looks
    for at in range(5):
        page.until(called)
        time.sleep(late)
        page.send(page.model, method="custom", content={"type": "called", "id": 9})
        page.send(page.model, method="update", state={"noise": 1.0 + at}, buffer_paths=[])
        message = page.until(lambda message: says(message, "seen"))
        assert of(message, cell)
        assert "comm_msg" in message["content"]["text"]
    page.run("w.close()")


@pytest.mark.slow
def test_a_page_that_went_away_is_waited_for_once(page):
    page.run("w.observe(lambda c: print('seen', w.noise), 'runs')")
    page.send(page.model, method="custom", content={"type": "hello", "id": 1, "version": PROTOCOL_VERSION})
    waited = []
    for noise in (8.0, 6.0):
        page.send(page.model, method="update", state={"noise": noise}, buffer_paths=[])
        page.until(called)
        since = time.monotonic()
        page.until(lambda message, noise=noise: says(message, f"seen {noise}"))
        waited.append(time.monotonic() - since)
    assert waited[0] > LOOK * (HEARD - 1) > waited[1]
    page.run("w.close()")


def test_an_exception_is_shown_in_the_cell_of_the_observer(page):
    cell = page.run("w.observe(lambda c: 1 / 0, 'runs')")
    page.send(page.model, method="update", state={"noise": 8.0}, buffer_paths=[])
    message = page.until(lambda message: message["msg_type"] == "error")
    assert of(message, cell)
    assert message["content"]["ename"] == "ZeroDivisionError"
    assert "a function of your own" in page.value("w.error")
    page.run("w.close()")


def test_wait_in_a_cell_calls_observers_there_and_results_reach_the_page_meanwhile(page):
    page.run("w.observe(lambda c: print('told'), 'runs')")
    number = page.run("w.noise = 7.0\nw.wait(30)\nprint('waited')")
    assert "".join(page.printed(number)) == "told\nwaited\n"
    number = page.client.execute("import time\nw.noise = 6.0\ntime.sleep(3)\nprint('slept')")
    page.until(lambda message: message["msg_type"] == "comm_msg" and "ν 6.0" in str(message["content"]["data"]))
    assert not page.printed(number)
    page.until(lambda message: says(message, "told"))
    page.run("w.close()")
