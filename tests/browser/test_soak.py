"""Two notebooks of three widgets each under random gestures, interrupts, reloads and a lost network.

At the end every number is a fresh tracer's, on the screen too, the memory that is held is what it was after the first
third, and nothing is left running. `BLIP_TRACE_SOAK` says for how many seconds: 600 before a release.
"""

import os
import random
import re
import time

import pytest
from playwright.sync_api import TimeoutError as GoneError
from playwright.sync_api import expect

from helpers.lab_widget import SHOWN, values

SECONDS = float(os.environ.get("BLIP_TRACE_SOAK", "15"))
SEED = 5
#: Milliseconds after which what was there a moment ago is taken to be gone.
GONE = 2000
WIDGETS = 3
#: The share of the memory by which what is in use may have grown since the first third, and what the caches of six
#: widgets may take where a third is too short to fill them.
GROWN, CACHES = 0.05, 0 if SECONDS >= 600 else 96 * 2**20

CELL = f"""
from blip_trace_widget import GaussianNoise, TraceWidget
widgets = [TraceWidget(corruption=GaussianNoise(samples=3)) for _ in range({WIDGETS})]
display(*widgets)
"""
#: What can be clicked at random.
CLICKED = (
    "[role=gridcell]",
    "[role=gridcell]",
    "[role=gridcell]",
    "[role=columnheader]",
    "[role=rowheader]",
    "[data-testid^=block-]",
    "[data-testid=trace-all]",
    "[data-testid=trace-all]",
    "[data-testid=trace-all]",
    "[data-testid=undo]",
    "[data-testid=redo]",
    "[data-testid=pin]",
    "[data-testid=fix-scale]",
    "[data-testid=verify]",
)
CHOSEN = ("site", "metric", "direction")
KEYS = ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Enter", " ", "Escape", "Control+z", "Control+y", "l", "p")
QUESTIONS = ("what is the color of the circle?", "how many squares are there?", "what shape is left of the star?")
#: What a page says of a network that is not there, and JupyterLab of a kernel that it has lost meanwhile.
OFFLINE = re.compile(r"ERR_|WebSocket|fetch|Network|[Rr]econnect|Connection lost|Canceled future|Kernel connection")

#: Every known cell of a widget, and how far from a fresh tracer's the furthest is.
CHECKED = """
import math
import numpy as np
from blip_trace_widget import Tracer
from blip_trace_widget.results.grid_spec import GridSpec
def checked(widget):
    widget.wait(300)
    shown, of = widget.trace, widget.tracer
    fresh = Tracer(of.model, of.image, of.question, answer=of.given["answer"], foil=of.given["foil"],
                   metric=of.metric, corruption=of.corruption)
    spec = GridSpec.of(shown.settings)
    asked = {name: getattr(spec, name) for name in ("block", "site", "head", "direction")}
    if spec.receivers:
        expected = fresh.trace_paths(spec.receivers, through=spec.through, **asked)
    else:
        expected = fresh.trace(window=spec.window, hold=spec.hold, **asked)
    known = ~np.isnan(shown.samples).any(0)
    apart = np.abs(shown.samples - expected.samples)[:, known]
    recovery = [[None if math.isnan(value) else value for value in row] for row in shown.recovery.tolist()]
    return [int(known.sum()), float(apart.max(initial=0)), recovery]
"""


#: What the kernel holds, once all is given back that can be: bytes allocated (glibc's own count, over all its arenas),
#: Python's objects, and the pages that it has, of which the allocator keeps some though nothing or little is in them.
HELD = """
import ctypes, gc, sys
import psutil
class Allocated(ctypes.Structure):  # glibc's struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]
def held():
    gc.collect()
    libc = ctypes.CDLL(None)
    getattr(libc, "malloc_trim", int)(0)
    resident = psutil.Process().memory_info().rss
    if not hasattr(libc, "mallinfo2"):
        return [resident, sys.getallocatedblocks(), resident]
    libc.mallinfo2.restype = Allocated
    now = libc.mallinfo2()
    return [now.uordblks + now.hblkhd, sys.getallocatedblocks(), resident]
"""


def box_of(notebook, random_numbers, root, selector):
    """A point of a random one of the elements that are shown, or None."""
    found = [each for each in root.locator(selector).all() if each.is_visible()]
    if not found:
        return None
    one = random_numbers.choice(found)
    try:
        one.scroll_into_view_if_needed(timeout=GONE)
        box = one.bounding_box(timeout=GONE)
    except GoneError:  # it went away meanwhile
        return None
    return box and (box["x"] + box["width"] * random_numbers.uniform(0.2, 0.8), box["y"] + box["height"] / 2)


def click(notebook, numbers, root):
    at = box_of(notebook, numbers, root, numbers.choice(CLICKED))
    if at is not None:
        modifiers = numbers.choice([(), (), (), ("Control",), ("Shift",), ("Alt",)])
        for key in modifiers:
            notebook.page.keyboard.down(key)
        notebook.page.mouse.click(*at)
        for key in modifiers:
            notebook.page.keyboard.up(key)


def drag(notebook, numbers, root):
    """The slider from where it is to anywhere, in steps."""
    box = root.get_by_test_id("noise-slider").bounding_box()
    if box is not None:
        mouse, y = notebook.page.mouse, box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] * numbers.random(), y)
        mouse.down()
        mouse.move(box["x"] + box["width"] * numbers.random(), y, steps=numbers.randint(2, 12))
        mouse.up()


def press(notebook, numbers, root):
    at = box_of(notebook, numbers, root, "[role=gridcell]")
    if at is not None:
        notebook.page.mouse.click(*at)
        for _ in range(numbers.randint(1, 6)):
            notebook.page.keyboard.press(numbers.choice(KEYS))


def wheel(notebook, numbers, root):
    at = box_of(notebook, numbers, root, "[role=gridcell]")
    if at is not None:
        notebook.page.mouse.move(*at)
        notebook.page.mouse.wheel(numbers.randint(-200, 200), numbers.randint(-400, 400))


def choose(notebook, numbers, root):
    field = root.get_by_test_id(numbers.choice(CHOSEN)).first
    if field.is_visible():
        offered = field.evaluate("e => [...(e.options ?? [])].filter(o => !o.disabled).map(o => o.value)")
        if offered:
            field.select_option(numbers.choice(offered))


def ask(notebook, numbers, root):
    field = root.get_by_test_id("question")
    if field.is_enabled():
        field.fill(numbers.choice(QUESTIONS))
        field.press("Enter")


def interrupt(notebook, numbers, root):
    notebook.command("notebook:interrupt-kernel")


def reload(notebook, numbers, root):
    notebook.command("docmanager:save")
    notebook.reload()
    expect(notebook.page.get_by_test_id("blip-trace")).to_have_count(WIDGETS)


def cut(notebook, numbers, root):
    """The network goes, something is asked meanwhile, and it comes back."""
    network = notebook.page.context.new_cdp_session(notebook.page)
    network.send("Network.enable")
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    reconnect = "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.reconnect(); }"
    notebook.page.evaluate(reconnect)
    click(notebook, numbers, root)
    notebook.page.wait_for_timeout(500)
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    network.detach()
    notebook.page.evaluate(reconnect)
    connected = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.connectionStatus"
    notebook.until(lambda: notebook.page.evaluate(connected) == "connected", "the kernel is there again")
    notebook.errors[:] = [each for each in notebook.errors if not OFFLINE.search(each)]


GESTURES = {click: 10, drag: 6, press: 5, wheel: 4, choose: 3, ask: 1, interrupt: 0.5, reload: 0.3, cut: 0.3}


def roots(notebook):
    return [notebook.page.get_by_test_id("blip-trace").nth(at) for at in range(WIDGETS)]


def settled(notebook):
    """All that is asked for is computed; what the kernel holds then."""
    notebook.python("for each in widgets: each.wait(300)")
    return notebook.ask("held()")


def soak(notebooks, numbers, seconds, rare=()):
    """Random gestures for so long, with each of some rare ones in each notebook."""
    end = time.monotonic() + seconds
    rare = [(each, notebook) for each in rare for notebook in notebooks]
    done = 0
    while rare or time.monotonic() < end:
        notebook = numbers.choice(notebooks)
        (gesture,) = numbers.choices(list(GESTURES), list(GESTURES.values()))
        if rare and done % 4 == 3:
            gesture, notebook = rare.pop()
        notebook.page.bring_to_front()
        gesture(notebook, numbers, numbers.choice(roots(notebook)))
        done += 1
    print(f"{done} gestures")


def is_right(notebook, at):
    """A widget's numbers are a fresh tracer's, and those on its screen."""
    known, apart, shown = notebook.ask(f"checked(widgets[{at}])")
    print(f"{known} cells, at most {apart:.1e} from a fresh tracer's")
    assert apart < 1e-5
    root = roots(notebook)[at]

    def is_shown():
        there = {at: value for at, value in values(notebook, root).items() if value == value}
        return all(value == pytest.approx(shown[at[0]][at[1]], abs=SHOWN) for at, value in there.items())

    notebook.until(is_shown, "the kernel's values are on screen")


def leaves_no_thread(notebook):
    notebook.python("for each in widgets: each.close()")
    names = "[thread.name for thread in __import__('threading').enumerate()]"
    notebook.until(lambda: "blip-trace" not in notebook.ask(names), "no thread is left")


@pytest.mark.slow
def test_random_gestures_end_in_right_numbers_and_leave_nothing(open_notebook):
    numbers = random.Random(SEED)
    notebooks = [open_notebook(CELL, name=f"soak{at}.ipynb") for at in range(2)]
    for notebook in notebooks:
        expect(notebook.page.get_by_test_id("blip-trace")).to_have_count(WIDGETS)
        for root in roots(notebook):
            expect(root.get_by_test_id("corrupted-score")).to_have_text(re.compile(r"\d"))
        notebook.python(CHECKED + HELD)
    soak(notebooks, numbers, SECONDS / 3)
    before = [settled(notebook) for notebook in notebooks]
    soak(notebooks, numbers, SECONDS * 2 / 3, rare=(interrupt, reload, cut))
    for notebook, first in zip(notebooks, before, strict=True):
        notebook.page.bring_to_front()
        last = settled(notebook)
        print(f"bytes allocated, objects, bytes resident: {first}, then {last}")
        for at in range(WIDGETS):
            is_right(notebook, at)
        assert last[0] - first[0] <= GROWN * first[2] + CACHES
        assert last[1] <= (1 + GROWN) * first[1]
        leaves_no_thread(notebook)
