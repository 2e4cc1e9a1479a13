"""Question: what is asked about one picture, its clean and corrupted runs, and their scores.

For: everything that is computed for a question: patched runs (`blip_trace_widget.tracing.patching`), grids, noise
curves, knockout, readings. They take a `Question`; a `Tracer` puts them behind one interface.
Cost: one ViT pass for an image, one text pass for the clean run, one over all samples for the corrupted runs; each at
its first use, then kept and shared with the questions that `Question.replace` makes.
Ends: at scores. It does not intervene.

A `check` is called once per layer during a computation, and may raise `blip_trace_widget.model.block.Cancelled`; what
has been computed by then is kept.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blip_trace_widget.checks import named, whole_number
from blip_trace_widget.choices import BEFORE_THE_VIT, metric_properties
from blip_trace_widget.model.progress import Check, no_check
from blip_trace_widget.pictures import as_image
from blip_trace_widget.results.grid_spec import CellIndex, GridSpec, is_single
from blip_trace_widget.results.maps import square_names, squares
from blip_trace_widget.results.run import Run, Top
from blip_trace_widget.results.statistics import TotalEffect
from blip_trace_widget.results.verification import Verification
from blip_trace_widget.states import BLOCKS, State, position_of
from blip_trace_widget.tracing.base_runs import BaseRuns
from blip_trace_widget.tracing.corruption import Corruption, GaussianNoise
from blip_trace_widget.tracing.image import ImageTokens
from blip_trace_widget.tracing.lazy import Lazy, lazy
from blip_trace_widget.tracing.metrics import Metric, Target, as_metric
from blip_trace_widget.tracing.overflow import Cause, cause_of, check_in_range
from blip_trace_widget.tracing.runs import BaseRun, Runner, distribution_sum
from blip_trace_widget.tracing.scoring import begun, target_of

#: Words kept in `Run.top` and `Effect.top`.
TOP_WORDS = 10


class Question:
    """A question about a picture, with everything that its base runs depend on.

    Args:
        image: the picture, with its embeddings.
        text: the question.
        answer: the answer to score; None: the model's own greedy answer.
        foil: another answer with the same number of tokens.
        corruption: default `GaussianNoise`.
        metric: a name, or a callable, see `Tracer`.
        like: a question to share base runs with if they are equal.

    Attributes:
        model: the model.
        image: the picture, with its embeddings.
        text: the question, stripped of surrounding whitespace.
        given: ``"answer"`` and ``"foil"`` as they were given, else None.
        corruption: how the corrupted runs differ from the clean one.
        metric: how a run is scored.
        bases: the recorded clean and corrupted runs.
        runner: runs the model.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    def __init__(
        self,
        image: ImageTokens,
        text: str,
        answer: str | None = None,
        foil: str | None = None,
        corruption: Corruption | None = None,
        metric: str | Metric | Callable[..., Any] = "probability",
        *,
        like: Question | None = None,
    ) -> None:
        self.model, self.image = image.model, image
        self.corruption: Corruption = GaussianNoise() if corruption is None else as_corruption(corruption)
        self.metric: Metric = as_metric(metric)
        question_ids = self.model.question_ids(text)
        given_ids = None if answer is None else self.model.answer_ids("answer", answer)
        self._foil_ids = None if foil is None else self.model.answer_ids("foil", foil)
        # Known to be texts by now; normalised, so that saved and later questions compare equal.
        self.text = text.strip()
        self.given = {
            "answer": None if answer is None else answer.strip(),
            "foil": None if foil is None else foil.strip(),
        }
        if self.metric.needs_foil and self._foil_ids is None:
            raise ValueError("foil: the metric 'logit_difference' compares the answer with a foil, got none")
        if given_ids is not None:
            self._check_foil(given_ids)
        self.corruption.check(self.model, question_ids)
        make = BaseRuns if like is None else like.bases.changed
        self.bases: BaseRuns = make(image, question_ids, given_ids, self.corruption)
        self.runner = Runner(self.model)
        if like is not None and like.bases.has_clean_of(self.bases) and self._scored_as() == like._scored_as():
            self.clean_run.share(like.clean_run)

    def _scored_as(self) -> tuple[Any, ...]:
        """What the result of the clean run depends on besides the run itself."""
        return self.metric, self.given

    def replace(self, **changes: Any) -> Question:
        """A question with other arguments (``image``, ``question``, ``answer``, ...); shares whatever stays valid.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        arguments: dict[str, Any] = {
            "image": self.image,
            "question": self.text,
            **self.given,
            "corruption": self.corruption,
            "metric": self.metric,
        }
        unknown = set(changes) - set(arguments)
        if unknown:
            raise TypeError(f"replace: unknown argument {min(unknown)!r}, accepted are {list(arguments)}")
        if "image" in changes:
            changes["image"] = ImageTokens(self.model, as_image(changes["image"]))
        arguments |= changes
        return Question(arguments.pop("image"), arguments.pop("question"), **arguments, like=self)

    def with_corruption(self, corruption: Corruption | None = None, /, **changes: Any) -> Question:
        """A question with another corruption, or with fields of it changed; shares whatever stays valid.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        corruption = self.corruption if corruption is None else as_corruption(corruption)
        return self.replace(corruption=dataclasses.replace(corruption, **changes) if changes else corruption)  # type: ignore[type-var]

    # --- words -------------------------------------------------------------------------------------------------------

    @property
    def question_tokens(self) -> list[str]:
        """Word pieces of the question as the model sees them, special tokens included."""
        return self.model.tokens(self.bases.question_ids)

    @property
    def unknown_words(self) -> list[str]:
        """Words of the question that the model does not know."""
        return self.model.unknown_words(self.text, self.bases.question_ids)

    def answer_ids(self, check: Check = no_check) -> list[int]:
        """Token ids of the scored answer, end token left out.

        Raises:
            ValueError: if the model's own answer is empty, or its number of tokens differs from the foil's.
        """
        ids = self.bases.answer_ids(check)
        self._check_foil(ids)
        return ids

    @property
    def answer(self) -> str:
        """The scored answer: the given one, or the model's own greedy answer."""
        given = self.given["answer"]
        return self.model.text(self.answer_ids()) if given is None else given

    @property
    def answer_tokens(self) -> list[str]:
        """Word pieces of the answer, end token left out."""
        return self.model.tokens(self.answer_ids())

    def tokens(self, block: str) -> list[str]:
        """Names of a block's positions, see `Tracer.tokens`.

        Raises:
            TypeError, ValueError: if there is no such block.
        """
        block = named("block", block, BLOCKS)
        if block == "image_encoder":
            rows, columns = self.model.grid
            return ["[CLS]", *(f"{row},{column}" for row in range(rows) for column in range(columns))]
        if block == "question_encoder":
            return self.question_tokens
        return self.model.tokens([self.model.start_id, *self.answer_ids()[:-1]])

    def columns(self, block: str, patch: int = 1) -> tuple[list[str], list[list[int]]]:
        """Names of a grid's columns, and the positions that each stands for.

        Args:
            block: its name.
            patch: of the image encoder, the side of the squares of image tokens that are patched together; the class
                token has a column of its own.

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is accepted.
        """
        tokens, (rows, columns) = self.tokens(block), self.model.grid
        if whole_number("patch", patch, 1, max(rows, columns)) == 1:
            return tokens, [[position] for position in range(len(tokens))]
        if block != "image_encoder":
            raise ValueError(
                f"patch: only of the image encoder's tokens are squares patched, got {patch} with {block!r}"
            )
        names = square_names(rows, columns, patch)
        return [tokens[0], *names], [[0], *squares(rows, columns, patch)[1]]

    def is_single(self, block: str) -> bool:
        """Whether a score depends on a block's first position alone."""
        first = metric_properties(self.metric.name).first_position
        return is_single(block, len(self.answer_ids()), first_position=first)

    def states(self, spec: GridSpec, cells: Iterable[CellIndex]) -> tuple[State, ...]:
        """The states that cells of a grid stand for, each once, layer by layer."""
        return spec.states(cells, len(self.model.blocks[spec.block].layers), self.columns(spec.block, spec.patch)[1])

    def located(self, states: Iterable[State]) -> list[State]:
        """The states with word positions replaced by numbers.

        Raises:
            TypeError, ValueError: if the model or this question has no such state, if the word occurs several times, or
                if the state does not differ between the clean and the corrupted run.
        """
        given = list(states)
        for name in {state.block for state in given}:
            self.check_block(name)
        return self.numbered(given)

    def numbered(self, states: Iterable[State]) -> list[State]:
        """The same, whether or not they differ between the clean and the corrupted run.

        Raises:
            TypeError, ValueError: if the model or this question has no such state, or if the word occurs several times.
        """
        given = list(states)
        tokens = {name: self.tokens(name) for name in {state.block for state in given}}
        numbered = []
        for state in given:
            block, block_tokens = self.model.blocks[state.block], tokens[state.block]
            whole_number("layer", state.layer, 0, len(block.layers) - 1)
            position = position_of("position", state.position, block_tokens, state.block)
            if state.head is not None:
                whole_number("head", state.head, 0, block.heads - 1)
            numbered.append(state if position == state.position else dataclasses.replace(state, position=position))
        return numbered

    # --- runs --------------------------------------------------------------------------------------------------------

    def prepare(self, check: Check = no_check, *, answers: bool = False, with_states: bool = False) -> None:
        """Compute what every effect is compared with: the clean and the corrupted runs, and the total effect.

        Args:
            check: see the module's docstring.
            answers: whether to decode the answers of the corrupted runs too, which costs more than their scores.
            with_states: whether to record the ViT's states too.
        """
        if with_states:
            self.bases.prepare_states(check)
        self.clean_run(check)
        if answers:
            self.corrupted_run(check)
        self.effect(check)

    def steps(self) -> dict[str, Lazy[Any]]:
        """The steps still to be computed before anything can be shown, by name, in order; call each with a check."""
        steps: dict[str, Lazy[Any]] = {
            "embed": self.image.clean_tokens,
            "clean": self.clean_run,
            "corrupted": self.corrupted_run,
        }
        return {name: step for name, step in steps.items() if step.known is None}

    @property
    def clean(self) -> Run:
        """The run on the undamaged image."""
        return self.clean_run()

    @property
    def corrupted(self) -> Run:
        """The runs on the corrupted image, one per noise sample, see `Tracer.corrupted`."""
        return self.corrupted_run()

    @property
    def total_effect(self) -> TotalEffect:
        """score(clean) - score(corrupted) with its standard error, and whether it suffices to trace (the gate)."""
        return self.effect()

    @lazy
    def clean_run(self, check: Check) -> Run:
        """See `clean`."""
        ids = self.answer_ids(check)
        return self._as_run([(self.bases.clean(check), [ids])], answer=self.answer)

    @lazy
    def corrupted_run(self, check: Check) -> Run:
        """See `corrupted`."""
        longest = self.bases.longest_corrupted_answer(check)
        runs = ((run, self.bases.answers(run, longest, check)) for _, run in self.bases.corrupted(check))
        return self._as_run(runs, longest=longest)

    @lazy
    def effect(self, check: Check) -> TotalEffect:
        """See `total_effect`."""
        return TotalEffect(self.clean_run(check).score, self.corrupted_scores(check))

    @lazy
    def corrupted_scores(self, check: Check) -> NDArray[np.float64]:
        """Scores of the corrupted runs, (samples,), without decoding answers, which costs more."""
        known = self.corrupted_run.known
        if known is not None:
            return known.scores
        return np.concatenate([self.score_logits(run.logits) for _, run in self.bases.corrupted(check)])

    @lazy
    def verification(self, _check: Check) -> Verification | None:
        """The last `Tracer.verify`, kept there; None before."""
        return None

    @property
    def foil_ids(self) -> list[int] | None:
        """Token ids of the foil, if there is one."""
        return self._foil_ids

    def _as_run(
        self, runs: Iterable[tuple[BaseRun, list[list[int]]]], *, longest: int | None = None, answer: str | None = None
    ) -> Run:
        """One `Run` from groups of runs with their greedy answers."""
        texts: list[str] = []
        scores: list[NDArray[np.float64]] = []
        distribution: Any = 0.0
        for run, answers in runs:
            texts += [
                self.model.text(ids) + (" …" if longest is not None and len(ids) >= longest else "") for ids in answers
            ]
            scores.append(self.score_logits(run.logits))
            distribution = distribution + distribution_sum(run.logits)
        all_scores = np.concatenate(scores)
        mean = (distribution / all_scores.size).astype(np.float32)
        return Run(
            score=float(all_scores.mean()),
            scores=all_scores,
            answer=Counter(texts).most_common(1)[0][0] if answer is None else answer,
            top=self.top_words(mean),
            answers=tuple(texts),
            distribution=mean,
        )

    # --- scores ------------------------------------------------------------------------------------------------------

    def score_logits(self, logits: Tensor, cause: Cause | None = None) -> NDArray[np.float64]:
        """Scores (...) of logits (..., answer positions, vocabulary).

        Args:
            logits: of runs.
            cause: what is to blame if they are not finite; default the corruption.

        Raises:
            BeyondRangeError: if the logits are not finite.
            ValueError: if a user's metric returns anything but a tensor of that shape.
        """
        return self.scoring(logits, cause)()

    def scoring(self, logits: Tensor, cause: Cause | None = None) -> Callable[[], NDArray[np.float64]]:
        """Begin to score logits: a call that waits for the scores; arguments as in `score_logits`.

        Raises:
            ValueError: as `score_logits`; so does the call.
        """
        clean = self.bases.clean().logits[0]

        def check() -> None:
            check_in_range(logits, self.model, cause_of(self.corruption) if cause is None else cause, clean)

        return begun(self.metric, logits, self._target(), check)

    @lazy
    def _target(self, check: Check) -> Target:
        """What runs are scored against, on the model's device."""
        return target_of(self.answer_ids(check), self._foil_ids, self.bases.clean(check).logits[0])

    def top_words(self, distribution: NDArray[np.float32]) -> Top:
        """The likeliest words of a distribution, (vocabulary,), with their probability, best first."""
        count = min(TOP_WORDS, distribution.size)
        best = np.argsort(-distribution, kind="stable")[:count]
        words = self.model.tokens([int(index) for index in best])
        return [(word, float(distribution[index])) for word, index in zip(words, best, strict=True)]

    def settings(self) -> dict[str, Any]:
        """The settings of the question, without any intervention, as plain JSON."""
        verified = self.verification.known
        return {
            "model": self.model.name,
            **self.model.provenance,
            "image": self.image.sha256(),
            "question": self.text,
            "unknown_words": self.unknown_words,
            "answer": self.answer,
            "answer_tokens": self.answer_tokens,
            "foil": self.given["foil"],
            "metric": self.metric.name,
            **({} if verified is None else {"verified": verified.as_settings()}),
        }

    # --- checks ------------------------------------------------------------------------------------------------------

    def check_block(self, block: str) -> None:
        """Check that a block's states differ between the clean and the corrupted run.

        Raises:
            ValueError: if they do not.
        """
        if block == "image_encoder" and self.corruption.at != "patch_embeddings":
            raise ValueError(
                f"block: the states of 'image_encoder' are the same in the clean and the corrupted run, because "
                f"{type(self.corruption).__name__} damages what the image encoder puts out, or nothing of the image; "
                f"to trace them damage what goes in, with at='patch_embeddings' of {', '.join(BEFORE_THE_VIT)}"
            )

    def check_damages_image(self) -> None:
        """Check that the corruption damages the image.

        Raises:
            ValueError: if it does not.
        """
        if not self.corruption.damages_image:
            raise ValueError(
                f"corruption: image tokens can be patched under one that damages the image, such as GaussianNoise(); "
                f"{self.corruption!r} leaves it as it is"
            )

    def _check_foil(self, answer: list[int]) -> None:
        if self._foil_ids is not None and len(self._foil_ids) != len(answer):
            raise ValueError(
                f"foil: expected as many tokens as the answer {self.model.tokens(answer)}, "
                f"got {self.model.tokens(self._foil_ids)}"
            )


def as_corruption(corruption: Any) -> Corruption:
    """Return `corruption` if it is one.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(corruption, Corruption):
        raise TypeError(f"corruption: expected one such as GaussianNoise, got {type(corruption).__name__}")
    return corruption
