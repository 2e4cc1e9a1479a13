"""The figure as a page, as files, and as what hosts without widgets show."""

import base64
import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from blip_trace_widget import GaussianNoise, TraceWidget
from blip_trace_widget.display import payloads
from blip_trace_widget.pictures import SHOWN_SIDE
from blip_trace_widget.widget import documents


@pytest.fixture(scope="module")
def widget(filled_widget):
    filled_widget.selection = [(5, 5)]
    filled_widget.wait(60)
    return filled_widget


def saved(text):
    """What a page holds."""
    (held,) = re.findall(r'<script type="application/json" id="saved">(.*?)</script>', text, re.DOTALL)
    return json.loads(held)


def floats(grid):
    return np.frombuffer(base64.b64decode(grid["values"]["base64"]), "<f4")


def test_a_page_holds_all_that_is_computed_and_is_small(widget, tracer, tmp_path):
    widget.save_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert len(text.encode()) < 1e6
    held = saved(text)
    assert base64.b64decode(held["state"]["picture"]["base64"]) == widget.picture
    assert held["state"]["question"] == widget.question
    assert held["state"]["detail"]["recovery"] == widget.detail["recovery"]
    assert held["state"]["setup"]["closed"]
    (scene,) = held["scenes"]
    assert scene["runs"]["corrupted"]["score"] == pytest.approx(tracer.corrupted.score)
    for grid in scene["grids"]:
        exact = payloads.cell_values(tracer.trace(grid["block"], grid["site"]))
        np.testing.assert_allclose(floats(grid), exact.ravel(), rtol=1e-5, atol=1e-6)
    assert {grid["block"] for grid in scene["grids"]} == {"answer_decoder", "question_encoder"}


def test_a_page_asks_nothing_of_the_network_and_text_stays_text(demo, example, tmp_path):
    text = '</script><img src=x onerror="alert(1)"> what\u2028color?'
    widget = TraceWidget(example.image, text, model=demo)
    widget.wait(60)
    widget.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert saved(page)["state"]["question"] == text
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:", page)
    widget.close()


def test_a_recording_is_played_at_all_its_factors(tracer, tmp_path):
    tracer.record(tmp_path / "trace", blocks="answer_decoder", sites="mlp", factors=[5.0, 1.0])
    shown = TraceWidget.from_trace(tmp_path / "trace")
    shown.save_html(tmp_path / "page.html")
    held = saved((tmp_path / "page.html").read_text("utf-8"))
    assert [scene["noise"] for scene in held["scenes"]] == [1.0, 5.0]
    assert held["state"]["setup"]["choices"]["noise"] == ["1.0", "5.0"]
    shown.close()
    tracer.trace().save_html(tmp_path / "trace.html")
    assert "answer" in (tmp_path / "trace.html").read_text("utf-8")


def without_generations(value):
    if isinstance(value, dict):
        return {name: without_generations(each) for name, each in value.items() if name != "generation"}
    return [without_generations(each) for each in value] if isinstance(value, list) else value


def test_a_trace_is_drawn_as_a_widget_would(tracer, tmp_path):
    """By other hands: the trace from its snapshot, the widget from its traits."""
    corruption = GaussianNoise(2.0, "additive", samples=3, seed=1, region=np.tri(8, dtype=bool))
    region = tracer.with_corruption(corruption)
    for trace in (region.trace("answer_decoder", "mlp", direction="disrupt"), tracer.trace(window=2)):
        shown = TraceWidget.from_trace(trace)
        for source, name in ((trace, "trace"), (shown, "widget")):
            source.save_html(tmp_path / f"{name}.html")
            source.export(tmp_path / f"{name}.svg", theme="dark")
        shown.close()
        assert (tmp_path / "trace.svg").read_text("utf-8") == (tmp_path / "widget.svg").read_text("utf-8")
        drawn, played = ((tmp_path / f"{name}.html").read_text("utf-8") for name in ("trace", "widget"))
        assert without_generations(saved(drawn)) == without_generations(saved(played))
        assert drawn.partition("saved")[0] == played.partition("saved")[0]


def test_every_format_is_what_its_name_says(widget, tracer, tmp_path):
    trace = tracer.trace()
    for source, folder in ((widget, tmp_path / "widget"), (trace, tmp_path / "trace")):
        folder.mkdir()
        for ending in ("svg", "png", "pdf", "html", "csv", "JSON"):
            source.export(folder / f"figure.{ending}")
        root = ET.parse(folder / "figure.svg").getroot()
        assert root.tag.endswith("svg")
        picture = Image.open(folder / "figure.png")
        assert picture.width == 2 * float(root.get("width"))
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
        assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF-")
        table = pd.read_csv(folder / "figure.csv")
        np.testing.assert_allclose(table["recovery"], trace.recovery.ravel(), rtol=1e-5, atol=1e-6)
        assert len(json.loads((folder / "figure.JSON").read_text("utf-8"))["cells"]) == trace.recovery.size
    dark = tmp_path / "dark.png"
    trace.export(dark, theme="dark")
    assert np.asarray(Image.open(dark).convert("L")).mean() < 100


def test_what_cannot_be_written_says_so(widget, tracer, tmp_path, monkeypatch):
    for source in (widget, tracer.trace()):
        for path in ("figure.doc", "figure", "svg"):
            with pytest.raises(ValueError, match=r"path \(ending\): expected one of"):
                source.export(tmp_path / path)
        with pytest.raises(ValueError, match="theme"):
            source.export(tmp_path / "figure.svg", theme="pink")
        with pytest.raises(OSError, match="nowhere"):
            source.export(tmp_path / "nowhere" / "figure.svg")
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ImportError, match=r"blip_trace_widget\[export\]"):
        widget.export(tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_hosts_without_widgets_get_a_picture_and_words(widget):
    data, _ = widget._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert ET.fromstring(data["image/svg+xml"]).tag.endswith("svg")
    assert f"{widget.tracer.answer}: clean {widget.tracer.clean.score:.0%}".replace("%", " %") in data["text/plain"]
    assert widget.question in data["text/plain"]


def test_a_picture_that_would_bloat_the_notebook_is_left_out(widget):
    made = documents.still(widget)
    size = len(made["image/svg+xml"])
    assert size < documents.STILL_BYTES
    assert set(documents.still(widget, size)) == set(made)
    assert set(documents.still(widget, size - 1)) == {"text/plain"}


def test_displaying_does_not_wait_for_long_work(demo, example, monkeypatch):
    import threading
    import time

    release = threading.Event()
    embed = type(demo).embed_image
    monkeypatch.setattr(type(demo), "embed_image", lambda self, image: (release.wait(20), embed(self, image))[1])
    picture = Image.new("RGB", (40, 30), "red")
    shown = TraceWidget(picture, "what color is it?", model=demo)
    started = time.perf_counter()
    data, _ = shown._repr_mimebundle_()
    assert time.perf_counter() - started < 10  # it would be 20 if it waited
    assert "what color is it?" in data["text/plain"]
    assert ET.fromstring(data["image/svg+xml"]).tag.endswith("svg")
    release.set()
    shown.wait(60)
    shown.close()


def saved_bytes(widget):
    """What a notebook keeps of a widget: the state, bytes as base64, and the still picture beside it."""
    state = widget.get_state()
    held = len(json.dumps(state, default=lambda value: base64.b64encode(bytes(value)).decode("ascii")))
    return held + len(widget._repr_mimebundle_()[0].get("image/svg+xml", ""))


def photo(side):
    """Something that JPEG finds as hard as a photograph: soft shapes with a grain."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side))
    grain = rng.normal(0, 8, (side, side, 3))
    return Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))


def test_a_saved_widget_is_small_also_of_a_photograph(widget, demo, example):
    assert saved_bytes(widget) < 300_000
    shown = TraceWidget(photo(600), example.question, model=demo)
    for block in ("answer_decoder", "question_encoder"):
        shown.block = block
        for site in ("mlp", "self_attention", "cross_attention", "block_output"):
            shown.site = site
            shown.trace_all()
            shown.wait(60)
    assert len(shown.grids) == 7
    assert "image/svg+xml" in shown._repr_mimebundle_()[0]
    assert saved_bytes(shown) < 400_000
    shown.close()


def test_large_grids_are_kept_only_where_there_is_room(tracer):
    def of(layers, positions, site):
        trace = tracer.trace(site=site)
        samples = np.zeros((2, layers, positions))
        tokens = tuple(map(str, range(positions)))
        return dataclasses.replace(trace, samples=samples, corrupted=np.array([0.1, 0.2]), tokens=tokens)

    small, other = of(12, 9, "mlp"), of(12, 9, "self_attention")
    base = of(12, 577, "block_output")  # the image encoder of BLIP base

    view = payloads.spec_of

    assert [grid["site"] for grid in payloads.other_grids([base, other, small], view(small), 3)] == ["self_attention"]
    assert payloads.other_grids([small, other, base], view(base), 3) == []
    shown = TraceWidget(photo(600), tracer.question, model=tracer.model)
    shown.wait(60)
    shown.show_traits(grid=payloads.grid(base, 0))
    size = saved_bytes(shown)
    shown.close()
    assert size < 430_000  # of which the script is 93 kB


def test_the_picture_keeps_what_jpeg_leaves(widget):
    assert max(Image.open(io.BytesIO(widget.picture)).size) <= SHOWN_SIDE
