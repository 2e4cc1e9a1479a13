"""Base runs of several questions computed together: as few passes as their lengths allow.

For: data sets on a device that one question does not fill, where starting a layer takes longer than computing it.
Cost: that of the runs; of the pictures one ViT pass for several. Groups fit the memory budget.
Ends: at values that `blip_trace_widget.tracing.base_runs` keeps, as if each question had been computed alone; what is
not kept is computed alone at its first use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import cast

import torch

from blip_trace_widget.model.computing import Computing
from blip_trace_widget.model.cross_attention import joined
from blip_trace_widget.tracing.base_runs import BaseRuns, longest_answer
from blip_trace_widget.tracing.corruption import ALL
from blip_trace_widget.tracing.image import ImageTokens, ImageView
from blip_trace_widget.tracing.memory_budget import (
    CLEAN_SHARE,
    group_bytes,
    if_there_is_room,
    in_halves,
    questions_together,
    sample_groups,
)
from blip_trace_widget.tracing.overflow import CLEAN, check_in_range
from blip_trace_widget.tracing.runs import BaseRun, Runner


def clean_together(bases: Iterable[BaseRuns]) -> Iterator[list[int]]:
    """Compute the clean runs of several questions of one model, questions of equal length in one pass.

    They are computed in groups, so that the images' projections stay within `memory_budget.CLEAN_SHARE`. Where
    questions are not computed together (`Limits.together`), they are left to be computed at their first use, one by
    one: what a row comes to may depend, in its last bits, on the other rows of a pass.

    Args:
        bases: the base runs of the questions.

    Yields:
        the indices of those to use now, which share a picture or a pass. This function keeps no reference to them;
        callers should drop theirs before the next group.
    """
    pending: list[BaseRuns | None] = list(bases)
    for indices in _by_length_and_image(cast("list[BaseRuns]", pending)):
        for part in _memory_groups(pending[indices[0]], len(indices)):
            group = [cast("BaseRuns", pending[at]) for at in indices[part]]
            for at in indices[part]:
                pending[at] = None
            model = group[0].model
            if questions_together(model.device, model.limits):
                with Computing(model):
                    _run_in_halves(group)
            del group
            yield indices[part]


def _run_in_halves(group: Sequence[BaseRuns]) -> None:
    """`_run_together`, and where memory runs out, the first half before the second."""
    for _ in in_halves(lambda some: _run_together(group[some]), len(group), group[0].model.device):
        pass


def corrupted_together(questions: Iterable[tuple[int, BaseRuns]]) -> Iterator[list[int]]:
    """Compute the corrupted runs of several questions of one model, with their greedy answers.

    They are computed in groups of one length that fit `memory_budget.GROUP_SHARE`. Some are left to be computed at
    their first use, alone: all where questions are not computed together; what has no clean run yet, for it may have no
    answer; what needs the ViT's states; and runs beyond the range of numbers, so that the right one is blamed.

    Args:
        questions: their numbers, and base runs.

    Yields:
        the numbers of those to use now, before the next question is asked for. This function keeps no reference to
        them.
    """
    for few in _that_fit(questions):
        numbers, group = [number for number, _ in few], [runs for _, runs in few]
        few.clear()
        if len(group) > 1:
            with Computing(group[0].model):
                if_there_is_room(partial(_run_corrupted, group), len(group), group[0].model.device)
        del group
        yield numbers


def _that_fit(questions: Iterable[tuple[int, BaseRuns]]) -> Iterator[list[tuple[int, BaseRuns]]]:
    """Questions whose corrupted runs are computed together; the lists are emptied by whoever takes them."""
    room, length = 0, 0
    group: list[tuple[int, BaseRuns]] = []
    for number, runs in questions:
        model = runs.model
        known = runs.clean_answer.run.known is not None and runs.corruption.at != "patch_embeddings"
        joins = known and questions_together(model.device, model.limits)
        size = runs.corruption.samples * runs.bytes_per_sample() if joins else 0
        if group and not (joins and size <= room and len(runs.question_ids) == length):
            yield group
            group = []
        room = (room if group else group_bytes(model.device, model.limits)) - size
        length = len(runs.question_ids)
        group.append((number, runs))
        del runs
        if not joins:
            yield group
            group = []
    if group:
        yield group


def _run_corrupted(group: Sequence[BaseRuns]) -> int:
    """Compute a group's corrupted question encoders, and decoders and answers together by the answers' length.

    Returns:
        how many are computed.
    """
    runner, layers = Runner(group[0].model), group[0].model.question_encoder.layers
    counts = [runs.corruption.samples for runs in group]
    views = [runs.image.corrupted(runs.corrupted_encoding.corruption) for runs in group]
    questions = [
        runs.corrupted_encoding.question(ALL).expand(count, -1, -1) for runs, count in zip(group, counts, strict=True)
    ]
    kv = joined(layers, [(view.kv, count) for view, count in zip(views, counts, strict=True)])
    encoded = runner.encode(torch.cat(questions), ImageView(kv), sum(counts))
    own = [encoded.part(rows) for rows in _one_after_another(counts)]
    by_length: dict[int, list[int]] = {}
    for at, runs in enumerate(group):
        by_length.setdefault(len(runs.answer_ids()), []).append(at)
    for indices in by_length.values():
        inputs = [group[at].clean_answer.text().decoder_input.expand(counts[at], -1, -1) for at in indices]
        output = torch.cat([own[at].output for at in indices])
        decoder = runner.decode(torch.cat(inputs), output)
        logits = runner.logits(decoder.output)
        if not torch.isfinite(logits.sum()):
            continue
        longest = max(group[at].longest_corrupted_answer() for at in indices)
        answers = runner.greedy(output, longest, first=logits[:, 0])
        for at, rows in zip(indices, _one_after_another([counts[at] for at in indices]), strict=True):
            run = BaseRun(views[at], own[at], decoder.part(rows), logits[rows], answers[rows])
            group[at].keep_corrupted(run)
    return len(group)


def _one_after_another(counts: Sequence[int]) -> list[slice]:
    """Slices of so many rows each."""
    return [slice(end - count, end) for end, count in zip(accumulate(counts), counts, strict=True)]


def _by_length_and_image(bases: Sequence[BaseRuns]) -> list[list[int]]:
    """Indices grouped by the question's length, and by the picture if several questions share it."""
    questions_of = Counter(runs.image for runs in bases)
    kinds: dict[tuple[int, int], list[int]] = {}
    for at, runs in enumerate(bases):
        shared = id(runs.image) if questions_of[runs.image] > 1 else 0
        kinds.setdefault((shared, len(runs.question_ids)), []).append(at)
    return list(kinds.values())


def _run_together(group: Sequence[BaseRuns]) -> int:
    """Compute a group's question encoders, the model's own answers, and decoders together by the answers' length.

    Returns:
        how many are computed.
    """
    model = group[0].model
    runner = Runner(model)
    ImageTokens.embed_together([runs.image for runs in group])
    kv = ImageTokens.see_together([runs.image for runs in group])
    questions = runner.embed_questions([runs.question_ids for runs in group])
    encoded = runner.encode(questions, ImageView(kv), len(group))
    own_answers = runner.greedy(encoded.output, longest_answer(model))
    answers = [runs.clean_answer for runs in group]
    by_length: dict[int, list[int]] = {}
    for at, (answer, own) in enumerate(zip(answers, own_answers, strict=True)):
        answer.encoding.activations.keep(encoded.part(slice(at, at + 1)))
        answer.encoding.own_answer_ids.keep(own)
        if answer.given_ids is not None or own:
            by_length.setdefault(len(answer.ids()), []).append(at)
    for indices in by_length.values():
        inputs = torch.cat([answers[at].text().decoder_input for at in indices])
        decoder = runner.decode(inputs, torch.cat([encoded.output[at : at + 1] for at in indices]))
        logits = runner.logits(decoder.output)
        check_in_range(logits, model, CLEAN)
        for row, at in enumerate(indices):
            part, encoding = slice(row, row + 1), answers[at].encoding
            run = BaseRun(encoding.image.clean(), encoding.activations(), decoder.part(part), logits[part])
            answers[at].run.keep(run)
    return len(group)


def _memory_groups(first: BaseRuns | None, count: int) -> list[slice]:
    """`count` clean runs like the first in groups, by the size of each: its image's projections and recorded stages."""
    assert first is not None
    block, model = first.model.question_encoder, first.model
    width = int(model.hf.config.text_config.hidden_size)
    tokens = 2 * model.image_token_count + len(block.stages) * (len(first.question_ids) + 1)
    return sample_groups(count, 4 * len(block.layers) * tokens * width, model.device, model.limits, CLEAN_SHARE)
