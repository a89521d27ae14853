"""What a caller gave, checked before any work is done, outside jit or while tracing (ERR-004)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of, shown
from revrnn.functions import check_takes
from revrnn.plan import check_shape

from .devices import check_devices, check_memory
from .settings import Settings
from .state import State, check_state_config, fresh_state
from .status import is_array_or_number, is_concrete, kind_of

Params = Mapping[str, jax.Array]
Floats = jax.Array | tuple[jax.Array, ...] | None


def check_reset_capacity(settings: Settings, resets: jax.Array | None) -> None:
    """Raise ``E_ARGUMENT`` if resets are to be undone and nothing is set aside for them."""
    if resets is not None and not settings.reset_capacity and settings.states == "reversed":
        allowed = "a whole number, since resets cannot be counted under jit"
        raise RevRNNError("E_ARGUMENT", "reset_capacity", "nothing", allowed)


def check_function(name: str, function: object, count: int) -> None:
    """Raise ``E_ARGUMENT`` for what cannot be called with so many arguments."""
    if not callable(function):
        raise RevRNNError("E_ARGUMENT", name, f"a {type(function).__name__}", "a function")
    allowed = "outer, outputs and targets" if count == 3 else "outer and inputs"
    check_takes(name, function, count, f"a function of {allowed}")


# What the caller's functions may fetch from wherever it is.
_THROUGH_FUNCTIONS = ("outer", "inputs", "targets")


def check_trees(
    config: Config, params: Params, state: State | None, arrays: Mapping[str, Any], **trees: Any
) -> None:
    """Raise an error for what cannot be taken for arrays.

    It comes before all else that looks at the arrays, since JAX names no argument.

    Args:
        config: the stack.
        params: must be arrays by the names of the stack.
        state: must be a state of the stack.
        arrays: what must be one array each, or ``None``, by name.
        trees: what may be any pytree of arrays and numbers, by name.

    Raises:
        RevRNNError: ``E_ARGUMENT`` or ``E_DTYPE``, with the argument's name.
    """
    _check_names(params, config.parameter_shapes())
    if state is not None:
        check_state_config(state, config)
    for name, value in arrays.items():
        if value is not None and not hasattr(value, "dtype"):
            raise RevRNNError("E_DTYPE", name, kind_of(value), "an array")
    given = {"params": dict(params), **arrays, **trees, "state": state}
    named = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(given):
        name = path[0].key + jax.tree_util.keystr(path[1:])
        named.append((name, leaf))
        if not is_array_or_number(leaf):
            raise RevRNNError("E_DTYPE", name, kind_of(leaf), "an array of numbers")
        if isinstance(leaf, jax.Array) and is_concrete(leaf) and leaf.is_deleted():
            gone = "an array that has been deleted, or donated to a function"
            raise RevRNNError("E_ARGUMENT", name, gone, "an array that is still there")
        if any(map(export.is_symbolic_dim, np.shape(leaf))):
            shape, allowed = list(np.shape(leaf)), "numbers: a program for each shape"
            raise RevRNNError("E_UNSUPPORTED", name, f"shape {shape}", allowed)
        check_shape(name, np.shape(leaf))
        _check_width(name, leaf)
        if path[0].key not in _THROUGH_FUNCTIONS:
            check_memory(name, leaf)
    check_devices(named)


# The float types that are accepted; the first is what they become (QNT-003).
_FLOATS = tuple(map(np.dtype, (jnp.float32, jnp.bfloat16, jnp.float16, np.float64)))


def in_binary32(tree: Any) -> Any:
    """Return a tree of arrays with those of another float type in float32."""

    def taken(leaf: Any) -> Any:
        kind = getattr(leaf, "dtype", None)
        other = isinstance(kind, np.dtype) and kind in _FLOATS[1:] and hasattr(leaf, "astype")
        return leaf.astype(np.float32) if other else leaf

    return jax.tree.map(taken, tree)


def _check_width(name: str, leaf: Any) -> None:
    """Raise ``E_RANGE`` for whole numbers that JAX would cut down to 32 bits, or cannot take."""
    kind: np.dtype[Any] = np.dtype(np.int64)
    if isinstance(leaf, int):
        numbers = [leaf]
    elif isinstance(leaf, (np.ndarray, np.integer)) and leaf.dtype.kind in "iu":
        kind, numbers = leaf.dtype, [int(leaf.min()), int(leaf.max())] if leaf.size else []
    else:
        return
    ends = np.iinfo(jax.dtypes.canonicalize_dtype(kind))
    if not all(ends.min <= number <= ends.max for number in numbers):
        given = f"{kind}, {' … '.join(map(shown, numbers))}"
        raise RevRNNError("E_RANGE", name, given, f"{ends.min} … {ends.max}, or jax_enable_x64")


def check_key(key: object) -> jax.Array:
    """Return one key of ``jax.random``, of either kind; raise ``E_ARGUMENT`` for what is none."""
    # Only of arrays: nnx.Rngs has a stream of any name.
    dtype = key.dtype if isinstance(key, (jax.Array, np.ndarray)) else None
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    shape = getattr(key, "shape", None)
    # A function of its own: JAX would remember the shape of another default kind of keys.
    raw = dtype == jnp.uint32 and shape == jax.eval_shape(lambda: jax.random.PRNGKey(0)).shape
    if (not (typed and shape == ()) and not raw) or isinstance(key, np.ma.MaskedArray):
        given = type(key).__name__ if dtype is None else f"{dtype}{list(shape or ())}"
        raise RevRNNError("E_ARGUMENT", "key", given, "one key of jax.random")
    return key  # type: ignore[return-value] # an array, by its dtype


def check_initial(hx: Floats, state: State | None) -> tuple[jax.Array, ...] | None:
    """Return the arrays of ``hx``; raise ``E_ARGUMENT`` if there are both, or an exact ``hx``."""
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of the two")
    if isinstance(hx, State):
        raise RevRNNError("E_ARGUMENT", "hx", "a State", "floats; an exact state is given as state")
    if isinstance(hx, list):
        raise RevRNNError("E_ARGUMENT", "hx", "a list", "an array h, or a tuple (h, c)")
    return several(hx)


def several(hx: Floats) -> tuple[jax.Array, ...] | None:
    """Return the arrays of ``hx``, which may be a named tuple."""
    if hx is None:
        return None
    return tuple(hx) if isinstance(hx, tuple) else (hx,)


def check_arrays(
    params: Params,
    x: jax.Array | jax.ShapeDtypeStruct,
    config: Config,
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    mask: jax.Array | None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    *,
    name: str = "x",
) -> None:
    """Check types, then shapes (ERR-002), after :func:`check_trees`.

    ``name`` is what the caller calls ``x``.
    """
    shapes = config.parameter_shapes()
    length = x.shape[:2] if len(x.shape) == 3 else (0, 1)
    layers = (config.num_layers, length[1], config.hidden_size)
    wanted: list[tuple[str, Any, str, tuple[int, ...]]] = [
        (f"params[{key!r}]", params[key], "float32", shape) for key, shape in shapes.items()
    ]
    wanted.append((name, x, "float32", (*length, config.input_size)))
    if mask is not None:
        wanted.append(("mask", mask, "bool", length))
    if resets is not None:
        wanted.append(("resets", resets, "bool", length))
    if gains is not None:
        if config.num_layers == 1:
            raise RevRNNError("E_ARGUMENT", "gains", "gains for one layer", "None, or more layers")
        above = (length[0], config.num_layers - 1, length[1], config.hidden_size)
        wanted.append(("gains", gains, "int32", above))
    if hx is not None:
        if len(hx) != config.state_arrays:
            allowed = "(h, c)" if config.has_cell_state else "h"
            raise RevRNNError("E_ARGUMENT", "hx", f"{len(hx)} arrays", allowed)
        names = ("hx",) if len(hx) == 1 else ("hx[0]", "hx[1]")
        wanted += [(key, v, "float32", layers) for key, v in zip(names, hx, strict=True)]
    if state is not None:
        wanted += _of_state(state, config, length[1])
    for key, value, dtype, _ in wanted:
        if str(getattr(value, "dtype", "")) != dtype or not _is_one_array(value):
            allowed = " or ".join(map(str, _FLOATS)) if dtype == "float32" else dtype
            if key == "inputs":
                allowed += ", or embed, which makes them"
            traced = value is x and isinstance(x, jax.ShapeDtypeStruct)
            given = f"elements of {x.dtype}" if traced else kind_of(value)
            raise RevRNNError("E_DTYPE", key, given, allowed)
    for key, value, _, shape in wanted:
        if np.shape(value) != shape:
            allowed = f"{list(shape)}"
            if key == name and value.ndim != 3:
                allowed = f"[T, B, {config.input_size}]"
            raise RevRNNError("E_SHAPE", key, f"shape {list(np.shape(value))}", allowed)


def _is_one_array(value: Any) -> bool:
    """Say whether a value is no tree of several, as sparse arrays and quantised ones are."""
    leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
    return leaf or hasattr(value, "__jax_array__")


def _check_names(params: Params, shapes: Mapping[str, Any]) -> None:
    given: object = params
    if not isinstance(given, Mapping):
        given = f"a {type(params).__name__}"
        raise RevRNNError("E_ARGUMENT", "params", given, "arrays by name, as init gives them")
    for name in (*params, *shapes):
        if name not in shapes or name not in params:
            given = "nothing" if name in shapes else "an unknown name"
            raise RevRNNError("E_ARGUMENT", f"params[{name!r}]", given, one_of(shapes))


def _of_state(
    state: State, config: Config, rows: int
) -> list[tuple[str, Any, str, tuple[int, ...]]]:
    """Return what the arrays of an exact state must be; raise if there are others."""
    fresh = jax.eval_shape(lambda: fresh_state(config, rows))
    wanted = []
    for name, value, like in zip(State._fields, state, fresh, strict=True):
        if (value is None) != (like is None):
            given = "nothing" if value is None else "an array"
            raise RevRNNError("E_ARGUMENT", f"state.{name}", given, "a state of this config")
        if like is not None:
            wanted.append((f"state.{name}", value, str(like.dtype), like.shape))
    return wanted
