"""What computes chunks of steps: XLA's scan, on the CPU compiled calls, on a GPU Triton's kernels.

States, outputs, buffer and what is counted are the same bits; gradients are float32, equal within
an engine (GRAD-020) and close between engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple

import jax

from revrnn.config import Config
from revrnn.engine_plan import EnginePlan
from revrnn.errors import RevRNNError, check_one_of, shown

from .lowered import either, zeros
from .product import product_is_named, product_method
from .state import check_config
from .walk import ScanStack

NATIVE: Final = "native"
TRITON: Final = "triton"
SCAN: Final = "scan"
ENGINES: Final = ("auto", SCAN, NATIVE, TRITON)
# Why "auto" does not choose it.
_UNTRIED: Final = "no GPU has run it yet, so it must be chosen by name"


class Method(NamedTuple):
    """The engine and product: a static argument of all that is compiled.

    Attributes:
        engine: its name.
        product: the scan's product (:func:`.product.product_method`), which programs for elsewhere
            have where the native engine is taken too; ``None`` if they are an error.
    """

    engine: str
    product: str | None

    @property
    def folder(self) -> str | None:
        """The folder of an engine with kernels, ``None`` for the scan."""
        return None if self.engine == SCAN else self.engine


class Exact(NamedTuple):
    """Parameters in fixed point as the engines want them for every chunk.

    Attributes:
        params: int16 weights and int32 biases by name.
        packed: the same for compiled calls, or ``None``.
    """

    params: Mapping[str, jax.Array]
    packed: Any


_chosen = "auto"
# A part of what JAX knows a traced function by.
_context: Final = jax.make_user_context("auto")


def set_engine(name: str) -> None:
    """Choose what computes sequences from now on; no state depends on it.

    Functions under ``jit`` are traced again when they are next called.

    Args:
        name: ``"native"`` (compiled calls on the CPU, an error where it refuses), ``"triton"``
            (kernels on a GPU, likewise), ``"scan"`` (XLA's own, on every device), or ``"auto"``:
            the first where it does not refuse, except in programs for elsewhere (``jax.export``,
            other devices).

    Raises:
        RevRNNError: ``E_ARGUMENT``.
    """
    global _chosen
    check_one_of("name", name, ENGINES)
    _chosen = name
    if hasattr(_context, "set_global"):
        _context.set_global(name)
    else:  # JAX before 0.10: functions traced by other threads keep their engine
        _context(name).__enter__()


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose an engine for the time of a ``with`` block."""
    before = _chosen
    set_engine(name)
    try:
        yield
    finally:
        set_engine(before)


def _refusal(config: Config, name: str) -> str | None:
    """Return why an engine of kernels, for ``"auto"`` the native one, does not take a stack."""
    if name == "auto" and product_is_named():
        return "a product method is chosen, which is the scan's"
    if name != NATIVE and jax.device_count() > 1:
        return "there are several devices, each of which would compute the whole batch"
    engine = NATIVE if name == "auto" else name
    reason: str | None = _part(engine, "engine").refusal(config)
    return reason


def method_of(config: Config, name: str | None = None) -> Method:
    """Return the engine and product for a stack.

    Args:
        config: the stack.
        name: of the engine; by default the one that was chosen.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` with the reason if a named engine refuses.
    """
    return _chosen_method(config, _chosen if name is None else name)[0]


def _chosen_method(config: Config, name: str) -> tuple[Method, str | None]:
    """Return engine and product, and why it is not the native engine."""
    if name == SCAN:
        return Method(SCAN, product_method()), None
    reason = _refusal(config, name)
    if name == "auto":
        return Method(NATIVE if reason is None else SCAN, product_method()), reason
    if reason is None:
        return Method(name, None), None
    raise _refused(name, reason)


def _refused(name: str, reason: str) -> RevRNNError:
    return RevRNNError("E_UNSUPPORTED", "engine", shown(name), f"'auto' or 'scan' here: {reason}")


def engine_plan(config: Config) -> EnginePlan:
    """Return what would compute a sequence of a stack, and how.

    Programs for elsewhere (``jax.export``, other devices) are the scan's in any case.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if the chosen engine refuses.
    """
    check_config(config)
    method, reason = _chosen_method(config, _chosen)
    on_gpu = _chosen == "auto" and jax.default_backend() == "gpu"
    refused = {TRITON: _UNTRIED} if on_gpu else {}
    if method.engine == TRITON:
        lacking: str | None = _part(TRITON, "engine").device_refusal()
        if lacking is not None:
            raise _refused(TRITON, lacking)
        return EnginePlan(TRITON, "signed bytes on tensor cores", refused)
    if method.engine == NATIVE:
        products: Any = import_module("revrnn.native.products")
        return EnginePlan(NATIVE, str(products.PRODUCT), refused)
    if reason is not None:
        refused[NATIVE] = reason
    return EnginePlan(SCAN, str(method.product), refused)


def prepared(config: Config, params: Mapping[str, jax.Array], method: Method) -> Exact:
    """Return parameters in fixed point as the engine wants them for every chunk."""
    if method.folder is None:
        return Exact(params, None)
    pack = partial(_part(method.folder, "weights").pack, config)
    if method.engine == TRITON:
        return Exact(params, pack(params))

    def nothing(like: Any, _: Any) -> Any:
        return zeros(like)

    return Exact(params, either(pack, nothing if method.product else None, params))


def stack_of(config: Config, exact: Exact, method: Method) -> Any:
    """Return what goes ``forward`` over steps, and in ``reverse``, with what :func:`prepared` gave.

    Its methods are those of :class:`.walk.ScanStack`.
    """
    if method.folder is None:
        return ScanStack(config, exact.params, str(method.product))
    return _part(method.folder, "stack").KernelStack(config, exact.packed)


def _part(folder: str, name: str) -> Any:
    return import_module(f".{folder}.{name}", __package__)
