"""Parameters of a stack: new ones, and in fixed point."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.plan import check_sizes

from .checks import Params, check_arrays, check_key, check_trees, in_binary32
from .forks import check_process
from .quantise import quantise
from .state import check_config


def init(key: jax.Array, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters, uniform in ±1/sqrt(``hidden_size``).

    Biases of RevLSTM's input and output gates lie around 1 (``config.initial_bias()``).

    Raises:
        RevRNNError: ``E_ARGUMENT`` or ``E_UNSUPPORTED``.
    """
    check_process()
    check_config(config)
    check_key(key)
    check_sizes(config)
    bound = config.hidden_size**-0.5
    shapes = config.parameter_shapes()
    keys = jax.random.split(key, len(shapes))
    params = {}
    for k, (name, shape) in zip(keys, shapes.items(), strict=True):
        params[name] = jax.random.uniform(k, shape, jnp.float32, -bound, bound)
        if name.startswith("bias"):
            params[name] += jnp.asarray(config.initial_bias(), jnp.float32)
    return params


def quantise_parameters(params: Params, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters in fixed point (QNT-005): weights int16, biases int32.

    NaN becomes 0; :func:`~revrnn.jax_impl.apply` reports it in its status.

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_UNSUPPORTED``, ``E_DTYPE`` or ``E_SHAPE``.
    """
    check_config(config)
    check_trees(config, params, None, {})
    params = in_binary32(dict(params))
    nothing = jax.ShapeDtypeStruct((0, 1, config.input_size), jnp.float32)
    check_arrays(params, nothing, config, None, None, None)
    return {
        name: quantise("bias" if name.startswith("bias") else "weight", value, config.formats)
        for name, value in params.items()
    }
