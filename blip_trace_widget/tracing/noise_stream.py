"""Standard normal numbers, drawn part by part as if all at once.

For: `blip_trace_widget.tracing.corruption`, whose noise is one draw of all samples from a seed, however many of them
are computed together. A part that follows the previous one goes on where that ended.
Cost: what is drawn; of a part that follows no other also the samples before it, which are not kept. For each of
the last few draws the state of torch's generator, 5 KB.
Ends: at tensors on the CPU.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from blip_trace_widget.forks import Lock

if TYPE_CHECKING:
    import torch

#: Draws whose place is kept.
KEPT = 8
#: torch fills so many numbers at a time: a sample of another size cannot be drawn by itself.
TOGETHER = 16


def standard_normal(seed: int, shape: tuple[int, int, int], start: int, stop: int) -> torch.Tensor:
    """Samples `start` to `stop` of the draw of `shape`, (samples, tokens, width), from `seed`; float32."""
    import torch

    samples, tokens, width = shape
    generator = torch.Generator("cpu")
    # Explicit, whatever torch's default dtype and device are: another dtype would give other numbers.
    kind: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    if tokens * width % TOGETHER:
        generator.manual_seed(seed)
        return torch.randn(shape, **kind)[start:stop]
    reached, state = _places.before(start, seed, tokens * width)
    if state is None:
        generator.manual_seed(seed)
    else:
        generator.set_state(state)
    for _ in range(reached, start):
        torch.randn((tokens, width), **kind)
    drawn = torch.randn((stop - start, tokens, width), **kind)
    if stop < samples:
        _places.keep(stop, seed, tokens * width, generator.get_state())
    return drawn


class _Places:
    """How far the latest draws have come: the generator's state behind a sample."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[int, int], tuple[int, torch.Tensor]] = OrderedDict()

    def before(self, sample: int, *draw: int) -> tuple[int, torch.Tensor | None]:
        """The last known sample of a draw up to one, and the state there; the draw's beginning, None, if none is."""
        with self._lock:
            reached, state = self._kept.get(draw, (0, None))  # type: ignore[arg-type]
        return (reached, state) if reached <= sample else (0, None)

    def keep(self, sample: int, seed: int, size: int, state: torch.Tensor) -> None:
        """Keep the state at a sample."""
        with self._lock:
            self._kept[seed, size] = sample, state
            self._kept.move_to_end((seed, size))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)


_places = _Places()
