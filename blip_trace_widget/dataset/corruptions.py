"""Which corruption a sample has: one for all, its own partner's picture or question, or what a function makes of it.

For: `blip_trace_widget.dataset.batch`, which asks before anything is computed of a sample. A partner that would measure
something else than it says is none: one that is not there, that equals the original, or that has another number of
tokens; for padding a question would attend to it. (Pictures of any size have the same number of image tokens.)
Ends: at a `Corruption`, or `SkippedError` with the reason.

Source: image pairs and token replacement, Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from blip_trace_widget.corruption_fields import checked_region
from blip_trace_widget.dataset import fingerprints
from blip_trace_widget.dataset.samples import NamedPicture, Sample
from blip_trace_widget.dataset.settings import USERS
from blip_trace_widget.tracing.corruption import (
    OWN,
    Corruption,
    GaussianNoise,
    ImageSwap,
    QuestionSwap,
)

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.tracing.tracer import Tracer

#: Why a sample has no corruption: reasons that are counted.
NO_PARTNER, UNREADABLE_PARTNER, OTHER_LENGTH, SAME_PARTNER, SAME_ANSWER, UNMADE = (
    "it has no partner",
    "the partner's picture cannot be read",
    "the partner's question has another number of tokens",
    "the partner equals the original",
    "the partner gives the same answer",
    "no corruption can be made of it",
)
#: The field of a sample that each corruption by a partner takes.
PARTNERS: dict[type[Corruption], str] = {ImageSwap: "other_image", QuestionSwap: "other_question"}
USERS_CLASS, USERS_FUNCTION = USERS

ACCEPTED = (
    "one such as GaussianNoise(), the class ImageSwap or QuestionSwap (each sample's own partner), or a function of "
    "the sample that gives one"
)

Given: TypeAlias = "Corruption | type[Corruption] | Callable[[Sample], Corruption] | None"


class SkippedError(Exception):
    """A sample is not traced.

    Args:
        reason: one of those that are counted.
        why: what exactly.
    """

    def __init__(self, reason: str, why: object) -> None:
        super().__init__(str(why))
        self.reason = reason


@dataclass(frozen=True)
class ForAll:
    """One corruption for all samples; noise is drawn for each of them anew, see `own_noise`."""

    corruption: Corruption

    def of(self, sample: Sample, _model: BlipVqa) -> Corruption:
        """The corruption of a sample."""
        return own_noise(self.corruption, sample.id)

    def reaches(self, block: str) -> bool:
        """Whether there can be a grid of a block."""
        return self.corruption.reaches(block)

    def damages_image(self) -> bool:
        """Whether there can be a map of image tokens."""
        return self.corruption.damages_image

    def check(self, tracer: Tracer) -> None:
        """Nothing: no partner is a sample's own."""

    def settings(self, model: BlipVqa) -> dict[str, Any]:
        """What makes the same again, as plain JSON.

        Raises:
            ValueError: if it does not fit the model.
        """
        checked_region(getattr(self.corruption, "region", None), model.grid)
        kind, told = type(self.corruption), self.corruption.settings()
        if kind in OWN.values():
            return told
        fingerprint = fingerprints.of_instance(self.corruption)
        return {"type": USERS_CLASS, "name": kind.__qualname__, "fingerprint": fingerprint, "settings": told}


@dataclass(frozen=True)
class FromPartner:
    """The picture or question of each sample's own partner.

    Attributes:
        kind: `ImageSwap`, `QuestionSwap`, or a class derived from one.
        base: which of the two.
    """

    kind: type[Any]
    base: type[Corruption]

    def of(self, sample: Sample, model: BlipVqa) -> Corruption:
        """The corruption of a sample.

        Raises:
            SkippedError: if it has no partner, or one that cannot be used.
        """
        field = PARTNERS[self.base]
        partner = getattr(sample, field)
        if partner is None:
            raise SkippedError(NO_PARTNER, f"{field}: there is none, and corruption={self.base.__name__} needs it")
        try:
            made: Corruption = self.kind(_picture(partner))
        except (TypeError, ValueError, OSError) as error:
            raise SkippedError(UNREADABLE_PARTNER, f"other_{error}") from error
        _check_question(made, sample, model)
        return made

    def reaches(self, block: str) -> bool:
        """Whether there can be a grid of a block."""
        # What a derived class reaches is known of its instances, which are checked one by one.
        return self.kind is not self.base or object.__new__(self.base).reaches(block)

    def damages_image(self) -> bool:
        """Whether there can be a map of image tokens."""
        return self.kind is not self.base or object.__new__(self.base).damages_image

    @property
    def pictures(self) -> tuple[str, ...]:
        """The fields of a sample whose pictures it takes as they are; a derived class may want the file."""
        return (PARTNERS[self.base],) if self.kind is ImageSwap else ()

    def check(self, tracer: Tracer) -> None:
        """Whether the partner is another picture.

        Raises:
            SkippedError: if it is the same.
        """
        _check_picture(tracer)

    def settings(self, _model: BlipVqa) -> dict[str, Any]:
        """What makes the same again, as plain JSON."""
        field = PARTNERS[self.base]
        if self.kind is not self.base:
            fingerprint = fingerprints.of_class(self.kind)
            return {"type": USERS_CLASS, "name": self.kind.__qualname__, "fingerprint": fingerprint, "partner": field}
        if self.base is QuestionSwap:  # with the fields of its settings alone, which a widget reads
            return {"type": self.base.__name__, "question": f"each sample's {field}"}
        return {"type": self.base.__name__, "partner": field, "region": None, "at": self.base.at}


@dataclass(frozen=True)
class FromFunction:
    """What a function makes of each sample; whatever is to be random in it, it draws itself."""

    function: Callable[[Sample], Any]

    def of(self, sample: Sample, model: BlipVqa) -> Corruption:
        """The corruption of a sample.

        Raises:
            SkippedError: if none can be made of it, or from a partner that cannot be used.
            TypeError: if the function gives something else.
        """
        try:
            seen = sample._replace(image=_picture(sample.image), other_image=_picture(sample.other_image))
            made = self.function(seen)
        except (TypeError, ValueError, OSError) as error:
            raise SkippedError(UNMADE, error) from error
        if not isinstance(made, Corruption):
            raise TypeError(
                f"corruption: expected a function that gives a Corruption, got {type(made).__name__} for {sample.id!r}"
            )
        _check_question(made, sample, model)
        return made

    def reaches(self, _block: str) -> bool:
        """Not known before the first sample: see `check`."""
        return True

    def damages_image(self) -> bool:
        """Not known before the first sample."""
        return True

    def check(self, tracer: Tracer) -> None:
        """See `FromPartner.check`."""
        _check_picture(tracer)

    def settings(self, _model: BlipVqa) -> dict[str, Any]:
        """What tells it from others, as plain JSON."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"type": USERS_FUNCTION, "name": name, "fingerprint": fingerprints.of_callable(self.function)}


Source: TypeAlias = "ForAll | FromPartner | FromFunction"


def as_source(given: Given) -> Source:
    """Where the corruption of each sample comes from.

    Raises:
        TypeError: naming what was given and what is accepted.
    """
    if given is None:
        return ForAll(GaussianNoise())
    if isinstance(given, Corruption):
        return ForAll(given)
    if isinstance(given, type):
        for base in PARTNERS:
            if issubclass(given, base):
                return FromPartner(given, base)
        raise TypeError(f"corruption: expected {ACCEPTED}, got the class {given.__name__}: give {given.__name__}(...)")
    if callable(given):
        return FromFunction(given)
    raise TypeError(f"corruption: expected {ACCEPTED}, got {type(given).__name__}")


def own_noise(corruption: Corruption, name: str) -> Corruption:
    """A sample's corruption: its seed is the given one plus the sample's id if that is a whole number, else its CRC-32.

    So the noise depends only on the sample, not on its place in the list or the other samples.
    """
    if not isinstance(corruption, GaussianNoise):
        return corruption
    step = int(name) if re.fullmatch(r"\d{1,15}", name, re.ASCII) else zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return replace(corruption, seed=(corruption.seed + step) % 2**63)


def is_pair(source: Source, corruption: Corruption) -> bool:
    """Whether a corruption comes from a sample's own partner, whose answer then should be another."""
    return not isinstance(source, ForAll) and isinstance(corruption, tuple(PARTNERS))


def _picture(given: Any) -> Any:
    """What `ImageSwap` takes, of a picture that travelled to a worker."""
    return given.opened() if isinstance(given, NamedPicture) else given


def _check_question(made: Corruption, sample: Sample, model: BlipVqa) -> None:
    """Whether another question can be asked in the place of the sample's own."""
    if not isinstance(made, QuestionSwap):
        return
    try:
        own = model.question_ids(sample.question)
        other = model.question_ids(made.question)
    except (TypeError, ValueError):
        return  # which of them, and why, the tracer says
    if own == other:
        raise SkippedError(SAME_PARTNER, f"other_question: {made.question!r} is read as the same tokens")
    try:
        made.question_ids(own, model)
    except ValueError as error:
        raise SkippedError(OTHER_LENGTH, error) from error


def _check_picture(tracer: Tracer) -> None:
    made = tracer.corruption
    if isinstance(made, ImageSwap) and made.sha256 == tracer.case.image.sha256():
        raise SkippedError(SAME_PARTNER, "other_image: it has the same pixels")
