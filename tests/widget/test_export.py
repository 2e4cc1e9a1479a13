"""What leaves the widget says exactly what is shown."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from blip_trace_widget import (
    BlipVqa,
    GaussianNoise,
    ImageSwap,
    MeanAblation,
    QuestionSwap,
    Scale,
    State,
    Tracer,
    TraceWidget,
    examples,
)
from blip_trace_widget.demo import MODEL_FOLDER
from blip_trace_widget.display import export
from blip_trace_widget.results.grid_spec import GridSpec, Selection
from blip_trace_widget.tracing.grid import as_trace, grid_cells
from blip_trace_widget.tracing.traces import patch_cells
from blip_trace_widget.widget import code
from helpers.screen import traced


def run(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    made = {}
    exec(code, made)
    return made


REGION = np.eye(8, dtype=bool)
HELD = State("question_encoder", 2, 3)


@pytest.mark.parametrize(
    ("corruption", "view", "keywords"),
    [
        (GaussianNoise(3.7, "additive", 4, 11, REGION), GridSpec(), {}),
        (GaussianNoise(2.0, samples=3, at="patch_embeddings"), GridSpec("image_encoder", "mlp"), {"answer": "red"}),
        (ImageSwap(examples()[3].image), GridSpec("question_encoder", "cross_attention", 1, "disrupt", 2), {}),
        (ImageSwap(Image.new("RGB", (31, 47), "teal"), REGION), GridSpec("answer_decoder"), {}),
        (QuestionSwap("what color is the square?"), GridSpec(window=3), {"metric": "logit_difference", "foil": "blue"}),
        (GaussianNoise(samples=2, at="question_embeddings", positions=["circle", 1]), GridSpec(), {}),
        (Scale(0.7691, REGION, "patch_embeddings"), GridSpec("image_encoder", "mlp"), {}),
        (ImageSwap(examples()[3].image, at="patch_embeddings"), GridSpec("answer_decoder"), {}),
        (MeanAblation("zero"), GridSpec("answer_decoder", "self_attention", 0), {"metric": "kl_divergence"}),
        (GaussianNoise(samples=3), GridSpec(hold=("mlp", "everywhere", HELD), window=2), {}),
        (ImageSwap(examples()[3].image), GridSpec("answer_decoder", direction="disrupt", hold=(HELD,)), {}),
        (GaussianNoise(samples=2), GridSpec(site="mlp", receivers="answer", through=("self_attention_out",)), {}),
        (GaussianNoise(samples=2), GridSpec(site="cross_attention", head=1, receivers=(HELD,), through=("mlp",)), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_copied_python_computes_what_is_shown(demo, example, tmp_path, monkeypatch, corruption, view, keywords):
    tracer = Tracer(demo, example.image, example.question, corruption=corruption, **keywords)
    positions = len(tracer.tokens(view.block))
    cells = [(0, 0), (2, min(3, positions - 1))]
    if isinstance(corruption, ImageSwap):
        (tmp_path / export.OTHER).write_bytes(export.picture(corruption.image))
    made = run(code.python(tracer, view, Selection(tuple(cells)), strength=0.5), tmp_path, monkeypatch)
    assert made["tracer"].corruption == corruption
    if view.block != "image_encoder":
        assert made["trace"].settings == traced(tracer, view).settings
        np.testing.assert_array_equal(made["trace"].samples, traced(tracer, view).samples)
    grid = grid_cells(tracer.case, view.block, view.site, view.head, view.window)
    states = [state for cell in grid if (cell.layer, cell.position) in cells for state in cell.states]
    np.testing.assert_array_equal(made["effect"].scores, patch_cells(tracer.case, view, cells).scores)
    assert made["ablation"].score == tracer.ablate(states, 0.5).score


def test_copied_python_of_ones_own_picture_and_of_a_path(picture, demo, tmp_path, monkeypatch):
    tracer = Tracer(demo, picture, 'what "color" is it?')
    text = code.python(tracer, GridSpec())
    assert "# picture.png is saved" in text
    (tmp_path / export.PICTURE).write_bytes(export.picture(tracer.image))
    made = run(text, tmp_path, monkeypatch)
    np.testing.assert_array_equal(made["trace"].samples, tracer.trace().samples)
    assert "effect" not in made
    path = tmp_path / 'a "picture".png'
    picture.save(path)
    widget = TraceWidget(path, "what is it?", model=demo)
    try:
        assert run(widget.code, tmp_path, monkeypatch)["tracer"].image.size == picture.size
    finally:
        widget.close()


def test_copied_python_names_model_revision_and_type(demo, example, monkeypatch):
    other = BlipVqa(demo.hf, demo.processor, name="mine")
    assert "model = BlipVqa(...)  # mine" in code.python(Tracer(other, example.image, example.question), GridSpec())
    other.source = "Salesforce/blip-vqa-base"
    monkeypatch.setattr(demo.hf.config, "_commit_hash", "abc123", raising=False)
    text = code.python(Tracer(other, example.image, example.question), GridSpec())
    assert 'model = BlipVqa.from_pretrained("Salesforce/blip-vqa-base", revision="abc123")' in text
    half = BlipVqa.from_pretrained(MODEL_FOLDER, dtype="bfloat16")
    text = code.python(Tracer(half, example.image, example.question), GridSpec())
    assert f'model = BlipVqa.from_pretrained({json.dumps(str(MODEL_FOLDER))}, dtype="bfloat16")' in text


def partial(tracer):
    samples = tracer.trace().samples.copy()
    samples[:, 2:, 3] = np.nan
    return as_trace(tracer.case, samples, GridSpec())


def test_numbers_keep_every_digit_and_only_what_is_computed(tracer):
    trace = partial(tracer)
    table = pd.read_csv(io.StringIO(export.csv(trace)), float_precision="round_trip")
    wanted = trace.to_dataframe()
    wanted = wanted[wanted["score"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, wanted, check_exact=True, check_dtype=False)
    content = json.loads(export.json_text(trace))
    assert content["settings"] == json.loads(json.dumps(trace.settings))
    assert [cell["score"] for cell in content["cells"]] == wanted["score"].tolist()
    assert len(content["cells"]) == 48 - 4


def test_a_cells_values_as_a_table(tracer):
    trace = tracer.trace()
    table = pd.read_csv(io.StringIO(export.cells_text(trace, [(5, 5), (1, 2)])), sep="\t")
    assert table[["layer", "position"]].to_numpy().tolist() == [[5, 5], [1, 2]]
    assert table["score"].tolist() == pytest.approx([trace.scores[5, 5], trace.scores[1, 2]])


@pytest.mark.parametrize("kind", [GaussianNoise, MeanAblation, ImageSwap])
def test_code_with_a_region_patches_and_a_map_gives_them_again(demo, example, tmp_path, monkeypatch, kind):
    region = np.random.default_rng(3).random((8, 8)) < 0.4
    region[3] = region[4] = True
    given = (examples()[1].image,) if kind is ImageSwap else ()
    tracer = Tracer(demo, example.image, example.question, corruption=kind(*given, region=region))
    chosen = Selection(patches=((0, 0), (3, 4), (3, 5), (7, 7)))
    made = run(code.python(tracer, GridSpec(), chosen, picture_map=("disrupt", 4)), tmp_path, monkeypatch)
    assert made["tracer"].corruption == tracer.corruption
    tokens = [1 + 8 * row + column for row, column in chosen.patches]
    assert made["effect"].image_tokens == tuple(tokens)
    np.testing.assert_array_equal(made["effect"].scores, tracer.patch_image_tokens(tokens).scores)
    np.testing.assert_array_equal(made["picture_map"].samples, tracer.trace_image_tokens(4, "disrupt").samples)
