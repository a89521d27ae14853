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
from ...native.packing import float_size
from ...native.tasks import AGAIN, BELOW, CHUNK, DS, LEFT, tasks_for
from ..conversions import as_array
from ..gradients import Gradients
from .memory import Floats
from .rows import by_group, by_layer
from .threads import chunk_shares
from .weights import Weights

# Numbers of arguments and results.
_X, _OUTPUTS, _OF_INPUT, _WEIGHTS, _BITS = 4, 5, 6, 7, 12
_H, _C, _DX, _PARAMS = 0, 1, 2, 3

# Float32 in one of a processor's cache lines.
_LINE: Final = 16
_NONE: Final = np.empty((0, 0, 0), np.float32)


class Tape(NamedTuple):
    """A chunk taken back, and what its gradients need.

    Attributes:
        x: operands of all steps that are taken back by chunks, int16 ``[S, B, I]``.
        aside_at: see :class:`revrnn.native.records.Steps`.
        memory: what the first of ``factors`` lies in.
        above: what the other two lie in.
        factors: see :class:`revrnn.native.records.Factors`.
        chunk: steps of a chunk.
        longest: those of the longest one, for which there is memory.
    """

    x: Tensor
    aside_at: Array
    memory: Floats
    above: Array
    factors: tuple[Array, ...]
    chunk: int
    longest: int


class GradientPass:
    """Gradients on their way from chunk to chunk."""

    def __init__(self, config: Config, weights: Weights, count: int) -> None:
        """Take packed weights, and how many shares of the rows there are."""
        self.config, self.weights = config, weights
        self._frame = Frame(13, 3 + 3 * config.num_layers)
        self._frame.arguments[_BITS] = np.array([0, config.formats.operand_bits], np.int32)
        self._tasks, self._parts = tasks_for(self._frame.address, count), tasks_for(0, 0)
        for n, array in enumerate(weights.floats):
            self._frame.arguments[_WEIGHTS + n] = array
        self._given: tuple[Tensor | None, Tensor | None] = None, None
        self._h = self._c = _NONE
        self._params: dict[str, Tensor] | None = None
        # Between :meth:`prepare` and :meth:`finish`.
        self._written: Tensor | None = None
        self._room: Floats | None = None

    def prepare(
        self, tape: Tape, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> tuple[list[tuple[str, Array]], int]:
        """Return calls that carry the gradient over a chunk, the last one left, and their threads.

        Arguments are those of :meth:`revrnn.torch_impl.engine.Pass.pullback`. All is prepared
        before a call: after compiled calls Python is slow, as these need the processor's caches.
        """
        frame, config, (steps, batch, length) = self._frame, self.config, tape.x.shape
        self._take(into)
        for n, array in enumerate((*tape.factors, tape.aside_at, tape.x.numpy())):
            frame.arguments[n] = array
        given = _NONE
        if grad_outputs is not None:
            # By NumPy: PyTorch's threads would then wait for more, on the cores of those here.
            given = np.ascontiguousarray(as_array(grad_outputs.float()))
        frame.arguments[_OUTPUTS] = given
        self._written = dx
        if dx is not None and not dx.is_contiguous():
            self._written = torch.empty(dx.shape, dtype=torch.float32, device="cpu")
        if self._written is None:
            frame.results[_DX] = np.empty((steps, batch, 0), np.float32)
        else:
            frame.results[_DX] = self._written.numpy()
            frame.arguments[_OF_INPUT] = self.weights.of_input
        most, hidden, layers = tape.longest * batch, config.hidden_size, config.num_layers
        ds = layers * 2 * most * config.num_gates * config.group_size
        ds += -ds % _LINE  # behind them inputs, packed
        inputs = float_size(length, most) + (layers - 1) * float_size(hidden, most)
        self._room = room = Floats(ds + inputs)
        threads = chunk_shares(self.weights.multiplications * tape.chunk * batch * 2)
        count = threads
        if len(self._parts) != count:
            self._parts = tasks_for(frame.address, count)
            self._parts[:, AGAIN] = 1
        for tasks in (self._tasks, self._parts):
            tasks[:, DS], tasks[:, BELOW] = room.address, room.address + 4 * ds
            tasks[:, CHUNK], tasks[:, LEFT] = tape.chunk, steps
        calls = [("pull", self._tasks), ("pull", self._parts)][: 2 if steps * batch else 1]
        return calls, max(threads, len(self._tasks))

    def finish(self, into: Gradients, dx: Tensor | None) -> None:
        """Give the gradient out, after those calls."""
        into.h = torch.from_numpy(by_layer(self._h))
        if into.c is not None:
            into.c = torch.from_numpy(by_layer(self._c))
        self._given = into.h, into.c
        if dx is not None and self._written is not None and self._written is not dx:
            dx.copy_(self._written)
        self._written = self._room = None

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
