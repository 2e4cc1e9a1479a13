"""An SVG under construction: shapes, bars, truncated and wrapped text, in the colours of a theme.

For: drawing without a browser. Everything goes through an XML tree, so that no text can become markup.
Ends: at elements; `blip_trace_widget.display.svg` gives them meaning. Text cannot be measured here: widths of letters
are generous estimates.
"""

from __future__ import annotations

import math
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from blip_trace_widget.display.colors import mix
from blip_trace_widget.display.formatting import Piece

MONO = "ui-monospace, monospace"

#: As in js/src/styles/base.css.
_THEMES = {
    "light": {"ground": "#ffffff", "text": "#1f1f24", "line": "#e2e2e8", "patched": "#592b9f", "corrupted": "#b96a13"},
    "dark": {"ground": "#1c1c20", "text": "#e9e9ee", "line": "#3a3a42", "patched": "#c3abf5", "corrupted": "#d0842c"},
}
#: Mixtures of text and background colour, by the text's share.
_BETWEEN = {"muted": 0.74, "clean": 0.68, "hatch": 0.24, "trough": 0.11, "faint": 0.05}
#: Characters that XML 1.0 cannot represent.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Widths of letters in ems: monospaced; and proportional narrow, broad, capital and other ones.
_FIXED, _NARROW, _BROAD, _CAPITAL, _OTHER = 0.61, 0.42, 1.0, 0.74, 0.645
_NARROW_LETTERS, _BROAD_LETTERS = frozenset(" .,:;'|!()[]fijlrtI·•"), frozenset("mwMW@%…—→")
_BOLD = 1.12


class Canvas:
    """An SVG of a given width. Colours have names, "text", "ground", "muted", ..., or are written as in CSS.

    Args:
        theme: ``"light"`` or ``"dark"``.
        width: in pixels.

    Attributes:
        theme: ``"light"`` or ``"dark"``.
        root: the root element.
    """

    def __init__(self, theme: str, width: float) -> None:
        self.theme, named = theme, _THEMES[theme]
        between = {name: mix(named["text"], named["ground"], share) for name, share in _BETWEEN.items()}
        self._colors = named | between
        self.root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "width": _text(width), "role": "img"})
        self.root.set("font-family", "system-ui, sans-serif")
        # At its natural width, but no wider than the page that contains it.
        self.root.set("style", "max-width: 100%; height: auto; font-variant-numeric: tabular-nums")

    def add(
        self, tag: str, inside: ET.Element | None = None, content: str | None = None, /, **more: object
    ) -> ET.Element:
        """Add an element.

        Args:
            tag: its name.
            inside: its parent; default the root.
            content: its text.
            more: attributes, with `_` for `-`; None is omitted.
        """
        made = ET.SubElement(self.root if inside is None else inside, tag)
        for name, value in more.items():
            if value is not None:
                made.set(
                    name.replace("_", "-"), self._colors.get(value, value) if isinstance(value, str) else _text(value)
                )
        made.text = None if content is None else _UNWRITABLE.sub("\ufffd", content)
        return made

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        inside: ET.Element | None = None,
        **more: object,
    ) -> ET.Element:
        """Add a rectangle."""
        return self.add("rect", inside, x=x, y=y, width=width, height=height, fill=fill, **more)

    def text(
        self,
        x: float,
        y: float,
        content: str,
        size: float = 13,
        fill: str = "text",
        anchor: str | None = None,
        *,
        room: float = math.inf,
        mono: bool = False,
        **more: object,
    ) -> ET.Element:
        """Add a line of text with its baseline at y; text truncated to `room` is shown completely on hover."""
        short = cut(content, room, size, mono=mono)
        font = MONO if mono else None
        place: dict[str, Any] = {"x": x, "y": y, "font_size": size, "text_anchor": anchor, "font_family": font}
        element = self.add("text", None, short, fill=fill, **place, **more)
        if short != content:
            self.add("title", element, content)
        return element

    def paragraph(
        self, x: float, y: float, pieces: Sequence[Piece], width: float, size: float = 13, fill: str = "text"
    ) -> float:
        """Add wrapped text with its first baseline at y; returns the next baseline."""
        for line in wrap(pieces, width, size):
            element = self.text(x, y, "", size, fill)
            for content, bold in line:
                self.add("tspan", element, content, **({"font_weight": "600", "fill": "text"} if bold else {}))
            y += 20
        return y

    def bar(self, x: float, y: float, width: float, share: float, fill: str, trough: str) -> None:
        """Add a bar that is filled to a share."""
        self.rect(x, y, width, 10, trough, rx=3)
        filled = width * min(1.0, max(0.0, share))
        if filled:
            self.rect(x, y, filled, 10, fill, rx=min(3, filled / 2))


def breadth(content: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """A generous estimate of a text's width, in pixels."""
    return size * (_BOLD if bold else 1) * sum(_ems(letter, mono) for letter in content)


def cut(content: str, width: float, size: float, *, mono: bool = False) -> str:
    """A text truncated to a width in pixels, with an ellipsis if it was cut."""
    if breadth(content, size, mono=mono) <= width:
        return content
    kept = next(
        (end for end in range(len(content), 0, -1) if breadth(content[:end] + "…", size, mono=mono) <= width), 0
    )
    return content[:kept] + "…"


def wrap(pieces: Sequence[Piece], width: float, size: float) -> list[list[Piece]]:
    """Pieces broken into lines after white space, and inside words that are longer than a line."""
    lines: list[list[Piece]] = [[]]
    used = 0.0
    for letter, bold in ((letter, bold) for content, bold in pieces for letter in content):
        line = lines[-1]
        line.append((letter, bold))
        used += breadth(letter, size, bold=bold)
        if used > width and not letter.isspace() and len(line) > 1:
            end = max((at for at in range(1, len(line)) if line[at - 1][0].isspace()), default=len(line) - 1)
            lines[-1:] = [line[:end], line[end:]]
            used = sum(breadth(letter, size, bold=bold) for letter, bold in lines[-1])
    runs = [groupby(line, key=lambda part: part[1]) for line in lines]
    return [[("".join(letter for letter, _ in run), bold) for bold, run in line] for line in runs]


def _ems(letter: str, mono: bool) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 2 * _FIXED if mono else 1.1
    if mono:
        return _FIXED
    if letter in _NARROW_LETTERS:
        return _NARROW
    return _BROAD if letter in _BROAD_LETTERS else _CAPITAL if letter.isupper() else _OTHER


def _text(value: object) -> str:
    """An attribute's value; numbers to a hundredth of a pixel."""
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
