"""Reversible recurrent networks in JAX, with the oracle's bits, jitted or not.

params = init(key, config)
out = apply(params, x, config, state=initial_state(config, batch_size))
"""

# Read in this order:
#
# - the ground floor, as in the oracle: :mod:`.x64`, :mod:`.isolate`, :mod:`.quantise`,
#   :mod:`.product`, :mod:`.activations`, :mod:`.stacks`, :mod:`.buffer`, :mod:`.revmul`,
#   :mod:`.groups`, :mod:`.cells`, :mod:`.sequence`, :mod:`.slopes`, :mod:`.gradients`,
#   :mod:`.evaluate`, :mod:`.evaluate_programs`, :mod:`.evaluate_native`;
# - engines: :mod:`.scans`, :mod:`.resets`, :mod:`.walk`, :mod:`.steps`, :mod:`.lowered`,
#   :mod:`.engines`, :mod:`.engine`, :mod:`.self_check`, the folders native and triton;
# - a call over a sequence: :mod:`.status`, :mod:`.state`, :mod:`.parameters`, :mod:`.devices`,
#   :mod:`.settings`, :mod:`.checks`, :mod:`.forks`, :mod:`.dropout`, :mod:`.saturation`,
#   :mod:`.stores`, :mod:`.passing`, :mod:`.bptt`, :mod:`.call`, :mod:`.meshes`, :mod:`.programs`,
#   :mod:`.autograd`;
# - modules: :mod:`.doors`, :mod:`.flax`, :mod:`.equinox`, :mod:`.files`;
# - a sequence by chunks: :mod:`.closures`, :mod:`.keys`, :mod:`.asked`, :mod:`.run`,
#   :mod:`.streaming_loss`, :mod:`.streaming`, :mod:`.encoder`;
# - users' functions, called for one chunk after the other: :mod:`.readout`, :mod:`.in_place`,
#   :mod:`.embedded`;
# - from the losses of chunks to that of the sequence: :mod:`.flat`, :mod:`.mixing`,
#   :mod:`.lengths`, :mod:`.guards`, :mod:`.averages`, :mod:`.ratios`, :mod:`.pairs`, :mod:`.draws`,
#   :mod:`.apart`, :mod:`.part_gradients`, :mod:`.losses`.

# ruff: noqa: E402 - what is missing is said first
from revrnn.extras import need

need("jax")

from revrnn.engine_plan import EnginePlan
from revrnn.plan import Plan, plan

from .autograd import apply
from .call import Output
from .dropout import dropout_gains, step_dropout
from .encoder import Encoded, encode
from .engines import engine, engine_plan, set_engine
from .files import load_parameters, load_state, save_parameters, save_state
from .parameters import init, quantise_parameters
from .product import product_method, set_product_method
from .readout import LinearCrossEntropy
from .saturation import saturation_of
from .state import State, initial_state
from .status import check
from .streaming import value, value_and_grad
from .streaming_loss import Streamed

__all__ = [
    "Encoded",
    "EnginePlan",
    "LinearCrossEntropy",
    "Output",
    "Plan",
    "State",
    "Streamed",
    "apply",
    "check",
    "dropout_gains",
    "encode",
    "engine",
    "engine_plan",
    "init",
    "initial_state",
    "load_parameters",
    "load_state",
    "plan",
    "product_method",
    "quantise_parameters",
    "saturation_of",
    "save_parameters",
    "save_state",
    "set_engine",
    "set_product_method",
    "step_dropout",
    "value",
    "value_and_grad",
]
