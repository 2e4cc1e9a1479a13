"""Flow between groups of tokens: against knockouts of one pair and layer at a time, and on a known circuit."""

import json
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget import BlipVqa, Flow, GaussianNoise, Tracer, examples
from blip_trace_widget.display.flow import flow as shown
from blip_trace_widget.model.computing import ModelChangedError
from blip_trace_widget.tracing.flow import Flowing
from helpers.problems import EXAMPLES, problems
from helpers.random_models import random_model


@pytest.fixture(scope="module")
def found(tracer):
    return tracer.flow(window=2)


def some_of(count):
    return st.lists(st.integers(0, count - 1), min_size=1, max_size=3, unique=True)


@EXAMPLES
@given(problems(), st.data())
def test_each_pair_is_a_knockout(tracer, data):
    counts = {
        "picture": tracer.model.image_token_count,
        "question": len(tracer.question_tokens),
        "answer": len(tracer.answer_tokens),
    }
    groups = {
        part: {f"{part} {at}": data.draw(some_of(count)) for at in range(data.draw(st.integers(1, 2)))}
        for part, count in counts.items()
    }
    layers = tracer.model.layers
    window = data.draw(st.integers(1, layers))
    flow = tracer.flow(groups, window)
    layer = data.draw(st.integers(0, layers - 1))
    first = layer - window // 2
    cut = [at for at in range(first, first + window) if 0 <= at < layers]
    ways = {
        ("picture", "question"): ("question_encoder", "cross_attention"),
        ("question", "question"): ("question_encoder", "self_attention"),
        ("question", "answer"): ("answer_decoder", "cross_attention"),
        ("answer", "answer"): ("answer_decoder", "self_attention"),
    }
    told = {(edge.source.name, edge.target.name): scores for edge, scores in zip(flow.edges, flow.scores, strict=True)}
    for (source, target), (block, site) in ways.items():
        for name, keys in groups[source].items():
            for other, queries in groups[target].items():
                if name == other:
                    assert (name, other) not in told
                    continue
                exact = tracer.knockout(block, cut, queries, keys, site)
                if (name, other) not in told:  # the decoder does not look ahead
                    np.testing.assert_allclose(exact.loss, 0, atol=1e-6)
                    assert site == "self_attention"
                    assert block == "answer_decoder"
                    continue
                np.testing.assert_allclose(told.pop((name, other))[layer], exact.score, rtol=1e-5, atol=1e-9)
    assert not told
    np.testing.assert_allclose(flow.loss, flow.clean - flow.scores)


def test_a_chain_shows_where_each_link_is_and_nothing_else():
    model = BlipVqa.known_circuit("chain", device="cpu")
    asked = examples(model)[4]
    tracer = Tracer(model, asked.image, asked.question)
    truth = model.truth.located(tracer.question_tokens)
    layers = {(head.block, head.site): head.layer for head in truth.heads}
    patch = next(state.position for state in truth.states if state.block == "image_encoder")
    word = next(head.position for head in truth.heads if head.site == "cross_attention_out")
    rest = [at for at in range(1, len(tracer.question_tokens)) if at != word]
    region = np.zeros((3, 3), bool)
    region.flat[patch - 1] = True
    flow = tracer.flow(
        {
            "picture": {"patch": region, "others": [at for at in range(10) if at != patch]},
            "question": {"place": word, "[CLS]": 0, "rest": rest},
        },
        window=1,
    )
    links = {
        "patch → place": layers["question_encoder", "cross_attention_out"],
        "place → [CLS]": layers["question_encoder", "self_attention_out"],
        "[CLS] → start of the answer": layers["answer_decoder", "cross_attention_out"],
    }
    for name, loss in zip(flow.names, flow.relative_loss, strict=True):
        expected = [float(links.get(name) == layer) for layer in range(4)]
        np.testing.assert_allclose(loss, expected, atol=1e-6)
    assert set(links) < set(flow.names)


def test_groups_where_none_are_given(tracer, found):
    assert found.settings["groups"] == {
        "picture": {"picture": list(range(65))},
        "question": {"[CLS]": [0], "question word": [1], "other words": [2, 3, 4, 5], "end of the question": [6, 7]},
        "answer": {"start of the answer": [0]},
    }
    assert len(found.edges) == 4 + 12 + 4
    region = np.zeros((8, 8), bool)
    region[2, 3] = True
    damaged = tracer.with_corruption(GaussianNoise(region=region, samples=1))
    groups = damaged.flow({"question": {"circle": "circle"}}, window=1).settings["groups"]
    assert groups["picture"]["region"] == [2 * 8 + 3 + 1]
    assert groups["picture"]["rest of the picture"] == [at for at in range(65) if at != 20]
    longer = tracer.replace(answer="red circle").flow({"picture": {}, "question": {}}, window=1)
    assert longer.names == ("start of the answer → answer so far",)


def test_a_table_has_a_row_for_each_pair_and_layer(found):
    table = found.to_dataframe()
    assert len(table) == 20 * 6
    row = table[(table.source == "picture") & (table.target == "[CLS]") & (table.layer == 3)]
    at = found.names.index("picture → [CLS]")
    assert row["loss"].item() == found.loss[at, 3]
    assert row["site"].item() == "cross_attention"
    assert set(table["window"]) == {2}
    assert json.loads(json.dumps(found.settings)) == found.settings
    edge, layer = np.unravel_index(found.relative_loss.argmax(), found.loss.shape)
    assert f"{found.names[edge]}" in repr(found)
    assert f"at layer {layer}" in repr(found)


def test_what_is_saved_is_read_bit_for_bit(found, tmp_path):
    found.save(tmp_path / "flow")
    read = Flow.load(tmp_path / "flow")
    assert (read.edges, read.clean, read.settings, repr(read)) == (
        found.edges,
        found.clean,
        found.settings,
        repr(found),
    )
    np.testing.assert_array_equal(read.scores, found.scores)
    assert read.to_dataframe().equals(found.to_dataframe())


def test_arrows_are_as_wide_as_the_loss(found):
    mpl = pytest.importorskip("matplotlib")
    mpl.use("agg")
    axes = found.plot()
    widths = [text.arrow_patch.get_linewidth() for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert len(widths) == 20
    most = np.abs(found.relative_loss).max(axis=1)
    large = most > 0.1 * most.max()
    np.testing.assert_allclose(np.array(widths)[large] / max(widths), most[large] / most.max())
    names = {text.get_text() for text in axes.texts}
    assert {"picture", "question", "answer", "[CLS]", "other words", "start of the answer"} <= names
    other = mpl.pyplot.figure().add_subplot()
    assert found.plot(other, "loss", layer=2) is other
    assert "around layer 2" in other.get_title()
    mpl.pyplot.close("all")
    with pytest.raises(ValueError, match="layer: expected from 0 to 5, got 6"):
        found.plot(layer=6)
    with pytest.raises(ValueError, match=r"value: expected one of .*'loss'.* got 'score'"):
        found.plot(value="score")


def test_without_matplotlib_bars_are_drawn(found, tracer, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    bars = found.plot().marks[0]
    np.testing.assert_allclose(bars.y, found.relative_loss.max(axis=1), atol=1e-3)
    assert list(bars.x) == list(found.names)
    sets = tracer.find_states(0.5)
    lines = sets.plot().marks[0]
    np.testing.assert_allclose(np.ravel(lines.y), sets.curve)


@pytest.mark.parametrize("metric", ["log_probability", "kl_divergence"])
def test_what_is_lost_of_other_metrics_is_told_in_their_units(tracer, found, metric):
    """Cutting what the probability misses is a loss under each, though one is below 0 and the other rises."""
    other = tracer.replace(metric=metric).flow(window=2)
    edge, layer = np.unravel_index(np.nanargmax(found.lost), found.lost.shape)
    np.testing.assert_array_equal(found.lost, found.relative_loss)
    assert found.lost[edge, layer] > 0.3 < other.lost[edge, layer]
    told = shown(other, 0)["arrows"][edge]
    assert told["value"] > 0.3
    assert "% lost" not in told["text"]
    assert other.plot() is not None


def test_a_model_that_is_changed_meanwhile_ends_it():
    model = random_model(seed=3)
    flowing = Flowing(Tracer(model, examples()[0].image, "what is this?", "red").case, window=1)
    steps = flowing.steps()
    next(steps)
    with torch.no_grad():
        next(model.hf.text_decoder.parameters()).mul_(1.3)
    with pytest.raises(ModelChangedError):
        for _ in steps:
            pass


def test_a_stopped_flow_keeps_what_it_has(tracer, found):
    stop = threading.Event()
    part = tracer.flow(
        window=2, progress=lambda done, total: stop.set() if (done, total) == (7, 120) else None, cancel=stop
    )
    np.testing.assert_array_equal(part.scores[0], found.scores[0])
    assert np.isfinite(part.scores).sum() == 7
    assert "computed: 7 of 120" in repr(part)
    axes = part.plot()
    assert axes is not None

    def struck(done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted: 3 of 120 runs are computed"):
        assert np.isfinite(tracer.flow(progress=struck).scores).sum() == 3


def test_a_question_of_one_word_and_words_of_several_pieces():
    tracer = Tracer(random_model(), np.zeros((9, 9, 3), np.uint8), "surfboard?", answer="red")
    groups = tracer.flow(window=1).settings["groups"]["question"]
    pieces = [at for at, token in enumerate(tracer.question_tokens) if token[0] != "[" and token != "?"]
    assert groups["question word"] == pieces
    assert "other words" not in groups


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("words", TypeError, "groups: expected a mapping of .*'picture'.* got str 'words'"),
        ({"words": {}}, ValueError, "groups: expected parts out of .*'question'.* got 'words'"),
        ({"question": ["circle"]}, TypeError, r"groups\['question'\]: expected names with tokens, got list"),
        ({"question": {1: "circle"}}, TypeError, r"groups\['question'\]: expected names, got int 1"),
        ({"question": {"noun": "cube"}}, ValueError, r"groups\['question'\]\['noun'\]: there is no token 'cube'"),
        ({"picture": {"left": [99]}}, ValueError, r"groups\['picture'\]\['left'\]: expected from 0 to 64, got 99"),
        (
            {"question": {"picture": "circle"}},
            ValueError,
            "groups: expected a name for each group, got 'picture' twice",
        ),
        ({"question": {}}, ValueError, "groups: expected two between which there is attention, got none"),
    ],
)
def test_groups_that_do_not_exist_are_refused(tracer, groups, error, message):
    with pytest.raises(error, match=message):
        tracer.flow(groups)


def test_a_window_of_more_layers_than_there_are_is_refused(tracer):
    with pytest.raises(ValueError, match="window: expected from 1 to 6, got 7"):
        tracer.flow(window=7)
