"""trace_dataset over all that is listed: every cell is what a tracer gives, several metrics are several runs."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from blip_trace_widget import (
    BlipVqa,
    DatasetTrace,
    Edges,
    GaussianNoise,
    ImageSwap,
    QuestionSwap,
    Sample,
    State,
    Tracer,
    TraceWidget,
    demo_samples,
    merge,
    trace_dataset,
)
from blip_trace_widget.dataset.batch import NO_STATE, UNBROKEN, UNUSABLE
from blip_trace_widget.dataset.corruptions import own_noise
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.states import BLOCKS
from helpers.dataset_runs import EVERYTHING, NOISE, last, trace
from helpers.paths import OLD_FILES
from helpers.random_models import random_model

NUMBERS = ["clean", "corrupted", "score", "indirect_effect", "stderr"]
KEY = ["metric", "intervention", "block", "site", "head", "window", "direction", "layer", "position", "token"]
QUESTIONS = ("what is it ?", "where is the red circle ?", "how many ?")
#: Scenes with a little of everything, by the built-in model.
ALL_IN_ONE = {"pairs": "image", **EVERYTHING}


def pictures(rng, count):
    return [Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)) for _ in range(count)]


def samples_of(rng, model, corruption):
    """Questions of several lengths, two of them of one length and two about one picture; regions, partners, foils."""
    region = np.zeros(model.grid, bool)
    region[0, 0] = True
    swap = isinstance(corruption, type)
    seen = pictures(rng, 3)
    return [
        Sample(picture, question, "red", "blue", other_image=other if swap else None, region=region if at else None)
        for at, (picture, other, question) in enumerate(
            zip([*seen, seen[0]], pictures(rng, 4), [*QUESTIONS, "who is that ?"], strict=True)
        )
    ]


def patched(trace_, block, site, spec):
    """Rows of cells of a grid: layers, positions."""
    head, window, direction = spec
    for layer, position in np.ndindex(*trace_.shape):
        yield (block, site, head, window, direction, layer, position, trace_.tokens[position]), (layer, position)


def expected(tracer, asked, region):
    """Every cell that a product has, by a tracer's own calls: key -> (numbers, scores)."""
    found = {}
    held = {name: asked[name] for name in ("hold",) if name in asked}

    def add(intervention, key, result, at):
        numbers = [result.clean, result.corrupted.mean()]
        numbers += [result.scores[at], result.indirect_effect[at], result.stderr[at]]
        scores = result.samples.reshape(len(result.samples), *result.shape)[(slice(None), *at)]
        found[(tracer.metric.name, intervention, *key)] = numbers, scores

    for block, site in itertools.product(asked["blocks"], asked["sites"]):
        if site not in BLOCKS[block].accepted:
            continue
        size = tracer.model.blocks[block]
        for head, window, direction in itertools.product(asked["head"], asked["window"], asked["direction"]):
            if window > len(size.layers) or (head is not None and site not in BLOCKS[block].heads):
                continue
            if head == "all" and "receivers" not in asked:
                maps = tracer.trace_heads(block, site, window, direction, **held)
            for one in range(size.heads) if head == "all" else [head]:
                if "receivers" in asked:
                    grid = tracer.trace_paths(asked["receivers"], block, site, direction, head=one)
                else:
                    grid = tracer.trace(block, site, one, window, direction, **held)
                if head == "all" and "receivers" not in asked:
                    grid = replace(grid, samples=maps.samples[:, :, one])
                for key, at in patched(grid, block, site, (one, window, direction)):
                    add("patch", key, grid, at)
    for direction in asked["direction"] if asked.get("image_map") else ():
        grid = tracer.trace_image_tokens(asked["image_map"], direction)
        table = grid.to_dataframe()
        for number, at in enumerate(np.ndindex(*grid.shape)):
            name = square(tracer.model.grid, asked["image_map"], *at)
            key = (None, None, None, None, direction, None, number, name)
            add("patch_image_tokens", key, grid, at)
        assert len(table) == grid.scores.size
    for (number, (name, edges)), window in itertools.product(
        enumerate(asked.get("knockout", {}).items()), asked["window"]
    ):
        chosen = where(tracer, edges, region)
        if chosen and window <= len(tracer.model.blocks[edges.block].layers):
            cut = tracer.trace_knockout(edges.block, *chosen, edges.site, edges.head, window)
            for layer, score in enumerate(cut.scores):
                key = ("knockout", edges.block, edges.site, edges.head, window, None, layer, number, name)
                found[(tracer.metric.name, *key)] = (
                    [cut.clean, np.nan, score, cut.loss[layer], np.nan],
                    np.array([score]),
                )
    return found


def square(grid, patch, row, column):
    """The name of a square by its patches."""
    spans = []
    for at, count in ((row, grid[0]), (column, grid[1])):
        first, end = at * patch, min((at + 1) * patch, count) - 1
        spans.append(str(first) if first == end else f"{first}-{end}")
    return ",".join(spans)


def where(tracer, edges, region):
    """Queries and keys of the edges that these tests cut, as a tracer takes them; None if a sample lacks them."""
    tokens = tracer.tokens(edges.block)
    queries = (
        None if edges.queries is None else [at for at, token in enumerate(tokens) if token.casefold() in edges.queries]
    )
    keys = edges.keys
    if keys is last:
        keys = [len(tracer.question_tokens) - 1]
    elif keys in (("object",), ("background",)):
        if region is None:
            return None
        keys = region if keys == ("object",) else ~region
    return None if queries == [] else (queries, keys)


def same_cells(found, number, wanted, exact):
    """A sample's cells are those and no others."""
    cells = pd.concat(pd.read_parquet(path) for path in sorted((found.folder / "cells").glob("*.parquet")))
    cells = cells[cells["sample"] == number]
    keys = [tuple(None if value != value else value for value in row) for row in cells[KEY].to_numpy(dtype=object)]
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(wanted)
    numbers, scores = zip(*(wanted[key] for key in keys), strict=True)
    check = np.testing.assert_array_equal if exact else lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
    check(cells[NUMBERS].to_numpy(np.float64), np.array(numbers, np.float64))
    for one, other in zip(cells["scores"], scores, strict=True):
        check(np.asarray(one), other)


def random_product(seed):
    """A random model, and something to list of each argument."""
    rng = np.random.default_rng(seed)
    layers, heads = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    model = random_model(seed, layers=layers, heads=heads, width=12, patches=3)

    def some(*values):
        return tuple(rng.choice(np.array(values, object), rng.integers(1, len(values) + 1), replace=False))

    corruption = [GaussianNoise(3.0, samples=2), GaussianNoise(2.0, samples=2, at="patch_embeddings"), ImageSwap][
        seed % 3
    ]
    blocks = some("question_encoder", "answer_decoder", *(["image_encoder"] if seed % 3 == 1 else []))
    sites = {"self_attention_out", "block_output", *some("mlp", "cross_attention", "block_input", "block_output")}
    if blocks == ("image_encoder",):
        sites -= {"cross_attention"}
    asked = {
        "blocks": blocks,
        "sites": tuple(sorted(sites)),
        "head": [(None, "all"), (None, *range(heads - 1)), (1, None)][seed % 3],
        "window": some(1, 2),
        "direction": some("restore", "disrupt"),
        "metric": some("log_probability", "kl_divergence", "logit_difference"),
        "image_map": [None, 2, 1][seed % 3],
        "knockout": {
            "is": Edges("question_encoder", "is", site="self_attention", head=1),
            "object": Edges("question_encoder", keys="object"),
            "rest": Edges("question_encoder", ["[CLS]", "is", "many"], "background"),
            "last": Edges("answer_decoder", keys=last),
        },
    }
    if len(model.blocks["image_encoder"].layers) == 1 and blocks == ("image_encoder",):
        asked["window"] = (1,)
    return rng, model, corruption, asked


@pytest.mark.parametrize(
    ("seed", "together"), [*((seed, None) for seed in range(3)), *((seed, True) for seed in range(3, 6))]
)
def test_every_cell_of_a_product_is_what_a_tracer_s_own_calls_give(tmp_path, seed, together):
    """To the last bit where questions are computed one by one, as on a CPU."""
    rng, model, corruption, asked = random_product(seed)
    model.limits = Limits(together=together)
    samples = samples_of(rng, model, corruption)
    found = trace_dataset(samples, model, tmp_path / "out", corruption=corruption, progress=False, **asked)
    assert found.counts["traced"] >= 1, found.samples[["reason", "why"]]
    compared = 0
    for number, sample in enumerate(samples):
        made = ImageSwap(sample.other_image) if corruption is ImageSwap else own_noise(corruption, str(number))
        wanted = {}
        for metric in asked["metric"]:
            foil = sample.foil if metric == "logit_difference" else None
            tracer = Tracer(model, *sample[:3], foil, made, metric)
            effect = tracer.total_effect.value * (-1 if metric == "kl_divergence" else 1)
            if effect > 1e-3:
                wanted |= expected(tracer, asked, sample.region)
                last_block = list(found.specs)[-1].block
                own = found.trace(number, last_block, metric=metric)
                assert own.settings == tracer.trace(**grid_of(own)).settings
        if wanted:
            same_cells(found, number, wanted, exact=not together)
        compared += len(wanted)
        assert found.samples["traced"][number] == bool(wanted)
    assert compared > 10


#: What can be held, and where paths can lead; of the questions above the second alone has a circle, the third no "is".
HELD = {
    "a word": {"hold": "mlp"},
    "words everywhere": {"hold": ("cross_attention_out", "self_attention_out", "everywhere")},
    "a word and states": {"hold": ["mlp", State("question_encoder", 1, "is"), State("answer_decoder", 0, 0, "mlp")]},
    "states": {"hold": State.grid("question_encoder", (0, 1), ("is", 0), "cross_attention_out", 1)},
    "the answer": {"receivers": "answer"},
    "states in the decoder": {"receivers": State.grid("answer_decoder", (0, 1), 0, "cross_attention", (0, 1))},
    "a head": {"receivers": State("question_encoder", 1, "is", "self_attention_out", 0)},
}


@pytest.mark.parametrize(
    ("held", "together"), [*((held, None) for held in HELD), ("a word", True), ("states", True), ("a head", True)]
)
def test_every_cell_of_a_product_that_holds_is_what_a_tracer_s_own_calls_give(tmp_path, held, together):
    """Settings and marks too; what a question has not is the reason for skipping it."""
    seed = list(HELD).index(held)
    rng, model, corruption, asked = random_product(seed)
    model.limits = Limits(together=together)
    asked = {name: asked[name] for name in ("head", "direction", "metric")} | HELD[held]
    asked |= {"blocks": ("question_encoder", "answer_decoder"), "sites": ("block_output", "self_attention_out")}
    asked["direction"] = asked["direction"][:1]
    asked |= {"window": (1,) if "receivers" in asked or "all" in asked["head"] else (1, 2)}
    samples = samples_of(rng, model, corruption)
    if seed % 2:  # of two words metrics look at different positions
        samples = [sample._replace(answer="light blue", foil="dark red") for sample in samples]
        asked["metric"] = ("kl_divergence", "log_probability")
    found = trace_dataset(samples, model, tmp_path / "out", corruption=corruption, progress=False, **asked)
    compared = 0
    for number, sample in enumerate(samples):
        made = ImageSwap(sample.other_image) if corruption is ImageSwap else own_noise(corruption, str(number))
        if " is " not in sample.question and "position='is'" in str(HELD[held]):
            assert found.samples["traced"][number] == 0
            if found.samples["reason"][number] != UNBROKEN:
                assert found.samples["reason"][number] == NO_STATE
                assert "there is no token 'is'" in found.samples["why"][number]
            continue
        wanted = {}
        for metric in found.metrics:
            if number in set(found.scored(metric)["sample"]):
                foil = sample.foil if metric == "logit_difference" else None
                tracer = Tracer(model, *sample[:3], foil, made, metric)
                wanted |= expected(tracer, asked, sample.region)
                for spec in (found.specs[0], found.specs[-1]):
                    own = found.trace(number, **named(spec), metric=metric)
                    if "receivers" in asked:
                        other = tracer.trace_paths(asked["receivers"], *spec[:2], spec.direction, head=spec.head)
                    else:
                        other = tracer.trace(*spec[:3], spec.window, spec.direction, hold=asked["hold"])
                    assert own.settings == other.settings
                    assert (own.without_effect, own.constructed) == (other.without_effect, other.constructed)
        if wanted:
            same_cells(found, number, wanted, exact=not together)
        compared += len(wanted)
    assert compared > 10, found.samples[["reason", "why"]]
    dead = found.to_dataframe().query("without_effect")
    assert not dead["indirect_effect"].any()
    assert found.to_dataframe()["without_effect"].notna().all()


def named(spec):
    return {name: getattr(spec, name) for name in ("block", "site", "head", "window", "direction")}


def grid_of(trace_):
    return {name: trace_.settings[name] for name in ("block", "site", "head", "window", "direction")}


def test_in_one_batch_every_cell_is_a_tracer_s_bit_for_bit(tmp_path, demo):
    asked = {
        "blocks": ("question_encoder", "answer_decoder"),
        "sites": ("block_output", "mlp", "self_attention_out"),
        "head": (None, "all"),
        "window": (1,),
        "direction": ("restore", "disrupt"),
        "metric": ("log_probability", "logit_difference"),
        "image_map": 4,
        "knockout": {"object": Edges("question_encoder", keys="object"), "last": Edges("answer_decoder", keys=last)},
    }
    samples = list(demo_samples(2, pairs="image"))
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=ImageSwap, progress=False, **asked)
    for number, sample in enumerate(samples):
        wanted = {}
        for metric in asked["metric"]:
            foil = sample.foil if metric == "logit_difference" else None
            tracer = Tracer(demo, *sample[:3], foil, ImageSwap(sample.other_image), metric)
            wanted |= expected(tracer, asked, np.array(sample.region))
            for direction in asked["direction"]:
                one = found.head_map(number, "question_encoder", direction=direction, metric=metric)
                heads = tracer.trace_heads("question_encoder", "self_attention_out", direction=direction)
                np.testing.assert_array_equal(one.samples, heads.samples)
                assert (one.settings, one.tokens) == (heads.settings, heads.tokens)
                one, squares = found.image_map(number, direction, metric), tracer.trace_image_tokens(4, direction)
                np.testing.assert_array_equal(one.samples, squares.samples)
                assert (one.settings, one.patch) == (squares.settings, squares.patch)
        same_cells(found, number, wanted, exact=True)


# --- several metrics -------------------------------------------------------------------------------------------------


def flat(logits, answer):
    """A score that nothing changes where the answer is one token."""
    return logits[..., 0, 0] * (len(answer) > 1)


def test_a_run_with_several_metrics_is_the_union_of_runs_with_one(tmp_path):
    rng = np.random.default_rng(5)
    model = random_model(seed=5)
    samples = [
        Sample(picture, question, answer, foil)
        for picture, question, answer, foil in zip(
            pictures(rng, 4),
            [*QUESTIONS, "why ?"],
            ["red", "light blue", "red", "red"],
            [None, None, "blue", "light blue"],
            strict=True,
        )
    ]
    asked = {"corruption": GaussianNoise(3.0, samples=2), "window": (1, 2), "image_map": 1, "progress": False}
    asked |= {"knockout": {"picture": Edges("question_encoder")}}
    metrics = ("logit_difference", flat, "kl_divergence", "log_probability")
    together = trace_dataset(samples, model, tmp_path / "all", metric=metrics, **asked)
    assert together.metrics == ["logit_difference", "flat", "kl_divergence", "log_probability"]
    table, whole = together.to_dataframe(), []
    for at, metric in enumerate(metrics):
        alone = trace_dataset(samples, model, tmp_path / str(at), metric=metric, **asked)
        name = alone.metrics[0]
        whole.append(alone.to_dataframe())
        mine = table[table["metric"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, whole[-1], check_dtype=False, rtol=0, atol=1e-5, check_categorical=False)
        scored = together.scored(name)
        assert list(scored["sample"]) == list(alone.traced["sample"])
        for column in ("clean", "corrupted", "total_effect", "total_effect_stderr"):
            np.testing.assert_allclose(scored[column], alone.traced[column], atol=1e-6)
        if alone.counts["traced"]:
            one, other = (each.mean(metric=name, window=2, resamples=50) for each in (together, alone))
            np.testing.assert_allclose(one.recovery, other.recovery, rtol=1e-3)
            assert one.settings == other.settings
        if at == 0:  # what says of the first metric alone is what a run with it alone says
            assert list(together.samples["why"].fillna("")) == list(alone.samples["why"].fillna(""))
    assert len(table) == sum(map(len, whole))
    assert len({len(each) for each in whole}) > 2  # of the metrics not all break the same answers
    assert together.counts["traced"] == len(set(table["sample"]))
    number = int(next(iter(set(table["sample"]) - set(together.scored()["sample"]))))
    with pytest.raises(
        ValueError, match=f"metric: under 'logit_difference' the answer to number {number} is not broken"
    ):
        together.trace(number)
    other = next(name for name in together.metrics if number in set(together.scored(name)["sample"]))
    assert together.trace(number, metric=other).settings["metric"] == other


def test_what_no_metric_breaks_is_skipped_with_the_first_one_s_reason(tmp_path, demo):
    (sample,) = demo_samples(1)
    metrics = ("logit_difference", "probability")
    found = trace_dataset(
        [sample], demo, tmp_path, corruption=GaussianNoise(0.0, samples=2), metric=metrics, progress=False
    )
    assert list(found.samples["reason"]) == [UNUSABLE]  # it has no foil
    assert "foil" in found.samples["why"][0]
    stored = pd.read_parquet(tmp_path / "samples")["metrics"][0]
    assert [(told["metric"], told["why"]) for told in stored] == [
        ("probability", "the total effect is smaller than 0.001")
    ]
    assert found.to_dataframe().empty
    other = trace_dataset(
        [sample], demo, tmp_path / "b", corruption=GaussianNoise(0.0, samples=2), metric=metrics[::-1], progress=False
    )
    assert list(other.samples["reason"]) == [UNBROKEN]


# --- what can be asked of a folder -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Six pairs with something of everything."""
    return trace(tmp_path_factory.mktemp("everything") / "out", 6, batch_size=4, **ALL_IN_ONE)


def test_a_grid_is_chosen_by_what_tells_it_from_others(everything):
    assert everything.grids == [
        (block, site)
        for block in ("question_encoder", "answer_decoder")
        for site in ("block_output", "self_attention_out")
    ]
    assert everything.specs[0] == GridSpec()
    assert len(everything.specs) == 2 * 4 * (1 + 1 + 4)
    first = everything.trace(0)
    assert GridSpec.of(first.settings) == GridSpec()
    assert (first.settings["metric"], first.snapshot is None) == ("log_probability", False)
    chosen = everything.trace(
        0, site="self_attention_out", head=2, window=3, direction="disrupt", metric="kl_divergence"
    )
    assert GridSpec.of(chosen.settings) == GridSpec("question_encoder", "self_attention_out", 2, "disrupt", 3)
    assert (chosen.settings["metric"], chosen.snapshot) == ("kl_divergence", None)
    assert GridSpec.of(everything.trace(0, head=1).settings).site == "self_attention_out"
    assert [GridSpec.of(each.settings) for each in everything.traces(1)] == everything.specs
    assert {each.settings["metric"] for each in everything.traces(1, metric="kl_divergence")} == {"kl_divergence"}
    for wrong, told in (
        ({"head": 4}, r"head: expected one of those that were traced, \[None, 0, 1, 2, 3\], got 4"),
        ({"window": 2}, "window: expected one of those that were traced, .*got 2"),
        ({"direction": "both"}, "direction: expected one of"),
        ({"metric": "probability"}, "metric: expected one of"),
        ({"site": "mlp"}, "site: expected one of"),
        ({"site": "block_output", "head": 1}, "head: expected one of those that were traced"),
        ({"block": "image_encoder"}, "block: expected one of"),
    ):
        for act in (lambda: everything.trace(0, **wrong), lambda: everything.mean(**wrong)):  # noqa: B023 - called here
            with pytest.raises(ValueError, match=told):
                act()


def test_averages_are_of_the_chosen_grid_and_metric(everything):
    table = everything.to_dataframe()
    asked = {"site": "self_attention_out", "head": 3, "window": 3, "direction": "disrupt", "metric": "kl_divergence"}
    mean = everything.mean(align="ends", resamples=50, **asked)
    of = table[(table["intervention"] == "patch") & (table["block"] == "question_encoder")]
    for name, value in asked.items():
        of = of[of[name] == value]
    first = of[(of["layer"] == 2) & (of["position"] == 0)]
    assert len(first) == everything.counts["traced"]
    assert mean.indirect_effect[2, 0] == pytest.approx(first["indirect_effect"].mean())
    assert mean.total_effect == pytest.approx((first["clean"] - first["corrupted"]).mean())
    assert {name: mean.settings[name] for name in asked} == asked
    assert mean.to_dataframe()["head"].unique().tolist() == [3]
    title = "question encoder: self-attention’s own output, head 3, window 3, disrupt, mean of"
    assert mean.plot().get_title().replace("\n", " ").startswith(title)
    assert len(everything.plot(head=3)) == 2
    assert len(everything.plot(window=3, metric="kl_divergence")) == 4
    groups = everything.groups[:2]
    both = everything.compare(*groups, resamples=50, **asked)
    assert both.settings["direction"] == "disrupt"
    one, other = (everything.mean(group=group, resamples=50, **asked).indirect_effect for group in groups)
    np.testing.assert_allclose(both.difference[:, 0], (one - other)[:, 0])


def test_knockouts_are_a_table(everything):
    table = everything.knockouts()
    assert list(dict.fromkeys(table["edges"])) == ["object", "what", "last"]
    assert set(table["window"]) == {1, 3}
    asked = [sample for sample in demo_samples(6, pairs="image") if "what" in sample.question]
    assert 0 < len(set(table[table["edges"] == "what"]["sample"])) == len(asked) < 6
    np.testing.assert_allclose(table["loss"], table["clean"] - table["score"])
    np.testing.assert_allclose(table["relative_loss"], table["loss"] / table["clean"])
    few = everything.select(samples=[1, 2]).knockouts("kl_divergence", window=3)
    assert (set(few["sample"]), set(few["window"])) == ({1, 2}, {3})
    with pytest.raises(ValueError, match="window: expected one of"):
        everything.knockouts(window=2)


def test_a_widget_shows_the_grids_of_the_first_metric(everything):
    widget = TraceWidget.from_dataset(everything)
    assert widget.trace.settings["metric"] == "log_probability"
    widget.direction = "disrupt"
    widget.window = 3
    assert not widget.error
    assert (widget.trace.settings["direction"], widget.trace.settings["window"]) == ("disrupt", 3)
    mean = everything.mean("ends", window=3, direction="disrupt")
    np.testing.assert_allclose(widget.mean.recovery, mean.recovery)
    widget.chosen = 2
    own = everything.trace(2, window=3, direction="disrupt")
    np.testing.assert_array_equal(widget.trace.samples, own.samples)
    widget.close()


def test_a_folder_without_maps_says_how_to_get_them(tmp_path):
    plain = trace(tmp_path / "plain", 1)
    for act, told in (
        (plain.head_map, "head='all'"),
        (plain.image_map, "image_map=4"),
    ):
        with pytest.raises(ValueError, match=told):
            act(0)
    with pytest.raises(ValueError, match=r"knockout=\{\.\.\.\}"):
        plain.knockouts()
    two = trace(tmp_path / "out", 2, sites="self_attention", head=(0, 2))
    assert two.trace(0).settings["head"] == 0
    with pytest.raises(ValueError, match=r"only the heads \[0, 2\]"):
        two.head_map(0)


@pytest.mark.parametrize(
    "change",
    [
        {"grids": [["question_encoder", "mlp", None, "sideways", 1]]},
        {"grids": [["question_encoder", "mlp", "all", "restore", 1]]},
        {"grids": [["question_encoder", "mlp", None, "restore", 0]]},
        {"metrics": [3]},
        {"image_map": "large"},
        {"heads": {"question_encoder": -1}},
        {"knockout": {"a": {}}},
        {"knockout": 3},
    ],
)
def test_nothing_of_these_in_the_settings_is_trusted(tmp_path, everything, change):
    told = json.loads((everything.folder / "dataset.json").read_text("utf-8"))
    told["settings"] |= change
    (tmp_path / "dataset.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(ValueError, match="no folder that trace_dataset wrote"):
        DatasetTrace.load(tmp_path)


# --- earlier folders -------------------------------------------------------------------------------------------------


def test_a_folder_of_an_earlier_version_has_the_columns_and_goes_on(tmp_path):
    folder = shutil.copytree(OLD_FILES / "dataset", tmp_path / "out")
    old = DatasetTrace.load(folder)
    assert (old.metrics, old.specs) == (["probability"], [GridSpec("question_encoder"), GridSpec("answer_decoder")])
    table = old.to_dataframe()
    asked = ["intervention", "window", "direction", "metric"]
    assert table[asked].drop_duplicates().to_numpy().tolist() == [["patch", 1, "restore", "probability"]]
    assert table["head"].isna().all()
    assert old.trace(0, window=1, direction="restore").shape == old.trace(0).shape
    assert old.mean(direction="restore").recovery.shape[0] == 6


def test_what_is_as_by_default_is_not_in_the_settings(tmp_path):
    plain = trace(tmp_path / "plain", 1)
    assert set(plain.settings) == {
        *("model", "revision", "weights", "dtype", "grids", "corruption", "metric", "only_correct", "batch_size")
    }
    assert plain.settings["grids"] == [["question_encoder", "block_output"], ["answer_decoder", "block_output"]]
    found = trace(tmp_path / "out", 1, blocks="answer_decoder")
    for changed, told in (
        ({"window": 3}, "grids was"),
        ({"direction": ("restore", "disrupt")}, "grids was"),
        (
            {"metric": ("probability", "kl_divergence")},
            r"metrics was None and is \['probability', 'kl_divergence'\] now",
        ),
        ({"image_map": 4}, "image_map was None and is 4 now"),
        ({"knockout": {"a": Edges("answer_decoder")}}, r"knockout\.a\.block was None"),
    ):
        with pytest.raises(ValueError, match=told):
            trace(found.folder, 1, blocks="answer_decoder", **changed)
    same = {"head": [None], "window": (1, 1), "direction": ["restore"], "metric": ["probability", "probability"]}
    assert trace(found.folder, 1, blocks="answer_decoder", **same).counts == found.counts


def test_what_is_held_tells_runs_apart_and_is_said_of_them(tmp_path):
    plain = trace(tmp_path / "plain", 3, blocks="question_encoder")
    assert "without_effect" not in plain.to_dataframe()
    with pytest.raises(ValueError, match=r"hold was None and is \['mlp'\] now"):
        trace(plain.folder, 3, blocks="question_encoder", hold="mlp")
    options = {"sites": "cross_attention_out", "head": (None, "all"), "blocks": "question_encoder", "hold": "mlp"}
    held = trace(tmp_path / "held", 3, **options)
    assert trace(held.folder, 3, **options).held == {"hold": ["mlp"]}  # as it was
    assert trace(tmp_path / "plan", 3, **options, plan=True).cells == len(held.to_dataframe())
    assert set(held.to_dataframe()["hold"]) == {"mlp there above"}
    mean = held.mean(resamples=50)
    title = "question encoder: cross-attention’s own output, held: mlp there above, mean of 3"
    assert mean.plot().get_title().replace("\n", " ") == title
    assert set(mean.to_dataframe()["hold"]) == {"mlp there above"}
    assert "held: mlp there above" in held.heads(resamples=50)._repr_html_()
    tracer = Tracer(BlipVqa.demo(), *next(iter(demo_samples(1)))[:3], corruption=NOISE, metric="probability")
    one = tracer.trace_heads("question_encoder", "cross_attention_out", hold="mlp")
    mine = held.head_map(0)
    np.testing.assert_array_equal(mine.samples, one.samples)
    assert mine.settings == one.settings
    paths = trace(tmp_path / "paths", 3, blocks="question_encoder", receivers="answer")
    with pytest.raises(ValueError, match=r"has other settings .*receivers was None and is 'answer' now"):
        merge([held.folder, paths.folder], tmp_path / "both")
    assert "paths into answer" in repr(paths.mean(resamples=50))


@pytest.mark.parametrize("name", ["hold", "receivers"])
def test_in_what_order_states_are_held_or_receive_makes_no_other_run(tmp_path, name):
    """By number or as words, in either order: the folder goes on, and can be merged with others."""
    states = [State("question_encoder", 1, "circle"), State("question_encoder", 1, 0), State("question_encoder", 0, 2)]
    common = {"blocks": "question_encoder", "sites": "mlp"}
    first = trace(tmp_path / "one", 2, **common, **{name: states})
    again = trace(first.folder, 2, **common, **{name: states[::-1]})
    assert again.counts == first.counts
    other = trace(tmp_path / "other", 2, **common, **{name: states[1:] + states[:1]})
    np.testing.assert_array_equal(other.trace(0).samples, first.trace(0).samples)
    with pytest.raises(ValueError, match="has 2 samples that are in others too"):  # its settings are the same
        merge([first.folder, other.folder], tmp_path / "both")
    with pytest.raises(ValueError, match=f"other settings: {name} was "):
        trace(first.folder, 2, **common, **{name: states[:2]})


# --- bad input -------------------------------------------------------------------------------------------------------

EDGES = Edges("question_encoder")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head": 0}, r"head: 0 is in no grid: .*have no heads"),
        ({"window": 7}, r"window: 7 is in no grid: .*at most 6 layers"),
        ({"head": (None, 0)}, r"head: 0 is in no grid: .*have no heads"),
        ({"sites": ("mlp", "self_attention"), "head": "all"}, "sites: 'mlp' is in no grid: .*with head="),
        ({"sites": "self_attention", "head": 4}, "head: 4 is in no grid"),
        ({"sites": "self_attention", "head": (0, 7)}, "head: 7 is in no grid: .*at most 4 of them"),
        ({"sites": "self_attention", "head": "first"}, "head: expected a whole number, 'all' or None, got 'first'"),
        ({"head": -1}, "head: expected 0 or more"),
        ({"head": 0.5}, "head: expected an integer"),
        ({"head": ()}, "head: expected one or several values, got none"),
        ({"window": (1, 7)}, r"window: 7 is in no grid: .*at most 6 layers"),
        ({"window": 0}, "window: expected 1 or more"),
        ({"window": "3"}, "window: expected an integer"),
        ({"window": []}, "window: expected one or several values"),
        ({"direction": "both"}, "direction: expected one of"),
        ({"direction": 3}, "direction: expected some of"),
        ({"blocks": ("image_encoder", "answer_decoder"), "sites": "mlp"}, "blocks: 'image_encoder' can be traced"),
        ({"hold": "mlp", "receivers": "answer"}, "hold, receivers: expected one of the two, got both"),
        ({"hold": "block_output"}, "hold: expected one of .*'everywhere'"),
        ({"hold": ()}, "hold: expected a state or a word, or None for nothing, got none"),
        ({"hold": 3}, "hold: expected State, one of .*got int"),
        ({"hold": "mlp", "image_map": 4}, "image_map: not with hold"),
        ({"receivers": "answer", "knockout": {"a": Edges("answer_decoder")}}, "knockout: not with receivers"),
        ({"receivers": "answer", "window": (1, 3)}, r"window: with receivers .*expected 1, got \[1, 3\]"),
        ({"receivers": "question"}, "receivers: expected one of \\['answer'\\]"),
        ({"receivers": ()}, "receivers: expected at least one State, or 'answer', got none"),
        ({"receivers": ["answer"]}, "receivers: expected State or an iterable of State, got str"),
        ({"receivers": State("image_encoder", 0, 0)}, "receivers: 'image_encoder' can be traced under"),
        ({"hold": State("question_encoder", 6, 0)}, r"layer \(of hold\): expected from 0 to 5, got 6"),
        ({"hold": State("question_encoder", 0, 0, "mlp"), "receivers": ""}, "hold, receivers: expected one"),
        (
            {
                "hold": "cross_attention_out",
                "blocks": ("image_encoder", "question_encoder"),
                "corruption": GaussianNoise(at="patch_embeddings"),
            },
            "hold: 'image_encoder' has no 'cross_attention_out', its sites are",
        ),
        (
            {
                "corruption": GaussianNoise(at="patch_embeddings"),
                "blocks": ("image_encoder", "answer_decoder"),
                "sites": "cross_attention",
            },
            "blocks: 'image_encoder' is in no grid",
        ),
        (
            {
                "corruption": GaussianNoise(at="patch_embeddings"),
                "blocks": "image_encoder",
                "sites": ("mlp", "cross_attention"),
            },
            "sites: 'cross_attention' is in no grid",
        ),
        ({"metric": ()}, "metric: expected one or several, got none"),
        ({"metric": ("probability", "accuracy")}, "metric: expected one of"),
        ({"metric": (lambda a, b: a, lambda a, b: b)}, "metric: two of those given are called '<lambda>'"),
        ({"image_map": 0}, "image_map: expected 1 or more"),
        ({"image_map": 9}, "image_map: expected from 1 to 8"),
        ({"image_map": True}, "image_map: expected an integer"),
        (
            {"image_map": 2, "corruption": QuestionSwap},
            "image_map: under a corruption that leaves the image .*QuestionSwap",
        ),
        ({"image_map": 2, "corruption": GaussianNoise(at="question_embeddings")}, "image_map: under a corruption"),
        ({"knockout": EDGES}, "knockout: expected a mapping from names to Edges"),
        ({"knockout": {}}, "knockout: expected at least one group"),
        ({"knockout": {3: EDGES}}, "knockout: expected texts as names"),
        ({"knockout": {"a": "object"}}, r"knockout: expected Edges\(...\) for 'a'"),
        ({"knockout": {"a": Edges("answer_decoder", head=4)}}, r"head \(of the knockout 'a'\): expected from 0 to 3"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_the_first_question(tmp_path, options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        trace(tmp_path / "out", 2, **options)
    assert not (tmp_path / "out").exists()


def test_a_window_may_fit_one_block_alone(tmp_path):
    model = random_model(seed=1, layers=3)
    noise = GaussianNoise(3.0, samples=2, at="patch_embeddings")
    asked = {"blocks": ("image_encoder", "answer_decoder"), "window": (1, 3), "corruption": noise, "progress": False}
    found = trace_dataset(demo_samples(1), model, tmp_path / "out", metric="kl_divergence", **asked)
    assert [(spec.block, spec.window) for spec in found.specs] == [
        ("image_encoder", 1),
        ("answer_decoder", 1),
        ("answer_decoder", 3),
    ]


# --- edges -----------------------------------------------------------------------------------------------------------


def test_edges_are_found_in_every_sample_that_has_them(demo):
    (sample,) = demo_samples(1)
    ask = Tracer(demo, sample.image, "what color is the color ?", "red").case
    count = demo.image_token_count
    region = np.zeros(demo.grid, bool)
    region[1, 2] = True
    size = len(ask.question_tokens)
    every = list(range(size))
    for edges, wanted in (
        (EDGES, (every, list(range(count)))),
        (Edges("question encoder", "COLOR", site="self-attention"), ([2, 5], every)),
        (Edges("question_encoder", [-1, 0, "what"], -1), ([0, 1, size - 1], [count - 1])),
        (Edges("question_encoder", lambda tokens: {tokens.index("is")}, "object"), ([3], [1 + demo.grid[1] + 2])),
        (Edges("answer_decoder", keys=["color", "sound"]), ([0], [2, 5])),
        (Edges("question_encoder", 40), None),
        (Edges("question_encoder", "sound"), None),
        (Edges("question_encoder", lambda _tokens: None), None),
    ):
        assert edges.of(ask, region) == wanted
    queries, keys = Edges("question_encoder", keys="background").of(ask, region)
    assert (queries, len(keys), 0 in keys) == (every, count - 2, False)
    assert Edges("question_encoder", keys="object").of(ask, None) is None
    assert Edges("question_encoder", keys="background").of(ask, np.ones(demo.grid, bool)) is None
    with pytest.raises(ValueError, match=r"queries \(of your function\): expected from 0 to"):
        Edges("question_encoder", lambda _tokens: [99]).of(ask, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("image_encoder",), r"block \(of a knockout\): expected one of"),
        (("question_encoder", (), None), "queries: expected at least one token"),
        (("question_encoder", 0.5), "queries: expected whole numbers, words, a function or None, got 0.5"),
        (("question_encoder", None, True), "keys: expected whole numbers"),
        (("question_encoder", None, "circle"), r"keys: image tokens are named by number or as one of \['object'"),
        (("question_encoder", None, None, "mlp"), r"site \(of a knockout\): expected one of"),
        (("question_encoder", None, None, "self_attention", -1), r"head \(of a knockout\): expected 0 or more"),
    ],
)
def test_edges_that_cannot_be_are_refused(arguments, told):
    with pytest.raises((TypeError, ValueError), match=told):
        Edges(*arguments)
