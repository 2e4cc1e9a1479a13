"""The wire: requests are checked, and both sides speak of the same shapes."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget.display import protocol
from blip_trace_widget.results.noise_curve import DEFAULT_FACTORS
from blip_trace_widget.widget import messages
from helpers.paths import ROOT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
GOOD = [
    {"type": "hello", "id": 1, "version": protocol.PROTOCOL_VERSION},
    {"type": "patch", "id": 2, "cells": [[0, 1], [3, 4]]},
    {"type": "trace", "id": 3},
    {"type": "stop", "id": 4},
    {"type": "image", "id": 5},
    {"type": "other_image", "id": 6},
    {"type": "pin", "id": 7, "on": True},
    {"type": "compare", "id": 11, "on": True},
    {"type": "undo", "id": 8},
    {"type": "redo", "id": 12},
    {"type": "fill_overlay", "id": 13, "on": False},
    {"type": "set_region", "id": 14, "to": "others"},
    {"type": "attention", "id": 15, "layer": 3},
    {"type": "visible_range", "id": 9, "first": 0, "last": 20},
    {"type": "export", "id": 10, "format": "csv", "theme": "dark"},
]


def test_the_front_end_has_the_same_shapes():
    generated = ROOT / "js" / "src" / "protocol.ts"
    assert generated.read_text("utf-8") == protocol.to_typescript(), (
        "run `python -m blip_trace_widget.display.protocol`"
    )


@pytest.mark.parametrize("request_", GOOD, ids=lambda request_: request_["type"])
def test_good_requests_pass(request_):
    assert protocol.parse_request(request_) == request_


@pytest.mark.parametrize("request_", GOOD, ids=lambda request_: request_["type"])
@given(data=st.data())
def test_any_change_of_shape_is_refused(request_, data):
    field = data.draw(st.sampled_from(sorted(request_)))
    changed = dict(request_)
    if data.draw(st.booleans()):
        del changed[field]
    else:
        changed[field] = data.draw(st.none() | st.text() | st.lists(st.text(), min_size=1) | st.just(1.5))
    with pytest.raises(ValueError, match="message"):
        protocol.parse_request(changed)
    with pytest.raises(ValueError, match="message"):
        protocol.parse_request({**request_, "more": 1})


@given(JSON)
def test_anything_else_is_refused_with_a_valueerror(content):
    with pytest.raises(ValueError, match="message"):
        protocol.parse_request(content)


def test_every_request_has_its_handler():
    kinds = [typing.get_type_hints(shape)["type"] for shape in typing.get_args(protocol.Request)]
    assert set(messages.HANDLERS) == {kind for literal in kinds for kind in typing.get_args(literal)}


def test_the_slider_ends_where_the_curve_behind_it_does():
    assert DEFAULT_FACTORS[-1] == protocol.MAX_NOISE


def test_another_version_says_what_to_do():
    with pytest.raises(ValueError, match="restart the kernel and reload the page"):
        protocol.parse_request({"type": "hello", "id": 1, "version": protocol.PROTOCOL_VERSION + 1})


@pytest.mark.parametrize("cells", [[[0, 0]] * (protocol.MAX_CELLS + 1), [[0]], [[0, "1"]], [[True, 0]]])
def test_cells_are_pairs_of_numbers_and_not_too_many(cells):
    with pytest.raises(ValueError, match="'patch'"):
        protocol.parse_request({"type": "patch", "id": 1, "cells": cells})
