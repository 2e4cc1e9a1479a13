"""A block computed by plain forward hooks on the model's own forward, one run at a time.

For: models that users have changed. Whatever their modules do, users' hooks included, they do as in the model's own
forward: every module is called by the model's own code, with one complete run.
Cost: for every run a pass through all layers of the block, including keys and values of all image tokens: the cost of
plain hooks.
Ends: at one block's rows, as `blip_trace_widget.model.block`.

Shapes as in `blip_trace_widget.model.block`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from blip_trace_widget.forks import on_fork
from blip_trace_widget.model.block import Activations, Cut, LayerEdit, Patches, as_it_is
from blip_trace_widget.model.cross_attention import CrossAttentionKV, part_of
from blip_trace_widget.model.patch_plan import CONTEXTS, stage_of
from blip_trace_widget.model.recorder import Source
from blip_trace_widget.states import INPUTS, BlockSites, State

#: A block's forward on its inputs (1, n, D) and the tokens that its cross-attention attends to (1, T, D): (1, n, D).
Stack: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]


class HookedBlock:
    """A block whose own forward is run under hooks.

    Args:
        layers: transformers' layer modules.
        stack: runs all layers.
        heads: attention heads of a layer.
        sites: where the states are.
        last: the module after the layers, if there is one.
    """

    one_by_one = True

    def __init__(self, layers: Iterable[Any], stack: Stack, heads: int, sites: BlockSites, last: Any = None) -> None:
        self.layers = list(layers)
        self.heads = heads
        self._stack, self._last, self._sites, self._heads = stack, last, sites.sites, sites.heads
        # Stage -> the module below a layer, and whether the stage is its input.
        self._points = {site: (path, site in INPUTS) for site, path in sites.sites.items()}
        self._points |= {CONTEXTS[site]: (path, True) for site, path in sites.heads.items()}
        self.stages = tuple(self._points)

    def tokens(self, output: Tensor) -> Tensor:
        """See `Block.tokens`."""
        return self.apply(self._last, output.flatten(0, -3)).view(output.shape)

    def apply(self, module: Any, batch: Tensor) -> Tensor:
        """See `Block.apply`; one run at a time."""
        return torch.cat([module(batch[at : at + 1]) for at in range(batch.shape[0])])

    def run(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None], edit: LayerEdit) -> Tensor:
        """See `Block.run`; edits see one run, (1, n, D)."""
        seen = None if kv is None else kv.states()
        return torch.cat(
            [self._pass(inputs[at : at + 1], _of_run(seen, at, 0), check, edit) for at in range(inputs.shape[0])]
        )

    def record(self, inputs: Tensor, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Activations:
        """See `Block.record`."""
        values: dict[str, list[list[Tensor]]] = {stage: [[] for _ in self.layers] for stage in self.stages}
        seen = None if kv is None else kv.states()
        samples, outputs = max(inputs.shape[0], 1 if seen is None else seen.shape[0]), []
        for at in range(samples):

            def keep(layer: int, stage: str, rows: Tensor) -> Tensor:
                values[stage][layer].append(rows.clone())
                return rows

            outputs.append(self._pass(part_of(inputs, slice(at, at + 1)), _of_run(seen, at, 0), check, keep))
        recorded = {stage: [torch.cat(per_sample) for per_sample in layers] for stage, layers in values.items()}
        return Activations(inputs, recorded, torch.cat(outputs))

    def cut(self, base: Activations, kv: CrossAttentionKV, cut: Cut, check: Callable[[], None]) -> Tensor:
        """See `Block.cut`."""
        with ExitStack() as stack:
            for layer in cut.layers:
                attention = self.layers[layer].get_submodule(self._sites[cut.site])

                def without(_module: Any, _inputs: Any, weights: Tensor) -> Tensor:
                    left = weights.masked_fill(cut.edges, 0.0)
                    total = left.sum(-1, keepdim=True)
                    return torch.where(total > 0, left / total, torch.zeros_like(left))

                stack.callback(ThreadHook(attention.self.dropout, without).remove)
            return self.run(base.inputs, kv, check, as_it_is)

    def weights(self, site: str, layer: int, base: Activations, kv: CrossAttentionKV | None) -> Tensor:
        """See `Block.weights`."""
        weights: list[Tensor] = []
        attention = self.layers[layer].get_submodule(self._heads[site].partition(".")[0])

        def keep(_module: Any, inputs: tuple[Tensor], _output: Any) -> None:
            weights.append(inputs[0])

        handle = ThreadHook(getattr(attention, "self", attention).dropout, keep)
        try:
            seen = None if kv is None else kv.states()
            for at in range(max(base.inputs.shape[0], 1 if seen is None else seen.shape[0])):
                self._pass(part_of(base.inputs, slice(at, at + 1)), _of_run(seen, at, 0), lambda: None, as_it_is)
        finally:
            handle.remove()
        return torch.cat(weights)

    def resume(self, patches: Patches, kv: CrossAttentionKV | None, check: Callable[[], None]) -> Tensor:
        """See `Block.resume`; nothing is resumed, every run is computed completely."""
        base, runs, samples = patches.base, patches.runs, patches.samples
        seen = None if kv is None else kv.states()
        outputs = []
        for at in range(samples):
            one = slice(at, at + 1)
            inputs, unpatched = part_of(base.inputs, one), part_of(base.output, one)
            values = replace(patches, base=base.part(one), source=patches.source.part(one))
            for run, states in enumerate(runs):
                if states or patches.diverged:
                    outputs.append(self._pass(inputs, _of_run(seen, at, run), check, self._replacing(values, at, run)))
                else:
                    outputs.append(unpatched)
        return torch.cat(outputs).view(samples, len(runs), *base.inputs.shape[1:])

    def _replacing(self, patches: Patches, sample: int, run: int) -> LayerEdit:
        """An edit that replaces what a run holds and patches, given the values of one sample."""
        edits: dict[tuple[int, str], list[tuple[State, Source]]] = {}
        parts = patches.held[run] if patches.held else ()
        for states, source in ((chain.from_iterable(parts), patches.base), (patches.runs[run], patches.source)):
            for state in states:
                edits.setdefault((state.layer, stage_of(state)), []).append((state, source))
        device = patches.base.inputs.device
        number = torch.tensor([run], device=device)

        def edit(layer: int, stage: str, rows: Tensor) -> Tensor:
            if patches.recorder is not None:
                count = rows.shape[1]
                runs, positions = number.expand(count), torch.arange(count, device=device)
                patches.recorder.keep(layer, stage, rows, runs, positions, slice(sample, sample + 1))
            here = edits.get((layer, stage), ())
            rows = rows.clone() if here else rows
            for state, source in here:
                size = rows.shape[-1] // self.heads
                part = slice(None) if state.head is None else slice(state.head * size, (state.head + 1) * size)
                position = torch.tensor([state.position], device=device)
                rows[0, state.position, part] = source.taken(layer, stage, number, position)[0, 0, part]
            return rows

        return edit

    def _pass(self, inputs: Tensor, seen: Tensor | None, check: Callable[[], None], edit: LayerEdit) -> Tensor:
        """One run, (1, n, D) -> (1, n, D), with each stage edited; on copies, as users' hooks may write into them."""
        with self.edited(check, edit):
            return self._stack(inputs.clone(), None if seen is None else seen.clone())

    @contextmanager
    def edited(self, check: Callable[[], None], edit: LayerEdit) -> Iterator[None]:
        """Register hooks after the users' own, which thus see the unedited values and cannot undo a patch.

        Args:
            check: called once per layer; may raise `blip_trace_widget.model.block.Cancelled`.
            edit: called with layer, stage and rows; returns the rows to continue with.
        """
        with ExitStack() as stack:
            for layer, module in enumerate(self.layers):
                stack.callback(ThreadHook(module, lambda _module, _inputs: check(), before=True).remove)
                for stage, (path, before) in self._points.items():

                    def on_call(
                        _module: Any, inputs: Any, output: Any = None, layer: int = layer, stage: str = stage
                    ) -> Any:
                        if output is None:
                            return (edit(layer, stage, inputs[0]), *inputs[1:])
                        if isinstance(output, tuple):
                            return (edit(layer, stage, output[0]), *output[1:])
                        return edit(layer, stage, output)

                    place = module.get_submodule(path)
                    stack.callback(ThreadHook(place, on_call, before=before).remove)
            yield


def _of_run(states: Tensor | None, sample: int, run: int) -> Tensor | None:
    """The tokens that one run attends to, (S or 1, C or 1, T, D) -> (1, T, D)."""
    if states is None:
        return None
    return states[min(sample, states.shape[0] - 1), min(run, states.shape[1] - 1)][None]


class ThreadHook:
    """A hook that acts only in this thread, for others may use the model meanwhile; it is not in a child they fork.

    Args:
        module: the module.
        hook: called as torch calls hooks.
        before: whether it is called before the module.
    """

    def __init__(self, module: nn.Module, hook: Callable[..., Any], *, before: bool = False) -> None:
        self._thread = threading.get_ident()

        def guarded(*arguments: Any) -> Any:
            return hook(*arguments) if threading.get_ident() == self._thread else None

        self._handle = (module.register_forward_pre_hook if before else module.register_forward_hook)(guarded)
        on_fork(self, ThreadHook._renew)

    def _renew(self) -> None:
        if threading.get_ident() != self._thread:
            self.remove()

    def remove(self) -> None:
        """Take it away."""
        self._handle.remove()
