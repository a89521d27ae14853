"""Where two implementations part: the quantities of a step, one after the other (CELL, MUL, SEQ).

The formulas of a step are walked with the judge's values. Every quantity that an operation of its
own gives (EVAL-004, EVAL-005) is asked of both, from the same inputs; the first that differs ends
the walk. What agrees in every quantity and differs in the state was put together wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import empty_store
from revrnn.formats import OPERAND_MAX

from .asking import Array, Asking

# The rules behind the results of a multiplication by a gate and of undoing it, by layout.
# The order is the one in which an operation makes them (BUF-005).
_PUSH: Final = {
    "stream": {"words": "BUF-031", "flags": "EVAL-006", "heads": "BUF-001", "h": "MUL-001"},
    "wordlist": {"flags": "BUF-021", "words": "BUF-022", "heads": "BUF-001", "h": "MUL-001"},
    "bigint": {"words": "EVAL-006", "flags": "EVAL-006", "heads": "BUF-010", "h": "MUL-001"},
}
_POP: Final = {
    "stream": {"h": "MUL-003", "words": "BUF-032", "flags": "EVAL-006", "heads": "BUF-002"},
    "wordlist": {"h": "MUL-003", "flags": "BUF-023", "words": "BUF-023", "heads": "BUF-002"},
    "bigint": {"h": "MUL-003", "words": "EVAL-006", "flags": "EVAL-006", "heads": "BUF-010"},
}


@dataclass(frozen=True)
class Part:
    """A group's ``h`` or ``c`` in a step.

    Attributes:
        name: ``"h"`` or ``"c"``.
        layer: which layer.
        group: 0 or 1.
        rows: bool ``[B]``, which rows have the step.
        sliced: how many units are sliced.
    """

    name: str
    layer: int
    group: int
    rows: Array
    sliced: int = 0


@dataclass
class Walk(Asking):
    """A walk through steps, with the judge's state and buffer.

    Attributes:
        config: of the stack.
        args: the sequence's arguments (EVAL-008).
        state: ``h``, ``c``, ``heads``, ``words``, ``flags`` as far as the variant has them.
    """

    config: Config
    args: Mapping[str, Any]
    state: dict[str, Array]

    def __post_init__(self) -> None:
        """Begin without words where none are given."""
        self.state = {name: array.copy() for name, array in self.state.items()}
        if self.config.forgetting and "words" not in self.state:
            rows = self.state["heads"].shape[0]
            self.state |= empty_store(self.config.buffer, rows, self.config.group_size)

    def forward(self, step: int) -> None:
        """Walk one step forward (SEQ-001); raises :class:`Parted` at the first mismatch."""
        for layer in range(self.config.num_layers):
            for group in (0, 1):
                self.place = f"step {step}, layer {layer}, group {group + 1}, forward"
                self._update(step, layer, group)

    def back(self, step: int) -> None:
        """Walk one step back (CELL-040); raises :class:`Parted` at the first mismatch."""
        for layer in reversed(range(self.config.num_layers)):
            for group in (1, 0):
                self.place = f"step {step}, layer {layer}, group {group + 1}, back"
                self._undo(step, layer, group)

    # --- one group

    def _parts(self, step: int, layer: int, group: int) -> tuple[Part, Part]:
        """Return a group's ``h`` and ``c``."""
        rows = self.args["mask"][step]
        sliced = self.config.layer_slice(layer) if group == 0 else 0
        return Part("h", layer, group, rows, sliced), Part("c", layer, group, rows)

    def _update(self, step: int, layer: int, group: int) -> None:
        gates, (h, c) = self._gates(step, layer, group), self._parts(step, layer, group)
        if self.config.cell == "revgru":
            self._multiply_add(h, gates["z"], self._gru_change(gates))
            return
        self._multiply_add(c, gates.get("f"), self._cell_change(gates))
        self._multiply_add(h, gates.get("p"), self._hidden_change(gates, c))

    def _undo(self, step: int, layer: int, group: int) -> None:
        gates, (h, c) = self._gates(step, layer, group), self._parts(step, layer, group)
        restore = self.args["slices"][step] if h.sliced else None
        if self.config.cell == "revgru":
            self._subtract_divide(h, gates["z"], self._gru_change(gates), restore)
            return
        change = self._hidden_change(gates, c)
        self._subtract_divide(h, gates.get("p"), change, restore)
        self._subtract_divide(c, gates.get("f"), self._cell_change(gates))

    def _gates(self, step: int, layer: int, group: int) -> dict[str, Array]:
        """Return a group's gates (CELL-010, CELL-011, CELL-020)."""
        config, bits = self.config, self.config.formats.sum_bits
        x, v = self._input(step, layer), self._view("v", self._group("h", layer, 1 - group))
        gates: dict[str, Array] = {}
        for gate in config.gates:
            operand = v
            if gate == "g" and config.cell == "revgru":
                operand = self.shift("u*", "CELL-011", gates["r"].astype(np.int64) * v, 15)
                operand = operand.astype(np.int16)
            s = self._sum(gate, layer, group, x, operand)
            if gate in ("z", "f", "p"):
                cap = config.resolved_p_max if gate == "p" else config.resolved_z_max
                limit = config.max_forget_bits
                rule = "ACT-005" if limit is None else "ACT-004"
                given = {"s": s, "bits": bits, "max_forget_bits": limit, "z_max": cap}
                gates[gate] = self.agreed(f"gate {gate}*", rule, "forget_gate", "z", given)
            elif gate == "g":
                gates[gate] = self.agreed("g*", "ACT-002", "tanh", "y", {"s": s, "bits": bits})
            else:
                given = {"s": s, "bits": bits}
                gates[gate] = self.agreed(f"gate {gate}*", "ACT-003", "sigmoid", "y", given)
        return gates

    def _input(self, step: int, layer: int) -> Array:
        """Return a layer's input operand (SEQ-004, SEQ-012)."""
        if layer == 0:
            x: Array = self.args["x"][step]
            return x
        a = self._view("input of the layer", self.state["h"][layer - 1])
        if "gains" not in self.args:
            return a
        product = a.astype(np.int64) * self.args["gains"][step][layer - 1]
        gained = self.shift("input of the layer times gain", "SEQ-012", product, 12)
        return gained.clip(-OPERAND_MAX, OPERAND_MAX).astype(np.int16)

    def _view(self, quantity: str, h: Array) -> Array:
        formats = {"state_bits": self.config.formats.state_bits, "view_bits": self.config.view_bits}
        return self.agreed(quantity, "FMT-004", "view", "a", {"h": h, **formats})

    def _sum(self, gate: str, layer: int, group: int, x: Array, v: Array) -> Array:
        """Return a pre-activation (PROD-004)."""
        config, units = self.config, self.config.group_size
        start = (group * config.num_gates + config.gates.index(gate)) * units
        parts = []
        for name, operand in (("weight_ih", x), ("weight_hh", v)):
            weight = self.args[f"{name}_l{layer}"][start : start + units]
            quantity = f"product with {name}_l{layer}, gate {gate}"
            given = {"a": operand, "w": weight}
            parts.append(self.agreed(quantity, "PROD-001", "product", "s", given))
        bias = self.args[f"bias_l{layer}"][start : start + units].astype(np.int64)
        operand_bits = config.formats.operand_bits
        s: Array = (
            (parts[0] << (operand_bits - config.layer_input_bits(layer)))
            + (parts[1] << (operand_bits - config.view_bits))
            + bias
        )
        return s

    def _gru_change(self, gates: Mapping[str, Array]) -> Array:
        product = (1024 - gates["z"].astype(np.int64)) * gates["g"]
        return self.shift("change of h", "CELL-012", product, 25 - self.config.formats.state_bits)

    def _cell_change(self, gates: Mapping[str, Array]) -> Array:
        product = gates["i"].astype(np.int64) * gates["g"]
        return self.shift("change of c", "CELL-021", product, 30 - self.config.formats.state_bits)

    def _hidden_change(self, gates: Mapping[str, Array], c: Part) -> Array:
        bits = self.config.formats.state_bits
        given = {"s": self._own(c).astype(np.int64), "bits": bits}
        y = self.agreed("tanh of c", "CELL-022", "tanh", "y", given)
        return self.shift("change of h", "CELL-022", gates["o"].astype(np.int64) * y, 30 - bits)

    # --- the state

    def _group(self, name: str, layer: int, group: int) -> Array:
        units = self.config.group_size
        array: Array = self.state[name][layer][:, group * units : (group + 1) * units]
        return array

    def _own(self, part: Part) -> Array:
        return self._group(part.name, part.layer, part.group)

    def _multiply_add(self, part: Part, z: Array | None, change: Array) -> None:
        own = product = self._own(part)
        if z is not None and self.config.forgetting:
            product = self._revmul("revmul", part, own, z, {})
        own[:] = np.where(part.rows[:, None], _wrap32(product.astype(np.int64) + change), own)

    def _subtract_divide(
        self, part: Part, z: Array | None, change: Array, restore: Array | None = None
    ) -> None:
        own = self._own(part)
        product = np.where(part.rows[:, None], _wrap32(own.astype(np.int64) - change), own)
        if z is not None and self.config.forgetting:
            given = {"restore": own[:, :0] if restore is None else restore}
            product = self._revmul("revmul_inverse", part, product, z, given)
        own[:] = product

    def _revmul(
        self, operation: str, own: Part, h: Array, z: Array, given: Mapping[str, Array]
    ) -> Array:
        """Multiply by a gate or undo it; the walk's buffer goes on with the judge's answer."""
        buffer = {part: self.state[part] for part in ("heads", "words", "flags")}
        asked = {
            "layout": self.config.buffer,
            "slice_size": own.sliced,
            "h": h.astype(np.int32),
            "z": z,
            "mask": own.rows,
            **buffer,
            **given,
        }
        answers = self.both(operation, asked)
        rules = (_PUSH if operation == "revmul" else _POP)[self.config.buffer]
        for part, rule in rules.items():
            made = own.name if part == "h" else f"{part} of the buffer"
            self.compare(f"{made} after {operation} of {own.name}", rule, part, answers)
        self.state |= {part: answers[0][part] for part in buffer}
        product: Array = answers[0]["h"]
        return product


def parts_of_state(
    config: Config, expected: Mapping[str, Array], got: Mapping[str, Array], back: bool
) -> Iterator[tuple[str, str, str, Array, Array]]:
    """Give the parts of two states in the order in which a step writes them.

    Yields:
        Place, quantity, rule, the part due and the part given.
    """
    units, names = config.group_size, ("c", "h") if config.has_cell_state else ("h",)
    layers, groups = range(config.num_layers), (0, 1)
    for layer in reversed(layers) if back else layers:
        for group in reversed(groups) if back else groups:
            for name in reversed(names) if back else names:
                columns = slice(group * units, (group + 1) * units)
                forward = "CELL-012" if config.cell == "revgru" else {"c": "CELL-021"}.get(name)
                rule = "CELL-040" if back else forward or "CELL-022"
                sides = (side[name][layer][:, columns] for side in (expected, got))
                yield f"layer {layer}, group {group + 1}", name, rule, *sides
    rules = (_POP if back else _PUSH)[config.buffer]
    for name in ("heads", "words", "flags"):
        if name in expected:
            yield "buffer", name, rules[name], expected[name], got[name]


def _wrap32(v: Array) -> Array:
    wrapped: Array = ((v + 2**31) % 2**32 - 2**31).astype(np.int32)
    return wrapped
