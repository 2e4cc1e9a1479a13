"""Scores computed again by plain forward hooks on the untouched model, without any shortcut, also in float64.

For: `Tracer.verify`. Each run is a whole forward of `BlipForQuestionAnswering` under hooks: nothing is resumed, batched
or projected beforehand, and nothing kept is read.
Cost: for every run a forward, the ViT included, in the model's type and again in double precision, which takes about
twice as long; meanwhile a copy of the model with 8 bytes a weight (BLIP base: 3 GB). Four more of a run that differs by
more than the others' rounding, to see what its own is.
Ends: at a `Verification`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blip_trace_widget.checks import whole_number
from blip_trace_widget.model.blip import BlipVqa
from blip_trace_widget.model.block import LayerEdit
from blip_trace_widget.model.computing import Computing, ModelChangedError
from blip_trace_widget.model.hooked import ThreadHook
from blip_trace_widget.model.loading import as_dtype
from blip_trace_widget.model.out_of_memory import is_out_of_memory
from blip_trace_widget.model.patch_plan import stage_of
from blip_trace_widget.model.progress import Check, Progress, as_check, as_progress
from blip_trace_widget.model.surroundings import exact_convolution
from blip_trace_widget.results.grid_spec import GridSpec
from blip_trace_widget.results.statistics import effects
from blip_trace_widget.results.summaries import called
from blip_trace_widget.results.trace import Trace
from blip_trace_widget.results.verification import Verification
from blip_trace_widget.states import BLOCKS, DIRECTIONS, State
from blip_trace_widget.tracing.delta import checked_delta
from blip_trace_widget.tracing.grid import cells_of
from blip_trace_widget.tracing.holding import Holding, as_hold, key_of
from blip_trace_widget.tracing.metrics import Target
from blip_trace_widget.tracing.patching import all_patched_scores
from blip_trace_widget.tracing.paths import Paths
from blip_trace_widget.tracing.question import Question
from blip_trace_widget.tracing.random_rounding import randomly_rounded

#: The module whose output a corruption of these embeddings damages.
_PLACES = {
    "patch_embeddings": "vision_model.embeddings",
    "image_embeddings": "vision_model.post_layernorm",
    "question_embeddings": BLOCKS["question_encoder"].embeddings,
}
#: What a trace and a question must have in common.
_SAME = ("weights", "image", "question", "answer", "foil", "metric", "corruption")
MOST_CELLS = 10_000
#: How often a run is computed under random rounding, where it may be that which makes its score differ.
TRIES = 4
NOTHING: Mapping[State, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class _Run:
    """A run to compute again: of one noise sample, or the clean one where that is None.

    Of a path it is the run in which the receivers, `into`, have the values that they have while `states` are patched.
    """

    name: str
    sample: int | None
    states: tuple[State, ...]
    direction: str
    score: float
    stderr: float = float("nan")
    held: tuple[State, ...] = ()
    into: tuple[State, ...] = ()


def verify(
    question: Question,
    cells: int = 8,
    dtype: str | torch.dtype | None = "float64",
    seed: int = 0,
    trace: Trace | None = None,
    progress: bool | Progress | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> Verification:
    """See `Tracer.verify`."""
    steps = verification(question, cells, dtype, seed, trace, cancel)
    report, close = None, None
    try:
        while True:
            done, total = next(steps)
            if report is None:
                report, close = as_progress(progress, total, "run")
            report(done, total)
    except StopIteration as end:
        found: Verification = end.value
        return found
    finally:
        if close is not None:
            close()


def verification(
    question: Question,
    cells: int = 8,
    dtype: str | torch.dtype | None = "float64",
    seed: int = 0,
    trace: Trace | None = None,
    cancel: Callable[[], bool] | Any = None,
) -> Generator[tuple[int, int], None, Verification]:
    """`verify` one run at a time.

    Yields:
        runs done, and runs in all.

    Raises:
        TypeError, ValueError, Cancelled, ModelChangedError: see `Tracer.verify`; at the first step.
    """
    cells = whole_number("cells", cells, 1, MOST_CELLS)
    seed = whole_number("seed", seed, 0, 2**63 - 1)
    exact_dtype = None if dtype is None else as_dtype(dtype)
    if trace is not None:
        _check_trace(question, trace)
    with Computing(question.model):
        version = question.model.version
        runs = _chosen(question, trace, cells, seed, cancel)
        models = [question.model] + ([] if exact_dtype is None else [_copied(question.model, exact_dtype)])
    scores = np.full((2, len(runs)), np.nan)
    for row, model in enumerate(models):
        for at, score in enumerate(_scores(question, model, as_check(cancel), runs)):
            if question.model.version != version:
                raise ModelChangedError
            scores[row, at] = score
            yield row * len(runs) + at + 1, len(runs) * len(models)
    found = Verification(
        names=tuple(run.name for run in runs),
        scores=np.array([run.score for run in runs]),
        hooked=scores[0],
        exact=scores[1],
        stderr=np.array([run.stderr for run in runs]),
        jitter=np.full(len(runs), np.nan),
        dtype=_name(question.model.dtype),
        exact_dtype=None if exact_dtype is None else _name(exact_dtype),
        seed=seed,
        grid=None if trace is None else GridSpec.of(trace.settings).settings,
    )
    while (apart := np.flatnonzero(found.apart & np.isnan(found.jitter))).size:  # is it more than its rounding?
        at = int(apart[0])
        right = float(found.hooked[at] if np.isnan(found.exact[at]) else found.exact[at])
        jitter = found.jitter.copy()
        jitter[at] = _jitter(question, runs[at], right, as_check(cancel))
        if question.model.version != version:
            raise ModelChangedError
        found = replace(found, jitter=jitter)
        yield len(runs) * len(models), len(runs) * len(models)
        if found.apart[at]:
            break
    question.verification.keep(found)
    if trace is not None:
        trace.settings["verified"] = found.as_settings()
    return found


def _jitter(question: Question, run: _Run, right: float, check: Check) -> float:
    """How far random rounding takes a run from its right score, the largest of `TRIES`."""
    found: list[float] = []
    for seed in range(TRIES):
        with Computing(question.model), randomly_rounded(question.model.hf, seed):
            found += _HookedQuestion(question, question.model, check).scores([run])
    return float(np.abs(np.array(found) - right).max())


def _chosen(
    question: Question, trace: Trace | None, cells: int, seed: int, cancel: Callable[[], bool] | Any
) -> list[_Run]:
    """The clean run, a corrupted one, and random patched runs, with the scores that are to be verified."""
    random = np.random.default_rng(seed)
    question.prepare(as_check(cancel), with_states=question.corruption.reaches("image_encoder"))
    some = _cells_of(question, trace, cells, random) if trace else _any_cells(question, cells, random, cancel)
    first = int(random.integers(question.corruption.samples))
    corrupted = question.corrupted_scores()[first]
    return [
        _Run("clean run", None, (), "restore", question.clean.score),
        _Run(_of_sample("corrupted run", question, first), first, (), "restore", float(corrupted)),
        *some,
    ]


def _scores(question: Question, model: BlipVqa, check: Check, runs: Sequence[_Run]) -> Iterator[float]:
    """The score of each run in a model.

    Raises:
        ValueError: if it is a copy in another type, and something in it is not in that type.
    """
    scores = _HookedQuestion(question, model, check).scores(runs)
    try:
        yield from scores
    except (RuntimeError, TypeError) as error:
        if model is question.model or is_out_of_memory(error) or isinstance(error, ModelChangedError):
            raise
        raise ValueError(
            f"dtype: a hook or a module of this model does not run in {_name(model.dtype)} ({error}); dtype=None "
            f"compares in {_name(question.model.dtype)} alone"
        ) from error


def _check_trace(question: Question, trace: Any) -> None:
    if not isinstance(trace, Trace):
        raise TypeError(f"trace: expected a Trace of this tracer, got {type(trace).__name__}")
    mine = {**question.settings(), "corruption": question.corruption.settings()}
    for name in _SAME:
        if trace.settings.get(name) != mine[name]:
            raise ValueError(
                f"trace: expected one of this tracer, got one with another {name}: "
                f"{trace.settings.get(name)!r} in place of {mine[name]!r}"
            )
    if not trace.computed.any():
        raise ValueError("trace: none of its cells is computed")


def _of_sample(name: str, question: Question, sample: int) -> str:
    return name if question.corruption.samples == 1 else f"{name}, sample {sample}"


def _cells_of(question: Question, trace: Trace, count: int, random: np.random.Generator) -> list[_Run]:
    """Random cells of a grid, each in a random sample."""
    spec = GridSpec.of(trace.settings)
    grid = cells_of(question, spec)
    fixed = _fixed(question, spec)
    known = [cell for cell in grid if trace.computed[cell.index]]
    runs = []
    for at in random.permutation(len(known))[:count]:
        cell, sample = known[at], int(random.integers(question.corruption.samples))
        name = _of_sample(trace._name(*cell.index), question, sample)
        score, error = trace.samples[(sample, *cell.index)], trace.stderr[cell.index]
        states = spec.free(cell.states)
        taken = {key_of(state) for state in states}
        held = tuple(state for part in fixed(states) for state in part if key_of(state) not in taken)
        into = spec.receivers if isinstance(spec.receivers, tuple) else ()
        runs.append(_Run(name, sample, states, spec.direction, float(score), float(error), held, into))
    return runs


def _fixed(question: Question, spec: GridSpec) -> Callable[[tuple[State, ...]], Iterable[Sequence[State]]]:
    """What a grid's run holds, in parts, given what it patches."""
    if spec.receivers is None:
        return Holding(question, as_hold(spec.hold), [spec.block]).of
    paths = Paths(question, spec.receivers, spec.through, with_states=spec.block == "image_encoder")
    return lambda states: paths.edits([states]).held[0]


def _any_cells(
    question: Question, count: int, random: np.random.Generator, cancel: Callable[[], bool] | Any
) -> list[_Run]:
    """Random states of any block and site that the corruption reaches, in either direction, whole or of one head."""
    blocks = [block for block in BLOCKS if question.corruption.reaches(block)]
    drawn: dict[str, list[State]] = {direction: [] for direction in DIRECTIONS}
    for _ in range(count):
        block = blocks[random.integers(len(blocks))]
        stack, sites = question.model.blocks[block], list(BLOCKS[block].sites)
        site = sites[random.integers(len(sites))]
        head = int(random.integers(stack.heads)) if site in BLOCKS[block].heads and random.integers(2) else None
        layer, position = random.integers(len(stack.layers)), random.integers(len(question.tokens(block)))
        state = State(block, int(layer), int(position), site, head)  # type: ignore[arg-type]
        drawn[DIRECTIONS[random.integers(2)]].append(state)
    runs = []
    for direction, states in drawn.items():
        asked = [(state,) for state in states]
        scores = all_patched_scores(question, asked, direction, cancel)
        errors = effects(question.total_effect, scores, direction).stderr
        for state, values, error in zip(states, scores.T, errors, strict=True):
            sample = int(random.integers(values.size))
            name = _of_sample(f"{direction} {called(state)}", question, sample)
            runs.append(_Run(name, sample, (state,), direction, float(values[sample]), float(error)))
    return runs


def _copied(model: BlipVqa, dtype: torch.dtype) -> BlipVqa:
    """A copy in another type; on the CPU where the device does not have it."""
    device = "cpu" if model.device.type == "mps" and dtype == torch.float64 else model.device
    with Computing(model):
        try:
            hf = copy.deepcopy(model.hf).to(device=device, dtype=dtype)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            raise ValueError(
                f"dtype: this model cannot be copied in {_name(dtype)} ({error}); dtype=None compares in "
                f"{_name(model.dtype)} alone"
            ) from error
        return BlipVqa(hf, model.processor, check=False)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _edits(
    patches: Mapping[State, Tensor], record: Iterable[State], values: dict[State, Tensor], model: BlipVqa
) -> Callable[[str], LayerEdit]:
    """What replaces states by other values, and before that puts the values of some into `values`, for each block."""
    read, written = _by_place(record), _by_place(patches)

    def of_block(block: str) -> LayerEdit:
        heads = model.blocks[block].heads

        def part(state: State, rows: Tensor) -> tuple[int, int, slice]:
            size = rows.shape[-1] // heads
            return (
                0,
                state.position,
                slice(None) if state.head is None else slice(size * state.head, size * (state.head + 1)),
            )

        def edit(layer: int, stage: str, rows: Tensor) -> Tensor:
            for state in read.get((block, layer, stage), ()):
                values[state] = rows[part(state, rows)].clone()
            here = written.get((block, layer, stage), ())
            rows = rows.clone() if here else rows
            for state in here:
                rows[part(state, rows)] = patches[state]
            return rows

        return edit

    return of_block


def _by_place(states: Iterable[State]) -> dict[tuple[str, int, str], list[State]]:
    found: dict[tuple[str, int, str], list[State]] = {}
    for state in states:
        found.setdefault((state.block, state.layer, stage_of(state)), []).append(state)
    return found


class _HookedQuestion:
    """A question asked of a model under plain hooks, one run at a time.

    Args:
        question: the question.
        model: its model, or a copy in another type.
        check: called once a layer; may raise `blip_trace_widget.model.block.Cancelled`.
    """

    def __init__(self, question: Question, model: BlipVqa, check: Check) -> None:
        self._question, self._model, self._check = question, model, check
        self._corruption = question.corruption.located(question.question_tokens)
        self._answer = question.answer_ids()
        pixels = model.processor.image_processor(images=question.image.image, return_tensors="pt")["pixel_values"]
        self._pixels = pixels.to(model.device, model.dtype)
        self._embeddings: Tensor | None = None  # of the clean run, those that the corruption damages

    def scores(self, runs: Sequence[_Run]) -> Iterator[float]:
        """The score of each run."""
        restored = {state for run in runs if run.direction == "restore" for state in run.states}
        clean_logits, clean_values = self._pass(None, record=restored)
        for run in runs:
            if run.sample is None:
                yield self._scored(clean_logits, clean_logits)
            elif run.direction == "restore":
                yield self._scored(self._patched(run, run.sample, clean_values), clean_logits)
            else:
                yield self._scored(self._patched(run, None, self._pass(run.sample, record=run.states)[1]), clean_logits)

    def _patched(self, run: _Run, base: int | None, source: Mapping[State, Tensor]) -> Tensor:
        """A run's logits, given the sample of its base run and what its states are in the other."""
        held = self._pass(base, record=run.held)[1] if run.held else {}
        patches = held | {state: source[state] for state in run.states}
        if run.into:
            patches = self._pass(base, patches, record=run.into)[1]
        return self._pass(base, patches)[0]

    def _scored(self, logits: Tensor, clean_logits: Tensor) -> float:
        answer, foil = (
            None if ids is None else torch.tensor(ids, device=logits.device)
            for ids in (self._answer, self._question.foil_ids)
        )
        assert answer is not None
        return float(self._question.metric.score(logits[None], Target(answer, foil, clean_logits))[0])

    def _pass(
        self, sample: int | None, patches: Mapping[State, Tensor] = NOTHING, record: Iterable[State] = ()
    ) -> tuple[Tensor, dict[State, Tensor]]:
        """A forward of the whole model, of one noise sample or the clean one.

        Returns:
            logits, (answer positions, vocabulary), and the values of the states to record.
        """
        model, corruption = self._model, self._corruption
        ids = self._question.bases.question_ids
        question = torch.tensor([ids if sample is None else corruption.question_ids(ids, model)], device=model.device)
        values: dict[State, Tensor] = {}
        logits: list[Tensor] = []

        def keep_logits(_module: Any, _inputs: Any, output: Any) -> None:
            logits.append(output.logits[0])

        damaged = None if sample is None or corruption.at is None else self._damaged(sample)

        def damage(_module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
            if output.ndim != 3:  # the last LayerNorm of the ViT is called on the class token alone too
                return None
            if sample is None:
                self._embeddings = output[0].clone()
            return None if damaged is None else damaged[None]

        with Computing(model), exact_convolution(model.device), ExitStack() as stack:
            if corruption.at is not None:
                stack.callback(ThreadHook(model.hf.get_submodule(_PLACES[corruption.at]), damage).remove)
            edit = _edits(patches, record, values, model)
            for block in {state.block for state in (*patches, *record)}:
                stack.enter_context(model.untouched[block].edited(self._check, edit(block)))
            stack.callback(ThreadHook(model.hf.text_decoder, keep_logits).remove)
            model.hf.forward(
                input_ids=question,
                pixel_values=self._pixels,
                attention_mask=torch.ones_like(question),
                decoder_input_ids=torch.tensor([[model.start_id, *self._answer[:-1]]], device=model.device),
            )
        return logits[0] if logits[0].dtype == torch.float64 else logits[0].float(), values

    def _damaged(self, sample: int) -> Tensor:
        """The embeddings of a corrupted run, once the clean ones are known."""
        clean, corruption = self._embeddings, self._corruption
        assert clean is not None
        with Computing(self._model):
            delta = checked_delta(corruption, clean, self._model, slice(sample, sample + 1))
            return clean + corruption.strength * delta[0].to(clean.dtype)
