"""Corruptions: ways to damage the model's input.

For: the corrupted run. A corruption says which embeddings it damages (`at`): what enters the ViT, what leaves it, or
what enters the question encoder. It adds ``strength * delta`` to these, one delta for each sample. Because keys and
values are linear in the image tokens, whoever knows `delta` can project it once and then change `strength` for free;
that is why the two are apart. One that asks other words instead adds nothing.
Cost: `delta` holds samples x tokens x width float32 numbers (image tokens of BLIP base: 1.8 MB a sample); `ImageSwap`
needs one ViT pass, whatever damages the patch embeddings one a sample and factor.
Ends: at tokens; running the model on them is `blip_trace_widget.model.block`'s.

Sources: multiplicative noise, Palit et al. 2023 (arXiv 2308.14179), section 3; additive noise scaled by the standard
deviation of the embeddings, Meng et al. 2022 (ROME, arXiv 2202.05262), section 2.1; image and question pairs,
Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320); mean ablation, Wang et al. 2022 (arXiv 2211.00593), section 2.1;
scaled image tokens, the published attention notebook of Palit et al. 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.choices import (
    CORRUPTIONS,
    GOALS,
    IMAGE_PLACES,
    MAX_SEED,
    MOST_SAMPLES,
    NOISE_KINDS,
    PLACES,
    Goal,
    ImagePlace,
    NoiseKind,
    Place,
)
from blip_trace_widget.corruption_fields import (
    check_places,
    checked_factor,
    checked_positions,
    checked_region,
    means_something,
)
from blip_trace_widget.pictures import as_image, jpeg, picture_hash
from blip_trace_widget.results.summaries import region_size
from blip_trace_widget.states import TEXT_BLOCKS
from blip_trace_widget.tracing.damaged_tokens import token_mask
from blip_trace_widget.tracing.noise_stream import standard_normal
from blip_trace_widget.tracing.positions import whole_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from blip_trace_widget.model.blip import BlipVqa

#: All samples.
ALL = slice(None)


class Corruption:
    """The base class of all corruptions: what the tracer needs of one.

    Instances are immutable, comparable and hashable. A subclass overrides `delta` (image) or `question_ids` (question).

    Attributes:
        samples: number of corrupted runs, S.
        at: the embeddings that `delta` is added to, ``"patch_embeddings"`` or ``"image_embeddings"``.
    """

    samples: int = 1
    #: Which embeddings `delta` is added to, one of `PLACES`; None: to none, other words are asked (`question_ids`).
    at: Place | None = "image_embeddings"

    def __repr__(self) -> str:
        own: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        names = [each.name for each in own if each.repr]
        shown = {name: getattr(self, name) for name in names if means_something(name, self.at)}
        texts = {name: repr(value) for name, value in shown.items()}
        if shown.get("region") is not None:
            texts["region"] = region_size(shown["region"])
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts.items())})"

    @property
    def strength(self) -> float:
        """The factor that `delta` is multiplied by."""
        return 1.0

    def unit(self) -> Corruption:
        """The same corruption at strength 1: all corruptions with the same unit share their delta."""
        return self

    def check(self, model: BlipVqa, question: list[int]) -> None:
        """Check that this corruption fits a model and a question.

        Args:
            model: the model.
            question: token ids of the clean question.

        Raises:
            TypeError, ValueError: naming what does not fit.
        """
        checked_region(getattr(self, "region", None), model.grid)
        self.question_ids(question, model)
        self.located(model.tokens(question))

    @property
    def damages_image(self) -> bool:
        """Whether the corrupted run sees a different image."""
        return self.at in IMAGE_PLACES

    def reaches(self, block: str) -> bool:
        """Whether a block's states differ between the clean and the corrupted run."""
        return block in TEXT_BLOCKS or self.at == "patch_embeddings"

    def located(self, tokens: Sequence[str]) -> Corruption:  # noqa: ARG002 - others damage words
        """The same, with words of the question turned into their positions among its tokens.

        Raises:
            ValueError: if the question has not these words or positions.
        """
        return self

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:
        """What is added to the clean embeddings at strength 1.

        Args:
            embeddings: the clean embeddings `at` which this corruption sits, (tokens, width); of an image, token 0 is
                the class token.
            model: the model.
            part: which of the samples.

        Returns:
            (samples of the part, tokens, width), float32, on the device of `embeddings`.

        Raises:
            NotImplementedError: if a subclass does not override it.
        """
        raise NotImplementedError

    def question_ids(self, clean: list[int], model: BlipVqa) -> list[int]:  # noqa: ARG002 - others need the model
        """Token ids of the corrupted run's question, as many as the clean one has."""
        return clean

    def settings(self) -> dict[str, Any]:
        """The arguments that recreate this corruption, as plain JSON."""
        return {"type": type(self).__name__}


class OwnCorruption(Corruption):
    """One of the package's own: a dataclass whose fields, all that are compared, are its settings."""

    def settings(self) -> dict[str, Any]:
        """The arguments that recreate it, as plain JSON; of a picture its hash."""
        told = {each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.compare}  # type: ignore[arg-type]
        return {"type": type(self).__name__, **told}


@dataclass(frozen=True, repr=False)
class GaussianNoise(OwnCorruption):
    """Gaussian noise on the image tokens, or on words of the question.

    ``multiplicative`` (Palit et al. 2023): e * (1 + factor * z). ``additive`` (ROME): e + factor * sigma * z, with
    sigma the standard deviation of the clean embeddings of this image, or question, over all tokens and widths. z is
    standard normal, (samples, tokens, width), drawn on the CPU from `seed` alone, and so the same for every factor, run
    and device (common random numbers).

    Attributes:
        factor: the noise factor, 0 or more.
        kind: ``"multiplicative"`` or ``"additive"``.
        samples: independent noise samples, each one corrupted run.
        seed: seed of the noise bank.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is hit, the class token too. Not for a question.
        at: ``"image_embeddings"``, the ViT's final output, as in the paper; ``"patch_embeddings"``, what enters the
            ViT's first layer (patches and class token with their positions), so that its states can be traced too; or
            ``"question_embeddings"``, what enters the question encoder's first layer (words with their positions), as
            ROME does.
        positions: of ``"question_embeddings"``: the question's tokens that are hit, one or several, by number or as
            words. None: all of them, ``[CLS]`` and ``[SEP]`` too.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    factor: float = 5.0
    kind: NoiseKind = "multiplicative"
    samples: int = 10
    seed: int = 0
    region: Sequence[Sequence[bool]] | None = None
    at: Place = "image_embeddings"
    positions: int | str | Sequence[int | str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checked_factor("factor", self.factor))
        object.__setattr__(self, "kind", named("kind", self.kind, NOISE_KINDS))
        object.__setattr__(self, "samples", whole_number("samples", self.samples, 1, MOST_SAMPLES))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0, MAX_SEED))
        object.__setattr__(self, "region", checked_region(self.region))
        object.__setattr__(self, "at", named("at", self.at, PLACES))
        object.__setattr__(self, "positions", checked_positions(self.positions))
        check_places(vars(self))

    @property
    def _tokens(self) -> tuple[int | str, ...] | None:
        """`positions` as they are kept."""
        return cast("tuple[int | str, ...] | None", self.positions)

    @property
    def strength(self) -> float:
        """The noise factor."""
        return self.factor

    def unit(self) -> GaussianNoise:
        """The same noise at factor 1."""
        return replace(self, factor=1.0)

    def located(self, tokens: Sequence[str]) -> GaussianNoise:
        """See `Corruption.located`."""
        if self.positions is None:
            return self
        found = whole_numbers("positions", self.positions, len(tokens), tokens)
        return replace(self, positions=sorted(found))

    def bank(self, tokens: int, width: int, part: slice = ALL) -> torch.Tensor:
        """The standard normal numbers z of some samples, (samples, tokens, width), float32, on the CPU.

        A part is a slice of the one draw of all samples, see `blip_trace_widget.tracing.noise_stream`.
        """
        start, stop, _ = part.indices(self.samples)
        return standard_normal(self.seed, (self.samples, tokens, width), start, stop)

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        from blip_trace_widget.model.transfer import to_device

        clean = at_least_single(embeddings)
        tokens, width = clean.shape
        noise = to_device(self.bank(tokens, width, part).to(clean.dtype), clean.device)
        noise *= clean if self.kind == "multiplicative" else clean.std()
        return _on(token_mask(tokens, self.region, self._tokens), noise)


@dataclass(frozen=True, repr=False)
class Scale(OwnCorruption):
    """Image tokens times a factor: no noise, and one corrupted run.

    Attributes:
        factor: 0 or more; 1 leaves the tokens as they are. The published attention notebook has 0.7691.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is scaled.
        at: ``"image_embeddings"``, the ViT's final output; or ``"patch_embeddings"``, what enters its first layer.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    factor: float = 0.7691
    region: Sequence[Sequence[bool]] | None = None
    at: ImagePlace = "image_embeddings"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checked_factor("factor", self.factor))
        object.__setattr__(self, "region", checked_region(self.region))
        object.__setattr__(self, "at", named("at", self.at, IMAGE_PLACES))

    @property
    def strength(self) -> float:
        """By how much the factor differs from 1; below 0 where tokens get shorter."""
        return self.factor - 1.0

    def unit(self) -> Scale:
        """The same at factor 2, which adds each token to itself once."""
        return replace(self, factor=2.0)

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        return _on(token_mask(len(embeddings), self.region), at_least_single(embeddings)[None])


@dataclass(frozen=True, repr=False)
class ImageSwap(OwnCorruption):
    """Another image's tokens instead of this one's (NOTICE's semantic pairs).

    Attributes:
        image: the other image, of any kind that `blip_trace_widget.Tracer` takes.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is swapped.
        at: ``"image_embeddings"``, the ViT's output; or ``"patch_embeddings"``, the input of its first layer, so that
            its states can be traced too.

    Raises:
        TypeError, ValueError, OSError: naming the argument, what was given and what is accepted.
    """

    image: Any = field(compare=False, repr=False)
    region: Sequence[Sequence[bool]] | None = None
    at: ImagePlace = "image_embeddings"
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        picture = as_image(self.image)
        object.__setattr__(self, "image", picture)
        object.__setattr__(self, "sha256", picture_hash(picture))
        object.__setattr__(self, "region", checked_region(self.region))
        object.__setattr__(self, "at", named("at", self.at, IMAGE_PLACES))

    @cached_property
    def jpeg(self) -> bytes:
        """The other picture as JPEG bytes, shrunk for display."""
        return jpeg(self.image)

    def within(self, region: Sequence[Sequence[bool]] | None, at: ImagePlace = "image_embeddings") -> ImageSwap:
        """The same picture, swapped in only within a region; it is not hashed again."""
        made = copy.copy(self)
        object.__setattr__(made, "region", checked_region(region))
        object.__setattr__(made, "at", named("at", at, IMAGE_PLACES))
        return made

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        other = (model.embed_patches if self.at == "patch_embeddings" else model.embed_image)(self.image)
        return _on(token_mask(len(other), self.region), (at_least_single(other) - at_least_single(embeddings))[None])


@dataclass(frozen=True, repr=False)
class QuestionSwap(OwnCorruption):
    """Another question with the same number of tokens instead of this one; the image stays.

    Attributes:
        question: the other question. A `Tracer` checks it, since that takes the model.
    """

    question: str
    at = None

    def __post_init__(self) -> None:
        if isinstance(self.question, str):  # anything else is refused in `question_ids`
            object.__setattr__(self, "question", self.question.strip())

    @property
    def damages_image(self) -> bool:
        """False."""
        return False

    def question_ids(self, clean: list[int], model: BlipVqa) -> list[int]:
        """See `Corruption.question_ids`.

        Raises:
            TypeError, ValueError: if the other question is not a text, or has a different number of tokens.
        """
        ids = model.question_ids(self.question)
        if len(ids) != len(clean):
            raise ValueError(
                f"question (of QuestionSwap): expected {len(clean)} tokens as in {model.tokens(clean)}, "
                f"got {len(ids)}: {model.tokens(ids)}"
            )
        return ids


@dataclass(frozen=True, repr=False)
class MeanAblation(OwnCorruption):
    """Image tokens replaced by their mean over this image, or by zero.

    Attributes:
        to: ``"mean"`` or ``"zero"``.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is replaced.
        at: ``"image_embeddings"``, the ViT's output; or ``"patch_embeddings"``, the input of its first layer, so that
            its states can be traced too.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    to: Goal = "mean"
    region: Sequence[Sequence[bool]] | None = None
    at: ImagePlace = "image_embeddings"

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", named("to", self.to, GOALS))
        object.__setattr__(self, "region", checked_region(self.region))
        object.__setattr__(self, "at", named("at", self.at, IMAGE_PLACES))

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        clean = at_least_single(embeddings)
        goal = clean.mean(0) if self.to == "mean" else 0.0
        return _on(token_mask(len(clean), self.region), (goal - clean)[None])


def from_settings(settings: Mapping[str, Any], swapped: Callable[[], ImageSwap]) -> Corruption:
    """Recreate one of the package's own corruptions from its `settings`.

    Args:
        settings: those of the corruption.
        swapped: returns the `ImageSwap` whose picture is to be used, which settings do not hold.

    Raises:
        TypeError, ValueError: naming the field, what was given and what is accepted.
    """
    name = one_of("corruption", settings["type"], CORRUPTIONS)
    if name == "ImageSwap":
        return swapped().within(settings["region"], settings["at"])
    return OWN[name](**{field: value for field, value in settings.items() if field != "type"})


#: The package's own corruptions by name.
OWN: dict[str, Callable[..., Corruption]] = {
    made.__name__: made for made in (GaussianNoise, Scale, ImageSwap, QuestionSwap, MeanAblation)
}


def _on(mask: torch.Tensor | None, delta: torch.Tensor) -> torch.Tensor:
    """A delta, (samples, tokens, width), with zeros at all other tokens."""
    from blip_trace_widget.model.transfer import to_device

    return delta if mask is None else delta * to_device(mask, delta.device)[:, None]


def at_least_single(embeddings: torch.Tensor) -> torch.Tensor:
    """Numbers in float32, or in float64 if they are."""
    import torch

    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
