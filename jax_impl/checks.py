"""What a caller gave, checked before any work is done, outside jit or while tracing (ERR-004)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of
from revrnn.formats import is_int

from .passing import Settings
from .product import product_method
from .state import State, check_config, check_state_config, initial_state
from .status import is_concrete

Params = Mapping[str, jax.Array]
Floats = jax.Array | tuple[jax.Array, ...] | None


def settings_of(
    config: Config,
    chunk_size: int,
    checkpoint_every: int | None,
    capacity: int | None,
    reset_capacity: int | None,
    resets: jax.Array | None,
    states: str = "reversed",
) -> Settings:
    """Return checked settings; without ``reset_capacity`` resets are counted where they can be."""
    check_config(config)
    if states not in ("reversed", "stored"):
        raise RevRNNError("E_ARGUMENT", "states", repr(states), "'reversed', 'stored'")
    chunk = whole_number("chunk_size", chunk_size)
    every, words, rows = (
        None if size is None else whole_number(name, size)
        for name, size in (
            ("checkpoint_every", checkpoint_every),
            ("capacity", capacity),
            ("reset_capacity", reset_capacity),
        )
    )
    piece = None if every is None else -(-every // chunk) * chunk
    if rows is None and resets is not None and is_concrete(resets):
        # A power of two, so that other numbers of resets find the same program.
        rows = 1 << int(np.count_nonzero(np.asarray(resets))).bit_length()
    return Settings(config, product_method(), chunk, piece, states, words, rows or 0)


def whole_number(name: str, value: object) -> int:
    """Return a size as Python's whole number, or raise ``E_ARGUMENT``."""
    if isinstance(value, jax.core.Tracer):
        allowed = "a whole number known while tracing: a static argument of jax.jit"
        raise RevRNNError("E_ARGUMENT", name, "a traced value", allowed)
    if not is_int(value) or not 1 <= value < 2**30:
        raise RevRNNError("E_ARGUMENT", name, repr(value), "a whole number, 1 … 2^30 − 1")
    return int(value)


def check_reset_capacity(settings: Settings, resets: jax.Array | None) -> None:
    """Raise ``E_ARGUMENT`` if resets are to be undone and nothing is set aside for them."""
    if resets is not None and not settings.reset_capacity and settings.states == "reversed":
        allowed = "a whole number, since resets cannot be counted under jit"
        raise RevRNNError("E_ARGUMENT", "reset_capacity", "nothing", allowed)


def check_sharding(**trees: Any) -> None:
    """Raise ``E_UNSUPPORTED`` for an array that is sharded over explicit axes of a mesh.

    JAX wants the sharding of every result said there; with automatic axes it finds them.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        sharding = getattr(jax.typeof(leaf), "sharding", None)
        explicit = set(getattr(getattr(sharding, "mesh", None), "explicit_axes", ()))
        names = {str(n) for part in getattr(sharding, "spec", ()) for n in np.ravel(part or [])}
        if explicit & names:
            given = f"sharded over explicit axes {sorted(explicit & names)}"
            allowed = "axes of axis_types AxisType.Auto in jax.make_mesh, or jax.shard_map"
            name = path[0].key + jax.tree_util.keystr(path[1:])
            raise RevRNNError("E_UNSUPPORTED", name, given, allowed)


def check_function(name: str, function: object) -> None:
    """Raise ``E_ARGUMENT`` for what cannot be called."""
    if not callable(function):
        raise RevRNNError("E_ARGUMENT", name, f"a {type(function).__name__}", "a function")


def check_initial(hx: Floats, state: State | None) -> tuple[jax.Array, ...] | None:
    """Return the arrays of ``hx``; raise ``E_ARGUMENT`` if there are both, or an exact ``hx``."""
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of the two")
    if isinstance(hx, State):
        raise RevRNNError("E_ARGUMENT", "hx", "a State", "floats; an exact state is given as state")
    if isinstance(hx, list):
        raise RevRNNError("E_ARGUMENT", "hx", "a list", "an array h, or a tuple (h, c)")
    return hx if hx is None or isinstance(hx, tuple) else (hx,)


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
    """Check names, then types, then shapes (ERR-002); ``name`` is what the caller calls ``x``."""
    shapes = config.parameter_shapes()
    _check_names(params, shapes)
    length = x.shape[:2] if len(jnp.shape(x)) == 3 else (0, 1)
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
            raise RevRNNError("E_ARGUMENT", "gains", "gains", "None for one layer")
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
        given = getattr(value, "dtype", type(value).__name__)
        if str(given) != dtype:
            raise RevRNNError("E_DTYPE", key, f"elements of {given}", dtype)
    for key, value, _, shape in wanted:
        if value.shape != shape or (key == name and length[1] == 0):
            allowed = f"{list(shape)}"
            if key == name and value.ndim != 3:
                allowed = f"[T, B, {config.input_size}]"
            raise RevRNNError("E_SHAPE", key, f"shape {list(value.shape)}", allowed)


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
    check_state_config(state, config)
    fresh = jax.eval_shape(lambda: initial_state(config, rows))
    wanted = []
    for name, value, like in zip(State._fields, state, fresh, strict=True):
        if (value is None) != (like is None):
            given = "nothing" if value is None else "an array"
            raise RevRNNError("E_ARGUMENT", f"state.{name}", given, "a state of this config")
        if like is not None:
            wanted.append((f"state.{name}", value, str(like.dtype), like.shape))
    return wanted
