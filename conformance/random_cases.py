"""Fresh random requests for any operation, so that vectors cannot be fitted.

Configurations and sizes come from a small pool that is drawn first, contents anew for every
request: an implementation that compiles for each configuration is not kept compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import Implementation, empty_store
from revrnn.formats import Formats

from .contents import (
    GATE_STYLES,
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    Arguments,
    Shape,
    gate_contents,
    gradient_arguments,
    head_contents,
    operand_contents,
    reversal_arguments,
    sequence_arguments,
    state_contents,
)

_KINDS: Final = ("operand", "weight", "bias", "state")


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
        make: Callable[[int], Arguments] = getattr(self, f"_{operation}")
        return make(number)

    # --- elementary operations

    def _quantise(self, number: int) -> Arguments:
        exponents = self.generator.integers(-30, 40, 24)
        x = np.ldexp(self.generator.normal(size=24), exponents)
        ties = self.generator.integers(-(2**17), 2**17, 8) / 2.0**14
        x = np.concatenate([x, ties]).astype(np.float32)
        return {"kind": _KINDS[number % 4], "x": x, "formats": self._formats().as_dict()}

    def _dequantise(self, number: int) -> Arguments:
        return {"q": self._int32(24), "bits": self._int(0, 31)}

    def _round_shift(self, number: int) -> Arguments:
        v = self._int64(24, 2**62 - 1)
        return {"v": v, "k": self._int(0, 31)}

    def _product(self, number: int) -> Arguments:
        m, n, k = (self._int(1, 5), self._int(1, 5), self._int(1, 70))
        styles = [self._one(WEIGHT_STYLES) for _ in range(2)]
        a = operand_contents(self.generator, (m, k), styles[0])
        return {"a": a, "w": operand_contents(self.generator, (n, k), styles[1])}

    def _tanh(self, number: int) -> Arguments:
        bits = self._int(8, 27)
        return {"s": self._sums(bits), "bits": bits}

    def _sigmoid(self, number: int) -> Arguments:
        bits = self._int(8, 26)
        return {"s": self._sums(bits), "bits": bits}

    def _forget_gate(self, number: int) -> Arguments:
        bits = self._int(8, 26)
        limit = self._one((None, *range(1, 11)))
        z_max = self._one((1024, 1019, 512, self._int(512, 1024)))
        return {"s": self._sums(bits), "bits": bits, "max_forget_bits": limit, "z_max": z_max}

    def _view(self, number: int) -> Arguments:
        state_bits, view_bits = self._int(16, 24), self._int(6, 13)
        return {"h": self._int32(24), "state_bits": state_bits, "view_bits": view_bits}

    # --- the buffer

    def _revmul(self, number: int) -> Arguments:
        rows, units = self._int(1, 4), self._int(1, 5)
        layout = self.layouts[number % len(self.layouts)]
        config = Config("revgru", 1, 2 * units, buffer=layout)
        return {
            "layout": layout,
            "slice_size": self._one((0, 0, units, self._int(0, units))),
            "h": state_contents(self.generator, (rows, units), self._one(STATE_STYLES)),
            "z": gate_contents(self.generator, (rows, units), self._one(GATE_STYLES)),
            "mask": self.generator.random(rows) < self._one((2, 0.5)),
            "heads": head_contents(self.generator, config, rows, self._one(HEAD_STYLES)),
            **empty_store(layout, rows, units),
        }

    def _revmul_inverse(self, number: int) -> Arguments:
        given = self._revmul(number)
        # Several pushes, so that there is something to pop.
        for _ in range(self._int(0, 6)):
            given |= self.judge.evaluate("revmul", given)
            given["z"] = gate_contents(self.generator, given["z"].shape, self._one(GATE_STYLES))
        restore = given["h"][:, : given["slice_size"]].copy()
        given |= self.judge.evaluate("revmul", given)
        return given | {"restore": restore}

    # --- cells and sequences

    def _cell_forward(self, number: int) -> Arguments:
        config = replace(self._picked(number), num_layers=1, slice_size=0)
        given = self._sequence(config, Shape(1, self._rows(config)))
        given["x"] = given["x"][0]
        del given["mask"]
        if config.forgetting:
            given |= empty_store(config.buffer, *given["heads"].shape)
        return given

    def _cell_reverse(self, number: int) -> Arguments:
        given = self._cell_forward(number)
        return given | self.judge.evaluate("cell_forward", given)

    def _sequence_forward(self, number: int) -> Arguments:
        config = self._picked(number)
        given = self._sequence(config, self._shape(config, number))
        return given | {"trace": True}

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
        states = ("reversed", "stored")[number % 2]
        return gradient_arguments(given, self.generator) | {"states": states}

    def _sequence(
        self,
        config: Config,
        shape: Shape,
        weights: tuple[str, ...] = WEIGHT_STYLES,
        states: tuple[str, ...] = STATE_STYLES,
    ) -> Arguments:
        styles = (weights, weights, states, MASK_STYLES, HEAD_STYLES)
        chosen = [self._one(style) for style in styles]
        return sequence_arguments(config, shape, self.generator, *chosen)

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
        group = self._int(1, 4)
        forgetting = number % 5 != 4
        config = Config(
            cell=("revgru", "revlstm")[number % 2],
            input_size=self._int(1, 4),
            hidden_size=2 * group,
            num_layers=self._int(1, 3),
            max_forget_bits=self._one((None, 1, 2, 3, 5, 10)),
            forgetting=forgetting,
            buffer=self.layouts[number // 2 % len(self.layouts)],
            z_max=self._one((None, None, 1024, 512)),
            formats=self._formats() if number % 3 == 2 else Formats(),
        )
        if "p" in config.gates:
            config = replace(config, p_max=self._one((None, None, 1024, 512, self._int(512, 1024))))
        if forgetting and number % 4 > 1:
            config = replace(config, slice_size=self._int(1, group))
        return config

    # --- numbers

    def _formats(self) -> Formats:
        operand = self._int(8, 13)
        return Formats(
            state_bits=self._int(16, 24),
            operand_bits=operand,
            lstm_view_bits=self._int(6, operand),
            weight_bits=self._int(8, 13),
        )

    def _int(self, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))

    def _one(self, values: tuple[Any, ...]) -> Any:
        return values[int(self.generator.integers(len(values)))]

    def _int32(self, size: int) -> Any:
        return self._int64(size, 2**31 - 1).astype(np.int32)

    def _int64(self, size: int, end: int) -> Any:
        """Return whole numbers of all magnitudes up to ``end``, of both signs, and the ends."""
        bits = self.generator.integers(0, end.bit_length() + 1, size)
        values = [self._int(-(2 ** int(b)), 2 ** int(b)) if b < 63 else end for b in bits]
        return np.clip(np.array([*values, end, -end, 0, 1, -1], np.int64), -end, end)

    def _sums(self, bits: int) -> Any:
        end = 8 << bits
        near = self.generator.integers(-end - 9, end + 10, 16)
        return np.concatenate([near, self._int64(8, 2**63 - 1), [end, -end, end - 1, 1 - end]])
