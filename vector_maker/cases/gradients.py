"""The cases of GRAD: gradients of a loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from revrnn.config import Config

from .draft import Arguments, Array, Draft, Evaluate, Numbers, i32, mistakes
from .requests import HOLES, LENGTHS, USUAL, Contents, Mask, sequence

MISTAKES: Final = mistakes("""
saturated_view GRAD-002 A saturated view of a state passes its gradient.
clipped_gate GRAD-010 A clipped forget gate passes its gradient.
limit_gradient GRAD-010 The gradient of the forget gate lacks the factor 1 - 2^-n.
masked_gradient GRAD-015 A masked step contributes to gradients.
keeping_gradient GRAD-012 The non-forgetting RevGRU's gradients contain the terms of revmul.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def case(
        name: str,
        config: Config,
        mask: Mask,
        *catches: str,
        states: str = "reversed",
        contents: Contents = USUAL,
        **changes: Any,
    ) -> Draft:
        args = sequence(name, config, mask, contents) | changes
        numbers = Numbers(f"loss {name}")

        def loss(shape: Sequence[int]) -> Array:
            # Multiples of 2^-10 are short in hexadecimal.
            return (numbers.array(shape, 2048, np.int32) / 1024).astype(np.float32)

        steps, rows = np.shape(mask)
        args["states"] = states
        args["grad_outputs"] = loss((steps, rows, config.hidden_size))
        for letter in ("h", "c")[: config.state_arrays]:
            args[f"grad_{letter}"] = loss(args[letter].shape)
        cell = ("GRAD-012",) if config.cell == "revgru" else ("GRAD-013",)
        rules = ("GRAD-001", "GRAD-010", "GRAD-011", "GRAD-014", "GRAD-020", "GRAD-021", *cell)
        gained = ("SEQ-012", "GRAD-016") if "gains" in args else ()
        return Draft("sequence_gradient", args, (*rules, *gained), catches)

    for cell in ("revgru", "revlstm"):
        one = Config(cell, 1, 2)
        for states in ("reversed", "stored"):
            yield case(f"gradient {cell}", one, [[1]] * 3, states=states)
        deep = Config(cell, 2, 2, 2, 2, slice_size=1)
        masked = ("limit_gradient", "masked_gradient")
        yield case(f"gradient {cell} deep", deep, HOLES, *masked)
        # Layers whose states are stored go back from the last one too.
        layers = Config(cell, 1, 2, 2)
        yield case(f"gradient {cell} layers stored", layers, [[1]] * 2, states="stored")
        gains: Arguments = {"gains": i32(np.resize([0, 4096, 5461, 65536], (3, 1, 2, 2)))}
        yield case(f"gradient {cell} gains", layers, [[1] * 2] * 3, **gains)
        if cell == "revgru":
            # An input that its gain brings exactly to the largest operand has its gradient.
            layers = Config(cell, 1, 2, 2, forgetting=False)
            edges = i32([[[8128 << 11] * 2], [[5, 7]]])
            end: Arguments = {"h": edges, "gains": i32([[[[1 << 14] * 2]]])}
            for kind in ("weight_ih_l0", "weight_hh_l0", "bias_l0"):
                like = sequence("gradient gain end", layers, [[1]])[kind]
                end[kind] = np.zeros_like(like)
            yield case("gradient gain end", layers, [[1]], **end)
        keep = Config(cell, 1, 2, 1, 1, forgetting=False)
        catches = ("limit_gradient", "keeping_gradient") if cell == "revgru" else ()
        yield case(f"gradient {cell} keeping", keep, LENGTHS, "masked_gradient", *catches)
        for layout in ("wordlist", "bigint"):
            yield case(f"gradient {cell} {layout}", Config(cell, 1, 2, buffer=layout), [[1]] * 2)
        # Views at and beyond their ends.
        edge = 32512 << (11 if cell == "revgru" else 13)
        rows = [[edge, -edge], [edge + 4095, edge + 2**20], [-edge - 2**20, -edge + 2**20]]
        ends: Arguments = {"h": i32([rows])}
        mild = Contents(weights=500, forget=2**25)
        name = f"gradient {cell} saturated"
        yield case(name, one, [[1, 1, 1]], "saturated_view", contents=mild, **ends)
        capped = Config(cell, 1, 2, z_max=512)
        most = Contents(weights=3000, forget=2**23)
        name = f"gradient {cell} capped"
        yield case(name, capped, [[1, 1]] * 2, "clipped_gate", contents=most)
        yield case(f"gradient {cell} no steps", one, np.zeros((0, 1)))
    # Gains, slices, rows masked out and saturated views together.
    every = Config("revlstm", 1, 4, 2, buffer="wordlist", slice_size=1)
    gains = {"gains": i32(np.resize([4096, 0, 6001, 65536, 5461], (4, 1, 2, 4)))}
    draft = case("gradient everything", every, HOLES, contents=Contents(state=2**29), **gains)
    yield replace(draft, rules=(*draft.rules, "GRAD-002", "GRAD-003", "GRAD-015"))
