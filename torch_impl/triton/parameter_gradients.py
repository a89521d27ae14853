"""Gradients of parameters: large float32 products, once a chunk (GRAD-014)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gradients import Gradients
from .arrays import Arrays


def add_parameters(arrays: Arrays, steps: int, into: Gradients) -> Tensor:
    """Add a chunk's part to the gradients of the parameters; return the input's."""
    config, units, padded = arrays.config, arrays.units, arrays.padded_units
    gates, (tape, lower), ds = config.num_gates, arrays.tape, arrays.gradients[2]
    of_view = 2 if config.cell == "revgru" else gates
    x = arrays.x[:steps].flatten(0, 1).float() * 2.0**-config.formats.operand_bits
    dx = torch.zeros_like(x)
    for layer in range(config.num_layers):
        names = [f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias")]
        w_ih, w_hh, bias = (
            into.params[name].view(2, gates, units, *into.params[name].shape[1:]) for name in names
        )
        for group in (0, 1):
            own = ds[2 * layer + group, :steps].view(-1, gates * padded)
            factors = tape[2 * layer + group]
            by_gate = (gates, padded, -1)
            bias[group] += own.sum(0).view(gates, padded)[:, :units]
            if layer == 0:
                dx.addmm_(own, arrays.floats_in[0][group].flatten(0, 1))
                w_ih[group] += (own.t() @ x).view(by_gate)[:, :units]
            else:
                for below in (0, 1):
                    a = lower[2 * layer - 2 + below, 0, :steps].reshape(-1, padded)
                    part = (own.t() @ a).view(by_gate)[:, :units, :units]
                    w_ih[group, ..., below * units : (below + 1) * units] += part
            v = factors[0, :steps].reshape(-1, padded)
            part = own[:, : of_view * padded].t() @ v
            w_hh[group, :of_view] += part.view(-1, padded, padded)[:, :units, :units]
            if of_view < gates:
                u = factors[5, :steps].reshape(-1, padded)
                part = own[:, of_view * padded :].t() @ u
                w_hh[group, of_view:] += part.view(-1, padded, padded)[:, :units, :units]
    return dx.view(steps, arrays.batch, -1)
