"""The grid in view under another corruption too: what the widget says of it is what `Tracer.agreement` says."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from blip_trace_widget import Agreement, Corruption, GaussianNoise, ImageSwap, MeanAblation, QuestionSwap, TraceWidget
from blip_trace_widget.display.alternatives import alternatives
from blip_trace_widget.tracing.corruption import from_settings
from helpers.front_end import take
from helpers.widgets import quick_widget, slow_down

#: The first patch rows alone.
REGION = [[row < 3] * 8 for row in range(8)]


@pytest.fixture
def widget(demo, example):
    """A grid of which nothing is computed."""
    made = quick_widget(example.image, example.question, model=demo)
    made.wait(60)
    yield made
    made.close()


def told(widget):
    (only,) = widget.compared["differences"]
    return only


def under(widget, corruption):
    widget.also_under(corruption)
    widget.wait(60)
    return told(widget)


def agrees(widget, agreement):
    """Whether what is said is Python's."""
    rank, apart = agreement.rank_correlation[0, 1], agreement.disagrees[0, 1]
    alike = f"rank correlation {rank:.3g}".replace("-", "−") if np.isfinite(rank) else "no rank correlation"
    assert f"Also under {agreement.names[1]}: {alike}" in told(widget)["agreement"]
    assert f"· {apart.sum()} of {apart.size} cells disagree" in told(widget)["agreement"]
    assert sorted(told(widget)["apart"]) == [tuple(cell) for cell in np.argwhere(apart).tolist()]
    return True


def test_it_computes_both_grids_and_says_how_far_they_agree(widget, tracer):
    for name in widget.setup["choices"]["also"]:
        under(widget, name)
        assert widget.trace.complete
        settings = alternatives(tracer.corruption.settings())[name]
        assert agrees(widget, tracer.agreement([tracer.corruption, from_settings(settings, None)]))
    assert widget.difference is False  # the values stay, with outlines
    assert "one sample: no error known" in told(widget)["agreement"]  # of the last, the ablation


def test_any_corruption_may_be_given(widget, tracer, example):
    for other in (GaussianNoise(2.0), MeanAblation("zero", REGION), ImageSwap(example.image.rotate(90))):
        under(widget, other)
        assert agrees(widget, tracer.agreement([tracer.corruption, other]))


def test_it_is_of_the_grid_in_view(widget, tracer):
    widget.site, widget.direction, widget.window = "mlp", "disrupt", 2
    under(widget, "half the noise")
    view = {"site": "mlp", "direction": "disrupt", "window": 2}
    assert agrees(widget, tracer.agreement([tracer.corruption, GaussianNoise(2.5)], **view))
    widget.site = "block_output"
    widget.wait(60)
    assert (told(widget)["agreement"], told(widget)["apart"]) == ("", [])
    widget.undo()
    widget.wait(60)
    assert "Also under ν 2.5" in told(widget)["agreement"]


def test_the_one_that_is_kept_stays_while_the_noise_moves(widget, tracer):
    under(widget, "other seed")
    widget.noise = 2.0
    widget.wait(60)
    assert agrees(widget, tracer.agreement([GaussianNoise(2.0), GaussianNoise(seed=1)]))
    widget.undo()
    widget.wait(60)
    assert agrees(widget, tracer.agreement([GaussianNoise(), GaussianNoise(seed=1)]))
    widget.noise, widget.seed = 5.0, 1
    widget.wait(60)
    assert told(widget)["agreement"] == ""  # it is that one itself


def test_comparing_says_it_as_well(widget, tracer):
    widget.trace_all()
    widget.wait(60)
    widget.compare()
    widget.noise = 2.0
    widget.wait(60)
    assert agrees(widget, tracer.agreement([GaussianNoise(2.0), GaussianNoise()]))
    assert told(widget)["text"] == "ν 2 − ν 5"
    assert widget.difference


def test_it_comes_as_it_is_computed_and_stop_ends_it(widget, monkeypatch):
    slow_down(monkeypatch, widget.model)
    heard = []
    widget.observe(lambda change: heard.append(change["new"]), "compared")
    widget.trace_all()
    widget.wait(60)
    under(widget, "other seed")
    said = [each["differences"][0]["agreement"] for each in heard]
    assert said[0].endswith("no cell is computed in both yet")
    assert any("of 48, so far" in each for each in said)

    def halt(change):
        if "so far" in change["new"]["differences"][0]["agreement"]:
            widget.stop()

    widget.observe(halt, "compared")
    under(widget, "half the noise")
    widget.unobserve(halt, "compared")
    assert "so far" in told(widget)["agreement"]
    under(widget, "half the noise")
    assert "so far" not in told(widget)["agreement"]


def test_letting_go_ends_it(widget):
    under(widget, "other seed")
    widget.compare(False)
    assert widget.compared == {}
    widget.also_under("half the noise")
    widget.compare(False)
    widget.wait(60)
    assert widget.compared == {}


def test_the_page_asks_for_it(widget, tracer):
    take(widget, {"type": "also_under", "id": 1, "under": "half the noise"})
    widget.wait(60)
    assert agrees(widget, tracer.agreement([tracer.corruption, GaussianNoise(2.5)]))
    take(widget, {"type": "also_under", "id": 2, "under": "twice the noise"})
    assert "corruption: expected one of ['other seed', 'half the noise'" in widget.error


class Own(Corruption):
    """Nothing that the page could name."""


def test_what_is_no_corruption_is_refused(widget):
    with pytest.raises(TypeError, match="corruption: expected one of"):
        widget.also_under(5.0)
    with pytest.raises(ValueError, match=r"corruption: expected one of.*got 'Own'"):
        widget.also_under(Own())


def test_where_it_does_not_reach_the_block_it_is_said(demo, example):
    noise = GaussianNoise(samples=1, at="patch_embeddings")
    widget = quick_widget(example.image, example.question, model=demo, corruption=noise)
    widget.block = "image_encoder"
    widget.also_under(GaussianNoise())
    widget.wait(120)
    assert "image_encoder" in widget.error
    assert widget.compared == {}
    widget.close()


def test_other_corruptions_differ_and_keep_to_the_region(example):
    for given in (GaussianNoise(2.0, region=REGION), MeanAblation("zero", REGION), ImageSwap(example.image, REGION)):
        for settings in alternatives(given.settings()).values():
            other = from_settings(settings, None)
            assert other != given
            assert other.settings()["region"] == REGION


def test_copied_python_gives_the_agreement(widget, example):
    widget.region = REGION
    widget.wait(60)
    for other in ("additive noise", GaussianNoise(3.0), ImageSwap(example.image.rotate(90))):
        under(widget, other)
        if isinstance(other, ImageSwap):
            assert '[tracer.corruption, ImageSwap("kept_other.png"' in widget.code
            assert "# kept_other.png: the picture that was swapped in" in widget.code
            continue
        made = {}
        exec(widget.code, made)
        assert isinstance(made["agreement"], Agreement)
        assert agrees(widget, made["agreement"])
    widget.compare(False)
    assert "agreement" not in widget.code


def test_files_outline_the_cells_and_say_it(widget, tmp_path):
    shown = under(widget, "half the noise")
    assert shown["apart"]
    widget.export(tmp_path / "figure.svg")
    root = ET.parse(tmp_path / "figure.svg").getroot()
    assert len([each for each in root.iter() if each.get("class") == "bt-apart"]) == len(shown["apart"])
    assert shown["agreement"] in "".join(root.itertext())
    widget.save_html(tmp_path / "page.html")
    assert "Also under ν 2.5: rank correlation" in (tmp_path / "page.html").read_text("utf-8")


def test_a_recording_cannot_compute_it_but_compares_what_was_recorded(tracer, tmp_path):
    tracer.record(tmp_path / "trace", blocks="question_encoder", sites="mlp", factors=[5.0, 2.0])
    shown = TraceWidget.from_trace(tmp_path / "trace")
    with pytest.raises(ValueError, match="also_under: This is a recording"):
        shown.also_under("other seed")
    assert shown.setup["choices"]["also"] == []
    shown.compare()
    shown.noise = 5.0
    pair = [GaussianNoise(5.0), GaussianNoise(2.0)]
    assert agrees(shown, tracer.agreement(pair, site="mlp"))
    shown.close()


def test_it_lasts_when_the_numbers_are_checked_and_forgets_what_failed_before(widget):
    widget.trace_all()
    widget.wait(60)
    widget.also_under(QuestionSwap("is this"))
    widget.wait(60)
    assert "QuestionSwap" in widget.error
    widget.also_under(MeanAblation())
    widget.wait(60)
    assert widget.error == ""
    [before] = [each["text"] for each in widget.compared["differences"]]
    widget.verify()
    widget.wait(60)
    assert [each["text"] for each in widget.compared["differences"]] == [before]
