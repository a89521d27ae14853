"""Reversible recurrent networks in JAX, with the oracle's bits, jitted or not.

out = rev_rnn(params, x, config, state=initial_state(config, batch_size))
"""

from .autodiff import Output, init_params, initial_state, quantise_parameters, rev_rnn
from .product import product_method, set_product_method
from .sequence import State
from .status import check

__all__ = [
    "Output",
    "State",
    "check",
    "init_params",
    "initial_state",
    "product_method",
    "quantise_parameters",
    "rev_rnn",
    "set_product_method",
]
