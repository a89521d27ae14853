"""The exact state that one call hands to the next (SEQ-006), as a value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of, shown, type_name
from revrnn.plan import check_size, check_sizes

from .buffer import LAYOUTS, fresh_heads
from .devices import check_devices
from .quantise import dequantise
from .status import is_array_or_number, is_concrete, kind_of, mark


@partial(jax.tree_util.register_dataclass, data_fields=["h", "c", "heads"], meta_fields=["config"])
@dataclass(frozen=True, eq=False, repr=False)
class State:
    """The exact state that is carried from call to call (SEQ-006).

    It is a value, and a pytree of its arrays; the configuration is static, a part of the tree's
    structure. ``jax.export`` keeps functions of it once ``revrnn.jax_impl`` is imported.

    Attributes:
        h: int32 ``[L, B, H]``, ``R_H`` fraction bits.
        c: the same for RevLSTM's ``c``, or ``None``.
        heads: the buffer's heads: int32 ``[B, G]`` for ``stream``; uint32 ``[B, G, 2]``, low and
            high half, for ``wordlist``; ``None`` without forgetting.
        config: the stack whose state it is: a call with another one refuses it. ``None`` for a
            state made by hand, of which types and shapes alone are checked.
    """

    h: jax.Array
    c: jax.Array | None = None
    heads: jax.Array | None = None
    config: Config | None = None

    # Names of the arrays, in the order in which the state unpacks: h, c, heads = state.
    _fields: ClassVar[tuple[str, ...]] = ("h", "c", "heads")
    __hash__ = None  # type: ignore[assignment] # arrays have none either

    def __iter__(self) -> Iterator[Any]:
        """Give the arrays in the order of their names."""
        return iter((self.h, self.c, self.heads))

    def __getitem__(self, k: int) -> Any:
        """Return an array by its place."""
        return tuple(self)[k]

    @property
    def batch_size(self) -> int:
        """The rows, B."""
        rows: int = self.h.shape[1]
        return rows

    def __eq__(self, other: object) -> bool:
        """Say whether all numbers are the same, on whatever devices."""
        if not isinstance(other, State):
            return NotImplemented
        return all(map(_equal, self, other))

    def __repr__(self) -> str:
        """Return what it belongs to and what it has, without the numbers."""
        parts = [f"{name}={_short(v)}" for name, v in zip(self._fields, self, strict=True)]
        if self.config is not None:
            parts = [self.config.cell, self.config.buffer, *parts]
        return f"State({', '.join(parts)})"

    def index_select(self, rows: jax.Array | Sequence[int]) -> State:
        """Return some rows of the batch, in the order and as often as they are named.

        Args:
            rows: whole numbers, ``[n]``.

        Raises:
            RevRNNError: ``E_DTYPE``, ``E_SHAPE``, and outside jit ``E_RANGE``, for ``rows``. Under
                jit a row that is not there has no head of any layout, which the next call reports.
        """
        parts: Any = rows if isinstance(rows, (list, tuple, range)) else [rows]
        for part in parts:
            if not is_array_or_number(part):
                raise RevRNNError("E_DTYPE", "rows", f"a {type(part).__name__}", "whole numbers")
        try:
            at = jnp.asarray(rows)
        except OverflowError:
            allowed = f"0 … {self.batch_size - 1}"
            raise RevRNNError("E_RANGE", "rows", rows, allowed) from None
        if at.ndim != 1 or not len(at):
            raise RevRNNError("E_SHAPE", "rows", f"shape {list(at.shape)}", "[n], n at least 1")
        if not jnp.issubdtype(at.dtype, jnp.integer):
            raise RevRNNError("E_DTYPE", "rows", at.dtype, "whole numbers")
        if is_concrete(at) and bool(((at < 0) | (at >= self.batch_size)).any()):
            raise RevRNNError("E_RANGE", "rows", at.tolist(), f"0 … {self.batch_size - 1}")

        def chosen(name: str, value: jax.Array | None) -> Any:
            axis = 0 if name == "heads" else 1
            if value is None:
                return None
            # −1, in two halves for wordlist, is no head.
            missing = 0 if name != "heads" else -1 if value.dtype == jnp.int32 else 2**32 - 1
            return jnp.take(value, at, axis, mode="fill", fill_value=missing)

        h, c, heads = map(chosen, self._fields, self)
        return State(h, c, heads, self.config)

    @staticmethod
    def cat(states: Iterable[State]) -> State:
        """Return the rows of several states of one stack as one batch.

        Raises:
            RevRNNError: ``E_ARGUMENT`` unless they are states of the same stack.
        """
        try:
            parts = list(states)
        except (TypeError, RuntimeError):  # also of an array without axes, or a deleted one
            parts = []
        if not parts or not all(isinstance(p, State) and np.ndim(p.h) == 3 for p in parts):
            raise RevRNNError("E_ARGUMENT", "states", states, "one State or more")
        kinds = {jax.tree.structure(part) for part in parts}
        sizes = {(part.h.shape[0], part.h.shape[2]) for part in parts}
        if len(kinds) > 1 or len(sizes) > 1:
            raise RevRNNError("E_ARGUMENT", "states", parts, "states of one stack")
        check_devices((f"states[{k}]", v) for k, part in enumerate(parts) for v in part)
        joined: list[Any] = [
            None if parts[0][k] is None else jnp.concatenate([part[k] for part in parts], axis)
            for k, axis in enumerate((1, 1, 0))
        ]
        return State(joined[0], joined[1], joined[2], parts[0].config)

    def as_dict(self) -> dict[str, Any]:
        """Return its arrays and its configuration as plain data."""
        config = None if self.config is None else self.config.as_dict()
        return {"h": self.h, "c": self.c, "heads": self.heads, "config": config}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> State:
        """Return the state of :meth:`as_dict`.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for other names.
        """
        names = [*cls._fields, "config"]
        if not isinstance(mapping, Mapping) or set(mapping) - set(names) or "h" not in mapping:
            raise RevRNNError("E_ARGUMENT", "mapping", mapping, f"a mapping of {names}")
        config = mapping.get("config")
        known = Config.from_dict(config) if isinstance(config, Mapping) else config
        if known is not None and not isinstance(known, Config):
            given = type(known).__name__
            raise RevRNNError("E_ARGUMENT", "mapping.config", given, "a Config, or its fields")
        for name in cls._fields:
            value = mapping.get(name)
            if not hasattr(value, "dtype") and (name == "h" or value is not None):
                raise RevRNNError("E_DTYPE", f"mapping.{name}", kind_of(value), "an array")
        return cls(mapping["h"], mapping.get("c"), mapping.get("heads"), known)

    def _replace(self, **changes: Any) -> State:
        """Return the state with other arrays, or another configuration."""
        return replace(self, **changes)


def _equal(a: Any, b: Any) -> bool:
    """Say whether two arrays, or other leaves, have the same type and values."""
    if a is None or b is None:
        return a is b
    if getattr(a, "dtype", None) != getattr(b, "dtype", None):
        return False
    # Those of several processes can be looked at together alone.
    here = all(is_concrete(v) and getattr(v, "is_fully_addressable", True) for v in (a, b))
    return np.array_equal(a, b) if here else bool(jnp.array_equal(a, b))


def _short(value: Any) -> str:
    """Return an array's type and shape, another leaf as it is."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return shown(value) if shape is None else f"{dtype}{list(shape)}"


def initial_state(config: Config, batch_size: int) -> State:
    """Return a fresh exact state: zeros, and fresh heads (SEQ-006).

    Raises:
        RevRNNError: ``E_ARGUMENT`` or ``E_UNSUPPORTED``.
    """
    check_config(config)
    rows = check_size("batch_size", batch_size)
    check_sizes(config, rows)
    return fresh_state(config, rows)


def fresh_state(config: Config, batch_size: int) -> State:
    """Return :func:`initial_state`, without checks."""
    h = jnp.zeros((config.num_layers, batch_size, config.hidden_size), jnp.int32)
    heads = None
    if config.forgetting:
        heads = fresh_heads(config.buffer, batch_size, config.group_size)
    return State(h, jnp.zeros_like(h) if config.has_cell_state else None, heads, config)


def carried(end: State, start: State | None, config: Config) -> State:
    """Return the state that a call gives back: it knows the stack that the one given knew.

    So it has the structure of the one given, and can be carried by ``lax.scan``.
    """
    return end._replace(config=config if start is None else start.config)


def floats_of(config: Config, exact: jax.Array | None, status: jax.Array) -> Any:
    """Return exact states as floats, NaN after a fault (QNT-006)."""
    return None if exact is None else mark(dequantise(exact, config.formats.state_bits), status)


def check_config(config: Config) -> None:
    """Raise ``E_ARGUMENT`` or ``E_UNSUPPORTED`` for what is no configuration of JAX's (BUF-037)."""
    if not isinstance(config, Config):
        raise RevRNNError("E_ARGUMENT", "config", shown(config), "a Config")
    if config.forgetting and config.buffer not in LAYOUTS:  # BUF-037
        raise RevRNNError("E_UNSUPPORTED", "buffer", shown(config.buffer), one_of(LAYOUTS))


def check_state_config(state: State, config: Config) -> None:
    """Raise ``E_ARGUMENT`` unless ``state`` is a state, of this stack if it knows of which."""
    if not isinstance(state, State):
        raise RevRNNError("E_ARGUMENT", "state", f"a {type_name(state)}", "a State")
    known: object = state.config
    if known is not None and not isinstance(known, Config):
        given = f"a {type(known).__name__}"
        raise RevRNNError("E_ARGUMENT", "state.config", given, "a Config, or None")
    name = config.unlike(state.config)
    if name:
        given = f"a state of {name}={getattr(state.config, name)!r}"
        raise RevRNNError("E_ARGUMENT", "state", given, f"{name}={getattr(config, name)!r}")


def _config_to_bytes(static: tuple[Config | None]) -> bytes:
    (config,) = static
    return json.dumps(None if config is None else config.as_dict()).encode()


def _config_from_bytes(data: bytes) -> tuple[Config | None]:
    mapping = json.loads(data)
    return (None if mapping is None else Config.from_dict(mapping),)


# So that functions of states can be kept in a file (jax.export).
export.register_pytree_node_serialization(
    State,
    serialized_name="revrnn.State",
    serialize_auxdata=_config_to_bytes,
    deserialize_auxdata=_config_from_bytes,
)
