"""Gradients of chunks by compiled calls: the recurrence by rows, then products by parts (GRAD).

Arguments and results by number are those of :mod:`revrnn.native.gradient_shares`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config

from ...native.compiling import Array
from ...native.frame_writer import Frame
from ...native.packing import float_size, pack_float
from ...native.tasks import AGAIN, BELOW, DS, tasks_for
from ..conversions import as_array
from ..gradients import Gradients
from .memory import Floats
from .rows import by_group, by_layer
from .threads import call, chunk_shares
from .weights import Weights

# Numbers of arguments and results.
_X, _OUTPUTS, _OF_INPUT, _WEIGHTS = 4, 5, 6, 7
_H, _C, _DX, _PARAMS = 0, 1, 2, 3

# Float32 in one of a processor's cache lines.
_LINE: Final = 16
_NONE: Final = np.empty((0, 0, 0), np.float32)


class Tape(NamedTuple):
    """A chunk taken back, and what its gradients need.

    Attributes:
        x: its operands, int16 ``[C, B, I]``.
        aside_at: see :class:`revrnn.native.records.Steps`.
        memory: what the first of ``factors`` lies in.
        above: what the other two lie in.
        factors: see :class:`revrnn.native.records.Factors`.
        longest: steps of the longest chunk, for which there is memory.
    """

    x: Tensor
    aside_at: Array
    memory: Floats
    above: Array
    factors: tuple[Array, ...]
    longest: int


class GradientPass:
    """Gradients on their way from chunk to chunk."""

    def __init__(self, config: Config, weights: Weights, count: int) -> None:
        """Take packed weights, and how many shares of the rows there are."""
        self.config, self.weights = config, weights
        self._frame = Frame(10, 3 + 3 * config.num_layers)
        self._tasks, self._parts = tasks_for(self._frame.address, count), tasks_for(0, 0)
        for n, array in enumerate(weights.floats):
            self._frame.arguments[_WEIGHTS + n] = array
        self._given: tuple[Tensor | None, Tensor | None] = None, None
        self._h = self._c = _NONE
        self._params: dict[str, Tensor] | None = None

    def pull(
        self, tape: Tape, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk, see :meth:`revrnn.torch_impl.engine.Pass.pullback`."""
        frame, config, (steps, batch, length) = self._frame, self.config, tape.x.shape
        self._take(into)
        for n, array in enumerate((*tape.factors, tape.aside_at, tape.x.numpy())):
            frame.arguments[n] = array
        given = _NONE
        if grad_outputs is not None:
            # By NumPy: PyTorch's threads would then wait for more, on the cores of those here.
            given = np.ascontiguousarray(as_array(grad_outputs.float()))
        frame.arguments[_OUTPUTS] = given
        written = dx
        if dx is not None and not dx.is_contiguous():
            written = torch.empty(dx.shape, dtype=torch.float32, device="cpu")
        if written is None:
            frame.results[_DX] = np.empty((steps, batch, 0), np.float32)
        else:
            frame.results[_DX] = written.numpy()
            frame.arguments[_OF_INPUT] = self.weights.of_input
        tasks, most = self._tasks, tape.longest * batch
        ds = config.num_layers * 2 * most * config.num_gates * config.group_size
        ds += -ds % _LINE  # behind them inputs, packed
        inputs = float_size(length, most)
        room = Floats(ds + inputs + (config.num_layers - 1) * float_size(config.hidden_size, most))
        tasks[:, DS] = room.address
        threads = self._prepare_products(tape, room, ds) if steps * batch else 0
        call("pull", config, tasks, len(tasks))
        if threads:
            call("pull", config, self._parts, threads)
        self._give(into)
        if dx is not None and written is not None and written is not dx:
            dx.copy_(written)

    def _prepare_products(self, tape: Tape, room: Floats, first: int) -> int:
        """Pack what gradients of parameters are computed with (GRAD-014).

        It is done before the recurrence: after compiled calls Python is slow, as these need the
        processor's caches.

        Args:
            tape: the chunk.
            room: for gradients of pre-activations, behind which inputs are packed.
            first: where these begin.

        Returns:
            How many threads the products are worth.
        """
        config, (steps, batch, length), layers = self.config, tape.x.shape, self.config.num_layers
        total, hidden, below = steps * batch, config.hidden_size, room.array[first:]
        of_x, above = float_size(length, total), float_size(hidden, total)
        values = self._frame.arguments[_X].reshape(total, length)
        pack_float(values, 2.0**-config.formats.operand_bits, below[:of_x])
        if layers > 1:
            for k, seen in enumerate(tape.factors[1].reshape(layers - 1, total, hidden)):
                pack_float(seen, 1.0, below[of_x + k * above :][:above])
        threads = chunk_shares(self.weights.multiplications * total * 2)
        count = 1 if threads == 1 else 2 * threads
        if len(self._parts) != count:
            self._parts = tasks_for(self._frame.address, count)
            self._parts[:, AGAIN] = 1
        self._parts[:, DS], self._parts[:, BELOW] = room.address, room.address + 4 * first
        return threads

    def _take(self, into: Gradients) -> None:
        """Take gradients that somebody else has changed since."""
        results = self._frame.results
        if self._given[0] is not into.h:
            results[_H] = self._h = by_group(into.h)
        if self._given[1] is not into.c or self._given[0] is None:
            self._c = np.empty((0, *self._h.shape[1:]), np.float32)
            if into.c is not None:
                self._c = by_group(into.c)
            results[_C] = self._c
        if self._params is not into.params:
            self._params = into.params
            for k in range(self.config.num_layers):
                for n, kind in enumerate(("weight_ih", "weight_hh", "bias")):
                    results[_PARAMS + 3 * k + n] = into.params[f"{kind}_l{k}"].numpy()

    def _give(self, into: Gradients) -> None:
        """Give the state's gradients out."""
        into.h = torch.from_numpy(by_layer(self._h))
        if into.c is not None:
            into.c = torch.from_numpy(by_layer(self._c))
        self._given = into.h, into.c
