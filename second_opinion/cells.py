"""Cells and stacks of the second opinion; a grid is a list of rows, ``[B][G]``."""

from __future__ import annotations

from dataclasses import dataclass

from revrnn.config import Config

from .buffer import Buffer, revmul, revmul_inverse
from .numbers import Grid, dot, forget_gate, rs, sigmoid, tanh, view, wrap32


@dataclass
class Layer:
    """Weights and state of one layer; ``h[j]`` and ``c[j]`` are the grids of group j + 1."""

    weight_ih: Grid
    weight_hh: Grid
    bias: list[int]
    h: list[Grid]
    c: list[Grid]


class Stack:
    """Layers that share one buffer, or none."""

    def __init__(self, config: Config, layers: list[Layer], buffer: Buffer | None) -> None:
        """Take the state over; it is changed in place."""
        self.config = config
        self.layers = layers
        self.buffer = buffer
        self.wraps = 0
        self.gate_counts = [0] * 1025
        # CELL-002
        gates = {"revgru": "zrg", "revlstm": "figop" if config.forgetting else "igo"}
        self.gates = gates[config.cell]
        formats = config.formats
        self.view_bits = (  # FMT-004
            formats.operand_bits if config.cell == "revgru" else formats.lstm_view_bits
        )
        default = 1024 if config.cell == "revgru" else 1023 - (1 << formats.state_bits) // 2**21
        self.z_max = default if config.z_max is None else config.z_max  # FMT-005
        self.p_max = min(self.z_max, 768) if config.p_max is None else config.p_max  # FMT-007

    def forward(self, x: Grid, mask: list[bool], gains: list[Grid]) -> None:
        """Do one step; ``gains`` has a grid for every layer above the first, or is empty."""
        for k, layer in enumerate(self.layers):  # SEQ-001
            inputs = self._inputs(k, x, gains)
            for j in (0, 1):  # CELL-004
                self._update(layer, k, j, inputs, mask)

    def reverse(self, x: Grid, mask: list[bool], restore: Grid, gains: list[Grid]) -> None:
        """Undo one step; ``restore`` holds the sliced units of before it."""
        for k, layer in reversed(list(enumerate(self.layers))):
            inputs = self._inputs(k, x, gains)
            for j in (1, 0):  # CELL-040
                self._undo(layer, k, j, inputs, mask, restore)

    def _inputs(self, k: int, x: Grid, gains: list[Grid]) -> Grid:
        if k == 0:
            return x
        # SEQ-004: both groups of the layer below, as they stand now.
        group1, group2 = (self._views(group) for group in self.layers[k - 1].h)
        both = [left + right for left, right in zip(group1, group2, strict=True)]
        if not gains:
            return both
        return [  # SEQ-012
            [max(-32512, min(32512, rs(a * gain, 12))) for a, gain in zip(*rows, strict=True)]
            for rows in zip(both, gains[k - 1], strict=True)
        ]

    def _views(self, group: Grid) -> Grid:
        return [
            [view(value, self.config.formats.state_bits, self.view_bits) for value in row]
            for row in group
        ]

    def _sum(self, layer: Layer, k: int, row: int, x: list[int], v: list[int]) -> int:
        """Return one pre-activation."""
        operand_bits = self.config.formats.operand_bits
        x_bits = operand_bits if k == 0 else self.view_bits
        return (  # PROD-004
            (dot(x, layer.weight_ih[row]) << (operand_bits - x_bits))
            + (dot(v, layer.weight_hh[row]) << (operand_bits - self.view_bits))
            + layer.bias[row]
        )

    def _gates(self, layer: Layer, k: int, j: int, inputs: Grid) -> dict[str, Grid]:
        """Return the gates that update group j, each a grid."""
        views = self._views(layer.h[1 - j])
        bits = self.config.formats.operand_bits + self.config.formats.weight_bits
        units = self.config.hidden_size // 2
        count = len(self.gates)
        result: dict[str, Grid] = {}
        for q, name in enumerate(self.gates):
            second = views
            if self.config.cell == "revgru" and name == "g":  # CELL-011
                second = [
                    [rs(r * v, 15) for r, v in zip(*rows, strict=True)]
                    for rows in zip(result["r"], views, strict=True)
                ]
            grid = []
            for x, v in zip(inputs, second, strict=True):
                row = []
                for u in range(units):
                    s = self._sum(layer, k, (j * count + q) * units + u, x, v)  # CELL-003
                    if name in "zfp":  # CELL-010, CELL-020
                        cap = self.p_max if name == "p" else self.z_max
                        row.append(forget_gate(s, bits, self.config.max_forget_bits, cap))
                    else:
                        row.append(tanh(s, bits) if name == "g" else sigmoid(s, bits))
                grid.append(row)
            result[name] = grid
        return result

    def _h_update(self, layer: Layer, j: int, gates: dict[str, Grid]) -> Grid:
        """Return what is added to h; RevLSTM's depends on the new c."""
        bits = self.config.formats.state_bits
        if self.config.cell == "revgru":  # CELL-012
            return [
                [rs((1024 - z) * g, 25 - bits) for z, g in zip(*rows, strict=True)]
                for rows in zip(gates["z"], gates["g"], strict=True)
            ]
        return [  # CELL-022
            [rs(o * tanh(c, bits), 30 - bits) for o, c in zip(*rows, strict=True)]
            for rows in zip(gates["o"], layer.c[j], strict=True)
        ]

    def _c_update(self, gates: dict[str, Grid]) -> Grid:
        bits = self.config.formats.state_bits
        return [  # CELL-021
            [rs(i * g, 30 - bits) for i, g in zip(*rows, strict=True)]
            for rows in zip(gates["i"], gates["g"], strict=True)
        ]

    def _sliced(self, k: int, j: int) -> int:
        top = k == len(self.layers) - 1
        return self.config.slice_size if top and j == 0 else 0  # SEQ-007

    def _update(self, layer: Layer, k: int, j: int, inputs: Grid, mask: list[bool]) -> None:
        gates = self._gates(layer, k, j, inputs)
        if self.config.cell == "revlstm":
            layer.c[j] = self._add(layer.c[j], gates.get("f"), self._c_update(gates), mask, 0)
        factor = gates.get("p" if self.config.cell == "revlstm" else "z")
        update = self._h_update(layer, j, gates)
        layer.h[j] = self._add(layer.h[j], factor, update, mask, self._sliced(k, j))

    def _undo(
        self, layer: Layer, k: int, j: int, inputs: Grid, mask: list[bool], restore: Grid
    ) -> None:
        gates = self._gates(layer, k, j, inputs)
        factor = gates.get("p" if self.config.cell == "revlstm" else "z")
        update = self._h_update(layer, j, gates)
        layer.h[j] = self._subtract(layer.h[j], factor, update, mask, self._sliced(k, j), restore)
        if self.config.cell == "revlstm":
            update = self._c_update(gates)
            layer.c[j] = self._subtract(layer.c[j], gates.get("f"), update, mask, 0, [])

    def _add(self, own: Grid, z: Grid | None, update: Grid, mask: list[bool], sliced: int) -> Grid:
        products = own  # CELL-030, CELL-031
        if self.buffer is not None:
            assert z is not None
            products = revmul(own, z, mask, sliced, self.buffer)
            for b, row in enumerate(z):
                for u, value in enumerate(row):
                    if mask[b] and u >= sliced:
                        self.gate_counts[value] += 1  # ACC-001
        result = [list(row) for row in own]
        for b, row in enumerate(products):
            for u, value in enumerate(row):
                if mask[b]:  # MUL-006
                    result[b][u] = wrap32(value + update[b][u])
                    self.wraps += not -(2**31) <= value + update[b][u] < 2**31
        return result

    def _subtract(
        self, own: Grid, z: Grid | None, update: Grid, mask: list[bool], sliced: int, restore: Grid
    ) -> Grid:
        products = [list(row) for row in own]
        for b, row in enumerate(own):
            for u, value in enumerate(row):
                if mask[b]:
                    products[b][u] = wrap32(value - update[b][u])  # MUL-006
        if self.buffer is None:
            return products
        assert z is not None
        return revmul_inverse(products, z, mask, sliced, self.buffer, restore)
