"""A launch of a kernel in a program: on a GPU XLA's own call of Triton kernels.

``jax.export`` has to be told to keep it:
``disabled_checks=[DisabledSafetyCheck.custom_call(TARGET)]``.
Elsewhere there is none, but in Triton's interpreter, for tests (``TRITON_INTERPRET=1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from revrnn.errors import RevRNNError

from ...gpu.order import How
from ...gpu.sizes import interpreted
from ..lowered import refuse_derivative
from ..x64 import with_x64
from .numbers import Number

TARGET: Final = "__gpu$xla.gpu.triton"
_TYPES: Final = {f"int{bits}": f"*i{bits}" for bits in (8, 16, 32, 64)} | {"float32": "*fp32"}

_launch: Any = Primitive("revrnn_triton_launch")
_launch.multiple_results = True


class Launch(NamedTuple):
    """What is known of a launch while a program is traced.

    Attributes:
        kernel: in Triton.
        grid: numbers of programs.
        names: of its arrays, which are operands, followed by the counter.
        numbers: the others of its arguments, by name.
        writes: arrays that it changes.
        how: its constants, and what it is compiled with.
    """

    kernel: Any
    grid: tuple[int, ...]
    names: tuple[str, ...]
    numbers: tuple[tuple[str, Number], ...]
    writes: tuple[str, ...]
    how: How


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    arrays: Mapping[str, jax.Array],
    numbers: Mapping[str, Number],
    writes: tuple[str, ...],
    how: How,
    counter: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Launch a kernel.

    Args:
        kernel: see :class:`Launch`, as of the others.
        grid: of programs.
        arrays: by name.
        numbers: by name.
        writes: names of arrays.
        how: constants, warps, stages.
        counter: of the loop over steps, int32 ``[]``; ``None`` outside of one.

    Returns:
        The arrays that it changes.
    """
    counter = jnp.zeros((), jnp.int32) if counter is None else counter
    what = Launch(kernel, grid, tuple(arrays), tuple(numbers.items()), writes, how)
    made = _launch.bind(*arrays.values(), counter, what=what)
    return dict(zip(writes, made, strict=True))


def _shapes(*avals: Any, what: Launch) -> Any:
    return [avals[what.names.index(name)] for name in what.writes]


def _interpret(*operands: Any, what: Launch) -> Any:
    kernel, grid, names, numbers, writes, how = what
    if not interpreted():
        allowed = "'auto' or 'scan' on this device: 'triton' computes on GPUs"
        raise RevRNNError("E_UNSUPPORTED", "engine", "'triton'", allowed)

    def run(*operands: Any) -> Any:
        from . import interpreter

        *parts, counter = map(np.asarray, operands)
        values = {name: number.at(int(counter)) for name, number in numbers}
        arrays = {name: _joined(v, wide) for name, v, wide in zip(names, parts, whole, strict=True)}
        made = interpreter.run(kernel, grid, arrays, values, writes, how.K)
        return [_halved(v) for v in made]

    # A callback may run where 64-bit types are off.
    whole = [v.dtype == jnp.int64 for v in operands[:-1]]
    given = [
        lax.bitcast_convert_type(v, jnp.int32) if v.dtype == jnp.int64 else v for v in operands
    ]
    halves = dict(zip(names, given, strict=False))
    shapes = [jax.ShapeDtypeStruct(halves[name].shape, halves[name].dtype) for name in writes]
    made = jax.pure_callback(run, shapes, *given)
    return [
        lax.bitcast_convert_type(v, jnp.int64) if whole[names.index(name)] else v
        for name, v in zip(writes, made, strict=True)
    ]


def _joined(v: Any, wide: bool) -> Any:
    return np.ascontiguousarray(v).view(np.int64)[..., 0] if wide else v


def _halved(v: Any) -> Any:
    return v.view(np.int32).reshape(*v.shape, 2) if v.dtype == np.int64 else v


def _call(*operands: Any, what: Launch) -> Any:
    """Call a kernel on a GPU."""
    from . import ir

    kernel, grid, names, numbers, writes, how = what
    given = dict(zip((*names, ir.COUNTER), operands, strict=True))
    types = tuple((name, _TYPES[str(given[name].dtype)]) for name in names)
    made = ir.text_of(kernel, types, numbers, writes, how.K)
    arguments = [given[name] for name in (*made.reads, *writes)]
    shapes = [jax.ShapeDtypeStruct(given[name].shape, given[name].dtype) for name in writes]
    aliases = {len(made.reads) + k: k for k in range(len(writes))}
    across = dict(zip(("grid_x", "grid_y", "grid_z"), (*grid, 1, 1), strict=False))
    called = jax.ffi.ffi_call(TARGET, shapes, input_output_aliases=aliases)
    return called(
        *arguments,
        name=made.name,
        ir=made.text,
        num_warps=np.int32(how.warps),
        num_stages=np.int32(how.stages),
        debug=False,
        **{name: np.int32(count) for name, count in across.items()},
    )


def _run(*operands: Any, what: Launch) -> Any:
    with jax.disable_jit(False):
        return with_x64(jax.jit(partial(_launch.bind, what=what)))(*operands)


def _batch(operands: Any, axes: Any, what: Launch) -> Any:
    """Launch for one example after the other."""
    moved = [
        v if axis is None else jnp.moveaxis(v, axis, 0)
        for v, axis in zip(operands, axes, strict=True)
    ]
    varying = [k for k, axis in enumerate(axes) if axis is not None]

    def one(parts: Any) -> Any:
        given = list(moved)
        for k, part in zip(varying, parts, strict=True):
            given[k] = part
        return tuple(_launch.bind(*given, what=what))

    made = lax.map(one, [moved[k] for k in varying])
    return list(made), (0,) * len(made)


_launch.def_impl(_run)
_launch.def_abstract_eval(_shapes)
mlir.register_lowering(_launch, mlir.lower_fun(with_x64(_interpret), multiple_results=True))
_on_gpu: Final = mlir.lower_fun(with_x64(_call), multiple_results=True)
mlir.register_lowering(_launch, _on_gpu, platform="cuda")
batching.primitive_batchers[_launch] = _batch
ad.primitive_jvps[_launch] = refuse_derivative
