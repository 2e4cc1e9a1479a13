"""Train the demo model from scratch, write it with its examples and its card, and measure it.

For: `python -m blip_trace_widget.demo.training.train` makes everything in `model/` and `pictures/`; with
`--evaluate` it measures the shipped weights instead.
Cost: under 40 minutes on two idle CPU cores; the same seed and thread count give the same weights.
Ends: at those folders; no data is read and nothing is downloaded. `teaching.py` has the losses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from blip_trace_widget.demo import MODEL_FOLDER, PICTURE_FOLDER
from blip_trace_widget.demo.questions import KINDS
from blip_trace_widget.demo.training import card, pictures
from blip_trace_widget.demo.training.evaluate import as_text, localise, table
from blip_trace_widget.demo.training.lessons import IMAGES_A_LESSON, PLACE_NAMES, QUESTIONS_AN_IMAGE, Lesson, lessons
from blip_trace_widget.demo.training.network import GRID, IMAGE_SIZE, WIDTH, build_model, build_processor, load, save
from blip_trace_widget.demo.training.teaching import (
    LABEL_SMOOTHING,
    AnswerKey,
    PatchReader,
    encode_questions,
    hide_padding,
    pixels,
)

if TYPE_CHECKING:
    from transformers import BlipForQuestionAnswering, BlipProcessor

STEPS = 4000
SEED = 0
THREADS = 1
SEEING_SHARE = 0.2  # of the steps
SEEING_RATE, ANSWERING_RATE = 3e-3, 1.5e-3  # at their peaks
WARM_UP = 0.1  # share of the steps
POINTING_WEIGHT, PLACING_WEIGHT = 0.5, 3.0
GUIDED_UNTIL = 0.6  # share of the steps over which these two weights fade to nothing
HELD_OUT = 2000  # scenes
LOCALISED = 50  # colour questions
REPORT_EVERY = 100

Report = Callable[[str], None]


def train(steps: int, seed: int, report: Report) -> tuple[BlipForQuestionAnswering, BlipProcessor]:
    """Train a model for `steps` steps; returns it with its processor.

    The first fifth of the steps trains only the image encoder, to recognise objects; the rest trains the entire model
    to answer.

    Args:
        steps: number of steps.
        seed: seed of the weights and the scenes.
        report: called with a line of progress now and then.

    Raises:
        ValueError: if `steps` is below 2.
    """
    if steps < 2:
        raise ValueError(f"steps: got {steps}; accepted are whole numbers from 2")
    processor = build_processor()
    model = build_model(processor, seed).train()
    hooks = hide_padding(model)
    reader = PatchReader()
    seeing = max(1, round(SEEING_SHARE * steps))
    _learn_to_see(model, processor, reader, lessons(seed, 0, seeing, IMAGE_SIZE, GRID), seeing, report)
    rest = steps - seeing
    _learn_to_answer(model, processor, reader, lessons(seed, seeing, rest, IMAGE_SIZE, GRID), rest, report)
    for hook in hooks:
        hook.remove()
    return model.eval(), processor


def _learn_to_see(
    model: BlipForQuestionAnswering,
    processor: BlipProcessor,
    reader: PatchReader,
    material: Iterator[Lesson],
    steps: int,
    report: Report,
) -> None:
    """Train the image encoder to encode what every patch shows; a step costs a third of one of answering."""
    step_down = _descent(list(model.vision_model.parameters()), SEEING_RATE, steps)
    began = time.monotonic()
    for step, lesson in enumerate(material, start=1):
        image = model.vision_model(pixel_values=pixels(processor, lesson)).last_hidden_state
        reading = reader.loss(image[:, 1:], torch.from_numpy(lesson.patches))
        step_down(reading)
        if step % REPORT_EVERY == 0 or step == steps:
            report(f"seeing {step}/{steps}  {time.monotonic() - began:.0f} s  patches {reading.item():.3f}")


def _learn_to_answer(
    model: BlipForQuestionAnswering,
    processor: BlipProcessor,
    reader: PatchReader,
    material: Iterator[Lesson],
    steps: int,
    report: Report,
) -> None:
    """Train the entire model to answer, keeping the auxiliary losses."""
    key = AnswerKey(processor.tokenizer)
    placer = nn.Linear(WIDTH, len(PLACE_NAMES))
    step_down = _descent([*model.parameters(), *placer.parameters()], ANSWERING_RATE, steps)
    began = time.monotonic()
    tally = torch.zeros(len(KINDS), 2)
    for step, lesson in enumerate(material, start=1):
        image = model.vision_model(pixel_values=pixels(processor, lesson)).last_hidden_state
        reading = reader.loss(image[:, 1:], torch.from_numpy(lesson.patches))
        encoded = encode_questions(model, processor, lesson, image, placer)
        answer_in, target = key.look_up(lesson.questions)
        logits = model.text_decoder(
            input_ids=answer_in, encoder_hidden_states=encoded.hidden, encoder_attention_mask=encoded.mask
        ).logits
        answering = -(target * logits.log_softmax(-1)).sum() / target.sum()
        guided = max(0.0, 1 - step / (GUIDED_UNTIL * steps))
        step_down(
            answering + reading + guided * (POINTING_WEIGHT * encoded.pointing + PLACING_WEIGHT * encoded.placing)
        )

        right = ((logits.argmax(-1) == target.argmax(-1)) | (target.sum(-1) == 0)).all(1)
        for question, hit in zip(lesson.questions, right.tolist(), strict=True):
            tally[KINDS.index(question.kind)] += torch.tensor([float(hit), 1.0])
        if step % REPORT_EVERY == 0 or step == steps:
            shares = "  ".join(
                f"{kind} {hits / max(asked, 1):.1%}" for kind, (hits, asked) in zip(KINDS, tally.tolist(), strict=True)
            )
            report(
                f"answering {step}/{steps}  {time.monotonic() - began:.0f} s  answers {answering.item():.3f}  "
                f"patches {reading.item():.3f}  pointing {encoded.pointing.item():.3f}  "
                f"placing {encoded.placing.item():.3f}  {shares}"
            )
            tally.zero_()


def _descent(weights: list[nn.Parameter], peak: float, steps: int) -> Callable[[torch.Tensor], None]:
    """A function that takes one optimizer step on a loss, with a one-cycle learning rate over `steps` steps."""
    optimizer = torch.optim.AdamW(weights, lr=peak, weight_decay=0.01, fused=True)
    # The scheduler cannot divide ten steps or fewer into its phases.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=max(steps, 20), pct_start=WARM_UP)

    def step_down(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()

    return step_down


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: those after the program's name; default `sys.argv`.

    Raises:
        SystemExit: with code 2, for arguments that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m blip_trace_widget.demo.training.train", description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="measure the weights in --model, train nothing")
    parser.add_argument(
        "--samples", type=int, default=HELD_OUT, help="held-out scenes to measure (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of weights, scenes and noise (default %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=THREADS, help="CPU threads; part of the recipe (default %(default)s)"
    )
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="model folder (default: the package's)")
    parser.add_argument(
        "--pictures", type=Path, default=PICTURE_FOLDER, help="examples' folder (default: the package's)"
    )
    given = parser.parse_args(arguments)
    for name, least in (("samples", len(KINDS)), ("steps", 2), ("threads", 1)):
        if getattr(given, name) < least:
            parser.error(f"--{name}: got {getattr(given, name)}; accepted are whole numbers from {least}")

    torch.set_num_threads(given.threads)
    if given.evaluate:
        print(as_text(table(*load(given.model), given.samples, given.seed)))
        return
    began = time.monotonic()
    model, processor = train(given.steps, given.seed, lambda line: print(line, flush=True))
    print(f"trained in {(time.monotonic() - began) / 60:.1f} minutes")
    save(model, processor, given.model)
    pictures.write(given.pictures)
    _write_card(given, model, processor)


def _write_card(given: argparse.Namespace, model: BlipForQuestionAnswering, processor: BlipProcessor) -> None:
    """Measure the model, print the figures, and write them with the recipe to the folder's README.md."""
    rows = table(model, processor, given.samples, given.seed)
    place = localise(model, processor, LOCALISED, given.seed)
    print(as_text(rows), place, sep="\n\n")
    recipe = card.Recipe(
        steps=given.steps,
        seed=given.seed,
        threads=given.threads,
        images=IMAGES_A_LESSON,
        each=QUESTIONS_AN_IMAGE,
        seeing=SEEING_SHARE,
        seeing_rate=SEEING_RATE,
        rate=ANSWERING_RATE,
        smoothing=LABEL_SMOOTHING,
        weights=sum(part.numel() for part in model.parameters()),
        words=len(processor.tokenizer),
    )
    (given.model / "README.md").write_text(card.text(recipe, rows, place), encoding="utf-8")


if __name__ == "__main__":
    main()
