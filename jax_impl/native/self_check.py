"""A small sequence by an engine of kernels and by the scan, before the first is trusted."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from threading import Lock, Thread
from typing import Any, Final

import jax
import numpy as np

from revrnn.config import Config

from ..buffer import empty_store, fresh_heads
from ..engines import NATIVE, Method
from ..evaluate_programs import Given, run_forward, run_gradient
from ..lowered import export_is_seen
from ..sequence import Steps
from ..state import State
from ..x64 import with_x64

# A step of 3 rows of 2 · 19 units fills no vector, and has words to push and pop.
_STEPS, _ROWS, _INPUTS, _HIDDEN = 6, 3, 3, 38
# Gradients are sums of few float32 terms.
_TOLERANCE: Final = 1e-4

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
    ways = (Method(engine, None), Method("scan", "float64"))
    config = Config(cell, _INPUTS, _HIDDEN, forgetting=forgetting)
    with ExitStack() as stack:
        for setting in _plain_settings(engine):
            stack.enter_context(setting)
        if engine == NATIVE and not export_is_seen():
            return f"JAX {jax.__version__} does not say what a program is lowered for"
        given, gradient = _given(config)
        made, due = (jax.tree.leaves(run_forward(config, way, given)) for way in ways)
        if not all(map(np.array_equal, made, due)):
            return "its states are not the scan's"
        made, due = (
            jax.tree.leaves(run_gradient(config, way, "reversed", given, gradient)) for way in ways
        )
        pairs = zip(made, due, strict=True)
        if not all(np.allclose(a, b, _TOLERANCE, _TOLERANCE) for a, b in pairs):
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


def _given(config: Config) -> tuple[Given, Any]:
    """Return parameters, steps, state and store, and gradients of outputs, ``h`` and ``c``."""
    generator, formats = np.random.default_rng(0), config.formats
    shape = (config.num_layers, _ROWS, _HIDDEN)

    def whole(kind: Any, bits: int, *shape: int) -> Any:
        return generator.integers(-(1 << bits), 1 << bits, shape, kind)

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
    reals = [generator.standard_normal(s, np.float32) for s in ((_STEPS, *shape[1:]), shape, shape)]
    gradient = (reals[0], reals[1], reals[2] if config.has_cell_state else None)
    return Given(params, steps, state, store), gradient
