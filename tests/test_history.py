"""Undo and redo against a list that is kept by hand."""

from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget.history import LONGEST, History

MOVES = st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["undo", "redo"])), max_size=60)


@given(MOVES)
def test_it_walks_as_a_list_does(moves):
    history, steps, at = History({"n": -1}), [-1], 0
    for move in moves:
        if move == "undo":
            found = history.undo()
            assert found == (None if at == 0 else {"n": steps[at - 1]})
            at = max(0, at - 1)
        elif move == "redo":
            found = history.redo()
            assert found == (None if at == len(steps) - 1 else {"n": steps[at + 1]})
            at = min(len(steps) - 1, at + 1)
        else:
            history.add({"n": move})
            if move != steps[at]:
                steps, at = [*steps[: at + 1], move], at + 1
        assert history.present == {"n": steps[at]}
        assert (history.can_undo, history.can_redo) == (at > 0, at < len(steps) - 1)


def test_it_forgets_the_oldest():
    history = History({"n": 0})
    for number in range(1, 2 * LONGEST):
        history.add({"n": number})
    count = 0
    while history.undo():
        count += 1
    assert count == LONGEST - 1
    assert history.present == {"n": LONGEST}


def test_a_gesture_is_one_step_while_it_goes_on():
    now = [0.0]
    history = History({"n": 0}, clock=lambda: now[0])
    for number, later in ((1, 0.0), (2, 0.5), (3, 0.5), (4, 5.0)):
        now[0] += later
        history.add({"n": number}, "noise")
    assert [history.undo(), history.undo(), history.undo()] == [{"n": 3}, {"n": 0}, None]
    history.add({"n": 9}, "noise")  # after a step back it is a new gesture
    assert history.undo() == {"n": 0}


def test_a_failed_step_is_mended():
    history = History({"n": 0})
    history.add({"n": 1})
    history.mend({"n": 0})
    assert (history.present, history.can_undo) == ({"n": 0}, False)
    history.add({"n": 2})
    history.mend({"n": 3})  # what is there instead may be something else
    assert history.present == {"n": 3}
    assert history.undo() == {"n": 0}


def test_what_failed_is_mended_in_the_steps_that_came_after_it_too():
    history = History({"foil": "", "noise": 5})
    history.add({"foil": "red blue", "noise": 5})
    history.add({"foil": "red blue", "noise": 3})
    history.mend({"foil": "", "noise": 3})
    assert history.present == {"foil": "", "noise": 3}
    assert history.undo() == {"foil": "", "noise": 5}
    assert not history.can_undo


def test_the_last_good_step_is_found_up_to_the_present_one():
    history = History({"n": 0})
    for number in (3, 4, 5):
        history.add({"n": number})
    assert history.last(lambda step: step["n"] % 2 == 0) == {"n": 4}
    history.undo()
    history.undo()
    assert history.last(lambda step: step["n"] % 2 == 0) == {"n": 0}
    assert history.last(lambda step: step["n"] > 9) is None
