"""The drawn figure as PNG and as a bitmap PDF, using only Pillow.

For: hosts that cannot show SVG: LaTeX, and previews of untrusted notebooks. It draws the SVG that
`blip_trace_widget.display.svg.svg` made, element by element, so that there is only one figure.
Cost: a tenth of a second; a palette keeps it below `MOST_BYTES`.
Ends: at the elements that a `Canvas` makes. It does not render other SVGs: the only curves are rounded corners, and
dashed lines are solid.
"""

from __future__ import annotations

import base64
import io
import math
import re
import struct
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

#: If a PNG is larger than this, it is drawn again, smaller or with fewer colours.
MOST_BYTES = 60_000
#: Scale and number of colours; the first that is small enough is used.
_TRIES = ((1.5, 96), (1.0, 64), (1.0, 16), (0.5, 8))
#: Most of the figure's own colours that are kept exactly.
_OWN = 128
#: Width of a PDF page, in points.
PAGE_WIDTH = 480
#: Colours that differ by less than this in each channel are merged.
NEAR = 10
_SVG = "{http://www.w3.org/2000/svg}"
#: Replacements of characters that Pillow's built-in font lacks.
_PLAIN = str.maketrans(
    {"ν": "v", "×": "x", "−": "-", "—": "-", "–": "-", "•": "·", "→": ">", "✓": "", "✗": "", "\u2003": "  "}
)
_CORNER = 5


def png(svg: str, *, own_font: bool = False) -> bytes:
    """An SVG made by this package as PNG on white.

    Args:
        svg: what `blip_trace_widget.display.svg.svg` made.
        own_font: write with Pillow's built-in font even if there are better ones.
    """
    root = ET.fromstring(svg)  # noqa: S314 - our own SVG
    own, content = _colors(root), b""
    fonts = None if own_font else _matplotlibs_fonts()
    for scale, colors in _TRIES:
        drawn = _Raster(root, scale, fonts).image
        adaptive = np.array(drawn.quantize(colors, Image.Quantize.FASTOCTREE).getpalette()).reshape(-1, 3)
        close = (np.abs(adaptive[:, None] - own[None]).max(2) < NEAR).any(1)  # white must stay white
        palette = Image.new("P", (1, 1))
        palette.putpalette(np.concatenate([own, adaptive[~close]]).ravel().tolist())
        file = io.BytesIO()
        drawn.quantize(palette=palette, dither=Image.Dither.NONE).save(file, "PNG")
        content = file.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def pdf(drawn: bytes) -> bytes:
    """A PNG made by `png` as a one-page PDF: the same compressed pixels in another container.

    For nbconvert, which needs Inkscape for an SVG without a PDF beside it.
    """
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(drawn):
        size, kind = struct.unpack(">I4s", drawn[at : at + 8])
        chunks[kind] = chunks.get(kind, b"") + drawn[at + 8 : at + 8 + size]
        at += size + 12
    width, height, depth = struct.unpack(">IIB", chunks[b"IHDR"][:9])
    colors, pixels = chunks[b"PLTE"], chunks[b"IDAT"]
    wide, high = PAGE_WIDTH, round(PAGE_WIDTH * height / width, 2)
    page = f"q {wide} 0 0 {high} 0 0 cm /F Do Q".encode()
    image = (
        f"<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent {depth} "
        f"/ColorSpace [/Indexed /DeviceRGB {len(colors) // 3 - 1} <{colors.hex()}>] /Filter /FlateDecode "
        f"/DecodeParms << /Predictor 15 /Colors 1 /BitsPerComponent {depth} /Columns {width} >> "
        f"/Length {len(pixels)} >>"
    )
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {wide} {high}] /Contents 4 0 R ".encode()
        + b"/Resources << /XObject << /F 5 0 R >> >> >>",
        f"<< /Length {len(page)} >>\nstream\n".encode() + page + b"\nendstream",
        f"{image}\nstream\n".encode() + pixels + b"\nendstream",
    ]
    made, places = b"%PDF-1.5\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n".encode() + part + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    count = len(parts) + 1
    end = (
        f"xref\n0 {count}\n0000000000 65535 f \n{table}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{len(made)}"
    )
    return made + f"{end}\n%%EOF\n".encode()


def _colors(root: ET.Element) -> NDArray[np.int_]:
    """The figure's own colours, its scale's first; at most `_OWN`, as a grid may have more."""
    stops = [element.get("stop-color", "") for element in root.iter(f"{_SVG}stop")]
    used = Counter(element.get(name, "") for element in root.iter() for name in ("fill", "stroke"))
    names = dict.fromkeys([*stops, *(name for name, _ in used.most_common())])
    kept = [name for name in names if name.startswith("#")][:_OWN]
    return np.array([ImageColor.getrgb(name)[:3] for name in kept])


class _Raster:
    """An image under construction, drawn from an SVG's elements."""

    def __init__(self, root: ET.Element, scale: float, fonts: Path | None) -> None:
        self.scale, self._fonts = scale, fonts
        size = (self._px(root.get("width", "0")), self._px(root.get("height", "0")))
        self.image = Image.new("RGB", (max(1, size[0]), max(1, size[1])), "#ffffff")
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._named = {element.get("id"): element for element in root.iter() if element.get("id")}
        self._inside(root, 1.0)

    def _px(self, value: str | float) -> int:
        return round(float(value) * self.scale)

    def _inside(self, parent: ET.Element, opacity: float) -> None:
        for element in parent:
            kind = element.tag.removeprefix(_SVG)
            shade = opacity * float(element.get("opacity", 1))
            if kind == "g":
                self._inside(element, shade)
            elif kind in ("rect", "circle", "path", "text", "image"):
                getattr(self, f"_{kind}")(element, shade)

    def _color(self, name: str, opacity: float) -> tuple[int, int, int, int]:
        red, green, blue = ImageColor.getrgb(name)[:3]
        return red, green, blue, round(255 * opacity)

    def _rect(self, element: ET.Element, opacity: float) -> None:
        x, y, width, height, radius = (float(element.get(name, 0)) for name in ("x", "y", "width", "height", "rx"))
        box = (x * self.scale, y * self.scale, (x + width) * self.scale - 1, (y + height) * self.scale - 1)
        if box[2] < box[0] or box[3] < box[1]:
            box = (box[0], box[1], max(box[0], box[2]), max(box[1], box[3]))
        fill, stroke = element.get("fill", "#000000"), element.get("stroke")
        if fill.startswith("url("):
            self._fill_with(self._named[fill[5:-1]], box)
            return
        self._draw.rounded_rectangle(
            box,
            radius * self.scale,
            fill=None if fill == "none" else self._color(fill, opacity * float(element.get("fill-opacity", 1))),
            outline=None if stroke is None else self._color(stroke, opacity),
            width=max(1, self._px(element.get("stroke-width", "1"))),
        )

    def _fill_with(self, filling: ET.Element, box: tuple[float, float, float, float]) -> None:
        """Fill a box with a horizontal gradient or hatching."""
        left, top, right, bottom = (round(edge) for edge in box)
        if filling.tag.endswith("linearGradient"):
            stops = [(float(part.get("offset", 0)), part.get("stop-color", "#000000")) for part in filling]
            for x in range(left, right + 1):
                at = (x - left) / max(1, right - left)
                color = min(stops, key=lambda stop: abs(stop[0] - at))[1]
                self._draw.line((x, top, x, bottom), fill=color)
            return
        ground, line = (part.get("fill", "#000000") for part in filling)
        tile = Image.new("RGB", (right - left + 1, bottom - top + 1), ground)
        pen = ImageDraw.Draw(tile)
        step = max(3, round(5 * math.sqrt(2) * self.scale))
        for x in range(-tile.height, tile.width, step):
            pen.line((x, tile.height, x + tile.height, 0), fill=line, width=max(1, self._px(1)))
        self.image.paste(tile, (left, top))

    def _circle(self, element: ET.Element, opacity: float) -> None:
        x, y, radius = (float(element.get(name, 0)) * self.scale for name in ("cx", "cy", "r"))
        stroke = element.get("stroke")
        self._draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=self._color(element.get("fill", "#000000"), opacity),
            outline=None if stroke is None else self._color(stroke, opacity),
        )

    def _path(self, element: ET.Element, opacity: float) -> None:
        """Draw a path of horizontal and vertical edges."""
        color = self._color(element.get("stroke", "#000000"), opacity)
        thick = max(1, self._px(element.get("stroke-width", "1")))
        for x, y, way, by in re.findall(r"M(\S+) (\S+?)([hv])([\d.]+)", element.get("d", "")):
            end = (float(x) + float(by), float(y)) if way == "h" else (float(x), float(y) + float(by))
            self._draw.line([self._px(x), self._px(y), *map(self._px, end)], fill=color, width=thick)

    def _text(self, element: ET.Element, opacity: float) -> None:
        size = float(element.get("font-size", 13)) * self.scale
        anchor = {"end": "rs", "middle": "ms"}.get(element.get("text-anchor", ""), "ls")
        mono = "monospace" in element.get("font-family", "")
        fill = element.get("fill", "#000000")
        runs = [(element.text or "", element.get("font-weight"), fill)]
        spans = (span for span in element if span.tag.endswith("tspan"))
        runs += [(span.text or "", span.get("font-weight"), span.get("fill", fill)) for span in spans]
        x, y = float(element.get("x", 0)) * self.scale, float(element.get("y", 0)) * self.scale
        if turn := re.match(r"rotate\((\S+) ", element.get("transform", "")):
            self._slanted(runs[0][0], (x, y), size, mono, self._color(fill, opacity), -float(turn[1]))
            return
        for content, weight, color in runs:
            if content:
                font = _font(self._fonts, round(size), mono, weight is not None)
                written = _written(self._fonts, content)
                self._draw.text((x, y), written, font=font, fill=self._color(color, opacity), anchor=anchor)
                x += font.getlength(written)

    def _slanted(
        self,
        content: str,
        at: tuple[float, float],
        size: float,
        mono: bool,
        color: tuple[int, int, int, int],
        angle: float,
    ) -> None:
        font, written = _font(self._fonts, round(size), mono, False), _written(self._fonts, content)
        side = 2 * (round(font.getlength(written)) + round(size) + 2)
        label = Image.new("RGBA", (side, side), (*color[:3], 0))
        ImageDraw.Draw(label).text((side / 2, side / 2), written, font=font, fill=color, anchor="ls")
        label = label.rotate(angle, Image.Resampling.BICUBIC)
        self.image.paste(label, (round(at[0] - side / 2), round(at[1] - side / 2)), label)

    def _image(self, element: ET.Element, _opacity: float) -> None:
        x, y, width, height = (self._px(element.get(name, 0)) for name in ("x", "y", "width", "height"))
        picture: Any = Image.open(io.BytesIO(base64.b64decode(element.get("href", "").partition(",")[2]))).convert(
            "RGB"
        )
        if grey := self._named.get(element.get("filter", "")[5:-1]):
            share = float(grey[0].get("values", 1))
            picture = Image.blend(picture.convert("L").convert("RGB"), picture, share)
        ratio = min(width / picture.width, height / picture.height)
        picture = picture.resize((max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))))
        corners = Image.new("L", picture.size)
        ImageDraw.Draw(corners).rounded_rectangle((0, 0, *picture.size), _CORNER * self.scale, fill=255)
        place = (x + (width - picture.width) // 2, y + (height - picture.height) // 2)
        self.image.paste(picture, place, corners)


@cache
def _matplotlibs_fonts() -> Path | None:
    """The folder of matplotlib's fonts, if it is installed; it is not imported."""
    spec = find_spec("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    return folder if folder is not None and (folder / "DejaVuSans.ttf").is_file() else None


@cache
def _font(folder: Path | None, size: int, mono: bool, bold: bool) -> Any:
    size = max(6, size)
    if folder is None:
        return ImageFont.load_default(size)
    name = f"DejaVuSans{'Mono' if mono else ''}{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(folder / name, round(size * 0.94))  # it is broader than a page's font


def _written(folder: Path | None, content: str) -> str:
    """A text in characters that the font has."""
    if folder is not None:
        return content
    plain = unicodedata.normalize("NFKD", content.translate(_PLAIN))
    return "".join(
        letter if letter.isascii() or letter in "±·…“”‘’" else "?"
        for letter in plain
        if not unicodedata.combining(letter)
    )
