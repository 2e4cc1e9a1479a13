"""The drawn picture with what lies over it."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from blip_trace_widget.display.colors import diverging
from blip_trace_widget.display.svg import pane
from blip_trace_widget.display.svg.canvas import Canvas
from blip_trace_widget.display.svg.pane import Marks

VALUES = np.array([[0.4, -0.1], [np.nan, 0.02]])
MAP = {
    "rows": 2,
    "columns": 2,
    "square": 2,
    "limit": 0.4,
    "values": np.stack([VALUES, VALUES * 0, [[1, 1], [np.nan, 0]]]).astype("<f4").tobytes(),
}


def drawn(size, marks):
    """The drawing of a picture of that size in a box of 120 at (10, 20)."""
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "JPEG")
    canvas = Canvas("light", 200)
    pane.draw(canvas, file.getvalue(), 10, 20, 120, marks)
    return ET.fromstring(ET.tostring(canvas.root))


def found(root, tag, fill=None):
    name = "{http://www.w3.org/2000/svg}" + tag
    return [each for each in root.iter(name) if fill is None or each.get("fill") == fill]


def box(element):
    return tuple(float(element.get(name)) for name in ("x", "y", "width", "height"))


def test_a_picture_alone_has_nothing_over_it():
    root = drawn((40, 20), None)
    assert len(found(root, "image")) == 1
    assert found(root, "path") == found(root, "circle") == found(root, "filter") == []


def test_a_map_lies_on_the_picture_not_on_the_box():
    root = drawn((40, 20), Marks(MAP, 0.5, (3, 4), [], None))
    (most,) = found(root, "rect", diverging("light", 1))[:1]
    assert box(most) == (10, 50, 60, 40)  # two of three rows of 20, two of four columns of 30
    assert float(most.get("fill-opacity")) == 0.5
    (less,) = found(root, "rect", diverging("light", -1))
    assert box(less) == (70, 50, 60, 40)
    assert float(less.get("fill-opacity")) == pytest.approx(0.125, abs=0.01)
    last = found(root, "rect", diverging("light", 1))[-1]
    assert box(last) == (70, 90, 60, 20)  # cut off at the lower edge
    assert len(found(root, "rect", diverging("light", 1))) == 2  # what is not computed is left out
    (dot,) = found(root, "circle")
    assert (float(dot.get("cx")), float(dot.get("cy"))) == (100, 100)
    assert found(root, "image")[0].get("filter") == "url(#bt-grey)"


def test_region_and_patches_are_outlined():
    region = np.zeros((2, 2), bool)
    region[1] = True
    root = drawn((50, 50), Marks({}, 0.5, (2, 2), [(0, 1)], region))
    assert [box(each) for each in found(root, "rect") if each.get("fill-opacity")] == [
        (10, 80, 60, 60),
        (70, 80, 60, 60),
    ]
    hit, halo, mark = found(root, "path")
    assert hit.get("stroke-dasharray") == "4 3"
    assert len(re.findall("M", hit.get("d"))) == 6  # the edge between the two is left out
    assert halo.get("d") == mark.get("d") == "M70.00 20.00h60.00M70.00 80.00h60.00M70.00 20.00v60.00M130.00 20.00v60.00"
