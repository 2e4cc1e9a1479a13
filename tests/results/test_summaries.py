"""What notebooks show of results: short texts, small tables, tables that can be put together; and names to find."""

import copy
import inspect
import pickle
import typing
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

import blip_trace_widget as package
from blip_trace_widget import BlipVqa, GaussianNoise, ImageSwap, MeanAblation, State, Tracer, TraceWidget
from blip_trace_widget.choices import NOISE_KINDS
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.states import BLOCKS, DIRECTIONS, SITES
from blip_trace_widget.tracing.metrics import METRICS

TABLE = {"table", "caption", "tr", "th", "td"}


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], set(), [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def trace(tracer):
    return tracer.trace()


@pytest.fixture(scope="module")
def results(tracer, trace):
    """One of each kind."""
    region = np.zeros((8, 8), bool)
    region[2:4, 1:4] = True
    return [
        trace,
        tracer.trace("answer_decoder", direction="disrupt"),
        tracer.trace(site="cross_attention", head="all"),
        tracer.trace_image_tokens(4),
        trace - tracer.trace(site="mlp"),
        tracer.with_corruption(GaussianNoise(region=region)).trace(),
        tracer.with_corruption(factor=0.0).trace(),
        trace[5, "circle"],
        tracer.clean,
        tracer.corrupted,
        tracer.patch(State("question_encoder", 5, "circle")),
        tracer.patch_image_tokens([1, 2]),
        tracer.noise_curve([0.0, 5.0], State("question_encoder", 5, 5)),
        tracer.recovery_curve(factors=[0.0, 5.0]),
        tracer.agreement([GaussianNoise(2.0), GaussianNoise(region=region)]),
        tracer.attention("question_encoder", 1),
        tracer.logit_lens(),
        tracer.knockout("question_encoder", 1, "circle", None),
        tracer.trace_knockout("question_encoder"),
        tracer.find_states(0.5),
        tracer.find_states(0.5, "heads", "isolate", blocks="answer_decoder"),
        tracer.flow(window=1),
    ]


def test_every_result_is_short_in_text_and_a_table_in_a_notebook(results):
    for result in results:
        text = repr(result)
        assert text.startswith(type(result).__name__ + "(")
        assert len(text) < 500
        assert "\n" not in text
        assert "array(" not in text
        table = Tags(result._repr_html_())
        assert table.seen <= TABLE
        assert not table.attributes
        assert type(result).__name__ in table.text


def test_what_a_trace_says_of_itself(trace, tracer):
    text = repr(trace)
    row, column = np.unravel_index(np.argmax(trace.recovery), trace.shape)
    for part in ("6 layers × 8 positions", f"{trace.total_effect:.3g}", f"layer {row} “{trace.tokens[column]}”"):
        assert part in text
    calm = repr(tracer.with_corruption(factor=0.0).trace())
    assert "no recovery: the total effect is smaller than 0.001" in calm
    assert trace.settings["question"] in Tags(trace._repr_html_()).text


def test_what_users_typed_is_escaped(demo, example):
    asked = "what color is <script>alert(1)</script> & \"the\" 'circle'?"
    trace = Tracer(demo, example.image, asked).trace("answer_decoder")
    table = Tags(trace._repr_html_())
    assert table.seen <= TABLE
    assert asked in table.text


def test_a_region_is_short(tracer):
    region = np.zeros((8, 8), bool)
    region[0, :5] = True
    for damage in (
        GaussianNoise(region=region),
        MeanAblation("mean", region),
        ImageSwap(np.zeros((8, 8, 3), np.uint8), region),
    ):
        assert "region=5 of 64 patches" in repr(damage)
        assert len(repr(damage)) < 200
    assert repr(GaussianNoise()) == (
        "GaussianNoise(factor=5.0, kind='multiplicative', samples=10, seed=0, region=None, at='image_embeddings')"
    )
    assert "region 5 of 64 patches" in tracer.with_corruption(GaussianNoise(region=region)).trace()._repr_html_()


def test_a_suggestion_shows_its_reason(tracer):
    found = tracer.noise_curve().suggest_factor()
    assert found.reason in repr(found)
    assert f"{found}" == str(found) == repr(float(found))
    assert GaussianNoise(factor=found).settings()["factor"] == float(found)
    assert repr(GaussianNoise(factor=found)) == repr(GaussianNoise(factor=float(found)))
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (again, again.reason) == (found, found.reason)


# --- cells ------------------------------------------------------------------------------------------------------------


def test_a_cell_by_word_or_number(trace):
    cell = trace[5, "circle"]
    assert cell.index == trace[5, 5].index == (5, 5)
    assert (cell.score, cell.recovery) == (trace.scores[5, 5], trace.recovery[5, 5])
    assert (cell.indirect_effect, cell.stderr) == (trace.indirect_effect[5, 5], trace.stderr[5, 5])
    assert cell.recovery_stderr == trace.recovery_stderr[5, 5]
    assert cell.significant is bool(trace.significant[5, 5])
    assert trace[-1, -3].index == (5, 5)
    assert trace.shape == (6, 8)


@pytest.mark.parametrize(
    ("key", "error", "said"),
    [
        (5, TypeError, r"expected \[layer, position\], got 5"),
        ((5,), TypeError, r"expected \[layer, position\]"),
        ((5, 3, 1), TypeError, r"expected \[layer, position\]"),
        (slice(None), TypeError, r"expected \[layer, position\]"),
        ((slice(None), 3), TypeError, "layer: expected an integer"),
        ((6, 0), ValueError, "layer: expected from -6 to 5, got 6"),
        ((0, 8), ValueError, "position: expected from -8 to 7, got 8"),
        ((0, 1.0), TypeError, "position: expected an integer"),
        (("circle", 0), TypeError, "layer: expected an integer, got str 'circle'"),
        ((0, "square"), ValueError, "position: there is no token 'square'"),
    ],
)
def test_a_wrong_cell_is_named(trace, key, error, said):
    with pytest.raises(error, match=said):
        trace[key]


def test_cells_of_other_grids(tracer):
    heads, squares = tracer.trace(site="cross_attention", head="all"), tracer.trace_image_tokens(2)
    assert heads.shape == (6, 4)
    assert heads[2, 3].recovery == heads.recovery[2, 3]
    assert heads[2, 3].name == "layer 2, head 3"
    assert squares[1, 2].indirect_effect == squares.indirect_effect[1, 2]
    with pytest.raises(TypeError, match="head: expected an integer"):
        heads[0, "circle"]
    with pytest.raises(ValueError, match="row: expected from -4 to 3, got 4"):
        squares[4, 0]


# --- tables -----------------------------------------------------------------------------------------------------------

ASKED = ["head", "window", "direction", "metric", "question", "answer", "corruption", "factor", "seed"]


def test_tables_say_what_was_asked(tracer, trace):
    table = trace.to_dataframe()
    assert list(table.columns[:5]) == ["block", "site", "layer", "position", "token"]
    assert (table["significant"].to_numpy() == trace.significant.ravel()).all()
    row = table.iloc[0]
    assert [row[name] for name in ASKED[1:]] == [1, "restore", "probability", trace.settings["question"], "red",
                                                 "GaussianNoise", 5.0, 0]  # fmt: skip
    assert table["head"].isna().all()
    assert (tracer.trace(site="cross_attention", head=2).to_dataframe()["head"] == 2).all()


def test_tables_of_all_kinds_can_be_put_together(tracer, example):
    other = tracer.with_corruption(factor=2.0, seed=7)
    swapped = tracer.with_corruption(ImageSwap(np.zeros((64, 64, 3), np.uint8)))
    grids = [
        tracer.trace(),
        tracer.trace("answer_decoder", head=1, site="self_attention", window=2, direction="disrupt"),
        tracer.trace(site="cross_attention", head="all"),
        tracer.trace(site="cross_attention", head="all", position=2),
        tracer.trace_image_tokens(4),
        other.trace(),
        swapped.trace(),
        Tracer(tracer.model, example.image, "what shape is red?").trace(),
    ]
    tables = [grid.to_dataframe() for grid in grids]
    tables += [
        tracer.knockout("question_encoder", 1, "circle", None).to_dataframe(),
        tracer.trace_knockout("question_encoder").to_dataframe(),
    ]
    for table in tables:
        assert set(ASKED) <= set(table.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = pd.concat(tables, ignore_index=True)
    assert len(whole) == sum(map(len, tables))
    for name in ("head", "window", "factor", "seed"):
        assert whole[name].dtype == tables[0][name].dtype, name
    keys = ["question", "block", "site", "head", "position", "window", "direction", "factor", "seed", "corruption"]
    grids = whole[whole["row"].isna() & whole["recovery_stderr"].notna()]
    assert not grids.duplicated([*keys, "layer"]).any()
    assert set(whole["seed"].dropna()) == {0, 7}
    assert set(whole["factor"].dropna()) == {2.0, 5.0}


# --- whatever the notebook has set in NumPy --------------------------------------------------------------------------


def test_numbers_do_not_depend_on_seterr(demo, example):
    def everything(corruption, metric):
        tracer = Tracer(demo, example.image, example.question, corruption=corruption, metric=metric)
        grids = [
            tracer.trace(),
            tracer.trace("answer_decoder", direction="disrupt"),
            tracer.trace(site="cross_attention", head="all"),
            tracer.trace_image_tokens(4),
            tracer.trace() - tracer.trace(site="mlp"),
            tracer.trace() - tracer.with_corruption(seed=5).trace(),
        ]
        told = [repr(grid) + grid._repr_html_() + grid.to_dataframe().to_json() for grid in grids]
        others = [
            tracer.clean,
            tracer.corrupted,
            tracer.noise_curve([0.0, 9.0]),
            tracer.trace_knockout("answer_decoder"),
        ]
        told += [repr(other) + other._repr_html_() for other in [*others, tracer.attention("question_encoder", 0)]]
        return told

    for corruption in (GaussianNoise(0.0, samples=3), GaussianNoise(1e6, samples=3), GaussianNoise(samples=1)):
        for metric in ("probability", "log_probability", "kl_divergence"):
            calm = everything(corruption, metric)
            with np.errstate(all="raise"), warnings.catch_warnings():
                warnings.simplefilter("error")
                assert everything(corruption, metric) == calm


def test_probabilities_too_small_for_float32_are_none(demo, example):
    hf = copy.deepcopy(demo.hf)
    with torch.no_grad():
        hf.text_decoder.cls.predictions.decoder.weight.mul_(8)
    sure = BlipVqa(hf, demo.processor)
    tracer = Tracer(sure, example.image, example.question, answer="red")
    calm = repr([tracer.clean, tracer.corrupted, tracer.patch(State("question_encoder", 5, 5))])
    assert (np.abs(tracer.clean.distribution) < 1e-38).any()
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        tracer = Tracer(sure, example.image, example.question, answer="red")
        assert repr([tracer.clean, tracer.corrupted, tracer.patch(State("question_encoder", 5, 5))]) == calm


def test_infinite_and_missing_scores_say_nothing(trace):
    samples = trace.samples.copy()
    samples[:, 0, 0], samples[0, 0, 1], samples[:, 0, 2] = np.nan, -np.inf, 1e-320
    settings = trace.settings
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for corrupted in (trace.corrupted, np.full(10, -np.inf), np.full(10, np.nan), np.full(10, 1e-310)):
            broken = Trace(samples, 0.9, corrupted, settings, trace.tokens)
            assert repr(broken)
            assert repr(broken - trace)
            assert not broken.significant[0, 0]
            assert len(broken.to_dataframe()) == 48
            broken.plot()
    import matplotlib.pyplot as plt

    plt.close("all")


def test_a_widget_does_not_mind_seterr(tracer):
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        widget = TraceWidget.from_trace(tracer.with_corruption(factor=0.0).trace())
        assert widget.trace.undefined_because
        widget.close()


# --- names ------------------------------------------------------------------------------------------------------------


def test_completion_offers_the_contract_and_no_internals(tracer):
    offered = {name for name in dir(tracer) if not name.startswith("_")}
    contract = """ablate agreement answer answer_tokens attention clean corrupted corruption corruption_strength
    find_states flow foil image knockout logit_lens metric model noise_curve patch patch_image_tokens
    patch_path prepare question question_tokens record recovery_curve replace tokens total_effect trace
    trace_heads trace_image_paths trace_image_tokens trace_knockout trace_paths unknown_words verify
    with_corruption"""
    beside = {"case", "given", "instead", "snapshot"}
    assert offered == set(contract.split()) | beside


def test_result_classes_and_names_can_be_imported_from_the_package(results):
    for result in results:
        assert getattr(package, type(result).__name__) is type(result)
    for name in ("DatasetTrace", "MeanTrace", "Comparison", "SuggestedFactor", "Corruption"):
        assert isinstance(getattr(package, name), type)


def test_names_of_types_are_those_accepted():
    for name, accepted in (
        ("BlockName", BLOCKS),
        ("SiteName", SITES),
        ("Direction", DIRECTIONS),
        ("MetricName", METRICS),
        ("NoiseKind", NOISE_KINDS),
    ):
        assert set(typing.get_args(getattr(package, name))) == set(accepted)


@pytest.mark.parametrize(
    ("function", "name", "alias"),
    [
        (Tracer.trace, "block", package.BlockName),
        (Tracer.trace, "site", package.SiteName),
        (Tracer.trace, "direction", package.Direction),
        (Tracer.patch, "direction", package.Direction),
        (Tracer.__init__, "metric", package.MetricName),
        (GaussianNoise.__init__, "kind", package.NoiseKind),
        (State.__init__, "block", package.BlockName),
        (State.__init__, "site", package.SiteName),
    ],
)
def test_signatures_name_what_is_accepted(function, name, alias):
    (annotation,) = [value for key, value in inspect.get_annotations(inspect.unwrap(function)).items() if key == name]
    spelled = {key for key, value in vars(package).items() if value is alias}
    assert annotation in spelled or any(annotation.startswith(f"{key} |") for key in spelled)
