"""The rooms of the package, who knows whom, and what each file may be."""

import importlib
import subprocess
import sys

import grimp
import pytest

import blip_trace_widget
from helpers.paths import ROOT

PACKAGE = ROOT / "blip_trace_widget"
#: What everybody may know, beside the package itself and its command.
SMALL = {
    "__init__",
    "__main__",
    "_version",
    "checks",
    "choices",
    "corruption_fields",
    "forks",
    "interrupts",
    "landing",
    "pictures",
    "pixels",
    "states",
    "unpicklable",
}
ROOMS = {"charts", "dataset", "demo", "display", "model", "results", "tracing", "widget"}
#: The two looks upward, at a call: a trace draws itself, a widget has charts.
UPWARD = {
    ("blip_trace_widget.results.trace", "blip_trace_widget.display.still"),
    ("blip_trace_widget.results.trace", "blip_trace_widget.display.export"),
    ("blip_trace_widget.widget.figure_widget", "blip_trace_widget.charts"),
}
#: A file is one idea that can be held in the head; the table of shapes is a list.
LONGEST, LISTS = 450, {"display/protocol.py"}


def test_at_the_root_are_rooms_and_small_modules():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert (files, folders) == (SMALL, ROOMS)


def test_a_room_knows_only_those_below_it():
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_modules_know_each_other_in_a_circle():
    graph = grimp.build_graph("blip_trace_widget", exclude_type_checking_imports=False, cache_dir=None)
    # The package itself names everything, for type checkers only.
    arrows = {
        module: {
            other
            for other in graph.find_modules_directly_imported_by(module)
            if other != "blip_trace_widget" and (module, other) not in UPWARD
        }
        for module in graph.modules - {"blip_trace_widget"}
    }
    left = dict(arrows)
    while free := {module for module, known in left.items() if not known & left.keys()}:
        for module in free:
            del left[module]
    assert not left, f"each of these knows another of them: {sorted(left)}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_files_can_be_held_in_the_head(room):
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in (PACKAGE / room).rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST and name not in LISTS} == {}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_room_says_what_it_is_for(room):
    assert importlib.import_module(f"blip_trace_widget.{room}").__doc__


@pytest.mark.parametrize("name", blip_trace_widget.__all__)
def test_every_public_name_is_had_from_the_root(name):
    assert getattr(blip_trace_widget, name).__module__.startswith("blip_trace_widget.")
