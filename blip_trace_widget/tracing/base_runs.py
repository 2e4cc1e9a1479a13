"""The clean run and the corrupted runs of one image and question, computed once and shared.

For: everything that patches, cuts or reads. Base runs are made of parts, each of which depends on less than the whole:
the question's clean encoding, the answer's clean run, the corrupted encoding. What another question, answer or
corruption leaves valid is held by both (`BaseRuns.changed`), so that moving the noise neither embeds the image again
nor projects it. `clean_together` computes the clean runs of many questions in a few passes.
Cost: one text pass for the clean run, one over all samples for the corrupted runs. Samples are cut into groups that
fit the memory budget: a single group is kept, of several each is computed anew whenever it is gone through.
Ends: at recorded runs and logits; scores are `blip_trace_widget.tracing.question`'s.

A `check` is called once a layer while something is computed, and may raise `blip_trace_widget.model.block.Cancelled`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.block import Activations
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.image import ImageTokens, ImageView
from blip_trace_widget.tracing.lazy import lazy
from blip_trace_widget.tracing.memory_budget import CLEAN_SHARE, sample_groups
from blip_trace_widget.tracing.overflow import check_embeddings, check_in_range
from blip_trace_widget.tracing.runs import BaseRun, Runner, Text

#: Longest greedy answer where the model's generation settings name none (transformers' default).
ANSWER_TOKENS = 20


class CleanEncoding:
    """A question about an image, encoded, and the model's own answer.

    Args:
        image: the image.
        question_ids: the question's token ids.
    """

    def __init__(self, image: ImageTokens, question_ids: list[int]) -> None:
        self.model, self.image, self.question_ids = image.model, image, question_ids

    @lazy
    def activations(self, check: Check) -> Activations:
        """The clean question encoder."""
        runner = Runner(self.model)
        return runner.encode(runner.embed_question(self.question_ids), self.image.clean(check), 1, check)

    @lazy
    def own_answer_ids(self, check: Check) -> list[int]:
        """Token ids of the model's own greedy answer, end token left out; may be empty."""
        encoded = self.activations(check).output
        check_in_range(encoded, self.model)
        return Runner(self.model).greedy(encoded, _longest_answer(self.model), check)[0]


class CleanAnswer:
    """The clean run up to the logits of one answer.

    Args:
        encoding: the question, encoded.
        given_ids: token ids of the answer to score; None: the model's own greedy answer.
    """

    def __init__(self, encoding: CleanEncoding, given_ids: list[int] | None) -> None:
        self.model, self.encoding, self.given_ids = encoding.model, encoding, given_ids

    def ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the scored answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty.
        """
        ids = self.encoding.own_answer_ids(check) if self.given_ids is None else self.given_ids
        if not ids:
            raise ValueError("answer: the model's own answer to this question is empty; give one")
        return ids

    @lazy
    def text(self, check: Check) -> Text:
        """The question and the decoder's input, as embeddings."""
        return Text(self.encoding.activations(check).inputs, Runner(self.model).embed_answer(self.ids(check)))

    @lazy
    def run(self, check: Check) -> BaseRun:
        """The clean run."""
        encoder = self.encoding.activations(check)
        run = Runner(self.model).base(self.text(check), encoder, self.encoding.image.clean(check), check)
        check_in_range(run.logits, self.model)
        return run

    @lazy
    def run_with_states(self, check: Check) -> BaseRun:
        """The same with the ViT's states."""
        return dataclasses.replace(self.run(check), image_view=self.encoding.image.clean_with_states(check))


class CorruptedEncoding:
    """A corrupted question about a corrupted image, encoded.

    Args:
        clean: the clean one.
        corruption: what tells it from the clean one.
    """

    def __init__(self, clean: CleanEncoding, corruption: Corruption) -> None:
        self.model, self.clean = clean.model, clean
        #: As it was given, and with words of this question turned into their positions.
        self.given, self.corruption = corruption, corruption.located(clean.model.tokens(clean.question_ids))

    @lazy
    def whole(self, check: Check) -> tuple[Activations, ImageView]:
        """All samples, and what they see."""
        return self.of(slice(0, self.corruption.samples), check, with_states=False, keep=True)

    def of(self, part: slice, check: Check, *, with_states: bool, keep: bool) -> tuple[Activations, ImageView]:
        """Some samples, and what they see.

        Args:
            part: which.
            check: see the module's head.
            with_states: with the ViT's states.
            keep: see `ImageTokens.corrupted`.
        """
        image_view = self.clean.image.corrupted(self.corruption, part, check, with_states=with_states, keep=keep)
        question = self._question(part, check)
        return Runner(self.model).encode(question, image_view, part.stop - part.start, check), image_view

    def _question(self, part: slice, check: Check) -> Tensor:
        """What enters the question encoder, (samples of the part or 1, question tokens, width)."""
        ids, corruption = self.clean.question_ids, self.corruption
        asked = corruption.question_ids(ids, self.model)
        question = self.clean.activations(check).inputs if asked == ids else Runner(self.model).embed_question(asked)
        if corruption.at != "question_embeddings":
            return question
        delta = corruption.delta(question[0], self.model, part)
        wide = question.to(torch.promote_types(question.dtype, delta.dtype))
        damaged = torch.add(wide, delta, alpha=corruption.strength).to(question.dtype)
        check_embeddings(damaged, self.model, corruption)
        return damaged


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
        encoding = CleanEncoding(image, question_ids)
        self._hold(CleanAnswer(encoding, given_ids), CorruptedEncoding(encoding, corruption))

    def _hold(self, answer: CleanAnswer, corrupted: CorruptedEncoding) -> None:
        self.model, self._answer, self._corrupted_encoding = answer.model, answer, corrupted
        self._encoding = answer.encoding
        self.image, self.question_ids = self._encoding.image, self._encoding.question_ids
        self.corruption = corrupted.given

    def changed(
        self, image: ImageTokens, question_ids: list[int], given_ids: list[int] | None, corruption: Corruption
    ) -> BaseRuns:
        """The base runs of other inputs; the parts that hold for them too are shared."""
        answer, corrupted = self._answer, self._corrupted_encoding
        if image is not self.image or question_ids != self.question_ids:
            return BaseRuns(image, question_ids, given_ids, corruption)
        if given_ids != answer.given_ids:
            answer = CleanAnswer(self._encoding, given_ids)
        if corruption != self.corruption:
            corrupted = CorruptedEncoding(self._encoding, corruption)
        if (answer, corrupted) == (self._answer, self._corrupted_encoding):
            return self
        other = BaseRuns.__new__(BaseRuns)
        other._hold(answer, corrupted)
        return other

    def has_clean_of(self, other: BaseRuns) -> bool:
        """Whether the clean run is one and the same."""
        return self._answer is other._answer

    def answer_ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the scored answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty.
        """
        return self._answer.ids(check)

    def own_answer_ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the model's own greedy answer, end token left out; may be empty."""
        return self._encoding.own_answer_ids(check)

    def clean(self, check: Check = no_check, *, with_states: bool = False) -> BaseRun:
        """The clean run, with the ViT's states where asked."""
        return self._answer.run_with_states(check) if with_states else self._answer.run(check)

    def corrupted(self, check: Check = no_check, *, with_states: bool = False) -> Iterator[tuple[slice, BaseRun]]:
        """The corrupted runs, a group of samples after another, with the ViT's states where asked."""
        kept = self._whole_with_states.known or (None if with_states else self._whole.known)
        if kept is not None:
            yield slice(0, self.corruption.samples), kept
            return
        groups = self._groups(check, with_states=with_states)
        if len(groups) == 1:
            yield groups[0], self._whole_with_states(check) if with_states else self._whole(check)
            return
        for part in groups:
            run = self._group(part, check, with_states=with_states, keep=False)
            yield part, run
            if self.corruption.damages_image:  # else these are the clean run's
                run.image_view.kv.forget()  # whoever still holds the run while the next is made
            del run

    def prepare_states(self, check: Check = no_check) -> None:
        """Compute the corrupted runs with the ViT's states, where they are kept: the ViT's pass then serves both."""
        if len(self._groups(check, with_states=True)) == 1:
            self._whole_with_states(check)

    @lazy
    def _whole(self, check: Check) -> BaseRun:
        """All samples in one group."""
        return self._corrupted(self._corrupted_encoding.whole(check), check)

    @lazy
    def _whole_with_states(self, check: Check) -> BaseRun:
        return self._group(slice(0, self.corruption.samples), check, with_states=True, keep=True)

    def _group(self, part: slice, check: Check, *, with_states: bool, keep: bool) -> BaseRun:
        return self._corrupted(self._corrupted_encoding.of(part, check, with_states=with_states, keep=keep), check)

    def _corrupted(self, encoded: tuple[Activations, ImageView], check: Check) -> BaseRun:
        """A corrupted run from its question encoder on."""
        run = Runner(self.model).base(self._answer.text(check), *encoded, check)
        check_in_range(run.logits, self.model, self.corruption, self._answer.run(check).logits[0])
        return run

    def _groups(self, check: Check, *, with_states: bool) -> list[slice]:
        size = self._bytes_a_sample(check, with_states=with_states)
        return sample_groups(self.corruption.samples, size, self.model.device)

    def _bytes_a_sample(self, check: Check, *, with_states: bool) -> int:
        """What one corrupted run holds: its noise, the projections of that, and every recorded stage."""
        block, vision = self.model.question_encoder, self.model.image_encoder
        width = self._encoding.activations(check).inputs.shape[-1]
        tokens, vision_width = self.image.clean_tokens(check).shape
        positions = len(self.question_ids) + len(self.answer_ids(check))
        numbers = len(block.stages) * len(block.layers) * positions * width
        if self.corruption.damages_image:
            numbers += 2 * len(block.layers) * tokens * width + 3 * tokens * vision_width
        if with_states:  # recorded, and the widest step of one layer
            numbers += (len(vision.stages) * len(vision.layers) + 8) * tokens * vision_width
        return numbers * 4


def clean_together(every: Iterable[BaseRuns]) -> Iterator[list[int]]:
    """Compute the clean runs of several questions of one model: of those of equal length in one pass.

    Done group by group, so that what is projected of the images stays within `memory_budget.CLEAN_SHARE`.

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
                _run_together(cast("list[BaseRuns]", group))
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


def _run_together(group: Sequence[BaseRuns]) -> None:
    """The clean question encoders, the model's own answers, and the clean decoders of answers of equal length."""
    model = group[0].model
    runner = Runner(model)
    ImageTokens.embed_together([runs.image for runs in group])
    kv = ImageTokens.see_together([runs.image for runs in group])
    questions = runner.embed_questions([runs.question_ids for runs in group])
    encoded = runner.encode(questions, ImageView(kv), len(group))
    own_answers = runner.greedy(encoded.output, _longest_answer(model))
    answers = [runs._answer for runs in group]
    by_length: dict[int, list[int]] = {}
    for at, (answer, own) in enumerate(zip(answers, own_answers, strict=True)):
        answer.encoding.activations.keep(encoded.part(slice(at, at + 1)))
        answer.encoding.own_answer_ids.keep(own)
        if answer.given_ids is not None or own:
            by_length.setdefault(len(answer.ids()), []).append(at)
    for places in by_length.values():
        inputs = torch.cat([answers[at].text().decoder_input for at in places])
        decoder = runner.decode(inputs, encoded.output[places])
        logits = runner.logits(decoder.output)
        check_in_range(logits, model)
        for row, at in enumerate(places):
            part, encoding = slice(row, row + 1), answers[at].encoding
            run = BaseRun(encoding.image.clean(), encoding.activations(), decoder.part(part), logits[part])
            answers[at].run.keep(run)


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
