"""Noise that is drawn part by part is the noise of one draw, and no number of it is drawn twice in a row of parts."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from blip_trace_widget import GaussianNoise


class Drawn(TorchDispatchMode):
    """How many random numbers are drawn."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        if function.overloadpacket in (torch.ops.aten.randn, torch.ops.aten.normal_):
            self.numbers += made.numel()
        return made


@given(
    st.integers(0, 3),
    st.sampled_from([(4, 8), (2, 16), (3, 16), (3, 5)]),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
)
def test_any_parts_in_any_order_are_of_one_draw(seed, shape, parts):
    noise = GaussianNoise(samples=9, seed=seed)
    whole = torch.randn((9, *shape), generator=torch.Generator("cpu").manual_seed(seed))
    for part in (slice(*sorted(ends)) for ends in parts):
        assert torch.equal(noise.bank(*shape, part), whole[part])


@pytest.mark.parametrize("edges", [(0, 5, 10, 20), range(21)])
def test_parts_in_a_row_draw_each_number_once(edges):
    noise, other = GaussianNoise(samples=20, seed=71), GaussianNoise(samples=20, seed=72)
    with Drawn() as drawn:
        for start, stop in pairwise(edges):
            noise.bank(4, 8, slice(start, stop))
            other.bank(4, 8, slice(start, stop))  # of another question in turn
    assert drawn.numbers == 2 * 20 * 4 * 8
