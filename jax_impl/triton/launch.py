"""Launches of kernels over JAX's arrays, in the order of :mod:`revrnn.gpu.order`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import lax

from ...gpu import inputs, words
from ...gpu.constants import Mode
from ...gpu.order import WRITES, How, Order
from ...gpu.sizes import Sizes
from .calls import launch
from .numbers import Number
from .weights import Packed

FORWARD: Final = ("prepare", "gru_gates", "gru_state", "lstm_state")
BACK: Final = ("prepare", "gru_gates", "gru_unstate", "lstm_unhide", "lstm_uncell")
GRADIENT: Final = ("add_outputs", "gru_to_u", "gru_to_view", "lstm_back", "to_layer_below")


class Launcher(Order):
    """Launches kernels over arrays that it holds, and holds what they made of them.

    Attributes:
        arrays: by their names in :class:`revrnn.gpu.pointers.Pointers`.
    """

    def __init__(
        self, sizes: Sizes, mode: Mode, packed: Packed, arrays: dict[str, jax.Array]
    ) -> None:
        """Take arrays and packed weights."""
        super().__init__(sizes, mode)
        self.packed, self.arrays = packed, arrays
        self.counter: jax.Array | None = None

    def launch(
        self, kernel: Any, grid: tuple[int, ...], layer: int, *numbers: Any, how: How
    ) -> None:
        """Launch a kernel of all arrays."""
        _, *names, _ = kernel.arg_names
        given = {name: Number.of(n) for name, n in zip(names, numbers, strict=True)}
        arrays = self.arrays | (self.packed.upper if layer else self.packed.first)
        writes = tuple(name for name in WRITES[kernel.__name__] if name in self.arrays)
        self.arrays |= launch(kernel, grid, arrays, given, writes, how, self.counter)

    def input_parts(self, x: jax.Array) -> None:
        """Compute the first layer's input parts of operands int16 ``[C, B, I]``."""
        steps, rows, width = x.shape
        grid, K = self.input_cut(steps)
        arrays = {"x": x, **self.packed.inputs, "part": self.arrays["part"]}
        numbers = {"M": Number(0, steps * rows), "width": Number(0, width)}
        writes = WRITES["input_part"]
        self.arrays |= launch(inputs.input_part, grid, arrays, numbers, writes, How(K))

    def compact(self, places: jax.Array, into: jax.Array) -> jax.Array:
        """Copy the words of the chunk to their places, of which ``places`` has the ends."""
        sizes = self.sizes
        arrays = {name: self.arrays[name] for name in ("stage", "counts")}
        arrays |= {"places": places, "into": into}
        numbers = {"room": Number(0, len(into))}
        grid = (sizes.steps * sizes.operations * sizes.padded_rows,)
        how = How(self.constants[0], warps=1)
        made = launch(words.compact, grid, arrays, numbers, WRITES["compact"], how)
        return made["into"]

    def over(
        self, kernels: Iterable[str], steps: int, step: Callable[[Number, Any], Any], carry: Any
    ) -> Any:
        """Do a step after the other in a loop of the program.

        Args:
            kernels: those that a step launches.
            steps: how many.
            step: does one. It takes the loop's counter, as a number for kernels, and a carry.
            carry: what goes from step to step beside the arrays.

        Returns:
            The carry.
        """
        written = {name for kernel in kernels for name in WRITES[kernel]}
        changed = [name for name in self.arrays if name in written]

        def body(whole: Any) -> Any:
            counter, inside, carry = whole
            before, self.counter = self.arrays, counter
            self.arrays = before | inside
            carry = step(Number(1, 0), carry)
            made = {name: self.arrays[name] for name in changed}
            self.arrays, self.counter = before, None
            return counter + jnp.int32(1), made, carry

        # Not ``fori_loop``: its counter has 64 bits, where these are on.
        start = (jnp.int32(0), {name: self.arrays[name] for name in changed}, carry)
        _, made, carry = lax.while_loop(lambda whole: whole[0] < jnp.int32(steps), body, start)
        self.arrays |= made
        return carry

    def now(self) -> jax.Array:
        """Return the counter of the loop that is being traced."""
        assert self.counter is not None
        return self.counter
