"""Ways to damage the model's view of an image.

For: the corrupted run. A corruption that sits behind the ViT adds ``strength * delta`` to the image tokens, one delta
for each sample. Because keys and values are linear in the image tokens, whoever knows `delta` can project it once and
then change `strength` for free; that is why the two are apart.
Cost: `delta` draws and holds samples x image tokens x width float32 numbers (BLIP base: 1.8 MB a sample).
Ends: at image tokens; running the model on them is `blip_trace_widget.forward`'s.

Sources: multiplicative noise, Palit et al. 2023 (arXiv 2308.14179), section 3; additive noise scaled by the standard
deviation of the embeddings, Meng et al. 2022 (ROME, arXiv 2202.05262), section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from blip_trace_widget.sites import one_of, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

NOISE_KINDS = ("multiplicative", "additive")
MAX_SAMPLES = 10_000


class Corruption(Protocol):
    """What the tracer needs of a corruption; instances are immutable, comparable and hashable."""

    @property
    def samples(self) -> int:
        """Number of corrupted runs, S."""

    @property
    def strength(self) -> float:
        """What `delta` is multiplied with."""

    def unit(self) -> Corruption:
        """The same corruption at strength 1: all corruptions with the same unit share their delta."""

    def delta(self, image_tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """What is added to the clean image tokens at strength 1.

        Args:
            image_tokens: clean embeddings, (image tokens, width); token 0 is the class token.
            grid: rows and columns of image patches.

        Returns:
            (samples, image tokens, width), float32, on the device of `image_tokens`.
        """

    def settings(self) -> dict[str, Any]:
        """The arguments that make this corruption again, as plain JSON."""


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise on the image tokens.

    ``multiplicative`` (Palit et al. 2023): e * (1 + factor * z). ``additive`` (ROME): e + factor * sigma * z, with
    sigma the standard deviation of this image's clean embeddings over all tokens and widths. z is standard normal,
    drawn on the CPU from `seed` alone, and so the same for every factor, run and device (common random numbers).

    Attributes:
        factor: the noise factor, 0 or more.
        kind: ``"multiplicative"`` or ``"additive"``.
        samples: independent noise samples, each one corrupted run.
        seed: seed of the noise bank.
        region: boolean (rows, columns) over image patches; tokens outside it, and the class token, keep their clean
            value. None: every token is hit, the class token too.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """

    factor: float = 5.0
    kind: str = "multiplicative"
    samples: int = 10
    seed: int = 0
    region: Sequence[Sequence[bool]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checked_factor("factor", self.factor))
        one_of("kind", self.kind, NOISE_KINDS)
        object.__setattr__(self, "samples", whole_number("samples", self.samples, 1, MAX_SAMPLES))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0, 2**63 - 1))
        object.__setattr__(self, "region", _as_region(self.region))

    @property
    def strength(self) -> float:
        """The noise factor."""
        return self.factor

    def unit(self) -> GaussianNoise:
        """The same noise at factor 1."""
        return replace(self, factor=1.0)

    def bank(self, tokens: int, width: int) -> torch.Tensor:
        """The standard normal numbers z, (samples, tokens, width), float32, on the CPU."""
        import torch

        return torch.randn((self.samples, tokens, width), generator=torch.Generator("cpu").manual_seed(self.seed))

    def delta(self, image_tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """See `Corruption.delta`."""
        clean = image_tokens.float()
        noise = self.bank(*clean.shape).to(clean.device)
        noise *= clean if self.kind == "multiplicative" else clean.std()
        if self.region is not None:
            noise *= region_mask(self.region, grid, clean.device)[:, None]
        return noise

    def settings(self) -> dict[str, Any]:
        """The arguments that make this noise again, as plain JSON."""
        region = None if self.region is None else [list(row) for row in self.region]
        return {
            "type": "GaussianNoise",
            "factor": self.factor,
            "kind": self.kind,
            "samples": self.samples,
            "seed": self.seed,
            "region": region,
        }


def checked_factor(name: str, value: object) -> float:
    """Return a noise factor as float.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is NaN, infinite or negative.
    """
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number of 0 or more, got {type(value).__name__} {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}: expected a finite number of 0 or more, got {number}")
    return number


def region_mask(region: Sequence[Sequence[bool]], grid: tuple[int, int], device: torch.device) -> torch.Tensor:
    """The region as a mask over image tokens, (1 + rows * columns,) bool, False for the class token.

    Raises:
        ValueError: if the region has other rows or columns than the image's grid of patches.
    """
    import torch

    shape = (len(region), len(region[0]))
    if shape != grid:
        raise ValueError(
            f"region: expected {grid[0]} x {grid[1]} patches (rows x columns), got {shape[0]} x {shape[1]}"
        )
    patches = torch.tensor([cell for row in region for cell in row], dtype=torch.bool, device=device)
    return torch.cat([patches.new_zeros(1), patches])


def _as_region(value: Any) -> tuple[tuple[bool, ...], ...] | None:
    """A region as nested tuples, so that corruptions stay hashable."""
    if value is None:
        return None
    import numpy as np

    mask = np.asarray(value)
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(
            f"region: expected a boolean (rows, columns) mask, got an array of shape {mask.shape} and type {mask.dtype}"
        )
    if not mask.any():
        raise ValueError("region: expected at least one patch, got an empty mask")
    return tuple(tuple(bool(cell) for cell in row) for row in mask)
