"""Files of parameters and of states: what is in one, checked once for all implementations.

A file is a safetensors file. Its metadata, texts all of them, are

- ``revrnn_kind``: ``parameters``, which is meant where it is missing, or ``state``;
- ``revrnn_config``: the stack, the fields of :class:`~revrnn.Config` as a JSON object;
- ``revrnn_directions``: ``1``, which is meant where it is missing, or ``2``.

A file of parameters has the tensors of :func:`parameter_shapes`, of one of :data:`FLOATS`, all of
them finite. A stack without biases is one whose biases are zero, and its file has them as zeros.
With two directions (``revrnn_directions`` 2) the second's names end in ``_reverse``, and layers
above the first take in the outputs of both directions below (:func:`stacks`).

A file of a state has ``h`` int32 ``[L, B, H]``, for RevLSTM ``c`` of the same kind, and with
forgetting ``heads`` int64 ``[B, G]`` (SEQ-006), in every implementation and layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from .config import Config
from .errors import RevRNNError, shown
from .kinds import KINDS
from .whole_files import write_whole

Kind = Literal["parameters", "state"]

# Types of parameters by the names that NumPy, JAX and PyTorch give them, and their codes in files.
FLOATS: Final = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
_STATE_TYPES: Final = {"h": "I32", "c": "I32", "heads": "I64"}


class Described(NamedTuple):
    """What an array is: name of its element type (``float32``), and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """A file, read and checked.

    Attributes:
        tensors: the framework's arrays by name.
        config: the stack.
        directions: 1 or 2.
    """

    tensors: dict[str, Any]
    config: Config
    directions: int


# --- what belongs in a file ------------------------------------------------------------------


def stacks(config: Config, directions: int = 1) -> list[tuple[Config, list[int], str]]:
    """Return the exact stacks of a network: configuration, which layers, suffix of the names.

    One direction is one stack. With two, layers see both directions of the layer below, so each
    layer and direction is a stack of its own.
    """
    if directions == 1:
        return [(config, list(range(config.num_layers)), "")]
    parts = []
    for layer in range(config.num_layers):
        size = config.input_size if layer == 0 else 2 * config.hidden_size
        one = replace(config, input_size=size, num_layers=1, slice_size=0)
        parts += [(one, [layer], suffix) for suffix in ("", "_reverse")]
    return parts


def parameter_shapes(config: Config, directions: int = 1) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the parameters of a network of one or two directions."""
    shapes = {}
    for part, layers, suffix in stacks(config, directions):
        for name, shape in part.parameter_shapes().items():
            kind, own = name.rsplit("_l", 1)
            shapes[f"{kind}_l{layers[int(own)]}{suffix}"] = shape
    return shapes


def is_bias(name: str) -> bool:
    """Say whether a parameter is a bias, by its name."""
    return name.startswith("bias")


def directions_of(names: Sequence[str]) -> int:
    """Return how many directions parameters of these names have."""
    return 2 if any(name.endswith("_reverse") for name in names) else 1


def check_parameters(given: Mapping[str, Described], config: Config) -> list[str]:
    """Check parameters that are to be written.

    Args:
        given: what they are, by name. All biases may be missing.
        config: the stack.

    Returns:
        The names of missing biases, to be written as zeros.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for names, ``E_DTYPE``, ``E_SHAPE``.
    """
    shapes = parameter_shapes(config, directions_of(list(given)))
    biases = [name for name in shapes if is_bias(name)]
    missing = [] if any(name in given for name in biases) else biases
    wanted = [name for name in shapes if name not in missing]
    if set(given) != set(wanted):
        raise RevRNNError("E_ARGUMENT", "params", sorted(given), f"the names {list(shapes)}")
    for name in wanted:
        _check_array(name, f"{name}: ", given[name], FLOATS, shapes[name])
    return missing


def _check_array(
    argument: str, what: str, given: Described, types: Sequence[str] | Mapping[str, str], shape: Any
) -> None:
    start = "" if argument == what.rstrip(": ") else what
    if given.dtype not in types:
        raise RevRNNError("E_DTYPE", argument, f"{start}{given.dtype}", " or ".join(types))
    if given.shape != shape:
        given_shape = f"{start}shape {list(given.shape)}"
        raise RevRNNError("E_SHAPE", argument, given_shape, f"shape {list(shape)}")


def metadata_of(config: Config, kind: Kind, directions: int = 1) -> dict[str, str]:
    """Return the metadata of a file."""
    text = json.dumps(config.as_dict(), sort_keys=True)
    return {"revrnn_kind": kind, "revrnn_config": text, "revrnn_directions": str(directions)}


def state_shapes(config: Config, rows: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the arrays of a state (SEQ-006)."""
    shape = (config.num_layers, rows, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"h": shape}
    if config.has_cell_state:
        shapes["c"] = shape
    if config.forgetting:
        shapes["heads"] = (rows, config.group_size)
    return shapes


def head_range(config: Config) -> tuple[int, int]:
    """Return the smallest and the largest head of a layout (BUF-020, BUF-030)."""
    return KINDS[f"{config.buffer}_head"].ends


# --- reading ---------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    kind: Kind,
    open_file: Callable[[str], AbstractContextManager[Any]],
    copied: Callable[[Any], Any],
    is_sound: Callable[[str, Any, Config], bool],
    faults: tuple[type[Exception], ...],
) -> Contents:
    """Read a file and check everything in it.

    Args:
        path: the file.
        kind: what it must hold.
        open_file: the framework's ``safetensors.safe_open``, for a path.
        copied: makes an array of what the framework maps to the file, whose change it would see.
        is_sound: says whether a tensor's values may be so, by its name: for ``parameters`` whether
            all are finite; for ``state`` whether ``heads`` are in :func:`head_range`.
        faults: what opening and reading a file may raise.

    Raises:
        RevRNNError: with the path, and what is wrong.
    """
    place = checked_path(path)
    if os.path.exists(place) and not os.path.isfile(place):  # a pipe would be waited for
        given = "a folder" if os.path.isdir(place) else "a device, a pipe or a socket"
        given, allowed = f"{place}, {given}", f"a file of {_WRITERS[kind]}"
        raise RevRNNError("E_ARGUMENT", "path", given, allowed)
    try:
        with open_file(place) as file:
            config, directions, shapes = _read_header(place, kind, file)
            tensors = {name: copied(file.get_tensor(name)) for name in shapes}
    except faults as error:
        given = f"{place}, which cannot be read: {error}"
        raise RevRNNError("E_ARGUMENT", "path", given, f"a file of {_WRITERS[kind]}") from error
    for name, value in tensors.items():
        if not is_sound(name, value, config):
            code, wanted = ("E_NONFINITE", "finite numbers")
            if kind == "state":
                low, high = head_range(config)
                code, wanted = "E_RANGE", f"{low} … {high}"
            raise RevRNNError(code, "path", f"{place}: other values in {name}", wanted)
    return Contents(tensors, config, directions)


_WRITERS: Final = {"parameters": "save_parameters", "state": "save_state"}


def checked_path(path: object) -> str:
    """Return a path as text, or raise ``E_ARGUMENT``."""
    try:
        place = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        place = None
    if not isinstance(place, str) or not place or "\0" in place:
        raise RevRNNError("E_ARGUMENT", "path", shown(path), "a path, as text or Path")
    return place


def _read_header(path: str, kind: Kind, file: Any) -> tuple[Config, int, dict[str, Any]]:
    """Check metadata, names, types and shapes; return stack, directions and shapes."""
    metadata = file.metadata() or {}
    own = f"a file of {_WRITERS[kind]}"
    if "revrnn_config" not in metadata:
        given = f"{path}, without a configuration"
        raise RevRNNError("E_ARGUMENT", "path", given, own)
    given_kind = metadata.get("revrnn_kind", "parameters")
    if given_kind != kind:
        raise RevRNNError("E_ARGUMENT", "path", f"{path}, a file of kind {given_kind!r}", own)
    config = _config_of(path, metadata["revrnn_config"])
    directions = metadata.get("revrnn_directions", "1")
    if directions not in ("1", "2") or (directions == "2" and kind == "state"):
        given = f"{path}: revrnn_directions {directions!r}"
        raise RevRNNError("E_ARGUMENT", "path", given, "1 or 2; of a state, 1")
    what = {
        name: Described(part.get_dtype(), tuple(part.get_shape()))
        for name in file.keys()  # noqa: SIM118 - no mapping
        for part in [file.get_slice(name)]
    }
    shapes: dict[str, Any] = {}
    if kind == "state":
        axes = what["h"].shape if "h" in what else ()
        shapes = state_shapes(config, axes[1] if len(axes) == 3 else 0)
    elif len(what) == 3 * config.num_layers * int(directions):
        # Else a damaged number of layers would make names without end.
        shapes = parameter_shapes(config, int(directions))
    if set(what) != set(shapes) or not shapes:
        wanted = list(shapes) or f"3 tensors for each of {config.num_layers} × {directions} layers"
        raise RevRNNError("E_ARGUMENT", "path", f"{path} with tensors {sorted(what)}", f"{wanted}")
    for name, shape in shapes.items():
        types = tuple(FLOATS.values()) if kind == "parameters" else (_STATE_TYPES[name],)
        _check_array("path", f"{path}: {name}: ", what[name], types, shape)
    return config, int(directions), shapes


def _config_of(path: str, text: str) -> Config:
    try:
        fields = json.loads(text)
        config = Config.from_dict(fields)
        if "p" in config.gates and "p_max" not in fields:
            # Written before there was FMT-007, when one cap held for all gates.
            config = replace(config, p_max=config.resolved_z_max)
        return config
    except RevRNNError as error:
        given = f"{path}: revrnn_config: {error.argument} {error.given}"
        raise RevRNNError(error.code, "path", given, error.allowed) from error
    except (ValueError, RecursionError) as error:
        given = f"{path}: revrnn_config is no JSON ({type(error).__name__})"
        raise RevRNNError("E_ARGUMENT", "path", given, "a JSON object") from error


# --- writing ---------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, whole or not at all; what was there stays until the new one is safe.

    Raises:
        RevRNNError: ``E_ARGUMENT`` with the path, if it cannot be written.
    """
    checked_path(path)
    try:
        write_whole(path, data)
    except OSError as error:
        given = f"{os.fspath(path)}, which cannot be written: {error.strerror or error}"
        raise RevRNNError("E_ARGUMENT", "path", given, "a file in an existing folder") from error
