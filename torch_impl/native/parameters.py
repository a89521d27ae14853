"""The tape of a chunk, and the large products that follow from it: gradients of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config

from ...native import gru, lstm_rows
from ...native.compiling import Array
from ...native.packing import pack_float, padded
from ...native.parameter_gradients import add_bias, add_weights, input_gradient
from ...native.records import Factors
from ..gradients import Gradients
from .memory import Floats
from .threads import Task, run, split
from .weights import Weights


@dataclass
class Tape:
    """A chunk taken back, and what its gradients need; see :func:`revrnn.native.sweeps.recover`."""

    x: Tensor
    aside_at: list[Array]
    memory: Floats
    factors: Factors


def products(
    weights: Weights, config: Config, tape: Tape, ds: Array, threads: int, into: Gradients
) -> Tensor:
    """Add the gradients of parameters and return that of the input (GRAD-014).

    Args:
        weights: packed weights.
        config: the stack.
        tape: of a chunk.
        ds: gradients of its pre-activations, float32 ``[L, 2, C, B, N·G]``.
        threads: how many there may be.
        into: where gradients of parameters are added up.

    Returns:
        float32 ``[C, B, I]``.
    """
    steps, batch, length = tape.x.shape
    layers, columns, total = config.num_layers, ds.shape[-1], steps * batch
    dx = np.empty((total, length), np.float32)
    if not total:
        return torch.from_numpy(dx.reshape(steps, batch, length))
    flat = ds.reshape(layers, 2, total, columns)
    tasks: list[Task] = []
    where = split(total, threads, 8)
    for part in where:
        w = weights.of_input
        tasks.append(partial(input_gradient, flat[0], w, part.start, dx[part]))
    operands = tape.factors.operands.reshape(layers - 1, total, config.hidden_size)
    packed_x = _packed(tape.x.numpy().reshape(total, length), config.formats.operand_bits)
    for k in range(layers):
        names = (f"weight_ih_l{k}", f"weight_hh_l{k}", f"bias_l{k}")
        of_input, of_state, of_bias = (into.params[name].numpy() for name in names)
        packed = _packed(operands[k - 1]) if k else packed_x
        across = config.hidden_size if k else length
        for j in (0, 1):
            whole, at = flat[k, j], j * columns
            tasks.append(partial(add_bias, whole, of_bias, at))
            spans = [(slice(0, columns), packed, across, of_input)]
            spans += [(s, p, config.group_size, of_state) for s, p in _seen(config, tape, k, j)]
            for span, operand, width, to in spans:
                for part in split(span.stop - span.start, threads, 8):
                    first = span.start + part.start
                    rows, place = part.stop - part.start, at + first
                    packed_with = (columns, operand, width, to, place)
                    tasks.append(partial(add_weights, whole, first, rows, *packed_with))
    run(tasks, threads)
    return torch.from_numpy(dx.reshape(steps, batch, length))


def _seen(config: Config, tape: Tape, layer: int, group: int) -> list[tuple[slice, Array]]:
    """Return which gates of a group see which recurrent operand, packed."""
    steps, rows, _ = tape.x.shape
    shape = (config.num_layers, 2, steps, rows, config.group_size)
    pieces = tape.factors.pieces.reshape(-1, *shape)
    own = pieces[:, layer, group].reshape(len(pieces), -1, config.group_size)
    units = config.group_size
    if config.cell == "revgru":
        return [
            (slice(0, 2 * units), _packed(own[gru.VIEW])),
            (slice(2 * units, 3 * units), _packed(own[gru.U])),
        ]
    return [(slice(0, config.num_gates * units), _packed(own[lstm_rows.VIEW]))]


def _packed(values: Array, bits: int = 0) -> Array:
    """Pack ``[K, N]``, numbers with so many fraction bits."""
    out = np.empty(len(values) * padded(values.shape[1]), np.float32)
    pack_float(values, 2.0**-bits, out)
    return out
