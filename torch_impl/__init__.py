"""revrnn in PyTorch: the same bits as the oracle, gradients by reversal."""

# Read in this order:
#
# - the ground floor, as in the oracle: :mod:`.quantise`, :mod:`.product`, :mod:`.activations`,
#   :mod:`.blocks`, :mod:`.buffer`, :mod:`.revmul`, :mod:`.cells`, :mod:`.sequence`, :mod:`.state`,
#   :mod:`.slopes`, :mod:`.gradients`, :mod:`.evaluate`, :mod:`.evaluate_native`;
# - engines: :mod:`.conversions`, :mod:`.engine`, :mod:`.engines`, :mod:`.walk`, :mod:`.compiled`,
#   :mod:`.eager`, the folders native and triton;
# - a call over a sequence: :mod:`.checks`, :mod:`.schedule`, :mod:`.dropout`, :mod:`.saturation`,
#   :mod:`.forks`, :mod:`.transforms`, :mod:`.bptt`, :mod:`.call`, :mod:`.function`,
#   :mod:`.autograd`;
# - modules: :mod:`.state_dict`, :mod:`.layers`, :mod:`.doors`, :mod:`.directions`,
#   :mod:`.modules`, :mod:`.files`;
# - a sequence by chunks: :mod:`.trees`, :mod:`.collect`, :mod:`.call_hooks`, :mod:`.chunks`,
#   :mod:`.own_settings`, :mod:`.stream_checks`, :mod:`.run`, :mod:`.report`, :mod:`.streaming`,
#   :mod:`.encoder`; where it fails :mod:`.failures`; in several processes :mod:`.distributed`,
#   :mod:`.sharded`;
# - users' functions, called for one chunk after the other: :mod:`.shortcuts`, :mod:`.readout`,
#   :mod:`.repeat`, :mod:`.modes`, :mod:`.embedded`;
# - from the losses of chunks to that of the sequence: :mod:`.results`, :mod:`.step_functions`,
#   :mod:`.step_places`, :mod:`.mixing`, :mod:`.counts`, :mod:`.choices`, :mod:`.target_counts`,
#   :mod:`.scalars`, :mod:`.averages`, :mod:`.part_sums`, :mod:`.part_gradients`, :mod:`.parts`,
#   :mod:`.apart`, :mod:`.longer`, :mod:`.taken`, :mod:`.losses`.

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
from .engines import engine, engine_plan, set_engine
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
