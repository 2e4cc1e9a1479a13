"""Corruptions: ways to damage the model's input.

For: the corrupted run. A corruption of the image adds ``strength * delta`` to its embeddings, one delta per sample.
Keys and values are linear in the image tokens, so `delta` is projected once and `strength` then changes for free; that
is why the two are separate. A corruption of the question gives other question tokens instead.
Cost: `delta` holds samples x image tokens x width float32 numbers (BLIP base: 1.8 MB per sample); `ImageSwap` needs one
ViT pass, noise on the patch embeddings one per sample and factor.
Ends: at tokens; `blip_trace_widget.model.block` runs the model on them.

Sources: multiplicative noise, Palit et al. 2023 (arXiv 2308.14179), section 3; additive noise scaled by the standard
deviation of the embeddings, Meng et al. 2022 (ROME, arXiv 2202.05262), section 2.1; image and question pairs,
Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320); mean ablation, Wang et al. 2022 (arXiv 2211.00593), section 2.1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import named, one_of, whole_number
from blip_trace_widget.choices import CORRUPTIONS, GOALS, NOISE_KINDS, PLACES, Goal, NoiseKind, Place
from blip_trace_widget.pictures import as_image, jpeg, picture_hash
from blip_trace_widget.results.summaries import region_size
from blip_trace_widget.states import TEXT_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from blip_trace_widget.model.blip import BlipVqa

MAX_SAMPLES = 10_000
#: Beyond this, float32 overflows somewhere in the model.
MAX_FACTOR = 1e6


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
    at: Place = "image_embeddings"

    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}  # type: ignore[arg-type]
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

    @property
    def damages_image(self) -> bool:
        """Whether the corrupted run sees a different image."""
        return True

    def reaches(self, block: str) -> bool:
        """Whether a block's states differ between the clean and the corrupted run."""
        return block in TEXT_BLOCKS or (self.damages_image and self.at == "patch_embeddings")

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:
        """What is added to the clean embeddings at strength 1.

        Args:
            embeddings: the clean embeddings that `at` names, (image tokens, width); token 0 is the class token.
            model: the model.
            part: which of the samples.

        Returns:
            (samples of the part, image tokens, width), float32, on the device of `embeddings`.

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


@dataclass(frozen=True, repr=False)
class GaussianNoise(Corruption):
    """Gaussian noise on the image tokens.

    ``multiplicative`` (Palit et al. 2023): e * (1 + factor * z). ``additive`` (ROME): e + factor * sigma * z, with
    sigma the standard deviation of this image's clean embeddings over all tokens and widths. z is standard normal,
    drawn on the CPU from `seed` alone, and therefore the same for every factor, run and device (common random numbers).

    Attributes:
        factor: the noise factor, 0 or more.
        kind: ``"multiplicative"`` or ``"additive"``.
        samples: independent noise samples, each one corrupted run.
        seed: seed of the noise bank.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token gets noise, the class token too.
        at: ``"image_embeddings"``, the ViT's final output, as in the paper; or ``"patch_embeddings"``, the input of the
            ViT's first layer (patches and class token with their positions), so that its states can be traced too.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    factor: float = 5.0
    kind: NoiseKind = "multiplicative"
    samples: int = 10
    seed: int = 0
    region: Sequence[Sequence[bool]] | None = None
    at: Place = "image_embeddings"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checked_factor("factor", self.factor))
        object.__setattr__(self, "kind", named("kind", self.kind, NOISE_KINDS))
        object.__setattr__(self, "samples", whole_number("samples", self.samples, 1, MAX_SAMPLES))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0, 2**63 - 1))
        object.__setattr__(self, "region", checked_region(self.region))
        object.__setattr__(self, "at", named("at", self.at, PLACES))

    @property
    def strength(self) -> float:
        """The noise factor."""
        return self.factor

    def unit(self) -> GaussianNoise:
        """The same noise at factor 1."""
        return replace(self, factor=1.0)

    def bank(self, tokens: int, width: int, part: slice = ALL) -> torch.Tensor:
        """The standard normal numbers z of some samples, (samples, tokens, width), float32, on the CPU.

        A part is a slice of the one draw of all samples. If torch's generator allows it (it fills 16 numbers at a
        time), samples after the part are not drawn, and those before it are not kept.
        """
        import torch

        generator = torch.Generator("cpu").manual_seed(self.seed)
        start, stop, _ = part.indices(self.samples)
        # Explicit, whatever torch's default dtype and device are: another dtype would give other numbers.
        kind: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
        if tokens * width % 16:
            return torch.randn((self.samples, tokens, width), **kind)[part]
        for _ in range(start):
            torch.randn((tokens, width), **kind)
        return torch.randn((stop - start, tokens, width), **kind)

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        clean = at_least_single(embeddings)
        tokens, width = clean.shape
        noise = self.bank(tokens, width, part).to(clean.device, clean.dtype)
        noise *= clean if self.kind == "multiplicative" else clean.std()
        return _within(self.region, noise)

    def settings(self) -> dict[str, Any]:
        """The arguments that recreate this noise, as plain JSON."""
        return {
            "type": "GaussianNoise",
            "factor": self.factor,
            "kind": self.kind,
            "samples": self.samples,
            "seed": self.seed,
            "region": plain_region(self.region),
            "at": self.at,
        }


@dataclass(frozen=True, repr=False)
class ImageSwap(Corruption):
    """Another image's tokens instead of this one's (NOTICE's semantic pairs).

    Attributes:
        image: the other image, of any kind that `blip_trace_widget.Tracer` takes.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is swapped.
        sha256: hash of the other image's size and pixels.

    Raises:
        TypeError, ValueError, OSError: naming the argument, what was given and what is accepted.
    """

    image: Any = field(compare=False, repr=False)
    region: Sequence[Sequence[bool]] | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        picture = as_image(self.image)
        object.__setattr__(self, "image", picture)
        object.__setattr__(self, "sha256", picture_hash(picture))
        object.__setattr__(self, "region", checked_region(self.region))

    @cached_property
    def jpeg(self) -> bytes:
        """The other picture as JPEG bytes, shrunk for display."""
        return jpeg(self.image)

    def within(self, region: Sequence[Sequence[bool]] | None) -> ImageSwap:
        """The same picture, swapped in only within a region; it is not hashed again."""
        made = copy.copy(self)
        object.__setattr__(made, "region", checked_region(region))
        return made

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        other = at_least_single(model.embed_image(self.image)) - at_least_single(embeddings)
        return _within(self.region, other[None])

    def settings(self) -> dict[str, Any]:
        """The hash of the other image and the region, as plain JSON."""
        return {"type": "ImageSwap", "sha256": self.sha256, "region": plain_region(self.region)}


@dataclass(frozen=True, repr=False)
class QuestionSwap(Corruption):
    """Another question with the same number of tokens instead of this one; the image stays.

    Attributes:
        question: the other question. A `Tracer` checks it, since that takes the model.
    """

    question: str

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

    def settings(self) -> dict[str, Any]:
        """The arguments that recreate it, as plain JSON."""
        return {"type": "QuestionSwap", "question": self.question}


@dataclass(frozen=True, repr=False)
class MeanAblation(Corruption):
    """Image tokens replaced by their mean over this image, or by zero.

    Attributes:
        to: ``"mean"`` or ``"zero"``.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is replaced.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    to: Goal = "mean"
    region: Sequence[Sequence[bool]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", named("to", self.to, GOALS))
        object.__setattr__(self, "region", checked_region(self.region))

    def delta(self, embeddings: torch.Tensor, model: BlipVqa, part: slice = ALL) -> torch.Tensor:  # noqa: ARG002
        """See `Corruption.delta`."""
        clean = at_least_single(embeddings)
        goal = clean.mean(0) if self.to == "mean" else 0.0
        return _within(self.region, (goal - clean)[None])

    def settings(self) -> dict[str, Any]:
        """The arguments that recreate it, as plain JSON."""
        return {"type": "MeanAblation", "to": self.to, "region": plain_region(self.region)}


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
        return swapped().within(settings["region"])
    return OWN[name](**{field: value for field, value in settings.items() if field != "type"})


#: The package's own corruptions by name.
OWN: dict[str, Callable[..., Corruption]] = {
    made.__name__: made for made in (GaussianNoise, ImageSwap, QuestionSwap, MeanAblation)
}


def _within(region: Sequence[Sequence[bool]] | None, delta: torch.Tensor) -> torch.Tensor:
    """A delta, (samples, image tokens, width), set to zero outside the region."""
    return delta if region is None else delta * region_mask(region, delta.device)[:, None]


def at_least_single(embeddings: torch.Tensor) -> torch.Tensor:
    """Numbers in float32, or in float64 if they are."""
    import torch

    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def plain_region(region: Sequence[Sequence[bool]] | None) -> list[list[bool]] | None:
    """A region as plain JSON."""
    return None if region is None else [list(row) for row in region]


def checked_factor(name: str, value: object) -> float:
    """Return a noise factor as float.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is NaN, infinite, negative or too large.
    """
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number of 0 or more, got {type(value).__name__} {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name}: expected a number of 0 or more, got {type(value).__name__}: {error}") from error
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}: expected a finite number of 0 or more, got {number}")
    if number > MAX_FACTOR:
        raise ValueError(f"{name}: expected a number from 0 to {MAX_FACTOR:g}, got {number}")
    return number


def region_mask(region: Sequence[Sequence[bool]], device: torch.device) -> torch.Tensor:
    """The region as a mask over image tokens, (1 + rows * columns,) bool, False for the class token."""
    import torch

    patches = torch.tensor([cell for row in region for cell in row], dtype=torch.bool, device=device)
    return torch.cat([patches.new_zeros(1), patches])


def checked_region(value: Any, grid: tuple[int, int] | None = None) -> tuple[tuple[bool, ...], ...] | None:
    """A region as nested tuples, so that corruptions stay hashable.

    Args:
        value: a boolean (rows, columns) mask, or None.
        grid: rows and columns that it must have, if known.

    Raises:
        ValueError: if it is not such a mask, is empty, or has another shape.
    """
    if value is None:
        return None
    import numpy as np

    try:
        mask = np.asarray(value)
    except ValueError as error:
        raise ValueError("region: expected a boolean (rows, columns) mask, got rows of unequal length") from error
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(
            f"region: expected a boolean (rows, columns) mask, got an array of shape {mask.shape} and type {mask.dtype}"
        )
    if not mask.any():
        raise ValueError("region: expected at least one patch, got an empty mask")
    if grid is not None and mask.shape != grid:
        raise ValueError(
            f"region: expected {grid[0]} x {grid[1]} patches (rows x columns), got {mask.shape[0]} x {mask.shape[1]}"
        )
    return tuple(tuple(bool(cell) for cell in row) for row in mask)
