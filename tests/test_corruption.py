"""The noise bank and what it does to image tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import noise

from blip_trace_widget import GaussianNoise


@given(
    st.sampled_from(["multiplicative", "additive"]),
    st.integers(1, 4),
    st.integers(0, 2**63 - 1),
    st.floats(0, 100),
    st.booleans(),
)
def test_delta_equals_the_definition(kind, samples, seed, factor, with_region):
    tokens = torch.randn((7, 5), generator=torch.Generator().manual_seed(3))
    region = np.array([[True, False, False], [False, True, True]]) if with_region else None
    corruption = GaussianNoise(factor, kind, samples, seed, region)
    ours = tokens + corruption.strength * corruption.delta(tokens, (2, 3))
    exact = torch.stack(noise(tokens, factor, kind, samples, seed, region))
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-5 * (1 + factor))


def test_the_bank_is_one_draw_of_the_seed():
    bank = GaussianNoise(samples=3, seed=11).bank(4, 2)
    assert torch.equal(bank, torch.randn((3, 4, 2), generator=torch.Generator("cpu").manual_seed(11)))
    assert bank.dtype == torch.float32


def test_a_region_spares_the_class_token_and_what_lies_outside():
    tokens = torch.ones((5, 3))
    delta = GaussianNoise(samples=2, region=[[True, False], [False, False]]).delta(tokens, (2, 2))
    assert (delta[:, 1] != 0).all()
    assert (delta[:, [0, 2, 3, 4]] == 0).all()
    assert (GaussianNoise(samples=2).delta(tokens, (2, 2))[:, 0] != 0).all()


def test_equal_noise_is_equal_and_shares_its_unit():
    one = GaussianNoise(3.0, region=np.eye(2, dtype=bool))
    assert one == GaussianNoise(3.0, region=[[True, False], [False, True]])
    assert hash(one) == hash(GaussianNoise(3.0, region=np.eye(2, dtype=bool)))
    assert one.unit() == GaussianNoise(7.5, region=np.eye(2, dtype=bool)).unit()
    assert one.unit() != GaussianNoise(3.0, seed=1, region=np.eye(2, dtype=bool)).unit()


def test_settings_make_it_again():
    corruption = GaussianNoise(2.5, "additive", 4, 9, [[True, False]])
    settings = corruption.settings()
    assert settings.pop("type") == "GaussianNoise"
    assert GaussianNoise(**settings) == corruption


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"factor": float("nan")}, ValueError, "factor.*nan"),
        ({"factor": -1}, ValueError, "factor.*-1"),
        ({"factor": float("inf")}, ValueError, "factor"),
        ({"factor": "5"}, TypeError, "factor.*str"),
        ({"kind": "uniform"}, ValueError, "kind.*multiplicative.*'uniform'"),
        ({"samples": 0}, ValueError, "samples.*0"),
        ({"samples": 2.5}, TypeError, "samples"),
        ({"seed": -1}, ValueError, "seed"),
        ({"region": [[1, 0]]}, ValueError, "region.*boolean"),
        ({"region": [True, False]}, ValueError, "region.*shape"),
        ({"region": [[False, False]]}, ValueError, "region.*empty"),
    ],
)
def test_wrong_arguments_are_named(wrong, error, message):
    with pytest.raises(error, match=message):
        GaussianNoise(**wrong)


def test_a_region_of_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"region: expected 2 x 2 patches.*got 1 x 2"):
        GaussianNoise(region=[[True, False]]).delta(torch.ones((5, 3)), (2, 2))
