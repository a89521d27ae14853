"""Reversible recurrent networks in JAX, with the oracle's bits, jitted or not.

out = rev_rnn(params, x, config, state=initial_state(config, batch_size))
"""

from .autodiff import Output, init_params, initial_state, quantise_parameters, rev_rnn
from .dropout import dropout_gains, step_dropout
from .files import load_parameters, save_parameters
from .product import product_method, set_product_method
from .sequence import State
from .status import check
from .streaming import Streamed, value_and_grad

__all__ = [
    "Output",
    "State",
    "Streamed",
    "check",
    "dropout_gains",
    "init_params",
    "initial_state",
    "load_parameters",
    "product_method",
    "quantise_parameters",
    "rev_rnn",
    "save_parameters",
    "set_product_method",
    "step_dropout",
    "value_and_grad",
]
