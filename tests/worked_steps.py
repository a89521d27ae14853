"""One step of each cell with all numbers on the way: ``spec/text/75-worked-steps.md``.

``python tests/worked_steps.py`` writes the page anew; a test compares it, and the numbers with the
oracle's. They are computed by the functions of the second opinion, one line of the rules each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.second_opinion.numbers import forget_gate, rs, sigmoid, tanh, view, wrap32
from revrnn.vector_maker.cases.requests import settings_of
from revrnn.wire import encode

PAGE: Final = Path(__file__).parents[1] / "spec" / "text" / "75-worked-steps.md"

Rows = dict[str, list[int | str]]
# A line of the page: a quantity, and the rule that says what it is.
_RULES: Final = {
    "v": "FMT-004",
    **{f"s_{gate}": "PROD-004" for gate in "zrgfiop"},
    **dict.fromkeys("zfp", "ACT-004"),
    **dict.fromkeys("rio", "ACT-003"),
    "g": "ACT-002",
    "u": "CELL-011",
    "head": "BUF-030",
    "word": "BUF-031",
    "low": "MUL-001",
    "n": "BUF-001",
    "residue": "BUF-001",
    "head'": "BUF-001",
    "product": "MUL-001",
    "tanh(c')": "CELL-022",
}
_INTRODUCTION: Final = """# Worked steps

One step of each cell, of one unit a group, with every number on the way, for a port that is wrong
somewhere. This explains, and binds nobody. `head` is what an operation on the buffer begins with,
`word` what it pushes (– for nothing), `n` is `head·1024 + low` after that. Group 2 sees the new `h`
of group 1.
"""


class Step:
    """One step, taken number by number."""

    def __init__(self, config: Config, x: int, h: list[int], c: list[int], head: int) -> None:
        """Take a state; weights and biases are made up."""
        self.config, self.x, self.h, self.c, self.head = config, x, list(h), list(c), head
        self.words: list[int] = []
        count = 2 * len(config.gates)
        self.w_x = [1000 * (n % 5) - 1700 for n in range(count)]
        self.w_h = [900 - 700 * (n % 4) for n in range(count)]
        self.bias = [2**22 * (n % 3 - 1) + 12345 * n for n in range(count)]
        self.request = self._request()
        self.rows: Rows = {}
        for group in (0, 1):
            self._group(group)

    def _request(self) -> dict[str, Any]:
        """Return the arguments of ``cell_forward``."""
        config = self.config
        state = {"h": np.array([[self.h]], np.int32)}
        if config.has_cell_state:
            state["c"] = np.array([[self.c]], np.int32)
        return {
            "config": settings_of(config),
            "weight_ih_l0": np.array(self.w_x, np.int16)[:, None],
            "weight_hh_l0": np.array(self.w_h, np.int16)[:, None],
            "bias_l0": np.array(self.bias, np.int32),
            "x": np.array([[self.x]], np.int16),
            **state,
            "heads": np.array([[self.head]], np.int64),
            "words": np.zeros(0, np.uint16),
            "flags": np.zeros(0, np.uint8),
        }

    def _say(self, name: str, value: int | str) -> int:
        self.rows.setdefault(name, []).append(value)
        return value if isinstance(value, int) else 0

    def _sum(self, gate: str, group: int, v: int, view_bits: int) -> int:
        row = group * len(self.config.gates) + self.config.gates.index(gate)
        shift = self.config.formats.operand_bits - view_bits
        s = self.x * self.w_x[row] + (v * self.w_h[row] << shift) + self.bias[row]
        return self._say(f"s_{gate}", s)

    def _group(self, group: int) -> None:
        config, formats = self.config, self.config.formats
        gru = config.cell == "revgru"
        view_bits = formats.operand_bits if gru else formats.lstm_view_bits
        sums = formats.operand_bits + formats.weight_bits
        v = self._say("v", view(self.h[1 - group], formats.state_bits, view_bits))
        seen, gates = v, dict[str, int]()
        for gate in config.gates:
            if gru and gate == "g":
                seen = self._say("u", rs(gates["r"] * v, 15))
            s = self._sum(gate, group, seen, view_bits)
            if gate in "zfp":
                cap = config.resolved_p_max if gate == "p" else config.resolved_z_max
                gates[gate] = forget_gate(s, sums, config.max_forget_bits, cap)
            else:
                gates[gate] = tanh(s, sums) if gate == "g" else sigmoid(s, sums)
            self._say(gate, gates[gate])
        shift = 30 - formats.state_bits
        if gru:
            update = rs((1024 - gates["z"]) * gates["g"], 25 - formats.state_bits)
            self.h[group] = self._multiplied("h", self.h[group], gates["z"], update)
            return
        update = rs(gates["i"] * gates["g"], shift)
        self.c[group] = self._multiplied("c", self.c[group], gates["f"], update)
        t = self._say("tanh(c')", tanh(self.c[group], formats.state_bits))
        update = rs(gates["o"] * t, shift)
        self.h[group] = self._multiplied("h", self.h[group], gates["p"], update)

    def _multiplied(self, name: str, value: int, z: int, update: int) -> int:
        """Return ``wrap32(revmul(value, z) + update)``."""

        def say(what: str, number: int | str) -> int:
            return self._say(f"{what} of {name}", number)

        self._say(name, value)
        say("head", self.head)
        if self.head >= z * 2**21:
            self.words.append(self.head % 2**16)
            say("word", self.words[-1])
            self.head >>= 16
        else:
            say("word", "–")
        low = say("low", value % 1024)
        n = say("n", self.head * 1024 + low)
        residue = say("residue", n % z)
        self.head = say("head'", n // z)
        product = say("product", (value >> 10) * z + residue)
        say("update", update)
        return self._say(f"{name}'", wrap32(product + update))


def steps() -> list[Step]:
    """Return the steps of the page."""
    h, c = [12_345_678, -23_456_789], [-7_654_321, 9_876_543]
    return [
        Step(Config(cell, 1, 2, max_forget_bits=3), 5000, h, c, 2_000_000_000)
        for cell in ("revgru", "revlstm")
    ]


def page() -> str:
    """Return the text."""
    parts = [_INTRODUCTION]
    for step in steps():
        name = {"revgru": "RevGRU", "revlstm": "RevLSTM"}[step.config.cell]
        arguments = {key: encode(value) for key, value in step.request.items()}
        asked = {"id": 1, "operation": "cell_forward", "args": arguments}
        parts.append(f"## {name}\n\n```json\n{json.dumps(asked, sort_keys=True)}\n```\n")
        rows = ["| quantity | group 1 | group 2 | rule |", "| --- | ---: | ---: | --- |"]
        for quantity, values in step.rows.items():
            what, _, of = quantity.partition(" of ")
            rule = {"update": _update(step.config.cell, of)}.get(what) or _RULES.get(what, "")
            after = {"h'": _update(step.config.cell, "h"), "c'": "CELL-021"}.get(what)
            numbers = [str(value).replace("-", "−") for value in values]
            rows.append(f"| `{quantity}` | {numbers[0]} | {numbers[1]} | {after or rule} |")
        words = ", ".join(map(str, step.words)) or "none"
        rows.append(f"\nThe store then has the words {words}.\n")
        parts.append("\n".join(rows))
    return "\n".join(parts)


def _update(cell: str, name: str) -> str:
    """Return the rule of what is added."""
    if cell == "revgru":
        return "CELL-012"
    return "CELL-021" if name == "c" else "CELL-022"


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
