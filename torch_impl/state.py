"""The exact state that one call hands to the next, as a value (SEQ-006)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from revrnn.config import Config, check_config
from revrnn.errors import RevRNNError, shown
from revrnn.formats import Formats
from revrnn.plan import check_size, check_sizes

from .buffer import fresh_heads
from .quantise import quantise
from .transforms import is_abstract


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """The exact state that one call hands to the next (SEQ-006).

    It is a value: no function changes it. ``torch.save`` and
    ``torch.load(weights_only=True)`` take it (once ``revrnn.torch_impl`` is imported), and
    ``torch.utils._pytree`` sees its tensors.

    Attributes:
        h: int32 ``[L, B, H]`` with ``R_H`` fraction bits.
        c: the same for RevLSTM, else ``None``.
        heads: ``[B, G]``, int32 for ``stream``, int64 for ``wordlist``, else ``None``.
        config: the stack that it belongs to; other stacks refuse it. ``None`` if unknown.
    """

    h: Tensor
    c: Tensor | None
    heads: Tensor | None
    config: Config | None = None

    # --- properties --------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """The rows, B."""
        return self.h.shape[1]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.h.device

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that it has, by name."""
        named = {"h": self.h, "c": self.c, "heads": self.heads}
        return {name: value for name, value in named.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        """Say whether all numbers are the same, on whatever devices."""
        if not isinstance(other, State):
            return NotImplemented
        mine, theirs = self.tensors(), other.tensors()
        return set(mine) == set(theirs) and all(_equal(v, theirs[name]) for name, v in mine.items())

    def __hash__(self) -> int:
        """Hash the numbers."""
        return hash(tuple((name, _key(value)) for name, value in self.tensors().items()))

    def __repr__(self) -> str:
        """Return what it belongs to, without its numbers."""
        if not self._is_whole():
            return f"State(h={type(self.h).__name__})"
        layers, rows, units = self.h.shape
        whose = "" if self.config is None else f"{self.config.cell}, {self.config.buffer}, "
        return f"State({whose}layers={layers}, rows={rows}, hidden_size={units}, {self.h.device})"

    def _is_whole(self) -> bool:
        """Say whether it has what a State has, and not what a map over its tensors made of them."""
        whole = all(isinstance(value, Tensor) for value in self.tensors().values())
        whole = whole and isinstance(self.config, Config | None)
        return whole and isinstance(self.h, Tensor) and self.h.dim() == 3

    # --- other states ------------------------------------------------------------------------

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> State:
        made = {name: change(name, value) for name, value in self.tensors().items()}
        return State(made["h"], made.get("c"), made.get("heads"), self.config)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> State:
        """Return it on a device.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if ``device`` is none; ``E_DTYPE`` for a type: the numbers
                are whole numbers of a fixed width.
        """
        if isinstance(device, torch.dtype):
            raise RevRNNError("E_DTYPE", "device", device, "a device: a State has its own types")
        if device is None:
            raise RevRNNError("E_ARGUMENT", "device", None, "a device")
        place = check_device(device)
        return self._each(lambda _, value: value.to(place, non_blocking=non_blocking))

    def cpu(self) -> State:
        """Return it on the CPU."""
        return self.to("cpu")

    def cuda(self, device: torch.device | int | None = None) -> State:
        """Return it on a CUDA device, by default the present one."""
        return self.to(torch.device("cuda") if device is None else device)

    def clone(self) -> State:
        """Return a copy that shares nothing with it."""
        return self._each(lambda _, value: value.clone())

    def detach(self) -> State:
        """Return it; its integers have no gradients."""
        return self._each(lambda _, value: value.detach())

    def index_select(self, rows: Tensor | Sequence[int]) -> State:
        """Return some rows of the batch, in the order and as often as they are named.

        Args:
            rows: whole numbers, ``[n]``: a tensor, or a list.

        Raises:
            RevRNNError: ``E_DTYPE``, ``E_SHAPE`` or ``E_RANGE``, for ``rows``.
        """
        try:
            at = rows if isinstance(rows, Tensor) else torch.tensor(rows, device=self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            allowed = "whole numbers, a tensor or a list"
            raise RevRNNError("E_DTYPE", "rows", shown(rows), allowed) from error
        if at.dim() == 1 and len(at) == 0:
            raise RevRNNError("E_SHAPE", "rows", "no rows", "one row or more")
        dense = at.layout == torch.strided and not is_abstract([at])
        if at.dtype not in (torch.int32, torch.int64) or not dense:
            given = f"{at.dtype}, {at.layout}, {at.device}"
            raise RevRNNError("E_DTYPE", "rows", given, "torch.int64, dense numbers")
        if at.dim() != 1:
            raise RevRNNError("E_SHAPE", "rows", f"shape {list(at.shape)}", "[n], n at least 1")
        if bool(((at < 0) | (at >= self.batch_size)).any()):
            raise RevRNNError("E_RANGE", "rows", rows, f"0 … {self.batch_size - 1}")
        at = at.to(self.device)
        return self._each(lambda name, value: value.index_select(int(name != "heads"), at))

    @staticmethod
    def cat(states: Iterable[State]) -> State:
        """Return the rows of several states of one stack as one batch.

        Raises:
            RevRNNError: ``E_ARGUMENT`` unless they are states of the same stack.
        """
        try:
            parts = list(states)
        except TypeError:  # also of an array without axes
            parts = []
        if not parts or not all(isinstance(part, State) and part._is_whole() for part in parts):
            given = parts if parts else states
            raise RevRNNError("E_ARGUMENT", "states", given, "one State or more")
        first = parts[0]
        kinds = [{n: (v.dtype, v.device) for n, v in part.tensors().items()} for part in parts]
        sizes = {(part.h.shape[::2], part.config) for part in parts}
        if len(sizes) > 1 or any(kind != kinds[0] for kind in kinds):
            raise RevRNNError("E_ARGUMENT", "states", parts, "states of one stack on one device")
        return first._each(
            lambda name, _: torch.cat([p.tensors()[name] for p in parts], int(name != "heads"))
        )

    # --- as plain data -----------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return its tensors and its configuration as plain data."""
        config = None if self.config is None else self.config.as_dict()
        return {"h": self.h, "c": self.c, "heads": self.heads, "config": config}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> State:
        """Return the state of :meth:`as_dict`.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for other names.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(mapping, Mapping) or set(mapping) - set(names) or "h" not in mapping:
            raise RevRNNError("E_ARGUMENT", "mapping", mapping, f"a mapping of {names}")
        config = mapping.get("config")
        known = Config.from_dict(config) if isinstance(config, Mapping) else config
        if known is not None and not isinstance(known, Config):
            given = type(known).__name__
            raise RevRNNError("E_ARGUMENT", "mapping.config", given, "a Config, or its fields")
        for name in ("h", "c", "heads"):
            value = mapping.get(name)
            if not isinstance(value, Tensor) and (name == "h" or value is not None):
                given = type(value).__name__
                raise RevRNNError("E_DTYPE", f"mapping.{name}", given, "a torch.Tensor")
        return cls(mapping["h"], mapping.get("c"), mapping.get("heads"), known)


def _equal(a: Any, b: Any) -> bool:
    """Say whether two tensors, or what a map over them made, are the same."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return type(a) is type(b) and bool(a == b)
    return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())


def _key(value: Any) -> Any:
    """Return what a tensor, or what a map over one made, is hashed by."""
    if not isinstance(value, Tensor):
        return value
    return tuple(value.shape), value.numpy(force=True).tobytes()


def check_device(device: torch.device | str | int | None) -> torch.device:
    """Return an available device, by default the current one, or raise ``E_ARGUMENT``."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, ValueError, AssertionError, ImportError) as error:
        raise RevRNNError("E_ARGUMENT", "device", shown(device), "an available device") from error


def initial_state(
    config: Config, batch_size: int, device: torch.device | str | None = None
) -> State:
    """Return a fresh state: zeros, and a fresh buffer (SEQ-006).

    Args:
        config: the stack.
        batch_size: rows, at least 1.
        device: where to put it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if ``batch_size`` is no such number.
    """
    check_config(config)
    check_device(device)
    rows = check_size("batch_size", batch_size)
    check_sizes(config, rows)
    return fresh_state(config, rows, device)


def fresh_state(config: Config, batch_size: int, device: torch.device | str | None = None) -> State:
    """Return :func:`initial_state`, without checks."""
    shape = (config.num_layers, batch_size, config.hidden_size)
    h = torch.zeros(shape, dtype=torch.int32, device=device)
    c = torch.zeros_like(h) if config.has_cell_state else None
    heads = None
    if config.forgetting:
        heads = fresh_heads(config.buffer, batch_size, config.group_size, device)
    return State(h, c, heads, config)


def start_from(floats: Sequence[Tensor], config: Config, rows: int, device: torch.device) -> State:
    """Return the state that float initial states stand for, or a fresh one without (SEQ-006)."""
    fresh = fresh_state(config, rows, device)
    if not floats:
        return fresh
    exact = [quantise("state", value.detach(), config.formats) for value in floats]
    return State(exact[0], exact[1] if config.has_cell_state else None, fresh.heads, config)


_Label = tuple[tuple[str, ...], Config | None]


def _flatten(state: State) -> tuple[list[Any], _Label]:
    kept = state.tensors()
    return list(kept.values()), (tuple(kept), state.config)


def _flatten_with_keys(state: State) -> tuple[list[tuple[Any, Any]], _Label]:
    values, label = _flatten(state)
    return [(_pytree.GetAttrKey(n), v) for n, v in zip(label[0], values, strict=True)], label


def _unflatten(children: Iterable[Any], label: _Label) -> State:
    made = dict(zip(label[0], children, strict=True))
    return State(made.get("h"), made.get("c"), made.get("heads"), label[1])  # type: ignore[arg-type]


def _label_to_text(label: _Label) -> str:
    return json.dumps([label[0], None if label[1] is None else label[1].as_dict()])


def _label_from_text(text: Any) -> _Label:
    names, config = json.loads(text)
    return tuple(names), None if config is None else Config.from_dict(config)


_pytree.register_pytree_node(
    State,
    _flatten,
    _unflatten,
    serialized_type_name="revrnn.torch_impl.State",
    flatten_with_keys_fn=_flatten_with_keys,
    to_dumpable_context=_label_to_text,
    from_dumpable_context=_label_from_text,
)
torch.serialization.add_safe_globals([State, Config, Formats])
