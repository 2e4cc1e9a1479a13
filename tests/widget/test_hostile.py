"""What a page may send that no page of ours sends: it is refused before it costs anything, and the figure stands."""

import ast
import csv
import io
import json
import os
from pathlib import Path

import pytest

import blip_trace_widget
from blip_trace_widget import BlipVqa, GaussianNoise, TraceWidget
from helpers.front_end import set_traits, take
from helpers.hostile import MESSAGES, TRAITS
from helpers.widgets import quick_widget

#: More than any message may say.
LONGEST_MESSAGE = 2500


@pytest.mark.parametrize(("name", "at"), [(name, at) for name, values in TRAITS.items() for at in range(len(values))])
def test_a_value_that_is_too_long_is_refused_in_few_words(recording, widget, name, at):
    before = getattr(widget, name)
    set_traits(widget, **{name: TRAITS[name][at]})
    if name != "error":
        assert getattr(widget, name) == before
    assert name.removeprefix("other_") in widget.error
    assert len(widget.error) < LONGEST_MESSAGE
    widget.wait(30)
    assert len(widget.error) < LONGEST_MESSAGE


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: json.dumps(message)[:30])
def test_a_message_that_is_too_long_is_refused_in_few_words(recording, widget, message):
    take(widget, message)
    assert widget.error
    assert len(widget.error) < LONGEST_MESSAGE


def test_what_is_named_twice_is_taken_once(widget):
    widget.selection = [(0, 1), (1, 1), (0, 1)]
    assert widget.selection == [(0, 1), (1, 1)]


#: What no page sets, and values that its type would take.
KERNEL_ONLY = {
    "runs": [{}, {"clean": None}],
    "grid": [{}, {"values": "none"}],
    "grids": [[], [{}]],
    "detail": [{}, {"effect": 1}],
    "setup": [{}, {"choices": {}}],
    "curve": [{"factors": [1]}],
    "pinned": [{"cells": [[0, 0]]}],
    "compared": [{"kept": 1}],
    "ablation": [{"score": 1}],
    "picture_map": [{"values": "x"}],
    "look": [{}],
    "generation": [-1, 10**6],
    "steps": [{}],
    "doing": ["nothing"],
    "_esm": ["alert(1)"],
    "_css": ["*{display:none}"],
    "_view_module": ["elsewhere"],
}


@pytest.mark.parametrize("name", KERNEL_ONLY)
def test_what_only_the_kernel_sets_is_put_back_and_named(recording, filled_widget, tmp_path, name):
    shown, before = filled_widget, getattr(filled_widget, name)
    shown.export(tmp_path / "before.json")
    for value in KERNEL_ONLY[name]:
        shown.error = ""
        set_traits(shown, **{name: value})
        assert getattr(shown, name) == before
        assert name in shown.error
    shown.error = ""
    for kind in ("json", "csv", "svg", "html"):
        shown.export(tmp_path / f"after.{kind}")
    assert (tmp_path / "after.json").read_bytes() == (tmp_path / "before.json").read_bytes()


# --- what leaves the widget ------------------------------------------------------------------------------------------

ODD = (
    "\nimport os",
    '"); import os #',
    "\\",
    "\r",
    "\u2028import os",
    "\x85import os",
    "\u202e",
    os.fsdecode(b"\xff"),
    "'''",
)


def only_our_calls(code):
    """The tree of a program that imports, names and calls nothing but NumPy and the package."""
    code.encode("utf-8")
    tree = ast.parse(code)
    own = {*blip_trace_widget.__all__, "np", "model", "tracer", "trace", "widget", "effect", "bool"}
    own |= {"region", "other", "difference", "agreement"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module == "blip_trace_widget"
        elif isinstance(node, ast.Import):
            assert [(each.name, each.asname) for each in node.names] == [("numpy", "np")]
        elif isinstance(node, ast.Name):
            assert node.id in own, node.id
        else:
            assert not isinstance(node, (ast.Lambda, ast.FunctionDef, ast.ClassDef, ast.Delete, ast.With))
    return tree


def texts(tree):
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]


@pytest.mark.parametrize("odd", ODD)
def test_code_is_runnable_whatever_the_names(demo, example, tmp_path, odd):
    path = str(tmp_path / f"a{odd}.png")
    try:
        with Path(path).open("wb") as file:
            example.image.save(file, "PNG")
    except (OSError, ValueError):
        pytest.skip("no file can be called so here")
    named = BlipVqa(demo.hf, demo.processor, name=f"mine{odd}")
    shown = quick_widget(path, example.question, model=named, corruption=GaussianNoise(samples=2))
    shown.wait(30)
    shown.selection = [(0, 1)]
    shown.trace_all()
    shown.wait(30)
    assert path in texts(only_our_calls(shown.code))
    kept = tmp_path / f"kept{odd}.trace"
    shown.trace.save(kept)
    shown.compare()
    shown.noise = 2.0
    shown.wait(30)
    only_our_calls(shown.code)
    shown.close()
    replayed = TraceWidget.from_trace(kept)
    assert str(kept) in texts(only_our_calls(replayed.code))
    replayed.close()


def test_no_cell_of_a_table_is_a_formula(demo, example, tmp_path):
    shown = quick_widget(example.image, "=1 +1 -what @color", model=demo, corruption=GaussianNoise(samples=2))
    shown.trace_all()
    shown.wait(30)
    shown.export(tmp_path / "shown.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "shown.csv").read_text("utf-8"))))
    assert {row["question"] for row in rows} == {"'=1 +1 -what @color"}
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) <= 0
    assert any(row["indirect_effect"].startswith("-") for row in rows)
    shown.close()
