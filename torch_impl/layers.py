"""The settings and parameters of the recurrent modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from revrnn.config import Config, check_unchanged
from revrnn.errors import RevRNNError, shown
from revrnn.parameter_files import is_bias, parameter_shapes, stacks
from revrnn.plan import check_sizes

from .checks import FLOATS, check_tensor, flag, whole
from .dropout import check_gain_probability, check_probability
from .state import check_device
from .state_dict import SavesConfig

# Settings that may be changed at any time: their defaults and their checks.
_SETTINGS: Final[dict[str, tuple[Any, Callable[[Any], Any]]]] = {
    "batch_first": (False, lambda value: flag("batch_first", value)),
    "dropout": (0.0, check_gain_probability),
    "weight_drop": (0.0, lambda value: check_probability("weight_drop", value)),
    "locked_dropout": (False, lambda value: flag("locked_dropout", value)),
    "chunk_size": (None, lambda value: None if value is None else whole("chunk_size", value)),
    "checkpoint_every": (
        None,
        lambda value: None if value is None else whole("checkpoint_every", value),
    ),
    "offload": (False, lambda value: flag("offload", value)),
}
# Attributes that a module was made for.
_FIXED: Final = {field.name for field in fields(Config)} | {"bias", "bidirectional", "proj_size"}


class RevRNNLayers(SavesConfig):
    """The settings and parameters of :class:`RevGRU` and :class:`RevLSTM`.

    Attributes:
        config: the exact stack of one direction. Another :class:`~revrnn.Config` may be assigned
            whose parameters are the same: ``dataclasses.replace(m.config, max_forget_bits=5)``.
        bias: whether there are biases; fixed.
        bidirectional: whether there are two directions; fixed.
        batch_first: as in ``nn.GRU``; this and the following may be changed at any time.
        dropout: as in ``nn.GRU``.
        weight_drop: probability of dropping recurrent weights.
        locked_dropout: whether ``dropout`` drops the same units in all steps.
        chunk_size: steps handled together.
        checkpoint_every: steps between checkpoints, or ``None``.
        offload: whether the buffer is kept in the host's memory.
    """

    cell: Literal["revgru", "revlstm"]
    config: Config
    bias: bool
    bidirectional: bool
    batch_first: bool
    dropout: float
    weight_drop: float
    locked_dropout: bool
    chunk_size: int | None
    checkpoint_every: int | None
    offload: bool
    # Parameters are made by name; those of layer 0 are always there.
    weight_ih_l0: Tensor

    # --- settings ----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; settings are checked, and what the parameters depend on is fixed.

        Raises:
            RevRNNError: ``E_ARGUMENT``, by the attribute's name.
        """
        if name in _SETTINGS:
            value = _SETTINGS[name][1](value)
        elif name == "config":
            self._check_config(value)
        elif name in _FIXED and (name in self.__dict__ or "config" in self.__dict__):
            config = self.config
            now = getattr(config, name) if hasattr(config, name) else getattr(self, name)
            check_unchanged(name, value, now)
            return
        super().__setattr__(name, value)

    def _check_config(self, value: object) -> None:
        if not isinstance(value, Config):
            raise RevRNNError("E_ARGUMENT", "config", type(value).__name__, "a Config")
        if value.cell != self.cell:
            raise RevRNNError("E_ARGUMENT", "config.cell", shown(value.cell), shown(self.cell))
        if value.forgetting and value.buffer not in ("stream", "wordlist"):
            given = shown(value.buffer)
            raise RevRNNError("E_UNSUPPORTED", "buffer", given, "'stream', 'wordlist'")
        if self.__dict__.get("bidirectional") and value.slice_size:
            allowed = "0 if bidirectional"
            raise RevRNNError("E_UNSUPPORTED", "slice_size", value.slice_size, allowed)
        now = self.__dict__.get("config")
        if now is not None and now.parameter_shapes() != value.parameter_shapes():
            given = "a stack with other parameters"
            raise RevRNNError("E_ARGUMENT", "config", given, "one with the same, or a new module")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled module; settings that it lacks get their defaults."""
        defaults = {name: default for name, (default, _) in _SETTINGS.items()}
        super().__setstate__(defaults | state)  # type: ignore[no-untyped-call]

    @property
    def input_size(self) -> int:
        """Features of the input."""
        return self.config.input_size

    @property
    def hidden_size(self) -> int:
        """Units of a layer."""
        return self.config.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers of the stack."""
        return self.config.num_layers

    @property
    def proj_size(self) -> int:
        """0: there are no projections."""
        return 0

    @property
    def max_forget_bits(self) -> int | None:
        """The limit of forgetting."""
        return self.config.max_forget_bits

    def extra_repr(self) -> str:
        """Return what differs from the defaults."""
        config, defaults = self.config, Config(self.cell, 1, 2)
        parts = [str(config.input_size), str(config.hidden_size)]
        parts += [f"num_layers={config.num_layers}"] * (config.num_layers != 1)
        parts.append(f"max_forget_bits={config.max_forget_bits}")
        for name in ("forgetting", "buffer", "slice_size", "z_max", "p_max", "formats"):
            value = getattr(config, name)
            if value != getattr(defaults, name):
                parts.append(f"{name}={value!r}")
        plain = {"bias": True, "bidirectional": False}
        plain |= {name: default for name, (default, _) in _SETTINGS.items()}
        parts += [f"{n}={getattr(self, n)!r}" for n, v in plain.items() if getattr(self, n) != v]
        return ", ".join(parts)

    # --- parameters --------------------------------------------------------------------------

    def _make_parameters(
        self, device: torch.device | str | int | None, dtype: torch.dtype | None
    ) -> None:
        check_device(device)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
            allowed = ", ".join(map(str, FLOATS))
            raise RevRNNError("E_DTYPE", "dtype", shown(dtype), allowed)
        check_sizes(self.config)
        for name, shape in self._all_shapes().items():
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the module's own parameters anew, uniform in ±1/√hidden_size.

        Biases of RevLSTM's input and output gates lie around 1 (``config.initial_bias()``). What a
        subclass has added is left alone.
        """
        bound, centre = self.hidden_size**-0.5, self.config.initial_bias()
        shapes = self._all_shapes()
        for name, parameter in self.named_parameters():
            # Parametrised or pruned: ``parametrizations.NAME.original``, ``NAME_orig``, ``NAME_g``.
            first = name.removeprefix("parametrizations.").split(".")[0]
            own = next((n for n in (first, first.rpartition("_")[0]) if n in shapes), None)
            if own is None or ("." in name and not name.startswith("parametrizations.")):
                continue
            nn.init.uniform_(parameter, -bound, bound)
            if is_bias(own) and parameter.shape == shapes[own]:
                with torch.no_grad():
                    parameter.add_(parameter.new_tensor(centre))

    def any_weight(self) -> Tensor:
        """Return a parameter, for its type and device; no parametrisation is computed for it."""
        first = self._parameters.get("weight_ih_l0")
        if first is None:  # it is parametrised, or replaced
            first = next(self.parameters(), None)
        return self.weight_ih_l0 if first is None else first  # replicas have no parameters

    def flatten_parameters(self) -> None:
        """Do nothing: for code that calls this of ``nn.GRU``."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, as ``nn.GRU`` lists them."""
        named, groups = self.named_weights(), dict[str, list[Tensor]]()
        for name, value in named.items():
            groups.setdefault(name.split("_l", 1)[1], []).append(value)
        return list(groups.values())

    @property
    def _flat_weights(self) -> list[Tensor]:
        return list(self.named_weights().values())

    def _stacks(self) -> list[tuple[Config, list[int], str]]:
        """Return the exact stacks: configuration, which layers, suffix of the parameters."""
        return stacks(self.config, 2 if self.bidirectional else 1)

    def _all_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = parameter_shapes(self.config, 2 if self.bidirectional else 1)
        return {name: s for name, s in shapes.items() if self.bias or not is_bias(name)}

    def named_weights(self) -> dict[str, Tensor]:
        """Return the weights that the module computes with, parametrised, pruned or replaced.

        Raises:
            RevRNNError: for a weight that is missing or has another type or shape than the module
                was made for, by its name.
        """
        named: dict[str, Tensor] = {}
        first: Tensor | None = None
        for name, shape in self._all_shapes().items():
            value = getattr(self, name, None)
            if not isinstance(value, Tensor):
                given = "nothing" if value is None else type(value).__name__
                raise RevRNNError("E_ARGUMENT", name, given, f"a parameter of shape {list(shape)}")
            check_tensor(name, value, None, shape)
            first = value if first is None else first
            # Under autocast parametrised weights may have several types.
            if value.dtype != first.dtype and not torch.is_autocast_enabled(value.device.type):
                raise RevRNNError("E_DTYPE", name, value.dtype, f"{first.dtype}, as the others")
            if value.device != first.device:
                allowed = f"{first.device}, as the others"
                raise RevRNNError("E_ARGUMENT", name, f"device {value.device}", allowed)
            named[name] = value
        return named

    def stack_parameters(
        self,
        config: Config,
        layers: list[int],
        suffix: str,
        weights: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return a stack's parameters by the names of :class:`~revrnn.Config`.

        In training, ``weight_drop`` has been applied to recurrent weights. ``weights`` are those of
        :meth:`named_weights`, if they are known.
        """
        named, made = self.named_weights() if weights is None else weights, dict[str, Tensor]()
        for name, own in self._own_names(config, layers, suffix).items():
            if own not in named:
                shape = config.parameter_shapes()[name]
                made[name] = named["weight_ih_l0"].new_zeros(shape)
                continue
            made[name] = named[own]
            if name.startswith("weight_hh") and self.weight_drop and self.training:
                made[name] = nn.functional.dropout(made[name], self.weight_drop)
        return made

    def _own_names(self, config: Config, layers: list[int], suffix: str) -> dict[str, str]:
        """Return the module's names of a stack's parameters, by the stack's names."""
        names = {}
        for name in config.parameter_shapes():
            kind, own = name.rsplit("_l", 1)
            names[name] = f"{kind}_l{layers[int(own)]}{suffix}"
        return names
