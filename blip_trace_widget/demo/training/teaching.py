"""What the demo model is taught by: soft targets for its answers, and three aids that act during training alone.

For: the terms of the loss in `train.py`.
Cost: little beside the model's own passes.
Ends: the aids' own parameters are thrown away; a trained model bears no trace of this module.

Without the aids a network this small answers at random for thousands of steps: it does not learn to look, and it does
not learn which of the objects it sees a question means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from blip_trace_widget.demo.questions import KINDS, Question, answers
from blip_trace_widget.demo.training.lessons import IGNORED, PROPERTIES, QUESTIONS_AN_IMAGE, Lesson
from blip_trace_widget.demo.training.network import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.hooks import RemovableHandle
    from transformers import BlipForQuestionAnswering, BlipProcessor, PreTrainedTokenizerBase

LABEL_SMOOTHING = 0.1  # keeps the clean probabilities off 1, where they would tell nothing
BACKGROUND_WEIGHT, OBJECT_WEIGHT = 0.2, 4.2  # most patches show background
POINTING_LAYERS = slice(2, 4)  # of the question encoder: its words have met, and time is left to read what was found


class Encoded(NamedTuple):
    """Questions as the encoder gives them, and what they should have shown on the way.

    `hidden`: (questions, length, width). `mask`: (questions, length). `pointing`: a loss, small when the
    cross-attention looks at the objects that the question names. `placing`: a loss, small when their places can be
    read off the words.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    pointing: torch.Tensor
    placing: torch.Tensor


class AnswerKey:
    """Every possible answer as tensors: decoder inputs (answers, length) and soft targets (answers, length, pieces).

    A target gives `LABEL_SMOOTHING` to all that answers of the same kind can say at that position, so that what the
    model is unsure between are colours for a colour. Rows past an answer's end are zero and do not count.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        spelled = {
            (kind, answer): [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.sep_token_id]
            for kind in KINDS
            for answer in answers(kind)
        }
        length = max(map(len, spelled.values()))
        self._row = {key: row for row, key in enumerate(spelled)}
        self._inputs = torch.full((len(spelled), length), int(tokenizer.pad_token_id))
        self._targets = torch.zeros(len(spelled), length, len(tokenizer))
        for (kind, answer), row in self._row.items():
            ids = spelled[kind, answer]
            self._inputs[row, : len(ids)] = torch.tensor([tokenizer.bos_token_id, *ids[:-1]])
            for position, token in enumerate(ids):
                peers = {
                    other[position] for (its, _), other in spelled.items() if its == kind and len(other) > position
                }
                self._targets[row, position, sorted(peers)] = LABEL_SMOOTHING / len(peers)
                self._targets[row, position, token] += 1 - LABEL_SMOOTHING

    def look_up(self, questions: Sequence[Question]) -> tuple[torch.Tensor, torch.Tensor]:
        """The decoder's inputs and the targets of these questions' answers."""
        rows = torch.tensor([self._row[question.kind, question.answer] for question in questions])
        return self._inputs[rows], self._targets[rows]


class PatchReader:
    """The auxiliary task: every image token tells the shape, colour and place of what its patch shows (`PROPERTIES`).

    It tells them in fixed orthonormal directions, one for each class. Learned directions would be content with faint
    traces; these ask for properties so large and so well apart that the question encoder's attention finds them soon.
    """

    def __init__(self) -> None:
        self._sizes = [len(names) + 1 for names in PROPERTIES]
        self._directions = nn.init.orthogonal_(torch.empty(sum(self._sizes), WIDTH))
        self._weights = [torch.tensor([BACKGROUND_WEIGHT] + [OBJECT_WEIGHT] * (size - 1)) for size in self._sizes]

    def loss(self, image: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of image tokens (images, patches, width) with classes (images, properties, patches)."""
        parts = torch.split_with_sizes(image @ self._directions.T, self._sizes, dim=-1)
        losses = [
            cross_entropy(part.flatten(0, 1), classes[:, row].flatten(), weight=weight, ignore_index=IGNORED)
            for row, (part, weight) in enumerate(zip(parts, self._weights, strict=True))
        ]
        return torch.stack(losses).sum()


def hide_padding(model: BlipForQuestionAnswering) -> list[RemovableHandle]:
    """Make the answer decoder's cross-attention heed its mask, so that padded questions count as if they were not.

    transformers 5 hands the mask to the cross-attention under a name that it does not read there. A model trained
    so learns to keep answers in the padding, and fails on a question that has none. Remove the hooks when done.
    """

    def heed(_: nn.Module, given: tuple[torch.Tensor, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "encoder_attention_mask": named.get("attention_mask")}

    return [
        module.register_forward_pre_hook(heed, with_kwargs=True)
        for name, module in model.text_decoder.named_modules()
        if name.endswith("crossattention.self")
    ]


def pixels(processor: BlipProcessor, lesson: Lesson) -> torch.Tensor:
    """The lesson's pictures as the image processor would give them: (images, 3, size, size), normalised."""
    mean = torch.tensor(processor.image_processor.image_mean).view(3, 1, 1)
    std = torch.tensor(processor.image_processor.image_std).view(3, 1, 1)
    return (torch.from_numpy(lesson.pixels).permute(0, 3, 1, 2) / 255.0 - mean) / std


def encode_questions(
    model: BlipForQuestionAnswering,
    processor: BlipProcessor,
    lesson: Lesson,
    image: torch.Tensor,
    placer: nn.Linear,
) -> Encoded:
    """Encode the lesson's questions with clean image tokens (images, 1 + patches, width); `placer` reads the places.

    The questions of one image travel as one row, each blind to the others: the keys and values of the
    cross-attention, the costly part, are then computed once an image. The numbers are those of separate rows.
    """
    text = processor.tokenizer([question.text for question in lesson.questions], padding=True, return_tensors="pt")
    images, each, length = len(image), QUESTIONS_AN_IMAGE, text.input_ids.shape[1]
    owner = torch.arange(each).repeat_interleave(length)
    visible = (owner[:, None] == owner) & text.attention_mask.view(images, 1, 1, each * length).bool()
    encoded = model.text_encoder(
        input_ids=text.input_ids.view(images, each * length),
        position_ids=torch.arange(length).repeat(each)[None],
        attention_mask=torch.zeros(visible.shape).masked_fill(~visible, -1e9),
        encoder_hidden_states=image,
        output_attentions=True,
        output_hidden_states=True,
    )
    looks = torch.stack(encoded.cross_attentions[POINTING_LAYERS])[..., 1:]
    on_named = torch.einsum(
        "nihjlp,ijp->nhijl",
        looks.view(*looks.shape[:3], each, length, -1),
        torch.from_numpy(lesson.named).float().view(images, each, -1),
    )
    missed = -torch.log(on_named.flatten(2, 3) + 1e-3).mean(dim=(0, 1))
    pointing = (missed * text.attention_mask).sum() / text.attention_mask.sum()
    # One layer before the last, the mean over the words tells every place that holds a named object: the last layer
    # and the decoder then have something to count.
    told = encoded.hidden_states[-2].view(images * each, length, WIDTH) * text.attention_mask[..., None]
    mean = told.sum(1) / text.attention_mask.sum(1, keepdim=True)
    placing = binary_cross_entropy_with_logits(placer(mean), torch.from_numpy(lesson.places).float())
    hidden = encoded.last_hidden_state.view(images * each, length, WIDTH)
    return Encoded(hidden, text.attention_mask, pointing, placing)
