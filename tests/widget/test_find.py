"""Find a set: searched for on the worker, told with its numbers on fresh noise, selected, undone, asked for again."""

import json

import numpy as np
import pytest

from blip_trace_widget import FoundStates, Tracer, TraceWidget
from blip_trace_widget.checks import conforms
from blip_trace_widget.display import protocol
from blip_trace_widget.display.formatting import percent
from blip_trace_widget.display.found import found as told
from blip_trace_widget.results.found_states import Member
from blip_trace_widget.states import State
from helpers.front_end import take


def message(widget, **content):
    take(widget, {"id": 7, **content})


def find(widget, **asked):
    message(widget, **{"type": "find", "percent": 60, "among": "states", "direction": "restore", **asked})
    widget.wait(60)


def test_the_set_is_that_of_the_tracer_and_selected_in_the_grid(widget):
    widget.site, widget.window = "mlp", 3
    widget.wait(30)
    find(widget)
    wanted = Tracer.find_states(widget.tracer, 0.6, blocks="question_encoder")
    conforms("found", widget.found, protocol.Found)
    json.dumps(widget.found, allow_nan=False)
    assert widget.found["sizes"] == wanted.sizes.tolist()
    np.testing.assert_allclose(widget.found["curve"], wanted.curve, atol=1e-5)
    assert widget.found["members"] == [member.name for member in wanted.members]
    assert "on fresh noise" in widget.found["bold"]
    for word in ("completeness", "sufficient under this damage, not the mechanism"):
        assert word in widget.found["text"]
    chosen = [(state.layer, state.position) for state in wanted.states]
    assert (sorted(widget.selection), widget.site, widget.window) == (sorted(chosen), "block_output", 1)
    assert sorted(widget.detail["cells"]) == sorted(chosen)
    shown = widget.found
    widget.undo()
    widget.wait(30)
    assert (widget.selection, widget.site, widget.window, widget.found) == ([], "mlp", 3, shown)
    widget.redo()
    widget.wait(30)
    made = {}
    exec(widget.code, made)
    assert isinstance(made["found"], FoundStates)
    assert made["found"].states == wanted.states
    assert made["effect"].states == wanted.states


def test_a_set_belongs_to_its_runs(widget):
    find(widget)
    shown = widget.found
    widget.noise = 3.0
    widget.wait(30)
    assert widget.found == {}
    assert "find_states" not in widget.code
    widget.undo()
    widget.wait(30)
    assert widget.found == shown | {"generation": widget.generation}


def test_members_that_are_heads_are_chosen_one_by_one(widget):
    find(widget, among="heads", direction="disrupt")
    assert widget.found["members"]
    widget.head, widget.direction, widget.selection = None, "restore", []
    widget.wait(30)
    message(widget, type="member", index=0)
    widget.wait(30)
    [layer] = {layer for layer, _ in widget.selection}
    name = widget.found["members"][0]
    assert f"layer {layer} " in name
    assert name.endswith(f"head {widget.head}")
    assert (widget.direction, len(widget.selection)) == ("disrupt", len(widget.grid["tokens"]))
    message(widget, type="member", index=99)
    assert "member: expected one of the set that was found, got 99" in widget.error


def test_it_says_how_far_it_is_and_can_be_stopped(session, screen):
    session.find(5, target=0.9, among="states", direction="restore")
    assert session.wait(60)
    progress = [said for said in screen.said("progress") if said["id"] == 5]
    assert len(progress) > 2
    assert all(said["done"] <= said["total"] for said in progress)
    ways = [payload["sizes"] for name, payload in screen.lines if name == "found" and not payload.get("bold")]
    assert [len(way) for way in ways] == sorted(map(len, ways))
    assert [said["stopped"] for said in screen.said("done") if said["id"] == 5] == [False]
    shown = screen.state["found"]
    session.find(6, target=0.9, among="heads", direction="isolate")
    session.stop()
    assert session.wait(60)
    assert [said["stopped"] for said in screen.said("done") if said["id"] == 6] == [True]
    assert screen.state["found"] == shown


ASKED = {"target": 0.9, "among": "states", "direction": "restore"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda session, request: session.find(request, **ASKED),
        lambda session, request: session.flow(request),
        lambda session, request: session.verify(request),
    ],
    ids=["find", "flow", "verify"],
)
def test_every_request_is_answered_once_and_the_last_one_is_done(session, screen, ask):
    session.trace_all()
    assert session.wait(60)
    with session.lock:  # so that none of them begins before the next is asked
        for request in (1, 2, 3):
            ask(session, request)
    assert session.wait(60)
    ask(session, 4)
    session.change(noise=2.0)  # other runs: what was asked of these will not be done
    assert session.wait(60)
    answers = [(said["id"], said["stopped"]) for said in screen.said("done") if said["id"]]
    assert answers == [(1, True), (2, True), (3, False), (4, True)]


def test_a_search_that_fails_is_answered_too(session, screen):
    session.find(5, **{**ASKED, "direction": "sideways"})
    assert session.wait(60)
    assert "sideways" in screen.state["error"]
    assert [said["stopped"] for said in screen.said("done") if said["id"] == 5] == [True]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"percent": 0}, "percent: expected above 0 and up to 100"),
        ({"percent": 101}, "percent: expected above 0 and up to 100"),
        ({"among": "mlp"}, "field 'among' must be"),
        ({"direction": "both"}, "field 'direction' must be"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(widget, asked, told):
    find(widget, **asked)
    assert told in widget.error
    assert widget.found == {}


def a_set(direction, *, noisy):
    """Two members; without the first the set is less by 0.5, without the second by 0.02, give or take `noisy`."""
    wobble = noisy * np.array([1.0, -1.0, 1.0, -1.0])
    whole = np.full(4, 0.8)
    members = tuple(Member(f"layer {layer}", (State("question_encoder", layer, 1),)) for layer in (1, 2))
    return FoundStates(
        members=members,
        grown=members,
        clean=0.9,
        corrupted=np.full(4, 0.1),
        scores=whole,
        without=np.stack([whole - 0.5, whole - 0.02 + wobble], axis=1),
        opposite=np.full(4, 0.3),
        sizes=np.array([0, 1, 2]),
        path_scores=np.tile([0.1, 0.5, 0.8], (4, 1)),
        searched=np.array([0.0, 0.5, 0.9]),
        fresh=True,
        settings={
            "direction": direction,
            "among": "states",
            "target": 0.8,
            "candidates": 20,
            "runs": 60,
            "stopped": False,
        },
    )


@pytest.mark.parametrize(("noisy", "doubted"), [(0.2, True), (0.001, False)])
def test_what_the_least_member_adds_has_its_margin(noisy, doubted):
    result = a_set("restore", noisy=noisy)
    text = told(result, 0)["text"]
    assert f"the least that one of them adds is {percent(result.minimality[1], result.minimality_margin[1])}" in text
    assert "±" in text.partition("adds is")[2].partition(";")[0]
    assert ("not distinguishable from 0" in text) == doubted


@pytest.mark.parametrize(
    ("direction", "says"),
    [("restore", "and too good."), ("disrupt", "and too good."), ("isolate", "Selected, they are restored")],
)
def test_the_selection_is_told_apart_from_the_search(direction, says):
    text = told(a_set(direction, noisy=0.001), 0)["text"]
    assert says in text
    assert ("too good" in text) == (direction != "isolate")


def test_without_an_effect_or_a_model_it_is_refused(widget, tmp_path):
    widget.noise = 0.0
    widget.wait(30)
    find(widget)
    assert "nothing to recover" in widget.error
    widget.noise = 5.0
    widget.trace_all()
    widget.trace.save(tmp_path / "trace")
    recorded = TraceWidget.from_trace(tmp_path / "trace")
    find(recorded)
    assert "find: " in recorded.error
    recorded.close()


def test_the_flow_is_that_of_the_tracer_and_belongs_to_its_runs(widget):
    message(widget, type="flow")
    widget.wait(60)
    wanted = widget.tracer.flow()
    conforms("flow", widget.flow, protocol.FlowPicture)
    arrows = widget.flow["arrows"]
    assert [tuple(arrow["ends"]) for arrow in arrows] == [(edge.source.name, edge.target.name) for edge in wanted.edges]
    peaks = np.take_along_axis(wanted.relative_loss, np.abs(wanted.relative_loss).argmax(axis=1)[:, None], axis=1)
    np.testing.assert_allclose([arrow["value"] for arrow in arrows], peaks[:, 0], atol=1e-5)
    assert {name for arrow in arrows for name in arrow["ends"]} == {
        name for column in widget.flow["columns"] for name in column
    }
    shown = widget.flow
    widget.question = "how many circles are there?"
    widget.wait(30)
    assert widget.flow == {}
    widget.undo()
    widget.wait(30)
    assert widget.flow == shown | {"generation": widget.generation}
