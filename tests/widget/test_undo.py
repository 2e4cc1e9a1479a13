"""Undo and redo against a list that is kept by hand."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget.widget.undo import LONGEST, UndoStack


@dataclass(frozen=True)
class One:
    n: int


@dataclass(frozen=True)
class Two:
    foil: str
    noise: float


MOVES = st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["undo", "redo"])), max_size=60)


@given(MOVES)
def test_it_walks_as_a_list_does(moves):
    history, steps, at = UndoStack(One(-1)), [-1], 0
    for move in moves:
        if move == "undo":
            found = history.undo()
            assert found == (None if at == 0 else One(steps[at - 1]))
            at = max(0, at - 1)
        elif move == "redo":
            found = history.redo()
            assert found == (None if at == len(steps) - 1 else One(steps[at + 1]))
            at = min(len(steps) - 1, at + 1)
        else:
            history.add(One(move))
            if move != steps[at]:
                steps, at = [*steps[: at + 1], move], at + 1
        assert history.present == One(steps[at])
        assert (history.can_undo, history.can_redo) == (at > 0, at < len(steps) - 1)


def test_it_forgets_the_oldest():
    history = UndoStack(One(0))
    for number in range(1, 2 * LONGEST):
        history.add(One(number))
    count = 0
    while history.undo():
        count += 1
    assert count == LONGEST - 1
    assert history.present == One(LONGEST)


def test_a_gesture_is_one_step_while_it_goes_on():
    now = [0.0]
    history = UndoStack(One(0), clock=lambda: now[0])
    for number, later in ((1, 0.0), (2, 0.5), (3, 0.5), (4, 5.0)):
        now[0] += later
        history.add(One(number), "noise")
    assert [history.undo(), history.undo(), history.undo()] == [One(3), One(0), None]
    history.add(One(9), "noise")  # after a step back it is a new gesture
    assert history.undo() == One(0)


def test_a_failed_step_is_mended():
    history = UndoStack(One(0))
    history.add(One(1))
    history.mend(One(0))
    assert (history.present, history.can_undo) == (One(0), False)
    history.add(One(2))
    history.mend(One(3))  # what is there instead may be something else
    assert history.present == One(3)
    assert history.undo() == One(0)


def test_a_step_that_turned_out_otherwise_leaves_the_earlier_ones_as_they_were():
    history = UndoStack(Two("red", 5))
    history.add(Two("red", 3))
    history.amend(Two("", 3))
    assert history.present == Two("", 3)
    assert history.undo() == Two("red", 5)
    assert history.redo() == Two("", 3)
    history.add(Two("blue", 3))
    history.amend(Two("", 3))  # nothing new
    assert history.undo() == Two("red", 5)


def test_what_failed_is_mended_in_the_steps_that_came_after_it_too():
    history = UndoStack(Two("", 5))
    history.add(Two("red blue", 5))
    history.add(Two("red blue", 3))
    history.mend(Two("", 3))
    assert history.present == Two("", 3)
    assert history.undo() == Two("", 5)
    assert not history.can_undo
