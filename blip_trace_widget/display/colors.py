"""The colour scales of the figure and their limits; the Python twin of js/src/scale.ts.

For: the front end, which gets the colours as a table, and figures drawn without a browser.
Ends: at hexadecimal colours; `blip_trace_widget.display.svg` draws with them.

Source: the scales are built in OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020): equal
steps of the value are equal steps of lightness. Both arms of the diverging scale have the same lightness at the same
distance from 0 and meet in the theme's background; purple and orange remain distinguishable in the common colour-vision
deficiencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THEMES = ("light", "dark")

Triple = tuple[float, float, float]

#: The colour of 0, the lightness at the end of every arm, and the chroma there: negative, positive, sequential.
_ARMS = {"light": ("#f7f7fa", 0.44, (0.108, 0.18, 0.075)), "dark": ("#26262b", 0.8, (0.12, 0.112, 0.1))}
#: Hues in OKLab's plane, in degrees, in the same order.
_HUES = (57, 296, 205)
#: Colours of marks on a coloured background, the least prominent first, and the minimal contrast ratio of a mark.
_MARKS, _CONTRAST = ("#6f6f7c", "#8f8f9c", "#1b1b1f", "#ffffff"), 3.2

#: Steps of a scale in the front end's table.
PALETTE_STEPS = 50
#: Smallest end of a recovery's scale: a recovery of a few percent must not look large.
LEAST_RECOVERY = 0.1
#: A few round numbers, so that limits rarely change.
_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def neutral(theme: str) -> str:
    """The colour of 0: the background of the grid."""
    return _ARMS[theme][0]


def diverging(theme: str, t: float) -> str:
    """The colour at t from -1 (negative) to 1 (positive), clipped."""
    return _arm(theme, 0 if t < 0 else 1, min(1.0, abs(t)))


def sequential(theme: str, t: float) -> str:
    """The colour at t from 0 to 1, clipped."""
    return _arm(theme, 2, min(1.0, max(0.0, t)))


def palette(theme: str) -> dict[str, list[tuple[str, str]]]:
    """Colours at even steps of both scales, each with the colour of a legible mark on it."""
    places = {
        "diverging": np.linspace(-1, 1, 2 * PALETTE_STEPS + 1),
        "sequential": np.linspace(0, 1, PALETTE_STEPS + 1),
    }
    scales = {"diverging": diverging, "sequential": sequential}
    shades = {name: [scales[name](theme, float(t)) for t in row] for name, row in places.items()}
    return {name: [(shade, mark_on(shade)) for shade in row] for name, row in shades.items()}


def mark_on(ground: str) -> str:
    """The least prominent colour of a mark that is still legible on a background."""
    for mark in _MARKS:
        dark, light = sorted((_luminance(mark), _luminance(ground)))
        if (light + 0.05) / (dark + 0.05) >= _CONTRAST:
            return mark
    return "#000000" if _luminance(ground) > 0.18 else "#ffffff"


def mix(color: str, ground: str, share: float) -> str:
    """A colour composited over a background with opacity `share`, in sRGB as in CSS."""
    return _to_hex(*(share * a + (1 - share) * b for a, b in zip(_parse(color), _parse(ground), strict=True)))


def round_up(value: float) -> float:
    """The next round number at or above a value; 0 unless the value is positive and finite."""
    if not (value > 0 and math.isfinite(value)):
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    # Tolerate float32 rounding: the last bit of 0.6 must not push it to 0.8.
    step = next((step for step in _STEPS if step * power >= value * (1 - 1e-6)), 10)
    return float(f"{step * power:.3g}")


@dataclass(frozen=True)
class Scale:
    """A colour scale: the values at both ends of the legend, and whether 0 is in the middle."""

    left: float
    right: float
    diverging: bool

    def at(self, theme: str, place: float) -> str:
        """The colour at a fraction of the way from the left (0) to the right (1) end."""
        return diverging(theme, 2 * place - 1) if self.diverging else sequential(theme, place)

    def color(self, theme: str, value: float) -> str:
        """The colour of a value; that of 0 for NaN."""
        if math.isnan(value):
            return neutral(theme)
        span = self.right - self.left
        return self.at(theme, 0.0 if span == 0 else (value - self.left) / span)


def fit_scale(values: NDArray[np.floating], show: str, *, falling: bool = False, limit: float = 0.0) -> Scale:
    """The scale of a grid.

    Args:
        values: the shown quantity, without cells that are 1 by construction; non-finite values are ignored.
        show: ``"recovery"``, ``"indirect_effect"`` or ``"score"``.
        falling: whether the score rises with the corruption, so that a negative effect restores.
        limit: end of the scale; 0 for the next round number above the values.
    """
    known = values[np.isfinite(values)]
    largest = limit or round_up(float(np.abs(known).max(initial=0)))
    if show == "score":
        negative, positive = bool((known < 0).any()), not known.size or bool((known > 0).any())
        return Scale(-largest if negative else 0.0, (largest or 1.0) if positive else 0.0, diverging=False)
    if show == "recovery":
        end = limit or max(largest, LEAST_RECOVERY)
    else:
        end = (largest or LEAST_RECOVERY) * (-1 if falling else 1)
    return Scale(-end, end, diverging=True)


def _arm(theme: str, which: int, t: float) -> str:
    ground, end, chroma = _ARMS[theme]
    lightness, a, b = _to_oklab(*_parse(ground))
    angle = math.radians(_HUES[which])
    # Lightness changes linearly; chroma rises early, so that the sign of small values is visible.
    tint = t * (2 - t)
    return _to_hex(
        *_from_oklab(
            lightness + t * (end - lightness),
            a * (1 - tint) + tint * chroma[which] * math.cos(angle),
            b * (1 - tint) + tint * chroma[which] * math.sin(angle),
        )
    )


def _parse(color: str) -> Triple:
    red, green, blue = bytes.fromhex(color[1:])
    return red / 255, green / 255, blue / 255


def _to_hex(*parts: float) -> str:
    # Round half up, as in JavaScript.
    return "#" + bytes(math.floor(min(1.0, max(0.0, part)) * 255 + 0.5) for part in parts).hex()


def _to_linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def _from_linear(part: float) -> float:
    return part * 12.92 if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


def _luminance(color: str) -> float:
    red, green, blue = map(_to_linear, _parse(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _to_oklab(*rgb: float) -> Triple:
    r, g, b = map(_to_linear, rgb)
    l = float(np.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b))  # noqa: E741 - Ottosson's names
    m = float(np.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b))
    s = float(np.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b))
    return (
        0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
        1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
        0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
    )


def _from_oklab(lightness: float, a: float, b: float) -> Triple:
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3  # noqa: E741
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3
    return (
        _from_linear(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
        _from_linear(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
        _from_linear(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
    )
