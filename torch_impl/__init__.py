"""revrnn in PyTorch: the same bits as the oracle, gradients by reversal."""

from .autograd import Output, quantise_parameters, rev_rnn
from .evaluate import IMPLEMENTATION, TorchImplementation
from .product import product_method, set_product_method
from .sequence import State, initial_state

__all__ = [
    "IMPLEMENTATION",
    "Output",
    "State",
    "TorchImplementation",
    "initial_state",
    "product_method",
    "quantise_parameters",
    "rev_rnn",
    "set_product_method",
]
