"""The drawn figure against the payloads that it was drawn from, and its colours and words against the front end's."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from blip_trace_widget import GaussianNoise, State, Tracer
from blip_trace_widget.display import formatting, payloads, protocol, svg
from blip_trace_widget.display.colors import diverging, neutral, round_up
from blip_trace_widget.display.svg.canvas import breadth, cut, wrap
from blip_trace_widget.pictures import jpeg
from blip_trace_widget.results.grid_spec import GridSpec, Selection
from blip_trace_widget.widget.presenter import Spelled

NS = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('&amp;')</script> & \"]]>\x00\ud800"
TOKENS = ["[CLS]", "what", "color", "is", "the", "circle", "?", "[SEP]", "!"]
LAYERS = 12


def grid_of(recovery, /, *, margin=0.01, constructed=(), nan=(), fields=protocol.CELL_FIELDS, **values):
    """A grid of 12 layers and 9 tokens with the given recovery, half of it as effect, and a score of 0.1 more."""
    recovery = np.broadcast_to(np.asarray(recovery, dtype=float), (LAYERS, len(TOKENS)))
    known = {"recovery": recovery, "indirect_effect": recovery / 2, "score": recovery / 2 + 0.1}
    known |= {
        "margin": np.where(np.isnan(recovery), np.nan, margin),
        "recovery_margin": known["score"] * 0 + 2 * margin,
        "significant": np.where(np.isnan(recovery), np.nan, np.abs(recovery) > 4 * margin),
    }
    known |= values
    array = np.stack([np.broadcast_to(known.get(name, np.nan), recovery.shape) for name in fields])
    return {
        "generation": 1,
        "block": "question_encoder",
        "site": "block_output",
        "head": None,
        "direction": "restore",
        "window": 1,
        "layers": LAYERS,
        "tokens": TOKENS,
        "constructed": list(constructed),
        "nan": list(nan),
        "notes": [],
        "values": array.astype("<f4").tobytes(),
    }


def random_recovery():
    return np.random.default_rng(0).normal(0, 0.2, (LAYERS, len(TOKENS)))


@pytest.fixture(scope="module")
def shown(tracer, example):
    effect = tracer.patch(State("question_encoder", 5, 5))
    bars = payloads.bars_of(*(Spelled(run, tracer.model.token_ids) for run in (tracer.clean, tracer.corrupted, effect)))
    return {
        "runs": payloads.runs(tracer.snapshot, 1),
        "grid": payloads.grid(tracer.trace(block="question_encoder"), 1),
        "detail": payloads.detail(tracer.snapshot, effect, Selection(((5, 5),)), GridSpec(), 1, bars),
        "question": example.question,
        "picture": jpeg(example.image),
        "settings_line": "multiplicative · 10 samples · seed 0",
    }


@pytest.fixture
def draw(shown):
    """The parsed figure of the built-in model, with some payloads or settings changed."""
    return lambda **changed: ET.fromstring(svg.svg(**shown | changed))


def cells(root):
    found = [element for element in root.iter(f"{NS}rect") if element.get("class") == "bt-cell"]
    by_place = {(int(cell.get("data-layer")), int(cell.get("data-position"))): cell for cell in found}
    assert len(by_place) == len(found)
    return by_place


def said(root):
    return ["".join(element.itertext()) for element in root.iter(f"{NS}text")]


def marks(root):
    dots = sum(1 for _ in root.iter(f"{NS}circle"))
    [group] = [group for group in root.iter(f"{NS}g") if group.get("pointer-events") == "none"]
    return dots, [element.text for element in group.iter(f"{NS}text")]


def middle(element):
    return tuple(
        float(element.get(at)) + float(element.get(size)) / 2 for at, size in (("x", "width"), ("y", "height"))
    )


def test_the_figure_of_the_built_in_model_shows_what_was_sent(draw, shown, tracer):
    root = draw()
    texts = said(root)
    drawn = cells(root)
    assert set(drawn) == set(np.ndindex(6, len(tracer.question_tokens)))
    assert set(tracer.question_tokens) <= set(texts)
    assert tracer.answer in texts
    assert shown["question"] in texts
    assert "Question encoder · layer output" in texts
    assert shown["settings_line"] in texts
    for word, share in zip(*(shown["detail"]["bars"][name] for name in ("words", "patched")), strict=True):
        assert word in texts
        assert formatting.percent(share) in texts
    assert shown["runs"]["gate"]["text"] in root.find(f"{NS}desc").text
    assert root.find(f"{NS}title").text == f"Causal trace: {shown['question']}"
    trace = tracer.trace(block="question_encoder")
    limit = round_up(np.abs(trace.recovery).max())
    for (layer, position), cell in drawn.items():
        assert cell.get("fill") == diverging("light", trace.recovery[layer, position].astype("f4") / limit)
    effect = tracer.patch(State("question_encoder", 5, 5))
    told = drawn[5, 5].find(f"{NS}title").text.split("\n")
    assert told[0] == "layer 5 · “circle”"
    assert f"score {formatting.percent(effect.score)}" in told
    assert f"recovery {formatting.percent(effect.recovery, effect.recovery_margin)}" in told


@pytest.mark.parametrize("axes", ["tokens", "layers"])
def test_cells_stand_beside_their_labels(draw, axes):
    root = draw(grid=grid_of(random_recovery()), detail={}, axes=axes)
    drawn = cells(root)
    down = 1 if axes == "tokens" else 0
    for token, position in (("what", 1), ("circle", 5)):
        [label] = [text for text in root.iter(f"{NS}text") if text.text == token]
        place = float(label.get("xy"[down]))
        assert [abs(place - middle(drawn[layer, position])[down]) < 5 for layer in (0, 11)] == [True, True]
    [number] = [text for text in root.iter(f"{NS}text") if text.text == "10"]
    assert abs(float(number.get("xy"[1 - down])) - middle(drawn[10, 0])[1 - down]) < 5
    frame = float(root.get("width")), float(root.get("height"))
    assert all(0 < at < size for cell in drawn.values() for at, size in zip(middle(cell), frame, strict=True))
    assert len({middle(cell) for cell in drawn.values()}) == LAYERS * len(TOKENS)


def test_long_labels_across_are_turned_and_cut_but_whole_on_hover(draw):
    long = ["a-word-of-many-letters", *TOKENS[1:]]
    root = draw(grid=grid_of(0.1) | {"tokens": long}, detail={}, axes="layers")
    turned = [text for text in root.iter(f"{NS}text") if text.get("transform")]
    assert len(turned) == len(TOKENS)
    assert re.fullmatch(r"a-word.*…", turned[0].text)
    assert turned[0].find(f"{NS}title").text == long[0]
    assert not [text for text in draw(detail={}, axes="layers").iter(f"{NS}text") if text.get("transform")]


def test_the_dark_theme_has_its_own_ground_and_colours(draw):
    recovery = random_recovery()
    root = draw(grid=grid_of(recovery), theme="dark", limit=0.5)
    ground = next(root.iter(f"{NS}rect"))
    assert ground.get("fill") == "#1c1c20"
    assert (float(ground.get("width")), float(ground.get("height"))) == (959, float(root.get("height")) - 1)
    for place, cell in cells(root).items():
        assert cell.get("fill") == diverging("dark", float(np.float32(recovery[place])) / 0.5)


def test_what_is_not_computed_is_hatched_and_said(draw):
    recovery = random_recovery()
    recovery[7:, 3] = np.nan
    root = draw(grid=grid_of(recovery), detail={})
    hatched = {place for place, cell in cells(root).items() if cell.get("fill").startswith("url(")}
    assert hatched == {(layer, 3) for layer in range(7, LAYERS)}
    [pattern] = root.iter(f"{NS}pattern")
    assert cells(root)[7, 3].get("fill") == f"url(#{pattern.get('id')})"
    assert cells(root)[7, 3].find(f"{NS}title").text == "layer 7 · “is”\nnot computed"
    assert "not computed" in said(root)
    assert "not computed" not in said(draw(grid=grid_of(0.1), detail={}))


def test_marks_say_what_colour_cannot(draw):
    recovery = np.full((LAYERS, len(TOKENS)), 0.5)
    recovery[2, :4] = 0.03
    recovery[11, 0] = 1
    root = draw(grid=grid_of(recovery, constructed=[(11, 0)]), detail={})
    assert marks(root) == (4, ["="])
    assert {"not distinguishable from 0", "1 by construction"} <= set(said(root))
    assert "not distinguishable from 0" in cells(root)[2, 3].find(f"{NS}title").text
    undefined = draw(grid=grid_of(recovery, recovery=np.nan), detail={})
    assert marks(undefined) == (0, ["–"] * (LAYERS * len(TOKENS)))
    assert {cell.get("fill") for cell in cells(undefined).values()} == {neutral("light")}


def test_significance_that_the_kernel_sent_decides(draw):
    significant = np.ones((LAYERS, len(TOKENS)))
    significant[5, 5] = significant[0, 0] = 0
    significant[1] = np.nan
    recovery = np.full(significant.shape, 0.5)
    recovery[1:3, 0] = 0.03
    grid = grid_of(recovery, fields=protocol.CELL_FIELDS, significant=significant)
    root = draw(grid=grid)
    assert marks(root) == (2, [])  # where nothing is said, as of a single sample, there is no dot
    assert "not distinguishable" not in cells(root)[2, 0].find(f"{NS}title").text
    assert "of what the noise took, not distinguishable from 0." in "".join(said(root))


def test_the_selected_cells_are_outlined_if_they_are_of_this_grid(draw, shown):
    def outlined(**changed):
        root = draw(grid=grid_of(0.3), detail=shown["detail"] | changed)
        drawn = {tuple(round(at) for at in middle(cell)): place for place, cell in cells(root).items()}
        outlines = [element for element in root.iter(f"{NS}rect") if element.get("class") == "bt-outline"]
        return [drawn[tuple(round(at) for at in middle(outline))] for outline in outlines]

    assert outlined(cells=[(5, 5), (0, 2)]) == [(5, 5), (0, 2)]
    assert outlined(cells=[(5, 5), (40, 2)]) == [(5, 5)]
    assert outlined(site="mlp") == []


def test_the_legend_states_the_limits(draw):
    def limits(**changed):
        [text] = [text for text in said(draw(detail={}, **changed)) if " … " in text]
        return [part.strip() for part in text.split("\u2003")]

    grid = grid_of(np.where(np.arange(LAYERS)[:, None] == 3, -0.55, 0.2))
    assert limits(grid=grid) == ["restores", "−0.6 … 0.6", "recovery (probability)"]
    assert limits(grid=grid, limit=0.25)[1] == "−0.25 … 0.25"
    assert limits(grid=grid, show="indirect_effect", direction="disrupt") == [
        "costs", "−0.3 … 0.3", "indirect effect (probability)",
    ]  # fmt: skip
    assert limits(grid=grid, show="score")[:2] == ["high", "−0.2 … 0.2"]
    assert limits(grid=grid_of(0.3, constructed=[(11, 0)]))[1] == "−0.3 … 0.3"


def test_a_score_that_rises_with_the_damage_turns_the_scale_round(draw, shown):
    rising = shown["runs"] | {"metric": "kl_divergence", "total_effect": -2.0}
    root = draw(grid=grid_of(-0.5), runs=rising, detail={}, show="indirect_effect")
    assert {cell.get("fill") for cell in cells(root).values()} == {diverging("light", 0.25 / 0.3)}
    assert any("0.3 … −0.3\u2003indirect effect (KL divergence)" in text for text in said(root))


def test_means_stand_below_and_beside_the_cells(draw):
    recovery = random_recovery()
    recovery[4, :] = np.nan
    recovery[:, 2] = np.where(np.isnan(recovery[:, 2]), np.nan, -0.4)
    root = draw(grid=grid_of(recovery), detail={})
    titles = {element.text: bar for bar in root.iter(f"{NS}rect") for element in bar.iter(f"{NS}title")}
    means = {text: bar for text, bar in titles.items() if text.startswith("mean of")}
    assert len(means) == LAYERS - 1 + len(TOKENS)
    beside = means[f"mean of color: {formatting.plain(-0.4)}"]
    below = means[f"mean of 7: {formatting.plain(np.nanmean(recovery[7]))}"]
    pixels = [float(beside.get("width")) / 0.4, float(below.get("height")) / abs(np.nanmean(recovery[7]))]
    assert pixels[0] == pytest.approx(pixels[1], rel=0.05)
    drawn = cells(root)
    assert middle(beside)[1] == pytest.approx(middle(drawn[0, 2])[1], abs=0.1)
    assert middle(below)[0] == pytest.approx(middle(drawn[7, 0])[0], abs=0.1)
    assert beside.get("fill") == diverging("light", -0.6)


def test_a_question_cannot_become_markup(draw):
    root = draw(question=HOSTILE, settings_line=HOSTILE, grid=grid_of(0.1) | {"tokens": [HOSTILE, *TOKENS[1:]]})
    clean = HOSTILE[:-2] + "\ufffd\ufffd"
    assert root.find(f"{NS}title").text == f"Causal trace: {clean}"
    lines = "".join(said(root))
    assert lines.count(clean) >= 2
    assert not [element for element in root.iter() if element.tag.lower().endswith("script")]


def test_nothing_is_fetched_and_nothing_runs(draw, shown):
    root = draw()
    assert {element.tag.removeprefix(NS) for element in root.iter()} <= {
        "svg", "title", "desc", "defs", "clipPath", "pattern", "linearGradient", "stop", "g", "rect", "circle", "text",
        "tspan", "image",
    }  # fmt: skip
    names = {element.get("id") for element in root.iter() if element.get("id")}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if name == "href":
                assert value.startswith("data:image/jpeg;base64,")
            for target in re.findall(r"url\((.*?)\)", value):
                assert target.removeprefix("#") in names
    assert "http" not in svg.svg(**shown).replace("http://www.w3.org/2000/svg", "")


def test_missing_parts_are_left_out(draw, shown):
    def parts(**changed):
        root = draw(**changed)
        texts = said(root)
        images = list(root.iter(f"{NS}image"))
        return len(cells(root)), "patched" in texts, "with noise" in texts, len(images), "clean" in texts

    count = len(shown["grid"]["tokens"]) * 6
    assert parts() == (count, True, True, 1, True)
    assert parts(detail={}) == parts(detail=None) == (count, False, True, 1, True)
    assert parts(grid={}) == parts(grid=None) == (0, True, True, 1, True)
    assert parts(picture=b"") == (count, True, True, 0, True)
    nothing = {"runs": None, "grid": None, "detail": None, "picture": b""}
    assert parts(**nothing) == (0, False, False, 0, False)
    heights = [float(draw(**changed).get("height")) for changed in ({}, {"detail": {}}, nothing)]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) > 1


def test_the_sentence_is_the_front_ends(draw, shown):
    detail = shown["detail"]

    def sentence(runs=shown["runs"], **changed):
        root = draw(runs=runs, grid={}, detail=detail | changed)
        [lines] = re.findall(r"((?:Restoring|Damaging) .*?\.) ?(?=clean)", "".join(said(root)))
        assert lines in root.find(f"{NS}desc").text
        return lines

    known = {"recovery": 0.5832, "recovery_margin": 0.0413, "indirect_effect": 0.47, "margin": 0.03}
    assert sentence(**known) == "Restoring layer 5 at “circle” brings back 58 % ± 4 % of what the noise took."
    known["cells"] = [(0, 1), (1, 1), (2, 1)]
    assert sentence(**known).startswith("Restoring these 3 states brings back 58 %")
    known |= {"cells": [(4, 2)], "window": 3, "site": "mlp", "direction": "disrupt"}
    assert sentence(**known) == "Damaging layers 3–5 (MLP) at “color” costs 58 % ± 4 % of the total effect."
    known |= {"recovery": -0.2, "indirect_effect": -0.2}
    assert sentence(**known).endswith("adds 20 % ± 4 % of the total effect.")
    known |= {"direction": "restore", "window": 1, "site": "block_output"}
    assert sentence(**known).endswith("takes away a further 20 % ± 4 % of what the noise took.")
    known |= {"negligible": True}
    assert sentence(**known).endswith("brings back −20 % ± 4 % of what the noise took, not distinguishable from 0.")
    known |= {"recovery": None, "indirect_effect": 0.47, "negligible": False}
    closed = shown["runs"] | {"gate": {"open": False, "text": "too little"}}
    assert sentence(runs=closed, **known) == (
        "Restoring layer 4 at “color” changes the score by 47 ± 3 points. Recovery is not shown: too little."
    )
    known |= {"recovery": 0.5832, "patches": [(2, 3)], "cells": []}
    assert sentence(**known).startswith("Restoring patch 2,3 of the picture brings back 58 %")
    known |= {"patches": [(2, 3), (2, 4)]}
    assert sentence(**known).startswith("Restoring these 2 patches of the picture brings back 58 %")
    assert sentence(indirect_effect=None) == "Restoring layer 5 at “circle”: the score is not a number."


def test_what_belongs_to_earlier_settings_says_so(draw, shown):
    root = draw(runs=shown["runs"] | {"generation": 2})
    assert [group.get("opacity") for group in root.iter(f"{NS}g")] == ["0.35", None]
    assert sum("earlier settings" in text for text in said(root)) == 2
    assert not [text for text in said(draw()) if "earlier settings" in text]


def test_a_closed_gate_is_told_in_full(demo, example, draw):
    weak = Tracer(demo, example.image, example.question, corruption=GaussianNoise(factor=0.2))
    root = draw(
        runs=payloads.runs(weak.snapshot, 1), grid=payloads.grid(weak.trace(block="question_encoder"), 1), detail={}
    )
    assert payloads.runs(weak.snapshot, 1)["gate"]["text"] in "".join(said(root))
    assert "not defined" in said(root)


def test_a_grid_of_image_tokens_stays_below_4000_pixels(draw):
    tokens = ["[CLS]", *map(str, range(576))]
    values = np.full((len(protocol.CELL_FIELDS), 12, len(tokens)), 0.2, dtype="<f4")
    grid = grid_of(0.1) | {"block": "image_encoder", "tokens": tokens, "values": values.tobytes()}
    root = draw(grid=grid)
    assert len(cells(root)) == 12 * 577
    assert 3000 < float(root.get("height")) < 4000
    rows = sorted(
        float(text.get("y")) for text in root.iter(f"{NS}text") if text.text in tokens and text.get("font-family")
    )
    assert 100 < len(rows) < 300
    assert min(np.diff(rows)) >= 12
    across = draw(grid=grid, axes="layers")
    assert len(cells(across)) == 12 * 577
    assert float(across.get("height")) < 1000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"show": "loss"}, "show"),
        ({"axes": "heads"}, "axes"),
        ({"theme": "blue"}, "theme"),
        ({"direction": "up"}, "direction"),
        ({"limit": -1.0}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"limit": "large"}, "limit"),
        ({"grid": grid_of(0.1) | {"layers": 11}}, "grid"),
    ],
)
def test_wrong_arguments_are_named(shown, wrong, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}: "):
        svg.svg(**shown | wrong)


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        (0.42, "0.4 s left"),
        (42, "42 s left"),
        (99.9, "100 s left"),
        (170, "3 min left"),
        (3599, "60 min left"),
        (3600, "1.0 h left"),
        (9000, "2.5 h left"),
        (40 * 3600, "40 h left"),
    ],
)
def test_time_is_counted_in_what_a_person_would(seconds, left):
    assert formatting.seconds_left(seconds) == left


def test_an_empty_answer_is_said_in_words(draw, shown):
    runs = shown["runs"] | {"corrupted": shown["runs"]["corrupted"] | {"answer": ""}}
    assert "none: it says nothing" in "".join(draw(runs=runs).itertext())


def test_text_is_wrapped_after_spaces_and_cut_with_an_ellipsis():
    pieces = [("Restoring ", False), ("layer 10", True), (", and then much more of it ", False), ("x" * 60, False)]
    lines = wrap(pieces, 120, 13)
    assert "".join(text for line in lines for text, _ in line) == "".join(text for text, _ in pieces)
    assert "".join(text for line in lines for text, bold in line if bold) == "layer 10"
    for line in lines:
        assert sum(breadth(text.rstrip(), 13, bold=bold) for text, bold in line) <= 120
    assert [line[-1][0][-1] for line in lines[:3]] == [" "] * 3
    assert cut("short", 100, 12) == "short"
    assert breadth(cut("x" * 60, 100, 12), 12) <= 100
    assert cut("x" * 60, 100, 12).endswith("x…")
    assert breadth("色", 12) > breadth("x", 12)


def test_a_score_that_is_no_number_is_not_what_is_not_computed(draw):
    recovery = np.full((LAYERS, len(TOKENS)), np.nan)
    recovery[1:] = 0.3
    root = draw(grid=grid_of(recovery, nan=[(0, 2)]), detail={})
    broken, empty = (cells(root)[0, at] for at in (2, 1))
    assert broken.find(f"{NS}title").text.endswith("\nthe score is not a number")
    assert empty.find(f"{NS}title").text.endswith("\nnot computed")
    assert broken.get("fill") != empty.get("fill")
    assert said(root).count("×") == 2  # in the cell and in the legend
    assert "the score is not a number" in said(root)
