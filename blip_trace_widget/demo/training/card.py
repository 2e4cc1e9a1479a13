"""The model card, filled in with measured figures.

For: `train.py`, which writes it with the weights, so that its figures are never older than they are.
Ends: at Markdown; `evaluate.py` measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blip_trace_widget.demo.questions import TEMPLATES
from blip_trace_widget.demo.scenes import COLORS, PLACES, SHAPES
from blip_trace_widget.demo.training import network
from blip_trace_widget.demo.training.evaluate import NOISE_FACTOR, SINGLE_TOKEN_FACTOR, Localisation, Row, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXT = """\
---
license: mit
language: en
pipeline_tag: visual-question-answering
library_name: transformers
---

# The built-in tiny BLIP

A real `transformers.BlipForQuestionAnswering`, trained from scratch on drawings of coloured shapes. It ships with
blip_trace_widget so that the widget, its tutorial and its tests run offline and in a second.

## What it is not
It is not a small copy of `Salesforce/blip-vqa-base`: it shares the architecture and nothing else. It has never seen a
photograph, knows {words} words and word pieces, and answers anything outside the questions below with a guess. What
causal tracing shows in it are facts about this network; whether they hold in BLIP has to be traced in BLIP.

## Data
Scenes drawn on the fly by `scenes.py`: one to four of {shapes} shapes ({shape_list})
in {colors} colours ({color_list}),
each in its own cell of a 3 x 3 grid ({place_list}),
with a soft shadow, on plain, horizon, clouded or banded backgrounds of any hue. Questions of COCO-QA's four kinds
(color, object, number, location) in {wordings} wordings, made by `questions.py`; a question is asked only where one
answer is right. No picture, text or weight comes from elsewhere. Training and held-out scenes come from separate
random streams.

## Architecture
{layers} layers each in the image encoder, the question encoder and the answer decoder; width {width}, {heads} heads;
{image} px pictures in {patch} px patches, that is {grid} x {grid} image tokens and a class token;
{weights:,} weights in float32.

## Recipe
{steps:,} steps of {images} pictures, AdamW, gradients clipped at 1, rates that rise and fall once: the peak is
{seeing_rate:g} in the first {seeing:.0%} of the steps, while the image encoder alone learns to see, then {rate:g}
with {each} questions a picture. Soft targets give {smoothing:g} of the probability to the answers of the question's
kind, so that a sure answer stays below 1.
Four aids act during training alone: fixed directions in which every image token must tell shape, colour and place
of what its patch shows; a reward for cross-attention in the question encoder's layers 2 and 3 that looks at the
objects a question names, and one for words from whose mean, after layer 4, the places of those objects can be read,
both fading to 0; and image positions that start from sines and cosines of row and column.

## Measured
On {samples:,} held-out scenes, drawn at 384 px and resized by the model's own image processor. "Exact answers": the
whole answer by greedy decoding. p(answer): probability of the right answer, the product over its tokens, end token
left out.
ν: multiplicative noise e·(1 + ν·z) on all image tokens, three draws a scene.

{table}

On {local} colour questions, noise at ν = {nu:g} on the patches of the named object alone costs {region:.0%} of what
noise everywhere costs. Damaging one image token at a time at ν = {single:g} puts {share:.0%} of the damage on the named
object's tokens, which are {area:.0%} of all: {times:.1f} times their share.

## Making it again
`python -m blip_trace_widget.demo.training.train --seed {seed} --steps {steps} --threads {threads}`
writes weights, examples and this page, and
`python -m blip_trace_widget.demo.training.train --evaluate`
measures the table again. The same seed, thread count and versions of torch and NumPy on the same kind of CPU give the
same weights.

## Licence
MIT, as the package.
"""


class Recipe(NamedTuple):
    """The parameters of the training, for the card."""

    steps: int
    seed: int
    threads: int
    images: int
    each: int
    seeing: float
    seeing_rate: float
    rate: float
    smoothing: float
    weights: int
    words: int


def text(recipe: Recipe, rows: Iterable[Row], place: Localisation) -> str:
    """The model card as Markdown.

    Args:
        recipe: the parameters of the training.
        rows: the measured table, which must end with the row for all kinds.
        place: where the damage of noise lies.
    """
    listed = list(rows)
    return _TEXT.format(
        **recipe._asdict(),
        shapes=len(SHAPES),
        shape_list=", ".join(SHAPES),
        colors=len(COLORS),
        color_list=", ".join(COLORS),
        place_list=", ".join(place_name for row in PLACES for place_name in row),
        wordings=sum(map(len, TEMPLATES.values())),
        layers=network.LAYERS,
        width=network.WIDTH,
        heads=network.HEADS,
        image=network.IMAGE_SIZE,
        patch=network.PATCH_SIZE,
        grid=network.GRID,
        samples=listed[-1].samples,
        table=as_text(listed),
        local=place.questions,
        nu=NOISE_FACTOR,
        single=SINGLE_TOKEN_FACTOR,
        region=place.region_cost,
        share=place.token_share,
        area=place.picture_share,
        times=place.token_share / place.picture_share,
    )
