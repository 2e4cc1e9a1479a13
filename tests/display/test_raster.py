"""The figure as pixels: for LaTeX, and for previews that show no SVG."""

import base64
import io
import re
import zlib

import nbformat
import numpy as np
import pytest
from nbconvert import LatexExporter
from PIL import Image

from blip_trace_widget import TraceWidget
from blip_trace_widget.display.svg import raster
from blip_trace_widget.widget import documents


@pytest.fixture(scope="module")
def shown(filled_widget):
    filled_widget.selection = [(5, 5)]
    filled_widget.wait(30)
    return filled_widget


@pytest.fixture(scope="module")
def bundle(shown):
    return shown._repr_mimebundle_()[0]


def cells(svg):
    """Middle and colour of each drawn cell."""
    found = re.findall(
        r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" fill="(#\w+)"[^>]*bt-cell', svg
    )
    for x, y, width, height, fill in found:
        # Beside the middle, where a dot may be.
        yield float(x) + float(width) / 4, float(y) + float(height) / 2, tuple(bytes.fromhex(fill[1:]))


def test_it_shows_the_grid_in_its_colours_on_white(bundle):
    drawn = base64.b64decode(bundle["image/png"])
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    assert len(drawn) < raster.MOST_BYTES
    scale = image.width / 960
    assert image.getpixel((image.width // 2, image.height - 8)) == (255, 255, 255)
    there = list(cells(bundle["image/svg+xml"]))
    assert len(there) == 48
    for x, y, color in there:
        pixel = image.getpixel((round(x * scale), round(y * scale)))
        assert max(abs(one - other) for one, other in zip(pixel, color, strict=True)) <= raster.NEAR


def test_it_says_what_the_figure_says(shown):
    """Text is there and dark enough to be read: without it the same place is empty."""
    svg = documents.drawn(shown, "light")
    written = np.asarray(Image.open(io.BytesIO(raster.png(svg))).convert("L"))
    blank = np.asarray(Image.open(io.BytesIO(raster.png(re.sub(r">[^<>]+</t", "></t", svg)))).convert("L"))
    assert (written < 90).sum() > (blank < 90).sum() + 3000


def test_a_noisy_picture_stays_small(demo, example):
    picture = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    widget = TraceWidget(picture, example.question, model=demo)
    widget.wait(30)
    assert len(base64.b64decode(widget._repr_mimebundle_()[0]["image/png"])) < raster.MOST_BYTES
    widget.close()


def test_it_needs_no_fonts_but_pillows_own(bundle):
    assert Image.open(io.BytesIO(raster.png(bundle["image/svg+xml"], own_font=True))).width > 900
    start = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="40"><text x="4" y="30" fill="#000000">'
    lacking, plain = "ν 5 — 3 × 2 é ✓ 图", "v 5 - 3 x 2 e  ?"
    drawn = [raster.png(f"{start}{said}</text></svg>", own_font=True) for said in (lacking, plain, plain[:-1])]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_pdf_holds_the_same_pixels(bundle):
    pdf, drawn = (base64.b64decode(bundle[kind]) for kind in ("application/pdf", "image/png"))
    width = int(re.search(rb"/Width (\d+)", pdf)[1])
    assert width == Image.open(io.BytesIO(drawn)).width
    start = int(re.search(rb"startxref\n(\d+)", pdf)[1])
    assert pdf[start:].startswith(b"xref")
    for number, place in enumerate(re.findall(rb"(\d{10}) 00000 n", pdf), 1):
        assert pdf[int(place) :].startswith(b"%d 0 obj" % number)
    streams = re.findall(rb"/Length (\d+) >>\nstream\n", pdf)
    at = pdf.rindex(b"stream\n", 0, pdf.rindex(b"endstream")) + len(b"stream\n")
    assert len(zlib.decompress(pdf[at : at + int(streams[-1])])) == Image.open(io.BytesIO(drawn)).height * (width + 1)


def test_a_notebook_becomes_latex_without_other_programs(bundle, monkeypatch):
    monkeypatch.setenv("PATH", "")
    output = nbformat.v4.new_output("display_data", data=dict(bundle))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("widget", outputs=[output])])
    text, resources = LatexExporter().from_notebook_node(book)
    assert r"\includegraphics" in text
    assert [name for name in resources["outputs"] if name.endswith((".pdf", ".png"))]
