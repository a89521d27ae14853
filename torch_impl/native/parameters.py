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
from ...native.packing import aligned, float_size, pack_float
from ...native.parameter_gradients import add_layer, input_gradient
from ...native.records import Factors
from ..gradients import Gradients
from .memory import Floats
from .rows import by_group, by_layer
from .threads import Task, helpers, run, split
from .weights import Weights


@dataclass
class Tape:
    """A chunk taken back, and what its gradients need; see :func:`revrnn.native.sweeps.recover`."""

    x: Tensor
    aside_at: list[Array]
    memory: Floats
    factors: Factors


@dataclass
class Carried:
    """Gradients of a state on their way from chunk to chunk.

    Attributes:
        h: by share of the rows, float32 ``[L, 2, R, G]``.
        c: the same, or ``None``.
        given: the tensors that they were last given out as.
    """

    h: list[Array]
    c: list[Array | None]
    given: tuple[Tensor, Tensor | None]

    @classmethod
    def of(cls, into: Gradients, rows: list[slice]) -> Carried:
        """Take gradients for some shares of the rows."""
        h = [by_group(into.h, own) for own in rows]
        c = [None if into.c is None else by_group(into.c, own) for own in rows]
        return cls(h, c, (into.h, into.c))

    def is_of(self, into: Gradients) -> bool:
        """Say whether nobody has changed them since."""
        return self.given[0] is into.h and self.given[1] is into.c

    def give(self, into: Gradients) -> None:
        """Give them out."""
        into.h = _joined(self.h)
        if into.c is not None:
            into.c = _joined([part for part in self.c if part is not None])
        self.given = into.h, into.c


def _joined(parts: list[Array]) -> Tensor:
    whole = [by_layer(part) for part in parts]
    return torch.from_numpy(whole[0] if len(whole) == 1 else np.concatenate(whole, 1))


def products(
    weights: Weights, config: Config, tape: Tape, ds: Array, into: Gradients, dx: Tensor | None
) -> None:
    """Add the gradients of parameters and write that of the input (GRAD-014).

    Args:
        weights: packed weights.
        config: the stack.
        tape: of a chunk.
        ds: gradients of its pre-activations, float32 ``[L, 2, C, B, N·G]``.
        into: where gradients of parameters are added up.
        dx: float32 ``[C, B, I]``, or ``None`` if it is not wanted.
    """
    steps, batch, length = tape.x.shape
    layers, columns, total = config.num_layers, ds.shape[-1], steps * batch
    if not total:
        return
    flat = ds.reshape(layers, 2, total, columns)
    threads = helpers(weights.multiplications * total * (1 if dx is None else 2))
    count = 1 if threads == 1 else 2 * threads
    tasks: list[Task] = []
    written = dx
    if dx is not None and not dx.is_contiguous():
        written = torch.empty(dx.shape, dtype=torch.float32, device="cpu")
    if written is not None:
        own, w = written.numpy().reshape(total, length), weights.of_input
        parts = split(total, count, 8)
        tasks += [partial(input_gradient, flat[0], w, p.start, own[p]) for p in parts]
    units, pieces = config.group_size, tape.factors.pieces
    seen = (gru.VIEW, gru.U) if config.cell == "revgru" else (lstm_rows.VIEW, -1)
    below = _packed(tape.x.numpy().reshape(total, length), config.formats.operand_bits)
    for k in range(layers):
        if k:
            operands = tape.factors.operands.reshape(layers - 1, total, config.hidden_size)
            below = _packed(operands[k - 1])
        names = (f"weight_ih_l{k}", f"weight_hh_l{k}", f"bias_l{k}")
        to = [into.params[name].numpy() for name in names]
        given = flat[k], below, pieces, seen, (k, layers), units, *to
        tasks += [partial(add_layer, *given, part, count) for part in range(count)]
    run(tasks, threads)
    if dx is not None and written is not None and written is not dx:
        dx.copy_(written)


def _packed(values: Array, bits: int = 0) -> Array:
    """Pack ``[K, N]``, numbers with so many fraction bits."""
    out: Array = aligned(1, float_size(values.shape[1], len(values)), np.float32)[0]
    pack_float(values, 2.0**-bits, out)
    return out
