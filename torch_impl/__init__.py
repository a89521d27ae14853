"""revrnn in PyTorch: the same bits as the oracle, gradients by reversal."""

# ruff: noqa: E402 - what is missing is said first
from revrnn.extras import need

need("torch")

from revrnn.engine_plan import EnginePlan
from revrnn.plan import Plan, plan

from .autograd import Output, quantise_parameters, rev_rnn
from .compiled import compiled_steps, set_compiled_steps
from .distributed import average_gradients
from .dropout import LockedDropout
from .encoder import encode
from .engine import engine, engine_plan, set_engine
from .evaluate import IMPLEMENTATION, TorchImplementation
from .files import load_parameters, load_state, save_parameters, save_state
from .modules import RevGRU, RevLSTM
from .product import product_method, set_product_method
from .readout import LinearCrossEntropy
from .report import MemoryReport
from .state import State, initial_state
from .streaming import Streamed, value, value_and_grad

__all__ = [
    "IMPLEMENTATION",
    "EnginePlan",
    "LinearCrossEntropy",
    "LockedDropout",
    "MemoryReport",
    "Output",
    "Plan",
    "RevGRU",
    "RevLSTM",
    "State",
    "Streamed",
    "TorchImplementation",
    "average_gradients",
    "compiled_steps",
    "encode",
    "engine",
    "engine_plan",
    "initial_state",
    "load_parameters",
    "load_state",
    "plan",
    "product_method",
    "quantise_parameters",
    "rev_rnn",
    "save_parameters",
    "save_state",
    "set_compiled_steps",
    "set_engine",
    "set_product_method",
    "value",
    "value_and_grad",
]
