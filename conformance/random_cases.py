"""Fresh random requests for any operation, so that vectors cannot be fitted.

Configurations and sizes come from a small pool that is drawn first, contents anew for every
request: an implementation that compiles for each configuration is not kept compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import Implementation, empty_store, outcome
from revrnn.formats import Formats
from revrnn.kinds import RECORDS, Field
from revrnn.operations import AXES, OPERATIONS, arguments_of

from .adapters import Question
from .contents import (
    GATE_STYLES,
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    STYLES,
    WEIGHT_STYLES,
    Arguments,
    Shape,
    contents,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from .faulty_cases import misspelt, spoil
from .life import PortError

# The largest lengths of axes of the elementary operations and those on the buffer; of free shape,
# arrays are always of one length.
_LONGEST: Final = {"M": 5, "N": 5, "K": 70, "B": 4, "G": 5}
_FREE: Final = 28
# Terms of one product in twenty: more than 32 bits hold of sums of products of bytes (PROD-003).
_LONG: Final = 2**17 + 1
# Of so many requests for products one has as many terms as there may be (PROD-002), and of as many
# with faults one has a term more.
_LONGEST_EVERY: Final = 1000
_LONGEST_AT: Final = 9
_MOST: Final = cast("int", AXES["K"].most)  # which the law limits
_SPOILT_AT_MOST: Final = 500  # requests; every second one or so has a fault
# In one of so many requests with faults the operation's name is one of them.
_MISSPELT_EVERY: Final = 7


def _scattered() -> Any:
    """Say which terms of the longest product are not 0, which is short to write.

    Enough that their sum leaves 48 bits, and those of their bytes' products 32 bits wherever sums
    are kept apart: of so many terms in a row, of every eighth, of four of every 32.
    """
    terms = np.arange(_MOST)
    return (terms < _LONG) | (terms % 8 == 0) | (terms % 32 < 4)


def pool_for(examples: int) -> int:
    """Return how many configurations serve so many requests for each operation."""
    return max(2, min(8, examples // 4))


class RandomCases:
    """Requests from a seed: the same seed gives the same requests."""

    def __init__(
        self,
        judge: Implementation,
        seed: int,
        layouts: tuple[str, ...] = ("stream", "wordlist"),
        pool: int = 4,
    ) -> None:
        """Draw the pool of configurations.

        Args:
            judge: answers what reversals start from.
            seed: of everything.
            layouts: the buffer layouts to ask for.
            pool: how many configurations of either kind, single cells and sequences.
        """
        self.judge, self.layouts = judge, layouts
        self.generator = np.random.default_rng(seed)
        # Both cells and all layouts are in every pool that is large enough.
        self.pool = [self._config(number) for number in range(pool)]

    def draw(self, operation: str, number: int) -> Arguments:
        """Return the arguments of request ``number`` of an operation."""
        if OPERATIONS[operation].profile == "gates":
            return self._elementary(operation, number)
        make: Callable[[int], Arguments] = getattr(self, f"_{operation}")
        return make(number)

    def all(self, operation: str, examples: int) -> list[Arguments]:
        """Return so many requests of an operation, and as many with faults."""
        drawn = [self.draw(operation, number) for number in range(examples)]
        return drawn + [self._faulty(operation, *one) for one in enumerate(drawn)]

    def questions(self, operation: str, examples: int) -> list[Question]:
        """Return what :meth:`all` does as questions, some for a name that no operation has."""
        asked = [Question(operation, args) for args in self.all(operation, examples)]
        for number in range(examples, len(asked), _MISSPELT_EVERY):
            name = misspelt(operation, self.generator)
            asked[number] = Question(name, asked[number].args)
        return asked

    def _faulty(self, operation: str, number: int, given: Arguments) -> Arguments:
        """Return a request with a fault, which compiles nothing where programs are compiled."""
        if operation == "product" and number % _LONGEST_EVERY == _LONGEST_AT:
            return {name: np.zeros((1, _MOST + 1), np.int16) for name in given}
        for _ in range(_SPOILT_AT_MOST):
            spoilt = spoil(given, self.generator)
            due = outcome(self.judge, operation, spoilt).get("error", "E_UNSUPPORTED")
            if due != "E_UNSUPPORTED":
                return spoilt
        said = f"judge {self.judge.name}: {operation}: none of {_SPOILT_AT_MOST} requests"
        raise PortError(f"{said} with faults is refused, but by E_UNSUPPORTED")

    # --- elementary operations, and those on the buffer

    def _elementary(self, operation: str, number: int) -> Arguments:
        fields = OPERATIONS[operation].arguments
        settings = {f.name: self._value(f, number) for f in fields if not f.is_array}
        longest = number % _LONGEST_EVERY == _LONGEST_AT
        if operation == "product" and (longest or number % 20 == 19):
            # Bytes of 127 and -128: their products, added up, are the first to leave 32 bits.
            ends = {"a": 32384, "w": self._one((32384, -32384))}
            there = _scattered() if longest else np.ones(_LONG, np.bool_)
            return {name: np.int16(end) * there[None] for name, end in ends.items()}
        return self._filled(operation, settings, self._lengths())

    def _lengths(self) -> dict[str, int]:
        return {"*": _FREE} | {axis: self._int(1, most) for axis, most in _LONGEST.items()}

    def _filled(self, operation: str, settings: Arguments, lengths: dict[str, int]) -> Arguments:
        """Return the settings and an array for every field whose contents follow from nothing."""
        given, elementary = dict(settings), OPERATIONS[operation].profile == "gates"
        for field in arguments_of(operation, None, settings):
            if not field.is_array or field.kind.name not in STYLES:
                continue
            axes = tuple(lengths[axis] for axis in field.axes)
            kind, styles = field.kind.name, tuple(STYLES[field.kind.name])
            if kind == "mask":
                styles = ("all", "random")  # those of any shape
            elif elementary and "any" in styles:
                styles = ("any",)
            given[field.name] = contents(kind, self.generator, axes, self._one(styles))
            if kind == "sum":
                given[field.name] = self._sums(given[field.name], settings["bits"])
        return given

    def _sums(self, any_sums: Any, bits: int) -> Any:
        """Add pre-activations around the ends of the table to others."""
        end = 8 << bits
        near = self.generator.integers(-end - 9, end + 10, 16)
        return np.concatenate([near, any_sums, [end, -end, end - 1, 1 - end]])

    def _revmul(self, number: int) -> Arguments:
        layout, lengths = self.layouts[number % len(self.layouts)], self._lengths()
        units = lengths["G"]
        size = self._one((0, 0, units, self._int(0, units)))
        given = self._filled("revmul", {"layout": layout, "slice_size": size}, lengths)
        return given | empty_store(layout, lengths["B"], units)

    def _revmul_inverse(self, number: int) -> Arguments:
        given = self._revmul(number)
        # Several pushes, so that there is something to pop.
        for _ in range(self._int(0, 6)):
            given |= self.judge.evaluate("revmul", given)
            style = self._one(GATE_STYLES)
            given["z"] = contents("gate", self.generator, given["z"].shape, style)
        restore = given["h"][:, : given["slice_size"]].copy()
        given |= self.judge.evaluate("revmul", given)
        return self._spoilt(given, number) | {"restore": restore}

    def _spoilt(self, given: Arguments, number: int) -> Arguments:
        """Take away now and then what is to be popped (BUF-032), or fill the heads (BUF-024)."""
        layout = given["layout"]
        if number % 6 == 4 or (number % 12 == 11 and layout == "wordlist"):
            return given | empty_store(layout, *given["h"].shape)
        if number % 12 == 5 and layout == "wordlist":
            return given | {"heads": np.full_like(given["heads"], 2**63 - 1)}
        return given

    # --- cells and sequences

    def _cell_forward(self, number: int) -> Arguments:
        config = replace(self._picked(number), num_layers=1, slice_size=0)
        return self._sequence(config, Shape(1, self._rows(config)), operation="cell_forward")

    def _cell_reverse(self, number: int) -> Arguments:
        given = self._cell_forward(number)
        return given | self.judge.evaluate("cell_forward", given)

    def _sequence_forward(self, number: int) -> Arguments:
        config = self._picked(number)
        given = self._sequence(config, self._shape(config, number))
        # One configuration goes without: another program where programs are compiled.
        return given | {"trace": number % len(self.pool) < len(self.pool) - 1}

    def _sequence_reverse(self, number: int) -> Arguments:
        given = self._sequence_forward(number)
        forward = self.judge.evaluate("sequence_forward", given)
        return reversal_arguments(given, forward)

    def _sequence_storage(self, number: int) -> Arguments:
        given = self._sequence_forward(number)
        del given["trace"]
        return given

    def _sequence_gradient(self, number: int) -> Arguments:
        config = self._picked(number)
        given = self._sequence(
            config, self._shape(config, number), WEIGHT_STYLES[:3], STATE_STYLES[:2]
        )
        # Each configuration in one way only, and either cell in both.
        states = ("reversed", "stored")[number // 2 % 2]
        return gradient_arguments(given, self.generator) | {"states": states}

    def _sequence(
        self,
        config: Config,
        shape: Shape,
        weights: tuple[str, ...] = WEIGHT_STYLES,
        states: tuple[str, ...] = STATE_STYLES,
        operation: str = "sequence_forward",
    ) -> Arguments:
        styles = {"weights": weights, "inputs": weights, "states": states}
        styles |= {"masks": MASK_STYLES, "heads": HEAD_STYLES}
        chosen = {name: self._one(choices) for name, choices in styles.items()}
        return sequence_arguments(config, shape, self.generator, operation=operation, **chosen)

    def _picked(self, number: int) -> Config:
        return self.pool[number % len(self.pool)]

    def _rows(self, config: Config) -> int:
        return 1 + (config.input_size + config.hidden_size) % 3

    def _shape(self, config: Config, number: int) -> Shape:
        """Return sizes that depend on the configuration alone; once in a pool, no steps at all."""
        steps = 3 + (config.hidden_size + config.num_layers) % 5
        none = number % (5 * len(self.pool)) == 4 * len(self.pool)
        return Shape(0 if none else steps, self._rows(config), gains=config.input_size % 2 == 0)

    def _config(self, number: int) -> Config:
        """Draw a configuration; the first of them have what rules branch on, however drawn.

        Both cells, all layouts, with and without forgetting, slices, gains between layers.
        """
        fields = {field.name: field for field in RECORDS["config"]}
        drawn = {name: self._value(fields[name]) for name in ("max_forget_bits", "z_max", "p_max")}
        group, forgetting = self._int(1, 4), number % 8 not in (4, 7)
        cell = fields["cell"].kind.values[number % 2]
        config = Config(
            cell=cell,
            # Even sizes have gains (:meth:`_shape`).
            input_size=2 * self._int(1, 2) - number // 2 % 2,
            hidden_size=2 * group,
            num_layers=1 + (number + 1) % 3,
            forgetting=forgetting,
            buffer=self.layouts[number // 2 % len(self.layouts)],
            slice_size=self._int(1, group) if forgetting and number % 4 > 1 else 0,
            formats=Formats(**self._formats()) if number % 3 == 2 else Formats(),
        )
        if "p" not in config.gates:
            drawn["p_max"] = None
        return replace(config, **drawn)

    # --- single values

    def _value(self, field: Field, number: int = 0, others: Mapping[str, int] | None = None) -> Any:
        """Draw a single value; texts take turns by the request's number."""
        kind = field.kind
        if kind.type == "formats":
            return self._formats()
        if kind.values:
            return kind.values[number % len(kind.values)]
        low, high = kind.low, kind.high if others is None else others.get(str(kind.high), kind.high)
        assert low is not None
        assert isinstance(high, int)
        choices = (low, high, self._int(low, high), self._int(low, high))
        return self._one((None, None, *choices) if field.none else choices)

    def _formats(self) -> dict[str, int]:
        drawn: dict[str, int] = {}
        for field in RECORDS["formats"]:
            drawn[field.name] = self._value(field, others=drawn)
        return drawn

    def _int(self, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))

    def _one(self, values: tuple[Any, ...]) -> Any:
        return values[int(self.generator.integers(len(values)))]
