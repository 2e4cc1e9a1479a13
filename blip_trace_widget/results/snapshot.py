"""Snapshot: everything about one question besides its grids, as data, so that it can be shown without the model.

For: `Trace.snapshot`, recordings, pages without a kernel. Figures are made from it whether or not the model is loaded
(`blip_trace_widget.display.payloads`).
Cost: the picture as a JPEG of at most 384 px, and some kilobytes of names and numbers.
Ends: at data: nothing here is phrased, formatted or drawn. `blip_trace_widget.tracing.snapshot` takes it of a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import conforms, whole_number
from blip_trace_widget.choices import (
    CORRUPTIONS,
    MAX_FACTOR,
    MAX_SEED,
    MOST_SAMPLES,
    CorruptionName,
    MetricName,
    completed,
)
from blip_trace_widget.corruption_fields import check_places, checked_positions, checked_region
from blip_trace_widget.results.run import Top
from blip_trace_widget.results.statistics import TotalEffect
from blip_trace_widget.states import BlockName, SiteName

#: Maximal size of a picture read from a file, in bytes.
MAX_PICTURE_BYTES = 4 * 2**20
#: Why a block has no grids: its states are equal in both runs, or it was left out of an average.
Closed: TypeAlias = Literal["", "undamaged", "untraced"]


@dataclass(frozen=True)
class Block:
    """One block of the model.

    Attributes:
        name: one of `blip_trace_widget.states.BLOCKS`.
        layers: number of layers.
        heads: number of attention heads.
        tokens: word pieces at its positions; none if it is closed.
        sites: the sites that can be patched.
        closed: why it cannot be traced, or "".
    """

    name: BlockName
    layers: int
    heads: int
    tokens: tuple[str, ...]
    sites: tuple[SiteName, ...]
    closed: Closed = ""


@dataclass(frozen=True, eq=False)
class RunSummary:
    """A summary of a clean or corrupted run.

    Attributes:
        answer: the answer; of several samples, the most frequent one.
        score: mean score over samples.
        stderr: its standard error; NaN for a single sample.
        words: word -> mean probability at the first answer position, for the likeliest words of either run.
    """

    answer: str
    score: float
    stderr: float
    words: Mapping[str, float] = field(repr=False)

    @property
    def top(self) -> Top:
        """The words with their probability, likeliest first."""
        return sorted(self.words.items(), key=lambda word: -word[1])

    def shares(self, words: Sequence[str]) -> list[float]:
        """Probability of each word; NaN if unknown."""
        return [self.words.get(word, np.nan) for word in words]


@dataclass(frozen=True)
class CurveSummary:
    """A noise curve in short.

    Attributes:
        factors: noise factors.
        scores: mean scores of the corrupted run at each.
        clean: the clean score.
        low: lower end of the interval of the factor that takes 90 % of the clean score; NaN where it is not known.
        high: its upper end; infinite where no factor of the curve surely takes so much.
        lost_at: the factor from which on all is lost, see `NoiseCurve.lost_at`.
    """

    factors: tuple[float, ...]
    scores: tuple[float, ...]
    clean: float
    low: float = np.nan
    high: float = np.nan
    lost_at: float | None = None


@dataclass(frozen=True)
class Average:
    """What an average over samples has and a single question lacks.

    Attributes:
        samples: number of samples.
        low: lower end of the 95 % confidence interval of the total effect; NaN if unknown.
        high: upper end of it.
    """

    samples: int
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything about one question besides its grids.

    Attributes:
        picture: the picture, JPEG.
        question: the question; of an average, what is averaged.
        given_answer: the answer to score, if one was given; None for the model's own.
        foil: the answer that it is compared with, if any.
        metric: how runs are scored.
        corruption: the corruption's settings, see `blip_trace_widget.tracing.corruption.Corruption.settings`.
        model: the model's name.
        patches: rows and columns of the picture's patches.
        blocks: in the order in which the model runs them.
        clean: the clean run.
        corrupted: the corrupted run.
        total_effect: the scores that the total effect is computed from.
        answer_tokens: word pieces of the scored answer.
        unknown_words: words of the question that the model does not know.
        knows_a_word: whether it knows any.
        other_picture: the picture that was swapped in, JPEG, or empty.
        curve: the noise curve, if known.
        average: for an average over samples, what a single question lacks.
    """

    picture: bytes = field(repr=False)
    question: str
    given_answer: str | None
    foil: str | None
    metric: MetricName
    corruption: Mapping[str, Any]
    model: str
    patches: tuple[int, int]
    blocks: tuple[Block, ...] = field(repr=False)
    clean: RunSummary = field(repr=False)
    corrupted: RunSummary = field(repr=False)
    total_effect: TotalEffect = field(repr=False)
    answer_tokens: tuple[str, ...] = field(repr=False)
    unknown_words: tuple[str, ...] = field(default=(), repr=False)
    knows_a_word: bool = field(default=True, repr=False)
    other_picture: bytes = field(default=b"", repr=False)
    curve: CurveSummary | None = field(default=None, repr=False)
    average: Average | None = field(default=None, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """Word pieces of the question; none of an average over several."""
        return () if self.average else self.block("question_encoder").tokens

    def block(self, name: str) -> Block:
        """The block of that name.

        Raises:
            ValueError: if there is no such block.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise ValueError(f"block: expected one of {[block.name for block in self.blocks]}, got {name!r}")

    # --- reading and writing -----------------------------------------------------------------------------------------

    def packed(self) -> dict[str, Any]:
        """Everything but the pictures, as plain JSON; NaN and infinity as Python's json writes them."""
        stored: _Stored = {
            "question": self.question,
            "given_answer": self.given_answer,
            "foil": self.foil,
            "metric": self.metric,
            "corruption": dict(self.corruption),
            "model": self.model,
            "patches": self.patches,
            "blocks": [_packed_block(block) for block in self.blocks],
            "clean": _packed_run(self.clean),
            "corrupted": _packed_run(self.corrupted),
            "total_effect": {
                "clean": float(self.total_effect.clean),
                "corrupted": [float(score) for score in self.total_effect.corrupted],
            },
            "answer_tokens": list(self.answer_tokens),
            "unknown_words": list(self.unknown_words),
            "knows_a_word": self.knows_a_word,
            "curve": None if self.curve is None else _packed_curve(self.curve),
            "average": None if self.average is None else {**vars(self.average)},  # type: ignore[typeddict-item]
        }
        return dict(stored)

    @classmethod
    def unpacked(cls, data: object, picture: bytes, other_picture: bytes = b"") -> Snapshot:
        """The snapshot that `packed` wrote, read from a file.

        Raises:
            ValueError: if the data do not have the expected shape.
        """
        if isinstance(data, Mapping) and isinstance(data.get("curve"), Mapping):  # older ones know no interval
            data = {**data, "curve": {"low": np.nan, "high": np.nan, "lost_at": None, **data["curve"]}}
        stored: _Stored = conforms("snapshot", data, _Stored)
        average = stored["average"]
        return cls(
            picture=checked_picture("picture", picture),
            other_picture=checked_picture("other_picture", other_picture),
            question=stored["question"],
            given_answer=stored["given_answer"],
            foil=stored["foil"],
            metric=stored["metric"],
            corruption=checked_corruption(stored["corruption"]),
            model=stored["model"],
            patches=(stored["patches"][0], stored["patches"][1]),
            blocks=tuple(
                Block(**{**block, "tokens": tuple(block["tokens"]), "sites": tuple(block["sites"])})  # type: ignore[arg-type]
                for block in stored["blocks"]
            ),
            clean=_run(stored["clean"]),
            corrupted=_run(stored["corrupted"]),
            total_effect=TotalEffect(
                stored["total_effect"]["clean"], np.array(stored["total_effect"]["corrupted"], dtype=np.float64)
            ),
            answer_tokens=tuple(stored["answer_tokens"]),
            unknown_words=tuple(stored["unknown_words"]),
            knows_a_word=stored["knows_a_word"],
            curve=stored["curve"] and _curve(stored["curve"]),
            average=average and Average(**average),
        )


# --- the shapes of its JSON -------------------------------------------------------------------------------------------


class _Block(TypedDict):
    name: BlockName
    layers: int
    heads: int
    tokens: list[str]
    sites: list[SiteName]
    closed: Closed


class _Run(TypedDict):
    answer: str
    score: float
    stderr: float
    words: list[tuple[str, float]]


class _TotalEffect(TypedDict):
    clean: float
    corrupted: list[float]


class _Curve(TypedDict):
    factors: list[float]
    scores: list[float]
    clean: float
    low: float
    high: float
    lost_at: float | None


class _Average(TypedDict):
    samples: int
    low: float
    high: float


class _Stored(TypedDict):
    question: str
    given_answer: str | None
    foil: str | None
    metric: MetricName
    corruption: Any  # one of `CORRUPTIONS`, see `checked_corruption`
    model: str
    patches: tuple[int, int]
    blocks: list[_Block]
    clean: _Run
    corrupted: _Run
    total_effect: _TotalEffect
    answer_tokens: list[str]
    unknown_words: list[str]
    knows_a_word: bool
    curve: _Curve | None
    average: _Average | None


def checked_corruption(stored: Any) -> dict[str, Any]:
    """Return the settings of a corruption from a file if they are valid.

    Raises:
        ValueError: if they are not those of one of the package's own corruptions.
    """
    name = conforms("corruption", stored.get("type") if isinstance(stored, dict) else None, CorruptionName)
    found = dict(conforms("corruption", completed(stored), CORRUPTIONS[name].settings))
    factor = found.get("factor", 0.0)
    if not 0 <= factor <= MAX_FACTOR:
        raise ValueError(f"corruption.factor: expected a number from 0 to {MAX_FACTOR:g}, got {factor}")
    whole_number("corruption.samples", found.get("samples", 1), 1, MOST_SAMPLES)
    whole_number("corruption.seed", found.get("seed", 0), 0, MAX_SEED)
    check_places(found)
    checked_region(found.get("region"))
    checked_positions(found.get("positions"))
    return found


def checked_picture(name: str, picture: bytes) -> bytes:
    """Return a picture from a file, which may be empty, if it is not too large.

    Raises:
        ValueError: if it is too large.
    """
    if len(picture) > MAX_PICTURE_BYTES:
        raise ValueError(f"{name}: expected at most {MAX_PICTURE_BYTES >> 20} MB, got {len(picture)} bytes")
    return picture


def _packed_block(block: Block) -> _Block:
    return {
        "name": block.name,
        "layers": block.layers,
        "heads": block.heads,
        "tokens": list(block.tokens),
        "sites": list(block.sites),
        "closed": block.closed,
    }


def _packed_run(run: RunSummary) -> _Run:
    words = [(word, float(share)) for word, share in run.words.items()]
    return {"answer": run.answer, "score": float(run.score), "stderr": float(run.stderr), "words": words}


def _packed_curve(curve: CurveSummary) -> _Curve:
    return {**vars(curve), "factors": list(curve.factors), "scores": list(curve.scores)}  # type: ignore[typeddict-item]


def _curve(told: _Curve) -> CurveSummary:
    return CurveSummary(**{**told, "factors": tuple(told["factors"]), "scores": tuple(told["scores"])})  # type: ignore[arg-type]


def _run(stored: _Run) -> RunSummary:
    return RunSummary(stored["answer"], stored["score"], stored["stderr"], dict(stored["words"]))


# --- several in one file ----------------------------------------------------------------------------------------------


def pack(snapshots: Sequence[Snapshot]) -> tuple[dict[str, NDArray[np.uint8]], list[dict[str, Any]]]:
    """The pictures of several snapshots as arrays, each once, and the rest as plain JSON."""
    pictures = list(
        dict.fromkeys(picture for snapshot in snapshots for picture in (snapshot.picture, snapshot.other_picture))
    )
    packed = [
        {**snapshot.packed(), "pictures": [pictures.index(snapshot.picture), pictures.index(snapshot.other_picture)]}
        for snapshot in snapshots
    ]
    return {f"picture {at}": np.frombuffer(picture, np.uint8) for at, picture in enumerate(pictures)}, packed


def unpack(arrays: Mapping[str, NDArray[Any]], packed: Sequence[Mapping[str, Any]]) -> list[Snapshot]:
    """The snapshots that `pack` wrote, read from a file.

    Raises:
        KeyError, TypeError, ValueError: if the data do not have the expected shape.
    """
    return [_unpacked(arrays, dict(entry)) for entry in packed]


def _unpacked(arrays: Mapping[str, NDArray[Any]], entry: dict[str, Any]) -> Snapshot:
    numbers = conforms("pictures", entry.pop("pictures"), tuple[int, int])
    names = [f"picture {whole_number('pictures', number, 0)}" for number in numbers]
    return Snapshot.unpacked(entry, *(picture_in(name, arrays[name]) for name in names))


def picture_in(name: str, array: NDArray[Any]) -> bytes:
    """The bytes of a picture stored as an array.

    Raises:
        ValueError: if it is not an array of bytes, or too large.
    """
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"{name}: expected bytes, got {array.dtype} of shape {array.shape}")
    return checked_picture(name, array.tobytes())
