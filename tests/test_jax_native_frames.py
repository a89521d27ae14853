"""What the handlers of JAX's native engine refuse: call frames that are not as expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from revrnn.jax_impl.native import calls, readout, weights
from revrnn.native import handlers, readout_handler, weights_handlers


def empty(kinds: Any) -> list[np.ndarray[Any, Any]]:
    """Return arrays of the given types and numbers of axes, of one element each."""
    names = {6: np.uint8, 3: np.int16, 4: np.int32, 5: np.int64, 11: np.float32}
    return [np.zeros((1,) * axes, names[kind]) for kind, axes in kinds.tolist()]


def call(kind: str, given: list[Any], made: list[Any], pairs: Any) -> None:
    """Call a handler as :func:`revrnn.jax_impl.native.calls.call` does."""
    shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in made]
    names: dict[str, Callable[[], str]] = {
        "readout": readout.handler_name,
        "weights for sums": lambda: weights.handler_name(gradients=False),
        "weights for gradients": lambda: weights.handler_name(gradients=True),
    }
    name = names.get(kind, lambda: calls.target_of_chunk(kind, "revgru", True))()
    aliases = dict(pairs.tolist())
    with jax.enable_x64(True):
        jax.block_until_ready(jax.ffi.ffi_call(name, shapes, input_output_aliases=aliases)(*given))


FRAMES = {
    "advance": (*handlers._ADVANCED, handlers._CHANGED),
    "recover": (*handlers._RECOVERED, handlers._KEPT),
    "pull": (handlers._PULLED, handlers._GRADIENTS, handlers._ADDED),
    "readout": (readout_handler._ARGUMENTS, readout_handler._RESULTS, readout_handler._ADDED),
    "weights for sums": (*weights_handlers._FOR_SUMS, weights_handlers._NOWHERE),
    "weights for gradients": (*weights_handlers._FOR_GRADIENTS, weights_handlers._NOWHERE),
}
WRONG = ("type", "axes", "result", "fewer", "more", "not in place")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(k, w) for k, frame in FRAMES.items() for w in WRONG if len(frame[2]) or w != WRONG[-1]],
)
def test_a_frame_that_is_not_as_expected(kind: str, wrong: str) -> None:
    """An error that XLA raises, before anything is read."""
    given, made, pairs = FRAMES[kind]
    arguments, results = empty(given), empty(made)
    if kind == "pull":  # one layer
        arguments += empty(handlers._OF_LAYER)
        results += empty(handlers._OF_LAYER)
        pairs = np.concatenate([pairs, [(13 + n, 3 + n) for n in range(3)]])
    free = 3  # neither aliased in any call
    if wrong == "type":
        arguments[free] = arguments[free].view(np.uint8)
    elif wrong == "axes":
        arguments[free] = arguments[free][None]
    elif wrong == "result":
        results[{"pull": 2, "readout": 1}.get(kind, -2)] = np.zeros((1, 1, 1, 1, 1), np.float32)
    elif wrong == "fewer":
        arguments.pop(free)
        pairs = pairs - [1, 0]
    elif wrong == "more":
        arguments.append(arguments[0])
    else:
        pairs = pairs[1:]
    with pytest.raises(Exception, match="revrnn: a call frame is not as its kernels expect it"):
        call(kind, arguments, results, pairs)


def test_no_memory_for_a_chunk() -> None:
    """An error that XLA raises, not results that were never written."""
    given, made, pairs = FRAMES["advance"]
    arguments, results = empty(given), empty(made)
    arguments[9] = np.zeros((1 << 24, 1), np.uint8)
    arguments[12] = results[0] = np.zeros((1, 2, 1, 1 << 22), np.int32)  # words: 2^48 bytes
    with pytest.raises(Exception, match="revrnn: not enough memory for a chunk of steps"):
        call("advance", arguments, results, pairs)
