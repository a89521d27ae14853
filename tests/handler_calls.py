"""The native kernels' handlers called over chunks of a sequence, as JAX's engine calls them.

Behind each of the arrays memory ends: who reads or writes there ends the process.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from mutation.fenced import FencedNumPy
from xla_frames import Array, Frame

from revrnn import Config
from revrnn.conformance.contents import Arguments, Shape, gradient_arguments, sequence_arguments
from revrnn.native import handlers
from revrnn.native.compiling import callback
from revrnn.native.gru import GRU_PIECES
from revrnn.native.lstm_rows import LSTM_PIECES
from revrnn.native.plan import forget_scale, numbers
from revrnn.torch_impl.native.weights import Weights

fenced: Final = FencedNumPy()
STEPS: Final = 10
ROWS: Final = 5
# Of arrays that a handler is to write, and of room for words.
UNWRITTEN: Final = 77


@cache
def handler(kind: str, cell: str, forgetting: bool) -> Any:
    """Return a handler, compiled, that lives as long as the process."""
    handlers.share(kind, cell, forgetting)
    return callback(handlers.handler(kind, cell, forgetting))


def drawn(config: Config) -> Arguments:
    """Return a sequence with a mask, gains and heads that push soon, and gradients of a loss."""
    generator = np.random.default_rng(0)
    states = "extreme" if config.can_wrap else "usual"
    shape, styles = Shape(STEPS, ROWS), ("usual", "usual", states, "random", "edges")
    arguments = sequence_arguments(config, shape, generator, *styles)
    if config.num_layers > 1:
        gains = (STEPS, config.num_layers - 1, ROWS, config.hidden_size)
        arguments["gains"] = generator.choice([0, 2**15, 2**16], gains).astype(np.int32)
    return gradient_arguments(arguments, generator)


def by_group(v: Array, kind: Any = np.int32) -> Array:
    """Return ``[L, B, H]`` as ``[L, 2, B, G]``."""
    layers, rows, hidden = v.shape
    made: Array = fenced.copy_of(v.reshape(layers, rows, 2, hidden // 2).swapaxes(1, 2), kind)
    return made


def own(v: Array) -> Array:
    """Return a copy."""
    made: Array = fenced.copy_of(v, v.dtype)
    return made


def by_layer(v: Array) -> Array:
    """Return ``[L, 2, B, G]`` as ``[L, B, H]``."""
    layers, _, rows, units = v.shape
    return v.swapaxes(1, 2).reshape(layers, rows, 2 * units)


class Call(NamedTuple):
    """What a handler is called with, and those results by name that it does not change in place."""

    kind: str
    arguments: list[Array]
    results: list[Array]
    told: dict[str, Array]


class Stack:
    """A stack, its state, and what is kept to go back.

    Attributes:
        h: int32 ``[L, 2, B, G]``; ``c`` the same, of no layers for RevGRU.
        heads: int32 ``[B, G]``.
        words: int16; ``length`` says how many there are.
        parts: int32 ``[chunks + 1, K]``: how many there are, then each share's words by chunk.
        aside_at: int32 ``[C, B]``: where rows that start anew are set aside, else −1.
        aside: where they are.
        d: gradients by name.
    """

    def __init__(self, config: Config, given: Arguments, count: int, room: int = 1000) -> None:
        """Take a sequence; so many shares are to do each chunk, with room for so many words."""
        self.config, self.given, self.count = config, given, count
        params = {name: given[name] for name in config.parameter_shapes()}
        weights = Weights(config, {name: torch.from_numpy(v) for name, v in params.items()})
        stack, none = weights.stack, np.zeros((0, 0, 0), np.int16)
        self.common = [*numbers(config), stack.w_x, stack.w_l, stack.w_h]
        self.common += [none if weights.w_u is None else weights.w_u, stack.norms, stack.bias]
        self.common = list(map(own, self.common))
        self.floats = list(map(own, (weights.of_input, *weights.floats)))
        self.h = by_group(given["h"])
        self.c = by_group(given.get("c", given["h"][:0]))
        self.heads = np.zeros((0, 0), np.int32)
        if config.forgetting:
            self.heads = fenced.copy_of(given["heads"], np.int32)
        self.words, self.length = fenced.full(room, UNWRITTEN, np.int16), fenced.zeros(1, np.int64)
        self.parts = fenced.zeros((STEPS + 2, count), np.int32)
        self.aside_at = fenced.zeros((0, ROWS), np.int32)
        pair = (config.num_layers, 2, config.group_size)
        rooms = (9, 9 if config.has_cell_state else 0)
        self.aside = [fenced.full((n, *pair), UNWRITTEN, np.int32) for n in rooms]
        names = ("h", "c")
        self.d = {n: by_group(given.get(f"grad_{n}", given["h"][:0]), np.float32) for n in names}
        shapes = config.parameter_shapes()
        self.d |= {name: fenced.zeros(shape, np.float32) for name, shape in shapes.items()}

    def steps(self, first: int, end: int) -> list[Array]:
        """Return inputs of a chunk: operands of an even length, mask, resets and gains."""
        x = self.given["x"][first:end]
        x = np.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2)))
        mask = fenced.copy_of(self.given["mask"][first:end], np.uint8)
        shape = (0, self.config.num_layers - 1, ROWS, self.config.hidden_size)
        gains = self.given.get("gains", np.zeros(shape, np.int32))[first:end]
        return [own(x), mask, own(self.aside_at[first:end]), own(gains)]

    def to_advance(self, first: int, end: int, before: bool = False) -> Call:
        """Return the call that takes a chunk forward, and keeps all states if told."""
        config, length = self.config, end - first
        outputs = fenced.full((length, ROWS, config.hidden_size), UNWRITTEN, np.int32)
        slices, bins = length + 1 if config.slice_size else 0, 1025 if config.forgetting else 0
        states = (length + 1 if before else 0, config.state_arrays, *self.h.shape)
        told = {
            "outputs": outputs,
            "slices": fenced.full((slices, ROWS, config.slice_size), UNWRITTEN, np.int32),
            "states": fenced.full(states, UNWRITTEN, np.int32),
            "counts": fenced.full((config.num_layers, bins), UNWRITTEN, np.int64),
            "tops": fenced.full(length, UNWRITTEN, np.int64),
            "wraps": fenced.full(1, UNWRITTEN, np.int64),
        }
        changed = [self.h, self.c, self.heads, self.words, self.length, *self.aside]
        arguments = [*self.common, *self.steps(first, end), *changed, self.parts]
        return Call("advance", arguments, [*changed, *told.values(), self.parts], told)

    def to_recover(self, first: int, end: int, told: dict[str, Array]) -> Call:
        """Return the call that takes a chunk back, with slices and states of the way there."""
        config, length = self.config, end - first
        pieces = GRU_PIECES if config.cell == "revgru" else LSTM_PIECES
        size, above = length * ROWS * config.hidden_size, config.num_layers - 1
        outputs = fenced.full((length, ROWS, config.hidden_size), UNWRITTEN, np.int32)
        sizes = (pieces * config.num_layers * size, above * size, above * size)
        factors = [fenced.full(n, np.nan, np.float32) for n in sizes]
        scale = fenced.full(1, forget_scale(config), np.float32)
        changed = [self.h, self.c, self.heads]
        arguments = [*self.common, *self.steps(first, end), *changed, self.words, self.length]
        arguments += [*self.aside, self.parts, told["slices"], told["states"], scale]
        results = [*changed, self.length, outputs, *factors, self.parts]
        names = ("outputs", "pieces", "operands", "slopes")
        new = dict(zip(names, (outputs, *factors), strict=True))
        return Call("recover", arguments, results, new)

    def to_pull(self, first: int, end: int, told: dict[str, Array]) -> Call:
        """Return the call that carries gradients back over a chunk that was taken back."""
        x, _, aside_at, _ = self.steps(first, end)
        x = x[:, :, : self.config.input_size]
        factors = [told[name] for name in ("pieces", "operands", "slopes")]
        changed, total = [self.d["h"], self.d["c"]], list(self.d.values())[2:]
        dx = fenced.full(x.shape, np.nan, np.float32)
        count = fenced.copy_of(np.array([self.count, 12]), np.int32)
        outputs = own(self.given["grad_outputs"][first:end])
        arguments = [*factors, aside_at, own(x), outputs, *self.floats]
        arguments += [*changed, count, *total]
        return Call("pull", arguments, [*changed, dx, *total], {"x": dx})

    def address(self, kind: str) -> int:
        """Return where a handler is."""
        address: int = handler(kind, self.config.cell, self.config.forgetting).address
        return address

    def make(self, call: Call) -> dict[str, Array]:
        """Make a call, which has to succeed."""
        assert Frame(call.arguments, call.results).call(self.address(call.kind)) is None
        return call.told
