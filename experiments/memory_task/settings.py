"""Settings of the repeat task and its training, and the presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of, shown

from ..settings import ABOVE_0, AT_LEAST_1, Allowed, Settings, check, described, rate_warnings

V = TypeVar("V", str, int, float)

Kind = Literal["gru", "lstm"]
# In an array, that of the logits or of a weight for each pair of symbols.
_MOST_NUMBERS: Final = 2**36


@dataclass(frozen=True)
class Variant:
    """A recurrent network of the comparison.

    Attributes:
        kind: which cell.
        reversible: whether it is a RevGRU or RevLSTM, else PyTorch's own.
        forgetting: whether it forgets.
        limited: whether ``max_forget_bits`` limits how much.
    """

    kind: Kind
    reversible: bool
    forgetting: bool = True
    limited: bool = False

    def label(self, max_forget_bits: int) -> str:
        """Return what people call it."""
        if not self.reversible:
            return self.kind.upper()
        name = f"Rev{self.kind.upper()}"
        if not self.forgetting:
            return f"{name}, not forgetting"
        return f"{name}, {max_forget_bits} bits" if self.limited else f"{name}, no limit"

    def state_bits(self, hidden_size: int) -> int | None:
        """Return how many bits the state has, if nothing is ever discarded from it."""
        if self.forgetting:
            return None
        return 32 * hidden_size * (2 if self.kind == "lstm" else 1)


VARIANTS: Final[dict[str, Variant]] = {
    "gru": Variant("gru", False),
    "revgru": Variant("gru", True, limited=True),
    "revgru-unlimited": Variant("gru", True),
    "revgru-keeping": Variant("gru", True, forgetting=False),
    "lstm": Variant("lstm", False),
    "revlstm": Variant("lstm", True, limited=True),
    "revlstm-unlimited": Variant("lstm", True),
    "revlstm-keeping": Variant("lstm", True, forgetting=False),
}


@dataclass(frozen=True)
class Job:
    """One network to train: everything in which the networks of a run differ."""

    variant: str
    hidden_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class MemorySettings(Settings):
    """Everything that decides a run."""

    variants: str = described(",".join(VARIANTS), "networks to compare, with commas between")
    hidden_sizes: str = described("8,24,64", "units of the state, each an even number")
    max_forget_bits: int = described(
        3,
        "limit of the reversible cells that have one, 1 … 10",
        Allowed("1 … 10", lambda value: 1 <= value <= 10),
    )
    symbols: int = described(
        16, "kinds of tokens", Allowed("2 … 2^18", lambda value: 2 <= value <= 2**18)
    )
    lag: int = described(0, "how many steps ago the token to repeat was given; 0: just now")
    train_steps: int = described(32, "length of the sequences to train on", AT_LEAST_1)
    test_steps: int = described(128, "length of the sequences to test on", AT_LEAST_1)
    test_rows: int = described(256, "how many sequences to test on", AT_LEAST_1)
    batch_size: int = described(64, "sequences in an update", AT_LEAST_1)
    updates: int = described(200, "updates of each network", AT_LEAST_1)
    learning_rates: str = described("0.02", "of Adam, falling to 0; the best of several is taken")
    clip: float = described(1.0, "largest norm of all gradients together", ABOVE_0)
    seeds: int = described(
        2, "how often everything is trained, from other first weights and data", AT_LEAST_1
    )
    log_every: int = described(25, "updates between two lines of the metrics", AT_LEAST_1)
    checkpoint_every: int = described(100, "updates between two checkpoints", AT_LEAST_1)

    def __post_init__(self) -> None:
        """Check what a field alone does not show."""
        super().__post_init__()
        last, least = self.train_steps - 1, self.train_steps
        check("lag", self.lag, 0 <= self.lag <= last, f"0 … {last}, less than train_steps")
        allowed = f"at least train_steps, {least}"
        check("test_steps", self.test_steps, self.test_steps >= least, allowed)
        for steps, rows in (("train_steps", "batch_size"), ("test_steps", "test_rows")):
            room = _MOST_NUMBERS // self.symbols
            self._check_room(steps, room)
            self._check_room(rows, room // getattr(self, steps))
        for name in self.all_variants:
            check("variants", name, name in VARIANTS, one_of(tuple(VARIANTS)))
        for size in self.all_hidden_sizes:
            good = 2 <= size <= 2**20 and size % 2 == 0
            check("hidden_sizes", size, good, "even numbers, 2 … 2^20")
        for rate in self.all_learning_rates:
            check("learning_rates", rate, ABOVE_0.test(rate), ABOVE_0.words)

    def _check_room(self, name: str, most: int) -> None:
        given = getattr(self, name)
        check(name, given, given <= most, f"at most {most}: arrays have at most 2^36 numbers")

    @property
    def stack(self) -> Config:
        """The smallest of the reversible networks."""
        return Config("revgru", self.symbols, min(self.all_hidden_sizes))

    def warnings(self) -> list[str]:
        """Return what will keep all networks from learning; some are there to fail."""
        return rate_warnings("adam", self.all_learning_rates)

    @property
    def may_grow(self) -> tuple[str, ...]:
        """What may be more when a run goes on: their networks come after all others."""
        return ("seeds",)

    @property
    def all_variants(self) -> tuple[str, ...]:
        """The names of the networks."""
        return _parts("variants", self.variants, str, "names with commas between, each once")

    @property
    def all_hidden_sizes(self) -> tuple[int, ...]:
        """The sizes of the states."""
        return _parts("hidden_sizes", self.hidden_sizes, int, "whole numbers, each once")

    @property
    def all_learning_rates(self) -> tuple[float, ...]:
        """The learning rates to choose from."""
        return _parts("learning_rates", self.learning_rates, float, "numbers, each once")

    @property
    def jobs(self) -> list[Job]:
        """All networks to train, in order; more seeds add networks at the end."""
        return [
            Job(variant, size, rate, seed)
            for seed in range(self.seeds)
            for size in self.all_hidden_sizes
            for variant in self.all_variants
            for rate in self.all_learning_rates
        ]


def _parts(name: str, given: str, kind: Callable[[str], V], allowed: str) -> tuple[V, ...]:
    try:
        parts = tuple(kind(part.strip()) for part in given.split(","))
    except ValueError:
        raise RevRNNError("E_ARGUMENT", name, shown(given), allowed) from None
    check(name, given, len(set(parts)) == len(parts), allowed)
    return parts


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {},
    # Hours. 64 steps of 4 bits are as many as the smallest state that keeps everything has room
    # for, so that longer ones cannot be repeated by it, however it is trained.
    "full": {
        "hidden_sizes": "8,16,32,64",
        "train_steps": 64,
        "test_steps": 512,
        "updates": 1000,
        "learning_rates": "0.005,0.02",
        "seeds": 3,
        "log_every": 100,
        "checkpoint_every": 250,
    },
}
