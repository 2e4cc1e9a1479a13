"""The colours of the figure: even, symmetric, told apart by every eye, with marks that stand out."""

import numpy as np
import pytest

from blip_trace_widget.display import colors

THEMES = ["light", "dark"]
STEPS = np.linspace(0, 1, 11)
#: Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def rgb(color):
    return np.array(list(bytes.fromhex(color[1:]))) / 255


def linear(color):
    part = rgb(color)
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def oklab(light):
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ light)


def lightness(color):
    return oklab(linear(color))[0]


def contrast(one, other):
    dark, light = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_0_is_the_background(theme):
    assert colors.diverging(theme, 0) == colors.sequential(theme, 0) == colors.neutral(theme)
    ground = lightness(colors.neutral(theme))
    assert ground > 0.95 if theme == "light" else ground < 0.3


@pytest.mark.parametrize("theme", THEMES)
def test_steps_are_even_and_both_sides_alike(theme):
    arms = np.array([[lightness(colors.diverging(theme, side * t)) for t in STEPS] for side in (1, -1)])
    steps = np.abs(np.diff(arms))
    assert np.ptp(steps, axis=1).max() < 0.012
    assert steps.min() > 0.04
    assert np.abs(arms[0] - arms[1]).max() < 0.01


@pytest.mark.parametrize("theme", THEMES)
def test_purple_restores_and_orange_hurts(theme):
    red, green, blue = rgb(colors.diverging(theme, 0.7))
    assert blue > red > green
    red, green, blue = rgb(colors.diverging(theme, -0.7))
    assert red > green > blue


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_sides_stay_apart_for_every_kind_of_eye(theme, deficiency):
    def seen(t):
        return oklab(np.clip(np.array(DEFICIENCIES[deficiency]) @ linear(colors.diverging(theme, t)), 0, 1))

    for t, least in ((1, 0.1), (0.5, 0.06), (0.25, 0.03)):
        assert np.linalg.norm(seen(t) - seen(-t)) > least, t


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_of_the_table_carries_a_mark_that_can_be_seen(theme):
    for name, row in colors.palette(theme).items():
        assert len(row) == (101 if name == "diverging" else 51)
        for fill, mark in row:
            assert contrast(fill, mark) >= 3
    assert colors.diverging(theme, 7) == colors.diverging(theme, 1)
    assert colors.diverging(theme, -7) == colors.diverging(theme, -1)
    assert colors.palette(theme)["diverging"][50][0] == colors.neutral(theme)
