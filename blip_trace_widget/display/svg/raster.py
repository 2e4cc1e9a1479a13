"""The drawn figure as PNG and as a PDF of pixels, by Pillow alone.

For: hosts that show no SVG: LaTeX, and previews of notebooks that nobody trusts yet. What is drawn is what
`blip_trace_widget.display.svg.svg` made, element by element, so that there is one figure.
Cost: a tenth of a second; a palette keeps it below `MOST_BYTES`.
Ends: at what a `Canvas` is made of. It is no renderer of other SVG: there are no curves but rounded corners, and dashes
are lines.
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

#: Larger than this it is drawn again, smaller or in fewer colours.
MOST_BYTES = 60_000
#: Pixels for a pixel of the figure, and colours; the first that is small enough is taken.
_TRIES = ((1.5, 96), (1.0, 64), (1.0, 16), (0.5, 8))
#: Colours of the figure's own that are kept exactly.
_OWN = 128
#: Points, of a page of PDF.
PAGE_WIDTH = 480
#: How near in each of red, green and blue another one is the same.
NEAR = 10
_SVG = "{http://www.w3.org/2000/svg}"
#: Letters that Pillow's own font lacks.
_PLAIN = str.maketrans(
    {"ν": "v", "×": "x", "−": "-", "—": "-", "–": "-", "•": "·", "→": ">", "✓": "", "✗": "", "\u2003": "  "}
)
_CORNER = 5


def png(svg: str, *, own_font: bool = False) -> bytes:
    """An SVG of ours as PNG on white.

    Args:
        svg: what `blip_trace_widget.display.svg.svg` made.
        own_font: write with Pillow's own font even where there are better ones.
    """
    root = ET.fromstring(svg)  # noqa: S314 - our own
    own, made = _colors(root), b""
    fonts = None if own_font else _matplotlibs_fonts()
    for scale, colors in _TRIES:
        drawn = _Raster(root, scale, fonts).image
        found = np.array(drawn.quantize(colors, Image.Quantize.FASTOCTREE).getpalette()).reshape(-1, 3)
        near = (np.abs(found[:, None] - own[None]).max(2) < NEAR).any(1)  # white is to stay white
        palette = Image.new("P", (1, 1))
        palette.putpalette(np.concatenate([own, found[~near]]).ravel().tolist())
        file = io.BytesIO()
        drawn.quantize(palette=palette, dither=Image.Dither.NONE).save(file, "PNG")
        made = file.getvalue()
        if len(made) <= MOST_BYTES:
            break
    return made


def pdf(drawn: bytes) -> bytes:
    """What `png` made as a PDF of one page: the same compressed pixels in another wrapping.

    For nbconvert, which wants Inkscape for an SVG that has no PDF beside it.
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
    """The figure's own colours, those of its scale first; a grid may have more than there is room for."""
    stops = [each.get("stop-color", "") for each in root.iter(f"{_SVG}stop")]
    used = Counter(each.get(name, "") for each in root.iter() for name in ("fill", "stroke"))
    names = dict.fromkeys([*stops, *(name for name, _ in used.most_common())])
    kept = [name for name in names if name.startswith("#")][:_OWN]
    return np.array([ImageColor.getrgb(name)[:3] for name in kept])


class _Raster:
    """An image under way."""

    def __init__(self, root: ET.Element, scale: float, fonts: Path | None) -> None:
        self.scale, self._fonts = scale, fonts
        size = (self._px(root.get("width", "0")), self._px(root.get("height", "0")))
        self.image = Image.new("RGB", (max(1, size[0]), max(1, size[1])), "#ffffff")
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._named = {each.get("id"): each for each in root.iter() if each.get("id")}
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
        """A gradient from left to right, or hatching."""
        left, top, right, bottom = (round(edge) for edge in box)
        if filling.tag.endswith("linearGradient"):
            stops = [(float(each.get("offset", 0)), each.get("stop-color", "#000000")) for each in filling]
            for x in range(left, right + 1):
                at = (x - left) / max(1, right - left)
                color = min(stops, key=lambda stop: abs(stop[0] - at))[1]
                self._draw.line((x, top, x, bottom), fill=color)
            return
        ground, line = (each.get("fill", "#000000") for each in filling)
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
        """Straight edges."""
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
        spans = (each for each in element if each.tag.endswith("tspan"))
        runs += [(each.text or "", each.get("font-weight"), each.get("fill", fill)) for each in spans]
        x, y = float(element.get("x", 0)) * self.scale, float(element.get("y", 0)) * self.scale
        if turn := re.match(r"rotate\((\S+) ", element.get("transform", "")):
            self._slanted(runs[0][0], (x, y), size, mono, self._color(fill, opacity), -float(turn[1]))
            return
        for said, weight, color in runs:
            if said:
                font, written = _font(self._fonts, round(size), mono, weight is not None), _written(self._fonts, said)
                self._draw.text((x, y), written, font=font, fill=self._color(color, opacity), anchor=anchor)
                x += font.getlength(written)

    def _slanted(
        self,
        said: str,
        at: tuple[float, float],
        size: float,
        mono: bool,
        color: tuple[int, int, int, int],
        angle: float,
    ) -> None:
        font, written = _font(self._fonts, round(size), mono, False), _written(self._fonts, said)
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
    """Where matplotlib keeps its fonts, if it is installed; it is not loaded."""
    found = find_spec("matplotlib")
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" if found and found.origin else None
    return folder if folder is not None and (folder / "DejaVuSans.ttf").is_file() else None


@cache
def _font(folder: Path | None, size: int, mono: bool, bold: bool) -> Any:
    size = max(6, size)
    if folder is None:
        return ImageFont.load_default(size)
    name = f"DejaVuSans{'Mono' if mono else ''}{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(folder / name, round(size * 0.94))  # it is broader than a page's font


def _written(folder: Path | None, said: str) -> str:
    """A text in letters that the font has."""
    if folder is not None:
        return said
    plain = unicodedata.normalize("NFKD", said.translate(_PLAIN))
    return "".join(
        letter if letter.isascii() or letter in "±·…“”‘’" else "?"
        for letter in plain
        if not unicodedata.combining(letter)
    )
