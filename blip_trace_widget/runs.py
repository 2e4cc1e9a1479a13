"""The runs of one image and question: base runs whole, patched runs in chunks.

For: joining the two text blocks (`blip_trace_widget.forward`) into runs of the model. It holds what can be shared: the
image tokens and their projections for every question and noise factor, the clean run for every corruption.
Cost: see `blip_trace_widget.forward`. Patched runs are cut into chunks of at most `CHUNK_ROWS` rows, which bounds
memory and the time between two reports; on an out-of-memory error the chunk is halved and the work goes on.
Ends: at logits. What they mean is `blip_trace_widget.metrics`' and `blip_trace_widget.tracer`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from blip_trace_widget.calls import Check, computed, no_check
from blip_trace_widget.corruption import Corruption
from blip_trace_widget.forward import Activations, ImageMemory, Projections, QuestionMemory
from blip_trace_widget.model import BlipVqa
from blip_trace_widget.sites import State

#: Rows (samples x runs x positions) through a layer at once: enough for full speed, little enough to report often.
CHUNK_ROWS = {"cpu": 1024, "cuda": 16384}
#: Keys and values of noise are kept for all layers while they take less than this; beyond, they are projected anew.
KEPT_BYTES = 640 * 2**20
#: Answers of corrupted runs are read this many tokens beyond the clean answer's length, then cut off with an ellipsis.
EXTRA_ANSWER_TOKENS = 4


class ImageTokens:
    """One image as the question encoder can see it: clean, and under corruptions.

    Args:
        model: the model.
        image: the picture, RGB; embedded once, at the first use.
    """

    def __init__(self, model: BlipVqa, image: Image.Image) -> None:
        self.model = model
        self.image = image
        self._layers = model.question_encoder.layers
        self._noise: tuple[Corruption, Projections] | None = None

    @computed
    def clean_tokens(self) -> Tensor:
        """(image tokens, width)."""
        return self.model.embed_image(self.image)

    @computed
    def _clean(self) -> Projections:
        return Projections(self._layers, self.clean_tokens[None], bias=True)

    def clean(self) -> ImageMemory:
        """What the clean run sees."""
        return ImageMemory(self._layers, self._clean)

    def corrupted(self, corruption: Corruption) -> ImageMemory:
        """What the corrupted runs see. The projected noise of the latest kind is kept, whatever its strength."""
        unit = corruption.unit()
        if self._noise is None or self._noise[0] != unit:
            added = corruption.delta(self.clean_tokens, self.model)
            if added is None:
                return self.clean()
            delta = added.to(self.clean_tokens.dtype)
            size = 2 * len(self._layers) * delta.numel() * delta.element_size()
            self._noise = (unit, Projections(self._layers, delta, bias=False, keep=size <= KEPT_BYTES))
        return ImageMemory(self._layers, self._clean, self._noise[1], corruption.strength)


@dataclass(frozen=True)
class BaseRun:
    """A clean (S = 1) or corrupted run of the whole model, recorded.

    Attributes:
        memory: the image as it sees it.
        encoder: the question encoder, (S, question tokens, width) a stage and layer.
        decoder: the answer decoder, (S, answer positions, width).
        logits: (S, answer positions, vocabulary), float32.
    """

    memory: ImageMemory
    encoder: Activations
    decoder: Activations
    logits: Tensor

    @property
    def samples(self) -> int:
        """S."""
        return self.logits.shape[0]


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
    """Runs one model."""

    model: BlipVqa
    chunk_rows: int | None = field(default=None)

    def embed_question(self, question: Sequence[int]) -> Tensor:
        """(1, question tokens, width)."""
        return self._embed(self.model.hf.text_encoder.embeddings, question)

    def embed_answer(self, answer: Sequence[int]) -> Tensor:
        """What the decoder gets to score an answer: (1, answer tokens, width)."""
        return self._embed(self.model.hf.text_decoder.bert.embeddings, [self.model.start_id, *answer[:-1]])

    def _embed(self, embeddings: torch.nn.Module, ids: Sequence[int]) -> Tensor:
        embedded: Tensor = embeddings(input_ids=torch.tensor([list(ids)], device=self.model.device))
        return embedded

    def encode(self, question: Tensor, memory: ImageMemory, samples: int, check: Check = no_check) -> Activations:
        """The question encoder's run."""
        return self.model.question_encoder.record(question.expand(samples, -1, -1), memory, check)

    def decode(self, decoder_input: Tensor, encoded: Tensor, check: Check = no_check) -> Activations:
        """The answer decoder's run over (S, question tokens, width)."""
        block = self.model.answer_decoder
        memory = QuestionMemory(block.layers, encoded[:, None])
        return block.record(decoder_input.expand(encoded.shape[0], -1, -1), memory, check)

    def logits(self, states: Tensor) -> Tensor:
        """The model's head on the decoder's output, (..., width) -> (..., vocabulary), float32."""
        scores: Tensor = self.model.hf.text_decoder.cls(states)
        return scores.float()

    def base(self, text: Text, encoder: Activations, memory: ImageMemory, check: Check = no_check) -> BaseRun:
        """A clean or corrupted run from its question encoder on."""
        decoder = self.decode(text.decoder_input, encoder.output, check)
        return BaseRun(memory, encoder, decoder, self.logits(decoder.output))

    def greedy(
        self, encoded: Tensor, longest: int, check: Check = no_check, first: Tensor | None = None
    ) -> list[list[int]]:
        """Greedy answers, one list of token ids a sample, the end token left out.

        Args:
            encoded: the question encoder's output, (S, question tokens, width).
            longest: at most so many tokens.
            check: called once a layer; may raise `blip_trace_widget.forward.Cancelled`.
            first: logits of the first token where they are known already, (S, vocabulary).
        """
        embeddings = self.model.hf.text_decoder.bert.embeddings
        block = self.model.answer_decoder
        memory = QuestionMemory(block.layers, encoded[:, None])
        end = self.model.end_id
        chosen = torch.full((encoded.shape[0], 1), self.model.start_id, device=encoded.device)
        ended = torch.zeros(encoded.shape[0], dtype=torch.bool, device=encoded.device)
        while chosen.shape[1] <= longest and not ended.all():
            if first is None or chosen.shape[1] > 1:
                logits = self.logits(block.record(embeddings(input_ids=chosen), memory, check).output[:, -1])
            else:
                logits = first
            words = logits.argmax(-1)
            ended |= words == end
            chosen = torch.cat([chosen, words.masked_fill(ended, end)[:, None]], 1)
        answers = chosen[:, 1:].tolist()
        return [row[: row.index(end)] if end in row else row for row in answers]

    def patched(
        self,
        base: BaseRun,
        source: BaseRun,
        runs: Sequence[Sequence[State]],
        check: Check = no_check,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Patched runs, chunk by chunk.

        Args:
            base: the run they equal where nothing is patched.
            source: the run from which the patched states are taken.
            runs: the states that each run patches.
            check: called once a layer; may raise `blip_trace_widget.forward.Cancelled`.

        Yields:
            which of the runs, and their logits (S, C, answer positions, vocabulary).
        """
        samples = max(base.samples, source.samples)
        positions = max(base.encoder.inputs.shape[1], base.decoder.inputs.shape[1])
        rows = self.chunk_rows or CHUNK_ROWS.get(self.model.device.type, CHUNK_ROWS["cpu"])
        size = max(1, rows // (samples * positions))
        start = 0
        while start < len(runs):
            part = slice(start, min(start + size, len(runs)))
            logits = None
            try:
                logits = self._chunk(base, source, runs[part], samples, check)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            if logits is None:  # outside of `except`, whose traceback keeps the tensors alive
                torch.cuda.empty_cache()
                size //= 2
            else:
                start = part.stop
                yield part, logits

    def _chunk(
        self, base: BaseRun, source: BaseRun, runs: Sequence[Sequence[State]], samples: int, check: Check
    ) -> Tensor:
        encoder_states = [[s for s in run if s.block == "question_encoder"] for run in runs]
        decoder_states = [[s for s in run if s.block == "answer_decoder"] for run in runs]
        through_encoder = any(encoder_states)
        encoded = base.encoder.output[:, None]
        if through_encoder:
            encoded = self.model.question_encoder.resume(
                base.encoder, source.encoder, encoder_states, base.memory, check, samples=samples
            )
        block = self.model.answer_decoder
        memory = QuestionMemory(block.layers, encoded)
        output = block.resume(
            base.decoder, source.decoder, decoder_states, memory, check, samples=samples, diverged=through_encoder
        )
        return self.logits(output)
