"""The demo model's training losses: soft targets for its answers, and three auxiliary losses used only in training.

For: the terms of the loss in `train.py`.
Cost: little compared with the model's own passes.
Ends: at losses; the auxiliary parameters are discarded after training.

Without the auxiliary losses a network this small answers at random for thousands of steps: it learns neither to
recognise objects nor which of them a question means.
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

LABEL_SMOOTHING = 0.1  # keeps the clean probabilities below 1, where they would be uninformative
BACKGROUND_WEIGHT, OBJECT_WEIGHT = 0.2, 4.2  # most patches show background
POINTING_LAYERS = slice(2, 4)  # of the question encoder: after its words have interacted, before its last layers


class Encoded(NamedTuple):
    """Encoded questions, and auxiliary losses of their encoding.

    Attributes:
        hidden: the encoder's output, (questions, length, width).
        mask: the attention mask, (questions, length).
        pointing: a loss that is small if the cross-attention attends to the objects that a question names.
        placing: a loss that is small if their places can be read from the words.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    pointing: torch.Tensor
    placing: torch.Tensor


class AnswerKey:
    """All possible answers as tensors: decoder inputs (answers, length) and soft targets (answers, length, pieces).

    A target spreads `LABEL_SMOOTHING` over all tokens that answers of the same kind have at that position, so that an
    unsure model chooses among colours for a colour question. Rows after an answer's end are zero and do not count.
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
        """The decoder's inputs and targets for the questions' answers."""
        rows = torch.tensor([self._row[question.kind, question.answer] for question in questions])
        return self._inputs[rows], self._targets[rows]


class PatchReader:
    """An auxiliary task: every image token encodes the shape, colour and place of what its patch shows (`PROPERTIES`).

    They are read along fixed orthonormal directions, one per class. Learned directions would settle for weak signals;
    fixed ones enforce properties so large and well separated that the question encoder's attention finds them soon.
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
    """Make the answer decoder's cross-attention apply its mask, so that padding is ignored.

    transformers 5 passes the mask to the cross-attention under a name that it does not read. A model trained that way
    learns to store answers in the padding, and fails on questions without it. Remove the returned hooks when done.
    """

    def apply_mask(_: nn.Module, given: tuple[torch.Tensor, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "encoder_attention_mask": named.get("attention_mask")}

    return [
        module.register_forward_pre_hook(apply_mask, with_kwargs=True)
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
    """Encode the lesson's questions with clean image tokens, (images, 1 + patches, width).

    The questions of one image are concatenated into one row, masked from each other, so that the keys and values of
    the cross-attention, the costly part, are computed once per image. The numbers equal those of separate rows.

    Args:
        model: the model.
        processor: its processor.
        lesson: the questions.
        image: the image tokens.
        placer: reads the places from the mean over words.
    """
    text = processor.tokenizer([question.text for question in lesson.questions], padding=True, return_tensors="pt")
    images, questions, length = len(image), QUESTIONS_AN_IMAGE, text.input_ids.shape[1]
    owner = torch.arange(questions).repeat_interleave(length)
    visible = (owner[:, None] == owner) & text.attention_mask.view(images, 1, 1, questions * length).bool()
    encoded = model.text_encoder(
        input_ids=text.input_ids.view(images, questions * length),
        position_ids=torch.arange(length).repeat(questions)[None],
        attention_mask=torch.zeros(visible.shape).masked_fill(~visible, -1e9),
        encoder_hidden_states=image,
        output_attentions=True,
        output_hidden_states=True,
    )
    looks = torch.stack(encoded.cross_attentions[POINTING_LAYERS])[..., 1:]
    on_named = torch.einsum(
        "nihjlp,ijp->nhijl",
        looks.view(*looks.shape[:3], questions, length, -1),
        torch.from_numpy(lesson.named).float().view(images, questions, -1),
    )
    missed = -torch.log(on_named.flatten(2, 3) + 1e-3).mean(dim=(0, 1))
    pointing = (missed * text.attention_mask).sum() / text.attention_mask.sum()
    # One layer before the last, the mean over the words must encode every place of a named object, so that the last
    # layer and the decoder have something to count.
    masked = encoded.hidden_states[-2].view(images * questions, length, WIDTH) * text.attention_mask[..., None]
    mean = masked.sum(1) / text.attention_mask.sum(1, keepdim=True)
    placing = binary_cross_entropy_with_logits(placer(mean), torch.from_numpy(lesson.places).float())
    hidden = encoded.last_hidden_state.view(images * questions, length, WIDTH)
    return Encoded(hidden, text.attention_mask, pointing, placing)
