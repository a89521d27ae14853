"""Recurrent stacks in PyTorch: reversible, in float arithmetic, and PyTorch's own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils import _pytree

from ..torch_impl import RevGRU, RevLSTM, State, encode, rev_rnn, value, value_and_grad
from .float_cells import FloatRev
from .framework import FAULTLESS, Embed, Given, Params, Passed, StackSettings, Trained, Tree
from .settings import OWN


class TorchStack:
    """What stacks share: a module whose parameters are the model's."""

    def __init__(self, name: str, module: Any, device: torch.device) -> None:
        """Name the module's parameters."""
        self.device, self.module = device, module.to(device)
        self.parameters = {f"{name}.{n}": value for n, value in module.named_parameters()}
        self.shapes = {n: tuple(value.shape) for n, value in self.parameters.items()}

    def select(self, state: Tree, rows: Tensor) -> Tree:
        """Return these rows of a state."""
        if isinstance(state, State):
            return state.index_select(rows)
        return _pytree.tree_map(lambda value: value.index_select(1, rows), state)


class RevStack(TorchStack):
    """A :class:`~revrnn.torch_impl.RevGRU` or ``RevLSTM``; see :class:`.framework.Stack`."""

    def __init__(self, settings: StackSettings, device: torch.device) -> None:
        """Make the module."""
        assert settings.config is not None
        self.config = config = settings.config
        self.chunk_size = settings.chunk_size
        kind = RevGRU if settings.cell == "revgru" else RevLSTM
        module = kind(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            dropout=settings.dropout if config.num_layers > 1 else 0.0,
            max_forget_bits=config.max_forget_bits,
            forgetting=config.forgetting,
            buffer=config.buffer,
            slice_size=config.slice_size,
            weight_drop=settings.weight_drop,
            locked_dropout=settings.locked,
            chunk_size=settings.chunk_size,
        )
        super().__init__(settings.name, module, device)

    def fresh(self, rows: int) -> State:
        """Return a first state."""
        state: State = self.module.initial_state(rows)
        return state

    def run(
        self,
        params: Params,
        x: Tensor,
        start: Tree,
        drop: Any,
        mask: Tensor | None = None,
        with_outputs: bool = True,
    ) -> Passed:
        """Run over inputs."""
        self.module.train(drop.is_active)
        out = rev_rnn(
            x,
            {name: getattr(self.module, name) for name in self.config.parameter_shapes()},
            self.config,
            **_start(start),
            mask=mask,
            gains=self.module.gains(x.shape[1], x.device),
            chunk_size=self.chunk_size,
            with_outputs=with_outputs,
        )
        return Passed(out.outputs, out.context, _final(out.h_n, out.c_n), out.state)

    def encode(
        self, params: Params, inputs: Tensor, embed: Embed, drop: Any, mask: Tensor
    ) -> Passed:
        """Run chunk by chunk."""
        self.module.train(drop.is_active)
        context, h, c = encode(
            self.module, inputs, embed=lambda cut: embed(params, cut, drop), mask=mask
        )
        return Passed(None, context, _final(h, c), None)

    def _streamed(self, params: Params, given: Given, seen: Sequence[Tensor]) -> dict[str, Any]:
        """Return what functions that stream take."""
        self.module.train(given.drop.is_active)
        return {
            "inputs": given.inputs,
            "targets": given.targets,
            "readout": lambda outputs, cut: given.read(params, outputs, cut, seen, given.drop),
            "embed": lambda cut: given.embed(params, cut, given.drop),
            **_start(given.start),
            "mask": given.mask,
            "reduction": "sum",
        }

    def gradients(self, params: Params, given: Given, scale: Any, report: bool = False) -> Trained:
        """Return a loss and its gradients."""
        leaves = [value.detach().requires_grad_() for value in given.seen]
        rest = self._streamed(params, given, leaves)
        step = value_and_grad(self.module, **rest, loss_scale=scale, report=report)
        of_seen = [value.grad for value in leaves]
        loss = step.loss * scale
        return Trained(loss, {}, step.grad_hx, of_seen, step.state, FAULTLESS, step.report)

    def measure(self, params: Params, given: Given) -> tuple[tuple[Tensor, Tree], Any]:
        """Return the sum of the losses and the last state, and the status."""
        streamed = value(self.module, **self._streamed(params, given, given.seen))
        return (streamed.loss, streamed.state), FAULTLESS


def _start(start: Tree) -> dict[str, Any]:
    return {"state" if isinstance(start, State) else "hx": start}


def _final(h: Tensor, c: Tensor | None) -> Tree:
    return h if c is None else (h, c)


class FloatStack(TorchStack):
    """A stack that stores all states, in ordinary autograd; see :class:`.framework.Stack`."""

    def __init__(self, settings: StackSettings, device: torch.device) -> None:
        """Make the module."""
        module = OwnLayers(settings) if settings.cell in OWN else FloatRev(settings)
        super().__init__(settings.name, module, device)

    def fresh(self, rows: int) -> Tree:
        """Return a first state."""
        return _pytree.tree_map(lambda value: value.to(self.device), self.module.fresh(rows))

    def run(
        self,
        params: Params,
        x: Tensor,
        start: Tree,
        drop: Any,
        mask: Tensor | None = None,
        with_outputs: bool = True,
    ) -> Passed:
        """Run over inputs."""
        begin = self.fresh(x.shape[1]) if start is None else start
        outputs, end = self.module(x, begin, drop, mask)
        return Passed(outputs, None, end, end)

    def gradients(self, params: Params, given: Given, scale: Any, report: bool = False) -> Trained:
        """Return a loss and its gradients."""

        def leaf(value: Tensor) -> Tensor:
            return value.detach().requires_grad_()

        begin, leaves = _pytree.tree_map(leaf, (given.start, list(given.seen)))
        total, end = self._total(params, given, begin, leaves)
        loss = scale * total
        loss.backward()
        of_start = _pytree.tree_map(lambda value: value.grad, begin)
        end = _pytree.tree_map(torch.Tensor.detach, end)
        return Trained(loss.detach(), {}, of_start, [value.grad for value in leaves], end)

    def measure(self, params: Params, given: Given) -> tuple[tuple[Tensor, Tree], Any]:
        """Return the sum of the losses and the last state, and the status."""
        return self._total(params, given, given.start, given.seen), FAULTLESS

    def _total(
        self, params: Params, given: Given, start: Tree, seen: Sequence[Tensor]
    ) -> tuple[Tensor, Tree]:
        # What a row says after its last step has no target, so no mask is needed.
        x = given.embed(params, given.inputs, given.drop)
        outputs, end = self.module(x, start, given.drop)
        return given.read(params, outputs, given.targets, seen, given.drop), end


class OwnLayers(nn.Module):
    """PyTorch's own ``nn.GRU`` or ``nn.LSTM``, a module a layer, with the same dropouts."""

    def __init__(self, settings: StackSettings) -> None:
        """Make the layers."""
        super().__init__()
        self.settings = settings
        kind: Any = nn.GRU if settings.cell == "gru" else nn.LSTM
        inputs, units, layers = settings.sizes
        sizes = [inputs, *[units] * layers]
        self.layers = nn.ModuleList(kind(i, o) for i, o in itertools.pairwise(sizes))

    def fresh(self, rows: int) -> tuple[Any, ...]:
        """Return zeros for each layer."""
        h = torch.zeros(1, rows, self.settings.sizes[1])
        return tuple((h, h) if self.settings.cell == "lstm" else h for _ in self.layers)

    def forward(
        self, x: Tensor, start: tuple[Any, ...], drop: Any, mask: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Return outputs ``[T, B, H]`` of inputs ``[T, B, I]`` and the final states."""
        # The lengths of packed sequences live on the host.
        lengths = None if mask is None else mask.sum(0).cpu()
        rate, locked = self.settings.dropout, self.settings.locked
        last = []
        for number, (layer, begin) in enumerate(zip(self.layers, start, strict=True)):
            if number:
                x = drop(f"{self.settings.name}.{number}", rate, x, locked)
            weights = {}
            if self.settings.weight_drop and drop.is_active:
                whole: Any = layer.weight_hh_l0
                weights["weight_hh_l0"] = nn.functional.dropout(whole, self.settings.weight_drop)
            given: Any = x
            if lengths is not None:
                given = pack_padded_sequence(x, lengths, enforce_sorted=False)
            made, end = functional_call(layer, weights, (given, begin))
            if lengths is not None:
                made, _ = pad_packed_sequence(made, total_length=len(x))
            x = made
            last.append(end)
        return x, tuple(last)
