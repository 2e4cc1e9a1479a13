"""The runs of one image and question: complete base runs, and patched runs in chunks.

For: joining the blocks (`blip_trace_widget.model.block`) into runs of the model.
Cost: see `blip_trace_widget.model.block`. Patched runs are split into chunks of at most `memory_budget.CHUNK_ROWS`
rows, which bounds memory and the time between two reports; on an out-of-memory error the chunk is halved and the work
continues.
Ends: at logits; `blip_trace_widget.tracing.metrics` scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.block import Activations, LayerEdit, Patches, as_it_is, words_of
from blip_trace_widget.model.cross_attention import AbsorbedKV, CrossAttentionKV, SwappedKV
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.model.recorder import Recorder, Source
from blip_trace_widget.model.transfer import on_cpu, to_device
from blip_trace_widget.states import BLOCKS, State
from blip_trace_widget.tracing.image import ImageView
from blip_trace_widget.tracing.memory_budget import chunk_rows, chunk_shape, if_there_is_room, in_halves

#: Slices of samples and runs, and their logits, yielded chunk by chunk; all samples of a run before the next runs.
Chunks = Iterator[tuple[slice, slice, Tensor]]
#: Tokens of which it is not asked whether all answers end with them: the start, and a first one.
SHORTEST = 2
NOTHING: Mapping[str, Recorder] = MappingProxyType({})


@dataclass(frozen=True)
class BaseRun:
    """A clean (S = 1) or corrupted run of the whole model, recorded.

    Attributes:
        image_view: the image as this run sees it.
        encoder: states of the question encoder, (S, question tokens, width) per stage and layer.
        decoder: states of the answer decoder, (S, answer positions, width) per stage and layer.
        logits: (S, answer positions, vocabulary), float32.
        answers: token ids of the greedy answer of each sample, without the end token, if they are known; of at least as
            many tokens as are asked for.
    """

    image_view: ImageView
    encoder: Activations
    decoder: Activations
    logits: Tensor
    answers: Sequence[list[int]] | None = None

    @property
    def samples(self) -> int:
        """Number of samples, S."""
        return self.logits.shape[0]

    def block(self, name: str) -> Activations:
        """The recorded states of a block; of the image encoder they are there if they were asked for."""
        if name == "image_encoder":
            assert self.image_view.activations is not None
            return self.image_view.activations
        return self.encoder if name == "question_encoder" else self.decoder

    def part(self, samples: slice) -> BaseRun:
        """Some of the samples; a clean run, which is the same for every sample, is returned unchanged."""
        if self.samples == 1:
            return self
        return BaseRun(
            self.image_view.part(samples), self.encoder.part(samples), self.decoder.part(samples), self.logits[samples]
        )


@dataclass(frozen=True)
class Edits:
    """What each of many runs takes from elsewhere.

    Attributes:
        patched: the states that each run takes from the source.
        held: the states that each run keeps as they are in the base run, in parts, as runs hold mostly the same: parts
            that runs share are one sequence; empty: none. A state that is patched is not held.
    """

    patched: Sequence[Sequence[State]]
    held: Sequence[Sequence[Sequence[State]]] = ()

    def __len__(self) -> int:
        return len(self.patched)

    def part(self, runs: slice) -> Edits:
        """Some of the runs."""
        return Edits(self.patched[runs], self.held[runs])

    def only(self, which: NDArray[np.bool_]) -> Edits:
        """Some of the runs, (runs,) bool."""
        some = np.flatnonzero(which).tolist()
        return Edits([self.patched[at] for at in some], [self.held[at] for at in some] if self.held else ())

    def of(self, block: str) -> Edits:
        """Those of one block; runs that share parts of held states still do."""
        parts = {id(part): part for held in self.held for part in held}
        own = {key: [state for state in part if state.block == block] for key, part in parts.items()}
        patched = [[state for state in states if state.block == block] for states in self.patched]
        return Edits(patched, [[few for part in held if (few := own[id(part)])] for held in self.held])

    def reach(self, block: str) -> bool:
        """Whether any run takes a state of a block from elsewhere."""
        return any(state.block == block for states in self.patched for state in states)


@dataclass(frozen=True)
class Text:
    """A question and the decoder's input, as embeddings.

    Attributes:
        question: (1, question tokens, width).
        decoder_input: the start token and the answer's tokens but the last, (1, answer positions, width).
    """

    question: Tensor
    decoder_input: Tensor


@dataclass(frozen=True)
class Runner:
    """Runs one model.

    Attributes:
        model: the model.
        chunk_rows: rows of a chunk; None: what the device suggests.
    """

    model: BlipVqa

    def embed_question(self, question: Sequence[int]) -> Tensor:
        """A question's embeddings, (1, question tokens, width)."""
        return self.embed_questions([question])

    def embed_questions(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Embeddings of questions of equal length, (questions, question tokens, width)."""
        return self._embed("question_encoder", questions)

    def embed_answer(self, answer: Sequence[int]) -> Tensor:
        """The decoder's input for scoring an answer, (1, answer tokens, width)."""
        return self._embed("answer_decoder", [[self.model.start_id, *answer[:-1]]])

    def _embed(self, block: str, ids: Sequence[Sequence[int]]) -> Tensor:
        tokens = to_device(torch.tensor(ids), self.model.device)
        return self.model.blocks[block].apply(words_of(self.model.embeddings(block)), tokens)

    def encode(self, question: Tensor, image_view: ImageView, samples: int, check: Check = no_check) -> Activations:
        """Run the question encoder."""
        return self.model.question_encoder.record(question.expand(samples, -1, -1), image_view.kv, check)

    def decode(self, decoder_input: Tensor, encoded: Tensor, check: Check = no_check) -> Activations:
        """Run the answer decoder on an encoded question, (S, question tokens, width)."""
        block = self.model.answer_decoder
        kv = AbsorbedKV(block.layers, encoded[:, None])
        return block.record(decoder_input.expand(encoded.shape[0], -1, -1), kv, check)

    def logits(self, states: Tensor) -> Tensor:
        """Logits, float32, of the decoder's output: (..., positions, width) -> (..., positions, vocabulary)."""
        scores = self.model.answer_decoder.apply(self.model.hf.text_decoder.cls, states.flatten(0, -3))
        return scores.view(*states.shape[:-1], -1).float()

    def _last_logits(self, states: Tensor) -> Tensor:
        """Logits at the last position, (S, positions, width) -> (S, vocabulary)."""
        whole = self.model.answer_decoder.one_by_one
        return self.logits(states if whole else states[:, -1:])[:, -1]

    def base(self, text: Text, encoder: Activations, image_view: ImageView, check: Check = no_check) -> BaseRun:
        """Complete a clean or corrupted run from its question encoder's states."""
        decoder = self.decode(text.decoder_input, encoder.output, check)
        return BaseRun(image_view, encoder, decoder, self.logits(decoder.output))

    def greedy(
        self,
        encoded: Tensor,
        longest: int,
        check: Check = no_check,
        first: Tensor | None = None,
        edit: LayerEdit = as_it_is,
    ) -> list[list[int]]:
        """Greedy answers, one list of token ids per sample, without the end token.

        Args:
            encoded: the question encoder's output, (S, question tokens, width).
            longest: at most so many tokens.
            check: called once a layer; may raise `blip_trace_widget.model.block.Cancelled`.
            first: logits of the first token where they are known already, (S, vocabulary).
            edit: of the decoder's states, see `Block.run`.
        """
        embeddings = words_of(self.model.embeddings("answer_decoder"))
        block = self.model.answer_decoder
        kv = AbsorbedKV(block.layers, encoded[:, None])
        end = self.model.end_id
        chosen = torch.full((encoded.shape[0], 1), self.model.start_id, device=encoded.device)
        ended = torch.zeros(encoded.shape[0], dtype=torch.bool, device=encoded.device)
        answers: list[list[int]] = [[] for _ in range(len(encoded))]
        # Looking at them waits for the device: not before there can be an answer that ends.
        while chosen.shape[1] <= longest and not all(end in ids for ids in answers):
            if first is None or chosen.shape[1] > 1:
                logits = self._last_logits(block.run(block.apply(embeddings, chosen), kv, check, edit))
            else:
                logits = first
            words = logits.argmax(-1)
            ended |= words == end
            chosen = torch.cat([chosen, words.masked_fill(ended, end)[:, None]], 1)
            if chosen.shape[1] > SHORTEST or chosen.shape[1] > longest:
                answers = chosen[:, 1:].tolist()
        return [row[: row.index(end)] if end in row else row for row in answers]

    def patched(self, base: BaseRun, source: BaseRun, edits: Edits, check: Check) -> Chunks:
        """Yield patched runs, chunk by chunk.

        Args:
            base: the run that they equal where nothing is patched.
            source: the run that the patched states come from.
            edits: the states that each run patches and holds.
            check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.

        Yields:
            slices of samples and runs, and their logits (S, C, answer positions, vocabulary).
        """

        def work(base: BaseRun, source: BaseRun, part: slice, samples: int) -> Tensor:
            return self._logits(base, source.block, edits.part(part), samples, check)

        return self._in_chunks(base, source, len(edits), self._positions(base, edits), work)

    def swapped(self, base: BaseRun, source: BaseRun, groups: Sequence[Sequence[int]], check: Check) -> Chunks:
        """Yield runs that see some image tokens of another run, chunk by chunk.

        Args:
            base: the run whose other image tokens they see.
            source: the run that the swapped image tokens come from.
            groups: the image tokens that each run takes.
            check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.

        Yields:
            slices of samples and runs, and their logits (S, C, answer positions, vocabulary).
        """
        layers = self.model.question_encoder.layers

        def work(base: BaseRun, source: BaseRun, part: slice, samples: int) -> Tensor:
            kv = SwappedKV(layers, base.image_view.kv, source.image_view.kv, groups[part])
            return self._logits(base, source.block, Edits([()] * len(groups[part])), samples, check, kv)

        return self._in_chunks(base, source, len(groups), base.encoder.inputs.shape[1], work)

    def paths(
        self,
        base: BaseRun,
        source: BaseRun,
        edits: Edits,
        taken: Edits,
        check: Check,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> Chunks:
        """Yield runs that take the values of some states from patched ones, and nothing else, chunk by chunk.

        Args:
            base: the run that both kinds equal elsewhere.
            source: the run that the patched states come from.
            edits: the states that each patched run patches and holds.
            taken: the states that each run takes from the patched run of the same number: what that computes before
                any is held or patched there.
            check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.
            groups: the image tokens that each patched run takes from the source; None: none.

        Yields:
            slices of samples and runs, and their logits (S, C, answer positions, vocabulary).
        """
        layers = self.model.question_encoder.layers

        def work(base: BaseRun, source: BaseRun, part: slice, samples: int) -> Tensor:
            size, device = part.stop - part.start, base.logits.device
            kept = {
                name: Recorder(
                    {state for states in own.patched for state in states}, base.block(name), device, samples, size
                )
                for name in BLOCKS
                if (own := taken.part(part).of(name)).reach(name)
            }
            swapped = groups and SwappedKV(layers, base.image_view.kv, source.image_view.kv, groups[part])
            self._run(base, source.block, edits.part(part), samples, check, swapped or None, kept)
            return self._logits(base, lambda name: kept.get(name, base.block(name)), taken.part(part), samples, check)

        positions = max(self._positions(base, edits), self._positions(base, taken))
        return self._in_chunks(base, source, len(edits), positions, work)

    @staticmethod
    def _positions(base: BaseRun, edits: Edits) -> int:
        """The most positions that a run has in any block that is computed."""
        text = max(base.encoder.inputs.shape[1], base.decoder.inputs.shape[1])
        return max(text, base.block("image_encoder").inputs.shape[1]) if edits.reach("image_encoder") else text

    def _in_chunks(
        self,
        base: BaseRun,
        source: BaseRun,
        count: int,
        positions: int,
        work: Callable[[BaseRun, BaseRun, slice, int], Tensor],
    ) -> Chunks:
        """Do `count` runs of `positions` positions, as many at once as memory allows.

        All samples of a chunk of runs are done before the next chunk begins.
        """
        if not count:
            return

        def chunk(some: slice, which: slice) -> Tensor:
            return work(base.part(some), source.part(some), which, some.stop - some.start)

        samples = max(base.samples, source.samples)
        limits = self.model.limits
        rows = chunk_rows(self.model.device, base.encoder.inputs.shape[-1], limits)
        together, size = chunk_shape(samples, count, positions, rows, limits.rows_per_sample)
        start = 0
        while start < count:
            part = slice(start, min(start + size, count))
            pending = [(some, part) for some in _pieces(slice(0, samples), together)]
            while pending:
                some, which = pending.pop(0)
                runs_of_samples = (some.stop - some.start) * (which.stop - which.start)
                logits = if_there_is_room(partial(chunk, some, which), runs_of_samples, self.model.device)
                if logits is not None:
                    yield some, which, logits
                    del logits  # free them before the next are computed
                    continue
                if some.stop - some.start > 1:
                    together = (some.stop - some.start) // 2
                    pending[:0] = [(few, which) for few in _pieces(some, together)]
                else:
                    size = (which.stop - which.start) // 2
                    pending[:0] = [(some, few) for few in _pieces(which, size)]
            start = part.stop

    def _logits(
        self,
        base: BaseRun,
        source: Callable[[str], Source],
        edits: Edits,
        samples: int,
        check: Check,
        kv: CrossAttentionKV | None = None,
    ) -> Tensor:
        """Logits of patched runs, (S, C, answer positions, vocabulary)."""
        return self.logits(self._run(base, source, edits, samples, check, kv))

    def _run(
        self,
        base: BaseRun,
        source: Callable[[str], Source],
        edits: Edits,
        samples: int,
        check: Check,
        kv: CrossAttentionKV | None = None,
        kept: Mapping[str, Recorder] = NOTHING,
    ) -> Tensor:
        """Run the blocks in order; after the first block that any run patches, all runs differ from the base.

        Args:
            base: the run that they equal where nothing is patched.
            source: for a block, what its patched states come from.
            edits: the states that each run patches and holds.
            samples: S.
            check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.
            kv: the image as the runs see it, if not as the base run does.
            kept: block -> what is to be kept of it, if that is all that is wanted.

        Returns:
            what the answer decoder puts out, (S, C, answer positions, width); of no meaning if `kept`.
        """
        last = max(kept, key=list(BLOCKS).index, default="")

        def block(name: str, kv: CrossAttentionKV | None, *, diverged: bool) -> Tensor:
            own, states = edits.of(name), base.block(name)
            recorder, short = kept.get(name), name == last
            patches = Patches(states, source(name), own.patched, samples, diverged, own.held, recorder, short)
            return self.model.blocks[name].resume(patches, kv, check)

        diverged = kv is not None
        seen: CrossAttentionKV = base.image_view.kv if kv is None else kv
        if edits.reach("image_encoder"):
            output = block("image_encoder", None, diverged=False)
            if last == "image_encoder":
                return output
            tokens = self.model.image_encoder.tokens(output)
            seen, diverged = AbsorbedKV(self.model.question_encoder.layers, tokens), True
        encoded = base.encoder.output[:, None]
        if diverged or edits.reach("question_encoder"):
            encoded, diverged = block("question_encoder", seen, diverged=diverged), True
            if last == "question_encoder":
                return encoded
        return block("answer_decoder", AbsorbedKV(self.model.answer_decoder.layers, encoded), diverged=diverged)


def _pieces(whole: slice, size: int) -> list[slice]:
    """A slice split into slices of at most `size`."""
    return [slice(at, min(at + size, whole.stop)) for at in range(whole.start, whole.stop, size)]


def distribution_sum(logits: Tensor) -> NDArray[np.float64]:
    """Distributions at the first answer position, summed over samples, (S, positions, vocabulary) -> (vocabulary,)."""

    def of(some: slice) -> NDArray[np.float64]:
        return np.asarray(on_cpu(logits[some, 0].softmax(-1)).sum(0))

    return np.asarray(sum(in_halves(of, len(logits), logits.device)))
