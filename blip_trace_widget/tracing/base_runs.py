"""The clean run and the corrupted runs of one image and question, computed once and shared.

For: everything that patches, cuts or reads. Base runs consist of parts that depend on only some of the inputs: the
question's clean encoding, the answer's clean run, the corrupted encoding. Parts that stay valid for another question,
answer or corruption are shared by both (`BaseRuns.changed`), so that changing the noise neither embeds nor projects the
image again. `blip_trace_widget.tracing.together` computes those of many questions in a few passes where it may.
Cost: one text pass for the clean run, one over all samples for the corrupted runs. Samples are split into groups that
fit the memory budget: a single group is kept; several are each recomputed in every iteration.
Ends: at recorded runs and logits; `blip_trace_widget.tracing.question` scores them.

A `check` is called once per layer during a computation, and may raise `blip_trace_widget.model.block.Cancelled`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.block import Activations
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.tracing.corruption import Corruption
from blip_trace_widget.tracing.delta import checked_delta
from blip_trace_widget.tracing.image import ImageTokens, ImageView
from blip_trace_widget.tracing.lazy import lazy
from blip_trace_widget.tracing.memory_budget import halves, if_there_is_room, in_halves, sample_groups
from blip_trace_widget.tracing.overflow import CLEAN, cause_of, check_embeddings, check_in_range
from blip_trace_widget.tracing.runs import BaseRun, Runner, Text

#: Tokens of the longest greedy answer if the model's generation settings do not say (transformers' default).
ANSWER_TOKENS = 20
#: Answers of corrupted runs longer than the clean answer by this many tokens are cut off.
EXTRA_ANSWER_TOKENS = 4


class CleanEncoding:
    """The clean encoding of a question about an image, and the model's own answer.

    Args:
        image: the image.
        question_ids: the question's token ids.
    """

    def __init__(self, image: ImageTokens, question_ids: list[int]) -> None:
        self.model, self.image, self.question_ids = image.model, image, question_ids

    @lazy
    def activations(self, check: Check) -> Activations:
        """The recorded states of the question encoder."""
        runner = Runner(self.model)
        return runner.encode(runner.embed_question(self.question_ids), self.image.clean(check), 1, check)

    @lazy
    def own_answer_ids(self, check: Check) -> list[int]:
        """Token ids of the model's own greedy answer, end token left out; may be empty."""
        encoded = self.activations(check).output
        check_in_range(encoded, self.model, CLEAN)
        return Runner(self.model).greedy(encoded, longest_answer(self.model), check)[0]


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
        check_in_range(run.logits, self.model, CLEAN)
        return run

    @lazy
    def run_with_states(self, check: Check) -> BaseRun:
        """The clean run with the ViT's states."""
        return dataclasses.replace(self.run(check), image_view=self.encoding.image.clean_with_states(check))


class CorruptedEncoding:
    """A corrupted question about a corrupted image, encoded.

    Args:
        clean: the clean encoding.
        corruption: how it differs from the clean one.
    """

    def __init__(self, clean: CleanEncoding, corruption: Corruption) -> None:
        self.model, self.clean = clean.model, clean
        #: As it was given, and with words of this question turned into their positions.
        self.given, self.corruption = corruption, corruption.located(clean.model.tokens(clean.question_ids))

    @lazy
    def whole(self, check: Check) -> tuple[Activations, ImageView]:
        """The states of all samples, and the image as they see it."""
        return self.of(slice(0, self.corruption.samples), check, with_states=False, keep=True)

    def of(self, part: slice, check: Check, *, with_states: bool, keep: bool) -> tuple[Activations, ImageView]:
        """The states of some samples, and the image as they see it.

        Args:
            part: which samples.
            check: see the module's docstring.
            with_states: whether to record the ViT's states.
            keep: see `ImageTokens.corrupted`.
        """
        image_view = self.clean.image.corrupted(self.corruption, part, check, with_states=with_states, keep=keep)
        question = self.question(part, check)
        return Runner(self.model).encode(question, image_view, part.stop - part.start, check), image_view

    def question(self, part: slice, check: Check = no_check) -> Tensor:
        """What enters the question encoder, (samples of the part or 1, question tokens, width)."""
        ids, corruption = self.clean.question_ids, self.corruption
        asked = corruption.question_ids(ids, self.model)
        question = self.clean.activations(check).inputs if asked == ids else Runner(self.model).embed_question(asked)
        if corruption.at != "question_embeddings":
            return question
        delta = checked_delta(corruption, question[0], self.model, part)
        wide = question.to(torch.promote_types(question.dtype, delta.dtype))
        damaged = torch.add(wide, delta, alpha=corruption.strength).to(question.dtype)
        check_embeddings(damaged, self.model, corruption)
        return damaged


class BaseRuns:
    """The clean and corrupted runs that patched runs are built from and compared with.

    Args:
        image: the image.
        question_ids: the question's token ids.
        given_ids: token ids of the answer to score; None: the model's own greedy answer.
        corruption: how the corrupted run differs from the clean one.

    Attributes:
        clean_answer: the clean run, in its parts.
        corrupted_encoding: the corrupted runs up to the answer decoder.
    """

    def __init__(
        self, image: ImageTokens, question_ids: list[int], given_ids: list[int] | None, corruption: Corruption
    ) -> None:
        encoding = CleanEncoding(image, question_ids)
        self._hold(CleanAnswer(encoding, given_ids), CorruptedEncoding(encoding, corruption))

    def _hold(self, answer: CleanAnswer, corrupted: CorruptedEncoding) -> None:
        self.model, self.clean_answer, self.corrupted_encoding = answer.model, answer, corrupted
        self.encoding = answer.encoding
        self.image, self.question_ids = self.encoding.image, self.encoding.question_ids
        self.corruption = corrupted.given
        #: Most samples of a group, where memory has run out for more.
        self._most = self.corruption.samples

    def changed(
        self, image: ImageTokens, question_ids: list[int], given_ids: list[int] | None, corruption: Corruption
    ) -> BaseRuns:
        """The base runs of other inputs; parts that stay valid are shared."""
        answer, corrupted = self.clean_answer, self.corrupted_encoding
        if image is not self.image or question_ids != self.question_ids:
            return BaseRuns(image, question_ids, given_ids, corruption)
        if given_ids != answer.given_ids:
            answer = CleanAnswer(self.encoding, given_ids)
        if corruption != self.corruption:
            corrupted = CorruptedEncoding(self.encoding, corruption)
        if (answer, corrupted) == (self.clean_answer, self.corrupted_encoding):
            return self
        other = BaseRuns.__new__(BaseRuns)
        other._hold(answer, corrupted)
        return other

    def has_clean_of(self, other: BaseRuns) -> bool:
        """Whether both share the clean run."""
        return self.clean_answer is other.clean_answer

    def answer_ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the scored answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty.
        """
        return self.clean_answer.ids(check)

    def own_answer_ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the model's own greedy answer, end token left out; may be empty."""
        return self.encoding.own_answer_ids(check)

    def clean(self, check: Check = no_check, *, with_states: bool = False) -> BaseRun:
        """The clean run, with the ViT's states if asked for."""
        return self.clean_answer.run_with_states(check) if with_states else self.clean_answer.run(check)

    def corrupted(self, check: Check = no_check, *, with_states: bool = False) -> Iterator[tuple[slice, BaseRun]]:
        """Yield the corrupted runs, one group of samples at a time, with the ViT's states if asked for."""
        kept = self._whole_with_states.known or (None if with_states else self._whole.known)
        if kept is not None:
            yield slice(0, self.corruption.samples), kept
            return
        pending = self._groups(check, with_states=with_states)
        while pending:
            part = pending.pop(0)
            run = self._if_there_is_room(part, check, with_states=with_states)
            if run is None:
                pending[:0] = halves(part)
                continue
            yield part, run
            if part == slice(0, self.corruption.samples):  # kept
                return
            if self.corruption.damages_image:  # else these are the clean run's
                run.image_view.kv.forget()  # free it even if the consumer still refers to the run
            del run

    def _if_there_is_room(self, part: slice, check: Check, *, with_states: bool) -> BaseRun | None:
        """The corrupted runs of some samples, all of them kept; None where memory runs out: then groups are smaller."""

        def compute() -> BaseRun:
            if part != slice(0, self.corruption.samples):
                return self._group(part, check, with_states=with_states, keep=False)
            return self._whole_with_states(check) if with_states else self._whole(check)

        run = if_there_is_room(compute, part.stop - part.start, self.model.device)
        if run is None:
            self._most = (part.stop - part.start + 1) // 2
            self.corrupted_encoding.whole.forget()
        return run

    def keep_corrupted(self, run: BaseRun) -> None:
        """Keep the corrupted runs of all samples, which were computed elsewhere. Call it under the model's lock."""
        self.corrupted_encoding.whole.keep((run.encoder, run.image_view))
        self._whole.keep(run)

    def answers(self, run: BaseRun, longest: int, check: Check = no_check) -> list[list[int]]:
        """Token ids of the greedy answers of some corrupted runs, at most so many tokens of each."""
        if run.answers is not None:
            return [ids[:longest] for ids in run.answers]

        def decoded(some: slice) -> list[list[int]]:
            return Runner(self.model).greedy(run.encoder.output[some], longest, check, first=run.logits[some, 0])

        return [ids for few in in_halves(decoded, run.samples, self.model.device) for ids in few]

    def longest_corrupted_answer(self, check: Check = no_check) -> int:
        """Tokens of a corrupted run's answer beyond which it is cut off."""
        return len(self.answer_ids(check)) + EXTRA_ANSWER_TOKENS

    def prepare_states(self, check: Check = no_check) -> None:
        """Compute the corrupted runs with the ViT's states if they are kept: one pass of the ViT then serves both."""
        (part, *others) = self._groups(check, with_states=True)
        if not others:
            self._if_there_is_room(part, check, with_states=True)

    @lazy
    def _whole(self, check: Check) -> BaseRun:
        """All samples in one group."""
        return self._corrupted(self.corrupted_encoding.whole(check), check)

    @lazy
    def _whole_with_states(self, check: Check) -> BaseRun:
        return self._group(slice(0, self.corruption.samples), check, with_states=True, keep=True)

    def _group(self, part: slice, check: Check, *, with_states: bool, keep: bool) -> BaseRun:
        return self._corrupted(self.corrupted_encoding.of(part, check, with_states=with_states, keep=keep), check)

    def _corrupted(self, encoded: tuple[Activations, ImageView], check: Check) -> BaseRun:
        """A corrupted run from its question encoder on."""
        run = Runner(self.model).base(self.clean_answer.text(check), *encoded, check)
        check_in_range(run.logits, self.model, cause_of(self.corruption), self.clean_answer.run(check).logits[0])
        return run

    def _groups(self, check: Check, *, with_states: bool) -> list[slice]:
        size = self.bytes_per_sample(check, with_states=with_states)
        groups = sample_groups(self.corruption.samples, size, self.model.device, self.model.limits)
        return [few for part in groups for few in _at_most(self._most, part)]

    def bytes_per_sample(self, check: Check = no_check, *, with_states: bool = False) -> int:
        """Bytes of one corrupted run: its noise, the projected noise, and every recorded stage."""
        block, vision = self.model.question_encoder, self.model.image_encoder
        width = self.encoding.activations(check).inputs.shape[-1]
        tokens, vision_width = self.image.clean_tokens(check).shape
        positions = len(self.question_ids) + len(self.answer_ids(check))
        numbers = len(block.stages) * len(block.layers) * positions * width
        if self.corruption.damages_image:
            numbers += 2 * len(block.layers) * tokens * width + 3 * tokens * vision_width
        if with_states:  # the recorded states, and the largest intermediate of one layer
            numbers += (len(vision.stages) * len(vision.layers) + 8) * tokens * vision_width
        return numbers * 4


def _at_most(size: int, part: slice) -> list[slice]:
    """A group as groups of at most so many samples."""
    return [part] if part.stop - part.start <= size else [few for half in halves(part) for few in _at_most(size, half)]


def longest_answer(model: BlipVqa) -> int:
    """Number of tokens of the longest greedy answer."""
    length = getattr(model.hf.text_decoder.generation_config, "max_length", None)
    return length - 1 if length else ANSWER_TOKENS  # max_length counts the start token
