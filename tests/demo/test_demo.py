"""The built-in model: its scenes, questions, examples and weights, and that training is repeatable."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BertTokenizer, BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget.demo import MODEL_FOLDER, PICTURE_FOLDER, Example, examples
from blip_trace_widget.demo.questions import KINDS, TEMPLATES, answers, ask, sample
from blip_trace_widget.demo.scenes import COLORS, SHAPES, arrange, coverage, draw, object_at, overlap
from blip_trace_widget.demo.training.evaluate import NOISE_FACTOR, damage, localise, prepare, score, table
from blip_trace_widget.demo.training.lessons import PLACE_NAMES, QUESTIONS_AN_IMAGE, draw_lesson
from blip_trace_widget.demo.training.network import GRID, IMAGE_SIZE, WIDTH, load
from blip_trace_widget.demo.training.teaching import AnswerKey, encode_questions, hide_padding, pixels
from blip_trace_widget.demo.training.train import train
from blip_trace_widget.pictures import picture_hash

Loaded = tuple[BlipForQuestionAnswering, BlipProcessor]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(MODEL_FOLDER)


# Scenes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_scenes_hold_one_to_four_objects_inside_the_picture_and_apart(seed: int) -> None:
    objects = arrange(random.Random(seed)).objects
    assert 1 <= len(objects) <= 4
    for item in objects:
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert item.shape in SHAPES
        assert item.color in COLORS
    for index, item in enumerate(objects):
        assert not any(overlap(item.box, other.box) for other in objects[:index])
    assert len({item.place for item in objects}) == len(objects)


def test_pictures_have_smooth_edges_and_the_size_asked_for() -> None:
    rng = random.Random(1)
    for size in (64, 200):
        scene = arrange(rng)
        picture = draw(scene, size)
        assert (picture.size, picture.mode) == ((size, size), "RGB")
        shades = np.unique(np.asarray(picture).reshape(-1, 3), axis=0)
        assert len(shades) > 20 * len(scene.objects)
    with pytest.raises(ValueError, match="size: got 8"):
        draw(arrange(rng), 8)


def test_an_objects_box_is_where_it_is_drawn() -> None:
    scene = arrange(random.Random(4))
    empty = draw(type(scene)((), scene.background), 128)
    for shape in SHAPES:
        item = object_at(shape, "black", (0.4, 0.6), 0.3, 9.0 if shape == "star" else 0.0)
        drawn = draw(type(scene)((item,), scene.background), 128)
        # The shadow darkens by at most 42 %: what is nearly black is the object.
        dark = np.asarray(drawn).max(axis=2) < 70
        assert np.asarray(empty).max(axis=2).min() > 120
        ys, xs = np.nonzero(dark)
        found = (xs.min() / 128, ys.min() / 128, (xs.max() + 1) / 128, (ys.max() + 1) / 128)
        assert np.allclose(found, item.box, atol=0.02), shape
    with pytest.raises(ValueError, match="shape: got 'blob'"):
        object_at("blob", "red", (0.5, 0.5), 0.2)


def test_small_drawing_is_the_large_one_made_small() -> None:
    scene = arrange(random.Random(2))
    small = np.asarray(draw(scene, 64), dtype=float)
    resized = np.asarray(draw(scene, 384).resize((64, 64), resample=3), dtype=float)
    assert np.abs(small - resized).mean() < 1.5


def test_coverage_is_the_share_of_each_patch() -> None:
    shares = coverage((0.25, 0.0, 0.5, 0.375), 4, 4)
    assert shares.sum() == pytest.approx(0.25 * 0.375 * 16)
    assert shares[:, 1].tolist() == [1.0, 0.5, 0.0, 0.0]


# Questions --------------------------------------------------------------------------------------------------------


def test_at_least_thirty_wordings_and_all_of_them_are_asked() -> None:
    wordings = [template for listed in TEMPLATES.values() for template in listed]
    assert len(set(wordings)) == len(wordings) >= 30
    rng = random.Random(0)
    texts = {sample(rng).question for _ in range(1500)}
    for template in wordings:
        fixed = [part for part in template.replace("}", "{").split("{")[::2] if part]
        assert any(all(part in text for part in fixed) for text in texts), template
    assert all(text == text.lower() and text.endswith("?") for text in texts)


def test_answers_of_two_tokens_exist_for_three_kinds(loaded: Loaded) -> None:
    tokenizer = loaded[1].tokenizer
    lengths = {
        answer: len(tokenizer(answer, add_special_tokens=False).input_ids) for kind in KINDS for answer in answers(kind)
    }
    assert set(lengths.values()) == {1, 2}
    assert [lengths[answer] for answer in ("light blue", "triangle", "top left", "red")] == [2, 2, 2, 1]


def test_samples_depend_on_the_seed_alone() -> None:
    for kind in (None, *KINDS):
        first = [sample(random.Random(9), kind) for _ in range(2)]
        assert first[0] == first[1]
        assert kind is None or first[0].kind == kind
    assert sample(random.Random(9)) != sample(random.Random(10))
    with pytest.raises(ValueError, match="kind: got 'colour'"):
        sample(random.Random(0), "colour")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(KINDS))
def test_every_question_has_one_right_answer(seed: int, kind: str) -> None:
    scene, question, answer, _ = sample(random.Random(seed), kind)
    assert answer in answers(kind)
    words = question.rstrip("?")
    # "light blue" also contains "blue": take the longest colour that the words contain.
    color = max((name for name in COLORS if f" {name}" in words), key=len, default=None)
    shape = next((name for name in SHAPES if name in words), None)
    fitting = [item for item in scene.objects if shape in (None, item.shape) and (color is None or item.color == color)]
    if kind == "number":
        assert answer == ("one", "two", "three", "four")[len(fitting) - 1]
    else:
        assert len(fitting) == 1
        assert answer == {"color": fitting[0].color, "object": fitting[0].shape, "location": fitting[0].place}[kind]


def test_a_scene_without_a_fitting_object_gives_no_question() -> None:
    scene = arrange(random.Random(0))
    twins = tuple(object_at("star", "red", (x, 0.5), 0.2) for x in (0.2, 0.8))
    doubled = type(scene)(twins, scene.background)
    assert all(ask(doubled, kind, random.Random(1)) is None for kind in ("color", "object", "location"))


# Examples ---------------------------------------------------------------------------------------------------------


def test_importing_the_demo_loads_no_torch() -> None:
    code = (
        "import sys, blip_trace_widget.demo as demo; demo.examples(); "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_examples_cover_the_kinds_and_are_light() -> None:
    listed = examples()
    assert len(listed) >= 8
    assert {item.kind for item in listed} == set(KINDS)
    assert len({item.name for item in listed}) == len(listed)
    assert sum(" " in item.answer for item in listed) >= 2
    first = listed[0]
    assert (first.question, first.answer) == ("what color is the circle?", "green")
    assert {(item.shape, item.color) for item in first.objects} == {
        ("circle", "green"),
        ("square", "blue"),
        ("triangle", "yellow"),
    }
    for item in listed:
        assert item.image.mode == "RGB"
        assert item.image.size == (384, 384)
        assert item.picture.stat().st_size <= 40_000
        assert item.answer in answers(item.kind)
    stored = {entry["picture"] for entry in json.loads((PICTURE_FOLDER / "examples.json").read_text())}
    assert stored == {path.name for path in PICTURE_FOLDER.glob("*.png")}


def test_region_marks_the_patches_of_the_objects_named() -> None:
    first = examples()[0]
    circle = first.region(8, 8, shape="circle")
    assert circle.dtype == np.bool_
    assert circle.shape == (8, 8)
    assert 0 < circle.sum() < first.region(8, 8).sum() < 64
    assert (circle == first.region(8, 8, color="green")).all()
    x0, y0, x1, y1 = first.objects[0].box
    assert circle[int((y0 + y1) * 4), int((x0 + x1) * 4)]
    assert first.region(3, 5).shape == (3, 5)
    with pytest.raises(ValueError, match="this picture has: green circle"):
        first.region(8, 8, shape="circle", color="red")
    with pytest.raises(ValueError, match="rows: got 0"):
        first.region(0, 8)


@pytest.mark.parametrize("item", [*examples(), *examples("known circuit: chain")], ids=lambda item: item.name)
def test_an_example_is_recognised_by_its_pixels(item: Example) -> None:
    assert item.sha256 == picture_hash(item.image)


def test_an_example_is_frozen_and_its_image_is_the_callers_own() -> None:
    first = examples()[0]
    with pytest.raises(AttributeError):
        first.answer = "blue"  # type: ignore[misc]
    changed = first.image
    changed.paste((0, 0, 0), (0, 0, 384, 384))
    assert first.image.getpixel((100, 120)) != (0, 0, 0)


@pytest.mark.parametrize("example", examples(), ids=lambda item: item.name)
def test_the_model_answers_each_example_and_noise_breaks_it(example: Example, loaded: Loaded) -> None:
    model, processor = loaded
    inputs = processor(images=example.image, text=example.question, return_tensors="pt")
    said = model.generate(**inputs, max_new_tokens=6)
    assert processor.decode(said[0], skip_special_tokens=True) == example.answer
    asked = prepare(model, processor, [example.image], [example.question], [example.answer])
    clean = score(model, asked, asked.image)[0][0]
    assert clean > 0.7
    generator = torch.Generator("cpu").manual_seed(0)
    noisy = [score(model, asked, damage(asked.image, NOISE_FACTOR, generator))[0][0] for _ in range(10)]
    assert np.mean(noisy) < clean / 2


# The shipped weights ----------------------------------------------------------------------------------------------


def test_the_model_folder_is_small_and_holds_no_pickle() -> None:
    files = [path for path in MODEL_FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    card = (MODEL_FOLDER / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in card
    assert "exact answers" in card
    assert "/work" not in card


def test_the_model_has_the_depth_and_tokens_promised(loaded: Loaded) -> None:
    model, processor = loaded
    assert len(model.vision_model.encoder.layers) >= 6
    assert len(model.text_encoder.encoder.layer) >= 6
    assert len(model.text_decoder.bert.encoder.layer) >= 6
    assert model.vision_model.embeddings.num_patches >= 64
    assert isinstance(processor.image_processor, BlipImageProcessorPil)
    assert {part.dtype for part in model.parameters()} == {torch.float32}


def test_the_plain_transformers_way_of_loading_works(loaded: Loaded) -> None:
    model = BlipForQuestionAnswering.from_pretrained(MODEL_FOLDER, local_files_only=True)
    processor = BlipProcessor(
        BlipImageProcessorPil.from_pretrained(MODEL_FOLDER), BertTokenizer.from_pretrained(MODEL_FOLDER)
    )
    text = model.config.text_config
    tokenizer = processor.tokenizer
    assert (text.bos_token_id, text.sep_token_id, text.pad_token_id) == (
        tokenizer.convert_tokens_to_ids("[DEC]"),
        tokenizer.sep_token_id,
        tokenizer.pad_token_id,
    )
    for (name, left), (_, right) in zip(model.state_dict().items(), loaded[0].state_dict().items(), strict=True):
        assert torch.equal(left, right), name


def test_any_english_question_falls_into_known_pieces(loaded: Loaded) -> None:
    tokenizer = loaded[1].tokenizer
    for text in ("What is the woman's umbrella made of?", "how many triangles are there?", "Où est-il, 42 % up?"):
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids
    pieces = tokenizer.tokenize("how many triangles are there?")
    assert pieces == ["how", "many", "tri", "##angle", "##s", "are", "there", "?"]


@pytest.mark.slow
def test_held_out_accuracy_on_two_hundred_and_fifty_scenes(loaded: Loaded) -> None:
    rows = {row.kind: row for row in table(*loaded, count=250, seed=0)}
    assert rows["all"].exact >= 0.97
    assert all(rows[kind].exact >= 0.92 for kind in KINDS)
    assert 0.7 <= rows["all"].clean <= 0.97
    assert rows["all"].noisy < 0.3


@pytest.mark.slow
def test_damage_to_colour_answers_sits_on_the_named_object(loaded: Loaded) -> None:
    place = localise(*loaded, count=16, seed=0, noises=2)  # `test_image_side.py` asks more
    assert place.region_cost >= 0.6
    assert place.token_share >= 3 * place.picture_share


# Training ---------------------------------------------------------------------------------------------------------


def test_two_trainings_with_one_seed_give_the_same_weights() -> None:
    lines: list[str] = []
    first, again, other = (train(4, seed, lines.append)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert len(lines) == 6
    assert [line.split("  ")[0] for line in lines[:2]] == ["seeing 1/1", "answering 3/3"]
    with pytest.raises(ValueError, match="steps: got 1"):
        train(1, 0, lines.append)


def test_training_on_padded_questions_is_training_on_each_alone(loaded: Loaded) -> None:
    model, processor = loaded
    lesson = draw_lesson(0, 0, IMAGE_SIZE, GRID)
    answer_in, _ = AnswerKey(processor.tokenizer).look_up(lesson.questions)
    hooks = hide_padding(model)
    with torch.no_grad():
        image = model.vision_model(pixel_values=pixels(processor, lesson)).last_hidden_state
        encoded = encode_questions(model, processor, lesson, image, torch.nn.Linear(WIDTH, len(PLACE_NAMES)))
        together = model.text_decoder(
            input_ids=answer_in, encoder_hidden_states=encoded.hidden, encoder_attention_mask=encoded.mask
        ).logits
        for hook in hooks:
            hook.remove()
        assert len(set(encoded.mask.sum(1).tolist())) > 2
        for row, question in enumerate(lesson.questions[:12]):
            text = processor.tokenizer(question.text, return_tensors="pt")
            hidden = model.text_encoder(
                input_ids=text.input_ids,
                attention_mask=text.attention_mask,
                encoder_hidden_states=image[row // QUESTIONS_AN_IMAGE][None],
            ).last_hidden_state
            alone = model.text_decoder(input_ids=answer_in[row : row + 1], encoder_hidden_states=hidden).logits
            assert torch.allclose(alone[0], together[row], atol=1e-4)


def test_lesson_pixels_are_what_the_image_processor_gives(loaded: Loaded) -> None:
    lesson = draw_lesson(0, 1, IMAGE_SIZE, GRID)
    pictures = [Image.fromarray(one) for one in lesson.pixels[:4]]
    given = loaded[1].image_processor(pictures, return_tensors="pt").pixel_values
    assert torch.allclose(given, pixels(loaded[1], lesson)[:4], atol=1e-5)


def test_answers_do_not_depend_on_what_else_is_in_the_batch(loaded: Loaded) -> None:
    model, processor = loaded
    listed = examples()
    asked = prepare(
        model,
        processor,
        [item.image for item in listed],
        [item.question for item in listed],
        [item.answer for item in listed],
    )
    together = score(model, asked, asked.image)[0]
    for row, item in enumerate(listed):
        alone = prepare(model, processor, [item.image], [item.question], [item.answer])
        assert score(model, alone, alone.image)[0][0] == pytest.approx(together[row], abs=1e-5)


def test_folder_constants_are_inside_the_package() -> None:
    assert (
        MODEL_FOLDER.parent
        == PICTURE_FOLDER.parent
        == Path(sys.modules["blip_trace_widget.demo"].__file__ or "").parent
    )
