"""What lies at the end of its range, counted from a result outside ``jit``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import OPERAND_MAX
from revrnn.saturation import Saturation, view_limit, warn_of_saturation

from .checks import Params, in_binary32
from .parameters import quantise_parameters
from .quantise import quantise
from .state import State, check_config
from .status import is_array_or_number, is_concrete, kind_of


def saturation_of(
    result: Any, config: Config, x: jax.Array | None = None, params: Params | None = None
) -> Saturation:
    """Return what a pass met at the end of its range; warn, once a process, of more than 1 %.

    The pass itself counts nothing, so that programs that do not ask pay nothing. It is counted on
    the devices of the arrays, and waited for.

    Args:
        result: of :func:`~revrnn.jax_impl.apply`, of a module, of
            :func:`~revrnn.jax_impl.value_and_grad`, :func:`~revrnn.jax_impl.value` or
            :func:`~revrnn.jax_impl.encode`.
        config: the stack.
        x: floats, the inputs of the pass, of any shape, or some of them; without them their share
            is 0.
        params: the parameters of the pass; without them the share of the weights is 0.

    Returns:
        Shares of inputs and weights, and of the outputs if the result has any, else of the final
        states of all layers; and the largest ``|h|`` of both.

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_DTYPE`` or ``E_SHAPE``, also for traced values.
    """
    check_config(config)
    state = getattr(result, "state", None)
    if not isinstance(state, State):
        given = f"a {type(result).__name__}"
        raise RevRNNError("E_ARGUMENT", "result", given, "what apply or value_and_grad gives")
    outputs = getattr(result, "outputs", None)
    for name, value in (("result", state.h), ("result", outputs), ("x", x)):
        if not is_concrete(value):
            raise RevRNNError("E_ARGUMENT", name, "a traced value", "a result outside jit")
    if x is not None and not (hasattr(x, "dtype") and is_array_or_number(x)):
        raise RevRNNError("E_DTYPE", "x", kind_of(x), "an array of floats")
    x = in_binary32(x)
    if x is not None and str(x.dtype) != "float32":
        raise RevRNNError("E_DTYPE", "x", f"elements of {x.dtype}", "float32")
    bits, limit = config.formats.state_bits, view_limit(config)
    of_inputs = 0.0
    if x is not None and x.size:
        at_end = jnp.abs(quantise("operand", jnp.asarray(x), config.formats)) == OPERAND_MAX
        of_inputs = int(at_end.sum()) / x.size
    reach = _reach(state.h)
    seen, largest = reach > limit, float(reach.max(initial=0)) / 2**bits
    if outputs is not None and outputs.size:
        # Outputs are states rounded to float32, and so is the limit.
        floats = np.abs(np.asarray(outputs))
        seen = floats > np.float32(limit) * np.float32(2.0**-bits)
        largest = max(largest, float(floats.max()))
    of_states = float(seen.mean()) if seen.size else 0.0
    met = Saturation(of_inputs, of_states, largest, _of_weights(params, config))
    warn_of_saturation(met, config, "inputs")
    return met


def _of_weights(params: Params | None, config: Config) -> float:
    """Return the share of the weights that lie at the end of their range."""
    exact = {} if params is None else quantise_parameters(params, config)
    weights = [value for name, value in exact.items() if name.startswith("weight")]
    if not all(map(is_concrete, weights)):
        raise RevRNNError("E_ARGUMENT", "params", "traced values", "parameters outside jit")
    ends = sum(int((jnp.abs(value) == OPERAND_MAX).sum()) for value in weights)
    return ends / max(sum(value.size for value in weights), 1)


def _reach(h: jax.Array) -> np.ndarray[Any, Any]:
    """Return magnitudes, int64: that of −2^31 is no int32."""
    return np.abs(np.asarray(h).astype(np.int64))
