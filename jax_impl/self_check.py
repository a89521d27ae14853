"""A small sequence by an engine of kernels, before it is trusted.

What the scan gives for it is written down here: compiling the scan as well would take longer than
all else that is done once in a process.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack
from functools import cache
from itertools import count
from threading import Lock, Thread
from typing import Any, Final

import jax
import numpy as np

from revrnn.config import Config

from .buffer import empty_store, fresh_heads
from .engines import NATIVE, Method
from .evaluate_programs import Given, run_forward, run_gradient
from .lowered import export_is_seen
from .sequence import Steps
from .state import State
from .x64 import with_x64

# A step of 3 rows of 2 · 19 units fills no vector, and has words to push and pop.
_STEPS, _ROWS, _INPUTS, _HIDDEN = 6, 3, 3, 38
# Of what is added up: gradients are sums of few float32 terms.
_TOLERANCE: Final = 1e-5
# By cell, with forgetting and without: a digest of all integers that the scan gives, and weighted
# sums of its gradients (:func:`digest`, :func:`weighted_sums`).
_DUE: Final[dict[tuple[str, bool], tuple[str, tuple[float, ...]]]] = {
    ("revgru", True): (
        "2933cb64c487f06c",
        (-5.71499491, -19.7731733, -37.3712375, -1.74325291, -36.5277271, 0),
    ),
    ("revgru", False): (
        "f06a2a50f803afe0",
        (4.76788045, -38.5074556, -44.746823, 39.5200413, -15.2893046, 0),
    ),
    ("revlstm", True): (
        "ca73b0b51f715372",
        (-11.9709684, -10.6947625, -22.6619281, -23.7555241, 6.28289711, -15.938927, 0),
    ),
    ("revlstm", False): (
        "4a6d6c8238f6eaf3",
        (14.9886893, 1.14225633, -16.2002817, 8.95599895, -6.2352767, 6.12183943, 0),
    ),
}

_lock: Final = Lock()


def fault(engine: str, cell: str, forgetting: bool) -> str | None:
    """Return in what the engine differs from the scan here, or ``None``, once per process."""
    with _lock:
        return _fault(engine, cell, forgetting)


@cache
def _fault(engine: str, cell: str, forgetting: bool) -> str | None:
    answers: list[str | None] = []

    def ask() -> None:
        try:
            answers.append(_compare(engine, cell, forgetting))
        except MemoryError:  # which says nothing of the engine, and may be over next time
            pass
        except Exception as error:  # whatever a version of JAX that is not known raises
            answers.append(f"{type(error).__name__}: {str(error).splitlines()[:1]}")

    # On a thread of its own nothing is being traced, as it may be here, and no mesh is set.
    thread = Thread(target=ask, name="revrnn-self-check")
    thread.start()
    thread.join()
    if not answers:
        raise MemoryError(f"the self-check of the engine {engine!r}")
    return answers[0]


@with_x64
def _compare(engine: str, cell: str, forgetting: bool) -> str | None:
    config = Config(cell, _INPUTS, _HIDDEN, forgetting=forgetting)
    with ExitStack() as stack:
        for setting in _plain_settings(engine):
            stack.enter_context(setting)
        if engine == NATIVE and not export_is_seen():
            return f"JAX {jax.__version__} does not say what a program is lowered for"
        made, gradients = run(config, Method(engine, None))
        due, sums_due = _DUE[cell, forgetting]
        if digest(made) != due:
            return "its states are not the scan's"
        sums, sizes = weighted_sums(gradients)
        if not np.all(np.abs(sums - sums_due) <= _TOLERANCE * sizes):
            return "its gradients are not the scan's"
    return None


def _plain_settings(engine: str) -> list[Any]:
    """Return contexts in which settings of the user's process do not matter."""
    return [
        jax.default_device(jax.local_devices(backend="cpu" if engine == NATIVE else None)[0]),
        jax.disable_jit(False),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
        jax.numpy_dtype_promotion("standard"),
    ]


def run(config: Config, way: Method) -> tuple[list[Any], list[Any]]:
    """Return all integers and all gradients of the small sequence."""
    given, gradient = _given(config)
    made = jax.tree.leaves(run_forward(config, way, given))
    return made, jax.tree.leaves(run_gradient(config, way, "reversed", given, gradient))


def digest(made: list[Any]) -> str:
    """Return the beginning of a digest of integers."""
    whole = b"".join(np.asarray(v).astype("<i8").tobytes() for v in made)
    return hashlib.sha256(whole).hexdigest()[:16]


def weighted_sums(gradients: list[Any]) -> tuple[Any, Any]:
    """Return a sum of each gradient's numbers, all with other weights, and of their magnitudes."""
    reals = [np.asarray(v, np.float64).reshape(-1) for v in gradients]
    terms = [v * (1.5 + _scattered(v.size, 1, n) / 2) for n, v in enumerate(reals)]
    return np.array([t.sum() for t in terms]), np.array([np.abs(t).sum() for t in terms])


def _scattered(count: int, bits: int, seed: int) -> Any:
    """Return integers in ±2^bits, the same with every version of NumPy."""
    order = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    mixed = order * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(63 - bits)).astype(np.int64) - (1 << bits)


def _given(config: Config) -> tuple[Given, Any]:
    """Return parameters, steps, state and store, and gradients of outputs, ``h`` and ``c``."""
    seeds, formats = count(), config.formats
    shape = (config.num_layers, _ROWS, _HIDDEN)

    def whole(kind: Any, bits: int, *shape: int) -> Any:
        return _scattered(math.prod(shape), bits, next(seeds)).reshape(shape).astype(kind)

    params = {
        name: whole(*((np.int16, 12) if len(shape) > 1 else (np.int32, 20)), *shape)
        for name, shape in config.parameter_shapes().items()
    }
    steps = Steps(
        whole(np.int16, formats.operand_bits, _STEPS, _ROWS, _INPUTS),
        np.arange(_STEPS)[:, None] < np.array([_STEPS, 2, _STEPS - 1]),  # type: ignore[arg-type]
    )
    h, c = (whole(np.int32, formats.state_bits, *shape) for _ in range(2))
    state = State(h, c if config.has_cell_state else None)
    store = None
    if config.forgetting:
        state = State(state.h, state.c, fresh_heads(config.buffer, _ROWS, config.group_size))
        store = empty_store(config, _STEPS, _ROWS, None)
    shapes = (_STEPS, *shape[1:]), shape, shape
    reals = [whole(np.float32, 20, *s) * np.float32(2.0**-20) for s in shapes]
    gradient = (reals[0], reals[1], reals[2] if config.has_cell_state else None)
    return Given(params, steps, state, store), gradient
