"""Measuring how good the demo model is, and whether noise and patches act in it as in BLIP.

For: the table of the model card, and the tests.
Cost: about 0.1 s per sample, mostly drawing at 384 px, so that pictures go through the processor like users' pictures.
Ends: at figures of the untouched transformers model, independent of the rest of the package.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from blip_trace_widget.demo.questions import KINDS, Sample, sample
from blip_trace_widget.demo.scenes import Scene, coverage, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image
    from transformers import BlipForQuestionAnswering, BlipProcessor

NOISE_FACTOR = 5.0
SINGLE_TOKEN_FACTOR = 2.0
PICTURE_SIZE = 384  # pixels
_BATCH = 50


class Row(NamedTuple):
    """One row of the table: the share of exactly right answers, and mean probabilities of the right answer."""

    kind: str
    samples: int
    exact: float
    clean: float
    noisy: float


class Localisation(NamedTuple):
    """Where noise does its damage to colour questions.

    Attributes:
        questions: number of questions.
        region_cost: loss from noise on only the named object, as a share of the total effect.
        token_share: share of the summed loss from noise on single tokens that falls on the object's tokens.
        picture_share: share of the tokens that are the object's.
    """

    questions: int
    region_cost: float
    token_share: float
    picture_share: float


class Asked(NamedTuple):
    """Questions as tensors.

    Attributes:
        image: clean image tokens, (n, 1 + patches, width).
        ids: the question's token ids, (n, length).
        mask: its attention mask, (n, length).
        answer_in: the decoder's input, (n, length).
        answer_out: the decoder's target with the end token, (n, length); padding is -100.
        ends: which targets are end tokens, (n, length).
    """

    image: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    answer_in: torch.Tensor
    answer_out: torch.Tensor
    ends: torch.Tensor


def held_out(count: int, seed: int) -> list[Sample]:
    """Fresh samples, alternating between the kinds, from a random stream that training never uses."""
    rng = random.Random(f"held out {seed}")  # noqa: S311  (scenes, not secrets)
    return [sample(rng, KINDS[index % len(KINDS)]) for index in range(count)]


@torch.no_grad()
def prepare(
    model: BlipForQuestionAnswering,
    processor: BlipProcessor,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
    answers: Sequence[str],
) -> Asked:
    """Run the image encoder and tokenize."""
    tokenizer = processor.tokenizer
    pixels = processor.image_processor(list(pictures), return_tensors="pt").pixel_values
    text = tokenizer(list(questions), padding=True, return_tensors="pt")
    pieces = [tokenizer(answer, add_special_tokens=False).input_ids for answer in answers]
    length = max(map(len, pieces)) + 1
    answer_in = torch.full((len(pieces), length), tokenizer.pad_token_id)
    answer_out = torch.full((len(pieces), length), -100)
    for row, piece in enumerate(pieces):
        answer_in[row, : len(piece) + 1] = torch.tensor([tokenizer.bos_token_id, *piece])
        answer_out[row, : len(piece) + 1] = torch.tensor([*piece, tokenizer.sep_token_id])
    image = model.vision_model(pixel_values=pixels).last_hidden_state
    ends = answer_out == tokenizer.sep_token_id
    return Asked(image, text.input_ids, text.attention_mask, answer_in, answer_out, ends)


@torch.no_grad()
def score(
    model: BlipForQuestionAnswering, asked: Asked, image: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score the right answers given image tokens: their probabilities, and whether greedy decoding gives them.

    The end token is left out of the probability. Greedy decoding gives the right answer if and only if the likeliest
    token is right at every position, the end included. Questions of equal length run together, without padding, which
    the decoder of transformers 5 would attend to.

    Returns:
        probabilities, (n,), and whether greedy decoding is right, (n,).
    """
    probability = np.empty(len(image))
    right = np.empty(len(image), dtype=np.bool_)
    lengths = asked.mask.sum(1)
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero()[:, 0]
        hidden = model.text_encoder(
            input_ids=asked.ids[rows, :length],
            attention_mask=asked.mask[rows, :length],
            encoder_hidden_states=image[rows],
        ).last_hidden_state
        logits = model.text_decoder(input_ids=asked.answer_in[rows], encoder_hidden_states=hidden).logits
        expected = asked.answer_out[rows]
        padding = expected < 0
        picked = logits.log_softmax(-1).gather(-1, expected.clamp(min=0)[..., None])[..., 0]
        probability[rows] = picked.masked_fill(padding | asked.ends[rows], 0.0).sum(1).exp()
        right[rows] = ((logits.argmax(-1) == expected) | padding).all(1)
    return probability, right


def damage(image: torch.Tensor, factor: float, generator: torch.Generator) -> torch.Tensor:
    """Multiplicative noise on image tokens of any shape: e * (1 + factor * z), z standard normal."""
    return image * (1 + factor * torch.randn(image.shape, generator=generator))


def table(
    model: BlipForQuestionAnswering, processor: BlipProcessor, count: int, seed: int, noises: int = 3
) -> list[Row]:
    """Measure `count` held-out samples: one row per kind, and "all" last."""
    samples = held_out(count, seed)
    generator = torch.Generator("cpu").manual_seed(seed)
    clean, noisy, right = [], [], []
    for batch in _batches(samples):
        asked = _prepare_samples(model, processor, batch)
        probability, exact = score(model, asked, asked.image)
        clean.append(probability)
        right.append(exact)
        runs = [score(model, asked, damage(asked.image, NOISE_FACTOR, generator))[0] for _ in range(noises)]
        noisy.append(np.mean(runs, axis=0))
    columns = [np.concatenate(parts).astype(np.float64) for parts in (right, clean, noisy)]
    kinds = np.asarray([item.kind for item in samples])
    rows = []
    for kind in (*KINDS, "all"):
        chosen = (kinds == kind) | (kind == "all")
        if chosen.any():
            rows.append(Row(kind, int(chosen.sum()), *(float(column[chosen].mean()) for column in columns)))
    return rows


def localise(
    model: BlipForQuestionAnswering, processor: BlipProcessor, count: int, seed: int, noises: int = 5
) -> Localisation:
    """Put noise on only the named object's region, then on each image token alone, for `count` colour questions."""
    rng = random.Random(f"localisation {seed}")  # noqa: S311  (scenes, not secrets)
    generator = torch.Generator("cpu").manual_seed(seed)
    total, regional = [], []
    on_object, on_all, picture = [], [], []
    for _ in range(count):
        item = sample(rng, "color")
        asked = _prepare_samples(model, processor, [item])
        tokens = asked.image.shape[1]
        grid = round((tokens - 1) ** 0.5)
        inside = torch.from_numpy(np.concatenate([[False], _named_patches(item.scene, item, grid).ravel()]))
        clean = score(model, asked, asked.image)[0][0]

        many = _repeat(asked, noises)
        hit = damage(many.image, NOISE_FACTOR, generator)
        total.append(clean - score(model, many, hit)[0].mean())
        hit = torch.where(inside[None, :, None], hit, many.image)
        regional.append(clean - score(model, many, hit)[0].mean())

        singles = _repeat(asked, noises * tokens)
        alone = torch.eye(tokens, dtype=torch.bool).repeat(noises, 1)[..., None]
        hit = torch.where(alone, damage(singles.image, SINGLE_TOKEN_FACTOR, generator), singles.image)
        lost = (clean - score(model, singles, hit)[0]).reshape(noises, tokens).mean(axis=0)
        on_object.append(lost[inside.numpy()].sum())
        on_all.append(lost.sum())
        picture.append(inside.float().mean().item())
    return Localisation(
        count,
        float(np.sum(regional) / np.sum(total)),
        float(np.sum(on_object) / np.sum(on_all)),
        float(np.mean(picture)),
    )


def as_text(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        f"| kind | n | exact answers | p(answer), clean | p(answer), ν = {NOISE_FACTOR:g} |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {row.kind} | {row.samples} | {row.exact:.1%} | {row.clean:.3f} | {row.noisy:.3f} |" for row in rows]
    return "\n".join(lines)


def _batches(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), _BATCH):
        yield samples[start : start + _BATCH]


def _prepare_samples(model: BlipForQuestionAnswering, processor: BlipProcessor, samples: Sequence[Sample]) -> Asked:
    return prepare(
        model,
        processor,
        [draw(item.scene, PICTURE_SIZE) for item in samples],
        [item.question for item in samples],
        [item.answer for item in samples],
    )


def _repeat(asked: Asked, times: int) -> Asked:
    return Asked(*(part.expand(times, *part.shape[1:]) for part in asked))


def _named_patches(scene: Scene, item: Sample, grid: int) -> NDArray[np.bool_]:
    """The patches that the object named in a colour question touches."""
    named = next(thing for thing in scene.objects if thing.shape in item.question)
    return coverage(named.box, grid, grid) > 0
