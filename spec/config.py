"""The configuration of a stack of reversible layers (EVAL-003)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from .errors import RevRNNError, shown
from .formats import P_MAX, Formats
from .kinds import KINDS, RECORDS, check_names, check_record, check_values

CELLS: Final = KINDS["cell"].values
LAYOUTS: Final = KINDS["layout"].values

# CELL-002: names of the gates, in the order of the rows of the weights.
_GATES: Final = {
    ("revgru", True): ("z", "r", "g"),
    ("revgru", False): ("z", "r", "g"),
    ("revlstm", True): ("f", "i", "g", "o", "p"),
    ("revlstm", False): ("i", "g", "o"),
}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything about a stack of layers that is not a number to be learnt.

    Whole numbers and truth values may be NumPy's; they are kept as Python's.

    Attributes:
        cell: ``"revgru"`` or ``"revlstm"``.
        input_size: width I of the input, at least 1.
        hidden_size: width H of a layer's state, even; each group has H/2 units (CELL-001).
        num_layers: number L of layers.
        max_forget_bits: at most so many bits are forgotten per unit and operation, 1 … 10, or
            ``None`` for no limit (ACT-006).
        forgetting: ``False`` for the variants without revmul (CELL-030, CELL-031).
        buffer: layout of the buffer, ``"stream"``, ``"wordlist"`` or ``"bigint"``.
        slice_size: units of the top layer's first group, kept instead of buffered (SEQ-007).
        z_max: cap of the forget gate in 1024ths; ``None`` for the default of FMT-005.
        formats: fraction bits (FMT-002).
        p_max: cap of RevLSTM's gate ``p`` in 1024ths; ``None`` for the default of FMT-007.

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_HIDDEN_SIZE``, ``E_FORGET_BITS``, ``E_FORMAT`` or
            ``E_SLICE``, the first that applies in the order of ERR-002.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    max_forget_bits: int | None = None
    forgetting: bool = True
    buffer: str = "stream"
    slice_size: int = 0
    z_max: int | None = None
    formats: Formats = field(default_factory=Formats)
    p_max: int | None = None

    def __post_init__(self) -> None:
        """Check the fields in the order of ERR-002."""
        if not isinstance(self.formats, Formats):
            raise RevRNNError("E_ARGUMENT", "formats", shown(self.formats), "a Formats")
        check_record(self, "config")  # all but the slice, whose faults come last
        if self.p_max is not None and "p" not in self.gates:  # FMT-007
            raise RevRNNError("E_FORMAT", "p_max", shown(self.p_max), "None without a gate p")
        (of_slice,) = (field for field in RECORDS["config"] if field.name == "slice_size")
        check_values([of_slice], {"slice_size": self.slice_size}, lambda _: self.group_size)
        if self.slice_size and not self.forgetting:
            raise RevRNNError("E_SLICE", "slice_size", self.slice_size, "0 without forgetting")

    @property
    def group_size(self) -> int:
        """G, the units of one of the two groups."""
        return self.hidden_size // 2

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates in the order of the weights' rows (CELL-002)."""
        return _GATES[self.cell, self.forgetting]

    @property
    def num_gates(self) -> int:
        """N, the number of gates."""
        return len(self.gates)

    @property
    def has_cell_state(self) -> bool:
        """Whether the state has a ``c`` beside ``h``."""
        return self.cell == "revlstm"

    @property
    def state_arrays(self) -> int:
        """C of ACC-004: 1 for h alone, 2 for h and c."""
        return 2 if self.has_cell_state else 1

    @property
    def operations_per_step(self) -> int:
        """Operations on the buffer in one step of the whole stack (SEQ-003)."""
        return 2 * self.state_arrays * self.num_layers if self.forgetting else 0

    @property
    def forget_limit(self) -> int:
        """Largest number of bits that one operation can forget (10 without a limit)."""
        return 10 if self.max_forget_bits is None else self.max_forget_bits

    @property
    def resolved_z_max(self) -> int:
        """``z_max``, or the default of FMT-005."""
        return self.formats.default_z_max(self.cell) if self.z_max is None else self.z_max

    @property
    def resolved_p_max(self) -> int:
        """``p_max``, or the default of FMT-007."""
        return min(self.resolved_z_max, P_MAX) if self.p_max is None else self.p_max

    @property
    def view_bits(self) -> int:
        """``R_view`` (FMT-004)."""
        return self.formats.view_bits(self.cell)

    @property
    def can_wrap(self) -> bool:
        """Whether a state can leave int32 (FMT-006 proves where it cannot)."""
        caps = [self.resolved_z_max, *([self.resolved_p_max] if "p" in self.gates else [])]
        return not self.forgetting or max(caps) > self.formats.default_z_max(self.cell)

    def layer_input_size(self, layer: int) -> int:
        """``I_k`` of CELL-003."""
        return self.input_size if layer == 0 else self.hidden_size

    def layer_input_bits(self, layer: int) -> int:
        """``R_x`` of PROD-004."""
        return self.formats.operand_bits if layer == 0 else self.view_bits

    def layer_slice(self, layer: int) -> int:
        """Units of ``h1`` that are sliced in a layer: ``slice_size`` in the top one, else 0."""
        return self.slice_size if layer == self.num_layers - 1 else 0

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters, layer by layer (CELL-003)."""
        shapes: dict[str, tuple[int, ...]] = {}
        rows = self.num_gates * self.hidden_size
        for layer in range(self.num_layers):
            shapes[f"weight_ih_l{layer}"] = (rows, self.layer_input_size(layer))
            shapes[f"weight_hh_l{layer}"] = (rows, self.group_size)
            shapes[f"bias_l{layer}"] = (rows,)
        return shapes

    def initial_bias(self) -> list[float]:
        """Return what the first bias of each row is drawn around, ``[N·H]``.

        The forgetting RevLSTM starts with its input and output gates rather open, at 1: with a
        limit of 3 bits it follows ``nn.LSTM`` more closely then. All else is drawn around 0.
        """
        opens = {"i", "o"} if "p" in self.gates else set()
        one = [1.0 if gate in opens else 0.0 for gate in self.gates for _ in range(self.group_size)]
        return one + one

    def words_bound(self, steps: int) -> int:
        """Words that one unit can push in so many steps of the stack, at most (BUF-035)."""
        operations = steps * self.operations_per_step
        return 2 + operations * (2**14 * self.forget_limit + 1) // (255 * 2**10)

    def planes_bound(self, steps: int) -> int:
        """Planes that so many steps can spill in layout ``wordlist``, at most (BUF-021).

        That is of rows that have the same steps, without slices. Rows and units that are active at
        different times spill at different times, in the extreme a plane for every operation.
        """
        # A head below 2^53 that starts at 0 needs five operations at least to reach 2^53.
        operations = steps * self.operations_per_step
        return 1 + operations // (52 // self.forget_limit)

    def unlike(self, other: Config | None) -> str:
        """Return the first field in which another stack's states differ, ``""`` if none is known.

        A stack of another input or with other slices can go on from a state (SEQ-006).
        """
        free = ("input_size", "slice_size")
        names = [field.name for field in fields(self) if field.name not in free]
        differ = (n for n in names if other and getattr(self, n) != getattr(other, n))
        return next(differ, "")

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as the mapping of EVAL-003."""
        return asdict(self)

    @classmethod
    def of(cls, given: Config | Mapping[str, Any]) -> Config:
        """Return a configuration that is given as one, or as the mapping of EVAL-003."""
        return given if isinstance(given, Config) else cls.from_dict(given)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Config:
        """Build a configuration from the mapping of EVAL-003.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for unknown or missing names, and as the class.
        """
        given: object = mapping
        if not isinstance(given, Mapping):
            raise RevRNNError("E_ARGUMENT", "config", shown(given), "a mapping of its fields")
        formats = formats_from_dict(mapping.get("formats"))  # its faults come first (ERR-002)
        check_names(mapping, RECORDS["config"], "config.")
        return cls(**{**mapping, "formats": formats})


def formats_from_dict(mapping: object) -> Formats:
    """Build a :class:`Formats` from ``None``, a ``Formats`` or a mapping of EVAL-003."""
    if mapping is None:
        return Formats()
    if isinstance(mapping, Formats):
        return mapping
    if not isinstance(mapping, Mapping):
        raise RevRNNError("E_ARGUMENT", "formats", shown(mapping), "a mapping")
    check_names(mapping, RECORDS["formats"], "formats.")
    return Formats(**mapping)


# Fields with which the names and shapes of the parameters change.
_OF_PARAMETERS: Final = ("cell", "input_size", "hidden_size", "num_layers", "forgetting")


def _fixed(name: str, now: object) -> str:
    """Say what may be assigned to a setting that a module was made with: the value that it has."""
    if name in Config.__dataclass_fields__ and name not in _OF_PARAMETERS:
        return f"{now!r}, or another config: dataclasses.replace(config, {name}=…)"
    return f"{now!r}, for which the parameters were made; or a new module"


def check_unchanged(name: str, value: object, now: object) -> None:
    """Raise ``E_ARGUMENT`` unless a setting that a module was made with is given again."""
    try:
        same = bool(now == value)
    except Exception:  # of arrays, which compare element by element
        same = False
    if not same:
        raise RevRNNError("E_ARGUMENT", name, shown(value), _fixed(name, now))


def check_config(config: object, name: str = "config") -> None:
    """Raise ``E_ARGUMENT`` unless ``config`` is a :class:`Config`."""
    if not isinstance(config, Config):
        allowed = "a Config; that of a module is module.config"
        raise RevRNNError("E_ARGUMENT", name, type(config).__name__, allowed)
