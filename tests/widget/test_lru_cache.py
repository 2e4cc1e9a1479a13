"""The shelf keeps what was used last, within its room."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.widget.grid_store import BlockShape, GridStore
from blip_trace_widget.widget.lru_cache import LruCache


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=50))
def test_it_never_holds_more_than_its_room_but_for_the_last(asked):
    shelf, used = LruCache(100, len), []
    for key, size in asked:
        value = shelf.get(key, lambda size=size: [0] * size)
        used = [*(name for name in used if name != key), key]
        kept = used[-len(shelf) :]  # what went was used before what stayed
        # Asked for in the order of their last use, they keep it.
        sizes = [len(shelf.get(name, lambda: pytest.fail("it is gone"))) for name in kept]
        assert sum(sizes) <= 100 or len(kept) == 1
        assert shelf.get(key, list) is value


def test_what_grows_drives_others_out():
    shelf = LruCache(10, len)
    first, second = shelf.get("a", lambda: [1]), shelf.get("b", lambda: [1])
    second += [0] * 20
    assert shelf.get("b", list) is second
    assert len(shelf) == 1
    assert shelf.get("a", lambda: [2]) is not first


def test_a_store_counts_what_it_takes():
    """Of a small model's grid the scores are the least: many stores would outgrow the room that they are given."""
    spec, shapes = GridSpec(), {"question_encoder": BlockShape(6, lambda _patch: 8)}

    def filled():
        store = GridStore(3, shapes)
        store.cells(spec).want_all()
        return store

    filled()
    tracemalloc.start()
    stores = [filled() for _ in range(100)]
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sum(store.nbytes for store in stores) >= taken
