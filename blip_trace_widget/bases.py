"""The clean run and the corrupted runs of one image and question, computed once and shared.

For: everything that patches, cuts or reads. `BaseRuns.hand_over` gives on what another question, answer or corruption
leaves valid, so that moving the noise neither embeds the image again nor projects it. `clean_together` computes the
clean runs of many questions in a few passes.
Cost: one text pass for the clean run, one over all samples for the corrupted runs. Samples are cut into groups that
fit the memory budget: a single group is kept, of several each is computed anew whenever it is gone through.
Ends: at recorded runs and logits; scores are `blip_trace_widget.tracer`'s.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch

from blip_trace_widget.budget import CLEAN_SHARE, sample_groups
from blip_trace_widget.calls import Check, Computing, computed, kept_of, no_check
from blip_trace_widget.corruption import Corruption
from blip_trace_widget.forward import Activations
from blip_trace_widget.image_tokens import ImageTokens, Sight
from blip_trace_widget.model import BlipVqa
from blip_trace_widget.runs import BaseRun, Runner, Text

#: Longest greedy answer where the model's generation settings name none (transformers' default).
ANSWER_TOKENS = 20


class BaseRuns:
    """The runs that patched runs are made from and held against.

    Args:
        image: the image.
        question_ids: the question's token ids.
        given_ids: token ids of the answer to score; None: the model's own greedy answer.
        corruption: what tells the corrupted run from the clean one.
    """

    def __init__(
        self, image: ImageTokens, question_ids: list[int], given_ids: list[int] | None, corruption: Corruption
    ) -> None:
        self.model, self.image = image.model, image
        self.question_ids, self.given_ids, self.corruption = question_ids, given_ids, corruption
        #: Called once a layer while anything here is computed; may raise `Cancelled`.
        self.check: Check = no_check
        self._runner = Runner(self.model)

    def hand_over(self, other: BaseRuns) -> None:
        """Give other base runs what is computed here and holds for them too."""
        if other.image is not self.image or other.question_ids != self.question_ids:
            return
        same_answer = other.given_ids == self.given_ids
        same_corruption = other.corruption == self.corruption
        names = ["_clean_encoder", "own_answer_ids"]
        names += ["answer_ids", "text", "clean", "_clean_with_states"] if same_answer else []
        names += ["_corrupted_encoder"] if same_corruption else []
        names += ["_corrupted", "_corrupted_with_states"] if same_answer and same_corruption else []
        kept = kept_of(self)
        kept_of(other).update({name: kept[name] for name in names if name in kept})

    @computed
    def answer_ids(self) -> list[int]:
        """Token ids of the scored answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty.
        """
        if self.given_ids is not None:
            return self.given_ids
        if not self.own_answer_ids:
            raise ValueError("answer: the model's own answer to this question is empty; give one")
        return self.own_answer_ids

    @computed
    def own_answer_ids(self) -> list[int]:
        """Token ids of the model's own greedy answer, end token left out; may be empty."""
        longest = _longest_answer(self.model)
        return self._runner.greedy(self._clean_encoder.output, longest, self.check)[0]

    @computed
    def text(self) -> Text:
        """The question and the decoder's input, as embeddings."""
        return Text(self._clean_encoder.inputs, self._runner.embed_answer(self.answer_ids))

    @computed
    def clean(self) -> BaseRun:
        """The clean run."""
        return self._runner.base(self.text, self._clean_encoder, self.image.clean, self.check)

    def clean_for(self, *, with_states: bool) -> BaseRun:
        """The clean run, with the ViT's states where asked."""
        return self._clean_with_states if with_states else self.clean

    def corrupted(self, *, with_states: bool = False) -> Iterator[tuple[slice, BaseRun]]:
        """The corrupted runs, a group of samples after another, with the ViT's states where asked."""
        kept = kept_of(self).get("_corrupted_with_states")
        kept = kept or (None if with_states else kept_of(self).get("_corrupted"))
        if kept is not None:
            yield slice(0, self.corruption.samples), kept
            return
        groups = self._groups(with_states=with_states)
        if len(groups) == 1:
            yield groups[0], self._corrupted_with_states if with_states else self._corrupted
            return
        for part in groups:
            run = self._group(part, with_states=with_states, keep=False)
            yield part, run
            run.sight.memory.forget()  # whoever still holds the run while the next is made
            del run

    def prepare_states(self) -> None:
        """Compute the corrupted runs with the ViT's states, where they are kept: the ViT's pass then serves both."""
        if len(self._groups(with_states=True)) == 1:
            _ = self._corrupted_with_states

    def _groups(self, *, with_states: bool) -> list[slice]:
        return sample_groups(self.corruption.samples, self._bytes_a_sample(with_states), self.model.device)

    @computed
    def _clean_encoder(self) -> Activations:
        question = self._runner.embed_question(self.question_ids)
        return self._runner.encode(question, self.image.clean, 1, self.check)

    @computed
    def _clean_with_states(self) -> BaseRun:
        return dataclasses.replace(self.clean, sight=self.image.clean_with_states)

    @computed
    def _corrupted_encoder(self) -> tuple[Activations, Sight]:
        return self._encode(slice(0, self.corruption.samples), with_states=False, keep=True)

    @computed
    def _corrupted(self) -> BaseRun:
        return self._runner.base(self.text, *self._corrupted_encoder, self.check)

    @computed
    def _corrupted_with_states(self) -> BaseRun:
        return self._group(slice(0, self.corruption.samples), with_states=True, keep=True)

    def _group(self, part: slice, *, with_states: bool, keep: bool) -> BaseRun:
        return self._runner.base(self.text, *self._encode(part, with_states=with_states, keep=keep), self.check)

    def _encode(self, part: slice, *, with_states: bool, keep: bool) -> tuple[Activations, Sight]:
        sight = self.image.corrupted(self.corruption, part, self.check, with_states=with_states, keep=keep)
        question = self.text.question
        ids = self.corruption.question_ids(self.question_ids, self.model)
        if ids != self.question_ids:
            question = self._runner.embed_question(ids)
        return self._runner.encode(question, sight, part.stop - part.start, self.check), sight

    def _bytes_a_sample(self, with_states: bool) -> int:
        """What one corrupted run holds: its noise, the projections of that, and every recorded stage."""
        block, vision = self.model.question_encoder, self.model.image_encoder
        width = self._clean_encoder.inputs.shape[-1]
        tokens, vision_width = self.image.clean_tokens.shape
        positions = len(self.question_ids) + len(self.answer_ids)
        numbers = len(block.stages) * len(block.layers) * positions * width
        if self.corruption.damages_image:
            numbers += 2 * len(block.layers) * tokens * width + 3 * tokens * vision_width
        if with_states:  # recorded, and the widest step of one layer
            numbers += (len(vision.stages) * len(vision.layers) + 8) * tokens * vision_width
        return numbers * 4


def clean_together(every: Iterable[BaseRuns]) -> Iterator[list[int]]:
    """Compute the clean runs of several questions of one model: of those of equal length in one pass.

    Done group by group, so that what is projected of the images stays within `budget.CLEAN_SHARE`.

    Yields:
        which of them are computed now. Nothing here holds on to them: whoever does should let go before the next group.
    """
    waiting: list[BaseRuns | None] = list(every)
    for places in _alike(cast("list[BaseRuns]", waiting)):
        for part in _groups_of_images(waiting[places[0]], len(places)):
            group = [waiting[at] for at in places[part]]
            for at in places[part]:
                waiting[at] = None
            with Computing(cast("BaseRuns", group[0]).model):
                _encode_together(cast("list[BaseRuns]", group))
            del group
            yield places[part]


def _alike(every: Sequence[BaseRuns]) -> list[list[int]]:
    """Which of them have questions of one length, about one picture or about as many as they are."""
    often = Counter(runs.image for runs in every)
    kinds: dict[tuple[int, int], list[int]] = {}
    for at, runs in enumerate(every):
        shared = id(runs.image) if often[runs.image] > 1 else 0
        kinds.setdefault((shared, len(runs.question_ids)), []).append(at)
    return list(kinds.values())


def _encode_together(group: Sequence[BaseRuns]) -> None:
    """The clean question encoders, the model's own answers, and the clean decoders of answers of equal length."""
    runner = group[0]._runner
    ImageTokens.embed_together([runs.image for runs in group])
    memory = ImageTokens.see_together([runs.image for runs in group])
    questions = runner.embed_questions([runs.question_ids for runs in group])
    encoded = runner.encode(questions, Sight(memory), len(group))
    answers = runner.greedy(encoded.output, _longest_answer(group[0].model))
    by_length: dict[int, list[int]] = {}
    for at, (runs, own) in enumerate(zip(group, answers, strict=True)):
        encoder = encoded.part(slice(at, at + 1))
        kept_of(runs).update(_clean_encoder=encoder, own_answer_ids=own)
        if runs.given_ids is not None or own:
            by_length.setdefault(len(runs.answer_ids), []).append(at)
    for places in by_length.values():
        inputs = torch.cat([group[at].text.decoder_input for at in places])
        decoder = runner.decode(inputs, encoded.output[places])
        logits = runner.logits(decoder.output)
        for row, at in enumerate(places):
            part, runs = slice(row, row + 1), group[at]
            kept_of(runs)["clean"] = BaseRun(runs.image.clean, runs._clean_encoder, decoder.part(part), logits[part])


def _longest_answer(model: BlipVqa) -> int:
    """Tokens of the longest greedy answer."""
    length = getattr(model.hf.text_decoder.generation_config, "max_length", None)
    return length - 1 if length else ANSWER_TOKENS  # max_length counts the start token


def _groups_of_images(first: BaseRuns | None, count: int) -> list[slice]:
    """So many clean runs like the first in groups, by what each holds: its image's projections and recorded stages."""
    assert first is not None
    block, model = first.model.question_encoder, first.model
    width = int(model.hf.config.text_config.hidden_size)
    tokens = 2 * model.image_token_count + len(block.stages) * (len(first.question_ids) + 1)
    return sample_groups(count, 4 * len(block.layers) * tokens * width, model.device, CLEAN_SHARE)
