"""Fresh random requests for any operation, so that vectors cannot be fitted.

Configurations and sizes come from a small pool that is drawn first, contents anew for every
request: an implementation that compiles for each configuration is not kept compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import Implementation, empty_store, outcome
from revrnn.formats import Formats
from revrnn.kinds import RECORDS, Field
from revrnn.operations import OPERATIONS, arguments_of

from . import sizes
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

_SPOILT_AT_MOST: Final = 500  # requests; every second one or so has a fault
# In one of so many requests with faults the operation's name is one of them.
_MISSPELT_EVERY: Final = 7


class RandomCases:
    """Requests from a seed: the same seed gives the same requests.

    Attributes:
        unusual: whether some are large, or have axes of equal lengths, whatever the configuration.
    """

    unusual = True

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
        if operation == "product" and sizes.is_longest(number):
            return {name: np.zeros((1, sizes.MOST + 1), np.int16) for name in given}
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
        longest = sizes.is_longest(number)
        if operation == "product" and (longest or sizes.is_long(number)):
            # Bytes of 127 and -128: their products, added up, are the first to leave 32 bits.
            ends = {"a": 32384, "w": self._one((32384, -32384))}
            there = sizes.scattered() if longest else np.ones(sizes.LONG, np.bool_)
            return {name: np.int16(end) * there[None] for name, end in ends.items()}
        return self._filled(operation, settings, self._lengths())

    def _lengths(self) -> dict[str, int]:
        return {"*": sizes.FREE} | {axis: self._int(1, most) for axis, most in sizes.USUAL.items()}

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
        # Magnitudes of two limbs of 32 bits, one of which is 0, are among the last.
        return np.concatenate([near, any_sums, [end, -end, end - 1, 1 - end, 2**32, -(2**32)]])

    def _revmul(self, number: int) -> Arguments:
        layout, lengths = self.layouts[number % len(self.layouts)], self._lengths()
        large = self.unusual and sizes.is_large(number)
        if large:
            lengths["B"], lengths["G"] = self._one(sizes.LARGE_BUFFERS)
        units = lengths["G"]
        size = self._one((0, 0, units, self._int(0, units)))
        given = self._filled("revmul", {"layout": layout, "slice_size": size}, lengths)
        if large:
            self._fill(given)
        return given | empty_store(layout, lengths["B"], units)

    def _fill(self, given: Arguments) -> None:
        """Have many units of a large buffer push words (BUF-031), or one be full (BUF-021)."""
        shape, heads = given["h"].shape, given["heads"]
        given["z"] = contents("gate", self.generator, shape, "uniform")
        given["mask"][1:], given["slice_size"] = True, min(given["slice_size"], 3)
        if given["layout"] == "stream":
            heads[...] = self.generator.integers(2**15, 2**31, shape)
        else:
            heads[...], heads[-1, -1] = 0, 2**53

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
        rows = sizes.rows_of(config)
        if self.unusual and sizes.is_large(number):
            rows, group, inputs = self._one(sizes.LARGE_CELLS)
            config = replace(config, hidden_size=2 * group, input_size=inputs)
        return self._sequence(config, Shape(1, rows), operation="cell_forward")

    def _cell_reverse(self, number: int) -> Arguments:
        given = self._cell_forward(number)
        return given | self.judge.evaluate("cell_forward", given)

    def _sequence_forward(self, number: int) -> Arguments:
        config = self._picked(number)
        unusual, pool = self.unusual, len(self.pool)
        shape = (sizes.shape_of if unusual else sizes.usual_shape)(config, number, pool)
        # Many wraps to be counted (MUL-006).
        states = ("extreme",) if unusual and sizes.is_large(number) else STATE_STYLES
        given = self._sequence(config, shape, states=states)
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
        shape = sizes.usual_shape(config, number, len(self.pool))
        given = self._sequence(config, shape, WEIGHT_STYLES[:3], STATE_STYLES[:2])
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

    def _config(self, number: int) -> Config:
        """Draw a configuration; the first of them have what rules branch on, however drawn.

        Both cells, all layouts, with and without forgetting, slices of few units and of more, gains
        between layers, more layers than three.
        """
        fields = {field.name: field for field in RECORDS["config"]}
        drawn = {name: self._value(fields[name]) for name in ("max_forget_bits", "z_max", "p_max")}
        many, forgetting = number % 4 == 3, number % 8 not in (4, 7)
        group = self._int(4, 6) if many else self._int(1, 4)
        cell = fields["cell"].kind.values[number % 2]
        config = Config(
            cell=cell,
            # Even sizes have gains (:func:`.sizes.has_gains`).
            input_size=2 * self._int(1, 2) - number // 2 % 2,
            hidden_size=2 * group,
            num_layers=4 if number % 8 in (3, 4) else 1 + (number + 1) % 3,
            forgetting=forgetting,
            buffer=self.layouts[number // 2 % len(self.layouts)],
            slice_size=self._int(4 if many else 1, group) if forgetting and number % 4 > 1 else 0,
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
